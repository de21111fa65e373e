"""The parts that all formats share: the file to read, the readers of rows, and the errors of damaged files."""

from __future__ import annotations

import bisect
import errno
import gzip
import io
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _errors
from cossim._dtypes import is_real
from cossim._io import Pages, map_elements, open_nonblocking, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from numpy.typing import DTypeLike, NDArray

# The names of a column of ids, in order of preference. pandas writes its index to CSV without a name.
ID_NAMES = ("id", "_id", "ids", "key", "word", "token", "name", "", "__index_level_0__")
PIECE = 4 << 20  # bytes of a file that are parsed at a time
LONGEST_LINE = 64 << 20  # bytes of one row; bounds the memory that a file without line ends can take
GZIP_RATIO = 1100  # deflate makes data at most 1032 times smaller
GIVEN_NAMES = 20  # a message lists at most this many names


class RowsError(ValueError):
    """A file cannot be read as rows. The message has no path; errors_with_path adds it."""


@contextmanager
def errors_with_path(path: str) -> Iterator[None]:
    """Rewrites an error of a reader or its library about the contents of a file as a ValueError that names the path.

    Errors of the system, of missing packages and of memory remain as they are.
    """
    try:
        yield
    except RowsError as error:
        raise ValueError(_errors.IN_FILE.format(path=path, error=error)) from None
    except (MemoryError, ImportError, RecursionError):
        raise
    except Exception as error:  # libraries raise many types for damaged files
        # EINVAL means that a damaged file names a position before its start. Any other number comes from the system.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            error.filename = path
            raise
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(_errors.DAMAGED_ROWS.format(path=path, error=text)) from error


class Source(NamedTuple):
    """A file to read, and the arguments of open_rows that concern it."""

    path: str
    suffix: str = ""  # in lower case, without the suffix of gzip
    zipped: bool = False  # a gzip file
    name: str | None = None
    ids: str | None = None
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] | None = None
    offset: int = 0
    data: bytes | None = None  # the contents, where they do not come from a file
    may_be_vector: bool = False  # a .npy file of one vector is one row

    def open(self) -> Any:
        """Opens the contents, unzipped, as a stream that can seek. The reader closes it."""
        if self.data is not None:
            return io.BytesIO(self.data)
        file = io.BufferedReader(_File(self.path, "rb", opener=open_nonblocking))
        return _Unzipped(file) if self.zipped else file

    def check(self, *, plain: bool = False, unnamed: bool = False, own_dtype: bool = False) -> None:
        """Raises an error for arguments that a format cannot have.

        plain: the format needs random access, so a gzip file is refused. unnamed: its rows have no name. own_dtype: its
        files store their dtype.
        """
        if plain and (self.zipped or self.data is not None):
            raise RowsError(_errors.ROWS_PLAIN_FILE.format(suffix=self.suffix))
        if unnamed and self.name is not None:
            raise RowsError(_errors.ROWS_UNNAMED.format(name=self.name))
        if own_dtype and self.dtype is not None:
            raise RowsError(_errors.ROWS_OWN_DTYPE.format(suffix=self.suffix))

    def text_dtype(self, default: DTypeLike) -> np.dtype[Any]:
        """The dtype of numbers that are text in the file."""
        dtype = np.dtype(default) if self.dtype is None else self.dtype
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise RowsError(_errors.ROWS_TEXT_DTYPE.format(dtype=dtype))
        return dtype


class _File(io.FileIO):
    """A file that is closed without a warning once nothing refers to it: rows need no close()."""

    def __del__(self) -> None:
        self.close()

    def _dealloc_warn(self, source: object) -> None:
        """Does nothing. The buffer around the file calls it for a warning, if the buffer is deallocated first."""


class _Unzipped(gzip.GzipFile):
    """An unzipped file, which closes the file behind it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        super().__init__(fileobj=file, mode="rb")

    def close(self) -> None:
        super().close()
        self.file.close()


def check_rows(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises RowsError unless an array of this shape and dtype holds rows of real numbers."""
    check_real(dtype)
    if len(shape) != 2:
        raise RowsError((_errors.ONE_VECTOR if len(shape) == 1 else _errors.ROWS_SHAPE).format(shape=shape))


def check_real(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise RowsError(_errors.PYTHON_OBJECTS.format(dtype=dtype))
    if not is_real(dtype):
        raise RowsError((_errors.ROWS_BFLOAT16 if dtype == "V2" else _errors.ROWS_DTYPE).format(dtype=dtype))


def chosen(names: list[str], name: str | None) -> str:
    """Returns name, or the only element of names if it is None. names: the arrays or columns of vectors in the file."""
    listed = ", ".join(map(repr, names[:GIVEN_NAMES])) + ", ..." * (len(names) > GIVEN_NAMES)
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return name
    if not names:
        raise RowsError(_errors.ROWS_NONE)
    if name is None:
        raise RowsError(_errors.ROWS_MANY.format(count=len(names), names=listed))
    raise RowsError(_errors.ROWS_NO_SUCH.format(name=name, names=listed))


# ---- readers ----


class Reader:
    """The rows of an open file."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    array: Any = None  # all rows, if they are mapped or in memory
    stream: Any = None  # close() closes it
    id_name: str | None = None  # the name of the column of ids
    is_vector = False  # the only row comes from an array of one dimension

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Returns rows [first, last), which are within the shape. Raises an error if the file lacks some of them."""
        raise NotImplementedError

    def read_ids(self) -> NDArray[Any] | None:
        """Returns the names that the format keeps, of shape (N,), or None."""
        return None

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()


def mapped(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0, order: Any = "C") -> NDArray[Any]:
    """map_elements of cossim/_io.py for rows: its errors are RowsError, and an empty array is not mapped."""
    if 0 in shape:
        return np.empty(shape, dtype)
    try:
        return map_elements(file, dtype, shape, offset, order)
    except ValueError as error:
        raise RowsError(str(error)) from None


class ArrayReader(Reader):
    """Rows in one array, which is mapped or in memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        check_rows(array.shape, array.dtype)
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.pages = Pages(array) if isinstance(array, np.memmap) else None

    def read(self, first: int, last: int) -> NDArray[Any]:
        return self.array[first:last]

    def copy_into(self, out: NDArray[Any], first: int) -> None:
        """Copies the rows from first on into out, and releases their pages."""
        out[:] = self.array[first : first + len(out)]
        if self.pages is not None:
            self.pages.advise("MADV_DONTNEED", first, len(out))


class StreamReader(Reader):
    """Rows in C order in a stream, from its byte `start` on. A gzip file is read again to go backwards."""

    def __init__(self, stream: Any, start: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        check_rows(shape, dtype)
        self.stream, self.start, self.shape, self.dtype = stream, start, shape, dtype

    def read(self, first: int, last: int) -> NDArray[Any]:
        size = self.shape[1] * self.dtype.itemsize
        expected = (last - first) * size
        try:
            self.stream.seek(self.start + first * size)
            data = read_bytes(self.stream, expected)
            if last == self.shape[0]:
                self.stream.read(1)  # reads and checks the checksum at the end of a gzip file
        except EOFError:
            raise RowsError(_errors.ROWS_GZIP_CUT) from None
        if len(data) < expected:
            total = math.prod(self.shape) * self.dtype.itemsize
            sizes = {"expected": total, "found": first * size + len(data)}
            raise RowsError(_errors.TRUNCATED.format(shape=self.shape, **sizes))
        return np.frombuffer(data, self.dtype).reshape(last - first, self.shape[1])


class ShardsReader(Reader):
    """The rows of several files, one after another."""

    def __init__(self, paths: list[str], readers: list[Reader]) -> None:
        self.readers = readers
        first = next((reader for reader in readers if reader.shape[0]), readers[0])
        for path, reader in zip(paths, readers, strict=True):
            if reader.shape[0] and (reader.shape[1], reader.dtype) != (first.shape[1], first.dtype):
                sizes = {"shape": first.shape, "dtype": first.dtype, "other_shape": reader.shape, "other": reader.dtype}
                raise RowsError(_errors.ROWS_SHARDS.format(path=path, first=paths[0], **sizes))
        self.starts = [0]
        for reader in readers:
            self.starts.append(self.starts[-1] + reader.shape[0])
        self.shape, self.dtype = (self.starts[-1], first.shape[1]), first.dtype
        self.id_name = first.id_name if all(reader.id_name is not None for reader in readers) else None

    def read(self, first: int, last: int) -> NDArray[Any]:
        rows = np.empty((last - first, self.shape[1]), self.dtype)
        number, done = bisect.bisect_right(self.starts, first) - 1, 0
        while done < len(rows):
            reader, at = self.readers[number], first + done - self.starts[number]
            part = rows[done : done + reader.shape[0] - at]
            if isinstance(reader, ArrayReader):
                reader.copy_into(part, at)
            elif len(part):
                part[:] = reader.read(at, at + len(part))
            number, done = number + 1, done + len(part)
        return rows

    def read_ids(self) -> NDArray[Any] | None:
        if self.id_name is None:
            return None
        return np.concatenate([reader.read_ids() for reader in self.readers])

    def close(self) -> None:
        for reader in self.readers:
            reader.close()


# ---- rows of different lengths in bytes ----


class RowIndex:
    """Where the rows of a stream are: the offset and the number of the first row of each piece of some MB.

    cut(data) returns (number of whole rows in data, number of their bytes). data begins with a row. `end` is appended
    to the last row if it lacks a line end. most: the number of rows, if it is known.
    """

    def __init__(
        self,
        stream: Any,
        start: int,
        cut: Callable[[bytes], tuple[int, int]],
        end: bytes = b"",
        most: int | None = None,
    ) -> None:
        self.stream, self.offsets, self.rows = stream, [start], [0]
        stream.seek(start)
        rest, more = b"", True
        while more:
            try:
                read = stream.read(PIECE)
            except EOFError:
                raise RowsError(_errors.ROWS_GZIP_CUT) from None
            more = bool(read)
            data = rest + (read if more else end)
            count, size = cut(data)
            rest = data[size:]
            if self.rows[-1] + count == most and rest.strip():
                raise RowsError(_errors.ROWS_COUNT.format(count=most, found="more"))
            if len(rest) > LONGEST_LINE:
                raise RowsError(_errors.ROWS_LONG_LINE.format(row=self.rows[-1] + count, size=LONGEST_LINE >> 20))
            if count:
                self.rows.append(self.rows[-1] + count)
                self.offsets.append(self.offsets[-1] + size)

    def __len__(self) -> int:
        return self.rows[-1]

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, int, bytes]]:
        """Yields (number of the first row, count, bytes) of the pieces that have rows of [first, last)."""
        number = bisect.bisect_right(self.rows, first) - 1
        while number < len(self.rows) - 1 and self.rows[number] < last:
            offset, size = self.offsets[number], self.offsets[number + 1] - self.offsets[number]
            self.stream.seek(offset)
            data = bytes(read_bytes(self.stream, size))
            yield self.rows[number], self.rows[number + 1] - self.rows[number], data
            number += 1


class IndexedReader(Reader):
    """Rows that a RowIndex finds. Subclasses have a method _parse that returns the rows of a piece."""

    index: RowIndex

    def _parse(self, data: bytes, row: int) -> NDArray[Any]:
        raise NotImplementedError

    def read(self, first: int, last: int) -> NDArray[Any]:
        out = np.empty((last - first, self.shape[1]), self.dtype)
        for row, count, data in self.index.pieces(first, last):
            rows, wanted = self._parse(data, row), (count, self.shape[1])
            if rows.shape != wanted:
                raise RowsError(_errors.ROWS_CHANGED.format(row=row, shape=rows.shape, wanted=wanted))
            begin, end = max(first, row), min(last, row + count)
            out[begin - first : end - first] = rows[begin - row : end - row]
        return out


def cut_lines(data: bytes) -> tuple[int, int]:
    """Counts the lines of data that are whole and not empty, for a RowIndex."""
    size = data.rfind(b"\n") + 1
    letters = np.frombuffer(data, np.uint8, size)
    ends = np.flatnonzero(letters == 10)
    starts = np.concatenate(([0], ends[:-1] + 1))[: len(ends)]
    lengths = ends - starts
    empty = (lengths == 0) | ((lengths == 1) & (letters[starts] == 13))
    return int(len(ends) - np.count_nonzero(empty)), size


def first_lines(stream: Any, count: int) -> list[bytes]:
    """Returns the first lines of a stream that are not empty, without their ends."""
    stream.seek(0)
    lines: list[bytes] = []
    while len(lines) < count and (line := stream.readline(LONGEST_LINE)):
        if line.strip():
            lines.append(line.rstrip(b"\r\n"))
    return lines


def after_first_line(stream: Any) -> int:
    """Returns the position after the first line that is not empty."""
    stream.seek(0)
    while not stream.readline().strip():
        pass
    return stream.tell()


def strings(values: list[Any]) -> NDArray[Any]:
    """Returns an object array of strings."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
