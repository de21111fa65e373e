"""Arithmetic of NumPy in the floating-point mode of the C core, and arrays as the core takes them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray


@contextmanager
def fixed_arithmetic(**errors: Any) -> Generator[None]:
    """In the block, NumPy calculates in the floating-point mode of the C core, without warnings.

    Results then do not depend on the caller's mode (torch.set_flush_denormal, fesetround).
    errors: keywords of np.errstate in place of all="ignore".
    """
    caller = _core.enter_fp_mode()
    try:
        with np.errstate(**(errors or {"all": "ignore"})):
            yield
    finally:
        _core.leave_fp_mode(caller)


def contiguous(array: NDArray[Any], dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Returns the array, or a copy if needed: C-contiguous, aligned, and of native byte order or of this dtype."""
    flags, own = array.flags, array.dtype
    if flags.c_contiguous and flags.aligned and (own.isnative if dtype is None else own == dtype):
        return array
    with fixed_arithmetic(invalid="ignore"):  # converting a signalling NaN would warn
        # ascontiguousarray() would turn a 0-d array into a 1-d one; require() does not.
        return np.require(array, own.newbyteorder("=") if dtype is None else dtype, ["C", "A"])
