from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike, NDArray

from cossim._typing import Real, Weights
from cossim.nn.module import Module

class _Optimizer:
    def __init__(self, parameters: Module | Mapping[str, NDArray[Any]]) -> None: ...
    def step(self, gradients: Mapping[str, ArrayLike]) -> None: ...
    def state_dict(self) -> dict[str, NDArray[Any]]: ...
    def load_state_dict(self, state_dict: Weights) -> None: ...

class SGD(_Optimizer):
    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    def __init__(
        self,
        parameters: Module | Mapping[str, NDArray[Any]],
        lr: Real,
        momentum: Real = 0.0,
        dampening: Real = 0.0,
        weight_decay: Real = 0.0,
        nesterov: bool = False,
    ) -> None: ...

class Adam(_Optimizer):
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    def __init__(
        self,
        parameters: Module | Mapping[str, NDArray[Any]],
        lr: Real = 1e-3,
        betas: tuple[Real, Real] | list[float] = (0.9, 0.999),
        eps: Real = 1e-8,
        weight_decay: Real = 0.0,
    ) -> None: ...
