"""topk, pairs_above and duplicate_groups give the bits of the whole score matrix."""

import array
import itertools

import ml_dtypes
import numpy as np
import pytest
import reference
from reference import same

import cossim
from cossim import _core
from cossim.search.blocks import Request


def clustered(rng, n, depth):
    """Rows clustered around few centres; some appear twice."""
    x = rng.standard_normal((max(1, n // 8), depth))[rng.integers(0, max(1, n // 8), n)]
    x += 0.3 * rng.standard_normal((n, depth))
    x[rng.integers(0, n, n // 5)] = x[rng.integers(0, n, n // 5)]
    return x


def awkward(rng, n, depth):
    """Rows of very different norms, some of them zero, with NaN or infinite."""
    x = rng.standard_normal((n, depth)) * 10.0 ** rng.integers(-18, 18, (n, 1))
    x[rng.random(n) < 0.1] = 0
    x[rng.random(n) < 0.05, 0] = np.nan
    x[rng.random(n) < 0.05, -1] = np.inf
    return x


def extreme(rng, n, depth):
    """Rows at both ends of the range of float64; in narrower types most are zero or infinite."""
    return rng.standard_normal((n, depth)) * 10.0 ** rng.choice([-310, -200, -40, 0, 30, 200, 300], (n, 1))


def outlier(rng, n, depth):
    """One element of each row is far larger than the others."""
    x = rng.standard_normal((n, depth))
    x[np.arange(n), rng.integers(0, depth, n)] *= 1e6
    return x


DTYPES = np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, np.int16, np.int32, np.int64
KINDS = {
    "normal": lambda rng, n, depth: rng.standard_normal((n, depth)),
    "cone": lambda rng, n, depth: rng.standard_normal((n, depth)) + 9,  # all scores within a percent of each other
    "binary": lambda rng, n, depth: rng.integers(0, 2, (n, depth)).astype(float),  # many ties
    "same": lambda rng, n, depth: np.repeat(rng.standard_normal((1, depth)), n, 0),
    "clustered": clustered,
    "awkward": awkward,
    "extreme": extreme,
    "outlier": outlier,
    "tiny": lambda rng, n, depth: rng.standard_normal((n, depth)) * 1e-19,  # below eps
    "signs": lambda rng, n, depth: rng.choice([-1.0, 1.0], (n, depth)),
    "one ulp apart": lambda rng, n, depth: 1 + 2.0**-23 * rng.integers(0, 2, (n, depth)),
}


def scores_of(x, y=None):
    """The scores as search computes them: 16-bit floats count as float32."""
    half = np.float16, ml_dtypes.bfloat16
    wide = [a.astype(np.float32) if a is not None and a.dtype in half else a for a in (x, y)]
    return cossim.pairwise(*wide)


def queries_and_corpus(rng, kind, dtype, count, n, depth):
    """Queries of a kind, and a corpus of the same kind, whose rows 5 to 24 are queries too."""
    corpus = KINDS[kind](rng, n, depth)
    queries = np.concatenate([KINDS[kind](rng, count, depth), corpus[5:25]])
    with np.errstate(all="ignore"):
        if np.dtype(dtype).kind in "iu":
            limits = np.iinfo(dtype)
            times = min(limits.max / 14, 2.0**50)  # most elements fit
            corpus, queries = (
                np.clip(np.nan_to_num(times * a), limits.min, min(limits.max, 2**62)) for a in (corpus, queries)
            )
        return queries.astype(dtype), corpus.astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("depth", [3, 100, 384])
def test_results_are_those_of_the_whole_matrix(rng, kind, dtype, depth):
    """Few and many queries, against a corpus or themselves, with small and large k."""
    queries, corpus = queries_and_corpus(rng, kind, dtype, 30, 400, depth)
    scores, square = scores_of(queries, corpus), scores_of(corpus)
    for threads in (1, 3) if depth == 100 else (2,):
        with cossim.threads(threads):
            for count, k in ((1, 1), (2, 10), (4, 400), (5, 10), (50, 33)):
                found = cossim.topk(queries[:count], corpus, k)
                assert found.indices.dtype == np.int64
                assert found.values.dtype == scores.dtype
                same(found, reference.best_of(scores[:count], k, False))
            same(cossim.topk(corpus, None, 7), reference.best_of(square, 7, True))
            same(cossim.topk(corpus, corpus, 7), reference.best_of(square, 7, False))
            for threshold in (-1, 0.3, 0.9, 1):
                found = cossim.pairs_above(queries, threshold, corpus)
                assert found.i.dtype == found.j.dtype == np.int64
                same(found, reference.reaching(scores, threshold, False))
                same(cossim.pairs_above(corpus, threshold, queries), reference.reaching(scores.T, threshold, False))
            same(cossim.pairs_above(corpus, 0.8), reference.reaching(square, 0.8, True))


@pytest.mark.parametrize("kind", ["normal", "tiny", "extreme", "same"])
def test_queries_of_another_type(rng, kind):
    """Rows of each type, searched by queries of each type, directly and in an Index."""
    for dtype, other in itertools.product(DTYPES, (np.float64, np.float32, np.int8)):
        corpus = queries_and_corpus(rng, kind, dtype, 0, 90, 40)[1]
        queries = queries_and_corpus(rng, kind, other, 0, 25, 40)[1]
        scores, index = scores_of(queries, corpus), cossim.Index(corpus)
        for count in (1, 4, 25):
            same(cossim.topk(queries[:count], corpus, 9), reference.best_of(scores[:count], 9, False))
            same(index.topk(queries[:count], 9), reference.best_of(scores[:count], 9, False))
        same(cossim.pairs_above(queries, 0.2, corpus), reference.reaching(scores, 0.2, False))


def test_results_agree_with_torch(rng):
    from oracle import torch

    queries, corpus = rng.standard_normal((40, 128)), rng.standard_normal((5000, 128))
    units = (torch.nn.functional.normalize(torch.from_numpy(x)) for x in (queries, corpus))
    values, indices = torch.topk(next(units) @ next(units).T, 10)
    found = cossim.topk(queries, corpus, 10)
    np.testing.assert_array_equal(found.indices, indices.numpy())
    np.testing.assert_allclose(found.values, values.numpy(), atol=1e-14)
    narrow = cossim.topk(queries.astype("f4"), corpus.astype("f4"), 10)
    np.testing.assert_allclose(narrow.values, values.numpy(), atol=4e-7)
    np.testing.assert_array_equal(narrow.indices, found.indices)


def test_results_agree_with_long_double(rng):
    queries, corpus = rng.standard_normal((20, 60)), rng.standard_normal((300, 60))
    values, indices = reference.topk(queries, corpus, 12)
    found = cossim.topk(queries, corpus, 12)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.values, values.astype(float), atol=2e-15)
    np.testing.assert_array_equal(cossim.topk(corpus, None, 12).indices, reference.topk(corpus, None, 12)[1])


@pytest.mark.parametrize("count", [1, 4, 5, 40])
def test_large_corpus(rng, count):
    """The search takes several tasks and threads. Searches of both halves of the corpus, merged, give the same bits."""
    corpus, queries = rng.standard_normal((40_000, 96), np.float32), rng.standard_normal((count, 96), np.float32)
    expected = reference.best_of(cossim.pairwise(queries, corpus), 20, False)
    for threads in (1, 2, 5):
        with cossim.threads(threads):
            same(cossim.topk(queries, corpus, 20), expected)
    halves = [cossim.topk(queries, part, 20) for part in np.array_split(corpus, 2)]
    values = np.concatenate([h.values for h in halves], 1)
    indices = np.concatenate([halves[0].indices, halves[1].indices + 20_000], 1)
    order = np.lexsort((indices, -values))[:, :20]
    same((np.take_along_axis(values, order, 1), np.take_along_axis(indices, order, 1)), expected)


def test_any_layout(rng):
    corpus, queries = rng.standard_normal((900, 200), np.float32), rng.standard_normal((6, 200), np.float32)
    for x, q in (
        (corpus[:, ::2], queries[:, ::2]),
        (corpus[::-3], queries[::-1]),
        (np.asfortranarray(corpus), queries),
        (corpus.astype(">f4"), queries.astype(">f8")),
        (corpus, queries.astype(np.int32)),
        (corpus.astype(np.float16), queries),
        (corpus[:, :40].tolist(), queries[:, :40].tolist()),
    ):
        a, b = np.asarray(q), np.asarray(x)
        a, b = (v.astype(np.float32) if v.dtype == np.float16 else v for v in (a, b))
        expected = cossim.pairwise(a, b)
        for count in (1, 6):
            same(cossim.topk(q[:count], x, 9), reference.best_of(expected[:count], 9, False))
        same(cossim.pairs_above(q, 0.1, x), reference.reaching(expected, 0.1, False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("depth", [4097, 9000])
def test_deep_rows(rng, depth, dtype):
    """Rows are so long that gemm splits them into segments and chunks."""
    x = rng.standard_normal((700, depth)).astype(dtype)
    x[:, 0] += 10.0 ** rng.integers(-2, 3, 700)
    other = x.copy()
    expected = cossim.pairwise(x, other)
    for threads in (1, 3):
        with cossim.threads(threads):
            same(cossim.topk(x, other, 9), reference.best_of(expected, 9, False))
            same(cossim.pairs_above(x, 0.9, other), reference.reaching(expected, 0.9, False))
            same(cossim.Index(other).topk(x[:300], 9), reference.best_of(expected[:300], 9, False))


def test_operands_that_share_memory(rng):
    """Both operands use the same memory, with different numbers of rows."""
    x = rng.standard_normal((8192, 8), np.float32)
    for corpus in (x[4096:], x[:4096], x[::-1], x[5:]):
        for queries in (x, x[:300], x[4096:]):
            same(cossim.topk(queries, corpus, 3), cossim.topk(queries.copy(), corpus.copy(), 3))
        same(cossim.Index(corpus).topk(x, 3), cossim.topk(x, corpus.copy(), 3))
    one = np.broadcast_to(x[0], (700, 8))
    for memory in (None, 1):
        same(cossim.pairs_above(one, 0.9, memory=memory), cossim.pairs_above(one.copy(), 0.9))
        same(cossim.topk(one, None, 3, memory=memory), cossim.topk(one.copy(), None, 3))
        same(cossim.topk(one, one[:300], 3, memory=memory), cossim.topk(one.copy(), one[:300].copy(), 3))


def test_layouts_of_mixed_types_have_the_same_bits(rng):
    """float32 rows are converted to double for a product with float64 rows. Norms are summed in the same order in every
    layout."""
    x, q = rng.standard_normal((200, 96), np.float32), rng.standard_normal((10, 96))
    expected = cossim.pairwise(q, x)
    for other in (np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x.astype(">f4"), x[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_array_equal(cossim.pairwise(q, other), expected)
        same(cossim.topk(q, other, 5), reference.best_of(expected, 5, False))


def test_huge_numbers_of_threads_change_no_result(rng):
    x = rng.standard_normal((300, 16), np.float32)
    expected = cossim.topk(x, None, 3)
    with cossim.threads(100_000_000):
        same(cossim.topk(x, None, 3), expected)
        assert len(cossim.pairs_above(x, 0.99).i) == 0
        assert (cossim.duplicate_groups(x, 0.99) == np.arange(300)).all()


def test_near_ties_go_to_the_lowest_index(rng):
    """Distant copies, and rows that differ only in the last bit."""
    x = rng.standard_normal((3000, 64), np.float32)
    x[[5, 700, 1800, 2999]] = x[40]
    x[2000] = np.nextafter(x[40], np.float32(9))
    for count in (1, 8):
        found = cossim.topk(np.repeat(x[40:41], count, 0), x, 5)
        np.testing.assert_array_equal(found.indices[:, :4], [[5, 40, 700, 1800]] * count)
        assert (found.values[:, :5] == 1).all()
    np.testing.assert_array_equal(cossim.topk(x, None, 3).indices[40], [5, 700, 1800])


def test_nan_comes_last(rng):
    x = rng.standard_normal((50, 32), np.float32)
    x[::2] = np.nan
    q = rng.standard_normal((6, 32), np.float32)
    q[3] = np.nan
    found = cossim.topk(q, x, 50)
    number = np.isfinite(found.values)
    np.testing.assert_array_equal(number.sum(1), [25, 25, 25, 0, 25, 25])
    assert (number[:, :25] == number[:, :1]).all()
    np.testing.assert_array_equal(found.indices[0, 25:], np.arange(0, 50, 2))
    np.testing.assert_array_equal(found.indices[3], np.arange(50))
    assert len(cossim.pairs_above(x, -1).i) == 25 * 24 // 2


@pytest.mark.parametrize("threshold", [-1, 0.2, 0.8, 0.95, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_groups(rng, kind, threshold):
    x = KINDS[kind](rng, 200, 40)
    labels = cossim.duplicate_groups(x, threshold)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, reference.groups(cossim.pairwise(x), threshold))
    with cossim.threads(3):
        np.testing.assert_array_equal(cossim.duplicate_groups(np.tile(x, (3, 1)), threshold)[:200], labels)


@pytest.mark.parametrize("count", [20, 26, 3000])
@pytest.mark.parametrize("n", [130_000, 1_100_000])
def test_pairs_of_long_sides_are_in_order(rng, n, count):
    """Few or many of the rows of a long side pair with each row of the other side, for either order of the sides."""
    x = np.full((n, 1), -1, np.int8)
    chosen = np.sort(rng.choice(n, count, replace=False))
    x[chosen] = 1
    i, j, values = cossim.pairs_above(np.ones((2, 1), np.int8), 0.5, x)
    np.testing.assert_array_equal(i, np.repeat([0, 1], count))
    np.testing.assert_array_equal(j, np.tile(chosen, 2))
    i, j, values = cossim.pairs_above(x, 0.5, np.ones((2, 1), np.int8))
    np.testing.assert_array_equal(i, np.repeat(chosen, 2))
    np.testing.assert_array_equal(j, np.tile([0, 1], count))
    assert (values == 1).all()


def test_max_pairs(rng):
    x = np.repeat(rng.standard_normal((4, 32)), 10, 0)
    count = len(cossim.pairs_above(x, 0.99).i)
    assert count == 4 * 45
    assert len(cossim.pairs_above(x, 0.99, max_pairs=count).i) == count
    for most in (0, 1, count - 1):
        with pytest.raises(ValueError, match=rf"pairs_above\(\): .*\bmax_pairs={most}\b.*\b0\.99\b.*\b{count}\b"):
            cossim.pairs_above(x, 0.99, max_pairs=most)
        with pytest.raises(ValueError, match=rf"\b{count}\b"):
            cossim.pairs_above(x, 0.99, max_pairs=most, memory=1)
    assert len(cossim.pairs_above(x, 0.99, x, max_pairs=4 * 100).i) == 400


@pytest.mark.parametrize("eps", [0.0, 1e-8, 3.0, 50.0])
def test_eps(rng, eps):
    x, q = rng.standard_normal((500, 48), np.float32), rng.standard_normal((9, 48), np.float32)
    x[::7] *= 1e-3
    expected = cossim.pairwise(q, x, eps=eps)
    for count in (1, 9):
        same(cossim.topk(q[:count], x, 8, eps=eps), reference.best_of(expected[:count], 8, False))
    same(cossim.pairs_above(q, -0.1, x, eps=eps), reference.reaching(expected, -0.1, False))
    same(cossim.Index(x, eps=eps).topk(q, 8), reference.best_of(expected, 8, False))


@pytest.mark.parametrize(("dtype", "scale", "eps"), [("f4", 3e-31, 1e-8), ("f4", 1e-30, 1.0), ("f8", 1e-160, 1e-8)])
def test_scores_that_underflow(rng, dtype, scale, eps):
    """A score that rounds to 0 or to a subnormal number reaches a threshold that its exact value does not reach."""
    q, x = (rng.standard_normal((n, 40)) * scale for n in (6, 400))
    q, x = q.astype(dtype), x.astype(dtype)
    for count in (1, 6):
        scores = cossim.pairwise(q[:count], x, eps=eps)
        for threshold in (0.0, float(scores.max()), float(scores.min()), float(np.median(scores))):
            expected = reference.reaching(scores, threshold, False)
            same(cossim.pairs_above(q[:count], threshold, x, eps=eps), expected)
            same(cossim.Index(x, eps=eps).pairs_above(q[:count], threshold), expected)


@pytest.mark.parametrize(("small", "large", "eps"), [(1e-286, 1e70, 1e-8), (1e-150, 1e74, 1e160), (1e70, 1e70, 1e155)])
def test_products_of_norms_that_overflow(rng, small, large, eps):
    """A score is 0 if the product of its two norms is infinite, although its exact value is far from subnormal."""
    x = rng.standard_normal((300, 20)) * np.where(rng.random((300, 1)) < 0.5, small, large)
    for threshold in (0.0, -1e-300):
        expected = reference.reaching(cossim.pairwise(x, eps=eps), threshold, True)
        same(cossim.pairs_above(x, threshold, eps=eps), expected)
        same(cossim.Index(x, eps=eps).pairs_above(None, threshold), expected)
        for count in (1, 6):
            scores = cossim.pairwise(x[:count], x, eps=eps)
            same(cossim.pairs_above(x[:count], threshold, x, eps=eps), reference.reaching(scores, threshold, False))
            same(cossim.topk(x[:count], x, 200, eps=eps), reference.best_of(scores, 200, False))


@pytest.mark.parametrize(("small", "large", "eps"), [(1e-12, 1e-12, 1e29), (1e-41, 1e-30, 1.0), (1e-20, 1e-20, 1e20)])
def test_rows_far_below_eps(rng, small, large, eps):
    q, x = rng.standard_normal((9, 40)), rng.standard_normal((700, 40)) * small
    x[::100] *= large / small
    for count in (1, 9):
        scores = cossim.pairwise(q[:count], x, eps=eps)
        threshold = float(np.sort(scores, None)[-20])
        for found in (cossim.topk(q[:count], x, 5, eps=eps), cossim.Index(x, eps=eps).topk(q[:count], 5)):
            same(found, reference.best_of(scores, 5, False))
        expected = reference.reaching(scores, threshold, False)
        same(cossim.pairs_above(q[:count], threshold, x, eps=eps), expected)
        same(cossim.Index(x, eps=eps).pairs_above(q[:count], threshold), expected)


# ---- bad input ----


@pytest.mark.parametrize("k", [0, -1, 10**30, -(10**30)])
def test_k_out_of_range_is_refused(k):
    x, limit = np.ones((30, 4)), r"2\*\*63" if k > 0 else r"1\b"
    with pytest.raises(ValueError, match=rf"^topk\(\): k\b.*\b{limit}"):
        cossim.topk(x[:2], x, k)
    with pytest.raises(ValueError, match=rf"^Index\.topk\(\): k\b.*\b{limit}"):
        cossim.Index(x).topk(x, k)
    with pytest.raises(ValueError, match=rf"^topk\(\): k\b.*\b{limit}"):
        cossim.topk(x, None, k)


def test_a_number_in_the_place_of_rows_is_refused():
    x = np.ones((3, 4))
    for queries, corpus, name in ((3, x, "queries"), (np.int64(3), None, "queries"), (x, 3, "corpus")):
        with pytest.raises(TypeError, match=rf"^topk\(\): {name} must be rows, not int.*: k is the third argument"):
            cossim.topk(queries, corpus, x)


class NoIndex:
    def __index__(self):
        return "3"


def test_invalid_arguments_are_refused():
    x = np.ones((30, 4))
    for k in (1.5, "3", None, True, [1], np.array([1]), NoIndex()):
        with pytest.raises(TypeError, match=r"topk\(\): k\b"):
            cossim.topk(x, x, k)
    with pytest.raises(ValueError, match=r"topk\(\): k\b.*\b2\*\*63\b"):
        cossim.topk(x, x, 10**5000)  # Python refuses to print this number
    for threshold in (1.01, -1.01, np.nan, np.inf):
        for function in (cossim.pairs_above, cossim.duplicate_groups, cossim.Index(x).pairs_above):
            with pytest.raises(ValueError, match=r"\(\): threshold\b.*\[-1, 1\]"):
                function(x, threshold)
    assert len(cossim.pairs_above(x, 0.5, max_pairs=10**30).i) == 435
    for threshold in ("0.5", b"1", np.str_("1"), array.array("B", b"1"), None, [0.5], np.array([0.5]), 1j):
        with pytest.raises(TypeError, match=r"pairs_above\(\): threshold\b"):
            cossim.pairs_above(x, threshold)
    for call, name in (
        (lambda a, b: cossim.topk(a, b, 1), "topk"),
        (lambda a, b: cossim.pairs_above(a, 0.5, b), "pairs_above"),
        (lambda a, b: cossim.Index(b).topk(a, 1), "Index.topk"),
    ):
        for queries, corpus, error, words in (
            (np.ones((2, 3)), x, ValueError, rf"{name}\(\).*\b3\b.*\b4\b.*\(2, 3\).*\(30, 4\)"),
            (x[:, :0], x[:, :0], ValueError, r"\(30, 0\)"),
            (x, x[None], ValueError, r"\(N, D\).*\(1, 30, 4\)"),
            (x, x[0, :3], ValueError, r"\b3\b.*\b4\b|\b4\b.*\b3\b"),
            (x, x.astype(complex), TypeError, r"\breal\b"),
            (np.ma.masked_array(x), x, TypeError, "masked"),
        ):
            with pytest.raises(error, match=words):
                call(queries, corpus)
    for memory in (0, -5, -(10**5000), "1G", 1.5, True, NoIndex()):
        with pytest.raises(ValueError if type(memory) is int else TypeError, match=r"topk\(\): memory\b"):
            cossim.topk(x, x, 1, memory=memory)
    for most in (-1, -(10**5000), 1.5, "3", NoIndex()):
        with pytest.raises(ValueError if type(most) is int else TypeError, match=r"pairs_above\(\): max_pairs\b"):
            cossim.pairs_above(x, 0.5, max_pairs=most)
    for eps, error in ((-1, ValueError), (np.nan, ValueError), ("x", TypeError)):
        for function in (lambda e: cossim.topk(x, x, 1, eps=e), lambda e: cossim.Index(x, eps=e)):
            with pytest.raises(error, match=r"\(\): eps\b"):
                function(eps)


def test_no_queries():
    x = np.ones((3, 4), np.float32)
    found = cossim.topk(x[:0], x, 2)
    assert found.values.shape == found.indices.shape == (0, 2)
    assert len(cossim.pairs_above(x[:0], 0.5, x).i) == 0
    assert cossim.pairs_above(-np.eye(3), 0.5).values.dtype == np.float64
    assert len(cossim.pairs_above(x[:1], 0.5).i) == 0


def test_the_core_refuses_rows_beyond_the_results(rng):
    """The C functions themselves check everything that memory safety needs."""
    x = rng.standard_normal((3, 4)).astype(np.float32)

    def request(first_candidate=0, first_query=0, without_self=False):
        return Request("f", x, x, first_candidate, first_query, without_self, 1e-8, None)

    def results(rows, k):
        return np.full((rows, k), np.nan, np.float32), np.zeros((rows, k), np.int64)

    _core.topk(request(), *results(3, 1))
    for numbers, shape in [
        ({}, (2, 1)),
        ({}, (3, 0)),
        ({"first_query": 1}, (3, 1)),
        ({"first_query": -1}, (3, 1)),
        ({"first_candidate": -1}, (3, 1)),
        ({"first_query": 2**62}, (3, 1)),
        ({"first_candidate": 2**63 - 2}, (3, 1)),
        ({"first_candidate": 2, "without_self": True}, (3, 1)),
    ]:
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.topk(request(**numbers), *results(*shape))

    def pairs(request, rows, columns, swapped=False):
        found = _core.pairs_begin(rows, columns, threshold=-1.0, max_pairs=10, double=False)
        _core.pairs(request, found, swapped=swapped)
        return _core.pairs_end(found)

    with pytest.raises(MemoryError):  # needs counts for 2**61 rows
        pairs(request(2**61 - 8), 2**61, 3, swapped=True)
    for rows, columns, swapped in [(2, 3, False), (3, 2, True), (0, 0, False)]:
        with pytest.raises(ValueError, match=r"\bfit\b"):
            pairs(request(), rows, columns, swapped)
    with pytest.raises(ValueError, match=r"\bfit\b"):  # the scores are float32
        _core.pairs(request(), _core.pairs_begin(3, 3, threshold=-1.0, max_pairs=10, double=True), swapped=False)
    i, j, _, count = pairs(request(2**61 - 2), 3, 2**61 + 1)
    assert (list(i), list(j), count) == ([0, 0, 0, 1, 1, 1, 2, 2, 2], 3 * [2**61 - 2, 2**61 - 1, 2**61], 9)
    x = x[:, :0]  # rows without elements: all scores are 0
    apart = request()._replace(queries=x.copy())
    i, j, values, _ = pairs(apart, 3, 3)
    assert (len(i), len(j)) == (9, 9)
    np.testing.assert_array_equal(values, 0)
    for numbers, parents in [({}, [0, 1]), ({"first_candidate": 1}, [0, 1, 2]), ({}, [0, 1, 2**40]), ({}, [0, -1, 2])]:
        with pytest.raises(ValueError, match=r"\bfit\b|\bparents\b"):
            _core.components(request(**numbers), np.array(parents), threshold=0.5)


def test_a_collector_of_pairs_serves_one_call_at_a_time():
    """A call runs without the GIL, so other threads and its progress callback can pass the same collector to a call."""
    x = np.random.default_rng(0).standard_normal((1000, 64), np.float32)
    found = _core.pairs_begin(1000, 1000, threshold=0.3, max_pairs=10**6, double=False)
    refused = []
    request = Request("topk", x, x, 0, 0, True, 1e-8, None)

    def use_it(done, total):
        for call in (lambda: _core.pairs_end(found), lambda: _core.pairs(request, found, swapped=True)):
            with pytest.raises(ValueError, match=r"\bfit\b"):
                call()
            refused.append(done)

    _core.pairs(request._replace(report=use_it), found, swapped=True)
    assert refused
    i, j, values, _ = _core.pairs_end(found)
    np.testing.assert_array_equal((i, j), cossim.pairs_above(x, 0.3)[:2])
    assert len(values) == len(i)
    with pytest.raises(ValueError, match=r"\bfit\b"):  # it is empty
        _core.pairs_end(found)
