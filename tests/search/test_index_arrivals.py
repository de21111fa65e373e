"""An Index that arrives by pickle, joblib or a mapped file gives the bits of the functions."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from reference import same

import cossim

MEMORY = (None, 1000)  # with 1000 bytes, a few rows of queries are read at a time from a file


class Searched:
    """A corpus, some queries, and the results of the functions."""

    def __init__(self, rng, rows, depth, dtype=np.float32):
        self.corpus = rng.standard_normal((rows, depth), np.float32).astype(dtype)
        self.queries = np.concatenate([self.corpus[:5], self.corpus[-5:]])
        self.best = cossim.topk(self.queries, self.corpus, 3)
        self.reaching = cossim.pairs_above(self.queries, 0.3, self.corpus)

    def check(self, index):
        for memory in MEMORY:
            same(index.topk(self.queries, 3, memory=memory), self.best)
            same(index.pairs_above(self.queries, 0.3, memory=memory), self.reaching)


def in_pieces(index):
    """Pickles with out-of-band arrays, which come back at odd addresses."""
    buffers = []
    pickled = pickle.dumps(index, 5, buffer_callback=buffers.append)
    assert len(buffers) >= 2  # an array of bfloat16 is stored within the pickle
    return pickle.loads(pickled, buffers=[memoryview(b"." + buffer.raw().tobytes())[1:] for buffer in buffers])


def of_another_byte_order(index):
    """The index as a machine of the other byte order would pickle it."""
    other = pickle.loads(pickle.dumps(index))
    for name, array in other._state.arrays.items():
        if array.dtype.isbuiltin == 1:
            other._state.arrays[name] = array.astype(array.dtype.newbyteorder())
    return pickle.loads(pickle.dumps(other))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8])
@pytest.mark.parametrize("arrive", [in_pieces, of_another_byte_order])
def test_a_pickled_index_gives_the_same_bits(rng, dtype, arrive):
    given = Searched(rng, 2000, 32, dtype)
    given.check(arrive(cossim.Index(given.corpus)))


@pytest.mark.parametrize("rows", [70, 200])
def test_removed_rows_of_a_pickled_index(rng, rows):
    """The bits of the rows that live come back at an odd address, or without bytes that fill the last word."""
    index = cossim.Index(rng.standard_normal((rows, 16), np.float32))
    index.remove([3, 5, rows - 1])
    queries = rng.standard_normal((4, 16), np.float32)
    short = pickle.loads(pickle.dumps(index))
    short._state = short._state._replace(living=short._state.living[: (rows + 7) // 8])
    for arrived in (in_pieces(index), pickle.loads(pickle.dumps(short))):
        for options in ({}, {"where": [1, 2, 7, 8]}, {"exclude": 2}):
            same(arrived.topk(queries, 3, **options), index.topk(queries, 3, **options))
            same(arrived.topk(None, 3, **options), index.topk(None, 3, **options))
        arrived.remove(9)
        assert arrived.add(queries).tolist() == list(range(rows, rows + 4))
        assert 9 not in arrived.topk(queries, rows).indices


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
@pytest.mark.parametrize("depth", [64, 5000])  # with codes, and without
def test_all_arrays_as_memmaps(rng, tmp_path, mode, depth):
    """joblib turns each array of an Index into a memmap."""
    given = Searched(rng, 3000 if depth == 64 else 300, depth)
    index = cossim.Index(given.corpus)
    for name, array in index._state.arrays.items():
        np.save(tmp_path / name, array)
        index._state.arrays[name] = np.load(tmp_path / f"{name}.npy", mmap_mode=mode)
    given.check(index)
    index.save(tmp_path / "index")
    given.check(cossim.Index.load(tmp_path / "index"))
    given.check(pickle.loads(pickle.dumps(index)))


def test_loaded_by_joblib(rng, tmp_path):
    joblib = pytest.importorskip("joblib")
    given = Searched(rng, 3000, 64)
    joblib.dump(cossim.Index(given.corpus), tmp_path / "index")
    for mode in ("r", "c", "r+", None):
        given.check(joblib.load(tmp_path / "index", mmap_mode=mode))


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_workers_of_joblib(rng, tmp_path, backend):
    """The corpus exceeds 64 MiB, the largest block of rows of a memmap; joblib maps arrays of more than 1000 bytes."""
    joblib = pytest.importorskip("joblib")
    given = Searched(rng, (65 << 20) // (1024 * 4), 1024)
    made = cossim.Index(given.corpus)
    made.save(tmp_path / "index")

    def run(search, queries, goal):
        # A second call of one Parallel writes an array to the file that the first call's tracker may still delete.
        parallel = joblib.Parallel(n_jobs=2, backend=backend, mmap_mode="r", max_nbytes=1000)
        return parallel(joblib.delayed(search)(queries, goal, memory=memory) for memory in MEMORY)

    for index in (made, cossim.Index.load(tmp_path / "index")):
        for one in run(index.topk, given.queries, 3):
            same(one, given.best)
        for one in run(index.pairs_above, given.queries, 0.3):
            same(one, given.reaching)
