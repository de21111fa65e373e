"""The directions of heads: those in which a sample of the rows has the most energy, if heads save time.

A head is a row's coordinates along a few orthonormal directions. csrc/search/head.h bounds scores by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core
from cossim._arithmetic import fixed_arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Finding directions takes time in proportion to the square of D. For an Index it is a small part of the build from
# INDEX_ROWS_PER_ELEMENT * D rows on; for a search of all pairs, from SEARCH_ROWS rows on.
INDEX_ROWS_PER_ELEMENT = 256
SEARCH_ROWS = 16000
SEARCH_PAIRS = SEARCH_ROWS**2 // 2  # the same for a search in an Index that has no heads
LEAST, MOST = 32, 128  # directions; more would make the build slower than 1 GB/s
STEP = 4  # HEAD_STEP of csrc/search/head.h
THRESHOLD = 0.9  # threshold of a typical search for near-duplicates
LEAST_THRESHOLD = 0.6  # a search below this threshold makes no heads
MOST_ERROR = 0.1  # MAX_ROTATION_ERROR of csrc/search/head.h
_FIT, _ROWS = 2048, 512  # rows from which directions are calculated; other rows on which they are tested
_BLOCK = 256  # rows of the sample that are scaled at a time
_MOST_PASS = 0.01
# Known directions stay if they pass at most 1.5 times the share of pairs that new directions pass, plus 0.0005.
_KEPT, _KEPT_SHARE = 1.5, 0.0005
_ERRORS = 0.03  # approximate rounding error of a head's codes
_ITERATIONS, _MOST_PASSES = 4, 5
_LEAST_ERROR = 1e-4  # a larger error of the directions would let more pairs pass


def directions_for(
    corpus: NDArray[Any], least_rows: int, known: NDArray[np.float32] | None = None
) -> NDArray[np.float32] | None:
    """Returns the directions (H, D) of the corpus's heads, or None if heads would rule out too few pairs.

    A corpus of fewer than least_rows rows has none. known are directions of other rows: they are returned where they
    rule out about as many pairs as new ones, and where the corpus is too small for a measurement. A measurement counts
    the pairs of a sample of rows whose bound reaches THRESHOLD.
    """
    rows, dim = corpus.shape
    # Heads and codes, with their scales, take at most 0.3 of the bytes of float32 rows:
    # size + dim + 20 bytes a row, and 4 * dim * size for the directions.
    size = min(MOST, (dim - 100) * rows // (5 * (rows + 4 * dim))) // STEP * STEP
    if rows < max(least_rows, _FIT + _ROWS) or size < LEAST or corpus.itemsize < 4 or dim > 4096:
        return known
    with fixed_arithmetic():
        sample = _unit(corpus[:: rows // (_FIT + _ROWS)][: _FIT + _ROWS])
        if len(sample) < _FIT:  # most rows are zero or not finite
            return known
        last = len(sample) * _FIT // (_FIT + _ROWS)
        fit, tried = sample[:last], sample[last:]
        directions = _principal(fit, size)
        if not rotation_error(directions) < _LEAST_ERROR:
            return known
        share = _pass(directions, tried)
        if known is not None and _pass(known, tried) < min(_MOST_PASS, _KEPT * share + _KEPT_SHARE):
            return known
        return directions if share < _MOST_PASS else None


def empty_heads(
    rows: int, directions: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], float, NDArray[np.uint8], NDArray[np.float32]] | None:
    """Returns directions, their error, and empty heads (N, H) and scales (N, 3), for _core.quantize_heads to fill."""
    if directions is None:
        return None
    from cossim.search.index_file import aligned_empty  # on first use, because few searches make heads

    size = len(directions)
    heads = aligned_empty(rows * size).reshape(rows, size)
    return directions, rotation_error(directions), heads, np.empty((rows, 3), np.float32)


def rotation_error(directions: NDArray[np.float32]) -> float:
    """Returns an upper bound of the largest singular value of R R^T - I, where R are the directions."""
    with fixed_arithmetic():
        exact = directions.astype(np.float64)
        # The Frobenius norm. 1e-10 is far above the rounding of sums of at most 4096 products in double.
        gram = _product(exact, exact) - np.eye(len(exact))
        return float(np.sqrt(np.square(gram).sum())) * (1 + 1e-6) + 1e-10


def _product(left, right):
    """Returns left @ right.T by the C core: NumPy's BLAS would run threads of its own."""
    return _core.vecdot(left[:, None], right[None])


def _unit(rows):
    """Returns the rows scaled to norm 1 as float32, without rows that are zero or not finite."""
    return np.concatenate([_unit_block(rows[first : first + _BLOCK]) for first in range(0, len(rows), _BLOCK)])


def _unit_block(rows):
    rows = rows if rows.dtype == np.float32 else np.asarray(rows, np.float64)
    rows = (rows / np.abs(rows).max(axis=1, keepdims=True)).astype(np.float32)
    rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return rows[np.isfinite(rows).all(axis=1)]


def _principal(unit, size):
    """Returns (size, D) orthonormal directions whose span holds about the most energy of rows: subspace iteration.

    The energy is spread over all directions, so that codes of 8 bits with one scale fit all coordinates of a head.
    """
    columns = np.ascontiguousarray(unit.T)
    energy = _product(columns, columns)
    basis = np.random.default_rng(0).standard_normal((size, len(energy)), np.float32)
    for _ in range(_ITERATIONS):
        basis = _orthonormal(_product(basis, energy))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size)
    at = np.arange(size)
    mixture = np.cos(np.pi / size * (at[:, None] + 0.5) * (at + 0.5)) * np.sqrt(2 / size) * signs  # DCT-IV
    basis = _product(mixture.astype(np.float32), np.ascontiguousarray(basis.T))
    for _ in range(_MOST_PASSES):  # one is enough unless the rows span fewer dimensions
        basis = _orthonormal(basis)
        if rotation_error(basis) < _LEAST_ERROR:
            break
    return basis


def _orthonormal(basis):
    """Returns an orthonormal basis of the span of the rows: L^-1 basis, where L L^T is the matrix of their products."""
    size = len(basis)
    at = np.arange(size)
    both = np.concatenate([_product(basis, basis), np.eye(size, dtype=np.float32)], axis=1).astype(np.float64)
    least = 1e-6 * both[at, at].mean()  # for rows that depend on one another
    both[at, at] += least
    for i in range(size):  # elimination turns [L L^T, I] into [L^T, L^-1]
        both[i, i : size + i + 1] /= np.sqrt(max(both[i, i], least))
        both[i + 1 :, i + 1 : size + i + 1] -= both[i, i + 1 : size, None] * both[i, i + 1 : size + i + 1]
    return _product(both[:, size:].astype(np.float32), np.ascontiguousarray(basis.T))


def _pass(directions, unit):
    """Returns the share of pairs of rows that heads pass in a search for pairs above THRESHOLD."""
    heads = _product(unit, directions)
    tails = np.sqrt(np.maximum(1 - np.square(heads).sum(axis=1), 0))
    bounds = _product(heads, heads) + np.multiply.outer(tails, tails)
    np.fill_diagonal(bounds, -1.0)
    return float((bounds >= THRESHOLD - _ERRORS).mean())
