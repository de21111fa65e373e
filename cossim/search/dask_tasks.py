"""What the tasks of Dask arrays run: the functions on one pair of blocks, and the merging of what came of them."""

import os
from contextlib import nullcontext

import numpy as np
from dask.base import tokenize

from cossim._threads import threads
from cossim.search import functions
from cossim.search.blocks import open_rows
from cossim.search.functions import Pairs, TopK


def _one_thread():
    """A block in which the calling thread's calls use one thread, unless COSSIM_NUM_THREADS asks for another number."""
    return nullcontext() if os.environ.get("COSSIM_NUM_THREADS") else threads(1)


def run(call, *blocks):
    # In C order, as the order of a sum depends on how its terms lie in memory. Nearly all blocks are; the others are
    # copied. (np.ascontiguousarray would give 0-d blocks a dimension.)
    with _one_thread():
        return call(*(np.asarray(block, order="C") for block in blocks))


def block_topk(k, options, first, queries, corpus=None):
    """The best of one block of the corpus, at most k, counted from its first row in the whole."""
    candidates = len(queries) - 1 if corpus is None else len(corpus)
    with _one_thread():
        values, indices = functions.topk(queries, corpus, min(k, candidates), **options)
    return TopK(values, indices + first)


def merge_topk(k, parts):
    """The k best of several TopK, whose candidates come in the order of the parts: value descending, NaN last.

    Each part is sorted that way itself and has its ties by index, so a stable sort keeps ties at the lowest index.
    """
    values = np.concatenate([part.values for part in parts], axis=1)
    indices = np.concatenate([part.indices for part in parts], axis=1)
    best = np.argsort(-values, axis=1, kind="stable")[:, :k]  # NumPy sorts NaN behind all others
    return TopK(np.take_along_axis(values, best, axis=1), np.take_along_axis(indices, best, axis=1))


def block_pairs(threshold, options, most, firsts, x, y=None):
    """The pairs of two blocks, counted from their first rows in the whole; only how many, if that is more than most."""
    with _one_thread():
        i, j, values = functions.pairs_above(x, threshold, y, **options)
    if most is not None and len(i) > most:
        return len(i)  # nothing will be made of them
    return Pairs(i + firsts[0], j + firsts[1], values)


def count_pairs(parts):
    return sum(part if isinstance(part, int) else len(part.i) for part in parts)


def check_count(threshold, most, counts):
    found = sum(counts)
    if found > most:
        raise functions.too_many("pairs_above", found, threshold, most)


def join_pairs(parts, checked):
    """The pairs of one block of x with all blocks of y, which come in the order of j; checked is only waited for."""
    i, j, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(i, kind="stable")
    return Pairs(i[order], j[order], values[order])


class NpyRows:
    """The rows of a .npy file for dask.array.from_array: a task reads its own, so the file must be there for it."""

    def __init__(self, path, array):
        self.path, self.shape, self.dtype, self.ndim = path, array.shape, array.dtype, array.ndim
        status = os.stat(path)
        self.token = tokenize(path, status.st_mtime_ns, status.st_size)

    def __dask_tokenize__(self):
        return self.token

    def __getitem__(self, index):
        return np.array(open_rows("NpyRows", "path", self.path)[index])
