"""Recognizes objects whose rows are read by slices (is_in_slices), and closed datasets (is_closed_dataset)."""

from __future__ import annotations

from typing import Any

import numpy as np

# Arrays in memory, sparse matrices and tables have one of these attributes. They are not read by slices.
_OTHER_PROTOCOLS = (
    "__array_interface__",
    "__array_struct__",
    "__dlpack__",
    "__cuda_array_interface__",
    "__arrow_c_array__",
    "__arrow_c_stream__",
    "indptr",
    "tocsr",
)


def is_in_slices(x: Any) -> bool:
    """Returns whether x is read by slices of rows: FileRows, and datasets of h5py, zarr and others.

    They have a shape (N, D), NumPy's dtype and slices, and none of the protocols of arrays in memory.
    """
    if isinstance(x, (np.ndarray, np.generic, list, tuple)) or not isinstance(getattr(x, "dtype", None), np.dtype):
        return False
    shape = getattr(x, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or not hasattr(type(x), "__getitem__"):
        return False
    integers = all(isinstance(size, (int, np.integer)) and size >= 0 for size in shape)
    return integers and not any(hasattr(x, name) for name in _OTHER_PROTOCOLS)


def is_closed_dataset(x: Any) -> bool:
    """Returns whether x is a dataset of h5py whose file is closed. It is false, and raises when its dtype is read."""
    return type(x).__module__.partition(".")[0] == "h5py" and not x
