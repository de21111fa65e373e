"""cosine_similarity_vjp and pairwise_vjp agree with the reference, torch's autograd and finite differences."""

import ml_dtypes
import numpy as np
import pytest
from oracle import F, torch
from processes import extra_memories, reports_memory
from reference_gradients import by_differences, cosine_similarity_gradients, pairwise_gradients

import cossim
from cossim import simclr

DTYPES = [(np.float32, 1e-4), (np.float64, 1e-10)]

# shapes of x1 and x2, dim
SHAPES = [
    ((5, 7), (5, 7), 1),
    ((5, 7), (5, 7), 0),
    ((5, 7), (5, 7), -1),
    ((7,), (7,), 0),
    ((), (), 0),
    ((), (3,), -1),
    ((1,), (1,), 0),
    ((4,), (3, 4), 1),
    ((3, 4), (4,), -1),
    ((5, 1), (5, 7), 1),
    ((5, 1), (1, 7), 1),
    ((1, 6, 4), (5, 1, 4), 2),
    ((5, 1, 4), (1, 6, 4), 2),
    ((1, 6, 4), (5, 1, 4), 0),
    ((1, 1, 4), (5, 6, 4), 2),
    ((6, 1, 4), (6, 3, 4), 2),
    ((2, 1, 3, 4), (5, 1, 4), 3),
    ((2, 1, 3, 4), (3, 1, 4), 1),
    ((5, 4, 1, 3), (5, 4, 6, 1), 1),
    ((2, 1, 4, 1, 3), (1, 5, 4, 6, 1), 2),
    ((4, 1, 70), (1, 90, 70), 2),
    ((2, 3, 5, 5), (2, 3, 5, 5), 1),
    ((0, 4), (0, 4), 1),
    ((3, 0), (3, 0), 1),
    ((1, 0, 4), (5, 1, 4), 2),
]


def close(got, expected, tolerance):
    assert got.shape == expected.shape
    error = np.abs(got - expected).max(initial=0)
    assert error <= tolerance * max(np.abs(expected).max(initial=0), 1), error


def operands(rng, shapes, dtype):
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize(("shape1", "shape2", "dim"), SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_cosine_similarity(rng, shape1, shape2, dim, dtype, tolerance):
    x1, x2 = operands(rng, (shape1, shape2), dtype)
    y, pullback = cossim.cosine_similarity_vjp(x1, x2, dim)
    np.testing.assert_array_equal(y, cossim.cosine_similarity(x1, x2, dim))
    dy = np.asarray(rng.standard_normal(np.shape(y))).astype(dtype)
    t1, t2 = (torch.from_numpy(x.copy()).requires_grad_() for x in (x1, x2))
    F.cosine_similarity(t1, t2, dim).backward(torch.from_numpy(dy))
    slow = cosine_similarity_gradients(x1, x2, dy, dim)
    got = pullback(dy)
    assert type(got) is tuple
    for gradient, x, theirs, reference in zip(got, (x1, x2), (t1, t2), slow, strict=True):
        assert gradient.dtype == dtype
        assert gradient.shape == x.shape
        close(gradient, theirs.grad.numpy(), tolerance)
        close(gradient, reference, tolerance)
    for gradient, again in zip(got, pullback(dy), strict=True):
        np.testing.assert_array_equal(gradient, again)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize(
    "shapes", [((5, 4), (7, 4)), ((70, 33), (90, 33)), ((1, 1), (1, 1)), ((0, 3), (2, 3)), ((2, 0), (3, 0))], ids=str
)
def test_pairwise(rng, shapes, dtype, tolerance):
    x, y = operands(rng, shapes, dtype)
    for right in (y, None):
        scores, pullback = cossim.pairwise_vjp(x, right)
        np.testing.assert_array_equal(scores, cossim.pairwise(x, right))
        d = rng.standard_normal(scores.shape).astype(dtype)
        t = torch.from_numpy(x).requires_grad_()
        u = t if right is None else torch.from_numpy(y).requires_grad_()
        F.cosine_similarity(t[:, None], u[None], 2).backward(torch.from_numpy(d))
        slow = pairwise_gradients(x, x if right is None else y, d)
        got = pullback(d)
        if right is None:
            got, slow = (got,), (slow[0] + slow[1],)
        for gradient, theirs, reference in zip(got, (t, u), slow, strict=False):
            assert gradient.dtype == dtype
            close(gradient, theirs.grad.numpy(), tolerance)
            close(gradient, reference, tolerance)


@pytest.mark.parametrize(
    ("shape1", "shape2", "dim"), [((3, 4), (3, 4), 1), ((1, 3, 4), (2, 1, 4), 2), ((3, 1), (1, 4), 0)]
)
def test_gradients_agree_with_finite_differences(rng, shape1, shape2, dim):
    x1, x2 = operands(rng, (shape1, shape2), np.float64)
    y, pullback = cossim.cosine_similarity_vjp(x1, x2, dim)
    dy = rng.standard_normal(y.shape)
    dx1, dx2 = pullback(dy)
    close(dx1, by_differences(lambda x: (dy * cossim.cosine_similarity(x, x2, dim)).sum(), x1), 1e-8)
    close(dx2, by_differences(lambda x: (dy * cossim.cosine_similarity(x1, x, dim)).sum(), x2), 1e-8)
    if x1.ndim == 2:
        scores, pullback = cossim.pairwise_vjp(x1)
        d = rng.standard_normal(scores.shape)
        close(pullback(d), by_differences(lambda x: (d * cossim.pairwise(x)).sum(), x1), 1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_norms_below_eps_are_constants(rng, dtype, tolerance):
    """Compares with finite differences and with a clamp in torch; torch's own function has another gradient there."""
    x1, x2 = operands(rng, ((4, 3), (4, 3)), np.float64)
    eps, scales = 0.5, np.array([[0.4], [0.1], [3.0], [0.0]])
    x1, x2 = (x1 / np.linalg.norm(x1, axis=1, keepdims=True) * scales).astype(dtype), x2.astype(dtype)
    y, pullback = cossim.cosine_similarity_vjp(x1, x2, 1, eps)
    dx1, dx2 = pullback(np.ones_like(y))
    t1, t2 = (torch.from_numpy(x.copy()).requires_grad_() for x in (x1, x2))
    norms = [t.norm(dim=1, keepdim=True).clamp_min(eps) for t in (t1, t2)]
    (t1 / norms[0] * (t2 / norms[1])).sum().backward()
    close(dx1, t1.grad.numpy(), tolerance)
    close(dx2, t2.grad.numpy(), tolerance)
    wide = x1.astype(np.float64)
    close(dx1, by_differences(lambda x: cossim.cosine_similarity(x, x2, 1, eps).sum(), wide), 1e-4)
    np.testing.assert_allclose(dx1[0], x2[0] / np.maximum(np.linalg.norm(x2[0]), eps) / eps, rtol=1e-5)
    scores, pullback = cossim.pairwise_vjp(x1, eps=eps)
    d = np.ones_like(scores)
    close(pullback(d), by_differences(lambda x: cossim.pairwise(x, eps=eps).sum(), wide), 1e-4)


def test_a_norm_that_is_eps_passes():
    """clamp_min passes the gradient for norms >= eps."""
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    (
        x / x.norm(dim=1, keepdim=True).clamp_min(5.0) @ torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    ).sum().backward()
    y, pullback = cossim.cosine_similarity_vjp(x.detach().numpy(), np.array([[7.0, 0.0]]), 1, 5.0)
    close(pullback(np.ones_like(y))[0], x.grad.numpy(), 1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_and_equal_rows(dtype):
    """A zero row has the gradient of its dot products divided by eps; equal rows have a gradient of 0."""
    x = np.array([[0, 0], [3, 4], [3, 4], [-3, -4]], dtype)
    y, pullback = cossim.cosine_similarity_vjp(x, np.array([[3, 4]], dtype))
    dx, _ = pullback(np.ones_like(y))
    np.testing.assert_allclose(dx[0], np.array([0.6, 0.8]) / 1e-8, rtol=1e-6)
    np.testing.assert_allclose(dx[1:], 0, atol=1e-7 if dtype == np.float32 else 1e-16)
    t = torch.from_numpy(x.copy()).requires_grad_()
    F.cosine_similarity(t, torch.tensor([[3, 4]]).to(t.dtype)).sum().backward()
    np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-6, atol=1e-7)


def test_eps_0_and_nan(rng):
    x = rng.standard_normal((4, 3))
    x[0], x[2, 1] = 0, np.nan
    y, pullback = cossim.cosine_similarity_vjp(x, np.ones((4, 3)), 1, 0)
    dx, dother = pullback(np.ones(4))
    assert np.isnan(y[[0, 2]]).all()
    assert np.isnan(dx[[0, 2]]).all()
    assert np.isfinite(dx[[1, 3]]).all()
    assert np.isnan(dother[[0, 2]]).all()
    assert np.isfinite(dother[[1, 3]]).all()


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e200), (np.float64, 1e-200)]
)
def test_norms_whose_squares_leave_the_range(rng, dtype, scale):
    """Scaling a vector divides its gradient by the scale."""
    x1, x2 = operands(rng, ((5, 4), (5, 4)), dtype)
    dy = rng.standard_normal(5).astype(dtype)
    expected = cossim.cosine_similarity_vjp(x1, x2)[1](dy)
    got = cossim.cosine_similarity_vjp(x1 * dtype(scale), x2, 1, 0)[1](dy)
    np.testing.assert_allclose(got[0] * dtype(scale), expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-5, atol=1e-6)
    d = rng.standard_normal((5, 5)).astype(dtype)
    many = cossim.pairwise_vjp(x1 * dtype(scale), eps=0)[1](d)
    np.testing.assert_allclose(many * dtype(scale), cossim.pairwise_vjp(x1)[1](d), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "norm"), [(np.float32, 1e-40), (np.float64, 4e-310)])
def test_norms_whose_inverse_leaves_the_range(dtype, norm):
    """Gradients within the range of the type are right, although an intermediate inverse of the norm overflows."""
    x, y = np.array([[norm, 0, 0]], dtype), np.array([[0, 1, 0]], dtype)
    for eps in (0, norm):
        for dx in (
            cossim.cosine_similarity_vjp(x, y, 1, eps)[1](np.array([1e-3], dtype))[0],
            cossim.pairwise_vjp(x, y, eps=eps)[1](np.array([[1e-3]], dtype))[0],
        ):
            assert dx[0, [0, 2]].tolist() == [0, 0]
            np.testing.assert_allclose(dx[0, 1], 1e-3 / max(float(x[0, 0]), eps), rtol=1e-6)
    dx, _ = cossim.cosine_similarity_vjp(0 * x, y, 1, norm)[1](np.array([1], dtype))  # overflows
    assert dx.tolist() == [[0, np.inf, 0]]


def test_terms_beyond_the_range_whose_sum_is_0():
    """x is broadcast along dim, so its gradient is a sum. Its terms overflow the type, but they cancel."""
    x, y = np.array([[1e-36]], np.float32), np.array([[1, -2, 1]], np.float32)
    dx, _ = cossim.cosine_similarity_vjp(x, y, 1, 0)[1](np.array([1e4], np.float32))
    assert dx.tolist() == [[0]]
    dx, dy = cossim.cosine_similarity_vjp(x, y[:, :0], 1, 0)[1](np.array([1e4], np.float32))  # a sum without terms
    assert dx.tolist() == [[0]] and dy.shape == (1, 0)


def test_clamped_vectors_compared_with_infinite_ones():
    """The norm of a clamped vector is a constant, so its gradient is NaN only where the other vector is not finite."""
    x, y = np.array([[1.0, 2.0, 3.0]]), np.array([[np.inf, 5.0, 0.0]])
    dx, dy = cossim.cosine_similarity_vjp(x, y, 1, 100.0)[1](np.ones(1))
    np.testing.assert_array_equal(dx, [[np.nan, 0, 0]])
    assert np.isnan(dy).all()


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_rows_compared_with_no_rows_have_no_gradient(odd):
    x = np.array([[odd, 1.0, 2.0]])
    for y in (np.empty((0, 3)), np.empty((0, 1))):
        dx, dy = cossim.cosine_similarity_vjp(x, y)[1](np.empty(0))
        assert dx.tolist() == [[0, 0, 0]] and dy.shape == y.shape
    dx, dy = cossim.pairwise_vjp(x, np.empty((0, 3)))[1](np.empty((1, 0)))
    assert dx.tolist() == [[0, 0, 0]] and dy.shape == (0, 3)
    assert cossim.pairwise_vjp(np.empty((0, 3)))[1](np.empty((0, 0))).shape == (0, 3)


def test_gradients_that_leave_the_range_do_so_without_a_warning():
    for dtype in (np.float16, np.float32):
        x = np.full((1, 3), 1e-7 if dtype == np.float16 else 1e-42, dtype)
        for y in (np.array([[1, -2, 4]], dtype), np.array([[3]], dtype)):
            dx, _ = cossim.cosine_similarity_vjp(x, y, 1, 0)[1](np.array([60], dtype))
            assert y.shape[1] == 1 or np.isinf(dx).any()


def test_axis_is_another_name_for_dim(rng):
    x1, x2 = rng.standard_normal((2, 4, 3))
    for a, b in ((0, 0), (-2, 0), (1, 1), (np.int64(1), -1)):
        y, pullback = cossim.cosine_similarity_vjp(x1, x2, axis=a)
        expected, pullback_b = cossim.cosine_similarity_vjp(x1, x2, b)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(pullback(y), pullback_b(y))
    with pytest.raises(TypeError, match=r"\bdim\b.*\baxis\b"):
        cossim.cosine_similarity_vjp(x1, x2, 0, axis=1)


# ---- types and layouts ----


def test_layouts(rng):
    x1, x2 = rng.standard_normal((2, 6, 8))
    y, pullback = cossim.cosine_similarity_vjp(x1, x2)
    expected = pullback(y)
    before = x1.copy()
    for a, b in (
        (np.asfortranarray(x1), x2.astype(">f8")),
        (np.repeat(x1, 2, 1)[:, ::2], x2[::-1][::-1]),
        (x1.tolist(), x2),
    ):
        y, pullback = cossim.cosine_similarity_vjp(a, b)
        for dy in (y, y.astype(">f8"), y.tolist()):
            np.testing.assert_allclose(pullback(dy), expected, rtol=1e-12)
    np.testing.assert_array_equal(x1, before)
    a = x1.copy()
    y, pullback = cossim.cosine_similarity_vjp(a, x2)
    a[:] = 7
    np.testing.assert_array_equal(pullback(y), expected)


def test_dtypes(rng):
    x1, x2 = rng.integers(1, 9, (2, 4, 3))
    wide = cossim.cosine_similarity_vjp(x1.astype(float), x2.astype(float))
    dy = rng.standard_normal(4)
    for first, second in (
        (np.int8, np.int64),
        (np.float32, np.float64),
        (np.float16, np.float64),
        (np.float32, np.int16),
    ):
        y, pullback = cossim.cosine_similarity_vjp(x1.astype(first), x2.astype(second))
        assert y.dtype == np.float64
        got = pullback(dy)
        for gradient, dtype, expected in zip(got, (first, second), wide[1](dy), strict=True):
            assert gradient.dtype == (np.float64 if np.issubdtype(dtype, np.integer) else dtype)
            np.testing.assert_allclose(gradient, expected, rtol=1e-2 if dtype == np.float16 else 1e-4, atol=1e-4)
    for half in (np.float16, ml_dtypes.bfloat16):
        y, pullback = cossim.cosine_similarity_vjp(x1.astype(half), x2.astype(half))
        got = pullback(dy.astype(half))
        expected = wide[1](dy.astype(half).astype(float))
        assert y.dtype == got[0].dtype == got[1].dtype == half
        np.testing.assert_allclose(got[0].astype(float), expected[0], rtol=2e-2, atol=1e-3)
        scores, pullback = cossim.pairwise_vjp(x1.astype(half), x2.astype(half))
        assert scores.dtype == pullback(scores)[0].dtype == half


# ---- errors ----


def test_gradients_that_do_not_fit(rng):
    x = rng.standard_normal((4, 3))
    y, pullback = cossim.cosine_similarity_vjp(x, x)
    with pytest.raises(TypeError, match=r"dy: shape \(4,\), dtype float32; y: shape \(4,\), dtype float64"):
        pullback(y.astype(np.float32))
    with pytest.raises(TypeError, match=r"cosine_similarity_vjp\(\).*dy"):
        pullback(y * 1j)
    _, pullback = cossim.pairwise_vjp(x)
    with pytest.raises(ValueError, match=r"^pairwise_vjp\(\): dS\b.*\(dS: shape \(4,\)"):
        pullback(y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: cossim.cosine_similarity_vjp(x, x, 2), np.exceptions.AxisError, r"dim 2\b"),
        (lambda x: cossim.cosine_similarity_vjp(x, x, 1.5), TypeError, r"dim"),
        (lambda x: cossim.cosine_similarity_vjp(x, x, 1, -1), ValueError, r"eps"),
        (lambda x: cossim.cosine_similarity_vjp(x * 1j, x), TypeError, r"cosine_similarity_vjp\(\).*x1"),
        (lambda x: cossim.pairwise_vjp(x, x[:, :2]), ValueError, r"pairwise"),
        (lambda x: cossim.pairwise_vjp(x, eps="a"), TypeError, r"eps"),
        (lambda x: cossim.pairwise_vjp(x, "a"), FileNotFoundError, r"pairwise_vjp\(\).*y"),
    ],
)
def test_invalid_input_is_refused(rng, call, error, message):
    with pytest.raises(error, match=message):
        call(rng.standard_normal((4, 3)))


# ---- threads, instruction sets, memory ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_do_not_change_bits(rng, dtype):
    z = rng.standard_normal((700, 90)).astype(dtype)
    results = []
    for threads in (1, 2, 5):
        with cossim.threads(threads):
            scores, pullback = cossim.pairwise_vjp(z)
            cosines, broadcast_pullback = cossim.cosine_similarity_vjp(z[None], z[:, None], 2)
            results.append((pullback(scores), *broadcast_pullback(cosines)))
    for result in results[1:]:
        for gradient, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(gradient, expected)


@reports_memory
def test_memory():
    """The call takes at most three results of 2000 x 2000 and 12 MB; the broadcast product would take 1 GB."""
    prepare = """
def called(scores, pullback):
    return scores, pullback(scores)
z = np.random.default_rng(0).standard_normal((2000, 64), np.float32)
called(*cossim.pairwise_vjp(z[:8]))
"""
    calls = [
        "called(*cossim.pairwise_vjp(z))",
        "called(*cossim.cosine_similarity_vjp(z[None], z[:, None], 2))",
    ]
    for call, threads, extra, matrix in extra_memories(prepare, calls, "result[0].nbytes"):
        assert extra <= 3 * matrix + (12 << 20), (call, threads)


def test_more_dimensions_than_broadcast_shapes_takes(rng):
    """Arrays of NumPy 2 may have 40 dimensions, those of NumPy 1 have at most 32."""
    ndim = 40 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    x, y = (rng.standard_normal((3, *(1,) * (ndim - 2), 5)) for _ in range(2))
    s, pullback = cossim.cosine_similarity_vjp(x, y, -1)
    _, flat = cossim.cosine_similarity_vjp(x.reshape(3, 5), y.reshape(3, 5), 1)
    for found, expected in zip(pullback(np.ones(s.shape)), flat(np.ones(3)), strict=True):
        np.testing.assert_allclose(found.reshape(3, 5), expected, atol=1e-15)
    assert cossim.explain(x, y, -1).broadcast_shape == x.shape


def test_no_warnings_of_a_nan_that_signals():
    """NumPy itself warns when it converts a signaling NaN."""
    half = np.array([[0x7C01, 0x3C00], [0x3C00, 0x3C00]], np.uint16).view(np.float16)
    single = np.array([[0x7F800001, 0x3F800000], [0x3F800000, 0x3F800000]], np.uint32).view(np.float32)
    for x, other in ((half, half.copy()), (single, np.ones((2, 2)))):
        for y, pullback in (cossim.cosine_similarity_vjp(x, other), cossim.pairwise_vjp(x, other)):
            assert np.isnan(y.ravel()[0])
            assert np.isnan(pullback(np.ones_like(y))[0]).any()
    assert np.isnan(simclr.nt_xent(single, np.ones((2, 2))))


def test_errors_of_the_operands_name_the_function_that_was_called():
    x = np.ones((3, 4))
    calls = {
        "cosine_similarity_vjp": ((x, x[:2]), (x, x, 7)),
        "pairwise_vjp": ((x, x[:, :2]), (5,)),
    }
    for name, wrong in calls.items():
        for arguments in wrong:
            with pytest.raises(ValueError, match=rf"^{name}\(\): "):
                getattr(cossim, name)(*arguments)
    with pytest.raises(TypeError, match=r"^cosine_similarity_vjp\(\) got both dim and axis"):
        cossim.cosine_similarity_vjp(x, x, 1, axis=1)
