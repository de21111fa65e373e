"""Passes arrays in every way that a user can, and makes new valid arguments from valid ones."""

import io
import itertools
import os
import struct
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

# A folder for files, which is removed at exit. It is in memory if possible: some calls write a file 100,000 times.
MEMORY = "/dev/shm"
FILES = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
NUMBER = itertools.count()


def npy_bytes(array, **options):
    """The array as the bytes of a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def idx_bytes(images):
    """uint8 images as the bytes of an idx file, the format of MNIST."""
    return struct.pack(f">HBB{images.ndim}I", 0, 8, images.ndim, *images.shape) + images.tobytes()


class Options(dict):
    """The keyword arguments, as the last element of an argument tuple."""


def split(arguments):
    """Splits arguments into positional and keyword arguments."""
    if arguments and isinstance(arguments[-1], Options):
        return arguments[:-1], arguments[-1]
    return arguments, {}


def called(function, arguments):
    args, kwargs = split(arguments)
    return function(*args, **kwargs)


def converted(value, convert):
    """An argument with each of its arrays converted. Layers and other objects stay as they are."""
    if type(value) is np.ndarray:
        return convert(value)
    if isinstance(value, dict):
        return type(value)({key: converted(inner, convert) for key, inner in value.items()})
    return value


# ---- layouts ----


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def strided(x):
    """The array as every second element, along each dimension, of a larger array that is otherwise NaN."""
    larger = np.full([2 * n + 1 for n in x.shape], np.nan if x.dtype.kind == "f" else 0, x.dtype)
    view = larger[(..., *(slice(1, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def misaligned(x):
    bytes_ = np.zeros(x.nbytes + 1, np.uint8)
    view = np.ndarray(x.shape, x.dtype, bytes_.data, 1)
    view[...] = x
    return view


LAYOUTS = {
    "as it is": lambda x: x.copy(),
    "read-only": read_only,
    "strided": strided,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
    "Fortran order": lambda x: np.asarray(x, order="F").copy("F"),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "misaligned": misaligned,
}

# ---- objects that are not arrays, but convert to one ----


def new_path(suffix):
    return Path(FILES.name) / f"{next(NUMBER)}{suffix}"


def saved(x):
    path = new_path(".npy")
    np.save(path, x)
    return path


def mapped(x):
    return np.load(saved(x), mmap_mode="r")


class OnlyDLPack:
    """An array of another library that supports only DLPack. Each capsule keeps the array alive."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Interface:
    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return dict(self.array.__array_interface__)


class Subclass(np.ndarray):
    pass


def cast(dtype):
    return lambda x: x.astype(dtype)


# ---- valid input made from valid input: functions (call, arguments) -> other arguments ----


def kinds(*conversions):
    return [
        lambda call, given, convert=convert: tuple(converted(value, convert) for value in given)
        for convert in conversions
    ]


def options(*args, **kwargs):
    """Adds keyword arguments."""
    return lambda call, given: (*given, *args, Options(kwargs))


def packed(call, given):
    """Packs the signs of the rows."""
    return (*kinds(lambda x: np.packbits(x > 0, axis=1))[0](call, given), Options(binary=True))


def into(**kwargs):
    """Adds out=, of the shape and type of the result."""
    return lambda call, given: (*given, Options(kwargs, out=np.array(call(*given, **kwargs))))


def instead(*arguments):
    return lambda call, given: arguments


def ignore(*args):
    """A progress callable that does nothing."""


ARRAYS = *LAYOUTS.values(), OnlyArray, memoryview, lambda x: x.view(Subclass)
BOXES = *ARRAYS, OnlyDLPack
# For functions that take two float types, and for functions that take all numbers
FLOATS = kinds(cast(float), *BOXES)
STORED = kinds(*map(cast, (float, np.float16, np.int8, bool)), *BOXES, np.ndarray.tolist)  # types that files can hold
NUMBERS = [*STORED, *kinds(cast(ml_dtypes.bfloat16))]
LARGER = kinds(lambda x: np.tile(x, (40, 1)))
SIMILARITY = [*NUMBERS, *LARGER, options(0), options(axis=-1), options(1, 0.5), into(), into(axis=0)]
SEARCH = [*NUMBERS, *LARGER, *kinds(saved, mapped), options(memory=1), options(eps=0.5, progress=ignore)]
OF_INDEX = [*NUMBERS, *kinds(saved, mapped), options(memory=1, progress=ignore)]
WINDOWS = [*FLOATS, options(1), options(stride=2, padding=1), options((2, 1), (1, 0), 1)]
LOSS = [
    *FLOATS,
    *kinds(cast(np.int8), cast(bool)),
    *LARGER,
    options(0.1),
    lambda call, given: (given[0], Options(pairs="interleaved")),
    lambda call, given: (*given, Options(labels=np.arange(len(given[0])) % 3)),
]

MORE = {
    "cosine_similarity": SIMILARITY,
    "cosine_distance": SIMILARITY,
    "vecdot": [*NUMBERS, *LARGER, options(0), options(axis=0), into(), into(axis=0)],
    "normalize": [*SIMILARITY, options(None), options((0, 1))],
    "vector_norm": [*NUMBERS, *LARGER, options([0, 1], True), options(axis=0, keepdims=True), into(dim=1)],
    "pairwise": [*NUMBERS, *LARGER, options(eps=0.5, progress=ignore), into(), packed, lambda call, given: given[:1]],
    "topk": [
        *SEARCH,
        packed,
        lambda call, given: (given[0], None, 1),
        lambda call, given: (*given, Options(where=np.arange(len(given[1])) % 2 == 0, exclude=[0])),
        lambda call, given: (*given[:2], 99, Options(where=[0], exclude=np.full((len(given[0]), 1), -1))),
    ],
    "pairs_above": [*SEARCH, packed, options(max_pairs=1000, where=[0, 1]), lambda call, given: (*given, given[0][:2])],
    "duplicate_groups": [*SEARCH, packed],
    "top_pairs": [*SEARCH, lambda call, given: (*given, given[0][:2])],
    "deduplicate": SEARCH,
    "communities": [*SEARCH, options(max_pairs=1000)],
    "diverse": [*NUMBERS, options(0.9, 3), options(eps=0.5), lambda call, given: (given[0][0], *given[1:])],
    "maxsim": [*NUMBERS, options(k=1, progress=ignore), lambda call, given: (given[0], [given[1], given[1][:1]])],
    "cosine_similarity_vjp": [*NUMBERS, *LARGER, options(0), options(axis=-1), options(1, 0.5)],
    "pairwise_vjp": [*NUMBERS, *LARGER, options(eps=0.5), lambda call, given: given[:1]],
    "explain": [*NUMBERS, options(0), options(1, 0.5)],
    "set_num_threads": [instead(1), instead(np.int8(3))],
    "threads": [instead(1), instead(np.int8(3))],
    "nn.conv2d": [*WINDOWS, options(padding="same"), lambda call, given: given[:2]],
    "nn.conv2d_vjp": WINDOWS,
    "nn.linear": [*FLOATS, *kinds(np.ndarray.tolist), lambda call, given: given[:2]],
    "nn.linear_vjp": [*FLOATS, lambda call, given: given[:2]],
    "nn.max_pool2d": [*WINDOWS, options(return_indices=True, ceil_mode=True)],
    "nn.max_pool2d_vjp": [*WINDOWS, options(ceil_mode=True)],
    "nn.avg_pool2d": [*WINDOWS, options(1, 0, True, False, 3)],
    "nn.avg_pool2d_vjp": WINDOWS,
    "nn.adaptive_avg_pool2d": FLOATS,
    "nn.adaptive_avg_pool2d_vjp": FLOATS,
    "nn.batch_norm": FLOATS,
    "nn.batch_norm_vjp": FLOATS,
    "nn.dropout": [*FLOATS, options(rng=0)],
    "nn.dropout_vjp": FLOATS,
    "nn.gelu": [*FLOATS, *LARGER, options("tanh")],
    "nn.gelu_vjp": [*FLOATS, options("tanh")],
    "nn.leaky_relu": [*FLOATS, *LARGER, options(0.5)],
    "nn.leaky_relu_vjp": FLOATS,
    "nn.relu": [*FLOATS, *LARGER],
    "nn.relu_vjp": [*FLOATS, *LARGER],
    "simclr.nt_xent": LOSS,
    "simclr.nt_xent_value_and_grad": LOSS,
    "simclr.similarity_matrix": [*NUMBERS, *LARGER],
    "simclr.augment": [
        *FLOATS,
        options(shift=0, noise=0, clip=None),
        options(shear=5, aspect=(0.5, 2)),
        options(flip=0.5, brightness=0.5, contrast=(0.5, 1), hue=0.1, greyscale=0.2, blur=1.5),
    ],
    "CosineSimilarity": [instead(), instead(0), options()],
    "CosineSimilarity.__call__": [*NUMBERS, *LARGER],
    "Index": SEARCH[:-2] + [packed, options(eps=0.5, progress=ignore)],
    "Index.topk": [*OF_INDEX, lambda call, given: (given[0], None, 3), options(where=[1, 0], exclude=[-1])],
    "Index.duplicate_groups": [options(progress=ignore)],
    "Index.remove": [lambda call, given: (given[0], given[1].tolist()), lambda call, given: (given[0], 1)],
    "Index.__getitem__": [lambda call, given: (given[0], 1)],
    "Index.pairs_above": [*OF_INDEX, options(max_pairs=1000, where=[0, 1]), lambda call, given: (given[0], None, 0.3)],
    "Index.save": [options(progress=ignore)],
    "Index.load": [options(False), options(verify=False), lambda call, given: (str(given[0]),)],
}
