"""Formats with a header of 8 bytes for the whole array, or with none: .fbin, .fvecs, .bvecs, .ivecs and raw files."""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from cossim import _errors
from cossim._io import open_regular, read_bytes
from cossim.rows.reader import ArrayReader, Reader, RowsError, Source, check_rows, mapped

CHECKED = 4096  # rows of a .fvecs file whose length is compared with the length of the first row


def _open_vecs(source: Source, dtype: str) -> Reader:
    """The format of INRIA's TEXMEX data: before each row, its length as a 32-bit integer.

    Different lengths would shift all rows after them, so the first, the last and rows in between are checked, rather
    than all pages of the file.
    """
    source.check(plain=True, unnamed=True, own_dtype=True)
    with open_regular(source.path) as file:
        size = os.fstat(file.fileno()).st_size
        dim = int.from_bytes(read_bytes(file, 4), "little", signed=True)
        stride = 4 + dim * np.dtype(dtype).itemsize
        if size < 4 or dim < 1 or size % stride:
            raise RowsError(_errors.ROWS_VECS.format(dim=dim, size=size))
        data = mapped(file, np.dtype(np.uint8), (size // stride, stride))
    checked = np.unique(np.linspace(0, len(data) - 1, CHECKED, dtype=np.int64))
    lengths = np.ascontiguousarray(data[checked, :4]).view("<i4")[:, 0]
    if np.any(lengths != dim):
        wrong = int(np.flatnonzero(lengths != dim)[0])
        raise RowsError(_errors.ROWS_VECS_LENGTH.format(row=checked[wrong], length=lengths[wrong], dim=dim))
    return ArrayReader(data[:, 4:].view(dtype))


def _open_bin(source: Source, dtype: str) -> Reader:
    """The format of the Big-ANN benchmarks: N and D as unsigned 32-bit integers, then N x D elements."""
    source.check(plain=True, unnamed=True, own_dtype=True)
    with open_regular(source.path) as file:
        size = os.fstat(file.fileno()).st_size
        header = read_bytes(file, 8)
        shape = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little")
        expected = 8 + shape[0] * shape[1] * np.dtype(dtype).itemsize
        if len(header) < 8 or size != expected:
            raise RowsError(_errors.ROWS_SIZE.format(shape=shape, expected=expected, size=size))
        return ArrayReader(mapped(file, np.dtype(dtype), shape, 8))


def open_raw(source: Source) -> Reader:
    """Opens raw elements, in C order from byte `offset` on, as numpy.ndarray.tofile writes them."""
    source.check(plain=True, unnamed=True)
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
        return ArrayReader(mapped(file, source.dtype, (rows, dim), source.offset))


FORMATS = {
    ".fvecs": partial(_open_vecs, dtype="<f4"),
    ".bvecs": partial(_open_vecs, dtype="|u1"),
    ".ivecs": partial(_open_vecs, dtype="<i4"),
    ".fbin": partial(_open_bin, dtype="<f4"),
    ".ibin": partial(_open_bin, dtype="<i4"),
    ".u8bin": partial(_open_bin, dtype="|u1"),
    ".i8bin": partial(_open_bin, dtype="|i1"),
}
