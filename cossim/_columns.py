"""Rows that are Python objects: vectors in lists, arrays of objects, pandas' Series and DataFrames, and paths.

The C core calls these functions for arguments that NumPy cannot convert to an array of numbers. as_array is the core's
own conversion of any object. Errors name the function, the argument and the first row that is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _errors, _hooks
from cossim._arguments import sparse_refused
from cossim._dtypes import is_real

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    AsArray = Callable[[str, str, object], NDArray[Any]]

_NULLS = "NoneType", "NAType", "NaTType"  # the last two are types of pandas


# ---- vectors as objects ----


def from_objects(function: str, name: str, values: Any, as_array: AsArray) -> NDArray[Any] | None:
    """Returns the vectors of a list or of an array of objects as one array. Returns None for other objects."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            _check_elements(function, name, values)
            return None
        stacked = _stacked_by_numpy(values)
        if stacked is not None:
            return stacked
    vectors = [_vector(function, name, row, value, as_array) for row, value in enumerate(values)]
    if not vectors or any(v is None for v in vectors):
        return None
    first = vectors[0]
    for row, vector in enumerate(vectors):
        if vector.shape != first.shape:
            raise ValueError(_ragged(function, name, row, vector, first))
    return np.stack(vectors)


def _stacked_by_numpy(values):
    """Stacks an array of arrays or lists by NumPy, which is fast. Returns None if NumPy cannot."""
    if not len(values) or not isinstance(values[0], (np.ndarray, list, tuple)):
        return None
    try:
        stacked = np.array(values.tolist())
    except ValueError:
        return None
    return stacked if is_real(stacked.dtype) and stacked.ndim > 1 else None


def _is_null(value):
    return type(value).__name__ in _NULLS or (isinstance(value, float) and value != value)


def _vector(function, name, row, value, as_array):
    """Returns the array of one row, or None if it is not a vector of numbers."""
    if _is_null(value):
        raise ValueError(_errors.NULL_ROW.format(function=function, name=name, row=row))
    if isinstance(value, (str, bytes, int, float, complex, np.generic)):
        return None
    if isinstance(value, (list, tuple)):
        try:
            value = np.asarray(value)
        except ValueError:  # it holds lists of different lengths
            return None
    elif not isinstance(value, np.ndarray):
        value = as_array(function, name, value)
    if value.dtype.kind == "O":
        if any(_is_null(element) for element in value.flat):
            raise ValueError(_errors.NULL_IN_ROW.format(function=function, name=name, row=row))
        return None
    return value if value.ndim and is_real(value.dtype) else None


def _check_elements(function, name, values):
    """Raises ValueError if an array of Python objects, whose rows are numbers, has a null."""
    rows = values.reshape(len(values), -1) if values.ndim and values.size else ()
    for row, elements in enumerate(rows):
        if any(type(element).__name__ in _NULLS for element in elements):
            raise ValueError(_errors.NULL_IN_ROW.format(function=function, name=name, row=row))


def _ragged(function, name, row, vector, first):
    if vector.ndim == first.ndim == 1:
        size, first_size = f"{len(vector)} elements", len(first)
    else:
        size, first_size = f"shape {vector.shape}", first.shape
    return _errors.RAGGED.format(function=function, name=name, row=row, size=size, first=0, first_size=first_size)


# ---- files ----


def from_path(function: str, name: str, path: Any, as_array: AsArray) -> NDArray[Any]:
    """Returns all rows of a file as an array, mapped where the format allows it, or its only vector."""
    rows = _hooks.open_path(function, name, path)
    if isinstance(rows, np.ndarray):
        return rows
    if hasattr(rows, "indptr"):
        raise sparse_refused(function, name)
    return rows.memmap if rows.memmap is not None else rows[:]


# ---- pandas ----


def from_pandas(function: str, name: str, data: Any, as_array: AsArray) -> NDArray[Any]:
    """Returns a Series or DataFrame as an array. If its dtype is object, from_objects then stacks the rows.

    A DataFrame of numbers is a matrix. In any other DataFrame, the only column of vectors holds the rows.
    """
    if data.ndim == 1:
        return _series(function, name, data, as_array)
    dtypes = list(data.dtypes)
    if all(_is_number(dtype) for dtype in dtypes):
        return np.asarray(data)
    columns = [data.iloc[:, i] for i in range(len(dtypes))]
    vectors = [column for column in columns if _holds_vectors(column)]
    if len(vectors) == 1:
        return _series(function, name, vectors[0], as_array)
    if not vectors and all(_is_number(dtype) or _is_nullable(dtype) for dtype in dtypes):
        return np.column_stack([_series(function, name, column, as_array) for column in columns])
    numbers = [
        column for column, dtype in zip(columns, dtypes, strict=True) if _is_number(dtype) or _is_nullable(dtype)
    ]
    names = ", ".join(str(column.name) for column in vectors or numbers) or "it has none"
    message = _errors.COLUMNS if vectors else _errors.NO_VECTORS
    raise ValueError(message.format(function=function, name=name, count=len(vectors), names=names))


def _is_number(dtype):
    return isinstance(dtype, np.dtype) and dtype.kind in "fiub"


def _is_nullable(dtype):
    """Returns whether a dtype of pandas holds numbers and nulls: Float64, Int8, boolean, double[pyarrow]."""
    return not isinstance(dtype, np.dtype) and getattr(dtype, "kind", "O") in "fiub"


def _holds_vectors(column: Any) -> bool:
    if hasattr(column.dtype, "pyarrow_dtype"):
        return hasattr(column.dtype.pyarrow_dtype, "value_type")  # a type of lists
    first: Sequence[Any] = [value for value in column.iloc[:1] if not _is_null(value)]
    return column.dtype == object and bool(first) and np.ndim(first[0]) > 0


def _series(function, name, column, as_array):
    """Returns the array of a column; nulls of numbers are an error."""
    if isinstance(column.dtype, np.dtype):
        return np.asarray(column)
    if hasattr(column.dtype, "pyarrow_dtype"):
        return as_array(function, name, column.array.__arrow_array__())
    if _is_nullable(column.dtype) and hasattr(column.dtype, "numpy_dtype"):
        nulls = np.flatnonzero(np.asarray(column.isna()))
        if len(nulls):
            raise ValueError(_errors.NULL_ROW.format(function=function, name=name, row=nulls[0]))
        return column.to_numpy(dtype=column.dtype.numpy_dtype)
    return np.asarray(column)
