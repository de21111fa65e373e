"""Files: regular ones to read, and those that are written as a whole or not at all."""

import errno
import io
import math
import os
import re
import secrets
import signal
import stat
import threading
import time
import tokenize
from contextlib import contextmanager, suppress
from functools import partial
from zipfile import ZipFile

import numpy as np

try:
    import fcntl
except ImportError:  # Windows has no such locks: nothing is removed there
    fcntl = None

# Those that end a process at once, unless it asks for something else.
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
CHUNK = 1 << 20
LOCKS_TRIED = 8  # new files; the last is used even if another process has locked it


@contextmanager
def naming(path):
    """An OSError in the block becomes a sentence about path, for the command line."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: no file can be written there: {error.strerror or error}") from None


@contextmanager
def telling():
    """An OSError of a file becomes a sentence that begins with the file, for the command line."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise OSError(f"{error.filename}: {error.strerror}") from None


@contextmanager
def errors_of(path):
    """Errors of the system name the path that was asked for, not the temporary file or nothing."""
    try:
        yield
    except OSError as error:
        error.filename = path
        del error.filename2
        raise


def without_waiting(path, flags):
    """An opener for open(): it waits for nobody where a pipe has taken the place of the file that was there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


@contextmanager
def open_regular(path, buffering=-1):
    """Opens a regular file for reading; errors name its path.

    Devices and pipes are refused, without waiting for them: reading them could last for ever.
    """
    path = os.fsdecode(path)
    with errors_of(path):
        _check_regular(path, os.stat(path))  # before it is opened, which has effects on some devices
        with open(path, "rb", buffering=buffering, opener=without_waiting) as file:
            _check_regular(path, os.fstat(file.fileno()))
            yield file


def _check_regular(path, status):
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # open() refuses folders
        raise ValueError(f"{path!r}: not a regular file; save the data of a pipe or device to a file first")


def same_file(path, other):
    """Whether two paths name one file, or would, where there is none yet."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


class _OwnFile(io.FileIO):
    """A new file that only the process that made it can write: after a fork, two would write at one position."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.process = os.getpid()

    def check_process(self):
        if os.getpid() != self.process:
            message = "the process that writes this file was forked, and only the first one can go on with it"
            raise OSError(errno.EPERM, f"{message}: write another file here")

    def write(self, data):
        self.check_process()
        return super().write(data)

    def seek(self, *arguments):
        self.check_process()
        return super().seek(*arguments)


@contextmanager
def temporary_file(named, folder, start, end, mode, buffered=True):
    """A new file in folder, open and locked, and replace(path), which moves it there; without that it is removed.

    replace returns when all of the file, and its new name, are on the disk. Until then its name is start, 16 digits,
    end; errors call it `named`. Other files of such names are removed if they are not locked: processes that were
    killed have left them.
    """
    if fcntl is not None:
        _remove_leftovers(folder, start, end)
    for left in reversed(range(LOCKS_TRIED)):
        path = os.path.join(folder, f"{start}{secrets.token_hex(8)}{end}")
        with _new_file(named, path, mode, buffered) as (file, raw):
            # Another process may hold the lock: for a moment where it looks for leftovers, for ever if it is hostile.
            if not _lock(raw) and left:
                continue

            def replace(target):
                with errors_of(named):
                    raw.check_process()
                    file.flush()
                    os.fsync(raw.fileno())
                    os.replace(raw.name, target)
                sync_folder(folder)

            yield file, replace
            return


@contextmanager
def _new_file(named, path, mode, buffered):
    """A new file, and the unbuffered file behind it; at the end, a file that still has this path is removed."""
    process = os.getpid()
    try:
        with errors_of(named):  # opener: no bare number of an open file, which an interrupt would leave open
            raw = _OwnFile(path, "xb", opener=partial(os.open, mode=mode))
        with io.BufferedWriter(raw) if buffered else raw as file:
            yield file, raw
    finally:
        if os.getpid() == process:  # after a fork, the file is the first process's
            with suppress(OSError):
                os.unlink(path)


def _lock(file):
    """Locks a file without waiting; False where another process has done so. Without locks nothing is ever removed."""
    try:
        with suppress(AttributeError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_leftovers(folder, start, end):
    pattern = re.compile(f"{re.escape(start)}[0-9a-f]{{16}}{re.escape(end)}", re.S)
    with suppress(OSError):
        for name in filter(pattern.fullmatch, os.listdir(folder or os.curdir)):
            with suppress(OSError):
                _remove_if_left_over(os.path.join(folder, name))


def _remove_if_left_over(path):
    def opener(path, flags):
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with open(path, "r+b", buffering=0, opener=opener) as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError while it is being written
        status = os.fstat(file.fileno())
        # One that was made a moment ago and has nothing in it yet may be locked next.
        if stat.S_ISREG(status.st_mode) and (status.st_size > 0 or time.time() - status.st_mtime > 60):
            os.unlink(path)


@contextmanager
def replacing(path):
    """A new file beside path, and a function that puts it in the place of path; removed at the end if not so used.

    The function returns when all of the file, and its name, are on the disk. Permissions are those of the file at path,
    or where there is none those that open() gives. Links are followed. A process that is killed leaves a file
    .cossim-*.tmp, which the next one that writes to the folder removes.
    """
    path = os.path.realpath(path)
    mode = None
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "something else than a file is there", path)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file there is write-protected", path)
    folder = os.path.dirname(path)
    new = temporary_file(path, folder, ".cossim-", ".tmp", 0o666 if mode is None else mode & 0o777)
    with ending_by_exception(), new as (file, replace):
        if mode is not None:
            with suppress(PermissionError):  # a file system without permissions
                os.chmod(file.name, mode & 0o777)
        yield file, partial(replace, path)


def sync_folder(folder):
    """Makes a new name survive a power failure; some file systems cannot."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def ending_by_exception():
    """In the block, signals that would end the process at once raise SystemExit, as Ctrl-C raises KeyboardInterrupt."""

    def stop(number, frame):
        raise SystemExit(128 + number)

    here = threading.current_thread() is threading.main_thread()  # elsewhere, signals cannot be set
    numbers = [n for n in ENDING_SIGNALS if here and signal.getsignal(n) is signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def write_npz(file, arrays):
    """As np.savez does, whose archive, in NumPy 1.26, complains when it is not closed before its file."""
    archive = ZipFile(file, "w")
    try:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.close()
    except BaseException:
        archive.fp = None  # or it would complete the file, and raise ValueError where open() was interrupted
        raise


# ---- .npy: whole arrays from a stream, or the memmap of a file. Nothing is ever unpickled. ----

MAGIC = b"\x93NUMPY"
GZIP = b"\x1f\x8b"

# What Python's parsers, and what NumPy does with what they find, make of a .npy file's damaged header.
_OF_HEADERS = (AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, tokenize.TokenError)


def read_bytes(stream, count):
    """Up to count bytes; fewer where the stream, or the gzip file behind it, ends too early."""
    found = bytearray()
    try:
        while len(found) < count and (more := stream.read(min(CHUNK, count - len(found)))):
            found += more
    except EOFError:
        pass
    return found


def _truncated(shape, expected, found):
    return ValueError(f"truncated: shape {shape} takes {expected} bytes after the header, found {found}")


def read_elements(stream, dtype, shape):
    """Exactly the elements of an array, and nothing behind them."""
    expected = math.prod(shape) * dtype.itemsize
    data = read_bytes(stream, expected + 1)
    if len(data) < expected:
        raise _truncated(shape, expected, len(data))
    if len(data) > expected:
        raise ValueError(f"too long: shape {shape} takes {expected} bytes after the header, found more")
    return np.frombuffer(data, dtype)


def _read_header(stream, start=b""):
    """Shape, whether in columns, and dtype of a .npy file, of which the bytes `start` have been read already."""
    start = bytes(start) + read_bytes(stream, 8 - len(start))
    if start[:4] == b"PK\3\4":
        message = "an archive such as .npz, where a single array, .npy, is needed"
        raise ValueError(f"{message}: save one array of it with numpy.save")
    if start[:2] == GZIP:
        raise ValueError("a gzip file, where a .npy file is needed: unpack it first, as gunzip does")
    if start[:6] != MAGIC:
        raise ValueError(f"no .npy file: it begins with {start.hex(' ') or 'nothing'}; save the array with numpy.save")
    version = start[6:]
    if version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("a .npy file of an unknown version, or a damaged one")
    bytes_of_length = 2 if version == b"\1\0" else 4
    length = read_bytes(stream, bytes_of_length)
    text = read_bytes(stream, int.from_bytes(length, "little"))
    reader = np.lib.format.read_array_header_1_0 if version == b"\1\0" else np.lib.format.read_array_header_2_0
    try:
        if version == b"\3\0":
            # Version 2 in UTF-8, for names of fields. NumPy has no public reader of it. Characters beyond ASCII are in
            # strings alone, where their escapes mean the same.
            text = text.decode().encode("ascii", "backslashreplace")
            length = len(text).to_bytes(bytes_of_length, "little") if len(length) == bytes_of_length else length
        shape, column_major, dtype = reader(io.BytesIO(bytes(length) + text))
    except (OSError, EOFError):
        raise
    except Exception as error:
        # Of many kinds. NumPy's own sentences are good ones, but for those about Python's syntax trees.
        unclear = isinstance(error, (*_OF_HEADERS, UnicodeError)) or str(error).startswith("malformed node")
        raise ValueError("its header is damaged" if unclear else str(error)) from None
    if min(shape, default=0) < 0:
        raise ValueError(f"a size below 0 in shape {shape}")
    if max(shape, default=0) >= 2**63:
        raise ValueError(f"no array has the shape {shape}")
    return shape, column_major, dtype


def _no_objects(dtype):
    if dtype.hasobject:
        raise ValueError(f"an array of Python objects, dtype {dtype}")


def read_npy(stream, start=b"", check=_no_objects):
    """The array of a .npy file, of which the bytes `start` have been read already.

    check(dtype) raises where that one is refused; objects must be. ValueError where the file is damaged.
    """
    shape, column_major, dtype = _read_header(stream, start)
    check(dtype)
    elements = read_elements(stream, dtype, shape)
    return elements.reshape(shape, order="F" if column_major else "C")


def map_npy(file, check=_no_objects):
    """The memmap of an open .npy file, read from its start, with read_npy's check and errors.

    Bytes behind the array are allowed.
    """
    shape, column_major, dtype = _read_header(file)
    check(dtype)
    offset, expected = file.tell(), math.prod(shape) * dtype.itemsize
    if (found := os.fstat(file.fileno()).st_size - offset) < expected:
        raise _truncated(shape, expected, found)
    try:
        return np.memmap(file, dtype, "r", offset, shape, order="F" if column_major else "C")
    except (OverflowError, TypeError, ValueError) as error:  # of shapes that are empty but too large
        raise ValueError(str(error)) from None
