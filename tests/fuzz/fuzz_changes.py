"""Fuzzer of arguments that change each other: the conversion of one runs code that gives another's array another shape,
type, memory or contents, or empties a list.

Any result will do, or any exception: no memory is read or written that is no array's.
"""

import contextlib
import ctypes
import io
import random
import warnings

import fuzz_arguments
import numpy as np
from objects import NUMBERS, array_of, changing
from source import Source

from cossim import nn, simclr

# glibc then gives back memory of so many bytes at once, and whoever still reads it crashes, without a sanitizer too.
M_MMAP_THRESHOLD = -3
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)

FLOATS = [np.dtype(np.float32)]


def _floats(*shape):
    return lambda source: array_of(source, shape, FLOATS)


def _size(source):
    return source.pick((1, 2, 2, (1, 2), [2, 1]))


LAYERS = {
    nn.conv2d: {"x": _floats(2, 2, 6, 6), "weight": _floats(4, 2, 3, 3), "bias": _floats(4), "stride": _size},
    nn.conv2d_vjp: {"x": _floats(2, 2, 6, 6), "weight": _floats(4, 2, 3, 3), "bias": _floats(4), "padding": _size},
    nn.linear: {"x": _floats(5, 8), "weight": _floats(3, 8), "bias": _floats(3)},
    nn.linear_vjp: {"x": _floats(5, 8), "weight": _floats(3, 8), "bias": _floats(3)},
    nn.max_pool2d: {"x": _floats(2, 2, 6, 6), "kernel_size": _size, "stride": _size, "return_indices": bool},
    nn.max_pool2d_vjp: {"x": _floats(2, 2, 6, 6), "kernel_size": _size, "padding": _size, "ceil_mode": bool},
    simclr.nt_xent: {"z0": _floats(4, 8), "z1": _floats(4, 8), "temperature": lambda source: 0.5},
    simclr.nt_xent_value_and_grad: {"z0": _floats(4, 8), "z1": _floats(4, 8), "temperature": lambda source: 0.5},
    simclr.similarity_matrix: {"z0": _floats(4, 8), "z1": _floats(4, 8)},
    simclr.augment: {"images": _floats(2, 1, 6, 6), "rng": lambda source: 3, "shift": lambda source: 1.0},
}


def _call(source):
    """A function and its arguments by name, and the names of all that it could have."""
    if source.one_in(3):
        function, parts = source.pick([*LAYERS.items()])
        return function, {name: make(source) for name, make in parts.items()}, [*parts]
    call = fuzz_arguments.Call(source)
    if source.one_in(4):  # arrays so large that their memory goes back to the system where they are made smaller
        for name in call.names[:2]:
            if isinstance(call.given.get(name), np.ndarray):
                call.given[name] = np.full((400, 400), 0.5)
    if "dim" in call.names and source.one_in(3):
        call.given["dim"] = [0]
    if "out" in call.names and source.one_in(4):
        call.given["out"] = array_of(source, dtypes=NUMBERS)
    return call.function, call.given, call.names


def run(data):
    source = Source(data)
    function, given, names = _call(source)
    name = source.pick(names)
    victims = [x for other, x in given.items() if other != name and type(x) in (np.ndarray, list)]
    if not victims:
        return
    victim, value = source.pick(victims), given.get(name)
    if isinstance(value, list) and value and source.one_in(2):  # a list one of whose elements empties it
        value.insert(0, changing(source, 1, value))
    else:
        given[name] = changing(source, value, victim)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = function(**given)
            if function.__name__.endswith("_vjp"):
                y, pullback = result
                pullback(np.ones(np.shape(y), np.asarray(y).dtype))
            repr(result)
        except SystemError:  # of the C interface, where a result and an exception do not go together
            raise
        except Exception:
            return


def seeds():
    return [random.Random(i).randbytes(64) for i in range(100, 228)]
