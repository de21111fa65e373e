"""Makes Python's allocations fail one by one inside the functions of cossim._core. It runs in a process of its own.

fault_nomemory.py GROUP DTYPE MOST runs the cases of a group. In each case it repeats the first MOST calls of every core
function. Each allocation of such a call fails once alone, and once with all later ones. It prints each error that it
finds and, at the end, how many calls it tried. A crash ends the process.

It leaves alone the NumPy and Python code around the core: without memory, numpy.errstate crashes, and Python 3.11's
`with` never ends.
"""

import faulthandler
import importlib.util
import sys
import types
from _testcapi import remove_mem_hooks, set_nomemory
from pathlib import Path

tried = 0
most, calls, case_name = 0, {}, ""


def load_core():
    """Replaces the extension module cossim._core by one whose functions run with failing allocations."""
    path = next(Path(folder) / "cossim" for folder in sys.path if (Path(folder) / "cossim" / "__init__.py").exists())
    (library,) = path.glob("_core.*.so")
    spec = importlib.util.spec_from_file_location("cossim._core", library)
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    double = types.ModuleType("cossim._core", core.__doc__)
    for name, value in vars(core).items():
        if not name.startswith("__"):
            setattr(double, name, tried_function(name, value) if callable(value) else value)
    sys.modules["cossim._core"] = double
    return core


def tried_function(name, function):
    def call(*args, **kwargs):
        number = calls[name] = calls.get(name, 0) + 1
        if number <= most:
            try_it(name, function, args, kwargs)
        return function(*args, **kwargs)

    call.__doc__ = function.__doc__
    return call


def outcome(function, args, kwargs, start, stop):
    """The result or the error of a call in which the allocations from number `start` to `stop` fail."""
    try:
        set_nomemory(start, stop)
        result = function(*args, **kwargs)
    except BaseException as error:
        remove_mem_hooks()
        return error
    remove_mem_hooks()
    return result


def try_it(name, function, args, kwargs):
    global tried
    expected = outcome(function, copied(name, function, args), kwargs, 1 << 30, 0)
    start = 0
    while True:
        for stop in (0, start + 1):
            found = outcome(function, copied(name, function, args), kwargs, start, stop)
            tried += 1
            if not isinstance(found, MemoryError) and not same(found, expected):
                print(f"{case_name}: {name}: allocations from {start} to {stop}: {found!r}", flush=True)
            if stop == 0:
                ended = not isinstance(found, MemoryError)
        if ended:
            return
        start += 1


def copied(name, function, args):
    """Copies the arguments, because topk adds to its earlier results in place. Layers that run alone have memory.

    pairs_end empties the collector of pairs that it gets, so each call gets a new one, without pairs.
    """

    def run_alone(*call):
        remove_mem_hooks()
        return args[1](*call)

    if name == "run_layers":
        return args[0], run_alone, *args[2:]
    if name == "pairs_end":
        return (function.__self__.pairs_begin(9, 9, threshold=0.5, max_pairs=9, double=False),)
    return (*args[:-2], args[-2].copy(), args[-1].copy()) if name == "topk" else args


def same(found, expected):
    if isinstance(expected, BaseException):
        return type(found) is type(expected)
    return type(found) is type(expected) and (not hasattr(found, "tobytes") or found.tobytes() == expected.tobytes())


def main(group, dtype, limit):
    global most, case_name
    load_core()
    from fault_cases import cases, refused_calls

    everything = refused_calls() if group == "refused" else cases(group, dtype)
    for case_name, case in everything.items():  # noqa: B007
        case()
        most = int(limit)
        calls.clear()
        case()
        most = 0
    print("tried", tried)


if __name__ == "__main__":
    faulthandler.enable()
    main(*sys.argv[1:])
