"""Searches on blocks of rows, and their arguments.

An array in memory is one block. Rows in a file are read block by block, within a memory bound.
"""

from __future__ import annotations

import math
import os
import sys
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _core, _errors
from cossim._arguments import integer_text, number_argument, size_argument
from cossim._dtypes import is_bfloat16
from cossim._errors import described
from cossim._io import Pages
from cossim.rows.slices import is_closed_dataset, is_in_slices
from cossim.search import rotation
from cossim.search.results import Pairs, TopK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cossim._typing import Path
    from cossim.rows.file_rows import FileRows
    from cossim.search.filters import Filter

    ReadRows = Callable[[int, int], NDArray[Any]]  # rows [first, last) as an array

# Default bound of the working set for arrays in files, in bytes.
DEFAULT_MEMORY = 256 << 20
MIN_ROWS = 256  # minimum rows per block, even if they exceed the bound

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# top_pairs of at least this many pairs searches with a threshold from the pairs of every eighth row. The pairs above it
# are four standard deviations more than the share of the m best pairs that a sample is expected to hold.
MIN_SAMPLED_PAIRS = 1 << 23
SAMPLED, SAMPLE_DEVIATIONS = 8, 4


# ---- rows ----


def is_lazy(x: Any) -> bool:
    """Returns whether x is a Dask collection."""
    if x is None or type(x) is np.ndarray:  # the fast path, which small searches notice
        return False
    return hasattr(type(x), "__dask_graph__") and x.__dask_graph__() is not None


class Rows:
    """The rows of an operand: an array in memory, a numpy.memmap, or an object whose slices are read block by block.

    array: all rows. For an object that is read in slices it has only their shape and dtype; blocks() reads the rows.
    One vector is a single row; is_vector tells it from a matrix with one row.
    """

    def __init__(self, array: NDArray[Any], source: object, read: ReadRows | None = None) -> None:
        self.is_vector = array.ndim == 1
        self.array, self._read = array[None] if self.is_vector else array, read
        self.pages = Pages(source) if isinstance(source, np.memmap) else None
        self.in_memory = read is None and (self.pages is None or self.pages.map is None)

    def __len__(self) -> int:
        return len(self.array)

    def rows_per_block(self, memory: int) -> int:
        """Returns how many rows fit into `memory` bytes, and at least MIN_ROWS."""
        return max(MIN_ROWS, memory // max(1, self.array.shape[1] * self.array.itemsize))

    def blocks(
        self, rows: int, start: int = 0, ahead: bool = True, wanted: Callable[[int, int], bool] | None = None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yields (number of the first row, block of at most `rows` rows), in order.

        Blocks [first, last) that are not wanted(first, last) are left out and not read.

        The next block is read meanwhile, unless ahead is False. For a numpy.memmap the system reads it, and the pages
        of a finished block are released.
        """
        spans = ((first, min(first + rows, len(self))) for first in range(start, len(self), rows))
        if wanted is not None:
            spans = (span for span in spans if wanted(*span))
        if self._read is not None:
            yield from _read_blocks(self._read, list(spans), ahead)
            return
        pages = self.pages
        for (first, last), (following, _) in pairwise(chain(spans, [(len(self), 0)])):
            if pages is None:
                yield first, self.array[first:last]
                continue
            block = pages.copied(first, rows) if pages.by_columns else self.array[first:last]
            pages.advise("MADV_WILLNEED", following, rows)
            try:
                yield first, block
            finally:
                if not pages.by_columns:
                    pages.advise("MADV_DONTNEED", first, rows)

    def with_array(self) -> Rows:
        """Returns these rows, or a copy of them in memory if they are read in slices."""
        return self if self._read is None else Rows(self._read(0, len(self)), None)


def _read_blocks(read: ReadRows, spans: list[tuple[int, int]], ahead: bool) -> Iterator[tuple[int, NDArray[Any]]]:
    """Rows.blocks for rows that are read in slices."""
    if not ahead or len(spans) < 2:
        for first, last in spans:
            yield first, read(first, last)
        return
    from concurrent.futures import ThreadPoolExecutor  # on first use, because its import is slow

    with ThreadPoolExecutor(1, "cossim-read-ahead") as thread:
        coming = thread.submit(read, *spans[0])
        for (first, _), following in zip(spans, [*spans[1:], None], strict=True):
            block = coming.result()
            if following is not None:
                coming = thread.submit(read, *following)
            yield first, block
            del block


def rows_of(function: str, **sources: Any) -> tuple[Any, ...]:
    """Returns the Rows of each source: an array in memory, a numpy.memmap, an object that is_in_slices, or a path.

    Every source except the first may be None, and then its result is None. Raises TypeError or ValueError, with the
    names of function and argument, if a source is none of these, or neither rows (N, D) nor one vector (D,).
    """
    given: dict[str, Any] = {}
    readers: dict[str, ReadRows] = {}
    for name, source in sources.items():
        if source is None and given:
            continue
        if type(source) is np.ndarray:  # the fast path, which small searches notice
            given[name] = source
            continue
        if is_lazy(source):
            raise TypeError(_errors.LAZY.format(function=function, name=name))
        if isinstance(source, (str, os.PathLike)):
            source = open_path(function, name, source)
        if is_closed_dataset(source):
            raise ValueError(_errors.DATASET_CLOSED.format(function=function, name=name))
        if is_in_slices(source) and isinstance(getattr(source, "memmap", None), np.memmap):
            source = source.memmap  # rows of open_rows in a format that is mapped
        if is_in_slices(source):
            readers[name] = partial(_read_slice, function, name, source)
            source = np.broadcast_to(np.zeros((), source.dtype.newbyteorder("=")), source.shape)
        given[name] = source
    arrays = iter(_core.as_rows(function, tuple(given), tuple(given.values())))
    rows = {name: Rows(next(arrays), source, readers.get(name)) for name, source in given.items()}
    return tuple(map(rows.get, sources))


def open_path(function: str, name: str, path: Path) -> FileRows | NDArray[Any]:
    """Opens the rows of a file. Returns an array (D,) for a .npy file of one vector.

    Errors name the function and its argument.
    """
    from cossim.rows.opening import open_argument  # on first use, because few searches read files

    try:
        rows = open_argument(path)
        return np.asarray(rows[0]) if rows.is_vector else rows
    except FileNotFoundError as error:
        if error.errno is None:  # a folder or pattern without files: the error names it already
            raise
        message = _errors.NO_FILE.format(function=function, name=name)
        raise FileNotFoundError(error.errno, message, error.filename) from None
    except (ValueError, ModuleNotFoundError) as error:
        kind = ValueError if isinstance(error, ValueError) else ModuleNotFoundError
        raise kind(_errors.IN_PATH.format(function=function, name=name, error=error)) from None


def _read_slice(function: str, name: str, source: Any, first: int, last: int) -> NDArray[Any]:
    """Reads rows [first, last) of an object that is_in_slices."""
    block = np.asarray(source[first:last])
    if block.shape != (last - first, source.shape[1]) or block.dtype != source.dtype:
        wanted = f"shape {(last - first, source.shape[1])}, dtype {source.dtype}"
        arrays = described(**{f"{name}[{first}:{last}]": block})
        raise ValueError(_errors.WRONG_SLICE.format(function=function, name=name, wanted=wanted, arrays=arrays))
    return _core.as_rows(function, (name,), (block,))[0]


# ---- arguments ----


def check_k(function: str, k: int, candidates: int, name: str) -> None:
    if k < 1:
        raise ValueError(_errors.TOO_SMALL.format(function=function, name=name, least=1, value=integer_text(k)))
    if k > candidates:
        raise ValueError(
            _errors.K_TOO_LARGE.format(function=function, name=name, candidates=candidates, k=integer_text(k))
        )


def may_be_rows(value: object) -> bool:
    """Returns whether a value that was given for a number may be rows: the caller may have swapped two arguments."""
    if type(value) is float:  # the fast path, which small searches notice
        return False
    return bool(getattr(value, "ndim", 0)) or isinstance(value, (list, tuple, os.PathLike))


def threshold_argument(function: str, threshold: object) -> float:
    if may_be_rows(threshold):
        raise TypeError(_errors.THRESHOLD_SECOND.format(function=function, kind=type(threshold).__name__))
    value = number_argument(function, "threshold", threshold)
    if not -1 <= value <= 1:
        raise ValueError(_errors.THRESHOLD.format(function=function, threshold=value))
    return value


def max_pairs_argument(function: str, max_pairs: object) -> int | None:
    if max_pairs is None:
        return None
    return min(size_argument(function, "max_pairs", max_pairs, 0, _errors.INTEGER_OR_NONE), sys.maxsize)


def memory_argument(function: str, memory: object) -> int | None:
    """Checks the argument memory=: a number of bytes, or None."""
    if memory is None:
        return None
    return size_argument(function, "memory", memory, 1, _errors.BYTES)


def score_dtype(*arrays: NDArray[Any]) -> np.dtype[Any]:
    """Returns the dtype of scores: float32 if all arrays hold floats below 64 bits, else float64."""
    for array in arrays:
        dtype = array.dtype
        if not (dtype.kind == "f" and dtype.itemsize < 8 or is_bfloat16(dtype)):
            return FLOAT64
    return FLOAT32


def too_many(function: str, count: int, threshold: float, max_pairs: int) -> ValueError:
    message = _errors.TOO_MANY_PAIRS.format(function=function, count=count, threshold=threshold, max_pairs=max_pairs)
    return ValueError(message)


def check_corpus(function: str, name: str, corpus: Any) -> None:
    """Raises ValueError for an array of rows that has no rows, or whose rows have no elements."""
    if 0 in corpus.shape:
        message = _errors.NO_ELEMENTS if len(corpus) else _errors.NO_ROWS
        raise ValueError(message.format(function=function, name=name, arrays=described(**{name: corpus})))


def check_elements(function: str, name: str, rows: Any) -> None:
    """Raises ValueError for rows without elements. There may be no rows."""
    if rows.shape[0]:
        check_corpus(function, name, rows)


def rows_to_search(function: str, binary: bool, **sides: Any) -> tuple[Rows, Rows | None]:
    """Returns the Rows (x, y) of two sources by name. The second may be None: then x is searched against itself.

    Raises the errors of rows_of, ValueError if the rows that are searched have no elements and, with binary, TypeError
    or ValueError if rows are not packed bits.
    """
    x, y = rows_of_bits(function, **sides) if binary else rows_of(function, **sides)
    searched = list(sides)[y is not None]
    check_elements(function, searched, (x if y is None else y).array)
    return x, y


def rows_of_bits(function: str, **sources: Any) -> tuple[Any, ...]:
    """Returns rows_of(function, **sources), and checks that they are packed bits.

    Numbers that were not packed have another length than packed ones. So the dtypes are checked before the lengths.
    """
    given = {name: source for name, source in sources.items() if source is not None}
    try:
        found = rows_of(function, **sources)
    except ValueError:
        alone = {name: rows_of(function, **{name: source})[0].array for name, source in given.items()}
        check_bits(function, **alone)
        raise
    check_bits(function, **{name: rows.array for name, rows in zip(sources, found, strict=True) if rows is not None})
    return found


def check_bits(function: str, **arrays: Any) -> None:
    """Raises TypeError or ValueError for an array, given by name, that does not hold rows of packed bits."""
    for name, array in arrays.items():
        _core.check_bits(function, name, array)


def empty_places(function: str, shape: tuple[int, ...], dtype: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns values and indices of a result without neighbours: NaN and -1."""
    try:
        values, indices = np.empty(shape, dtype), np.empty(shape, np.int64)
    except (MemoryError, ValueError):  # ValueError: more elements than an index can count
        raise MemoryError(_errors.RESULT_SIZE.format(function=function, shape=shape)) from None
    values.fill(np.nan)  # faster than np.full, which matters for one query
    indices.fill(-1)
    return values, indices


def with_places(
    function: str, values: NDArray[Any], indices: NDArray[np.int64], k: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns results (Q, n) of topk as (Q, k). The places that are added hold NaN and -1."""
    found = values.shape[1]
    if found == k:
        return values, indices
    all_values, all_indices = empty_places(function, (len(values), k), values.dtype)
    all_values[:, :found], all_indices[:, :found] = values, indices
    return all_values, all_indices


# ---- searches ----


class Request(NamedTuple):
    """A search of a block of queries in a block of the corpus. csrc/python/search.c reads the fields in this order."""

    function: str  # the name for messages
    corpus: NDArray[Any]
    queries: NDArray[Any]
    first_candidate: int  # the numbers of the first rows of both blocks
    first_query: int
    without_self: bool  # both are blocks of one array: no row is its own result
    eps: float
    report: Callable[[int, int], object] | None
    binary: bool = False  # both blocks hold packed bits
    codes: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None  # halves of codes of an Index, with their scales
    scales: NDArray[np.float32] | None = None
    # directions of heads, their error, the heads and their scales: cossim/search/rotation.py
    rotated: tuple[NDArray[np.float32], float, NDArray[np.uint8], NDArray[np.float32]] | None = None
    filter: Filter | None = None  # which pairs may be results


class Options(NamedTuple):
    """The checked options of a search."""

    function: str  # the name for messages
    eps: float
    memory: int | None = None  # bound of the working set, in bytes
    report: Callable[[int, int], object] | None = None
    binary: bool = False  # the rows are packed bits
    filter: Filter | None = None  # which pairs may be results; the rows of x are its queries
    codes: tuple[Any, Any, Any] = (None, None, None)  # (codes, scales, rotated) of an Index, whose rows are one block


class BlockwiseSearch:
    """A search of the rows of x in the rows of y, block by block, within a memory bound."""

    def __init__(self, x, y, options):
        self.function, self.eps, memory, self.report, self.binary, self.filter, self.codes = options
        self.within = y is None  # x is searched against itself
        self.x, self.y = x, x if y is None else y
        self.x_count, self.y_count = len(x), len(self.y)  # of rows
        self.in_memory = x.in_memory and self.y.in_memory
        self.candidates = None if self.filter is None or self.in_memory else self.filter.candidates(self.y_count)
        self.total = self.x_count * (self.x_count + 1) // 2 if self.within else self.x_count * self.y_count
        self.done = 0
        if memory is None and not self.in_memory:
            memory = DEFAULT_MEMORY
        # With y=None: half of the memory for the outer block, a quarter for the inner block, and a quarter for the
        # inner block that is read next.
        # With y: a quarter for each of the two blocks, and a quarter for the next block of each.
        self.x_rows, self.y_rows = self.x_count, self.y_count
        if memory is not None:
            self.x_rows = self._block_rows(x, memory // (2 if self.within else 4))
            self.y_rows = self._block_rows(self.y, memory // 4)

    def _block_rows(self, side, memory):
        return max(1, len(side)) if side.in_memory and not self.within else side.rows_per_block(memory)

    def _score_dtype(self):
        return score_dtype(self.x.array, self.y.array)

    def _report(self, done, total):
        """Reports progress in pairs of rows. The core counts in other units, so its share done / total is used.

        topk can count a pair once for each of its rows. top_pairs counts some pairs twice, so done can exceed total.
        """
        self.report(self.done + self.pairs * min(done, total) // max(total, 1), self.total)

    def _request(self, corpus, queries, j, i):
        report = None if self.report is None else self._report
        rows = len(queries)
        self.pairs = rows * (rows + 1) // 2 if corpus is queries and self.within else rows * len(corpus)
        name, within, eps, binary = self.function, self.within, self.eps, self.binary
        codes, scales, rotated = self.codes
        return Request(name, corpus, queries, j, i, within, eps, report, binary, codes, scales, rotated, self.filter)

    def _requests(self):
        """Yields a Request for each pair of blocks. They cover each pair of rows once.

        With y=None, x is searched against itself: each block with itself, then with every later block.
        """
        if self.in_memory and self.x_count <= self.x_rows:  # one block each
            if self.x_count and self.y_count:
                yield self._request(self.y.array, self.x.array, 0, 0)
                self.done += self.pairs
            return
        both = self.within and self.filter is not None and self.filter.both
        chosen = self._has_candidates if both and self.filter.pairs is None else None
        for i, queries in self.x.blocks(self.x_rows, ahead=not self.within, wanted=chosen):
            of_queries = self.within and not both and self._has_candidates(i, i + len(queries))
            if self.within and self._has_candidates(i, i + len(queries)):
                yield self._request(queries, queries, i, i)
                self.done += self.pairs
            # With y=None, rows of both blocks are queries, so candidates in either block make the pair worth a search.
            wanted = None if of_queries else self._has_candidates
            for j, corpus in self.y.blocks(self.y_rows, i + len(queries) if self.within else 0, wanted=wanted):
                yield self._request(corpus, queries, j, i)
                self.done += self.pairs
        if self.done < self.total and self.report is not None:  # some blocks were left out
            self.report(self.total, self.total)

    def _has_candidates(self, first, last):
        return self.candidates is None or bool(self.candidates[first:last].any())

    def _use_heads(self, threshold):
        """Makes heads of the candidates if they rule out most pairs.

        The candidates are the rows of x in a search of all their pairs, or those of an Index that has no heads.
        """
        codes, scales, rotated = self.codes
        one_block = self.within and self.x.in_memory and self.x_rows >= self.x_count
        few_pairs = scales is not None and self.total < rotation.SEARCH_PAIRS
        if not (one_block or scales is not None) or few_pairs or self.binary or rotated is not None:
            return
        if threshold < rotation.LEAST_THRESHOLD:
            return
        rows = self.y.array
        heads = rotation.empty_heads(len(rows), rotation.directions_for(rows, rotation.SEARCH_ROWS))
        if heads is not None:
            _core.quantize_heads(Request(self.function, rows, rows, 0, 0, False, self.eps, None), heads)
            self.codes = codes, scales, heads

    def topk(self, k):
        rows = self.y_count
        candidates = rows - 1 if self.within and rows else rows
        if self.filter is not None:
            candidates = min(candidates, self.filter.most)
        found = min(k, candidates)
        values, indices = empty_places(self.function, (self.x_count, found), self._score_dtype())
        for request in self._requests() if found else ():
            _core.topk(request, values, indices)
        values, indices = with_places(self.function, values, indices, k)
        return TopK(values[0], indices[0]) if self.x.is_vector else TopK(values, indices)

    def pairs_above(self, threshold, max_pairs):
        self._use_heads(threshold)
        limit = sys.maxsize if max_pairs is None else max_pairs
        options = {"threshold": threshold, "max_pairs": limit, "double": self._score_dtype() is FLOAT64}
        found = _core.pairs_begin(self.x_count, self.y_count, **options)
        for request in self._requests():
            request, swapped = self._longer_as_corpus(request)
            # Within one block, candidates have lower numbers than their queries, so their pairs are swapped.
            itself = self.within and request.corpus is request.queries
            _core.pairs(request, found, swapped=swapped or itself)
        *pairs, count = _core.pairs_end(found)
        if count > limit:
            raise too_many(self.function, count, threshold, max_pairs)
        return Pairs(*pairs)

    def _longer_as_corpus(self, request):
        """Makes the longer side the corpus, which the C core searches. Returns (request, whether sides are swapped)."""
        corpus, queries = request.corpus, request.queries
        if self.within or request.scales is not None or len(queries) <= len(corpus):
            return request, False
        first = {"first_candidate": request.first_query, "first_query": request.first_candidate}
        return request._replace(corpus=queries, queries=corpus, **first), True

    def top_pairs(self, m):
        pairs = self.x_count * (self.x_count - 1) // 2 if self.within else self.x_count * self.y_count
        m = min(m, pairs)
        least = self._likely_least(m, pairs)
        self._use_heads(least)
        found = self._top_pairs(m, least)
        if len(found.values) < m and least > -1:  # the sample was not like the whole
            self.report = None  # all pairs have been reported
            found = self._top_pairs(m, -1.0)
        return found

    def _top_pairs(self, m, least):
        """Returns the m best pairs, without pairs below `least`."""
        values, i = empty_places(self.function, (m,), self._score_dtype())
        j = i.copy()
        for request in self._requests() if m else ():
            request, swapped = self._longer_as_corpus(request)
            _core.top_pairs(request, values, i, j, least=least, swapped=swapped)
        found = i >= 0
        return Pairs(i[found], j[found], values[found]).sorted()

    def _likely_least(self, m, pairs):
        """Returns a score that at least m of the pairs probably reach, found in a sample of the rows, or -1."""
        if pairs < MIN_SAMPLED_PAIRS or not self.in_memory:
            return -1.0
        x, y = self.x.array[::SAMPLED], self.y.array[::SAMPLED]
        expected = m / SAMPLED**2
        rank = int(expected + SAMPLE_DEVIATIONS * math.sqrt(expected)) + SAMPLE_DEVIATIONS
        if rank > (len(x) * (len(x) - 1) // 2 if self.within else len(x) * len(y)):
            return -1.0
        sample = BlockwiseSearch(
            Rows(x, None), None if self.within else Rows(y, None), Options(self.function, self.eps)
        )
        found = sample._top_pairs(rank, -1.0)
        return float(found.values[-1]) if len(found.values) == rank else -1.0

    def duplicate_groups(self, threshold):
        labels = np.arange(self.x_count, dtype=np.int64)
        self._use_heads(threshold)
        for request in self._requests():
            _core.components(request, labels, threshold=threshold)
        return labels
