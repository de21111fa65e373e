"""Types that several stubs share. Only type checkers need them: nothing imports this at runtime."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, SupportsIndex, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = TypeVar("Float", bound=np.floating[Any])
Float_co = TypeVar("Float_co", bound=np.floating[Any], covariant=True)
Bias_co = TypeVar("Bias_co", covariant=True)


class SupportsDLPack(Protocol):
    """An array of another library, read without a copy."""

    def __dlpack__(self) -> object: ...


class SupportsBuffer(Protocol):
    """memoryview, array.array and their like, which the ArrayLike of NumPy 1 does not have."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class Lazy(Protocol):
    """An array of Dask. What comes of it is Any here, so that no type checker has to read Dask for cossim."""

    def __dask_graph__(self) -> Any: ...


# ---- arguments ----

Array: TypeAlias = ArrayLike | SupportsBuffer | SupportsDLPack
Path: TypeAlias = str | os.PathLike[str]
Rows: TypeAlias = Array | Path
Real: TypeAlias = float | np.floating[Any] | np.integer[Any]
Pair: TypeAlias = SupportsIndex | tuple[SupportsIndex, SupportsIndex] | list[int]
Dims: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Seed: TypeAlias = int | np.integer[Any] | np.random.Generator
Progress: TypeAlias = bool | Callable[[int, int], object]
Weights: TypeAlias = Mapping[str, Array] | Path

# ---- results ----

# An array, or a NumPy scalar where no dimension is left. Type checkers do not know how many dimensions there are; Any
# in place of the scalar spares users of arrays a cast.
ArrayOrScalar: TypeAlias = NDArray[Float] | Any


class Pullback(Protocol):
    """Of a layer: from dy to dx, which is None with input_gradient=False, and the gradients of the parameters."""

    def __call__(
        self, dy: Array, input_gradient: bool = True
    ) -> tuple[NDArray[Any] | Any, dict[str, NDArray[Any]]]: ...


class ParametersPullback(Protocol[Float_co, Bias_co]):
    """Of conv2d and linear: from dy to (dx, dweight, dbias)."""

    @overload
    def __call__(
        self, dy: Array, input_gradient: Literal[True] = True
    ) -> tuple[NDArray[Float_co], NDArray[Float_co], Bias_co]: ...
    @overload
    def __call__(self, dy: Array, input_gradient: Literal[False]) -> tuple[None, NDArray[Float_co], Bias_co]: ...
    @overload
    def __call__(
        self, dy: Array, input_gradient: bool
    ) -> tuple[NDArray[Float_co] | None, NDArray[Float_co], Bias_co]: ...


class Optimizer(Protocol):
    """What train() asks of an optimizer."""

    def step(self, gradients: Mapping[str, ArrayLike]) -> None: ...
    def state_dict(self) -> dict[str, NDArray[Any]]: ...
    def load_state_dict(self, state_dict: Weights) -> None: ...
