"""The fuzzers find nothing in their seeds and in blind mutations of them, without clang and atheris."""

import shutil
import subprocess
import sys

import pytest
import turns
from conftest import ROOT, SLOWNESS

FOLDER = ROOT / "tests/fuzz"
sys.path.append(str(FOLDER))

import run as fuzz  # noqa: E402
from source import mutations  # noqa: E402

# Number of mutations of each target. All together take some seconds.
COUNTS = {
    "arguments": 300,
    "changes": 500,
    "layers": 250,
    "columns": 1000,
    "rows": 250,
    "index": 250,
    "images": 250,
    "weights": 150,
    "checkpoints": 30,
}
NEEDS = {"arguments": "tqdm", "weights": "safetensors", "checkpoints": "safetensors"}


@pytest.mark.soak
@pytest.mark.parametrize("name", fuzz.NAMES)
def test_python_target(name, amount, figures):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    run, seeds = fuzz.target_of(name)
    tried = 0
    for data in mutations(seeds, amount(COUNTS[name], 80 * COUNTS[name]), seed=5):
        try:
            run(data)
        except BaseException as error:
            raise AssertionError(
                f"{name}: a finding, as a line of tests/fuzz/corpus/{name}.hex: {data.hex()}"
            ) from error
        tried += 1
    figures(f"blind mutations of a fuzzer's seeds: {name}", tried, tried)


@pytest.mark.soak
def test_plan(c_objects, amount, figures):
    """Runs the fuzzer of plans; an inaccessible page after each array replaces a sanitizer."""
    if not (ROOT / "csrc").exists():
        pytest.skip("the C sources are not here")
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs make and a C compiler called cc")
    build = ["make", "--no-print-directory", "-s", "-j2", f"{c_objects}/fuzz_plan", f"BUILD={c_objects}"]
    build.append("EXTRA=-g0 -O1")  # the flags of test_c.py, which shares the objects
    with turns.locked(c_objects):
        made = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    count = amount(5000, 500_000)
    command = [c_objects / "fuzz_plan", FOLDER / "corpus/plan.hex", str(count), "1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=(60 + count / 100) * SLOWNESS)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{count} mutations" in run.stdout
    figures("blind mutations of a fuzzer's seeds: plan", count, count)


def test_a_finding_is_reported(tmp_path):
    """The driver hides no failure, and its mutations repeat for the same seed only."""
    found = [list(mutations([b"abcdef", b"12"], 50, seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found[0][:2] == [b"abcdef", b"12"]
    run, _ = fuzz.target_of("index")
    import fuzz_files

    with pytest.raises(ZeroDivisionError):
        fuzz_files.checked(lambda path: 1 // 0, tmp_path / "x", ValueError)
    with pytest.raises(AssertionError, match="bytes for a file of 0"):
        fuzz_files.checked(lambda path: bytes(10**8), tmp_path / "x", ValueError)
    run(b"")
