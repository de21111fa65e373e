"""Shared helpers of the tests of index files: list a folder, expect a refusal, and read a file as documented."""

import json
import os
import struct
import zlib

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
