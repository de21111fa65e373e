"""Types shared by several modules. Only type checkers read this module; nothing imports it at run time."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = TypeVar("Float", bound=np.floating[Any])
Float_co = TypeVar("Float_co", bound=np.floating[Any], covariant=True)
Bias_co = TypeVar("Bias_co", covariant=True)


class SupportsDLPack(Protocol):
    """An array of another library, which cossim reads without a copy."""

    def __dlpack__(self) -> object: ...


class SupportsArrowArray(Protocol):
    """A column or table of another library, by Arrow's C data interface."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]: ...


class SupportsArrowStream(Protocol):
    """A column or table of another library, in chunks."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


class SupportsBuffer(Protocol):
    """An object with the buffer protocol, such as memoryview or array.array. NumPy 1's ArrayLike lacks these."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class InSlices(Protocol):
    """Rows that are read in slices: datasets of h5py and zarr, and the result of open_rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


class Lazy(Protocol):
    """A Dask array. Functions that take it return Any, so that a type checker of cossim does not need Dask."""

    def __dask_graph__(self) -> Any: ...


class Sparse(Protocol):
    """Sparse rows: any matrix that can be converted to CSR. Functions that take it return Any, as for Lazy."""

    def tocsr(self) -> Any: ...


# ---- arguments ----

Array: TypeAlias = ArrayLike | SupportsBuffer | SupportsDLPack | SupportsArrowArray | SupportsArrowStream
Path: TypeAlias = str | os.PathLike[str]
Rows: TypeAlias = Array | InSlices | Path | Sparse
Deferred: TypeAlias = Lazy | Sparse  # functions of these return Any
Operand: TypeAlias = Array | Deferred
Number: TypeAlias = float | np.floating[Any] | np.integer[Any]
Numbers: TypeAlias = SupportsIndex | Sequence[int] | NDArray[np.integer[Any]]  # row numbers
Pair: TypeAlias = SupportsIndex | tuple[SupportsIndex, SupportsIndex] | list[int]
Dim: TypeAlias = SupportsIndex
Dims: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Axis: TypeAlias = Dim | None  # another name of dim; None: not passed
Axes: TypeAlias = Dims | None
Seed: TypeAlias = int | np.integer[Any] | np.random.Generator
Progress: TypeAlias = bool | Callable[[int, int], object]
Weights: TypeAlias = Mapping[str, Array] | Path

Ids: TypeAlias = Sequence[Any] | NDArray[Any] | Mapping[int, Any]


class SearchOptions(TypedDict, total=False):
    """The options of all searches, for overloads."""

    eps: Number
    binary: bool
    memory: SupportsIndex | None


class FilteredSearch(SearchOptions, total=False):
    """The options of topk."""

    where: Array | Lazy | None
    exclude: Array | Lazy | None


class FilteredPairs(FilteredSearch, total=False):
    """The options of pairs_above."""

    max_pairs: SupportsIndex | None


# ---- results ----

# An array, or a NumPy scalar if no dimension is left. Type checkers do not know the number of dimensions. The scalar is
# Any, so that users of arrays need no cast.
ArrayOrScalar: TypeAlias = NDArray[Float] | Any


class Pullback(Protocol):
    """The pullback of a layer: maps dy to (dx, gradients of the parameters). dx is None with input_gradient=False."""

    def __call__(
        self, dy: Array, input_gradient: bool = True
    ) -> tuple[NDArray[Any] | Any, dict[str, NDArray[Any]]]: ...


class ParametersPullback(Protocol[Float_co, Bias_co]):
    """The pullback of conv2d and linear: maps dy to (dx, dweight, dbias). dx is None with input_gradient=False."""

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
    """The methods of an optimizer that train() calls."""

    def step(self, gradients: Mapping[str, ArrayLike]) -> None: ...
    def state_dict(self) -> dict[str, NDArray[Any]]: ...
    def load_state_dict(self, state_dict: Weights) -> None: ...


class Schedule(Protocol):
    """The method of a schedule of the learning rate that train() calls."""

    def step(self) -> None: ...


class HasRate(Protocol):
    """An optimizer whose learning rate a schedule sets. initial_lr is the attribute that the schedule adds."""

    lr: float
