"""Grey images for the demo: MNIST's idx files, .npy files, and scikit-learn's handwritten digits."""

import gzip
import math
import os
import struct
import zlib

import numpy as np

SIDE = 28


def _idx_array(data, path):
    """The array of an idx file: 0, 0, type, rank, sizes as big-endian 32-bit integers, then the elements."""
    if len(data) < 4 or data[0] or data[1]:
        raise ValueError(f"{path}: no idx file: it begins with {data[:4].hex(' ') or 'nothing'}")
    kind, rank = data[2], data[3]
    if kind != 0x08:
        raise ValueError(f"{path}: idx elements of type 0x{kind:02x}; images are unsigned bytes, 0x08")
    if len(data) < 4 + 4 * rank:
        raise ValueError(f"{path}: truncated: {len(data)} bytes, where the header alone takes {4 + 4 * rank}")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    expected = 4 + 4 * rank + math.prod(shape)
    if len(data) != expected:
        state = "truncated" if len(data) < expected else "too long"
        raise ValueError(f"{path}: {state}: shape {shape} takes {expected} bytes, the file has {len(data)}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _as_images(array, path):
    """(N, 1, 28, 28) float32; bytes and other integers are scaled from 0 .. 255 to 0 .. 1."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: images must be real numbers, not {array.dtype}")
    if array.shape[1:] not in ((SIDE, SIDE), (1, SIDE, SIDE), (SIDE * SIDE,)):
        raise ValueError(f"{path}: images must have shape (N, {SIDE}, {SIDE}), (N, 1, {SIDE}, {SIDE}) or (N, {SIDE * SIDE}), not {array.shape}")
    images = array.reshape(-1, 1, SIDE, SIDE).astype(np.float32)
    return images / 255 if array.dtype.kind in "iu" else images


def read_images(path):
    """Images of an MNIST idx file (gzipped or not) or a .npy file, as (N, 1, 28, 28) float32.

    Raises OSError where the file cannot be read, ValueError where it holds something else, with what was wrong.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            file.seek(0)
            try:
                return _as_images(np.load(file, allow_pickle=False), path)
            except (ValueError, EOFError) as error:
                raise ValueError(f"{path}: {error}" if path not in str(error) else str(error)) from error
        file.seek(0)
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: truncated or damaged gzip file: {error}") from error
    return _as_images(_idx_array(data, path), path)


def _resize(images, side):
    """Bilinear resizing of (N, H, W): one matrix of weights for the rows, one for the columns."""

    def weights(size):
        at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        left = np.minimum(at.astype(int), size - 2)
        matrix = np.zeros((side, size))
        matrix[np.arange(side), left] = left + 1 - at
        matrix[np.arange(side), left + 1] = at - left
        return matrix

    return np.einsum("ah,nhw,bw->nab", weights(images.shape[1]), images, weights(images.shape[2]), optimize=True)


def digits():
    """scikit-learn's 1,797 handwritten digits, resized from 8 x 8, as (N, 1, 28, 28) float32. Needs scikit-learn."""
    from sklearn.datasets import load_digits

    images = _resize(load_digits().images / 16, SIDE)
    return images[:, None].astype(np.float32)


def another_view(images, rng):
    """A second view of each image: shifted by up to 2 pixels, brightened or darkened, with noise."""
    views = np.empty_like(images)
    for view, image in zip(views, images, strict=True):
        down, right = rng.integers(-2, 3, 2)
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        view[...] = padded[:, 2 - down : 2 - down + SIDE, 2 - right : 2 - right + SIDE]
    views *= rng.uniform(0.8, 1.2, (len(images), 1, 1, 1)).astype(np.float32)
    views += rng.normal(0, 0.05, images.shape).astype(np.float32)
    return np.clip(views, 0, 1)
