"""Grey images of 28 x 28 for the commands: MNIST's idx files, .npy files, and scikit-learn's digits."""

import gzip
import os
import zlib

import numpy as np

from cossim import _errors
from cossim._io import GZIP, open_regular, read_bytes, read_elements, read_npy
from cossim.simclr import augment

SIDE = 28


def read_images(path):
    """Reads the images of a file. Returns an array of shape (N, 1, 28, 28), float32.

    Reads MNIST's idx files and .npy files of shape (N, 28, 28), (N, 1, 28, 28) or (N, 784); both may be gzipped. The
    first bytes of the file determine its format, not its name. Integers are divided by 255, which scales the range
    0 to 255 to [0, 1]; other numbers are not scaled.

    Raises OSError if the file cannot be read, and ValueError if it has another format or is damaged.
    """
    path = os.fspath(path)
    with open_regular(path) as file:
        zipped = file.read(2) == GZIP
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            return _as_images(_read_array(stream))
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(_errors.IN_FILE.format(path=path, error=error)) from None


def _read_array(stream):
    start = read_bytes(stream, 4)
    if start == b"\x93NUM":
        return read_npy(stream, start, _check_real)
    if len(start) == 4 and start[:2] == b"\0\0":
        return _read_idx(stream, kind=start[2], rank=start[3])
    raise ValueError(_errors.NOT_IMAGES.format(start=start.hex(" ") or "nothing"))


def _read_idx(stream, kind, rank):
    """Reads the rest of an idx file after its first four bytes, which are 0, 0, kind and rank.

    The rest holds the sizes as big-endian 32-bit integers, then the elements.
    """
    if kind != 0x08:
        raise ValueError(_errors.IDX_TYPE.format(kind=kind))
    sizes = read_bytes(stream, 4 * rank)
    if len(sizes) != 4 * rank:
        raise ValueError(_errors.IDX_TRUNCATED.format(rank=rank, expected=4 * rank, found=len(sizes)))
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    return read_elements(stream, np.dtype(np.uint8), shape).reshape(shape)


def _check_real(dtype):
    if dtype.kind not in "fiub":
        raise ValueError(_errors.IMAGES_DTYPE.format(dtype=dtype))


def _as_images(array):
    if array.shape[1:] not in ((SIDE, SIDE), (1, SIDE, SIDE), (SIDE * SIDE,)):
        raise ValueError(_errors.IMAGES_FILE_SHAPE.format(shape=array.shape))
    with np.errstate(over="ignore"):  # the check below reports numbers beyond float32's range
        images = array.reshape(-1, 1, SIDE, SIDE).astype(np.float32)
    if array.dtype.kind in "iu":
        images /= 255
    if not np.isfinite(images).all():
        raise ValueError(_errors.IMAGES_NOT_FINITE.format(count=np.count_nonzero(~np.isfinite(images))))
    return images


def _resize(images, side):
    """Resizes images (N, H, W) to (N, side, side) bilinearly, by one matrix of weights for rows and one for columns."""

    def weights(size):
        at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))

    return weights(images.shape[1]) @ images @ weights(images.shape[2]).T


def digits():
    """Returns scikit-learn's 1,797 handwritten 8 x 8 digits, resized: shape (1797, 1, 28, 28), float32."""
    from sklearn.datasets import load_digits

    return _resize(load_digits().images / 16, SIDE)[:, None].astype(np.float32)


def another_view(images, rng):
    """Returns a second view of each image, in [0, 1].

    A view is rotated by up to 15 degrees, shifted by up to 2 pixels, and has normal noise of standard deviation 0.05.
    """
    return augment(images, rng, rotate=15, shift=2, scale=(1, 1), noise=0.05)
