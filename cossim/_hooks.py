"""A function that _columns calls but cannot import: its module imports the core, and the core imports _columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Opens the rows of a file: function, argument's name, path. cossim._finders sets it.
open_path: Callable[[str, str, Any], Any]
