"""One vector, shape (D,), in place of a matrix of rows is a single row; a query vector has no axis in the result."""

import numpy as np
import pytest
from reference import same

import cossim


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8])
def test_a_vector_is_one_row(rng, dtype):
    x = (rng.standard_normal((50, 16)) * 9).astype(dtype)
    q, rows = x[7], x[7:8]
    best = [array[0] for array in cossim.topk(rows, x, 4)]
    assert best[1].shape == (4,)
    same(cossim.topk(q, x, 4), best)
    same(cossim.topk(q.tolist(), x, 4), cossim.topk(q.astype(float), x, 4))
    same(cossim.topk(x, q, 1), cossim.topk(x, rows, 1))
    same(cossim.topk(q, x[3], 1), [array[0] for array in cossim.topk(rows, x[3:4], 1)])
    same(cossim.pairs_above(q, 0.1, x), cossim.pairs_above(rows, 0.1, x))
    same(cossim.pairs_above(x, 0.1, q), cossim.pairs_above(x, 0.1, rows))
    assert len(cossim.pairs_above(q, -1).i) == 0
    assert cossim.duplicate_groups(q, 0.5).tolist() == [0]

    index = cossim.Index(x)
    same(index.topk(q, 4), best)
    same(index.pairs_above(q, 0.1), cossim.pairs_above(rows, 0.1, x))
    same(cossim.Index(q).topk(x, 1), cossim.topk(x, rows, 1))
    assert cossim.topk(q, None, 1).indices.tolist() == [-1]
    same(cossim.topk(q, x, 3, where=[1, 2]), index.topk(q, 3, where=[1, 2]))
    assert cossim.topk(q, x, 3, where=[[True] + (len(x) - 1) * [False]]).indices.tolist() == [0, -1, -1]


def test_a_file_with_one_vector_is_that_vector(tmp_path, rng):
    q, x = rng.standard_normal(4), rng.standard_normal((3, 4))
    np.save(tmp_path / "q.npy", q)
    found, expected = cossim.topk(tmp_path / "q.npy", x, 2), cossim.topk(q, x, 2)
    assert found.values.shape == (2,)
    same(found, expected)
