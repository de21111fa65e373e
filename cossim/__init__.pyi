from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from cossim import nn, simclr
from cossim._core import (
    cosine_distance,
    cosine_similarity,
    get_num_threads,
    normalize,
    pairwise,
    set_num_threads,
    vecdot,
    vector_norm,
)
from cossim._typing import Array, ArrayOrScalar, Float, Lazy, Path, Progress, Real, Rows
from cossim.vectors.explain import explain

__all__ = [
    "CosineSimilarity",
    "Index",
    "Pairs",
    "TopK",
    "__version__",
    "cosine_distance",
    "cosine_similarity",
    "cosine_similarity_vjp",
    "duplicate_groups",
    "explain",
    "get_num_threads",
    "nn",
    "normalize",
    "pairs_above",
    "pairwise",
    "pairwise_vjp",
    "set_num_threads",
    "show_config",
    "simclr",
    "threads",
    "topk",
    "vecdot",
    "vector_norm",
]

__version__: str

# ---- along a dimension ----

class CosineSimilarity:
    dim: SupportsIndex
    eps: Real
    def __init__(self, dim: SupportsIndex = 1, eps: Real = 1e-8) -> None: ...
    @overload
    def __call__(self, x1: Lazy, x2: Array | Lazy) -> Any: ...
    @overload
    def __call__(self, x1: Array, x2: Lazy) -> Any: ...
    @overload
    def __call__(self, x1: NDArray[Float], x2: NDArray[Float]) -> ArrayOrScalar[Float]: ...
    @overload
    def __call__(self, x1: Array, x2: Array) -> ArrayOrScalar[Any]: ...

@overload
def cosine_similarity_vjp(
    x1: NDArray[Float],
    x2: NDArray[Float],
    dim: SupportsIndex = 1,
    eps: Real = 1e-8,
    *,
    axis: SupportsIndex | None = None,
) -> tuple[ArrayOrScalar[Float], Callable[[Array], tuple[NDArray[Float], NDArray[Float]]]]: ...
@overload
def cosine_similarity_vjp(
    x1: Array,
    x2: Array,
    dim: SupportsIndex = 1,
    eps: Real = 1e-8,
    *,
    axis: SupportsIndex | None = None,
) -> tuple[ArrayOrScalar[Any], Callable[[Array], tuple[NDArray[Any], NDArray[Any]]]]: ...

# ---- all pairs and search ----

@overload
def pairwise_vjp(
    x: NDArray[Float], y: None = None, *, eps: Real = 1e-8
) -> tuple[NDArray[Float], Callable[[Array], NDArray[Float]]]: ...
@overload
def pairwise_vjp(
    x: NDArray[Float], y: NDArray[Float], *, eps: Real = 1e-8
) -> tuple[NDArray[Float], Callable[[Array], tuple[NDArray[Float], NDArray[Float]]]]: ...
@overload
def pairwise_vjp(
    x: Array, y: None = None, *, eps: Real = 1e-8
) -> tuple[NDArray[Any], Callable[[Array], NDArray[Any]]]: ...
@overload
def pairwise_vjp(
    x: Array, y: Array, *, eps: Real = 1e-8
) -> tuple[NDArray[Any], Callable[[Array], tuple[NDArray[Any], NDArray[Any]]]]: ...

class TopK(NamedTuple):
    values: NDArray[np.floating[Any]]
    indices: NDArray[np.int64]

class Pairs(NamedTuple):
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    values: NDArray[np.floating[Any]]

# With a Dask operand, topk and pairs_above return the same named tuples, filled with lazy Dask arrays.
@overload
def topk(
    queries: Lazy,
    corpus: Rows | Lazy | None,
    k: SupportsIndex,
    *,
    eps: Real = 1e-8,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def topk(
    queries: Rows,
    corpus: Lazy,
    k: SupportsIndex,
    *,
    eps: Real = 1e-8,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def topk(
    queries: Rows,
    corpus: Rows | None,
    k: SupportsIndex,
    *,
    eps: Real = 1e-8,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> TopK: ...
@overload
def pairs_above(
    x: Lazy,
    threshold: Real,
    y: Rows | Lazy | None = None,
    *,
    eps: Real = 1e-8,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def pairs_above(
    x: Rows,
    threshold: Real,
    y: Lazy,
    *,
    eps: Real = 1e-8,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Literal[False] | None = None,
) -> Any: ...
@overload
def pairs_above(
    x: Rows,
    threshold: Real,
    y: Rows | None = None,
    *,
    eps: Real = 1e-8,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> Pairs: ...
def duplicate_groups(
    x: Rows,
    threshold: Real,
    *,
    eps: Real = 1e-8,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]: ...

class Index:
    def __init__(self, corpus: Rows, *, eps: Real = 1e-8, progress: Progress | None = None) -> None: ...
    def __len__(self) -> int: ...
    @property
    def corpus(self) -> NDArray[Any]: ...
    @property
    def eps(self) -> float: ...
    @property
    def dim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def topk(
        self,
        queries: Rows,
        k: SupportsIndex,
        *,
        memory: SupportsIndex | None = None,
        progress: Progress | None = None,
    ) -> TopK: ...
    def pairs_above(
        self,
        queries: Rows,
        threshold: Real,
        *,
        max_pairs: SupportsIndex | None = None,
        memory: SupportsIndex | None = None,
        progress: Progress | None = None,
    ) -> Pairs: ...
    def save(self, path: Path, *, progress: Progress | None = None) -> None: ...
    @classmethod
    def load(cls, path: Path, mmap: bool = True, *, verify: bool = True) -> Self: ...

# ---- threads and configuration ----

@contextmanager
def threads(n: SupportsIndex) -> Generator[None]: ...
@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
