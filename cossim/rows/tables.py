"""Tables, read with pyarrow: .parquet, .csv, .tsv and JSON lines.

Vectors are a column of lists, or columns of numbers. pyarrow is imported when a file is opened.
"""

from __future__ import annotations

import bisect
import csv
import json
import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _errors
from cossim.rows.reader import (
    ID_NAMES,
    PIECE,
    IndexedReader,
    Reader,
    RowIndex,
    RowsError,
    Source,
    after_first_line,
    chosen,
    cut_lines,
    first_lines,
    strings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SAMPLE = 20  # rows that decide the types of columns of text formats
MISSING = {"", "-", "?", "#n/a", "<na>", "n/a", "na", "none", "null"}  # values that are missing, in lower case
ALL_NUMBERS = "*"  # name= of all columns of numbers together


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        message = _errors.NEEDS_EXTRA.format(path=path, package="pyarrow")
        raise ModuleNotFoundError(message, name="pyarrow") from None
    return pyarrow


# ---- columns ----


class Column(NamedTuple):
    """A column of a table. kind: "vector" (lists of numbers), "number", "text" or "other"."""

    name: str
    kind: str


class Choice(NamedTuple):
    """The columns to read: one column of lists, or columns of numbers, and the column of ids."""

    vectors: list[str]
    is_list: bool
    ids: str | None


def choose(columns: list[Column], name: str | None, ids: str | None) -> Choice:
    """Chooses the columns of vectors and of ids.

    Candidates are columns of lists; columns of numbers that share a prefix and count up, x0, x1, ...; and all columns
    of numbers together, unless all of them are one such group.
    """
    kinds = {column.name: column.kind for column in columns}
    ids = _choose_ids(kinds, ids)
    numbers = [column.name for column in columns if column.kind == "number" and column.name != ids]
    candidates = {column.name: [column.name] for column in columns if column.kind == "vector"}
    groups = _groups(numbers)
    candidates |= {prefix: group for prefix, group in groups.items() if prefix not in candidates}
    if (numbers and not candidates) or (groups and numbers not in groups.values()) or name == ALL_NUMBERS:
        candidates[ALL_NUMBERS] = numbers
    if name is not None and name not in candidates and kinds.get(name) == "number":
        candidates[name] = [name]
    name = chosen(list(candidates), name)
    return Choice(candidates[name], kinds.get(name) == "vector", ids)


def _choose_ids(kinds: dict[str, str], ids: str | None) -> str | None:
    """Returns the column of ids: the one that the caller names, one of ID_NAMES, or else the only column of text."""
    if ids is not None:
        others = [name for name, kind in kinds.items() if kind != "vector"]  # vectors cannot be ids
        return chosen(others or list(kinds), ids)
    by_name = {name.lower(): name for name in reversed(kinds) if kinds[name] in ("number", "text")}
    for name in ID_NAMES:
        if name in by_name:
            return by_name[name]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    return texts[0] if len(texts) == 1 else None


def _groups(names: list[str]) -> dict[str, list[str]]:
    """Returns a dict from each prefix to its two or more columns PREFIX0, PREFIX1, ... (or from PREFIX1 on)."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)[ ._-]?(\d{1,9})", name, re.S)
        if match:
            groups.setdefault(match[1], []).append((int(match[2]), name))
    found = {}
    for prefix, members in groups.items():
        numbers = [number for number, _ in members]
        if len(members) > 1 and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            found[prefix] = [name for _, name in members]
    return found


# ---- from Arrow to NumPy ----


def _list_length(array: Any, row: int) -> int:
    """Returns the length of the lists of an Arrow array. All must have the same length."""
    if array.null_count:
        raise RowsError(_errors.ROWS_NULL.format(row=row + int(np.argmax(array.is_null().to_numpy(False)))))
    if hasattr(array.type, "list_size"):
        return array.type.list_size
    if not len(array):
        return 0
    lengths = np.diff(array.offsets.to_numpy())
    if np.any(lengths != lengths[0]):
        odd = int(np.argmax(lengths != lengths[0]))
        values = {"row": row + odd, "length": lengths[odd], "dim": lengths[0]}
        raise RowsError(_errors.ROWS_LENGTH.format(**values))
    return int(lengths[0])


def rows_of_batch(batch: Any, choice: Choice, row: int, into: NDArray[Any]) -> None:
    """Writes the vectors of an Arrow record batch or table of one chunk into an array of shape (rows, D)."""
    dim = into.shape[1]
    if not choice.is_list:
        for place, name in enumerate(choice.vectors):
            into[:, place] = _numbers(_whole(batch.column(name)), row, 1)
        return
    array = _whole(batch.column(choice.vectors[0]))
    array = getattr(array, "storage", array)
    length = _list_length(array, row)
    if len(array) and length != dim:
        raise RowsError(_errors.ROWS_LENGTH.format(row=row, length=length, dim=dim))
    into[:] = _numbers(array.flatten(), row, dim).reshape(into.shape)


def _whole(column: Any) -> Any:
    """Returns an Arrow array of a column, which may have chunks."""
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _numbers(array: Any, row: int, dim: int) -> NDArray[Any]:
    if array.null_count:
        null = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise RowsError(_errors.ROWS_NULL.format(row=row + null // max(1, dim)))
    return array.to_numpy(zero_copy_only=False)


def ids_of(column: Any) -> NDArray[Any]:
    """Returns an Arrow column as an array: integers, or an object array."""
    import pyarrow

    if pyarrow.types.is_integer(column.type) and not column.null_count:
        return column.to_numpy()
    return strings(column.to_pylist())


def _kind(pyarrow: Any, kind: Any) -> str:
    types = pyarrow.types
    kind = getattr(kind, "storage_type", kind)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "vector" if _is_number(types, kind.value_type) else "other"
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":  # new in pyarrow 16
        return "text"
    return "number" if _is_number(types, kind) else "other"


def _is_number(types: Any, kind: Any) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


# ---- Parquet ----


class ParquetReader(Reader):
    """Rows of a Parquet file, read forwards in batches. Reading backwards starts at a row group."""

    def __init__(self, source: Source) -> None:
        source.check(own_dtype=True)
        source.check(plain=True)
        pyarrow = _pyarrow(source.path)
        from pyarrow.parquet import ParquetFile

        self.stream = pyarrow.OSFile(source.path, "rb")
        self.file = ParquetFile(self.stream, buffer_size=PIECE, pre_buffer=False)
        schema = self.file.schema_arrow
        columns = [Column(field.name, _kind(pyarrow, field.type)) for field in schema]
        self.choice = choose(columns, source.name, source.ids)
        self.id_name = self.choice.ids
        metadata = self.file.metadata
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self.starts = [0, *np.cumsum(groups, dtype=np.int64).tolist()]
        if min(groups, default=0) < 0 or self.starts[-1] != metadata.num_rows:
            raise RowsError(_errors.ROWS_COUNT.format(count=metadata.num_rows, found=self.starts[-1]))
        kind = schema.field(self.choice.vectors[0]).type
        kind = getattr(kind, "storage_type", kind)
        if self.choice.is_list:
            self.dtype = np.dtype(kind.value_type.to_pandas_dtype())
            self.shape = (metadata.num_rows, self._dim(kind))
        else:
            kinds = [schema.field(name).type.to_pandas_dtype() for name in self.choice.vectors]
            self.dtype = np.result_type(*kinds)
            self.shape = (metadata.num_rows, len(kinds))
        # The number of rows in a batch, of about 4 MB
        self.batch = max(1, PIECE // max(1, self.shape[1] * self.dtype.itemsize))
        self.batches: Iterator[Any] = iter(())
        self.place = -1  # the number of the first row of `rest`, or of the next batch
        self.rest: Any = None

    def _dim(self, kind: Any) -> int:
        if hasattr(kind, "list_size"):
            return kind.list_size
        for batch in self.file.iter_batches(1, columns=self.choice.vectors):
            return _list_length(getattr(batch.column(0), "storage", batch.column(0)), 0)
        return 0

    def _seek(self, row: int) -> None:
        if row == self.place:
            return
        group = bisect.bisect_right(self.starts, row) - 1
        groups = list(range(group, len(self.starts) - 1))
        self.batches = self.file.iter_batches(
            self.batch, row_groups=groups, columns=self.choice.vectors, use_threads=True
        )
        self.place, self.rest = self.starts[group], None
        while self.place < row:
            self._take(row - self.place)

    def _take(self, most: int) -> Any:
        """Returns a batch of the next rows, at most `most` of them."""
        if self.rest is None:
            self.rest = next(self.batches, None)
            if self.rest is None:
                raise RowsError(_errors.ROWS_COUNT.format(count=self.shape[0], found=self.place))
        batch = self.rest.slice(0, most)
        self.rest = self.rest.slice(most) if most < len(self.rest) else None
        self.place += len(batch)
        return batch

    def read(self, first: int, last: int) -> NDArray[Any]:
        out = np.empty((last - first, self.shape[1]), self.dtype)
        done = 0
        try:
            self._seek(first)
            while done < len(out):
                batch = self._take(len(out) - done)
                rows_of_batch(batch, self.choice, first + done, out[done : done + len(batch)])
                done += len(batch)
        except BaseException:
            self.place = -1
            raise
        return out

    def read_ids(self) -> NDArray[Any] | None:
        return None if self.id_name is None else ids_of(self.file.read(columns=[self.id_name]).column(0))

    def close(self) -> None:
        self.batches, self.rest = iter(()), None
        self.file.close()
        super().close()


# ---- CSV and JSON lines ----


class _LinesReader(IndexedReader):
    """A table with one row in each line. Subclasses have a method _table(data) that parses whole lines."""

    choice: Choice
    pyarrow: Any

    def _parse(self, data: bytes, row: int) -> NDArray[Any]:
        try:
            table = self._table(data, self.choice.vectors)
        except self.pyarrow.ArrowInvalid:
            with suppress(
                csv.Error, json.JSONDecodeError, UnicodeDecodeError, RecursionError
            ):  # pyarrow's error remains
                self._refuse_text(data, row)
            raise
        rows = np.empty((len(table), self.shape[1]), self.dtype)
        rows_of_batch(table, self.choice, row, rows)
        return rows

    def _table(self, data: bytes, names: list[str]) -> Any:
        raise NotImplementedError

    def _dicts(self, data: bytes) -> Iterable[dict[str, Any]]:
        raise NotImplementedError

    def _refuse_text(self, data: bytes, row: int) -> None:
        """Raises RowsError for the first text in a column of numbers, if there is one. `data` begins with row `row`."""
        for number, values in enumerate(self._dicts(data), row):
            for name in self.choice.vectors:
                value = values.get(name)
                if isinstance(value, str) and value and not _is_number_text(value):
                    raise RowsError(_errors.ROWS_TEXT.format(row=number, value=value, name=name))

    def _set_shape(self) -> None:
        dim = len(self.choice.vectors)
        if self.choice.is_list:
            first = next(self.index.pieces(0, 1), (0, 0, b""))[2]
            line = next((line for line in first.split(b"\n") if line.strip()), b"")
            dim = _list_length(_whole(self._table(line + b"\n", self.choice.vectors).column(0)), 0) if line else 0
        self.shape = (len(self.index), dim)

    def read_ids(self) -> NDArray[Any] | None:
        if self.id_name is None:
            return None
        pieces = self.index.pieces(0, len(self.index))
        parts = [ids_of(self._table(data, [self.id_name]).column(0)) for _, _, data in pieces]
        return np.concatenate(parts) if parts else strings([])


def _is_number_text(value: str) -> bool:
    try:
        np.array(value, np.float64)
    except ValueError:
        return False
    return True


def _present(values: list[Any]) -> list[Any]:
    """Returns the values that are not missing. A text such as n/a stands for a missing value."""
    return [value for value in values if not isinstance(value, str) or value.strip().lower() not in MISSING]


def _text_kind(values: list[str]) -> str:
    """Returns the kind of a column with these values.

    If at least half of them are numbers, so is the column: reading it then names the row of another value. If such a
    column were left out as text, the cosines would be those of the other columns.
    """
    values = _present(values)
    if values and all(value.strip().startswith("[") for value in values):
        return "vector"
    return "number" if 2 * sum(map(_is_number_text, values)) >= len(values) else "text"


class CsvReader(_LinesReader):
    """Values must not contain line ends, as in pyarrow by default."""

    def __init__(self, source: Source, delimiter: str) -> None:
        self.pyarrow = _pyarrow(source.path)
        from pyarrow import csv as arrow_csv

        self.csv, self.delimiter = arrow_csv, delimiter
        self.stream, self.dtype = source.open(), source.text_dtype(np.float64)
        lines = first_lines(self.stream, SAMPLE)
        texts = [line.decode("utf-8-sig", "replace") for line in lines]
        sample = list(csv.reader(texts, delimiter=delimiter))
        if not sample:
            raise RowsError(_errors.ROWS_EMPTY)
        start = 0
        # The first row is a header unless one of its values is a number or a vector.
        if all(_text_kind([value]) == "text" or not value for value in sample[0]) or self._is_range(sample):
            names, sample = sample[0], sample[1:]
            start = after_first_line(self.stream)
        else:
            names = [f"f{place}" for place in range(len(sample[0]))]
        if len(set(names)) != len(names):
            raise RowsError(_errors.ROWS_TWICE.format(name=next(n for n in names if names.count(n) > 1)))
        self.names = names
        values = list(zip(*(row for row in sample if len(row) == len(names)), strict=True)) or [()] * len(names)
        self.columns = [Column(n, _text_kind(list(of_n))) for n, of_n in zip(names, values, strict=True)]
        self.choice = choose(self.columns, source.name, source.ids)
        self.id_name = self.choice.ids
        of_ids = values[names.index(self.id_name)] if self.id_name is not None else ()
        self.integer_ids = bool(of_ids) and all(re.fullmatch(r"-?\d{1,18}", value) for value in of_ids)
        self.index = RowIndex(self.stream, start, cut_lines, end=b"\n")
        self._set_shape()

    @staticmethod
    def _is_range(sample: list[list[str]]) -> bool:
        """Returns whether the first line is the names 0, 1, 2, ... that pandas gives columns.

        It differs from a row of numbers only where the lines below it have fractions.
        """
        names = [name for name in sample[0] if name and _text_kind([name]) == "number"]
        fractions = any(set(".eE").intersection(value) for row in sample[1:] for value in row)
        return len(names) > 1 and names == [str(n) for n in range(len(names))] and fractions

    def _table(self, data: bytes, names: list[str]) -> Any:
        pyarrow, text = self.pyarrow, self.pyarrow.string()
        kinds = {column.name: column.kind for column in self.columns}
        numbers = pyarrow.float32() if self.dtype == np.float32 else pyarrow.float64()
        is_id = names == [self.id_name]
        types = {name: numbers if kinds[name] == "number" and not is_id else text for name in names}
        table = self.csv.read_csv(
            pyarrow.BufferReader(data),
            read_options=self.csv.ReadOptions(column_names=self.names, block_size=len(data) + 1, use_threads=False),
            parse_options=self.csv.ParseOptions(delimiter=self.delimiter),
            convert_options=self.csv.ConvertOptions(
                include_columns=names, column_types=types, null_values=[""], quoted_strings_can_be_null=False
            ),
        )
        if is_id and self.integer_ids:
            return table.cast(pyarrow.schema([(names[0], pyarrow.int64())]))
        if self.choice.is_list and not is_id:
            return self._lists(table.column(0), names[0], numbers)
        return table

    def _dicts(self, data: bytes) -> Iterable[dict[str, Any]]:
        return csv.DictReader(data.decode("utf-8", "replace").splitlines(), self.names, delimiter=self.delimiter)

    def _lists(self, column: Any, name: str, numbers: Any) -> Any:
        """Parses a column of texts such as [0.5, 2] as lists."""
        lines = "".join(f'{{"v":{value or "null"}}}\n' for value in column.to_pylist())
        try:
            parsed = _parse_json(self.pyarrow, lines.encode(), {"v": self.pyarrow.list_(numbers)})
        except self.pyarrow.ArrowInvalid as error:
            raise RowsError(_errors.ROWS_LISTS.format(name=name, error=error)) from None
        return parsed.rename_columns([name])


def _parse_json(pyarrow: Any, data: bytes, types: dict[str, Any]) -> Any:
    from pyarrow import json as arrow_json

    return arrow_json.read_json(
        pyarrow.BufferReader(data),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=arrow_json.ParseOptions(
            explicit_schema=pyarrow.schema(list(types.items())), unexpected_field_behavior="ignore"
        ),
    ).select(list(types))


class JsonLinesReader(_LinesReader):
    """Each line is an object, or an array of numbers."""

    def __init__(self, source: Source) -> None:
        self.pyarrow = _pyarrow(source.path)
        self.stream, self.dtype = source.open(), source.text_dtype(np.float64)
        sample = [json.loads(line) for line in first_lines(self.stream, SAMPLE)]
        if not sample:
            raise RowsError(_errors.ROWS_EMPTY)
        self.bare = all(isinstance(row, list) for row in sample)
        rows = [{"": row} for row in sample] if self.bare else sample
        if not all(isinstance(row, dict) for row in rows):
            raise RowsError(_errors.ROWS_JSON)
        names = list(dict.fromkeys(name for row in rows for name in row))
        self.sample = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
        columns = [Column(name, _json_kind(values)) for name, values in self.sample.items()]
        self.choice = choose(columns, source.name, source.ids)
        self.id_name = self.choice.ids
        self.index = RowIndex(self.stream, 0, cut_lines, end=b"\n")
        self._set_shape()

    def _table(self, data: bytes, names: list[str]) -> Any:
        pyarrow = self.pyarrow
        number = pyarrow.float32() if self.dtype == np.float32 else pyarrow.float64()
        kind = pyarrow.list_(number) if self.choice.is_list else number
        if names == [self.id_name]:
            whole = all(type(value) is int for value in self.sample[names[0]])
            kind = pyarrow.int64() if whole else pyarrow.string()
        if self.bare:
            lines = [line for line in data.split(b"\n") if line.strip()]
            data = b"".join(b'{"":%s}\n' % line for line in lines)
        return _parse_json(pyarrow, data, dict.fromkeys(names, kind))

    def _dicts(self, data: bytes) -> Iterable[dict[str, Any]]:
        lines = (json.loads(line) for line in data.split(b"\n") if line.strip())
        return (line for line in lines if isinstance(line, dict))


def _json_kind(values: list[Any]) -> str:
    """Returns the kind of a column with these values, as _text_kind does."""
    some, values = bool(values), _present(values)
    if values and all(isinstance(value, list) for value in values):
        numbers = all(isinstance(number, (int, float)) for value in values for number in value)
        return "vector" if numbers else "other"
    if some and 2 * sum(isinstance(value, (int, float)) for value in values) >= len(values):
        return "number"
    return "text" if values and all(isinstance(value, str) for value in values) else "other"


# ---- formats ----


FORMATS = {
    ".parquet": ParquetReader,
    ".csv": partial(CsvReader, delimiter=","),
    ".tsv": partial(CsvReader, delimiter="\t"),
    ".jsonl": JsonLinesReader,
    ".ndjson": JsonLinesReader,
}
