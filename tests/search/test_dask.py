"""Dask arrays give the bits of NumPy arrays, block by block, on threads and on worker processes."""

import doctest
import itertools
import os
import signal
import time

import numpy as np
import pytest

NEEDED = "the functions over Dask arrays need dask[array] and distributed"
da = pytest.importorskip("dask.array", reason=NEEDED)
distributed = pytest.importorskip("distributed", reason=NEEDED)

import dask  # noqa: E402
from conftest import SLOWNESS  # noqa: E402

import cossim  # noqa: E402
from cossim.search import dask_arrays, functions  # noqa: E402

ALONG = ("cosine_similarity", "cosine_distance", "vecdot")
DTYPES = [np.float64, np.float32, np.float16, np.int8]


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(params=["threads", "processes"])
def compute(request):
    scheduler = request.getfixturevalue("client") if request.param == "processes" else "threads"
    return lambda *lazy: dask.compute(*lazy, scheduler=scheduler)


def now(lazy):
    return dask.compute(lazy, scheduler="synchronous")[0]


def assert_same(got, expected):
    """Asserts equal types, shapes and bits of arrays or tuples of arrays; all NaN count as equal."""
    assert type(got) is type(expected)
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
        return
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    got, expected = np.atleast_1d(got), np.atleast_1d(expected)
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


def rows(rng, n, dtype, depth=12):
    """Rows that are hard to sort and merge: equal rows in distant blocks, equal scores, zero and NaN rows."""
    x = np.round(2 * rng.standard_normal((n, depth))).astype(dtype)
    x[: n // 3] = rng.standard_normal((n // 3, depth)).astype(dtype)  # no ties here
    x[n // 2] = x[-1] = x[4] = x[1]
    x[n // 2 + 1] = x[2] = 0
    if np.dtype(dtype).kind == "f":
        x[3] = x[n - 2] = x[n // 2 - 1] = np.nan
    return x


# ---- all pairs ----

CHUNKS = {
    "even": (20, 12),
    "uneven, columns cut": ((7, 1, 1, 30, 0, 21), (5, 7)),
    "more than a merge takes": (9, 12),
    "one block": (60, 12),
}


ROWS = [(np.float32, name) for name in CHUNKS]
ROWS += [(dtype, "uneven, columns cut") for dtype in DTYPES if dtype != np.float32]


@pytest.mark.parametrize(("dtype", "chunks"), ROWS)
def test_rows_equal_numpy(rng, compute, dtype, chunks):
    x, y = rows(rng, 60, dtype), rows(rng, 25, dtype)
    lazy_x, lazy_y = da.from_array(x, CHUNKS[chunks]), da.from_array(y, (9, 4))
    check_rows(compute, x, y, lazy_x, lazy_y)


def test_rows_alone_in_their_blocks(rng):
    x, y = rows(rng, 18, np.float32), rows(rng, 12, np.float32)
    check_rows(lambda *lazy: dask.compute(*lazy), x, y, da.from_array(x, (1, 12)), da.from_array(y, (1, 12)))


def check_rows(compute, x, y, lazy_x, lazy_y):
    def results(module, x, y):
        n = len(x)
        return (
            module.pairwise(x, y),
            module.pairwise(x),
            module.topk(x, y, 7),
            module.topk(y, x, n),  # k = n: all rows, NaN last
            module.topk(x, None, 3),
            module.topk(x, None, n - 1),
            module.pairs_above(x, 0.4, y),
            module.pairs_above(x, 0.4),
            module.pairs_above(x, -1, max_pairs=n * (n - 1) // 2),
        )

    assert_same(compute(*results(cossim, lazy_x, lazy_y)), results(cossim, x, y))


def test_the_data_have_ties_and_nan(rng):
    x = rows(rng, 60, np.float32)
    values, indices = functions.topk(x, None, 59)
    assert np.isnan(values).any() and (values[:, 1:] == values[:, :-1]).sum() > 100
    assert np.diag(cossim.pairwise(x))[[0, 1, 5]].tolist() == [1, 1, 1]


def test_lazy_results_know_their_shape_dtype_and_chunks(rng):
    x, y = da.from_array(rows(rng, 30, np.float16), (20, 12)), da.from_array(rows(rng, 20, np.int8), (8, 6))
    matrix, best, pairs = cossim.pairwise(x), cossim.topk(x, y, 4), cossim.pairs_above(x, 0.5)
    assert (matrix.shape, matrix.dtype, matrix.chunks) == ((30, 30), np.float16, ((20, 10), (20, 10)))
    assert (best.values.shape, best.values.dtype) == ((30, 4), np.float64)
    assert (best.indices.chunks, best.indices.dtype) == (((20, 10), (4,)), np.int64)
    assert (pairs.i.dtype, pairs.j.dtype, pairs.values.dtype) == (np.int64, np.int64, np.float32)
    assert len(pairs.i.compute_chunk_sizes()) == len(now(pairs).i)


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_operand_may_be_a_numpy_array(rng, monkeypatch, side):
    monkeypatch.setattr(dask_arrays, "LEAST", 8)
    x, y = rows(rng, 30, np.float32), rows(rng, 50, np.float32)
    a, b = (x, da.from_array(y, (10, 12))) if side == "left" else (da.from_array(x, (10, 12)), y)
    assert_same(now(cossim.pairwise(a, b)), cossim.pairwise(x, y))
    assert_same(now(cossim.topk(a, b, 5)), functions.topk(x, y, 5))
    assert_same(now(cossim.pairs_above(a, 0.4, b)), functions.pairs_above(x, 0.4, y))
    assert cossim.pairwise(a, b).numblocks == (3, 5)
    assert_same(now(cossim.vecdot(a[:, None], b[None])), cossim.vecdot(x[:, None], y[None]))


def test_lists_count_as_numpy_arrays():
    x = da.ones((2, 2))
    assert_same(now(cossim.pairwise(x, [[1, 1], [1, 0]])), cossim.pairwise(np.ones((2, 2)), [[1, 1], [1, 0]]))
    assert_same(now(cossim.vecdot([1, 2], x)), np.array([3.0, 3.0]))


def test_files(rng, compute, tmp_path):
    x, y = rows(rng, 30, np.float32), rows(rng, 1500, np.float32)
    np.save(tmp_path / "y.npy", y)
    lazy = da.from_array(x, (20, 12))
    got = compute(cossim.topk(lazy, tmp_path / "y.npy", 5), cossim.pairs_above(lazy, 0.6, str(tmp_path / "y.npy")))
    assert_same(got, (functions.topk(x, y, 5), functions.pairs_above(x, 0.6, y)))
    before = cossim.topk(lazy, tmp_path / "y.npy", 5).values.name
    np.save(tmp_path / "y.npy", y[:600])
    assert cossim.topk(lazy, tmp_path / "y.npy", 5).values.name != before
    np.savez(tmp_path / "y.npz", y=y, z=y)
    with pytest.raises(ValueError, match=r"topk\(\): corpus\b.*y\.npz.*'y', 'z'"):
        cossim.topk(lazy, tmp_path / "y.npz", 5)


def test_operands_without_rows_give_empty_results():
    x, none = np.ones((4, 3), np.float32), np.ones((0, 3), np.float32)
    lazy_x, lazy_none = da.from_array(x, (2, 2)), da.from_array(none, (1, 2))
    assert_same(now(cossim.pairwise(lazy_none, lazy_x)), cossim.pairwise(none, x))
    assert_same(now(cossim.topk(lazy_none, lazy_x, 2)), functions.topk(none, x, 2))
    assert_same(now(cossim.pairs_above(lazy_none, 0, lazy_x)), functions.pairs_above(none, 0, x))
    assert_same(now(cossim.topk(lazy_x, lazy_none, 2)), functions.topk(x, none, 2))
    assert_same(now(cossim.pairs_above(lazy_x, 0, lazy_none)), functions.pairs_above(x, 0, none))
    assert_same(now(cossim.pairs_above(lazy_none, 0)), functions.pairs_above(none, 0))
    assert_same(now(cossim.duplicate_groups(lazy_none, 0)), functions.duplicate_groups(none, 0))
    no_columns = da.ones((4, 0), chunks=2)
    assert_same(now(cossim.pairwise(no_columns)), np.zeros((4, 4)))
    assert_same(now(cossim.cosine_similarity(lazy_none, lazy_x[:1])), cossim.cosine_similarity(none, x[:1]))


def test_max_pairs_counts_over_all_blocks(rng, compute):
    x = rows(rng, 60, np.float32)
    n = len(functions.pairs_above(x, 0.3).i)
    largest_block = max(
        len(functions.pairs_above(x[a : a + 20], 0.3, x[b : b + 20]).i) for a, b in ((0, 20), (0, 40), (20, 40))
    )
    lazy = da.from_array(x, (20, 12))
    assert_same(compute(cossim.pairs_above(lazy, 0.3, max_pairs=n))[0], functions.pairs_above(x, 0.3))
    for most in (n - 1, largest_block - 1, 0):  # too many pairs in total, in one block, in every block
        with pytest.raises(ValueError, match=rf"pairs_above\(\): .*\bmax_pairs={most}\b.*\b0\.3\b.*\b{n}\b"):
            compute(cossim.pairs_above(lazy, 0.3, max_pairs=most))


def test_names_depend_on_every_argument(rng):
    """With equal names, Dask would mistake one result for the other."""
    x, y = da.from_array(rows(rng, 30, np.float32), (10, 12)), da.from_array(rows(rng, 30, np.float32), (15, 12))
    lazy = [
        *(cossim.pairwise(*args, eps=eps) for args in ((x,), (x, x), (x, y), (y, x)) for eps in (1e-8, 1e-3)),
        *(array for corpus in (None, x, y) for k in (1, 2) for array in cossim.topk(x, corpus, k)),
        *(array for most in (None, 9, 10) for at in (0.5, 0.6) for array in cossim.pairs_above(x, at, max_pairs=most)),
        *(getattr(cossim, name)(x[:, None], y[None], dim) for name in ALONG for dim in (0, 2)),
        *(cossim.cosine_similarity(x, x, 1, eps) for eps in (1e-8, 1e-3)),
        *(cossim.vector_norm(x, dim, keepdim) for dim in (0, 1) for keepdim in (False, True)),
        *(cossim.normalize(x, dim, eps) for dim in (0, 1) for eps in (1e-12, 1e-3)),
    ]
    names = [array.name for array in lazy]
    assert len(set(names)) == len(names)
    assert cossim.topk(x, y, 2).values.name == cossim.topk(x, y, 2).values.name


# ---- along a dimension ----

PAIRS_OF_SHAPES = [
    ((30, 40), (30, 40), 1),
    ((30, 40), (40,), -1),
    ((40, 30), (40, 1), 0),
    ((20, 1, 300), (1, 30, 300), 2),
    ((1, 30, 33), (20, 1, 33), -1),
    ((3, 40, 5, 7), (3, 40, 5, 7), 1),
    ((3, 40, 5, 1), (40, 1, 7), 1),
    ((1, 300, 17), (5, 1, 17), 1),  # x2 has size 1 along dim: read as rows or columns, by its strides
    ((17, 300, 17), (17, 1, 17), 1),
    ((40,), (40,), 0),
    ((), (), 0),
    ((), (4,), 0),
]


DTYPE_PAIRS = [*((dtype, dtype) for dtype in DTYPES), (np.float16, np.float64)]


def ragged(x, turn=1):
    """A Dask array whose first or last chunks are single elements."""
    chunks = [(1,) * n if n < 4 else (1, 1, n - 2)[::turn] for n in x.shape]
    return da.from_array(x, tuple(chunks))


@pytest.mark.parametrize(("dtype1", "dtype2"), DTYPE_PAIRS, ids=lambda dtype: np.dtype(dtype).name)
def test_two_operands_equal_numpy(rng, dtype1, dtype2):
    lazy, expected = [], []
    for (shape1, shape2, dim), function in itertools.product(PAIRS_OF_SHAPES, ALONG):
        x1, x2 = (3 * rng.standard_normal(shape1)).astype(dtype1), (3 * rng.standard_normal(shape2)).astype(dtype2)
        expected.append(getattr(cossim, function)(x1, x2, dim))
        lazy.append(getattr(cossim, function)(ragged(x1), ragged(x2, -1), dim))
        assert (lazy[-1].shape, lazy[-1].dtype) == (np.shape(expected[-1]), expected[-1].dtype)
    assert_same(dask.compute(*lazy), tuple(expected))


def test_no_block_of_one_and_no_more_blocks_than_needed():
    ones = np.ones((1, 300, 17))
    assert cossim.vecdot(da.ones((9, 4), chunks=(1, 2)), np.ones(4)).chunks == ((2, 2, 2, 3),)
    assert cossim.vecdot(da.ones((9, 4), chunks=(4, 2)), da.ones((9, 4), chunks=(3, 4))).chunks == ((3, 3, 3),)
    assert cossim.vecdot(da.ones((1, 4), chunks=1), np.ones((3000, 4))).chunks == ((1024, 1024, 952),)
    assert cossim.vecdot(da.from_array(ones, 5), da.ones((5, 1, 17), chunks=2), 1).chunks == ((2, 3), (17,))


def test_two_operands_on_workers(rng, compute):
    z = rng.standard_normal((30, 70)).astype(np.float32)
    lazy = da.from_array(z, (7, 20))
    got = compute(
        *(getattr(cossim, name)(lazy, lazy[::-1]) for name in ALONG),
        cossim.cosine_similarity(lazy[None], lazy[:, None], dim=2),
        cossim.cosine_similarity(lazy, lazy[3], axis=-1, eps=0.1),
    )
    expected = (
        *(getattr(cossim, name)(z, z[::-1].copy()) for name in ALONG),
        cossim.cosine_similarity(z[None], z[:, None], dim=2),
        cossim.cosine_similarity(z, z[3], axis=-1, eps=0.1),
    )
    assert_same(got, expected)


@pytest.mark.parametrize("dim", [None, (), 0, 1, -1, (0, 2), [1, 2], (0, 1, 2)])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_one_operand_equals_numpy(rng, dtype, dim):
    x = (3 * rng.standard_normal((9, 40, 11))).astype(dtype)
    lazy = ragged(x)
    assert_same(now(cossim.normalize(lazy, dim)), cossim.normalize(x, dim))
    for keepdim in (False, True):
        norm = cossim.vector_norm(lazy, dim, keepdim)
        expected = cossim.vector_norm(x, dim, keepdim)
        assert norm.shape == expected.shape
        assert_same(now(norm), expected)
    assert_same(now(cossim.vector_norm(lazy, axis=dim, keepdims=True)), cossim.vector_norm(x, dim, True))
    assert_same(now(cossim.vector_norm(lazy, dim, True, axis=None, keepdims=None)), cossim.vector_norm(x, dim, True))
    assert_same(now(cossim.normalize(lazy, axis=None)), cossim.normalize(x, axis=None))


def test_defaults_are_those_of_the_functions(rng):
    x = rng.standard_normal((4, 5, 6))
    lazy = da.from_array(x, 2)
    for name in ALONG:
        assert_same(now(getattr(cossim, name)(lazy, lazy[:1])), getattr(cossim, name)(x, x[:1]))
    assert_same(now(cossim.normalize(lazy)), cossim.normalize(x))
    assert_same(now(cossim.vector_norm(lazy)), cossim.vector_norm(x))


def test_blocks_in_another_order_of_memory(rng):
    """The result equals the result of the whole array in C order."""
    x = rng.standard_normal((30, 300))
    columns_first = da.from_array(x, (10, 300)).map_blocks(np.asfortranarray)
    assert (cossim.vecdot(np.asfortranarray(x), np.asfortranarray(x)) != cossim.vecdot(x, x)).any()
    assert_same(now(cossim.vecdot(columns_first, columns_first)), cossim.vecdot(x, x))
    assert_same(now(cossim.vector_norm(columns_first, 1)), cossim.vector_norm(x, 1))


# ---- arguments ----

X, Y = da.ones((6, 4), chunks=2), da.ones((5, 4), chunks=2)
UNKNOWN = X[X[:, 0] > 0]
BAD = [  # and more in test_messages.py
    (lambda: cossim.topk(X, Y, 0), ValueError, r"topk\(\): k\b.*\b1\b.*\b0\b"),
    (lambda: cossim.topk(X, Y, 2**63), ValueError, r"topk\(\): k\b.*\b2\*\*63\b"),
    (lambda: cossim.topk(X, Y, 2.0), TypeError, r"topk\(\): k\b.*\bfloat\b"),
    (lambda: cossim.topk(X, Y, True), TypeError, r"topk\(\): k\b.*\bbool\b"),
    (lambda: cossim.topk(X, Y[:, :3], 2), ValueError, r"\bqueries\b.*\b4\b.*\bcorpus\b.*\b3\b.*\(queries"),
    (lambda: cossim.topk(X, Y[None], 2), ValueError, r"topk\(\): corpus\b.*\(N, D\).*shape \(1, 5, 4\)"),
    (lambda: cossim.topk(None, Y, 2), TypeError, r"topk\(\): queries\b.*\breal\b"),
    (lambda: cossim.pairs_above(X, 1.1), ValueError, r"pairs_above\(\): threshold\b.*\[-1, 1\].*\b1\.1\b"),
    (lambda: cossim.pairs_above(X, float("nan")), ValueError, r"pairs_above\(\): threshold\b"),
    (lambda: cossim.pairs_above(X, 0, progress=print), TypeError, r"pairs_above\(\): progress\b"),
    (lambda: cossim.pairwise(X, "abcd"), FileNotFoundError, r"pairwise\(\): y names no file"),
    (lambda: cossim.pairwise(X.astype(complex)), TypeError, r"\bx\b.*\breal\b.*\(x: shape \(6, 4\), dtype"),
    (lambda: cossim.pairwise(X[None]), ValueError, r"pairwise\(\): x\b.*\(N, D\)"),
    (lambda: cossim.pairwise(X, eps=-1), ValueError, r"pairwise\(\): eps\b.* -1"),
    (lambda: cossim.pairwise(X, progress=True), TypeError, r"pairwise\(\): progress\b.*\bDask\b"),
    (lambda: cossim.pairwise(da.ma.masked_less(X, 0)), TypeError, r"pairwise\(\): x\b.*\bmasked\b"),
    (
        lambda: cossim.pairwise(X, np.ma.masked_less(np.ones((5, 4)), 0)),
        TypeError,
        r"pairwise\(\): y\b.*\bmasked\b",
    ),
    (lambda: cossim.vecdot(X, Y), ValueError, r"vecdot\(\).*\bx1\b.*\bx2\b.*x1: shape \(6, 4\)"),
    (lambda: cossim.vecdot(X, X, 2), IndexError, r"vecdot\(\): dim 2\b.*\b2\b"),
    (lambda: cossim.vecdot(X, X, 1.0), TypeError, r"vecdot\(\): dim\b.*\bfloat\b"),
    (lambda: cossim.vecdot(X, UNKNOWN), ValueError, r"vecdot\(\): x2\b.*\bx2\.compute_chunk_sizes\(\)"),
    (lambda: cossim.vecdot(X, X, out=np.ones(6)), TypeError, r"vecdot\(\): out\b.*\bDask\b"),
    (lambda: cossim.cosine_similarity(X, X, 1, axis=1), TypeError, r"cosine_similarity\(\).*\bdim\b.*\baxis\b"),
    (lambda: cossim.cosine_distance(X, X, eps="a"), TypeError, r"cosine_distance\(\): eps\b.*\bstr\b"),
    (lambda: cossim.cosine_distance(X, X + 1j), TypeError, r"cosine_distance\(\): x2\b.*\breal\b"),
    (lambda: cossim.vecdot(da.ma.masked_less(X, 0), X), TypeError, r"vecdot\(\): x1\b.*\bmasked\b"),
    (lambda: cossim.vector_norm(X, (0, -2)), ValueError, r"vector_norm\(\): dim 0\b.*\btwice\b"),
    (lambda: cossim.vector_norm(X, 0, True, keepdims=True), TypeError, r"\bkeepdim\b.*\bkeepdims\b"),
    (lambda: cossim.normalize(X, 3), IndexError, r"normalize\(\): dim 3\b"),
    (lambda: cossim.normalize(X, out=X), TypeError, r"normalize\(\): out\b.*\bDask\b"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[f"{number}" for number in range(len(BAD))])
def test_wrong_arguments_are_errors_of_the_call(call, error, message):
    with pytest.raises(error, match=message):
        call()


class DataArray:
    """Like a DataArray of xarray: it may hold a Dask array, and then has __dask_graph__."""

    def __init__(self, data):
        self.data = data

    def __dask_graph__(self):
        return self.data.__dask_graph__() if isinstance(self.data, da.Array) else None

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype)


def test_arrays_of_xarray():
    x, held = np.ones((3, 4)), DataArray(X)
    assert_same(now(cossim.pairwise(held)), np.ones((6, 6)))
    assert_same(now(cossim.pairwise(held, DataArray(x))), np.ones((6, 3)))
    assert_same(now(cossim.vecdot(DataArray(x[:1]), held)), np.full(6, 4.0))


HANDED_OVER = [
    ("pairwise", (X,)),
    ("pairwise", (np.ones((3, 4)), X)),
    ("topk", (X, None, 2)),
    ("topk", (np.ones((3, 4)), X, 2)),
    ("pairs_above", (X, 0.5)),
    ("pairs_above", (np.ones((3, 4)), 0.5, X)),
    *((name, (X, X)) for name in ALONG),
    *((name, (np.ones((6, 4)), X)) for name in ALONG),
    ("vector_norm", (X,)),
    ("normalize", (X,)),
    ("duplicate_groups", (X, 0.5)),
]


@pytest.mark.parametrize(("name", "args"), HANDED_OVER)
def test_the_public_functions_accept_dask_arrays(name, args):
    lazy = getattr(cossim, name)(*args)
    assert all(map(dask.is_dask_collection, lazy)) if isinstance(lazy, tuple) else dask.is_dask_collection(lazy)
    assert_same(now(lazy), getattr(cossim, name)(*(now(arg) for arg in args)))


def test_docstrings_run():
    result = doctest.testmod(dask_arrays, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 10 and result.failed == 0


# ---- workers ----


def wait_for(condition):
    deadline = time.monotonic() + 60 * SLOWNESS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_the_loss_of_a_worker_changes_no_result(rng, client, tmp_path):
    """A worker is killed while it runs a task and holds blocks that others need; its results are computed again."""
    folder = str(tmp_path)

    def arrives(block, block_id):
        # Runs in the worker: the third block ends the process, but only once.
        mine = f"{os.getpid()}-"
        before = sum(name.startswith(mine) for name in os.listdir(folder))
        with open(os.path.join(folder, f"{mine}{block_id[0]}"), "x"):
            pass
        if before == 2:
            try:
                os.symlink(str(os.getpid()), os.path.join(folder, "stopped"))
            except FileExistsError:
                return block
            time.sleep(60)
            raise RuntimeError("this worker was to be killed")
        return block

    x = rows(rng, 200, np.float32)
    lazy = da.from_array(x, (20, 12)).map_blocks(arrives, dtype=np.float32)
    before = client.run(os.getpid)
    futures = client.compute([*cossim.topk(lazy, None, 5), *cossim.pairs_above(lazy, 0.5), cossim.pairwise(lazy)])
    wait_for(lambda: os.path.islink(tmp_path / "stopped"))
    victim = int(os.readlink(tmp_path / "stopped"))
    address = next(address for address, process in before.items() if process == victim)
    wait_for(lambda: client.has_what()[address])
    os.kill(victim, signal.SIGKILL)

    got = client.gather(futures)
    assert_same(tuple(got), (*functions.topk(x, None, 5), *functions.pairs_above(x, 0.5), cossim.pairwise(x)))
    assert len(os.listdir(folder)) > 10 + 1  # the blocks, the link, and the blocks computed again
    wait_for(lambda: len(client.run(os.getpid)) == 2)  # the nanny has started another
    assert victim not in client.run(os.getpid).values()
