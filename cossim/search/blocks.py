"""Operands of the search functions as rows, which are read in blocks.

An array in memory is one block. An array in a file is read block by block, within a memory bound.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core
from cossim._arguments import size_argument
from cossim._io import map_npy, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cossim._typing import Path

# Default bound of the working set for arrays in files, in bytes.
DEFAULT_MEMORY = 256 << 20
MIN_ROWS = 256  # minimum rows per block, also if they exceed the bound


def is_lazy(x: Any) -> bool:
    """Returns whether x is a Dask collection."""
    return hasattr(type(x), "__dask_graph__") and x.__dask_graph__() is not None


class Rows:
    """The rows of an operand: its array, and the memory map behind it if it is a numpy.memmap."""

    def __init__(self, array: NDArray[Any], source: object) -> None:
        self.array = array
        self.map, self.map_address = _mapping(source) if isinstance(source, np.memmap) else (None, 0)

    def __len__(self) -> int:
        return len(self.array)

    def rows_per_block(self, memory: int) -> int:
        """Returns how many rows fit into `memory` bytes, and at least MIN_ROWS."""
        return max(MIN_ROWS, memory // max(1, self.array.shape[1] * self.array.itemsize))

    def blocks(self, rows: int, start: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yields (number of the first row, block of at most `rows` rows), in order.

        For an array in a file, the system reads the next block ahead, and the pages of a finished block are released.
        """
        for first in range(start, len(self.array), rows):
            self._advise("MADV_WILLNEED", first + rows, rows)
            try:
                yield first, self.array[first : first + rows]
            finally:
                self._advise("MADV_DONTNEED", first, rows)

    def _advise(self, advice: str, first: int, rows: int) -> None:
        block = self.array[first : first + rows]
        if self.map is None or not len(block) or not hasattr(mmap, advice):
            return
        start = block.__array_interface__["data"][0] - self.map_address
        end = start + (len(block) - 1) * block.strides[0] + block.shape[1] * block.itemsize
        start -= start % mmap.PAGESIZE
        self.map.madvise(getattr(mmap, advice), start, end - start)


def rows_of(function: str, **sources: object) -> tuple[Any, ...]:
    """Returns the Rows of each source: an array in memory, a numpy.memmap, or the path of a .npy file.

    Every source except the first may be None, and then its result is None. Raises TypeError or ValueError, with the
    names of function and argument, if a source is none of these or does not have two dimensions.
    """
    given: dict[str, Any] = {}
    for name, source in sources.items():
        if is_lazy(source):
            raise TypeError(f"{function}(): {name} is a Dask array: compute() it, or use topk or pairs_above")
        if isinstance(source, (str, os.PathLike)):
            source = open_rows(function, name, source)
        if source is not None or not given:
            given[name] = source
    arrays = dict(zip(given, _core.as_rows(function, tuple(given), tuple(given.values())), strict=True))
    return tuple(Rows(arrays[name], given[name]) if name in given else None for name in sources)


def open_rows(function: str, name: str, path: Path) -> np.memmap[Any, Any]:
    """Returns the memmap of a .npy file."""
    with open_regular(path) as file:
        try:
            return map_npy(file)
        except ValueError as error:
            message = f"{name} is the path of {file.name}, which is no .npy array: {error}"
            raise ValueError(f"{function}(): {message}") from None


def _mapping(array: Any) -> tuple[mmap.mmap | None, int]:
    """Returns (memory map behind a memmap, address of the map), or (None, 0) if its pages must not be released.

    That is the case if the rows do not follow one another in the file, or if the mode is copy-on-write: releasing a
    page would lose its changes.
    """
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    in_order = array.ndim == 2 and array.strides[0] >= array.strides[1] * array.shape[1] > 0
    if not isinstance(base, mmap.mmap) or array.mode not in ("r", "r+", "w+") or not in_order:
        return None, 0
    return base, np.frombuffer(base, np.uint8).__array_interface__["data"][0]


def memory_argument(function: str, memory: object) -> int | None:
    """Checks the argument memory=: a number of bytes, or None."""
    if memory is None:
        return None
    return size_argument(function, "memory", memory, 1, "a number of bytes")
