"""Ends an error of the command line with the command that would work.

Most mistakes have a remedy that is known: a number in range, a file with nearly the same name, an option to leave out.
RUNTIME and ARGPARSE list them by the error message. A line may hold several mistakes, so remedies are applied until the
line parses and its files can be opened. Where the message says what to do first, such as to repair a file, the error
ends with the same command. If such a mistake comes after others, the error shows it too.
"""

import difflib
import glob
import os
import re
import shlex
import string
from typing import Any

from cossim import _errors
from cossim.cli import EXAMPLES
from cossim.cli.result_files import new_name

INF = float("inf")
# For options that are missing or wrong: a usual value, and the smallest and the largest one where the called function,
# not the parser, checks the range. A key is an option or the metavar of a positional argument.
USUAL: dict[str, tuple[Any, ...]] = {
    "-k": ("10", 1, 2**63),
    "-t": ("0.95",),
    "--threshold": ("0.95", -1, 1),
    "--memory": ("256M",),
    "--threads": ("2", 1, 2**31 - 1),
    "--max-pairs": ("1000000", 0, 2**63),
    "--eps": ("1e-8", 0, INF),
    "--epochs": ("60", 0, 2**63),
    "--batch-size": ("128", 2, 2**63),
    "--temperature": ("0.2", 1e-300, 1e300),
    "--lr": ("0.002", 0, 1e300),
    "--seed": ("0", 0, 2**63),
    "--weights": ("weights.npz",),
    "--checkpoint": ("checkpoint.npz",),
    "QUERIES": ("queries.npy",),
    "CORPUS": ("corpus.npy",),
    "INDEX": ("corpus.index",),
    "ROWS": ("more.npy",),
    "IMAGES": ("images.npy",),
}
INDEX_COMMANDS = ("build", "add", "search")
NO_SUCH_FILE = r"^(?P<path>.*): No such file or directory$"
# Here the user has to choose another file, so the help is suggested, which says what a file must hold.
OTHER_FILE = rf"images must have shape|: there is no (such )?file: |{NO_SUCH_FILE}"
# Here the message tells the user to write a new file first. The suggested command reads it instead of the old one.
NEW_FILE = (
    *(_errors.ROWS_WHOLE_JSON, _errors.ROWS_PICKLE, _errors.INDEX_ROWS_DTYPE),
    *(_errors.FILTER_NUMBERS, _errors.FILTER_FILE),
)
OTHER_NAMES = dict.fromkeys(("--k", "-n", "--n", "--top", "--topk", "--top-k", "--top_k"), "-k")
OTHER_NAMES |= {"--name": "--column", "--output-file": "-o", "--learning-rate": "--lr", "--epsilon": "--eps"}
OTHER_NAMES |= {"--bits": "--binary", "--packed": "--binary", "--filter": "--where", "--jobs": "--threads"}
OTHER_COMMANDS = dict.fromkeys(("create", "make", "new"), "build") | dict.fromkeys(("append", "insert"), "add")
OTHER_COMMANDS |= dict.fromkeys(("find", "query", "topk", "pairs"), "search")
FLAGS = ("--binary", "--groups", "--help", "--kept", "--no-plot", "--quiet", "--version", "-h")
NAMES = ("--column", "--exclude", "--ids", "--images", "--output", "--where", "-o")  # options whose value is a name
OPTIONS = (*FLAGS, *NAMES, *(name for name in USUAL if name.startswith("-")))
ALIKE = {"-t": "--threshold", "-o": "--output"}
MAX_TRIED = 60  # changed lines for one error
MAX_LENGTH = 1000  # characters of a message that is matched, because the time of a pattern may grow with their cube
MAX_OPENED = 20  # files that are opened to find one to suggest
MAX_ROUNDS = 4  # how often the files of a corrected line are opened to find its next mistake
MAX_BYTES = 1 << 26  # of all files of a line; with more, none is opened for this, because some are read whole
OUTPUTS = {"index": "corpus.index", "train": "weights.npz", "embed": "embeddings.npy", "demo": "cossim-demo.png"}


def ending(arguments, message, problem):
    """Returns the end of an error: "; try: ..." or "; then: ...", or "" if the message already ends with a command.

    arguments: the command line, a list of words without "cossim". message: the error. problem(words) returns the
    parser's message about a command line, or "" if it parses; problem(words, True) opens the files too.
    """
    if "pip install" in message.rsplit(": ", 1)[-1]:
        return ""
    first = [word.lstrip("-") for word in arguments[:1] if word.lstrip("-") in EXAMPLES]  # --topk, a command
    words, parses = _joined(_tokens(first + arguments[len(first) :])), not problem(arguments)
    wrong = problem(words)
    if parses:  # the error came while the command ran
        words, wrong = arguments if wrong else words, message
    words = _corrected(words, wrong, problem)
    if words:
        words, left = (words, "") if "-" in arguments else _with_files(words, problem)
        if not left:
            return f"; try: {shlex.join(['cossim', *_in_range(words)])}"
        left, words = "" if left in message else f"; {left}", _with_new_file(words, left)
        return f"{left}; then: {shlex.join(['cossim', *_in_range(words)])}"
    command = arguments[0] if arguments else ""
    if re.search(OTHER_FILE, message):
        return f"; try: cossim {' '.join(arguments[: 2 if command == 'index' else 1])} --help"
    if parses:
        words = _with_new_file(arguments, message)
        return f"; then: {shlex.join(['cossim', *_in_range(words)])}"
    if command == "index" and len(arguments) > 1:
        return "; try: cossim index --help"
    if command == "help" and arguments[1:] and arguments[1] in EXAMPLES:
        return f"; try: cossim {arguments[1]} --help"
    if os.path.lexists(OUTPUTS.get(command, "")):  # which the example would overwrite
        return f"; try: cossim {command} --help"
    return f"; try: {EXAMPLES.get(command, 'cossim --help')}"


def _with_files(words, problem):
    """Corrects mistakes that only show when the files of a line are opened. The line must parse.

    Returns the line, and the error that has no remedy, or "".
    """
    wrong = ""
    for _ in range(MAX_ROUNDS):
        several = any(os.path.isdir(word) or glob.has_magic(word) for word in words)
        if several or sum(os.path.getsize(word) for word in words if os.path.isfile(word)) > MAX_BYTES:
            return words, ""
        wrong = problem(words, True)
        corrected = wrong and _corrected(words, wrong, problem)
        if not corrected:
            break
        words = corrected
    return words, wrong


def _corrected(words, message, problem, tried=None):
    """Applies remedies until the line parses, and returns it, or None. Each message gives the next remedy.

    message: the error of the words, or "" if they have none. tried: the lines that were tried before.
    """
    if not message:
        return words
    tried = tried or [words]
    for pattern, remedy in (*RUNTIME, *ARGPARSE):
        found = re.search(pattern, message[:MAX_LENGTH])
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
        word = re.sub("^[\u2013\u2014](?=[a-z])", "--", rest.pop(0))  # dashes of text that was typeset
        if not _is_option(word):
            tokens.append((word,))
            continue
        word, equals, value = word.partition("=")
        name = _known(word)
        if name not in OPTIONS and name[:2] in ("-k", "-t", "-o"):
            name, equals, value = name[:2], "=", name[2:]
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
    cut = {option[: len(long)]: option for option in OPTIONS if option.startswith("--")}
    close = difflib.get_close_matches(long, [*OPTIONS, *cut], 1, 0.8)
    return cut.get(close[0], close[0]) if close else name


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
    """Replaces the last word that equals `old` by the words `new`, or removes it. Returns None if there is none."""
    if old not in words:
        return None
    last = len(words) - 1 - words[::-1].index(old)
    return [*words[:last], *new, *words[last + 1 :]]


def _file_for(path, words):
    """Returns a file in the folder of `path` that can take its place, or None. The file is not among the words.

    Its name is like that of `path`; for rows or an index, the same suffix is enough. Rows (also a folder of them) and
    indexes are opened to check them, and weights must fit the encoder.
    """
    folder, name = os.path.split(path)
    (stem, suffix), option = os.path.splitext(name), _option_of(words, path)
    of_rows = option is None and words[0] in ("topk", "pairs", "dedupe", "index")
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
        names = [entry.name for entry in entries if entry.is_file()]
        folders = [entry.name for entry in entries if entry.is_dir() and of_rows]
    except OSError:
        return None
    if option == "--weights":
        names = [name for name in names if name.endswith((".npz", ".safetensors"))]
        close = difflib.get_close_matches(name, names, MAX_OPENED, 0)
    elif of_rows:
        alike = [other for other in names if suffix != ".index" and os.path.splitext(other)[0] == stem]
        close = difflib.get_close_matches(name, alike, MAX_OPENED, 0)
        close += difflib.get_close_matches(name, names + folders, MAX_OPENED, 0.75)
        if words[:2] != ["index", "add"] and suffix:
            close += [other for other in names if os.path.splitext(other)[1] == suffix][:MAX_OPENED]
    else:
        close = difflib.get_close_matches(name, names, 1, 0.75)
    checked = of_rows or option == "--weights"
    files = (os.path.join(folder, other) for other in close)
    return next((file for file in files if file not in words and (not checked or _opens(file, option))), None)


def _opens(path, option=None, column=None):
    """Returns whether a file can be opened, as weights of the encoder for --weights, else as an index or as rows."""
    from cossim import Index, open_rows, simclr

    try:
        if option == "--weights":
            simclr.Encoder().load_state_dict(path)
        else:
            _ = Index.load(path, verify=False) if path.endswith(".index") else open_rows(path, column)
    except Exception:  # any damage, or a format whose package is missing
        return False
    return True


def _files_found(words, found):
    """Replaces a missing or unsuitable file by another one.

    If there is none, leaves out --ids. For --weights, suggests the command `train`, which makes them.
    """
    path = found["path"]
    several = re.split(r"[,;:+\s]+", path.strip(",; "))
    if path in words and len(several) > 1 and all(map(os.path.isfile, several)):  # written as one word
        return _replaced(words, path, *several)
    if path in words and (whole := _with_blanks(words)):
        return whole
    if path in words and (file := _file_for(path, words)):
        return _replaced(words, path, file)
    if _is_number(path):
        return _replaced(words, path)
    files = _split(words)[0]
    if files[:3] == ["index", "add", path] and len(files) > 3:  # rows for a new index
        return ["index", "build", files[3], "-o", path]
    option = _option_of(words, path)
    if option == "--weights":
        return ["train", *_split(words)[0][1:2], "-o", new_name("weights.npz")]
    return _without(words, {"--ids"}) if option == "--ids" else None


def _named(words, found):
    """Replaces "-", standard input, by a file: data in this format are read from named files only."""
    names = sorted(glob.glob(f"*{found['suffix']}"))[:MAX_OPENED]
    file = next((name for name in names if name not in words and _opens(name)), f"corpus{found['suffix']}")
    return _replaced(words, "-", file)


def _leave_out(name):
    return lambda words, _: _without(words, {name})


def _option_of(words, value):
    """Returns the option whose value this is, or None."""
    return next((token[0] for token in _tokens(words) if token[1:] == (value,)), None)


def _output(words, found):
    """Suggests another name for the result: with a known suffix, in this folder."""
    text = found.get("text") or found["path"]
    if _option_of(words, text) == "--weights":  # a file that is read
        return _files_found(words, {"path": text})
    stem, suffix = os.path.splitext(os.path.basename(text))
    known = re.findall(r"\.\w+", found.get("suffixes") or suffix)
    close = difflib.get_close_matches(suffix, known, 1) or known or [".index" if words[0] == "index" else ".npz"]
    name = (stem.lstrip(".") or "result") + close[0]
    return _replaced(words, text, new_name(name, text))


def _output_for(words):
    """Returns a name for the result of a command: for an index that of its corpus, otherwise a usual one."""
    if words[:2] == ["index", "build"] and words[2:] and re.match(r"[^-*?[][^*?[]*$", words[2]):
        return new_name(os.path.splitext(os.path.basename(words[2]))[0] + ".index")
    return new_name(OUTPUTS.get(words[0], "result.csv"))


def _other_output(words, found):
    return _option(words, found["name"], new_name("new-" + OUTPUTS.get(words[0], "result.npz")))


def _by_kinds(words, _):
    """Corrects the command, or the order of the files, where rows are given for an index or an index for rows."""
    files, options = _split(words)
    command = files[: 2 if files[0] == "index" else 1]
    files = files[len(command) :]
    indexes = [file for file in files if file.endswith(".index") and _opens(file)]
    rows = [file for file in files if file not in indexes]
    if indexes and command == ["index", "add"]:
        return [*command, indexes[0], *rows, *options]
    if indexes:
        return ["index", "search", indexes[0], *rows[:1], *options]
    if command == ["index", "search"]:
        return ["topk" if "-k" in options else "pairs", *rows[1:], *rows[:1], *options]
    return _build_of(rows[0]) if command == ["index", "add"] and rows else None


def _unlike_rows(words, found):
    """Leaves out a file whose rows are not as long as those of the first, or builds another index of it."""
    if words[:2] != ["index", "add"]:
        return _replaced(words, found["other"])
    return _build_of(found["other"]) + _joined(token for token in _tokens(words) if token[0] == "--column")


def _build_of(rows):
    return ["index", "build", rows, "-o", _output_for(["index", "build", rows])]


def _of_sparse_rows(words, found):
    """Suggests a command for sparse rows or packed bits, which dedupe and `index build` refuse."""
    if words[0] == "dedupe":
        return ["pairs", *_without(words[1:], {"--kept"}), "--groups"]
    return ["topk", found["path"], "-k", USUAL["-k"][0]] if words[:2] == ["index", "build"] else None


def _with_new_file(words, message):
    """Replaces a file that has to be converted, or a file of row numbers, by the new file that the message names."""
    for template in NEW_FILE:
        if found := re.search(_pattern(template), message[:MAX_LENGTH]):
            new = found["new"].strip("'")
            if "name" in found.groupdict():
                return _option(words, f"--{found['name']}", new)
            if new.endswith(".npy") and (words[0] == "index" or len(_split(words)[0]) == 2):  # without names of arrays
                words = _without(words, {"--column"})
            return [new if message.startswith(f"{word}: ") else word for word in words]
    return words


def _other_name(words, found):
    """Replaces a missing name of --ids or --column by the most similar name, or by the first one.

    The columns of two files may have different names.
    """
    missing, names = found.get("name", "").strip("'\""), re.findall(r"'(.*?)'", found["names"])
    name = next(iter([*difflib.get_close_matches(missing, names, 1), *names]), None)
    if name is None or _option_of(words, missing) == "--ids":
        return name and _option(words, "--ids", name)
    files = _split(words)[0][1:] if words[0] in ("topk", "pairs") else []
    if found["path"] not in files[:2]:
        return _option(words, "--column", name)
    given = [token[1] for token in _tokens(words) if token[0] == "--column" and len(token) > 1] or [name]
    columns = []
    for file, column in zip(files, given * 2, strict=False):
        fitting = (other for other in (column, *given) if _opens(file, column=other))
        if file == found["path"]:
            fitting = (other for other in given if other in names)
        columns.append(next(fitting, name))
    return [*_without(words, {"--column"}), *(word for name in dict.fromkeys(columns) for word in ("--column", name))]


def _less_groups(words, _):
    fewer = _without(words, {"--max-pairs", "--where", "--exclude"})
    return fewer if fewer != words else _without(words, {"--groups"})


def _missing(words, found):
    """Adds the required arguments that are missing, with their usual names or values."""
    rest = [
        word for word in _split(words)[0][3 if words[0] == "index" else 2 :] if "." in word and not _is_number(word)
    ]
    taken = {"-o": [word for word in rest if not os.path.exists(word)], "--weights": list(filter(os.path.isfile, rest))}
    for name in found["names"].split(", "):
        first = name.split("/")[0]
        if taken.get(first):  # a file after the input, such as train images.npy weights.npz
            words = [*_replaced(words, taken[first][0]), first, taken[first][0]]
        elif first == "-o":
            words = [*words, "-o", _output_for(words)]
        elif first in USUAL:
            words = [*words, *([first] if first.startswith("-") else []), USUAL[first][0]]
    return words


def _in_range(words, _=None):
    """Replaces numbers that are out of range: a threshold in percent by its fraction, others by usual numbers.

    The line must parse.
    """
    tokens = []
    for option, *value in _tokens(words):
        bounds = USUAL.get(ALIKE.get(option, option), ())[1:]
        if value and bounds and not bounds[0] <= float(value[0]) <= bounds[1]:
            percent = option in ("-t", "--threshold") and 10 <= float(value[0]) <= 100
            usual = "1" if option == "-k" else USUAL[option][0]
            value = [f"{float(value[0]) / 100:g}" if percent else usual]
        tokens.append((option, *value))
    return _joined(tokens)


def _wrong_value(words, found):
    """Sets an option to a usual value, or leaves it out if it has none. Keeps a file that it took as its value."""
    name = found["name"].split("/")[0]
    if name == "-k" and {"-t", "--threshold"} & set(words):
        return _without(words, {name})
    if name not in USUAL:
        return _option(words, "-o", _output_for(words)) if name == "-o" else _without(words, {name})
    names = {other for other in ALIKE if ALIKE[other] == ALIKE.get(name)} | {name, ALIKE.get(name)}
    words = [
        word
        for token in _tokens(words)
        for word in (token[1:] if token[0] in names and os.path.isfile(token[-1]) else token)
    ]
    return _option(words, name, USUAL[name][0])


def _number_for_option(words, found):
    """Takes a number from among the files, or the value of an unknown option, as the missing -k or -t.

    For pairs corpus.npy 0.9, and for pairs corpus.npy --cutoff 0.9.
    """
    numbers = [
        token
        for token in _tokens(words)
        if _is_number(token[-1]) and token[0] not in OPTIONS and not os.path.isfile(token[-1])
    ]
    options = [option for option in re.findall(r"-\w\b", found["names"]) if option in ("-k", "-t")]
    if not numbers or not options:
        return None
    number = numbers[-1][-1]
    fitting = [option for option in options if re.fullmatch(r"\d+" if option == "-k" else r"[01]?\.\d+|1", number)]
    rest = _joined(token for token in _tokens(words) if token != numbers[-1])
    return [*rest, (fitting or options)[0], number]


def _threshold(words, found):
    """Suggests the search for all rows that reach a threshold, where a threshold is given for -k."""
    words = ["pairs", *words[1:]] if words[0] == "topk" else words
    return _option(_without(words, {"-k"}), "-t", found["number"])


def _by_option(words, _):
    """Suggests pairs where topk has an option of pairs, and topk where pairs has -k."""
    options = {ALIKE.get(token[0], token[0]) for token in _tokens(words)}
    if words[0] == "topk" and {"--threshold", "--groups", "--max-pairs"} & options:
        return ["pairs", *words[1:]]
    return ["topk", *words[1:]] if words[0] == "pairs" and "-k" in options else None


def _whole(words, found):
    """Writes a whole number without a decimal point or an exponent: -k 1e3."""
    number = float(found["number"])
    return _replaced(words, found["number"], f"{number:.0f}") if number.is_integer() else None


def _decimal_point(words, found):
    return _replaced(words, found["number"], found["number"].replace(",", "."))


def _corpus(words):
    """Returns the files after --corpus: several, if a shell expanded a pattern. If they are the only two, the first."""
    at = words.index("--corpus") + 1 if "--corpus" in words else len(words)
    end = next((end for end in range(at, len(words)) if _is_option(words[end])), len(words))
    corpus = [word for word in words[at:end] if word not in EXAMPLES]
    others = any(os.path.isfile(word) for word in words[:at] + words[end:])
    return corpus[:1] if len(corpus) == 2 and not others else corpus


def _files_first(words, _):
    """Puts files before the options, where argparse finds them, and numbers that belong to no option last."""
    files, options = _split(words)
    corpus = _corpus(words)
    files.sort(key=lambda word: word in corpus)  # the corpus is the last argument of a command
    numbers = [word for word in files if _is_number(word) and not os.path.isfile(word)]
    return [*(word for word in files if word not in numbers), *options, *numbers]


def _more_values(words, _):
    """Joins the words of a value that was written as several: --where 1 2 3, --memory 2 GB, --column title text."""
    tokens: list[tuple[str, ...]] = [()]
    for token in _tokens(words):
        (option, *value), text = tokens[-1] or ("",), token[0]
        if len(token) > 1 or not value or os.path.isfile(text):
            tokens.append(token)
        elif option in ("--where", "--exclude") and re.fullmatch(r"[\d\s,]+", value[0] + text):
            tokens[-1] = option, f"{value[0]} {text}"
        elif option == "--memory" and re.fullmatch(r"[\d.]+[kmgt]?i?b?", value[0] + text, re.IGNORECASE):
            tokens[-1] = option, value[0] + text
        else:
            tokens.append((option, text) if option == "--column" and words[0] in ("topk", "pairs") else token)
    return _joined(tokens)


def _with_blanks(words, _=None):
    """Joins the parts of the name of a file that has a blank: topk my file.npy -k 3."""
    for at, pair in enumerate(zip(words, words[1:], strict=False)):
        if not os.path.isfile(pair[0]) and os.path.isfile(" ".join(pair)):
            return [*words[:at], " ".join(pair), *words[at + 2 :]]
    return None


def _quoted(words, _):
    """Replaces files that a shell expanded by their pattern, in quotes: topk queries.npy shards/*.npy -k 3."""
    from cossim.rows.opening import FORMATS

    files = _split(words)[0]
    for at, file in enumerate(files[:4]):
        folder = os.path.join(glob.escape(os.path.dirname(file)), "*")
        all_files = [folder] if os.path.dirname(file) else []  # "*" alone could match unrelated files
        for given in (*all_files, folder + os.path.splitext(file)[1]):
            found = sorted(glob.glob(given)) if os.path.isfile(file) else []
            if len(found) > 1 and sorted(files[at : at + len(found)]) == found:
                suffixes = [os.path.splitext(name)[1] for name in found]
                known = [suffix for suffix in suffixes if suffix in FORMATS] or suffixes
                pattern = folder + max(known, key=known.count)
                return [pattern if word == file else word for word in words if word == file or word not in found]
    return None


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


def _other_command(words, found):
    """Replaces a word that is no command by one that has nearly its name, or puts the missing command before it."""
    text = found["text"]
    at = words.index(text) if text in words else 0
    within = at > 0 and words[0] == "index"
    has_file = not within and any(map(os.path.isfile, words[1:]))
    search = "pairs" if {"-t", "--threshold"} & set(words) else "topk"
    if text == "search" and has_file and not any(word.endswith(".index") for word in words):
        return [search, *words[1:]]
    if text in OTHER_COMMANDS:
        return ["index"] * (not within) + [*words[:at], OTHER_COMMANDS[text], *words[at + 1 :]]
    if text == "cossim":
        return words[1:]
    close = difflib.get_close_matches(text, INDEX_COMMANDS if within else EXAMPLES, 1)
    if not within and "dup" in text:
        close = ["dedupe"]
    if close:
        return [*words[:at], close[0], *words[at + 1 :]]
    if not within and text in INDEX_COMMANDS:
        return ["index", *words]
    if not os.path.isfile(text):
        return [search, *words[1:]] if has_file else None
    if within or text.endswith(".index"):
        return ["index", "search" if text.endswith(".index") else "build", *words[at:]]
    return [search, *words]


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


# Errors while a command runs: pattern, and a function of (words, fields of the message). Add a remedy here.
RUNTIME = (
    (r"\(\): \w+ must be ", _in_range),
    (_pattern(_errors.TOO_MANY_PAIRS), lambda words, found: _option(words, "--max-pairs", found["count"])),
    (_pattern(_errors.BITS_DTYPE), _leave_out("--binary")),
    ("^" + _pattern("{path}: " + _errors.ROWS_MANY), _other_name),
    ("^" + _pattern("{path}: " + _errors.ROWS_NO_SUCH), _other_name),
    (_pattern(_errors.ROWS_UNNAMED), _leave_out("--column")),
    (_pattern(_errors.ROWS_NO_IDS), _leave_out("--ids")),
    (_pattern(_errors.NAMES_COUNT), _leave_out("--ids")),
    (_pattern(_errors.NUMBERS_ALONE), lambda words, found: _output(words, {**found, "suffixes": ".npz"})),
    (r"^(?P<path>.*): no file can be written there: .*(folder|Not a directory|not a reg)", _output),
    (
        r"^out of memory$|^Unable to allocate",
        lambda words, _: words if "--memory" in words else [*words, "--memory", "256M"],
    ),
    (_pattern(_errors.ROW_LENGTHS), _unlike_rows),
    (r": (not )?a checkpoint of ", lambda words, _: _option(words, "--checkpoint", new_name("checkpoint.npz"))),
    (_pattern(_errors.NO_IMAGES), _leave_out("--images")),
    (_pattern(_errors.ROWS_FOLDER), lambda words, found: _replaced(words, found["path"], found["pattern"].strip("'"))),
    (_pattern(_errors.SPARSE_FILE), _of_sparse_rows),
    (_pattern(_errors.STDIN_FORMAT), _named),
    (r": (not an index file|no known format)", _by_kinds),
    (r"(?P<path>\S+) does not fit Encoder", _files_found),
    ("^" + _pattern(_errors.NO_FILTER), _files_found),
    ("^" + _pattern(_errors.NO_NAMES), _files_found),
    (NO_SUCH_FILE, _files_found),
)
# Errors of argparse, exit code 2.
ARGPARSE = (
    (
        r"^ambiguous option: (?P<text>\S+) could match (?P<first>[\w-]+)",
        lambda words, found: _replaced(words, found["text"], found["first"]),
    ),
    (r"the following arguments are required: .*(-k|-t)\b", _by_option),
    (r"one of the arguments (?P<names>-k .*) is required$", _number_for_option),
    (
        r"one of the arguments -k .*is required$",
        lambda words, _: [*words, *(["-t", "0.95"] if "--max-pairs" in words else ["-k", "10"])],
    ),
    (r"the following arguments are required: (?P<names>[^,]+)$", _number_for_option),
    (r"the following arguments are required: (?P<names>.+)$", _missing),
    (_pattern(_errors.SUFFIX.replace("{text!r}", "'{text}'")), _output),
    (r"^argument (?P<name>-o|--output)\b.* names the same file", _other_output),
    (r"^argument \w+: standard input", lambda words, _: _replaced(words, "-")),
    (_pattern(_errors.NOT_WITH_GROUPS), _less_groups),
    (r"^argument --max-pairs: not allowed without", _leave_out("--max-pairs")),
    (r"^argument (?P<name>-[\w/-]+): not allowed with", lambda words, found: _without(words, {found["name"][:2]})),
    (r"invalid float value: '(?P<number>\d+)%'", lambda words, found: _option(words, "-t", found["number"])),
    (r"invalid float value: '(?P<number>-?\d*,\d+)'", _decimal_point),
    (r"invalid int value: '(?P<number>\d+(\.\d*)?(e\d+)?)'", _whole),
    (r"^argument -k: invalid int value: '(?P<number>0?\.\d+)'", _threshold),
    (r"^argument (?P<name>-[\w/-]+): ", _wrong_value),
    (r"^unrecognized arguments: .*--binary\b", _of_sparse_rows),
    (r"^unrecognized arguments: ", _more_values),
    (r"^unrecognized arguments: |invalid choice: ", _files_first),
    (r"^unrecognized arguments: ", _with_blanks),
    (r"^unrecognized arguments: ", _quoted),
    (r"^unrecognized arguments: (?P<extra>.+)$", _unrecognized),
    (r"invalid choice: '(?P<text>.*?)'", _other_command),
)
