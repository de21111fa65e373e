"""Writes what the commands found: .npz, .csv or .parquet, each file whole or not at all; CSV on stdout."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain
from typing import NamedTuple

import numpy as np

from cossim._io import replacing, write_errors_as_text, write_npz

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
    write_npz(file, result.arrays)


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
    with write_errors_as_text(path), replacing(path):
        pass


def write(path, result):
    """Writes a result in the format that the suffix of path names.

    The file takes the place of path when all of it is on the disk; whatever happens before, path stays as it was.
    """
    with write_errors_as_text(path), replacing(path) as (file, replace):
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
