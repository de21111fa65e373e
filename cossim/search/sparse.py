"""Sparse rows: the functions over rows for CSR matrices, which stay sparse throughout.

Sparse rows are SciPy's sparse arrays and matrices, and any object with the arrays of CSR (`indptr`, `indices`, `data`)
and a `shape`. SciPy is not imported. Duplicate entries are summed and unsorted ones sorted, in a copy.
"""

from __future__ import annotations

import inspect
import os
import sys
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _core, _errors
from cossim._arguments import eps_argument, integer_argument
from cossim._dtypes import is_bfloat16
from cossim._progress import reporting
from cossim.search.blocks import check_elements, empty_places, open_path, rows_of, score_dtype, too_many, with_places
from cossim.search.filters import filter_argument
from cossim.search.results import Pairs, TopK
from cossim.vectors.similarity import clamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Number, Progress
    from cossim.search.filters import Filter

_CSR = "indptr", "indices", "data", "shape"


class Request(NamedTuple):
    """A call for rows of x with rows of y. csrc/python/sparse.c reads the fields in this order.

    A side is an array (N, D), or the tuple (data, indices, indptr, N, D) of CSR.
    """

    function: str  # the name for messages
    x_name: str
    x: Any
    y_name: str
    y: Any  # None compares the rows of x with each other
    eps: float
    report: Callable[[int, int], object] | None = None
    filter: Filter | None = None  # which pairs may be results of topk and pairs_above


class _Side:
    """One argument as a side of a Request, with its shape and dtype."""

    def __init__(self, function: str, name: str, source: Any) -> None:
        self.csr: Any = None
        self.is_vector = False
        if not _core.is_sparse(source):
            (rows,) = rows_of(function, **{name: source})
            rows = rows.with_array()
            self.is_vector = rows.is_vector
            self.given, self.shape, self.dtype = rows.array, rows.array.shape, rows.array.dtype
            return
        # Of SciPy's formats, BSR has the arrays of CSR too, with blocks as data, and CSC has them by column.
        if getattr(source, "format", "csr") != "csr" or not all(hasattr(source, part) for part in _CSR):
            source = source.tocsr()
        self.csr, self.shape = source, tuple(source.shape)
        if len(self.shape) != 2 or not all(isinstance(size, (int, np.integer)) and size >= 0 for size in self.shape):
            raise ValueError(_errors.SPARSE_SHAPE.format(function=function, name=name, shape=self.shape))
        data, indices, indptr = _core.as_arrays(
            function,
            tuple(f"{name}.{part}" for part in ("data", "indices", "indptr")),
            (source.data, source.indices, source.indptr),
        )
        self.dtype = data.dtype
        self.given = data, indices, indptr, int(self.shape[0]), int(self.shape[1])

    def __len__(self) -> int:
        return int(self.shape[0])


def _sides(function: str, **sources: Any) -> tuple[Any, ...]:
    """Returns the side of each source. Every source but the first may be None, and then its side is None."""
    first = next(iter(sources))
    return tuple(
        None if source is None and name != first else _Side(function, name, source) for name, source in sources.items()
    )


_ROWS = {"x", "y", "x1", "x2", "queries", "corpus"}  # arguments that may be paths


@cache
def opening_paths(name: str, function: Callable[..., Any], dense: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that opens its arguments that are paths, and calls `function` if one of them is sparse.

    Otherwise it calls `dense`: only an open file says whether its rows are sparse. Errors name the function `name`.
    """
    names = inspect.signature(dense).parameters

    def opened(argument: str, value: Any) -> Any:
        is_path = argument in _ROWS and isinstance(value, (str, os.PathLike))
        return open_path(name, argument, value) if is_path else value

    def call(*args: Any, **kwargs: Any) -> Any:
        rows = [opened(*named) for named in zip(names, args, strict=False)]
        kwargs = {argument: opened(argument, value) for argument, value in kwargs.items()}
        is_sparse = any(_core.is_sparse(value) for value in (*rows, *kwargs.values()))
        return (function if is_sparse else dense)(*rows, **kwargs)

    return call


def _request(function, names, x, y, eps, report=None, found=None):
    x_name, y_name = names
    return Request(function, x_name, x.given, y_name, None if y is None else y.given, eps, report, found)


# ---- pairwise and along a dimension ----


def pairwise(
    x: Any,
    y: Any = None,
    eps: Number = _core.DEFAULT_EPS,
    *,
    out: Any = None,
    progress: Progress | None = None,
    binary: bool = False,
) -> NDArray[Any]:
    name = "pairwise"
    if binary:
        raise TypeError(_errors.SPARSE_BINARY.format(function=name))
    eps = eps_argument(name, eps)
    left, right = _sides(name, x=x, y=y)
    vectors = tuple(axis for axis, side in enumerate((left, right)) if side is not None and side.is_vector)
    to = np.expand_dims(out, vectors) if isinstance(out, np.ndarray) else out
    with reporting(progress, name) as report:
        scores = _core.sparse_pairwise(_request(name, "xy", left, right, eps, report), to)
    return scores.squeeze(vectors) if out is None else out


def _check_dim(function: str, dim: Any, axis: Any, default: int | None = 1) -> None:
    """Raises ValueError unless the dimension is 1, along which the elements of a row lie."""
    if axis is not None:
        if dim is not default:
            raise TypeError(_errors.TWO_NAMES.format(function=function, name="dim", other="axis"))
        dim = axis
    if dim is not None:
        (dim,) = dim if isinstance(dim, (tuple, list)) and len(dim) == 1 else (dim,)
        dim = integer_argument(function, "dim", dim)
    if dim not in (1, -1):
        raise ValueError(_errors.SPARSE_DIM.format(function=function, dim=dim))


def _cosines(
    name: str, x1: Any, x2: Any, dim: Any = 1, eps: Number = _core.DEFAULT_EPS, *, out: Any = None, axis: Any = None
) -> NDArray[Any]:
    eps = eps_argument(name, eps)
    _check_dim(name, dim, axis)
    x, y = _sides(name, x1=x1, x2=x2)
    return _core.sparse_cosines(_request(name, ("x1", "x2"), x, y, eps), out, distance=name == "cosine_distance")


cosine_similarity, cosine_distance = partial(_cosines, "cosine_similarity"), partial(_cosines, "cosine_distance")


def vecdot(*args: Any, **kwargs: Any) -> Any:
    raise TypeError(_errors.SPARSE_VECDOT.format(function="vecdot"))


def _float_dtype(dtype):
    return dtype if dtype.kind == "f" or is_bfloat16(dtype) else np.dtype(np.float64)


def vector_norm(
    x: Any, dim: Any = None, keepdim: bool = False, *, out: Any = None, axis: Any = None, keepdims: Any = None
) -> NDArray[Any]:
    name = "vector_norm"
    _check_dim(name, dim, axis, None)
    (side,) = _sides(name, x=x)
    norms, exponents = _core.sparse_norms(_request(name, "xy", side, None, 0.0))
    with np.errstate(all="ignore"):
        norms = np.ldexp(norms, exponents).astype(_float_dtype(side.dtype))
    norms = norms[:, None] if (keepdims if keepdims is not None else keepdim) else norms
    if out is None:
        return norms
    if not isinstance(out, np.ndarray) or out.shape != norms.shape:
        raise ValueError(_errors.SPARSE_OUT.format(function=name, shape=norms.shape))
    out[...] = norms
    return out


def normalize(x: Any, dim: Any = 1, eps: Number = _core.NORMALIZE_EPS, *, out: Any = None, axis: Any = None) -> Any:
    """Returns a matrix of the class of x in CSR, with the same entries in the same order."""
    name = "normalize"
    eps = eps_argument(name, eps)
    _check_dim(name, dim, axis)
    if out is not None:
        raise TypeError(_errors.SPARSE_NORMALIZE_OUT.format(function=name))
    (side,) = _sides(name, x=x)
    if side.dtype.kind == "b" and hasattr(side.csr, "sum_duplicates"):  # duplicates of bool are or-ed, floats added
        merged = side.csr.copy()
        merged.sum_duplicates()
        (side,) = _sides(name, x=merged)
    norms, exponents = _core.sparse_norms(_request(name, "xy", side, None, eps))
    data, indices, indptr, *_ = side.given
    data, indptr = data[: indptr[-1]], np.array(indptr)
    counts = np.diff(indptr).astype(np.intp)  # np.repeat refuses counts of uint64
    with np.errstate(all="ignore"):
        norms = clamp(norms, np.ldexp(eps, -exponents))
        scaled = np.ldexp(data.astype(np.float64), -np.repeat(exponents, counts))
        values = (scaled / np.repeat(norms, counts)).astype(_float_dtype(data.dtype))
    return type(side.csr)((values, np.array(indices[: len(values)]), indptr), shape=side.shape)


# ---- search: cossim.search.functions has checked the arguments, except rows, filters and progress. ----


def topk(queries: Any, corpus: Any, k: int, *, where: Any, exclude: Any, eps: float, progress: Any, **_: Any) -> TopK:
    name = "topk"
    x, y = _sides(name, queries=queries, corpus=corpus)
    check_elements(name, *(("queries", x) if y is None else ("corpus", y)))
    rows = len(x if y is None else y)
    found = filter_argument(name, where, exclude, len(x), rows)
    least = min(k, rows if found is None else min(rows, found.most))
    values, indices = empty_places(name, (len(x), least), score_dtype(x, x if y is None else y))
    if least and len(x):
        with reporting(progress, name) as report:
            _core.sparse_topk(_request(name, ("queries", "corpus"), x, y, eps, report, found), values, indices)
    values, indices = with_places(name, values, indices, k)
    return TopK(values[0], indices[0]) if x.is_vector else TopK(values, indices)


def pairs_above(
    x: Any, threshold: float, y: Any, *, where: Any, exclude: Any, eps: float, max_pairs: Any, progress: Any, **_: Any
) -> Pairs:
    name = "pairs_above"
    left, right = _sides(name, x=x, y=y)
    check_elements(name, *(("x", left) if right is None else ("y", right)))
    candidates = len(left if right is None else right)
    filtered = filter_argument(name, where, exclude, len(left), candidates, both=right is None)
    limit = sys.maxsize if max_pairs is None else max_pairs
    with reporting(progress, name) as report:
        request = _request(name, "xy", left, right, eps, report, filtered)
        *found, count = _core.sparse_pairs(request, threshold=threshold, max_pairs=limit)
    if count > limit:
        raise too_many(name, count, threshold, max_pairs)
    return Pairs(*found)


def duplicate_groups(x: Any, threshold: float, *, eps: float, progress: Any, **_: Any) -> NDArray[np.int64]:
    name = "duplicate_groups"
    (rows,) = _sides(name, x=x)
    check_elements(name, "x", rows)
    labels = np.arange(len(rows), dtype=np.int64)
    with reporting(progress, name) as report:
        _core.sparse_components(_request(name, "xy", rows, None, eps, report), labels, threshold=threshold)
    return labels
