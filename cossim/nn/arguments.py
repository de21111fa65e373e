"""Checks of arguments that all layers share."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core, _errors
from cossim._arguments import number_argument
from cossim._arithmetic import contiguous
from cossim.vectors.gradients import gradient_argument

if TYPE_CHECKING:
    from numpy.typing import NDArray


def layer_arrays(function: str, channels: bool = False, **objects: object) -> dict[str, NDArray[Any]]:
    """Returns the arguments as C-contiguous native arrays of one dtype, float32 or float64. Omits a bias of None.

    With channels=True, x has shape (N, C, ...), and the others have shape (C,); those that are None are omitted.
    """
    needed = ("x",) if channels else ("x", "weight")
    passed = {name: x for name, x in objects.items() if x is not None or name in needed}
    arrays = _core.layer_arrays(function, tuple(passed), tuple(passed.values()), channels=channels)
    return dict(zip(passed, arrays, strict=True))


def dtype_argument(dtype):
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(_errors.LAYER_DTYPE.format(dtype=dtype))
    return dtype


def check_size(function: str, name: str, *sizes: int) -> None:
    """Raises ValueError if a float64 array of these sizes would be too large. A size of 0 counts as 1, as in NumPy."""
    if math.prod(max(size, 1) for size in sizes) >= 2**60:
        value = " * ".join(map(str, sizes))
        raise ValueError(_errors.TOO_LARGE.format(function=function, name=name, limit="2**60", value=value))


def real_argument(function: str, name: str, value: Any) -> float:
    """Returns value as a float. Refuses bool, which number_argument takes."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_errors.NOT_A_NUMBER.format(function=function, name=name, kind=type(value).__name__))
    return number_argument(function, name, value)


def probability_argument(function: str, name: str, value: Any) -> float:
    number = real_argument(function, name, value)
    if not 0 <= number <= 1:
        raise ValueError(_errors.PROBABILITY.format(function=function, name=name, value=value))
    return number


def layer_gradient(function, dy, y):
    """Returns dy as a contiguous native array. Raises an error unless it has y's shape and dtype."""
    return contiguous(gradient_argument(function, "dy", dy, y, "y"))
