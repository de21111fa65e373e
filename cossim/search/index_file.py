r"""The format of an index file, version 2: a .safetensors file in which checksums cover every byte.

Any program that reads .safetensors can read the arrays. The format of cossim defines every byte of the file; the format
of .safetensors leaves some bytes open. All numbers are little-endian and all arrays are in C order. A file consists of
these parts in this order, and nothing else:

    8 bytes    unsigned integer: length of the header in bytes
    header     a JSON object in ASCII, and after it spaces up to a multiple of 64 bytes from the start of the file;
               these two parts together have at most 1048576 bytes
    arrays     each at a multiple of 64 bytes from the start of the file

The JSON has no spaces between its parts, as Python's json.dumps writes it with separators=(",", ":"). Its keys are, in
this order:

    "__metadata__"   an object of strings with the keys, in this order:
        "format"     "cossim index"
        "crc32"      checksum of the header and the 8 bytes before it, with zeros as the digits of this checksum
        "version"    "2"
        "blocks"     checksums of all bytes after the header, in blocks of 16777216; the last block may be shorter
        any others   strings that the writer chooses
    name of array    for each array, in the order of the file, an object with the keys, in this order:
        "dtype"      "F64", "F32", "F16", "BF16", "I8" to "I64", "U8" to "U64" or "BOOL" (one byte, 0 or 1)
        "shape"      list of at most 32 integers >= 0; [] is a single number
        "data_offsets"   [offset of its first byte, offset after its last byte], from the end of the header

.safetensors allows no gaps between arrays. So if an array's size is not a multiple of 64 bytes and another array
follows, then between them is an array of 1 to 63 zeros of the dtype "U8", called like the array before it with
".padding" added.

A checksum is the CRC-32 of zlib, PNG and gzip (reflected polynomial 0xedb88320, initial value and final xor
0xffffffff), as 8 lower-case hexadecimal digits. The checksum of "123456789" is cbf43926.

Later versions of the format keep the first 8 bytes and the keys "format" and "crc32". Their headers, too, are JSON
objects in ASCII.

Version 1, which this module only reads, has the arrays in the same way, but before the header:

    bytes 0 to 7     89 43 4f 53 53 49 4d 0a, which is "\x89COSSIM\n"
    8 to 31          unsigned integers: the version, 1, and the header's checksum, of 4 bytes each; the offset of the
                     header from the start of the file, and its length, of 8 bytes each
    32 to 59         zero
    60 to 63         checksum of bytes 0 to 59
    64 to the end    the arrays and then the header, each at the next multiple of 64 bytes, with zeros before it

The header is a JSON object, {"header": object of strings, "arrays": list of objects}. Each object of the list has the
keys "name", "dtype" (NumPy's name), "shape", "offset" (from the start of the file), "bytes" and "crc32" (list of the
checksums of the array's blocks, as integers).
"""

import json
import math
import os
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np

from cossim import _errors
from cossim._dtypes import NUMPY_NAMES, SAFETENSORS_NAMES, bfloat16, dtype_name, is_bfloat16, stored_dtype
from cossim._io import open_regular, replacing

ALIGNMENT = 64  # bytes of a cache line and of the widest SIMD vector
# Bytes under one checksum. Blocks locate the damage. CRC-32 detects any two wrong bits within fewer than 2^32 bits.
BLOCK = 1 << 24
LONGEST_HEADER = 1 << 20  # bytes; bounds the memory that a malicious header can take. Enough for arrays of 2 TB
MOST_DIMENSIONS = 32  # the maximum of NumPy 1
_PIECE = 1 << 20  # bytes copied, checksummed and written at a time, so that they stay in the cache between these steps

_START = b'{"__metadata__":{"format":"cossim index","crc32":"'  # bytes 8 to 57; the checksum follows
_CRC = slice(8 + len(_START), 8 + len(_START) + 8)
_MAGIC_1 = b"\x89COSSIM\n"
_START_1 = struct.Struct("<8sIIQQ28xI")


class FormatError(Exception):
    """A file is not valid. The message continues a sentence that begins with the name of the file."""


class _Array(NamedTuple):
    """Where an array is in a file: size bytes from offset. dtype is NumPy's name."""

    name: str
    dtype: str
    shape: list
    offset: int
    size: int


def aligned_empty(size):
    """Returns a new array of bytes that begins at a cache line. SIMD loads across cache lines take a fifth longer."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    first = -block.__array_interface__["data"][0] % ALIGNMENT
    return block[first : first + size]


class ChosenRows:
    """The rows of an array at some places, in this order. write() copies them piece by piece."""

    def __init__(self, array, places):
        self.array, self.places, self.dtype = array, places, array.dtype
        self.shape = (len(places), *array.shape[1:])
        self.size = math.prod(self.shape)
        self.itemsize = array.itemsize
        self.nbytes = self.size * self.itemsize

    def __len__(self):
        return len(self.places)

    def __getitem__(self, part):
        return self.array[self.places[part]]

    def __iter__(self):
        return (self.array[place] for place in self.places)


# ---- the header ----


def _layout(arrays, start):
    """Places arrays, given as (name, dtype, shape), at multiples of 64 bytes from start.

    Raises TypeError or ValueError for a shape that no array can have.
    """
    layout = []
    for name, dtype, shape in arrays:
        if len(shape) > MOST_DIMENSIONS or any(type(length) is not int or not 0 <= length < 2**59 for length in shape):
            raise ValueError
        if math.prod(max(length, 1) for length in shape) >= 2**59:  # NumPy's limit, also for empty arrays
            raise ValueError
        layout.append(_Array(name, dtype, shape, start, math.prod(shape) * stored_dtype(dtype).itemsize))
        start += layout[-1].size + -layout[-1].size % ALIGNMENT
    return layout


def _end(layout, start):
    """Returns the offset at which the last array ends, or start if there are none."""
    return layout[-1].offset + layout[-1].size if layout else start


def _dumps(value):
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _digits(crc):
    return f"{crc:08x}"


def _with_crc(start):
    """Fills in the checksum of the bytes before the arrays."""
    zeros = start[: _CRC.start] + b"0" * 8 + start[_CRC.stop :]
    return start[: _CRC.start] + _digits(zlib.crc32(zeros)).encode() + start[_CRC.stop :]


def _encode(metadata, arrays, blocks):
    """Returns the bytes before the arrays, which are given as (name, dtype, shape). blocks are their checksums."""
    metadata = {"format": "cossim index", "crc32": "0" * 8, "version": "2", "blocks": blocks} | metadata
    header: dict[str, object] = {"__metadata__": {key: str(value) for key, value in metadata.items()}}
    last, end = None, 0
    for name, dtype, shape, offset, size in _layout(arrays, 0):
        if offset > end:
            header[f"{last}.padding"] = {"dtype": "U8", "shape": [offset - end], "data_offsets": [end, offset]}
        last, end = name, offset + size
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": shape, "data_offsets": [offset, end]}
    data = _dumps(header)
    data += b" " * (-(8 + len(data)) % ALIGNMENT)
    return _with_crc(len(data).to_bytes(8, "little") + data)


# ---- writing ----


def _blocks(array, limit):
    """Yields views of at most `limit` bytes that make up the array in C order."""
    length = array.size * array.itemsize
    if length <= limit:
        yield array[:] if isinstance(array, ChosenRows) else array
    elif (row := length // len(array)) > limit:
        for part in array:
            yield from _blocks(part, limit)
    else:
        for start in range(0, len(array), limit // row):
            yield array[start : start + limit // row]


def _bytes_of(array):
    """Copies an array's bytes as they are stored. Without a copy, the array could change after its checksum."""
    stored = stored_dtype(dtype_name(array.dtype))
    if array.dtype.name == "bool":
        array = array.view(np.uint8)  # a bool view of other data may hold bytes above 1; the copy converts them to 1
    elif is_bfloat16(array.dtype):  # as uint16, because NumPy cannot convert bfloat16 itself
        array = array.view(np.dtype(np.uint16).newbyteorder(array.dtype.byteorder))
    return np.array(array, stored, order="C").reshape(-1).view(np.uint8)


def _pieces(arrays):
    """Yields the bytes of arrays and of the padding between them, at most _PIECE at a time."""
    padding = 0
    for array in arrays:
        yield np.zeros(padding, np.uint8)
        for block in _blocks(array if isinstance(array, ChosenRows) else np.asarray(array), _PIECE):
            yield _bytes_of(block)
        padding = -array.nbytes % ALIGNMENT


def write(path, metadata, arrays, *, progress=None):
    """Writes arrays to a file atomically: the whole file or no change. See ``cossim._io.replacing``.

    Processes that have the old file open or mapped keep it, so the arrays may be mapped from the file that is replaced.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    metadata : dict of str to str
        The keys "format", "crc32", "version" and "blocks" belong to the format.
    arrays : dict of str to numpy.ndarray or ChosenRows
        Arrays with any strides and byte order. The dtypes are float64, float32, float16, bfloat16, integers and bool.
        No array is loaded or copied as a whole. No name ends with ".padding".
    progress : callable, optional
        progress(done, total) is called after each MiB or less; both count bytes of the arrays and their padding. An
        exception that it raises stops the write.

    Raises
    ------
    OSError
        The file cannot be written. An existing file is unchanged.
    ValueError
        The header would be longer than 1 MiB. Checksums take 8 bytes of it for each 16 MiB of the arrays.

    Examples
    --------
    >>> import os, tempfile, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "index")
    >>> write(path, {"metric": "cosine"}, {"rows": np.eye(2, dtype=np.float32)})
    """
    path = os.fsdecode(path)
    described = [(name, dtype_name(array.dtype), list(array.shape)) for name, array in arrays.items()]
    total, done, crc, blocks = _end(_layout(described, 0), 0), 0, 0, ""
    size = len(_encode(metadata, described, "0" * 8 * -(-total // BLOCK)))
    if size > LONGEST_HEADER:
        raise ValueError(_errors.INDEX_HEADER_TOO_LONG.format(path=path, size=size, most=LONGEST_HEADER))
    with replacing(path) as (file, replace):
        file.write(bytes(size))
        for data in _pieces(arrays.values()):
            while len(data):
                part = data[: BLOCK - done % BLOCK]
                file.write(part)
                crc, done = zlib.crc32(part, crc), done + len(part)
                if done % BLOCK == 0 or done == total:
                    blocks, crc = blocks + _digits(crc), 0
                if progress is not None:
                    progress(done, total)
                data = data[len(part) :]
        file.seek(0)
        file.write(_encode(metadata, described, blocks))
        replace()


# ---- reading ----


def _fill(file, data):
    """Fills a writable memoryview with the next bytes of a file."""
    while len(data):
        count = file.readinto(data)
        if not count:
            raise FormatError(_errors.INDEX_CUT_OFF_MEANWHILE)
        data = data[count:]


def _read_bytes(file, offset, size):
    data = bytearray(size)
    file.seek(offset)
    _fill(file, memoryview(data))
    return bytes(data)


def _check_size(size, expected):
    if size < expected:
        raise FormatError(_errors.INDEX_CUT_OFF.format(size=size, expected=expected))
    if size > expected:
        raise FormatError(_errors.INDEX_TOO_LONG.format(extra=size - expected, size=size, expected=expected))


def _split(start, stop, crcs):
    """Returns the blocks of a part of the file, as (start, stop, digits of the checksum)."""
    starts = range(start, stop, BLOCK)
    return [(at, min(at + BLOCK, stop), crc) for at, crc in zip(starts, crcs, strict=True)]


# A header is read, written again and compared: if the bytes differ, cossim did not write the file. These
# are the exceptions that reading and writing a damaged header can raise.
_NOT_WRITTEN = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


def _read_header(file, size):
    """Returns (metadata, the arrays' layout, the blocks of everything but the header)."""
    start = _read_bytes(file, 0, min(size, _CRC.stop))
    if start.startswith(_MAGIC_1):
        return _read_header_1(file, size)
    if start[8 : _CRC.start] != _START:
        known = {b"\x93NUMPY": " but a .npy file", b"PK\3\4": " but a .npz or other .zip file"}
        kind = next((kind for magic, kind in known.items() if start.startswith(magic)), ", by its first bytes")
        raise FormatError(_errors.NOT_INDEX_FILE.format(kind=kind if start else " but an empty one"))
    end = 8 + int.from_bytes(start[:8], "little")
    if end > LONGEST_HEADER:
        raise FormatError(_errors.INDEX_HEADER)
    if end > size:
        raise FormatError(_errors.INDEX_CUT_OFF.format(size=size, expected=end))
    start = _read_bytes(file, 0, end)
    if start != _with_crc(start):
        raise FormatError(_errors.INDEX_DAMAGED.format(part=f"bytes 0 to {end - 1}"))
    try:
        arrays = json.loads(start[8:].decode("ascii"))
        metadata = arrays.pop("__metadata__")
        _, _, version, crcs = (metadata.pop(key) for key in ("format", "crc32", "version", "blocks"))
        if version != "2" and type(version) is str:
            raise FormatError(_errors.INDEX_VERSION.format(version=version))
        described = [
            (name, NUMPY_NAMES[entry["dtype"]], entry["shape"])
            for name, entry in arrays.items()
            if not name.endswith(".padding")
        ]
        layout = _layout(described, end)
        blocks = _split(end, _end(layout, end), re.findall("[0-9a-f]{8}", crcs))
        if crcs != "".join(crc for _, _, crc in blocks) or start != _encode(metadata, described, crcs):
            raise ValueError
    except _NOT_WRITTEN:
        raise FormatError(_errors.INDEX_HEADER) from None
    _check_size(size, _end(layout, end))
    return metadata, layout, blocks


def _read_header_1(file, size):
    """Reads the header of version 1 of the format. Returns the same as _read_header."""
    if size < _START_1.size:
        raise FormatError(_errors.INDEX_CUT_OFF.format(size=size, expected=_START_1.size))
    start = _read_bytes(file, 0, _START_1.size)
    _, version, header_crc, end, length, crc = _START_1.unpack(start)
    if crc != zlib.crc32(start[:-4]):
        raise FormatError(_errors.INDEX_DAMAGED.format(part="bytes 0 to 63"))
    if version != 1 or start[32:60] != bytes(28) or length > LONGEST_HEADER:
        raise FormatError(_errors.INDEX_HEADER)
    _check_size(size, end + length)
    data = _read_bytes(file, end, length)
    if zlib.crc32(data) != header_crc:
        raise FormatError(_errors.INDEX_DAMAGED.format(part=f"bytes {end} to {size - 1}"))
    try:
        header = json.loads(data.decode("ascii"))
        metadata, entries = header["header"], header["arrays"]
        described = [
            (str(entry["name"]), NUMPY_NAMES[SAFETENSORS_NAMES[entry["dtype"]]], entry["shape"]) for entry in entries
        ]
        layout, blocks, same, stop = _layout(described, _START_1.size), [], [], _START_1.size
        for entry, (name, dtype, shape, offset, size) in zip(entries, layout, strict=True):
            crcs = entry["crc32"]
            same.append({"name": name, "dtype": dtype, "shape": shape, "offset": offset, "bytes": size, "crc32": crcs})
            blocks.append((stop, offset, _digits(zlib.crc32(bytes(offset - stop)))))
            stop = offset + size
            blocks += _split(offset, stop, map(_digits, crcs))
        blocks.append((stop, end, _digits(zlib.crc32(bytes(-stop % ALIGNMENT)))))
        if end != stop + -stop % ALIGNMENT:
            raise ValueError
        if data != _dumps({"header": {key: str(value) for key, value in metadata.items()}, "arrays": same}):
            raise ValueError
    except _NOT_WRITTEN:
        raise FormatError(_errors.INDEX_HEADER) from None
    return metadata, layout, blocks


def _read_blocks(file, blocks, into, verify):
    """Reads blocks into the memoryview `into` of the whole file, or only compares their checksums if `into` is None."""
    scratch = memoryview(bytearray(_PIECE))
    for start, stop, crc in blocks:
        file.seek(start)
        found = 0
        for at in range(start, stop, _PIECE):
            count = min(_PIECE, stop - at)
            piece = scratch[:count] if into is None else into[at : at + count]
            _fill(file, piece)
            if verify:
                found = zlib.crc32(piece, found)
        if verify and _digits(found) != crc:
            raise FormatError(_errors.INDEX_DAMAGED.format(part=f"bytes {start} to {stop - 1}"))


def _typed(data, array, path):
    """Returns the bytes `data` as a view with the dtype that the header gives for `array`."""
    data = data.view(stored_dtype(array.dtype))
    if array.dtype == "bfloat16":
        dtype = bfloat16()
        if dtype is None:
            raise ImportError(_errors.NEEDS_ML_DTYPES.format(path=path))
        # On a big-endian machine astype swaps the bytes: unlike NumPy's own types, bfloat16 has native order only.
        data = data.astype(np.uint16, copy=False).view(dtype)
    return data.reshape(array.shape)


def read(path, *, mmap=True, verify=True):
    """Reads a file that write() wrote, or a file of version 1. Raises ValueError for any other contents.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    mmap : bool
        True maps the arrays from the file, so that pages are loaded when they are used. False loads the whole file.
        Mapped arrays are read-only. They stay valid if the file is replaced or deleted. If the file is changed in
        place, they change too; if it is shortened in place, their use can end the process.
    verify : bool
        True reads the file once and compares its checksums. False checks only the header and the size of the file.

    Returns
    -------
    metadata : dict of str to str
    arrays : dict of str to numpy.ndarray
        The arrays in the order in which they were written, little-endian. They begin at multiples of 64 bytes.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    ValueError
        The file is truncated, extended or damaged, has a later version, or is not an index file. The message has one
        line.
    ImportError
        The file holds bfloat16, and ml_dtypes is not installed.

    Examples
    --------
    >>> import os, tempfile, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "index")
    >>> write(path, {"metric": "cosine"}, {"ids": np.arange(2)})
    >>> read(path)
    ({'metric': 'cosine'}, {'ids': array([0, 1])})
    """
    path = os.fsdecode(path)
    with open_regular(path, buffering=0) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            metadata, layout, blocks = _read_header(file, size)
            whole = np.asarray(np.memmap(file, np.uint8, "r")) if mmap else aligned_empty(size)
            if verify or not mmap:
                _read_blocks(file, blocks, None if mmap else memoryview(whole), verify)
            arrays = {a.name: _typed(whole[a.offset : a.offset + a.size], a, path) for a in layout}
            for name, array in arrays.items():
                if verify and array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
                    raise FormatError(_errors.INDEX_BOOL.format(name=name))
        except FormatError as error:
            raise ValueError(f"{path!r}: {error}") from None
    return metadata, arrays
