"""The functions agree with torch's over all combinations of shape, dim, eps, dtype and layout."""

import itertools
import pickle

import ml_dtypes
import numpy as np
import pytest
from oracle import F, torch
from public_inputs import strided

import cossim

DTYPES = {
    "float64": (np.float64, torch.float64, 1e-14),
    "float32": (np.float32, torch.float32, 4e-7),
    "float16": (np.float16, torch.float16, 1e-3),
    "bfloat16": (ml_dtypes.bfloat16, torch.bfloat16, 8e-3),
}

# shapes that broadcast, and the dims to reduce
SHAPES = [
    ((1, 3), (1, 3)),
    ((2, 3), (2, 3)),
    ((7,), (7,)),
    ((5, 1), (5, 1)),
    ((4, 33), (4, 33)),
    ((3, 1000), (3, 1000)),
    ((2, 3, 17), (2, 3, 17)),
    ((2, 8, 5, 6), (2, 8, 5, 6)),
    ((1, 9, 10), (9, 1, 10)),
    ((1, 64, 100), (64, 1, 100)),
    ((3, 1, 7, 16), (1, 5, 7, 16)),
    ((3, 5, 1, 16), (3, 1, 4, 16)),
    ((2, 1, 5, 1, 9), (1, 3, 5, 4, 9)),
    ((6, 1), (6, 8)),
    ((8,), (5, 8)),
    ((1, 1, 8), (5, 8)),
    ((0, 4), (0, 4)),
    ((4, 0), (4, 0)),
    ((1, 0, 3), (5, 1, 3)),
]


def to_torch(x):
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(x)


def to_numpy(t):
    return t.float().numpy().astype(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else t.numpy()


def run_torch(function, *arrays, tolerance=0.0):
    """torch's result as an array.

    torch rounds every step of a computation with halves, and eps, to halves. Where that moves the result by more than
    `tolerance` from torch's result in double, or makes it NaN, the result in double is returned.
    """
    theirs = to_numpy(function(*map(to_torch, arrays)))
    if any(x.dtype.itemsize == 2 for x in arrays):
        wide = function(*(to_torch(x).double() for x in arrays)).numpy()
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(theirs.astype(np.float64) - wide) <= tolerance) & ~(theirs.astype(np.float64) == wide)
        theirs = np.where(off, wide.astype(theirs.dtype), theirs)
    return theirs


def close(ours, theirs, tolerance):
    assert np.shape(ours) == theirs.shape
    assert ours.dtype == theirs.dtype
    a, b = np.asarray(ours).astype(np.float64), theirs.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def check(ours, function, *arrays, tolerance):
    close(ours, run_torch(function, *arrays, tolerance=tolerance), tolerance)


def layouts(x):
    """The same values in each memory layout that takes a code path of its own."""
    first_axis_last = np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0)
    return x, np.asfortranarray(x), strided(x), np.flip(np.flip(x).copy()), first_axis_last


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_cosine_similarity(rng, shapes, name):
    dtype, _, tolerance = DTYPES[name]
    x1, x2 = (rng.standard_normal(s).astype(dtype) for s in shapes)
    for dim in range(-len(np.broadcast_shapes(*shapes)), len(np.broadcast_shapes(*shapes))):
        for eps in (1e-8, 1e-6, 0.5, 3.0):
            ours = cossim.cosine_similarity(x1, x2, dim, eps)
            check(ours, lambda a, b, dim=dim, eps=eps: F.cosine_similarity(a, b, dim, eps), x1, x2, tolerance=tolerance)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(5, 6), (3, 40, 7), (2, 70, 3, 5), (300, 9), (9, 300)], ids=str)
def test_layouts(rng, shape, name):
    dtype, _, tolerance = DTYPES[name]
    x1, x2 = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    for dim in range(len(shape)):
        theirs = run_torch(lambda a, b, dim=dim: F.cosine_similarity(a, b, dim), x1, x2, tolerance=tolerance)
        for a, b in itertools.product(layouts(x1), layouts(x2)):
            close(cossim.cosine_similarity(a, b, dim), theirs, tolerance)
        for a in layouts(x1):
            check(cossim.normalize(a, dim), lambda t, dim=dim: F.normalize(t, dim=dim), x1, tolerance=tolerance)


@pytest.mark.parametrize("names", list(itertools.permutations(DTYPES, 2)), ids=str)
def test_mixed_dtypes(rng, names):
    (a, ta, _), (b, tb, _) = (DTYPES[n] for n in names)
    x1, x2 = rng.standard_normal((4, 9)).astype(a), rng.standard_normal((4, 9)).astype(b)
    ours = cossim.cosine_similarity(x1, x2)
    # torch computes each norm in its operand's type; here both are first converted to the common type
    common = torch.promote_types(ta, tb)
    t1, t2 = to_torch(x1).to(common), to_torch(x2).to(common)
    assert F.cosine_similarity(to_torch(x1), to_torch(x2)).dtype == common
    close(ours, to_numpy(F.cosine_similarity(t1, t2)), 4e-7)
    # all pairs use another driver
    close(
        cossim.cosine_similarity(x1[None], x2[:, None], 2),
        to_numpy(F.cosine_similarity(t1[None], t2[:, None], 2)),
        4e-7,
    )


def test_distance(rng):
    x1, x2 = rng.standard_normal((2, 50, 30))
    np.testing.assert_allclose(
        cossim.cosine_distance(x1, x2), 1 - F.cosine_similarity(*map(torch.from_numpy, (x1, x2))).numpy(), atol=1e-15
    )
    assert (cossim.cosine_distance(x1, x1) == 0).all()
    assert (cossim.cosine_distance(x1, -x1) == 2).all()
    # 1 - similarity in float32 would lose these digits
    x = np.float32([[1.0, 0.0]])
    y = np.float32([[1.0, 1e-5]])
    assert cossim.cosine_distance(x, y)[0] == pytest.approx(5e-11, rel=1e-4)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, 1, -1, (0,), (1, 2), (0, 2), (-1, 0), (0, 1, 2), ()], ids=str)
def test_vector_norm(rng, dim, keepdim, name):
    dtype, _, tolerance = DTYPES[name]
    x = rng.standard_normal((5, 7, 6)).astype(dtype)
    for a in layouts(x):
        ours = cossim.vector_norm(a, dim, keepdim)
        check(ours, lambda t: torch.linalg.vector_norm(t, 2, dim, keepdim), x, tolerance=30 * tolerance)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_vecdot(rng, shapes, name):
    dtype, _, tolerance = DTYPES[name]
    x1, x2 = (rng.standard_normal(s).astype(dtype) for s in shapes)
    for dim in range(len(np.broadcast_shapes(*shapes))):
        depth = np.broadcast_shapes(*shapes)[dim]
        within = 3 * tolerance * (1 + depth)
        check(
            cossim.vecdot(x1, x2, dim),
            lambda a, b, dim=dim: torch.linalg.vecdot(a, b, dim=dim),
            x1,
            x2,
            tolerance=within,
        )


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("dim", [0, 1, 2, -1], ids=str)
def test_normalize(rng, dim, name):
    dtype, _, tolerance = DTYPES[name]
    x = rng.standard_normal((5, 7, 6)).astype(dtype)
    x[0, 0] = 0
    x[:, 0, 0] = 0
    for eps in (1e-12, 2.0):
        ours = cossim.normalize(x, dim, eps)
        check(ours, lambda t, eps=eps: F.normalize(t, dim=dim, eps=eps), x, tolerance=tolerance)


@pytest.mark.parametrize("name", DTYPES)
def test_nan_and_infinity(name):
    """We give NaN where torch does, without a warning (the suite turns warnings into errors)."""
    dtype, _, tolerance = DTYPES[name]
    special = [0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]
    rows = np.array(list(itertools.product(special, repeat=3))).astype(dtype)
    x1, x2 = rows[:, None], rows[None]
    theirs = run_torch(lambda a, b: F.cosine_similarity(a, b, 2), x1, x2, tolerance=tolerance)
    close(cossim.cosine_similarity(x1, x2, 2), theirs, tolerance)
    close(cossim.pairwise(rows, rows), theirs, tolerance)
    close(cossim.pairwise(rows), theirs, tolerance)
    one_by_one = np.stack([cossim.cosine_similarity(np.broadcast_to(row, rows.shape), rows, 1) for row in rows])
    close(one_by_one, theirs, tolerance)
    norms = to_numpy(torch.linalg.vector_norm(to_torch(rows), dim=1)).astype(np.float64)
    np.testing.assert_allclose(cossim.vector_norm(rows, 1).astype(np.float64), norms, rtol=1e-2)
    dots = to_numpy(torch.linalg.vecdot(to_torch(rows)[:, None], to_torch(rows)[None])).astype(np.float64)
    np.testing.assert_allclose(cossim.vecdot(x1, x2).astype(np.float64), dots, rtol=1e-2)


def test_eps_zero():
    x = np.array([[0.0, 0.0], [1.0, 2.0]])
    assert np.isnan(cossim.cosine_similarity(x, x[::-1].copy(), eps=0)).all()
    assert F.cosine_similarity(torch.from_numpy(x), torch.from_numpy(x[::-1].copy()), eps=0).isnan().all()
    np.testing.assert_array_equal(np.isnan(cossim.pairwise(x, eps=0)), [[True, True], [True, False]])


def test_zero_dimensions():
    theirs = F.cosine_similarity(torch.tensor(3.0).double(), torch.tensor(-4.0).double(), 0)
    close(cossim.cosine_similarity(3.0, -4.0, 0), theirs.numpy(), 0)
    assert cossim.cosine_similarity(3.0, -4.0, dim=-1) == -1
    assert cossim.vector_norm(-3.0) == 3
    assert cossim.vecdot(3.0, 4.0) == 12
    assert cossim.normalize(-3.0, 0) == -1
    assert isinstance(cossim.cosine_similarity(3.0, 4.0, 0), np.float64)


def test_axis_is_dim(rng):
    x = rng.standard_normal((4, 5))
    for function in (cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot):
        np.testing.assert_array_equal(function(x, x[::-1], axis=0), function(x, x[::-1], dim=0))
    np.testing.assert_array_equal(
        cossim.vector_norm(x, axis=0, keepdims=True), cossim.vector_norm(x, dim=0, keepdim=True)
    )
    np.testing.assert_array_equal(cossim.normalize(x, axis=0), cossim.normalize(x, dim=0))


def test_another_name_that_is_none_is_not_given(rng):
    x = rng.standard_normal((4, 5, 3))
    for function in (cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot):
        np.testing.assert_array_equal(function(x, x[::-1], axis=None), function(x, x[::-1]))
        np.testing.assert_array_equal(function(x, x[::-1], 0, axis=None), function(x, x[::-1], 0))
    np.testing.assert_array_equal(cossim.normalize(x, axis=None), cossim.normalize(x))
    np.testing.assert_array_equal(cossim.normalize(x, None, axis=None), cossim.normalize(x, None))
    assert cossim.vector_norm(x, axis=None, keepdims=None) == cossim.vector_norm(x)
    np.testing.assert_array_equal(
        cossim.vector_norm(x, 0, True, axis=None, keepdims=None), cossim.vector_norm(x, dim=0, keepdim=True)
    )


def test_the_callable_object(rng):
    x1, x2 = rng.standard_normal((2, 4, 5))
    ours, theirs = cossim.CosineSimilarity(dim=0, eps=1e-6), torch.nn.CosineSimilarity(dim=0, eps=1e-6)
    assert repr(ours) == repr(theirs)
    assert (ours.dim, ours.eps) == (theirs.dim, theirs.eps)
    close(ours(x1, x2), theirs(torch.from_numpy(x1), torch.from_numpy(x2)).numpy(), 1e-15)
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again(x1, x2), ours(x1, x2))
    assert repr(cossim.CosineSimilarity()) == repr(torch.nn.CosineSimilarity())
