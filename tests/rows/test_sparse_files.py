"""Files of sparse rows and of one vector give what the same arrays give, in every function and command."""

import gzip
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from public_inputs import npy_bytes
from reference import same

import cossim
from cossim.__main__ import main

sp = pytest.importorskip("scipy.sparse")


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def x(rng):
    return sp.csr_array(sp.random(40, 60, density=0.1, format="csr", random_state=rng))


def save(path, x, form="csr", **options):
    sp.save_npz(path, x.asformat(form), **options)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("compressed", [True, False])
def test_sparse_files_give_the_rows_that_were_saved(x, form, dtype, compressed):
    x = (x * 9).astype(dtype)
    x.eliminate_zeros()
    save("x.npz", x, form, compressed=compressed)
    rows = cossim.open_rows("x.npz")
    assert (rows.shape, rows.dtype, rows.ids, len(rows)) == (x.shape, dtype, None, 40)
    assert "40 rows" in repr(rows) and "Sparse" in repr(rows)
    copy = pickle.loads(pickle.dumps(rows))
    for found in (rows.tocsr(), copy.tocsr(), sp.csr_array((rows.data, rows.indices, rows.indptr), rows.shape)):
        np.testing.assert_array_equal(found.toarray(), x.toarray(), strict=True)
    np.testing.assert_array_equal(rows[3:9].toarray(), x[3:9].toarray())
    np.testing.assert_array_equal(np.array([row.toarray().ravel() for row in rows]), x.toarray())


def test_every_function_of_sparse_rows_takes_their_files(x):
    y, dense = x[:7] * 2, x.toarray()[:5]
    save("x.npz", x)
    save("y.NPZ.npz", y, "csc")
    np.savez("dense.npz", dense)
    for file in ("x.npz", Path("x.npz"), cossim.open_rows("x.npz")):
        same(cossim.topk(file, None, 3), cossim.topk(x, None, 3))
        same(cossim.topk("y.NPZ.npz", file, 3), cossim.topk(y, x, 3))
        same(cossim.topk("dense.npz", corpus=file, k=3), cossim.topk(dense, x, 3))
        same(cossim.pairs_above(file, 0.2), cossim.pairs_above(x, 0.2))
        same(cossim.pairs_above("y.NPZ.npz", 0.2, y=file), cossim.pairs_above(y, 0.2, x))
        same([cossim.duplicate_groups(file, 0.2)], [cossim.duplicate_groups(x, 0.2)])
        same([cossim.pairwise(file), cossim.pairwise(y, file)], [cossim.pairwise(x), cossim.pairwise(y, x)])
        same([cossim.vector_norm(file, 1)], [cossim.vector_norm(x, 1)])
        same([cossim.cosine_similarity(file, x), cossim.cosine_distance(x, file)], [np.ones(40), np.zeros(40)])
        with pytest.raises(TypeError, match=r"\bsparse\b"):
            cossim.Index(file)
        with pytest.raises(TypeError, match=r"\bsparse\b"):
            cossim.maxsim(file, dense)


def test_dense_archives_are_searched_as_dense_rows(rng):
    """A path of an .npz file can hold dense or sparse rows; only the open file tells."""
    x = rng.standard_normal((30, 8)).astype(np.float32)
    np.savez("x.npz", x)
    same(cossim.topk("x.npz", None, 3), cossim.topk(x, None, 3))
    same(cossim.topk(x, corpus=Path("x.npz"), k=3, memory=1), cossim.topk(x, x, 3))
    same([cossim.pairwise("x.npz", "x.npz"), cossim.normalize("x.npz")], [cossim.pairwise(x, x), cossim.normalize(x)])
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] pairwise\(\): y\b"):
        cossim.pairwise(x, "none.npz")


def test_shards_of_sparse_rows_are_one_set(x):
    for number, part in enumerate((x[:9], x[9:9], x[9:])):
        save(f"part-{number}.npz", part, ["csr", "csc", "coo"][number])
    rows = cossim.open_rows("part-*.npz")
    np.testing.assert_array_equal(rows.tocsr().toarray(), x.toarray())
    same(cossim.topk("part-*.npz", None, 3), cossim.topk(x, None, 3))


def test_scipy_is_not_needed_to_search(x, monkeypatch):
    save("x.npz", x, "csc")
    expected = cossim.topk(x, None, 3)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    same(cossim.topk("x.npz", None, 3), expected)
    with pytest.raises(ImportError):
        cossim.open_rows("x.npz").tocsr()


def test_entries_in_any_order_and_duplicates_mean_what_scipy_means(rng):
    rows, columns = rng.integers(0, 9, 90), rng.integers(0, 5, 90)
    x = sp.coo_array((rng.standard_normal(90).astype(np.float32), (rows, columns)), (9, 5))
    sp.save_npz("x.npz", x)
    same([cossim.pairwise("x.npz")], [cossim.pairwise(x)])


@pytest.mark.parametrize(
    "change",
    [
        {"indptr": np.array([0, 5, 3, 4])},
        {"indptr": np.array([0, 1, 2])},
        {"indptr": np.array([1, 1, 2, 4])},
        {"indptr": np.array([0, 1, 2, 5])},
        {"indices": np.array([0, 1, 2, 3])},
        {"indices": np.array([0, 1, 2, -1])},
        {"indices": np.array([0.0, 1, 2, 0])},
        {"indices": np.arange(3)},
        {"data": np.ones((2, 2))},
        {"data": np.ones((4, 1))},
        {"data": np.ones(4, complex)},
        {"shape": np.array([3, 3, 3])},
        {"shape": np.array([-3, 3])},
        {"shape": np.array(["a", "b"])},
        {"shape": np.array([3.0, 3.0])},
        {"shape": np.array([3, 2**64 - 1], np.uint64)},
        {"shape": np.array(3)},
        {"shape": np.empty((2**40, 0), np.int64)},
        {"format": np.array(b"bsr")},
        {"format": np.array(b"xyz")},
        {"format": np.ones(3)},
        {"indptr": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", [b"csr", b"csc"])
def test_damaged_sparse_files_raise_an_error(change, form):
    arrays = {"data": np.ones(4), "indices": np.array([0, 1, 2, 0]), "indptr": np.array([0, 1, 2, 4])}
    arrays |= {"shape": np.array([3, 3]), "format": np.array(form)} | change
    np.savez("x.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=r"^x\.npz: "):
        cossim.open_rows("x.npz")
    with pytest.raises(ValueError, match=r"\bqueries\b"):
        cossim.topk("x.npz", None, 1)


def test_truncated_members_raise_an_error(x):
    save("x.npz", x)
    with zipfile.ZipFile("x.npz") as old, zipfile.ZipFile("y.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: -1 if name == "data.npy" else None])
    with pytest.raises(ValueError, match=r"^y\.npz: 'data' in it: truncated\b"):
        cossim.open_rows("y.npz")


@pytest.mark.parametrize("name", ["v.npy", "v.npy.gz"])
def test_a_file_of_one_vector_is_that_vector(rng, name):
    x = rng.standard_normal((20, 8)).astype(np.float32)
    v, data = x[3], npy_bytes(x[3])
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    same(cossim.topk(name, x, 3), cossim.topk(v, x, 3))
    same(cossim.topk(x, name, 1), cossim.topk(x, v, 1))
    same(cossim.pairs_above(x, 0.2, name), cossim.pairs_above(x, 0.2, v))
    same([cossim.pairwise(name, x), cossim.normalize(name)], [cossim.pairwise(v, x), cossim.normalize(v)])
    same(
        [cossim.cosine_similarity(name, x), cossim.cosine_similarity(name, v)],
        [cossim.cosine_similarity(v, x), np.float32(1)],
    )
    same(cossim.Index(x).topk(name, 3), cossim.Index(x).topk(v, 3))
    with pytest.raises(ValueError, match=r"\(8,\).*x\[None\]"):
        cossim.open_rows(name)


def test_commands_take_sparse_files_and_files_of_one_vector(x, capsys):
    save("x.npz", x)
    np.save("v.npy", x.toarray()[0])
    np.save("dense.npy", x.toarray())
    for queries, corpus in (("x.npz", "x.npz"), ("v.npy", "x.npz"), ("v.npy", "dense.npy")):
        assert main(["topk", queries, corpus, "-k", "2", "-o", "found.npz"]) == 0
        left = x.toarray()[:1] if queries == "v.npy" else x
        with np.load("found.npz") as found:
            same([found["values"], found["indices"]], cossim.topk(left, x if corpus == "x.npz" else x.toarray(), 2))
    assert main(["pairs", "x.npz", "-t", "0.2", "-o", "found.npz"]) == 0
    with np.load("found.npz") as found:
        same([found["i"], found["j"], found["values"]], cossim.pairs_above(x, 0.2))
    assert capsys.readouterr().err == ""
