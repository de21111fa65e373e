"""The code of Dask tasks: runs a function on one pair of blocks, or merges partial results."""

import itertools
import os
from contextlib import nullcontext

import numpy as np

from cossim import _core, _errors
from cossim._threads import threads
from cossim.search.blocks import BlockwiseSearch, Options, Request, rows_of, too_many, with_places
from cossim.search.filters import filter_argument
from cossim.search.results import Pairs


def _one_thread():
    """Returns a context in which this thread's calls use one thread, or as many as COSSIM_NUM_THREADS if it is set."""
    return nullcontext() if os.environ.get("COSSIM_NUM_THREADS") else threads(1)


def _block(nested):
    """Returns a block from the lists around it: da.blockwise adds one for each axis that the result lacks."""
    while isinstance(nested, list):
        (nested,) = nested
    return nested


def run(call, *blocks):
    """Calls a function of the C core with blocks in C order: the order of a sum depends on the memory layout.

    Nearly all blocks are in C order already. The others are copied.
    """
    # np.ascontiguousarray would add a dimension to 0-d blocks.
    with _one_thread():
        return call(*(np.asarray(_block(block), order="C") for block in blocks))


def run_unknown(task, function, axes, sizes, *blocks):
    """Runs a task along axes of unknown size.

    axes: a dict from each such axis of the operands, counted from the last one, to the same axis of the result. sizes:
    the shape of each operand, with a negative number for an unknown size. Blocks of size 1 are doubled, and the result
    is cut: the C core drops axes of size 1, which would give another order of summation than for the whole arrays.
    """
    parts = [_block(block) for block in blocks]
    cut = {}
    for axis, place in axes.items():
        of_axis = [i for i, own in enumerate(sizes) if own[axis] < 0]
        found = {parts[i].shape[axis] for i in of_axis}
        if len(found) > 1:
            both = " and ".join(map(str, sorted(found)))
            raise ValueError(_errors.UNEQUAL_CHUNKS.format(function=function, sizes=both))
        if found == {1}:
            cut[place] = slice(1)
            for i in of_axis:
                parts[i] = np.concatenate((parts[i], parts[i]), axis)
    result = task(*parts)
    return result[tuple(cut.get(i, slice(None)) for i in range(result.ndim))] if cut else result


def unchanged(part, **reduction):
    """The first step of a da.reduction whose blocks are partial results already."""
    return part


def _split(kinds, blocks):
    """Returns (blocks of rows, filters by kind): the filters of a task come last. See dask_arrays._filter_blocks."""
    parts = [_block(block) for block in blocks]
    count = len(parts) - len(kinds)
    return parts[:count], dict(zip(kinds, parts[count:], strict=True))


def _filter(function, filters, queries, candidates, both):
    """Returns the Filter of a pair of blocks. filters["excluded"] has row numbers of the whole array."""
    excluded = filters.get("excluded")
    if excluded is not None:
        excluded = excluded - filters["first"]
        excluded = np.where((excluded >= 0) & (excluded < candidates), excluded, -1)
    return filter_argument(function, filters.get("mask"), excluded, queries, candidates, both)


def block_topk(k, eps, memory, binary, kinds, *blocks):
    """Finds, for each query of a block, the best k rows of one block of the corpus, or all rows if there are fewer.

    blocks: of the queries, of the corpus unless it is the queries, and of filters. Returns (values, indices,
    number of rows of the block). Indices count from the first row of the block.
    """
    (queries, *corpus), filters = _split(kinds, blocks)
    x, y = rows_of("topk", queries=queries, corpus=corpus[0] if corpus else None)
    rows = len(x if y is None else y)
    found = _filter("topk", filters, len(x), rows, False)
    with _one_thread():
        search = BlockwiseSearch(x, y, Options("topk", eps, memory, None, binary, found))
        best = search.topk(min(k, rows - 1 if y is None else rows))
    return best.values, best.indices, rows


def block_groups(threshold, eps, memory, binary, first_x, first_y, x, y=None):
    """Finds the groups within the rows of two blocks, whose first rows have these numbers in the whole array.

    With y=None, searches within one block. Returns (rows, labels): the rows that a pair connects to a lower row, and
    the lowest such row of each. The row numbers are those of the whole array.
    """
    x = rows_of("duplicate_groups", x=x)[0]
    with _one_thread():
        if y is None:
            search = BlockwiseSearch(x, None, Options("duplicate_groups", eps, memory, None, binary))
            labels = search.duplicate_groups(threshold)
            numbers = first_x + np.arange(len(x))
        else:
            y = rows_of("duplicate_groups", x=y)[0]
            numbers = np.concatenate((first_x + np.arange(len(x)), first_y + np.arange(len(y))))
            labels = np.arange(len(numbers))
            request = Request("duplicate_groups", y.array, x.array, len(x), 0, True, eps, None, binary=binary)
            _core.components(request, labels, threshold=threshold)
    (rows,) = np.nonzero(labels != np.arange(len(labels)))
    return numbers[rows], numbers[labels[rows]]


def merge_groups(parts):
    """Merges results of block_groups: returns the rows that any of them connects to a lower row, and the lowest one.

    Each round joins every group to the lowest of its neighbours. Two rounds at least halve the number of groups that
    still have a neighbour, because a group that is lower than its neighbours is joined by one of them, or becomes a
    neighbour of a still lower one.
    """
    rows, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    nodes, ends = np.unique(np.concatenate((rows, labels)), return_inverse=True)
    one, other = ends[: len(rows)], ends[len(rows) :]
    group = np.arange(len(nodes))
    while (group[one] != group[other]).any():
        low, high = np.minimum(group[one], group[other]), np.maximum(group[one], group[other])
        np.minimum.at(group, high, low)
        while (group != group[group]).any():
            group = group[group]
    (joined,) = np.nonzero(group != np.arange(len(nodes)))
    return nodes[joined], nodes[group[joined]]


def group_labels(first, rows, groups):
    """Returns the labels of some rows, given the result of merge_groups for the whole array."""
    labels = np.arange(first, first + rows)
    start, end = np.searchsorted(groups[0], (first, first + rows))
    labels[groups[0][start:end] - first] = groups[1][start:end]
    return labels


def merge_topk(k, parts, **reduction):
    """Merges results of block_topk for adjacent blocks: the k best values, descending, NaN last, ties by index.

    Each part is sorted in that way, and the parts are in order of their blocks, so a stable sort keeps ties in order.
    Places that no row fills come last.
    """
    rows = [part[2] for part in parts]
    first_rows = itertools.accumulate(rows, initial=0)
    values = np.concatenate([part[0] for part in parts], axis=1)
    numbered = [np.where(part[1] < 0, -1, part[1] + first) for part, first in zip(parts, first_rows, strict=False)]
    indices = np.concatenate(numbered, axis=1)
    best = np.argsort(-values, axis=1, kind="stable")  # NumPy sorts NaN last
    unfilled = np.take_along_axis(indices, best, axis=1) < 0
    best = np.take_along_axis(best, np.argsort(unfilled, axis=1, kind="stable"), axis=1)[:, :k]
    return np.take_along_axis(values, best, axis=1), np.take_along_axis(indices, best, axis=1), sum(rows)


def finish_topk(k, parts, **reduction):
    """Merges the last parts, and pads the result to k places."""
    values, indices, rows = merge_topk(k, parts)
    return *with_places("topk", values, indices, k), rows


def block_pairs(threshold, eps, memory, binary, max_pairs, kinds, *blocks):
    """Returns the pairs of two blocks, or only their number if that is above max_pairs.

    blocks: of x, of y unless y is x, then of filters. Row numbers count from the first rows of the blocks.
    """
    (x, *y), filters = _split(kinds, blocks)
    chosen = None
    if y and "x_mask" in filters:  # blocks of one array: the mask holds for both
        chosen = np.flatnonzero(filters["x_mask"])
        x = x[chosen]
        if "excluded" in filters:
            filters["excluded"] = filters["excluded"][chosen]
    left, right = rows_of("pairs_above", x=x, y=y[0] if y else None)
    found = _filter("pairs_above", filters, len(left), len(left if right is None else right), right is None)
    with _one_thread():
        search = BlockwiseSearch(left, right, Options("pairs_above", eps, memory, None, binary, found))
        pairs = search.pairs_above(threshold, None)
    if max_pairs is not None and len(pairs.i) > max_pairs:
        return len(pairs.i)  # check_count raises, so the pairs are not needed
    return pairs if chosen is None else pairs._replace(i=chosen[pairs.i])


def join_pairs(first_rows, max_pairs, parts, first_row):
    """Joins the pairs of one block of x, sorted by (i, j), or returns only their number if that is above max_pairs.

    parts: for each block of y the result of block_pairs, or None if that pair of blocks is left out. first_rows: the
    number of the first row of each block of y. first_row: that of the block of x. Row numbers of the result count
    from the first rows of the whole arrays.
    """
    count = sum(map(_count, parts))
    if max_pairs is not None and count > max_pairs:
        return count  # check_count raises, so the pairs are not needed
    found = [(pairs, first) for pairs, first in zip(parts, first_rows, strict=True) if pairs is not None]
    i = np.concatenate([pairs.i for pairs, _ in found])
    j = np.concatenate([pairs.j + first for pairs, first in found])
    values = np.concatenate([pairs.values for pairs, _ in found])
    order = np.argsort(i, kind="stable")
    return Pairs(i[order] + first_row, j[order], values[order])


def _count(pairs):
    return 0 if pairs is None else pairs if isinstance(pairs, int) else len(pairs.i)


def count_pairs(pairs):
    return np.array([_count(pairs)])


def check_count(threshold, max_pairs, pairs, total):
    """Returns the pairs of one block of x, unless the total of all blocks is above max_pairs."""
    if total > max_pairs:
        raise too_many("pairs_above", int(total), threshold, max_pairs)
    return pairs
