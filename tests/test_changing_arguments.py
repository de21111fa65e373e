"""No conversion of an argument makes a call read memory that another argument no longer has."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("changing_arguments.py")
HELD = ["array", "subclass", "memoryview", "view", "interface", "dlpack"]


def outcomes(owner, change):
    done = subprocess.run([sys.executable, PROGRAM, owner, change], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])
    return dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("owner", HELD)
def test_memory_is_held_from_the_conversion_of_its_owner_on(owner):
    """No later argument moves it, nor does a pullback's. Numbers come first: they may resize what is not read yet."""
    found = outcomes(owner, "resize")
    arrays = [name for name in found if ", " not in name or name.split(", ")[1][:2] in ("dy", "dS", "bi")]
    assert len(arrays) > 25
    assert {name: found[name] for name in arrays if found[name] != "same"} == {}


@pytest.mark.parametrize("owner", ["array", "subclass"])
def test_memory_that_cannot_be_held_is_read_after_all_conversions(owner):
    found = outcomes(owner, "setstate")
    assert "same" not in [found["linear"], found["topk"], found["conv2d, stride"]]  # the change took place
