"""Weights files, results and index files are written as a whole or not at all."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import SAFETENSORS, SLOWNESS, SUFFIXES, not_emulated
from processes import finished, python, started

import cossim
from cossim import _io, nn
from cossim.nn.weights import check_weights_path


@pytest.fixture(params=SUFFIXES)
def old(request, tmp_path):
    """An old file, alone in its folder."""
    path = tmp_path / f"weights{request.param}"
    nn.save_weights(path, {"w": np.zeros(3)})
    return path


def assert_old(path, left=0):
    assert nn.load_weights(path)["w"].tolist() == [0, 0, 0]
    assert len(os.listdir(path.parent)) == 1 + left


def test_ctrl_c_while_an_archive_is_opened(tmp_path, monkeypatch):
    """zipfile then fails to close the half-opened archive. Its exception must not hide KeyboardInterrupt."""
    nn.save_weights(tmp_path / "weights.npz", {"w": np.zeros(3)})

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile, "_get_compressor", stop)
    with pytest.raises(KeyboardInterrupt):
        nn.save_weights(tmp_path / "weights.npz", {"w": np.ones(3)})
    assert_old(tmp_path / "weights.npz")


def test_files_are_written_without_sighup_and_fchmod(tmp_path):
    """Windows has neither SIGHUP nor, before Python 3.13, fchmod."""
    code = """
import os, signal, sys
del signal.SIGHUP, os.fchmod
import numpy as np, cossim
from cossim import nn
from cossim.simclr.training import _undivided
os.chdir(sys.argv[1])
for _ in range(2):  # first new files, then their replacements
    nn.save_weights("weights.npz", {"w": np.ones(3)})
    cossim.Index(np.eye(3)).save("index")
with _undivided():
    pass
"""
    python(code, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["index", "weights.npz"]


def test_saved_numbers_and_empty_arrays_are_loaded(old):
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
    with pytest.raises(FileNotFoundError, match=rf"'.*no/weights\{suffix}'$"):
        save(tmp_path / f"no/weights{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(OSError, match=rf"\bfile\b.*'.*folder\{suffix}'$"):
        save(tmp_path / f"folder{suffix}")
    assert os.listdir(tmp_path) == [f"folder{suffix}"]


def test_without_safetensors(tmp_path, monkeypatch):
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    for save in (lambda path: nn.save_weights(path, {"w": np.ones(3)}), check_weights_path):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'cossim-c\[weights\]'"):
            save(tmp_path / "weights.safetensors")
        save(tmp_path / "weights.npz")


@pytest.mark.parametrize(
    ("number", "code", "left"), [("SIGINT", None, 0), ("SIGTERM", 143, 0), ("SIGKILL", -signal.SIGKILL, 1)]
)
def test_stopped_while_a_file_is_written(old, number, code, left):
    stops = """
import os, signal, sys
import numpy as np
from cossim import nn
signal.signal(signal.SIGINT, signal.default_int_handler)
def stop(handle):
    print("writing", flush=True)
    sys.stdin.read()  # until the end
os.fsync = stop
nn.save_weights(sys.argv[1], {"w": np.ones(10000)})
"""
    with started("-c", stops, old, stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "writing\n"
        child.send_signal(getattr(signal, number))
        child.communicate(timeout=60 * SLOWNESS)
    assert child.returncode == code or (code is None and child.returncode)
    assert_old(old, left)
    nn.save_weights(old, {"w": np.ones(3)})
    assert os.listdir(old.parent) == [old.name]  # the leftover file is gone


# ---- other processes ----

WRITERS = {
    "x.npz": lambda path: nn.save_weights(path, {"w": np.ones(3)}),
    "x.index": lambda path: cossim.Index(np.eye(3)).save(path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("forever", [False, True])
def test_a_lock_of_another_process_is_not_waited_for(tmp_path, monkeypatch, name, forever):
    """Another user of the folder may lock a new file before its writer does: here the first file, or every file."""
    held, opener = [], os.open

    def locked_by_another(path, flags, *arguments, **options):
        handle = opener(path, flags, *arguments, **options)
        if flags & os.O_EXCL and (forever or not held):
            held.append(opener(path, os.O_RDONLY))
            fcntl.flock(held[-1], fcntl.LOCK_SH)
        return handle

    monkeypatch.setattr(os, "open", locked_by_another)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(int(10 * SLOWNESS))
    try:
        WRITERS[name](tmp_path / name)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for handle in held:
            os.close(handle)
    assert len(held) == (_io.LOCKS_TRIED if forever else 1)
    assert os.listdir(tmp_path) == [name]


FORK = """
import io, os, sys
import numpy as np, cossim
from cossim import _io, nn
order, parent, status = sys.argv[2], os.getpid(), None
def wait():
    global status
    status = os.waitpid(status, 0)[1]
def fork():
    global status
    status = os.fork()
    if status and order == "child first":
        wait()
def save(path):
    if path.endswith(".index"):
        forked = []
        cossim.Index(np.arange(1.0, 1 + 4 * 10**5).reshape(1000, 400)).save(
            path, progress=lambda done, total: forked or (forked.append(1), fork())
        )
    else:
        class Forks(io.BufferedWriter):
            def write(self, data):
                if os.getpid() == parent and status is None:
                    fork()
                return super().write(data)
        io.BufferedWriter = Forks
        nn.save_weights(path, {"w": np.arange(10.0**5)})
try:
    save(sys.argv[1])
    said = "saved"
except OSError as error:
    said = error
sys.stdout.write(f"{'parent' if os.getpid() == parent else 'child'}: {said}\\n")
sys.stdout.flush()
if os.getpid() == parent and order == "parent first":
    wait()
"""


@not_emulated
@pytest.mark.parametrize("order", ["child first", "parent first"])
@pytest.mark.parametrize("name", [*WRITERS, "x.safetensors"])
def test_a_fork_whose_sides_both_go_on(tmp_path, name, order):
    """Both would write at the same position of one file, so only the process that began it continues."""
    if name == "x.safetensors" and not SAFETENSORS:
        pytest.skip("needs safetensors")
    path = str(tmp_path / name)
    child = finished("-W", "ignore", "-c", FORK, path, order)
    assert (child.returncode, child.stderr) == (0, "")
    said = sorted(child.stdout.splitlines())
    assert said[1:] == ["parent: saved"]
    assert re.fullmatch(rf"child: \[Errno 1\] .*\bforked\b.*{re.escape(repr(path))}", said[0])
    assert os.listdir(tmp_path) == [name]
    if name == "x.index":
        np.testing.assert_array_equal(cossim.Index.load(path).corpus, np.arange(1.0, 1 + 4 * 10**5).reshape(1000, 400))
    else:
        np.testing.assert_array_equal(nn.load_weights(path)["w"], np.arange(10.0**5))
