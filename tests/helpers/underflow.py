"""Checks that a score that underflows has one sign in all functions that compute it; test_fp_modes.py runs it."""

import ml_dtypes
import numpy as np

import cossim
from cossim.search.blocks import score_dtype

TINY = {
    np.float32: [1e-20, 1e-30, 1e-38, 1e-45],
    np.float64: [1e-160, 1e-200, 1e-310, 5e-324],
    np.float16: [1e-3, 1e-4, 6e-8],
    ml_dtypes.bfloat16: [1e-20, 1e-30, 1e-38],
}


def tiny_rows(rng, n, depth, dtype):
    """Rows with one element of 1 or -1; all other elements are tiny or zero, of both signs."""
    values = [0.0, *TINY[dtype]]
    x = rng.choice(values + [-value for value in values], (n, depth))
    x[np.arange(n), rng.integers(depth, size=n)] = rng.choice([1.0, -1.0], n)
    return x.astype(dtype)


def check_one_sign(dtype, depth):
    rng = np.random.default_rng(depth)
    x, y = tiny_rows(rng, 13, depth, dtype), tiny_rows(rng, 21, depth, dtype)
    expected = np.empty((len(x), len(y)), score_dtype(x, y))
    cossim.pairwise(x, y, out=expected)
    assert not np.signbit(expected[expected == 0]).any(), "a sum begins with +0"

    def check(what, place):
        scores = np.full_like(expected, np.nan)
        place(scores)
        assert scores.tobytes() == expected.tobytes(), (what, np.dtype(dtype).name, depth)

    def best(of, queries):
        return lambda scores: [
            np.put_along_axis(scores[i : i + queries], *of(x[i : i + queries])[::-1], 1)
            for i in range(0, len(x), queries)
        ]

    def above(found):
        return lambda scores: scores.__setitem__((found.i, found.j), found.values)

    index = cossim.Index(y)
    for queries in (1, 3, len(x)):
        check("topk", best(lambda q: cossim.topk(q, y, len(y)), queries))
        check("Index.topk", best(lambda q: index.topk(q, len(y)), queries))
    check("pairs_above", above(cossim.pairs_above(x, -1, y)))
    check("Index.pairs_above", above(index.pairs_above(x, -1)))
    check("all pairs", lambda scores: cossim.cosine_similarity(x[:, None], y[None], 2, out=scores))
    check("transposed", lambda scores: cossim.pairwise(y, x, out=scores.T))


if __name__ == "__main__":
    for dtype in TINY:
        for depth in [*range(1, 20), 31, 32, 33, 64, 65, 255, 256, 257, 513, 700]:
            check_one_sign(dtype, depth)
    print(cossim._core.config()["isa"])
