"""The format of an index file: a header of JSON and named arrays. The format defines every byte.

All numbers are little-endian and all arrays are in C order. A file consists of these parts in this order, and nothing
else:

    the first 64 bytes
    the arrays, each at the next multiple of 64 bytes, after at most 63 zero bytes of padding
    the header, at the next multiple of 64 bytes, after padding as for an array; it ends the file

The first 64 bytes are:

    byte   length
    0      8       89 43 4f 53 53 49 4d 0a, which is "\\x89COSSIM\\n"
    8      4       unsigned integer: version of the format, 1
    12     4       unsigned integer: checksum of the header
    16     8       unsigned integer: offset of the header from the start of the file
    24     8       unsigned integer: length of the header in bytes, at most 1048576
    32     28      zero
    60     4       unsigned integer: checksum of bytes 0 to 59

A later version of the format may change everything except the first eight bytes, the place of the version, and the
checksum at byte 60. Checksums are the CRC-32 of zlib, PNG and gzip (reflected polynomial 0xedb88320, initial value and
final xor 0xffffffff). The checksum of "123456789" is 0xcbf43926.

The header is one JSON object in UTF-8. It contains no duplicate keys, no NaN, no infinities and no integers of more
than 100 digits. It has two keys. "header" is an object whose contents the writer chooses. "arrays" is a list with one
object for each array, in the order of the file. These objects have exactly the keys:

    "name"     string, unique in the file
    "dtype"    "float64", "float32", "float16", "bfloat16" (the upper half of a float32), "int8" to "int64",
               "uint8" to "uint64", or "bool" (one byte, 0 or 1)
    "shape"    list of at most 32 integers >= 0; [] is a single number
    "offset"   offset of its first byte from the start of the file, also for an array without elements
    "bytes"    its size in bytes: the product of its shape times the size of an element
    "crc32"    list of its checksums as integers: one for each block of 16777216 bytes, the last of which may be shorter
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
ALIGNMENT = 64  # bytes of a cache line and of the widest SIMD vector
# Bytes under one checksum. Blocks locate the damage. CRC-32 detects any two wrong bits within fewer than 2^32 bits.
BLOCK = 1 << 24
LONGEST_HEADER = 1 << 20  # bytes; bounds the memory that a malicious header can take
MOST_DIMENSIONS = 32  # the maximum of NumPy 1
_PIECE = 1 << 20  # bytes copied, checksummed and written at a time, so that they stay in the cache between these steps
_START = struct.Struct("<8sIIQQ28xI")
_ARRAY_KEYS = ["name", "dtype", "shape", "offset", "bytes", "crc32"]

# NumPy's type string of the stored elements, for each dtype of the format.
_STORED = {f"{kind}{8 * size}": f"<{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4, 8)}
_STORED |= {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "bool": "|b1"}


class FormatError(Exception):
    """A file is not valid. The message continues a sentence that begins with the name of the file."""


def _aligned(position):
    return position + -position % ALIGNMENT


def shortened_repr(value):
    """Returns the repr of a value of a header, however long or deep, on one line of at most 60 characters."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---- the header ----


def _unique(pairs):
    result = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {shortened_repr(key)} occurs twice")
        result[key] = value
    return result


def _integer(digits):
    if len(digits) > 101:  # a sign and 100 digits; int() takes quadratic time
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shortened_repr(text)}")
    return value


def _parse(data):
    """Parses the JSON of a header. Raises ValueError or RecursionError."""
    hooks = {"parse_int": _integer, "parse_float": _finite, "parse_constant": _finite}
    return json.loads(data.decode(), object_pairs_hook=_unique, **hooks)


def _encode(header, entries):
    """Returns the bytes of the header. Raises TypeError or ValueError if reading them does not give `header` again."""
    try:
        data = json.dumps({"header": header, "arrays": entries}, allow_nan=False, separators=(",", ":")).encode()
        same = _parse(data)["header"] == header
    except RecursionError:
        raise ValueError("the header is nested too deep") from None
    if not same:
        raise ValueError("the header does not come back from JSON as it is: only dicts with str keys, and lists, do")
    return data


def _plan(arrays):
    """Returns (the entries of the header's "arrays", the offset at which the last array ends).

    The checksums are placeholders with the most digits, so that the size of the header is an upper bound.
    """
    entries, position = [], _START.size
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"names of arrays must be str, not {shortened_repr(name)}")
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"array {shortened_repr(name)} must be a NumPy array, not {type(array).__name__}")
        if (dtype := array.dtype.name) not in _STORED:
            raise TypeError(f"array {shortened_repr(name)} has dtype {array.dtype}, which an index file cannot hold")
        if array.ndim > MOST_DIMENSIONS:
            raise ValueError(
                f"array {shortened_repr(name)} has {array.ndim} dimensions, and {MOST_DIMENSIONS} are the most"
            )
        offset = _aligned(position)
        size = math.prod(array.shape) * array.dtype.itemsize
        crcs = [0xFFFFFFFF] * -(-size // BLOCK)
        entries.append(dict(zip(_ARRAY_KEYS, (name, dtype, list(array.shape), offset, size, crcs), strict=True)))
        position = offset + size
    return entries, position


def _integers(value, limit):
    """Returns whether value is a list of ints from 0 to limit. A bool or 1.0 is not an int here."""
    return type(value) is list and all(type(item) is int and 0 <= item <= limit for item in value)


def _check_entry(entry, position):
    """Raises FormatError unless entry is what _plan makes for an array after `position`. Returns the array's end."""
    if type(entry) is not dict or sorted(entry) != sorted(_ARRAY_KEYS):
        raise FormatError(f"its header describes an array by {shortened_repr(entry)}")
    name, dtype, shape, offset, size, crcs = (entry[key] for key in _ARRAY_KEYS)
    if type(name) is not str:
        raise FormatError(f"its header calls an array {shortened_repr(name)}")
    this = f"its header says of array {shortened_repr(name)} that its"
    if type(dtype) is not str or dtype not in _STORED:
        raise FormatError(f"{this} dtype is {shortened_repr(dtype)}, which is none that this cossim knows")
    if not _integers(shape, 2**63 - 1) or len(shape) > MOST_DIMENSIONS:
        raise FormatError(f"{this} shape is {shortened_repr(shape)}")
    itemsize = np.dtype(_STORED[dtype]).itemsize
    if math.prod(max(length, 1) for length in shape) * itemsize >= 2**63:  # NumPy's limit, also for empty arrays
        raise FormatError(f"{this} shape is {shortened_repr(shape)}, which is too large")
    if type(size) is not int or size != math.prod(shape) * itemsize:
        raise FormatError(f"{this} {shortened_repr(shape)} of {dtype} are {shortened_repr(size)} bytes")
    if type(offset) is not int or offset != _aligned(position):
        raise FormatError(f"{this} place is {shortened_repr(offset)}, where {_aligned(position)} comes next")
    if not _integers(crcs, 0xFFFFFFFF) or len(crcs) != -(-size // BLOCK):
        raise FormatError(f"{this} {size} bytes have the checksums {shortened_repr(crcs)}")
    return offset + size


def _check_header(data, end):
    """Returns (header, entries) of the header's bytes.

    Raises FormatError unless the entries describe arrays that fill the file from byte 64 to `end`.
    """
    try:
        whole = _parse(data)
    except (ValueError, RecursionError) as error:  # from the hooks, json or UTF-8
        raise FormatError(f"its header is no JSON that may be there: {error}") from None
    if type(whole) is not dict or sorted(whole) != ["arrays", "header"]:
        raise FormatError(f"its header is {shortened_repr(whole)}, not an object with 'header' and 'arrays'")
    header, entries = whole["header"], whole["arrays"]
    if type(header) is not dict or type(entries) is not list:
        raise FormatError(f"in its header, 'header' is {shortened_repr(header)} and 'arrays' {shortened_repr(entries)}")
    position, names = _START.size, set()
    for entry in entries:
        position = _check_entry(entry, position)
        if entry["name"] in names:
            raise FormatError(f"its header calls two arrays {shortened_repr(entry['name'])}")
        names.add(entry["name"])
    if _aligned(position) != end:
        raise FormatError(f"its header is at {end}, but the arrays end at {position}")
    return header, entries


# ---- writing ----


def _blocks(array, limit):
    """Yields views of at most `limit` bytes that make up the array in C order."""
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
    """Copies an array's bytes as they are stored. Without a copy, the array could change after its checksum."""
    if dtype == "bool":
        array = array.view(np.uint8)  # a bool view of other data may hold bytes above 1; the copy converts them to 1
    elif dtype == "bfloat16":  # as uint16, because NumPy cannot convert bfloat16 itself
        array = array.view(np.dtype(np.uint16).newbyteorder(array.dtype.byteorder))
    return np.array(array, _STORED[dtype], order="C").reshape(-1).view(np.uint8)


def _write_all(file, data, path):
    data = memoryview(data)
    with errors_of(path):
        while len(data):
            data = data[file.write(data) :]


def _write_array(file, array, dtype, path, report):
    """Writes an array and returns the checksums of its blocks."""
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
    """Returns the permissions of a writable regular file, or None if path does not exist. Else raises an error."""
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
    """Writes a header and arrays to a file atomically: the whole file or no change.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        An existing file is replaced once the new one is complete and on the disk. The new file gets the permissions of
        the old one. Processes that have the old file open or mapped keep it, so the arrays may be mapped from this
        file. For a symbolic link, the target is replaced. A killed process leaves a file path.*.part, which the next
        write to path removes.
    header : dict
        Values that JSON represents exactly.
    arrays : dict of str to numpy.ndarray
        Arrays of up to 32 dimensions with any strides and byte order. The dtypes are float64, float32, float16,
        bfloat16, integers and bool. No array is loaded or copied as a whole.
    progress : callable, optional
        progress(done, total) is called after each MiB or less; both count bytes of the arrays. An exception that it
        raises stops the write.

    Raises
    ------
    OSError
        The file cannot be written. An existing file is unchanged.
    TypeError
        An array has another dtype, or JSON cannot represent the header.
    ValueError
        JSON cannot represent the header, the header is longer than 1 MiB (checksums take 11 bytes for each 16 MiB of an
        array), an array has more than 32 dimensions, or path is not a regular file.

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
    start, open_mode = f"{name[:40]}.", 0o666 if mode is None else mode  # a file name has at most 255 bytes
    with temporary_file(path, folder, start, ".part", open_mode, buffered=False) as (file, replace):
        if mode is not None:
            with suppress(OSError):  # the file system may have no permissions
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
    """Fills a writable memoryview with the next bytes of a file."""
    while len(data):
        count = file.readinto(data)
        if not count:
            raise FormatError("cut off while it was read")
        data = data[count:]


def _read_bytes(file, offset, size):
    data = bytearray(size)
    file.seek(offset)
    _fill(file, memoryview(data))
    return bytes(data)


def _check_start(file, size):
    """Returns (offset, length, checksum) of the header from the first 64 bytes of a file of `size` bytes."""
    data = _read_bytes(file, 0, min(size, _START.size))
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        known = {b"\x93NUMPY": " but a .npy file", b"PK\3\4": " but a .npz or other .zip file"}
        kind = next((name for magic, name in known.items() if data.startswith(magic)), ", by its first bytes")
        raise FormatError(f"not an index file of cossim{kind if data else ' but an empty one'}")
    if size < _START.size:
        raise FormatError(f"cut off: {size} bytes, and an index file of cossim has {_START.size} at least")
    _, version, header_crc, offset, length, crc = _START.unpack(data)
    if crc != zlib.crc32(data[:-4]):
        raise FormatError("damaged: its first 64 bytes do not match their checksum")
    if version != VERSION:
        newer = ": a newer cossim is needed" if version > VERSION else ""
        raise FormatError(f"version {version} of the format, and this cossim reads version {VERSION}{newer}")
    if data[32:60] != bytes(28):
        raise FormatError("damaged: bytes 32 to 59 are not zero")
    if size < offset + length:
        raise FormatError(f"cut off: {size} bytes of {offset + length}")
    if size > offset + length:
        raise FormatError(f"{size - offset - length} bytes too long: {size} bytes, not {offset + length}")
    if offset % ALIGNMENT or offset < _START.size or length > LONGEST_HEADER:
        raise FormatError(f"damaged: a header of {length} bytes at {offset}")
    return offset, length, header_crc


def _check_padding(file, entries, end):
    position = _START.size
    for offset, size in [*((entry["offset"], entry["bytes"]) for entry in entries), (end, 0)]:
        if any(_read_bytes(file, position, offset - position)):
            raise FormatError(f"damaged: bytes {position} to {offset - 1} are not all zero")
        position = offset + size


def _check_contents(file, entry, into, verify):
    """Reads an array's bytes into the memoryview `into`, or only compares the checksums if `into` is None."""
    size, name = entry["bytes"], shortened_repr(entry["name"])
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
            raise FormatError(f"damaged: bytes {start} to {stop - 1} of array {name} do not match their checksum")
        if largest > 1:
            raise FormatError(f"damaged: array {name} of bool holds other bytes than 0 and 1")


def _typed(data, entry, path):
    """Returns the array of a header's entry as a view of its bytes."""
    array = data.view(_STORED[entry["dtype"]])
    if entry["dtype"] == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError(f"{path!r} holds bfloat16, which needs ml_dtypes: pip install ml_dtypes") from None
        # On a big-endian machine astype swaps the bytes: unlike NumPy's own types, bfloat16 has native order only.
        array = array.astype(np.uint16, copy=False).view(ml_dtypes.bfloat16)
    return array.reshape(entry["shape"])


def read(path, *, mmap=True, verify=True):
    """Reads a file that write() wrote. Raises ValueError for any other contents.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    mmap : bool
        True maps the arrays from the file, so that pages are loaded when they are used. False loads all arrays. Mapped
        arrays are read-only and begin at multiples of 64 bytes. They stay valid if the file is replaced or deleted. If
        the file is changed in place, they change too; if it is shortened in place, their use can end the process.
    verify : bool
        True reads all arrays once and compares their checksums. Everything else is always checked.

    Returns
    -------
    header : dict
    arrays : dict of str to numpy.ndarray
        The arrays in the order in which they were written, little-endian.

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
        size = os.fstat(file.fileno()).st_size
        try:
            end, length, crc = _check_start(file, size)
            data = _read_bytes(file, end, length)
            if zlib.crc32(data) != crc:
                raise FormatError("damaged: its header does not match its checksum")
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
        except FormatError as error:
            raise ValueError(f"{path!r}: {error}") from None
    return header, arrays
