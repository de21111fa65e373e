"""Ends an error of the command line with the command that would work.

Most mistakes have a remedy that is known: a number in range, a file with nearly the same name, an option to leave out.
RUNTIME and ARGPARSE list them by the error message. Where the message says what to do first, such as to repair a file,
the error ends with the same command again.
"""

import difflib
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
INDEX_EXAMPLES = {
    "build": EXAMPLES["index"],
    "add": "cossim index add corpus.index more.npy",
    "search": "cossim index search corpus.index queries.npy -k 10",
}
# The same command fails as long as the file has these contents. So the help is suggested, which says what it must hold.
OTHER_CONTENTS = r"images must have shape"
NO_SUCH_FILE = r"^(?P<path>.+): No such file or directory$"
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
OPTIONS = ("--binary", "--column", "--exclude", "--groups", "--ids", "--kept", "--output", "--quiet", "--where")
LOOKED_AT = 20  # files opened at most, to find one to suggest
OUTPUTS = {"index": "corpus.index", "train": "weights.npz", "embed": "embeddings.npy", "demo": "cossim-demo.png"}


def ending(arguments, message, parses):
    """Returns the end of an error: "; try: ..." or "; then: ...", or "" if the message already ends with a command.

    arguments: the command line, a list of words without "cossim". message: the error. parses(words) says whether a
    command line can be parsed.
    """
    if "pip install" in message.rsplit(": ", 1)[-1]:
        return ""
    command = arguments[0] if arguments else ""
    for pattern, remedy in (*RUNTIME, *ARGPARSE):
        found = re.search(pattern, message)
        words = remedy(list(arguments), found.groupdict()) if found else None
        if words and words != arguments and parses(words):
            return f"; try: {shlex.join(['cossim', *words])}"
    if re.search(NO_SUCH_FILE, message) or re.search(OTHER_CONTENTS, message):
        return f"; try: cossim {' '.join(arguments[: 2 if command == 'index' else 1])} --help"
    if found := re.search(
        f"{_pattern(_errors.ROWS_WHOLE_JSON)}|: no known format, a pickle.*save\\((?P<saved>.+?),", message
    ):
        arguments = _converted(arguments, (found["new"] or found["saved"]).strip("'"))
    if parses(arguments):
        return f"; then: {shlex.join(['cossim', *arguments])}"
    if command == "index" and len(arguments) > 1:
        return f"; try: {INDEX_EXAMPLES.get(arguments[1], 'cossim index --help')}"
    return f"; try: {EXAMPLES.get(command, 'cossim --help')}"


# ---- changes to a command line ----


def _option(words, name, value):
    """Sets an option to a value, which replaces its present value."""
    alike = {"-t": "--threshold", "-o": "--output"}
    names = {name, alike.get(name, name), *(short for short, long in alike.items() if long == name)}
    return [*_without(words, names), name, value]


def _without(words, names, takes_value=True):
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in names:
            skip = takes_value
        elif not (word.startswith("--") and word.split("=")[0] in names):
            kept.append(word)
    return kept


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
    folder, suffix = os.path.dirname(path), os.path.splitext(path)[1]
    try:
        names = sorted(entry.name for entry in os.scandir(folder or ".") if entry.is_file())
    except OSError:
        return None
    files = [os.path.join(folder, name) for name in names if os.path.splitext(name)[1] == suffix]
    usable = (file for file in files[:LOOKED_AT] if file not in words and _opens(file))
    file = next(usable, None)
    return file and _replaced(words, path, file)


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
    suffix = re.search(r"\.\w+", found.get("suffixes") or os.path.splitext(text)[1])
    stem = os.path.splitext(os.path.basename(text))[0].lstrip(".") or "result"
    name = stem + (suffix[0] if suffix else ".npz")
    return _replaced(words, text, name if name != text else "new-" + name) if text in words else None


def _other_output(words, _):
    option = "--output" if words[0] == "demo" else "-o"
    return _option(words, option, "new-" + OUTPUTS.get(words[0], "result.npz"))


def _without_corpus(words, found):
    """Suggests leaving out the second of two files whose rows do not fit together."""
    return _replaced(words, found["other"]) if found["other"] in words else None


def _search_of_index(words, found):
    """Suggests `index search` where the corpus is a saved index."""
    path = found["path"]
    alone = len(words) > 2 and words[1] == path and words[2].startswith("-")
    if words[0] in ("topk", "pairs") and alone and _opens(path):
        return ["index", "search", *words[1:]]
    if words[0] != "topk" or path not in words or words.index(path) != 2 or not _opens(path):
        return None
    return ["index", "search", path, words[1], *words[3:]]


def _build_of_index(words, found):
    """Suggests `index build` where rows are given in place of a saved index."""
    path = found["path"]
    if path not in words or path.endswith(".index") or not _opens(path):
        return None
    name = os.path.splitext(os.path.basename(path))[0] + ".index"
    return ["index", "build", path, "-o", "new-" + name if os.path.exists(name) else name]


def _search_of_rows(words, found):
    """Suggests topk or pairs where `index search` was given a file of rows instead of an index."""
    if words[:2] != ["index", "search"] or words[2:3] != [found["path"].strip("'")]:
        return None
    queries = words[3:4] if words[3:4] and not words[3].startswith("-") else []
    options = words[3 + len(queries) :]
    return ["topk" if "-k" in options else "pairs", *queries, words[2], *options]


def _of_sparse_rows(words, found):
    """Suggests the command for sparse rows that is nearest to dedupe or `index build`."""
    if words[0] == "dedupe":
        return ["pairs", *_without(words[1:], {"--kept"}, takes_value=False), "--groups"]
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
    return fewer if fewer != words else _without(words, {"--groups"}, takes_value=False)


def _less_memory(words, _):
    return _option(words, "--memory", VALUES["--memory"]) if "--memory" not in words else None


def _missing(words, found):
    for name in found["names"].split(", "):
        first = name.split("/")[0]
        if first == "-o":
            words = [*words, "-o", OUTPUTS.get(words[0], "result.csv")]
        elif first in VALUES:
            words = [*words, *([first] if first.startswith("-") else []), VALUES[first]]
    return words


def _wrong_value(words, found):
    name = found["name"].split("/")[0]
    return _option(words, name, VALUES[name]) if name in VALUES else None


def _number_for_option(words, found):
    """Puts the missing -k or -t before the last word, if that word is a number: pairs corpus.npy 0.9."""
    option = found["names"].split("/")[0]
    number = re.fullmatch(r"\d+" if option == "-k" else r"[01]?\.\d+|1", words[-1])
    return [*words[:-1], option, words[-1]] if option in ("-k", "-t") and number else None


def _known_options(words, _):
    """Replaces options that other tools have, and options with a wrong letter, by those of cossim."""
    split = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    known = [OTHER_NAMES.get(word) or _similar_option(word) for word in split]
    return known if known != split else None


def _similar_option(word):
    options = [*(name for name in VALUES if name.startswith("--")), *OPTIONS]
    return next(iter(difflib.get_close_matches(word, options, 1, 0.8)), word) if word.startswith("--") else word


def _files_first(words, found):
    """Moves a file that follows the options to the other files, where argparse finds it."""
    extra = found["extra"]
    place = 3 if words[0] == "index" else 2
    return [*words[:place], extra, *words[place:-1]] if words[-1] == extra and os.path.isfile(extra) else None


def _unrecognized(words, found):
    for extra in found["extra"].split():
        words = _replaced(words, extra) if extra in words else words
    return words


def _other_command(words, found):
    if words[:1] == ["index"]:
        close = difflib.get_close_matches(found["text"], INDEX_EXAMPLES, 1)
        return shlex.split(INDEX_EXAMPLES[close[0]])[1:] if close else None
    close = difflib.get_close_matches(found["text"], EXAMPLES, 1)
    return shlex.split(EXAMPLES[close[0]])[1:] if close else None


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
    (r": k must be at least (?P<least>\d+)", lambda words, found: _option(words, "-k", found["least"])),
    (_pattern(_errors.THRESHOLD), lambda words, _: _option(words, "--threshold", "0.95")),
    (_pattern(_errors.TOO_MANY_PAIRS), lambda words, found: _option(words, "--max-pairs", found["count"])),
    (_pattern(_errors.NEGATIVE_EPS), lambda words, _: _without(words, {"--eps"})),
    (_pattern(_errors.BITS_DTYPE), lambda words, _: _without(words, {"--binary"}, takes_value=False)),
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
    (_pattern(_errors.NO_IMAGES), lambda words, _: _without(words, {"--images"})),
    (_pattern(_errors.ROWS_FOLDER), lambda words, found: _replaced(words, found["path"], found["pattern"].strip("'"))),
    (_pattern(_errors.SPARSE_FILE), _of_sparse_rows),
    (_pattern(_errors.STDIN_FORMAT), lambda words, found: _replaced(words, "-", f"corpus{found['suffix']}")),
    (r"^(?P<path>.+?): not an index file of cossim but a \.np", _search_of_rows),
    (r"^(?P<path>.+?): no known format", _search_of_index),
    (r"^'(?P<path>.+?)': not an index file", _build_of_index),
    (NO_SUCH_FILE, _similar_file),
    (NO_SUCH_FILE, _existing_file),
)
# Errors of argparse, exit code 2.
ARGPARSE = (
    (r"one of the arguments -k .*is required$", lambda words, _: _option(words, "-k", VALUES["-k"])),
    (r"arguments are required: |^unrecognized arguments: ", _known_options),
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
    (r"^argument (?P<name>-[\w/-]+): ", _wrong_value),
    (r"^unrecognized arguments: (?P<extra>.+)$", _files_first),
    (r"^unrecognized arguments: (?P<extra>.+)$", _unrecognized),
    (r"invalid choice: '(?P<text>.*?)'", _other_command),
)
