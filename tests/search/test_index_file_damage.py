"""Files that write() did not write, or that changed since, are refused."""

import json
import os
import random
import re
import stat
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from conftest import not_emulated
from index_files import BODY, entry, files_in, forge, put, read_as_documented, refused, with_arrays

from cossim.search import index_file
from cossim.search.index_file import read, write

# ---- damaged files ----


@pytest.fixture
def small(rng, tmp_path):
    """(path of a file below 2 KB with all kinds of arrays, its bytes, offsets of the contents of its arrays)."""
    arrays = {
        "rows": rng.standard_normal((7, 9)).astype(np.float32),
        "ids": np.arange(7),
        "none": np.zeros((0, 4)),
        "deleted": np.array([True, False] * 3 + [True]),
    }
    path = tmp_path / "index"
    write(path, {"metric": "cosine"}, arrays)
    entries = [entry for entry, _ in read_as_documented(path)[1].values()]
    contents = {at for entry in entries for at in range(entry["offset"], entry["offset"] + entry["bytes"])}
    assert path.stat().st_size < 2000
    return path, path.read_bytes(), contents


@pytest.mark.parametrize("mmap", [True, False])
def test_every_flipped_bit_is_found(small, mmap):
    path, data, contents = small
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
                message = refused(path, mmap=mmap)
                assert message.startswith(("damaged", "not " if at < 8 else "damaged"))
                if at in contents:
                    assert "checksum" in message and " of array '" in message
                    read(path, mmap=mmap, verify=False)
                else:
                    refused(path, mmap=mmap, verify=False)
            os.pwrite(file.fileno(), bytes([byte]), at)
    read(path, mmap=mmap)


def test_truncated_at_every_length(small):
    path, data, _ = small
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        for options in ({}, {"mmap": False, "verify": False}):
            assert refused(path, **options).startswith("cut off" if length else "not an index file")


@pytest.mark.parametrize("more", [b"\0", b"\n", bytes(64), bytes(5000), b"{}"], ids=len)
def test_extended(small, more):
    path, data, _ = small
    path.write_bytes(data + more)
    assert refused(path, verify=False).startswith(f"{len(more)} bytes ")


def test_bytes_lost_added_or_swapped_within(small):
    path, data, _ = small
    for at in range(0, len(data) - 1, 3):
        others = [data[:at] + data[at + 1 :], data[:at] + b"\0" + data[at:], data[: at + 1] + data[at:]]
        for other in [*others, data[:at] + data[at : at + 2][::-1] + data[at + 2 :]]:
            put(path, other)
            if other != data:
                refused(path)


def test_where_the_damage_is(tmp_path):
    path = tmp_path / "index"
    write(path, {}, {"ids": np.arange(3), "rows": np.zeros((5, 2**22), np.float32)})
    with open(path, "r+b") as file:
        file.seek(128 + 2**25 + 5)
        file.write(b"\1")
    assert re.match(r"damaged: .*\b33554432\b.*\b50331647\b.*'rows'", refused(path))
    assert read(path, verify=False)[1]["rows"].ravel()[2**23 + 1] != 0


@pytest.mark.parametrize("mmap", [True, False])
def test_cut_off_while_it_is_read(small, monkeypatch, mmap):
    path, _, _ = small
    check = index_file._check_padding
    monkeypatch.setattr(index_file, "_check_padding", lambda *args: (check(*args), os.truncate(path, 100)))
    assert re.match(r"cut off\D*$", refused(path, mmap=mmap))


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="'.*missing'"):
        read(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read(tmp_path)
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        write(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError, match="'.*missing/index'"):
        write(tmp_path / "missing/index", {}, {})
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match=r"\bregular\b"):
            read(path)
        with pytest.raises(ValueError, match=r"\bregular\b"):
            write(path, {}, {})
    assert files_in(tmp_path) == ["pipe"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# ---- hostile files: all checksums are right ----


def test_the_forged_file_would_be_read(tmp_path):
    forge(tmp_path / "index", with_arrays(entry()), BODY)
    assert read(tmp_path / "index")[1]["x"].ravel().tolist() == list(range(16))


ENTRIES = {
    "name": [1, None, ["x"], ...],
    "dtype": ["float33", "float128", "O", "object", "<f4", "complex64", 4, None, [], {}, ...],
    "shape": [[4, 5], [16, -1], [-4, -4], [2**63, 2], [2**62, 2**62], [0, 2**63], [4.0, 4], [True, 16], ["4", 4], 16]
    + [None, {}, [[4, 4]], [1] * 33 + [16], [0], [], [10**90, 4], ...],
    "offset": [0, -64, 63, 65, 128, 2**63, 2**64, 10**90, 64.0, "64", None, True, [], ...],
    "bytes": [0, 63, 65, -64, 2**62, 10**90, 64.0, None, "64", ...],
    "crc32": [[], [1, 2], [-1], [2**32], [1.0], [None], 1, "1", None, {}, [True], ...],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in ENTRIES for value in ENTRIES[key]])
def test_hostile_arrays(tmp_path, key, value):
    forge(tmp_path / "index", with_arrays(entry(**{key: value})), BODY)
    for mmap in (True, False):
        assert "its header " in refused(tmp_path / "index", mmap=mmap, verify=False)


@pytest.mark.parametrize("shape", [[0, 2**61 - 1], [2**61 - 1, 0], [0] * 32])
def test_empty_arrays_as_large_as_they_may_be(tmp_path, shape):
    forge(tmp_path / "index", with_arrays(entry(shape=shape, bytes=0, crc32=[])))
    for mmap in (True, False):
        assert read(tmp_path / "index", mmap=mmap)[1]["x"].shape == tuple(shape)
    forge(tmp_path / "index", with_arrays(entry(shape=[0, 2**61], bytes=0, crc32=[])))
    assert "too large" in refused(tmp_path / "index")


HEADERS = {
    "no object": [b"[]", b"1", b"null", b'"x"', b"", b" ", b"{", b'{"header":{}}', b'{"header":{},"arrays":{}}']
    + [b'{"header":{},"arrays":[],"more":1}', b'{"header":[],"arrays":[]}', b'{"header":null,"arrays":[]}'],
    "array": [b'{"header":{},"arrays":[1]}', b'{"header":{},"arrays":[null]}', b'{"header":{},"arrays":[[]]}'],
    "duplicate keys": [b'{"header":{},"header":{},"arrays":[]}', b'{"header":{"a":{"b":1,"b":1}},"arrays":[]}'],
    "numbers": [
        b'{"header":{"a":%s},"arrays":[]}' % number
        for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" * 200, b"1" * 10**6, b"01", b"+1")
    ],
    "text": [b"\xff{}", b'{"header":{"a":"\xff"},"arrays":[]}', b'\xef\xbb\xbf{"header":{},"arrays":[]}', b"\0" * 50],
    "deep": [b"[" * 2**20, b'{"a":' * 200_000, b'{"header":{"a":%s},"arrays":[]}' % (b"[" * 400_000 + b"]" * 400_000)],
    "less deep": [b"[" * depth + b"]" * depth for depth in (50, 500, 700, 900, 950, 980)],
    "wide": [b"[%s0]" % (b"[]," * 349_000), b'{"header":{},"arrays":[%s0]}' % (b"{}," * 349_000)],
}


@pytest.mark.parametrize("kind", HEADERS)
def test_hostile_headers(tmp_path, kind):
    for header in HEADERS[kind]:
        forge(tmp_path / "index", header)
        tracemalloc.start()
        try:
            assert "header" in refused(tmp_path / "index")
            assert tracemalloc.get_traced_memory()[1] < 60e6
        finally:
            tracemalloc.stop()


def test_arrays_that_do_not_fill_the_file(tmp_path):
    path, empty = tmp_path / "index", entry(name="empty", shape=[0], bytes=0, crc32=[], offset=128)
    for entries, body in [
        ([], BODY),  # bytes that belong to no array
        ([entry()], BODY + bytes(64)),
        ([entry()], b""),  # the header overlaps the array
        ([entry(), entry()], BODY),  # two arrays overlap
        ([entry(), entry(name="y")], BODY),
        ([entry(), entry(name="y", offset=192)], BODY * 3),  # a gap
        ([entry(name="y", offset=128), entry()], BODY * 2),  # out of order
        ([entry(), entry(offset=128)], BODY * 2),  # the same name
        ([empty, entry()], BODY),
        ([entry(), {**empty, "offset": 64}], BODY),
    ]:
        forge(path, with_arrays(*entries), body)
        assert "its header" in refused(path, verify=False)
    forge(path, with_arrays(entry(), empty), BODY)
    assert list(read(path)[1]) == ["x", "empty"]


def test_hostile_start(tmp_path):
    path, header = tmp_path / "index", with_arrays(entry())
    forge(path, header, BODY)
    size = path.stat().st_size
    for offset, length in [(2**63, 5), (2**64 - 1, 2**64 - 1), (128, 2**40), (size + 64, 0)]:
        forge(path, header, BODY, offset=offset, length=length)
        assert re.match(rf"cut off: {size}\b.*\b{offset + length}\b", refused(path))
    for offset, length in [(0, size - 1), (0, 0), (64, size - 128), (128, 0)]:
        forge(path, header, BODY, offset=offset, length=length)
        extra = size - offset - length
        assert re.match(rf"{extra} bytes .*\b{size}\b.*\b{offset + length}\b", refused(path))
    for offset, length in [(0, size), (63, size - 63), (127, size - 127)]:
        forge(path, header, BODY, offset=offset, length=length)
        assert re.match(rf"damaged: .*\bheader\b.*\b{length}\b.*\b{offset}\b", refused(path))
    forge(path, header, BODY, offset=64, length=size - 64)
    assert re.match(r"damaged: .*\bheader\b.*\bchecksum\b", refused(path))
    forge(path, b" " * (2**20 + 1))
    assert re.match(rf"damaged: .*\bheader\b.*\b{2**20 + 1}\b.*\b64\b", refused(path))
    for padding in range(1, 64):
        body = np.arange(64 - padding, dtype=np.uint8).tobytes()
        it = entry(dtype="uint8", shape=[len(body)], bytes=len(body), crc32=[zlib.crc32(body)])
        forge(path, with_arrays(it), body + bytes(padding))
        read(path)
        forge(path, with_arrays(it), body + bytes(padding - 1) + b"\1")
        assert re.match(rf"damaged: .*\b{64 + len(body)}\b.*\b127\b", refused(path, verify=False))


@pytest.mark.parametrize("version", [0, 2, 255, 2**32 - 1])
def test_other_versions(tmp_path, version):
    """A later version may change everything except magic, version and the checksum of the start."""
    for options in ({}, {"zeros": b"\1" * 28}, {"offset": 2**60}):
        forge(tmp_path / "index", b"not even JSON", version=version, **options)
        message = refused(tmp_path / "index")
        assert re.match(rf"version {version}\b.*\bversion 1\b", message)
        assert ("newer" in message) == (version > 1)


def test_mutated_headers(tmp_path):
    """Headers with replaced tokens and right checksums are refused, or give whole arrays."""
    draw, path, read_at_all = random.Random(0), tmp_path / "index", 0
    text = json.dumps(with_arrays(entry(), entry(name="y", offset=128, dtype="int8", shape=[64])))
    tokens = [part for part in text.replace(",", " , ").replace(":", " : ").replace("[", "[ ").split(" ") if part]
    others = [*tokens, *"-0164[]{}", "[]", "{}", "1e3", "NaN", "true", '"', "é", "99" * 40]
    for _ in range(3000):
        mutated = list(tokens)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(mutated))
            mutated[at : at + draw.randint(0, 2)] = draw.choices(others, k=draw.randint(0, 2))
        forge(path, " ".join(mutated).encode(), BODY * 2)
        try:
            _, arrays = read(path, mmap=draw.random() < 0.5, verify=False)
        except ValueError:
            refused(path, verify=False)
        else:
            read_at_all += 1
            assert sum(array.nbytes for array in arrays.values()) == 128
    assert 0 < read_at_all < 1500


@not_emulated
def test_a_huge_file_is_opened_without_being_read(tmp_path):
    """The file has 1 TB, but is sparse: almost nothing is on the disk."""
    path, size = tmp_path / "index", 2**40
    it = entry(dtype="uint8", shape=[size], bytes=size, crc32=[0] * (size // 2**24))
    data = json.dumps(with_arrays(it)).encode()
    start = b"\x89COSSIM\n" + struct.pack("<IIQQ", 1, zlib.crc32(data), 64 + size, len(data)) + bytes(28)
    try:
        with open(path, "wb") as file:
            file.write(start + struct.pack("<I", zlib.crc32(start)))
            file.seek(64 + size)
            file.write(data)
    except OSError as error:
        pytest.skip(f"this file system has no such files: {error}")
    found = read(path, verify=False)[1]["x"]
    assert (found.shape, found[-1]) == ((size,), 0)
    assert re.match(r"damaged: .*\b0\b.*\b16777215\b", refused(path))
