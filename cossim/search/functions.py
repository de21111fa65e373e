"""topk, pairs_above and duplicate_groups: blocks of rows through the search of the C core."""

from typing import NamedTuple

import numpy as np

from cossim import _core
from cossim._arguments import eps_argument, integer_argument, integer_text, number_argument, size_argument
from cossim._progress import reporting
from cossim.search.blocks import DEFAULT_MEMORY, is_lazy, memory_argument, rows_of


class TopK(NamedTuple):
    """What topk finds: two arrays of shape (Q, k).

    Examples
    --------
    >>> import numpy as np, cossim
    >>> values, indices = cossim.topk(np.eye(2), np.eye(2), 1)
    >>> indices
    array([[0],
           [1]])
    """

    values: np.ndarray
    indices: np.ndarray


class Pairs(NamedTuple):
    """What pairs_above finds: three arrays of one length.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> i, j, values = cossim.pairs_above(np.ones((2, 3)), 0.9)
    >>> i, j
    (array([0]), array([1]))
    """

    i: np.ndarray
    j: np.ndarray
    values: np.ndarray


# ---- arguments ----


def check_k(function, k, candidates):
    if not candidates:
        raise ValueError(f"{function}(): there are no candidates: a single row has no others")
    if not 1 <= k <= candidates:
        raise ValueError(
            f"{function}(): k must be from 1 to {candidates}, the number of candidates, not {integer_text(k)}"
        )


def threshold_argument(function, threshold):
    value = number_argument(function, "threshold", threshold)
    if not -1 <= value <= 1:
        raise ValueError(f"{function}(): threshold must be in [-1, 1], as cosines are, not {value}")
    return value


def max_pairs_argument(function, max_pairs):
    if max_pairs is None:
        return None
    return min(size_argument(function, "max_pairs", max_pairs, 0, "an integer or None"), np.iinfo(np.intp).max)


def score_dtype(*arrays):
    """float32 for scores of narrow floats, float64 for all others."""
    narrow = all(a.dtype.kind == "f" and a.dtype.itemsize < 8 or a.dtype.name == "bfloat16" for a in arrays)
    return np.dtype(np.float32 if narrow else np.float64)


def too_many(function, count, threshold, max_pairs):
    return ValueError(f"{function}(): {count} pairs reach {threshold}, more than max_pairs={max_pairs}")


def check_sides(function, x, x_name, y, y_name):
    """A corpus y without rows, rows without elements, rows of different lengths."""
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


class Walk:
    """Pairs of blocks, each pair of rows once, within some memory.

    For each of them `search(corpus, queries, first row of corpus, first row of queries, report)` is called.

    Of one side (y is None) a block with itself, then with those behind it.
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
        # Half for the block that stays, a quarter for the one that goes by and as much for the one that comes next.
        self.x_rows, self.y_rows = (
            max(1, len(side))
            if memory is None or (side.map is None and y is not None)
            else side.rows_per_block(memory // share)
            for side, share in ((x, 2 if y is None else 4), (x if y is None else y, 4))
        )

    def _report(self, done, total):
        self.report(self.done + done, self.total)

    def __call__(self, search):
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


def topk(queries, corpus, k, *, eps=1e-8, memory=None, progress=None):
    """The k rows of corpus that are most similar to each row of queries, by cosine similarity. Exact.

    Equal to the first k of each row of ``pairwise(queries, corpus)`` in a stable descending sort, NaN behind all
    numbers: the same scores bit for bit, equal ones by rising index. The Q x N scores are never held at once.

    Parameters
    ----------
    queries : array_like of shape (Q, D), or path
        Rows are vectors. float64, float32, float16 or bfloat16; integers and bool count as float64. A numpy.memmap,
        or the path of a .npy file, is read block by block, the next one ahead. A Dask array gives Dask arrays.
    corpus : array_like of shape (N, D), path or None
        Likewise. None: queries against themselves, each row's own index left out.
    k : int
        From 1 to the number of candidates: N, or Q - 1 for queries against themselves.
    eps : float
        The smallest norm to divide by, so that zero rows score 0.
    memory : int, optional
        Bytes that bound the working set, beside the result (some MB a thread are always needed). Default: 256 MiB
        for what lies in files; arrays in memory are gone through as a whole.
    progress : bool or callable, optional
        True: a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C stops the
        call.

    Returns
    -------
    TopK
        values, shape (Q, k): float32 for narrow floats (16-bit ones are ranked by the float32 scores of their values),
        else float64; indices, shape (Q, k), int64. They do not depend on threads, memory or the other rows.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        k out of range, an empty corpus, lengths that differ, a path of something else than an array.

    Notes
    -----
    A pair gets a cheap first look where that pays: by floats as they lie for a few queries, by 8-bit codes made on the
    way for more; what might be among the best is then scored in full. The bound behind it: |x.q - x'.q'| <=
    |x - x'| |q| + |x'| |q - q'| for codes x', q' of x, q (Cauchy-Schwarz).

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
    """codes: an Index's, of the whole of y, which then comes in one block."""
    values = np.full((len(x), k), np.nan, score_dtype(x.array, (x if y is None else y).array))
    indices = np.full((len(x), k), -1, np.int64)
    alone = y is None

    def search(corpus, queries, j, i, report):
        _core.topk(name, corpus, queries, j, i, alone, alone, eps, codes[0], codes[1], report, values, indices)

    Walk(x, y, memory, report)(search)
    _core.topk_sort(values, indices)
    return TopK(values, indices)


def pairs_above(x, threshold, y=None, *, eps=1e-8, max_pairs=None, memory=None, progress=None):
    """Every pair of a row of x and a row of y whose cosine similarity is at least threshold.

    The pairs for which ``pairwise(x, y) >= threshold``, with the same scores bit for bit, without the N x M matrix.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors. float64, float32, float16 or bfloat16; integers and bool count as float64. A numpy.memmap,
        or the path of a .npy file, is read block by block, the next one ahead. A Dask array gives Dask arrays.
    threshold : float
        In [-1, 1]; rounded to the dtype of the scores, as NumPy does in that comparison.
    y : array_like of shape (M, D), path or None
        Likewise. None: x with itself, each pair of two different rows once, i < j.
    eps : float
        The smallest norm to divide by, so that zero rows score 0.
    max_pairs : int, optional
        If there are more pairs, none are returned: ValueError says how many there are.
    memory : int, optional
        Bytes that bound the working set, beside the result (some MB a thread are always needed). Default: 256 MiB
        for what lies in files; arrays in memory are gone through as a whole.
    progress : bool or callable, optional
        True: a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C stops the
        call.

    Returns
    -------
    Pairs
        i, j: int64; values: float32 for narrow floats (16-bit ones score as their float32 values), else float64.
        Sorted by i, then j. NaN reaches no threshold.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        threshold outside [-1, 1], no rows to look in, lengths that differ, a path of something else than an array, more
        than max_pairs pairs.

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
    most = np.iinfo(np.intp).max if max_pairs is None else max_pairs

    def search(corpus, queries, j, i, report):
        nonlocal count
        left = max(0, most - count)
        turned = corpus is queries and y is None
        if not turned and y is not None and codes[0] is None and len(queries) > len(corpus):
            corpus, queries, j, i, turned = (
                queries,
                corpus,
                i,
                j,
                True,
            )  # the longer side is the one that is looked through
        *pairs, more = _core.pairs(
            name, corpus, queries, j, i, y is None, False, eps, codes[0], codes[1], report, threshold, left, turned
        )
        count += more
        if count <= most:
            found.append(pairs)
        else:
            found.clear()

    Walk(x, y, memory, report)(search)
    if count > most:
        raise too_many(name, count, threshold, max_pairs)
    if len(found) == 1:
        return Pairs(*found[0])
    i, j, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True)) if found else _no_pairs(x, y)
    order = np.lexsort((j, i))
    return Pairs(i[order], j[order], values[order])


def _no_pairs(x, y):
    none = np.empty(0, np.int64)
    return none, none.copy(), np.empty(0, score_dtype(x.array, (x if y is None else y).array))


def duplicate_groups(x, threshold, *, eps=1e-8, memory=None, progress=None):
    """Groups of near-duplicates: rows that a chain of pairs of at least threshold connects.

    The connected components of ``pairs_above(x, threshold)``, found without keeping the pairs.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors, as for pairs_above.
    threshold : float
        In [-1, 1]; rounded to the dtype of the scores.
    eps : float
        The smallest norm to divide by, so that zero rows score 0.
    memory : int, optional
        Bytes that bound the working set, as for pairs_above.
    progress : bool or callable, optional
        True: a bar (needs tqdm). A callable is called with the number of scores done and their total.

    Returns
    -------
    numpy.ndarray of shape (N,), int64
        Of each row the lowest row of its group, its own number where it is alone.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        threshold outside [-1, 1], no rows, a path of something else than an array.

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
        Walk(rows, None, memory, report)(search)
    return labels
