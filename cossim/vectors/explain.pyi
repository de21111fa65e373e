from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

from numpy.typing import NDArray

from cossim._typing import Array, ArrayOrScalar, Real

SHOWN: int
ALL_PAIRS: str

class Step(NamedTuple):
    title: str
    text: str
    shape: tuple[int, ...] | None = None
    lines: Sequence[str] = ()

class Explanation:
    dim: int
    eps: float
    broadcast_shape: tuple[int, ...]
    shape: tuple[int, ...]
    norms1: NDArray[Any]
    norms2: NDArray[Any]
    dots: NDArray[Any]
    similarity: ArrayOrScalar[Any]
    steps: list[Step]
    mistakes: list[Step]
    def __init__(self, x1: Array, x2: Array, dim: SupportsIndex, eps: Real) -> None: ...

def explain(x1: Array, x2: Array, dim: SupportsIndex = 1, eps: Real = 1e-8) -> Explanation: ...
