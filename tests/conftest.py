"""Fixtures, options and facts about this machine that all tests share."""

import json
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import oracle
import pytest
import turns
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent
HELPERS = ROOT / "tests/helpers"
sys.path.append(str(ROOT))  # finds the benchmarks; it is the last entry, so that the tested cossim comes first

# All instruction sets, whether or not this machine supports them; each has a file of kernels.
INSTRUCTION_SETS = sorted(path.stem[len("isa_") :] for path in ROOT.glob("csrc/isa/isa_*.c")) or ["generic"]
SAFETENSORS = find_spec("safetensors") is not None
# Suffixes of weights files.
SUFFIXES = [".npz", pytest.param(".safetensors", marks=pytest.mark.skipif(not SAFETENSORS, reason="needs safetensors"))]

# How many times slower an emulator or a sanitizer makes the tested code. Time limits are multiplied by it.
SLOWNESS = float(os.environ.get("COSSIM_TEST_SLOWNESS", "1"))

# Set by make nehalem, which runs the tests under qemu-user. Memory limits there also count the emulator's own memory,
# which grows with every page that the program ever touched. No other emulator runs inside it.
EMULATED = "COSSIM_TEST_EMULATED" in os.environ
not_emulated = pytest.mark.skipif(EMULATED, reason="qemu-user does not emulate it")


def pytest_addoption(parser):
    text = "the long form of tests marked soak, whose figures are written to this JSON file: make soak"
    parser.addoption("--soak", metavar="FILE", type=lambda name: Path(name).absolute(), help=text)


def pytest_configure(config):
    # If a shell starts pytest in the background, pytest and its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def takes_turns(tmp_path_factory):
    """Tests in several processes run at the same time, except inside turns.alone()."""
    turns.start(tmp_path_factory.getbasetemp().parent)
    with turns.together():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)


@pytest.fixture
def restore_threads():
    import cossim  # after ROOT is in sys.path

    before = cossim.get_num_threads()
    yield
    cossim.set_num_threads(before)


@pytest.fixture
def amount(request):
    """amount(short, long) gives `long` with --soak and `short` without it."""
    return lambda short, long: short if request.config.getoption("--soak") is None else long


@pytest.fixture
def figures(request):
    """figures(what, tried, survived) adds a row to docs/reliability.md, and fails unless all runs survived."""
    path = request.config.getoption("--soak")

    def write(what, tried, survived):
        if path is not None:
            rows = json.loads(path.read_text()) if path.exists() else {}
            rows[what] = {"tried": tried, "survived": survived, "test": request.node.nodeid.split("[")[0]}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows, indent=1) + "\n")
        assert tried > 0
        assert survived == tried, f"{what}: {tried - survived} of {tried} lost"

    return write


@pytest.fixture(scope="session")
def c_objects(tmp_path_factory):
    """The folder where make builds the C tests. All tests share it, because the objects take half a minute to build."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tmp_path_factory.mktemp("c")
    folder = tmp_path_factory.getbasetemp().parent / "c"  # one folder for all processes: see turns.locked()
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def one_torch_thread():
    """Limits torch to one thread. On a busy machine, torch's threads mostly wait for each other in small networks."""
    if not oracle.installed:
        yield
        return
    before = oracle.torch.get_num_threads()
    oracle.torch.set_num_threads(1)
    yield
    oracle.torch.set_num_threads(before)


def shared_data(name):
    """Path of a file of real data next to a developer's checkout; without the file, its tests skip."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no {name} next to the checkout")
    return path


@pytest.fixture
def mnist_images_path():
    return shared_data("t10k-images-idx3-ubyte.gz")


@pytest.fixture
def sentence_embeddings():
    return np.load(shared_data("stdlib_docstrings_minilm_f16.npy")).astype(np.float32)
