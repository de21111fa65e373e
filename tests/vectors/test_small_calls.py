"""Small calls take a fast path, which gives the same results as the general path; passing `out` selects the latter."""

import itertools

import numpy as np
import pytest

import cossim

FUNCTIONS = [cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (100,), (1536,), (2, 3), (64, 17), (65, 17), (2, 3, 4), (1, 1)], ids=str)
def test_same_as_the_general_path(rng, function, dtype, shape):
    x, y = rng.standard_normal((2, *shape)).astype(dtype)
    if len(shape) > 1:
        x[0] = 0
    result = function(x, y, dim=-1)
    out = np.empty(shape[:-1], dtype)
    function(x, y, dim=-1, out=out)
    assert result.dtype == dtype
    assert result.shape == shape[:-1]
    assert isinstance(result, np.ndarray) == (len(shape) > 1)
    np.testing.assert_array_equal(result, out)
    np.testing.assert_array_equal(function(x, y, len(shape) - 1), out)
    np.testing.assert_array_equal(function(x, y, axis=-1), out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.5, np.inf])
def test_special_values(dtype, eps):
    values = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e-30, 1e30, np.finfo(dtype).max, np.finfo(dtype).tiny]
    for a, b in itertools.product(values, repeat=2):
        x, y = np.array([a, 1e-3 * a, a], dtype), np.array([b, b, -b], dtype)
        out = np.empty((), dtype)
        cossim.cosine_similarity(x, y, 0, eps, out=out)
        np.testing.assert_array_equal(cossim.cosine_similarity(x, y, 0, eps), out)


def test_errors_are_those_of_the_general_path():
    x = np.ones(3)
    for given, error, words in (
        ((x, x, 1), IndexError, "dim 1 "),
        ((x, x, -2), IndexError, "dim -2 "),
        ((x, x, 2**70), IndexError, r"dim\b(?!.*\d{4})"),
        ((x, x, 0.0), TypeError, r"dim\b.*\bfloat\b"),
        ((x, x, True), TypeError, r"dim\b.*\bbool\b"),
        ((x, np.ones(4), 0), ValueError, r".*x1: shape \(3,\).*x2: shape \(4,\)"),
        ((x, x, 0, -1.0), ValueError, r"eps\b.*-1"),
    ):
        with pytest.raises(error, match=r"^cosine_similarity\(\): " + words):
            cossim.cosine_similarity(*given)
    assert cossim.cosine_similarity(x, x, np.int64(0)) == 1
    assert cossim.cosine_similarity(x, np.ones(1), 0) == pytest.approx(1)
    assert cossim.cosine_similarity(x[:0], x[:0], 0) == 0
