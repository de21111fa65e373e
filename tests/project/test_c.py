"""The C tests pass natively and for AArch64: base layer, vector abstraction, kernels and layers."""

import platform
import shutil
import subprocess

import pytest
import turns
from conftest import ROOT


def run_c_tests(build, *arguments, extra=""):
    if not (ROOT / "csrc").exists():
        pytest.skip("the C sources are not here")
    if shutil.which("make") is None:
        pytest.skip("needs make")
    # Compilers take half the time with -O1 and without symbols for debuggers.
    options = [f"BUILD={build}", f"EXTRA=-g0 -O1 {extra}", *arguments]
    command = ["make", "--no-print-directory", "-s", "-j2", "test-c", *options]
    with turns.locked(build):
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_c_tests_pass_natively(c_objects):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler called cc")
    printed = run_c_tests(c_objects)
    for name in ("base", "half", "kernels", "layer_kernels", "layers", "max_pool2d", "network", "plan", "simd_generic"):
        assert f"ok {name}:" in printed


def test_c_tests_pass_with_clang(tmp_path):
    clang = shutil.which("clang") or shutil.which("clang-14")
    if clang is None:
        pytest.skip("needs clang")
    assert "ok kernels:" in run_c_tests(tmp_path, f"CC={clang}", extra="-Werror")


def test_c_tests_pass_for_aarch64(tmp_path):
    """Tests NEON under emulation. The programs are static, so no AArch64 system is needed."""
    qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    compiler = "aarch64-linux-gnu-gcc"
    if platform.machine() == "aarch64":
        pytest.skip("this is AArch64: the native test covers it")
    if qemu is None or shutil.which(compiler) is None:
        pytest.skip(
            f"needs qemu-aarch64 and {compiler} (Debian: qemu-user, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
        )
    printed = run_c_tests(tmp_path, f"CC={compiler}", f"RUN={qemu}", extra="-O2 -static -Werror -DEMULATED")
    assert "ok simd_neon:" in printed
    assert "ok kernels:" in printed
    assert "ok layers:" in printed
