"""Results stay within the promised error of exact arithmetic."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import reference

import cossim


def data(rng, kind, shape):
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "positive":
        return rng.uniform(0, 1, shape)
    if kind == "binary":
        return rng.integers(0, 2, shape).astype(float)
    if kind == "constant":  # all roundings of a sum go in the same direction
        return np.full(shape, 0.1) * rng.integers(1, 4, (*shape[:-1], 1))
    if kind == "cancelling":  # x . y far below |x||y|
        x = rng.standard_normal(shape)
        x[..., shape[-1] // 2 :] = 0
        return np.roll(x, rng.integers(shape[-1]), -1) + 1e-9 * rng.standard_normal(shape)
    if kind == "scales":
        return rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
    raise ValueError(kind)


KINDS = ["normal", "positive", "binary", "constant", "cancelling", "scales"]


@pytest.mark.parametrize("depth", [1, 2, 3, 17, 100, 768, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_the_neighbour_of_the_exact_value(rng, kind, depth):
    x, y = (data(rng, kind, (3, depth)).astype(np.float32) for _ in range(2))
    exact_cosines = list(map(reference.exact_cosine, x, y))
    for layout in (np.ascontiguousarray, np.asfortranarray):
        for ours, exact in zip(cossim.cosine_similarity(layout(x), layout(y), 1, 1e-30), exact_cosines, strict=True):
            if abs(exact) < 1e-6:
                assert abs(Fraction(float(ours)) - exact) < 1e-14
            else:
                rounded = np.float32(float(exact))
                assert rounded in (ours, np.nextafter(ours, np.float32(2)), np.nextafter(ours, np.float32(-2)))


@pytest.mark.parametrize("depth", [1, 2, 3, 17, 100, 768, 4095, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_within_1e_15(rng, kind, depth):
    x, y = (data(rng, kind, (3, depth)) for _ in range(2))
    exact_cosines = list(map(reference.exact_cosine, x, y))
    for a, b in ((x, y), (np.asfortranarray(x), np.asfortranarray(y)), (x, np.asfortranarray(y))):
        for ours, exact in zip(cossim.cosine_similarity(a, b, 1, 1e-30), exact_cosines, strict=True):
            assert abs(Fraction(float(ours)) - exact) <= 1e-15


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_halves_are_rounded_once(rng, dtype):
    x, y = (rng.standard_normal((200, 50)).astype(dtype) for _ in range(2))
    wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_array_equal(
        cossim.cosine_similarity(x, y), cossim.cosine_similarity(wide_x, wide_y).astype(dtype)
    )
    np.testing.assert_array_equal(cossim.vecdot(x, y), cossim.vecdot(wide_x, wide_y).astype(dtype))
    np.testing.assert_array_equal(cossim.normalize(x), cossim.normalize(wide_x).astype(dtype))
    np.testing.assert_array_equal(cossim.vector_norm(x, 1), cossim.vector_norm(wide_x, 1).astype(dtype))


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
def test_identical_rows_and_the_bounds(rng, dtype):
    for depth in (1, 2, 3, 5, 31, 100, 1000):
        x = rng.standard_normal((300, depth)).astype(dtype)
        assert (cossim.cosine_similarity(x, x.copy()) == 1).all()
        assert (cossim.cosine_similarity(x, -x) == -1).all()
        assert (cossim.cosine_similarity(x, np.asfortranarray(x)) == 1).all()
        assert (cossim.cosine_similarity(x[:, ::-1], x[:, ::-1].copy()) == 1).all()
        assert (cossim.cosine_similarity(x, x * 4) == 1).all()
        close = cossim.cosine_similarity(x, (x * 3).astype(dtype))
        assert (close <= 1).all()
        square = cossim.cosine_similarity(x[None], x[:, None], 2)
        assert (np.diag(square) == 1).all()
        assert (np.abs(square) <= 1).all()


@pytest.mark.parametrize(
    ("dtype", "scales"), [(np.float32, (1e30, 1e-30, 1e-44)), (np.float64, (1e200, 1e-200, 1e300, 5e-324))]
)
def test_no_overflow_and_no_underflow(rng, dtype, scales):
    x, y = (rng.integers(-9, 10, (40, 30)).astype(dtype) for _ in range(2))
    expected = cossim.cosine_similarity(x, y, eps=0)
    for a in scales:
        for b in (*scales, 1.0):
            big_x, big_y = x * dtype(a), y * dtype(b)
            # tiny numbers have few digits, so the exact ratio is computed from the rounded numbers
            exact = expected if min(a, b) > 1e-40 else None
            ours = cossim.cosine_similarity(big_x, big_y, eps=0)
            columns = cossim.cosine_similarity(np.asfortranarray(big_x), np.asfortranarray(big_y), eps=0)
            pairs = np.diag(cossim.pairwise(big_x, big_y, eps=0))
            if exact is None:
                exact = np.array([float(reference.exact_cosine(r, s)) for r, s in zip(big_x, big_y, strict=True)])
            for got in (ours, columns, pairs):
                np.testing.assert_allclose(got, exact, atol=4e-7 if dtype == np.float32 else 3e-15)
    big = dtype(scales[0])
    np.testing.assert_allclose(cossim.vector_norm(np.array([3, 4], dtype) * big), 5 * big, rtol=1e-7)
    np.testing.assert_allclose(cossim.normalize(np.array([3, 4], dtype) * big, 0), [0.6, 0.8], rtol=1e-7)


def test_norms_and_products_that_leave_the_range():
    huge = np.array([1e200, 1e200])
    assert cossim.vecdot(huge, np.array([1e200, -1e200])) == 0
    assert cossim.vecdot(huge, huge) == np.inf
    assert cossim.vecdot(huge * 1e-300, huge) == pytest.approx(2e100)
    assert cossim.vector_norm(np.array([1.5e308, 1.5e308])) == np.inf
    np.testing.assert_allclose(cossim.normalize(np.array([1.5e308, 1.5e308]), 0), [0.5**0.5] * 2)
    assert cossim.vector_norm(np.array([3e-320, 4e-320])) == pytest.approx(5e-320, rel=1e-3)


@pytest.mark.parametrize(("dtype", "big"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_dot_products_of_all_pairs_leave_the_range_only_at_their_end(dtype, big):
    x = np.array([[big, big, 0], [big, -big, 0], [1, 2, 3]], dtype)
    y = np.array([[big, -big, 2], [0, 0, 0]], dtype)
    expected = [[0, np.inf, dtype(-big)], [0, 0, 0]]
    assert cossim.vecdot(x[None], y[:, None]).tolist() == expected
    assert cossim.vecdot(x[:, None], y[None]).T.tolist() == expected
    assert cossim.vecdot(x[None], x[:, None])[0, 1] == 0


def test_infinity_times_something_small_is_infinity():
    """Rows with large elements are scaled, which must not turn a small element into 0 or change a sign."""
    x, y = np.array([[-1e-125, 1e266], [1.0, -1e300]]), np.array([[-np.inf, -0.4], [np.inf, 1e300]])
    assert cossim.vecdot(x, y).tolist() == [np.inf, np.inf]
    assert cossim.vecdot(x.T.copy(), y.T.copy(), 0).tolist() == [np.inf, np.inf]
    assert np.diag(cossim.vecdot(x[:, None], y[None])).tolist() == [np.inf, np.inf]
    assert np.isnan(cossim.vecdot(np.array([0.0, 1e300]), np.array([np.inf, 1e300])))


def test_zero_rows_and_eps():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16):
        assert cossim.cosine_similarity(zero.astype(dtype), one.astype(dtype))[0] == 0
        assert cossim.cosine_distance(zero.astype(dtype), one.astype(dtype))[0] == 1
    # each norm is clamped separately: eps * eps would underflow in float32 and give NaN or infinity
    tiny = np.full((1, 4), 1e-30, np.float32)
    np.testing.assert_allclose(
        cossim.cosine_similarity(tiny, tiny, eps=1e-8), (2e-30 / 1e-8) ** 2, atol=2e-45
    )  # a subnormal
    np.testing.assert_allclose(
        cossim.cosine_similarity(tiny, np.ones((1, 4), np.float32), eps=1e-8), 2e-30 / 1e-8, rtol=1e-6
    )
    np.testing.assert_allclose(cossim.pairwise(tiny, eps=1e-8), [[(2e-30 / 1e-8) ** 2]], atol=2e-45)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool_]
)
def test_integers_have_exact_sums(rng, dtype):
    low, high = (0, 2) if dtype == np.bool_ else (max(np.iinfo(dtype).min, -(2**20)), min(np.iinfo(dtype).max, 2**20))
    x, y = (rng.integers(low, high, (6, 300)).astype(dtype) for _ in range(2))
    dots = [int(sum(int(a) * int(b) for a, b in zip(r, s, strict=True))) for r, s in zip(x, y, strict=True)]
    ours = cossim.vecdot(x, y)
    assert ours.dtype == np.float64
    assert ours.tolist() == dots
    assert cossim.cosine_similarity(x, y.astype(np.float32)).dtype == np.float64
    np.testing.assert_allclose(
        cossim.cosine_similarity(x, y), reference.cosine_similarity(x, y).astype(float), atol=1e-15
    )
    np.testing.assert_allclose(cossim.pairwise(x, y), reference.pairwise(x, y).astype(float), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_long_rows_of_8_bit_integers_have_exact_sums(dtype):
    """The rows have the largest possible products, and sums that far exceed 32 bits."""
    n, info = 600_001, np.iinfo(dtype)
    x, y = np.full((2, n), info.max, dtype), np.full((2, n), info.min or info.max, dtype)
    dot = n * int(x[0, 0]) * int(y[0, 0])
    assert cossim.vecdot(x, y).tolist() == [dot, dot]
    assert cossim.vecdot(x[:, ::-1], y).tolist() == [dot, dot]
    assert cossim.vecdot(x.T.copy(), y.T.copy(), 0).tolist() == [dot, dot]
    assert cossim.vecdot(x[:, None], y[None]).tolist() == [[dot, dot]] * 2
    assert cossim.pairwise(x, y).tolist() == [[np.sign(dot)] * 2] * 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(6, 40), (3, 70, 5), (2, 3, 4, 11), (2, 5, 70, 71), (3, 4200)], ids=str)
def test_functions_agree_with_the_references(rng, shape, dtype):
    x, y = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    atol = 1e-14 if dtype == np.float64 else 1e-5
    for dim in range(len(shape)):
        for name in ("cosine_similarity", "cosine_distance", "vecdot"):
            expected = getattr(reference, name)(x, y, dim).astype(float)
            np.testing.assert_allclose(getattr(cossim, name)(x, y, dim), expected, atol=atol)
        np.testing.assert_allclose(cossim.normalize(x, dim), reference.normalize(x, dim).astype(float), atol=atol)
        np.testing.assert_allclose(cossim.vector_norm(x, dim), reference.vector_norm(x, dim).astype(float), atol=atol)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_wider_results_of_halves_are_summed_in_double(rng, dtype):
    """This holds for rows that are read in place, and for distances, which would lose digits in float32 sums."""
    x = np.abs(rng.standard_normal((40, 768))).astype(dtype)
    y = x.copy()
    y[:, 0] *= dtype(1.02)
    wide = x.astype(float), y.astype(float)
    out = np.empty(40)
    np.testing.assert_allclose(cossim.cosine_similarity(x, y, out=out), cossim.cosine_similarity(*wide), atol=3e-16)
    np.testing.assert_array_equal(cossim.cosine_distance(x, y), cossim.cosine_distance(*wide).astype(dtype))


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
def test_a_row_does_not_depend_on_its_neighbours(rng, dtype):
    x, y = rng.standard_normal((2, 515, 300)).astype(dtype)
    whole = cossim.cosine_similarity(x, y)
    for first, last in ((0, 1), (3, 5), (100, 117), (512, 515), (514, 515)):
        np.testing.assert_array_equal(cossim.cosine_similarity(x[first:last], y[first:last]), whole[first:last])
    assert cossim.cosine_similarity(x[7], y[7], 0) == whole[7]


def test_normalize_subnormal_rows():
    x = np.array([5e-321, 5e-321])
    np.testing.assert_allclose(cossim.normalize(x, 0, 1e-8), x / 1e-8, rtol=1e-12, atol=0)


@pytest.mark.parametrize("eps", [1e-100, 1e-170, 1e-300, 5e-324])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_zero_rows_and_the_smallest_eps(dtype, eps):
    """0 / eps is 0 for any eps: eps * eps and its inverse must neither underflow nor overflow."""
    zero, both = np.zeros((20, 3), dtype), np.ones((20, 3), dtype)
    both[::2] = 0
    tiny = np.full((20, 3), np.finfo(dtype).smallest_subnormal, dtype)
    for other in (zero, tiny):
        for layout, dim in ((np.ascontiguousarray, 1), (np.transpose, 0)):
            assert not cossim.cosine_similarity(layout(zero), layout(other), dim, eps).any()
            assert (cossim.cosine_distance(layout(zero), layout(other), dim, eps) == 1).all()
        assert not cossim.pairwise(zero, other, eps=eps).any()
    assert not cossim.pairwise(zero, eps=eps).any()
    for x, y in ((zero, zero), (zero, both), (both, zero), (both, both)):
        expected = x[:, 0] * y[:, 0]
        for layout in (np.ascontiguousarray, np.asfortranarray):
            np.testing.assert_allclose(cossim.cosine_similarity(layout(x), layout(y), 1, eps), expected, rtol=1e-3)
        np.testing.assert_allclose(np.diag(cossim.pairwise(x, y.copy(), eps=eps)), expected, rtol=1e-3)
        assert cossim.cosine_similarity(x[0], y[0], 0, eps) == 0
    np.testing.assert_array_equal(cossim.normalize(zero, 1, eps), 0)


def test_all_dot_products_beyond_float32_on_the_way():
    """vecdot of all pairs, like vecdot of rows, is right if the type of the result can hold it."""
    x = np.array([[3e38, 3e38, -3e38, -3e38], [1e30, 1e-30, 0, 1], [1e-30, 0, 0, 0]], np.float32)
    y = np.array([[1, 1, 1, 1], [1e30, 1e30, 1, 1], [1e-30, 1, 2, 3]], np.float32)
    wide = np.empty((3, 3))
    cossim.vecdot(x[:, None], y[None], 2, out=wide)
    np.testing.assert_allclose(wide, x.astype(np.float64) @ y.T.astype(np.float64), rtol=1e-6, atol=1e-290)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    np.testing.assert_allclose(cossim.vecdot(x[:, None], y[None], 2), narrow, rtol=1e-6, atol=1e-44)
    x, y = np.array([[1e200, 1e200, 0.0], [1, 2, 3]]), np.array([[1e200, -1e200, 5.0], [1e200, 2e200, 0]])
    expected = [[0, np.inf], [-1e200, 5e200]]
    np.testing.assert_allclose(cossim.vecdot(x[:, None], y[None], 2), expected, rtol=1e-15)
