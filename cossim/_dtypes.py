"""Element types that NumPy lacks or that files name in their own way."""

from __future__ import annotations

from typing import Any

import numpy as np

# Maps NumPy's name of a dtype to its name in .safetensors files.
SAFETENSORS_NAMES = {
    f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
SAFETENSORS_NAMES |= {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"}
NUMPY_NAMES = {name: numpy_name for numpy_name, name in SAFETENSORS_NAMES.items()}


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Returns whether a dtype is bfloat16.

    It is the one of ml_dtypes or, where that package is missing, the core's: a structured dtype of a uint16 field named
    bfloat16.
    """
    return dtype.name == "bfloat16" or dtype.names == ("bfloat16",)


def is_real(dtype: np.dtype[Any]) -> bool:
    """Returns whether the elements are real numbers of at most 64 bits, bool included."""
    return (dtype.kind in "fiub" and dtype.itemsize <= 8) or is_bfloat16(dtype)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Returns NumPy's name of a dtype. The structured dtype for bfloat16 without ml_dtypes is named bfloat16 too."""
    return "bfloat16" if is_bfloat16(dtype) else dtype.name


def stored_dtype(name: str) -> np.dtype[Any]:
    """Returns the dtype of elements in files, given its NumPy name. bfloat16 is stored as its bits, in uint16."""
    return np.dtype("uint16" if name == "bfloat16" else name).newbyteorder("<")


def bfloat16() -> np.dtype[Any] | None:
    """Returns the dtype of ml_dtypes, or None where that package is missing."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    return np.dtype(ml_dtypes.bfloat16)
