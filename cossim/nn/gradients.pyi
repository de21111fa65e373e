from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, overload

from numpy.typing import NDArray

from cossim._typing import Array, ArrayOrScalar, Float, Pair, ParametersPullback

@overload
def conv2d_vjp(
    x: NDArray[Float],
    weight: NDArray[Float],
    bias: None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Float], ParametersPullback[Float, None]]: ...
@overload
def conv2d_vjp(
    x: NDArray[Float],
    weight: NDArray[Float],
    bias: NDArray[Float],
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Float], ParametersPullback[Float, NDArray[Float]]]: ...
@overload
def conv2d_vjp(
    x: Array,
    weight: Array,
    bias: None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Any], ParametersPullback[Any, None]]: ...
@overload
def conv2d_vjp(
    x: Array,
    weight: Array,
    bias: Array,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Any], ParametersPullback[Any, NDArray[Any]]]: ...
@overload
def max_pool2d_vjp(
    x: NDArray[Float],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Float], Callable[[Array], NDArray[Float]]]: ...
@overload
def max_pool2d_vjp(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Any], Callable[[Array], NDArray[Any]]]: ...
@overload
def linear_vjp(
    x: NDArray[Float], weight: NDArray[Float], bias: None = None
) -> tuple[ArrayOrScalar[Float], ParametersPullback[Float, None]]: ...
@overload
def linear_vjp(
    x: NDArray[Float], weight: NDArray[Float], bias: NDArray[Float]
) -> tuple[ArrayOrScalar[Float], ParametersPullback[Float, NDArray[Float]]]: ...
@overload
def linear_vjp(
    x: Array, weight: Array, bias: None = None
) -> tuple[ArrayOrScalar[Any], ParametersPullback[Any, None]]: ...
@overload
def linear_vjp(
    x: Array, weight: Array, bias: Array
) -> tuple[ArrayOrScalar[Any], ParametersPullback[Any, NDArray[Any]]]: ...
@overload
def relu_vjp(x: NDArray[Float]) -> tuple[NDArray[Float], Callable[[Array], NDArray[Float]]]: ...
@overload
def relu_vjp(x: Array) -> tuple[ArrayOrScalar[Any], Callable[[Array], ArrayOrScalar[Any]]]: ...
