"""NumPy arithmetic around the C core."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def fixed_arithmetic(**errors: Any) -> Generator[None]:
    """In the block, NumPy calculates in the floating-point mode of the C core, without warnings.

    Results then do not depend on the caller's mode (torch.set_flush_denormal, fesetround).
    errors: those of np.errstate, all by default.
    """
    caller = _core.enter_fp_mode()
    try:
        with np.errstate(**(errors or {"all": "ignore"})):
            yield
    finally:
        _core.leave_fp_mode(caller)
