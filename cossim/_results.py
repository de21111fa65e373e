"""Writes what the commands found: .npz, .csv or .parquet, each file whole or not at all; CSV on stdout."""

import os
import secrets
import signal
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import chain
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np

CSV_LINES = 1 << 12  # at a time
PARQUET_LINES = 1 << 20  # a row group


class Result(NamedTuple):
    """In two forms: arrays, as an .npz holds them, and a table of so many lines."""

    arrays: dict
    columns: Callable  # an array of numbers of lines -> a dict of what stands there in each column
    lines: int

    def table(self, step):
        """The table, step lines at a time; once, and empty, where it has none: its columns have names and dtypes."""
        for start in range(0, max(self.lines, 1), step):
            yield self.columns(np.arange(start, min(start + step, self.lines)))


def _csv(result):
    """Pieces of text. A float gets the fewest digits that read back to the same bits of its own dtype."""
    for number, columns in enumerate(result.table(CSV_LINES)):
        if number == 0:
            yield ",".join(columns) + "\n"
        texts = (column.astype("U").tolist() for column in columns.values())
        yield "".join(map("{}\n".format, map(",".join, zip(*texts, strict=True))))


def _write_csv(file, result):
    for text in _csv(result):
        file.write(text.encode("ascii"))


def _write_npz(file, result):
    # As np.savez does, whose archive, in NumPy 1.26, complains when it is not closed before its file.
    with ZipFile(file, "w") as archive:
        for name, array in result.arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_parquet(file, result):
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    groups = map(pyarrow.table, result.table(PARQUET_LINES))
    first = next(groups)
    with ParquetWriter(file, first.schema) as writer:
        for group in chain([first], groups):
            writer.write_table(group)


# By the suffix of the file. A new format is one more of them.
FORMATS = {".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet}


def suffix(path):
    return os.path.splitext(path)[1].lower()


def check(path):
    """Raises what would keep a result from being written to path, where that shows before there is one.

    OSError where no file can be made there; ModuleNotFoundError where the format needs a package that is missing.
    """
    if suffix(path) == ".parquet" and find_spec("pyarrow") is None:
        raise ModuleNotFoundError(f"{path}: .parquet needs pyarrow: pip install 'cossim-c[parquet]'", name="pyarrow")
    with _names_the_file(path), _temporary(path):
        pass


def write(path, result):
    """Writes a result in the format that the suffix of path names.

    The file takes the place of path when all of it is on the disk; whatever happens before, path stays as it was.
    """
    with _names_the_file(path), _temporary(path) as (file, replace):
        FORMATS[suffix(path)](file, result)
        replace()


def print_csv(result):
    try:
        if sys.stdout is None:
            raise OSError("it is closed")
        for text in _csv(result):
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"standard output: {error.strerror or error}") from None


@contextmanager
def _names_the_file(path):
    """An OSError in the block tells of path: the names of temporary files mean nothing to the user."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: no file can be written there: {error.strerror or error}") from None


@contextmanager
def _temporary(path):
    """A new file beside path, and a function that puts it in the place of path; removed at the end if not so used.

    Its permissions are those of the file at path, or where there is none those that open() gives. Links are followed.
    """
    path = os.path.realpath(path)
    mode = None
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise OSError("something else than a file is there")
        if not os.access(path, os.W_OK):
            raise OSError("the file there is write-protected")
    temporary = os.path.join(os.path.dirname(path), f".cossim-{secrets.token_hex(8)}.tmp")
    with _ends_by_exception():
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    with suppress(PermissionError):  # a file system without permissions
                        os.chmod(temporary, mode & 0o777)

                def replace():
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(temporary, path)

                yield file, replace
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


@contextmanager
def _ends_by_exception():
    """In the block, signals that would end the process at once raise SystemExit, as Ctrl-C raises KeyboardInterrupt."""

    def stop(number, frame):
        raise SystemExit(128 + number)

    here = threading.current_thread() is threading.main_thread()  # elsewhere, signals cannot be set
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(n) is signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
