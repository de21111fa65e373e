from typing import Any, Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from cossim._typing import Array, ArrayOrScalar, Float, Pair

@overload
def conv2d(
    x: NDArray[Float],
    weight: NDArray[Float],
    bias: NDArray[Float] | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> NDArray[Float]: ...
@overload
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> NDArray[Any]: ...
@overload
def max_pool2d(
    x: NDArray[Float],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> NDArray[Float]: ...
@overload
def max_pool2d(
    x: NDArray[Float],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[NDArray[Float], NDArray[np.int64]]: ...
@overload
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> NDArray[Any]: ...
@overload
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[NDArray[Any], NDArray[np.int64]]: ...
@overload
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any: ...
@overload
def linear(x: NDArray[Float], weight: NDArray[Float], bias: NDArray[Float] | None = None) -> ArrayOrScalar[Float]: ...
@overload
def linear(x: Array, weight: Array, bias: Array | None = None) -> ArrayOrScalar[Any]: ...
@overload
def relu(x: NDArray[Float]) -> NDArray[Float]: ...
@overload
def relu(x: Array) -> ArrayOrScalar[Any]: ...
