"""Wherever memory runs out, a call raises MemoryError and leaks nothing, and the next call gives the same bits."""

import gc
import os
import sys

import numpy as np
import pytest
from conftest import HELPERS
from fault_cases import cases, file_cases, groups, sparse_cases
from processes import ENVIRONMENT, printed
from reference import bits

import cossim
from cossim import _core


@pytest.fixture(autouse=True)
def nothing_fails_afterwards():
    yield
    _core._fail_allocation(0)


def attempt(case, n):
    """Makes allocation n of a call fail. Returns (its bits, or None after MemoryError; whether there was one)."""
    _core._fail_allocation(n)
    try:
        found = bits(case.call())
    except MemoryError:
        found = None
    return found, _core._fail_allocation(0) == 0


def fail_one_by_one(case):
    """Makes each allocation of a call fail in turn. Returns their number and the errors found."""
    expected, live = case(), _core._live_blocks()
    watched = [x for x in (*case.inputs, case.out) if x is not None]
    n, wrong = 0, []
    while True:
        references, out = list(map(sys.getrefcount, watched)), bits(case.out)
        found, failed = attempt(case, n + 1)
        if not failed:
            return n, wrong + ([] if found == expected else ["the call in which nothing fails"])
        n += 1
        checks = {
            "another result": found in (None, expected),
            "references": list(map(sys.getrefcount, watched)) == references,
            "blocks in use": _core._live_blocks() == live,
            "inputs changed": case.inputs_are_as_they_were(),
            "out changed": found is not None or bits(case.out) == out,
            "the next call": case() == expected,
        }
        wrong += [f"allocation {n}: {what}" for what, holds in checks.items() if not holds]


def in_turn(cases):
    tried, lost = 0, []
    for name, case in cases:
        n, wrong = fail_one_by_one(case)
        tried += n
        lost += [f"{name}: {text}" for text in wrong]
    assert lost == []
    return tried


@pytest.mark.soak
def test_every_allocation_of_the_core_in_turn(amount, figures, tmp_path):
    tried = 0
    for threads in (1, 2):
        scale = 1 if threads == 1 else 4  # so that a second thread has work
        with cossim.threads(threads):
            for group, dtype in groups(amount(["float32", "int8"][: 3 - threads], None)):
                tried += in_turn(cases(group, dtype, scale).items())
            tried += in_turn([*file_cases(tmp_path, "float32"), *sparse_cases(np.float32)])
    figures("each allocation of the core fails in turn, in every function", tried, tried)


@pytest.mark.parametrize(("group", "dtype"), groups(["float32"]))
def test_calls_that_fail_leave_nothing(group, dtype):
    """A leak of one object per failure shows in every round of ten failures. Python's caches grow only in some."""

    def growth(case, n, times=10):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(times):
            attempt(case, n)
        gc.collect()
        return sys.getallocatedblocks() - before

    gc.freeze()  # keeps imported objects out of later collections
    try:
        for name, case in cases(group, dtype).items():
            for n in (1, 2, 3):
                assert any(growth(case, n) < 8 for _ in range(10)), (name, n)
    finally:
        gc.unfreeze()


@pytest.mark.soak
@pytest.mark.parametrize(("group", "dtype"), [("refused", "float32"), *groups(["float32", "bfloat16"])])
def test_every_allocation_of_python_in_turn(group, dtype, amount, figures):
    pytest.importorskip("_testcapi", reason="this Python comes without its own tests")
    folders = os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(HELPERS)])
    program = HELPERS / "fault_nomemory.py"
    *wrong, last = printed(program, group, dtype, amount(1, 20), PYTHONPATH=folders).splitlines()
    assert wrong == []
    tried = int(last.removeprefix("tried "))
    figures(f"each allocation of Python fails in turn, in the C functions: {group}, {dtype}", tried, tried)
