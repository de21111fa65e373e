"""topk, top_pairs, pairs_above and duplicate_groups. They check their arguments and search block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import count_argument, eps_argument
from cossim._progress import reporting
from cossim.search import blocks
from cossim.search.filters import filter_argument
from cossim.search.results import Pairs, TopK

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from cossim._typing import Array, FilteredPairs, FilteredSearch, Lazy, Number, Progress, Rows, SearchOptions


def _finder(binary, x, y=None):
    """The finder of the function to call if an operand is a Dask array or sparse rows, else None."""
    if blocks.is_lazy(x) or blocks.is_lazy(y):
        return _core.dask_function
    return _core.sparse_function if not binary and (_core.is_sparse(x) or _core.is_sparse(y)) else None


@overload
def topk(
    queries: Lazy,
    corpus: Rows | Lazy | None = None,
    k: SupportsIndex = 10,
    *,
    progress: Literal[False] | None = None,
    **options: Unpack[FilteredSearch],
) -> Any: ...
@overload
def topk(
    queries: Rows,
    corpus: Lazy,
    k: SupportsIndex = 10,
    *,
    progress: Literal[False] | None = None,
    **options: Unpack[FilteredSearch],
) -> Any: ...
@overload
def topk(
    queries: Rows,
    corpus: Rows | None = None,
    k: SupportsIndex = 10,
    *,
    progress: Progress | None = None,
    **options: Unpack[FilteredSearch],
) -> TopK: ...
def topk(
    queries: Rows | Lazy,
    corpus: Rows | Lazy | None = None,
    k: SupportsIndex = 10,
    *,
    where: Array | Lazy | None = None,
    exclude: Array | Lazy | None = None,
    eps: Number = _core.DEFAULT_EPS,
    binary: bool = False,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> TopK:
    """Finds the k rows of corpus with the highest cosine similarity to each row of queries. The result is exact.

    The result equals the first k entries of a stable descending sort of each row of ``pairwise(queries, corpus)``, with
    NaN after all numbers: the same scores bit for bit, and equal scores in order of index. The Q x N scores are never
    held in memory at once.

    Parameters
    ----------
    queries : array_like of shape (Q, D) or (D,), or path
        Rows are vectors; shape (D,) is one vector. float64, float32, float16 or bfloat16; integers and bool count as
        float64. A numpy.memmap, or an object with shape, dtype and slices (of h5py, zarr or open_rows), is read block
        by block, and the next block is read ahead. A path means ``open_rows(path)``. For a Dask array the results are
        Dask arrays. Sparse rows (SciPy's arrays and matrices, and objects with the arrays of CSR) stay sparse, and are
        in memory. Tensors, columns and tables of vectors (Arrow, polars, pandas) count as arrays.
    corpus : array_like of shape (N, D) or (D,), path or None
        As queries; one vector is a corpus of one row. None compares the queries with themselves and excludes each row
        from its own results.
    k : int
        At least 1. There may be fewer candidates.
    where : array_like of bool (N,) or (Q, N), or of int (n,), optional
        The rows to choose from: a mask for all queries, a mask for each query, or row numbers in any order, which may
        repeat. With corpus=None, N is Q. Rows that no query may find are not read. For Dask arrays, masks may be
        Dask arrays.
    exclude : int, or array_like of int, shape (m,) or (Q, m), optional
        Row numbers that are left out, for all queries or for each query; -1 stands for none.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    binary : bool
        True: the rows are packed bits, as for ``pairwise``: uint8, eight elements a byte, +1 for bit 1 and -1 for bit
        0. ``numpy.packbits(rows > 0, axis=1)`` makes them from the signs of numbers. False: uint8 are numbers.
    memory : int, optional
        Bound of the working set in bytes, without the result. Some MB per thread are always needed. The default is
        256 MiB for arrays in files; arrays in memory are processed as one block.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C
        stops the call.

    Returns
    -------
    TopK
        values: shape (Q, k), or (k,) for one query vector; float32 for floats below 64 bits (16-bit floats are ranked
        by the float32 scores of their values), else float64. indices: the same shape, int64. Both are independent of
        threads, memory and the other rows. If a query has fewer than k candidates, the last places have the value NaN
        and the index -1.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        k is below 1, the rows have no elements or different lengths, a mask does not fit the corpus, or a file has no
        rows of vectors.
    IndexError
        where or exclude has the number of a row that does not exist.
    MemoryError
        There is no memory for k places for each query.

    Notes
    -----
    With where or exclude, the result is the same, bit for bit, as if all scores were computed and those of the other
    rows left out.

    Where it saves time, a cheap prefilter bounds the score of each pair. For a few queries it reads the floats of the
    rows; for more queries it reads 8-bit (SQ8) codes, which are made during the call. Only pairs that may be among the
    best are scored exactly. For the codes x', q' of x, q the bound is |x.q - x'.q'| <= |x - x'| |q| + |x'| |q - q'|
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
    >>> cossim.topk([1, 1], corpus, 2).indices
    array([1, 0])
    >>> cossim.topk(corpus, None, 1).indices
    array([[1],
           [2],
           [1]])

    Only rows of one colour, and at most two of them:

    >>> colours = np.array(["red", "blue", "red"])
    >>> cossim.topk([1, 1], corpus, 2, where=colours == "red").indices
    array([0, 2])
    >>> cossim.topk([1, 1], corpus, 3, where=[2, 1], exclude=[1]).indices
    array([ 2, -1, -1])
    """
    name = "topk"
    for argument, rows in {"queries": queries, "corpus": corpus}.items():
        if isinstance(rows, (int, float, np.number)):
            raise TypeError(_errors.K_THIRD.format(name=argument, kind=type(rows).__name__))
    k, eps, memory = count_argument(name, "k", k), eps_argument(name, eps), blocks.memory_argument(name, memory)
    if (finder := _finder(binary, queries, corpus)) is not None:
        filters = {"where": where, "exclude": exclude}
        options = {"eps": eps, "binary": bool(binary), "memory": memory, "progress": progress}
        return finder(name)(queries, corpus, k, **filters, **options)
    x, y = blocks.rows_to_search(name, binary, queries=queries, corpus=corpus)
    found = filter_argument(name, where, exclude, len(x), len(x if y is None else y))
    with reporting(progress, name) as report:
        return blocks.BlockwiseSearch(x, y, blocks.Options(name, eps, memory, report, binary, found)).topk(k)


def top_pairs(
    x: Rows,
    m: SupportsIndex,
    y: Rows | None = None,
    *,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Finds the m pairs of a row of x and a row of y with the highest cosine similarity, best first.

    The result equals the first m entries of ``pairs_above(x, -1, y).sorted()``, with the same scores bit for bit. No
    threshold has to be guessed. The call needs some MB per thread in addition to the result, and at most 140 bytes per
    row.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors, as for pairs_above.
    m : int
        At least 1. If there are fewer pairs, all are returned.
    y : array_like of shape (M, D), path or None
        As x. None compares x with itself and gives each pair of different rows once, with i < j.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    memory : int, optional
        Bound of the working set in bytes, as for pairs_above.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C
        stops the call.

    Returns
    -------
    Pairs
        Sorted by falling score, and equal scores by i, then j. Pairs that score NaN are left out.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        m is below 1, the rows have no elements or different lengths, or a file has no rows of vectors.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 2.0]])
    >>> cossim.top_pairs(x, 2)
    2 pairs
    i  j  value
    1  2  1
    1  3  0.8
    """
    name = "top_pairs"
    if blocks.may_be_rows(m) or isinstance(m, str):
        raise TypeError(_errors.M_SECOND.format(kind=type(m).__name__))
    m, eps, memory = count_argument(name, "m", m), eps_argument(name, eps), blocks.memory_argument(name, memory)
    left, right = blocks.rows_to_search(name, False, x=x, y=y)
    with reporting(progress, name) as report:
        return blocks.BlockwiseSearch(left, right, blocks.Options(name, eps, memory, report)).top_pairs(m)


@overload
def pairs_above(
    x: Lazy,
    threshold: Number,
    y: Rows | Lazy | None = None,
    *,
    progress: Literal[False] | None = None,
    **options: Unpack[FilteredPairs],
) -> Any: ...
@overload
def pairs_above(
    x: Rows, threshold: Number, y: Lazy, *, progress: Literal[False] | None = None, **options: Unpack[FilteredPairs]
) -> Any: ...
@overload
def pairs_above(
    x: Rows,
    threshold: Number,
    y: Rows | None = None,
    *,
    progress: Progress | None = None,
    **options: Unpack[FilteredPairs],
) -> Pairs: ...
def pairs_above(
    x: Rows | Lazy,
    threshold: Number,
    y: Rows | Lazy | None = None,
    *,
    where: Array | Lazy | None = None,
    exclude: Array | Lazy | None = None,
    eps: Number = _core.DEFAULT_EPS,
    binary: bool = False,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Finds every pair of a row of x and a row of y whose cosine similarity is at least threshold.

    These are the pairs with ``pairwise(x, y) >= threshold``, with the same scores bit for bit. The N x M matrix is
    never held in memory.

    Parameters
    ----------
    x : array_like of shape (N, D) or (D,), or path
        Rows are vectors; shape (D,) is one vector. float64, float32, float16 or bfloat16; integers and bool count as
        float64. A numpy.memmap, or an object with shape, dtype and slices (of h5py, zarr or open_rows), is read block
        by block, and the next block is read ahead. A path means ``open_rows(path)``. For a Dask array the results are
        Dask arrays. Sparse rows (SciPy's arrays and matrices, and objects with the arrays of CSR) stay sparse, and are
        in memory. Tensors, columns and tables of vectors (Arrow, polars, pandas) count as arrays.
    threshold : float
        In [-1, 1]. It is rounded to the dtype of the scores, as NumPy does in that comparison.
    y : array_like of shape (M, D) or (D,), path or None
        As x. None compares x with itself and gives each pair of different rows once, with i < j.
    where : array_like of bool (M,) or (N, M), or of int (n,), optional
        The rows of y that may be in a pair: a mask for all rows of x, a mask for each row of x, or row numbers in any
        order, which may repeat. With y=None, a mask (N,) and row numbers hold for both rows of a pair, and a mask
        (N, N) has the pair of i and j, i < j, at [i, j]. Rows that are in no pair are not read. For Dask arrays, masks
        may be Dask arrays.
    exclude : int, or array_like of int, shape (m,) or (N, m), optional
        Rows of y that are left out, for all rows of x or for each row of x; -1 stands for none. With y=None, rows (m,)
        are in no pair, and rows (N, m) are not the j of a pair with that i.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    binary : bool
        True: the rows are packed bits, as for ``pairwise``: uint8, eight elements a byte, +1 for bit 1 and -1 for bit
        0. ``numpy.packbits(rows > 0, axis=1)`` makes them from the signs of numbers. False: uint8 are numbers.
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
        threshold is outside [-1, 1], the rows have no elements or different lengths, a mask does not fit the rows, a
        file has no rows of vectors, or there are more than max_pairs pairs.
    IndexError
        where or exclude has the number of a row that does not exist.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 2.0]])
    >>> found = cossim.pairs_above(x, 0.8)
    >>> found.i, found.j
    (array([1, 1, 2]), array([2, 3, 3]))
    >>> found.values
    array([1. , 0.8, 0.8])
    >>> cossim.pairs_above(x, 0.8, where=[3, 1]).to_list()
    [{'i': 1, 'j': 3, 'value': 0.8}]
    """
    name = "pairs_above"
    threshold, eps = blocks.threshold_argument(name, threshold), eps_argument(name, eps)
    max_pairs, memory = blocks.max_pairs_argument(name, max_pairs), blocks.memory_argument(name, memory)
    if (finder := _finder(binary, x, y)) is not None:
        filters = {"where": where, "exclude": exclude, "max_pairs": max_pairs}
        options = {"eps": eps, "binary": bool(binary), "memory": memory, "progress": progress}
        return finder(name)(x, threshold, y, **filters, **options)
    left, right = blocks.rows_to_search(name, binary, x=x, y=y)
    candidates = len(left if right is None else right)
    found = filter_argument(name, where, exclude, len(left), candidates, both=right is None)
    with reporting(progress, name) as report:
        search = blocks.BlockwiseSearch(left, right, blocks.Options(name, eps, memory, report, binary, found))
        return search.pairs_above(threshold, max_pairs)


@overload
def duplicate_groups(
    x: Lazy, threshold: Number, *, progress: Literal[False] | None = None, **options: Unpack[SearchOptions]
) -> Any: ...
@overload
def duplicate_groups(
    x: Rows, threshold: Number, *, progress: Progress | None = None, **options: Unpack[SearchOptions]
) -> NDArray[np.int64]: ...
def duplicate_groups(
    x: Rows | Lazy,
    threshold: Number,
    *,
    eps: Number = _core.DEFAULT_EPS,
    binary: bool = False,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Finds groups of near-duplicates: rows connected by a chain of pairs with a similarity of at least threshold.

    The groups are the connected components of ``pairs_above(x, threshold)``. The pairs are not kept in memory.

    Parameters
    ----------
    x : array_like of shape (N, D) or (D,), or path
        Rows are vectors, as for pairs_above. For a Dask array the labels are a Dask array.
    threshold : float
        In [-1, 1]. It is rounded to the dtype of the scores.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    binary : bool
        True: the rows are packed bits, as for ``pairwise``: uint8, eight elements a byte, +1 for bit 1 and -1 for bit
        0. ``numpy.packbits(rows > 0, axis=1)`` makes them from the signs of numbers. False: uint8 are numbers.
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
        threshold is outside [-1, 1], the rows have no elements, or a file has no rows of vectors.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 5.0], [2.0, 0.1]])
    >>> cossim.duplicate_groups(x, 0.99)
    array([0, 1, 1, 0])
    """
    name = "duplicate_groups"
    threshold, eps = blocks.threshold_argument(name, threshold), eps_argument(name, eps)
    memory = blocks.memory_argument(name, memory)
    if (finder := _finder(binary, x)) is not None:
        return finder(name)(x, threshold, eps=eps, binary=bool(binary), memory=memory, progress=progress)
    rows, _ = blocks.rows_to_search(name, binary, x=x, y=None)
    with reporting(progress, name) as report:
        search = blocks.BlockwiseSearch(rows, None, blocks.Options(name, eps, memory, report, binary))
        return search.duplicate_groups(threshold)
