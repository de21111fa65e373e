"""Rows in the types of other libraries give every function the same bits as the NumPy array of their values."""

from pathlib import Path

import numpy as np
import pytest
from processes import python
from public_inputs import OnlyDLPack

import cossim
from cossim import _core

HELPERS = str(Path(__file__).parents[1] / "helpers")
FLOAT32 = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)


def pyarrow_lists(x, kind=None):
    pa = pytest.importorskip("pyarrow")
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    return column if kind is None else column.cast(getattr(pa, kind)(column.type.value_type))


def pyarrow_table(x):
    pa = pytest.importorskip("pyarrow")
    return pa.table({"id": range(len(x)), "text": ["a"] * len(x), "v": pyarrow_lists(x)})


def pyarrow_reader(x):
    pa = pytest.importorskip("pyarrow")
    table = pyarrow_table(x)
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=7))


def polars_array(x):
    pl = pytest.importorskip("polars")
    return pl.Series("v", x, dtype=pl.Array(pl.Series(x[0]).dtype, x.shape[1]))


def polars_frame(x):
    pl = pytest.importorskip("polars")
    return pl.DataFrame({"id": range(len(x)), "v": polars_array(x)})


def pandas_arrow(x):
    pd = pytest.importorskip("pandas")
    column = pyarrow_lists(x)
    return pd.Series(column, dtype=pd.ArrowDtype(column.type))


def pandas_frame(x):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({"id": range(len(x)), "text": ["a"] * len(x), "v": list(x)})


def objects(x):
    array = np.empty(len(x), object)
    array[:] = list(x)
    return array


def module(name):
    return pytest.importorskip(name)


COLUMNS = {
    "pyarrow": pyarrow_lists,
    "pyarrow list": lambda x: pyarrow_lists(x, "list_"),
    "pyarrow large_list": lambda x: pyarrow_lists(x, "large_list"),
    "pyarrow sliced": lambda x: module("pyarrow").concat_arrays([pyarrow_lists(x[:9]), pyarrow_lists(x)])[9:],
    "pyarrow chunked": lambda x: module("pyarrow").chunked_array([pyarrow_lists(p) for p in (x[:9], x[9:9], x[9:])]),
    "pyarrow tensor": lambda x: module("pyarrow").FixedShapeTensorArray.from_numpy_ndarray(x),
    "pyarrow struct": lambda x: module("pyarrow").StructArray.from_arrays([pyarrow_lists(x)], ["v"]),
    "pyarrow batch": lambda x: pyarrow_table(x).to_batches()[0],
    "pyarrow table": pyarrow_table,
    "pyarrow reader": pyarrow_reader,
    "pyarrow matrix": lambda x: module("pyarrow").table({str(i): column for i, column in enumerate(x.T.copy())}),
    "polars Array": polars_array,
    "polars List": lambda x: module("polars").Series(
        x.tolist(), dtype=module("polars").List(polars_array(x).dtype.inner)
    ),
    "polars sliced": lambda x: polars_array(np.concatenate([x[:9], x]))[9:],
    "polars chunks": lambda x: module("polars").concat([polars_array(x[:9]), polars_array(x[9:])], rechunk=False),
    "polars frame": polars_frame,
    "polars matrix": lambda x: module("polars").DataFrame(x),
    "pandas matrix": lambda x: module("pandas").DataFrame(x),
    "pandas nullable": lambda x: module("pandas").DataFrame(x).astype("Float32"),
    "pandas objects": lambda x: module("pandas").Series(list(x)),
    "pandas ArrowDtype": pandas_arrow,
    "pandas frame": pandas_frame,
    "pandas ArrowDtype frame": lambda x: module("pandas").DataFrame({"id": range(len(x)), "v": pandas_arrow(x)}),
    "nanoarrow": lambda x: module("nanoarrow").Array(pyarrow_lists(x)),
    "torch": lambda x: module("torch").from_numpy(x.copy()),
    "torch by DLPack": lambda x: OnlyDLPack(module("torch").from_numpy(x.copy())),
    "torch transposed": lambda x: module("torch").from_numpy(x.T.copy()).T,
    "jax": lambda x: module("jax.numpy").asarray(x),
    "object array": objects,
    "list of arrays": list,
    "list of tensors": lambda x: list(module("torch").from_numpy(x.copy())),
    "list of columns": lambda x: [module("polars").Series(row) for row in x],
}
IN_PLACE = [
    "pyarrow",
    "pyarrow list",
    "pyarrow large_list",
    "pyarrow sliced",
    "pyarrow tensor",
    "pyarrow struct",
    "pyarrow table",
    "polars Array",
    "polars List",
    "polars sliced",
    "polars frame",
    "pandas ArrowDtype",
    "torch",
    "torch transposed",
    "jax",
]


@pytest.mark.parametrize("kind", COLUMNS)
def test_functions_read_columns(kind):
    x = FLOAT32
    laid_out = np.asfortranarray(x) if kind == "torch transposed" else x
    column, queries = (lambda: COLUMNS[kind](x)), laid_out[:5]
    calls = {
        "cosine_similarity": lambda x: cossim.cosine_similarity(x, queries[:1]),
        "normalize": cossim.normalize,
        "vector_norm": lambda x: cossim.vector_norm(x, 1),
        "pairwise": lambda x: cossim.pairwise(x, queries),
        "topk": lambda x: cossim.topk(queries, x, 3),
        "topk, itself": lambda x: cossim.topk(x, None, 3),
        "pairs_above": lambda x: cossim.pairs_above(x, 0.3),
        "duplicate_groups": lambda x: cossim.duplicate_groups(x, 0.8),
        "Index": lambda x: cossim.Index(x).topk(queries, 3),
        "explain": lambda x: cossim.explain(x, queries[:1]).similarity,
    }
    for name, call in calls.items():
        found, expected = call(column()), call(laid_out)
        for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True):
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes(), name


@pytest.mark.parametrize("kind", IN_PLACE)
def test_columns_are_read_in_place(kind):
    column = COLUMNS[kind](FLOAT32)
    first, second = (_core.as_array("pairwise", "x", column) for _ in range(2))
    assert first.ctypes.data == second.ctypes.data
    assert np.shares_memory(first, second)
    del column
    np.testing.assert_array_equal(first, FLOAT32)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int8, np.uint16, bool])
@pytest.mark.parametrize("kind", ["pyarrow", "pyarrow list", "polars Array", "torch", "jax"])
def test_types_of_columns(kind, dtype):
    x = (FLOAT32 * 3 > 0 if dtype is bool else FLOAT32 * 50).astype(dtype)
    if kind == "jax" and x.dtype.itemsize == 8:
        pytest.skip("JAX has 32 bits unless asked for more")
    found = _core.as_array("pairwise", "x", COLUMNS[kind](x))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, x)
    assert cossim.pairwise(COLUMNS[kind](x)).tobytes() == cossim.pairwise(x).tobytes()


@pytest.mark.parametrize("kind", ["pyarrow", "polars", "pandas", "pandas Arrow"])
def test_a_column_of_numbers_is_one_vector(kind):
    x = FLOAT32[0]
    made = {
        "pyarrow": lambda: module("pyarrow").array(x),
        "polars": lambda: module("polars").Series(x),
        "pandas": lambda: module("pandas").Series(x),
        "pandas Arrow": lambda: module("pandas").Series(x, dtype="float32[pyarrow]"),
    }
    if kind == "pandas Arrow":
        module("pyarrow")
    assert cossim.cosine_similarity(made[kind](), x, 0) == cossim.cosine_similarity(x, x, 0)


# ---- bfloat16 ----


def test_bfloat16_tensors():
    torch, ml_dtypes = module("torch"), module("ml_dtypes")
    tensor, array = torch.from_numpy(FLOAT32).bfloat16(), FLOAT32.astype(ml_dtypes.bfloat16)
    found = _core.as_array("pairwise", "x", tensor)
    assert found.ctypes.data == tensor.data_ptr()
    assert found.dtype == array.dtype
    parameter = torch.nn.Parameter(tensor, requires_grad=False)  # a subclass
    for x in (tensor, parameter, OnlyDLPack(tensor), list(tensor)):
        assert cossim.pairwise(x).tobytes() == cossim.pairwise(array).tobytes()
        assert cossim.topk(x, None, 3)[0].tobytes() == cossim.topk(array, None, 3)[0].tobytes()
    view = torch.arange(40, dtype=torch.bfloat16).reshape(5, 8)[::2, 1::3]
    np.testing.assert_array_equal(_core.as_array("pairwise", "x", view).astype(float), view.double().numpy())


WITHOUT_ML_DTYPES = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np, cossim
from cossim import _core
from dlpack_structures import Exporter
wide = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
wide = (wide.view(np.uint32) & 0xFFFF0000).view(np.float32)

def bfloat16(x):
    return Exporter((np.ascontiguousarray(x).view(np.uint32) >> 16).astype(np.uint16), shape=x.shape, code=4, bits=16)

tensor = bfloat16(wide)
(rows,) = _core.as_rows("topk", ("corpus",), (tensor,))
assert rows.ctypes.data == tensor.bytes.ctypes.data and rows.dtype.itemsize == 2
assert _core.as_array("explain", "x1", tensor).dtype == np.float32
for name, args in {
    "cosine_similarity": ((tensor, bfloat16(wide[::-1])), (wide, wide[::-1])),
    "normalize": ((tensor,), (wide,)),
    "vector_norm": ((tensor, 1), (wide, 1)),
    "pairwise": ((tensor, bfloat16(wide[:3])), (wide, wide[:3])),
    "topk": ((tensor, None, 3), (wide, None, 3)),
    "pairs_above": ((tensor, 0.5), (wide, 0.5)),
    "duplicate_groups": ((tensor, 0.5), (wide, 0.5)),
    "pairwise_vjp": ((tensor,), (wide,)),
    "cosine_similarity_vjp": ((tensor, bfloat16(wide[::-1])), (wide, wide[::-1])),
}.items():
    found, expected = (getattr(cossim, name)(*given) for given in args)
    found, expected = (r if isinstance(r, tuple) else (r,) for r in (found, expected))
    for one, other in zip(found, expected):
        if not callable(one):
            assert one.dtype == other.dtype, name
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6, err_msg=name)
found, expected = (cossim.Index(x).topk(wide[:2], 3) for x in (tensor, wide))
assert found.values.dtype == np.float32
np.testing.assert_array_equal(found.indices, expected.indices)
cossim.Index(tensor).save(sys.argv[1])
np.save(sys.argv[1] + ".npy", wide)
print(cossim.explain(tensor, bfloat16(wide[:1])).similarity.dtype)
"""


def test_bfloat16_without_ml_dtypes(tmp_path):
    """Results are float32 then, because NumPy has no type for bfloat16."""
    ml_dtypes = module("ml_dtypes")
    code = f"import sys; sys.path.append({HELPERS!r})" + WITHOUT_ML_DTYPES
    assert python(code, tmp_path / "index") == "float32"
    saved = cossim.Index.load(tmp_path / "index")
    assert saved.corpus.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(saved.corpus.astype(np.float32), np.load(tmp_path / "index.npy"))


# ---- what is refused ----


def pandas_series(*values, **options):
    return module("pandas").Series(*values, **options)


REFUSED = {
    "pyarrow null row": (lambda: module("pyarrow").array([[1.0], None]), "row 1 of x is null"),
    "pyarrow null value": (lambda: module("pyarrow").array([[1.0], [None]]), "row 1 of x has a null"),
    "pyarrow null number": (lambda: module("pyarrow").array([1.0, None]), "row 1 of x is null"),
    "pyarrow ragged": (lambda: module("pyarrow").array([[1.0], [1.0, 2.0]]), "row 1 has 2 elements"),
    "pyarrow two columns": (lambda: module("pyarrow").table({"a": [[1]], "b": [[1]]}), r"2 columns .*\(a, b\)"),
    "polars null row": (lambda: module("polars").Series([[1.0], [2.0], None]), "row 2 of x is null"),
    "polars null in a frame": (lambda: module("polars").DataFrame({"a": [1.0, None]}), "row 1 of x is null"),
    "pandas null row": (lambda: pandas_series([np.ones(2), None]), "row 1 of x is null"),
    "pandas missing row": (lambda: pandas_series([np.ones(2), np.nan]), "row 1 of x is null"),
    "pandas nullable": (lambda: pandas_series([1, None], dtype="Float64"), "row 1 of x is null"),
    "pandas nullable frame": (
        lambda: module("pandas").DataFrame({"a": [1, 2, None]}, dtype="Int64"),
        "row 2 of x is null",
    ),
    "pandas ragged": (lambda: pandas_series([np.ones(2), np.ones(3)]), "row 1 has 3 elements"),
    "pandas text": (lambda: module("pandas").DataFrame({"a": [1], "b": ["x"]}), r"without a column of vectors.*\(a\)"),
    "list ragged": (lambda: [[1, 2], [3, 4], [5]], "row 2 has 1 elements, and row 0 has 2"),
    "list of matrices": (lambda: [np.ones((2, 3)), np.ones((2, 4))], r"row 1 has shape \(2, 4\)"),
    "list of ragged lists": (lambda: [[[1], [2, 3]], [[1], [2]]], r"rows of (x|corpus)\[0\] must be equally long"),
    "list with None": (lambda: [[1, 2], None], "row 1 of x is null"),
    "list with None in a row": (lambda: [[1, None], [1, 2]], "row 0 of x has a null"),
    "objects ragged": (lambda: objects([np.ones(2), np.ones(1)]), "row 1 has 1 elements"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_columns_that_are_not_rows_are_refused(kind):
    make, words = REFUSED[kind]
    for call in (cossim.pairwise, lambda x: cossim.topk(FLOAT32, x, 1), lambda x: cossim.normalize(x)):
        with pytest.raises(ValueError, match=r"\(\): .*" + words.replace("of x", r"of (x|corpus)")):
            call(make())


def test_tensors_that_torch_does_not_hand_over():
    torch = module("torch")
    z = torch.ones(2, 3, dtype=torch.complex64)
    for x, error, words in (
        (torch.ones(2, 3, requires_grad=True), TypeError, r"x\.detach\(\)"),
        (torch.nn.Parameter(torch.ones(2, 3).bfloat16()), TypeError, r"x\.detach\(\)"),
        ([torch.ones(3, requires_grad=True)], TypeError, r"x\.detach\(\)"),
        (z, TypeError, r"x\.real"),
        (z.conj().imag, TypeError, "resolve_neg"),  # DLPack would export it without its sign
        (torch.eye(3).to_sparse(), TypeError, "to_dense"),
        (torch.ones(2, 3, device="meta"), TypeError, "cpu"),
        (torch.ones(2, 3).to(torch.float8_e4m3fn), TypeError, "convert them to float32"),
    ):
        with pytest.raises(error, match=r"^normalize\(\): .*" + words):
            cossim.normalize(x)


def test_a_refused_frame_lists_the_columns_that_can_be_passed():
    pandas = pytest.importorskip("pandas", reason="makes the frames")
    x = np.arange(6.0).reshape(3, 2) + 1
    wide = pandas.DataFrame({"id": ["a", "b", "c"], "e0": x[:, 0], "e1": x[:, 1]})
    with pytest.raises(ValueError, match=r"pass its columns of numbers alone \(e0, e1\), or turn text"):
        cossim.pairwise(wide)
    with pytest.raises(ValueError, match=r"alone \(it has none\), or turn text into vectors"):
        cossim.pairwise(wide[["id"]])
    assert np.array_equal(cossim.pairwise(wide[["e0", "e1"]]), cossim.pairwise(x))
    with pytest.raises(ValueError, match=r"2 columns of vectors.*\(old, new\)"):
        cossim.pairwise(pandas.DataFrame({"id": ["a", "b", "c"], "old": list(x), "new": list(x)}))
