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
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # for benchmarks; behind all others, so that cossim is the one that is to be tested

# All there are, on whatever machine: a file of kernels for each.
INSTRUCTION_SETS = sorted(path.stem[len("isa_") :] for path in ROOT.glob("csrc/kernels/isa_*.c")) or ["generic"]
SAFETENSORS = find_spec("safetensors") is not None
# Of the files that weights go into.
SUFFIXES = [
    ".npz",
    pytest.param(".safetensors", marks=pytest.mark.skipif(not SAFETENSORS, reason="needs safetensors")),
]

# How many times slower an emulator or a sanitizer runs what is tested: limits of time grow with it.
SLOWNESS = float(os.environ.get("COSSIM_TEST_SLOWNESS", "1"))

# make nehalem says so. The emulator is a process of its own kind: limits of memory do not tell its memory from
# the program's, and no other emulator runs within it. It keeps an account of every page that was ever touched.
EMULATED = "COSSIM_TEST_EMULATED" in os.environ
not_emulated = pytest.mark.skipif(EMULATED, reason="qemu-user does not emulate it")


def pytest_addoption(parser):
    text = "the long form of tests marked soak, whose figures are written to this JSON file: make soak"
    parser.addoption("--soak", metavar="FILE", type=lambda name: Path(name).absolute(), help=text)


def pytest_configure(config):
    # A shell that starts pytest in the background has it and all its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)


@pytest.fixture
def amount(request):
    """amount(short, long): how many runs; the long form with --soak."""
    return lambda short, long: short if request.config.getoption("--soak") is None else long


@pytest.fixture
def figures(request):
    """figures(what, tried, survived): a row of docs/reliability.md. Nothing may be lost, with --soak or without."""
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
    """The folder that make builds the C tests in, for all tests that need their objects: these take half a minute."""
    return tmp_path_factory.mktemp("c")


@pytest.fixture(scope="module")
def one_torch_thread():
    """For tests of many small networks, whose threads wait for each other longer than they work on a busy machine."""
    if not oracle.installed:
        yield
        return
    before = oracle.torch.get_num_threads()
    oracle.torch.set_num_threads(1)
    yield
    oracle.torch.set_num_threads(before)


def shared_data(name):
    """A file of real data that lies beside a developer's checkout; elsewhere its tests skip."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no {name} beside the checkout")
    return path


@pytest.fixture
def mnist_images_path():
    return shared_data("t10k-images-idx3-ubyte.gz")


@pytest.fixture
def sentence_embeddings():
    return np.load(shared_data("stdlib_docstrings_minilm_f16.npy")).astype(np.float32)
