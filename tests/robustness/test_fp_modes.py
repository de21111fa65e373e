"""The caller's floating-point mode changes no result, and each call and each error leaves the mode as it was."""

import platform
import sys

import pytest
from conftest import HELPERS, INSTRUCTION_SETS, not_emulated
from processes import python, python_on

here = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="needs Linux, on x86-64 or AArch64, whose fenv_t it knows",
)


@here
@not_emulated
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_results_in_every_mode(isa):
    python_on(isa, HELPERS / "fp_modes.py")


# Sets torch's switch before and after the pool's threads start. The rows are so tiny that flushing would change scores.
FLUSH = """
import numpy as np, torch, cossim
x = (np.random.default_rng(0).standard_normal((700, 64)) * 1e-38).astype(np.float32)
flushed = torch.set_flush_denormal(True)
cossim.set_num_threads(2)
first = cossim.pairwise(x, eps=1e-60)
torch.set_flush_denormal(False)
assert np.array_equal(first, cossim.pairwise(x, eps=1e-60))
torch.set_flush_denormal(True)
cossim.set_num_threads(1)
second = cossim.pairwise(x, eps=1e-60)
assert not flushed or float(torch.tensor(1e-30) * torch.tensor(1e-10)) == 0.0, "the mode is gone"
torch.set_flush_denormal(False)
assert np.array_equal(first, second)
"""


def test_flush_denormal_of_torch():
    pytest.importorskip("torch")
    python(FLUSH)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_products_that_underflow_have_one_sign(isa):
    python_on(isa, HELPERS / "underflow.py")
