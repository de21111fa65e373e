import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config):
    import torch

    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)


@pytest.fixture(scope="module")
def one_torch_thread():
    """For tests of many small networks, whose threads wait for each other longer than they work on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
