"""After a full disk, a killed process or a changed byte, a file is the old one or the new one, or it is refused."""

import os
import random
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from conftest import HELPERS
from fault_writers import WRITERS, continued, prepare
from processes import printed, started

import cossim

PROGRAM = HELPERS / "fault_writers.py"
SHORT = ["x.index", "weights.npz", "hits.csv"]


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A folder to write to. The current folder is another one, which holds the inputs."""
    (tmp_path / "inputs").mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.chdir(tmp_path / "inputs")
    return tmp_path / "disk"


def writers(names):
    return [name for name in names if find_spec("safetensors") or not name.endswith(".safetensors")]


def counts(*arguments):
    """(how often the disk was full, how often the file was written)."""
    return list(map(int, printed(PROGRAM, *arguments).splitlines()[-1].split()))


@pytest.mark.soak
def test_limits_of_the_size_of_files(disk, amount, figures):
    """A file size limit of the system makes the write fail at every point."""
    tried = 0
    for name in writers(amount(SHORT, WRITERS)):
        full, written = counts("limits", name, disk, amount(10, 200))
        assert full >= amount(10, 100) and written >= 1
        tried += full + written
        os.unlink(disk / name)
    figures("a disk that becomes full at any point while a file is written", tried, tried)


@pytest.mark.soak
def test_a_small_disk(disk, amount, figures):
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        tried = 0
        for name in writers(amount(SHORT, WRITERS)):
            full, written = counts("fill", name, disk, amount(12, 100))
            assert full >= 1 and written >= 1
            tried += full + written
            os.unlink(disk / name)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    figures("a small disk (tmpfs) with less and less room", tried, tried)


@pytest.mark.soak
def test_killed_at_any_moment(disk, amount, figures):
    """Killed while it replaces files, a process leaves one of two whole files, and the next write cleans up."""
    draw, tried = random.Random(0), 0
    prepare()
    names = writers(amount(SHORT[:2], [*SHORT, "hits.npz", "checkpoint.npz"]))
    for name in names:
        path, contents = str(disk / name), []
        for number in (0, 1):
            WRITERS[name](path, number)
            contents.append((disk / name).read_bytes())
        for _ in range(amount(4, 100)):
            with started(PROGRAM, "forever", name, disk) as child:
                assert child.stdout.readline() == "writing\n"
                time.sleep(draw.random() * 0.03)
                child.send_signal(signal.SIGKILL)
            tried += 1
            if name == "checkpoint.npz":
                continued(path, 0)  # refuses a damaged file
            else:
                assert (disk / name).read_bytes() in contents
        for left in disk.iterdir():
            os.utime(left, (0, 0))  # a new empty file is kept, because its writer may not have begun
        WRITERS[name](path, 0)
        assert os.listdir(disk) == [name]
        os.unlink(path)
    figures("SIGKILL while files are written", tried, tried)


# ---- a byte of an index file that changes ----

CORPORA = {
    "float32": (6, 9),
    "float64": (3, 5),
    "float16": (5, 16),
    "bfloat16": (4, 7),
    "int8": (9, 33),
    "uint8": (1, 4097),
}


def load(path, mmap):
    """The index, or None where it is refused as documented."""
    try:
        return cossim.Index.load(path, mmap=mmap)
    except ValueError as error:
        return None if repr(str(path)) in str(error) else error


@pytest.mark.soak
def test_every_byte_of_an_index_file(tmp_path, amount, figures):
    """Changes single bits or all bits of a byte, at every offset or at some. Rows of 4097 elements have no codes."""
    tried, found, draw = 0, 0, random.Random(0)
    for dtype, shape in CORPORA.items():
        corpus = np.arange(1, 1 + shape[0] * shape[1]).reshape(shape) % 97
        corpus = corpus.astype(getattr(ml_dtypes, dtype, dtype))
        path = tmp_path / f"{dtype}.index"
        cossim.Index(corpus).save(path)
        data = path.read_bytes()
        with open(path, "r+b", buffering=0) as file:
            for at in sorted(draw.sample(range(len(data)), amount(40, len(data)))):
                for other in ({data[at] ^ 1 << bit for bit in range(8)} | {0, 255, 255 - data[at]}) - {data[at]}:
                    os.pwrite(file.fileno(), bytes([other]), at)
                    for mmap in (True, False):
                        tried += 1
                        found += load(path, mmap) is None
                os.pwrite(file.fileno(), data[at : at + 1], at)
        assert path.read_bytes() == data
        for mmap in (True, False):
            np.testing.assert_array_equal(load(path, mmap).corpus, corpus)
    figures("a changed byte of an index file: refused when the file is loaded", tried, found)
