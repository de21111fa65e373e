"""maxsim rules rows out by rough cosines and still has the bits of pairwise, on every instruction set."""

import pytest
from conftest import INSTRUCTION_SETS
from processes import python_on

# Compares maxsim with the maxima of the full matrix, in a process of its own, because COSSIM_ISA is read at import.
CHECK = """
import numpy as np, cossim
from cossim import _core

rng = np.random.default_rng(8)


def expected(query, tokens, offsets, eps):
    # float16 scores are computed in float32, as those of searches
    query, tokens = (a.astype(np.float32) if a.dtype == np.float16 else a for a in (query, tokens))
    best = np.maximum.reduceat(cossim.pairwise(tokens, query, eps=eps), offsets[:-1], axis=0)
    return np.add.accumulate(best, axis=1, dtype=np.float64)[:, -1]


def powers(n, largest):
    return 10.0 ** rng.integers(-largest, largest, (n, 1))


def nan(q, x): x[70, 3], x[1300] = np.nan, np.nan
def infinite(q, x): x[5, 0], x[1305, 1] = np.inf, -np.inf
def zero(q, x): x[::2] = 0
def only_zero(q, x): x[:] = 0
def huge_and_tiny(q, x): x *= powers(len(x), 18)
def beyond_float32(q, x): x *= powers(len(x), 37)
def near_the_limits(q, x): x *= powers(len(x), 14); q *= powers(len(q), 10)
def equal(q, x): x[:] = x[0]
def duplicates(q, x): x[:] = x[rng.integers(0, 20, len(x))]
def tokens_of_the_query(q, x): x[::3] = q[rng.integers(0, len(q), len(x[::3]))]
def parallel(q, x): x[:] = q[0] * (1 + 1e-4 * rng.standard_normal(x.shape)) * rng.choice([1, -1], (len(x), 1))
def negative(q, x): x[:], q[:] = abs(x), -abs(q)
def query_with_zero(q, x): q[0] = 0
def query_with_nan(q, x): q[-1] = np.nan
def whole(q, x): x[:], q[:] = np.round(x), np.round(q)
def nothing(q, x): pass


kinds = [nan, infinite, zero, only_zero, huge_and_tiny, beyond_float32, near_the_limits, equal, duplicates]
kinds += [tokens_of_the_query, parallel, negative, query_with_zero, query_with_nan, whole, nothing]
offsets = np.array([0, 1, 301, 302, 1400])
shapes = [("f4", 128, 32), ("f4", 33, 40), ("f4", 257, 1), ("f8", 32, 5), ("f2", 40, 3), ("i1", 32, 9)]
for kind in kinds:
    for dtype, depth, queries in shapes:
        query, tokens = (3 * rng.standard_normal((n, depth)) for n in (queries, 1400))
        kind(query, tokens)
        with np.errstate(all="ignore"):
            query, tokens = query.astype(dtype), tokens.astype(dtype)
        for eps in (1e-8, 2.0) if kind is nothing else (1e-8,):
            found, right = cossim.maxsim(query, tokens, offsets, eps=eps), expected(query, tokens, offsets, eps)
            case = kind.__name__, dtype, depth, queries, eps
            assert np.array_equal(found, right, equal_nan=True), (case, found, right)
            assert (np.signbit(found) == np.signbit(right))[~np.isnan(right)].all(), case

# Documents across tasks, with other layouts, masks and threads.
query, tokens = rng.standard_normal((40, 64)).astype("f4"), rng.standard_normal((9000, 64)).astype("f4")
offsets = np.array([0, 100, 4000, 4200, 8300, 9000])
right = expected(query, tokens, offsets, 1e-8)
wide = np.concatenate([tokens, tokens], axis=1)
for threads in (1, 2):
    with cossim.threads(threads):
        for x in (tokens, np.asfortranarray(tokens), wide[:, 64:], tokens.astype(">f4")):
            assert np.array_equal(cossim.maxsim(query, x, offsets), right)
        chosen = np.array([True, False, True, True, False])
        assert np.array_equal(cossim.maxsim(query, tokens, offsets, where=chosen)[chosen], right[chosen])
print(_core.config()["isa"])
"""


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_maxsim_has_the_bits_of_pairwise_for_rows_of_any_kind(isa):
    python_on(isa, "-c", CHECK)
