"""top_pairs, deduplicate, communities, diverse and maxsim find what the full matrix gives."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import scores_of

import cossim

DTYPES = ["float32", "float64", "float16", "int8", "int64"]


@st.composite
def rows(draw, largest=300):
    """Rows of small whole numbers: they have many equal scores, zero rows and near-duplicates."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, largest)), draw(st.integers(1, 40))
    x = rng.integers(-2, 3, shape).astype(draw(st.sampled_from(DTYPES)))
    if x.dtype.kind == "f" and draw(st.booleans()):
        x[rng.integers(len(x))] = np.nan
    return x


@given(rows(), st.integers(1, 400), st.booleans(), st.sampled_from([None, 1]))
def test_top_pairs_are_the_best_of_the_matrix(x, m, self_search, memory):
    y = None if self_search else x[: len(x) // 3 + 1]
    found = cossim.top_pairs(x, m, y, memory=memory)
    matrix = scores_of(x, y)
    i, j = np.nonzero(np.triu(np.ones_like(matrix), 1) if y is None else np.ones_like(matrix))
    i, j = (a[~np.isnan(matrix[i, j])] for a in (i, j))
    order = np.lexsort((j, i, -matrix[i, j]))[:m]
    assert np.array_equal(found.i, i[order]) and np.array_equal(found.j, j[order])
    assert np.array_equal(found.values, matrix[i, j][order]) and found.values.dtype == matrix.dtype


def test_top_pairs_of_many_rows_with_threads():
    x = np.random.default_rng(0).standard_normal((3000, 48)).astype(np.float32)
    with cossim.threads(4):
        found = cossim.top_pairs(x, 500)
        best = cossim.pairs_above(x, float(found.values[-1])).sorted()
    assert all(np.array_equal(a, b[:500]) for a, b in zip(found, best, strict=True))


def test_top_pairs_of_rows_whose_sample_misleads():
    x = np.random.default_rng(0).standard_normal((4104, 24)).astype(np.float32)
    best = cossim.top_pairs(x, 300)
    assert np.array_equal(best.values, cossim.pairs_above(x, float(best.values[-1])).sorted().values[:300])
    x[::8] = x[0] + 0.01 * x[::8]  # only rows of the sample are near one another
    found = cossim.top_pairs(x, 200_000)
    expected = cossim.pairs_above(x, float(found.values[-1])).sorted()
    assert len(found.values) == 200_000 and all(
        np.array_equal(a, b[:200_000]) for a, b in zip(found, expected, strict=True)
    )


def kept_first(matrix, threshold):
    like = []
    for row, column in enumerate((matrix >= matrix.dtype.type(threshold)).T):
        like.append(next((k for k in range(row) if like[k] == k and column[k]), row))
    return like


@given(rows(), st.floats(-1, 1))
def test_deduplicate_keeps_the_first(x, threshold):
    kept, like = cossim.deduplicate(x, threshold)
    assert like.tolist() == kept_first(scores_of(x), threshold)
    assert kept.tolist() == np.flatnonzero(like == np.arange(len(x))).tolist()


def test_deduplicate_in_several_blocks(tmp_path):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3500, 8)).astype(np.float32)
    x[1::2] = x[rng.integers(0, 3500, 1750)] * 2
    np.save(tmp_path / "x.npy", x)
    kept, like = cossim.deduplicate(tmp_path / "x.npy", 0.98)
    assert like.tolist() == kept_first(scores_of(x), 0.98)
    assert np.array_equal(kept, np.unique(like)) and len(kept) < 2500


def detected_communities(matrix, threshold, min_size):
    """The algorithm of sentence-transformers' util.community_detection, on the full matrix."""
    min_size = min(min_size, len(matrix))
    reached = matrix >= matrix.dtype.type(threshold)
    near = [sorted(np.flatnonzero(r), key=lambda j, i=i: (-matrix[i, j], j != i, j)) for i, r in enumerate(reached)]
    taken, found = set(), []
    for members in sorted((n for n in near if len(n) >= min_size), key=len, reverse=True):
        members = [int(row) for row in members if row not in taken]
        if len(members) >= min_size:
            found.append(members)
            taken.update(members)
    return sorted(found, key=len, reverse=True)


@given(rows(), st.floats(0.1, 1), st.integers(1, 12))
def test_communities_are_those_of_sentence_transformers(x, threshold, min_size):
    found = cossim.communities(x, threshold, min_size)
    assert [members.tolist() for members in found] == detected_communities(scores_of(x), threshold, min_size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_communities_of_rows_shorter_than_eps(dtype):
    """A row's similarity to itself is below 1, and has the bits of the matrix."""
    x = (3 * np.random.default_rng(7).standard_normal((300, 33))).astype(dtype)
    x[::2] = x[1::2]
    matrix = cossim.pairwise(x, eps=40)
    own = np.diag(matrix)
    for threshold in own[:40]:
        found = cossim.communities(x, threshold, 2, eps=40)
        assert [members.tolist() for members in found] == detected_communities(matrix, threshold, 2)


def test_communities_stop_at_max_pairs():
    with pytest.raises(ValueError, match="max_pairs=5"):
        cossim.communities(np.ones((9, 3)), 0.5, max_pairs=5)


@given(rows(60), st.floats(0, 1), st.integers(1, 60))
def test_diverse_chooses_by_maximal_marginal_relevance(x, weight, k):
    x = np.nan_to_num(x)
    k = min(k, len(x))
    relevance, matrix = scores_of(x[-1:], x)[0].astype(np.float64), scores_of(x).astype(np.float64)
    chosen = [max(range(len(x)), key=lambda n: (relevance[n], -n))]
    while len(chosen) < k:
        gain = weight * relevance - (1 - weight) * matrix[chosen].max(axis=0)
        rest = [n for n in range(len(x)) if n not in chosen]
        chosen.append(max(rest, key=lambda n: (gain[n], relevance[n], -n)))
    found = cossim.diverse(x[-1], x, k, weight)
    assert found.indices.tolist() == chosen
    assert np.array_equal(found.values, relevance[chosen].astype(found.values.dtype))


def test_diverse_with_fetch_chooses_among_the_nearest_rows():
    x = np.random.default_rng(3).standard_normal((200, 8))
    near = cossim.topk(x[:3], x, 20).indices
    found = cossim.diverse(x[:3], x, 5, 0.4, fetch=20)
    for row, candidates, query in zip(found.indices, near, x[:3], strict=True):
        assert row.tolist() == candidates[cossim.diverse(query, x[candidates], 5, 0.4).indices].tolist()


def test_rows_that_are_read_block_by_block_give_the_results_of_an_array(tmp_path):
    x = np.random.default_rng(5).standard_normal((60, 4)).astype(np.float32)
    np.savetxt(tmp_path / "x.txt", x, "%.9g")
    path, rows = tmp_path / "x.txt", cossim.open_rows(tmp_path / "x.txt")
    assert np.array_equal(rows, x)
    for read in path, rows:
        calls = [
            lambda source: cossim.diverse(x[:2], source, 5, 0.4),
            lambda source: cossim.diverse(x[0], source, 3, 0.4, fetch=9),
            lambda source: cossim.top_pairs(source, 7),
            lambda source: cossim.deduplicate(source, 0.9),
            lambda source: cossim.communities(source, 0.8, 3),
        ]
        for call in calls:
            found, expected = call(read), call(x)
            assert len(found) == len(expected) > 0
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert cossim.maxsim(rows, [rows, x[:3]]).tolist() == cossim.maxsim(x, [x, x[:3]]).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("copied", [1, 9, 1 << 14])
def test_maxsim_sums_the_best_cosine_of_each_token(dtype, copied, monkeypatch):
    monkeypatch.setattr("cossim.search.rerank.ROWS", copied)
    monkeypatch.setattr("cossim.search.rerank.FEW_ROWS", copied)
    rng = np.random.default_rng(4)
    query, tokens = ((4 * rng.standard_normal((n, 16))).astype(dtype) for n in (7, 90))
    offsets = np.array([0, 1, 4, 40, 41, 90])
    matrix = scores_of(query, tokens)
    expected = []
    for a, b in zip(offsets[:-1], offsets[1:], strict=True):
        total = 0.0
        for best in matrix[:, a:b].max(axis=1):
            total += float(best)
        expected.append(total)
    assert cossim.maxsim(query, tokens, offsets).tolist() == expected
    assert (
        cossim.maxsim(query, [tokens[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]).tolist() == expected
    )
    best = cossim.maxsim(query, tokens, offsets, k=3)
    order = sorted(range(5), key=lambda n: -expected[n])[:3]
    assert best.indices.tolist() == order and best.values.tolist() == [expected[n] for n in order]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
def test_maxsim_of_documents_across_tasks_is_that_of_the_matrix(dtype, threads):
    """A task of 1024 query rows has 256 document rows. Documents end, begin and lie in any of them."""
    rng = np.random.default_rng(6)
    query, tokens = (rng.standard_normal((n, 6)).astype(dtype) for n in (1030, 1400))
    tokens[300], tokens[1200] = np.nan, 0
    tokens[5] = query[1]
    offsets = np.array([0, 1, 255, 256, 257, 300, 310, 1030, 1100, 1101, 1399, 1400])
    best = np.maximum.reduceat(cossim.pairwise(query, tokens), offsets[:-1], axis=1)
    expected = np.add.accumulate(best, axis=0, dtype=np.float64)[-1]
    assert np.isnan(expected).sum() == 1
    chosen = np.arange(11) % 3 != 1
    reports = []
    with cossim.threads(threads):
        found = cossim.maxsim(query, tokens, offsets, progress=lambda done, total: reports.append((done, total)))
        some = cossim.maxsim(query[:, ::-1], np.asfortranarray(tokens[:, ::-1]), offsets, where=chosen)
        expected_some = np.maximum.reduceat(cossim.pairwise(query[:, ::-1], tokens[:, ::-1]), offsets[:-1], axis=1)
    assert np.array_equal(found, expected, equal_nan=True) and reports[-1] == (11, 11)
    expected_some = np.add.accumulate(expected_some, axis=0, dtype=np.float64)[-1]
    assert np.array_equal(some, np.where(chosen, expected_some, np.nan), equal_nan=True)


def test_a_query_of_no_tokens_scores_0():
    assert cossim.maxsim(np.empty((0, 3)), np.ones((4, 3)), [0, 1, 4]).tolist() == [0, 0]


def test_maxsim_of_an_index_is_that_of_its_live_rows():
    rng = np.random.default_rng(5)
    query, tokens = (rng.standard_normal((n, 8), dtype=np.float32) for n in (3, 12))
    index = cossim.Index(tokens)
    index.remove([0, 5])
    offsets, living = [0, 4, 9, 10], np.delete(tokens, [0, 5], axis=0)
    assert cossim.maxsim(query, index, offsets).tolist() == cossim.maxsim(query, living, offsets).tolist()
    with pytest.raises(ValueError, match=r"maxsim\(\): offsets"):
        cossim.maxsim(query, index, [0, 12])
    with pytest.raises(TypeError, match=r"maxsim\(\): documents is an Index"):
        cossim.maxsim(query, cossim.Index(np.zeros((4, 8), np.uint8), binary=True), [0, 4])


def test_one_vector_is_a_query_of_one_token():
    documents = [[[1.0, 2.0]], [[1.0, 0.0]]]
    assert cossim.maxsim([0.0, 1.0], documents).tolist() == cossim.maxsim([[0.0, 1.0]], documents).tolist()


def test_documents_of_another_length_are_named():
    for documents, offsets, named in (
        ([[[1.0, 2.0]], [[1.0]]], None, r"documents\[1\] 1"),
        ([[1.0]], [0, 1], "documents 1"),
    ):
        with pytest.raises(ValueError, match=rf"maxsim\(\): rows of query have 2 elements, rows of {named}"):
            cossim.maxsim([[0.0, 1.0]], documents, offsets)


def test_maxsim_ranks_nan_last():
    documents = [[[np.nan, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]]
    assert cossim.maxsim([[0.0, 1.0]], documents, k=3).indices.tolist() == [2, 1, 0]


def test_top_pairs_report_no_more_than_all_pairs():
    reports = []
    x = np.random.default_rng(5).standard_normal((1500, 24), np.float32)
    cossim.top_pairs(x, 50, progress=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (1500 * 1501 // 2, 1500 * 1501 // 2)
    assert all(done <= total for done, total in reports)


# ---- filters, few rows ----


def test_deduplicate_among_some_rows():
    x = np.random.default_rng(0).standard_normal((3000, 3)).astype(np.float32)
    mask = np.random.default_rng(1).random(3000) < 0.5
    mask[1024:2048] = False
    chosen, left = np.flatnonzero(mask), np.flatnonzero(~mask)
    expected = cossim.deduplicate(x[chosen], 0.95)
    for filters in ({"where": mask}, {"where": chosen[::-1]}, {"exclude": left}, {"exclude": left[None]}):
        kept, like = cossim.deduplicate(x, 0.95, **filters)
        assert kept.tolist() == chosen[expected.kept].tolist()
        assert like[chosen].tolist() == chosen[expected.like].tolist()
        assert (like[left] == -1).all()


def test_diverse_among_some_rows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 6)).astype(np.float32)
    masks = rng.random((3, 90)) < 0.2
    found = cossim.diverse(x[:3], x, 40, 0.4, where=masks)
    for query, mask, values, indices in zip(x[:3], masks, *found, strict=True):
        chosen = np.flatnonzero(mask)
        expected = cossim.diverse(query, x[chosen], len(chosen), 0.4)
        assert indices.tolist() == chosen[expected.indices].tolist() + [-1] * (40 - len(chosen))
        assert np.array_equal(values[: len(chosen)], expected.values) and np.isnan(values[len(chosen) :]).all()
    assert 7 not in cossim.diverse(x[7], x, 5, exclude=[7]).indices


def test_maxsim_among_some_documents():
    rng = np.random.default_rng(0)
    query, tokens, offsets = rng.standard_normal((4, 5)), rng.standard_normal((30, 5)), [0, 3, 10, 11, 20, 30]
    scores = cossim.maxsim(query, tokens, offsets)
    for filters in ({"where": [0, 3]}, {"where": [True, False, False, True, False]}, {"exclude": [1, 2, 4, -1]}):
        found = cossim.maxsim(query, tokens, offsets, **filters)
        assert found[[0, 3]].tolist() == scores[[0, 3]].tolist() and np.isnan(found[[1, 2, 4]]).all()
        best = cossim.maxsim(query, tokens, offsets, k=3, **filters)
        assert best.indices.tolist() == [*sorted([0, 3], key=lambda n: -scores[n]), -1]
        assert best.values[:2].tolist() == sorted(scores[[0, 3]], reverse=True) and np.isnan(best.values[2])
    for error, wrong in (
        (IndexError, {"where": [5]}),
        (ValueError, {"where": [True]}),
        (IndexError, {"exclude": [-2]}),
    ):
        with pytest.raises(error, match=r"maxsim\(\).*(where|exclude)"):
            cossim.maxsim(query, tokens, offsets, **wrong)


def test_no_rows_at_all():
    empty = np.empty((0, 4))
    assert [a.tolist() for a in cossim.deduplicate(empty, 0.9)] == [[], []]
    assert cossim.communities(empty, 0.9) == []
    assert cossim.diverse(np.ones(4), empty, 2).indices.tolist() == [-1, -1]
    assert cossim.maxsim(np.ones(4), empty, [0]).tolist() == []
    assert cossim.maxsim(np.ones(4), [], k=2).indices.tolist() == [-1, -1]
    assert cossim.diverse(np.ones(4), np.eye(4), 6).indices[4:].tolist() == [-1, -1]


def test_diverse_needs_a_corpus_and_maxsim_a_list_of_documents():
    x = np.eye(2)
    with pytest.raises(TypeError, match=r"diverse\(\): corpus must be an array of real numbers, not NoneType"):
        cossim.diverse(x[0], None, 1)
    for documents in (None, 3, "rows.npy", Path("rows.npy"), {"a": x}, cossim.Index(x)):
        with pytest.raises(
            TypeError, match=rf"maxsim\(\): documents must be a list .* not {type(documents).__name__}:"
        ):
            cossim.maxsim(x, documents)
    assert cossim.maxsim(x, iter([x, x])).tolist() == [2, 2]
