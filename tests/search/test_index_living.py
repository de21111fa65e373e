"""An Index after adds and removes finds what a new Index of its live rows finds, under the numbers that add gave."""

import copy
import functools
import gc
import os
import signal
import sys
import threading
import time

import lives
import ml_dtypes
import numpy as np
import pytest
from processes import together
from reference import same

import cossim
from cossim.search import index_file, index_state, rotation


def rows_of(rng, count, size=16):
    return rng.standard_normal((count, size), np.float32)


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_random_changes_give_the_results_of_a_new_index(first, tmp_path):
    for seed in range(first, first + 6):
        lives.Life(seed, tmp_path).live(20)


def test_numbers_stay_until_compact(rng):
    x = rows_of(rng, 30)
    index = cossim.Index(x[:10])
    assert index.add(x[10:13]).tolist() == [10, 11, 12]
    index.remove([0, 11])
    assert index.add(x[13]).tolist() == [13]
    assert index.numbers.tolist() == [*range(1, 11), 12, 13]
    same(index[[13, 2]], x[[13, 2]])
    same(index[np.array([[3], [4]])], x[[[3], [4]]])
    same(index[np.uint64(5)], x[5])
    same(index[[]], x[:0])
    same(index[np.zeros((2, 0), int)], np.zeros((2, 0, 16), np.float32))
    assert index.topk(x[12], 1).indices == [12]
    assert index.compact().tolist() == [*range(1, 11), 12, 13]
    assert index.numbers.tolist() == list(range(12))
    assert index.topk(x[12], 1).indices == [10]
    index[0][:] = 7  # a copy
    same(index[0], x[1])


def test_small_changes_keep_nothing_of_the_states_before(rng):
    """C makes the new State of a small change. A reference too many would keep each State until the program ends."""
    x = rows_of(rng, 30)
    index = cossim.Index(x)
    index.add(x[:1])  # from here on, the index has room
    corpus, counts = index._room["corpus"], []
    for _ in range(3):
        index.remove(index.add(x[:2])[:1])
        gc.collect()
        states = sum(type(value) is index_state.State for value in gc.get_objects())
        counts.append((states, sys.getrefcount(corpus)))
    assert index._room["corpus"] is corpus
    assert counts[1:] == counts[:-1]


@pytest.mark.parametrize(
    ("dtype", "size", "binary"),
    [("f4", 16, False), ("f8", 40, False), ("f2", 9, False), ("i1", 16, False), ("f4", 4100, False), ("u1", 4, True)],
)
def test_arrays_of_any_layout_change_an_index_alike(rng, dtype, size, binary):
    x = (3 * rng.standard_normal((130, size))).astype(dtype)
    numbers = np.arange(5, 40, 5)
    both = []
    for by_array in (True, False):
        index = cossim.Index(x[:60], binary=binary)
        index.add(x[60:65])  # makes room
        room = index._room
        for first in range(65, 105, 10):
            rows = x[first : first + 10]
            assert index.add(rows if by_array else np.asfortranarray(rows)).tolist() == [*range(first, first + 10)]
        index.remove(numbers if by_array else numbers.tolist())
        gone = np.array([1, 70])
        index.add(x[105:110] if by_array else np.asfortranarray(x[105:110]), remove=gone if by_array else gone.tolist())
        assert index._room is room  # no call moved the rows
        both.append(index)
    a, b = (index._state for index in both)
    assert a.arrays.keys() == b.arrays.keys() and (a.size, a.given) == (b.size, b.given)
    for name, array in a.arrays.items():
        same(array, b.arrays[name])
        assert array.flags.writeable == b.arrays[name].flags.writeable
    same(np.unpackbits(a.living, bitorder="little")[: a.places], np.unpackbits(b.living, bitorder="little")[: b.places])
    queries = x[110:]
    for one, other in zip(both[0].topk(queries, 7), both[1].topk(queries, 7), strict=True):
        same(one, other)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63) - 1, 2**70])
def test_a_number_beyond_int64_is_named_as_given(rng, number):
    x = rows_of(rng, 20)
    index = cossim.Index(x)
    for given in (number, [number], [1, number], [-1, number], np.array([number], object)):
        for call in (index.remove, index.__getitem__, lambda given: index.add(x[:2], remove=given)):
            with pytest.raises(IndexError, match=str(number)):
                call(given)
    assert len(index) == 20


@pytest.mark.parametrize("options", [{"dim": 8}, {"dim": 64, "binary": True}, {"corpus": np.empty((0, 8), np.float16)}])
def test_an_index_that_begins_without_rows(rng, options):
    index = cossim.Index(**options)
    assert (len(index), index.dim, bool(index)) == (0, options.get("dim", 8), False)
    assert repr(index).startswith("Index of 0 rows")
    dtype = np.uint8 if index.binary else np.float16
    x = (10 * rng.random((20, 8))).astype(dtype)
    assert index.add(x[:0]).shape == (0,)
    for part in np.array_split(x, 7):
        index.add(part)
    assert index.corpus.dtype == dtype
    same(index.topk(x[:3], 4), cossim.topk(x[:3], x, 4, binary=index.binary))
    index.remove(index.numbers)
    assert len(index) == 0
    assert index.add(x[:2]).tolist() == [20, 21]
    assert index.corpus.dtype == dtype  # stays once it is chosen


def test_rows_of_other_types_are_converted_where_that_is_exact(rng):
    whole = rng.integers(-9, 9, (4, 6))
    for dtype, others in {
        np.float32: (np.float16, ml_dtypes.bfloat16, np.int8, np.int64, ">f4", list),
        np.float64: (np.float32, np.uint16, np.int64),
        ml_dtypes.bfloat16: (np.int8, np.int64),
        np.int8: (np.int64, np.uint8),
        ">f8": (np.float32,),
    }.items():
        index = cossim.Index(whole.astype(dtype))
        for other in others:
            rows = np.abs(whole) if other == np.uint8 else whole
            rows = rows.tolist() if other is list else rows.astype(other)
            numbers = index.add(rows)
            same(index[numbers].astype(float), np.array(rows, float))
    for dtype, rows in (
        (np.float32, whole.astype(float)),
        (np.float16, whole.astype(ml_dtypes.bfloat16)),
        (ml_dtypes.bfloat16, whole.astype(np.float32)),
        (np.float32, whole + 2**24),
        (np.float64, whole + 2**60),
        (np.int8, whole + 200),
        (bool, whole),
        (np.int64, whole.astype(np.float32)),
    ):
        index = cossim.Index(whole.astype(dtype))
        with pytest.raises(TypeError, match=r"Index\.add\(\): .* Index\("):
            index.add(rows)
        assert len(index) == 4


def test_a_mistake_changes_nothing(rng):
    x = rows_of(rng, 20)
    index = cossim.Index(x)
    index.remove(3)
    state = index._state
    for numbers, error in (([1, 3], IndexError), ([1, 20], IndexError), ([1, -1], IndexError), ([1, 1], ValueError)):
        with pytest.raises(error, match=r"Index\.remove\(\)"):
            index.remove(numbers)
        with pytest.raises(error) if error is IndexError else pytest.MonkeyPatch.context():
            index[numbers]
    for numbers in ([True, False], [1.0], "1", None, slice(2)):
        for call in (index.remove, index.__getitem__):
            with pytest.raises(TypeError, match="numbers must be integers"):
                call(numbers)
    for rows in (x[:, :3], x[None], [["text"]], 5):
        with pytest.raises((ValueError, TypeError), match=r"Index\.add\(\)"):
            index.add(rows)
    for queries in (x[:, :3], x[:, :3].tolist()):
        with pytest.raises(ValueError, match=r"corpus: shape \(19, "):
            index.topk(queries, 2)
    with pytest.raises(TypeError, match="not iterable"):
        iter(index)
    assert index._state is state
    same(index.topk(x[:2], 4), cossim.topk(x[:2], x, 4))  # row 3 is not among them


def test_a_change_of_an_index_does_not_change_its_copy(rng):
    x = rows_of(rng, 30)
    index = cossim.Index(x[:20])
    index.add(x[20:22])  # now there is room for more rows, which a copy must not share
    other = copy.copy(index)
    other.add(x[22:24])
    index.add(x[24:26])
    other.remove(5)
    same([other.corpus, index.corpus], [x[[*range(5), *range(6, 24)]], np.delete(x[:26], [22, 23], axis=0)])


def test_adding_to_a_mapped_index_leaves_the_file_alone(rng, tmp_path):
    x = rows_of(rng, 300)
    cossim.Index(x[:200]).save(tmp_path / "index")
    before = (tmp_path / "index").read_bytes()
    index = cossim.Index.load(tmp_path / "index")
    index.remove(np.arange(150))
    assert index._room is None  # removing copies nothing
    index.add(x[200:])
    same(index.corpus, x[150:])
    assert (tmp_path / "index").read_bytes() == before
    index.save(tmp_path / "index")
    loaded = cossim.Index.load(tmp_path / "index")
    same(loaded.numbers, index.numbers)
    assert loaded.add(x[:1]).tolist() == [300]


def test_rows_of_files_are_added(rng, tmp_path):
    x = rows_of(rng, 50)
    np.save(tmp_path / "x.npy", x)
    index = cossim.Index(dim=16)
    index.add(str(tmp_path / "x.npy"))
    index.add(np.load(tmp_path / "x.npy", mmap_mode="r"))
    same(index.corpus, np.concatenate([x, x]))


# ---- storage ----


def test_adding_and_removing_for_long_takes_no_more_memory(rng):
    x = rows_of(rng, 400)
    index = cossim.Index(x)
    held = list(range(400))
    for _ in range(300):
        index.remove(held[:13])
        held = held[13:] + index.add(rows_of(rng, 13)).tolist()
        state = index._state
        assert state.places <= 400 * (1 + 1 / index_state.HOLES_OF_ADD) + 13
        assert len(index._room["corpus"]) <= 2 * 413
    same(index.numbers, held)
    index.remove(held[10:])
    assert index._state.places < 20
    same(index.topk(x[:3], 5).values, cossim.topk(x[:3], index.corpus, 5).values)


def test_a_search_reads_what_no_later_change_writes(rng):
    x = rows_of(rng, 500)
    index = cossim.Index(x[:100])
    seen = []
    for part in np.array_split(x[100:], 40):
        index.add(part)
        index.remove(index.numbers[::17])
        state = index._state
        seen.append((state, {name: array.copy() for name, array in state.arrays.items()}, copy.copy(state.living)))
    for state, arrays, living in seen:
        for name, array in arrays.items():
            same(state.arrays[name], array)
        assert living is None or (state.living == living).all()


@pytest.mark.parametrize("kept", [True, False])
def test_directions_are_kept_or_renewed_by_measurement(rng, monkeypatch, kept):
    monkeypatch.setattr(rotation, "INDEX_ROWS_PER_ELEMENT", 0)
    spread = np.exp(-np.arange(320) / 20).astype(np.float32)
    x = rows_of(rng, 4000, 320) * spread
    other = rows_of(rng, 8000, 320) * (spread if kept else spread[::-1])
    index = cossim.Index(x)
    before = index._state.directions
    assert before is not None
    index.remove(np.arange(4000))
    for part in np.array_split(other, 4):
        index.add(part)
    assert (index._state.directions is before) == kept
    corpus = index.corpus
    for threshold in (0.9, 0.5):
        same(index.pairs_above(x[:9], threshold).values, cossim.pairs_above(x[:9], threshold, corpus).values)
    fresh = cossim.Index(corpus)
    if not kept:
        assert len(index._state.rotated[2]) == len(fresh._state.rotated[2]) == 8000


# ---- files, threads and processes ----


def test_impossible_numbers_in_a_file_are_refused(rng, tmp_path):
    index = cossim.Index(rows_of(rng, 5))
    index.remove(2)
    metadata, arrays = index_state.as_file(index._state)
    metadata |= {"eps": (1e-8).hex()}
    path = tmp_path / "index"
    index_file.write(path, metadata, arrays)
    assert cossim.Index.load(path).numbers.tolist() == [0, 1, 3, 4]
    for given, numbers in (
        ("5", [0, 1, 3, 3]),
        ("5", [1, 0, 3, 4]),
        ("5", [-1, 1, 3, 4]),
        ("4", [0, 1, 3, 4]),
        ("4", [0, 1, 2, 3]),
        ("-5", [0, 1, 3, 4]),
        ("five", [0, 1, 3, 4]),
        ("9" * 30, [0, 1, 3, 4]),
        ("5", [0, 1, 3]),
    ):
        changed = arrays | {"numbers": np.array(numbers, np.int64)}
        index_file.write(path, metadata | {"given": given}, changed)
        with pytest.raises(ValueError, match="index"):
            cossim.Index.load(path)
    index_file.write(path, metadata, arrays | {"numbers": np.array([0, 1, 3, 4], np.int32)})
    with pytest.raises(ValueError, match="index"):
        cossim.Index.load(path)


def test_searches_see_all_of_a_change_or_none_of_it(rng):
    """Each change adds or removes eight equal rows: a search finds eight of them or none."""
    size, batches = 32, rows_of(rng, 40, 32)
    index, held, wrong, stop = cossim.Index(rows_of(rng, 500, size)), {}, [], threading.Event()

    def search(seed):
        mine = np.random.default_rng(seed)
        while not stop.is_set():
            vector = batches[mine.integers(40)]
            found = index.topk(vector, 9)
            count = int((found.values == 1).sum())
            pairs = index.pairs_above(vector, 0.9999)
            if count not in (0, 8) or len(pairs.j) not in (0, 8) or (np.diff(pairs.j) <= 0).any():
                wrong.append((found, pairs))

    def change():
        end = time.monotonic() + 1.5
        try:
            while time.monotonic() < end and not wrong:
                batch = int(rng.integers(40))
                if batch in held:
                    index.remove(held.pop(batch))
                else:
                    held[batch] = index.add(np.repeat(batches[batch : batch + 1], 8, 0))
        finally:
            stop.set()

    together(change, *(functools.partial(search, seed) for seed in range(4)))
    assert not wrong


def test_numbers_whose_conversion_changes_the_index(rng):
    """The conversion runs code of the caller, which must not wait for the change that it is part of."""
    x = rng.standard_normal((9, 4)).astype(np.float32)
    index = cossim.Index(x)

    class Numbers:
        def __array__(self, dtype=None, copy=None):
            index.remove(0)
            return np.array([1, 2])

    thread = threading.Thread(target=lambda: index.add(x[:1], remove=Numbers()), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    np.testing.assert_array_equal(index.numbers, np.arange(3, 10))


def test_threads_that_add_at_once_get_numbers_of_their_own(rng):
    index, given, x = cossim.Index(dim=8), [], rows_of(rng, 10, 8)

    def add(value):
        for _ in range(50):
            given.append((value, index.add(value * x)))

    together(*(functools.partial(add, value) for value in range(1, 5)))
    assert sorted(np.concatenate([numbers for _, numbers in given]).tolist()) == list(range(2000))
    for value, numbers in given:
        same(index[numbers], value * x)


def test_an_interrupt_leaves_an_index_that_can_be_changed(rng):
    """Ctrl-C is raised where a function begins or has ended, at each such place of each change in turn."""
    x = rows_of(rng, 12)
    changes = (
        lambda index: index.add(x[:2]),
        lambda index: index.add(x[:2], remove=[4, 5]),
        lambda index: index.remove([3, 4, 5, 6, 7]),
        lambda index: index.compact(),
    )

    def interrupted(change, index, at):
        """Runs the change and interrupts it at event number `at`. Returns whether it had that many events."""
        left = at

        def trace(frame, event, _):
            nonlocal left
            if not frame.f_code.co_filename.endswith(("index.py", "index_state.py")):
                return None
            left -= event in ("call", "return")
            if left == 0 and event in ("call", "return"):
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            change(index)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        return left <= 0

    for change in changes:
        at = 1
        while True:
            index = cossim.Index(x[:1])
            index.add(x[1:])
            if not interrupted(change, index, at):
                break
            assert not index._lock.lock.locked(), at
            numbers = [*index.numbers.tolist(), *index.add(x[:3]).tolist()]
            assert index.numbers.tolist() == numbers
            best = cossim.topk(x, index.corpus, 3)
            same(index.topk(x, 3), (best.values, index.numbers[best.indices]))
            at += 1
        assert at > 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_index_can_be_changed_after_a_fork_amid_a_change(rng):
    index = cossim.Index(rows_of(rng, 10))
    with index._lock.lock:  # as another thread might hold it
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)
                code = 0 if index.add(rows_of(rng, 3)).tolist() == [10, 11, 12] else 1
            except BaseException:
                code = 2
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len(index) == 10


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_of_joblib_search_and_change_an_index_with_removed_rows(rng, backend):
    joblib = pytest.importorskip("joblib")
    x = rows_of(rng, 3000, 32)
    index = cossim.Index(x)
    index.remove(np.arange(0, 3000, 2))
    expected = index.topk(x[:5], 3)

    def run(calls):
        """Each run has a Parallel of its own, because joblib may remove the files of a run while the next one reads."""
        return joblib.Parallel(n_jobs=2, backend=backend, mmap_mode="r", max_nbytes=1000)(calls)

    for found in run(joblib.delayed(index.topk)(x[:5], 3) for _ in range(2)):
        same(found, expected)
    for numbers in run(joblib.delayed(index.add)(x[:2]) for _ in range(2)):
        assert numbers.tolist() in ([3000, 3001], [3002, 3003])


def test_replaced_rows_change_in_one_step(rng):
    x = rng.standard_normal((300, 8)).astype(np.float32)
    index = cossim.Index(x)
    numbers = index.add(x[:3], remove=[5, 7])
    assert (numbers.tolist(), len(index)) == ([300, 301, 302], 301)
    assert not np.isin([5, 7], index.numbers).any()
    for wrong in ([5], [1, 1], [900]):
        with pytest.raises((IndexError, ValueError)):
            index.add(x[:2], remove=wrong)
        assert len(index) == 301
    assert index.add(np.empty((0, 8), np.float32), remove=numbers).tolist() == []
    assert len(index) == 298
    seen, stop = set(), threading.Event()

    def search():
        while not stop.is_set():
            found = index.topk(target, 2)
            seen.add(int((found.values > 0.999).sum()))

    target = rng.standard_normal(8).astype(np.float32)
    number = index.add(target)[0]
    thread = threading.Thread(target=search)
    thread.start()
    for _ in range(300):
        number = index.add(target, remove=number)[0]
    stop.set()
    thread.join()
    assert seen == {1}


def test_dtype_is_that_of_the_rows():
    assert cossim.Index(np.zeros((1, 3), np.float16)).dtype == np.float16
    index = cossim.Index(dim=3)
    index.add(np.zeros((1, 3)))
    assert index.dtype == np.float64


def test_few_places_of_a_bitmap(rng):
    """Removes and adds across all edges of bytes and words."""
    for n in (1, 7, 8, 9, 63, 64, 65, 130):
        index = cossim.Index(np.eye(n, 4) + 1)
        lives = list(range(n))
        for _ in range(6):
            gone = rng.permutation(lives)[: rng.integers(0, len(lives) + 1)]
            index.remove(gone)
            lives = sorted(set(lives) - set(gone.tolist()))
            lives += index.add(np.ones((int(rng.integers(0, 20)), 4))).tolist()
            assert index.numbers.tolist() == lives
