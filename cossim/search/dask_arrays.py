"""Dask arrays: the functions block by block, as lazy arrays that hold, bit for bit, what NumPy arrays would have given.

The functions hand a call over to their namesakes here when an operand is a Dask array; the other may be a NumPy array,
which is cut into blocks. Wrong arguments are errors of the call, not of compute().

A vector is never split: an array that is chunked along the vectors is first rechunked to whole ones. A task holds one
pair of blocks and what came of it, or a few partial results; no task sees all blocks.

Dask shares out the cores, task by task, so cossim uses one thread in a task, as Dask's workers have BLAS do. Where
COSSIM_NUM_THREADS is set, tasks leave the number of threads as it is.
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
from cossim.search import dask_tasks, functions
from cossim.search.blocks import memory_argument, open_rows
from cossim.search.functions import Pairs, TopK

MERGED = 4  # partial results that one task of a tree takes
LEAST = 1024  # rows of a block that a NumPy array is cut into, where the Dask array's blocks are no longer
_UNSET = object()  # not passed, where passing the default is another matter
OTHER_NAMES = ("axis", "keepdims")  # of dim and keepdim: None means that they are not passed


def _lazy(name, tasks, sources, chunks, dtype):
    return da.Array(HighLevelGraph.from_collections(name, tasks, dependencies=sources), name, chunks, dtype=dtype)


def _lazy_tuple(name, tasks, sources, chunks, dtypes):
    """Lazy arrays of what each task called name returns a tuple of."""
    tuples = _lazy(name, tasks, sources, chunks, dtypes[0])
    arrays = []
    for position, dtype in enumerate(dtypes):
        own = f"{name}-{position}"
        picks = {(own, *key[1:]): (operator.itemgetter(position), key) for key in flatten(tuples.__dask_keys__())}
        arrays.append(_lazy(own, picks, [tuples], chunks, dtype))
    return arrays


def _refuse(function, out=None, progress=None):
    if out is not None:
        message = "out cannot be used with Dask arrays, whose results are lazy: dask.array.store fills an array"
        raise TypeError(f"{function}(): {message}")
    if progress is not None and progress is not False:
        message = "progress cannot be used with Dask arrays: dask.diagnostics.ProgressBar or the dashboard shows it"
        raise TypeError(f"{function}(): {message}")


def _operand(function, name, operand):
    """A Dask array as it is, or that of an xarray.DataArray; anything else for NumPy to read."""
    if not is_dask_collection(operand):  # an xarray.DataArray in memory would be handed over again
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
    """A Dask array, NumPy array or dask_tasks.NpyRows of two dimensions."""
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
    """The operands as Dask arrays of whole rows and no empty blocks; a y of None (x with itself) stays None."""
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


def _firsts(x):
    """The first row of each block of rows."""
    return [0, *itertools.accumulate(x.chunks[0][:-1])]


def _none_of(x, rows):
    """An array like x of no or one zero vector: what a function makes of it tells the result's dtype, or an error."""
    return np.zeros((rows, 1), x.dtype)


# ---- all pairs ----


def pairwise(x, y=None, *, eps=1e-8, out=None, progress=None):
    """cossim.pairwise for Dask arrays: one task for each pair of blocks of rows.

    Parameters
    ----------
    x : dask.array.Array or array_like, shape (N, D)
    y : dask.array.Array or array_like, shape (M, D), optional
        None means x with itself: half of the blocks are transposes of the others.
    eps : float
        As in cossim.pairwise.

    Returns
    -------
    dask.array.Array, shape (N, M)
        In the blocks of the rows of x and y. An operand that is chunked along D is rechunked to whole rows.

    Raises
    ------
    TypeError, ValueError
        As cossim.pairwise; out, which a lazy result cannot fill; progress, as Dask's own; chunks of unknown sizes.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]], chunks=(2, 2))
    >>> cossim.search.dask_arrays.pairwise(x).compute()
    array([[1. , 0.6, 0. ],
           [0.6, 1. , 0. ],
           [0. , 0. , 0. ]])
    """
    _refuse("pairwise", out, progress)
    x, y = _row_blocks("pairwise", ("x", "y"), x, y)
    right = x if y is None else y
    call = partial(_core.pairwise, eps=eps)
    dtype = call(_none_of(x, 1), _none_of(right, 1)).dtype
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


def topk(queries, corpus, k, *, eps=1e-8, memory=None, progress=None):
    """cossim.topk for Dask arrays: the best of each pair of blocks, merged in a tree.

    Parameters
    ----------
    queries : dask.array.Array, array_like or path of a .npy file, shape (Q, D)
    corpus : dask.array.Array, array_like or path of a .npy file, shape (C, D), or None
        None means the queries themselves, each without its own row. A file must be there for every worker.
    k : int
        From 1 to the number of candidates.
    eps, memory
        As in cossim.topk; memory is that of one task.

    Returns
    -------
    TopK
        values and indices, two lazy arrays of shape (Q, k) in the blocks of the queries; ``dask.compute(result)[0]``
        computes both at once.

    Raises
    ------
    TypeError, ValueError
        As cossim.topk; progress, which Dask shows itself; chunks of unknown sizes.

    Notes
    -----
    A partial result has at most k columns, and a task merges four of them.

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
    _refuse("topk", progress=progress)
    k = integer_argument("topk", "k", k)
    options = {"eps": eps_argument("topk", eps), "memory": memory_argument("topk", memory)}
    queries, corpus = _row_blocks("topk", ("queries", "corpus"), queries, corpus)
    right = queries if corpus is None else corpus
    _check_rows("topk", "queries" if corpus is None else "corpus", right)
    functions.check_k("topk", k, right.shape[0] - (corpus is None))
    dtype = functions.topk(_none_of(queries, 0), _none_of(right, 1), 1, **options).values.dtype
    name = f"cossim-topk-{tokenize(queries.name, right.name, corpus is None, k, options)}"
    tasks = {}
    for i in range(queries.numblocks[0]):
        parts = []
        for j, first in enumerate(_firsts(right)):
            blocks = [(queries.name, i, 0), (right.name, j, 0)]
            if corpus is None and i == j:
                if queries.chunks[0][i] == 1:  # a row alone in its block has no other there
                    continue
                blocks.pop()
            parts.append((f"{name}-block", i, j))
            tasks[parts[-1]] = (partial(dask_tasks.block_topk, k, options, first), *blocks)
        tasks[name, i, 0] = _add_tree(tasks, partial(dask_tasks.merge_topk, k), parts, (f"{name}-merge", i))
    return TopK(*_lazy_tuple(name, tasks, [queries, right], (queries.chunks[0], (k,)), (dtype, np.dtype(np.int64))))


def _add_tree(tasks, merge, parts, prefix):
    """Tasks that merge neighbours, a few at a time, until one is left to do, which is returned."""
    for level in itertools.count():
        groups = [parts[first : first + MERGED] for first in range(0, len(parts), MERGED)]
        if len(groups) == 1:
            return (merge, groups[0])
        parts = [(*prefix, level, number) for number in range(len(groups))]
        tasks.update((key, (merge, group)) for key, group in zip(parts, groups, strict=True))


def pairs_above(x, threshold, y=None, *, eps=1e-8, max_pairs=None, memory=None, progress=None):
    """cossim.pairs_above for Dask arrays: the pairs of each pair of blocks; with y=None of half of these.

    Parameters
    ----------
    x : dask.array.Array, array_like or path of a .npy file, shape (N, D)
    threshold : float
        From -1 to 1.
    y : dask.array.Array, array_like or path of a .npy file, shape (M, D), optional
        None means the pairs i < j of x with itself. A file must be there for every worker.
    max_pairs : int, optional
        More pairs than these are an error of compute(), which says how many there are.
    eps, memory
        As in cossim.pairs_above; memory is that of one task.

    Returns
    -------
    Pairs
        i, j and values, three lazy arrays of one dimension and unknown size. Together they are sorted by (i, j); each
        chunk holds the pairs of one block of x, which must fit a worker's memory. ``dask.compute(result)[0]`` computes
        all three at once; ``result.i.compute_chunk_sizes()`` tells how many pairs there are.

    Raises
    ------
    TypeError, ValueError
        As cossim.pairs_above; progress, which Dask shows itself; chunks of unknown sizes.

    Notes
    -----
    With max_pairs all pairs are counted before the first chunk is made: the pairs of all blocks are held until then,
    but for blocks that have too many by themselves.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], chunks=(2, 2))
    >>> dask.compute(cossim.search.dask_arrays.pairs_above(x, 0.5))[0]
    Pairs(i=array([0, 0, 1]), j=array([1, 2, 2]), values=array([0.6, 0.6, 1. ]))
    """
    _refuse("pairs_above", progress=progress)
    threshold = functions.threshold_argument("pairs_above", threshold)
    max_pairs = functions.max_pairs_argument("pairs_above", max_pairs)
    options = {"eps": eps_argument("pairs_above", eps), "memory": memory_argument("pairs_above", memory)}
    x, y = _row_blocks("pairs_above", ("x", "y"), x, y)
    right = x if y is None else y
    _check_rows("pairs_above", "x" if y is None else "y", right)
    none = functions.pairs_above(_none_of(x, 0), threshold, _none_of(right, 1), max_pairs=max_pairs, **options)
    name = f"cossim-pairs-{tokenize(x.name, right.name, y is None, threshold, max_pairs, options)}"
    total = f"{name}-total" if max_pairs is not None else None
    tasks, counts = {}, []
    for i, first_x in enumerate(_firsts(x)):
        parts = []
        for j, first_y in enumerate(_firsts(right)):
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
    return Pairs(*_lazy_tuple(name, tasks, [x, right], ((np.nan,) * x.numblocks[0],), [array.dtype for array in none]))


# ---- along a dimension ----


class _Probe:
    """An out that no function takes, and that they look at last: of wrong arguments the others are named first."""


def _check(function, operands, given):
    """Has the function itself check the arguments: with arrays of their shapes and dtypes that take no memory."""
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


def _cut(size, cuts, longest):
    """Chunks that end where those of the operands do, but never one element alone where there are others.

    An axis of size 1 is no axis for the C core: it would take another way through such a block, with sums in another
    order.
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
    """Chunks of the broadcast shape, such that the C core goes the same way through a block as through the whole."""
    whole = set(reduced)
    if any(own[i] != shape[i] for own in sizes for i in reduced):
        # With an operand of size 1 along the vectors, how near in memory their elements lie depends on these axes.
        whole.update(range(min(reduced), len(shape)))
    cuts = [[] for _ in shape]
    for array, own in zip(arrays, sizes, strict=True):
        if isinstance(array, da.Array):
            for i, chunks in enumerate(array.chunks, len(shape) - array.ndim):
                if i not in whole and own[i] == shape[i]:
                    cuts[i].append(chunks)
    longest = max([LEAST, *(size for axis in cuts for chunks in axis for size in chunks)])
    return [(size,) if i in whole else _cut(size, cuts[i], longest) for i, size in enumerate(shape)]


def _along(function, standard, operands, out, given, keep=lambda chunks: None):
    """One task for each block of the result.

    standard is the function's own dim; keep tells the chunks of a reduced axis in the result, None for no such axis.
    """
    name = function.__name__
    _refuse(name, out)
    operands = [_operand(name, key, operand) for key, operand in operands.items()]
    given = {key: value for key, value in given.items() if value is not (None if key in OTHER_NAMES else _UNSET)}
    _check(function, operands, given)
    arrays = [array if isinstance(array, da.Array) else np.asarray(array) for array in operands]
    ndim = max(array.ndim for array in arrays)
    sizes = [(1,) * (ndim - array.ndim) + array.shape for array in arrays]
    shape = np.broadcast_shapes(*sizes)
    reduced = _reduced(given.get("dim", given.get("axis", standard)), ndim)
    chunks = _shared_chunks(arrays, sizes, shape, reduced)
    result_chunks = [keep(axis) if i in reduced else axis for i, axis in enumerate(chunks)]

    blocks = []
    for array, own in zip(arrays, sizes, strict=True):
        mine = [axis if size == full else (1,) for axis, size, full in zip(chunks, own, shape, strict=True)]
        mine = tuple(mine[ndim - array.ndim :])
        blocks.append(array.rechunk(mine) if isinstance(array, da.Array) else da.from_array(array, chunks=mine))
    call = partial(function, **given)
    dtype = call(*(np.zeros((1,) * array.ndim, array.dtype) for array in arrays)).dtype
    name = f"cossim-{name}-{tokenize([array.name for array in blocks], given)}"
    tasks = {}
    for index in itertools.product(*(range(len(axis)) for axis in chunks)):
        keys = []
        for array in blocks:
            places = zip(index[ndim - array.ndim :], array.numblocks, strict=True)
            keys.append((array.name, *(i if many > 1 else 0 for i, many in places)))
        kept = [i for i, axis in zip(index, result_chunks, strict=True) if axis is not None]
        tasks[(name, *kept)] = (dask_tasks.run, call, *keys)
    return _lazy(name, tasks, blocks, tuple(axis for axis in result_chunks if axis is not None), dtype)


def cosine_similarity(x1, x2, dim=_UNSET, eps=1e-8, *, out=None, axis=None):
    """cossim.cosine_similarity for Dask arrays: one task for each block of the result.

    Parameters
    ----------
    x1, x2 : dask.array.Array or array_like
        Shapes that broadcast. Both are rechunked to one chunk along dim, and to the same chunks along the others; a
        chunk of size 1 is joined to its neighbour. Where one operand has size 1 along dim and the other has not, the
        dimensions behind dim are one chunk too.
    dim : int
        1, if it is left out; axis is another name for it.
    eps : float
        As in cossim.cosine_similarity.

    Returns
    -------
    dask.array.Array
        As cossim.cosine_similarity would return for arrays in C order. In the broadcast form, as of z[None] and
        z[:, None], a task holds a block of each operand and their scores, never the product in between.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cossim.cosine_similarity; out, which a lazy result cannot fill; chunks of unknown sizes.

    Examples
    --------
    >>> import cossim.search.dask_arrays, dask.array as da
    >>> a = da.from_array([[3.0, 4.0], [1.0, 0.0]], chunks=(2, 1))
    >>> cossim.search.dask_arrays.cosine_similarity(a[None], a[:, None], dim=2).compute()
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    return _along(_core.cosine_similarity, 1, {"x1": x1, "x2": x2}, out, {"dim": dim, "eps": eps, "axis": axis})


def cosine_distance(x1, x2, dim=_UNSET, eps=1e-8, *, out=None, axis=None):
    """cossim.cosine_distance for Dask arrays; shapes, chunks and errors as in cosine_similarity.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> x, y = da.from_array([3.0, 4.0]), da.from_array([-3.0, -4.0])
    >>> cossim.search.dask_arrays.cosine_distance(x, y, dim=0).compute()
    np.float64(2.0)
    """
    return _along(_core.cosine_distance, 1, {"x1": x1, "x2": x2}, out, {"dim": dim, "eps": eps, "axis": axis})


def vecdot(x1, x2, dim=_UNSET, *, out=None, axis=None):
    """cossim.vecdot for Dask arrays; shapes, chunks and errors as in cosine_similarity, but that dim is -1 by default.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> cossim.search.dask_arrays.vecdot(da.from_array([[1.0, 2.0], [3.0, 4.0]], chunks=(2, 1)), [10.0, 1.0]).compute()
    array([12., 34.])
    """
    return _along(_core.vecdot, -1, {"x1": x1, "x2": x2}, out, {"dim": dim, "axis": axis})


def vector_norm(x, dim=_UNSET, keepdim=_UNSET, *, out=None, axis=None, keepdims=None):
    """cossim.vector_norm for Dask arrays, rechunked to one chunk along all of dim: with None, x is one block.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> cossim.search.dask_arrays.vector_norm(da.from_array([[3.0, 4.0], [6.0, 8.0]], chunks=1), dim=1).compute()
    array([ 5., 10.])
    """
    kept = any(value is not _UNSET and bool(value) for value in (keepdim, keepdims))
    given = {"dim": dim, "keepdim": keepdim, "axis": axis, "keepdims": keepdims}
    return _along(_core.vector_norm, None, {"x": x}, out, given, lambda chunks: (1,) if kept else None)


def normalize(x, dim=_UNSET, eps=1e-12, *, out=None, axis=None):
    """cossim.normalize for Dask arrays, rechunked to one chunk along all of dim.

    >>> import cossim.search.dask_arrays, dask.array as da
    >>> cossim.search.dask_arrays.normalize(da.from_array([[3.0, 4.0], [0.0, 0.0]], chunks=1)).compute()
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    return _along(_core.normalize, 1, {"x": x}, out, {"dim": dim, "eps": eps, "axis": axis}, lambda chunks: chunks)
