"""topk of many rows with themselves scores groups of similar rows first, and finds the same neighbours as without."""

import numpy as np
import pytest

import cossim

N, D = 8600, 16  # from 8448 rows on, a search for one neighbour has groups


def clustered(rng):
    return rng.standard_normal((40, D))[rng.integers(0, 40, N)] + 0.2 * rng.standard_normal((N, D))


def with_nan_and_zeros(rng):
    x = clustered(rng)
    x[::7], x[5::11, 3], x[:20] = 0, np.nan, np.nan
    return x


ROWS = {
    "clustered": clustered,
    "random": lambda rng: rng.standard_normal((N, D)),
    "equal": lambda rng: np.ones((N, D)),
    "repeated": lambda rng: np.repeat(rng.standard_normal((N // 100, D)), 100, axis=0),
    "whole numbers": lambda rng: rng.integers(-1, 2, (N, D)),
    "NaN and zeros": with_nan_and_zeros,
    "tiny and huge": lambda rng: clustered(rng) * 10.0 ** rng.integers(-18, 18, (N, 1)),
}


@pytest.mark.parametrize(("dtype", "threads"), [(np.float32, 1), (np.float32, 2), (np.float64, 2)])
@pytest.mark.parametrize("rows", ROWS)
def test_groups_do_not_change_neighbours(rows, dtype, threads):
    x = ROWS[rows](np.random.default_rng(0)).astype(dtype)
    some = np.arange(0, len(x), 3)
    with cossim.threads(threads):
        found = cossim.topk(x, None, 1)
        expected = cossim.topk(x[some], x, 2)
    place = np.argsort(expected.indices == some[:, None], axis=1, kind="stable")[:, :1]  # a row itself comes last
    assert np.array_equal(found.indices[some], np.take_along_axis(expected.indices, place, 1))
    np.testing.assert_array_equal(found.values[some], np.take_along_axis(expected.values, place, 1))


def test_groups_of_an_index():
    x = clustered(np.random.default_rng(0)).astype(np.float32)
    found, expected = cossim.Index(x).topk(None, 1), cossim.topk(x, None, 1)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_progress_of_groups_ends_at_all_pairs():
    reports = []
    cossim.topk(np.ones((N, D), np.float32), None, 1, progress=lambda *report: reports.append(report))
    assert reports[-1][0] == reports[-1][1] and all(done <= total for done, total in reports)
