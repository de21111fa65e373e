"""The tasks of Dask arrays hold only what they need, run once, and use the right number of threads."""

import threading
import tracemalloc

import numpy as np
import pytest
from conftest import SLOWNESS
from test_dask import da, now, rows  # also skips this file without Dask

import cossim
from cossim.search import dask_arrays, dask_tasks

dask = pytest.importorskip("dask")
callbacks = pytest.importorskip("dask.callbacks")

# ---- what a task holds ----


def size_of(value):
    if isinstance(value, (tuple, list)):
        return sum(map(size_of, value))
    return getattr(value, "nbytes", 0)


class Held(callbacks.Callback):
    """The largest number of bytes that a task took and returned."""

    def __init__(self):
        super().__init__()
        self.taken = self.returned = 0

    def _pretask(self, key, dsk, state):
        self.taken = max(self.taken, sum(size_of(state["cache"].get(i)) for i in state["dependencies"][key]))

    def _posttask(self, key, value, dsk, state, worker):
        self.returned = max(self.returned, size_of(value))


def held(lazy):
    with Held() as most:
        dask.persist(lazy, scheduler="synchronous", optimize_graph=False)  # compute() would join the blocks
    return most.taken, most.returned


@pytest.mark.parametrize("columns", [64, 16])
def test_a_task_holds_two_blocks(rng, columns):
    size, block = 20, 20 * 64 * 4
    x = da.from_array(rng.standard_normal((200, 64)).astype(np.float32), (size, columns))
    k = 5
    assert size * k * (4 + 8) < block
    for lazy in (
        cossim.pairwise(x),
        *cossim.topk(x, None, k),
        *cossim.topk(x, x, k),
        *cossim.pairs_above(x, 0.4),
        cossim.cosine_similarity(x[:, None], x[None], 2),
    ):
        taken, returned = held(lazy)
        assert taken == 2 * block
        assert returned <= block


def test_a_merge_holds_few_partial_results(rng):
    """Rows are short, so that partial results are larger than blocks."""
    x = da.from_array(rng.standard_normal((200, 2)).astype(np.float32), (20, 2))
    for k in (5, 20, 100):
        part = 20 * k * (4 + 8)
        taken, returned = held(cossim.topk(x, x, k))
        assert taken <= dask_arrays.MERGED * part
        assert returned <= max(part, 20 * 2 * 4)


def test_each_pair_of_blocks_once(rng, monkeypatch):
    calls = []
    for name in ("run", "block_pairs", "block_topk"):
        original = getattr(dask_tasks, name)
        monkeypatch.setattr(
            dask_tasks, name, lambda *args, original=original, name=name: calls.append(name) or original(*args)
        )
    x = da.from_array(rows(rng, 60, np.float32), (10, 12))
    for lazy, name, expected in (
        (cossim.pairwise(x), "run", 21),  # 6 blocks on the diagonal, 15 on one side of it
        (cossim.pairs_above(x, 0.5), "block_pairs", 21),
        (cossim.pairs_above(x, 0.5, x), "block_pairs", 36),
        (cossim.topk(x, None, 2), "block_topk", 36),
    ):
        now(lazy)
        assert calls == [name] * expected
        calls.clear()


def counting(calls, name, function):
    def counted(*args, **options):
        calls.append(name)
        return function(*args, **options)

    return counted


def test_each_block_is_made_once(rng):
    """Dask fuses tasks. A task that makes a block must not be fused with several that use it: each would make it."""
    calls = []
    make = counting(calls, "made", np.negative)
    x = da.from_array(rows(rng, 60, np.float32), (10, 12))
    for made in (x.map_blocks(make), da.blockwise(make, "ij", x, "ij"), da.blockwise(make, "ij", x, "ij") + 1):
        for lazy in (
            cossim.pairwise(made),
            cossim.pairwise(made, x),
            cossim.topk(made, None, 2),
            cossim.topk(x, made, 2),
            cossim.pairs_above(made, 0.5, max_pairs=1000),
            cossim.pairs_above(made, 0.5, x),
            cossim.vecdot(made[:, None], x[None], 2),
            cossim.normalize(made, 1),
            cossim.vector_norm(made, 1),
        ):
            calls.clear()
            now(lazy)
            assert calls == ["made"] * 6


def test_a_result_that_is_broadcast_is_made_once(rng, monkeypatch):
    """Several tasks use each block of the result. Dask could fuse the task that makes a block with each of them."""
    calls = []
    monkeypatch.setattr(dask_tasks, "run", counting(calls, "run", dask_tasks.run))
    x = da.from_array(rows(rng, 60, np.float32), (10, 4))
    for made, other, blocks in (
        (cossim.vector_norm(x, 1, True), x, 6),
        (cossim.vector_norm(x, 0), x, 3),
        (cossim.normalize(x, 1), da.ones((4, 60, 12), chunks=(1, 10, 12)), 6),
        (cossim.cosine_similarity(x, x, 0), x, 3),
    ):
        axes = "hij"[-other.ndim :]
        for lazy in (
            other * made,
            da.map_blocks(np.multiply, other, made),
            da.blockwise(np.multiply, axes, other, axes, made, axes[-made.ndim :], align_arrays=False),
        ):
            calls.clear()
            now(lazy)
            assert len(calls) == blocks


def test_the_broadcast_product_is_never_built(rng):
    z = da.from_array(rng.standard_normal((200, 500)).astype(np.float32), (100, 500))
    lazy = cossim.cosine_similarity(z[None], z[:, None], dim=2)
    tracemalloc.start()
    try:
        now(lazy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 100 * 500 * 4 / 10  # a tenth of the product of one pair of blocks


# ---- threads ----


@pytest.mark.parametrize("setting", [None, "3"])
def test_a_task_uses_one_thread(rng, monkeypatch, setting):
    if setting is None:
        monkeypatch.delenv("COSSIM_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("COSSIM_NUM_THREADS", setting)
    seen, together = [], threading.Barrier(2, timeout=30 * SLOWNESS)
    topk = dask_tasks.BlockwiseSearch.topk

    def observed(*args, **options):
        together.wait()  # two tasks at a time, so that one ends while the other runs
        seen.append(cossim.get_num_threads())
        return topk(*args, **options)

    monkeypatch.setattr(dask_tasks.BlockwiseSearch, "topk", observed)
    x = da.from_array(rows(rng, 60, np.float32), (15, 12))
    before = cossim.get_num_threads()
    cossim.set_num_threads(3)
    try:
        dask.compute(cossim.topk(x, x, 2), scheduler="threads", num_workers=2)
        assert seen == [1 if setting is None else 3] * 16
        assert cossim.get_num_threads() == 3
    finally:
        cossim.set_num_threads(before)


def test_threads_are_restored_after_an_error():
    with cossim.threads(3):
        with pytest.raises(ZeroDivisionError):
            dask_tasks.run(lambda: 1 // 0)
        assert cossim.get_num_threads() == 3


# ---- arguments ----


class Once:
    """A number that only the call may convert, and only once. Tasks run elsewhere, any number of times."""

    def __init__(self, value):
        self.value, self.asked = value, 0

    def _answer(self):
        self.asked += 1
        return self.value

    __index__ = __float__ = __bool__ = _answer


def test_numbers_are_converted_once(rng):
    x = rng.standard_normal((9, 4))
    lazy = da.from_array(x, chunks=(3, 4))
    eps, k, memory = Once(1e-8), Once(2), Once(1 << 20)
    np.testing.assert_array_equal(
        dask.compute(cossim.topk(lazy, None, k, eps=eps, memory=memory))[0], cossim.topk(x, None, 2)
    )
    threshold, most = Once(0.1), Once(100)
    limits = {"eps": eps, "memory": memory, "max_pairs": most}
    found = dask.compute(cossim.pairs_above(lazy, threshold, **limits))[0]
    np.testing.assert_array_equal(found.i, cossim.pairs_above(x, 0.1).i)
    np.testing.assert_array_equal(now(cossim.pairwise(lazy, eps=eps)), cossim.pairwise(x))
    assert [number.asked for number in (eps, k, memory, threshold, most)] == [3, 1, 2, 1, 1]
    for name in ("cosine_similarity", "cosine_distance", "vecdot"):
        dim, options = Once(1), {} if name == "vecdot" else {"eps": Once(1e-8)}
        now(getattr(cossim, name)(lazy, lazy, dim, **options))
        assert [number.asked for number in (dim, *options.values())] == [1] * (1 + len(options))
    dim, other, eps, keepdim = Once(1), Once(0), Once(1e-8), Once(True)
    now(cossim.vector_norm(lazy, axis=[dim, other], keepdims=keepdim))
    now(cossim.normalize(lazy, dim, eps))
    assert [number.asked for number in (dim, other, eps, keepdim)] == [2, 1, 1, 1]
