"""The estimators of cossim.sklearn pass scikit-learn's own checks, and find the neighbours of its brute force."""

import doctest
import pickle

import numpy as np
import pytest
from processes import python

pytest.importorskip("sklearn")

import scipy.sparse
from sklearn.cluster import DBSCAN
from sklearn.manifold import Isomap
from sklearn.neighbors import KNeighborsTransformer, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import cossim.sklearn
from cossim.sklearn import CosineNeighbors, CosineNeighborsTransformer

RNG = np.random.default_rng(0)
X, QUERIES = RNG.standard_normal((200, 12)), RNG.standard_normal((30, 12))


@pytest.mark.parametrize(
    "estimator", [CosineNeighbors(), CosineNeighborsTransformer(), CosineNeighborsTransformer(radius=0.3)]
)
def test_estimators_pass_scikit_learns_checks(estimator):
    failed = [r for r in check_estimator(estimator, on_skip=None, on_fail=None) if r["status"] == "failed"]
    assert not failed


def test_the_module_is_imported_on_first_use():
    assert python("import cossim; print(cossim.sklearn.CosineNeighbors())") == "CosineNeighbors()"


@pytest.mark.parametrize("given", [None, QUERIES])
def test_the_same_neighbours_as_brute_force(given):
    ours = CosineNeighbors(7, radius=0.5).fit(X)
    theirs = NearestNeighbors(n_neighbors=7, radius=0.5, metric="cosine", algorithm="brute").fit(X)
    for a, b in zip(ours.kneighbors(given), theirs.kneighbors(given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    options = {"return_distance": True, "sort_results": True}
    for a, b in zip(ours.radius_neighbors(given, **options), theirs.radius_neighbors(given, **options), strict=True):
        for row, other in zip(a, b, strict=True):
            np.testing.assert_allclose(row, other, atol=1e-12)
    for mode in ("connectivity", "distance"):
        a, b = (n.kneighbors_graph(given, mode=mode).toarray() for n in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert np.array_equal(ours.kneighbors(given, 3, return_distance=False), ours.kneighbors(given)[1][:, :3])


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_the_same_graph_as_kneighbors_transformer(mode):
    ours = CosineNeighborsTransformer(9, mode=mode)
    theirs = KNeighborsTransformer(n_neighbors=9, mode=mode, metric="cosine", algorithm="brute")
    a, b = ours.fit_transform(X), theirs.fit_transform(X)
    np.testing.assert_allclose(a.toarray(), b.toarray(), atol=1e-12)
    assert a.nnz == b.nnz == 200 * (10 if mode == "distance" else 9)
    np.testing.assert_allclose(ours.transform(QUERIES).toarray(), theirs.transform(QUERIES).toarray(), atol=1e-12)
    assert list(ours.get_feature_names_out())[:1] == ["cosineneighborstransformer0"]


def test_similarities_are_the_scores():
    x = X.astype(np.float32)
    graph = CosineNeighborsTransformer(3, mode="similarity").fit_transform(x)
    assert graph.dtype == np.float32 and (graph.diagonal() == 1).all()


def test_in_front_of_other_estimators():
    centres = RNG.standard_normal((4, 12))
    x = np.repeat(centres, 25, axis=0) + 0.01 * RNG.standard_normal((100, 12))
    near = CosineNeighborsTransformer(radius=0.1)
    labels = make_pipeline(near, DBSCAN(eps=0.05, metric="precomputed")).fit_predict(x)
    assert np.array_equal(labels, np.repeat(range(4), 25))
    flat = make_pipeline(CosineNeighborsTransformer(30), Isomap(n_neighbors=30, metric="precomputed")).fit_transform(X)
    assert flat.shape == (200, 2) and np.isfinite(flat).all()


def test_pickled_estimators_answer_as_before():
    fitted = CosineNeighbors().fit(X)
    copy = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copy.kneighbors(QUERIES)[1], fitted.kneighbors(QUERIES)[1])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be one of"):
        CosineNeighborsTransformer(mode="cosine").fit(X)
    with pytest.raises(ValueError, match="mode must be one of"):
        CosineNeighbors().fit(X).kneighbors_graph(mode="cosine")


def test_examples_of_the_docstrings_run():
    result = doctest.testmod(cossim.sklearn, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 20 and result.failed == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_fit_transform_is_transform_of_the_rows_of_fit(dtype):
    x = RNG.standard_normal((300, 9)).astype(dtype)
    x[5:25] = x[5]  # more equal rows than neighbours
    x[[40, 41, 60]] = 0
    x[100:130] = x[:30] * 2
    for options in ({}, {"mode": "similarity"}, {"mode": "connectivity"}, {"eps": 5.0}, {"radius": 0.2}):
        for n_neighbors in (1, 4, 12, 298):
            estimator = CosineNeighborsTransformer(n_neighbors, **options)
            one, other = estimator.fit_transform(x), estimator.fit(x).transform(x)
            for name in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert CosineNeighborsTransformer(0, mode="similarity").fit_transform(x[:1]).toarray().tolist() == [[1.0]]


@pytest.mark.parametrize("sparse_rows", [True, False])
@pytest.mark.parametrize("sparse_queries", [True, False, None])
def test_sparse_rows_have_the_neighbours_of_dense_ones(sparse_rows, sparse_queries):
    dense = X * (RNG.random(X.shape) < 0.6)
    rows = scipy.sparse.csc_matrix(dense) if sparse_rows else dense
    other = None if sparse_queries is None else QUERIES * (RNG.random(QUERIES.shape) < 0.6)
    given = scipy.sparse.coo_array(other) if sparse_queries else other
    ours, theirs = CosineNeighbors(7, radius=0.5).fit(rows), CosineNeighbors(7, radius=0.5).fit(dense)
    for mode in ("distance", "connectivity"):
        a, b = (n.kneighbors_graph(q, mode=mode).toarray() for n, q in ((ours, given), (theirs, other)))
        np.testing.assert_allclose(a, b, atol=1e-12)
    a, b = (n.radius_neighbors(q, sort_results=True) for n, q in ((ours, given), (theirs, other)))
    for row, same in zip(np.concatenate(a[0]), np.concatenate(b[0]), strict=True):
        np.testing.assert_allclose(row, same, atol=1e-12)
    if sparse_queries is None:
        graphs = (CosineNeighborsTransformer(9).fit_transform(r).toarray() for r in (rows, dense))
        np.testing.assert_allclose(*graphs, atol=1e-12)
    if sparse_rows:
        with pytest.raises(AttributeError, match="sparse rows"):
            ours.index_  # noqa: B018
