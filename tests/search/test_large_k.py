"""topk with k up to the number of candidates: the candidates are collected, and the k best of them selected."""

import numpy as np
import pytest
import reference
from test_search import KINDS, same, scores_of

import cossim


@pytest.mark.parametrize("kind", ["normal", "binary", "same", "awkward", "signs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8], ids=lambda d: np.dtype(d).name)
def test_every_k(rng, kind, dtype):
    """Covers few and many queries, a corpus with itself, threads, and blocks of a file."""
    corpus, queries = KINDS[kind](rng, 500, 40), KINDS[kind](rng, 70, 40)
    if np.dtype(dtype).kind == "i":
        corpus, queries = (np.clip(np.nan_to_num(9 * a), -127, 127) for a in (corpus, queries))
    with np.errstate(all="ignore"):
        corpus, queries = corpus.astype(dtype), queries.astype(dtype)
    scores, square = scores_of(queries, corpus), scores_of(corpus)
    for threads in (1, 3):
        with cossim.threads(threads):
            for k in (64, 65, 200, 500):
                for count in (1, 70):
                    same(cossim.topk(queries[:count], corpus, k), reference.best_of(scores[:count], k, False))
            for k in (65, 499):
                same(cossim.topk(corpus, None, k), reference.best_of(square, k, True))
                same(cossim.topk(corpus, corpus, k), reference.best_of(square, k, False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: np.dtype(d).name)
def test_files(rng, tmp_path, dtype):
    """The corpus is read in blocks, whose results are merged; each block of queries meets each of them."""
    x = rng.integers(-2, 3, (800, 24)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    square = cossim.pairwise(x)
    for k in (80, 799):
        expected = reference.best_of(square, k, True)
        same(cossim.topk(tmp_path / "x.npy", None, k, memory=1), expected)
        same(cossim.topk(x, None, k), expected)
    same(cossim.topk(x[:200], tmp_path / "x.npy", 400, memory=1), reference.best_of(square[:200], 400, False))


def test_blocks_of_queries(rng):
    """There are more queries than one block holds, which is 16 MB of candidates."""
    q, x = rng.standard_normal((700, 8), np.float32), rng.standard_normal((1500, 8), np.float32)
    same(cossim.topk(q, x, 1000), reference.best_of(cossim.pairwise(q, x), 1000, False))


def test_prefiltered(rng):
    """The corpus is so large that the prefilter runs, with and without an Index."""
    x, q = rng.standard_normal((30_000, 32), np.float32), rng.standard_normal((20, 32), np.float32)
    scores, index = cossim.pairwise(q, x), cossim.Index(x)
    for threads in (1, 3):
        with cossim.threads(threads):
            for count in (1, 4, 20):
                expected = reference.best_of(scores[:count], 100, False)
                same(cossim.topk(q[:count], x, 100), expected)
                same(index.topk(q[:count], 100), expected)


def test_zeros_keep_their_sign():
    """Scores of -0 rank as equal to +0, and keep the sign that they have in the matrix."""
    x = np.zeros((200, 2), np.float32)
    x[:, 0] = 1
    x[::2, 1], x[1::2, 1] = 1e-30, -1e-30
    q = np.array([[0, 1e-22]], np.float32)
    scores = cossim.pairwise(q, x, eps=1.0)
    assert np.signbit(scores).any()
    assert not scores.all()
    values, indices = cossim.topk(q, x, 150, eps=1.0)
    order = np.argsort(-scores[0], kind="stable")[:150]
    np.testing.assert_array_equal(indices[0], order)
    np.testing.assert_array_equal(values.view(np.uint32)[0], scores[0, order].view(np.uint32))


def test_progress_ends_at_its_total(rng):
    x, seen = rng.standard_normal((1200, 16)), []
    cossim.topk(x, None, 600, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (1200 * 1201 // 2,) * 2
