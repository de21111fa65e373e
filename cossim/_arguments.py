"""Conversion of arguments that are numbers, by Python's protocols. Errors name the function and the argument."""

from __future__ import annotations

import operator
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from cossim import _errors
from cossim._errors import described

if TYPE_CHECKING:
    from collections.abc import Generator


class UnpassedInt(int):
    """A default value. Its class distinguishes it from the same number passed by the caller, even after pickling."""

    __slots__ = ()


# The default of dim. It means dimension 1, as in torch, and for a single vector its only dimension.
DEFAULT_DIM = UnpassedInt(1)


def dim_argument(function: str, dim: SupportsIndex) -> int:
    """Checks dim. Converting it can run code of the caller, so dim is converted before the arrays."""
    return dim if isinstance(dim, UnpassedInt) else integer_argument(function, "dim", dim)


def dim_of_operands(dim: int, ndim: int) -> int:
    """Returns the dim of a call whose broadcast shape has ndim dimensions. dim is what dim_argument returned."""
    return 0 if isinstance(dim, UnpassedInt) and ndim == 1 else int(dim)


def integer_argument(function: str, name: str, value: Any, wanted: str = _errors.AN_INTEGER) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:  # an __index__ that returns no int raises it too
        kind = type(value).__name__
        message = _errors.NOT_AN_INTEGER.format(function=function, name=name, wanted=wanted, kind=kind)
        raise TypeError(message) from None


def size_argument(function: str, name: str, value: object, least: int, wanted: str = _errors.AN_INTEGER) -> int:
    number = integer_argument(function, name, value, wanted)
    if number < least:
        value = integer_text(number)
        raise ValueError(_errors.TOO_SMALL.format(function=function, name=name, least=least, value=value))
    return number


def length_argument(function: str, name: str, value: object, least: int = 1) -> int:
    """Checks a layer's number of channels, features or groups: from least to 2**63 - 1."""
    number = size_argument(function, name, value, least)
    if number >= 2**63:
        value = integer_text(number)
        raise ValueError(_errors.TOO_LARGE.format(function=function, name=name, limit="2**63", value=value))
    return number


def count_argument(function: str, name: str, value: object) -> int:
    """Checks a number of results. A float from -1 to 1 is probably a threshold, which other functions take."""
    if isinstance(value, (float, np.floating)) and -1 <= value <= 1:
        kind = type(value).__name__
        raise TypeError(_errors.COUNT_OF_RESULTS.format(function=function, name=name, kind=kind, value=value))
    return length_argument(function, name, value)


def integer_text(value: object) -> str:
    """Returns an integer, or a sequence of them, as text for a message. Python refuses to print very long integers."""
    try:
        return repr(value)
    except ValueError:
        return "(thousands of digits)"


def beyond_int64(numbers: Any) -> list[int]:
    """Returns the integers of an array or of nested lists that int64 cannot hold, if all elements are integers."""
    elements = np.asarray(numbers, object).ravel().tolist()
    integers = all(type(number) is int for number in elements)
    return [number for number in elements if not -(2**63) <= number < 2**63] if integers else []


def number_argument(function: str, name: str, value: Any) -> float:
    """Returns value as a float. Takes what float() takes, except text, buffers and arrays of one or more dimensions."""
    if type(value) is float:  # the fast path, which small searches notice
        return value
    try:
        is_number = hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
        if not is_number or isinstance(value, (str, bytes)) or getattr(value, "ndim", 0):
            raise TypeError
        return float(value)
    except OverflowError:  # a huge integer or fraction: the message leaves out its many digits
        raise ValueError(_errors.BEYOND_FLOAT64.format(function=function, name=name)) from None
    except TypeError:
        kind = type(value).__name__
        raise TypeError(_errors.NOT_A_NUMBER.format(function=function, name=name, kind=kind)) from None


def eps_argument(function: str, eps: object) -> float:
    value = number_argument(function, "eps", eps)
    if not value >= 0:
        raise ValueError(_errors.NEGATIVE_EPS.format(function=function, eps=value))
    return value


def path_argument(function: str, path: Any) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(_errors.NOT_A_PATH.format(function=function, kind=type(path).__name__)) from None


def plain_text(value: str) -> str:
    """Returns a str of the class str itself, so that comparing it runs no code of a subclass."""
    return str.__str__(value)


def temperature_argument(function: str, value: object) -> float:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(_errors.NOT_A_NUMBER.format(function=function, name="temperature", kind=type(value).__name__))
    temperature = number_argument(function, "temperature", value)
    if not 0 < temperature < np.inf:
        raise ValueError(_errors.TEMPERATURE.format(function=function, temperature=temperature))
    return temperature


def check_temperature(function: str, temperature: float, dtype: np.dtype[Any]) -> None:
    """Raises ValueError if 4 / temperature is beyond the range of dtype: a loss of that dtype could overflow."""
    if 4 / temperature > float(np.finfo(dtype).max):
        message = _errors.SMALL_TEMPERATURE.format(function=function, temperature=temperature, dtype=dtype)
        raise ValueError(message)


@contextmanager
def needing(package: str, function: str) -> Generator[None]:
    """Surrounds the import of an optional package. If it is missing, the error says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_errors.NEEDS_PACKAGE.format(function=function, package=package)) from error


# ---- arguments that are not arrays of real numbers ----


def sparse_refused(function: str, name: str) -> TypeError:
    """Returns the error for sparse rows. A search that does not take them names the searches that do."""
    others = function in ("Index", "communities", "deduplicate", "top_pairs")
    message = _errors.SPARSE_SEARCHES if others else _errors.SPARSE_REFUSED
    return TypeError(message.format(function=function, name=name))


def unreadable(function: str, name: str, value: Any) -> Exception | None:
    """Returns the error to raise for an argument that cannot be read as an array of real numbers.

    Returns None if the cause is not known. The C core calls this after NumPy has refused value, or for an array of
    Python objects.
    """
    try:
        return _mistake(function, name, value)
    except MemoryError:
        raise
    except Exception:  # code of the argument, such as its __len__, can raise anything
        return None


def _mistake(function, name, value):
    """Returns the same as unreadable. value is an argument, or an element of one with a name such as x[2]."""
    from cossim.rows.slices import is_closed_dataset

    if is_closed_dataset(value):
        return ValueError(_errors.DATASET_CLOSED.format(function=function, name=name))
    if getattr(value, "requires_grad", False):
        gradients = _function_with_gradients(function)
        message = _errors.REQUIRES_GRAD if gradients is None else _errors.REQUIRES_GRAD_OF
        return TypeError(message.format(function=function, name=name, gradients=gradients))
    device = getattr(value, "device", "cpu")
    if str(device) != "cpu" and hasattr(value, "cpu"):
        return TypeError(_errors.NEEDS_CPU.format(function=function, name=name, device=device))
    if hasattr(value, "pairs_above"):  # an Index; its module cannot be imported here, because it imports this one
        return TypeError(_errors.AN_INDEX.format(function=function, name=name))
    if hasattr(value, "tocsr"):  # sparse rows of a file refuse to become an array
        return sparse_refused(function, name)
    # Arrays by name: numpy.load of an .npz file, a file or group of h5py. Series of pandas have keys too.
    if hasattr(value, "keys") and not hasattr(value, "__array__") and len(value):
        kind, key = type(value).__name__, next(iter(value.keys()))
        return TypeError(_errors.A_GROUP.format(function=function, name=name, kind=kind, key=key))
    if isinstance(value, str):
        return TypeError(_errors.TEXT_ELEMENT.format(function=function, name=name, value=value))
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return _mistake_in_objects(function, name, value)
    if isinstance(value, (list, tuple)):
        return _mistake_in(function, name, value, (len(value),))
    return None


def _function_with_gradients(function):
    """Returns the public function that computes the gradients of `function`, or None."""
    for module in ("cossim", "cossim.nn", "cossim.simclr"):
        for name in (f"{function}_vjp", f"{function}_value_and_grad"):
            if hasattr(sys.modules.get(module), name):
                return f"{module}.{name}"
    return None


def _mistake_in_objects(function, name, array):
    if array.ndim == 0:
        return _mistake_in_object(function, name, array.item())
    elements = array.ravel().tolist()
    mistake = _mistake_in(function, name, elements, array.shape)
    if mistake is None and all(hasattr(type(element), "__float__") for element in elements):
        arrays = described(**{name: array})
        return TypeError(_errors.NUMBERS_AS_OBJECTS.format(function=function, name=name, arrays=arrays))
    return mistake


def _mistake_in_object(function, name, value):
    kind, message = type(value).__name__, _errors.NOT_NUMBERS
    if hasattr(value, "indptr") or hasattr(value, "tocsr"):  # sparse rows
        return sparse_refused(function, name)
    if hasattr(value, "collect"):  # a lazy table, such as polars.LazyFrame
        message = _errors.NOT_COLLECTED
    return TypeError(message.format(function=function, name=name, kind=kind))


def _mistake_in(function, name, elements, shape):
    """Returns the first mistake in the elements of a list or an array of this shape."""
    sizes = [len(row) if isinstance(row, (list, tuple)) else None for row in elements]
    odd = next((i for i, size in enumerate(sizes) if len(shape) == 1 and size != sizes[0]), None)
    if odd is not None and None not in sizes:
        size = {"row": odd, "size": f"{sizes[odd]} elements", "first": 0, "first_size": sizes[0]}
        return ValueError(_errors.RAGGED.format(function=function, name=name, **size))
    for i, element in enumerate(elements):
        if not isinstance(element, (int, float)):
            index = ", ".join(map(str, np.unravel_index(i, shape)))
            mistake = _mistake(function, f"{name}[{index}]", element)
            if mistake is not None:
                return mistake
    return None
