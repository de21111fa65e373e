"""Large results use the memory of freed ones, and are ordinary arrays in every other way."""

import contextvars
import ctypes
import pickle

import numpy as np
import pytest
from numpy._core.multiarray import _ARRAY_API, get_handler_name

import cossim

ROWS = 2900  # a matrix of float32 scores has 33.64 MB; large results begin at 33.55


def rows(seed):
    return np.random.default_rng(seed).standard_normal((ROWS, 8)).astype(np.float32)


def test_a_freed_result_gives_its_memory_to_the_next_one():
    first = cossim.pairwise(rows(0))
    address, expected = first.ctypes.data, first.copy()
    del first
    other = cossim.pairwise(rows(1))
    assert other.ctypes.data == address
    assert not np.array_equal(other, expected)
    again = cossim.pairwise(rows(0))
    assert again.ctypes.data != address
    np.testing.assert_array_equal(again, expected)


def test_large_results_begin_at_a_cache_line_and_own_their_memory():
    result = cossim.pairwise(rows(0))
    assert result.ctypes.data % 64 == 0
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.flags.c_contiguous


def test_results_in_use_share_no_memory():
    results = [cossim.pairwise(rows(seed)) for seed in (0, 1, 0, 1)]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])
    assert len({result.ctypes.data for result in results}) == 4


def test_large_results_can_be_resized_and_pickled():
    result = cossim.pairwise(rows(0))
    expected = result.copy()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(result)), expected)
    result.resize((2 * ROWS, ROWS), refcheck=False)
    np.testing.assert_array_equal(result[:ROWS], expected)
    assert not result[ROWS:].any()
    result.resize((10, ROWS), refcheck=False)
    np.testing.assert_array_equal(result, expected[:10])


def test_a_large_result_without_memory_raises_memory_error():
    x = rows(0)
    cossim._core._fail_allocation(1)
    try:
        with pytest.raises(MemoryError):
            cossim.pairwise(x)
    finally:
        cossim._core._fail_allocation(0)
    assert cossim.pairwise(x)[0, 0] == 1


def test_results_use_the_functions_of_a_user_for_the_memory_of_arrays():
    """A user may set functions that count or pin the memory of all arrays (NEP 49)."""
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    capsule_of = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi)
    )
    table = ctypes.cast(pointer_of(_ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])
    default = pointer_of(ctypes.PYFUNCTYPE(ctypes.py_object)(table[305])(), b"mem_handler")
    user = ctypes.create_string_buffer(ctypes.string_at(default, 168))  # NumPy's functions with another name
    user[:7] = b"a user\0"

    def call():
        set_handler(capsule_of(ctypes.addressof(user), b"mem_handler", None))
        return cossim.pairwise(rows(0)), np.empty(1)

    results = contextvars.Context().run(call)
    assert [get_handler_name(a) for a in results] == ["a user", "a user"]
    assert get_handler_name(cossim.pairwise(rows(0))) == "cossim_results"
    del results  # before `user`
