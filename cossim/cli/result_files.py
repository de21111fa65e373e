"""Writes the results of the commands: atomically to files of several formats, or as CSV to stdout."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import chain
from typing import NamedTuple

import numpy as np

from cossim import _errors
from cossim._archives import write_npz, write_safetensors
from cossim._io import replacing, write_errors_as_text

TEXT_LINES = 1 << 12  # lines converted at a time
PARQUET_LINES = 1 << 20  # lines per row group


class Result(NamedTuple):
    """The result of a command in two forms: arrays for an .npz, and a table. Names of rows are object arrays."""

    arrays: dict
    columns: Callable  # takes an array of line numbers, returns a dict: name of a column -> its values in these lines
    lines: int  # the number of lines of the table

    def table(self, step):
        """Yields the columns of `step` lines at a time.

        An empty table yields one set of empty columns, so that names and dtypes are known.
        """
        for start in range(0, max(self.lines, 1), step):
            yield self.columns(np.arange(start, min(start + step, self.lines)))


# ---- text ----


def _csv(result, separator=","):
    """Yields the CSV in pieces. A float has the fewest digits that read back as the same value of its dtype."""

    def quoted(text):
        if text is None:
            return ""
        text = str(text)
        return '"{}"'.format(text.replace('"', '""')) if any(c in text for c in f'{separator}"\r\n') else text

    for number, columns in enumerate(result.table(TEXT_LINES)):
        if number == 0:
            yield separator.join(columns) + "\n"
        texts = (map(quoted, c) if c.dtype == object else c.astype("U").tolist() for c in columns.values())
        yield "".join(map("{}\n".format, map(separator.join, zip(*texts, strict=True))))


def _json_lines(result):
    """Yields the table as JSON lines in pieces. NaN, which JSON lacks, is null."""
    for columns in result.table(TEXT_LINES):
        line = "{{" + ", ".join(f'"{name}": {{}}' for name in columns) + "}}\n"
        texts = (map(json.dumps, c) if c.dtype == object else c.astype("U").tolist() for c in columns.values())
        values = (("null" if text == "nan" else text for text in column) for column in texts)
        yield "".join(map(line.format, *values))


def _write_text(pieces, file, result):
    for text in pieces(result):
        file.write(text.encode())


# ---- arrays and Parquet ----


def _write_npz(file, result):
    write_npz(file, {name: a.astype("U") if a.dtype == object else a for name, a in result.arrays.items()})


def _write_parquet(file, result):
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    def table(columns):
        return pyarrow.table({n: pyarrow.array(c, pyarrow.string()) if c.dtype == object else c for n, c in columns})

    groups = (table(columns.items()) for columns in result.table(PARQUET_LINES))
    first = next(groups)
    with ParquetWriter(file, first.schema) as writer:
        for group in chain([first], groups):
            writer.write_table(group)


# Writers by the suffix of the file. Add a new format here.
FORMATS: dict[str, Callable[..., None]] = {
    ".npz": _write_npz,
    ".csv": partial(_write_text, _csv),
    ".tsv": partial(_write_text, partial(_csv, separator="\t")),
    ".jsonl": partial(_write_text, _json_lines),
    ".parquet": _write_parquet,
    ".safetensors": lambda file, result: write_safetensors(file, result.arrays),
}
OUTPUT_HELP = f"file of the result; its suffix sets the format: {', '.join(FORMATS)} (default: CSV on stdout)"


def suffix(path):
    return os.path.splitext(path)[1].lower()


def check(path, with_names):
    """Checks, before a long search, that its result can be written to path, with names of rows or without.

    Raises OSError if no file can be created there, ModuleNotFoundError if the format needs a missing package, and
    ValueError if it cannot hold names.
    """
    if suffix(path) == ".parquet" and find_spec("pyarrow") is None:
        raise ModuleNotFoundError(_errors.NEEDS_EXTRA.format(path=path, package="pyarrow"), name="pyarrow")
    if suffix(path) == ".safetensors" and with_names:
        raise ValueError(_errors.NUMBERS_ALONE.format(path=path))
    check_path(path)


def check_path(path):
    """Raises OSError if no file can be created at path."""
    with write_errors_as_text(path), replacing(path):
        pass


def new_name(name, *taken):
    """Puts "new-" before a name until no file has it, so that no suggestion overwrites a file."""
    while os.path.lexists(name) or name in taken:
        name = "new-" + name
    return name


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
