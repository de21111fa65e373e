"""open_rows gives the rows of every format, exactly, and every function takes them."""

import gzip
import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from public_inputs import npy_bytes
from reference import same

import cossim
from cossim.rows import reader

COUNT, DIM = 300, 8
HEADER = "id," + ",".join(f"e{i}" for i in range(DIM)) + "\n"


def text_rows(x, words=None):
    words = [f"w{i} " for i in range(len(x))] if words is None else words
    lines = zip(words, x.tolist(), strict=True)
    return "".join(word + " ".join(map(repr, row)) + "\n" for word, row in lines).encode()


def vecs(x):
    lengths = np.full((len(x), 1), x.shape[1], "<i4").view(np.uint8)
    return np.hstack((lengths, np.ascontiguousarray(x).view(np.uint8))).tobytes()


def binary_words(x, end=b"\n"):
    rows = (f"w{i} ".encode() + row.astype("<f4").tobytes() + end for i, row in enumerate(x))
    return f"{len(x)} {x.shape[1]}\n".encode() + b"".join(rows)


def safetensors_bytes(**arrays):
    header, data = {}, b""
    for name, (dtype, array) in arrays.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def npz(path, x, compressed):
    (np.savez_compressed if compressed else np.savez)(path, x=x, other=np.arange(3))


def npz_column_major(path, x):
    np.savez_compressed(path, np.asfortranarray(x))


def parquet(path, x, lists=True):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"key": pa.array([f"w{i}" for i in range(len(x))], pa.string()), "year": np.arange(len(x))}
    if lists:
        columns["v"] = pa.array(list(x), pa.list_(pa.float32()))
    else:
        columns |= {f"e{i}": x[:, i] for i in range(x.shape[1])}
    pq.write_table(pa.table(columns), path, row_group_size=110)


def parquet_fixed(path, x):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    array = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    pq.write_table(pa.table({"v": array, "id": np.arange(len(x))}), path, row_group_size=64)


def hdf5(path, x):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("group/x", data=x, chunks=(5, 3), compression="gzip")
        file["group/id"] = [f"w{i}" for i in range(len(x))]
        file["scalars"] = np.arange(5)


def csv_lists(path, x):
    pytest.importorskip("pyarrow")
    lines = (f'"w{i}","{row}"\r\n' for i, row in enumerate(x.tolist()))
    Path(path).write_text("name,v\r\n" + "".join(lines), newline="")


def csv(path, x, header=HEADER, separator=","):
    pytest.importorskip("pyarrow")
    lines = text_rows(x).decode().replace(" ", separator)
    Path(path).write_text(header.replace(",", separator) + lines)


def json_lines(path, x, bare=False):
    pytest.importorskip("pyarrow")
    rows = [{"id": f"w{i}", "v": row, "note": None} for i, row in enumerate(x.tolist())]
    Path(path).write_text("".join(json.dumps(row["v"] if bare else row) + "\n" for row in rows))


def raw(data):
    return lambda path, x: Path(path).write_bytes(data(x))


# name of the file -> (writer, keywords of open_rows, whether it has ids)
FORMATS = {
    "x.npy": (raw(npy_bytes), {}, False),
    "version3.npy": (raw(lambda x: npy_bytes(x, version=(3, 0))), {}, False),
    "column_major.npy": (raw(lambda x: npy_bytes(np.asfortranarray(x))), {}, False),
    "without_suffix": (raw(npy_bytes), {}, False),
    "x.npy.gz": (raw(lambda x: gzip.compress(npy_bytes(x))), {}, False),
    "x.npz": (lambda path, x: npz(path, x, False), {}, False),
    "compressed.npz": (lambda path, x: npz(path, x, True), {"name": "x"}, False),
    "column_major.npz": (npz_column_major, {}, False),
    "x.safetensors": (raw(lambda x: safetensors_bytes(a=("F32", x[0]), b=("F32", x))), {}, False),
    "x.fvecs": (raw(vecs), {}, False),
    "x.fbin": (raw(lambda x: struct.pack("<II", *x.shape) + x.tobytes()), {}, False),
    "x.raw": (raw(lambda x: b"head" + x.tobytes()), {"dtype": "f4", "shape": DIM, "offset": 4}, False),
    "raw.bin": (raw(lambda x: x.tobytes()), {"dtype": "f4", "shape": (-1, DIM)}, False),
    "numbers.txt": (raw(lambda x: text_rows(x, [""] * len(x))), {}, False),
    "glove.txt": (raw(text_rows), {}, True),
    "glove.txt.gz": (raw(lambda x: gzip.compress(text_rows(x))), {}, True),
    "word2vec.vec": (raw(lambda x: f"{COUNT} {DIM}\n".encode() + text_rows(x).replace(b"\n", b" \n")), {}, True),
    "crlf.vec": (raw(lambda x: f"{COUNT} {DIM}\r\n".encode() + text_rows(x).replace(b"\n", b"\r\n")), {}, True),
    "word2vec.bin": (raw(binary_words), {}, True),
    "gensim.bin": (raw(lambda x: binary_words(x, b"")), {}, True),
    "word2vec.bin.gz": (raw(lambda x: gzip.compress(binary_words(x))), {}, True),
    "lists.parquet": (parquet, {"name": "v"}, True),
    "columns.parquet": (lambda path, x: parquet(path, x, False), {"name": "e"}, True),
    "fixed.parquet": (parquet_fixed, {"ids": "id"}, "integers"),
    "x.h5": (hdf5, {}, True),
    "x.csv": (csv, {"dtype": np.float32}, True),
    "x.tsv": (lambda path, x: csv(path, x, separator="\t"), {"dtype": "f4"}, True),
    "headless.csv": (lambda path, x: csv(path, x, header=""), {"dtype": "f4"}, True),
    "lists.csv": (csv_lists, {"name": "v", "dtype": "f4"}, True),
    "x.jsonl": (json_lines, {"dtype": "f4"}, True),
    "bare.ndjson": (lambda path, x: json_lines(path, x, True), {"dtype": "f4"}, False),
}


@pytest.fixture
def x(rng):
    return rng.standard_normal((COUNT, DIM)).astype(np.float32)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader, "PIECE", 3000)  # many pieces of each file


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_its_rows(name, x):
    write, keywords, has_ids = FORMATS[name]
    write(name, x)
    with cossim.open_rows(name, **keywords) as rows:
        assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == ((COUNT, DIM), np.float32, 2, COUNT)
        assert name in repr(rows) and f"{COUNT} rows" in repr(rows)
        for index in (slice(None), slice(100, 250), slice(250, 20, -7), slice(40, 40), 5, -1, [7, 200, 7, -3]):
            np.testing.assert_array_equal(rows[index], x[index], strict=True)
        np.testing.assert_array_equal(rows[3:9, 1:4], x[3:9, 1:4])
        np.testing.assert_array_equal(rows[x[:, 0] > 1], x[x[:, 0] > 1])
        np.testing.assert_array_equal(list(rows), x)
        np.testing.assert_array_equal(np.asarray(rows), x, strict=True)
        assert (rows.ids is not None) == bool(has_ids)
        if has_ids:
            wanted = np.arange(COUNT) if has_ids == "integers" else [f"w{i}" for i in range(COUNT)]
            np.testing.assert_array_equal(rows.ids, wanted)
        copy = pickle.loads(pickle.dumps(rows))
        same(cossim.topk(rows, None, 3, memory=1), cossim.topk(x, None, 3))
        same(cossim.topk(x[:7], copy, 3, memory=1), cossim.topk(x[:7], x, 3))
        same(cossim.pairs_above(rows, 0.7, memory=1), cossim.pairs_above(x, 0.7))
        same([cossim.duplicate_groups(rows, 0.8, memory=1)], [cossim.duplicate_groups(x, 0.8)])
        same(cossim.Index(rows).topk(rows, 2, memory=1), cossim.topk(x, x, 2))
        same([cossim.pairwise(rows), cossim.normalize(rows)], [cossim.pairwise(x), cossim.normalize(x)])
    with pytest.raises(ValueError, match=r"\bclosed\b"):
        rows[0]
    if not keywords:
        same(cossim.topk(name, x, 3), cossim.topk(x, x, 3))


@pytest.mark.parametrize("kind", ["list", "folder", "pattern"])
@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".txt"])
def test_shards_are_one_set_of_rows(x, kind, suffix):
    os.mkdir("shards")
    write = FORMATS[{".npy": "x.npy", ".parquet": "lists.parquet", ".txt": "glove.txt"}[suffix]][0]
    parts = [x[:40], x[40:41], x[41:41], x[41:]]
    if suffix == ".txt":
        parts[2:3] = []  # an empty file of text has no D
    for number, part in enumerate(parts):
        write(f"shards/part-{number}{suffix}", part)
    Path("shards/_SUCCESS").touch()
    paths = {"list": sorted(Path("shards").glob("p*")), "folder": "shards", "pattern": f"shards/part-*{suffix}"}[kind]
    rows = cossim.open_rows(paths, "v" if suffix == ".parquet" else None)
    for index in (slice(None), slice(39, 43), slice(0, 40), -1):
        np.testing.assert_array_equal(rows[index], x[index], strict=True)
    if suffix == ".npy":
        assert rows.ids is None
    else:
        assert rows.ids[:40].tolist() == [f"w{i}" for i in range(40)] and len(rows.ids) == COUNT
    same(cossim.topk(rows, None, 2, memory=1), cossim.topk(x, None, 2))


def test_every_dtype_of_a_format_is_kept(x):
    """Each dtype of a format is read without a conversion."""
    for name, dtype in {"F64": "f8", "F16": "f2", "I8": "i1", "U16": "u2", "I64": "i8", "BOOL": "?"}.items():
        array = (x > 0).astype(dtype) * 3
        Path("x.safetensors").write_bytes(safetensors_bytes(x=(name, array.astype(dtype))))
        np.testing.assert_array_equal(cossim.open_rows("x.safetensors")[:], array.astype(dtype), strict=True)
    for suffix, dtype in {".bvecs": np.uint8, ".ivecs": np.int32}.items():
        array = (x * 10).astype(dtype)
        Path("x" + suffix).write_bytes(vecs(array))
        np.testing.assert_array_equal(cossim.open_rows("x" + suffix)[:], array, strict=True)
        same(cossim.topk("x" + suffix, None, 2, memory=1), cossim.topk(array, None, 2))
    for suffix, dtype in {".u8bin": np.uint8, ".i8bin": np.int8, ".ibin": np.int32}.items():
        array = (x * 10).astype(dtype)
        Path("x" + suffix).write_bytes(struct.pack("<II", *x.shape) + array.tobytes())
        np.testing.assert_array_equal(cossim.open_rows("x" + suffix)[:], array, strict=True)


@pytest.mark.parametrize("installed", [True, False])
def test_bfloat16(x, installed, monkeypatch):
    half = x.astype(ml_dtypes.bfloat16)
    Path("x.safetensors").write_bytes(safetensors_bytes(x=("BF16", half)))
    np.save("x.npy", half)
    np.testing.assert_array_equal(cossim.open_rows("x.npy", dtype=ml_dtypes.bfloat16)[:], half, strict=True)
    if not installed:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    rows = cossim.open_rows("x.safetensors")
    np.testing.assert_array_equal(rows[:], half if installed else half.astype(np.float32), strict=True)
    same(cossim.topk(rows, None, 3, memory=1), cossim.topk(half, None, 3))


def test_words_of_any_kind():
    """Words may contain spaces, be numbers or be missing; D is the length of most rows."""
    lines = ["the 1 2 3", ". . . 4 5 6", "1990 7 8 9", "at 3 1 1 1", " 2 2 2", "naïve -1 0 1e-2"]
    Path("x.txt").write_text("\n".join(lines))
    rows = cossim.open_rows("x.txt")
    assert rows.ids.tolist() == ["the", ". . .", "1990", "at 3", "", "naïve"]
    np.testing.assert_array_equal(rows[3:], np.float32([[1, 1, 1], [2, 2, 2], [-1, 0, 0.01]]))
    assert cossim.open_rows("x.txt", dtype=float).dtype == np.float64
    Path("x.txt").write_text("the 1 2 3\n5 1 2\nto 1 2 3\n")
    with pytest.raises(ValueError, match=r"x\.txt\b.*\brow 1\b.*\b3\b"):
        cossim.open_rows("x.txt")[:]


def test_columns_of_tables():
    pytest.importorskip("pyarrow")
    x = np.arange(12.0).reshape(3, 4) / 8
    np.savetxt("x.csv", x, delimiter=",")
    np.testing.assert_array_equal(cossim.open_rows("x.csv")[:], x)
    Path("x.csv").write_text(",0,1\na,.5,1\nb,2,3\n")  # as pandas writes a frame and its index
    np.testing.assert_array_equal(cossim.open_rows("x.csv")[:], [[0.5, 1], [2, 3]])
    assert cossim.open_rows("x.csv").ids.tolist() == ["a", "b"]
    Path("x.csv").write_text("id,v\na,[0.5 2.]\n")  # as pandas writes a column of NumPy arrays
    with pytest.raises(ValueError, match=r"^x\.csv: a list in column 'v' cannot be read, .*: write lists of numbers"):
        cossim.open_rows("x.csv")
    Path("x.csv").write_text("id,width,height\n7,1,2\n9,3,nan\n")
    np.testing.assert_array_equal(cossim.open_rows("x.csv")[:], [[1, 2], [3, np.nan]])
    assert cossim.open_rows("x.csv").ids.tolist() == [7, 9]
    assert cossim.open_rows("x.csv", ids="width").ids.tolist() == [1, 3]
    Path("x.csv").write_text("code,x,year\nB7,1,n/a\n12,2,n/a\n")  # code: half are numbers; year: all are missing
    assert cossim.open_rows("x.csv", "x", ids="code").ids.tolist() == ["B7", "12"]
    Path("x.csv").write_text("film,x0,x1\nBrazil,1,2\n1984,3,4\nAlien,3,4\n")  # a film called 1984
    assert cossim.open_rows("x.csv").ids.tolist() == ["Brazil", "1984", "Alien"]
    Path("x.csv").write_text("x0,x1,age\n1,2,3\n4,5,6\n")
    with pytest.raises(ValueError, match=r"\bx\.csv\b.* 2 .*'x', '\*'"):
        cossim.open_rows("x.csv")
    assert [cossim.open_rows("x.csv", name).shape[1] for name in ("x", "*", "age")] == [2, 3, 1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "", "no rows"),
        ("x.csv", "a,a\n1,2\n", "'a'"),
        ("x.csv", "a,b\n1,2\n3,\n", r"\brow 1\b.*\bmissing\b"),
        ("x.csv", "a,b\n1,2\n3,4,5\n", r"\bx\.csv\b.*\bdamaged\b"),
        ("x.csv", "a,b\n1,2\n3,n/a\n", r"row 1 has 'n/a' in column 'b'.*: correct it or leave the row out, or"),
        ("x.csv", "a,b\n" + "1,2\n" * 30 + "3,four\n", r"\brow 30\b.*'four'.*'b'"),
        ("x.csv", "a,b\n" + "1,NA\n" * 30, r"\brow 0\b.*'NA'.*'b'"),
        ("x.csv", "code,a\nB7,2\n14,3\n", r"\brow 0\b.*'B7'.*'code'.*\bids\b"),
        ("x.csv", 'v\n"[1, 2]"\n"[1, 2, 3]"\n', r"\brow 1\b.* 3 .* 2\b"),
        ("x.jsonl", "", "no rows"),
        ("x.jsonl", "1\n", "object"),
        ("x.jsonl", "[1, 2]\n[3, null]\n" * 20, r"x\.jsonl"),
        ("x.jsonl", '{"v": [1, 2]}\n' * 30 + '{"v": [1, null]}\n', r"\brow 30\b.*\bmissing\b"),
        ("x.jsonl", '{"v": [1, 2]}\n' * 30 + '{"v": [1]}\n', r"\brow 30\b.* 1 .* 2\b"),
        ("x.jsonl", '{"a": 1, "b": 2}\n{"a": 1, "b": "n/a"}\n', r"\brow 1\b.*'n/a'.*'b'"),
        ("x.jsonl", '{"a": 1, "b": 2}\n' * 30 + '{"a": 1, "b": "four"}\n', r"\brow 30\b.*'four'.*'b'"),
        ("x.jsonl", '{"a": 1, "b": 2}\n' * 30 + "{bad\n", r"\bx\.jsonl\b.*\bdamaged\b.*\bparse\b"),
        ("x.jsonl", '{"a": 1}\n' * 30 + "[" * 100_000 + "\n", r"\bx\.jsonl\b.*\bdamaged\b.*\bparse\b"),
        ("x.csv", "a,b\n" + "1,2\n" * 30 + "3," + "x" * 200_000 + "\n", r"\bx\.csv\b.*\bdamaged\b"),
        ("x.jsonl", '{"v": [1, 2]} {"v": [1, 2]}\n' * 30, r"x\.jsonl"),
        ("x.jsonl", '{"v": [1, 2]}\n' * 30 + '{"v": [1, 2]} {"v": [1, 2]}\n', r"\brows from 0\b.*\(32, 2\)"),
    ],
)
def test_tables_that_hold_no_rows_of_vectors_are_refused(name, text, message):
    pytest.importorskip("pyarrow")
    Path(name).write_text(text)
    with pytest.raises(ValueError, match=message):
        cossim.open_rows(name)[:]


def test_long_lines_are_refused(monkeypatch):
    monkeypatch.setattr(reader, "LONGEST_LINE", 2 << 20)
    Path("x.txt").write_bytes(b"a 1 2\n" + b"1" * (3 << 20))
    with pytest.raises(ValueError, match=r"\brow 1\b.* 2 MiB\b"):
        cossim.open_rows("x.txt")


def test_files_cut_short(x):
    """A file cut at any byte is an error. A mapped file is refused when it is opened, so no page is missing later."""
    names = ["x.npy", "x.npy.gz", "x.npz", "compressed.npz", "x.safetensors", "x.fbin", "word2vec.bin", "gensim.bin"]
    for name in [*names, "word2vec.bin.gz", "glove.txt.gz", "lists.parquet", "x.h5"]:
        write, keywords, _ = FORMATS[name]
        if name.endswith((".parquet", ".h5")):
            pytest.importorskip("pyarrow")
            pytest.importorskip("h5py")
        write(name, x)
        data = Path(name).read_bytes()
        for size in (0, 1, 7, 20, len(data) // 2, len(data) - 9, len(data) - 2):
            Path(name).write_bytes(data[:size])
            with pytest.raises((ValueError, OSError), match=name.split(".")[0]):
                cossim.open_rows(name, **keywords)[:]
    for name, data in {"x.vec": b"3 2\na 1 2\nb 1 2\n", "x.bin": binary_words(x).replace(b"300", b"299", 1)}.items():
        Path(name).write_bytes(data)
        with pytest.raises(ValueError, match=r"\bheader\b.* (3|299) rows"):
            cossim.open_rows(name)


def test_lines_of_two_numbers_have_no_header():
    Path("pairs.txt").write_text("1 2\n3 4\n5 6\n")
    np.testing.assert_array_equal(cossim.open_rows("pairs.txt")[:], [[1, 2], [3, 4], [5, 6]])
    Path("words.txt").write_text("2 2\na 3 4\nb 5 6\n")
    np.testing.assert_array_equal(cossim.open_rows("words.txt")[:], [[3, 4], [5, 6]])


def test_headers_that_do_not_fit_the_file_are_refused(x):
    for name, data in {
        "x.fbin": struct.pack("<II", 2**32 - 1, 2**32 - 1) + bytes(80),
        "x.fvecs": struct.pack("<i", 2**31 - 1) + bytes(80),
        "y.fvecs": struct.pack("<i", -1) + bytes(80),
        "x.bin": b"999999999999999999 999999999\n" + bytes(80),
        "x.vec": b"999999999999999999 3\nking 1 2 3\n",
        "x.npy.gz": gzip.compress(npy_bytes(x).replace(b"(300, 8), }  ", b"(10**9, 8), }")),
        "y.npy.gz": gzip.compress(npy_bytes(x).replace(b"(300, 8), }        ", b"(300000000, 8), }  ")),
        "x.safetensors": struct.pack("<Q", 2**63) + bytes(80),
        "y.safetensors": struct.pack("<Q", 2) + b"[]" + bytes(80),
        "z.safetensors": safetensors_bytes(x=("F32", x)).replace(b"[0, 9600]", b"[8, 9608]"),
    }.items():
        Path(name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            cossim.open_rows(name)
    np.savez("x.npz", x)
    with zipfile.ZipFile("x.npz", "a") as archive:
        info = zipfile.ZipInfo("y.npy")
        archive.writestr(info, npy_bytes(x)[:-100])
    assert cossim.open_rows("x.npz", "arr_0").shape == x.shape
    with pytest.raises(ValueError, match="x.npz"):
        cossim.open_rows("x.npz", "y")


def test_changed_bytes(x, rng):
    """A small file with any changed byte gives a documented error or rows of the promised shape."""
    small, accepted, refused = x[:6], 0, 0
    # The HDF5 library itself has no promise for damaged files: see docs/files.md.
    names = [name for name in FORMATS if not name.startswith(("without", "version", "raw", "x.h5"))]
    for name in names:
        write, keywords, _ = FORMATS[name]
        try:
            write(name, small)
        except pytest.skip.Exception:
            continue
        data = Path(name).read_bytes()
        for _ in range(25):
            changed = bytearray(data)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                changed[place] = rng.choice([0, 255, 10, 32, 48, changed[place] ^ (1 << rng.integers(8))])
            if rng.random() < 0.2:
                del changed[rng.integers(len(changed)) :]
            Path(name).write_bytes(changed)
            try:
                rows = cossim.open_rows(name, **keywords)
                found = rows[:] if rows.shape[0] * rows.shape[1] < 10**6 else rows
                accepted += 1
            except (ValueError, OSError, MemoryError) as error:
                message = name if isinstance(error, MemoryError) else str(error)
                refused += 1
            else:
                assert (found.shape, found.dtype) == (rows.shape, rows.dtype)
                continue
            assert name.split(".")[0] in message
    assert accepted and refused


# ---- objects with slices ----


class Slices:
    """Rows that are read in slices, and count the bytes that are alive at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, rows):
        block = np.array(self.array[rows])
        self.most = max(self.most, block.nbytes)
        return block


@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.int8])
def test_objects_in_slices(rng, dtype):
    x = (3 * rng.standard_normal((3000, 16))).astype(dtype)
    rows = Slices(x)
    memory = 3000 * 16 * x.itemsize // 2
    same(cossim.topk(rows, None, 4, memory=memory), cossim.topk(x, None, 4))
    same(cossim.topk(x[:9], rows, 4, memory=memory), cossim.topk(x[:9], x, 4))
    same(cossim.topk(rows, rows, 4, memory=memory), cossim.topk(x, x, 4))
    same(cossim.pairs_above(rows, 0.8, x[:50], memory=memory), cossim.pairs_above(x, 0.8, x[:50]))
    same(cossim.Index(x[:50]).topk(rows, 4, memory=memory), cossim.topk(x, x[:50], 4))
    assert rows.most <= memory // 2


def test_every_search_of_objects_in_slices(rng):
    """Each result equals the result of the same rows in memory."""
    x = rng.standard_normal((1500, 4)).astype(np.float32)
    rows = Slices(x)
    same(cossim.diverse(x[:2], rows, 5), cossim.diverse(x[:2], x, 5))
    same(cossim.diverse(rows[3], rows, 5, fetch=20), cossim.diverse(x[3], x, 5, fetch=20))
    same(cossim.top_pairs(rows, 9, memory=1), cossim.top_pairs(x, 9))
    same(cossim.deduplicate(rows, 0.99), cossim.deduplicate(x, 0.99))
    same(cossim.communities(rows, 0.99, 3, memory=1), cossim.communities(x, 0.99, 3))


@pytest.mark.parametrize("suffix", [".npy", ".csv"], ids=["mapped", "by blocks"])
def test_a_path_means_the_rows_of_its_file(x, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    else:
        pytest.importorskip("pyarrow")
        path.write_text(HEADER.removeprefix("id,") + "\n".join(",".join(map(repr, row)) for row in x.tolist()))
        x = np.asarray(cossim.open_rows(path))
    for given in (path, str(path)):
        for function in (cossim.pairwise, cossim.normalize, cossim.vector_norm):
            np.testing.assert_array_equal(function(given), function(x))
        for function in (cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot, cossim.pairwise):
            np.testing.assert_array_equal(function(given, x[0]), function(x, x[0]))
            np.testing.assert_array_equal(function(x, given), function(x, x))
        assert str(cossim.explain(given, x[0])) == str(cossim.explain(x, x[0]))


def test_errors_of_slices_come_through(x):
    class Broken(Slices):
        def __getitem__(self, rows):
            if rows.start >= 256:
                raise OSError("the disk is gone")
            return super().__getitem__(rows)

    with pytest.raises(OSError, match="the disk is gone"):
        cossim.topk(x, Broken(x), 3, memory=1)


@pytest.mark.parametrize("package", ["h5py", "zarr"])
def test_datasets_of_other_packages(package, x):
    module = pytest.importorskip(package)
    if package == "h5py":
        file = module.File("x.h5", "w")
        dataset = file.create_dataset("x", data=x, chunks=(50, 8))
    else:
        dataset = module.open_array("x.zarr", mode="w", shape=x.shape, chunks=(50, 8), dtype=x.dtype)
        dataset[:] = x
    same(cossim.topk(dataset, None, 3, memory=1), cossim.topk(x, None, 3))
    same(cossim.topk(x[:5], dataset, 3, memory=1), cossim.topk(x[:5], x, 3))
    same([cossim.pairwise(dataset)], [cossim.pairwise(x)])
    if package == "h5py":
        file.close()
        with pytest.raises(ValueError, match=r"^topk\(\): corpus is a dataset of a file that is closed: open the file"):
            cossim.topk(x[:5], dataset, 3)
        with pytest.raises(ValueError, match=r"^pairwise\(\): y is a dataset of a file that is closed: open the file"):
            cossim.pairwise(x[:5], dataset)


def test_dask_arrays_of_files(x):
    da = pytest.importorskip("dask.array")
    text_rows_path = Path("x.txt")
    text_rows_path.write_bytes(text_rows(x))
    array = da.from_array(cossim.open_rows("x.txt"), chunks=(100, -1))
    same([array.compute(scheduler="threads")], [x])
    found = cossim.topk(array, "x.txt", 3)
    same([part.compute(scheduler="threads") for part in found], cossim.topk(x, x, 3))


# ---- files that other packages wrote ----


def test_gensim(x):
    models = pytest.importorskip("gensim.models")
    vectors = models.KeyedVectors(DIM)
    words = [f"w{i}" for i in range(COUNT - 1)] + ["naïve"]
    vectors.add_vectors(words, x)
    for path, options in {"g.txt": {}, "g.bin": {"binary": True}, "h.txt": {"write_header": False}}.items():
        vectors.save_word2vec_format(path, **options)
        rows = cossim.open_rows(path)
        assert rows.ids.tolist() == vectors.index_to_key
        np.testing.assert_array_equal(rows[:], vectors.vectors, strict=True)


def test_safetensors_and_torch_files(x):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file({"a": x, "b": x[:, :3].copy(), "c": x[0].copy()}, "x.safetensors", {"made": "here"})
    np.testing.assert_array_equal(cossim.open_rows("x.safetensors", "b")[:], x[:, :3], strict=True)
    with pytest.raises(ValueError, match="'a', 'b'"):
        cossim.open_rows("x.safetensors")
    cossim.Index(x).save("x.index.safetensors")
    np.testing.assert_array_equal(cossim.open_rows("x.index.safetensors", "corpus")[:], x, strict=True)


GENSIM_FILES = ["test_glove.txt", "euclidean_vectors.bin", "lee_fasttext.vec", "poincare_vectors.bin", "toy-model.vec"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # gensim leaves a file open
@pytest.mark.parametrize("name", GENSIM_FILES)
def test_files_that_gensim_ships(name):
    """They were written by word2vec, GloVe, fastText and gensim."""
    gensim = pytest.importorskip("gensim")
    path = Path(gensim.__file__).parent / "test/test_data" / name
    if not path.exists():
        pytest.skip("this gensim has no test data")
    load = gensim.models.KeyedVectors.load_word2vec_format
    vectors = load(str(path), binary=path.suffix == ".bin", no_header="glove" in name)
    rows = cossim.open_rows(path)
    assert rows.ids.tolist() == vectors.index_to_key
    np.testing.assert_array_equal(rows[:], vectors.vectors, strict=True)


def test_faiss(x):
    vecs_io = pytest.importorskip("faiss.contrib.vecs_io")
    vecs_io.fvecs_write("x.fvecs", x)
    vecs_io.ivecs_write("x.ivecs", (10 * x).astype(np.int32))
    np.testing.assert_array_equal(cossim.open_rows("x.fvecs")[:], x)
    np.testing.assert_array_equal(cossim.open_rows("x.ivecs")[:], (10 * x).astype(np.int32))


@pytest.mark.parametrize("given", [np.eye(2), [np.eye(2)], [[1, 2]]], ids=["array", "list of arrays", "lists"])
def test_arrays_are_not_paths(given):
    with pytest.raises(
        TypeError, match=r"open_rows\(\): path_or_paths must be .* pass arrays to the functions themselves"
    ):
        cossim.open_rows(given)


def test_the_column_of_vectors_is_not_a_column_of_ids(tmp_path):
    pytest.importorskip("pyarrow", reason="reads tables")
    (tmp_path / "x.csv").write_text('id,emb\na,"[1, 2]"\nb,"[2, 1]"\n')
    (tmp_path / "x.jsonl").write_text('{"id": "a", "emb": [1, 2]}\n{"id": "b", "emb": [2, 1]}\n')
    for path in (tmp_path / "x.csv", tmp_path / "x.jsonl"):
        with pytest.raises(ValueError, match="nothing named 'emb': choose one of 'id'"):
            cossim.open_rows(path, ids="emb")
        assert cossim.open_rows(path, ids="id").ids.tolist() == ["a", "b"]
