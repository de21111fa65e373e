"""Arguments by Python's protocols: numbers, with errors that name the function and the argument, and DLPack."""

import operator

import numpy as np


def integer_argument(function, name, value, wanted="an integer"):
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:  # of an __index__ that gives something else, too
        raise TypeError(f"{function}(): {name} must be {wanted}, not {type(value).__name__}") from None


def size_argument(function, name, value, least, wanted="an integer"):
    number = integer_argument(function, name, value, wanted)
    if number < least:
        raise ValueError(f"{function}(): {name} must be at least {least}, not {integer_text(number)}")
    return number


def length_argument(function, name, value, least=1):
    """A layer's number of channels, features or groups."""
    number = size_argument(function, name, value, least)
    if number >= 2**63:
        raise ValueError(f"{function}(): {name} must be below 2**63, not {integer_text(number)}")
    return number


def integer_text(value):
    """An integer, or a sequence of them, for messages: Python refuses to write very long ones."""
    try:
        return repr(value)
    except ValueError:
        return "(thousands of digits)"


def number_argument(function, name, value):
    """A float, from all that float() takes but text, what float() reads as text, and arrays of dimensions."""
    try:
        is_number = hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
        if not is_number or isinstance(value, (str, bytes)) or getattr(value, "ndim", 0):
            raise TypeError
        return float(value)
    except OverflowError:  # of an integer or a fraction; not shown, as it is a long one
        raise ValueError(f"{function}(): {name} must be a number that fits a float64") from None
    except TypeError:
        raise TypeError(f"{function}(): {name} must be a number, not {type(value).__name__}") from None


def eps_argument(function, eps):
    value = number_argument(function, "eps", eps)
    if not value >= 0:
        raise ValueError(f"{function}(): eps must be a number >= 0, not {value}")
    return value


def plain_text(value):
    """A str as one of the class str itself, whose comparisons run no code of a subclass."""
    return str.__str__(value)


def temperature_argument(function, value):
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}(): temperature must be a number, not {value!r}")
    temperature = number_argument(function, "temperature", value)
    if not 0 < temperature < np.inf:
        raise ValueError(f"{function}(): temperature must be above 0 and finite, not {temperature}")
    return temperature


def check_temperature(function, temperature, dtype):
    """Raises ValueError where a loss of this dtype would overflow."""
    if 4 / temperature > float(np.finfo(dtype).max):
        raise ValueError(f"{function}(): temperature {temperature} is too small for {dtype}: 1 / temperature overflows")


class _KeepsCapsule:
    """Exports an object by DLPack, and keeps the capsule that it gives.

    Where NumPy refuses a capsule, it drops it while the error is set. A capsule's destructor can be a Python function
    (of ctypes), which must not run then; kept here, the capsule is destroyed later.
    """

    def __init__(self, source):
        self.source = source

    def __dlpack__(self, **options):
        self.capsule = self.source.__dlpack__(**options)
        return self.capsule

    def __dlpack_device__(self):
        return self.source.__dlpack_device__()


def from_dlpack(source):
    exporter = _KeepsCapsule(source)  # a variable, which lives as long as the traceback of an error does
    return np.from_dlpack(exporter)
