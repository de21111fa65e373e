"""The caller's floating-point mode changes no result, and each call and each error leaves the mode as it was."""

import os
import platform
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from conftest import HELPERS, INSTRUCTION_SETS, not_emulated

import cossim
from cossim import _core
from cossim.search.functions import score_dtype

here = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="needs Linux, on x86-64 or AArch64, whose fenv_t it knows",
)


@here
@not_emulated
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_results_in_every_mode(isa):
    if isa not in _core.config()["available"]:
        pytest.skip(f"this machine ({platform.machine()}) cannot run {isa}")
    command = [sys.executable, HELPERS / "fp_modes.py"]
    run = subprocess.run(command, env={**os.environ, "COSSIM_ISA": isa}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip() == isa


# torch's switch, before and after the pool's threads start, with rows of a size at which results once differed.
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
    run = subprocess.run([sys.executable, "-c", FLUSH], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


TINY = {
    np.float32: [1e-20, 1e-30, 1e-38, 1e-45],
    np.float64: [1e-160, 1e-200, 1e-310, 5e-324],
    np.float16: [1e-3, 1e-4, 6e-8],
    ml_dtypes.bfloat16: [1e-20, 1e-30, 1e-38],
}


def tiny_rows(rng, n, depth, dtype):
    """One element of magnitude 1 in each row, the others tiny or zero, of both signs."""
    values = [0.0, *TINY[dtype]]
    x = rng.choice(values + [-value for value in values], (n, depth))
    x[np.arange(n), rng.integers(depth, size=n)] = rng.choice([1.0, -1.0], n)
    return x.astype(dtype)


UNDERFLOWS = """
from test_fp_modes import TINY, check_one_sign
for dtype in TINY:
    for depth in [*range(1, 20), 31, 32, 33, 64, 65, 255, 256, 257, 513, 700]:
        check_one_sign(dtype, depth)
"""


def check_one_sign(dtype, depth):
    rng = np.random.default_rng(depth)
    x, y = tiny_rows(rng, 13, depth, dtype), tiny_rows(rng, 21, depth, dtype)
    expected = np.empty((len(x), len(y)), score_dtype(x, y))
    cossim.pairwise(x, y, out=expected)
    assert not np.signbit(expected[expected == 0]).any(), "a sum begins with +0"

    def check(what, place):
        scores = np.full_like(expected, np.nan)
        place(scores)
        assert scores.tobytes() == expected.tobytes(), (what, np.dtype(dtype).name, depth)

    def best(of, queries):
        return lambda scores: [
            np.put_along_axis(scores[i : i + queries], *of(x[i : i + queries])[::-1], 1)
            for i in range(0, len(x), queries)
        ]

    def above(found):
        return lambda scores: scores.__setitem__((found.i, found.j), found.values)

    index = cossim.Index(y)
    for queries in (1, 3, len(x)):
        check("topk", best(lambda q: cossim.topk(q, y, len(y)), queries))
        check("Index.topk", best(lambda q: index.topk(q, len(y)), queries))
    check("pairs_above", above(cossim.pairs_above(x, -1, y)))
    check("Index.pairs_above", above(index.pairs_above(x, -1)))
    check("all pairs", lambda scores: cossim.cosine_similarity(x[:, None], y[None], 2, out=scores))
    check("turned", lambda scores: cossim.pairwise(y, x, out=scores.T))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_products_that_underflow_have_one_sign(isa):
    if isa not in _core.config()["available"]:
        pytest.skip(f"this machine ({platform.machine()}) cannot run {isa}")
    environment = {**os.environ, "COSSIM_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", UNDERFLOWS], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
