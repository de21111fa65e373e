"""Formats with a header of 8 bytes for the whole array, or with none: .fbin, .fvecs, .bvecs, .ivecs and raw files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cossim import _errors
from cossim._io import map_elements, open_regular, read_bytes
from cossim.rows.reader import ArrayReader, Reader, RowsError, Source, check_rows

CHECKED = 4096  # rows of a .fvecs file whose length is compared with the length of the first row


def _mapped(file: Any, dtype: np.dtype[Any], shape: tuple[int, int], offset: int = 0) -> Any:
    if 0 in shape:  # there is nothing to map
        return np.empty(shape, dtype)
    try:
        return map_elements(file, dtype, shape, offset)
    except ValueError as error:
        raise RowsError(str(error)) from None


def _open_vecs(source: Source, dtype: str) -> Reader:
    """The format of INRIA's TEXMEX data: before each row, its length as a 32-bit integer.

    Different lengths would shift all rows after them, so the first, the last and rows in between are checked, rather
    than all pages of the file.
    """
    source.check_plain()
    source.check_unnamed()
    source.check_own_dtype()
    with open_regular(source.path) as file:
        size = os.fstat(file.fileno()).st_size
        dim = int.from_bytes(read_bytes(file, 4), "little", signed=True)
        stride = 4 + dim * np.dtype(dtype).itemsize
        if size < 4 or dim < 1 or size % stride:
            raise RowsError(_errors.ROWS_VECS.format(dim=dim, size=size))
        data = _mapped(file, np.dtype(np.uint8), (size // stride, stride))
    checked = np.unique(np.linspace(0, len(data) - 1, CHECKED, dtype=np.int64))
    lengths = np.ascontiguousarray(data[checked, :4]).view("<i4")[:, 0]
    if np.any(lengths != dim):
        wrong = int(np.flatnonzero(lengths != dim)[0])
        raise RowsError(_errors.ROWS_VECS_LENGTH.format(row=checked[wrong], length=lengths[wrong], dim=dim))
    return ArrayReader(data[:, 4:].view(dtype))


def _open_bin(source: Source, dtype: str) -> Reader:
    """The format of the Big-ANN benchmarks: N and D as unsigned 32-bit integers, then N x D elements."""
    source.check_plain()
    source.check_unnamed()
    source.check_own_dtype()
    with open_regular(source.path) as file:
        size = os.fstat(file.fileno()).st_size
        header = read_bytes(file, 8)
        shape = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
        expected = 8 + shape[0] * shape[1] * np.dtype(dtype).itemsize
        if len(header) < 8 or size != expected:
            raise RowsError(_errors.ROWS_SIZE.format(shape=shape, expected=expected, size=size))
        return ArrayReader(_mapped(file, np.dtype(dtype), shape, 8))


def open_raw(source: Source) -> Reader:
    """Opens raw elements, in C order from byte `offset` on, as numpy.ndarray.tofile writes them."""
    source.check_plain()
    source.check_unnamed()
    if source.dtype is None or source.shape is None:
        raise RowsError(_errors.ROWS_RAW)
    check_rows((0, 0), source.dtype)
    with open_regular(source.path) as file:
        size = os.fstat(file.fileno()).st_size - source.offset
        *count, dim = source.shape
        row = dim * source.dtype.itemsize
        if size < 0 or len(count) > 1 or dim < 1 or (count and count[0] < -1):
            raise RowsError(_errors.ROWS_RAW_SHAPE.format(shape=source.shape, offset=source.offset, size=size))
        rows = size // row if not count or count[0] == -1 else count[0]
        if rows * row != size:
            shape, expected = (rows, dim), rows * row + source.offset
            size += source.offset
            raise RowsError(_errors.ROWS_SIZE.format(shape=shape, expected=expected, size=size))
        return ArrayReader(_mapped(file, source.dtype, (rows, dim), source.offset))


def _opener(function: Any, dtype: str) -> Any:
    return lambda source: function(source, dtype)


FORMATS = {
    ".fvecs": _opener(_open_vecs, "<f4"),
    ".bvecs": _opener(_open_vecs, "|u1"),
    ".ivecs": _opener(_open_vecs, "<i4"),
    ".fbin": _opener(_open_bin, "<f4"),
    ".ibin": _opener(_open_bin, "<i4"),
    ".u8bin": _opener(_open_bin, "|u1"),
    ".i8bin": _opener(_open_bin, "|i1"),
}
