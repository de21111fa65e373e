"""The one reader of .npy files: whole arrays from a stream, or the memmap of a file. Nothing is ever unpickled.

Not np.load, which does not say how much of a file is missing, asks for memory for all that its header promises, and
waits for pipes.
"""

import io
import math
import os
import tokenize

import numpy as np

from cossim._files import CHUNK

MAGIC = b"\x93NUMPY"

# What Python's parsers, and what NumPy does with what they find, make of a .npy file's damaged header.
_OF_HEADERS = (AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, tokenize.TokenError)


def read_bytes(stream, count):
    """Up to count bytes; fewer where the stream, or the gzip file behind it, ends too early."""
    found = bytearray()
    try:
        while len(found) < count and (more := stream.read(min(CHUNK, count - len(found)))):
            found += more
    except EOFError:
        pass
    return found


def _truncated(shape, expected, found):
    return ValueError(f"truncated: shape {shape} takes {expected} bytes after the header, found {found}")


def read_elements(stream, dtype, shape):
    """Exactly the elements of an array, and nothing behind them."""
    expected = math.prod(shape) * dtype.itemsize
    data = read_bytes(stream, expected + 1)
    if len(data) < expected:
        raise _truncated(shape, expected, len(data))
    if len(data) > expected:
        raise ValueError(f"too long: shape {shape} takes {expected} bytes after the header, found more")
    return np.frombuffer(data, dtype)


def _read_header(stream, start=b""):
    """Shape, whether in columns, and dtype of a .npy file, of which the bytes `start` have been read already."""
    start = bytes(start) + read_bytes(stream, 8 - len(start))
    if start[:4] == b"PK\3\4":
        raise ValueError("an archive such as .npz, where a single array, .npy, is needed")
    if start[:6] != MAGIC:
        raise ValueError(f"no .npy file: it begins with {start.hex(' ') or 'nothing'}")
    version = start[6:]
    if version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("a .npy file of an unknown version, or a damaged one")
    bytes_of_length = 2 if version == b"\1\0" else 4
    length = read_bytes(stream, bytes_of_length)
    text = read_bytes(stream, int.from_bytes(length, "little"))
    reader = np.lib.format.read_array_header_1_0 if version == b"\1\0" else np.lib.format.read_array_header_2_0
    try:
        if version == b"\3\0":
            # Version 2 in UTF-8, for names of fields. NumPy has no public reader of it. Characters beyond ASCII are in
            # strings alone, where their escapes mean the same.
            text = text.decode().encode("ascii", "backslashreplace")
            length = len(text).to_bytes(bytes_of_length, "little") if len(length) == bytes_of_length else length
        shape, column_major, dtype = reader(io.BytesIO(bytes(length) + text))
    except (OSError, EOFError):
        raise
    except Exception as error:
        # Of many kinds. NumPy's own sentences are good ones, but for those about Python's syntax trees.
        unclear = isinstance(error, (*_OF_HEADERS, UnicodeError)) or str(error).startswith("malformed node")
        raise ValueError("its header is damaged" if unclear else str(error)) from None
    if min(shape, default=0) < 0:
        raise ValueError(f"a size below 0 in shape {shape}")
    if max(shape, default=0) >= 2**63:
        raise ValueError(f"no array has the shape {shape}")
    return shape, column_major, dtype


def _no_objects(dtype):
    if dtype.hasobject:
        raise ValueError(f"an array of Python objects, dtype {dtype}")


def read_npy(stream, start=b"", check=_no_objects):
    """The array of a .npy file, of which the bytes `start` have been read already.

    check(dtype) raises where that one is refused; objects must be. ValueError where the file is damaged.
    """
    shape, column_major, dtype = _read_header(stream, start)
    check(dtype)
    elements = read_elements(stream, dtype, shape)
    return elements.reshape(shape, order="F" if column_major else "C")


def map_npy(file, check=_no_objects):
    """The memmap of an open .npy file, read from its start, with read_npy's check and errors.

    Bytes behind the array are allowed.
    """
    shape, column_major, dtype = _read_header(file)
    check(dtype)
    offset, expected = file.tell(), math.prod(shape) * dtype.itemsize
    if (found := os.fstat(file.fileno()).st_size - offset) < expected:
        raise _truncated(shape, expected, found)
    try:
        return np.memmap(file, dtype, "r", offset, shape, order="F" if column_major else "C")
    except (OverflowError, TypeError, ValueError) as error:  # of shapes that are empty but too large
        raise ValueError(str(error)) from None
