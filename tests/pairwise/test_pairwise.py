"""pairwise and the broadcast form are accurate, and a score does not depend on the rest of the call."""

import ml_dtypes
import numpy as np
import pytest
import reference
from oracle import torch
from processes import extra_memories, reports_memory

import cossim


def check_no_worse_than_torch(most, x, y=None):
    """Our error is within a bound, and no larger than the error of torch's product of normalized rows."""
    exact = cossim.pairwise(x.astype(np.float64), None if y is None else y.astype(np.float64))
    left, right = (torch.nn.functional.normalize(torch.from_numpy(a)) for a in (x, x if y is None else y))
    ours, theirs = np.abs(cossim.pairwise(x, y) - exact).max(), np.abs((left @ right.T).numpy() - exact).max()
    assert ours <= most
    assert ours <= theirs


@pytest.mark.parametrize("kind", ["normal", "positive", "binary", "constant"])
@pytest.mark.parametrize("depth", [1, 7, 32, 33, 64, 100, 256, 257, 511, 512, 768, 1000, 2048, 4096])
def test_float32_within_4e_7(rng, kind, depth):
    n, m = 70, 45
    if kind == "normal":
        x, y = rng.standard_normal((n, depth)), rng.standard_normal((m, depth))
    elif kind == "positive":
        x, y = rng.uniform(0, 1, (n, depth)), rng.uniform(0, 1, (m, depth))
    elif kind == "binary":
        x, y = rng.integers(0, 2, (n, depth)), rng.integers(0, 2, (m, depth))
    else:
        x, y = np.full((n, depth), 0.1), np.where(rng.uniform(size=(m, depth)) < 0.1, -0.3, 0.3)
    x, y = x.astype(np.float32), y.astype(np.float32)
    exact = cossim.cosine_similarity(x.astype(float)[:, None], y.astype(float)[None], 2)
    np.testing.assert_allclose(cossim.pairwise(x, y), exact, atol=4e-7)
    np.testing.assert_allclose(cossim.cosine_similarity(x[:, None], y[None], 2), exact, atol=4e-7)
    np.testing.assert_allclose(exact[::9, ::9], reference.pairwise(x[::9], y[::9]).astype(float), atol=3e-15)


@pytest.mark.parametrize("depth", [32, 64, 256, 511, 512, 2047, 2048, 4096])
def test_many_scores_of_one_sign_within_4e_7_and_no_worse_than_torch(rng, depth):
    """Terms of one sign are the hardest to sum. Depths are whole chains of 32 and blocks of 256 terms, or one less."""
    check_no_worse_than_torch(4e-7, (1 + 0.5 * rng.standard_normal((600, depth))).astype(np.float32))


def test_real_embeddings_within_4e_7_and_no_worse_than_torch(sentence_embeddings):
    check_no_worse_than_torch(4e-7, sentence_embeddings[:1500])


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 64, 191, 400])
def test_with_itself(rng, n, dtype):
    x = rng.standard_normal((n, 50)).astype(dtype)
    if n > 4:
        x[3] = 0
        x[4] = x[1]
    square = cossim.pairwise(x)
    assert square.shape == (n, n)
    assert square.dtype == x.dtype
    np.testing.assert_array_equal(square, square.T)
    np.testing.assert_array_equal(np.diag(square), (x != 0).any(1).astype(dtype))
    np.testing.assert_array_equal(square, cossim.pairwise(x, x.copy()))
    if n > 4:
        assert square[4, 1] == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
def test_a_score_does_not_depend_on_the_rest_of_the_call(rng, dtype):
    """A score has the same bits in any batch, any order of rows, with any number of threads, and on either side."""
    x, y = rng.standard_normal((500, 300)).astype(dtype), rng.standard_normal((600, 300)).astype(dtype)
    y[7] = x[3]
    y[8] = x[3] * dtype(1.0001)
    whole = cossim.pairwise(x, y)
    order = rng.permutation(len(y))
    np.testing.assert_array_equal(cossim.pairwise(x, y[order]), whole[:, order])
    np.testing.assert_array_equal(cossim.pairwise(y, x), whole.T)
    np.testing.assert_array_equal(cossim.pairwise(x[3:4], y), whole[3:4])
    np.testing.assert_array_equal(cossim.pairwise(x[100:137], y[5:9]), whole[100:137, 5:9])
    np.testing.assert_array_equal(np.concatenate([cossim.pairwise(part, y) for part in np.array_split(x, 7)]), whole)
    for threads in (1, 2, 5):
        with cossim.threads(threads):
            np.testing.assert_array_equal(cossim.pairwise(x, y), whole)
            np.testing.assert_array_equal(cossim.pairwise(x), cossim.pairwise(x, x.copy()))
    np.testing.assert_array_equal(cossim.pairwise(np.asfortranarray(x), y[:, ::-1][:, ::-1]), whole)


@pytest.mark.parametrize("depth", [64, 1024, 2100])
def test_layout_and_size_do_not_change_bits(rng, depth):
    """Rows are used in place, copied, converted or shared; results fit the cache or do not."""
    x = rng.integers(-100, 100, (700, depth)).astype(np.int8)
    wide = np.zeros((700, depth + 3), np.float32)
    wide[:, :depth] = x
    narrow = x.astype(np.float32)
    whole = cossim.pairwise(narrow, narrow[::-1].copy())
    np.testing.assert_array_equal(cossim.pairwise(wide[:, :depth], narrow[::-1]), whole)
    np.testing.assert_array_equal(cossim.pairwise(narrow)[:, ::-1], whole)
    np.testing.assert_array_equal(cossim.pairwise(narrow[600:], narrow[::-1][:50]), whole[600:, :50])
    np.testing.assert_allclose(cossim.pairwise(x)[:, ::-1], whole, atol=4e-7)
    # sums of integers are exact, so only the rounding to 16 bits remains
    np.testing.assert_array_equal(cossim.pairwise(x.astype(np.float16)), cossim.pairwise(x).astype(np.float16))
    for type_ in (np.float64, np.float32):  # norms, too, do not depend on the layout
        y = rng.standard_normal((40, 2 * depth)).astype(type_)[:, ::2]
        np.testing.assert_array_equal(cossim.pairwise(y), cossim.pairwise(y, y.copy()))
        np.testing.assert_array_equal(cossim.pairwise(y.copy()), cossim.pairwise(y, y.copy()))
    np.testing.assert_array_equal(cossim.pairwise(x), cossim.pairwise(x.astype(np.int64)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: np.dtype(d).name)
def test_threads_do_not_change_bits(rng, dtype):
    x, y = rng.standard_normal((2, 3000, 400)).astype(dtype)
    for function in (
        cossim.cosine_similarity,
        lambda a, b: cossim.cosine_similarity(a.T, b.T, 0),
        lambda a, b: cossim.normalize(a),
        lambda a, b: cossim.cosine_similarity(a[None, :300], b[:300, None], 2),
    ):
        with cossim.threads(1):
            one = function(x, y)
        with cossim.threads(3):
            np.testing.assert_array_equal(function(x, y), one)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16], ids=lambda d: np.dtype(d).name)
def test_batches_do_not_change_bits(rng, dtype):
    """Norms are computed for 64 rows at a time, also across the border of two batches."""
    x, y = rng.standard_normal((3, 50, 1, 2000)).astype(dtype), rng.standard_normal((3, 1, 50, 2000)).astype(dtype)
    whole = cossim.cosine_similarity(x, y, -1)
    for batch in range(3):
        np.testing.assert_array_equal(cossim.cosine_similarity(x[batch], y[batch], -1), whole[batch])
        np.testing.assert_array_equal(cossim.pairwise(x[batch, :, 0], y[batch, 0]), whole[batch])


def test_distances_of_near_rows_keep_their_digits(rng):
    x = rng.standard_normal((20, 300)).astype(np.float32)
    y = x + 1e-6 * rng.standard_normal((20, 300)).astype(np.float32)
    rows = cossim.cosine_distance(x, y)
    assert 0 < rows.max() < 1e-11
    np.testing.assert_array_equal(np.diag(cossim.cosine_distance(x[:, None], y[None], 2)), rows)


def test_tall_and_wide(rng):
    x, y = rng.standard_normal((150_000, 3)).astype(np.float32), rng.standard_normal((2, 3)).astype(np.float32)
    expected = np.stack([cossim.cosine_similarity(x, row[None]) for row in y], 1)
    np.testing.assert_allclose(cossim.pairwise(x, y), expected, atol=4e-7)
    np.testing.assert_array_equal(cossim.pairwise(y, x), cossim.pairwise(x, y).T)
    np.testing.assert_array_equal(cossim.pairwise(x[:5], y), cossim.pairwise(x, y)[:5])


def test_rows_without_elements_score_0():
    for eps in (0, 1e-8):
        assert (cossim.pairwise(np.zeros((3, 0)), eps=eps) == 0).all()
        assert (cossim.cosine_similarity(np.zeros((2, 3, 1, 0)), np.zeros((2, 1, 4, 0)), 3, eps) == 0).all()
        assert (cossim.cosine_distance(np.zeros((3, 1, 0)), np.zeros((1, 4, 0)), 2, eps) == 1).all()


@pytest.mark.parametrize("depth", [128, 600, 2048, 4096])
def test_runs_of_one_value_are_the_hardest_and_no_worse_than_torch(rng, depth):
    """All roundings of a sum then have one sign. The largest error found is 6.2e-7; torch's is several times larger."""
    x = np.repeat(rng.uniform(0.5, 1, (200, 1)), depth, 1).astype(np.float32)
    low, high = rng.uniform(0.1, 1, (2, 200, 1))
    y = np.concatenate([np.repeat(low, depth // 2, 1), np.repeat(high, depth - depth // 2, 1)], 1).astype(np.float32)
    check_no_worse_than_torch(6.5e-7, x, y)


def test_batch_axes(rng):
    x, y = rng.standard_normal((3, 1, 20, 4, 33)), rng.standard_normal((3, 30, 1, 4, 33))
    few = rng.standard_normal((5, 1, 6, 1, 8)), rng.standard_normal((1, 7, 1, 9, 8))
    many = rng.standard_normal((40000, 1, 3, 2)), rng.standard_normal((40000, 2, 1, 2))
    for name, operands, atol in (
        ("cosine_similarity", (x, y), 2e-15),
        ("cosine_similarity", few, 2e-15),
        ("vecdot", few, 2e-14),
        ("cosine_distance", few, 2e-15),
        ("cosine_similarity", many, 2e-15),
    ):
        expected = getattr(reference, name)(*operands, -1).astype(float)
        np.testing.assert_allclose(getattr(cossim, name)(*operands, -1), expected, atol=atol)


def test_deep_rows(rng):
    x, y = rng.standard_normal((300, 9000)), rng.standard_normal((270, 9000))
    expected = cossim.cosine_similarity(x[:200, None][:, 0], y[:200], 1)
    np.testing.assert_allclose(np.diag(cossim.pairwise(x, y))[:200], expected, atol=2e-15)
    np.testing.assert_allclose(np.diag(cossim.pairwise(x.astype("f4"), y.astype("f4")))[:200], expected, atol=4e-7)


def test_out(rng):
    x, y = rng.standard_normal((30, 8)), rng.standard_normal((20, 8))
    expected = cossim.pairwise(x, y)
    big = np.zeros((60, 40))
    assert cossim.pairwise(x, y, out=big[::2, ::2]) is not None
    np.testing.assert_array_equal(big[::2, ::2], expected)
    assert not big[1::2].any()
    assert not big[:, 1::2].any()
    narrow = np.empty((30, 20), np.float32)
    cossim.pairwise(x, y, out=narrow)
    np.testing.assert_array_equal(narrow, expected.astype(np.float32))
    square = rng.standard_normal((12, 12))
    expected = cossim.pairwise(square)
    np.testing.assert_array_equal(cossim.pairwise(square, out=square), expected)


@reports_memory
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("f4", (2048, 768)),
        ("f8", (1600, 1030)),
        ("f8", (600, 5000)),
        ("f2", (1200, 2048)),
        ("i1", (300, 70000)),
        ("f2", (4, 3_000_000)),
    ],
    ids=str,
)
def test_pairwise_takes_little_memory_beyond_its_result(dtype, shape):
    """At most the result and 8 MB a thread; most broadcast products would take gigabytes."""
    calls = ["cossim.pairwise(z)", "cossim.pairwise(z, z[::-1])"]
    calls.append("cossim.cosine_similarity(z[None], z[:, None], dim=2)")
    prepare = f"""
whole = np.random.default_rng(0).integers(-99, 99, {shape}, dtype=np.int8).astype({dtype!r})
z = whole[:8, :100]
for call in {calls}:
    eval(call)
z = whole
"""
    measured = extra_memories(prepare, calls, "result.nbytes, *result.shape")
    assert len(measured) == 2 * len(calls)
    for call, threads, extra, result, *sizes in measured:
        assert sizes == [shape[0]] * 2
        assert extra <= result + threads * (8 << 20), (call, threads)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (0, 3), (3, 0), (40, 33), (700, 64)])
def test_one_vector_has_no_axis_in_the_result(rng, dtype, n, d):
    q, p = (rng.standard_normal((2, d)) * 9).astype(dtype)
    x = (rng.standard_normal((n, 2 * d)) * 9).astype(dtype)[:, ::2]
    scores, number = cossim.pairwise(q[None], x)[0], cossim.pairwise(q[None], p[None])[0, 0]
    np.testing.assert_array_equal(cossim.pairwise(q, x), scores)
    np.testing.assert_array_equal(cossim.pairwise(x, q), scores)
    assert isinstance(cossim.pairwise(q, p), np.floating)
    assert cossim.pairwise(q, p) == number
    assert cossim.pairwise(q) == cossim.pairwise(q[None])[0, 0]
    out = np.empty((2, n), scores.dtype)[::-1]
    cossim.pairwise(q, x, out=out[0])
    cossim.pairwise(x[::-1], q, out=out[1, ::-1])
    np.testing.assert_array_equal(out, [scores, scores])


def test_gradients_of_one_vector(rng):
    q, x = rng.standard_normal(8), rng.standard_normal((5, 8))
    for left, right in ((q, x), (x, q), (q, q[::-1])):
        y, pullback = cossim.pairwise_vjp(left, right)
        expected, of_rows = cossim.pairwise_vjp(np.atleast_2d(left), np.atleast_2d(right))
        d = rng.standard_normal(np.shape(y))
        np.testing.assert_array_equal(y, expected.reshape(np.shape(y)))
        for one, rows, operand in zip(pullback(d), of_rows(d.reshape(expected.shape)), (left, right), strict=True):
            np.testing.assert_array_equal(one, rows.reshape(operand.shape), strict=True)
    y, pullback = cossim.pairwise_vjp(q)
    assert y == 1
    np.testing.assert_allclose(pullback(1.0), np.zeros(8), atol=1e-15)
