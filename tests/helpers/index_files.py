"""Helpers of the tests of index files: list folders, expect refusals, read files as documented, and forge files."""

import json
import os
import struct
import zlib

import numpy as np
import pytest

from cossim.search.index_file import read


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(path, **options):
    """The message of the ValueError that read() must raise: a single line that begins with the path."""
    with pytest.raises(ValueError, match=".") as caught:
        read(path, **options)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert "\n" not in message and message.startswith(f"{os.fspath(path)!r}: ") and len(message) < 500
    return message.removeprefix(f"{os.fspath(path)!r}: ")


def read_as_documented(path):
    """Reads a file by the module's docstring alone, as another program would; returns arrays as bytes."""
    data = path.read_bytes()
    assert data[:8] == bytes.fromhex("89 43 4f 53 53 49 4d 0a")
    assert data[32:60] == bytes(28)
    version, header_crc, offset, length = struct.unpack("<IIQQ", data[8:32])
    assert version == 1
    assert struct.unpack("<I", data[60:64]) == (zlib.crc32(data[:60]),)
    assert len(data) == offset + length
    assert offset % 64 == 0
    assert zlib.crc32(data[offset:]) == header_crc
    header = json.loads(data[offset:])
    end, arrays = 64, {}
    for entry in [*header["arrays"], {"name": None, "offset": offset, "bytes": 0, "crc32": []}]:
        start, end = end, entry["offset"]
        assert end == (start + 63) // 64 * 64 and not any(data[start:end])
        content = data[end : end + entry["bytes"]]
        blocks = [content[at : at + 16777216] for at in range(0, len(content), 16777216)]
        assert [zlib.crc32(block) for block in blocks] == entry["crc32"]
        arrays[entry.pop("name")] = entry, content
        end += entry["bytes"]
    del arrays[None]
    return header["header"], arrays


def put(path, data):
    path.unlink(missing_ok=True)  # truncating and rewriting a file waits for the disk on some systems
    path.write_bytes(data)


def forge(path, header, body=b"", version=1, offset=None, length=None, zeros=bytes(28)):
    """A file with right checksums and any header, given as bytes or as an object for JSON."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    offset, length = 64 + len(body) if offset is None else offset, len(data) if length is None else length
    start = b"\x89COSSIM\n" + struct.pack("<IIQQ", version, zlib.crc32(data), offset, length) + zeros
    put(path, start + struct.pack("<I", zlib.crc32(start)) + body + data)


BODY = np.arange(16, dtype=np.float32).tobytes()


def entry(**changes):
    it = {"name": "x", "dtype": "float32", "shape": [4, 4], "offset": 64, "bytes": 64, "crc32": [zlib.crc32(BODY)]}
    it.update(changes)
    return {key: value for key, value in it.items() if value is not ...}


def with_arrays(*entries):
    return {"header": {}, "arrays": list(entries)}
