"""Valid Arrow structures made by hand are read, malformed ones refused. test_columns.py tests real libraries."""

import sys

import numpy as np
import pytest
from arrow_structures import (
    FORMATS,
    Chunks,
    Data,
    Exporter,
    Field,
    OneArray,
    bits,
    fixed_lists,
    lists,
    numbers,
    pairs,
    table,
    tensor_metadata,
    views,
)
from processes import together

import cossim
from cossim import _core

X = np.arange(1.0, 25).reshape(6, 4)


def as_array(exporter):
    return _core.as_array("pairwise", "x", exporter)


def assert_released(exporter):
    """Every structure that was exported has been released once."""
    assert exporter.released == exporter.exported


def read(field, *chunks, in_place=True):
    """Returns a copy of the array that is read. Each chunk is released once: when the array over it dies."""
    exporter = (OneArray if len(chunks) == 1 else Chunks)(field, *chunks)
    array = as_array(exporter)
    copy = array.copy()
    if len(chunks) == 1 and array.size:
        assert exporter.released["array"] == (not in_place)
        assert array.flags.writeable == (not in_place)
    del array
    assert_released(exporter)
    assert exporter.exported["array"] == len(chunks)
    return copy


@pytest.mark.parametrize("letter", [*FORMATS, "b"])
def test_types_of_numbers(letter):
    x = X % 2 if letter == "b" else X
    dtype = FORMATS.get(letter, np.dtype(bool))
    for made in (fixed_lists(x, letter), lists(x, letter), lists(x, letter, wide=True)):
        found = read(*made, in_place=letter != "b")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, x.astype(dtype))
    found = read(*numbers(x[0], letter), in_place=letter != "b")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x[0].astype(dtype))


@pytest.mark.parametrize("letter", ["f", "b"])
@pytest.mark.parametrize("make", [fixed_lists, lists])
def test_slices(make, letter):
    """Offsets of lists, of their values and of a table add up."""
    x = (np.arange(80).reshape(20, 4) % 3 % 2).astype(FORMATS.get(letter, bool))
    field, data = make(x, letter)
    data.offset, data.length = 5, 11
    np.testing.assert_array_equal(read(field, data, in_place=letter != "b"), x[5:16])
    values = data.children[0]
    values.offset, values.length = 4, 76
    np.testing.assert_array_equal(read(field, data, in_place=letter != "b"), x[6:17])
    whole = table({"v": (field, data), "n": numbers(x[:, 0], letter)}, 4, offset=3)
    np.testing.assert_array_equal(read(*whole, in_place=letter != "b"), x[9:13])


def test_nested_lists():
    x = np.arange(48.0).reshape(4, 3, 4)
    inner, values = fixed_lists(x.reshape(12, 4))
    np.testing.assert_array_equal(read(Field("+w:3", inner), Data(4, [None], values)), x)
    inner, values = lists(x.reshape(12, 4))
    offsets = np.arange(5, dtype=np.int32) * 3
    np.testing.assert_array_equal(read(Field("+l", inner), Data(4, [None, offsets.tobytes()], values)), x)


@pytest.mark.parametrize("wide", [False, True])
def test_list_views(wide):
    np.testing.assert_array_equal(read(*views(X, np.arange(6), wide=wide)), X)
    exporter = OneArray(*views(X, np.array([3, 0, 5, 1, 2, 4]), wide=wide))
    array = as_array(exporter)
    assert_released(exporter)  # rows that do not lie one after the other are copied
    np.testing.assert_array_equal(array, X)
    # a list view whose values are rows: pairs of rows, out of order
    field, rows = fixed_lists(X)
    places = np.array([4, 0, 2], np.int32)
    halves = Data(3, [None, places.tobytes(), np.full(3, 2, np.int32).tobytes()], rows)
    np.testing.assert_array_equal(read(Field("+vl", field), halves, in_place=False), X.reshape(3, 2, 4)[[2, 0, 1]])


@pytest.mark.parametrize("permutation", [None, [1, 0], [0, 1]])
def test_tensors(permutation):
    metadata = {"shape": [2, 6]} | ({"permutation": permutation} if permutation else {})
    x = np.arange(36.0).reshape(3, 12)
    field, data = fixed_lists(x)
    field.metadata = pairs({"PANDAS": "", **tensor_metadata(**metadata)})
    expected = x.reshape(3, 2, 6).transpose(0, *(1 + axis for axis in permutation or (0, 1)))
    np.testing.assert_array_equal(read(field, data), expected)
    np.testing.assert_array_equal(read(*table({"t": (field, data)}, 3)), expected)


def test_chunks():
    field, first = fixed_lists(X[:2])
    rest = [fixed_lists(X[2:5])[1], fixed_lists(X[:0].reshape(0, 4))[1], fixed_lists(X[5:])[1]]
    np.testing.assert_array_equal(read(field, first, *rest), X)
    empty = rest[1]
    one = Chunks(field, empty, first, empty)
    array = as_array(one)
    assert one.released["array"] == 2  # the only chunk with rows is not copied
    np.testing.assert_array_equal(array, X[:2])
    del array
    assert_released(one)
    assert read(field, empty, empty).shape == (0, 4)
    none = Chunks(field)
    assert as_array(none).shape == (0, 4)
    assert as_array(Chunks(numbers(X)[0])).shape == (0,)
    assert as_array(Chunks(Field("+s", numbers(X)[0], numbers(X)[0]))).shape == (0, 2)
    assert_released(none)


def test_tables():
    columns = {"id": numbers(range(6), "l"), "text": (Field("u"), Data(6, [None, None, None])), "v": fixed_lists(X)}
    np.testing.assert_array_equal(read(*table(columns, 6)), X)
    found = read(*table({str(i): numbers(X[:, i], "ifff"[i]) for i in range(4)}, 6), in_place=False)
    assert found.dtype == np.float64  # as NumPy promotes int32 and float32
    np.testing.assert_array_equal(found, X)
    np.testing.assert_array_equal(read(*table({"a": numbers(X[0])}, 4)), X[:1].T)


@pytest.mark.parametrize("call", ["cosine_similarity", "pairwise", "topk", "pairs_above", "Index"])
def test_functions_read_them_in_place(rng, call):
    """The bits are those of the NumPy array. Nothing reads a chunk after its release, which overwrites it."""
    x = rng.standard_normal((40, 16)).astype(np.float32)
    queries = x[:5].copy()
    calls = {
        "cosine_similarity": lambda x: (cossim.cosine_similarity(x, x),),
        "pairwise": lambda x: (cossim.pairwise(x),),
        "topk": lambda x: cossim.topk(x, None, 5),
        "pairs_above": lambda x: cossim.pairs_above(x, 0.2),
        "Index": lambda x: cossim.Index(x).topk(queries, 3),
    }
    exporters = OneArray(*fixed_lists(x)), Chunks(lists(x)[0], lists(x[:9])[1], lists(x[9:])[1])
    blocks = _core._live_blocks()
    for exporter in exporters:
        for found, expected in zip(calls[call](exporter), calls[call](x), strict=True):
            assert found.tobytes() == expected.tobytes()
        assert exporter.released == exporter.exported
    assert _core._live_blocks() == blocks


# ---- nulls ----


def test_nulls_name_their_row():
    holes = bits([1, 1, 0, 1, 0, 1])
    field, data = fixed_lists(X, null_count=2)
    data.buffers = [holes]
    refused(field, data, match=r"row 2 of x is null")
    data.offset, data.length, data.null_count = 3, 3, -1
    refused(field, data, match=r"row 1 of x is null")
    data.offset, data.length = 0, 2
    np.testing.assert_array_equal(read(field, data), X[:2])
    flat = bits(np.arange(24) != 14)
    for field, data in (fixed_lists(X), lists(X)):
        data.children[0].buffers[0], data.children[0].null_count = flat, 1
        refused(field, data, match=r"row 3 of x has a null in it")
        # rows of earlier chunks count too
        exporter = Chunks(field, (fixed_lists if field.format == "+w:4" else lists)(X[:5])[1], data)
        with pytest.raises(ValueError, match=r"row 8 of x has a null in it"):
            as_array(exporter)
        assert_released(exporter)
        data.children[0].null_count = 0  # a count of 0 says that the bitmap is not needed
        np.testing.assert_array_equal(read(field, data), X)
    whole = table({"v": fixed_lists(X)}, 6, null_count=1)
    whole[1].buffers = [bits([1, 1, 1, 1, 1, 0])]
    refused(*whole, match=r"row 5 of x is null")
    field, data = numbers(X, null_count=1)
    data.buffers[0] = bits(np.arange(24) != 23)
    refused(field, data, match=r"row 23 of x is null")
    field, data = numbers(range(200), "l", null_count=1)
    for row in (0, 7, 8, 63, 64, 65, 127, 128, 199):
        data.buffers[0] = bits(np.arange(200) != row)
        refused(field, data, match=rf"row {row} of x is null")
    field, data = views(X, np.array([3, 0, 5, 1, 2, 4]))
    data.children[0].buffers[0], data.children[0].null_count = bits(np.arange(24) != 1), -1
    refused(field, data, match=r"row 3 of x has a null in it")


# ---- what is refused ----


def refused(field, data, match, error=ValueError):
    exporter = OneArray(field, data)
    with pytest.raises(error, match=rf"^pairwise\(\): .*{match}"):
        as_array(exporter)
    assert_released(exporter)


INT = np.iinfo(np.int64)


def list_with(offsets, x=X, **more):
    field, data = lists(x)
    data.buffers[1] = np.array(offsets, np.int32).view(np.uint8)
    return field, data


MALFORMED = {
    "length below 0": lambda: fixed_lists(X, length=-1),
    "length beyond the child": lambda: fixed_lists(X, length=7),
    "length of the largest number": lambda: fixed_lists(X, length=INT.max),
    "offset below 0": lambda: fixed_lists(X, offset=-1),
    "offset beyond the child": lambda: fixed_lists(X, offset=1),
    "offset that overflows": lambda: fixed_lists(X, offset=INT.max),
    "more nulls than rows": lambda: fixed_lists(X, null_count=7),
    "nulls below -1": lambda: fixed_lists(X, null_count=-2),
    "nulls without a bitmap": lambda: fixed_lists(X, null_count=1),
    "no buffers": lambda: fixed_lists(X, n_buffers=0),
    "a buffer too many": lambda: fixed_lists(X, n_buffers=2),
    "NULL for buffers": lambda: fixed_lists(X, buffers=None),
    "no children": lambda: fixed_lists(X, n_children=0),
    "a child too many": lambda: fixed_lists(X, n_children=2),
    "children below 0": lambda: fixed_lists(X, n_children=-1),
    "NULL for children": lambda: fixed_lists(X, children=None),
    "NULL for a child": lambda: (fixed_lists(X)[0], Data(6, [None], None)),
    "NULL for values": lambda: (Field("f"), Data(3, [None, None])),
    "NULL for offsets": lambda: (lists(X)[0], Data(6, [None, None], numbers(X)[1])),
    "NULL for sizes": lambda: (views(X, np.arange(6))[0], Data(6, [None, bytes(24), None], numbers(X)[1])),
    "values that overflow": lambda: (Field("g"), Data(INT.max, [None, bytes(8)])),
    "lists that overflow": lambda: (Field(f"+w:{2**62}", Field("b")), Data(4, [None], numbers(X, "b")[1])),
    "offsets that overflow": lambda: (lists(X)[0], Data(INT.max // 2, [None, bytes(8)], numbers(X)[1])),
    "offsets that run backwards": lambda: list_with([0, 4, 8, 4, 8, 12, 16]),
    "offsets beyond the values": lambda: list_with([0, 4, 8, 12, 16, 20, 25]),
    "offsets below 0": lambda: list_with([-4, 0, 4, 8, 12, 16, 20]),
    "view beyond the values": lambda: (
        views(X, np.arange(6))[0],
        Data(2, [None, np.int32([0, 22]).tobytes(), np.int32([4, 4]).tobytes()], numbers(X)[1]),
    ),
    "view of a length below 0": lambda: (
        views(X, np.arange(6))[0],
        Data(2, [None, np.int32([8, 8]).tobytes(), np.int32([-4, -4]).tobytes()], numbers(X)[1]),
    ),
    "format that is NULL": lambda: (Field(None), Data(3, [None, bytes(24)])),
    "list without a type": lambda: (Field("+l"), Data(1, [None, bytes(8)])),
    "list of two types": lambda: (Field("+l", Field("f"), Field("f")), Data(1, [None, bytes(8)])),
    "type whose children are NULL": lambda: (Field("+w:4", Field("f"), children=None), fixed_lists(X)[1]),
    "type with children below 0": lambda: (Field("+w:4", Field("f"), n_children=-1), fixed_lists(X)[1]),
    "table shorter than it says": lambda: table({"v": fixed_lists(X)}, 7),
    "table with an offset beyond": lambda: table({"a": numbers(X[0]), "b": numbers(X[0])}, 4, offset=1),
    "table without a column": lambda: (Field("+s", fixed_lists(X)[0]), Data(6, [None])),
    "tensor of another size": lambda: (tensor(shape=[5]), fixed_lists(X)[1]),
    "tensor without a shape": lambda: (tensor(dim_names=["x"]), fixed_lists(X)[1]),
    "tensor of negative sizes": lambda: (tensor(shape=[-2, -2]), fixed_lists(X)[1]),
    "tensor of huge sizes": lambda: (tensor(shape=[2**40, 2**40, 0]), fixed_lists(X)[1]),
    "tensor with an axis twice": lambda: (tensor(shape=[2, 2], permutation=[1, 1]), fixed_lists(X)[1]),
    "tensor with an axis too many": lambda: (tensor(shape=[2, 2], permutation=[0, 2]), fixed_lists(X)[1]),
    "tensor of many axes": lambda: (tensor(shape=[1] * 17 + [4]), fixed_lists(X)[1]),
    "tensor that is no JSON": lambda: (
        Field("+w:4", Field("f"), metadata=tensor_metadata() | {"ARROW:extension:metadata": "{"}),
        fixed_lists(X)[1],
    ),
}


def tensor(**values):
    return Field("+w:4", Field("f"), metadata=tensor_metadata(**values))


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_structures_are_refused(kind):
    refused(*MALFORMED[kind](), match="malformed: ")


OTHERS = {
    "string": (Field("u"), Data(0, [None, None, None])),
    "decimal": (Field("d:10,2"), Data(0, [None, None])),
    "dictionary": (Field("i", dictionary=None), Data(0, [None, None])),
    "timestamp": (Field("+l", Field("tsu:")), Data(0, [None, None], Data(0, [None, None]))),
    "struct": (Field("+w:2", Field("+s", Field("f"))), Data(0, [None], Data(0, [None], Data(0, [None, None])))),
    "run-end encoded": (Field("+r", Field("i"), Field("f")), Data(0, [])),
    "weird": (Field("weird"), Data(0, [])),
    "": (Field(""), Data(0, [])),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_types_that_are_not_numbers(kind):
    import ctypes

    import arrow_structures

    field, data = OTHERS[kind]
    if kind == "dictionary":
        field.instead["dictionary"] = ctypes.pointer(arrow_structures.Schema())
    refused(field, data, match=f"of type {kind}, which are not numbers", error=TypeError)


def test_other_refusals():
    refused(*list_with([0, 4, 8, 11, 16, 20, 24]), match=r"row 2 has 3 elements, and row 0 has 4")
    nested = Field("f")
    for _ in range(9):
        nested = Field("+w:1", nested)
    refused(nested, Data(0, [None]), match="8 deep", error=TypeError)
    text = Field("u"), Data(6, [None] * 3)
    two = {"id": text, "a": fixed_lists(X), "b": lists(X), "c": numbers(X[:, 0].copy())}
    refused(*table(two, 6), match=r"2 columns of vectors.*\(a, b\)")
    refused(*table({"a": text, "b": numbers(X[0])}, 4), match=r"without a column of vectors.*alone \(b\)")
    refused(*table({"a": text}, 6), match=r"alone \(it has none\)")
    refused(Field("+s"), Data(4, [None]), match="it has none")
    sizes = np.full(4, 2**62).tobytes()
    huge = Data(4, [None, bytes(32), sizes], Data(2**62, [None, bytes(8)]))
    refused(Field("+vL", Field("c")), huge, match="more elements than memory can have")
    field, data = lists(X)
    exporter = Chunks(field, data, lists(X[:, :3])[1])
    with pytest.raises(ValueError, match=r"row 6 has 3 elements, and row 0 has 4"):
        as_array(exporter)
    assert_released(exporter)


@pytest.mark.parametrize("fails_at", [-1, 0, 1])
@pytest.mark.parametrize("text", [None, b"out of luck"])
def test_errors_of_streams_are_raised(fails_at, text):
    field, data = fixed_lists(X)
    exporter = Chunks(field, data, data, fails_at=fails_at, text=text)
    with pytest.raises(
        ValueError, match=r"^pairwise\(\): the Arrow stream of x failed: " + ("out of luck" if text else "")
    ):
        as_array(exporter)
    assert_released(exporter)


def test_exports_that_are_not_capsules_are_refused():
    class Returns:
        def __init__(self, value):
            self.value = value

        def __arrow_c_array__(self, requested_schema=None):
            if isinstance(self.value, Exception):
                raise self.value
            return self.value

    class Stream(Returns):
        __arrow_c_stream__ = Returns.__arrow_c_array__
        __arrow_c_array__ = property()

    good = OneArray(*fixed_lists(X))
    schema, array = good.__arrow_c_array__()
    for value in (None, 3, (), (schema,), (array, schema), (schema, array, array), [schema, array], schema):
        with pytest.raises(TypeError, match=r"^pairwise\(\): the Arrow export of x"):
            as_array(Returns(value))
    np.testing.assert_array_equal(as_array(Returns((schema, array))), X)
    with pytest.raises(TypeError, match="new capsules"):  # the array was moved out of its capsule
        as_array(Returns((schema, array)))
    for error, raised in (
        (TypeError, TypeError),
        (ImportError, TypeError),
        (ValueError, ValueError),
        (KeyError, KeyError),
    ):
        with pytest.raises(raised, match="its own"):
            as_array(Returns(error("its own")))
    del Stream.__arrow_c_array__
    with pytest.raises(TypeError, match="its own"):
        as_array(type("S", (), {"__arrow_c_stream__": Returns.__arrow_c_array__, "value": TypeError("its own")})())
    del schema, array, value
    assert_released(good)


# ---- threads ----


def test_threads_read_and_drop_exports():
    """Many threads read and drop exports at the same time."""
    x = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    expected = cossim.pairwise(x)
    failures, exporters = [], []

    def work():
        for _ in range(20):
            for exporter in (
                OneArray(*lists(x)),
                Chunks(fixed_lists(x)[0], fixed_lists(x[:7])[1], fixed_lists(x[7:])[1]),
            ):
                exporters.append(exporter)
                if not np.array_equal(cossim.pairwise(exporter), expected):
                    failures.append(exporter)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together(*[work] * 6)
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert len(exporters) == 240
    for exporter in exporters:
        assert_released(exporter)
    assert all(isinstance(exporter, Exporter) for exporter in exporters)


def test_exports_may_require_their_argument():
    """polars before 1.4 requires the argument requested_schema; other libraries may lack it."""

    class Requires(OneArray):
        def __arrow_c_array__(self, requested_schema):
            assert requested_schema is None
            return super().__arrow_c_array__()

    class HasNone(OneArray):
        def __arrow_c_array__(self):
            return super().__arrow_c_array__()

    class Fails(OneArray):
        def __arrow_c_array__(self, requested_schema=None):
            raise TypeError("the first error") if requested_schema is None else ValueError("another")

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for kind in (Requires, HasNone):
        np.testing.assert_array_equal(cossim.normalize(kind(*lists(x))), cossim.normalize(x))
    with pytest.raises(TypeError, match="the first error"):
        cossim.normalize(Fails(*lists(x)))
