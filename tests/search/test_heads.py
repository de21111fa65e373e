"""Heads only rule out pairs that cannot be results: searches with them find what the full matrix has, bit for bit."""

import numpy as np
import pytest
from reference import reaching, same

import cossim
from cossim.search import rotation
from cossim.search.index_state import as_file

N, D, Q = 2600, 256, 40


def _rows(kind):
    rng = np.random.default_rng(5)
    spread = rng.standard_normal((N, D)) * np.exp(-np.arange(D) / 24) + 0.05
    if kind == "clustered":
        spread = spread[rng.integers(0, 40, N)] + 1e-3 * rng.standard_normal((N, D))
    elif kind == "equal and zero":
        spread[::3], spread[1::3] = spread[0], 0
    elif kind == "not finite":
        spread[7, 3], spread[8, 2], spread[9] = np.nan, np.inf, -np.inf
    elif kind == "tiny and huge":
        spread[::2] *= 1e-30
        spread[1::4] *= 1e30
        spread[3::8] *= 1e-42
    elif kind == "integer":
        spread = np.rint(20 * spread)
    elif kind == "one huge element":
        spread[np.arange(N), rng.integers(0, D, N)] = 1e6
    elif kind == "within an ulp":
        spread = np.tile(spread[0], (N, 1)) * (1 + 2**-23 * rng.integers(-1, 2, (N, D)))
    elif kind == "outside":  # most rows are orthogonal to the directions
        spread[: N // 2, : D // 2], spread[N // 2 :, D // 2 :] = 0, 0
    elif kind == "signs":
        spread = np.sign(spread)
    return spread


KINDS = (
    "plain",
    "clustered",
    "equal and zero",
    "not finite",
    "tiny and huge",
    "integer",
    "one huge element",
    "within an ulp",
    "outside",
    "signs",
)


@pytest.fixture
def always(monkeypatch):
    """Makes heads in every Index, even where they save no time."""
    monkeypatch.setattr(rotation, "INDEX_ROWS_PER_ELEMENT", 0)
    monkeypatch.setattr(rotation, "SEARCH_ROWS", 0)
    monkeypatch.setattr(rotation, "SEARCH_PAIRS", 0)
    monkeypatch.setattr(rotation, "LEAST", 4)
    monkeypatch.setattr(rotation, "_MOST_PASS", 2)
    monkeypatch.setattr(rotation, "_FIT", 400)
    monkeypatch.setattr(rotation, "_ROWS", 400)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_index(always, kind, dtype):
    with np.errstate(all="ignore"):
        x = _rows(kind).astype(dtype)
    index = cossim.Index(x)
    assert index._state.rotated is not None
    queries = np.concatenate([x[:20], x[-20:] + x[:20]])
    with np.errstate(all="ignore"):
        scores = cossim.pairwise(queries, x)
    for count in (1, Q):
        for threshold in (0.9, 0.0):
            same(index.pairs_above(queries[:count], threshold), reaching(scores[:count], threshold, False))
        same(index.topk(queries[:count], 7), cossim.topk(queries[:count], x, 7))


@pytest.mark.parametrize("kind", ["plain", "clustered", "not finite", "tiny and huge", "outside"])
def test_all_pairs(always, kind):
    with np.errstate(all="ignore"):
        x = _rows(kind).astype(np.float32)[::2].copy()
    assert rotation.directions_for(x, 0) is not None
    same(cossim.pairs_above(x, 0.9), reaching(cossim.pairwise(x), 0.9, True))


@pytest.mark.parametrize("kind", ["plain", "clustered", "not finite", "tiny and huge", "outside"])
def test_pairs_of_an_index_without_heads(always, monkeypatch, kind):
    """pairs_above of an Index that has no heads makes them in the call."""
    with np.errstate(all="ignore"):
        x = _rows(kind).astype(np.float32)[::2].copy()
        scores = cossim.pairwise(x[:Q], x)
    assert rotation.directions_for(x, 0) is not None
    monkeypatch.setattr(rotation, "INDEX_ROWS_PER_ELEMENT", N)
    index = cossim.Index(x)
    assert index._state.rotated is None
    same(index.pairs_above(x[:Q], 0.9), reaching(scores, 0.9, False))
    same(index.pairs_above(None, 0.9), reaching(cossim.pairwise(x), 0.9, True))


def test_saved(always, tmp_path):
    x = _rows("plain").astype(np.float32)
    index = cossim.Index(x)
    index.save(tmp_path / "index")
    for mmap in (True, False):
        loaded = cossim.Index.load(tmp_path / "index", mmap=mmap)
        assert loaded.nbytes == index.nbytes <= 0.3 * x.nbytes + 20
        assert loaded._state.rotated[1] == index._state.rotated[1]
        np.testing.assert_array_equal(loaded._state.rotated[2], index._state.rotated[2])
        np.testing.assert_array_equal(loaded.topk(x[:5], 3).indices, index.topk(x[:5], 3).indices)


@pytest.mark.parametrize(
    "change",
    [
        {"directions": np.zeros((8, D), np.float32)},
        {"directions": np.full((8, D), np.nan, np.float32)},
        {"directions": np.eye(7, D, dtype=np.float32)},
        {"directions": np.zeros((0, D), np.float32)},
        {"heads": np.zeros((N, 3), np.uint8)},
        {"head_scales": np.zeros((N, 2), np.float32)},
    ],
)
def test_files_that_do_not_fit(always, tmp_path, change):
    index = cossim.Index(_rows("plain").astype(np.float32))
    cossim.search.index_file.write(tmp_path / "index", {"eps": (1e-8).hex()}, as_file(index._state)[1] | change)
    with pytest.raises(ValueError, match="index"):
        cossim.Index.load(tmp_path / "index")


def test_hostile_numbers(always):
    x = _rows("plain").astype(np.float32)
    index = cossim.Index(x)
    state = index._state
    for value in (np.nan, np.inf, 3e38):
        scales = np.full_like(state.arrays["head_scales"], value)
        for bad in (
            state._replace(directions=np.full_like(state.directions, value)),
            state._replace(arrays=state.arrays | {"head_scales": scales}),
        ):
            hostile = cossim.Index._from_state(bad, index.eps)
            assert hostile.topk(x[:9], 3).indices.shape == (9, 3)


def test_directions_of_rows_of_low_rank():
    """Rows that span fewer dimensions than there are directions: the directions are orthonormal, or there are none."""
    rng = np.random.default_rng(3)
    low = rng.standard_normal((9000, 20)) @ rng.standard_normal((20, 400))
    directions = rotation.directions_for(low.astype(np.float32), 0)
    assert directions is None or rotation.rotation_error(directions) < 1e-4


def test_directions_do_not_depend_on_threads(always):
    x = _rows("plain").astype(np.float32)
    with cossim.threads(1):
        expected = rotation.directions_for(x, 0)
    with cossim.threads(2):
        np.testing.assert_array_equal(rotation.directions_for(x, 0), expected)


def test_heads_are_made_only_where_they_save_time():
    isotropic = np.random.default_rng(0).standard_normal((9000, 128), dtype=np.float32)
    steep = isotropic * np.exp(-np.arange(128) / 20).astype(np.float32)
    directions = rotation.directions_for(steep, 0)
    assert directions is None or rotation.rotation_error(directions) < 1e-5
    assert rotation.directions_for(steep, 9001) is None
    index = cossim.Index(steep)
    assert index._state.rotated is None and index.nbytes == len(steep) * 136
