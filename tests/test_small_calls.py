"""Small calls take a straight way of their own: it gives what the general way gives, which `out` asks for."""

import itertools

import numpy as np
import pytest

import cossim

FUNCTIONS = [cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (100,), (1536,), (2, 3), (64, 17), (65, 17), (2, 3, 4), (1, 1)], ids=str)
def test_same_as_the_general_way(rng, function, dtype, shape):
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


def test_what_is_wrong_is_told_as_ever():
    x = np.ones(3)
    with pytest.raises(IndexError, match="dim 1 is out of range"):
        cossim.cosine_similarity(x, x)
    with pytest.raises(IndexError, match="dim -2"):
        cossim.cosine_similarity(x, x, -2)
    with pytest.raises(IndexError, match="out of range"):
        cossim.cosine_similarity(x, x, 2**70)
    with pytest.raises(TypeError, match="dim must be an integer"):
        cossim.cosine_similarity(x, x, 0.0)
    with pytest.raises(TypeError, match="dim must be an integer"):
        cossim.cosine_similarity(x, x, True)
    with pytest.raises(ValueError, match="do not broadcast"):
        cossim.cosine_similarity(x, np.ones(4), 0)
    with pytest.raises(ValueError, match="eps must be a number >= 0"):
        cossim.cosine_similarity(x, x, 0, -1.0)
    assert cossim.cosine_similarity(x, x, np.int64(0)) == 1
    assert cossim.cosine_similarity(x, np.ones(1), 0) == pytest.approx(1)
    assert cossim.cosine_similarity(x[:0], x[:0], 0) == 0
