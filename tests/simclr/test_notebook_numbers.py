"""The functions reproduce all digits that a learner's notebook printed."""

import numpy as np
import pytest

import cossim
from cossim.cli import demo_command

A = np.array([[-1.4957, -1.9285, -0.2320], [-0.3472, -1.1279, 0.3151]], np.float32)
B = np.array([[-0.9709, 0.4931, -0.2877], [1.9940, 1.8288, -0.5981]], np.float32)


def test_from_four_digits():
    np.testing.assert_allclose(cossim.vector_norm(A, 1), [2.451584, 1.2214428], atol=1e-4)
    np.testing.assert_allclose(cossim.vector_norm(B, 1), [1.1263523, 2.7709858], atol=1e-4)
    np.testing.assert_allclose(cossim.vecdot(A, B), [0.5679307, -2.9434323], atol=2e-4)
    np.testing.assert_allclose(cossim.CosineSimilarity(dim=1, eps=1e-6)(A, B), [0.2057, -0.8697], atol=6e-5)


def test_with_the_digits_the_notebook_did_not_print():
    np.testing.assert_array_less(np.abs(demo_command.MATRIX_A - A), 5e-5)
    np.testing.assert_array_less(np.abs(demo_command.MATRIX_B - B), 5e-5)
    assert [str(n) for n in cossim.vector_norm(demo_command.MATRIX_A, 1)] == ["2.451584", "1.2214428"]
    assert [str(n) for n in cossim.vector_norm(demo_command.MATRIX_B, 1)] == ["1.1263523", "2.7709858"]
    assert [str(n) for n in cossim.vecdot(demo_command.MATRIX_A, demo_command.MATRIX_B)] == ["0.5679307", "-2.9434323"]


def test_the_loop_of_the_notebook(rng):
    """The notebook divides by the Frobenius norm of its (64, 100) matrix x; the norm of one row would be right."""
    z = np.abs(rng.standard_normal((64, 100))).astype(np.float32)
    a, b = z[None], z[:, None]
    matrix = cossim.cosine_similarity(a, b, dim=2)
    assert matrix.shape == (64, 64)
    looped = np.array(demo_command.loop_of_the_notebook(a, b))[:, :, 0]
    assert looped.shape == (64, 64)
    norms = np.linalg.norm(z, axis=1)
    assert np.abs(looped - matrix).max() > 0.5
    np.testing.assert_allclose(looped * np.linalg.norm(z) / norms, matrix, atol=1e-6)
    assert looped[0, 0] == pytest.approx(norms[0] / np.linalg.norm(z), rel=1e-5)
