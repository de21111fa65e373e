"""Fuzzes arguments that change each other: converting one runs code that changes the array or list of another.

The change gives an array another shape, type, memory or contents, or empties a list. The fuzzer draws every argument
of every public function, every kind of memory owner, and the conversion that makes the change. Any result and any
exception is fine, as long as the call accesses no memory outside of live arrays.
"""

import contextlib
import ctypes
import io
import random
import warnings

import fuzz_arguments
import numpy as np
from objects import NUMBERS, OWNERS, array_of, changing
from public_calls import CASES, found
from public_inputs import split
from source import Source

from cossim import nn

# With this threshold glibc unmaps a freed block of 256 KiB or more immediately, so reading it crashes even without a
# sanitizer.
M_MMAP_THRESHOLD = -3
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 18)

# Left out: functions that take no array or change settings of the process, and training, which takes too long.
LEFT_OUT = ("threads", "set_num_threads", "get_num_threads", "show_config", "simclr.train")
NAMES = [name for name, case in CASES.items() if name not in LEFT_OUT and not name.endswith(("load", "load_weights"))]


def _public_call(source):
    """A function with its positional and keyword arguments, from the cases of public_calls.py."""
    name = source.pick(NAMES)
    case, rng = CASES[name], np.random.default_rng(source.byte())
    given = case.make(rng, source.pick((1, 2, 40)))
    if case.more and source.below(2):
        given = source.pick(case.more)(case.call, given)
    args, kwargs = split(list(given))
    return found(name), _copied(args), _copied(dict(kwargs))


def _copied(value):
    """Copies lists and dicts, because the call may change them."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _fuzzed_call(source):
    """A function over vectors with its arguments, as fuzz_arguments.py draws them."""
    call = fuzz_arguments.Call(source)
    if source.one_in(4):  # so large that shrinking them returns memory to the system
        for name in call.names[:2]:
            if isinstance(call.given.get(name), np.ndarray):
                call.given[name] = np.full((400, 400), 0.5)
    if "dim" in call.names and source.one_in(3):
        call.given["dim"] = [0]
    if "out" in call.names and source.one_in(4):
        call.given["out"] = array_of(source, dtypes=NUMBERS)
    name = source.pick(call.names)
    call.given.setdefault(name, None)
    return call.function, [], call.given


def _places(*containers):
    """Yields (container, key) of each argument, and of each element of list and dict arguments."""
    for container in containers:
        for key in range(len(container)) if isinstance(container, list) else list(container):
            yield container, key
            if isinstance(container[key], (list, dict)):
                yield from _places(container[key])


def _arrays(value):
    """The arrays and lists that an argument holds: itself, or the parameters of a layer."""
    if isinstance(value, nn.Module):
        return [x for x in value.state_dict().values() if type(x) is np.ndarray]
    return [value] if type(value) in (np.ndarray, list) else []


def run(data):
    source = Source(data)
    function, args, kwargs = (_public_call if source.below(2) else _fuzzed_call)(source)
    places = list(_places(args, kwargs))
    container, key = source.pick(places) if places else (kwargs, "nothing")
    value = container.get(key) if isinstance(container, dict) else container[key]
    others = [(c, k) for c, k in places if c is not value and (c is not container or k != key)]
    victims = [(c, k, x) for c, k in others for x in _arrays(c[k])]
    if not victims:
        return
    victim_in, victim_key, victim = source.pick(victims)
    referred = False
    if victim_in[victim_key] is victim and isinstance(victim, np.ndarray):
        victim, victim_in[victim_key], referred = source.pick(OWNERS)(victim)
    when = source.pick((None, None, 0, 1, 2, 3))

    def change(value):
        return changing(source, value, victim, when, referred)

    if isinstance(value, list) and value and source.one_in(2):  # converting an element empties its list
        value.insert(0, changing(source, 1, value))
    elif isinstance(container, dict) or not isinstance(value, nn.Module):
        container[key] = change(value)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = function(*args, **kwargs)
            if function.__name__.endswith("vjp"):
                y, pullback = result
                dy = np.ones(np.shape(y), np.asarray(y).dtype)
                pullback(change(dy) if source.below(2) else dy)
            repr(result)
        except SystemError:  # a C function returned a result with an exception set, or NULL without one
            raise
        except Exception:
            return


def seeds():
    return [random.Random(i).randbytes(64) for i in range(100, 228)]
