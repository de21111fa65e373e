"""Weights files are written as a whole or not at all, like results and index files."""

import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import SLOWNESS, SUFFIXES
from processes import ENVIRONMENT

from cossim import nn
from cossim.nn.weights import check_weights_path


@pytest.fixture(params=SUFFIXES)
def old(request, tmp_path):
    """A file of old, alone in its folder."""
    path = tmp_path / f"weights{request.param}"
    nn.save_weights(path, {"w": np.zeros(3)})
    return path


def assert_old(path, left=0):
    assert nn.load_weights(path)["w"].tolist() == [0, 0, 0]
    assert len(os.listdir(path.parent)) == 1 + left


def test_ctrl_c_while_an_archive_is_opened(tmp_path, monkeypatch):
    """There it is neither open nor closed, and closing it is an error of zipfile's, which must not hide Ctrl-C."""
    nn.save_weights(tmp_path / "weights.npz", {"w": np.zeros(3)})

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile, "_get_compressor", stop)
    with pytest.raises(KeyboardInterrupt):
        nn.save_weights(tmp_path / "weights.npz", {"w": np.ones(3)})
    assert_old(tmp_path / "weights.npz")


def python(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", "import sys\nimport numpy as np\nfrom cossim import nn, _files\n" + code, *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_permissions_and_links(old):
    mask = os.umask(0o027)
    try:
        nn.save_weights(old.with_stem("new"), {"w": np.ones(3)})
    finally:
        os.umask(mask)
    assert os.stat(old.with_stem("new")).st_mode & 0o777 == 0o640
    os.chmod(old, 0o604)
    old.with_stem("link").symlink_to(old.name)
    nn.save_weights(old.with_stem("link"), {"w": np.ones(3)})
    assert old.with_stem("link").is_symlink()
    assert os.stat(old).st_mode & 0o777 == 0o604
    assert nn.load_weights(old)["w"].tolist() == [1, 1, 1]


def test_systems_without_hangups(tmp_path):
    """Windows has neither SIGHUP nor, before Python 3.13, fchmod."""
    code = """
import os, signal, sys
del signal.SIGHUP, os.fchmod
import numpy as np, cossim
from cossim import nn
from cossim.simclr.training import _undivided
os.chdir(sys.argv[1])
for _ in range(2):  # new files, and in the place of those
    nn.save_weights("weights.npz", {"w": np.ones(3)})
    cossim.Index(np.eye(3)).save("index")
with _undivided():
    pass
"""
    child = subprocess.run([sys.executable, "-c", code, tmp_path], env=ENVIRONMENT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert sorted(os.listdir(tmp_path)) == ["index", "weights.npz"]


def test_numbers_and_empty_arrays_come_back(old):
    arrays = {"zero-d": np.float32(3), "empty": np.zeros((0, 2)), "strided": np.arange(12.0).reshape(3, 4)[:, ::2].T}
    nn.save_weights(old, arrays)
    found = nn.load_weights(old)
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("save", [lambda path: nn.save_weights(path, {"w": np.ones(3)}), check_weights_path])
def test_errors_name_the_path(tmp_path, suffix, save):
    with pytest.raises(FileNotFoundError, match=rf"No such file or directory: '.*no/weights\{suffix}'$"):
        save(tmp_path / f"no/weights{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(OSError, match=rf"something else than a file is there: '.*folder\{suffix}'$"):
        save(tmp_path / f"folder{suffix}")
    assert os.listdir(tmp_path) == [f"folder{suffix}"]


def test_without_safetensors(tmp_path, monkeypatch):
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    for save in (lambda path: nn.save_weights(path, {"w": np.ones(3)}), check_weights_path):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'cossim-c\[weights\]'"):
            save(tmp_path / "weights.safetensors")
        save(tmp_path / "weights.npz")


def test_full_disk(old):
    """A limit on the size of files stands for the disk."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    nn.save_weights(sys.argv[1], {"w": np.ones(10000)})
except OSError as error:
    print(error)
"""
    with python(code, str(old)) as child:
        out, err = child.communicate(timeout=60 * SLOWNESS)
    assert (out, err) == (f"[Errno 27] File too large: {str(old)!r}\n", "")
    assert_old(old)


@pytest.mark.parametrize(
    ("number", "code", "left"), [("SIGINT", None, 0), ("SIGTERM", 143, 0), ("SIGKILL", -signal.SIGKILL, 1)]
)
def test_stopped_while_a_file_is_written(old, number, code, left):
    stops = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
def stop(handle):
    print("writing", flush=True)
    sys.stdin.read()  # until the end
os.fsync = stop
nn.save_weights(sys.argv[1], {"w": np.ones(10000)})
"""
    with python(stops, str(old), stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "writing\n"
        child.send_signal(getattr(signal, number))
        child.communicate(timeout=60 * SLOWNESS)
    assert child.returncode == code or (code is None and child.returncode)
    assert_old(old, left)
    nn.save_weights(old, {"w": np.ones(3)})
    assert os.listdir(old.parent) == [old.name]  # what was left over is gone
