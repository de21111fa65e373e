"""Files of whole arrays: .npy, .npz and .safetensors."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _errors
from cossim._dtypes import NUMPY_NAMES, bfloat16, stored_dtype
from cossim._io import open_regular, read_bytes, read_elements, read_npy_header
from cossim.rows.reader import (
    GZIP_RATIO,
    ArrayReader,
    Reader,
    RowsError,
    Source,
    StreamReader,
    check_rows,
    chosen,
    mapped,
)
from cossim.rows.sparse_files import open_sparse, sparse_format

if TYPE_CHECKING:
    from numpy.typing import NDArray


# ---- .npy ----


class _Header(NamedTuple):
    shape: tuple[int, int]  # (N, D)
    column_major: bool
    dtype: np.dtype[Any]
    is_vector: bool  # the array has the shape (D,); it is one row


def _npy_header(stream: Any, given: np.dtype[Any] | None, may_be_vector: bool = False) -> _Header:
    """Reads the header of a .npy stream. NumPy stores bfloat16 without its name: dtype= gives it back."""
    try:
        shape, column_major, dtype = read_npy_header(stream)
    except ValueError as error:
        raise RowsError(str(error)) from None
    if dtype.kind == "V" and dtype.itemsize == 2 and given is not None and given.name == "bfloat16":
        dtype = given
    elif given is not None:
        raise RowsError(_errors.ROWS_OWN_DTYPE.format(suffix=".npy"))
    is_vector = may_be_vector and len(shape) == 1
    shape = (1, *shape) if is_vector else shape
    check_rows(shape, dtype)
    return _Header(shape, column_major and not is_vector, dtype, is_vector)


def _npy_stream(stream: Any, given: np.dtype[Any] | None, most: int, may_be_vector: bool = False) -> Reader:
    """Reads a .npy stream of at most `most` bytes that cannot be mapped. The reader closes it."""
    shape, column_major, dtype, is_vector = _npy_header(stream, given, may_be_vector)
    start = stream.tell()
    expected = start + shape[0] * shape[1] * dtype.itemsize
    if expected > most:
        raise RowsError(_errors.TRUNCATED.format(shape=shape, expected=expected - start, found="fewer"))
    if not column_major:
        reader = StreamReader(stream, start, shape, dtype)
        reader.is_vector = is_vector
        return reader
    with stream:  # each row of a column-major array is spread over the file
        elements = read_elements(stream, dtype, shape)
    return ArrayReader(elements.reshape(shape, order="F"))


def open_npy(source: Source) -> Reader:
    source.check(unnamed=True)
    if source.zipped or source.data is not None:
        limit = len(source.data) if source.data is not None else GZIP_RATIO * (os.stat(source.path).st_size + 1)
        return _npy_stream(source.open(), source.dtype, limit, source.may_be_vector)
    with open_regular(source.path) as file:
        shape, column_major, dtype, is_vector = _npy_header(file, source.dtype, source.may_be_vector)
        reader = ArrayReader(mapped(file, dtype, shape, file.tell(), "F" if column_major else "C"))
        reader.is_vector = is_vector
        return reader


# ---- .npz ----


def open_npz(source: Source) -> Reader:
    """Arrays of numpy.savez are mapped; those of numpy.savez_compressed are unzipped block by block.

    The sparse rows of scipy.sparse.save_npz are read into memory.
    """
    source.check(plain=True)
    with open_regular(source.path) as file:
        archive = zipfile.ZipFile(file)
        if source.name is None and (form := sparse_format(archive)) is not None:
            source.check(own_dtype=True)
            return open_sparse(archive, form)
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        info = members[chosen(_npz_names(archive, members, source), source.name)]
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
            return _map_member(file, archive, info, source)
    return _npy_stream(zipfile.ZipFile(source.open()).open(info), source.dtype, info.file_size)


def _npz_names(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], source: Source) -> list[str]:
    """Returns the names of the members that hold rows of vectors, and source.name, even if that member holds none."""
    names = []
    for name, info in members.items():
        with archive.open(info) as stream:
            try:
                _npy_header(stream, source.dtype)
            except RowsError:
                if name != source.name:
                    continue
        names.append(name)
    return names


def _map_member(file: Any, archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: Source) -> Reader:
    """Maps a member that is not compressed. Its elements follow a header of 30 bytes, its name and extra fields."""
    with archive.open(info) as stream:
        shape, column_major, dtype, _ = _npy_header(stream, source.dtype)
        start = stream.tell()
    if start + shape[0] * shape[1] * dtype.itemsize != info.file_size:
        sizes = {"expected": shape[0] * shape[1] * dtype.itemsize, "found": info.file_size - start}
        raise RowsError(_errors.TRUNCATED.format(shape=shape, **sizes))
    file.seek(info.header_offset)
    header = read_bytes(file, 30)
    name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    offset = info.header_offset + 30 + name_length + extra_length + start
    return ArrayReader(mapped(file, dtype, shape, offset, "F" if column_major else "C"))


# ---- .safetensors ----

_LONGEST_HEADER = 100_000_000  # the limit of the format


class WideningReader(Reader):
    """Rows of bfloat16 as float32, where ml_dtypes is missing."""

    dtype = np.dtype(np.float32)

    def __init__(self, halves: NDArray[np.uint16]) -> None:
        self.halves, self.shape = halves, halves.shape

    def read(self, first: int, last: int) -> NDArray[Any]:
        return (self.halves[first:last].astype(np.uint32) << 16).view(np.float32)


def open_safetensors(source: Source) -> Reader:
    source.check(plain=True, own_dtype=True)
    with open_regular(source.path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(read_bytes(file, 8), "little")
        if size < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise RowsError(_errors.ROWS_SAFETENSORS_HEADER)
        header = json.loads(bytes(read_bytes(file, length)))
        header.pop("__metadata__", None)
        rows = [name for name, entry in header.items() if entry["dtype"] in NUMPY_NAMES and len(entry["shape"]) == 2]
        entry = header[chosen([*header] if source.name in header else rows, source.name)]
        if entry["dtype"] not in NUMPY_NAMES:
            raise RowsError(_errors.ROWS_DTYPE.format(dtype=entry["dtype"]))
        shape, (begin, end) = tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
        if len(shape) != 2:
            check_rows(shape, np.dtype(np.float32))
        stored = stored_dtype(NUMPY_NAMES[entry["dtype"]])
        dtype = bfloat16() if entry["dtype"] == "BF16" else stored
        stored = dtype or stored
        if min(shape) < 0 or not 0 <= begin <= end or end - begin != shape[0] * shape[1] * stored.itemsize:
            raise RowsError(_errors.ROWS_SAFETENSORS_HEADER)
        reader = ArrayReader(mapped(file, stored, shape, 8 + length + begin))
    if dtype == "?" and np.any(reader.read(0, shape[0]).view(np.uint8) > 1):
        raise RowsError(_errors.ROWS_BOOL)
    return WideningReader(reader.read(0, shape[0])) if dtype is None else reader


FORMATS = {".npy": open_npy, ".npz": open_npz, ".safetensors": open_safetensors}
