"""Dask arrays of one dimension, chunks of unknown size, and duplicate_groups give the bits of NumPy arrays."""

import numpy as np
import pytest

da = pytest.importorskip("dask.array", reason="the functions over Dask arrays need dask[array]")

import dask  # noqa: E402

import cossim  # noqa: E402
from cossim.search import dask_tasks  # noqa: E402


def assert_same(lazy, expected):
    """Compares the results, and checks what the lazy array says of its dtype and its number of dimensions."""
    for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (lazy, expected)), strict=True):
        assert (one.dtype, one.ndim) == (other.dtype, np.ndim(other))
        np.testing.assert_array_equal(one.compute(scheduler="synchronous"), other)


@pytest.fixture
def part(rng):
    """(rows, the same as a Dask array): blocks of unknown size, of which one has a single row, and one none."""
    x = rng.standard_normal((60, 12)).astype(np.float32)
    x[:, 0] = np.abs(x[:, 0])
    x[20:39, 0] *= -1
    x[45:, 0] *= -1
    lazy = da.from_array(x, ((20, 20, 5, 15), (6, 6)))
    return x[x[:, 0] > 0], lazy[lazy[:, 0] > 0]


def test_unknown_sizes_along_a_dimension(rng, part):
    x, lazy = part
    y = rng.standard_normal(12).astype(np.float32)
    assert_same(cossim.normalize(lazy), cossim.normalize(x))
    assert_same(cossim.vector_norm(lazy, 1), cossim.vector_norm(x, 1))
    assert_same(cossim.vector_norm(lazy, axis=1, keepdims=True), cossim.vector_norm(x, 1, True))
    assert_same(lazy / cossim.vector_norm(lazy, 1, True), x / cossim.vector_norm(x, 1, True))
    for function in (cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot):
        assert_same(function(lazy, lazy + 1, dim=1), function(x, x + 1, dim=1))
        assert_same(function(y, lazy, dim=1), function(y, x, dim=1))
        assert_same(function(lazy[None], x[:3, None], dim=2), function(x[None], x[:3, None], dim=2))
        columns = np.ascontiguousarray(x.T)  # blocks of one column are summed as columns too
        assert_same(function(lazy.T, lazy.T * 2, dim=0), function(columns, columns * 2, dim=0))


def test_unknown_sizes_of_rows(rng, part):
    x, lazy = part
    y = rng.standard_normal((30, 12)).astype(np.float32)
    corpus = da.from_array(y, (7, 12))
    assert_same(cossim.pairwise(lazy), cossim.pairwise(x))
    assert_same(cossim.pairwise(lazy, corpus), cossim.pairwise(x, y))
    assert_same(cossim.pairwise(y, lazy), cossim.pairwise(y, x))
    assert_same(cossim.pairwise(y[0], lazy), cossim.pairwise(y[0], x))
    assert_same(cossim.topk(lazy, corpus, 4), cossim.topk(x, y, 4))
    known = lazy.compute_chunk_sizes()
    assert_same(cossim.duplicate_groups(known, 0.3), cossim.duplicate_groups(x, 0.3))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, y: cossim.topk(x, None, 1), "queries"),
        (lambda x, y: cossim.topk(y, x, 1), "corpus"),
        (lambda x, y: cossim.pairs_above(y, 0.5, x), "y"),
        (lambda x, y: cossim.duplicate_groups(x, 0.5), "x"),
        (lambda x, y: cossim.vector_norm(x), "x"),
        (lambda x, y: cossim.normalize(x, 0), "x"),
        (lambda x, y: cossim.cosine_similarity(x, y), "x1"),
        (lambda x, y: cossim.cosine_similarity(y[:20], x), "x2"),
        (lambda x, y: cossim.pairwise(x.T, y.T), "x"),
    ],
)
def test_sizes_that_are_needed(part, call, name):
    with pytest.raises(ValueError, match=rf"\b{name}\.compute_chunk_sizes\(\)"):
        call(part[1], da.ones((60, 12), chunks=(20, 12)))


def test_blocks_of_unequal_sizes(part):
    x, lazy = part
    other = lazy[lazy[:, 1] > 0]
    with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
        cossim.cosine_similarity(lazy, other).compute(scheduler="synchronous")


def test_one_vector(rng):
    x = rng.standard_normal((30, 16)).astype(np.float32)
    q = x[3]
    lazy, vector = da.from_array(x, (7, 9)), da.from_array(q, 5)
    for function in (cossim.cosine_similarity, cossim.cosine_distance):
        assert_same(function(vector, q[::-1]), function(q, q[::-1].copy()))
        assert_same(function(vector, lazy), function(q, x))
    assert_same(cossim.normalize(vector), cossim.normalize(q))
    assert_same(cossim.pairwise(vector), cossim.pairwise(q))
    assert_same(cossim.pairwise(lazy, q), cossim.pairwise(x, q))
    for one, rows in ((vector, lazy), (vector, x), (q, lazy)):
        assert_same(cossim.pairwise(one, rows), cossim.pairwise(q, x))
        assert_same(cossim.topk(one, rows, 4), cossim.topk(q, x, 4))
        assert_same(cossim.topk(rows, one, 1), cossim.topk(x, q, 1))
        assert_same(cossim.pairs_above(one, 0.1, rows), cossim.pairs_above(q, 0.1, x))
    with pytest.raises(IndexError, match=r"dim 1\b"):
        cossim.cosine_similarity(vector, vector, dim=1)


@pytest.mark.parametrize("threshold", [-1.0, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("rows", [13, 64, 400])
def test_groups(rng, threshold, rows):
    x = rng.standard_normal((300, 4)).astype(np.float32)
    x = np.concatenate((x, 2 * x[::3]))
    lazy = da.from_array(x, (rows, 3))
    labels = cossim.duplicate_groups(lazy, threshold, memory=1 << 20)
    assert labels.chunks == lazy.chunks[:1]
    assert_same(labels, cossim.duplicate_groups(x, threshold))


def test_groups_that_only_a_chain_through_all_blocks_connects():
    angles = np.arange(80.0)[::-1] / 80
    x = np.stack((np.cos(angles), np.sin(angles)), 1)[np.random.default_rng(0).permutation(80)]
    labels = cossim.duplicate_groups(da.from_array(x, (3, 2)), np.cos(1.5 / 80))
    assert (labels.compute(scheduler="synchronous") == 0).all()


def test_merged_groups_are_connected_components(rng):
    for _ in range(50):
        ends = rng.integers(0, 40, (30, 2))
        ends = ends[ends[:, 0] != ends[:, 1]]
        high, low = ends.max(1), ends.min(1)
        expected, before = np.arange(40), None
        while before is None or (expected != before).any():
            before = expected.copy()
            for i, j in ends:
                expected[[i, j]] = expected[[i, j]].min()
        groups = dask_tasks.merge_groups([(high[::2], low[::2]), (high[1::2], low[1::2])])
        assert len(groups[0]) == (expected != np.arange(40)).sum()
        np.testing.assert_array_equal(dask_tasks.group_labels(0, 40, groups), expected)
        np.testing.assert_array_equal(dask_tasks.group_labels(10, 5, groups), expected[10:15])


def test_groups_hold_no_pairs():
    """A merged result has at most one entry for each row, even if all rows are alike."""
    x = da.ones((60, 3), chunks=(10, 3))
    graph = dict(cossim.duplicate_groups(x, 0.5).__dask_graph__())
    merged = [key for key in graph if "merged" in str(key)]
    found = dask.get(graph, merged)
    assert max(len(rows) for rows, _ in found) == 59
