"""Checks of arguments that all layers share."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core, _errors
from cossim._arguments import integer_argument, integer_text, number_argument
from cossim._arithmetic import contiguous
from cossim._errors import described
from cossim.vectors.gradients import gradient_argument

if TYPE_CHECKING:
    from numpy.typing import NDArray


def layer_arrays(function: str, **objects: object) -> dict[str, NDArray[Any]]:
    """Returns the arguments as C-contiguous native arrays of one dtype, float32 or float64. Omits a bias of None."""
    passed = {name: x for name, x in objects.items() if x is not None or name != "bias"}
    names = tuple(passed)
    arrays = dict(zip(names, _core.as_arrays(function, names, tuple(passed.values())), strict=True))
    first = names[0]
    for name, a in arrays.items():
        if a.dtype.kind != "f" or a.dtype.itemsize not in (4, 8):
            raise TypeError(_errors.NOT_FLOAT32_OR_64.format(function=function, name=name, dtype=a.dtype))
        if a.dtype.itemsize != arrays[first].dtype.itemsize:
            both = {"name": first, "other": name, "arrays": described(**arrays)}
            raise TypeError(_errors.DIFFERENT_DTYPES.format(function=function, **both))
    return {name: contiguous(a) for name, a in arrays.items()}


def pair_argument(function, name, value, minimum):
    """Returns (height, width) from a pair of integers, or from one integer that stands for both."""
    wanted = _errors.INTEGER_OR_PAIR
    if type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int:
        values: tuple[Any, ...] = value
    elif isinstance(value, (tuple, list)):
        # tuple(value) is a copy: the __index__ of an element may change the list.
        values = tuple(integer_argument(function, name, v, wanted) for v in tuple(value))
        if len(values) == 1:
            values *= 2
    else:
        values = (integer_argument(function, name, value, wanted),) * 2
    if len(values) != 2:
        raise ValueError(_errors.NOT_A_PAIR.format(function=function, name=name, value=integer_text(value)))
    if min(values) < minimum:
        text = integer_text(value)
        raise ValueError(_errors.TOO_SMALL.format(function=function, name=name, least=minimum, value=text))
    if max(values) >= 2**31:
        text = integer_text(value)
        raise ValueError(_errors.TOO_LARGE.format(function=function, name=name, limit="2**31", value=text))
    return values


def dtype_argument(dtype):
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(_errors.LAYER_DTYPE.format(dtype=dtype))
    return dtype


def real_argument(function: str, name: str, value: Any) -> float:
    """Returns value as a float. Refuses bool, which number_argument takes."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(_errors.NOT_A_NUMBER.format(function=function, name=name, kind=type(value).__name__))
    return number_argument(function, name, value)


def layer_gradient(function, dy, y):
    """Returns dy as a contiguous native array. Raises an error unless it has y's shape and dtype."""
    return contiguous(gradient_argument(function, "dy", dy, y, "y"))
