"""Searches on blocks of rows, and their arguments.

An array in memory is one block. An array in a file is read block by block, within a memory bound.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _core, _errors
from cossim._arguments import integer_text, number_argument, size_argument
from cossim._errors import described
from cossim._io import map_npy, open_regular
from cossim.search.results import Pairs, TopK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cossim._typing import Path

# Default bound of the working set for arrays in files, in bytes.
DEFAULT_MEMORY = 256 << 20
MIN_ROWS = 256  # minimum rows per block, even if they exceed the bound


# ---- rows ----


def is_lazy(x: Any) -> bool:
    """Returns whether x is a Dask collection."""
    return hasattr(type(x), "__dask_graph__") and x.__dask_graph__() is not None


class Rows:
    """The rows of an operand: its array, and the memory map behind it if it is a numpy.memmap.

    One vector is a single row; is_vector tells it from a matrix with one row.
    """

    def __init__(self, array: NDArray[Any], source: object) -> None:
        self.is_vector = array.ndim == 1
        self.array = array[None] if self.is_vector else array
        self.map, self.map_address = _mapping(source) if isinstance(source, np.memmap) else (None, 0)

    def __len__(self) -> int:
        return len(self.array)

    def rows_per_block(self, memory: int) -> int:
        """Returns how many rows fit into `memory` bytes, and at least MIN_ROWS."""
        return max(MIN_ROWS, memory // max(1, self.array.shape[1] * self.array.itemsize))

    def blocks(self, rows: int, start: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yields (number of the first row, block of at most `rows` rows), in order.

        For an array in a file, the system reads the next block ahead, and the pages of a finished block are released.
        """
        for first in range(start, len(self.array), rows):
            self._advise("MADV_WILLNEED", first + rows, rows)
            try:
                yield first, self.array[first : first + rows]
            finally:
                self._advise("MADV_DONTNEED", first, rows)

    def _advise(self, advice: str, first: int, rows: int) -> None:
        block = self.array[first : first + rows]
        if self.map is None or not len(block) or not hasattr(mmap, advice):
            return
        start = block.__array_interface__["data"][0] - self.map_address
        end = start + (len(block) - 1) * block.strides[0] + block.shape[1] * block.itemsize
        start -= start % mmap.PAGESIZE
        self.map.madvise(getattr(mmap, advice), start, end - start)


def rows_of(function: str, **sources: object) -> tuple[Any, ...]:
    """Returns the Rows of each source: an array in memory, a numpy.memmap, or the path of a .npy file.

    Every source except the first may be None, and then its result is None. Raises TypeError or ValueError, with the
    names of function and argument, if a source is none of these, or neither rows (N, D) nor one vector (D,).
    """
    given: dict[str, Any] = {}
    for name, source in sources.items():
        if is_lazy(source):
            raise TypeError(_errors.LAZY.format(function=function, name=name))
        if isinstance(source, (str, os.PathLike)):
            source = open_rows(function, name, source)
        if source is not None or not given:
            given[name] = source
    arrays = dict(zip(given, _core.as_rows(function, tuple(given), tuple(given.values())), strict=True))
    return tuple(Rows(arrays[name], given[name]) if name in given else None for name in sources)


def open_rows(function: str, name: str, path: Path) -> np.memmap[Any, Any]:
    """Returns the memmap of a .npy file."""
    with open_regular(path) as file:
        try:
            return map_npy(file)
        except ValueError as error:
            message = _errors.PATH_OF_NO_ARRAY.format(function=function, name=name, path=file.name, error=error)
            raise ValueError(message) from None


def _mapping(array: Any) -> tuple[mmap.mmap | None, int]:
    """Returns (memory map behind a memmap, address of the map), or (None, 0) if its pages must not be released.

    That is the case if the rows do not follow one another in the file, or if the mode is copy-on-write: releasing a
    page would lose its changes.
    """
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    in_order = array.ndim == 2 and array.strides[0] >= array.strides[1] * array.shape[1] > 0
    if not isinstance(base, mmap.mmap) or array.mode not in ("r", "r+", "w+") or not in_order:
        return None, 0
    return base, np.frombuffer(base, np.uint8).__array_interface__["data"][0]


# ---- arguments ----


def check_k(function: str, k: int, candidates: int) -> None:
    if not candidates:
        raise ValueError(_errors.ONE_ROW.format(function=function))
    if k < 1:
        raise ValueError(_errors.TOO_SMALL.format(function=function, name="k", least=1, value=integer_text(k)))
    if k > candidates:
        raise ValueError(_errors.K_TOO_LARGE.format(function=function, candidates=candidates, k=integer_text(k)))


def threshold_argument(function: str, threshold: object) -> float:
    value = number_argument(function, "threshold", threshold)
    if not -1 <= value <= 1:
        raise ValueError(_errors.THRESHOLD.format(function=function, threshold=value))
    return value


def max_pairs_argument(function: str, max_pairs: object) -> int | None:
    if max_pairs is None:
        return None
    return min(size_argument(function, "max_pairs", max_pairs, 0, _errors.INTEGER_OR_NONE), np.iinfo(np.intp).max)


def memory_argument(function: str, memory: object) -> int | None:
    """Checks the argument memory=: a number of bytes, or None."""
    if memory is None:
        return None
    return size_argument(function, "memory", memory, 1, _errors.BYTES)


def score_dtype(*arrays: NDArray[Any]) -> np.dtype[Any]:
    """Returns the dtype of scores: float32 if all arrays hold floats below 64 bits, else float64."""
    narrow = all(a.dtype.kind == "f" and a.dtype.itemsize < 8 or a.dtype.name == "bfloat16" for a in arrays)
    return np.dtype(np.float32 if narrow else np.float64)


def too_many(function: str, count: int, threshold: float, max_pairs: int) -> ValueError:
    message = _errors.TOO_MANY_PAIRS.format(function=function, count=count, threshold=threshold, max_pairs=max_pairs)
    return ValueError(message)


def check_corpus(function: str, name: str, corpus: Any) -> None:
    """Raises ValueError for an array of rows that has no rows, or whose rows have no elements."""
    if 0 in corpus.shape:
        message = _errors.NO_ELEMENTS if len(corpus) else _errors.NO_ROWS
        raise ValueError(message.format(function=function, name=name, arrays=described(**{name: corpus})))


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
    codes: NDArray[np.uint8] | None = None  # those of an Index, with their scales
    scales: NDArray[np.float32] | None = None


class BlockwiseSearch:
    """A search of the rows of x in the rows of y, block by block, within a memory bound.

    All arguments are checked already. codes: (codes, scales) of an Index for all rows of y, which must be one block.
    """

    def __init__(self, function, x, y, eps, memory, report, codes=(None, None)):
        self.function, self.eps, self.report, self.codes = function, eps, report, codes
        self.within = y is None  # x is searched against itself
        self.x, self.y = x, x if y is None else y
        self.total = len(x) * (len(x) + 1) // 2 if self.within else len(x) * len(y)
        self.done = 0
        if memory is None and (x.map is not None or self.y.map is not None):
            memory = DEFAULT_MEMORY
        # With y=None: half of the memory for the outer block, a quarter for the inner block, and a quarter for the
        # inner block that is read next.
        # With y: a quarter for each of the two blocks, and a quarter for the next block of each.
        self.x_rows = self._block_rows(x, memory, 2 if self.within else 4)
        self.y_rows = self._block_rows(self.y, memory, 4)

    def _block_rows(self, side, memory, share):
        if memory is None or (side.map is None and not self.within):
            return max(1, len(side))
        return side.rows_per_block(memory // share)

    def _score_dtype(self):
        return score_dtype(self.x.array, self.y.array)

    def _report(self, done, total):
        """Reports the share of the request's pairs that is done: topk can count a pair once for each of its rows."""
        self.report(self.done + self.pairs * done // max(total, 1), self.total)

    def _request(self, corpus, queries, j, i):
        report = None if self.report is None else self._report
        rows = len(queries)
        self.pairs = rows * (rows + 1) // 2 if corpus is queries and self.within else rows * len(corpus)
        return Request(self.function, corpus, queries, j, i, self.within, self.eps, report, *self.codes)

    def _requests(self):
        """Yields a Request for each pair of blocks. They cover each pair of rows once.

        With y=None, x is searched against itself: each block with itself, then with every later block.
        """
        for i, queries in self.x.blocks(self.x_rows):
            if self.within:
                yield self._request(queries, queries, i, i)
                self.done += self.pairs
            for j, corpus in self.y.blocks(self.y_rows, i + len(queries) if self.within else 0):
                yield self._request(corpus, queries, j, i)
                self.done += self.pairs

    def topk(self, k):
        values = np.full((len(self.x), k), np.nan, self._score_dtype())
        indices = np.full((len(self.x), k), -1, np.int64)
        for request in self._requests():
            _core.topk(request, values, indices)
        return TopK(values[0], indices[0]) if self.x.is_vector else TopK(values, indices)

    def pairs_above(self, threshold, max_pairs):
        found, count = [], 0
        limit = np.iinfo(np.intp).max if max_pairs is None else max_pairs
        for request in self._requests():
            corpus, queries = request.corpus, request.queries
            swapped = corpus is queries and self.within
            if not self.within and request.scales is None and len(queries) > len(corpus):
                # The longer side becomes the corpus, which is the side that the C core searches.
                first = {"first_candidate": request.first_query, "first_query": request.first_candidate}
                request, swapped = request._replace(corpus=queries, queries=corpus, **first), True
            left = max(0, limit - count)
            *pairs, more = _core.pairs(request, threshold=threshold, max_pairs=left, swapped=swapped)
            count += more
            if count <= limit:
                found.append(pairs)
            else:
                found.clear()
        if count > limit:
            raise too_many(self.function, count, threshold, max_pairs)
        if len(found) == 1:
            return Pairs(*found[0])
        empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, self._score_dtype())
        i, j, values = (np.concatenate(arrays) for arrays in zip(empty, *found, strict=True))
        order = np.lexsort((j, i))
        return Pairs(i[order], j[order], values[order])

    def _longer_as_corpus(self, request):
        """Returns (request, whether its sides are swapped): the C core searches the longer side, the corpus."""
        corpus, queries = request.corpus, request.queries
        if self.within or request.scales is not None or len(queries) <= len(corpus):
            return request, False
        first = {"first_candidate": request.first_query, "first_query": request.first_candidate}
        return request._replace(corpus=queries, queries=corpus, **first), True

    def top_pairs(self, m):
        pairs = len(self.x) * (len(self.x) - 1) // 2 if self.within else len(self.x) * len(self.y)
        m = min(m, pairs)
        values = np.full(m, np.nan, self._score_dtype())
        i, j = np.full(m, -1, np.int64), np.full(m, -1, np.int64)
        for request in self._requests() if m else ():
            request, swapped = self._longer_as_corpus(request)
            _core.top_pairs(request, values, i, j, swapped=swapped)
        found = i >= 0
        return Pairs(i[found], j[found], values[found]).sorted()

    def duplicate_groups(self, threshold):
        labels = np.arange(len(self.x), dtype=np.int64)
        for request in self._requests():
            _core.components(request, labels, threshold=threshold)
        return labels
