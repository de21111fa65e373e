"""topk, pairs_above and duplicate_groups: run the search of the C core on blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex, overload

import numpy as np

from cossim import _core
from cossim._arguments import eps_argument, integer_argument, integer_text, number_argument, size_argument
from cossim._progress import reporting
from cossim.search.blocks import DEFAULT_MEMORY, is_lazy, memory_argument, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Lazy, Number, Progress, Rows


class TopK(NamedTuple):
    """The result of topk: two arrays of shape (Q, k).

    Examples
    --------
    >>> import numpy as np, cossim
    >>> values, indices = cossim.topk(np.eye(2), np.eye(2), 1)
    >>> indices
    array([[0],
           [1]])
    """

    values: NDArray[np.floating[Any]]
    indices: NDArray[np.int64]


class Pairs(NamedTuple):
    """The result of pairs_above: three arrays of the same length.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> i, j, values = cossim.pairs_above(np.ones((2, 3)), 0.9)
    >>> i, j
    (array([0]), array([1]))
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    values: NDArray[np.floating[Any]]


# ---- arguments ----


def check_k(function: str, k: int, candidates: int) -> None:
    if not candidates:
        raise ValueError(f"{function}(): there are no candidates: a single row has no others")
    if not 1 <= k <= candidates:
        raise ValueError(
            f"{function}(): k must be from 1 to {candidates}, the number of candidates, not {integer_text(k)}"
        )


def threshold_argument(function: str, threshold: object) -> float:
    value = number_argument(function, "threshold", threshold)
    if not -1 <= value <= 1:
        raise ValueError(f"{function}(): threshold must be in [-1, 1], as cosines are, not {value}")
    return value


def max_pairs_argument(function: str, max_pairs: object) -> int | None:
    if max_pairs is None:
        return None
    return min(size_argument(function, "max_pairs", max_pairs, 0, "an integer or None"), np.iinfo(np.intp).max)


def score_dtype(*arrays: NDArray[Any]) -> np.dtype[Any]:
    """Returns the dtype of scores: float32 if all arrays hold floats below 64 bits, else float64."""
    narrow = all(a.dtype.kind == "f" and a.dtype.itemsize < 8 or a.dtype.name == "bfloat16" for a in arrays)
    return np.dtype(np.float32 if narrow else np.float64)


def too_many(function: str, count: int, threshold: float, max_pairs: int) -> ValueError:
    return ValueError(f"{function}(): {count} pairs reach {threshold}, more than max_pairs={max_pairs}")


def check_sides(function, x, x_name, y, y_name):
    """Raises ValueError for a corpus y without rows, for rows without elements and for rows of different lengths."""
    if not len(y):
        raise ValueError(f"{function}(): {y_name} has no rows (shape {y.array.shape})")
    if not y.array.shape[1]:
        raise ValueError(f"{function}(): rows of {y_name} have no elements (shape {y.array.shape})")
    if x.array.shape[1] != y.array.shape[1]:
        raise ValueError(
            f"{function}(): rows of {x_name} have {x.array.shape[1]} elements, rows of {y_name} {y.array.shape[1]} "
            f"({x_name}: shape {x.array.shape}, dtype {x.array.dtype}; "
            f"{y_name}: shape {y.array.shape}, dtype {y.array.dtype})"
        )


# ---- blocks ----


class BlockwiseSearch:
    """Runs a search on pairs of blocks that cover each pair of rows once, within a memory bound.

    run(search) calls `search(corpus, queries, first row of corpus, first row of queries, report)` for each pair of
    blocks. With y=None, x is searched against itself: each block with itself, then with every later block.
    """

    def __init__(self, x, y, memory, report):
        self.x, self.y = x, y
        self.report = report
        n = len(x)
        self.total = n * (n + 1) // 2 if y is None else n * len(y)
        self.done = 0
        sides = [side for side in (x, y) if side is not None]
        if memory is None and any(side.map is not None for side in sides):
            memory = DEFAULT_MEMORY
        # With y=None: half of the memory for the outer block, a quarter for the inner block, and a quarter for the
        # inner block that is read next.
        # With y: a quarter for each of the two blocks, and a quarter for the next block of each.
        self.x_rows, self.y_rows = (
            max(1, len(side))
            if memory is None or (side.map is None and y is not None)
            else side.rows_per_block(memory // share)
            for side, share in ((x, 2 if y is None else 4), (x if y is None else y, 4))
        )

    def _report(self, done, total):
        self.report(self.done + done, self.total)

    def run(self, search):
        report = None if self.report is None else self._report
        for i, queries in self.x.blocks(self.x_rows):
            if self.y is None:
                search(queries, queries, i, i, report)
                self.done += len(queries) * (len(queries) + 1) // 2
            other, start = (self.x, i + len(queries)) if self.y is None else (self.y, 0)
            for j, corpus in other.blocks(self.y_rows, start):
                search(corpus, queries, j, i, report)
                self.done += len(queries) * len(corpus)


# ---- the functions ----


@overload
def topk(
    queries: Lazy,
    corpus: Rows | Lazy | None,
    k: SupportsIndex,
    *,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def topk(
    queries: Rows,
    corpus: Lazy,
    k: SupportsIndex,
    *,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def topk(
    queries: Rows,
    corpus: Rows | None,
    k: SupportsIndex,
    *,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> TopK: ...
def topk(
    queries: Rows | Lazy,
    corpus: Rows | Lazy | None,
    k: SupportsIndex,
    *,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> TopK:
    """Finds the k rows of corpus with the highest cosine similarity to each row of queries. The result is exact.

    The result equals the first k entries of a stable descending sort of each row of ``pairwise(queries, corpus)``, with
    NaN after all numbers: the same scores bit for bit, and equal scores in order of index. The Q x N scores are never
    held in memory at once.

    Parameters
    ----------
    queries : array_like of shape (Q, D), or path
        Rows are vectors. float64, float32, float16 or bfloat16; integers and bool count as float64. A numpy.memmap or
        the path of a .npy file is read block by block, the next block ahead. For a Dask array the results are Dask
        arrays.
    corpus : array_like of shape (N, D), path or None
        As queries. None compares the queries with themselves and excludes each row from its own results.
    k : int
        From 1 to the number of candidates: N, or Q - 1 with corpus=None.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    memory : int, optional
        Bound of the working set in bytes, without the result. Some MB per thread are always needed. The default is
        256 MiB for arrays in files; arrays in memory are processed as one block.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C
        stops the call.

    Returns
    -------
    TopK
        values: shape (Q, k), float32 for floats below 64 bits (16-bit floats are ranked by the float32 scores of their
        values), else float64. indices: shape (Q, k), int64. Both are independent of threads, memory and the other rows.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        k is out of range, the corpus is empty, the rows have different lengths, or the file at a path is not an array.

    Notes
    -----
    Where it pays, a cheap prefilter bounds the score of each pair. For a few queries it reads the floats of the rows;
    for more queries it reads 8-bit (SQ8) codes, which are made during the call. Only pairs that may be among the best
    are scored exactly. For the codes x', q' of x, q the bound is |x.q - x'.q'| <= |x - x'| |q| + |x'| |q - q'|
    (Cauchy-Schwarz).

    Examples
    --------
    >>> import numpy as np, cossim
    >>> corpus = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    >>> found = cossim.topk(np.array([[1.0, 1.0]]), corpus, 2)
    >>> found.indices
    array([[1, 0]])
    >>> found.values.round(4)
    array([[0.9899, 0.7071]])
    >>> cossim.topk(corpus, None, 1).indices
    array([[1],
           [2],
           [1]])
    """
    if is_lazy(queries) or is_lazy(corpus):
        from cossim.search import dask_arrays

        return dask_arrays.topk(queries, corpus, k, eps=eps, memory=memory, progress=progress)
    name = "topk"
    k, eps, memory = integer_argument(name, "k", k), eps_argument(name, eps), memory_argument(name, memory)
    x, y = rows_of(name, queries=queries, corpus=corpus)
    check_sides(name, x, "queries", x if y is None else y, "queries" if y is None else "corpus")
    check_k(name, k, len(x) - 1 if y is None else len(y))
    with reporting(progress, name) as report:
        return topk_rows(name, x, y, k, eps, memory, report)


def topk_rows(name, x, y, k, eps, memory, report, codes=(None, None)):
    """Runs topk on checked arguments. codes: (codes, scales) of an Index for all rows of y, which must be one block."""
    values = np.full((len(x), k), np.nan, score_dtype(x.array, (x if y is None else y).array))
    indices = np.full((len(x), k), -1, np.int64)
    same = y is None  # queries and corpus are the same array: exclude each row from its own results

    def search(corpus, queries, j, i, report):
        _core.topk(name, corpus, queries, j, i, same, same, eps, codes[0], codes[1], report, values, indices)

    BlockwiseSearch(x, y, memory, report).run(search)
    _core.topk_sort(values, indices)
    return TopK(values, indices)


@overload
def pairs_above(
    x: Lazy,
    threshold: Number,
    y: Rows | Lazy | None = None,
    *,
    eps: Number = _core.DEFAULT_EPS,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def pairs_above(
    x: Rows,
    threshold: Number,
    y: Lazy,
    *,
    eps: Number = _core.DEFAULT_EPS,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def pairs_above(
    x: Rows,
    threshold: Number,
    y: Rows | None = None,
    *,
    eps: Number = _core.DEFAULT_EPS,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> Pairs: ...
def pairs_above(
    x: Rows | Lazy,
    threshold: Number,
    y: Rows | Lazy | None = None,
    *,
    eps: Number = _core.DEFAULT_EPS,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Finds every pair of a row of x and a row of y whose cosine similarity is at least threshold.

    These are the pairs with ``pairwise(x, y) >= threshold``, with the same scores bit for bit. The N x M matrix is
    never held in memory.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors. float64, float32, float16 or bfloat16; integers and bool count as float64. A numpy.memmap or
        the path of a .npy file is read block by block, the next block ahead. For a Dask array the results are Dask
        arrays.
    threshold : float
        In [-1, 1]. It is rounded to the dtype of the scores, as NumPy does in that comparison.
    y : array_like of shape (M, D), path or None
        As x. None compares x with itself and gives each pair of different rows once, with i < j.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    max_pairs : int, optional
        If there are more pairs, none are returned; the ValueError says how many there are.
    memory : int, optional
        Bound of the working set in bytes, without the result. Some MB per thread are always needed. The default is
        256 MiB for arrays in files; arrays in memory are processed as one block.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C
        stops the call.

    Returns
    -------
    Pairs
        i, j: int64. values: float32 for floats below 64 bits (16-bit floats score as their float32 values), else
        float64. Sorted by i, then j. A NaN score is never at least threshold.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        threshold is outside [-1, 1], y (or x with y=None) has no rows, the rows have different lengths, the file at a
        path is not an array, or there are more than max_pairs pairs.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 2.0]])
    >>> found = cossim.pairs_above(x, 0.8)
    >>> found.i, found.j
    (array([1, 1, 2]), array([2, 3, 3]))
    >>> found.values
    array([1. , 0.8, 0.8])
    """
    if is_lazy(x) or is_lazy(y):
        from cossim.search import dask_arrays

        return dask_arrays.pairs_above(x, threshold, y, eps=eps, max_pairs=max_pairs, memory=memory, progress=progress)
    name = "pairs_above"
    threshold, eps = threshold_argument(name, threshold), eps_argument(name, eps)
    max_pairs, memory = max_pairs_argument(name, max_pairs), memory_argument(name, memory)
    left, right = rows_of(name, x=x, y=y)
    check_sides(name, left, "x", left if right is None else right, "x" if right is None else "y")
    with reporting(progress, name) as report:
        return pairs_rows(name, left, right, threshold, eps, max_pairs, memory, report)


def pairs_rows(name, x, y, threshold, eps, max_pairs, memory, report, codes=(None, None)):
    found, count = [], 0
    limit = np.iinfo(np.intp).max if max_pairs is None else max_pairs

    def search(corpus, queries, j, i, report):
        nonlocal count
        left = max(0, limit - count)
        swapped = corpus is queries and y is None
        if not swapped and y is not None and codes[0] is None and len(queries) > len(corpus):
            # The longer side becomes the corpus, which is the side that the C core searches.
            corpus, queries, j, i, swapped = queries, corpus, i, j, True
        *pairs, more = _core.pairs(
            name, corpus, queries, j, i, y is None, False, eps, codes[0], codes[1], report, threshold, left, swapped
        )
        count += more
        if count <= limit:
            found.append(pairs)
        else:
            found.clear()

    BlockwiseSearch(x, y, memory, report).run(search)
    if count > limit:
        raise too_many(name, count, threshold, max_pairs)
    if len(found) == 1:
        return Pairs(*found[0])
    i, j, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True)) if found else _no_pairs(x, y)
    order = np.lexsort((j, i))
    return Pairs(i[order], j[order], values[order])


def _no_pairs(x, y):
    empty = np.empty(0, np.int64)
    return empty, empty.copy(), np.empty(0, score_dtype(x.array, (x if y is None else y).array))


def duplicate_groups(
    x: Rows,
    threshold: Number,
    *,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Finds groups of near-duplicates: rows connected by a chain of pairs with a similarity of at least threshold.

    The groups are the connected components of ``pairs_above(x, threshold)``. The pairs are not kept in memory.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors, as for pairs_above.
    threshold : float
        In [-1, 1]. It is rounded to the dtype of the scores.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    memory : int, optional
        Bound of the working set in bytes, as for pairs_above.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of scores done and their total.

    Returns
    -------
    numpy.ndarray of shape (N,), int64
        For each row, the lowest row number of its group: its own number if it has no duplicates.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        threshold is outside [-1, 1], x has no rows, or the file at the path is not an array.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 5.0], [2.0, 0.1]])
    >>> cossim.duplicate_groups(x, 0.99)
    array([0, 1, 1, 0])
    """
    name = "duplicate_groups"
    threshold, eps = threshold_argument(name, threshold), eps_argument(name, eps)
    memory = memory_argument(name, memory)
    (rows,) = rows_of(name, x=x)
    check_sides(name, rows, "x", rows, "x")
    labels = np.arange(len(rows), dtype=np.int64)

    def search(corpus, queries, j, i, report):
        _core.components(name, corpus, queries, j, i, True, False, eps, None, None, report, threshold, labels)

    with reporting(progress, name) as report:
        BlockwiseSearch(rows, None, memory, report).run(search)
    return labels
