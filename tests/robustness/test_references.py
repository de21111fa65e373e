"""Calls with good or bad input leak no memory and no reference, and leave the user's arrays as they were."""

import ctypes
import gc
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from public_calls import CASES, names
from public_inputs import LAYOUTS, Options, called, converted, split, strided

import cossim

REFUSED = (TypeError, ValueError, IndexError, OSError)
EACH = 5  # calls per input and round; growth of EACH 32-byte blocks in a round is a leak
ROUND, TIMES = 40, 100_000  # least number of calls of a function in a round, and number of its calls with --soak


@pytest.fixture(autouse=True)
def two_threads():
    with cossim.threads(2):
        yield


def test_every_public_name_has_a_case():
    assert set(names()) == CASES.keys()


# ---- leaks ----


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks used free keep"  # glibc's struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def allocated():
    """(bytes in use that malloc gave to this process, small blocks in use of Python's allocator)."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # not glibc, or an old one
        return 0, sys.getallocatedblocks()
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return found.used + found.hblkhd, sys.getallocatedblocks()


def dtype_references():
    return sum(sys.getrefcount(np.dtype(name)) for name in ("f4", "f8", "i8"))


def resident():
    path = Path("/proc/self/status")
    return int(re.search(r"VmRSS:\s*(\d+)", path.read_text())[1]) << 10 if path.exists() else 0


def open_files():
    folder = Path("/proc/self/fd")
    return len([*folder.iterdir()]) if folder.exists() else 0


def objects(value):
    """An argument and all objects that it holds."""
    yield value
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (tuple, list)):
        for inner in value:
            yield from objects(inner)
    elif not isinstance(value, (type, np.ndarray)) and hasattr(value, "__dict__"):
        yield from objects({key: inner for key, inner in vars(value).items() if not key.startswith("_")})


def references(arguments):
    """Reference counts of the arrays, dicts, indexes and layers in the arguments; other objects may be shared."""
    kinds = np.ndarray, dict, cossim.Index, cossim.nn.Module
    return [sys.getrefcount(value) for value in objects(arguments) if isinstance(value, kinds)]


def call_all(function, inputs, refused, times):
    """Makes the calls, cycling through the inputs."""
    inputs = [split(arguments) for arguments in inputs]
    for i in range(times):
        args, kwargs = inputs[i % len(inputs)]
        if not refused:
            function(*args, **kwargs)
            continue
        try:
            function(*args, **kwargs)
        except REFUSED:
            continue
        pytest.fail(f"not refused: {args}, {kwargs}")


def round_of(inputs):
    return max(ROUND, EACH * len(inputs))


def check_rounds(measure, limits, function, inputs, refused):
    """Repeats rounds of calls until in one of them no measure grows by its limit or more.

    Caches grow in some rounds, and tracemalloc counts a cached block only when a new one replaces it. A leak grows in
    each round.
    """
    times = round_of(inputs)
    for _ in range(200):
        old = measure()
        call_all(function, inputs, refused, times)
        gc.collect()
        grown = dict(zip(limits, np.subtract(measure(), old), strict=True))
        large = [f"{number} {what}" for what, number in grown.items() if number >= limits[what]]
        if not large:
            return
    pytest.fail(f"{', '.join(large)} more after {times} calls")


def check_leaks(function, inputs, refused, draws=False):
    """NumPy's Generator.uniform leaks references to dtypes; a function that `draws` random numbers may do so too."""
    call_all(function, inputs, refused, round_of(inputs) // 2)
    gc.collect()
    gc.freeze()  # later collections visit only what the calls have made since
    before, files = references(inputs), open_files()
    limits = {"bytes of malloc": 32 * EACH, "blocks": EACH, "references to dtypes": np.inf if draws else EACH}
    check_rounds(lambda: (*allocated(), dtype_references()), limits, function, inputs, refused)
    assert references(inputs) == before
    assert open_files() == files


def check_traced(function, inputs, refused):
    """Checks for leaks with tracemalloc, which includes the memory of NumPy's arrays, as malloc's memory does."""
    tracemalloc.start(1)
    try:
        traced = lambda: tracemalloc.get_traced_memory()[:1]  # noqa: E731
        check_rounds(traced, {"bytes": 32 * EACH}, function, inputs, refused)
    finally:
        tracemalloc.stop()


def check_many(function, inputs, refused, times):
    """Measures ten parts. A leak grows in each part; a table of the interpreter grows in one part, by a megabyte."""
    before, files = references(inputs), open_files()
    tracemalloc.start(1)
    try:
        call_all(function, inputs, refused, round_of(inputs))
        gc.collect()
        seen = [(tracemalloc.get_traced_memory()[0], *allocated(), resident())]
        for _ in range(10):
            call_all(function, inputs, refused, times // 10)
            gc.collect()
            seen.append((tracemalloc.get_traced_memory()[0], *allocated(), resident()))
    finally:
        tracemalloc.stop()
    seen = np.array(seen)
    traced, bytes_, blocks, _ = np.diff(seen, axis=0).min(axis=0)
    assert traced < times // 100, f"{traced} bytes more after every {times // 10} calls"
    assert bytes_ < times // 20, f"{bytes_} bytes more of malloc after every {times // 10} calls"
    assert blocks < times // 1000, f"{blocks} blocks more after every {times // 10} calls"
    assert np.all(seen[-1] - seen[0] < max(4 << 20, 16 * times)), f"{seen[-1] - seen[0]} more after {times} calls"
    assert references(inputs) == before
    assert open_files() == files


@pytest.fixture
def quick_collections():
    """Keeps gc.collect() from visiting objects that exist already, such as torch's modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.soak
def test_no_call_leaks(rng, amount, figures, quick_collections):
    tried = lost = 0
    problems = []
    for name, case in CASES.items():
        good, bad = [*case.inputs(rng, 1)], [tuple(bad) for bad in case.bad(*case.make(rng, 1))]
        for inputs, refused in ((good, False), (bad, True)):
            times = amount(round_of(inputs), TIMES)
            tried += times
            try:
                check_leaks(case.call, inputs, refused, draws=name.startswith(("nn.", "simclr.")))
                if not allocated()[0]:
                    check_traced(case.call, inputs, refused)
                if times == TIMES:
                    check_many(case.call, inputs, refused, times)
            except (AssertionError, pytest.fail.Exception) as error:
                lost += times
                problems.append(f"{name}, {'bad' if refused else 'good'} input: {str(error).splitlines()[0]}")
    assert not problems
    figures("calls of all public functions, classes and methods, good and bad input: no leak", tried, tried - lost)


def test_the_checks_of_leaks_can_fail(quick_collections):
    """The checks find leaks of memory, of references to an argument or a dtype, and of malloc's memory."""
    kept, x = [], np.zeros(3)
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    with pytest.raises(pytest.fail.Exception, match=r"\d blocks\b.*more"):
        check_leaks(lambda x: kept.append(object()), [(x,)], False)
    with pytest.raises(AssertionError):
        check_leaks(lambda x: kept.append(x), [(x,)], False)
    with pytest.raises(pytest.fail.Exception, match=r"\d bytes more"):
        check_traced(lambda x: kept.append(x.copy()), [(x,)], False)
    with pytest.raises(pytest.fail.Exception, match=r"\d references to dtypes"):
        check_leaks(lambda x: ctypes.pythonapi.Py_IncRef(ctypes.py_object(x.dtype)), [(x,)], False)
    if sees_malloc(library):
        with pytest.raises(pytest.fail.Exception, match=r"\d bytes of malloc"):
            check_leaks(lambda x: library.malloc(16) and None, [(x,)], False)


def sees_malloc(library):
    """Tells whether malloc's memory can be measured: not with other C libraries or a sanitizer's allocator."""
    before = allocated()[0]
    return library.malloc(1 << 16) is not None and allocated()[0] - before >= 1 << 16


# ---- arrays of the user ----


def buffer_of(x):
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def state(value):
    """For each array in an argument: its attributes, and the bytes of the array whose memory it is a view of."""
    found = {}
    for i, x in enumerate(objects(value)):
        if isinstance(x, np.ndarray):
            flags = [x.flags[name] for name in ("C", "F", "W", "A", "O")]
            found[i] = id(x), id(x.base), x.shape, x.strides, x.dtype, flags, x.ctypes.data, buffer_of(x).tobytes("A")
        elif isinstance(x, (list, memoryview)):
            found[i] = x.tolist() if isinstance(x, memoryview) else repr(x)
    return found


def laid_out(value, layout):
    """The argument with all arrays except out= in that layout."""
    new = converted(value, LAYOUTS[layout])
    return Options(new, out=value["out"]) if isinstance(value, Options) and "out" in value else new


def given_to_keep(case, arguments):
    """The arguments that the call must not change."""
    for i, value in enumerate(arguments):
        if isinstance(value, Options):
            yield {name: inner for name, inner in value.items() if name != "out"}
        elif i not in case.changes:
            yield value


@pytest.mark.parametrize("layout", [*LAYOUTS, "all inputs"])
def test_arrays_stay_as_they_are(rng, layout):
    for name, case in CASES.items():
        for arguments in case.inputs(rng, 3) if layout == "all inputs" else [case.make(rng, 3)]:
            if layout in LAYOUTS:
                arguments = [x if i in case.changes else laid_out(x, layout) for i, x in enumerate(arguments)]
            kept = [*given_to_keep(case, arguments)]
            before = [state(value) for value in kept]
            called(case.call, arguments)
            assert [state(value) for value in kept] == before, (name, arguments)
        for bad in case.bad(*arguments) if layout in LAYOUTS else ():
            with pytest.raises(REFUSED):
                called(case.call, bad)
            assert [state(value) for value in kept] == before, (name, bad)


def test_the_check_of_arrays_can_fail(rng):
    x = strided(rng.standard_normal((2, 3)))
    before = state([x])
    assert state([x]) == before
    x.base[0, 0] = 0  # not an element of the view
    assert state([x]) != before
    x.base[0, 0] = np.nan
    assert state([x]) == before
    x.flags.writeable = False
    assert state([x]) != before


OUT = {"cosine_similarity": (8,), "cosine_distance": (8,), "vecdot": (8,), "vector_norm": (8,), "normalize": (8, 8)}


@pytest.mark.parametrize("name", [*OUT, "pairwise"])
@pytest.mark.parametrize(
    "layout", ["as it is", "strided", "reversed", "Fortran order", "other byte order", "misaligned"]
)
def test_only_out_itself_changes(rng, name, layout):
    """If out is a view, the other elements of its base stay; operands stay too. The function returns out itself."""
    case = CASES[name]
    arguments = case.make(rng, 2)
    expected = case.call(*arguments) if name != "vector_norm" else cossim.vector_norm(*arguments, dim=1)
    out = LAYOUTS[layout](np.zeros(OUT.get(name, (8, 8)), np.float32))
    outside = buffer_of(out).copy() if layout == "strided" else None
    given = {"dim": 1, "out": out} if name == "vector_norm" else {"out": out}
    before, kept = state([*arguments]), sys.getrefcount(out)
    result = case.call(*arguments, **given)
    same = result is out  # an assert would keep a reference
    del result
    assert same
    assert sys.getrefcount(out) == kept
    assert state([*arguments]) == before
    np.testing.assert_array_equal(out, expected)
    if layout == "strided":
        base = buffer_of(out)
        mask = np.ones(base.shape, bool)
        mask[tuple(slice(1, None, 2) for _ in out.shape)] = False
        np.testing.assert_array_equal(base[mask], outside[mask])
