"""The file of an index: a header of JSON and named arrays, every byte of them accounted for.

All numbers are little-endian, all arrays in C order. A file is, one after the other and with nothing between or behind:

    the first 64 bytes
    the arrays, each at the next multiple of 64 bytes; what is skipped before it, at most 63 bytes, is zero
    the header, likewise at the next multiple of 64 bytes, to the end of the file

The first 64 bytes:

    byte   length
    0      8       89 43 4f 53 53 49 4d 0a, which is "\\x89COSSIM\\n"
    8      4       unsigned integer: version of the format, 1
    12     4       unsigned integer: checksum of the header
    16     8       unsigned integer: where the header begins, counted from the start of the file
    24     8       unsigned integer: length of the header in bytes, at most 1048576
    32     28      zero
    60     4       unsigned integer: checksum of bytes 0 to 59

A later version may change all but the eight bytes at the start, the version, and the checksum at 60. Checksums are the
CRC-32 of zlib, PNG and gzip (polynomial 0xedb88320 reflected, start and final xor 0xffffffff; of "123456789":
0xcbf43926).

The header is one JSON object, in UTF-8, without keys that occur twice, NaN, infinities, and integers of more than 100
digits. It has two keys: "header", an object that is the writer's own affair, and "arrays", a list with an object for
each array, in the order of the file. The keys of these objects are exactly:

    "name"     string, different from all other names
    "dtype"    "float64", "float32", "float16", "bfloat16" (the upper half of a float32), "int8" to "int64",
               "uint8" to "uint64", or "bool" (a byte of value 0 or 1)
    "shape"    list of at most 32 integers >= 0; [] is a single number
    "offset"   where its first byte is, counted from the start of the file; told also for arrays without elements
    "bytes"    how many bytes it has: the product of its shape times the bytes of an element
    "crc32"    list of its checksums as integers: one for each 16777216 bytes from its start, one for what remains
"""

import json
import math
import os
import reprlib
import stat
import struct
import zlib
from contextlib import suppress

import numpy as np

from cossim._io import errors_of, open_nonblocking, open_regular, temporary_file

MAGIC = b"\x89COSSIM\n"
VERSION = 1
ALIGNMENT = 64  # a cache line, and the widest vector
BLOCK = 1 << 24  # bytes under one checksum: it tells where the damage is, and any two wrong bits in less than 2^32
LONGEST_HEADER = 1 << 20  # bounds the memory that a hostile header can take
MOST_DIMENSIONS = 32  # those of NumPy 1
_PIECE = 1 << 20  # bytes on their way at a time: still in the cache from the checksum when they are written
_START = struct.Struct("<8sIIQQ28xI")
_ARRAY_KEYS = ["name", "dtype", "shape", "offset", "bytes", "crc32"]

# How NumPy calls what lies in the file.
_STORED = {f"{kind}{8 * size}": f"<{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4, 8)}
_STORED |= {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "bool": "|b1"}


class _Refused(Exception):
    """What is wrong with a file, in words that follow its name."""


def _aligned(position):
    return position + -position % ALIGNMENT


def _shown(value):
    """Any value of a header, however long or deep, in few characters on one line."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---- the header ----


def _unique(pairs):
    result = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {_shown(key)} occurs twice")
        result[key] = value
    return result


def _integer(digits):
    if len(digits) > 101:  # a sign and a hundred digits; long ones take quadratic time
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {_shown(text)}")
    return value


def _parse(data):
    """JSON of bytes; ValueError or RecursionError."""
    hooks = {"parse_int": _integer, "parse_float": _finite, "parse_constant": _finite}
    return json.loads(data.decode(), object_pairs_hook=_unique, **hooks)


def _encode(header, entries):
    """The header's bytes; TypeError or ValueError unless reading them gives `header` again."""
    try:
        data = json.dumps({"header": header, "arrays": entries}, allow_nan=False, separators=(",", ":")).encode()
        same = _parse(data)["header"] == header
    except RecursionError:
        raise ValueError("the header is nested too deep") from None
    if not same:
        raise ValueError("the header does not come back from JSON as it is: only dicts with str keys, and lists, do")
    return data


def _plan(arrays):
    """What the header says of each array (its checksums still the longest there are), and where the last one ends."""
    entries, position = [], _START.size
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"names of arrays must be str, not {_shown(name)}")
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"array {_shown(name)} must be a NumPy array, not {type(array).__name__}")
        if (dtype := array.dtype.name) not in _STORED:
            raise TypeError(f"array {_shown(name)} has dtype {array.dtype}, which an index file cannot hold")
        if array.ndim > MOST_DIMENSIONS:
            raise ValueError(f"array {_shown(name)} has {array.ndim} dimensions, and {MOST_DIMENSIONS} are the most")
        offset = _aligned(position)
        size = math.prod(array.shape) * array.dtype.itemsize
        crcs = [0xFFFFFFFF] * -(-size // BLOCK)
        entries.append(dict(zip(_ARRAY_KEYS, (name, dtype, list(array.shape), offset, size, crcs), strict=True)))
        position = offset + size
    return entries, position


def _integers(value, most):
    """Whether value is a list of integers from 0 to most: bool is none, nor is 1.0."""
    return type(value) is list and all(type(item) is int and 0 <= item <= most for item in value)


def _check_entry(entry, position):
    """Refuses what _plan would not have made of an array after `position`; returns where the array ends."""
    if type(entry) is not dict or sorted(entry) != sorted(_ARRAY_KEYS):
        raise _Refused(f"its header describes an array by {_shown(entry)}")
    name, dtype, shape, offset, size, crcs = (entry[key] for key in _ARRAY_KEYS)
    if type(name) is not str:
        raise _Refused(f"its header calls an array {_shown(name)}")
    this = f"its header says of array {_shown(name)} that its"
    if type(dtype) is not str or dtype not in _STORED:
        raise _Refused(f"{this} dtype is {_shown(dtype)}, which is none that this cossim knows")
    if not _integers(shape, 2**63 - 1) or len(shape) > MOST_DIMENSIONS:
        raise _Refused(f"{this} shape is {_shown(shape)}")
    itemsize = np.dtype(_STORED[dtype]).itemsize
    if math.prod(max(length, 1) for length in shape) * itemsize >= 2**63:  # NumPy's limit, for empty arrays too
        raise _Refused(f"{this} shape is {_shown(shape)}, which is too large")
    if type(size) is not int or size != math.prod(shape) * itemsize:
        raise _Refused(f"{this} {_shown(shape)} of {dtype} are {_shown(size)} bytes")
    if type(offset) is not int or offset != _aligned(position):
        raise _Refused(f"{this} place is {_shown(offset)}, where {_aligned(position)} comes next")
    if not _integers(crcs, 0xFFFFFFFF) or len(crcs) != -(-size // BLOCK):
        raise _Refused(f"{this} {size} bytes have the checksums {_shown(crcs)}")
    return offset + size


def _check_header(data, end):
    """The header's two parts, if they describe arrays that fill the file from byte 64 to `end`."""
    try:
        whole = _parse(data)
    except (ValueError, RecursionError) as error:  # of the hooks, of json, of UTF-8
        raise _Refused(f"its header is no JSON that may be there: {error}") from None
    if type(whole) is not dict or sorted(whole) != ["arrays", "header"]:
        raise _Refused(f"its header is {_shown(whole)}, not an object with 'header' and 'arrays'")
    header, entries = whole["header"], whole["arrays"]
    if type(header) is not dict or type(entries) is not list:
        raise _Refused(f"in its header, 'header' is {_shown(header)} and 'arrays' {_shown(entries)}")
    position, names = _START.size, set()
    for entry in entries:
        position = _check_entry(entry, position)
        if entry["name"] in names:
            raise _Refused(f"its header calls two arrays {_shown(entry['name'])}")
        names.add(entry["name"])
    if _aligned(position) != end:
        raise _Refused(f"its header is at {end}, but the arrays end at {position}")
    return header, entries


# ---- writing ----


def _blocks(array, limit):
    """The array in pieces of at most `limit` bytes that follow each other in C order; each is a view."""
    length = array.size * array.itemsize
    if length <= limit:
        yield array
    elif (row := length // len(array)) > limit:
        for part in array:
            yield from _blocks(part, limit)
    else:
        for start in range(0, len(array), limit // row):
            yield array[start : start + limit // row]


def _bytes_of(array, dtype):
    """A copy of the bytes of an array as they are stored: whoever changes the array meanwhile spoils no checksum."""
    if dtype == "bool":
        array = array.view(np.uint8)  # a view of other bytes as bool may hold more than 0 and 1; the copy does not
    elif dtype == "bfloat16":  # whose own conversions NumPy leaves to ml_dtypes
        array = array.view(np.dtype(np.uint16).newbyteorder(array.dtype.byteorder))
    return np.array(array, _STORED[dtype], order="C").reshape(-1).view(np.uint8)


def _write_all(file, data, path):
    data = memoryview(data)
    with errors_of(path):
        while len(data):
            data = data[file.write(data) :]


def _write_array(file, array, dtype, path, report):
    """Writes an array; returns the checksums of its blocks."""
    crcs, crc, filled = [], 0, 0
    for piece in _blocks(np.asarray(array), _PIECE):
        data = _bytes_of(piece, dtype)
        while len(data):
            part = data[: BLOCK - filled]
            crc = zlib.crc32(part, crc)
            _write_all(file, part, path)
            report(len(part))
            filled += len(part)
            if filled == BLOCK:
                crcs.append(crc)
                crc = filled = 0
            data = data[len(part) :]
    return [*crcs, crc] if filled else crcs


def _mode_of(path):
    """The permissions of a regular file that may be written, None where there is nothing, else an error."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError(f"{path!r}: not a regular file, so nothing is written there")
    with open(path, "ab", buffering=0, opener=open_nonblocking):  # fails for folders and without permission
        pass
    return mode & 0o777


def write(path, header, arrays, *, progress=None):
    """Writes a header and arrays to a file, whole or not at all.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A file that is there already is replaced once the new one is complete and on the disk; it keeps its permissions.
        Those who have it open or mapped keep the old one, so arrays may be mapped from the very file. A symbolic link
        stays and its target is replaced. A process that is killed leaves a file path.*.part beside it, which the next
        write to path removes.
    header : dict
        Whatever JSON can hold.
    arrays : dict of str to numpy.ndarray
        Any shape of up to 32 dimensions, strides and byte order. float64, float32, float16, bfloat16, integers, bool.
        Never loaded or copied whole.
    progress : callable, optional
        progress(done, total) is called after each MiB or less, with bytes of the arrays. An error that it raises ends
        the writing.

    Raises
    ------
    OSError
        The file cannot be written; the old one is still there.
    TypeError
        An array of another dtype; a header that JSON cannot hold.
    ValueError
        Such a header; one of more than 1 MiB (an array's checksums take 11 bytes for each 16 MiB); more than 32
        dimensions; a path that is no regular file.

    Examples
    --------
    >>> import os, tempfile, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "index")
    >>> write(path, {"metric": "cosine"}, {"rows": np.eye(2, dtype=np.float32)})
    """
    path = os.fsdecode(path)
    for value in (header, arrays):
        if not isinstance(value, dict):
            raise TypeError(f"header and arrays must be dicts, not {type(value).__name__}")
    entries, end = _plan(arrays)
    if len(_encode(header, entries)) > LONGEST_HEADER:
        raise ValueError(f"{path!r}: the header is longer than {LONGEST_HEADER} bytes")
    total, done = sum(entry["bytes"] for entry in entries), 0

    def report(size):
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    folder, name = os.path.split(target := os.path.realpath(path))
    mode = _mode_of(path)
    start, open_mode = f"{name[:40]}.", 0o666 if mode is None else mode  # file names can be 255 bytes long
    with temporary_file(path, folder, start, ".part", open_mode, buffered=False) as (file, replace):
        if mode is not None:
            with suppress(OSError):  # not every file system has permissions
                os.chmod(file.name, mode)
        _write_all(file, bytes(_START.size), path)
        for entry, array in zip(entries, arrays.values(), strict=True):
            _write_all(file, bytes(entry["offset"] - file.tell()), path)
            entry["crc32"] = _write_array(file, array, entry["dtype"], path, report)
        data = _encode(header, entries)
        start = MAGIC, VERSION, zlib.crc32(data), _aligned(end), len(data)
        start += (zlib.crc32(_START.pack(*start, 0)[:-4]),)
        _write_all(file, bytes(_aligned(end) - end) + data, path)
        with errors_of(path):
            file.seek(0)
        _write_all(file, _START.pack(*start), path)
        replace(target)


# ---- reading ----


def _fill(file, data):
    """Reads the next bytes of a file into a writable memoryview."""
    while len(data):
        count = file.readinto(data)
        if not count:
            raise _Refused("cut off while it was read")
        data = data[count:]


def _read_bytes(file, offset, size):
    data = bytearray(size)
    file.seek(offset)
    _fill(file, memoryview(data))
    return bytes(data)


def _check_start(file, size):
    """Offset, length and checksum of the header from the first 64 bytes of a file of `size` bytes."""
    data = _read_bytes(file, 0, min(size, _START.size))
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        known = {b"\x93NUMPY": " but a .npy file", b"PK\3\4": " but a .npz or other .zip file"}
        kind = next((name for magic, name in known.items() if data.startswith(magic)), ", by its first bytes")
        raise _Refused(f"not an index file of cossim{kind if data else ' but an empty one'}")
    if size < _START.size:
        raise _Refused(f"cut off: {size} bytes, and an index file of cossim has {_START.size} at least")
    _, version, header_crc, offset, length, crc = _START.unpack(data)
    if crc != zlib.crc32(data[:-4]):
        raise _Refused("damaged: its first 64 bytes do not match their checksum")
    if version != VERSION:
        newer = ": a newer cossim is needed" if version > VERSION else ""
        raise _Refused(f"version {version} of the format, and this cossim reads version {VERSION}{newer}")
    if data[32:60] != bytes(28):
        raise _Refused("damaged: bytes 32 to 59 are not zero")
    if size < offset + length:
        raise _Refused(f"cut off: {size} bytes of {offset + length}")
    if size > offset + length:
        raise _Refused(f"{size - offset - length} bytes too long: {size} bytes, not {offset + length}")
    if offset % ALIGNMENT or offset < _START.size or length > LONGEST_HEADER:
        raise _Refused(f"damaged: a header of {length} bytes at {offset}")
    return offset, length, header_crc


def _check_padding(file, entries, end):
    position = _START.size
    for offset, size in [*((entry["offset"], entry["bytes"]) for entry in entries), (end, 0)]:
        if any(_read_bytes(file, position, offset - position)):
            raise _Refused(f"damaged: bytes {position} to {offset - 1} are not all zero")
        position = offset + size


def _check_contents(file, entry, into, verify):
    """Reads an array's bytes, into a memoryview or, if that is None, only to compare their checksums."""
    size, name = entry["bytes"], _shown(entry["name"])
    file.seek(entry["offset"])
    scratch = memoryview(bytearray(min(size, _PIECE)))
    for crc, start in zip(entry["crc32"], range(0, size, BLOCK), strict=True):
        found, largest, stop = 0, 0, min(start + BLOCK, size)
        for at in range(start, stop, _PIECE):
            count = min(_PIECE, stop - at)
            piece = scratch[:count] if into is None else into[at : at + count]
            _fill(file, piece)
            if verify:
                found = zlib.crc32(piece, found)
                largest = max(largest, int(np.frombuffer(piece, np.uint8).max())) if entry["dtype"] == "bool" else 0
        if verify and found != crc:
            raise _Refused(f"damaged: bytes {start} to {stop - 1} of array {name} do not match their checksum")
        if largest > 1:
            raise _Refused(f"damaged: array {name} of bool holds other bytes than 0 and 1")


def _typed(data, entry, path):
    """Bytes as the array that they are."""
    array = data.view(_STORED[entry["dtype"]])
    if entry["dtype"] == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError(f"{path!r} holds bfloat16, which needs ml_dtypes: pip install ml_dtypes") from None
        # Swapped on a big-endian machine: bfloat16, unlike NumPy's own types, has native order only.
        array = array.astype(np.uint16, copy=False).view(ml_dtypes.bfloat16)
    return array.reshape(entry["shape"])


def read(path, *, mmap=True, verify=True):
    """Reads what write() has written; anything else is refused.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    mmap : bool
        Map the arrays from the file, which loads what is used of them when it is used, rather than load them all. Such
        arrays are read-only, begin at multiples of 64 bytes and last as long as any of them is in use, also when the
        file is replaced or deleted. But if it is written into or shortened in place, they change or end the process.
    verify : bool
        Read all arrays through once and compare their checksums. All else is checked in any case.

    Returns
    -------
    header : dict
    arrays : dict of str to numpy.ndarray
        In the order in which they were written, little-endian.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    ValueError
        It is truncated, extended, damaged, of a later version, or no such file. The message is a single line.
    ImportError
        It holds bfloat16, and there is no package ml_dtypes.

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
        size = os.fstat(file.fileno()).st_size
        try:
            end, length, crc = _check_start(file, size)
            data = _read_bytes(file, end, length)
            if zlib.crc32(data) != crc:
                raise _Refused("damaged: its header does not match its checksum")
            header, entries = _check_header(data, end)
            _check_padding(file, entries, end)
            whole = np.memmap(file, np.uint8, "r") if mmap else None
            arrays = {}
            for entry in entries:
                offset, size = entry["offset"], entry["bytes"]
                data = np.asarray(whole[offset : offset + size]) if mmap else np.empty(size, np.uint8)
                if verify or not mmap:
                    _check_contents(file, entry, None if mmap else memoryview(data), verify)
                arrays[entry["name"]] = _typed(data, entry, path)
        except _Refused as error:
            raise ValueError(f"{path!r}: {error}") from None
    return header, arrays
