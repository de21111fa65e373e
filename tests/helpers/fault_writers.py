"""Runs everything that writes files, on a disk that fills up or until the process is killed, in a process of its own.

fault_writers.py limits NAME FOLDER STEPS: replaces a file under file size limits from 0 to the size that it needs.
fault_writers.py fill NAME FOLDER STEPS: FOLDER is a small disk; replaces a file with less and less room left on it.
fault_writers.py forever NAME FOLDER: writes the same file again and again, alternating between two contents.

The first two print how often the write failed cleanly, and how often the file was written.
"""

import errno
import os
import resource
import sys
from pathlib import Path

import numpy as np

import cossim
from cossim import nn, simclr
from cossim.__main__ import main

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((300, 16)).astype(np.float32)
IMAGES = RNG.random((8, 1, 28, 28), dtype=np.float32)


class Failed(Exception):
    """A command that ended with an error."""


def command(*arguments):
    if code := main([*map(str, arguments), "--quiet"]):
        raise Failed(code)


def prepare():
    """Writes the inputs of the commands to the current folder, which is not on the disk that fills up."""
    np.save("rows.npy", ROWS)
    np.save("images.npy", IMAGES)
    nn.save_weights("encoder.npz", simclr.Encoder(rng=0).state_dict())


def continued(path, number):
    """Continues from a checkpoint, with one more step each time."""
    steps = len(nn.load_weights(path)["losses"]) if os.path.exists(path) else 0
    simclr.train(IMAGES, steps + 1, 8, checkpoint=path)


# Functions that write content number 0 or 1 to a file.
WRITERS = {
    "x.index": lambda path, number: cossim.Index(ROWS[: 200 + 100 * number]).save(path),
    "weights.npz": lambda path, number: nn.save_weights(path, {"w": ROWS[number:]}),
    "weights.safetensors": lambda path, number: nn.save_weights(path, {"w": ROWS[number:]}),
    "checkpoint.npz": continued,
    "hits.npz": lambda path, number: command("topk", "rows.npy", "-k", 3 + number, "-o", path),
    "hits.csv": lambda path, number: command("topk", "rows.npy", "-k", 3 + number, "-o", path),
    "pairs.npz": lambda path, number: command("pairs", "rows.npy", "--threshold", 0.5 - number / 8, "-o", path),
    "trained.npz": lambda path, number: command("train", "images.npy", "--epochs", "0", "--seed", number, "-o", path),
    "embedded.npy": lambda path, number: command("embed", "images.npy", "--weights", "encoder.npz", "-o", path),
}


def content(path):
    return Path(path).read_bytes()


def refused(write, path, old):
    """True if the write failed with the error of a full disk and kept the old file; False if it wrote the new file."""
    try:
        write(path, 1)
    except (OSError, Failed) as error:
        if isinstance(error, OSError) and (error.errno not in (errno.EFBIG, errno.ENOSPC) or error.filename != path):
            raise
        if content(path) != old:
            raise
        return True
    return False


def limits(name, path, steps):
    """Replaces the file under each file size limit."""
    write = WRITERS[name]
    write(path, 1)
    size = os.path.getsize(path)
    write(path, 0)
    old, hard = content(path), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    counts = [0, 0]
    # A new checkpoint is larger than the old one, so the last limit is above `size`.
    for limit in sorted({size * step // steps for step in range(steps + 1)} | {size - 1, size + 4096}):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            failed = refused(write, path, old)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        counts[not failed] += 1
        assert os.listdir(os.path.dirname(path)) == [name]
        if not failed:
            assert content(path) != old or name in ("embedded.npy", "checkpoint.npz")
            Path(path).write_bytes(old)
    return counts


def fill(name, path, steps):
    """Replaces the file while another file fills the disk, except for a number of blocks that grows."""
    write, filler = WRITERS[name], path + ".filler"
    disk = os.statvfs(os.path.dirname(path))
    write(path, 1)
    needed = os.path.getsize(path) // disk.f_bsize + 4
    write(path, 0)
    old, counts = content(path), [0, 0]
    for room in sorted({needed * step // steps for step in range(steps + 1)}):
        free = os.statvfs(os.path.dirname(path)).f_bavail
        Path(filler).write_bytes(bytes(max(0, free - room) * disk.f_bsize))
        failed = refused(write, path, old)
        counts[not failed] += 1
        os.unlink(filler)
        assert os.listdir(os.path.dirname(path)) == [name]
        if not failed:
            Path(path).write_bytes(old)
    return counts


def forever(name, path, _):
    write, number = WRITERS[name], 0
    write(path, 0)
    print("writing", flush=True)
    while True:
        number = 1 - number
        write(path, number)


if __name__ == "__main__":
    job, name, folder, *steps = sys.argv[1:]
    prepare()
    jobs = {"limits": limits, "fill": fill, "forever": forever}
    print(*jobs[job](name, os.path.join(folder, name), int(*steps or [0])))
