"""Files of sparse rows: the archives that scipy.sparse.save_npz writes. SciPy is not needed to search them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from cossim import _errors
from cossim._io import read_npy
from cossim.rows.file_rows import FileRows
from cossim.rows.reader import Reader, RowsError, check_rows

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

_MEMBERS = {"format.npy", "shape.npy", "data.npy"}  # of every format
_FORMATS = "csr", "csc", "coo", "bsr", "dia"


class Csr(NamedTuple):
    """The entries of row i are [indptr[i], indptr[i + 1])."""

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]


class SparseReader(Reader):
    """Rows of shape (N, D) in CSR, in memory."""

    def __init__(self, csr: Csr, shape: tuple[int, int]) -> None:
        self.csr, self.shape, self.dtype = csr, shape, csr.data.dtype


def sparse_format(archive: zipfile.ZipFile) -> str | None:
    """Returns the format of the sparse matrix in an archive, such as "csr", or None if it holds none."""
    if not set(archive.namelist()) >= _MEMBERS:
        return None
    with archive.open("format.npy") as stream:
        try:
            text = read_npy(stream, check=_check_text)
        except ValueError:
            return None
    name = text.astype("U").item() if text.shape == () else ""
    return name if name in _FORMATS else None


def _check_text(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "SU":
        raise ValueError


def open_sparse(archive: zipfile.ZipFile, form: str) -> SparseReader:
    """Reads the sparse matrix of an archive, of format csr, csc or coo."""
    shape, data = _shape(_member(archive, "shape")), _member(archive, "data")
    if form not in ("csr", "csc", "coo"):
        raise RowsError(_errors.ROWS_SPARSE_FORMAT.format(format=form))
    check_rows(shape, data.dtype)
    if data.ndim != 1:
        raise RowsError(_errors.ROWS_SPARSE_DAMAGED)
    count, columns = rows_shape = shape[0], shape[1]
    if form == "coo":
        numbers, indices = _member(archive, "row"), _member(archive, "col")
        if not (_are_below(numbers, count, len(data)) and _are_below(indices, columns, len(data))):
            raise RowsError(_errors.ROWS_SPARSE_DAMAGED)
        return SparseReader(_by_rows(data, indices, numbers, count), rows_shape)
    indices, indptr = _member(archive, "indices"), _member(archive, "indptr")
    major, minor = (count, columns) if form == "csr" else (columns, count)
    if not (_are_starts(indptr, major, len(data)) and _are_below(indices, minor, len(data))):
        raise RowsError(_errors.ROWS_SPARSE_DAMAGED)
    if form == "csr":
        return SparseReader(Csr(data, indices, indptr), rows_shape)
    used = slice(indptr[-1])
    return SparseReader(
        _by_rows(data[used], np.repeat(np.arange(major), np.diff(indptr)), indices[used], count), rows_shape
    )


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        try:
            return read_npy(stream)
        except ValueError as error:
            raise RowsError(_errors.IN_ARCHIVE.format(member=name, error=error)) from None


def _shape(sizes: NDArray[Any]) -> tuple[int, ...]:
    """Returns an array of a file as a shape: a few integers in [0, 2^63)."""
    if sizes.ndim != 1 or sizes.size > 64 or not _are_below(sizes, 2**63, sizes.size):
        raise RowsError(_errors.ROWS_SPARSE_DAMAGED)
    return tuple(sizes.tolist())


def _are_below(numbers: NDArray[Any], most: int, count: int) -> bool:
    """Returns whether an array holds `count` integers in [0, most)."""
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        return False
    return not count or bool(numbers.min() >= 0 and numbers.max() < most)


def _are_starts(indptr: NDArray[Any], count: int, entries: int) -> bool:
    """Returns whether an array holds the starts of `count` lists and the end of the last, at most `entries`."""
    if indptr.shape != (count + 1,) or indptr.dtype.kind not in "iu":
        return False
    return bool(indptr[0] == 0 and indptr[-1] <= entries and np.all(indptr[:-1] <= indptr[1:]))


def _by_rows(data: NDArray[Any], columns: NDArray[Any], numbers: NDArray[Any], count: int) -> Csr:
    """Returns CSR arrays of entries in any order, each with its column and row number. Keeps the order within a row."""
    order = np.argsort(numbers, kind="stable")
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=count), out=indptr[1:])
    return Csr(data[order], columns[order], indptr)


def joined(readers: list[SparseReader]) -> SparseReader:
    """Returns the rows of several files, one after another. They have the same D and dtype."""
    parts = [reader.csr for reader in readers]
    starts = np.concatenate(([0], np.cumsum([part.indptr[-1] for part in parts])))
    indptr = np.concatenate(
        [[0], *(part.indptr[1:].astype(np.int64) + start for part, start in zip(parts, starts, strict=False))]
    )
    data, indices = (
        np.concatenate([array[: part.indptr[-1]] for part, array in zip(parts, arrays, strict=True)])
        for arrays in ([part.data for part in parts], [part.indices for part in parts])
    )
    rows = sum(reader.shape[0] for reader in readers)
    return SparseReader(Csr(data, indices, indptr), (rows, readers[0].shape[1]))


class SparseFileRows(FileRows):
    """Sparse rows of a file, which ``open_rows`` read. Functions that take sparse matrices take it.

    It has the arrays of CSR. Slices and ``tocsr()`` are arrays of SciPy, and need SciPy.

    Attributes
    ----------
    shape : (int, int)
        (N, D): N rows of D elements.
    data, indices : numpy.ndarray
        The values of all entries, and their columns.
    indptr : numpy.ndarray
        N + 1 numbers. Row i has the entries [indptr[i], indptr[i + 1]).
    """

    format = "csr"

    def __repr__(self) -> str:
        return super().__repr__().replace("FileRows", "SparseFileRows", 1)

    def _csr(self) -> Csr:
        return cast("SparseReader", self._open_reader()).csr

    @property
    def data(self) -> NDArray[Any]:
        return self._csr().data

    @property
    def indices(self) -> NDArray[Any]:
        return self._csr().indices

    @property
    def indptr(self) -> NDArray[Any]:
        return self._csr().indptr

    def tocsr(self) -> Any:
        """Returns the rows as a scipy.sparse.csr_array, which shares their memory."""
        import scipy.sparse

        return scipy.sparse.csr_array(tuple(self._csr()), shape=self.shape)

    def toarray(self) -> NDArray[Any]:
        """Returns the rows as a dense array."""
        rows: NDArray[Any] = self.tocsr().toarray()
        return rows

    def __getitem__(self, index: Any) -> Any:
        return self.tocsr()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tocsr())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        raise TypeError(_errors.SPARSE_REFUSED.format(function="numpy.asarray", name="rows"))
