"""Fuzzes the readers of files: rows, indexes, images, weights and training checkpoints.

For any contents of a file, reading it raises only documented exceptions, creates no Python object from a pickle, and
allocates no more memory than the size of the file allows. If a file is accepted, its content can be used.
"""

import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import tempfile
import tracemalloc
import warnings
import zipfile

import numpy as np
from index_files import VERSION_1, checksums, forged
from public_inputs import npy_bytes

import cossim
from cossim import nn, simclr
from cossim.cli.image_files import read_images
from cossim.nn import load_weights
from cossim.search.index_file import read

FOLDER = tempfile.TemporaryDirectory()
# Readers may hold this many bytes beyond a multiple of the file's size, for buffers and 1 MiB pieces.
MOST_BYTES = 24 << 20


class Executed:
    """Sets `happened` when it is unpickled, which shows that a pickle was loaded."""

    happened = False

    @classmethod
    def happens(cls):
        cls.happened = True

    def __reduce__(self):
        return Executed.happens, ()


def path_of(data, name):
    path = os.path.join(FOLDER.name, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # an existing memory map keeps its content
    with open(path, "wb") as file:
        file.write(data)
    return path


def checked(function, path, *allowed, times=8):
    """Returns function(path), or None after an allowed exception. Checks the peak of memory, and that no pickle ran."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return function(path)
    except allowed:
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        size = os.path.getsize(path) if os.path.exists(path) else 0
        assert peak <= MOST_BYTES + times * size, f"{peak} bytes for a file of {size}"
        assert not Executed.happened, "a pickle was loaded"


# ---- indexes ----


def _repaired(data):
    """Repairs the length and checksums of an index file, so that the reader gets past them to the other contents."""
    end = 8 + int.from_bytes(data[:8], "little")
    header, body = data[8:end], data[end:]
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, AttributeError):
        header = json.loads(header)
        header["__metadata__"]["blocks"] = checksums(body)
    return forged(header if isinstance(header, dict) else data[8:end], body)


def index_file(data):
    flags, data = data[:1], data[1:]
    flag = flags[0] if flags else 0
    path = path_of(_repaired(data) if flag & 1 else data, "index")
    mmap, verify = bool(flag & 2), not flag & 4
    checked(lambda path: read(path, mmap=mmap, verify=verify), path, ValueError)
    index = checked(lambda path: cossim.Index.load(path, mmap, verify=verify), path, ValueError)
    if index is not None:
        query = np.ones((2, index.dim), np.float32)
        values, indices = index.topk(query, min(3, len(index)))
        assert values.shape == indices.shape == (2, min(3, len(index)))
        assert np.all((indices >= 0) & (indices < len(index)))
        index.pairs_above(query, 0.5, max_pairs=10**6)


def index_seeds():
    found = []
    for dtype, shape in (
        ("f4", (3, 5)),
        ("f8", (1, 1)),
        ("f2", (9, 33)),
        ("i1", (4, 3)),
        ("?", (2, 8)),
        ("f4", (1, 4097)),
    ):
        path = os.path.join(FOLDER.name, "seed")
        corpus = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        cossim.Index(corpus).save(path)
        with open(path, "rb") as file:
            data = file.read()
        found += [bytes((flag,)) + data for flag in (range(8) if len(data) < 4000 else (2, 3))]
    found += [bytes((flag,)) + path.read_bytes() for path in VERSION_1.values() for flag in (0, 2, 4)]
    return [*found, b"", b"\1", b"\0" + found[0][1:70]]


# ---- images ----


def images(data):
    path = path_of(data, "images")
    found = checked(read_images, path, ValueError, times=24)
    if found is not None:
        assert found.dtype == np.float32 and found.shape[1:] == (1, 28, 28) and np.isfinite(found).all()


def image_seeds():
    import gzip

    pixels = np.arange(2 * 784, dtype=np.uint8)
    idx = b"\0\0\x08\3" + struct.pack(">III", 2, 28, 28) + pixels.tobytes()
    npy = npy_bytes(pixels.reshape(2, 28, 28).astype(np.float32))
    lying = b"\0\0\x08\3" + struct.pack(">III", 2**32 - 1, 28, 28) + bytes(100)
    many = b"\0\0\x08\xff" + b"\0\0\0\1" * 255
    zipped = gzip.compress(idx, mtime=0)
    return [
        idx,
        npy,
        lying,
        many,
        zipped,
        zipped[:-9],
        npy_bytes(pixels.reshape(2, 784)),
        b"",
        gzip.compress(bytes(1 << 20), mtime=0),
    ] + [
        npy_bytes(np.array([Executed()], object), allow_pickle=True),
        npy_bytes(np.zeros((28, 28, 2)).T, version=(2, 0)),
        npy_bytes(np.zeros((2, 28, 28)), version=(3, 0)),
        b"\x93NUMPY\1\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 28, 28), }".ljust(127)
        + b"\n",
    ]


# ---- weights ----

STATE = {
    "conv.weight": np.ones((2, 1, 3, 3), np.float32),
    "bias": np.arange(3.0),
    "n": np.array(3),
    "h": np.ones(2, np.float16),
}


def weights(data):
    kind = ".npz" if data[:1] < b"\x80" else ".safetensors"
    data = data[1:]
    if kind == ".npz":
        data = _rezipped(data)
    path = path_of(data, "weights" + kind)
    found = checked(load_weights, path, ValueError)
    if found is not None:
        for name, array in found.items():
            assert type(name) is str and isinstance(array, np.ndarray) and not array.dtype.hasobject
    layer = nn.Linear(3, 2, rng=0)
    checked(layer.load_state_dict, path, ValueError, TypeError, KeyError)


def _rezipped(data):
    """Rebuilds an archive with right checksums, so that mutated members reach the code that reads their bytes."""
    if data[:1] != b"R":
        return data
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if data[1:2] > b"\x80" else zipfile.ZIP_STORED) as archive:
        for i, part in enumerate(data[2:].split(b"\x93NUMPY")[1:]):
            archive.writestr(f"{i}.npy", b"\x93NUMPY" + part)
    return file.getvalue()


def _npz(arrays, **options):
    file = io.BytesIO()
    np.savez(file, **arrays, **options)
    return file.getvalue()


def weight_seeds():
    import safetensors.numpy

    npz, whole = _npz(STATE), safetensors.numpy.save(STATE)
    pickled = _npz({"x": np.array([Executed()], object)})
    lying = struct.pack("<Q", 2**63) + b"{}"
    header = b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_bytes(np.zeros(1 << 17)))
    huge = b"R\0\x93NUMPY\1\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }".ljust(129) + b"\n"
    members = b"R\0" + b"".join(npy_bytes(array, version=(3, 0)) for array in STATE.values())
    seeds = [
        npz,
        npz[100:],  # the offsets of its members then lie before its start
        pickled,
        bomb.getvalue(),
        huge,
        members,
        b"R\xff" + members[2:],
        npy_bytes(STATE["bias"]),
        pickle.dumps(Executed()),
        b"",
    ]
    return [b"\0" + data for data in seeds] + [
        b"\xff" + data for data in (whole, lying, struct.pack("<Q", len(header)) + header, whole[:-5], b"")
    ]


# ---- checkpoints ----

IMAGES = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)


def train(path, epochs):
    return simclr.train(IMAGES, epochs=epochs, batch_size=4, seed=1, encoder=Tiny(), checkpoint=path)


class Tiny(nn.Sequential):
    def __init__(self):
        super().__init__(nn.MaxPool2d(14), nn.Flatten(), nn.Linear(4, 2, rng=0))


def checkpoints(data):
    kind = ".npz" if data[:1] < b"\x80" else ".safetensors"
    path = path_of(_signed(data[1:], kind) if data[:1] in (b"\1", b"\xfe") else data[1:], "checkpoint" + kind)
    checked(lambda path: train(path, 1), path, ValueError, times=64)


def _signed(data, kind):
    """Repairs the checksum of a checkpoint whose arrays can be read."""
    path = path_of(data, "unsigned" + kind)
    try:
        arrays = load_weights(path)
        arrays.pop("sha256", None)
        digest = simclr.training._digest(arrays)
        arrays["sha256"] = np.frombuffer(bytes.fromhex(digest), np.uint8)
        nn.save_weights(path, arrays)
    except (ValueError, TypeError, OSError):
        return data
    with open(path, "rb") as file:
        return file.read()


def _tokens(data):
    """Yields checkpoints with one array replaced, removed or added, or with other settings."""
    path = path_of(data, "seed.npz")
    arrays = load_weights(path)
    for name in list(arrays):
        for value in (
            np.zeros(3),
            np.array(2),
            np.zeros((1, 0), np.int8),
            np.array(["x"]),
            np.full(arrays[name].shape, np.nan),
        ):
            yield _npz({**arrays, name: value})
        yield _npz({key: array for key, array in arrays.items() if key != name})
    yield _npz({**arrays, "optimizer.more": np.zeros(2)})
    settings = json.loads(bytes(arrays["settings"]))
    for other in ({**settings, "version": 2}, {}, [], None, {"version": 1}, {**settings, "seed": "x"}, 5):
        yield _npz({**arrays, "settings": np.frombuffer(json.dumps(other).encode(), np.uint8)})


def checkpoint_seeds():
    seeds = []
    for kind, flags in ((".npz", (b"\0", b"\1")), (".safetensors", (b"\xff", b"\xfe"))):
        path = os.path.join(FOLDER.name, "seed" + kind)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        train(path, 1)
        with open(path, "rb") as file:
            data = file.read()
        seeds += [flag + data for flag in flags]
        if kind == ".npz":
            seeds += [b"\1" + other for other in _tokens(data)]
    return seeds


# ---- rows ----

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
LENGTHS = np.full((3, 1), 4, "<i4").view(np.uint8)
ROW_FILES = {  # files of every format that NumPy alone reads
    ".npy": npy_bytes(ROWS),
    ".npy.gz": gzip.compress(npy_bytes(ROWS, version=(3, 0))),
    ".npz": _npz({"x": ROWS, "y": ROWS[0]}),
    ".safetensors": json.dumps({"x": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}}).encode(),
    ".fvecs": np.hstack((LENGTHS, ROWS.view(np.uint8))).tobytes(),
    ".fbin": struct.pack("<II", 3, 4) + ROWS.tobytes(),
    ".txt": b"3 4\nking 1 2 3 4\nold queen 5 6 7 8\n9 9 10 11 12\n",
    ".glove": b"king 1 2 3 4\r\nold queen 5 6 7e1 nan\r\n",
    ".txt.gz": gzip.compress(b"1 2 3 4\n5 6 7 8\n"),
    ".bin": b"3 4\n" + b"".join(b"king " + row.tobytes() + b"\n" for row in ROWS),
}
SPARSE = {"data": np.ones(3), "indices": [3, 0, 2], "indptr": [0, 1, 1, 3], "shape": [3, 4]}
ROW_FILES[".safetensors"] = struct.pack("<Q", len(ROW_FILES[".safetensors"])) + ROW_FILES[".safetensors"] + bytes(24)


def rows(data):
    suffix = list(ROW_FILES)[(data[0] if data else 0) % len(ROW_FILES)]
    opened = checked(open_and_read, path_of(data[1:], "rows" + suffix), ValueError, times=64)
    assert opened is None or (opened[0].shape, opened[0].dtype) == (opened[1].shape, opened[1].dtype)


def open_and_read(path):
    with cossim.open_rows(path) as opened:
        found = opened[: 10**6 // max(1, opened.shape[1])]
        return (opened if found.shape[0] == len(opened) else found), found, opened.ids


def row_seeds():
    seeds = [bytes([number]) + data for number, data in enumerate(ROW_FILES.values())]
    archive = bytes([list(ROW_FILES).index(".npz")])
    coo = {name: SPARSE[name] for name in ("data", "shape")} | {"row": [0, 2, 2], "col": SPARSE["indices"]}
    seeds += [archive + _npz(SPARSE | {"format": form}) for form in (b"csr", b"csc")]
    return [*seeds, archive + _npz(coo | {"format": b"coo"})]


TARGETS = {
    "rows": (rows, row_seeds),
    "index": (index_file, index_seeds),
    "images": (images, image_seeds),
    "weights": (weights, weight_seeds),
    "checkpoints": (checkpoints, checkpoint_seeds),
}
