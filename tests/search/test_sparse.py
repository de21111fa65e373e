"""Sparse rows of integers give the bits of the dense matrix, and searches give the scores of pairwise, bit for bit."""

import math
import threading
import types

import numpy as np
import pytest
import reference
from reference import same

import cossim

sp = pytest.importorskip("scipy.sparse")

DTYPES = np.float32, np.float64, np.int8, np.uint8, np.int64


def csr(rng, rows, columns, density, dtype=np.float64, integers=False):
    """Random rows, some of them empty and some repeated."""
    x = sp.random(rows, columns, density=density, format="csr", random_state=rng)
    x.data = rng.integers(1, 9, x.nnz).astype(float) if integers else rng.standard_normal(x.nnz)
    x = x[rng.integers(0, rows, rows)]
    if not np.issubdtype(dtype, np.unsignedinteger):
        x.data *= rng.choice([-1, 1, 1, 1], x.nnz)
    return x.astype(dtype)


def exact(x, y):
    """Cosines of the rows of dense matrices from exact dot products."""
    dot = lambda a, b: math.fsum(map(float.__mul__, map(float, a), map(float, b)))  # noqa: E731
    norms = [[math.sqrt(dot(row, row)) or 1.0 for row in side] for side in (x, y)]
    return np.array(
        [[dot(a, b) / (n * m) for b, m in zip(y, norms[1], strict=True)] for a, n in zip(x, norms[0], strict=True)]
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize(("rows", "columns", "density"), [(60, 30, 0.2), (400, 900, 0.02)])
def test_integers_have_the_bits_of_the_dense_matrix(rng, dtype, rows, columns, density):
    """Sums of small integers are exact in any order, so both forms round the same numbers."""
    x, y = (csr(rng, n, columns, density, dtype, integers=True) for n in (rows, 37))
    a, b = x.toarray(), y.toarray()
    if dtype in (np.int8, np.uint8):  # the dense product of 8-bit integers recomputes more of the scores near 1
        a, b = a.astype(np.int64), b.astype(np.int64)
    same([cossim.pairwise(x)], [cossim.pairwise(a)])
    for left in (x, a):
        for right in (y, b):
            same([cossim.pairwise(left, right)], [cossim.pairwise(a, b)])
    same([cossim.vector_norm(x, 1)], [cossim.vector_norm(a, 1)])
    same([cossim.normalize(x).toarray()], [cossim.normalize(a)])
    for function in (cossim.cosine_similarity, cossim.cosine_distance):
        same([function(x, x[::-1])], [function(a, a[::-1])])
        same([function(x, b[:1])], [function(a, b[:1])])


def test_whole_numbers_score_as_dense_rows_in_search(rng):
    """Cosines that are fractions are exact: they reach a threshold, and equal ones are in order of index."""
    x = csr(rng, 400, 40, 0.1, np.float64, integers=True)
    same(cossim.topk(x, None, 20), cossim.topk(x.toarray(), None, 20))
    for threshold in (0.0, 0.5, 0.6):  # by all sums, and by the prefix filter
        same(cossim.pairs_above(x, threshold), cossim.pairs_above(x.toarray(), threshold))
    x = sp.csr_array([[1.0, 1, 0], [0, 1, 1]])
    assert cossim.pairs_above(x, 0.5).values == [0.5]


def skewed(rng, rows, columns, entries, dtype, signed):
    """Rows whose columns are frequent or rare, as words are, with repeated and empty rows at the end."""
    shares = 1 / np.arange(1, columns + 1)
    at = np.repeat(np.arange(rows), entries), rng.choice(columns, rows * entries, p=shares / shares.sum())
    values = rng.random(rows * entries) * (rng.choice([-1, 1], rows * entries) if signed else 1)
    x = sp.csr_array(sp.coo_array((values, at), (rows, columns)))
    return sp.csr_array(sp.vstack([x, x[:30], x[:5] * 0])).astype(dtype)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_topk_is_the_first_k_of_pairwise(rng, dtype, signed):
    """Also for queries that share columns with many rows, few or none, and for norms that are huge, tiny or NaN."""
    x = skewed(rng, 600, 400, 12, dtype, signed)
    x.data[400:440] *= 1e30
    x.data[900:990] *= 1e-30
    x.data[1200:1210] *= 1e-42
    for k in (1, 10, 64, 65):
        same(cossim.topk(x, None, k), reference.best_of(cossim.pairwise(x), k, True))
    x.data[2000] = np.nan
    y = sp.csr_array(sp.vstack([x[:200], sp.csr_array(([1.0], [399], [0, 1]), shape=(1, 400)), x[-2:]]).astype(dtype))
    for k in (1, 10, 64, 65):
        for eps in (0, 1e-8, 1.0):
            same(cossim.topk(y, x, k, eps=eps), reference.best_of(cossim.pairwise(y, x, eps=eps), k, False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_topk_of_many_rows_is_the_first_k_of_pairwise(rng, dtype):
    """The corpus has more rows than a block of the index of coarse scores holds."""
    x = skewed(rng, 20_000, 300, 6, dtype, False)
    y = x[rng.integers(0, 20_000, 300)]
    same(cossim.topk(y, x, 10), reference.best_of(cossim.pairwise(y, x), 10, False))
    long = sp.csr_array(rng.random((3, 300)).astype(dtype))  # its lists have too many entries to keep all products
    same(cossim.topk(long, x, 10), reference.best_of(cossim.pairwise(long, x), 10, False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_scores_are_accurate(rng, dtype, scale):
    x = csr(rng, 20, 3000, 0.2, dtype)
    x.data = (x.data.astype(float) * scale).astype(dtype)
    scores, expected = cossim.pairwise(x, eps=0), exact(x.toarray(), x.toarray())
    assert scores.dtype == dtype
    assert np.nanmax(abs(scores - expected)) <= (6e-8 if dtype == np.float32 else 1e-15)
    nonzero = x.getnnz(1) > 0
    assert nonzero.any()
    same([np.diag(scores)[nonzero]], [np.ones(nonzero.sum(), dtype)])
    assert np.isnan(scores[~nonzero]).all()  # 0 / 0, as of dense rows with eps=0
    same([scores], [scores.T])
    assert np.nanmax(abs(scores)) <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_matrices_hold_the_scores_of_small_ones(rng, dtype):
    """Results above 16 MiB are written past the caches, in pieces that begin on cache lines."""
    x = csr(rng, 2101, 3000, 0.015, dtype)
    scores, threads = cossim.pairwise(x), cossim.get_num_threads()
    for first in (0, 1000, 2095):
        part = x[first : first + 9]
        np.testing.assert_array_equal(cossim.pairwise(part, x), scores[first : first + 9])
    out = np.empty(scores.size + 1, dtype)[1:].reshape(scores.shape)
    try:
        cossim.set_num_threads(2)
        np.testing.assert_array_equal(cossim.pairwise(x, out=out), scores)
    finally:
        cossim.set_num_threads(threads)


def test_long_sums_keep_their_accuracy(rng):
    """Plain sums of this many doubles are off by more than 1e-15."""
    x = sp.csr_array(rng.random((3, 60_000)))
    assert abs(cossim.pairwise(x) - exact(x.toarray(), x.toarray())).max() <= 1e-15


def test_magnitudes_beyond_the_range_of_squares(rng):
    x = csr(rng, 30, 60, 0.3)
    powers = 2.0 ** rng.integers(-900, 900, 30)
    scaled = sp.csr_array(x.multiply(powers[:, None]))
    same([cossim.pairwise(scaled, eps=0)], [cossim.pairwise(x, eps=0)])
    same([cossim.vector_norm(scaled, 1)], [cossim.vector_norm(x, 1) * powers])
    same([cossim.normalize(scaled, eps=0).toarray()], [cossim.normalize(x, eps=0).toarray()])


def test_eps_clamps_each_norm(rng):
    x = csr(rng, 30, 20, 0.3, integers=True)
    for eps in (0.5, 5, 20, 1e300):
        same([cossim.pairwise(x, eps=eps)], [cossim.pairwise(x.toarray(), eps=eps)])
        same([cossim.normalize(x, eps=eps).toarray()], [cossim.normalize(x.toarray(), eps=eps)])
        scores = cossim.pairwise(x, eps=eps)
        same(cossim.pairs_above(x, 0.05, eps=eps), reference.reaching(scores, 0.05, True))


def test_rows_that_are_not_finite(rng):
    """A row with NaN or infinity scores NaN with every row, as dense rows do."""
    x = csr(rng, 50, 25, 0.3, integers=True)
    x.data[rng.integers(0, x.nnz, 6)] = rng.choice([np.nan, np.inf, -np.inf], 6)
    a = x.toarray()
    scores = cossim.pairwise(a)
    assert np.isnan(scores).any()
    same([cossim.pairwise(x)], [scores])
    same([cossim.vector_norm(x, 1)], [cossim.vector_norm(a, 1)])
    same([cossim.cosine_similarity(x, x[::-1])], [cossim.cosine_similarity(a, a[::-1])])
    same(cossim.topk(x, None, 49), reference.best_of(scores.copy(), 49, True))
    same(cossim.pairs_above(x, 0.3), reference.reaching(scores, 0.3, True))
    kept = cossim.normalize(x).toarray()[np.isfinite(a).all(1)]
    same([kept], [cossim.normalize(a)[np.isfinite(a).all(1)]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64], ids=["float32", "float64", "int64"])
@pytest.mark.parametrize(("columns", "density"), [(15, 0.3), (700, 0.03), (50_000, 0.001)])
def test_searches_give_the_bits_of_pairwise(rng, dtype, columns, density):
    x, y = (csr(rng, n, columns, density, dtype, integers=dtype == np.int64) for n in (200, 40))
    square, scores = cossim.pairwise(x), cossim.pairwise(y, x)
    same([scores], [cossim.pairwise(x, y).T])
    for threads in (1, 3):
        with cossim.threads(threads):
            same([cossim.pairwise(x), cossim.pairwise(y, x)], [square, scores])
            for k in (1, 10, 199):
                same(cossim.topk(x, None, k), reference.best_of(square.copy(), k, True))
                same(cossim.topk(y, x, k), reference.best_of(scores, k, False))
                same(cossim.topk(y.toarray(), x, k), reference.best_of(scores, k, False))
            for threshold in (-1, -0.1, 0, 0.005, 0.02, 0.2, 0.5, 0.8, 1):
                same(cossim.pairs_above(x, threshold), reference.reaching(square, threshold, True))
                same(cossim.pairs_above(y, threshold, x), reference.reaching(scores, threshold, False))
                same(cossim.pairs_above(x, threshold, y.toarray()), reference.reaching(scores.T, threshold, False))
            for threshold in (0, 0.3, 0.9):
                same([cossim.duplicate_groups(x, threshold)], [reference.groups(square, threshold)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("eps", [0.0, 1e-300, 1e-8])
def test_norms_with_which_a_sum_of_zero_may_not_score_zero(rng, dtype, eps):
    """Most pairs share no column; norms are 0, NaN, tiny, huge and usual."""
    x = csr(rng, 300, 20_000, 0.0005, dtype)
    x = sp.diags(10.0 ** rng.choice([-150, -20, 0, 0, 0, 18], 300)).dot(x).tocsr().astype(dtype)
    x.data[rng.integers(0, x.nnz, 2)] = np.nan, np.inf
    scores, dense = cossim.pairwise(x, eps=eps), cossim.pairwise(x.toarray(), eps=eps)
    np.testing.assert_allclose(scores, dense, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)
    same([cossim.pairwise(x, x[:], eps=eps)], [scores])
    same(cossim.topk(x, x[:], 300, eps=eps), reference.best_of(scores, 300, False))


def test_the_threshold_itself_is_reached(rng):
    """Scores exactly at the threshold are found: the prefix filter never rules them out."""
    x = csr(rng, 300, 60, 0.08, np.float32)
    scores = cossim.pairwise(x)
    for threshold in rng.choice(scores[scores > 0.01], 40):
        same(cossim.pairs_above(x, threshold), reference.reaching(scores, threshold, True))


def test_many_blocks_of_rows(rng):
    """Enough rows for several blocks of the index, on every side."""
    x = csr(rng, 20_000, 300, 0.01, np.float32)
    some = rng.integers(0, 20_000, 40)
    found, scores = cossim.topk(x[some], x, 12), cossim.pairwise(x[some], x)
    same(found, reference.best_of(scores, 12, False))
    for k in (1, 17, 300, 3000):
        same(cossim.topk(x[some], x, k), reference.best_of(scores, k, False))
    same([cossim.pairwise(x, x[some])], [scores.T])
    same(cossim.pairs_above(x, 0, x[some]), reference.reaching(scores.T, 0, False))
    i, j, values = cossim.pairs_above(x, 0.7)
    for row in some[:5]:
        mine = cossim.pairwise(x[[row]], x)[0]
        expected = np.nonzero(mine[row + 1 :] >= np.float32(0.7))[0] + row + 1
        same([j[i == row], values[i == row]], [expected, mine[expected]])


# ---- SciPy's corner cases ----


def test_duplicate_unsorted_and_zero_entries(rng):
    for dtype in (np.float32, np.float64, np.int64, bool):
        data = rng.integers(-2, 3, 400).astype(dtype)
        indices, indptr = rng.integers(0, 40, 400), np.array([0, 3, 3, 90, 100, 250, 400])
        x = sp.csr_array((data, indices, indptr), shape=(6, 40))
        a = x.toarray()
        same([cossim.pairwise(x)], [cossim.pairwise(a)])
        same([cossim.vector_norm(x, 1)], [cossim.vector_norm(a, 1)])
        same([cossim.cosine_similarity(x, x)], [cossim.cosine_similarity(a, a)])
        np.testing.assert_allclose(cossim.normalize(x).toarray(), cossim.normalize(a), rtol=1e-6)
        same([x.indices, x.data], [indices, data])  # the argument is unchanged


def test_formats_and_classes(rng):
    x = csr(rng, 30, 50, 0.2, integers=True)
    expected = cossim.pairwise(x)
    for form in ("csc", "coo", "lil", "dok", "bsr", "dia"):
        same([cossim.pairwise(x.asformat(form))], [expected])
        same([cossim.pairwise(sp.csr_matrix(x).asformat(form), x)], [expected])
    assert type(cossim.normalize(sp.csr_matrix(x))) is sp.csr_matrix
    assert type(cossim.normalize(sp.coo_array(x))) is sp.csr_array
    assert cossim.normalize(x.astype(np.float32)).dtype == np.float32
    assert cossim.normalize(x.astype(int)).dtype == np.float64


def test_one_dense_vector_has_no_axis_in_the_result(rng):
    x, vector = csr(rng, 30, 50, 0.2), rng.standard_normal(50)
    same([cossim.pairwise(vector, x)], cossim.pairwise(vector[None], x))
    same([cossim.pairwise(x, vector)], [cossim.pairwise(x, vector[None])[:, 0]])
    out = np.empty(30)
    assert cossim.pairwise(vector, x, out=out) is out
    same([out], [cossim.pairwise(vector, x)])
    for shape in (29, (30, 1)):
        with pytest.raises(ValueError, match="out must have shape"):
            cossim.pairwise(vector, x, out=np.empty(shape))
    same(cossim.topk(vector, x, 3), [a[0] for a in cossim.topk(vector[None], x, 3)])
    same(cossim.topk(x, vector, 1), cossim.topk(x, vector[None], 1))
    same(cossim.pairs_above(x, 0.3, vector), cossim.pairs_above(x, 0.3, vector[None]))


def plain(x, **changes):
    """An object with the arrays of CSR, which is not a matrix of SciPy."""
    parts = {"indptr": x.indptr, "indices": x.indices, "data": x.data, "shape": x.shape}
    return types.SimpleNamespace(**{**parts, **changes})


def test_the_dense_side_may_be_a_file(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = csr(rng, 40, 12, 0.3, integers=True)
    a = x.toarray()
    np.savetxt("a.txt", a)
    np.savez_compressed("a.npz", a)
    for rows in ("a.txt", cossim.open_rows("a.txt"), "a.npz"):
        same([cossim.pairwise(x, rows)], [cossim.pairwise(x, a)])
        same([cossim.cosine_similarity(x, cossim.open_rows("a.txt"))], [cossim.cosine_similarity(x, a)])
        same(cossim.topk(rows, x, 5), cossim.topk(a, x, 5))
        same(cossim.topk(x, rows, 5), cossim.topk(x, a, 5))
        same(cossim.pairs_above(x, 0.3, rows), cossim.pairs_above(x, 0.3, a))


def test_any_object_with_the_arrays_of_csr(rng):
    x = csr(rng, 30, 50, 0.2, integers=True)
    expected = cossim.pairwise(x)
    for dtype in (np.int64, np.int16, np.uint64, ">i4"):
        wide = plain(x, indptr=x.indptr.astype(dtype), indices=x.indices.astype(dtype))
        same([cossim.pairwise(wide)], [expected])
    strided = plain(x, data=np.repeat(x.data, 2)[::2], indices=np.repeat(x.indices, 3)[::3])
    same([cossim.pairwise(strided)], [expected])
    half = plain(x, data=x.data.astype(np.float16))
    same([cossim.pairwise(half)], [cossim.pairwise(x.toarray().astype(np.float16))])
    more = plain(x, data=np.append(x.data, [7, 7]), indices=np.append(x.indices, [1, 2]))
    same([cossim.pairwise(more)], [expected])  # entries after the last row belong to none


def test_normalize_reads_csr_with_unsigned_positions(rng):
    class Rows:
        def __init__(self, arrays, shape):
            self.data, self.indices, self.indptr, self.shape = *arrays, shape

    x = csr(rng, 30, 50, 0.2)
    found = cossim.normalize(Rows((x.data, x.indices, x.indptr.astype(np.uint64)), x.shape))
    same([found.data, found.indptr], [cossim.normalize(x).data, x.indptr.astype(np.uint64)])


def test_a_table_with_columns_of_these_names_is_dense():
    class Table(types.SimpleNamespace):
        def __array__(self, dtype=None, copy=None):
            return np.eye(3)

    table = Table(indptr=1, indices=2, data=3, shape=(3, 3))
    same([cossim.pairwise(table)], [np.eye(3)])


def test_far_more_columns_than_entries(rng):
    """Column numbers exceed 32 bits, and no array may have an element for each column."""
    x = csr(rng, 60, 80, 0.1, integers=True)
    numbers = np.sort(rng.integers(0, 2**62, 80))
    wide = plain(x, indices=numbers[x.indices], shape=(60, 2**62))
    same([cossim.pairwise(wide)], [cossim.pairwise(x)])
    same(cossim.topk(wide, None, 5), cossim.topk(x, None, 5))
    same(cossim.pairs_above(wide, 0.2), cossim.pairs_above(x, 0.2))


def test_no_rows_and_no_columns():
    for shape in ((0, 5), (0, 0), (4, 0)):
        x = sp.csr_array(shape)
        same([cossim.pairwise(x)], [cossim.pairwise(np.zeros(shape))])
        same([cossim.vector_norm(x, 1)], [np.zeros(shape[0])])
        same([cossim.cosine_similarity(x, x)], [np.zeros(shape[0])])
        assert cossim.normalize(x).shape == shape
    empty = sp.csr_array((5, 7))
    same(
        cossim.topk(empty, None, 3),
        (np.zeros((5, 3)), np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]])),
    )
    assert len(cossim.pairs_above(empty, 0.1).i) == 0
    assert len(cossim.pairs_above(empty, 0).i) == 10


def test_results_in_given_arrays(rng):
    x = csr(rng, 30, 50, 0.2, np.float32)
    for dtype in (np.float16, np.float32, np.float64):
        out = np.zeros((60, 31), dtype)[::2, 1:].T[::-1].T
        assert cossim.pairwise(x, out=out) is out
        np.testing.assert_allclose(out, cossim.pairwise(x), atol=1e-3 if dtype == np.float16 else 1e-7)
        same([out], [out.T])
    out = np.zeros(30)
    assert cossim.cosine_similarity(x, x, out=out) is out
    assert out.any()


# ---- refusals ----


def broken(rng):
    x = csr(rng, 30, 50, 0.2)
    ptr, columns = x.indptr.copy(), x.indices.copy()
    ptr[5], columns[20] = ptr[-1] + 1, 50
    yield plain(x, indptr=ptr), "indptr"
    yield plain(x, indptr=x.indptr[::-1]), "indptr"
    yield plain(x, indptr=x.indptr + 1), "indptr"
    yield plain(x, indptr=-x.indptr), "indptr"
    yield plain(x, indptr=x.indptr.astype(float)), "integers"
    yield plain(x, indices=columns), "row 2"
    yield plain(x, indices=columns - 100), "row 0"
    yield plain(x, indices=np.full(x.nnz, 2**64 - 1, np.uint64)), "row 0"
    yield plain(x, indptr=x.indptr[:-1]), "indptr"
    yield plain(x, data=x.data[:-1]), "length"
    yield plain(x, data=x.data[:, None]), "dimension"
    yield plain(x, shape=(31, 50)), "indptr"
    yield plain(x, shape=(-1, 50)), "2 dimensions"
    yield plain(x, shape=(30,)), "2 dimensions"
    yield plain(x, shape=(2**62, 2**62)), "indptr"
    yield plain(x, data=x.data.astype(complex)), "complex"
    yield plain(x, data=x.data.astype(object)), "objects"


def test_arrays_that_are_not_a_matrix(rng):
    good = csr(rng, 30, 50, 0.2)
    for bad, words in broken(rng):
        for call in (
            lambda: cossim.pairwise(bad),
            lambda: cossim.topk(good, bad, 3),
            lambda: cossim.pairs_above(bad, 0.5),
            lambda: cossim.normalize(bad),
        ):
            with pytest.raises((TypeError, ValueError), match=words):
                call()
    for call in (
        lambda: cossim.pairwise(good, good[:, 1:]),
        lambda: cossim.cosine_similarity(good, good[1:]),
        lambda: cossim.cosine_similarity(good, good, dim=0),
        lambda: cossim.vector_norm(good),
        lambda: cossim.topk(good, None, 0),
        lambda: cossim.pairs_above(good, 2),
    ):
        with pytest.raises(ValueError, match=r"rows|dim|k |threshold"):
            call()


def test_arrays_that_another_thread_changes(rng):
    """If another thread writes into the arrays, calls still end with a result or an error."""
    x = csr(rng, 300, 200, 0.1)
    done = threading.Event()

    def scribble():
        while not done.is_set():
            x.indices[rng.integers(0, x.nnz)] = rng.integers(-(2**31), 2**31 - 1)
            x.indptr[rng.integers(0, 301)] = rng.integers(-(2**31), 2**31 - 1)
            x.indices[:], x.indptr[:] = indices, indptr

    indices, indptr = x.indices.copy(), x.indptr.copy()
    wide = plain(x, shape=(300, 2**40))
    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for call in (cossim.pairwise, lambda x: cossim.topk(x, None, 3), lambda x: cossim.pairs_above(x, 0.5)) * 15:
            for rows in (plain(x), wide):
                try:
                    call(rows)
                except ValueError as error:
                    assert "indptr" in str(error) or "row" in str(error)  # noqa: PT017
    finally:
        done.set()
        thread.join()


def test_progress_and_stopping(rng):
    x = csr(rng, 3000, 400, 0.1)
    seen = []

    class Stop(Exception):
        pass

    def stop(done, total):
        seen.append((done, total))
        raise Stop

    for call in (
        lambda **more: cossim.pairwise(x, **more),
        lambda **more: cossim.topk(x, None, 3, **more),
        lambda **more: cossim.pairs_above(x, -1, max_pairs=5, **more),
    ):
        with pytest.raises(Stop):
            call(progress=stop)
    reports = []
    cossim.topk(x, None, 3, progress=lambda *report: reports.append(report))
    assert reports[-1] == (9_000_000, 9_000_000)
