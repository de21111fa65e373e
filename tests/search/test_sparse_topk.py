"""Top-k of many sparse rows with themselves, whose pairs are scored once: the k best of pairwise, bit for bit."""

import numpy as np
import pytest
import reference
from reference import same

import cossim
from cossim import _core

sp = pytest.importorskip("scipy.sparse")

FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def random_rows(rng, rows, columns, entries, dtype):
    at = np.repeat(np.arange(rows), entries), rng.integers(0, columns, rows * entries)
    return sp.csr_array(sp.coo_array((rng.random(rows * entries) + 0.1, at), (rows, columns))).astype(dtype)


def check(x, *ks):
    scores = cossim.pairwise(x)
    for k in ks:
        same(cossim.topk(x, None, k), reference.best_of(scores.copy(), k, True))


@FLOATS
def test_alike_rows(rng, dtype):
    check(random_rows(rng, 2100, 2000, 20, dtype), 1, 10, 64)


@FLOATS
def test_rows_whose_best_scores_are_low(rng, dtype):
    """A few rows share few columns or none with others, are zero or not finite, or have norms out of range."""
    x = random_rows(rng, 2200, 2000, 20, dtype)
    x.indices[300:400] = rng.integers(1900, 2000, 100)
    x.data[1000:1040] = 0
    x.data[2000] = np.nan
    x.data[3000] = np.inf
    x.data[4000:4020] *= 1e30
    x.data[5000:5020] *= 1e-42
    x.data[6000:6060] *= -1
    check(x, 10)


@FLOATS
def test_equal_scores(rng, dtype):
    """Each row occurs 12 times, and its copies have equal scores with it and with other rows."""
    x = random_rows(rng, 180, 300, 20, dtype)
    check(x[rng.permutation(np.repeat(np.arange(180), 12))], 5, 11, 12, 40)


@FLOATS
def test_best_scores_that_differ(rng, dtype):
    """Most rows are alike, and share no column with the others."""
    x = random_rows(rng, 2100, 1000, 20, dtype)
    alike = rng.random((1, 1000)) * (rng.random((1, 1000)) < 0.02)
    blocks = [[x[:1000], None], [None, sp.csr_array(np.repeat(alike, 1100, 0)).astype(dtype)]]
    x = sp.csr_array(sp.block_array(blocks).tocsr()[rng.permutation(2100)])
    check(x, 10)


@FLOATS
def test_more_pairs_than_the_samples_tell(rng, dtype):
    """The rows that are sampled, every 33rd, share no column with the others, which are alike."""
    x = random_rows(rng, 2112, 1000, 20, dtype)
    alike = sp.csr_array(np.repeat(rng.random((1, 1000)) * (rng.random((1, 1000)) < 0.02), 2112, 0)).astype(dtype)
    sampled = (np.arange(2112) % 33 == 0)[:, None]
    check(sp.csr_array(sp.hstack([x * sampled, alike * ~sampled])), 3)


@FLOATS
def test_rows_with_many_more_entries(rng, dtype):
    """The error bound of the scores of three long rows is above the level of the pairs."""
    x = random_rows(rng, 2100, 3000, 20, dtype)
    long = sp.csr_array(rng.random((3, 1_500_000)).astype(dtype))
    x.resize(2100, 1_500_000)
    x = sp.csr_array(sp.vstack([x[:1500], long, x[1500:]]))
    found = cossim.topk(x, None, 3)
    some = np.r_[0:40, 1490:1500, 1503:1513]
    scores = cossim.pairwise(x[some], x)
    scores[np.arange(60), some] = -2
    same([a[some] for a in found], reference.best_of(scores, 3, False))


@FLOATS
def test_several_blocks(rng, dtype):
    """More rows than a block of the index of coarse scores holds."""
    x = random_rows(rng, 18_000, 2000, 10, dtype)
    some = np.r_[0:50, 8150:8250, 16_300:16_400, 17_950:18_000]
    found, scores = cossim.topk(x, None, 7), cossim.pairwise(x[some], x)
    scores[np.arange(300), some] = -2
    same([a[some] for a in found], reference.best_of(scores, 7, False))


def test_threads_and_progress(rng):
    x = random_rows(rng, 4000, 3000, 20, np.float64)
    x.indices[:400] = rng.integers(2950, 3000, 400)
    reports = []
    with cossim.threads(1):
        expected = cossim.topk(x, None, 10, progress=lambda *report: reports.append(report))
    assert reports[-1] == (16_000_000, 16_000_000)
    assert [done for done, _ in reports] == sorted(min(done, 16_000_000) for done, _ in reports)
    for threads in (2, 3):
        with cossim.threads(threads):
            same(cossim.topk(x, None, 10), expected)


def test_a_stopped_call(rng):
    x = random_rows(rng, 30_000, 3000, 20, np.float32)

    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        cossim.topk(x, None, 10, progress=stop)


def test_when_memory_runs_out(rng):
    """Each allocation fails in turn: the call raises MemoryError, or searches row by row."""
    x = random_rows(rng, 2100, 2000, 20, np.float32)
    expected, live, tried = cossim.topk(x, None, 3), _core._live_blocks(), 0
    failed = True
    while failed:
        tried += 1
        _core._fail_allocation(tried)
        try:
            same(cossim.topk(x, None, 3), expected)
        except MemoryError:
            pass
        finally:
            failed = _core._fail_allocation(0) == 0
        assert _core._live_blocks() == live
    assert tried > 5


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)], ids=str)
def test_the_core_refuses_dense_rows_of_other_dimensions(shape):
    with pytest.raises(ValueError, match=r"\bfit\b"):
        _core.sparse_norms(("f", "x", np.ones(shape), "y", None, 0.0, None, None))
