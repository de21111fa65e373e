"""Every error message is tested here once, in full; other tests check types, names of arguments and numbers.

tests/helpers/messages.py and messages_networks.py have the tables. A refusal leaves the files as they were. Errors of
the command line also end with a command, which tests/cli/test_suggestions.py checks.
"""

# ruff: noqa: F401 (rows of the table use these names)

import gzip
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict, UserDict
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import arrow_structures as arrow
import dlpack_structures as dlpack
import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT, SAFETENSORS
from index_files import BODY, forge, header
from messages import TABLE
from messages_networks import TABLE as NETWORKS
from public_inputs import npy_bytes

import cossim
from cossim import _errors, nn, simclr
from cossim.__main__ import main
from cossim.cli import demo_command, image_files, result_files, row_files
from cossim.search import index_file

with suppress(ImportError):  # it looks for pyarrow once, when it is imported, and some rows hide pyarrow
    import pandas

ROWS = [row for row in re.sub(r"\n +", " ", TABLE + NETWORKS).splitlines() if row and not row.startswith("#")]
ROWS = [re.fullmatch(r"(.+?) -> (\w+): (.+)", row).groups() for row in ROWS]
X, Y, W = np.ones((6, 4)), np.ones((5, 4)), {"w": np.ones(3)}
P = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
K = np.ones((2, 1, 3, 3), np.float32)


def raises(self):
    raise ValueError("it has no numbers") if not hasattr(self, "requires_grad") else RuntimeError("no")


NoArray = type("NoArray", (), {"__array__": lambda self, *_, **__: raises(self), "__dlpack__": raises})
NeedsGrad = type("NeedsGrad", (NoArray,), {"requires_grad": True})
NoCapsule = type("NoCapsule", (), {"__dlpack__": lambda self, **_: 3})
NoCapsules = type("NoCapsules", (), {"__arrow_c_array__": lambda self: 3})


class WrongSlices:
    """Rows that are read in slices, which have other shapes than they should."""

    shape, dtype = (4, 4), np.dtype(float)

    def __getitem__(self, rows):
        return np.ones((1, 4))


def safetensors_bytes(shape, dtype="F32", data=bytes(8)):
    text = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return len(text).to_bytes(8, "little") + text + data


ROW_FILES = {
    "zip.npy": b"PK\3\4",
    "image.png": b"\x89PNG",
    "rows.json": b"[[1, 2]]",
    "rows.pkl": b"\x80\x04",
    "ragged.fvecs": b"".join(np.int32([size, 0, 0]).tobytes() for size in (2, 1, 2)),
    "cut.fvecs": b"\2\0\0\0\0",
    "cut.fbin": np.uint32([3, 2, 0, 0]).tobytes(),
    "cut.safetensors": safetensors_bytes([1, 3]),
    "bool.safetensors": safetensors_bytes([1, 2], "BOOL", b"\2\0"),
    "flat.safetensors": safetensors_bytes([2]),
    "cube.safetensors": safetensors_bytes([1, 1, 2]),
    "words.txt": b"king 3 4\nqueen 4 x\n" + b"fish 1 2\n" * 30,
    "cut.fvecs.gz": gzip.compress(b"\2\0\0\0\0"),
    "good.txt": b"king 3 4\nqueen 4 3\n",
    "short.txt": b"3 2\nking 3 4\n",
    "wordless.txt": b"to be\n",
    "cut.txt.gz": gzip.compress(b"king 3 4\n" * 100)[:-9],
    "text.bin": b"king 3 4\n",
    "word.bin": b"1 2\n" + b"x" * 70_000,
}


def make_files():
    """Writes the files that the rows of the table name to the current folder."""
    rows = npy_bytes(np.ones((2, 4)))
    pixels = b"\0\0\x08\3\0\0\0\1\0\0\0\x1c\0\0\0\x1c" + bytes(785)
    shape, huge = b"(2, 4), }" + b" " * 20, b"(0, 99999999999999999999), } "
    arrays = {"X": X, "P": P, "flat": np.ones(5), "narrow": np.ones((2, 3)), "complex": np.ones((2, 4), complex)}
    arrays |= {"bfloat16": np.ones((2, 4), "V2"), "none": np.zeros((0, 28, 28)), "nan": np.full((1, 784), np.nan)}
    files = {"text": b"1 2 3\n", "empty": b"", "idx13": b"\0\0\x0d\1\0\0\0\1a", "long": pixels, "cut": rows[:-1]}
    files |= {"objects": rows.replace(b"'<f8'", b"'|O' "), "gzip": b"\x1f\x8b", "short": pixels[:6]}
    files |= {"negative": rows.replace(b"(2, 4)", b"(-2,4)"), "nested": rows.replace(b"}", b"{")}
    files |= {"huge": rows.replace(shape, huge), "version": b"\x93NUMPY\7" + rows[7:]}
    for name, data in (files | {name: npy_bytes(array) for name, array in arrays.items()}).items():
        Path(f"{name}.npy").write_bytes(data)
    Path("array.npz").write_bytes(rows)
    Path("rows.txt").write_text("1 x")
    np.savez("X.npz", X)
    np.savez("two.npz", a=X, b=X, c=np.ones(3))
    sparse = {"shape": [2, 4], "data": np.ones(2), "indices": [0, 1], "indptr": [0, 1, 2], "format": b"csr"}
    for name, change in {"sparse": {}, "bsr": {"format": b"bsr"}, "short_indptr": {"indptr": [0, 1]}}.items():
        np.savez(f"{name}.npz", **sparse | change)
    np.savez("complex.npz", weight=np.ones((2, 4), complex))
    nn.save_weights("weights.npz", {"weight": np.ones(3)})
    text = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    Path("bfloat16.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    index_file.write("other.index", {}, {"x": X})
    index_file.write("bfloat16.index", {}, {"x": np.ones(2, ml_dtypes.bfloat16)})
    simclr.train(P, 2, 2, checkpoint="trained.npz")
    nn.save_weights("changed.npz", nn.load_weights("trained.npz") | {"losses": np.zeros(4)})
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("w.npy", "1 2 3")
    for name, data in ROW_FILES.items():
        Path(name).write_bytes(data)
    Path("folder.npz").mkdir()
    Path("mixed").mkdir()
    Path("mixed/a.npy").write_bytes(rows)
    Path("mixed/b.fbin").write_bytes(b"")


def refused(*contents):
    """Reads an index file with a right checksum of the header."""
    try:
        forge(Path("forged"), *contents)
        index_file.read("forged")
    finally:
        Path("forged").unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def csr(**changes):
    """Sparse rows (3, 4) with one entry each."""
    arrays = {"data": [1.0, 2.0, 3.0], "indices": [0, 1, 2], "indptr": [0, 1, 2, 3], "shape": (3, 4)}
    return SimpleNamespace(**(arrays | changes))


def neighbors(*arguments):
    return pytest.importorskip("cossim.sklearn").CosineNeighbors(*arguments)


def names_for(call, monkeypatch, hide):
    """The names that a row may use."""
    names = {name: getattr(cossim, name) for name in cossim.__all__} | {"hide": hide, "monkeypatch": monkeypatch}
    names |= globals()
    if "torch" in call:
        names["torch"] = pytest.importorskip("torch", reason="needs torch")
    if "DX" in call or "dask" in call:
        array = pytest.importorskip("dask.array", reason="needs dask[array]")
        names |= {"dask": sys.modules["dask"], "DX": array.ones((6, 4), chunks=2)}
    if call.startswith("plot."):
        names["plot"] = pytest.importorskip("cossim.plot", reason="needs matplotlib")
    if "to_csr" in call:
        pytest.importorskip("scipy.sparse", reason="needs SciPy")
    if "pandas" in call:
        names["pandas"] = pytest.importorskip("pandas")
    if ".safetensors" in call and "hide(" not in call and not SAFETENSORS:
        pytest.skip("needs safetensors")
    return names


def outcome(call, names, capsys):
    if call.startswith("COSSIM_"):  # a variable of the environment, which cossim reads when it is imported
        variable, _, *words = call.split()
        environment = {**os.environ, **dict([variable.split("=")])}
        command = [sys.executable, "-m", "cossim", *words]
        child = subprocess.run(command, env=environment, capture_output=True, text=True)
        code, out, err = child.returncode, child.stdout, child.stderr
    elif call.startswith("cossim "):
        with pytest.raises(SystemExit) as caught:
            sys.exit(main(shlex.split(call)[1:]))
        code, (out, err) = caught.value.code, capsys.readouterr()
    else:
        with pytest.raises(Exception, match=r"\w") as caught:
            eval(call, names)
        return caught.type.__name__, str(caught.value)
    lines = err.splitlines()
    assert out == "" and (code == 2 or len(lines) == 1)
    text, ending = re.fullmatch(r"(.*?)(; (?:try|then): cossim .*)?", lines[-1]).groups()
    assert ending or "pip install" in text or call.startswith("COSSIM_"), "it ends with no command"
    return str(code), text


@pytest.mark.parametrize(("call", "kind", "message"), ROWS, ids=[call for call, _, _ in ROWS])
def test_message(call, kind, message, folder, monkeypatch, capsys):
    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    def contents():
        return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}

    monkeypatch.chdir(folder)
    if not contents():
        make_files()
    before = contents()
    hide("pyarrow", "tqdm", "tqdm.auto")
    assert outcome(call, names_for(call, monkeypatch, hide), capsys) == (kind, message)
    assert contents() == before


ELSEWHERE = {  # templates without a row, and why
    "NO_EXTENSION": "needs a tree without the extension: test_without_build.py",
    "FORKED": "needs a fork in the middle of a write: test_files.py",
    "ISA_VARIABLE": "names the instruction sets of this machine: test_isa.py",
    **dict.fromkeys(
        ["ROWS_NULL", "ROWS_TEXT", "ROWS_LENGTH", "ROWS_LISTS", "ROWS_EMPTY", "ROWS_TWICE", "ROWS_JSON"],
        "pyarrow: test_open_rows.py",
    ),
    **dict.fromkeys(["ROWS_CHANGED", "ROWS_LONG_LINE"], "test_open_rows.py"),
    "DATASET_CLOSED": "needs h5py: test_open_rows.py",
    "INDEX_ROWS_DTYPE": "needs an index of float32: test_index_commands.py",
    "NO_MEMORY_FOR_CALL": "needs an allocation that fails: test_faults_memory.py",
    "NO_MEMORY": "needs an allocation that fails: test_faults_memory.py",
    "TOO_MANY_ELEMENTS": "NumPy refuses such a result first",
    "ARROW_TOO_LARGE": "needs more elements than memory holds: test_arrow.py",
}


def templates():
    """(name, fixed pieces of the text) of each template of Python and C."""
    for name, text in vars(_errors).items():
        if name.isupper():
            yield name, re.split(r"{[^{}]*}", text)
    source = ROOT / "csrc/arguments/messages.h"
    if source.exists():
        defined = {}
        for name, value in re.findall(r"#define (\w+) (.*)", source.read_text().replace("\\\n", "")):
            if '"' in value:  # a text of strings, and of other templates by their names
                parts = re.findall(r'"([^"]*)"|(\w+)', value)
                defined[name] = "".join(text or defined[other] for text, other in parts)
                yield name, re.split(r"%(?:\.\d+)?(?:zd|[a-zA-Z])", defined[name])


@pytest.mark.parametrize(
    ("name", "pieces"), list(templates()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_template_has_a_row(name, pieces):
    pattern = ".*".join(map(re.escape, pieces))
    assert any(re.search(pattern, message) for _, _, message in ROWS) != (name in ELSEWHERE)


def test_every_template_is_used():
    """Python uses templates of _errors.py. C uses the macros of messages.h, and names of _errors.py as strings."""
    messages_h = ROOT / "csrc/arguments/messages.h"
    if not messages_h.exists():
        pytest.skip("needs csrc")
    python = "".join(p.read_text() for p in Path(cossim.__file__).parent.glob("**/*.py"))
    c = "".join(p.read_text() for p in ROOT.glob("csrc/**/*.[ch]"))
    used = {*re.findall(r"\b_errors\.([A-Z]\w*)", python), *re.findall(r'"([A-Z]\w*)"', c)}
    macros = re.findall(r"#define (\w+) ", messages_h.read_text())
    assert [name for name in vars(_errors) if name.isupper() and name not in used] == []
    assert [name for name in macros if len(re.findall(rf"\b{name}\b", c)) < 2] == []
