"""Where dim is not passed and the broadcast operands have one dimension, they are one vector each."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import cossim

PAIR = [cossim.cosine_similarity, cossim.cosine_distance]
DTYPES = [np.float64, np.float32, np.float16, np.int8]


@pytest.mark.parametrize("function", PAIR, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", [1, -2])
def test_is_the_call_with_dim_0(rng, function, dtype, step):
    x, y = (rng.standard_normal((2, 200)) * 9).astype(dtype)[:, ::step]
    expected = function(x, y, dim=0)
    for result in (
        function(x, y),
        function(x, y, eps=1e-8),
        function(x, y, out=None),
        function(x.tolist(), y.tolist()),
    ):
        assert isinstance(result, np.floating)
        assert abs(float(result) - float(expected)) <= (0 if result.dtype == expected.dtype else 1e-3)
    out = np.empty((), expected.dtype)
    assert function(x, y, out=out) is out
    assert out == expected
    np.testing.assert_array_equal(cossim.normalize(x), cossim.normalize(x, 0))


def test_sizes_that_broadcast():
    assert cossim.cosine_similarity([3.0], [1.0, 1.0]) == 1
    assert cossim.cosine_similarity(3.0, [1.0, 1.0]) == 1
    assert cossim.cosine_similarity([], []) == 0
    rows = np.array([[3.0, 4.0], [4.0, 3.0], [0.0, 0.0]])
    assert cossim.cosine_similarity([3, 4], rows).tolist() == [1, 0.96, 0]  # two dimensions: dim=1, as in torch
    for call in (lambda: cossim.cosine_similarity(1.0, 2.0), lambda: cossim.normalize(1.0)):
        with pytest.raises(np.exceptions.AxisError, match=r"dim 1\b"):
            call()


@pytest.mark.parametrize("dim", [1, np.int64(1), -2])
def test_a_dim_that_is_passed_is_checked_as_in_torch(dim):
    v = np.ones(3)
    calls = [lambda: cossim.cosine_similarity_vjp(v, v, dim), lambda: cossim.explain(v, v, dim)]
    calls += [lambda: cossim.CosineSimilarity(dim)(v, v), lambda: cossim.cosine_similarity(v, v, axis=dim)]
    calls += [lambda f=f: f(v, v, dim) for f in PAIR] + [lambda: cossim.normalize(v, dim)]
    for call in calls:
        with pytest.raises(IndexError, match=rf"dim {dim}\b"):
            call()


def test_the_module():
    cos = cossim.CosineSimilarity()
    for same in (cos, copy.copy(cos), copy.deepcopy(cos), pickle.loads(pickle.dumps(cos))):
        assert same([3, 4], [4, 3]) == 0.96
        np.testing.assert_allclose(same([[3, 4]], [[4, 3]]), [0.96])
        assert (same.dim, same.eps, repr(same), repr(same.dim)) == (1, 1e-8, "CosineSimilarity()", "1")
    cos.dim = 1
    with pytest.raises(IndexError, match=r"dim 1\b"):
        cos([3, 4], [4, 3])


@pytest.mark.parametrize(
    "name", ["cosine_similarity", "normalize", "CosineSimilarity", "explain", "cosine_similarity_vjp"]
)
def test_the_signature_shows_the_default_of_arrays(name):
    assert inspect.signature(getattr(cossim, name)).parameters["dim"].default == 1


def test_gradients(rng):
    x, y = rng.standard_normal((2, 50)).astype(np.float32)
    value, pullback = cossim.cosine_similarity_vjp(x, y)
    expected, of_dim_0 = cossim.cosine_similarity_vjp(x, y, axis=0)
    assert value == expected
    for ours, theirs in zip(pullback(np.float32(2)), of_dim_0(np.float32(2)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_explain():
    e = cossim.explain([3, 4], [4, 3])
    assert (e.dim, e.shape, e.similarity) == (0, (), 0.96)
    assert str(e) == str(cossim.explain([3, 4], [4, 3], 0))


def test_as_a_metric_of_scipy_and_scikit_learn(rng):
    x, y = rng.standard_normal((2, 12, 5))
    distance = pytest.importorskip("scipy.spatial.distance")
    np.testing.assert_allclose(distance.cdist(x, y, cossim.cosine_distance), distance.cdist(x, y, "cosine"), atol=1e-14)
    neighbors = pytest.importorskip("sklearn.neighbors")
    ours, theirs = (
        neighbors.KNeighborsClassifier(3, metric=metric).fit(x, np.arange(12) % 3)
        for metric in (cossim.cosine_distance, "cosine")
    )
    assert ours.predict(y).tolist() == theirs.predict(y).tolist()
    np.testing.assert_allclose(ours.kneighbors(y)[0], theirs.kneighbors(y)[0], atol=1e-14)
