"""The code of Dask tasks: runs a function on one pair of blocks, or merges partial results."""

import os
from contextlib import nullcontext

import numpy as np
from dask.base import tokenize

from cossim._threads import threads
from cossim.search.blocks import Pairs, TopK, open_rows, pairs_rows, rows_of, too_many, topk_rows


def _one_thread():
    """Returns a context in which this thread's calls use one thread, or as many as COSSIM_NUM_THREADS if it is set."""
    return nullcontext() if os.environ.get("COSSIM_NUM_THREADS") else threads(1)


def run(call, *blocks):
    # The order of a sum depends on the memory layout of its terms, so blocks that are not in C order are copied. Nearly
    # all blocks are in C order. (np.ascontiguousarray would add a dimension to 0-d blocks.)
    with _one_thread():
        return call(*(np.asarray(block, order="C") for block in blocks))


def block_topk(k, options, first, queries, corpus=None):
    """Returns the best k rows of one block of the corpus, or all rows. Indices are those of the whole corpus."""
    x, y = rows_of("topk", queries=queries, corpus=corpus)
    candidates = len(x) - 1 if y is None else len(y)
    with _one_thread():
        values, indices = topk_rows("topk", x, y, min(k, candidates), **options, report=None)
    return TopK(values, indices + first)


def merge_topk(k, parts):
    """Merges several TopK into one with the k best values: descending, NaN last, ties in order of index.

    Each part is sorted that way and the parts are in order of their candidates, so a stable sort keeps ties in order.
    """
    values = np.concatenate([part.values for part in parts], axis=1)
    indices = np.concatenate([part.indices for part in parts], axis=1)
    best = np.argsort(-values, axis=1, kind="stable")[:, :k]  # NumPy sorts NaN last
    return TopK(np.take_along_axis(values, best, axis=1), np.take_along_axis(indices, best, axis=1))


def block_pairs(threshold, options, max_pairs, firsts, x, y=None):
    """Returns the pairs of two blocks in row numbers of the whole arrays, or just their count if above max_pairs."""
    x, y = rows_of("pairs_above", x=x, y=y)
    with _one_thread():
        i, j, values = pairs_rows("pairs_above", x, y, threshold, **options, max_pairs=None, report=None)
    if max_pairs is not None and len(i) > max_pairs:
        return len(i)  # check_count raises, so the pairs are not needed
    return Pairs(i + firsts[0], j + firsts[1], values)


def count_pairs(parts):
    return sum(part if isinstance(part, int) else len(part.i) for part in parts)


def check_count(threshold, max_pairs, counts):
    found = sum(counts)
    if found > max_pairs:
        raise too_many("pairs_above", found, threshold, max_pairs)


def join_pairs(parts, checked):
    """Joins the pairs of one block of x with all blocks of y, in order of j. checked is only waited for."""
    i, j, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(i, kind="stable")
    return Pairs(i[order], j[order], values[order])


class NpyRows:
    """The rows of a .npy file for dask.array.from_array. Each task reads its rows, so it needs access to the file."""

    def __init__(self, path, array):
        self.path, self.shape, self.dtype, self.ndim = path, array.shape, array.dtype, array.ndim
        status = os.stat(path)
        self.token = tokenize(path, status.st_mtime_ns, status.st_size)

    def __dask_tokenize__(self):
        return self.token

    def __getitem__(self, index):
        return np.array(open_rows("NpyRows", "path", self.path)[index])
