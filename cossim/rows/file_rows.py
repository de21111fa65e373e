"""FileRows, the result of open_rows."""

from __future__ import annotations

import operator
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _errors
from cossim.rows.reader import errors_with_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray
    from typing_extensions import Self

    from cossim.rows.reader import Reader

BLOCK = 16 << 20  # bytes read at a time to iterate over rows


class FileRows:
    """The rows of files, which ``open_rows`` opened. Slices read rows; the whole file is read only on demand.

    Every function over rows takes it. It is a context manager, pickles by its path, and may be used by several threads.

    Attributes
    ----------
    shape : (int, int)
        (N, D): N rows of D elements.
    dtype : numpy.dtype
        The dtype of the elements.
    ndim : int
        2.
    ids : numpy.ndarray of shape (N,), or None
        The names that the format keeps for rows, as strings or integers. They are read when they are first used.
    memmap : numpy.memmap of shape (N, D), or None
        All rows, if the format can be mapped.

    Examples
    --------
    >>> import os, tempfile, numpy as np, cossim
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, np.eye(3, 2))
    >>> with cossim.open_rows(path) as rows:
    ...     rows.shape, rows[1:], rows[0]
    ((3, 2), array([[0., 1.],
           [0., 0.]]), array([1., 0.]))
    """

    def __init__(
        self,
        path: str,
        reader: Reader,
        reopen: tuple[Callable[..., FileRows], tuple[Any, ...]],
        paths: Sequence[str] = (),
    ) -> None:
        self._path, self._reopen, self._paths = path, reopen, paths
        self._reader: Reader | None = reader
        self._lock = threading.Lock()
        self._ids: NDArray[Any] | None = None
        self._has_ids = reader.id_name is not None
        self.shape = (int(reader.shape[0]), int(reader.shape[1]))
        self.dtype: np.dtype[Any] = reader.dtype
        self.ndim = 2
        self.is_vector = reader.is_vector
        self.memmap = reader.array if isinstance(reader.array, np.memmap) else None

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"FileRows({self._path!r}: {self.shape[0]} rows of {self.shape[1]} elements, {self.dtype})"

    @property
    def ids(self) -> NDArray[Any] | None:
        if self._ids is None and self._has_ids:
            with self._lock:
                reader = self._open_reader()
                with errors_with_path(self._path):
                    self._ids = reader.read_ids()
        return self._ids

    def drop_ids(self) -> None:
        """Sets ids to None."""
        self._ids, self._has_ids = None, False

    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise ValueError(_errors.ROWS_CLOSED.format(path=self._path))
        return self._reader

    def _read(self, first: int, last: int) -> NDArray[Any]:
        if last <= first:
            return np.empty((0, self.shape[1]), self.dtype)
        with self._lock:
            reader = self._open_reader()
            with errors_with_path(self._path):
                return np.asarray(reader.read(first, last))

    def __getitem__(self, index: Any) -> Any:
        """Reads rows: rows[i], rows[a:b], rows[[3, 0, 3]], and columns of them after a comma, as NumPy does.

        Rows of a mapped file are read-only views of it; others are new arrays.
        """
        if isinstance(index, tuple):
            if not index:
                return self._read(0, len(self))
            rows, *columns = index
            if rows is Ellipsis:
                return self._read(0, len(self))[index]
            return self[rows][(..., *columns)] if columns else self[rows]
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step > 0:
                return self._read(first, last)[::step]
            count = len(range(first, last, step))
            return self._read(first + (count - 1) * step, first + 1)[::step] if count else self._read(0, 0)
        if isinstance(index, (list, np.ndarray)):
            return self._take(np.asarray(index))
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(_errors.ROWS_INDEX.format(index=number, count=len(self)))
        number %= len(self)
        return self._read(number, number + 1)[0]

    def _take(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Reads the rows that an array of numbers or a mask selects. Reads successive rows together."""
        numbers = np.arange(len(self))[numbers if numbers.size else numbers.astype(np.int64)]
        wanted, inverse = np.unique(numbers, return_inverse=True)
        found = np.empty((len(wanted), self.shape[1]), self.dtype)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        for run in np.split(np.arange(len(wanted)), breaks):
            if len(run):
                found[run] = self._read(int(wanted[run[0]]), int(wanted[run[-1]]) + 1)
        return found[inverse.reshape(numbers.shape)]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        step = max(1, BLOCK // max(1, self.shape[1] * self.dtype.itemsize))
        for first in range(0, len(self), step):
            yield from self._read(first, min(first + step, len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows as one array, for functions that need them all."""
        rows = self._read(0, len(self))
        if copy is False and (self.memmap is None or (dtype is not None and np.dtype(dtype) != self.dtype)):
            raise ValueError(_errors.ROWS_COPY.format(path=self._path))
        if dtype is None and not copy:
            return rows
        return rows.astype(self.dtype if dtype is None else dtype, copy=bool(copy))

    def close(self) -> None:
        """Closes the file. Arrays that were read remain valid."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = self.memmap = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., FileRows], tuple[Any, ...]]:
        return self._reopen

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Dask computes again if a file has another size or time of modification."""
        states = [os.stat(path) for path in self._paths]
        return self._reopen[1], [(state.st_mtime_ns, state.st_size) for state in states]
