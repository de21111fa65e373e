"""Searches with where= and exclude= find what the matrix of scores gives without the rows left out."""

import io

import ml_dtypes
import numpy as np
import pytest
from commands import shown
from public_inputs import LAYOUTS
from reference import same
from test_search import scores_of

import cossim
from cossim import _core
from cossim.search.filters import Filter, filter_argument

try:
    import scipy.sparse as sp
except ModuleNotFoundError:
    sp = None

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, np.int32, bool]


def masks_of(rng, n):
    """Masks of all densities, periods and runs."""
    for density in (0, 0.002, 0.05, 0.5, 0.95, 1):
        yield rng.random(n) < density
    for period in (2, 7, 64, 100):
        yield np.arange(n) % period == 3 % period
        yield np.arange(n) % period != 3 % period
        yield np.arange(n) // period % 2 == 0
    yield (np.arange(n) >= n // 3) & (np.arange(n) < n // 3 + 300)


def best(scores, allowed, k):
    """Returns the k best candidates of each query, as topk does."""
    values = np.full((len(scores), k), np.nan, scores.dtype)
    indices = np.full((len(scores), k), -1)
    for query, row in enumerate(scores):
        candidates = np.flatnonzero(allowed[query])
        order = candidates[np.argsort(-row[candidates], kind="stable")][:k]  # NaN last
        values[query, : len(order)], indices[query, : len(order)] = row[order], order
    return values, indices


def reaching(scores, allowed, threshold):
    with np.errstate(invalid="ignore"):
        i, j = np.nonzero(allowed & (scores >= scores.dtype.type(threshold)))
    return i, j, scores[i, j]


def random_rows(rng, shape, dtype):
    x = rng.standard_normal(shape)
    x[rng.random(shape[0]) < 0.05] = x[0]
    if np.dtype(dtype).kind in "iub":
        return (np.abs(x) * 30).astype(dtype)
    x[rng.random(shape[0]) < 0.03] = 0
    x[rng.random(shape[0]) < 0.02, 0] = np.nan
    return x.astype(dtype)


# ---- the bits of a search in which the other rows are masked out ----


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_all_dtypes(rng, dtype, queries):
    x, q = random_rows(rng, (1500, 48), dtype), random_rows(rng, (queries, 48), dtype)
    scores, index = scores_of(q, x), cossim.Index(x)
    every = DTYPES.index(dtype) % 4
    for n, mask in enumerate(list(masks_of(rng, len(x)))[every::4]):
        k, threads = (5, 100)[n % 2], 1 + n % 3
        allowed = np.broadcast_to(mask, scores.shape)
        with cossim.threads(threads):
            same(cossim.topk(q, x, k, where=mask), best(scores, allowed, k))
            same(index.topk(q, k, where=mask), best(scores, allowed, k))
            same(cossim.pairs_above(q, 0.2, x, where=mask), reaching(scores, allowed, 0.2))
            same(index.pairs_above(q, 0.2, where=np.flatnonzero(mask)), reaching(scores, allowed, 0.2))


def test_layouts(rng):
    rows, q = random_rows(rng, (700, 33), np.float32), random_rows(rng, (20, 33), np.float32)
    mask, scores = rng.random(700) < 0.3, scores_of(q, rows)
    allowed = np.broadcast_to(mask, scores.shape)
    for form in LAYOUTS.values():
        x = form(rows)
        for some in (q, q[:1]):
            same(cossim.topk(some, x, 9, where=mask), best(scores[: len(some)], allowed, 9))
        same(cossim.pairs_above(q, 0.1, x, where=mask), reaching(scores, allowed, 0.1))


@pytest.mark.parametrize("depth", [7, 48])
def test_within_a_set(rng, depth):
    """The filter of topk holds only for the candidates; the filter of pairs_above holds for both rows of a pair."""
    x = random_rows(rng, (600, depth), np.float64)
    scores = cossim.pairwise(x)
    others = ~np.eye(len(x), dtype=bool)
    for n, mask in enumerate(list(masks_of(rng, len(x)))[depth % 3 :: 3]):
        memory = (None, 60_000)[n % 2]
        k = (5, 100)[n % 3 == 0]
        same(cossim.topk(x, None, k, where=mask, memory=memory), best(scores, others & mask, k))
        expected = reaching(scores, np.triu(others & mask & mask[:, None]), 0.3)
        same(cossim.pairs_above(x, 0.3, where=mask, memory=memory), expected)
        same(cossim.pairs_above(x, 0.3, exclude=np.flatnonzero(~mask)), expected)
        same(cossim.pairs_above(x, 0.3, x, where=mask), reaching(scores, np.broadcast_to(mask, others.shape), 0.3))


def test_masks_and_lists_for_each_query(rng):
    x, q = random_rows(rng, (900, 40), np.float32), random_rows(rng, (30, 40), np.float32)
    scores = scores_of(q, x)
    index = cossim.Index(x)
    for density in (0.003, 0.1, 0.8):
        mask = rng.random(scores.shape) < density
        exclude = rng.integers(-1, len(x), (len(q), 50))
        allowed = mask.copy()
        for row, numbers in zip(allowed, exclude, strict=True):
            row[numbers[numbers >= 0]] = False
        for k in (4, 80):
            same(index.topk(q, k, where=mask), best(scores, mask, k))
            same(cossim.topk(q, x, k, where=mask, exclude=exclude), best(scores, allowed, k))
        same(index.pairs_above(q, 0.1, where=mask, exclude=exclude), reaching(scores, allowed, 0.1))
        same(cossim.pairs_above(q, 0.1, x, where=mask, exclude=exclude), reaching(scores, allowed, 0.1))
        # the longer side is the corpus of the search, and here it is x
        transposed = np.ascontiguousarray(allowed.T)
        found = cossim.pairs_above(x, 0.1, q, where=transposed)
        same(found, reaching(np.ascontiguousarray(scores.T), transposed, 0.1))


def test_pairs_of_a_set_with_a_mask_of_pairs(rng):
    x = random_rows(rng, (300, 20), np.float32)
    scores, mask = cossim.pairwise(x), rng.random((300, 300)) < 0.5
    exclude = rng.integers(-1, 300, (300, 30))
    allowed = np.triu(mask, 1)
    for row, numbers in zip(allowed, exclude, strict=True):
        row[numbers[numbers >= 0]] = False
    same(cossim.pairs_above(x, 0.2, where=mask, exclude=exclude), reaching(scores, allowed, 0.2))
    same(cossim.pairs_above(x, 0.2, where=mask, exclude=exclude, memory=1), reaching(scores, allowed, 0.2))


def test_packed_bits(rng):
    x, q = (rng.integers(0, 256, (n, 9), np.uint8) for n in (800, 20))
    scores = cossim.pairwise(q, x, binary=True)
    index = cossim.Index(x, binary=True)
    for mask in masks_of(rng, len(x)):
        allowed = np.broadcast_to(mask, scores.shape)
        for k in (3, 90):
            same(cossim.topk(q, x, k, where=mask, binary=True), best(scores, allowed, k))
            same(index.topk(q, k, where=mask), best(scores, allowed, k))
        same(cossim.pairs_above(q, 0.2, x, where=mask, binary=True), reaching(scores, allowed, 0.2))


@pytest.mark.skipif(sp is None, reason="needs SciPy")
def test_sparse_rows(rng):
    x, q = (sp.random_array((n, 60), density=0.1, format="csr", rng=rng) for n in (400, 30))
    scores, own = cossim.pairwise(q, x), cossim.pairwise(x)
    for mask in list(masks_of(rng, 400))[::2]:
        allowed = np.broadcast_to(mask, scores.shape)
        same(cossim.topk(q, x, 6, where=mask), best(scores, allowed, 6))
        for threshold in (-1, 0.001, 0.4):
            same(cossim.pairs_above(q, threshold, x, where=mask), reaching(scores, allowed, threshold))
            expected = reaching(own, np.triu(mask & mask[:, None], 1), threshold)
            same(cossim.pairs_above(x, threshold, where=mask), expected)
    mask, exclude = rng.random((30, 400)) < 0.3, rng.integers(-1, 400, (30, 60))
    allowed = mask.copy()
    for row, numbers in zip(allowed, exclude, strict=True):
        row[numbers[numbers >= 0]] = False
    same(cossim.topk(q, x, 6, where=mask, exclude=exclude), best(scores, allowed, 6))


def test_dask_arrays(rng):
    dask, da = pytest.importorskip("dask"), pytest.importorskip("dask.array", reason="needs dask[array]")
    x, q = rng.standard_normal((120, 8)), rng.standard_normal((25, 8))
    lazy, lazy_q = da.from_array(x, (50, -1)), da.from_array(q, (15, -1))
    exclude = rng.integers(-1, 120, (25, 30))
    with dask.config.set(scheduler="synchronous"):
        for mask in (np.arange(120) % 7 < 2, rng.random((25, 120)) < 0.1, np.arange(50)[::-1]):
            expected = cossim.topk(q, x, 9, where=mask, exclude=exclude)
            forms = [mask] if mask.dtype != bool else [mask, da.from_array(mask, 43)]
            for form in forms:
                same(dask.compute(cossim.topk(lazy_q, lazy, 9, where=form, exclude=exclude))[0], expected)
                found = cossim.pairs_above(lazy_q, 0.3, lazy, where=form, exclude=exclude)
                same(dask.compute(found)[0], cossim.pairs_above(q, 0.3, x, where=mask, exclude=exclude))
                if mask.ndim == 1:
                    same(
                        dask.compute(cossim.pairs_above(lazy, 0.3, where=form))[0],
                        cossim.pairs_above(x, 0.3, where=mask),
                    )
                    same(dask.compute(cossim.topk(lazy, None, 30, where=form))[0], cossim.topk(x, None, 30, where=mask))


def test_files_in_blocks(rng, tmp_path):
    x, q = rng.standard_normal((3000, 16)), rng.standard_normal((5, 16))
    np.save(tmp_path / "x.npy", x)
    sources = np.load(tmp_path / "x.npy", mmap_mode="r"), Slices(x)
    for mask in (rng.random(3000) < 0.1, np.arange(3000) // 500 == 4, np.zeros(3000, bool)):
        for source in sources:
            same(cossim.topk(q, source, 7, where=mask, memory=100_000), cossim.topk(q, x, 7, where=mask))
            same(cossim.pairs_above(source, 0.6, where=mask, memory=100_000), cossim.pairs_above(x, 0.6, where=mask))


class Slices:
    """Rows that are read in slices, with the numbers of those that were read."""

    def __init__(self, x):
        self.x, self.shape, self.dtype, self.read = x, x.shape, x.dtype, np.zeros(len(x), bool)

    def __getitem__(self, rows):
        self.read[rows] = True
        return self.x[rows]


def test_blocks_without_candidates_are_not_read(rng):
    x = Slices(rng.standard_normal((4000, 16)))
    mask = np.zeros(4000, bool)
    mask[1700:1800] = True
    cossim.topk(np.ones(16), x, 3, where=mask, memory=100_000)
    assert x.read[mask].all()
    assert x.read.sum() < 1500


# ---- k beyond the candidates, and nothing to find ----


def test_k_may_exceed_the_candidates(rng):
    x = rng.standard_normal((4, 20)).astype(np.float32)
    values, indices = cossim.topk(x[:2], x, 9)
    same((values[:, :4], indices[:, :4]), cossim.topk(x[:2], x, 4))
    assert (indices[:, 4:] == -1).all() and np.isnan(values[:, 4:]).all()
    assert cossim.topk(x, None, 9).indices[:, 3:].max() == -1
    assert cossim.topk(x[:1], None, 2).indices.tolist() == [[-1, -1]]
    assert cossim.Index(x).topk(x[0], 6).indices.shape == (6,)
    assert cossim.topk(x[0], x, 6, where=[]).indices.tolist() == [-1] * 6
    assert cossim.topk(x[0], x, 2, where=[2]).indices.tolist() == [2, -1]
    if sp is not None:
        assert cossim.topk(sp.csr_array(x), None, 6).indices.shape == (4, 6)
    assert not cossim.topk(x, x, 3, exclude=range(4))
    assert not cossim.pairs_above(x, -1, exclude=[0, 1, 2])


def test_a_corpus_without_rows_gives_empty_places():
    none, x = np.empty((0, 3), np.float32), np.ones((2, 3), np.float32)
    for corpus in (none, none if sp is None else sp.csr_array(none)):
        found = cossim.topk(x, corpus, 2)
        assert found.values.dtype == np.float32
        assert found.indices.tolist() == [[-1, -1], [-1, -1]]
        assert not cossim.pairs_above(x, 0, corpus)
        assert cossim.topk(corpus, None, 2).values.shape == (0, 2)
        assert not cossim.pairs_above(corpus, 0)
        assert len(cossim.duplicate_groups(corpus, 0)) == 0
    assert not cossim.top_pairs(none, 3)


def test_results_leave_out_places_without_a_row():
    found = cossim.topk(np.eye(2), np.eye(2), 3, where=[1])
    assert found.to_list() == [[{"index": 1, "value": 0.0}], [{"index": 1, "value": 1.0}]]
    if sp is not None:
        assert found.to_csr((2, 2)).nnz == 2


# ---- arguments ----


def test_forms_of_where_and_exclude(rng):
    x = rng.standard_normal((70, 8))
    expected = cossim.topk(x[0], x, 5, where=np.isin(np.arange(70), [3, 5, 69]))
    for where in ([69, 3, 5], (5, 3, 3, 69), np.array([3, 5, 69], np.uint8), {3: 0, 5: 0, 69: 0}.keys(), range(0)):
        where = where if len(where) else [3, 5, 69]
        same(cossim.topk(x[0], x, 5, where=list(where)), expected)
    same(cossim.topk(x[0], x, 5, exclude=[n for n in range(70) if n not in (3, 5, 69)]), expected)
    same(cossim.topk(x[:1], x, 5, where=[3, 5, 69], exclude=[[-1]])[:1], [expected[0][None]])
    assert filter_argument("topk", np.ones(70, bool), [-1], 1, 70) is None
    assert filter_argument("topk", None, None, 1, 70) is None


def test_where_is_not_changed(rng):
    x = rng.standard_normal((70, 8))
    where, exclude = np.ones((3, 70), bool), np.array([[5, 3], [-1, 2], [9, 1]])
    copies = where.copy(), exclude.copy()
    cossim.topk(x[:3], x, 4, where=where, exclude=exclude)
    cossim.topk(x[:3], x, 4, where=where, exclude=exclude[0])
    same((where, exclude), copies)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"where": np.ones(69, bool)}, ValueError, r"\(70,\).*\(69,\)"),
        ({"where": np.ones((2, 70), bool)}, ValueError, r"\(3, 70\).*\(2, 70\)"),
        ({"where": [[1], [2], [3]]}, ValueError, r"\(Q, N\)"),
        ({"exclude": np.zeros((2, 4), int)}, ValueError, r"\(3, m\).*\(2, 4\)"),
        ({"exclude": np.zeros((1, 3, 4), int)}, ValueError, r"\(3, m\)"),
        # A row number out of range is an IndexError, as in indexing.
        ({"where": [70]}, IndexError, r"\b70\b"),
        ({"where": 70}, IndexError, r"\b70\b"),
        ({"where": [3, -1]}, IndexError, "-1"),
        ({"exclude": [-2]}, IndexError, "-2"),
        ({"exclude": 70}, IndexError, r"\b70\b"),
        ({"exclude": [2**63]}, IndexError, str(2**63)),
        ({"where": [2**70]}, IndexError, rf"{2**70}, but there are 70 rows"),
        ({"exclude": [1, -(2**70)]}, IndexError, str(-(2**70))),
        ({"where": ["a"]}, TypeError, "text"),
    ],
)
def test_filters_that_do_not_fit(given, error, words):
    (name,) = given
    for call in (cossim.topk, cossim.pairs_above):
        args = (np.ones((3, 4)), np.ones((70, 4)), 2) if call is cossim.topk else (np.ones((3, 4)), 0, np.ones((70, 4)))
        with pytest.raises(error, match=rf"^{call.__name__}\(\).*\b{name}\b.*{words}|{words}.*\b{name}\b"):
            call(*args, **given)
    with pytest.raises(error, match=words):
        cossim.Index(np.ones((70, 4))).topk(np.ones((3, 4)), 2, **given)


def test_one_row_number_stands_for_a_list_of_it(rng):
    x = rng.standard_normal((70, 8))
    index = cossim.Index(x)
    for number in (5, np.int32(5), np.array(5)):
        for name in ("exclude", "where"):
            one, several = {name: number}, {name: [5]}
            same(cossim.topk(x[:3], x, 2, **one), cossim.topk(x[:3], x, 2, **several))
            same(cossim.pairs_above(x, 0.5, **one), cossim.pairs_above(x, 0.5, **several))
            same(index.topk(x[:3], 2, **one), index.topk(x[:3], 2, **several))


def test_the_core_checks_the_sizes_of_filters():
    from cossim.search.blocks import Request

    x = np.ones((130, 4))
    values, indices = np.full((130, 2), np.nan), np.full((130, 2), -1)
    bits, _ = _core.pack_mask(np.ones(130, bool))
    for wrong in (
        Filter(bits[:2]),
        Filter(bits.astype(np.int64)),
        Filter(bits[None]),
        Filter(None, np.ones((129, 3), np.uint64)),
        Filter(None, np.ones((130, 2), np.uint64)),
        Filter(None, None, np.ones((129, 2), np.int64)),
        (bits, None, None),
        [bits, None, None, False, 130],
        Filter(bits, both=True),  # valid elsewhere, but every row is a query of topk
    ):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.topk(Request("topk", x, x, 0, 0, False, 1e-8, None, filter=wrong), values, indices)


def test_packed_masks_have_the_bits_of_the_mask(rng):
    for n in (0, 1, 7, 63, 64, 65, 200, 1000):
        for mask in masks_of(rng, n):
            for other in (
                mask,
                np.repeat(mask, 2)[::2],
                mask[::-1],
                (mask * rng.integers(1, 256)).astype("u1").view("?"),
            ):
                bits, most = _core.pack_mask(other)
                assert (bits.dtype, bits.shape, most) == (np.uint64, (-(-n // 64),), np.count_nonzero(other))
                got = np.unpackbits(bits.astype("<u8").view(np.uint8), bitorder="little")
                assert not got[n:].any()
                np.testing.assert_array_equal(got[:n], other != 0)
                numbers = rng.permutation(np.repeat(np.flatnonzero(other), 2))
                same(_core.pack_numbers(numbers[::2], n)[:1], _core.pack_mask(np.isin(np.arange(n), numbers[::2]))[:1])
                same(_core.pack_numbers(numbers, n), (bits, most))
        several = rng.random((5, n)) < 0.3
        bits, most = _core.pack_mask(np.asfortranarray(several))
        same(bits, [_core.pack_mask(row)[0] for row in several])
        assert most == several.sum(axis=1).max()
        assert _core.pack_numbers(np.array([n]), n) is _core.pack_numbers(np.array([-1]), n) is None
    for wrong in (np.zeros(3, np.uint8), np.zeros((1, 1, 1), bool), np.array(True), [True]):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.pack_mask(wrong)


def test_progress_reaches_its_total(rng):
    x = rng.standard_normal((3000, 32))
    for where in (rng.random(3000) < 0.1, rng.random((40, 3000)) < 0.1, [], [5]):
        calls = []
        cossim.topk(x[:40], x, 3, where=where, progress=lambda done, total, calls=calls: calls.append((done, total)))
        assert all(done <= total for done, total in calls)
        assert not calls or calls[-1][0] == calls[-1][1]


# ---- the commands ----


def test_commands(tmp_path, rng, monkeypatch, capsys):
    x = rng.standard_normal((9, 4))
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    np.save("mask.npy", np.arange(9) % 2 == 0)
    (tmp_path / "rows.txt").write_text("2, 4\n8\n")

    def columns(command):
        return np.loadtxt(io.StringIO(shown(capsys, command, "--quiet")), delimiter=",", skiprows=1).T

    found = cossim.topk(x, None, 6, where=[0, 6])
    query, place = np.nonzero(found.indices >= 0)
    expected = query, place + 1, found.indices[query, place], found.values[query, place]
    np.testing.assert_array_equal(columns("topk x.npy -k 6 --where mask.npy --exclude rows.txt"), expected)
    expected = cossim.pairs_above(x, -1, where=[2, 4, 8])
    np.testing.assert_array_equal(columns("pairs x.npy -t -1 --where rows.txt"), expected)
