"""Files that write() did not write, or that changed since, are refused."""

import json
import os
import random
import re
import shutil
import stat
import tracemalloc

import numpy as np
import pytest
from conftest import not_emulated
from index_files import BODY, VERSION_1, checksums, files_in, forge, header, put, refused

from cossim.search import index_file
from cossim.search.index_file import read, write

# ---- damaged files ----


@pytest.fixture(params=["version 1", "version 2"])
def small(rng, tmp_path, request):
    """(path of a file below 2 KB with several arrays, its bytes, the range of the bytes of its arrays)."""
    path = tmp_path / "index"
    if request.param == "version 1":
        shutil.copyfile(VERSION_1["float32"], path)
        data = path.read_bytes()
        return path, data, range(64, int.from_bytes(data[16:24], "little"))
    arrays = {
        "rows": rng.standard_normal((7, 9)).astype(np.float32),
        "ids": np.arange(7),
        "none": np.zeros((0, 4)),
        "deleted": np.array([True, False] * 3 + [True]),
    }
    write(path, {"metric": "cosine"}, arrays)
    data = path.read_bytes()
    assert len(data) < 2000
    return path, data, range(8 + int.from_bytes(data[:8], "little"), len(data))


@pytest.mark.parametrize("mmap", [True, False])
def test_every_flipped_bit_is_found(small, mmap):
    """Flips every bit of a mapped file, and one bit of every byte of a file that is read."""
    path, data, contents = small
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(data):
            for bit in range(8) if mmap else [at % 8]:
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
                message = refused(path, mmap=mmap)
                if at in contents:
                    assert re.match(r"damaged: bytes \d+ to \d+ .*\bchecksum\b", message)
                    read(path, mmap=mmap, verify=False)
                else:
                    assert message.startswith(("damaged", "cut off", "not an index"))
                    refused(path, mmap=mmap, verify=False)
            os.pwrite(file.fileno(), bytes([byte]), at)
    read(path, mmap=mmap)


def test_every_truncated_file_is_refused(small):
    path, data, _ = small
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        for options in ({}, {"mmap": False, "verify": False}):
            assert refused(path, **options).startswith("cut off" if length >= 58 else ("cut off", "not an index file"))


@pytest.mark.parametrize("more", [b"\0", b"\n", bytes(64), bytes(5000), b"{}"], ids=len)
def test_every_extended_file_is_refused(small, more):
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


def test_the_message_says_where_the_damage_is(tmp_path):
    path = tmp_path / "index"
    write(path, {}, {"ids": np.arange(3), "rows": np.zeros((5, 2**22), np.float32)})
    with open(path, "r+b") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        file.seek(start + 64 + 2**25 + 4)
        file.write(b"\1")
    assert refused(path).startswith(f"damaged: bytes {start + 2**25} to {start + 3 * 2**24 - 1} ")
    assert read(path, verify=False)[1]["rows"].ravel()[2**23 + 1] != 0


@pytest.mark.parametrize("mmap", [True, False])
def test_cut_off_while_it_is_read(small, monkeypatch, mmap):
    path, _, _ = small
    check = index_file._check_size
    monkeypatch.setattr(index_file, "_check_size", lambda *args: (check(*args), os.truncate(path, 100)))
    assert re.match(r"cut off\D*$", refused(path, mmap=mmap))


def test_folders_and_devices_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="'.*missing'"):
        read(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="'.*missing/index'"):
        write(tmp_path / "missing/index", {}, {})
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises((IsADirectoryError, ValueError), match=rf"{os.path.basename(path)}'"):
            read(path)
        with pytest.raises(OSError, match=rf"\bregular file\b.*{os.path.basename(path)}'"):
            write(path, {}, {})
    assert files_in(tmp_path) == ["pipe"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# ---- hostile files: all checksums are right ----


def test_the_forged_file_would_be_read(tmp_path):
    forge(tmp_path / "index", header())
    assert read(tmp_path / "index")[1]["x"].ravel().tolist() == list(range(16))


ENTRIES = {
    "dtype": ["F33", "F128", "O", "float32", "<f4", "C64", "F16", 4, None, [], {}, ...],
    "shape": [[4, 5], [16, -1], [-4, -4], [2**63, 2], [2**62, 2**62], [0, 2**63], [4.0, 4], [True, 16], ["4", 4], 16]
    + [None, {}, [[4, 4]], [1] * 33 + [16], [0], [], [10**90, 4], [1, 4, 5], ...],
    "data_offsets": [[0, 63], [0, 65], [1, 65], [64, 128], [-64, 0], [0, 2**63], [0, 10**90], [0.0, 64], [0, 64, 64]]
    + ["0, 64", None, True, [], [64, 0], {}, ...],
    "more": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in ENTRIES for value in ENTRIES[key]])
def test_hostile_arrays_are_refused(tmp_path, key, value):
    whole = json.loads(header())
    whole["x"][key] = value
    if value is ...:
        del whole["x"][key]
    forge(tmp_path / "index", whole)
    for mmap in (True, False):
        assert re.search(r"\bheader\b", refused(tmp_path / "index", mmap=mmap, verify=False))


METADATA = {
    "format": ["cossim", "cossim index ", 1, None, ...],
    "crc32": [0, None, ...],
    "version": [2, None, [], ...],
    "blocks": ["", "0" * 7, "0" * 9, "0" * 16, 0, None, [], ...],
    "eps": [1, None, [], {}, 0.5, True],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in METADATA for value in METADATA[key]])
def test_hostile_metadata_is_refused(tmp_path, key, value):
    whole = json.loads(header())
    whole["__metadata__"][key] = value
    if value is ...:
        del whole["__metadata__"][key]
    forge(tmp_path / "index", whole)
    assert refused(tmp_path / "index", verify=False).startswith(("damaged", "not an index"))


@pytest.mark.parametrize("shape", [[0, 2**59 - 1], [2**59 - 1, 0], [0] * 32])
def test_empty_arrays_as_large_as_they_may_be(tmp_path, shape):
    forge(tmp_path / "index", header(shape=shape, body=b""), b"")
    for mmap in (True, False):
        assert read(tmp_path / "index", mmap=mmap)[1]["x"].shape == tuple(shape)
    forge(tmp_path / "index", header(shape=[0, 2**59], body=b""), b"")
    assert re.search(r"\bheader\b", refused(tmp_path / "index"))


START = header()[: header().index('"crc32"')]
HEADERS = {
    "no object": ["[]", "1", "null", '"x"', "", " ", "{", "{}", '{"__metadata__":{}}', '{"__metadata__":null}'],
    "cut off": [header()[:at] for at in range(50, len(header()))],
    "duplicate keys": [header()[:-1] + ',"x":{}}', header().replace('"version"', '"crc32":"00000000","version"')],
    "other order": [header().replace('"dtype":"F32",', "").replace("]}}", '],"dtype":"F32"}}')],
    "spaces": [header().replace(":", ": "), header().replace(",", ", "), header() + "\n", " " + header()],
    "escapes": [header().replace('"x"', text) for text in ('"\\u0078"', '"é"', '"\\u00E9"')],
    "numbers": [
        header().replace("[4,4]", f"[{number},4]")
        for number in ("NaN", "Infinity", "4e0", "4.0", "-4", "04", "+4", "1" * 200, "1" * 10**5, "true", "null")
    ],
    "text": [b"\xff{}", header().encode() + b"\xff", b"\xef\xbb\xbf" + header().encode(), b"\0" * 50],
    "deep": ["[" * 2**19, '{"a":' * 10**5, header()[:-1] + ',"y":' + "[" * 200_000 + "]" * 200_000 + "}"],
    "less deep": [header()[:-1] + ',"y":' + "[" * depth + "]" * depth + "}" for depth in (50, 500, 900, 950, 980)],
    "wide": [header()[:-1] + ',"y":[' + "[]," * 300_000 + "0]}", header()[:-1] + ',"":{}' * 150_000 + "}"],
    "padding": [header().replace('"x"', '"x.padding"'), header()[:-1] + ',"x.padding":{}}'],
}


@pytest.mark.parametrize("kind", HEADERS)
def test_hostile_headers_are_refused(tmp_path, kind):
    for text in HEADERS[kind]:
        forge(tmp_path / "index", text)
        tracemalloc.start()
        try:
            assert refused(tmp_path / "index").startswith(("damaged", "not an index"))
            assert tracemalloc.get_traced_memory()[1] < 60e6
        finally:
            tracemalloc.stop()


def test_arrays_that_do_not_fill_the_file(tmp_path):
    for body in (BODY[:-1], b""):
        forge(tmp_path / "index", header(body=BODY), body)
        assert refused(tmp_path / "index", verify=False).startswith("cut off")
    forge(tmp_path / "index", header(), BODY + bytes(64))
    assert refused(tmp_path / "index", verify=False).startswith("64 bytes too long")


def test_padding_of_other_bytes_is_refused(tmp_path):
    write(tmp_path / "index", {}, {"x": np.ones(3, np.uint8), "y": np.ones(3, np.uint8)})
    data = (tmp_path / "index").read_bytes()
    for at in range(len(data) - 64, len(data) - 3):
        put(tmp_path / "index", data[:at] + b"\1" + data[at + 1 :])
        assert refused(tmp_path / "index").startswith("damaged")


@pytest.mark.parametrize("length", [0, 1, 57, 2**20, 2**20 - 7, 2**63, 2**64 - 1])
def test_hostile_lengths_of_the_header(tmp_path, length):
    forge(tmp_path / "index", header())
    data = (tmp_path / "index").read_bytes()
    put(tmp_path / "index", length.to_bytes(8, "little") + data[8:])
    assert refused(tmp_path / "index", verify=False).startswith(("damaged", "cut off"))


@pytest.mark.parametrize("version", ["0", "3", "10", "next"])
def test_later_versions_are_refused(tmp_path, version):
    """A later version may change everything except the start of the header and its checksum."""
    for text in (header(version=version), header(version=version).replace('"x"', '"more":1,"x"')):
        forge(tmp_path / "index", text)
        assert re.search(rf"version {version}\b.*\bversions 1 and 2\b", refused(tmp_path / "index"))


@pytest.mark.soak
def test_mutated_headers(tmp_path, amount, figures):
    """Headers with replaced tokens and right checksums are refused, or give whole arrays."""
    draw, path, read_at_all, tried = random.Random(0), tmp_path / "index", 0, amount(3000, 100_000)
    y = ',"y":{"dtype":"I8","shape":[64],"data_offsets":[64,128]}}'
    text = header(blocks=checksums(BODY * 2))[:-1] + y
    forge(path, text, BODY * 2)
    assert list(read(path)[1]) == ["x", "y"]
    tokens = re.findall(r'"[^"]*"|\d+|.', text)
    others = [*tokens, *"-0164[]{}", "[]", "{}", "1e3", "NaN", "true", '"', "\\u00e9", "99" * 40]
    for _ in range(tried):
        mutated = list(tokens)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(mutated))
            mutated[at : at + draw.randint(0, 2)] = draw.choices(others, k=draw.randint(0, 2))
        forge(path, "".join(mutated), BODY * 2)
        try:
            _, arrays = read(path, mmap=draw.random() < 0.5, verify=False)
        except ValueError:
            refused(path, verify=False)
        else:
            read_at_all += 1
            assert sum(array.nbytes for array in arrays.values()) == 128
    assert 0 < read_at_all < tried / 2
    figures("mutated headers of index files with right checksums", tried, tried)


@not_emulated
def test_a_huge_file_is_opened_without_being_read(tmp_path):
    """The file has 1 TB, but is sparse: almost nothing is on the disk."""
    path, size = tmp_path / "index", 2**40
    forge(path, header("U8", shape=[size], blocks="0" * 8 * (size // 2**24), body=range(size)), b"")
    try:
        os.truncate(path, path.stat().st_size + size)
    except OSError as error:
        pytest.skip(f"this file system has no such files: {error}")
    found = read(path, verify=False)[1]["x"]
    assert (found.shape, found[-1]) == ((size,), 0)
    assert re.match(r"damaged: bytes \d+ to \d+ ", refused(path))
