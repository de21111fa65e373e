from typing import Any

from numpy.typing import DTypeLike, NDArray

from cossim._typing import Array, Pullback, Seed
from cossim.nn import Conv2d, Linear, Module

class Encoder(Module):
    conv1: Conv2d
    conv2: Conv2d
    fc: Linear
    def __init__(self, *, dtype: DTypeLike = ..., rng: Seed | None = None) -> None: ...
    def __call__(self, x: Array) -> NDArray[Any]: ...
    def forward(self, x: Array) -> NDArray[Any]: ...
    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]: ...
