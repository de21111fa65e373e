"""Reference implementations of the public functions in plain NumPy and Python, slow but simple.

Elements are widened to longdouble (64 bits of fraction on x86), or to fractions in `exact_*`.
"""

import math
from fractions import Fraction

import numpy as np


def wide(x):
    """The array in longdouble, in which no product or square of doubles overflows."""
    x = np.asarray(x)
    return (x.astype(np.float32) if x.dtype.name == "bfloat16" else x).astype(np.longdouble)


def vector_norm(x, dim=None, keepdim=False):
    x = wide(x)
    with np.errstate(all="ignore"):
        return np.sqrt(np.sum(x * x, axis=dim, keepdims=keepdim))


def vecdot(x1, x2, dim=-1):
    x1, x2 = np.broadcast_arrays(wide(x1), wide(x2))
    with np.errstate(all="ignore"):
        return np.sum(x1 * x2, axis=dim)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    x1, x2 = np.broadcast_arrays(wide(x1), wide(x2))
    with np.errstate(all="ignore"):
        below = np.maximum(vector_norm(x1, dim), eps) * np.maximum(vector_norm(x2, dim), eps)
        return np.clip(vecdot(x1, x2, dim) / below, -1, 1)


def cosine_distance(x1, x2, dim=1, eps=1e-8):
    return 1 - cosine_similarity(x1, x2, dim, eps)


def normalize(x, dim=1, eps=1e-12):
    with np.errstate(all="ignore"):
        return wide(x) / np.maximum(vector_norm(x, dim, keepdim=True), eps)


def pairwise(x, y=None, eps=1e-8):
    """One vector in place of a matrix has no axis in the result."""
    x, y = np.asarray(x), np.asarray(x if y is None else y)
    scores = cosine_similarity(np.atleast_2d(x)[:, None], np.atleast_2d(y)[None], 2, eps)
    return scores.reshape(x.shape[:-1] + y.shape[:-1])


def exact_dot(x, y):
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)), Fraction(0))


def exact_cosine(x, y, digits=60):
    """Cosine of two vectors (no eps) to `digits` decimal digits, computed with fractions."""
    xy, xx, yy = exact_dot(x, y), exact_dot(x, x), exact_dot(y, y)
    if xx == 0 or yy == 0:
        return Fraction(0)
    square = xy * xy / (xx * yy)
    scale = 10 ** (2 * digits)
    root = Fraction(math.isqrt(square.numerator * scale // square.denominator), 10**digits)
    return root if xy >= 0 else -root


def topk(queries, corpus, k, eps=1e-8):
    """(scores, indices) by the whole score matrix."""
    scores = pairwise(queries, corpus, eps)
    return best_of(scores, k, corpus is None)


def best_of(scores, k, without_own):
    """(scores, indices) of the first k of a stable sort of each row of scores, with NaN last."""
    keys = np.where(np.isnan(scores), -2, scores)
    if without_own:
        np.fill_diagonal(keys, -3)
    order = np.argsort(-keys, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


def same(found, expected):
    """Asserts that the arrays of two results are equal, with their shapes and dtypes."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def bits(result):
    """A form of any result that compares equal if and only if all bits are equal."""
    if isinstance(result, (np.ndarray, np.generic, float)):
        array = np.asarray(result)
        return array.dtype.name, array.shape, array.tobytes()
    if isinstance(result, dict):
        return [(key, bits(part)) for key, part in result.items()]
    if isinstance(result, (tuple, list)):
        return [bits(part) for part in result]
    if hasattr(result, "corpus"):  # an Index
        return bits([result.corpus, result._state.codes, result._state.scales])
    if callable(result) or hasattr(result, "__next__"):
        return type(result).__name__
    return repr(result)


def reaching(scores, threshold, with_itself):
    """(i, j, values) of the scores that reach a threshold; within one matrix only those above the diagonal."""
    reached = scores >= scores.dtype.type(threshold)
    i, j = np.nonzero(np.triu(reached, 1) if with_itself else reached)
    return i, j, scores[i, j]


def groups(scores, threshold):
    """For each row, the lowest row to which pairs that reach the threshold connect it."""
    i, j, _ = reaching(scores, threshold, True)
    labels, before = np.arange(len(scores)), None
    while before is None or (labels != before).any():
        before = labels.copy()
        low = np.minimum(labels[i], labels[j])
        np.minimum.at(labels, i, low)
        np.minimum.at(labels, j, low)
    return labels
