"""An index file returns what was written to it, in the documented format."""

import doctest
import math
import os
import sys
import tracemalloc
import zlib

import ml_dtypes
import numpy as np
import pytest
from index_files import files_in, read_as_documented, refused

from cossim.search import index_file
from cossim.search.index_file import read, write

DTYPES = ["float64", "float32", "float16", "bfloat16", "bool"]
DTYPES += [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
SHAPES = [(), (0,), (1,), (5,), (0, 7), (7, 0), (9, 11), (3, 1, 4, 2), (1,) * 32]
HEADER = {"metric": "cosine", "n": 3, "eps": 1e-8, "none": None, "nested": {"list": [1, [True, "é\n\ud800"]]}}


def sample(rng, dtype, shape):
    """An array of random bits, including NaN and infinity."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    dtype = np.dtype(dtype)
    return rng.integers(0, 256, math.prod(shape) * dtype.itemsize, np.uint8).view(dtype).reshape(shape)


def assert_same(found, expected):
    """Asserts equal shape, dtype and bits; layout and byte order of the written array do not matter."""
    native = expected.astype(expected.dtype.newbyteorder("="))
    assert (found.shape, found.dtype) == (native.shape, native.dtype)
    assert found.tobytes() == native.tobytes()


LAYOUTS = {
    "C": lambda x: x,
    "F": lambda x: np.array(x, order="F"),
    "reversed": lambda x: x[(*(slice(None, None, -1),) * x.ndim, ...)],
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "broadcast": lambda x: np.broadcast_to(x, (3, *x.shape)) if x.ndim < 32 else x,
    "swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, x.size, 1).reshape(x.shape) if x.size else x,
}


# ---- what goes in comes out ----


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_roundtrip(rng, tmp_path, dtype, mmap):
    arrays = {
        f"{shape} {layout}": change(sample(rng, dtype, shape)) for shape in SHAPES for layout, change in LAYOUTS.items()
    }
    write(tmp_path / "index", HEADER, arrays)
    header, found = read(tmp_path / "index", mmap=mmap)
    assert header == HEADER
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert_same(found[name], array)
        assert found[name].flags.writeable != mmap
        if mmap:
            base = found[name]
            while base is not None and not isinstance(base, np.memmap):
                base = base.base
            assert base is not None
            assert found[name].ctypes.data % 64 == 0
            with pytest.raises(ValueError, match="WRITEABLE"):
                found[name].flags.writeable = True


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_and_blocks_of_any_size(rng, tmp_path, monkeypatch, layout):
    """Arrays larger than a piece and a block; small pieces and blocks put their edges at different offsets."""
    monkeypatch.setattr(index_file, "BLOCK", 1000)
    for piece in (1000, 64, 17, 8):
        monkeypatch.setattr(index_file, "_PIECE", piece)
        shapes = [(2003,), (7, 41), (41, 7), (3, 5, 17), (1, 1, 300), (2, 1, 0)]
        arrays = {
            f"{shape} {dtype}": LAYOUTS[layout](sample(rng, dtype, shape))
            for shape in shapes
            for dtype in ("float64", "bfloat16", "int8", "bool")
        }
        write(tmp_path / "index", {}, arrays)
        for mmap in (True, False):
            for name, array in read(tmp_path / "index", mmap=mmap)[1].items():
                assert_same(array, arrays[name])


def test_arrays_are_not_changed_and_never_taken_whole(rng, tmp_path):
    x = np.asfortranarray(rng.standard_normal((3000, 1000)))
    before = x.copy()
    tracemalloc.start()
    try:
        write(tmp_path / "index", {}, {"x": x})
        assert tracemalloc.get_traced_memory()[1] < 4e6
        tracemalloc.reset_peak()
        read(tmp_path / "index")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(x, before)
    assert_same(read(tmp_path / "index")[1]["x"], x)


def test_bool_of_other_bytes_is_written_as_0_and_1(tmp_path):
    write(tmp_path / "index", {}, {"x": np.arange(4, dtype=np.uint8).view(bool)})
    assert read(tmp_path / "index")[1]["x"].view(np.uint8).tolist() == [0, 1, 1, 1]


def test_nothing_at_all_is_an_index_too(tmp_path):
    write(tmp_path / "index", {}, {})
    assert read(tmp_path / "index") == ({}, {})


def test_memmaps_outlive_the_file(rng, tmp_path):
    x = rng.standard_normal((50, 4))
    write(tmp_path / "index", {}, {"x": x})
    found = read(tmp_path / "index", verify=False)[1]["x"]
    os.unlink(tmp_path / "index")
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path], ids=["str", "bytes", "PathLike"])
def test_kinds_of_paths(tmp_path, kind):
    write(kind(tmp_path / "index"), {"a": 1}, {})
    assert read(kind(tmp_path / "index"))[0] == {"a": 1}


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "two\nlines", "a b'\"\\", "-rf"])
def test_names_of_files(tmp_path, name):
    path = str(tmp_path / name)
    write(path, {}, {"x": np.arange(3)})
    assert read(path)[1]["x"].tolist() == [0, 1, 2]
    os.truncate(path, 100)
    assert refused(path).startswith("cut off")


def test_progress(tmp_path):
    seen = []
    x = np.zeros((5, 700_001), np.uint8)
    write(tmp_path / "index", {}, {"x": x, "none": x[:0], "y": x[0]}, progress=lambda *args: seen.append(args))
    done = [0, *(done for done, _ in seen)]
    assert {total for _, total in seen} == {6 * 700_001}
    assert done[-1] == 6 * 700_001
    assert all(0 < later - earlier <= 2**20 for earlier, later in zip(done, done[1:], strict=False))


def test_without_ml_dtypes(tmp_path, monkeypatch):
    write(tmp_path / "index", {}, {"x": np.ones(3, ml_dtypes.bfloat16)})
    write(tmp_path / "other", {}, {"x": np.ones(3)})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match="index'.*bfloat16.*ml_dtypes"):
        read(tmp_path / "index")
    assert read(tmp_path / "other")[1]["x"].tolist() == [1, 1, 1]


def test_examples_of_the_docstrings_run():
    assert doctest.testmod(index_file).attempted > 5
    assert doctest.testmod(index_file).failed == 0


def test_the_format_is_as_documented(rng, tmp_path):
    arrays = {
        "rows": rng.standard_normal((5, 3)).astype(">f4"),
        "large": np.broadcast_to(np.arange(100, dtype=np.int16), (90_000, 100)),
        "none": np.zeros((0, 4), bool),
        "half": np.array(1.5, ml_dtypes.bfloat16),
    }
    write(tmp_path / "index", HEADER, arrays)
    header, found = read_as_documented(tmp_path / "index")
    assert header == HEADER
    assert [entry["dtype"] for entry, _ in found.values()] == ["float32", "int16", "bool", "bfloat16"]
    assert [entry["shape"] for entry, _ in found.values()] == [[5, 3], [90_000, 100], [0, 4], []]
    assert found["rows"][1] == arrays["rows"].astype("<f4").tobytes()
    assert found["large"][1] == arrays["large"].tobytes()
    assert found["half"][1] == b"\xc0\x3f"
    assert zlib.crc32(b"123456789") == 0xCBF43926


# ---- what does not go in ----


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"a": float("nan")}, ValueError),
        ({"a": [float("inf")]}, ValueError),
        ({"a": 10**200}, ValueError),
        ({1: "a"}, ValueError),
        ({"a": (1, 2)}, ValueError),
        ({1: "a", "1": "b"}, ValueError),
        ({"a": {1, 2}}, TypeError),
        ({"a": b"bytes"}, TypeError),
        ({"a": np.arange(3)}, TypeError),
        ({(1, 2): 3}, TypeError),
        ({"a": "x" * 2**20}, ValueError),
        ([], TypeError),
        (None, TypeError),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_headers_that_cannot_be_written(tmp_path, header, error):
    with pytest.raises(error):
        write(tmp_path / "index", header, {})
    assert files_in(tmp_path) == []


def test_deep_headers_cannot_be_written(tmp_path):
    deep, circle = {}, {}
    circle["circle"] = circle
    for _ in range(200_000):
        deep = {"a": deep}
    for header in (deep, circle):
        with pytest.raises(ValueError, match=r"too deep|Circular"):
            write(tmp_path / "index", header, {})
    while deep:  # freed by hand, because some Pythons run out of stack
        deep = deep["a"]
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2, "M8[s]"),
        np.array(["a"]),
        np.array([{}], object),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, ml_dtypes.float8_e4m3fn),
        np.ma.masked_equal([1, 2], 1),
        np.zeros(2, np.longdouble),
    ],
    ids=lambda array: f"{type(array).__name__} {getattr(array, 'dtype', '')}",
)
def test_arrays_that_cannot_be_written(tmp_path, array):
    with pytest.raises(TypeError, match="array 'x'"):
        write(tmp_path / "index", {}, {"x": array})
    assert files_in(tmp_path) == []


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 itself has 32 dimensions at most")
def test_more_dimensions_than_numpy_1_has(tmp_path):
    with pytest.raises(ValueError, match=r"'x'.*\b33\b.*\b32\b"):
        write(tmp_path / "index", {}, {"x": np.zeros((1,) * 33)})
    assert files_in(tmp_path) == []
