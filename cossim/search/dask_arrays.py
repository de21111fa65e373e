"""The functions for Dask arrays. The results are lazy arrays, bit for bit equal to those for NumPy arrays.

If an operand is a Dask array, the public function calls the function of the same name in this module. The other operand
may be a NumPy array, which is split into blocks. Wrong arguments raise errors in the call, not in compute().

A vector is never split: an array that is chunked along its vectors is rechunked first. A task holds one pair of blocks
and its result, or a few partial results. No task holds all blocks.

Dask distributes tasks over the cores, so cossim uses one thread per task, as Dask's workers do for BLAS. If
COSSIM_NUM_THREADS is set, tasks do not change the number of threads.
"""

import itertools
import operator
import os
from functools import partial

import dask.array as da
import numpy as np
from dask import is_dask_collection
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from cossim import _core
from cossim._arguments import eps_argument, integer_argument
from cossim.search import dask_tasks
from cossim.search.blocks import (
    Pairs,
    TopK,
    check_k,
    max_pairs_argument,
    memory_argument,
    open_rows,
    score_dtype,
    threshold_argument,
)

MERGED = 4  # partial results that one task of a merge tree takes
LEAST = 1024  # rows per block of a NumPy operand, unless the Dask operand has longer blocks
_UNSET = object()  # marks an argument that was not passed, if that differs from passing the default
OTHER_NAMES = ("axis", "keepdims")  # other names of dim and keepdim; None means not passed


def _lazy(name, tasks, sources, chunks, dtype):
    return da.Array(HighLevelGraph.from_collections(name, tasks, dependencies=sources), name, chunks, dtype=dtype)


def _lazy_tuple(name, tasks, sources, chunks, dtypes):
    """Returns one lazy array for each position of the tuples that the tasks called name return."""
    tuples = _lazy(name, tasks, sources, chunks, dtypes[0])
    arrays = []
    for position, dtype in enumerate(dtypes):
        own = f"{name}-{position}"
        picks = {(own, *key[1:]): (operator.itemgetter(position), key) for key in flatten(tuples.__dask_keys__())}
        arrays.append(_lazy(own, picks, [tuples], chunks, dtype))
    return arrays


def _reject_arguments(function, out=None, progress=None):
    if out is not None:
        message = "out cannot be used with Dask arrays, whose results are lazy: dask.array.store fills an array"
        raise TypeError(f"{function}(): {message}")
    if progress is not None and progress is not False:
        message = "progress cannot be used with Dask arrays: dask.diagnostics.ProgressBar or the dashboard shows it"
        raise TypeError(f"{function}(): {message}")


def _operand(function, name, operand):
    """Returns the Dask array that an operand is, or that its xarray.DataArray holds; other operands unchanged."""
    if not is_dask_collection(operand):  # else the C core would return an xarray.DataArray in memory to this module
        return np.asarray(operand) if hasattr(type(operand), "__dask_graph__") else operand
    array = operand if isinstance(operand, da.Array) else getattr(operand, "data", None)
    if not isinstance(array, da.Array):
        raise TypeError(f"{function}(): {name} must be a dask.array.Array, not {type(operand).__name__}")
    if np.isnan(array.shape).any():
        message = f"{name} has chunks of unknown size: call {name}.compute_chunk_sizes() first"
        raise ValueError(f"{function}(): {message}")
    return array


def _is_real(dtype):
    return (dtype.kind in "fiub" and dtype.itemsize <= 8) or dtype.name == "bfloat16"


def _as_rows(function, name, operand):
    """Returns an operand as a Dask array, NumPy array or dask_tasks.NpyRows, with two dimensions."""
    operand = _operand(function, name, operand)
    if isinstance(operand, (str, os.PathLike)) and function != "pairwise":
        path = os.path.abspath(operand)
        operand = dask_tasks.NpyRows(path, open_rows(function, name, path))
    elif not isinstance(operand, (da.Array, np.ndarray)):
        operand = np.asarray(operand)
    if isinstance(getattr(operand, "_meta", operand), np.ma.MaskedArray):
        message = f"{name} is a masked array, whose mask would be ignored: pass {name}.filled(...) or a plain array"
        raise TypeError(f"{function}(): {message}")
    if not _is_real(operand.dtype):
        message = f"{name} must hold real numbers: float64, float32, float16, bfloat16, integers or bool"
        raise TypeError(f"{function}(): {message} ({_described(name, operand)})")
    if operand.ndim != 2:
        message = f"{name} must have 2 dimensions: rows are vectors, shape (N, D)"
        raise ValueError(f"{function}(): {message} ({_described(name, operand)})")
    return operand


def _described(name, operand):
    return f"{name}: shape {operand.shape}, dtype {operand.dtype}"


def _row_blocks(function, names, x, y):
    """Returns the operands as Dask arrays in blocks of whole rows, none of them empty. y=None stays None."""
    x = _as_rows(function, names[0], x)
    y = None if y is None else _as_rows(function, names[1], y)
    if y is not None and x.shape[1] != y.shape[1]:
        message = f"rows of {names[0]} have {x.shape[1]} elements, rows of {names[1]} {y.shape[1]}"
        described = f"{_described(names[0], x)}; {_described(names[1], y)}"
        raise ValueError(f"{function}(): {message} ({described})")
    longest = max(LEAST, *(size for array in (x, y) if isinstance(array, da.Array) for size in array.chunks[0]))
    return _in_rows(x, longest), None if y is None else _in_rows(y, longest)


def _in_rows(array, longest):
    if isinstance(array, da.Array):
        rows = tuple(size for size in array.chunks[0] if size) or (0,)
        return array.rechunk((rows, (array.shape[1],)))
    return da.from_array(array, chunks=(longest, -1))


def _check_rows(function, name, corpus):
    if not corpus.shape[0]:
        raise ValueError(f"{function}(): {name} has no rows (shape {corpus.shape})")
    if not corpus.shape[1]:
        raise ValueError(f"{function}(): rows of {name} have no elements (shape {corpus.shape})")


def _first_rows(x):
    """Returns the number of the first row of each block."""
    return [0, *itertools.accumulate(x.chunks[0][:-1])]


def _zeros_like(x, rows):
    """Returns zeros (rows, 1) with the dtype of x, to get the dtype of a result, or an error, from a cheap call."""
    return np.zeros((rows, 1), x.dtype)


# ---- all pairs ----


def pairwise(x, y=None, *, eps=_core.DEFAULT_EPS, out=None, progress=None):
    """cossim.pairwise for Dask arrays, with one task for each pair of row blocks.

    Parameters
    ----------
    x : dask.array.Array or array_like, shape (N, D)
    y : dask.array.Array or array_like, shape (M, D), optional
        None compares x with itself. Blocks below the diagonal are then transposes of those above.
    eps : float
        As in cossim.pairwise.

    Returns
    -------
    dask.array.Array, shape (N, M)
        Its chunks are the row chunks of x and y. An operand that is chunked along D is rechunked to whole rows.

    Raises
    ------
    TypeError, ValueError
        As cossim.pairwise. Also if out is given (the result is lazy), if progress is given (Dask has its own), or if
        chunks have unknown sizes.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]], chunks=(2, 2))
    >>> cossim.search.dask_arrays.pairwise(x).compute()
    array([[1. , 0.6, 0. ],
           [0.6, 1. , 0. ],
           [0. , 0. , 0. ]])
    """
    _reject_arguments("pairwise", out, progress)
    x, y = _row_blocks("pairwise", ("x", "y"), x, y)
    right = x if y is None else y
    call = partial(_core.pairwise, eps=eps)
    dtype = call(_zeros_like(x, 1), _zeros_like(right, 1)).dtype
    name = f"cossim-pairwise-{tokenize(x.name, right.name, y is None, eps)}"
    tasks = {}
    for i, j in itertools.product(range(x.numblocks[0]), range(right.numblocks[0])):
        if y is None and i > j:
            tasks[name, i, j] = (np.transpose, (name, j, i))
        elif y is None and i == j:
            tasks[name, i, j] = (dask_tasks.run, call, (x.name, i, 0))
        else:
            tasks[name, i, j] = (dask_tasks.run, call, (x.name, i, 0), (right.name, j, 0))
    return _lazy(name, tasks, [x, right], (x.chunks[0], right.chunks[0]), dtype)


def topk(queries, corpus, k, *, eps=_core.DEFAULT_EPS, memory=None, progress=None):
    """cossim.topk for Dask arrays. The results of all pairs of blocks are merged in a tree.

    Parameters
    ----------
    queries : dask.array.Array, array_like or path of a .npy file, shape (Q, D)
    corpus : dask.array.Array, array_like or path of a .npy file, shape (C, D), or None
        None compares the queries with themselves and excludes each row from its own results. Every worker must be able
        to read the file.
    k : int
        From 1 to the number of candidates.
    eps, memory
        As in cossim.topk. memory bounds one task.

    Returns
    -------
    TopK
        values and indices: lazy arrays of shape (Q, k), chunked like the rows of queries. ``dask.compute(result)[0]``
        computes both at once.

    Raises
    ------
    TypeError, ValueError
        As cossim.topk. Also if progress is given (Dask has its own), or if chunks have unknown sizes.

    Notes
    -----
    A partial result has at most k columns. A task merges up to four partial results.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], chunks=(2, 2))
    >>> dask.compute(cossim.search.dask_arrays.topk(x, None, 1))[0]
    TopK(values=array([[0.6],
           [1. ],
           [1. ]]), indices=array([[1],
           [2],
           [1]]))
    """
    _reject_arguments("topk", progress=progress)
    k = integer_argument("topk", "k", k)
    options = {"eps": eps_argument("topk", eps), "memory": memory_argument("topk", memory)}
    queries, corpus = _row_blocks("topk", ("queries", "corpus"), queries, corpus)
    right = queries if corpus is None else corpus
    _check_rows("topk", "queries" if corpus is None else "corpus", right)
    check_k("topk", k, right.shape[0] - (corpus is None))
    dtype = score_dtype(queries, right)
    name = f"cossim-topk-{tokenize(queries.name, right.name, corpus is None, k, options)}"
    tasks = {}
    for i in range(queries.numblocks[0]):
        parts = []
        for j, first in enumerate(_first_rows(right)):
            blocks = [(queries.name, i, 0), (right.name, j, 0)]
            if corpus is None and i == j:
                if queries.chunks[0][i] == 1:  # a block of one row has no other candidates
                    continue
                blocks.pop()
            parts.append((f"{name}-block", i, j))
            tasks[parts[-1]] = (partial(dask_tasks.block_topk, k, options, first), *blocks)
        tasks[name, i, 0] = _add_tree(tasks, partial(dask_tasks.merge_topk, k), parts, (f"{name}-merge", i))
    return TopK(*_lazy_tuple(name, tasks, [queries, right], (queries.chunks[0], (k,)), (dtype, np.dtype(np.int64))))


def _add_tree(tasks, merge, parts, prefix):
    """Adds tasks that merge up to MERGED adjacent parts, level by level. Returns the last merge, without adding it."""
    for level in itertools.count():
        groups = [parts[first : first + MERGED] for first in range(0, len(parts), MERGED)]
        if len(groups) == 1:
            return (merge, groups[0])
        parts = [(*prefix, level, number) for number in range(len(groups))]
        tasks.update((key, (merge, group)) for key, group in zip(parts, groups, strict=True))


def pairs_above(x, threshold, y=None, *, eps=_core.DEFAULT_EPS, max_pairs=None, memory=None, progress=None):
    """cossim.pairs_above for Dask arrays, with one task for each pair of blocks (half of them with y=None).

    Parameters
    ----------
    x : dask.array.Array, array_like or path of a .npy file, shape (N, D)
    threshold : float
        From -1 to 1.
    y : dask.array.Array, array_like or path of a .npy file, shape (M, D), optional
        None gives the pairs i < j of rows of x. Every worker must be able to read the file.
    max_pairs : int, optional
        If there are more pairs, compute() raises a ValueError that says how many there are.
    eps, memory
        As in cossim.pairs_above. memory bounds one task.

    Returns
    -------
    Pairs
        i, j and values: lazy 1-d arrays of unknown size, sorted by (i, j). Each chunk holds the pairs of one block of
        x, which must fit into a worker's memory. ``dask.compute(result)[0]`` computes all three at once.
        ``result.i.compute_chunk_sizes()`` determines the number of pairs.

    Raises
    ------
    TypeError, ValueError
        As cossim.pairs_above. Also if progress is given (Dask has its own), or if chunks have unknown sizes.

    Notes
    -----
    With max_pairs, all pairs are counted before the first chunk is made. Until then the pairs of all blocks are held,
    except those of a block that alone has more than max_pairs.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], chunks=(2, 2))
    >>> dask.compute(cossim.search.dask_arrays.pairs_above(x, 0.5))[0]
    Pairs(i=array([0, 0, 1]), j=array([1, 2, 2]), values=array([0.6, 0.6, 1. ]))
    """
    _reject_arguments("pairs_above", progress=progress)
    threshold = threshold_argument("pairs_above", threshold)
    max_pairs = max_pairs_argument("pairs_above", max_pairs)
    options = {"eps": eps_argument("pairs_above", eps), "memory": memory_argument("pairs_above", memory)}
    x, y = _row_blocks("pairs_above", ("x", "y"), x, y)
    right = x if y is None else y
    _check_rows("pairs_above", "x" if y is None else "y", right)
    dtypes = (np.dtype(np.int64), np.dtype(np.int64), score_dtype(x, right))
    name = f"cossim-pairs-{tokenize(x.name, right.name, y is None, threshold, max_pairs, options)}"
    total = f"{name}-total" if max_pairs is not None else None
    tasks, counts = {}, []
    for i, first_x in enumerate(_first_rows(x)):
        parts = []
        for j, first_y in enumerate(_first_rows(right)):
            if y is None and i > j:
                continue
            blocks = [(x.name, i, 0)] if y is None and i == j else [(x.name, i, 0), (right.name, j, 0)]
            call = partial(dask_tasks.block_pairs, threshold, options, max_pairs, (first_x, first_y))
            parts.append((f"{name}-block", i, j))
            tasks[parts[-1]] = (call, *blocks)
        tasks[name, i] = (dask_tasks.join_pairs, parts, total)
        counts.append((f"{name}-count", i))
        if total is not None:
            tasks[counts[-1]] = (dask_tasks.count_pairs, parts)
    if total is not None:
        tasks[total] = (partial(dask_tasks.check_count, threshold, max_pairs), counts)
    return Pairs(*_lazy_tuple(name, tasks, [x, right], ((np.nan,) * x.numblocks[0],), dtypes))


# ---- along a dimension ----


class _Probe:
    """An invalid out. The functions check out last, so an error about out means that all other arguments are valid."""


def _check(function, operands, given):
    """Lets the function check the arguments. Dask arrays are replaced by arrays of their shapes that take no memory."""
    shadows = []
    for operand in operands:
        if isinstance(operand, da.Array):
            shadow = np.broadcast_to(np.zeros((), operand.dtype), operand.shape)
            operand = operand._meta if isinstance(operand._meta, np.ma.MaskedArray) else shadow
        shadows.append(operand)
    try:
        function(*shadows, out=_Probe(), **given)
    except TypeError as error:
        if not str(error).endswith(f"not {_Probe.__name__}"):
            raise


def _chunks_at(size, cuts, longest):
    """Returns chunks of an axis that end where chunks of the operands end, and have at least 2 elements if size > 1.

    The C core drops axes of size 1. A chunk of size 1 would therefore take another code path, with another order of
    summation. Without cuts, the chunks have `longest` elements.
    """
    ends = {int(end) for chunks in cuts for end in itertools.accumulate(chunks)}
    if not cuts:
        ends = {*range(longest, size, longest), size}
    kept = [0]
    for end in sorted(ends):
        if end - kept[-1] > 1 and size - end != 1:
            kept.append(end)
    return tuple(int(chunk) for chunk in np.diff(kept)) if size > 1 else (size,)


def _reduced(dim, ndim):
    dims = (dim,) if dim is not None and not isinstance(dim, (tuple, list)) else dim or range(ndim)
    return {operator.index(i) % ndim for i in dims} if ndim > 0 else set()


def _shared_chunks(arrays, sizes, shape, reduced):
    """Returns chunks of the broadcast shape for which the C core takes the same code path as for whole arrays."""
    whole = set(reduced)
    if any(own[i] != shape[i] for own in sizes for i in reduced):
        # If an operand has size 1 along the vectors, the stride of their elements depends on the axes after dim.
        whole.update(range(min(reduced), len(shape)))
    cuts = [[] for _ in shape]
    for array, own in zip(arrays, sizes, strict=True):
        if isinstance(array, da.Array):
            for i, chunks in enumerate(array.chunks, len(shape) - array.ndim):
                if i not in whole and own[i] == shape[i]:
                    cuts[i].append(chunks)
    longest = max([LEAST, *(size for axis in cuts for chunks in axis for size in chunks)])
    return [(size,) if i in whole else _chunks_at(size, cuts[i], longest) for i, size in enumerate(shape)]


def _blockwise(function, default_dim, operands, out, given, keep=lambda chunks: None):
    """Returns the lazy result of a function along dim, with one task for each block of the result.

    default_dim is the function's default dim. keep(chunks) returns the chunks of a reduced axis in the result, or None
    if the result lacks that axis.
    """
    name = function.__name__
    _reject_arguments(name, out)
    operands = [_operand(name, key, operand) for key, operand in operands.items()]
    given = {key: value for key, value in given.items() if value is not (None if key in OTHER_NAMES else _UNSET)}
    _check(function, operands, given)
    arrays = [array if isinstance(array, da.Array) else np.asarray(array) for array in operands]
    ndim = max(array.ndim for array in arrays)
    sizes = [(1,) * (ndim - array.ndim) + array.shape for array in arrays]
    shape = np.broadcast_shapes(*sizes)
    reduced = _reduced(given.get("dim", given.get("axis", default_dim)), ndim)
    chunks = _shared_chunks(arrays, sizes, shape, reduced)
    result_chunks = [keep(axis) if i in reduced else axis for i, axis in enumerate(chunks)]

    blocks = []
    for array, own in zip(arrays, sizes, strict=True):
        chunked = [axis if size == full else (1,) for axis, size, full in zip(chunks, own, shape, strict=True)]
        chunked = tuple(chunked[ndim - array.ndim :])
        blocks.append(array.rechunk(chunked) if isinstance(array, da.Array) else da.from_array(array, chunks=chunked))
    call = partial(function, **given)
    dtype = call(*(np.zeros((1,) * array.ndim, array.dtype) for array in arrays)).dtype
    name = f"cossim-{name}-{tokenize([array.name for array in blocks], given)}"
    tasks = {}
    for index in itertools.product(*(range(len(axis)) for axis in chunks)):
        keys = []
        for array in blocks:
            block_numbers = zip(index[ndim - array.ndim :], array.numblocks, strict=True)
            keys.append((array.name, *(i if count > 1 else 0 for i, count in block_numbers)))
        kept = [i for i, axis in zip(index, result_chunks, strict=True) if axis is not None]
        tasks[(name, *kept)] = (dask_tasks.run, call, *keys)
    return _lazy(name, tasks, blocks, tuple(axis for axis in result_chunks if axis is not None), dtype)


def cosine_similarity(x1, x2, dim=_UNSET, eps=_core.DEFAULT_EPS, *, out=None, axis=None):
    """cossim.cosine_similarity for Dask arrays, with one task for each block of the result.

    Parameters
    ----------
    x1, x2 : dask.array.Array or array_like
        Arrays whose shapes broadcast. Both are rechunked to one chunk along dim, and to the same chunks along the
        other dimensions. A chunk of size 1 is joined to its neighbour. If exactly one operand has size 1 along dim, the
        dimensions after dim are one chunk too.
    dim : int
        The dimension of the vectors, by default 1. axis is another name for it.
    eps : float
        As in cossim.cosine_similarity.

    Returns
    -------
    dask.array.Array
        The values of cossim.cosine_similarity for arrays in C order. If the operands broadcast, such as z[None] and
        z[:, None], a task holds a block of each operand and their scores, but no array of the full broadcast shape.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cossim.cosine_similarity. Also if out is given (the result is lazy), or if chunks have unknown sizes.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask.array as da
    >>> a = da.from_array([[3.0, 4.0], [1.0, 0.0]], chunks=(2, 1))
    >>> cossim.search.dask_arrays.cosine_similarity(a[None], a[:, None], dim=2).compute()
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    return _blockwise(_core.cosine_similarity, 1, {"x1": x1, "x2": x2}, out, {"dim": dim, "eps": eps, "axis": axis})


def cosine_distance(x1, x2, dim=_UNSET, eps=_core.DEFAULT_EPS, *, out=None, axis=None):
    """cossim.cosine_distance for Dask arrays. Shapes, chunks and errors are as in cosine_similarity.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> x, y = da.from_array([3.0, 4.0]), da.from_array([-3.0, -4.0])
    >>> cossim.search.dask_arrays.cosine_distance(x, y, dim=0).compute()
    np.float64(2.0)
    """
    return _blockwise(_core.cosine_distance, 1, {"x1": x1, "x2": x2}, out, {"dim": dim, "eps": eps, "axis": axis})


def vecdot(x1, x2, dim=_UNSET, *, out=None, axis=None):
    """cossim.vecdot for Dask arrays. dim is -1 by default; all else is as in cosine_similarity.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> cossim.search.dask_arrays.vecdot(da.from_array([[1.0, 2.0], [3.0, 4.0]], chunks=(2, 1)), [10.0, 1.0]).compute()
    array([12., 34.])
    """
    return _blockwise(_core.vecdot, -1, {"x1": x1, "x2": x2}, out, {"dim": dim, "axis": axis})


def vector_norm(x, dim=_UNSET, keepdim=_UNSET, *, out=None, axis=None, keepdims=None):
    """cossim.vector_norm for Dask arrays. x is rechunked to one chunk along each dimension in dim (None: all).

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> cossim.search.dask_arrays.vector_norm(da.from_array([[3.0, 4.0], [6.0, 8.0]], chunks=1), dim=1).compute()
    array([ 5., 10.])
    """
    kept = any(value is not _UNSET and bool(value) for value in (keepdim, keepdims))
    given = {"dim": dim, "keepdim": keepdim, "axis": axis, "keepdims": keepdims}
    return _blockwise(_core.vector_norm, None, {"x": x}, out, given, lambda chunks: (1,) if kept else None)


def normalize(x, dim=_UNSET, eps=_core.NORMALIZE_EPS, *, out=None, axis=None):
    """cossim.normalize for Dask arrays. x is rechunked to one chunk along each dimension in dim.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> cossim.search.dask_arrays.normalize(da.from_array([[3.0, 4.0], [0.0, 0.0]], chunks=1)).compute()
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    return _blockwise(_core.normalize, 1, {"x": x}, out, {"dim": dim, "eps": eps, "axis": axis}, lambda chunks: chunks)
