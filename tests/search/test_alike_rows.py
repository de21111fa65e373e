"""Equal, repeated, zero and nearly equal rows take shortcuts, and have the scores of the full matrix, bit for bit."""

import numpy as np
import pytest
from reference import best_of, reaching, same

import cossim
from cossim import _core

N, D, K = 2600, 32, 4


def _rows(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D))
    x[100:1500:3] = 0
    x[1501:1600] = x[3]
    x[1600:2300] = np.repeat(x[10:110], 7, axis=0)
    x[2300:] = x[5] * (1 + 1e-3 * rng.standard_normal((N - 2300, D)))
    return np.rint(20 * x).clip(-127, 127).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def _queries(x):
    """Yields queries that share memory with the corpus, copies of them, and others, some of them zero."""
    rng = np.random.default_rng(1)
    for count in (1, 4, 7, 20, 70):
        yield x[:count]
        yield x[-count:].copy()
    yield x[1500:1570]
    yield np.vstack([x[3:4]] * 20)
    others = (20 * rng.standard_normal((70, D))).astype(x.dtype)
    others[::6] = 0
    yield others


def _check(queries, corpus, index=None):
    """Compares topk, and that of an index of the corpus, with the full matrix, on one thread and on two."""
    expected = best_of(cossim.pairwise(queries, corpus), K, False)
    for threads in (1, 2):
        with cossim.threads(threads):
            same(cossim.topk(queries, corpus, K), expected)
            if index is not None:
                same(index.topk(queries, K), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "i8"])
def test_topk_is_that_of_the_full_matrix(dtype):
    x = _rows(dtype)
    index = cossim.Index(x)
    for queries in _queries(x):
        _check(queries, x, index)


def test_corpora_in_reverse_and_of_wide_rows():
    x = _rows("f4")
    wide = np.hstack([x, x])[:, ::-1][:, :D]
    for queries in (x[:20], x[1500:1570]):
        _check(queries, x[::-1])
        _check(queries, np.hstack([x, x])[:, :D])
        _check(queries, wide)


@pytest.mark.parametrize("shape", [1000, 2000])
def test_rows_that_are_corpus_and_queries_at_once(shape):
    x = _rows("f4")[-shape:]
    _check(x, x)
    _check(x[::2], x[::2])


def test_a_corpus_of_equal_rows_gives_its_first_rows():
    x = np.repeat(np.random.default_rng(2).standard_normal((1, D), np.float32), 3000, axis=0)
    for queries in (x[:1], x[:70], x[:70].copy(), x[:70] + 1):
        np.testing.assert_array_equal(cossim.topk(queries, x, K).indices, [range(K)] * len(queries))
        np.testing.assert_array_equal(cossim.Index(x).topk(queries, K).indices, [range(K)] * len(queries))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1"])
@pytest.mark.parametrize("kind", ["mixed", "equal", "zero", "few", "shuffled"])
def test_neighbours_of_rows_that_repeat(dtype, kind):
    x = _rows(dtype)[:1700]
    if kind != "mixed":
        x[:] = {"equal": x[3], "zero": 0, "few": x[np.arange(len(x)) // 90], "shuffled": x[np.arange(len(x)) % 7]}[kind]
    scores = cossim.pairwise(x)
    np.testing.assert_array_equal(scores, cossim.pairwise(x, x.copy()))
    expected = best_of(scores, 70, True)
    for k in (1, K, 70):
        for threads in (1, 2):
            with cossim.threads(threads):
                found = cossim.topk(x, None, k)
            same(found, [part[:, :k] for part in expected])


def _neighbours_of_two_sides(x, k):
    """The k nearest others of each row, by a search that compares each pair twice."""
    twice = cossim.topk(x, x.copy(), k + 1)
    others = np.argsort(twice.indices == np.arange(len(x))[:, None], axis=1, kind="stable")[:, :k]
    return [np.take_along_axis(part, others, axis=1) for part in twice]


@pytest.mark.parametrize("kind", ["random", "alike", "repeated", "tiny", "not finite", "whole", "int8", "float64"])
def test_neighbours_by_codes_are_those_of_other_searches(kind):
    """A large set is compared with itself by codes, each pair once; with a copy, each pair twice."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((9000, 16), np.float32)
    if kind == "alike":
        x = x[0] + np.float32(0.01) * x
    elif kind == "repeated":
        x[2000:7000:3], x[1:9400:5] = x[7], 0
    elif kind == "tiny":
        x[::2] *= np.float32(1e-12)
        x[1::4] *= np.float32(1e-38)
    elif kind == "not finite":
        x[5:9000:1000, 3], x[17, 2], x[8000] = np.nan, np.inf, -np.inf
    elif kind == "whole":  # most scores tie with others
        x = np.rint(x)
    elif kind == "int8":
        x = np.rint(9 * x).astype(np.int8)
    elif kind == "float64":
        x = x * np.where(np.arange(9000) % 3, 1e200, 1e-200)[:, None]
    expected = _neighbours_of_two_sides(x, 2)
    for threads in (1, 2):
        with cossim.threads(threads):
            same(cossim.topk(x, None, 2) if threads == 1 else cossim.Index(x).topk(None, 2), expected)


@pytest.mark.parametrize("kind", ["spikes", "sorted"])
def test_neighbours_whose_scores_wait_are_those_of_other_searches(kind):
    """Pairs wait with bounds until thresholds are final. Here, more pairs wait than there is room for."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((9472, 16), np.float32)
    if kind == "spikes":
        x = np.eye(16, dtype=np.float32)[rng.integers(0, 16, len(x))] + np.float32(1e-3) * np.abs(x)
    else:
        x.sort(axis=0)
    same(cossim.topk(x, None, 5), _neighbours_of_two_sides(x, 5))


def test_neighbours_without_memory_for_pairs_that_wait_are_the_same():
    x = np.random.default_rng(8).standard_normal((8800, 16), np.float32)
    _core._fail_allocation(10**6)
    expected = cossim.topk(x, None, 1)
    last = 10**6 - _core._fail_allocation(0)
    for n in range(last, last - 20, -1):
        _core._fail_allocation(n)
        try:
            found = cossim.topk(x, None, 1)
        except MemoryError:
            continue
        finally:
            assert _core._fail_allocation(0) == 0, "an allocation failed"
        break
    same(found, expected)


def test_scores_of_repeated_rows_are_those_of_single_pairs():
    x = _rows("f4")[1480:1680]
    scores = cossim.pairwise(x)
    for layout in (x[::-1][::-1], np.hstack([x, x])[:, :D], np.asfortranarray(x), x.astype(">f4")):
        np.testing.assert_array_equal(cossim.pairwise(layout), scores)
        np.testing.assert_array_equal(cossim.pairwise(layout, x), scores)
    assert (np.diag(scores)[x.any(axis=1)] == 1).all()
    assert (scores[np.ix_(range(21, 120), range(21, 120))] == 1).all()


@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.5, 0.75, 300.0])
@pytest.mark.parametrize("dtype", ["i1", "u1"])
def test_bytes_that_few_queries_search(dtype, eps):
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (900, 70)).astype(np.uint8)
    x[5:300:7] = 0
    x[6:300:7, 1:] = 0
    x[7:300:7] = x[8]
    for queries in (1, 4, 6):
        q, rows = x[10 : 10 + queries].view(dtype), x.view(dtype)
        same(cossim.topk(q, rows, 30, eps=eps), best_of(cossim.pairwise(q, rows, eps=eps), 30, False))


def test_pairs_of_repeated_rows_are_those_of_the_full_matrix():
    x = _rows("f4")
    for queries in (x[:70], x[1590:1660]):
        scores = cossim.pairwise(queries, x)
        for threshold in (-0.1, 0.0, 0.9, 1.0):
            for found in (cossim.pairs_above(queries, threshold, x), cossim.Index(x).pairs_above(queries, threshold)):
                same(found, reaching(scores, threshold, False))
