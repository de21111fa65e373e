"""Integer products of all pairs of 8-bit rows have exact sums, so the bits are those of the same rows in float64."""

import numpy as np
import pytest
from conftest import INSTRUCTION_SETS
from processes import python_on
from reference import best_of, same

import cossim


def rows(rng, dtype, n, depth, extreme=False):
    info = np.iinfo(dtype)
    return (
        np.full((n, depth), info.min or info.max, dtype)
        if extreme
        else rng.integers(info.min, info.max + 1, (n, depth), dtype)
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_bits_are_those_of_float64(rng, dtype):
    for case in range(60):
        n, m = rng.integers(1, 71, 2)
        depth = int(rng.integers(1, 5000 if case % 4 == 0 else 70))
        x, y = (rows(rng, dtype, count, depth, extreme=case % 7 == 0) for count in (n, m))
        np.testing.assert_array_equal(cossim.pairwise(x, y), cossim.pairwise(x.astype(float), y.astype(float)))
        np.testing.assert_array_equal(cossim.pairwise(x), cossim.pairwise(x.astype(float)))


@pytest.mark.parametrize("depth", [1023, 1024, 1025, 2049, 70_000, 150_000])
def test_sums_of_long_rows_do_not_overflow(rng, depth):
    """Rows longer than a block, and longer than a segment; the sums of the longest exceed 32 bits."""
    for dtype in (np.int8, np.uint8):
        for extreme in (False, True):
            x = rows(rng, dtype, 3, depth, extreme)
            x[1, ::3] = 0
            np.testing.assert_array_equal(
                cossim.pairwise(x, x.copy()), cossim.pairwise(x.astype(float), x.astype(float))
            )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_])
def test_layouts_batches_and_threads(rng, dtype):
    x = rng.integers(0, 100, (3, 300, 50)).astype(dtype)
    expected = np.stack([cossim.pairwise(a.astype(float)) for a in x])
    for layout in (x, np.asfortranarray(x), x[:, :, ::-1], np.repeat(x, 2, 2)[:, :, ::2]):
        for threads in (1, 2):
            with cossim.threads(threads):
                got = cossim.cosine_similarity(layout[:, :, None], layout[:, None], -1)
                np.testing.assert_array_equal(got, expected)
                np.testing.assert_array_equal(cossim.pairwise(layout[0], layout[0].copy()), expected[0])


def test_mixed_signs(rng):
    x, y = rows(rng, np.int8, 40, 700), rows(rng, np.uint8, 50, 700)
    np.testing.assert_array_equal(cossim.pairwise(x, y), cossim.pairwise(x.astype(float), y.astype(float)))


def test_zero_rows_and_eps(rng):
    x = rows(rng, np.int8, 20, 30)
    x[::3] = 0
    for eps in (0.0, 1e-8, 500.0):
        np.testing.assert_array_equal(
            cossim.pairwise(x, x.copy(), eps=eps), cossim.pairwise(x.astype(float), x.astype(float), eps=eps)
        )


def test_search_has_the_scores_of_all_pairs(rng):
    """The first rows are scored block by block, the survivors of the prefilter one by one."""
    for dtype in (np.int8, np.uint8):
        x, q = rows(rng, dtype, 3000, 40), rows(rng, dtype, 100, 40)
        same(cossim.topk(q, x, 5), best_of(cossim.pairwise(q, x), 5, False))


CHECK = """
import numpy as np
from cossim import _core, pairwise
rng = np.random.default_rng(1)
for dtype, low, high in ((np.int8, -128, 128), (np.uint8, 0, 256)):
    for n, m, depth in ((1, 1, 1), (7, 70, 3), (65, 33, 130), (40, 50, 1027), (3, 3, 2500)):
        x, y = rng.integers(low, high, (n, depth)).astype(dtype), rng.integers(low, high, (m, depth)).astype(dtype)
        np.testing.assert_array_equal(pairwise(x, y), pairwise(x.astype(float), y.astype(float)))
print(_core.config()["isa"])
"""


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set(isa):
    python_on(isa, "-c", CHECK)
