"""What calls leave behind: no memory, no reference, good or bad input; and arrays of the user as they were."""

import ctypes
import gc
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from public_calls import CASES, names

import cossim

REFUSED = (TypeError, ValueError, IndexError, OSError)
ROUND = 100


@pytest.fixture(autouse=True)
def two_threads():
    with cossim.threads(2):
        yield


def test_every_public_name_has_a_case():
    assert set(names()) == CASES.keys()


# ---- leaks ----


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks used free keep"  # of glibc's manual, but for the last
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def allocated():
    """Bytes in use that malloc gave, to us among others, and small blocks of Python's own allocator."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # another C library than glibc, or an old one
        return 0, sys.getallocatedblocks()
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return found.used + found.hblkhd, sys.getallocatedblocks()


def resident():
    path = Path("/proc/self/status")
    return int(re.search(r"VmRSS:\s*(\d+)", path.read_text())[1]) << 10 if path.exists() else 0


def objects(value):
    """An argument and all that it holds."""
    yield value
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, (tuple, list)):
        for inner in value:
            yield from objects(inner)
    elif not isinstance(value, (type, np.ndarray)) and hasattr(value, "__dict__"):
        yield from objects({key: inner for key, inner in vars(value).items() if not key.startswith("_")})


def references(arguments):
    """How many references there are to each array among them, and to other objects that live no longer than they do."""
    kinds = np.ndarray, dict, cossim.Index, cossim.nn.Module
    return [sys.getrefcount(value) for value in objects(arguments) if isinstance(value, kinds)]


def call_all(function, inputs, refused, times):
    """Calls with one input after another, round about."""
    for i in range(times):
        arguments = inputs[i % len(inputs)]
        if not refused:
            function(*arguments)
            continue
        try:
            function(*arguments)
        except REFUSED:
            continue
        pytest.fail(f"not refused: {arguments}")


def check_leaks(function, inputs, refused, times):
    """Caches may be filled by a round of calls, but not by every one of several; what is leaked grows with each."""
    call_all(function, inputs, refused, 50)
    gc.collect()
    before = references(inputs)
    for more_rounds in reversed(range(20)):
        old_bytes, old_blocks = allocated()
        call_all(function, inputs, refused, ROUND)
        gc.collect()
        new_bytes, new_blocks = allocated()
        grown = new_bytes - old_bytes, new_blocks - old_blocks
        if grown[0] < 8 * ROUND and grown[1] < ROUND // 4:
            break
        assert more_rounds, f"{grown[0]} bytes and {grown[1]} blocks more after {ROUND} calls"
    if times > ROUND:
        old_bytes, old_blocks, old_resident = *allocated(), resident()
        call_all(function, inputs, refused, times)
        gc.collect()
        new_bytes, new_blocks, new_resident = *allocated(), resident()
        assert new_bytes - old_bytes < times, "a byte a call"
        assert new_blocks - old_blocks < times // 100
        assert new_resident - old_resident < max(4 << 20, 16 * times)
    assert references(inputs) == before


def check_traced(function, inputs, refused):
    """The same as Python's own bookkeeping sees it, NumPy's arrays included."""
    tracemalloc.start(1)
    try:
        for more_rounds in reversed(range(20)):
            old = tracemalloc.get_traced_memory()[0]
            call_all(function, inputs, refused, ROUND)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - old
            if grown < 8 * ROUND:
                break
            assert more_rounds, f"{grown} bytes more after {ROUND} calls"
    finally:
        tracemalloc.stop()


@pytest.fixture
def quick_collections():
    """What lives already, torch's modules among it, is not gone through again by each gc.collect()."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.soak
def test_no_call_leaks(rng, amount, figures, quick_collections):
    tried = lost = 0
    problems = []
    for name, case in CASES.items():
        arguments = case.make(rng, 1)
        times = amount(ROUND, case.repeats)
        for inputs, refused in (([arguments], False), ([tuple(bad) for bad in case.bad(*arguments)], True)):
            tried += times
            try:
                check_leaks(case.call, inputs, refused, times)
                check_traced(case.call, inputs, refused)
            except AssertionError as error:
                lost += times
                problems.append(f"{name}, {'bad' if refused else 'good'} input: {str(error).splitlines()[0]}")
    assert not problems
    figures("calls of all public functions, classes and methods, good and bad input: no leak", tried, tried - lost)


def test_the_checks_of_leaks_can_fail(quick_collections):
    """Of memory, of references to an argument, of what malloc gave."""
    kept, x = [], np.zeros(3)
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    with pytest.raises(AssertionError, match="blocks more"):
        check_leaks(lambda x: kept.append(object()), [(x,)], False, ROUND)
    with pytest.raises(AssertionError):
        check_leaks(lambda x: kept.append(x), [(x,)], False, ROUND)
    with pytest.raises(AssertionError, match="bytes more"):
        check_traced(lambda x: kept.append(x.copy()), [(x,)], False)
    if sees_malloc(library):
        with pytest.raises(AssertionError, match="bytes and"):
            check_leaks(lambda x: library.malloc(16) and None, [(x,)], False, ROUND)


def sees_malloc(library):
    """Not with another C library or another allocator, such as that of a sanitizer."""
    before = allocated()[0]
    return library.malloc(1 << 16) is not None and allocated()[0] - before >= 1 << 16


# ---- arrays of the user ----


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def strided(x):
    """Every second element of each dimension of a larger array, whose others are NaN."""
    larger = np.full([2 * n + 1 for n in x.shape], np.nan if x.dtype.kind == "f" else 0, x.dtype)
    view = larger[(..., *(slice(1, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def misaligned(x):
    bytes_ = np.zeros(x.nbytes + 1, np.uint8)
    view = np.ndarray(x.shape, x.dtype, bytes_.data, 1)
    view[...] = x
    return view


LAYOUTS = {
    "as it is": lambda x: x.copy(),
    "read-only": read_only,
    "strided": strided,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
    "Fortran order": lambda x: np.asarray(x, order="F").copy("F"),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "misaligned": misaligned,
}


def laid_out(value, layout):
    """The argument with all of its arrays in that layout. Layers and the like stay as they are."""
    if type(value) is np.ndarray:
        return layout(value)
    if isinstance(value, dict):
        return {key: laid_out(inner, layout) for key, inner in value.items()}
    return value


def buffer_of(x):
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def state(value):
    """Of each array in an argument: all that can be seen of it, and the bytes of the array that it is a view of."""
    found = {}
    for i, x in enumerate(objects(value)):
        if isinstance(x, np.ndarray):
            flags = [x.flags[name] for name in ("C", "F", "W", "A", "O")]
            found[i] = id(x), id(x.base), x.shape, x.strides, x.dtype, flags, x.ctypes.data, buffer_of(x).tobytes("A")
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_stay_as_they_are(rng, layout):
    for name, case in CASES.items():
        arguments = list(case.make(rng, 3))
        kept = [i for i in range(len(arguments)) if i not in case.changes]
        for i in kept:
            arguments[i] = laid_out(arguments[i], LAYOUTS[layout])
        kept = [arguments[i] for i in kept]
        before = [state(value) for value in kept]
        case.call(*arguments)
        assert [state(value) for value in kept] == before, name
        for bad in case.bad(*arguments):
            with pytest.raises(REFUSED):
                case.call(*bad)
            assert [state(value) for value in kept] == before, (name, bad)


def test_the_check_of_arrays_can_fail(rng):
    x = strided(rng.standard_normal((2, 3)))
    before = state([x])
    assert state([x]) == before
    x.base[0, 0] = 0  # beside the view
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
def test_out_changes_nothing_beside_it(rng, name, layout):
    """Of an array that out is a view of, nothing but the view; no operand either; and out itself is returned."""
    case = CASES[name]
    arguments = case.make(rng, 2)
    expected = case.call(*arguments) if name != "vector_norm" else cossim.vector_norm(*arguments, dim=1)
    out = LAYOUTS[layout](np.zeros(OUT.get(name, (8, 8)), np.float32))
    outside = buffer_of(out).copy() if layout == "strided" else None
    given = {"dim": 1, "out": out} if name == "vector_norm" else {"out": out}
    before, kept = state([*arguments]), sys.getrefcount(out)
    result = case.call(*arguments, **given)
    same = result is out  # no assert here, which would keep a reference
    del result
    assert same
    assert sys.getrefcount(out) == kept
    assert state([*arguments]) == before
    np.testing.assert_array_equal(out, expected)
    if layout == "strided":
        beside = buffer_of(out)
        mask = np.ones(beside.shape, bool)
        mask[tuple(slice(1, None, 2) for _ in out.shape)] = False
        np.testing.assert_array_equal(beside[mask], outside[mask])
