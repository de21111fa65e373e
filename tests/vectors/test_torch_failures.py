"""Results are right for shapes and values that torch gets or got wrong. Tests are numbered by torch's issues."""

import numpy as np
import pytest
from oracle import F, torch

import cossim


def test_55273_broadcasting_of_fewer_dimensions():
    x, y = np.random.default_rng(0).standard_normal((2, 5, 4)), np.random.default_rng(1).standard_normal(4)
    expected = np.einsum("abc,c->ab", x, y) / np.linalg.norm(x, axis=2) / np.linalg.norm(y)
    np.testing.assert_allclose(cossim.cosine_similarity(x, y, 2), expected, atol=1e-15)
    np.testing.assert_allclose(cossim.cosine_similarity(y, x, -1), expected, atol=1e-15)


def test_109333_the_reduced_dimension_broadcasts():
    """Compared with three elements, one element counts as three equal ones: the score is 1, not torch's 1.7321."""
    x, y = np.ones((1, 1)), np.ones((1, 3))
    assert cossim.cosine_similarity(x, y, 1) == [1.0]
    assert cossim.cosine_similarity(y, x, 1) == [1.0]
    assert cossim.cosine_similarity(np.ones((2, 1, 1)), np.ones((1, 2, 3)), 2).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    np.testing.assert_allclose(
        cossim.cosine_similarity(np.full((4, 1), 2.0), np.array([1.0, 2.0, 3.0]), 1), 6 / np.sqrt(3 * 14)
    )


def test_61454_integers():
    """int8 gave 3.5e12 in torch, which now refuses integers; here they count as float64."""
    x, y = np.array([[100, -100, 90]], np.int8), np.array([[127, -128, 1]], np.int8)
    expected = (100 * 127 + 100 * 128 + 90) / np.sqrt((100**2 * 2 + 90**2) * (127**2 + 128**2 + 1))
    assert cossim.cosine_similarity(x, y)[0] == pytest.approx(expected, abs=1e-15)
    with pytest.raises(RuntimeError):
        F.cosine_similarity(torch.from_numpy(x), torch.from_numpy(y))


def test_78064_self_similarity_above_1():
    """In float32 torch gives more than 1 for many vectors with themselves, and arccos of that is NaN."""
    x = np.random.default_rng(0).standard_normal((2000, 50)).astype(np.float32)
    theirs = F.cosine_similarity(torch.from_numpy(x), torch.from_numpy(x)).numpy()
    assert (theirs > 1).any()  # the installed torch has this error too
    ours = cossim.cosine_similarity(x, x)
    assert (ours == 1).all()
    assert (np.arccos(ours) == 0).all()
