"""Helpers of the tests of index files: list folders, expect refusals, read files as documented, and forge files."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from cossim.search.index_file import read

# Files that cossim wrote when it wrote version 1 of the format: 6 rows of 9 elements, eps=0.5.
VERSION_1 = {path.stem: path for path in sorted((Path(__file__).parents[1] / "search/format_1").iterdir())}


def rows_of_version_1(dtype):
    return (np.arange(54).reshape(6, 9) % 7 % 5).astype(dtype)


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
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end].decode("ascii"))
    metadata = header.pop("__metadata__")
    assert list(metadata)[:4] == ["format", "crc32", "version", "blocks"]
    own = [metadata.pop(key) for key in ("format", "crc32", "version", "blocks")]
    zeroed = data[:end].replace(b'"crc32":"' + own[1].encode(), b'"crc32":"00000000', 1)
    assert own == ["cossim index", f"{zlib.crc32(zeroed):08x}", "2", checksums(data[end:])]
    stop, arrays = end, {}
    for name, entry in header.items():
        start, size = stop, entry["data_offsets"][1] - entry["data_offsets"][0]
        stop = start + size
        assert [start - end, stop - end] == entry["data_offsets"]
        if name.endswith(".padding"):
            assert (entry["dtype"], entry["shape"], data[start:stop]) == ("U8", [size], bytes(-start % 64))
        else:
            assert start % 64 == 0
            arrays[name] = entry, data[start:stop]
    assert stop == len(data)
    return metadata, arrays


def put(path, data):
    path.unlink(missing_ok=True)  # truncating and rewriting a file waits for the disk on some systems
    path.write_bytes(data)


BODY = np.arange(16, dtype=np.float32).tobytes()


def checksums(data):
    """The checksums of the blocks of all bytes after the header, as the header has them."""
    return "".join(f"{zlib.crc32(data[at : at + 2**24]):08x}" for at in range(0, len(data), 2**24))


def header(dtype="F32", shape=(4, 4), version="2", blocks=None, body=BODY):
    """The header of a file with one array, "x", as text. The checksum of the header is missing."""
    blocks = checksums(body) if blocks is None else blocks
    metadata = {"format": "cossim index", "crc32": "00000000", "version": version, "blocks": blocks}
    entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [0, len(body)]}
    return json.dumps({"__metadata__": metadata, "x": entry}, separators=(",", ":"))


def forged(text, body=BODY):
    """The bytes of a file with the right checksum of any header, given as text, bytes or an object for JSON."""
    data = json.dumps(text, separators=(",", ":")) if isinstance(text, dict) else text
    data = data.encode() if isinstance(data, str) else data
    data += b" " * (-(8 + len(data)) % 64)
    data = struct.pack("<Q", len(data)) + data[:50] + b"00000000" + data[58:]
    return data[:58] + f"{zlib.crc32(data):08x}".encode() + data[66:] + body


def forge(path, text, body=BODY):
    put(path, forged(text, body))
