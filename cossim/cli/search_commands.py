"""The search commands topk and pairs: their arguments and their results."""

import argparse
import re
import sys
from contextlib import nullcontext
from fractions import Fraction
from importlib.util import find_spec

import numpy as np

import cossim
from cossim import _errors
from cossim._core import DEFAULT_EPS
from cossim._io import same_file
from cossim._progress import reporting
from cossim.cli import result_files, row_files
from cossim.search import functions

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, with one line on stderr that says why; 2 invalid arguments; 130 stopped by Ctrl-C."
)
FILE = "file whose rows are vectors, in any format of cossim.open_rows, or - for .npy or text from standard input"
INT64 = np.iinfo(np.int64)

# ---- arguments ----


def integer(text):
    number = int(text)
    if not INT64.min <= number <= INT64.max:
        raise argparse.ArgumentTypeError(_errors.NOT_64_BITS.format(text=text))
    return number


def _at_least(least):
    def check(text):
        number = integer(text)
        if number < least:
            raise argparse.ArgumentTypeError(_errors.LESS_THAN.format(text=text, least=least))
        return number

    return check


positive, not_negative = _at_least(1), _at_least(0)

# argparse prints this name in the error "invalid int value".
integer.__name__ = positive.__name__ = not_negative.__name__ = "int"


def byte_count(text):
    """Converts a size to bytes: 256M, 1.5G, 256MiB, 1000. K and KiB are 1024, KB is 1000, and so on for M, G, T."""
    match = re.fullmatch(r"(\d+|\d*\.\d+|\d+\.)\s*(?:([kmgt])(i?b)?|b)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(_errors.NOT_A_SIZE.format(text=text))
    number, unit, kind = match.groups(default="")
    number = Fraction(number) * (1000 if kind.lower() == "b" else 1024) ** (" kmgt".index(unit.lower() or " "))
    if not 1 <= number <= INT64.max:
        raise argparse.ArgumentTypeError(_errors.SIZE_RANGE.format(text=text, most=INT64.max))
    return int(number)


def with_suffix(*suffixes):
    """Returns the argparse type of an argument that names a file with one of the suffixes."""

    def check(text):
        if result_files.suffix(text) not in suffixes:
            raise argparse.ArgumentTypeError(_errors.SUFFIX.format(text=text, suffixes=" or ".join(suffixes)))
        return text

    return check


output_path = with_suffix(*result_files.FORMATS)


def set_run(parser, run, reads=(), writes=(), check=None, prepare=None):
    """Sets the functions of a command: one runs it, one checks that its arguments fit together, one opens its files.

    reads and writes are the arguments that name files. No other argument may name the same file as one of `writes`.
    check(parser, arguments), if there is one, calls parser.error for other mistakes. prepare(arguments), if there is
    one, does what comes before the work: it opens the files and finds the mistakes in them. Suggestions call it too.
    """

    def fit_together(arguments):
        if [getattr(arguments, argument.dest) for argument in reads].count(row_files.STDIN) > 1:
            parser.error(_errors.STDIN_TWICE.format(name=reads[1].metavar))
        for number, written in enumerate(writes):
            for other in (*reads, *writes[:number]):
                paths = getattr(arguments, written.dest), getattr(arguments, other.dest)
                if None not in paths and same_file(*paths):
                    name = "/".join(other.option_strings) or other.metavar
                    message = _errors.SAME_FILE.format(name=name)
                    parser.error(str(argparse.ArgumentError(written, message)))
        if check is not None:
            check(parser, arguments)

    parser.set_defaults(run=run, check=fit_together, prepare=prepare)


def _add_common(parser):
    column = "the array or column of vectors, for files with more than one; give two names if those of two files differ"
    parser.add_argument("--column", metavar="NAME", action="append", help=column)
    ids = "add names of rows to the result: from a column of the files, or from a file with a name in each line"
    parser.add_argument("--ids", metavar="COLUMN|FILE", help=ids)
    output = add_output(parser)
    add_rows_options(parser)
    add_memory(parser)
    add_running(parser)
    return output


def add_output(parser):
    target = f"where the result goes, by its suffix {', '.join(result_files.FORMATS)} (default: CSV on stdout)"
    return parser.add_argument("-o", "--output", metavar="FILE", type=output_path, help=target)


def add_rows_options(parser, binary=True):
    eps = "smallest norm to divide by (default: %(default)s)"
    parser.add_argument("--eps", metavar="X", type=float, default=DEFAULT_EPS, help=eps)
    if binary:
        text = "the rows are packed bits, as numpy.packbits(rows > 0, axis=1) gives them: bit 1 is +1, bit 0 is -1"
        parser.add_argument("--binary", action="store_true", help=text)


def add_memory(parser, what="of the search, without the result"):
    memory = f"limit of the memory {what}: a number of bytes, or a size such as 256M or 1.5G"
    parser.add_argument("--memory", metavar="SIZE", type=byte_count, help=memory)


def add_filters(parser, rows):
    """Adds the arguments that name files of filters, and returns them."""
    what = "row numbers in a text file or .npy"
    return (
        parser.add_argument("--where", metavar="FILE", help=f"search only {rows}: {what}, or a mask in .npy"),
        parser.add_argument("--exclude", metavar="FILE", help=f"leave out {rows}: {what}"),
    )


def add_running(parser):
    """Adds the arguments of every command that may run for long."""
    parser.add_argument("--threads", metavar="N", type=positive, help="maximum number of threads (default: all)")
    parser.add_argument("--quiet", action="store_true", help="show no bar, even on a terminal with tqdm installed")


def add_topk(commands):
    text = "The k rows of a corpus that are most similar to each query."
    more = "Rows count from 0, ranks from 1. Rows with equal scores keep their order."
    parser = commands.add_parser("topk", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    queries = parser.add_argument("queries", metavar="QUERIES", help=FILE)
    corpus = "such a file (default: QUERIES, where each row is excluded from its own results)"
    corpus = parser.add_argument("corpus", metavar="CORPUS", nargs="?", help=corpus)
    parser.add_argument("-k", metavar="N", type=integer, required=True, help="how many rows for each query")
    filters = add_filters(parser, "these rows of CORPUS")
    files = ("queries", "corpus")
    set_run(parser, _topk, [queries, corpus, *filters], [_add_common(parser)], _check_columns(files), _opened(files))


def add_pairs(commands):
    text = "All pairs of rows whose similarity is at least a threshold: near-duplicates."
    more = "Rows count from 0. Pairs are sorted."
    parser = commands.add_parser("pairs", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    corpus = parser.add_argument("corpus", metavar="CORPUS", help=FILE)
    other = "second file: pairs of a row of CORPUS and a row of OTHER (default: pairs i < j within CORPUS)"
    other = parser.add_argument("other", metavar="OTHER", nargs="?", help=other)
    parser.add_argument("-t", "--threshold", metavar="T", type=float, required=True, help="from -1 to 1")
    parser.add_argument("--max-pairs", metavar="N", type=integer, help="fail if there are more pairs")
    groups = "write the group of each row instead; chains of pairs form groups, numbered by their lowest row"
    parser.add_argument("--groups", action="store_true", help=groups)
    filters = add_filters(parser, "these rows of OTHER (or of CORPUS, if there is no OTHER)")
    files = ("corpus", "other")
    set_run(parser, _pairs, [corpus, other, *filters], [_add_common(parser)], _check_pairs, _opened(files))


# ---- running a command ----


def limited(arguments):
    """Returns a context in which --threads applies."""
    return nullcontext() if arguments.threads is None else cossim.threads(arguments.threads)


def wants_bar(arguments):
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and not arguments.quiet and find_spec("tqdm") is not None


def read_filters(arguments):
    """Reads the files of --where and --exclude. Returns the arrays as keyword arguments of the search."""
    paths = {"where": arguments.where, "exclude": arguments.exclude}
    return {name: row_files.read_filter(path, name) for name, path in paths.items() if path is not None}


def check_bits(paths, found):
    """Raises ValueError, which names the file, if rows are not packed bits."""
    for path, (rows, _) in zip(paths, found, strict=True):
        if rows.dtype != np.uint8:
            error = _errors.BITS_DTYPE.format(dtype=rows.dtype)
            raise ValueError(_errors.IN_FILE.format(path=path, error=error))


def _paths(arguments, names):
    return [path for path in (getattr(arguments, name) for name in names) if path is not None]


def _check_columns(names):
    """Returns a function that checks that no more columns than files are named. The arguments `names` are the files."""

    def check(parser, arguments):
        if len(arguments.column or ()) > max(len(_paths(arguments, names)), 1):
            parser.error(_errors.MANY_COLUMNS)

    return check


def _opened(names):
    """Returns a function that opens one or two files of rows, the arguments `names`, and the files of filters."""

    def prepare(arguments):
        paths = _paths(arguments, names)
        found = row_files.open_inputs(paths, arguments.column, arguments.ids)
        if arguments.binary:
            check_bits(paths, found)
        if arguments.output is not None:
            result_files.check(arguments.output, found[-1][1] is not None)
        return found, read_filters(arguments)

    return prepare


def _run(arguments, name, search, make_result):
    """Reads the files, runs search on their rows and writes the result.

    search(rows, other_rows) gets the rows of both files; other_rows is None for a single file.
    make_result(matches, names, other_names) converts the result of search to a result_files.Result; names are those of
    the rows of the first and last file, or None.
    """
    found, filters = arguments.prepare(arguments)
    rows = [rows for rows, _ in found]
    with limited(arguments), reporting(wants_bar(arguments), name) as report:
        options = {"eps": arguments.eps, "binary": arguments.binary, "memory": arguments.memory}
        matches = search(rows[0], rows[1] if len(rows) > 1 else None, **filters, **options, progress=report)
    write_result(arguments, make_result(matches, found[0][1], found[-1][1]))


def write_result(arguments, result):
    if arguments.output is None:
        result_files.print_csv(result)
    else:
        result_files.write(arguments.output, result)


def with_names(columns, **named):
    """Adds columns of names: NAME=(names of all rows, row number in each line). Without names, adds no column."""
    return columns | {name: names[numbers] for name, (names, numbers) in named.items() if names is not None}


def nearest_result(matches, query_names, names, numbers=None):
    """Returns the Result of a TopK (Q, k). numbers: those of the queries in the table, 0 to Q - 1 by default."""
    numbers = np.arange(len(matches.values)) if numbers is None else numbers
    queries, places = np.nonzero(matches.indices >= 0)  # the table leaves out places that no row fills

    def columns(line):
        query, place = queries[line], places[line]
        index, value = matches.indices[query, place], matches.values[query, place]
        found = {"query": numbers[query], "rank": place + 1, "index": index, "value": value}
        return with_names(found, query_id=(query_names, numbers[query]), index_id=(names, index))

    arrays = with_names(matches._asdict(), query_ids=(query_names, numbers))
    if names is not None:
        arrays["index_ids"] = np.append(names, "")[matches.indices]  # "" for places that no row fills
    return result_files.Result(arrays, columns, len(queries))


def pairs_result(matches, names, other_names):
    """Returns the Result of Pairs."""
    i, j, values = matches

    def columns(line):
        found = {"i": i[line], "j": j[line], "value": values[line]}
        return with_names(found, i_id=(names, i[line]), j_id=(other_names, j[line]))

    arrays = with_names(matches._asdict(), i_ids=(names, i), j_ids=(other_names, j))
    return result_files.Result(arrays, columns, len(values))


def _topk(arguments):
    def search(queries, corpus, **options):
        return functions.topk(queries, corpus, arguments.k, **options)

    _run(arguments, "topk", search, nearest_result)


def _check_pairs(parser, arguments):
    _check_columns(("corpus", "other"))(parser, arguments)
    others = arguments.other, arguments.max_pairs, arguments.where, arguments.exclude
    if arguments.groups and any(value is not None for value in others):
        parser.error(_errors.NOT_WITH_GROUPS)


def _pairs(arguments):
    def search(x, y, **options):
        if arguments.groups:
            return functions.duplicate_groups(x, arguments.threshold, **options)
        return functions.pairs_above(x, arguments.threshold, y, max_pairs=arguments.max_pairs, **options)

    def groups(labels, names, _):
        def columns(line):
            found = {"row": line, "group": labels[line]}
            return with_names(found, row_id=(names, line), group_id=(names, labels[line]))

        arrays = with_names({"labels": labels}, row_ids=(names, np.arange(len(labels))), group_ids=(names, labels))
        return result_files.Result(arrays, columns, len(labels))

    _run(arguments, "pairs", search, groups if arguments.groups else pairs_result)
