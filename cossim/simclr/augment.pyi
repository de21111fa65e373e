from typing import Any, overload

from numpy.typing import NDArray

from cossim._typing import Array, Float, Real, Seed

MOVE_RANGES: tuple[tuple[int, int], ...]
_Range = tuple[Real, Real] | list[float]

@overload
def augment(
    images: NDArray[Float],
    rng: Seed | None = None,
    *,
    shift: Real = 2.0,
    rotate: Real | _Range = 15.0,
    shear: Real | _Range = 0.0,
    scale: _Range = (0.8, 1.2),
    aspect: _Range = (1.0, 1.0),
    noise: Real = 0.05,
    clip: _Range | None = (0.0, 1.0),
) -> NDArray[Float]: ...
@overload
def augment(
    images: Array,
    rng: Seed | None = None,
    *,
    shift: Real = 2.0,
    rotate: Real | _Range = 15.0,
    shear: Real | _Range = 0.0,
    scale: _Range = (0.8, 1.2),
    aspect: _Range = (1.0, 1.0),
    noise: Real = 0.05,
    clip: _Range | None = (0.0, 1.0),
) -> NDArray[Any]: ...
