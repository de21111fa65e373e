"""No call reads freed memory, even if converting one argument frees the memory of another."""

import pytest
from conftest import HELPERS
from processes import printed, python

# Runs a signal handler during the call of a network. The signal is pending when the call begins, because no bytecode
# runs in between. A call that is long enough polls for signals.
AMID_A_CALL = """
import _thread, signal
from collections import deque
from functools import partial
import numpy as np
from cossim import _core, nn
from cossim.nn.modules import NETWORK_LAYERS

network = nn.Sequential(nn.Linear(300, 400, rng=0), nn.ReLU(), nn.Linear(400, 300, rng=0))
run = partial(_core.run_layers, NETWORK_LAYERS, None, ("0", "1", "2"), tuple(network))
refused = []

def handle(number, frame):
    for array in () if ended else (x, network[0].weight, network[0].bias, network[2].weight):
        try:
            array.resize((2, 3), refcheck=False)
        except ValueError:
            refused.append(array.shape)

signal.signal(signal.SIGINT, handle)
rows, x, ended = 1000, np.zeros((1, 300), np.float32), []
while not refused:
    x, ended, rows = np.ones((rows, 300), np.float32), [], 2 * rows
    expected = network(x[:1])
    steps = partial(_thread.interrupt_main), partial(run, x), partial(ended.append, 1)
    deque(map(partial.__call__, steps), 0)
print(len(refused), network(x[:1]).tobytes() == expected.tobytes())
for array in (x, network[0].weight):
    array.resize((2, 3), refcheck=False)  # works, because the call has released them
"""

PROGRAM = HELPERS / "changing_arguments.py"
HELD = ["array", "subclass", "memoryview", "view", "interface", "dlpack"]


def outcomes(owner, change):
    return dict(line.rsplit(": ", 1) for line in printed(PROGRAM, owner, change).splitlines())


@pytest.mark.parametrize("owner", HELD)
def test_memory_is_held_from_the_conversion_of_its_owner_on(owner):
    """Converting a later argument, or one of a pullback, cannot free memory. Numbers are converted before arrays."""
    found = outcomes(owner, "resize")
    arrays = [name for name in found if ", " not in name or name.split(", ")[1][:2] in ("dy", "dS", "bi")]
    assert len(arrays) > 25
    assert {name: found[name] for name in arrays if found[name] != "same"} == {}


@pytest.mark.parametrize("owner", ["array", "subclass"])
def test_memory_that_cannot_be_held_is_read_after_all_conversions(owner):
    found = outcomes(owner, "setstate")
    assert "same" not in [found["linear"], found["topk"], found["conv2d, stride"]]  # the change took effect


def test_a_network_holds_its_weights_and_its_argument():
    assert python(AMID_A_CALL) == "4 True"
