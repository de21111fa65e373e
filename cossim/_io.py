"""File access: reads only regular files, and writes files atomically (the whole file or no change)."""

import errno
import io
import math
import mmap
import os
import re
import signal
import stat
import threading
import time
import tokenize
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np

from cossim import _errors

try:
    import fcntl
except ImportError:  # Windows has no such locks, so no leftover file is removed there
    fcntl = None

CHUNK = 1 << 20
LOCKS_TRIED = 8  # attempts to lock a new file; the last file is used even if another process holds its lock


@contextmanager
def write_errors_as_text(path):
    """Rewrites an OSError in the block as a one-line message: path cannot be written, and why. For the command line."""
    try:
        yield
    except OSError as error:
        raise OSError(_errors.WRITE_FAILED.format(path=path, reason=error.strerror or error)) from None


@contextmanager
def errors_as_text():
    """Rewrites an OSError in the block as a one-line message that begins with the file name. For the command line."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise OSError(_errors.IN_FILE.format(path=error.filename, error=error.strerror)) from None


@contextmanager
def errors_of(path):
    """Puts the user's path into an OSError that leaves the block, which may name the temporary file or no file."""
    try:
        yield
    except OSError as error:
        error.filename = path
        del error.filename2
        raise


def open_nonblocking(path, flags):
    """An opener for open() that does not block, even if a pipe has replaced the file meanwhile."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


@contextmanager
def open_regular(path, buffering=-1):
    """Opens a regular file for reading. Errors name its path.

    Raises ValueError for devices and pipes, without blocking: reading them could last forever.
    """
    path = os.fsdecode(path)
    with errors_of(path):
        _check_regular(path, os.stat(path))  # before open(), which has side effects on some devices
        with open(path, "rb", buffering=buffering, opener=open_nonblocking) as file:
            _check_regular(path, os.fstat(file.fileno()))
            yield file


def _check_regular(path, status):
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # for a folder, open() raises the error
        raise ValueError(_errors.NOT_REGULAR.format(path=path))


def same_file(path, other):
    """Returns whether two paths name the same file, or would name it once it exists."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


class _OwnFile(io.FileIO):
    """A new file that only the process that created it can write. Errors of writing name `path`.

    After a fork, two processes would share one file position and overwrite each other.
    """

    def __init__(self, path, *arguments, **options):
        super().__init__(*arguments, **options)
        self.path, self.process = path, os.getpid()

    def check_process(self):
        if os.getpid() != self.process:
            raise OSError(errno.EPERM, _errors.FORKED)

    def write(self, data):
        with errors_of(self.path):
            self.check_process()
            return super().write(data)

    def seek(self, *arguments):
        with errors_of(self.path):
            self.check_process()
            return super().seek(*arguments)


@contextmanager
def _temporary_file(path, folder, mode):
    """Yields a new file in folder, open for writing and locked. It is removed when the block ends, unless it was moved.

    Errors name `path`. Temporary files that are not locked were left by killed processes; they are removed first.
    """
    if fcntl is not None:
        _remove_leftovers(folder)
    for left in reversed(range(LOCKS_TRIED)):
        name = os.path.join(folder, f".cossim-{os.urandom(8).hex()}.tmp")
        with _new_file(path, name, mode) as file:
            # Another process may hold the lock: for a moment while it searches for leftovers, forever if it is hostile.
            if _lock(file) or not left:
                yield file
                return


@contextmanager
def _new_file(path, name, mode):
    """Yields a new file of this name; its errors name `path`. At the end, removes the file unless it was renamed."""
    process = os.getpid()
    try:
        with errors_of(path):  # opener: the file object owns the descriptor at once, so no interrupt leaks it
            raw = _OwnFile(path, name, "xb", opener=partial(os.open, mode=mode))
        with io.BufferedWriter(raw) as file:
            yield file
    finally:
        if os.getpid() == process:  # after a fork, the file belongs to the parent process
            with suppress(OSError):
                os.unlink(name)


def _lock(file):
    """Locks a file without waiting. Returns False only if another process holds the lock.

    Returns True also on systems without locks: there, _remove_leftovers removes nothing.
    """
    try:
        with suppress(AttributeError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_leftovers(folder):
    with suppress(OSError):
        for name in filter(re.compile(r"\.cossim-[0-9a-f]{16}\.tmp").fullmatch, os.listdir(folder)):
            with suppress(OSError):
                _remove_if_left_over(os.path.join(folder, name))


def _remove_if_left_over(path):
    def opener(path, flags):
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with open(path, "r+b", buffering=0, opener=opener) as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError while another process writes the file
        status = os.fstat(file.fileno())
        # Another process may have just created the file and not locked it yet. Such a file is empty, so an empty one
        # is left alone for a minute.
        if stat.S_ISREG(status.st_mode) and (status.st_size > 0 or time.time() - status.st_mtime > 60):
            os.unlink(path)


@contextmanager
def replacing(path):
    """Creates a file in the folder of path. Yields (file, replace); replace() moves the file to path.

    replace() returns once the contents and the name of the file are on the disk. If it is not called, the file is
    removed when the block ends. The file gets the permissions of an existing file at path, else those that open()
    gives. Symbolic links are followed. A killed process leaves a file .cossim-*.tmp, which the next write to the folder
    removes.
    """
    path = os.fsdecode(path)
    target, mode = os.path.realpath(path), None
    with suppress(FileNotFoundError), errors_of(path):
        mode = os.stat(target).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, _errors.OTHER_FILE, path)
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, _errors.WRITE_PROTECTED, path)
    folder = os.path.dirname(target)
    if not os.path.exists(folder):
        raise FileNotFoundError(errno.ENOENT, _errors.NO_FOLDER, path)
    new = _temporary_file(path, folder, 0o666 if mode is None else mode & 0o777)
    with ending_by_exception(), new as file:
        if mode is not None:
            with suppress(PermissionError):  # the file system has no permissions
                os.chmod(file.name, mode & 0o777)

        def replace():
            with errors_of(path):
                file.raw.check_process()
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, target)
            sync_folder(folder)

        yield file, replace


def sync_folder(folder):
    """Makes a new name in a folder survive a power failure, if the file system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def ending_signals():
    """Returns the signals that end a process at once by default, other than SIGINT."""
    return [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ending_by_exception():
    """Within the block, signals that would end the process at once raise SystemExit, so that the process cleans up."""

    def stop(number, frame):
        raise SystemExit(128 + number)

    in_main_thread = threading.current_thread() is threading.main_thread()  # other threads cannot set signal handlers
    numbers = [n for n in ending_signals() if in_main_thread and signal.getsignal(n) is signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


# ---- .npy: reads a whole array from a stream, or maps a file. Never unpickles. ----

MAGIC = b"\x93NUMPY"
GZIP = b"\x1f\x8b"

# Exceptions that Python's parser and NumPy raise for the damaged header of a .npy file.
_HEADER_ERRORS = (AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, tokenize.TokenError)


def read_bytes(stream, count):
    """Reads count bytes, or fewer if the stream or the gzip file behind it ends early."""
    found = bytearray()
    try:
        while len(found) < count and (more := stream.read(min(CHUNK, count - len(found)))):
            found += more
    except EOFError:
        pass
    return found


def _truncated(shape, expected, found):
    return ValueError(_errors.TRUNCATED.format(shape=shape, expected=expected, found=found))


def read_elements(stream, dtype, shape):
    """Reads the elements of an array as a 1-d array. Raises ValueError if the stream is shorter or longer."""
    expected = math.prod(shape) * dtype.itemsize
    data = read_bytes(stream, expected + 1)
    if len(data) < expected:
        raise _truncated(shape, expected, len(data))
    if len(data) > expected:
        raise ValueError(_errors.TOO_LONG.format(shape=shape, expected=expected))
    return np.frombuffer(data, dtype)


def read_npy_header(stream, start=b""):
    """Returns (shape, column_major, dtype) of a .npy stream. `start` holds its first bytes, which are read already."""
    start = bytes(start) + read_bytes(stream, 8 - len(start))
    if start[:4] == b"PK\3\4":
        raise ValueError(_errors.ARCHIVE)
    if start[:2] == GZIP:
        raise ValueError(_errors.GZIPPED)
    if start[:6] != MAGIC:
        raise ValueError(_errors.NOT_NPY.format(start=start.hex(" ") or "nothing"))
    version = start[6:]
    if version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError(_errors.NPY_VERSION)
    bytes_of_length = 2 if version == b"\1\0" else 4
    length = read_bytes(stream, bytes_of_length)
    text = read_bytes(stream, int.from_bytes(length, "little"))
    reader = np.lib.format.read_array_header_1_0 if version == b"\1\0" else np.lib.format.read_array_header_2_0
    try:
        if version == b"\3\0":
            # Version 3 is version 2 in UTF-8, for field names, and NumPy has no public reader of it. Characters beyond
            # ASCII occur only in string literals, so they can be written as escapes.
            text = text.decode().encode("ascii", "backslashreplace")
            length = len(text).to_bytes(bytes_of_length, "little") if len(length) == bytes_of_length else length
        shape, column_major, dtype = reader(io.BytesIO(bytes(length) + text))
    except (OSError, EOFError):
        raise
    except Exception as error:
        # Many types occur. NumPy's own messages are clear, except those about Python's syntax trees.
        unclear = isinstance(error, (*_HEADER_ERRORS, UnicodeError)) or str(error).startswith("malformed node")
        raise ValueError(_errors.DAMAGED_HEADER if unclear else str(error)) from None
    if min(shape, default=0) < 0 or max(shape, default=0) >= 2**63:
        raise ValueError(_errors.IMPOSSIBLE_SHAPE.format(shape=shape))
    return shape, column_major, dtype


def _reject_objects(dtype):
    if dtype.hasobject:
        raise ValueError(_errors.PYTHON_OBJECTS.format(dtype=dtype))


def read_npy(stream, start=b"", check=_reject_objects):
    """Reads the array of a .npy stream. `start` holds its first bytes, which are read already.

    check(dtype) raises an error for a dtype that the caller rejects. It must reject dtypes with Python objects. Raises
    ValueError if the file is damaged.
    """
    shape, column_major, dtype = read_npy_header(stream, start)
    check(dtype)
    elements = read_elements(stream, dtype, shape)
    return elements.reshape(shape, order="F" if column_major else "C")


def map_elements(file, dtype, shape, offset, order="C"):
    """Maps an array of this dtype and shape that begins `offset` bytes after the start of a file.

    Raises ValueError if the file is shorter: reading a page beyond its end would end the process.
    """
    expected = math.prod(shape) * dtype.itemsize
    if (found := os.fstat(file.fileno()).st_size - offset) < expected:
        raise _truncated(shape, expected, found)
    try:
        return np.memmap(file, dtype, "r", offset, shape, order)
    except (OverflowError, TypeError, ValueError) as error:  # an empty array with too large a shape
        raise ValueError(str(error)) from None


def _in_order(array):
    """Returns whether the rows of an array follow one another in memory."""
    return array.ndim == 2 and array.strides[0] >= array.strides[1] * array.shape[1] > 0


class Pages:
    """Gives the system advice (madvise) about the pages of a numpy.memmap of rows.

    There is no advice if neither rows nor columns follow one another in the file, or if the mode is copy-on-write:
    releasing a page would lose its changes. by_columns: the file is in Fortran order, one column after another.
    """

    def __init__(self, array):
        self.array, self.map = array, None
        base = array
        while isinstance(base, np.ndarray):
            base = base.base
        by_rows, by_columns = _in_order(array), _in_order(array.T)
        if isinstance(base, mmap.mmap) and array.mode in ("r", "r+", "w+") and (by_rows or by_columns):
            self.map, self.address = base, np.frombuffer(base, np.uint8).__array_interface__["data"][0]
        self.by_columns = self.map is not None and not by_rows

    def advise(self, advice, first, rows):
        """Gives advice, such as "MADV_DONTNEED", about at most `rows` rows from row number `first` on."""
        block = self.array[first : first + rows]
        for part in block.T[:, None] if self.by_columns else (block,):
            self._advise(advice, part)

    def copied(self, first, rows):
        """Copies rows of a file in Fortran order, some columns at a time, whose pages are then released.

        The system can map more of a column than is read, so all pages of these columns are released.
        """
        block, step = self.array[first : first + rows], 16
        copy = np.empty(block.shape, block.dtype)
        for column in range(0, block.shape[1], step):
            copy[:, column : column + step] = block[:, column : column + step]
            self._advise("MADV_DONTNEED", self.array[:, column : column + step].T)
        return copy

    def _advise(self, advice, part):
        """Gives advice about the pages of an array in C order."""
        if self.map is None or not part.size or not hasattr(mmap, advice):
            return
        start = part.__array_interface__["data"][0] - self.address
        end = start + (len(part) - 1) * part.strides[0] + part.shape[1] * part.itemsize
        start -= start % mmap.PAGESIZE
        self.map.madvise(getattr(mmap, advice), start, end - start)
