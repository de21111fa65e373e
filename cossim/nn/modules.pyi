from typing import Any, Literal

from numpy.typing import DTypeLike, NDArray

from cossim._typing import Array, ArrayOrScalar, Pair, Pullback, Seed
from cossim.nn.module import Module

class Conv2d(Module):
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | Literal["same", "valid"]
    dilation: tuple[int, int]
    groups: int
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | Literal["same", "valid"] = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        dtype: DTypeLike = ...,
        rng: Seed | None = None,
    ) -> None: ...
    def __call__(self, x: Array) -> NDArray[Any]: ...
    def forward(self, x: Array) -> NDArray[Any]: ...
    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]: ...

class MaxPool2d(Module):
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    return_indices: bool
    ceil_mode: bool
    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None: ...
    # Any: with return_indices the result is a pair of arrays.
    def __call__(self, x: Array) -> ArrayOrScalar[Any]: ...
    def forward(self, x: Array) -> ArrayOrScalar[Any]: ...
    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]: ...

class ReLU(Module):
    def __call__(self, x: Array) -> NDArray[Any]: ...
    def forward(self, x: Array) -> NDArray[Any]: ...
    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]: ...

class Flatten(Module):
    start_dim: int
    end_dim: int
    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None: ...
    def __call__(self, x: Array) -> NDArray[Any]: ...
    def forward(self, x: Array) -> NDArray[Any]: ...
    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]: ...

class Linear(Module):
    in_features: int
    out_features: int
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = ...,
        rng: Seed | None = None,
    ) -> None: ...
    def __call__(self, x: Array) -> NDArray[Any]: ...
    def forward(self, x: Array) -> NDArray[Any]: ...
    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]: ...
