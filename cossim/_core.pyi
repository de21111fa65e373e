"""The C core.

The functions in the last section are private. Their Python callers check the arguments. They pass arrays by position,
and flags and single numbers by name.
"""

from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from cossim._typing import Array, ArrayOrScalar, Axes, Axis, Deferred, Dim, Float, Number, Operand, Progress
from cossim.search.blocks import Request
from cossim.search.sparse import Request as SparseRequest

_Out = TypeVar("_Out", bound=np.ndarray[Any, Any])
_Size = tuple[int, int]
# x, weight, bias, stride, padding, dilation, groups
_Conv2d = tuple[object, object, object, object, object, object, object]
_Windows = tuple[object, object, object, object]  # kernel_size, stride, padding, dilation

DEFAULT_EPS: float
NORMALIZE_EPS: float

# ---- along a dimension ----

@overload
def cosine_similarity(
    x1: Deferred, x2: Operand, dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> Any: ...
@overload
def cosine_similarity(
    x1: Array, x2: Deferred, dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> Any: ...
@overload
def cosine_similarity(
    x1: Array, x2: Array, dim: Dim = 1, eps: Number = 1e-08, *, out: _Out, axis: Axis = None
) -> _Out: ...
@overload
def cosine_similarity(
    x1: NDArray[Float], x2: NDArray[Float], dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> ArrayOrScalar[Float]: ...
@overload
def cosine_similarity(
    x1: Array, x2: Array, dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> ArrayOrScalar[Any]: ...
@overload
def cosine_distance(
    x1: Deferred, x2: Operand, dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> Any: ...
@overload
def cosine_distance(
    x1: Array, x2: Deferred, dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> Any: ...
@overload
def cosine_distance(
    x1: Array, x2: Array, dim: Dim = 1, eps: Number = 1e-08, *, out: _Out, axis: Axis = None
) -> _Out: ...
@overload
def cosine_distance(
    x1: NDArray[Float], x2: NDArray[Float], dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> ArrayOrScalar[Float]: ...
@overload
def cosine_distance(
    x1: Array, x2: Array, dim: Dim = 1, eps: Number = 1e-08, *, out: None = None, axis: Axis = None
) -> ArrayOrScalar[Any]: ...
@overload
def vecdot(x1: Deferred, x2: Operand, dim: Dim = -1, *, out: None = None, axis: Axis = None) -> Any: ...
@overload
def vecdot(x1: Array, x2: Deferred, dim: Dim = -1, *, out: None = None, axis: Axis = None) -> Any: ...
@overload
def vecdot(x1: Array, x2: Array, dim: Dim = -1, *, out: _Out, axis: Axis = None) -> _Out: ...
@overload
def vecdot(
    x1: NDArray[Float], x2: NDArray[Float], dim: Dim = -1, *, out: None = None, axis: Axis = None
) -> ArrayOrScalar[Float]: ...
@overload
def vecdot(x1: Array, x2: Array, dim: Dim = -1, *, out: None = None, axis: Axis = None) -> ArrayOrScalar[Any]: ...
@overload
def vector_norm(
    x: Deferred,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    out: None = None,
    axis: Axes = None,
    keepdims: bool | None = None,
) -> Any: ...
@overload
def vector_norm(
    x: Array, dim: Axes = None, keepdim: bool = False, *, out: _Out, axis: Axes = None, keepdims: bool | None = None
) -> _Out: ...
@overload
def vector_norm(
    x: NDArray[Float],
    dim: None = None,
    keepdim: Literal[False] = False,
    *,
    out: None = None,
    axis: None = None,
    keepdims: Literal[False] | None = None,
) -> Float: ...
@overload
def vector_norm(
    x: NDArray[Float],
    dim: Axes = None,
    keepdim: bool = False,
    *,
    out: None = None,
    axis: Axes = None,
    keepdims: bool | None = None,
) -> ArrayOrScalar[Float]: ...
@overload
def vector_norm(
    x: Array,
    dim: None = None,
    keepdim: Literal[False] = False,
    *,
    out: None = None,
    axis: None = None,
    keepdims: Literal[False] | None = None,
) -> np.floating[Any] | Any: ...
@overload
def vector_norm(
    x: Array,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    out: None = None,
    axis: Axes = None,
    keepdims: bool | None = None,
) -> ArrayOrScalar[Any]: ...
@overload
def normalize(x: Deferred, dim: Axes = 1, eps: Number = 1e-12, *, out: None = None, axis: Axes = None) -> Any: ...
@overload
def normalize(x: Array, dim: Axes = 1, eps: Number = 1e-12, *, out: _Out, axis: Axes = None) -> _Out: ...
@overload
def normalize(
    x: NDArray[Float], dim: Axes = 1, eps: Number = 1e-12, *, out: None = None, axis: Axes = None
) -> NDArray[Float]: ...
@overload
def normalize(
    x: Array, dim: Axes = 1, eps: Number = 1e-12, *, out: None = None, axis: Axes = None
) -> ArrayOrScalar[Any]: ...

# ---- all pairs ----

@overload
def pairwise(
    x: Deferred,
    y: Operand | None = None,
    *,
    eps: Number = 1e-08,
    binary: bool = False,
    out: None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def pairwise(
    x: Array,
    y: Deferred,
    *,
    eps: Number = 1e-08,
    binary: bool = False,
    out: None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def pairwise(
    x: Array,
    y: Array | None = None,
    *,
    eps: Number = 1e-08,
    binary: bool = False,
    out: _Out,
    progress: Progress | None = None,
) -> _Out: ...
@overload
def pairwise(
    x: NDArray[Float],
    y: NDArray[Float] | None = None,
    *,
    eps: Number = 1e-08,
    binary: bool = False,
    out: None = None,
    progress: Progress | None = None,
) -> ArrayOrScalar[Float]: ...
@overload
def pairwise(
    x: Array,
    y: Array | None = None,
    *,
    eps: Number = 1e-08,
    binary: bool = False,
    out: None = None,
    progress: Progress | None = None,
) -> ArrayOrScalar[Any]: ...

# ---- threads ----

def get_num_threads() -> int: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
def begin_threads(n: SupportsIndex, /) -> object: ...
def end_threads(block: object, /) -> None: ...

# ---- for cossim itself ----

# Returns the function of this name for Dask arrays. cossim._finders sets this attribute.
dask_function: Callable[[str], Callable[..., Any]]

# The same for sparse rows.
sparse_function: Callable[[str], Callable[..., Any]]

def all_finite(x: NDArray[Any], /) -> bool: ...
def as_array(function: str, name: str, object: object, /) -> NDArray[Any]: ...
def as_arrays(function: str, names: tuple[str, ...], objects: tuple[object, ...], /) -> tuple[NDArray[Any], ...]: ...
def as_rows(function: str, names: tuple[str, ...], objects: tuple[object, ...], /) -> tuple[NDArray[Any], ...]: ...
def check_bits(function: str, name: str, array: object, /) -> None: ...
def pack_mask(mask: NDArray[np.bool_], /) -> tuple[NDArray[np.uint64], int]: ...
def pack_numbers(numbers: NDArray[np.int64], rows: int, /) -> tuple[NDArray[np.uint64], int] | None: ...
def living_with(living: NDArray[np.uint8] | None, first: int, rows: int, /) -> NDArray[np.uint8]: ...
def state_with_rows(
    state: Any, room: dict[str, NDArray[Any]] | None, rows: object, holes: int, /
) -> tuple[Any, NDArray[Any], int, NDArray[np.int64]] | None: ...
def state_without(state: Any, numbers: object, /) -> Any: ...
def communities(
    i: NDArray[np.int64], j: NDArray[np.int64], own: NDArray[np.bool_], min_size: int, /
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]: ...
def config() -> dict[str, Any]: ...
def enter_fp_mode() -> bytes: ...
def leave_fp_mode(mode: bytes, /) -> None: ...
def _conv2d_force(name: str | None, /) -> None: ...
def _live_blocks() -> int: ...
def _fail_allocation(n: int, /) -> int: ...
def augment(
    images: NDArray[Any],
    maps: NDArray[np.float64],
    keys: NDArray[np.uint64],
    out: NDArray[Any],
    /,
    *,
    colours: NDArray[np.float64] | None,
    noise: float,
    low: float,
    high: float,
) -> None: ...
def conv2d(arguments: _Conv2d, /, *, relu: bool = False) -> NDArray[Any]: ...
def conv2d_grad_input(arguments: _Conv2d, maps: NDArray[Any], /) -> NDArray[Any]: ...
def conv2d_grad_weight(
    arguments: _Conv2d, maps: NDArray[Any], indices: NDArray[np.int64] | None, /
) -> tuple[NDArray[Any], NDArray[Any] | None]: ...
def conv2d_options(
    function: str, stride: object, padding: object, dilation: object, groups: object, /
) -> tuple[_Size, Any, _Size, int]: ...
def conv2d_padding(arguments: _Conv2d, /) -> tuple[_Size, _Size]: ...
def conv2d_pooled(arguments: _Conv2d, /, *, relu: bool = False) -> tuple[NDArray[Any], NDArray[np.int64], _Size]: ...
def layer_arrays(
    function: str, names: tuple[str, ...], objects: tuple[object, ...], /, *, channels: bool = False
) -> tuple[NDArray[Any], ...]: ...
def linear(x: object, weight: object, bias: object, /, *, relu: bool = False) -> Any: ...
def max_pool2d(
    x: object, windows: _Windows, ceil_mode: object, return_indices: object, /
) -> tuple[NDArray[Any], Any]: ...
def max_pool2d_scatter(indices: NDArray[np.int64], gradient: NDArray[Any], size: _Size, /) -> NDArray[Any]: ...
def nt_xent(
    z0: NDArray[Any],
    z1: NDArray[Any] | None,
    dz0: NDArray[Any] | None,
    dz1: NDArray[Any] | None,
    classes: NDArray[np.int64] | None,
    positives: NDArray[np.float64] | None,
    /,
    *,
    temperature: float,
    interleaved: bool,
) -> float: ...
def matmul(left: NDArray[Any], right: NDArray[Any], /) -> NDArray[Any]: ...
def activation(name: str, x: NDArray[Any], gradient: NDArray[Any] | None, /, *, slope: float = 0.0) -> Any: ...
def avg_pool2d(
    x: NDArray[Any],
    size: _Size,
    rows: NDArray[Any],
    row_sizes: NDArray[Any],
    columns: NDArray[Any],
    column_sizes: NDArray[Any],
    /,
    *,
    gradient: bool,
) -> NDArray[Any]: ...
def channel_affine(
    x: NDArray[Any], y: NDArray[Any] | None, centre: NDArray[Any], factors: NDArray[Any], /
) -> NDArray[Any]: ...
def channel_statistics(x: NDArray[Any], means: NDArray[Any], sums: NDArray[Any], /) -> None: ...
def channel_sums(x: NDArray[Any], y: NDArray[Any] | None, centre: NDArray[Any], /) -> NDArray[Any]: ...
def pair_argument(function: str, name: str, value: object, least: int, /) -> _Size: ...
def pool_images(function: str, x: object, windows: _Windows, ceil_mode: object, /) -> tuple[NDArray[Any], _Size]: ...
def pool_windows(function: str, windows: _Windows, /) -> tuple[_Size, _Size, _Size, _Size]: ...
def relu(x: object, /) -> Any: ...
def relu_gradient(x: NDArray[Any], gradient: NDArray[Any], /) -> Any: ...
def quantize(
    request: Request, codes: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None, scales: NDArray[np.float32], /
) -> None: ...
def quantize_heads(
    request: Request, rotated: tuple[NDArray[np.float32], float, NDArray[np.uint8], NDArray[np.float32]], /
) -> None: ...
def topk(request: Request, values: NDArray[Any], indices: NDArray[np.int64], /) -> None: ...
def top_pairs(
    request: Request,
    values: NDArray[Any],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    /,
    *,
    least: float,
    swapped: bool,
) -> None: ...
def maxsim(
    query: Array,
    documents: Array,
    offsets: NDArray[np.int64],
    mask: NDArray[np.bool_] | None,
    eps: float,
    report: Callable[..., object] | None,
    scores: NDArray[np.float64],
    /,
) -> None: ...
def first_match(request: Request, matches: NDArray[np.int64], /, *, threshold: float) -> None: ...
def pairs_begin(rows: int, columns: int, /, *, threshold: float, max_pairs: int, double: bool) -> object: ...
def pairs(request: Request, capsule: object, /, *, swapped: bool) -> None: ...
def pairs_end(capsule: object, /) -> tuple[Any, Any, Any, int]: ...
def components(request: Request, parents: NDArray[np.int64], /, *, threshold: float) -> None: ...
def is_sparse(object: object, /) -> bool: ...
def sparse_pairwise(request: SparseRequest, out: object, /) -> NDArray[Any]: ...
def sparse_topk(request: SparseRequest, values: NDArray[Any], indices: NDArray[np.int64], /) -> None: ...
def sparse_pairs(request: SparseRequest, /, *, threshold: float, max_pairs: int) -> tuple[Any, Any, Any, int]: ...
def sparse_components(request: SparseRequest, parents: NDArray[np.int64], /, *, threshold: float) -> None: ...
def sparse_cosines(request: SparseRequest, out: object, /, *, distance: bool) -> NDArray[Any]: ...
def sparse_norms(request: SparseRequest, /) -> tuple[NDArray[np.float64], NDArray[np.int32]]: ...
def run_layers(
    classes: tuple[type[Any], ...],
    run_alone: Callable[[str, Any, Any], Any],
    names: tuple[str, ...],
    layers: tuple[Any, ...],
    x: object,
    /,
) -> Any: ...
def fused_layers(classes: tuple[type[Any], ...], layers: tuple[Any, ...], /) -> int: ...
def forward_layers(
    classes: tuple[type[Any], ...], layers: tuple[Any, ...], x: object, /
) -> tuple[NDArray[Any] | None, int, Any]: ...
def backward_layers(
    tape: Any, dy: NDArray[Any], input_gradient: bool, /
) -> tuple[NDArray[Any] | None, list[tuple[NDArray[Any], NDArray[Any] | None]]]: ...
