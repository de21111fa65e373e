"""The functions for Dask arrays. The results are lazy arrays, bit for bit equal to those for NumPy arrays.

If an operand is a Dask array, the public function calls the function of the same name in this module, with the same
arguments. The other operand may be a NumPy array, which is split into blocks. Wrong arguments raise errors in the call,
not in compute(). Three more things are errors: out, because the result is lazy; progress, because Dask has its own; and
chunks of unknown size along the axis of the vectors, or along an axis of rows whose numbers are in the result.

A vector is never split: an array that is chunked along its vectors is rechunked first. A task holds one pair of blocks
and its result, or a few partial results. No task holds all blocks.

Dask distributes tasks over the cores, so cossim uses one thread per task, as Dask's workers do for BLAS. If
COSSIM_NUM_THREADS is set, tasks do not change the number of threads.
"""

from __future__ import annotations

import inspect
import itertools
import operator
import os
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask import is_dask_collection
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from cossim import _core, _errors
from cossim._arguments import eps_argument
from cossim._errors import described
from cossim.rows.file_rows import FileRows
from cossim.search import dask_tasks, filters
from cossim.search.blocks import check_bits, check_elements, open_path, score_dtype
from cossim.search.results import Pairs, TopK

MERGED = 4  # number of partial results that one task merges
UNKNOWN = -1  # our size of an axis with chunks of unknown size; Dask's is NaN, which does not equal itself
LEAST = 1024  # rows per block of a NumPy operand, unless the Dask operand has longer blocks
OTHER_NAMES = ("axis", "keepdims")  # other names of dim and keepdim; None means not passed

# Options of da.blockwise for operands whose chunks agree already. With concatenate=False, tasks get a block as [block],
# without a copy. A block that several tasks need must be computed once, so Dask must not fuse our tasks with others. It
# does not fuse them with tasks that make operands, because every result here lacks an axis of its operands. It does not
# fuse them with tasks that take results, such as x / vector_norm(x, 1, True), because their concatenate differs.
_BLOCKS = {"concatenate": False, "align_arrays": False}

# ---- operands ----


def _reject_arguments(function, out=None, progress=None):
    if out is not None:
        raise TypeError(_errors.LAZY_OUT.format(function=function))
    if progress is not None and progress is not False:
        raise TypeError(_errors.LAZY_PROGRESS.format(function=function))


def _operand(function, name, operand):
    """Returns the Dask array in an xarray.DataArray, and any other operand unchanged."""
    if not is_dask_collection(operand):
        return operand
    array = operand if isinstance(operand, da.Array) else getattr(operand, "data", None)
    if not isinstance(array, da.Array):
        raise TypeError(_errors.NOT_A_DASK_ARRAY.format(function=function, name=name, kind=type(operand).__name__))
    return array


def _require_sizes(function, name, array, axes):
    """Raises ValueError if one of these axes, counted from the last one, has chunks of unknown size."""
    if any(_sizes(array)[axis] == UNKNOWN for axis in axes if -axis <= array.ndim):
        raise ValueError(_errors.UNKNOWN_CHUNKS.format(function=function, name=name))


def _sizes(array):
    """Returns the shape of an array, with UNKNOWN in place of Dask's NaN for axes with chunks of unknown size."""
    return tuple(UNKNOWN if np.isnan(size) else size for size in array.shape)


def _stand_in(array):
    """Returns a NumPy array of the same shape and dtype that takes no memory. For masked arrays, it is an empty one.

    Unknown sizes become 2: operands are checked as if these sizes were equal.
    """
    if isinstance(array, da.Array) and isinstance(meta_from_array(array), np.ma.MaskedArray):
        return meta_from_array(array)  # the shape differs, but masked arrays are refused anyway
    shape = tuple(2 if size == UNKNOWN else size for size in _sizes(array))
    return np.broadcast_to(np.zeros((), array.dtype), shape)


def _arrays(function, convert, operands):
    """Checks operands, given by name, and returns each as a Dask array, FileRows or NumPy array.

    convert is _core.as_arrays or _core.as_rows.
    """
    operands = {name: _operand(function, name, operand) for name, operand in operands.items()}
    lazy = [isinstance(operand, (da.Array, FileRows)) for operand in operands.values()]
    given = [_stand_in(x) if is_lazy else x for x, is_lazy in zip(operands.values(), lazy, strict=True)]
    converted = convert(function, tuple(operands), tuple(given))
    return [x if is_lazy else y for x, y, is_lazy in zip(operands.values(), converted, lazy, strict=True)]


class _Probe:
    """An invalid out. The functions check out last, so an error about out means that all other arguments are valid."""


def _result_dtype(function, arrays, given):
    """Lets a function of the C core check its arguments, and returns the dtype of its result."""
    try:
        function(*map(_stand_in, arrays), out=_Probe(), **given)
    except TypeError as error:
        if not str(error).endswith(f"not {_Probe.__name__}"):
            raise
    return function(*(np.zeros((1,) * array.ndim, array.dtype) for array in arrays), **given).dtype


class _Blocks(NamedTuple):
    """Two operands as Dask arrays in blocks of whole rows. y is None if x is compared with itself."""

    x: da.Array
    y: da.Array | None
    vectors: tuple[bool, bool]  # whether x and y are one vector each, which is a single row here

    @property
    def both(self):
        return self.x, self.x if self.y is None else self.y

    def without_vectors(self, result):
        """Drops the axes of single vectors from a result (N, M), as matmul does."""
        return result[tuple(0 if is_vector else slice(None) for is_vector in self.vectors[: result.ndim])]


def _row_blocks(function, **operands):
    """Returns the _Blocks of two operands, of which the second may be None. No block of known size is empty."""
    _, y_name = operands
    if operands[y_name] is None:
        del operands[y_name]
    operands = {name: _operand(function, name, operand) for name, operand in operands.items()}
    for name, operand in operands.items():
        if isinstance(operand, da.Array):
            _require_sizes(function, name, operand, [-1])
    arrays = _arrays(function, _core.as_rows, operands)
    chunks = (array.chunks[0] for array in arrays if isinstance(array, da.Array) and array.ndim == 2)
    longest = max([LEAST, *(size for sizes in chunks for size in sizes if not np.isnan(size))])
    x, *y = (_in_rows(array, longest) for array in arrays)
    vectors = [array.ndim == 1 for array in arrays]
    return _Blocks(x, y[0] if y else None, (vectors[0], vectors[-1]))


def _in_rows(array, longest):
    if array.ndim == 1:
        array = (array if isinstance(array, da.Array) else da.from_array(array, chunks=-1))[None]
    if isinstance(array, da.Array):
        rows = tuple(size for size in array.chunks[0] if size) or (0,)  # keeps chunks of unknown size
        return array.rechunk((rows, (array.shape[1],)))
    return da.from_array(array, chunks=(longest, -1))


def _search_blocks(function, numbered, **operands):
    """As _row_blocks, but operands may also be paths of files of rows.

    numbered: the names of the operands whose row numbers are in the result. Their sizes must be known.
    """
    for name, operand in operands.items():
        if isinstance(operand, (str, os.PathLike)):
            operands[name] = open_path(function, name, operand)
    blocks = _row_blocks(function, **operands)
    x_name, y_name = operands
    for name, array in zip(operands, blocks.both, strict=True):
        if name in numbered:
            _require_sizes(function, x_name if blocks.y is None else name, array, [-2])
    check_elements(function, *((x_name, blocks.x) if blocks.y is None else (y_name, blocks.y)))
    return blocks


# ---- all pairs ----


def _block_pairs(name, task, x, y, dtype, mirrored=None, both=False, masks=()):
    """Returns an array whose block (i, j) is task(block i of x, block j of y).

    masks: arrays whose blocks are further arguments, each with its axes: "i", "j", "ij", or "ie" for rows of x.

    With y=None, x is compared with itself. Then block (i, i) is task(block i), and for i < j block (i, j) is
    task(block i, block j). With both=True, this holds for i > j too. With both=False, block (i, j) for i > j is
    mirrored(block (j, i)), or None if mirrored is None.
    """
    meta = np.empty((0, 0), dtype)
    if y is not None:
        more = itertools.chain.from_iterable(masks)
        return da.blockwise(task, "ij", x, "id", y, "jd", *more, token=name, meta=meta, **_BLOCKS)
    # da.blockwise cannot make this graph: it treats all pairs of blocks in the same way, and passes a task only blocks
    # of operands, never another block of the result.
    arrays = [array for array, _ in masks]
    name = f"{name}-{tokenize(task, x.name, mirrored, both, *(array.name for array in arrays))}"
    tasks: dict[Any, Any] = {}
    for i, j in itertools.product(range(x.numblocks[0]), repeat=2):
        places = {"i": i, "j": j, "e": 0}
        keys = [(array.name, *(places[axis] for axis in axes)) for array, axes in masks]
        if i == j:
            tasks[name, i, j] = (task, (x.name, i, 0), *keys)
        elif i < j or both:
            tasks[name, i, j] = (task, (x.name, i, 0), (x.name, j, 0), *keys)
        else:
            tasks[name, i, j] = None if mirrored is None else (mirrored, (name, j, i))
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[x, *arrays])
    return da.Array(graph, name, (x.chunks[0], x.chunks[0]), meta=meta)


def _filter_blocks(function, where, exclude, sides, both=False):
    """Returns (kinds, arrays with their axes) of the arguments where= and exclude=, for _block_pairs and the tasks.

    The kinds are "mask" (rows of y, or pairs), "x_mask" (rows of x, if the mask holds for both sides), "excluded" (the
    numbers for each row of x) and "first" (the number of the first row of the block of y).
    """
    if where is None and exclude is None:
        return (), ()
    x, y = sides.both
    queries, candidates = _sizes(x)[0], _sizes(y)[0]
    if is_dask_collection(exclude):
        raise TypeError(_errors.LAZY_EXCLUDE.format(function=function))
    lazy = _operand(function, "where", where)
    if isinstance(lazy, da.Array):
        if lazy.dtype != bool or _sizes(lazy) not in ((candidates,), (queries, candidates)):
            shapes = f"({candidates},) or ({queries}, {candidates})"
            message = _errors.LAZY_MASK.format(function=function, shapes=shapes, arrays=described(where=lazy))
            raise ValueError(message)
        left, excluded = filters.checked(function, None, exclude, queries, candidates)
        mask = lazy if left is None else lazy & left
        if left is not None and both and lazy.ndim == 2:
            mask = mask & left[:, None]
    else:
        mask, excluded = filters.checked(function, where, exclude, queries, candidates, both)
    kinds, arrays = [], []
    if mask is not None:
        chunks = (y.chunks[0],) if mask.ndim == 1 else (x.chunks[0], y.chunks[0])
        if mask.ndim == 2:
            _require_sizes(function, "queries", x, [-2])
        mask = mask.rechunk(chunks) if isinstance(mask, da.Array) else da.from_array(mask, chunks=chunks)
        kinds, arrays = ["mask"], [(mask, "j" if mask.ndim == 1 else "ij")]
        if both and mask.ndim == 1:
            kinds, arrays = ["mask", "x_mask"], [*arrays, (mask, "i")]
    if excluded is not None:
        _require_sizes(function, "queries", x, [-2])
        numbers = da.from_array(excluded, chunks=(x.chunks[0], -1))
        firsts = da.from_array(np.array(_first_rows(y)), chunks=1)
        kinds, arrays = [*kinds, "excluded", "first"], [*arrays, (numbers, "ie"), (firsts, "j")]
    return tuple(kinds), tuple(arrays)


def _fields(tuples, dtypes):
    """Splits an array whose blocks are tuples: returns one lazy array for each position in the tuples."""
    empty = [np.empty((0,) * tuples.ndim, dtype) for dtype in dtypes]
    return [tuples.map_blocks(operator.itemgetter(position), meta=meta) for position, meta in enumerate(empty)]


def pairwise(x, y=None, *, eps=_core.DEFAULT_EPS, binary=False, out=None, progress=None) -> da.Array:
    """cossim.pairwise for Dask arrays, with one task for each pair of row blocks.

    The result has shape (N, M), and its chunks are the row chunks of x and y, whose sizes may be unknown. With y=None,
    blocks below the diagonal are transposes of those above.

    >>> import cossim, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]], chunks=(2, 2))
    >>> cossim.pairwise(x).compute()
    array([[1. , 0.6, 0. ],
           [0.6, 1. , 0. ],
           [0. , 0. , 0. ]])
    """
    _reject_arguments("pairwise", out, progress)
    given = {"eps": eps_argument("pairwise", eps), "binary": bool(binary)}
    blocks = _row_blocks("pairwise", x=x, y=y)
    dtype = _result_dtype(_core.pairwise, blocks.both, given)
    task = partial(dask_tasks.run, partial(_core.pairwise, **given))
    scores = _block_pairs("cossim-pairwise", task, blocks.x, blocks.y, dtype, mirrored=np.transpose)
    return blocks.without_vectors(scores)


# The searches. cossim.search.functions has checked their arguments, except arrays, paths and progress.


def topk(queries, corpus, k, *, where, exclude, eps, binary, memory, progress) -> TopK:
    """cossim.topk for Dask arrays, with one task for each pair of row blocks.

    values and indices are lazy arrays of shape (Q, k), chunked like the rows of queries, whose sizes may be unknown
    unless they are the corpus. ``dask.compute(result)[0]`` computes both together. If an operand is a path, every
    worker must be able to read its file. memory bounds one task. where may be a mask of NumPy or Dask, (N,) or (Q, N),
    or row numbers.

    A partial result has at most k columns. A task merges up to MERGED of them, until one is left for each block of
    queries.

    >>> import cossim, dask, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], chunks=(2, 2))
    >>> dask.compute(cossim.topk(x, None, 1))[0]
    TopK of 3 queries, k = 1
    query  index: value
        0  1: 0.6
        1  2: 1
        2  1: 1
    """
    _reject_arguments("topk", progress=progress)
    name = "cossim-topk"
    blocks = _search_blocks("topk", ["corpus"], queries=queries, corpus=corpus)
    if binary:
        check_bits("topk", queries=_stand_in(blocks.both[0]), corpus=_stand_in(blocks.both[1]))
    dtype = score_dtype(*blocks.both)
    kinds, masks = _filter_blocks("topk", where, exclude, blocks)
    find = partial(dask_tasks.block_topk, k, eps, memory, binary, kinds)
    found = _block_pairs(name, find, blocks.x, blocks.y, dtype, both=True, masks=masks)
    merge = partial(dask_tasks.merge_topk, k)
    finish = partial(dask_tasks.finish_topk, k)
    functions = {"chunk": dask_tasks.unchanged, "combine": merge, "aggregate": finish, "concatenate": False}
    shape = {"axis": 1, "keepdims": True, "output_size": k, "dtype": dtype, "meta": np.empty((0, 0), dtype)}
    best = da.reduction(found, split_every=MERGED, name=name, **functions, **shape)
    values, indices = _fields(best, (dtype, np.int64))
    return TopK(values[0], indices[0]) if blocks.vectors[0] else TopK(values, indices)


def pairs_above(x, threshold, y, *, where, exclude, eps, binary, max_pairs, memory, progress) -> Pairs:
    """cossim.pairs_above for Dask arrays, with one task for each pair of row blocks (half of them with y=None).

    i, j and values are lazy 1-d arrays of unknown size, sorted by (i, j). ``dask.compute(result)[0]`` computes all
    three together, and ``result.i.compute_chunk_sizes()`` determines the number of pairs. Each chunk holds the pairs of
    one block of x, which must fit into a worker's memory. If an operand is a path, every worker must be able to read
    its file. memory bounds one task. where may be a mask of NumPy or Dask, (M,) or (N, M), or row numbers.

    With max_pairs, all pairs are counted before the first chunk is made. Until then the pairs of all blocks of x are
    held, except for a block that alone has more than max_pairs. If there are more in total, compute() raises a
    ValueError that says how many there are.

    >>> import cossim, dask, dask.array as da
    >>> x = da.from_array([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]], chunks=(2, 2))
    >>> dask.compute(cossim.pairs_above(x, 0.5))[0]
    3 pairs
    i  j  value
    0  1  0.6
    0  2  0.6
    1  2  1
    """
    _reject_arguments("pairs_above", progress=progress)
    name = "cossim-pairs"
    sides = _search_blocks("pairs_above", ["x", "y"], x=x, y=y)
    left, right = sides.both
    if binary:
        check_bits("pairs_above", x=_stand_in(left), y=_stand_in(right))
    dtype = score_dtype(left, right)
    kinds, masks = _filter_blocks("pairs_above", where, exclude, sides, both=sides.y is None)
    task = partial(dask_tasks.block_pairs, threshold, eps, memory, binary, max_pairs, kinds)
    found = _block_pairs(name, task, left, sides.y, dtype, masks=masks)

    blocks = left.numblocks[0]
    options = {"meta": np.empty(0, dtype), "adjust_chunks": {"i": (np.nan,) * blocks}, **_BLOCKS}
    join = partial(dask_tasks.join_pairs, _first_rows(right), max_pairs)
    first_rows = da.from_array(np.array(_first_rows(left)), chunks=1)
    pairs = da.blockwise(join, "i", found, "ij", first_rows, "i", token=f"{name}-joined", **options)
    if max_pairs is not None:
        counts = pairs.map_blocks(dask_tasks.count_pairs, chunks=((1,) * blocks,), meta=np.empty(0, np.int64))
        check = partial(dask_tasks.check_count, threshold, max_pairs)
        pairs = da.blockwise(check, "i", pairs, "i", counts.sum(), "", token=f"{name}-checked", **options)
    return Pairs(*_fields(pairs, (np.int64, np.int64, dtype)))


def duplicate_groups(x, threshold, *, eps, binary, memory, progress) -> da.Array:
    """cossim.duplicate_groups for Dask arrays, with one task for each pair of row blocks (half of them are left out).

    The labels are a lazy array of shape (N,), chunked like the rows of x. A task finds the groups within its pair of
    blocks, and returns one pair of row numbers, (row, lowest row of its group), for each row that has a lower one. A
    task merges up to MERGED such results, until one is left, of at most N - 1 pairs: 16 bytes for each duplicate.
    memory bounds one task.

    >>> import cossim, dask.array as da
    >>> x = da.from_array([[1.0, 0.0], [0.0, 2.0], [0.0, 5.0], [2.0, 0.1]], chunks=(2, 2))
    >>> cossim.duplicate_groups(x, 0.99).compute()
    array([0, 1, 1, 0])
    """
    _reject_arguments("duplicate_groups", progress=progress)
    array = _search_blocks("duplicate_groups", ["x"], x=x, y=None).x
    if binary:
        check_bits("duplicate_groups", x=_stand_in(array))
    name = f"cossim-groups-{tokenize(array.name, threshold, eps, memory, binary)}"
    find = partial(dask_tasks.block_groups, threshold, eps, memory, binary)
    first_rows = _first_rows(array)
    tasks: dict[Any, Any] = {}
    for i, j in itertools.combinations_with_replacement(range(len(first_rows)), 2):
        blocks = [(array.name, block, 0) for block in ([i] if i == j else [i, j])]
        tasks[f"{name}-found", i, j] = (find, first_rows[i], first_rows[j], *blocks)
    parts = list(tasks)
    while len(parts) > 1:
        groups = [parts[first : first + MERGED] for first in range(0, len(parts), MERGED)]
        merged = {(f"{name}-merged", len(tasks) + i): (dask_tasks.merge_groups, some) for i, some in enumerate(groups)}
        tasks |= merged
        parts = list(merged)
    for block, (first, rows) in enumerate(zip(first_rows, array.chunks[0], strict=True)):
        tasks[name, block] = (dask_tasks.group_labels, first, rows, parts[0])
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[array])
    return da.Array(graph, name, (array.chunks[0],), meta=np.empty(0, np.int64))


def _first_rows(x):
    """Returns the number of the first row of each block."""
    return [0, *itertools.accumulate(x.chunks[0][:-1])]


# ---- along a dimension ----


def _chunks_at(size, cuts, longest):
    """Returns chunks of an axis that end where chunks of the operands end, and have at least 2 elements if size > 1.

    The C core drops axes of size 1. A chunk of size 1 would therefore take another code path, with another order of
    summation. cuts holds the operands' chunks of the axis. If it is empty, the chunks have `longest` elements.
    """
    if size == UNKNOWN:
        return cuts[0]
    ends = {int(end) for chunks in cuts for end in itertools.accumulate(chunks)}
    if not cuts:
        ends = {*range(longest, size, longest), size}
    kept = [0]
    for end in sorted(ends):
        if end - kept[-1] > 1 and size - end != 1:
            kept.append(end)
    return tuple(int(chunk) for chunk in np.diff(kept)) if size > 1 else (size,)


def _reduced(dim, ndim):
    """Returns the axes that dim names. None and () name all of them."""
    dims = (dim,) if dim is not None and not isinstance(dim, (tuple, list)) else dim or range(ndim)
    return {i % ndim for i in dims} if ndim > 0 else set()


def _whole_axes(sizes, shape, reduced):
    """Returns the axes that must be one chunk."""
    if any(own[i] != shape[i] for own in sizes for i in reduced):
        # If an operand has size 1 along the vectors, the stride of their elements depends on the axes after dim. So
        # these axes are one chunk too.
        return reduced | set(range(min(reduced), len(shape)))
    return reduced


def _unknown_axes(function, operands, sizes):
    """Returns the axes that have an UNKNOWN size in some operand.

    Raises ValueError unless each operand has size 1 there, or the same number of chunks. Such chunks are taken to have
    equal sizes, as in Dask's own arithmetic; the tasks check it.
    """
    ndim = len(sizes[0])
    unknown = [i for i in range(ndim) if any(own[i] == UNKNOWN for own in sizes)]
    for i in unknown:
        sides = zip(operands.values(), sizes, strict=True)
        counts = {array.numblocks[i - ndim] if own[i] == UNKNOWN else None for array, own in sides if own[i] != 1}
        if len(counts) > 1:
            for name, array in operands.items():
                _require_sizes(function, name, array, [i - ndim])
    return unknown


def _shared_chunks(arrays, sizes, shape, reduced):
    """Returns chunks of the broadcast shape for which the C core takes the same code path as for whole arrays.

    Along an axis of UNKNOWN size the result has the chunks of the operands. There dask_tasks.run_unknown makes sure
    that the core takes the same path.
    """
    whole = _whole_axes(sizes, shape, reduced)
    cuts: list[list[Any]] = [[] for _ in shape]
    for array, own in zip(arrays, sizes, strict=True):
        if isinstance(array, da.Array):
            for i, chunks in enumerate(array.chunks, len(shape) - array.ndim):
                if i not in whole and own[i] == shape[i]:
                    cuts[i].append(chunks)
    longest = max([LEAST, *(size for axis in cuts for chunks in axis for size in chunks if not np.isnan(size))])
    return [(size,) if i in whole else _chunks_at(size, cuts[i], longest) for i, size in enumerate(shape)]


def _integers(dim):
    """Converts a dim, or each of several, to int. Other objects stay as they are, for the C core to refuse them."""
    if isinstance(dim, (tuple, list)):
        return tuple(map(_integers, dim))
    try:
        return dim if isinstance(dim, bool) else operator.index(dim)
    except TypeError:
        return dim


def along_dim(name: str, *args: Any, **kwargs: Any) -> da.Array:
    """A function of the core along dim, by its name, for Dask arrays, with one task for each block of the result.

    Both operands are rechunked to one chunk along dim, and to the same chunks along the other dimensions. A chunk of
    size 1 is joined to its neighbour. If exactly one operand has size 1 along dim, the dimensions after dim are one
    chunk too. The values are those for arrays in C order. vector_norm and normalize have one operand, with one chunk
    along each dimension in dim.

    If the operands broadcast, such as z[None] and z[:, None], a task holds a block of each operand and their scores,
    but no array of the full broadcast shape.

    >>> import cossim, dask.array as da
    >>> a = da.from_array([[3.0, 4.0], [1.0, 0.0]], chunks=(2, 1))
    >>> cossim.cosine_similarity(a[None], a[:, None], dim=2).compute()
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    function = getattr(_core, name)
    signature = inspect.signature(function)
    passed = signature.bind(*args, **kwargs).arguments
    operands: dict[str, Any] = {key: passed.pop(key) for key in ("x", "x1", "x2") if key in passed}
    _reject_arguments(name, passed.pop("out", None))
    convert: dict[str, Any] = {"eps": partial(eps_argument, name), "keepdim": bool, "keepdims": bool}
    given = {
        key: convert.get(key, _integers)(value)
        for key, value in passed.items()
        if value is not None or key not in OTHER_NAMES
    }
    default_dim, keeps_vectors = signature.parameters["dim"].default, name == "normalize"
    arrays = _arrays(name, _core.as_arrays, operands)
    operands = dict(zip(operands, arrays, strict=True))
    ndim = max(array.ndim for array in arrays)
    sizes = [(1,) * (ndim - array.ndim) + _sizes(array) for array in arrays]
    unknown = _unknown_axes(name, operands, sizes)
    dtype = _result_dtype(function, arrays, given)
    shape = tuple(next((size for size in some if size != 1), 1) for some in zip(*sizes, strict=True))
    if default_dim == ndim == 1:
        default_dim = 0  # single vectors
    reduced = _reduced(given.get("dim", given.get("axis", default_dim)), ndim)
    for operand, array in operands.items():
        _require_sizes(name, operand, array, [i - ndim for i in _whole_axes(sizes, shape, reduced)])
    chunks = _shared_chunks(arrays, sizes, shape, reduced)

    blocks: list[Any] = []
    for array, own in zip(arrays, sizes, strict=True):
        axes = tuple(range(ndim - array.ndim, ndim))
        chunked = tuple(chunks[i] if own[i] == shape[i] else (1,) for i in axes)
        array = array.rechunk(chunked) if isinstance(array, da.Array) else da.from_array(array, chunks=chunked)
        blocks += [array, axes]
    # A reduced axis that the result keeps is a new axis. So the result lacks an axis of its operands, as _BLOCKS needs.
    new_axes = {}
    if keeps_vectors or given.get("keepdim", given.get("keepdims", False)):
        new_axes = {ndim + i: chunks[i] if keeps_vectors else (1,) for i in reduced}
    result = [ndim + i if i in reduced else i for i in range(ndim) if i not in reduced or new_axes]
    task = partial(dask_tasks.run, partial(function, **given))
    if unknown:
        places = {i - ndim: result.index(i) for i in unknown}
        task = partial(dask_tasks.run_unknown, task, name, places, sizes)
    return da.blockwise(
        task,
        result,
        *blocks,
        token=f"cossim-{name}",
        new_axes=new_axes,
        adjust_chunks={i: chunks[i] for i in result if i < ndim},  # an operand may have size 1 on such an axis
        meta=np.empty((0,) * len(result), dtype),
        **_BLOCKS,
    )
