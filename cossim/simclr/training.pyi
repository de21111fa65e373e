from collections.abc import Callable
from typing import Any, Literal, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from cossim._typing import Array, Optimizer, Path, Progress, Real
from cossim.nn import Module

VERSION: int
CHUNK: int

class Training(NamedTuple):
    encoder: Module
    losses: NDArray[np.float64]

def train(
    images: Array,
    epochs: SupportsIndex = 60,
    batch_size: SupportsIndex = 256,
    temperature: Real = 0.1,
    seed: SupportsIndex = 0,
    *,
    lr: Real = 2e-3,
    optimizer: Literal["adam", "sgd"] | Callable[[Any], Optimizer] = "adam",
    encoder: Module | None = None,
    augment: dict[str, Any] | Callable[[NDArray[Any], np.random.Generator], NDArray[Any]] | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Training: ...
