"""Searches of large files stay within a memory bound, report progress, and stop on Ctrl-C."""

import threading
import time

import numpy as np
import pytest
import turns
from processes import check_interrupted, extra_memories, reports_memory
from reference import same

import cossim

# ---- files and memory ----


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64], ids=lambda d: np.dtype(d).name)
def test_files_and_blocks(rng, tmp_path, dtype):
    x, q = rng.standard_normal((2000, 50)).astype(dtype), rng.standard_normal((700, 50)).astype(dtype)
    x[7] = x[1500] = x[3]
    for name, array in (("x", x), ("q", q)):
        np.save(tmp_path / name, array)
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xq"]
    for corpus, queries in ((x, q), maps, (str(tmp_path / "x.npy"), tmp_path / "q.npy")):
        for memory in (None, 1, 100_000, 1 << 30):
            same(cossim.topk(queries, corpus, 5, memory=memory), cossim.topk(q, x, 5))
            same(cossim.topk(corpus, None, 5, memory=memory), cossim.topk(x, None, 5))
            same(cossim.pairs_above(queries, 0.4, corpus, memory=memory), cossim.pairs_above(q, 0.4, x))
            same(cossim.pairs_above(corpus, 0.4, queries, memory=memory), cossim.pairs_above(x, 0.4, q))
            same(cossim.pairs_above(corpus, 0.4, memory=memory), cossim.pairs_above(x, 0.4))
            np.testing.assert_array_equal(
                cossim.duplicate_groups(corpus, 0.45, memory=memory), cossim.duplicate_groups(x, 0.45)
            )
    np.testing.assert_array_equal(maps[0], x)


def test_a_map_with_changes_of_its_own_keeps_them(rng, tmp_path):
    x = rng.standard_normal((3000, 64), np.float32)
    np.save(tmp_path / "x", x)
    for mode in ("c", "r+", "w+"):
        if mode == "w+":
            changed = np.lib.format.open_memmap(tmp_path / "new.npy", "w+", x.dtype, x.shape)
            changed[:] = x
        else:
            changed = np.load(tmp_path / "x.npy", mmap_mode=mode)
        changed[::2] = 1
        expected = np.array(changed)
        same(cossim.topk(x[:3], changed, 4, memory=1 << 16), cossim.topk(x[:3], expected, 4))
        same(cossim.pairs_above(changed[:, ::2], 0.5, memory=1 << 16), cossim.pairs_above(expected[:, ::2], 0.5))
        np.testing.assert_array_equal(changed, expected)


@reports_memory
def test_a_file_larger_than_memory_allows(rng, tmp_path):
    """A search of 400 MB with memory=32 MB keeps the process small."""
    rows = 400_000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(rows, 256))
    for first in range(0, rows, 50_000):
        x[first : first + 50_000] = rng.standard_normal((50_000, 256), np.float32)
    row = np.array(x[123_456])
    del x
    prepare = f"query = np.array({row.tolist()}, np.float32)[None]"
    call = f"cossim.topk(query, {str(tmp_path / 'x.npy')!r}, 3, memory=32 << 20)"
    for _, _, extra, *found in extra_memories(prepare, [call], "int(result.indices[0, 0]), float(result.values[0, 0])"):
        assert found == [123_456, 1]
        assert extra < 80 << 20


@reports_memory
def test_the_matrix_of_scores_is_never_built():
    """The matrix of scores would take 900 MB."""
    prepare = "x = np.random.default_rng(0).standard_normal((15000, 64), np.float32)"
    calls = ["cossim.topk(x, None, 5)", "cossim.topk(x[:3000], x, 5)", "cossim.pairs_above(x, 0.6)"]
    for call, threads, extra, _ in extra_memories(prepare, calls):
        assert extra < 24 << 20, (call, threads)


# ---- progress and Ctrl-C ----


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, report: cossim.topk(x[:200], x, 5, progress=report),
        lambda x, report: cossim.topk(x[:2], x, 5, progress=report),
        lambda x, report: cossim.topk(x, None, 5, progress=report),
        lambda x, report: cossim.topk(x, None, 5, progress=report, memory=1 << 18),
        lambda x, report: cossim.pairs_above(x, 0.9, progress=report),
        lambda x, report: cossim.pairs_above(x, 0.9, x[::2], progress=report, memory=1 << 18),
        lambda x, report: cossim.duplicate_groups(x, 0.9, progress=report),
        lambda x, report: cossim.Index(x, progress=report),
        lambda x, report: cossim.Index(x).topk(x[:100], 5, progress=report),
        lambda x, report: cossim.Index(x).pairs_above(x[:100], 0.9, progress=report),
        lambda x, report: cossim.pairwise(x, progress=report),
        lambda x, report: cossim.pairwise(x, x[::2], progress=report),
    ],
)
def test_progress(rng, call, threads):
    x = rng.standard_normal((3000, 64), np.float32)
    reports = []
    with cossim.threads(threads):
        call(x, lambda done, total: reports.append((done, total)))
    done, totals = zip(*reports, strict=True)
    assert set(totals) == {totals[0]}
    assert list(done) == sorted(done)
    assert done[-1] == totals[0] > 0


def test_an_exception_of_progress_ends_the_call(rng):
    x = rng.standard_normal((3000, 64), np.float32)

    def refuse(done, total):
        raise LookupError(f"{done} of {total}")

    for call in (lambda: cossim.topk(x, None, 5, progress=refuse), lambda: cossim.pairwise(x, progress=refuse)):
        with pytest.raises(LookupError):
            call()
    with pytest.raises(TypeError, match=r"topk\(\): progress"):
        cossim.topk(x, None, 5, progress="yes")
    same(cossim.topk(x, None, 5, progress=False), cossim.topk(x, None, 5))


def test_an_error_of_the_display_ends_the_call(monkeypatch):
    """Ctrl-C can arrive while the bar is closed. An error of the call itself takes precedence."""

    class Display:
        def __enter__(self):
            return lambda done, total: None

        def __exit__(self, *error):
            raise KeyboardInterrupt

    monkeypatch.setattr("cossim._progress.reporting", lambda progress, name: Display())
    with pytest.raises(KeyboardInterrupt):
        cossim.pairwise(np.ones((3, 4)), progress=True)
    with pytest.raises(ValueError, match="rows of y"):
        cossim.pairwise(np.ones((3, 4)), np.ones((3, 5)), progress=True)


ROWS = """
x = np.random.default_rng(0).standard_normal(({rows}, 256), np.float32)
def small():
    return [part.tobytes() for part in cossim.topk(x[:300], None, 3)]
"""


@reports_memory
@pytest.mark.parametrize(
    ("call", "rows", "threads"),
    [
        ("cossim.topk(x, None, 10)", 60_000, 1),
        ("cossim.topk(x, None, 10)", 60_000, 2),
        ("cossim.topk(x[:4000, :16].copy(), x[:, :16].copy(), 5000)", 60_000, 2),
        ("cossim.topk(x[:20000], x[20000:], 10)", 60_000, 2),
        ("cossim.pairs_above(x, 0.9)", 60_000, 2),
        ("cossim.pairwise(x, out=np.empty((20000, 20000), np.float32))", 20_000, 1),
    ],
)
def test_interrupt(call, rows, threads):
    # malloc may keep the candidates of one call with a large k, up to 32 MB. Five calls that leak them leak 80 MB.
    growth = 64 << 20 if "5000)" in call else 20_000 << 10
    check_interrupted(ROWS.format(rows=rows), call, threads, seconds=0.25, growth=growth)


def test_other_threads_run_during_a_search(rng):
    """The GIL is released: a Python thread keeps counting while a search runs."""
    x = rng.standard_normal((12_000, 256), np.float32)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    with turns.alone():
        thread.start()
        start = time.perf_counter()
        cossim.topk(x, None, 5)
        end = time.perf_counter()
        stop.set()
    thread.join()
    assert sum(start < t < end for t in ticks) > 10
