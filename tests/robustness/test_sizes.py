"""With giant shapes that take no memory, every function ends without a crash, even if it is interrupted."""

from pathlib import Path

import pytest
from conftest import not_emulated
from processes import finished

pytest.importorskip("resource")
size_calls = pytest.importorskip("size_calls", exc_type=ImportError)
pytestmark = [
    not_emulated,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs to know the memory that a process has"),
]

CALLS_OF_PROCESS = 1000


def made(first, end):
    """Runs calls in one process and returns how each ended, by number; fails if one of them ended the process."""
    child = finished(size_calls.__file__, first, end)
    assert child.returncode == 0, f"exit code {child.returncode} at {child.stdout.splitlines()[-1]}\n{child.stderr}"
    return {int(number): ended for number, ended in map(str.split, child.stdout.splitlines())}


def test_examples():
    found = dict(zip(size_calls.EXAMPLES, made(-len(size_calls.EXAMPLES), 0).values(), strict=True))
    nothing = "linear", "max_pool2d_vjp"  # there is nothing to compute
    assert found == {name: "done" if name.startswith(nothing) else "Stopped" for name in found}


@pytest.mark.soak
def test_random_calls(amount, figures):
    count = amount(400, 40000)
    ended = {}
    for first in range(0, count, CALLS_OF_PROCESS):
        ended |= made(first, min(count, first + CALLS_OF_PROCESS))
    kinds = list(ended.values())
    assert min(kinds.count(kind) for kind in ("Stopped", "done", "ValueError", "MemoryError")) > count // 50
    figures("giant shapes without memory in every function, stopped at random moments", count, len(ended))
