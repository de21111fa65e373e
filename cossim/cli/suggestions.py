"""Ends an error of the command line with the command that would work.

Most mistakes have a remedy that is known: a number in range, a file with nearly the same name, an option to leave out.
RUNTIME and ARGPARSE list them by the error message. A line may hold several mistakes, so remedies are applied until the
line parses. Where the message says what to do first, such as to repair a file, the error ends with the same command.
"""

import difflib
import glob
import os
import re
import shlex
import string

from cossim import _errors
from cossim.cli import EXAMPLES

# Values for options that are missing or wrong. A key is an option or the metavar of a positional argument.
VALUES = {
    "-k": "10",
    "-t": "0.95",
    "--threshold": "0.95",
    "--memory": "256M",
    "--threads": "2",
    "--max-pairs": "1000000",
    "--eps": "1e-8",
    "--epochs": "60",
    "--batch-size": "256",
    "--temperature": "0.1",
    "--lr": "0.002",
    "--seed": "0",
    "--weights": "weights.npz",
    "--checkpoint": "checkpoint.npz",
    "QUERIES": "queries.npy",
    "CORPUS": "corpus.npy",
    "INDEX": "corpus.index",
    "ROWS": "more.npy",
    "IMAGES": "images.npy",
}
# The smallest and the largest value of options whose range the called function checks, not the parser.
RANGES = {
    "-k": (1, 2**63),
    "--threshold": (-1, 1),
    "--eps": (0, float("inf")),
    "--max-pairs": (0, 2**63),
    "--threads": (1, 2**31 - 1),
    "--epochs": (0, 2**63),
    "--batch-size": (2, 2**63),
    "--temperature": (1e-300, 1e300),
    "--lr": (0, 1e300),
    "--seed": (0, 2**63),
}
INDEX_EXAMPLES = {
    "build": EXAMPLES["index"],
    "add": "cossim index add corpus.index more.npy",
    "search": "cossim index search corpus.index queries.npy -k 10",
}
# Here the user has to choose another file, so the help is suggested, which says what a file must hold.
OTHER_FILE = r"images must have shape|does not fit Encoder|: there is no file: change"
NO_SUCH_FILE = r"^(?P<path>.*): No such file or directory$"
OTHER_NAMES = {
    "--k": "-k",
    "-n": "-k",
    "--n": "-k",
    "--top": "-k",
    "--topk": "-k",
    "--top-k": "-k",
    "--top_k": "-k",
    "--name": "--column",
    "--output-file": "-o",
}
FLAGS = ("--binary", "--groups", "--help", "--kept", "--no-plot", "--quiet", "--version", "-h")
NAMES = ("--column", "--exclude", "--ids", "--images", "--output", "--where", "-o")  # options whose value is a name
OPTIONS = (*FLAGS, *NAMES, *(name for name in VALUES if name.startswith("-")))
ALIKE = {"-t": "--threshold", "-o": "--output"}
MAX_TRIED = 60  # changed lines for one error
MAX_LENGTH = 1000  # characters of a message that is matched, because the time of a pattern may grow with their cube
MAX_OPENED = 20  # files that are opened to find one to suggest
OUTPUTS = {"index": "corpus.index", "train": "weights.npz", "embed": "embeddings.npy", "demo": "cossim-demo.png"}


def ending(arguments, message, problem):
    """Returns the end of an error: "; try: ..." or "; then: ...", or "" if the message already ends with a command.

    arguments: the command line, a list of words without "cossim". message: the error. problem(words) returns the
    parser's message about a command line, or "" if it parses.
    """
    if "pip install" in message.rsplit(": ", 1)[-1]:
        return ""
    words, parses = _joined(_tokens(arguments)), not problem(arguments)
    wrong = problem(words)
    if parses:  # the error came while the command ran
        words, wrong = arguments if wrong else words, message
    words = _corrected(words, wrong, problem)
    if words:
        words = _in_range(words)
        return f"; try: {shlex.join(['cossim', *words])}"
    command = arguments[0] if arguments else ""
    if re.search(NO_SUCH_FILE, message) or re.search(OTHER_FILE, message):
        return f"; try: cossim {' '.join(arguments[: 2 if command == 'index' else 1])} --help"
    if parses:
        if found := re.search(
            f"{_pattern(_errors.ROWS_WHOLE_JSON)}|: no known format, a pickle.*save\\((?P<saved>.+?),", message
        ):
            arguments = _converted(arguments, (found["new"] or found["saved"]).strip("'"))
        return f"; then: {shlex.join(['cossim', *_in_range(arguments)])}"
    if command == "index" and len(arguments) > 1:
        return "; try: cossim index --help"
    if command == "help" and arguments[1:] and arguments[1] in EXAMPLES:
        return f"; try: cossim {arguments[1]} --help"
    if os.path.lexists(OUTPUTS.get(command, "")):  # which the example would overwrite
        return f"; try: cossim {command} --help"
    return f"; try: {EXAMPLES.get(command, 'cossim --help')}"


def _corrected(words, message, problem, tried=None):
    """Applies remedies until the line parses, and returns it, or None. Each message gives the next remedy.

    message: the error of the words, or "" if they have none. tried: the lines that were tried before.
    """
    if not message:
        return words
    tried = tried or [words]
    if len(message) > MAX_LENGTH:
        return None
    for pattern, remedy in (*RUNTIME, *ARGPARSE):
        found = re.search(pattern, message)
        changed = remedy(list(words), found.groupdict()) if found else None
        if changed and changed not in tried and len(tried) < MAX_TRIED:
            tried.append(changed)
            corrected = _corrected(changed, problem(changed), problem, tried)
            if corrected:
                return corrected
    return None


# ---- changes to a command line ----


def _tokens(words):
    """Splits a command line into tokens: (option, value) or (word,).

    --option=value and -k5 are split. Abbreviated and misspelt options, and options of other tools, become those of
    cossim. An unknown option takes the next word as its value, unless that is a file or a command.
    """
    tokens: list[tuple[str, ...]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _is_option(word):
            tokens.append((word,))
            continue
        word, equals, value = word.partition("=")
        name = _known(word)
        if name not in OPTIONS and name[:2] in ("-k", "-t", "-o"):
            name, equals, value = name[:2], True, name[2:]
        takes_value = name not in FLAGS and rest and not _is_option(rest[0])
        if name not in OPTIONS and takes_value:
            takes_value = not (os.path.isfile(rest[0]) or rest[0] in EXAMPLES)
        if name in FLAGS or not (equals or takes_value):
            tokens.append((name,))
        else:
            tokens.append((name, value if equals else rest.pop(0)))
    return tokens


def _joined(tokens):
    return [word for token in tokens for word in token]


def _is_option(word):
    return len(word) > 1 and word.startswith("-") and not _is_number(word)


def _is_number(word):
    return re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", word) is not None


def _known(name):
    """Returns the option of cossim that a word most likely means, or the word itself."""
    if name in OPTIONS or len(name) < 3:
        return OTHER_NAMES.get(name, name)
    long = "--" + name.lstrip("-")
    if long in OTHER_NAMES:
        return OTHER_NAMES[long]
    starts = [option for option in OPTIONS if option.startswith(long)]
    if name.startswith("--") and starts:  # an abbreviation, which argparse takes if it is unique
        return starts[0] if len(starts) == 1 else name
    return next(iter(difflib.get_close_matches(long, OPTIONS, 1, 0.8)), name)


def _option(words, name, value):
    """Sets an option to a value, which replaces its present value."""
    return [*_without(words, {name}), name, value]


def _without(words, names):
    """Leaves options out, with their values. Each may be written in its short or in its long form."""
    names = {ALIKE.get(name, name) for name in names}
    return _joined(token for token in _tokens(words) if ALIKE.get(token[0], token[0]) not in names)


def _split(words):
    """Returns the words that are not options, and the options with their values."""
    tokens = _tokens(words)
    others = [token for token in tokens if _is_option(token[0])]
    return [token[0] for token in tokens if token not in others], _joined(others)


def _replaced(words, old, *new):
    """Replaces the last word that equals `old` by the word `new`, or removes it without `new`."""
    last = len(words) - 1 - words[::-1].index(old)
    return [*words[:last], *new, *words[last + 1 :]]


def _similar_file(words, found):
    """Suggests a file whose name is nearly that of the missing one."""
    folder, name = os.path.split(found["path"])
    try:
        names = [entry.name for entry in os.scandir(folder or ".") if entry.is_file()]
    except OSError:
        return None
    close = difflib.get_close_matches(name, names, 1, 0.75)
    return _replaced(words, found["path"], os.path.join(folder, close[0])) if close and found["path"] in words else None


def _existing_file(words, found):
    """Suggests another file of the same kind (rows, or an index) in the same folder that can be opened."""
    path = found["path"]
    if path not in words or words[0] not in ("topk", "pairs", "dedupe", "index"):
        return None
    if words[words.index(path) - 1] in ("--where", "--exclude", "--ids"):  # rows cannot replace these
        return None
    file = _usable_file(words, path)
    return file and _replaced(words, path, file)


def _files_found(words, found):
    """Replaces each file that is missing by one with a similar name, or else by another of its kind."""
    path = found["path"]
    words = _similar_file(words, found) or _existing_file(words, found)
    others = _split(words)[0][1:] if words and words[0] in ("topk", "pairs", "dedupe") else ()
    for other in others:
        if other not in ("-", path) and not glob.has_magic(other) and not os.path.exists(other):
            words = _files_found(words, {"path": other}) or words
    return words


def _usable_file(words, path):
    """Returns a file in the folder of `path`, with its suffix, that can be opened and is not among the words."""
    folder, suffix = os.path.dirname(path), os.path.splitext(path)[1]
    try:
        names = sorted(entry.name for entry in os.scandir(folder or ".") if entry.is_file())
    except OSError:
        return None
    files = [os.path.join(folder, name) for name in names if os.path.splitext(name)[1] == suffix]
    return next((file for file in files[:MAX_OPENED] if file not in words and _opens(file)), None)


def _opens(path):
    import cossim

    try:
        if path.endswith(".index"):
            cossim.Index.load(path, verify=False)
        else:
            cossim.open_rows(path)
    except Exception:  # any damage, or a format whose package is missing
        return False
    return True


def _output(words, found):
    """Suggests another name for the result: with a known suffix, in this folder."""
    text = found["text"]
    stem, suffix = os.path.splitext(os.path.basename(text))
    known = re.findall(r"\.\w+", found.get("suffixes") or suffix)
    close = difflib.get_close_matches(suffix, known, 1) or known or [".npz"]
    name = (stem.lstrip(".") or "result") + close[0]
    return _replaced(words, text, _new_name(name, text)) if text in words else None


def _new_name(name, *taken):
    """Puts "new-" before a name until no file has it, so that no suggestion overwrites a file."""
    while os.path.lexists(name) or name in taken:
        name = "new-" + name
    return name


def _output_for(words):
    """Returns a name for the result of a command: for an index that of its corpus, otherwise a usual one."""
    if words[:2] == ["index", "build"] and words[2:] and not _is_option(words[2]):
        return _new_name(os.path.splitext(os.path.basename(words[2]))[0] + ".index")
    return _new_name(OUTPUTS.get(words[0], "result.csv"))


def _other_output(words, _):
    option = "--output" if words[0] == "demo" else "-o"
    return _option(words, option, _new_name("new-" + OUTPUTS.get(words[0], "result.npz")))


def _without_corpus(words, found):
    """Suggests leaving out the second of two files whose rows do not fit together."""
    return _replaced(words, found["other"]) if found["other"] in words else None


def _without_queries(words, _):
    """Suggests leaving out queries whose length is not that of the rows of the index."""
    files, options = _split(words)
    return [*files[:3], *options] if files[:2] == ["index", "search"] else None


def _search_of_index(words, found):
    """Suggests `index search` where a saved index is given in place of a file of rows."""
    path = found["path"]
    files, options = _split(words)
    if files[:2] == ["index", "add"] or path not in files or not _opens(path):
        return None
    queries = [] if files[0] == "index" else [file for file in files[1:] if file != path]
    return ["index", "search", path, *queries, *options]


def _build_of_index(words, found):
    """Suggests `index build` where rows are given in place of a saved index."""
    path = found["path"]
    if path not in words or path.endswith(".index") or not _opens(path):
        return None
    name = os.path.splitext(os.path.basename(path))[0] + ".index"
    return ["index", "build", path, "-o", _new_name(name)]


def _search_of_rows(words, found):
    """Suggests topk or pairs where `index search` was given a file of rows instead of an index."""
    (_, *files), options = _split(words)
    if files[:2] != ["search", found["path"].strip("'")]:
        return None
    return ["topk" if "-k" in options else "pairs", *files[2:], files[1], *options]


def _index_first(words, found):
    """Puts the index before the file of rows, if they were given in the other order."""
    files, options = _split(words)
    if files[0] != "index" or files[2:3] != [found["path"].strip("'")] or not files[3:4]:
        return None
    index = files[3] if files[3].endswith(".index") and _opens(files[3]) else None
    return index and [*files[:2], index, files[2], *options]


def _of_sparse_rows(words, found):
    """Suggests the command for sparse rows that is nearest to dedupe or `index build`."""
    if words[0] == "dedupe":
        return ["pairs", *_without(words[1:], {"--kept"}), "--groups"]
    return ["topk", found["path"], "-k", VALUES["-k"]] if words[:2] == ["index", "build"] else None


def _converted(words, new):
    """Replaces the file that has to be converted by the new file, whose name differs only in its suffix."""
    stem = os.path.splitext(new)[0]
    return [new if os.path.splitext(word)[0] == stem else word for word in words]


def _other_ids(words, found):
    """If --ids names a column that is missing, suggests the one with the most similar name, or the first."""
    names = re.findall(r"'(.*?)'", found["names"])
    name = next(iter(difflib.get_close_matches(found["name"].strip("'\""), names, 1)), names[0] if names else None)
    given = {words[i + 1] for i, word in enumerate(words[:-1]) if word == "--ids"}
    return _option(words, "--ids", name) if name and found["name"].strip("'\"") in given else None


def _less_groups(words, _):
    fewer = _without(words, {"--max-pairs", "--where", "--exclude"})
    return fewer if fewer != words else _without(words, {"--groups"})


def _less_memory(words, _):
    return _option(words, "--memory", VALUES["--memory"]) if "--memory" not in words else None


def _missing(words, found):
    """Adds the required arguments that are missing: files that are there, or the usual names."""
    for name in found["names"].split(", "):
        first = name.split("/")[0]
        if first == "-o":
            words = [*words, "-o", _output_for(words)]
        elif first.startswith("-"):
            words = [*words, first, VALUES[first]]
        elif first in VALUES:
            usual = VALUES[first]
            search = first in ("QUERIES", "CORPUS", "INDEX") and not os.path.exists(usual)
            words = [*words, (search and _usable_file(words, usual)) or usual]
    return words


def _in_range(words, _=None):
    """Replaces numbers that are out of range by usual ones. The line must parse."""
    usual = VALUES | {"-k": "1"}
    return _joined((token[0], usual[token[0]]) if _is_out_of_range(token) else token for token in _tokens(words))


def _is_out_of_range(token):
    option = ALIKE.get(token[0], token[0])
    if option not in RANGES:
        return False
    least, most = RANGES[option]
    return not least <= float(token[1]) <= most


def _wrong_value(words, found):
    """Sets an option to a usual value, or leaves it out if it has none. A file that it took as its value is kept."""
    name = found["name"].split("/")[0]
    if name not in VALUES:
        return _option(words, "-o", _output_for(words)) if name == "-o" else _without(words, {name})
    taken = [token[1] for token in _tokens(words) if token[0] in (name, ALIKE.get(name)) and os.path.isfile(token[-1])]
    return [*_option(words, name, VALUES[name]), *taken]


def _number_for_option(words, found):
    """Makes a number among the files the value of the missing -k or -t: pairs corpus.npy 0.9."""
    numbers = [word for word in _split(words)[0] if _is_number(word) and not os.path.isfile(word)]
    options = [option for option in re.findall(r"-\w\b", found["names"]) if option in ("-k", "-t")]
    if not numbers or not options:
        return None
    fitting = [option for option in options if re.fullmatch(r"\d+" if option == "-k" else r"[01]?\.\d+|1", numbers[-1])]
    value = [fitting[0], numbers[-1]] if fitting else [options[0], VALUES[options[0]]]
    return [*_replaced(words, numbers[-1]), *value]


def _files_first(words, _):
    """Puts files before the options, where argparse finds them, and numbers that belong to no option last."""
    files, options = _split(words)
    numbers = [word for word in files if _is_number(word) and not os.path.isfile(word)]
    return [*(word for word in files if word not in numbers), *options, *numbers]


def _unrecognized(words, found):
    """Leaves out the arguments that the parser does not know. Its message lists them in order."""
    kept: list[tuple[str, ...]] = []
    extra = found["extra"]
    for token in reversed(_tokens(words)):
        end = next((end for end in (" ".join(token), token[0]) if f" {extra}".endswith(f" {end}")), None)
        if end is None:
            kept.insert(0, token)
        else:
            extra = extra[: len(extra) - len(end)].rstrip()
    return _joined(kept)


def _first_of_several(words, found):
    return _replaced(words, found["text"], found["first"]) if found["text"] in words else None


def _other_command(words, found):
    """Replaces a word that is no command by one that has nearly its name, or puts the missing command before it."""
    text = found["text"]
    at = words.index(text) if text in words else 0
    within = words[:at] == ["index"]
    close = difflib.get_close_matches(text, INDEX_EXAMPLES if within else EXAMPLES, 1)
    if close:
        return [*words[:at], close[0], *words[at + 1 :]]
    if not within and text in INDEX_EXAMPLES:
        return ["index", *words]
    if not os.path.isfile(text):
        return None
    by_threshold = {"-t", "--threshold"} & set(words)
    if within or text.endswith(".index"):
        return ["index", "search" if text.endswith(".index") else "build", *words[at:]]
    return ["pairs" if by_threshold else "topk", *words]


# ---- remedies ----


def _pattern(template):
    """Returns a regular expression that matches the texts of a message template, with a group for each field."""
    parts, seen = [], set()
    for text, field, _, _ in string.Formatter().parse(template):
        parts.append(re.escape(text))
        if field is not None:
            name = re.split(r"\W", field)[0]
            parts.append(".+?" if name in seen else f"(?P<{name}>.+?)")
            seen.add(name)
    return "".join(parts) + "$"


def _first(names):
    return names.split(", ")[0].strip("'\"")


# Errors while a command runs: pattern, and a function of (words, fields of the message). Add a remedy here.
RUNTIME = (
    (r"\(\): \w+ must be ", _in_range),
    (_pattern(_errors.TOO_MANY_PAIRS), lambda words, found: _option(words, "--max-pairs", found["count"])),
    (_pattern(_errors.BITS_DTYPE), lambda words, _: _without(words, {"--binary"})),
    (_pattern(_errors.ROWS_MANY), lambda words, found: _option(words, "--column", _first(found["names"]))),
    (_pattern(_errors.ROWS_NO_SUCH), _other_ids),
    (_pattern(_errors.ROWS_NO_SUCH), lambda words, found: _option(words, "--column", _first(found["names"]))),
    (_pattern(_errors.ROWS_UNNAMED), lambda words, _: _without(words, {"--column"})),
    (_pattern(_errors.ROWS_NO_IDS), lambda words, _: _without(words, {"--ids"})),
    (_pattern(_errors.NAMES_COUNT), lambda words, _: _without(words, {"--ids"})),
    (_pattern(_errors.NUMBERS_ALONE), lambda words, found: _output(words, {"text": found["path"], "suffixes": ".npz"})),
    (
        _pattern(_errors.WRITE_FAILED.replace("{reason}", "")).removesuffix("$")
        + ".*(folder|Not a directory|not a reg)",
        lambda words, found: _output(words, {"text": found["path"]}),
    ),
    (r"^out of memory$|^Unable to allocate", _less_memory),
    (_pattern(_errors.ROW_LENGTHS), _without_corpus),
    (r": (not )?a checkpoint of ", lambda words, _: _option(words, "--checkpoint", _new_name(VALUES["--checkpoint"]))),
    (_pattern(_errors.NO_IMAGES), lambda words, _: _without(words, {"--images"})),
    (_pattern(_errors.ROWS_FOLDER), lambda words, found: _replaced(words, found["path"], found["pattern"].strip("'"))),
    (_pattern(_errors.SPARSE_FILE), _of_sparse_rows),
    (_pattern(_errors.STDIN_FORMAT), lambda words, found: _replaced(words, "-", f"corpus{found['suffix']}")),
    (r"rows of queries have \d+ elements, rows of corpus \d+", _without_queries),
    (r"^(?P<path>.+?): not an index file", _index_first),
    (r"^(?P<path>.+?): not an index file of cossim but a \.np", _search_of_rows),
    (r"^(?P<path>.+?): no known format", _search_of_index),
    (r"^'(?P<path>.+?)': not an index file", _build_of_index),
    (NO_SUCH_FILE, _files_found),
)
# Errors of argparse, exit code 2.
ARGPARSE = (
    (r"^ambiguous option: (?P<text>\S+) could match (?P<first>[\w-]+)", _first_of_several),
    (r"one of the arguments (?P<names>-k .*) is required$", _number_for_option),
    (
        r"one of the arguments -k .*is required$",
        lambda words, _: [*words, *(["-t", "0.95"] if "--max-pairs" in words else ["-k", "10"])],
    ),
    (r"the following arguments are required: (?P<names>[^,]+)$", _number_for_option),
    (r"the following arguments are required: (?P<names>.+)$", _missing),
    (_pattern(_errors.SUFFIX.replace("{text!r}", "'{text}'")), _output),
    (r"^argument (-o/)?--output: .* names the same file", _other_output),
    (
        r"^argument (?P<name>\w+): standard input",
        lambda words, found: _replaced(words, "-", VALUES.get(found["name"], "other.npy")),
    ),
    (_pattern(_errors.NOT_WITH_GROUPS), _less_groups),
    (r"^argument --max-pairs: not allowed without", lambda words, _: _without(words, {"--max-pairs"})),
    (r"^argument (?P<name>-[\w/-]+): not allowed with", lambda words, found: _without(words, {found["name"][:2]})),
    (r"^argument (?P<name>-[\w/-]+): ", _wrong_value),
    (r"^unrecognized arguments: |invalid choice: ", _files_first),
    (r"^unrecognized arguments: (?P<extra>.+)$", _unrecognized),
    (r"invalid choice: '(?P<text>.*?)'", _other_command),
)
