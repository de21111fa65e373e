"""Arrays of rows, and how they are gone through: whole, or where they lie in a file block by block, in some memory."""

import mmap
import os

import numpy as np

from cossim import _core
from cossim._arguments import size_argument
from cossim._io import map_npy, open_regular

# The working set for arrays that lie in files, where nothing else is asked for.
MEMORY = 256 << 20
LEAST_ROWS = 256


def is_lazy(x):
    """Is it an array of Dask?"""
    return hasattr(type(x), "__dask_graph__") and x.__dask_graph__() is not None


class Rows:
    """The rows of an argument: its array, and its map where that is a numpy.memmap."""

    def __init__(self, array, source):
        self.array = array
        self.map, self.mapped_from = _mapping(source) if isinstance(source, np.memmap) else (None, 0)

    def __len__(self):
        return len(self.array)

    def rows_in(self, memory):
        """How many rows fit so many bytes, but not unreasonably few."""
        return max(LEAST_ROWS, memory // max(1, self.array.shape[1] * self.array.itemsize))

    def blocks(self, rows, start=0):
        """(first row, block of so many rows), one after another. Of a file: the next block is asked for while one is
        at work, and what has been gone through is given back."""
        for first in range(start, len(self.array), rows):
            self._advise("MADV_WILLNEED", first + rows, rows)
            try:
                yield first, self.array[first : first + rows]
            finally:
                self._advise("MADV_DONTNEED", first, rows)

    def _advise(self, advice, first, rows):
        block = self.array[first : first + rows]
        if self.map is None or not len(block) or not hasattr(mmap, advice):
            return
        start = block.__array_interface__["data"][0] - self.mapped_from
        end = start + (len(block) - 1) * block.strides[0] + block.shape[1] * block.itemsize
        start -= start % mmap.PAGESIZE
        self.map.madvise(getattr(mmap, advice), start, end - start)


def rows_of(function, **sources):
    """Rows of each argument by its name: of an array in memory, a numpy.memmap, or the path of a .npy file.

    All but the first may be None, and then stay None. Raises TypeError or ValueError, naming function and argument,
    where one is none of these, or has not two dimensions.
    """
    given = {}
    for name, source in sources.items():
        if is_lazy(source):
            raise TypeError(f"{function}(): {name} is a Dask array: compute() it, or use topk or pairs_above")
        if isinstance(source, (str, os.PathLike)):
            source = open_rows(function, name, source)
        if source is not None or not given:
            given[name] = source
    arrays = dict(zip(given, _core.as_rows(function, tuple(given), tuple(given.values())), strict=True))
    return tuple(Rows(arrays[name], given[name]) if name in given else None for name in sources)


def open_rows(function, name, path):
    """The memmap of a .npy file."""
    with open_regular(path) as file:
        try:
            return map_npy(file)
        except ValueError as error:
            message = f"{name} is the path of {file.name}, which is no .npy array: {error}"
            raise ValueError(f"{function}(): {message}") from None


def _mapping(array):
    """The map of the file that a memmap lies in, and its address.

    None where rows do not lie one behind another in it, or where changes that were never written to the file would be
    lost with the pages that are given back.
    """
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    in_order = array.ndim == 2 and array.strides[0] >= array.strides[1] * array.shape[1] > 0
    if not isinstance(base, mmap.mmap) or array.mode not in ("r", "r+", "w+") or not in_order:
        return None, 0
    return base, np.frombuffer(base, np.uint8).__array_interface__["data"][0]


def memory_argument(function, memory):
    """memory=: a number of bytes, or None."""
    if memory is None:
        return None
    return size_argument(function, "memory", memory, 1, "a number of bytes")
