"""Files that are there as a whole or not at all."""

import errno
import os
import secrets
import signal
import stat
import threading
from contextlib import contextmanager, suppress
from zipfile import ZipFile

import numpy as np

# Those that end a process at once, unless it asks for something else.
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def naming(path):
    """An OSError in the block becomes a sentence about path, for the command line."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: no file can be written there: {error.strerror or error}") from None


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
def replacing(path):
    """A new file beside path, and a function that puts it in the place of path; removed at the end if not so used.

    The function returns when all of the file, and its name, are on the disk. Permissions are those of the file at path,
    or where there is none those that open() gives. Links are followed.
    """
    path = os.path.realpath(path)
    mode = None
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "something else than a file is there", path)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file there is write-protected", path)
    temporary = os.path.join(os.path.dirname(path), f".cossim-{secrets.token_hex(8)}.tmp")
    with ending_by_exception():
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    with suppress(PermissionError):  # a file system without permissions
                        os.chmod(temporary, mode & 0o777)

                def replace():
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(temporary, path)
                    sync_folder(os.path.dirname(path))

                yield file, replace
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


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
    with ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
