"""The search commands topk and pairs: their arguments, their input (.npy files) and their results."""

import argparse
import re
import sys
from contextlib import nullcontext
from fractions import Fraction
from functools import partial
from importlib.util import find_spec

import numpy as np

import cossim
from cossim import _errors
from cossim._core import DEFAULT_EPS
from cossim._io import errors_as_text, map_npy, open_regular, same_file
from cossim._progress import reporting
from cossim.cli import result_files
from cossim.search import functions

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed, with one line on stderr that says why; 2 unusable arguments; 130 stopped by Ctrl-C."
)
INT64 = np.iinfo(np.int64)

# ---- arguments ----


def integer(text):
    number = int(text)
    if not INT64.min <= number <= INT64.max:
        raise argparse.ArgumentTypeError(_errors.NOT_64_BITS.format(text=text))
    return number


def positive(text):
    number = integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(_errors.LESS_THAN.format(text=text, least=1))
    return number


def not_negative(text):
    number = integer(text)
    if number < 0:
        raise argparse.ArgumentTypeError(_errors.LESS_THAN.format(text=text, least=0))
    return number


# argparse prints this name in "invalid ... value".
integer.__name__ = positive.__name__ = not_negative.__name__ = "int"


def _bytes(text):
    """Converts a size to bytes: 256M, 1.5G, 256MiB, 1000. K and KiB are 1024, KB is 1000; M, G, T are alike."""
    match = re.fullmatch(r"(\d+|\d*\.\d+|\d+\.)\s*(?:([kmgt])(i?b)?|b)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(_errors.NOT_A_SIZE.format(text=text))
    number, unit, kind = match.groups(default="")
    number = Fraction(number) * (1000 if kind.lower() == "b" else 1024) ** (" kmgt".index(unit.lower() or " "))
    if not 1 <= number <= INT64.max:
        raise argparse.ArgumentTypeError(_errors.SIZE_RANGE.format(text=text, most=INT64.max))
    return int(number)


def _output(text):
    if result_files.suffix(text) not in result_files.FORMATS:
        raise argparse.ArgumentTypeError(_errors.SUFFIX.format(text=text, suffixes=" or ".join(result_files.FORMATS)))
    return text


def set_run(parser, run, reads=(), writes=()):
    """Sets the function that a command runs.

    reads and writes are the arguments that name files. A file of `writes` must differ from the files of all others.
    """

    def checked(arguments):
        for number, written in enumerate(writes):
            for other in (*reads, *writes[:number]):
                paths = getattr(arguments, written.dest), getattr(arguments, other.dest)
                if None not in paths and same_file(*paths):
                    name = "/".join(other.option_strings) or other.metavar
                    message = _errors.SAME_FILE.format(name=name)
                    parser.error(str(argparse.ArgumentError(written, message)))
        run(arguments)

    parser.set_defaults(run=checked)


def _add_common(parser):
    target = "where the result goes, by its suffix .npz, .csv or .parquet (default: CSV on stdout)"
    output = parser.add_argument("-o", "--output", metavar="FILE", type=_output, help=target)
    parser.add_argument(
        "--eps", metavar="X", type=float, default=DEFAULT_EPS, help="smallest norm (default: %(default)s)"
    )
    memory = "bound of the working set: bytes, or such as 256M, 1.5G (without the result)"
    parser.add_argument("--memory", metavar="SIZE", type=_bytes, help=memory)
    add_running(parser)
    return output


def add_running(parser):
    """Adds the arguments of every command that may run for long."""
    parser.add_argument("--threads", metavar="N", type=positive, help="maximum number of threads (default: all)")
    parser.add_argument("--quiet", action="store_true", help="show no bar, even on a terminal with tqdm installed")


def add_topk(commands):
    text = "The k rows of a corpus that are most similar to each query."
    more = "Rows count from 0, ranks from 1. Equal scores are in order of row."
    parser = commands.add_parser("topk", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    queries = parser.add_argument("queries", metavar="QUERIES", help=".npy file whose rows are vectors")
    corpus = ".npy file whose rows are vectors (default: QUERIES, where each row is excluded from its own results)"
    corpus = parser.add_argument("corpus", metavar="CORPUS", nargs="?", help=corpus)
    parser.add_argument("-k", metavar="N", type=integer, required=True, help="how many rows for each query")
    set_run(parser, _topk, reads=[queries, corpus], writes=[_add_common(parser)])


def add_pairs(commands):
    text = "All pairs of rows whose similarity is at least a threshold: near-duplicates."
    more = "Rows count from 0. Pairs are sorted."
    parser = commands.add_parser("pairs", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    corpus = parser.add_argument("corpus", metavar="CORPUS", help=".npy file whose rows are vectors")
    other = "second .npy file: pairs of a row of CORPUS and a row of OTHER (default: pairs i < j within CORPUS)"
    other = parser.add_argument("other", metavar="OTHER", nargs="?", help=other)
    parser.add_argument("--threshold", metavar="T", type=float, required=True, help="from -1 to 1")
    parser.add_argument("--max-pairs", metavar="N", type=integer, help="fail if there are more pairs")
    groups = "write the group of each row instead: rows connected by a chain of pairs, named by its lowest row"
    parser.add_argument("--groups", action="store_true", help=groups)
    set_run(parser, partial(_pairs, parser), reads=[corpus, other], writes=[_add_common(parser)])


# ---- input ----


def _read(path):
    """Returns the rows of a .npy file, or its single vector, as a memmap.

    Raises OSError or ValueError, which name the file.
    """
    with errors_as_text(), open_regular(path) as file:
        try:
            rows = map_npy(file, _check_real)
            if rows.ndim not in (1, 2):
                raise ValueError(_errors.ROWS_SHAPE.format(shape=rows.shape))
            return rows
        except ValueError as error:
            raise ValueError(_errors.IN_FILE.format(path=path, error=error)) from None


def _check_real(dtype):
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        message = _errors.ROWS_BFLOAT16 if dtype == "V2" else _errors.ROWS_DTYPE
        raise ValueError(message.format(dtype=dtype))


def _read_both(path, other):
    first, second = _read(path), None if other is None else _read(other)
    if second is not None and second.shape[-1] != first.shape[-1]:
        sizes = {"size": first.shape[-1], "other_size": second.shape[-1]}
        raise ValueError(_errors.ROW_LENGTHS.format(path=path, other=other, **sizes))
    return first, second


# ---- runs ----


def limited(arguments):
    """Returns a context in which --threads applies."""
    return nullcontext() if arguments.threads is None else cossim.threads(arguments.threads)


def wants_bar(arguments):
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and not arguments.quiet and find_spec("tqdm") is not None


def _run(arguments, name, files, search, make_result):
    """Reads the files, runs search on them and writes the result.

    make_result converts what search returns to a result_files.Result.
    """
    operands = _read_both(*files)
    if arguments.output is not None:
        result_files.check(arguments.output)
    with limited(arguments), reporting(wants_bar(arguments), name) as report:
        matches = search(*operands, eps=arguments.eps, memory=arguments.memory, progress=report)
    result = make_result(matches)
    if arguments.output is None:
        result_files.print_csv(result)
    else:
        result_files.write(arguments.output, result)


def _topk(arguments):
    def search(queries, corpus, **options):
        return functions.topk(queries, corpus, arguments.k, **options)

    def make_result(matches):
        values, indices = matches.values.reshape(-1), matches.indices.reshape(-1)

        def columns(line):
            query, place = np.divmod(line, arguments.k)
            return {"query": query, "rank": place + 1, "index": indices[line], "value": values[line]}

        return result_files.Result(matches._asdict(), columns, len(values))

    _run(arguments, "topk", (arguments.queries, arguments.corpus), search, make_result)


def _pairs(parser, arguments):
    if arguments.groups and (arguments.other is not None or arguments.max_pairs is not None):
        parser.error(_errors.NOT_WITH_GROUPS)

    def search(x, y, **options):
        if arguments.groups:
            return functions.duplicate_groups(x, arguments.threshold, **options)
        return functions.pairs_above(x, arguments.threshold, y, max_pairs=arguments.max_pairs, **options)

    def make_result(matches):
        if arguments.groups:
            arrays = {"labels": matches}
            return result_files.Result(arrays, lambda line: {"row": line, "group": matches[line]}, len(matches))

        def columns(line):
            return {"i": matches.i[line], "j": matches.j[line], "value": matches.values[line]}

        return result_files.Result(matches._asdict(), columns, len(matches.values))

    _run(arguments, "pairs", (arguments.corpus, arguments.other), search, make_result)
