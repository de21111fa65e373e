"""Files that are there as a whole or not at all."""

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


@contextmanager
def temporary_file(named, folder, start, end, mode, buffering=-1):
    """A new file in folder, open and locked, and its path; whatever is called so at the end is removed.

    Its name is start, 16 digits, end; errors call it `named`. Others of such a name are removed if they are not locked:
    they are those of processes that were killed. So the file must be given another name before it is closed.
    """
    if fcntl is not None:
        _remove_leftovers(folder, start, end)
    path = os.path.join(folder, f"{start}{secrets.token_hex(8)}{end}")
    try:
        with errors_of(named):  # opener: no bare number of an open file, which an interrupt would leave open
            file = open(path, "xb", buffering=buffering, opener=partial(os.open, mode=mode))  # noqa: SIM115
        with file:
            with suppress(OSError, AttributeError):  # without locks nothing is ever removed
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield file, path
    finally:
        with suppress(OSError):
            os.unlink(path)


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
    with ending_by_exception(), new as (file, temporary):
        if mode is not None:
            with suppress(PermissionError):  # a file system without permissions
                os.chmod(temporary, mode & 0o777)

        def replace():
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(folder)

        yield file, replace


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


def read_bytes(stream, count):
    """Up to count bytes; fewer where the stream, or the gzip file behind it, ends too early."""
    found = bytearray()
    try:
        while len(found) < count and (more := stream.read(min(CHUNK, count - len(found)))):
            found += more
    except EOFError:
        pass
    return found


def read_elements(stream, dtype, shape):
    """Exactly the elements of an array, and nothing behind them."""
    expected = math.prod(shape) * dtype.itemsize
    data = read_bytes(stream, expected + 1)
    if len(data) != expected:
        found, problem = (len(data), "truncated") if len(data) < expected else (f"more than {expected}", "too long")
        raise ValueError(f"{problem}: shape {shape} takes {expected} bytes after the header, found {found}")
    return np.frombuffer(data, dtype)


# What Python's parsers, and what NumPy does with what they find, make of a .npy file's damaged header.
_OF_HEADERS = (AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, tokenize.TokenError)


def npy_problem(error):
    """What an error of NumPy's readers says, or a sentence in its place where it speaks of Python's syntax trees."""
    text = str(error)
    return "its header is damaged" if isinstance(error, _OF_HEADERS) or text.startswith("malformed node") else text


def read_npy_header(stream, version):
    """Shape, whether in columns, and dtype, after the first eight bytes of a .npy file, which end with the version."""
    readers = {b"\1\0": (2, np.lib.format.read_array_header_1_0), b"\2\0": (4, np.lib.format.read_array_header_2_0)}
    if version not in readers:
        raise ValueError("a .npy file of an unknown version, or a damaged one")
    bytes_of_length, reader = readers[version]
    length = read_bytes(stream, bytes_of_length)
    header = io.BytesIO(length + read_bytes(stream, int.from_bytes(length, "little")))
    try:
        shape, column_major, dtype = reader(header)
    except (OSError, EOFError):
        raise
    except Exception as error:
        raise ValueError(npy_problem(error)) from None
    if min(shape, default=0) < 0:
        raise ValueError(f"a size below 0 in shape {shape}")
    if max(shape, default=0) >= 2**63:
        raise ValueError(f"no array has the shape {shape}")
    return shape, column_major, dtype


def read_npy(stream, check):
    """The array of a .npy file after its first four bytes. check(dtype) raises where that one, or objects, are refused.

    Not np.load, which does not say how much of a file is missing, and asks for memory for all that its header promises.
    """
    rest = bytes(read_bytes(stream, 4))
    shape, column_major, dtype = read_npy_header(stream, rest.removeprefix(b"PY"))
    check(dtype)
    elements = read_elements(stream, dtype, shape)
    return elements.reshape(shape, order="F" if column_major else "C")
