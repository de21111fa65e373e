"""The input of topk and pairs: files of rows, standard input, and the names of rows."""

import gzip
import io
import os
import re
import sys
import zlib

import numpy as np

from cossim import _errors
from cossim._io import MAGIC, errors_as_text, open_regular, read_npy
from cossim.cli.result_files import new_name
from cossim.rows import opening
from cossim.rows.opening import open_argument, open_data
from cossim.rows.reader import strings

STDIN = "-"
STDIN_NAME = "standard input"


def open_input(path, column=None, ids=None, ids_required=True, unnamed=None):
    """Opens the rows of a file or, for "-", of standard input. Errors name the file, in one line.

    If ids are not required, rows without that column have ids None. With a list `unnamed`, the column is left out for
    a format without names, and the list receives the error.
    """
    data = _unzipped(sys.stdin.buffer.read()) if path == STDIN else None

    def open_with(column, ids):
        if data is None:
            return open_argument(path, column, ids)
        return open_data(STDIN_NAME, _suffix_of(data), data, name=column, ids=ids, may_be_vector=True)

    with errors_as_text():
        for name in (column, None):
            try:
                return open_with(name, ids)
            except ValueError as error:
                if name is not None and unnamed is not None and _errors.ROWS_UNNAMED.format(name=name) in str(error):
                    unnamed.append(error)
                    continue
                if ids_required:
                    raise
                break
        rows = open_with(name, None)  # raises the error again, unless it was about the ids
        rows.drop_ids()
        return rows


def _unzipped(data):
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:  # cut short or damaged
        raise ValueError(_errors.IN_FILE.format(path=STDIN_NAME, error=error)) from None


def _suffix_of(data):
    """Returns the suffix of the format of data: .npy, or a text format that fits the first line."""
    if data.startswith(MAGIC):
        return ".npy"
    for start, suffix in opening.MAGIC.items():
        if data.startswith(start):
            raise ValueError(_errors.STDIN_FORMAT.format(suffix=suffix))
    line = data.lstrip().split(b"\n", 1)[0]
    if line.startswith((b"{", b"[")):
        return ".jsonl"
    return ".csv" if b"," in line else ".txt"


def open_inputs(paths, columns, ids):
    """Opens the rows of one or two files, of which the last is the corpus. Returns (rows, names) of each.

    columns: one for all files, or one for each. Files of formats without names leave it out, unless all are such files.
    ids: a column, which the corpus must have, or a file that has a line with a name for each row of the corpus. With
    None, names are None.
    """
    columns = columns or [None]
    *others, (corpus, column) = zip(paths, columns * (len(paths) if len(columns) == 1 else 1), strict=True)
    unnamed: list[ValueError] = []
    if ids is None or os.path.isfile(ids):
        found = [(open_input(*file, unnamed=unnamed), None) for file in (*others, (corpus, column))]
        if ids is not None:
            rows = found[-1][0]
            found[-1] = rows, names_in_file(ids, corpus, len(rows))
    else:
        opened = [open_input(*file, ids, False, unnamed) for file in others]
        try:
            opened.append(open_input(corpus, column, ids, True, unnamed))
        except ValueError:
            if os.path.dirname(ids) or os.path.splitext(ids)[1] in opening.FORMATS:  # a file rather than a column
                names_in_file(ids, corpus, 0)
            raise
        found = [(rows, rows.ids) for rows in opened]
    if len(unnamed) == len(paths):
        with errors_as_text():
            raise unnamed[0]
    size, other_size = found[0][0].shape[1], found[-1][0].shape[1]
    if size != other_size:
        sizes = {"size": size, "other_size": other_size}
        raise ValueError(_errors.ROW_LENGTHS.format(path=paths[0], other=corpus, **sizes))
    return found


def read_filter(path, name):
    """Reads the array of a filter: row numbers in a text or .npy file, or a mask for --where in an .npy file.

    Errors name the file, in one line. The search checks the shape.
    """
    if not os.path.exists(path):
        if re.fullmatch(r"[\d\s,]+", path):
            numbers, new = path.replace(",", " ").split(), new_name("rows.txt")
            raise ValueError(_errors.FILTER_NUMBERS.format(name=name, numbers=" ".join(numbers), new=new))
        raise ValueError(_errors.NO_FILTER.format(path=path, name=name))
    with errors_as_text(), open_regular(path) as file:
        data = file.read()
    if data.startswith(MAGIC):
        try:
            array = read_npy(io.BytesIO(data))
        except ValueError as error:
            raise ValueError(_errors.IN_FILE.format(path=path, error=error)) from None
        if array.dtype.kind not in ("iub" if name == "where" else "iu"):
            new = new_name("rows.txt")
            raise ValueError(_errors.FILTER_FILE.format(path=path, dtype=array.dtype, name=name, new=new))
        return array
    words = data.decode("utf-8", "replace").replace(",", " ").split()
    for word in words:
        if re.fullmatch("[+-]?[0-9]{1,18}", word) is None:
            raise ValueError(_errors.NOT_ROW_NUMBERS.format(path=path, text=word))
    return np.array([int(word) for word in words], np.int64)


def names_in_file(path, corpus, count):
    if not os.path.exists(path):
        raise ValueError(_errors.NO_NAMES.format(path=path))
    with errors_as_text(), open(path, encoding="utf-8", errors="replace") as file:
        names = file.read().splitlines()
    if len(names) != count:
        raise ValueError(_errors.NAMES_COUNT.format(path=path, found=len(names), corpus=corpus, count=count))
    return strings(names)
