"""Writes the results of the commands: atomically to .npz, .csv or .parquet files, or as CSV to stdout."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain
from typing import NamedTuple

import numpy as np

from cossim import _errors
from cossim._io import replacing, write_errors_as_text, write_npz

CSV_LINES = 1 << 12  # lines converted at a time
PARQUET_LINES = 1 << 20  # lines per row group


class Result(NamedTuple):
    """The result of a command in two forms: arrays for an .npz, and a table."""

    arrays: dict
    columns: Callable  # takes an array of line numbers, returns a dict: name of a column -> its values in these lines
    lines: int  # the number of lines of the table

    def table(self, step):
        """Yields the columns of `step` lines at a time.

        An empty table yields one set of empty columns, so that names and dtypes are known.
        """
        for start in range(0, max(self.lines, 1), step):
            yield self.columns(np.arange(start, min(start + step, self.lines)))


def _csv(result):
    """Yields the CSV in pieces. A float has the fewest digits that read back as the same value of its dtype."""
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


# Writers by the suffix of the file. Add a new format here.
FORMATS = {".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet}


def suffix(path):
    return os.path.splitext(path)[1].lower()


def check(path):
    """Checks, before a long search, that its result can be written to path.

    Raises OSError if no file can be created there, and ModuleNotFoundError if the format needs a missing package.
    """
    if suffix(path) == ".parquet" and find_spec("pyarrow") is None:
        raise ModuleNotFoundError(_errors.NEEDS_PYARROW.format(path=path), name="pyarrow")
    with write_errors_as_text(path), replacing(path):
        pass


def write(path, result):
    """Writes a result to path, in the format of its suffix.

    The file replaces path once it is complete and on the disk. After an error, path is unchanged.
    """
    with write_errors_as_text(path), replacing(path) as (file, replace):
        FORMATS[suffix(path)](file, result)
        replace()


def print_csv(result):
    try:
        if sys.stdout is None:
            raise OSError(_errors.STDOUT_CLOSED)
        for text in _csv(result):
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(_errors.STDOUT_FAILED.format(reason=error.strerror or error)) from None
