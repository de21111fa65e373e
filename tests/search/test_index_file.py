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
from index_files import VERSION_1, read_as_documented, refused, rows_of_version_1

import cossim
from cossim.search import index_file
from cossim.search.index_file import read, write

DTYPES = ["float64", "float32", "float16", "bfloat16", "bool"]
DTYPES += [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
SHAPES = [(), (0,), (1,), (5,), (0, 7), (7, 0), (9, 11), (3, 1, 4, 2), (1,) * 32]
METADATA = {"metric": "cosine", "two\nlines": 'é\\"', "": ""}


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
    write(tmp_path / "index", METADATA, arrays)
    metadata, found = read(tmp_path / "index", mmap=mmap)
    assert metadata == METADATA
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert_same(found[name], array)
        assert found[name].flags.writeable != mmap
        assert found[name].ctypes.data % 64 == 0
        if mmap:
            base = found[name]
            while base is not None and not isinstance(base, np.memmap):
                base = base.base
            assert base is not None
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


def test_arrays_are_not_changed_and_never_copied_whole(rng, tmp_path):
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


def test_a_file_without_arrays_is_valid(tmp_path):
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
    write(kind(tmp_path / "index"), {"a": "1"}, {})
    assert read(kind(tmp_path / "index"))[0] == {"a": "1"}


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "two\nlines", "a b'\"\\", "-rf"])
def test_any_file_name_can_be_written_and_read(tmp_path, name):
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
    size = 6 * 700_001 + -5 * 700_001 % 64  # with the padding after x
    assert {total for _, total in seen} == {size}
    assert done[-1] == size
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
    write(tmp_path / "index", METADATA, arrays)
    metadata, found = read_as_documented(tmp_path / "index")
    assert metadata == METADATA
    assert [entry["dtype"] for entry, _ in found.values()] == ["F32", "I16", "BOOL", "BF16"]
    assert [entry["shape"] for entry, _ in found.values()] == [[5, 3], [90_000, 100], [0, 4], []]
    assert found["rows"][1] == arrays["rows"].astype("<f4").tobytes()
    assert found["large"][1] == arrays["large"].tobytes()
    assert found["half"][1] == b"\xc0\x3f"
    assert zlib.crc32(b"123456789") == 0xCBF43926


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_package_safetensors_reads_the_same(rng, tmp_path, dtype):
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    arrays = {f"{shape}": sample(rng, dtype, shape) for shape in SHAPES}
    write(tmp_path / "index", METADATA, arrays)
    whole = load_file(tmp_path / "index")
    assert {name for name in whole if not name.endswith(".padding")} == set(arrays)
    with safetensors.safe_open(tmp_path / "index", "numpy") as file:
        assert METADATA.items() <= file.metadata().items()
        for name, array in arrays.items():
            assert_same(whole[name], array)
            assert_same(file.get_tensor(name), array)


@pytest.mark.parametrize("shape", [(5, 3), (64, 64), (2, 4097)])
def test_the_package_safetensors_reads_an_index(rng, tmp_path, shape):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    index = cossim.Index(rng.standard_normal(shape, np.float32))
    index.save(tmp_path / "index")
    found = {name: array for name, array in load_file(tmp_path / "index").items() if not name.endswith(".padding")}
    expected = {name: index._state.arrays[name] for name in found}
    assert list(found) == (["corpus", "upper_codes", "lower_codes", "scales"] if shape[1] <= 4096 else ["corpus"])
    for name, array in found.items():
        assert_same(array, expected[name])


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("dtype", VERSION_1)
def test_files_of_version_1_load(dtype, mmap):
    rows = rows_of_version_1(getattr(ml_dtypes, dtype, dtype))
    loaded, new = cossim.Index.load(VERSION_1[dtype], mmap=mmap), cossim.Index(rows, eps=0.5)
    assert loaded.eps == 0.5
    assert_same(loaded.corpus, new.corpus)
    for array in (loaded.corpus, *loaded._state.codes, loaded._state.scales):
        assert array.ctypes.data % 64 == 0
    if new._state.codes is not None:  # rows of 8-bit integers have no codes any more
        np.testing.assert_array_equal(loaded._state.codes, new._state.codes)
        np.testing.assert_allclose(loaded._state.scales, new._state.scales, rtol=1e-2)
    assert_same(loaded.topk(rows, 3).values, new.topk(rows, 3).values)


def test_a_header_that_is_too_long(tmp_path):
    """A header has at most 1 MiB, with its eight bytes of length and its padding to 64 bytes."""
    write(tmp_path / "index", {"a": ""}, {})
    room = 2**20 - 8 - len((tmp_path / "index").read_bytes()[8:].rstrip())
    write(tmp_path / "index", {"a": "x" * room}, {})
    assert read(tmp_path / "index")[0] == {"a": "x" * room}
    with pytest.raises(ValueError, match=rf"\b{2**20}\b"):
        write(tmp_path / "index", {"a": "x" * (room + 1)}, {})
