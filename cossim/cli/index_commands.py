"""The commands `index build`, `index add`, `index search` and `dedupe`: their arguments and their results."""

import os
import re

import numpy as np

from cossim import _errors
from cossim._io import errors_as_text, write_errors_as_text
from cossim._progress import reporting
from cossim.cli import result_files, row_files, search_commands
from cossim.cli.search_commands import EXIT_CODES, FILE, add_running, integer, limited, set_run, wants_bar
from cossim.search.index import Index
from cossim.search.near_duplicates import deduplicate

INDEX = "file that cossim index build or Index.save wrote"


def add_index(commands):
    text = "Keeps a corpus in a file that is prepared for many searches, and to which rows can be added."
    parser = commands.add_parser("index", help=text, description=text, epilog=EXIT_CODES)
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_build(parts)
    _add_add(parts)
    _add_search(parts)


def _add_column(parser):
    column = "the array or column of vectors, for files with more than one"
    parser.add_argument("--column", metavar="NAME", help=column)


def _add_build(commands):
    text = "Makes an index of the rows of a file."
    parser = commands.add_parser("build", help=text, description=text, epilog=EXIT_CODES)
    corpus = parser.add_argument("corpus", metavar="CORPUS", help=FILE)
    output = parser.add_argument("-o", "--output", metavar="INDEX", required=True, help="where the index goes")
    _add_column(parser)
    search_commands.add_rows_options(parser)
    add_running(parser)
    set_run(parser, _build, reads=[corpus], writes=[output], prepare=_prepare_build)


def _add_add(commands):
    text = "Adds the rows of a file to an index, and prints the number of the first one and how many there are."
    more = "The index is replaced once the new one is complete."
    parser = commands.add_parser("add", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    index = parser.add_argument("index", metavar="INDEX", help=INDEX)
    rows = parser.add_argument("rows", metavar="ROWS", help=FILE)
    output = "where the new index goes (default: INDEX)"
    parser.add_argument("-o", "--output", metavar="FILE", help=output)
    _add_column(parser)
    add_running(parser)
    set_run(parser, _add, reads=[rows], writes=[index], prepare=_prepare_add)


def _add_search(commands):
    text = "The k rows of an index that are most similar to each query, or all rows that reach a threshold."
    more = "Rows of the first corpus count from 0; index add printed the numbers of the others. Ranks count from 1."
    parser = commands.add_parser("search", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    index = parser.add_argument("index", metavar="INDEX", help=INDEX)
    queries = f"{FILE} (default: compare the rows of the index with each other)"
    queries = parser.add_argument("queries", metavar="QUERIES", nargs="?", help=queries)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-k", metavar="N", type=integer, help="how many rows for each query")
    what.add_argument(
        "-t", "--threshold", metavar="T", type=float, help="all pairs with at least this score, from -1 to 1"
    )
    parser.add_argument("--max-pairs", metavar="N", type=integer, help="fail if more pairs reach the threshold")
    filters = search_commands.add_filters(parser, "these rows of the index")
    _add_column(parser)
    ids = parser.add_argument(
        "--ids", metavar="FILE", help="a file with a name in each line, for the rows in order of their numbers"
    )
    output = search_commands.add_output(parser)
    search_commands.add_memory(parser, "for blocks of queries in a file")
    add_running(parser)
    set_run(parser, _search, [index, queries, *filters, ids], [output], _check_max_pairs, _prepare_search)


def add_dedupe(commands):
    text = "Keeps the first of near-duplicates: a row is dropped if it is like an earlier row that was kept."
    more = "Rows count from 0. Each row is printed with the kept row that it is like; a kept row is like itself."
    parser = commands.add_parser("dedupe", help=text, description=f"{text} {more}", epilog=EXIT_CODES)
    corpus = parser.add_argument("corpus", metavar="CORPUS", help=FILE)
    parser.add_argument("-t", "--threshold", metavar="T", type=float, required=True, help="from -1 to 1")
    _add_column(parser)
    ids = "add names of rows to the result: from a column of the file, or from a file with a name in each line"
    parser.add_argument("--ids", metavar="COLUMN|FILE", help=ids)
    parser.add_argument("--kept", action="store_true", help="print only the rows to keep")
    output = search_commands.add_output(parser)
    search_commands.add_rows_options(parser, binary=False)
    search_commands.add_memory(parser)
    add_running(parser)
    set_run(parser, _dedupe, reads=[corpus], writes=[output], prepare=_prepare_dedupe)


# ---- running a command ----


def _dense(path, rows):
    """Returns rows of a file, which must not be sparse."""
    if hasattr(rows, "indptr"):
        raise ValueError(_errors.SPARSE_FILE.format(path=path))
    return rows


def _loaded(path):
    with errors_as_text():
        return Index.load(path)


def _rows(path, arguments, binary, dim=None):
    """Opens dense rows, or packed bits if `binary`. With `dim`, each row must have as many numbers or bits."""
    rows = _dense(path, row_files.open_input(path, arguments.column))
    if binary:
        search_commands.check_bits([path], [(rows, None)])
    other_size = rows.shape[1] * (8 if binary else 1)
    if dim not in (None, other_size):
        sizes = {"path": arguments.index, "size": dim, "other": path, "other_size": other_size}
        raise ValueError(_errors.ROW_LENGTHS.format(**sizes))
    return rows


def _save(index, path, report):
    with write_errors_as_text(path):
        index.save(path, progress=report)


def _prepare_build(arguments):
    rows = _rows(arguments.corpus, arguments, arguments.binary)
    result_files.check_path(arguments.output)
    return rows


def _build(arguments):
    rows = arguments.prepare(arguments)
    with limited(arguments), reporting(wants_bar(arguments), "index build") as report:
        index = Index(rows, eps=arguments.eps, binary=arguments.binary, progress=report)
        _save(index, arguments.output, None)


def _prepare_add(arguments):
    """Adds the rows to the index in memory. Only this shows whether its dtype holds their values."""
    index = _loaded(arguments.index)
    rows = _rows(arguments.rows, arguments, index.binary, index.dim)
    result_files.check_path(arguments.output or arguments.index)
    try:
        with limited(arguments):
            return index, index.add(rows)
    except TypeError:
        stem = os.path.splitext(os.path.basename(arguments.rows))[0]
        plain = re.fullmatch(r"[\w.][\w.-]*", stem)  # not a pattern, nor "-" for standard input
        new = result_files.new_name(f"{stem}.npy" if plain else "rows.npy")
        names = [repr(name) for name in (arguments.rows, arguments.column) if name is not None]
        read = "rows" if arguments.rows == row_files.STDIN else f"cossim.open_rows({', '.join(names)})[:]"
        given = {"path": arguments.rows, "source": rows.dtype, "index": arguments.index, "new": new, "rows": read}
        error = _errors.INDEX_ROWS_DTYPE.format(**given, target=str(index._state.corpus.dtype))
        raise ValueError(error) from None


def _add(arguments):
    index, numbers = arguments.prepare(arguments)
    with limited(arguments), reporting(wants_bar(arguments), "index add", "bytes") as report:
        _save(index, arguments.output or arguments.index, report)
    first, count = np.array([index._state.given - len(numbers)]), np.array([len(numbers)])
    result_files.print_csv(result_files.Result({}, lambda line: {"first": first[line], "rows": count[line]}, 1))


def _check_max_pairs(parser, arguments):
    if arguments.max_pairs is not None and arguments.threshold is None:
        parser.error(_errors.WITHOUT_THRESHOLD)


def _prepare_search(arguments):
    index = _loaded(arguments.index)
    ids, given = arguments.ids, index._state.given  # a name for each number that was ever given
    names = None if ids is None else row_files.names_in_file(ids, arguments.index, given)
    if arguments.output is not None:
        result_files.check(arguments.output, names is not None)
    queries = None
    if arguments.queries is not None:
        queries = _rows(arguments.queries, arguments, index.binary, index.dim)
    return index, names, queries, search_commands.read_filters(arguments)


def _search(arguments):
    index, names, queries, filters = arguments.prepare(arguments)
    options = {"memory": arguments.memory, **filters}
    with limited(arguments), reporting(wants_bar(arguments), "index search") as report:
        options["progress"] = report
        if arguments.threshold is None:
            result = _best(index, index.topk(queries, arguments.k, **options), names, queries is None)
        else:
            options["max_pairs"] = arguments.max_pairs
            found = index.pairs_above(queries, arguments.threshold, **options)
            result = search_commands.pairs_result(found, names if queries is None else None, names)
    search_commands.write_result(arguments, result)


def _best(index, found, names, itself):
    result = search_commands.nearest_result(found, names if itself else None, names, index.numbers if itself else None)
    if itself:
        result.arrays.pop("query_ids", None)
        result.arrays["queries"] = index.numbers
    return result


def _prepare_dedupe(arguments):
    ((rows, names),) = row_files.open_inputs([arguments.corpus], [arguments.column], arguments.ids)
    rows = _dense(arguments.corpus, rows)
    if arguments.output is not None:
        result_files.check(arguments.output, names is not None)
    return rows, names


def _dedupe(arguments):
    rows, names = arguments.prepare(arguments)
    options = {"eps": arguments.eps, "memory": arguments.memory}
    with limited(arguments), reporting(wants_bar(arguments), "dedupe") as report:
        kept, like = deduplicate(rows, arguments.threshold, **options, progress=report)
    shown = kept if arguments.kept else np.arange(len(like))

    def columns(line):
        row = shown[line]
        table = {"row": row} if arguments.kept else {"row": row, "like": like[row]}
        others = {} if arguments.kept else {"like_id": (names, like[row])}
        return search_commands.with_names(table, row_id=(names, row), **others)

    arrays = {"kept": kept} if arguments.kept else {"kept": kept, "like": like}
    arrays = search_commands.with_names(arrays, kept_ids=(names, kept))
    search_commands.write_result(arguments, result_files.Result(arrays, columns, len(shown)))
