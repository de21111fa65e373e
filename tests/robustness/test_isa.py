"""Every instruction set that is compiled in and runs here gives correct results; an old processor gets the fallback."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
from conftest import INSTRUCTION_SETS, not_emulated
from processes import ENVIRONMENT, finished, python, python_in, python_on

from cossim import _core

# Compares results with NumPy's. It runs in a process of its own, because COSSIM_ISA is read at import.
CHECK = """
import numpy as np, cossim
from cossim import _core
rng = np.random.default_rng(5)
lengths = list(range(1, 70)) + [100, 255, 256, 257, 1000, 4097]
for dtype, atol in ((np.float64, 3e-15), (np.float32, 4e-7), (np.float16, 1e-3)):
    for n in lengths:
        x, y = (rng.standard_normal((5, n)).astype(dtype) for _ in range(2))
        a, b = x.astype(np.float64), y.astype(np.float64)
        norms = lambda v, axis: np.sqrt((v * v).sum(axis))
        expected = (a * b).sum(1) / norms(a, 1) / norms(b, 1)
        assert np.abs(cossim.cosine_similarity(x, y) - expected).max() <= atol, (dtype, n)
        assert np.abs(cossim.cosine_similarity(x.T, y.T, 0) - expected).max() <= atol, (dtype, n)
        columns = cossim.cosine_similarity(np.asfortranarray(x), np.asfortranarray(y))
        assert np.abs(columns - expected).max() <= atol, (dtype, n)
        assert np.abs(cossim.vector_norm(x, 1) - norms(a, 1)).max() <= 100 * atol, (dtype, n)
        pairs = a @ b.T / norms(a, 1)[:, None] / norms(b, 1)
        assert np.abs(cossim.pairwise(x, y) - pairs).max() <= atol, (dtype, n)
        assert (np.diag(cossim.pairwise(x)) == 1).all()
        assert (cossim.cosine_similarity(x, x.copy()) == 1).all()
image = rng.standard_normal((2, 3, 9, 8)).astype(np.float32)
weight = rng.standard_normal((5, 3, 3, 2)).astype(np.float32)
windows = np.lib.stride_tricks.sliding_window_view(image, (3, 2), (2, 3))
assert np.abs(cossim.nn.conv2d(image, weight) - np.einsum("ncijuv,ocuv->noij", windows, weight)).max() < 1e-5
print(_core.config()["isa"])
"""


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set_is_right(isa):
    python_on(isa, "-c", CHECK)


def test_an_unknown_name_is_an_error_at_import():
    names = "sse9", "AVX2", "generic "
    code = "try:\n    import cossim\nexcept ImportError as error:\n    print(error)"
    for isa, message in zip(names, python_in(code, [{"COSSIM_ISA": isa} for isa in names]), strict=True):
        assert isa in message and "generic" in message


def test_an_unsupported_one_is_an_error_at_import():
    missing = set(INSTRUCTION_SETS) - set(_core.config()["available"])
    if not missing:
        pytest.skip("this machine runs every instruction set")
    done = finished("-c", "import cossim", COSSIM_ISA=missing.pop())
    assert done.returncode != 0
    assert "not supported" in done.stderr


def test_without_the_variable_the_best_is_taken():
    assert python(CHECK, COSSIM_ISA="") == _core.config()["available"][0]


@not_emulated
def test_an_old_processor_takes_the_fallback():
    """Nehalem (2008) has neither AVX nor FMA. Such an instruction in code that all processors run ends the process."""
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if platform.machine() != "x86_64" or qemu is None:
        pytest.skip("needs x86-64 and qemu-x86_64 (Debian: qemu-user)")
    if os.environ.get("COSSIM_SANITIZE"):
        pytest.skip("the emulator would be preloaded with sanitizers")
    # These variables name NumPy's BLAS kernels for the real processor, as a user's environment may; -U removes them.
    command = [qemu, "-U", "OPENBLAS_CORETYPE,OPENBLAS_L2_SIZE", "-cpu", "Nehalem", sys.executable, "-c", CHECK]
    environment = {**ENVIRONMENT, "COSSIM_ISA": "", "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "generic\n"), run.stderr
