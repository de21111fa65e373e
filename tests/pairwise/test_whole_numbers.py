"""Cosines of whole-number rows are correctly rounded in all pairs and in search, so that equal cosines tie."""

import functools
import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from conftest import INSTRUCTION_SETS
from processes import python_on
from reference import best_of, same

import cossim

GRID = np.array([row for row in itertools.product(range(-3, 4), repeat=3) if any(row)])
DTYPES = [np.float64, np.int8, np.int16, np.int32, np.int64, ">i4", ">f8"]


def rounded_root(square):
    """The double nearest to the square root of a fraction (numerator, denominator) of whole numbers."""
    numerator, denominator = square
    root = math.isqrt((numerator << 2 * 120) // denominator)
    exact = root * root * denominator == numerator << 2 * 120
    return (2 * root + (not exact)) / (1 << 121)  # a last bit of 1 stands for the digits cut off, so no tie is rounded


def exact_cosines(x, y):
    """Cosines of rows of whole numbers, correctly rounded. Python's integers have no limit."""
    x, y = x.astype(object), y.astype(object)
    squares = np.outer((x * x).sum(1), (y * y).sum(1))
    dots = x @ y.T
    roots = [rounded_root(pair) for pair in zip((dots * dots).flat, squares.flat, strict=True)]
    return np.copysign(roots, dots.astype(float).ravel()).reshape(dots.shape)


@functools.cache
def grid_cosines():
    return exact_cosines(GRID, GRID)


def poisson(rng, rows=120, depth=20):
    x = rng.poisson(3, (rows, depth))
    return x[x.any(1)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_grid_of_small_vectors(dtype):
    x = GRID.astype(dtype)
    np.testing.assert_array_equal(cossim.pairwise(x, x.copy()), grid_cosines())
    np.testing.assert_array_equal(cossim.pairwise(x), grid_cosines())


def test_counts_and_large_numbers(rng):
    counts, large = poisson(rng), rng.integers(-(10**5), 10**5, (90, 60))
    for dtype in (np.float64, np.uint8, np.uint16, np.int64):
        np.testing.assert_array_equal(cossim.pairwise(counts.astype(dtype)), exact_cosines(counts, counts))
    np.testing.assert_array_equal(cossim.pairwise(large[:50], large[40:]), exact_cosines(large[:50], large[40:]))


def test_float32_results_are_the_rounded_ones(rng):
    x = poisson(rng).astype(np.float32)
    np.testing.assert_array_equal(cossim.pairwise(x), exact_cosines(x.astype(int), x.astype(int)).astype(np.float32))


@pytest.mark.parametrize("depth", [1, 3, 255, 300, 1100])
def test_any_length_and_layout(rng, depth):
    x = rng.integers(-50, 50, (40, depth))
    x[:, 0] += 100
    expected = exact_cosines(x, x)
    for dtype in (np.float64, np.int16):
        a = x.astype(dtype)
        for rows in (a, np.asfortranarray(a), np.repeat(a, 2, axis=1)[:, ::2]):
            np.testing.assert_array_equal(cossim.pairwise(rows, a), expected)


def test_mixed_types(rng):
    x = rng.integers(-50, 50, (30, 20))
    for left, right in itertools.product((np.int8, np.float64, np.float32, ml_dtypes.bfloat16), repeat=2):
        if np.float64 in (left, right):
            np.testing.assert_array_equal(cossim.pairwise(x.astype(left), x.astype(right)), exact_cosines(x, x))


def test_other_rows_keep_their_formula(rng):
    """Rows of whole numbers do not change the scores of other rows."""
    x = np.concatenate([GRID[:50], rng.standard_normal((50, 3))])[rng.permutation(100)]
    norms = np.sqrt((x * x).sum(1))
    whole = (x == np.rint(x)).all(1)
    got = cossim.pairwise(x, x.copy())
    np.testing.assert_allclose(got, x @ x.T / np.outer(norms, norms), rtol=0, atol=1e-15)
    pairs = np.ix_(whole, whole)
    np.testing.assert_array_equal(got[pairs], exact_cosines(x[whole].astype(int), x[whole].astype(int)))


def test_norms_below_eps_are_clamped():
    x = np.array([[1, 0, 0], [0, 0, 0], [3, 4, 0]])
    expected = np.array([[1 / 25, 0, 3 / 25], [0, 0, 0], [3 / 25, 0, 1]])
    np.testing.assert_array_equal(cossim.pairwise(x, x.copy(), eps=5.0), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_search_finds_fractions_and_ties(dtype):
    x = np.array([[1, 1, 0], [0, 1, 1]], dtype)
    found = cossim.pairs_above(x, 0.5)
    assert (found.i.tolist(), found.j.tolist(), found.values.tolist()) == ([0], [1], [0.5])
    rows = np.array([[0, 7, 7], [1, 0, 0], [0, 1, 1], [0, 3, 3], [0, 1, 0]], dtype)
    top = cossim.topk(np.array([[0, 0, 1]], dtype), rows, 4)
    assert top.indices.tolist() == [[0, 2, 3, 1]]
    assert top.values.tolist() == [[math.sqrt(0.5)] * 3 + [0.0]]


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.int8])
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_search_has_the_scores_of_all_pairs(rng, dtype, queries):
    """This includes survivors of the prefilter, which are scored one by one."""
    x = rng.poisson(2, (3000, 24)).astype(dtype)
    q = x[:queries].copy()
    expected = best_of(cossim.pairwise(q, x), 20, False)
    same(cossim.topk(q, x, 20), expected)
    same(cossim.Index(x).topk(q, 20), expected)


CHECK = """
import sys
import numpy as np
from cossim import _core, pairwise
with np.load(sys.argv[1]) as cases:
    for name in ("grid", "counts"):
        for dtype in (np.float64, np.int8, np.int32):
            np.testing.assert_array_equal(pairwise(cases[name].astype(dtype)), cases[name + " expected"])
print(_core.config()["isa"])
"""


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set(rng, tmp_path, isa):
    cases = {"grid": GRID, "grid expected": grid_cosines(), "counts": poisson(rng, 40, 300)}
    cases["counts expected"] = exact_cosines(cases["counts"], cases["counts"])
    np.savez(tmp_path / "cases.npz", **cases)
    python_on(isa, "-c", CHECK, tmp_path / "cases.npz")
