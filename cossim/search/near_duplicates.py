"""Near-duplicates: deduplicate keeps one row of each, and communities groups rows around centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cossim import _core
from cossim._arguments import eps_argument, size_argument
from cossim._arithmetic import fixed_arithmetic
from cossim._progress import reporting
from cossim.search import blocks
from cossim.search.filters import chosen_rows

if TYPE_CHECKING:
    from typing import SupportsIndex

    from numpy.typing import NDArray

    from cossim._typing import Array, Number, Progress, Rows

# deduplicate takes this many rows at a time: it compares them with the rows kept so far, then with each other. All
# similar pairs of one block are in memory at once.
BLOCK_ROWS = 1024
OWN_ROWS = 64  # rows of one call of pairwise, whose diagonal is each row's similarity to itself


class Deduplicated(NamedTuple):
    """The result of deduplicate: two arrays of int64.

    Attributes
    ----------
    kept : numpy.ndarray
        Numbers of the rows to keep, ascending.
    like : numpy.ndarray of shape (N,)
        For each row, the kept row that it is a near-duplicate of: the first one that reaches the threshold. For a kept
        row, the row itself.
    """

    kept: NDArray[np.int64]
    like: NDArray[np.int64]


def deduplicate(
    x: Rows,
    threshold: Number,
    *,
    where: Array | None = None,
    exclude: Array | None = None,
    eps: Number = _core.DEFAULT_EPS,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> Deduplicated:
    """Keeps the first of near-duplicates: a row is dropped if it is like an earlier row that was kept.

    Rows are taken in order. A row is kept unless its cosine similarity to an earlier kept row is at least threshold. So
    no two kept rows reach the threshold, and every dropped row reaches it with a kept one. This is not so for
    ``duplicate_groups``, which joins chains of pairs: there, rows of one group can be far apart.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors, as for pairs_above.
    threshold : float
        In [-1, 1]. It is rounded to the dtype of the scores.
    where : array_like of bool (N,) or of int (n,), optional
        The rows to compare: a mask or row numbers. Other rows are left out.
    exclude : array_like of int (m,), optional
        Rows that are left out; -1 stands for none.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    memory : int, optional
        Bound of the working set in bytes, without the rows that are kept, which are copied.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of rows done and their total. Ctrl-C stops
        the call.

    Returns
    -------
    Deduplicated
        kept: int64, the rows to keep, ascending. like: int64, shape (N,), for each row the first kept row that it is
        like, or its own number; -1 for rows that are left out.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        threshold is outside [-1, 1], where or exclude do not fit x, or a file has no rows of vectors.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 5.0], [2.0, 0.1]])
    >>> kept, like = cossim.deduplicate(x, 0.99)
    >>> kept
    array([0, 1])
    >>> like
    array([0, 1, 1, 0])
    >>> x[kept]
    array([[1., 0.],
           [0., 2.]])
    """
    name = "deduplicate"
    threshold, eps = blocks.threshold_argument(name, threshold), eps_argument(name, eps)
    memory = blocks.memory_argument(name, memory)
    (rows,) = blocks.rows_of(name, x=x)
    blocks.check_elements(name, "x", rows.array)
    mask = chosen_rows(name, where, exclude, len(rows))
    mask = np.ones(len(rows), bool) if mask is None else np.array(mask)
    like = np.where(mask, np.arange(len(rows)), -1)
    kept, kept_rows = np.empty(0, np.int64), np.empty((0, rows.array.shape[1]), rows.array.dtype)
    with reporting(progress, name, "rows") as report:
        for first, whole in rows.blocks(BLOCK_ROWS, wanted=lambda first, last: bool(mask[first:last].any())):
            chosen = np.flatnonzero(mask[first : first + len(whole)])
            block, numbers = whole if len(chosen) == len(whole) else whole[chosen], first + chosen
            match = np.full(len(block), -1, np.int64)
            if len(kept):
                request = blocks.Request(name, kept_rows[: len(kept)], block, 0, 0, False, eps, None)
                _core.first_match(request, match, threshold=threshold)
            like[numbers[match >= 0]] = kept[match[match >= 0]]
            rest = np.flatnonzero(match < 0)
            first_like = _first_like(name, block[rest], threshold, eps)
            like[numbers[rest]] = numbers[rest[first_like]]
            new = rest[first_like == np.arange(len(rest))]
            kept_rows = _with_rows(kept_rows, len(kept), block[new])
            kept = np.concatenate((kept, numbers[new]))
            if report is not None:
                report(first + len(whole), len(rows))
    return Deduplicated(kept, like)


def _first_like(name, rows, threshold, eps):
    """Returns for each of these rows the first kept row that it is like, or the row itself if it is kept."""
    like = np.arange(len(rows), dtype=np.int64)
    if len(rows) > 1:
        (x,) = blocks.rows_of(name, x=rows)
        i, j, _ = blocks.BlockwiseSearch(x, None, blocks.Options(name, eps)).pairs_above(threshold, None)
        ends = np.searchsorted(i, like, "right")
        for row in i[np.diff(i, prepend=-1) > 0].tolist():  # in ascending order, so like[row] is final
            if like[row] == row:
                partners = j[ends[row - 1] if row else 0 : ends[row]]
                like[partners] = np.minimum(like[partners], row)
    return like


def _with_rows(array, count, rows):
    """Returns an array whose first rows are the first `count` of array, and then `rows`. It grows by doubling."""
    needed = count + len(rows)
    if needed > len(array):
        grown = np.empty((max(needed, 2 * len(array)), array.shape[1]), array.dtype)
        grown[:count] = array[:count]
        array = grown
    array[count:needed] = rows
    return array


def communities(
    x: Rows,
    threshold: Number,
    min_size: SupportsIndex = 10,
    *,
    eps: Number = _core.DEFAULT_EPS,
    max_pairs: SupportsIndex | None = None,
    memory: SupportsIndex | None = None,
    progress: Progress | None = None,
) -> list[NDArray[np.int64]]:
    """Finds groups of rows that are all near one of them, the centre.

    A row and all rows whose cosine similarity to it is at least threshold are its neighbourhood. Neighbourhoods of at
    least min_size rows are taken from the largest to the smallest. Each gives up the rows that an earlier one has
    taken, and is a community if min_size rows are left. This is the algorithm of sentence-transformers'
    ``util.community_detection``, without its N x N scores.

    Parameters
    ----------
    x : array_like of shape (N, D), or path
        Rows are vectors, as for pairs_above.
    threshold : float
        In [-1, 1]. It is rounded to the dtype of the scores.
    min_size : int
        At least 1. Above N it counts as N.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    max_pairs : int, optional
        If more pairs of rows reach the threshold, the ValueError says how many there are. All of them are held in
        memory, with 28 bytes each.
    memory : int, optional
        Bound of the working set in bytes, without the pairs.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of scores done and their total. Ctrl-C
        stops the call.

    Returns
    -------
    list of numpy.ndarray of int64
        Row numbers of each community by falling similarity to the centre; equal similarities by number. The centre is
        the first, unless an earlier community has taken it or its norm is below eps. The largest community comes first.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        threshold is outside [-1, 1], min_size is below 1, or there are more than max_pairs pairs.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 0.1], [1.0, 0.2], [0.1, 2.0], [1.0, 1.0]])
    >>> cossim.communities(x, 0.97, min_size=2)
    [array([0, 2, 3]), array([1, 4])]
    """
    name = "communities"
    threshold, eps = blocks.threshold_argument(name, threshold), eps_argument(name, eps)
    min_size = size_argument(name, "min_size", min_size, 1)
    max_pairs, memory = blocks.max_pairs_argument(name, max_pairs), blocks.memory_argument(name, memory)
    (rows,) = blocks.rows_of(name, x=x)
    blocks.check_elements(name, "x", rows.array)
    count = len(rows)
    if not count:
        return []
    min_size = min(min_size, count)
    with reporting(progress, name) as report:
        search = blocks.BlockwiseSearch(rows, None, blocks.Options(name, eps, memory, report))
        i, j, values = search.pairs_above(threshold, max_pairs)
    with fixed_arithmetic():
        # A row is in its own neighbourhood where its own score reaches the threshold.
        own = np.concatenate([own_scores(block, eps, values.dtype) for _, block in rows.blocks(BLOCK_ROWS)])
        members, pair, centres, ends, found = _core.communities(i, j, own >= values.dtype.type(threshold), min_size)
        centres, ends = centres[:found], ends[:found]
        if not found:
            return []
        members, pair = members[: ends[-1]], pair[: ends[-1]]
        label = np.repeat(np.arange(found), np.diff(ends, prepend=0))
        alone = pair < 0
        scores = np.append(values, 0)[pair]  # the last element stands for the centres
        scores[alone] = own[members[alone]]
        order = np.lexsort((members, ~alone, -scores, label))  # the centre comes before other rows of its score
        groups = np.split(members[order], ends[:-1])
    return sorted(groups, key=len, reverse=True)


def own_scores(rows, eps, dtype):
    """Returns the diagonal of pairwise(rows). Where eps replaces norms, cosine_similarity may round differently."""
    blocks = (rows[first : first + OWN_ROWS].astype(dtype) for first in range(0, len(rows), OWN_ROWS))
    return np.concatenate([_core.pairwise(block, eps=eps).diagonal() for block in blocks])
