"""DLPack tensors made by hand are read or refused. Releasing one may run Python code, which hides no exception."""

import sys

import numpy as np
import pytest
from dlpack_structures import Exporter

import cossim
import cossim.nn as nn
from cossim import _core

FLOAT32, COMPLEX64, UNKNOWN = (2, 32), (5, 64), (9, 9)  # (type code, bits) of DLPack; NumPy lacks the last
WIDE = np.ones((2, 9), np.float32)
CALLS = {
    "vector_norm": lambda x: cossim.vector_norm(x),
    "vector_norm of no dim": lambda x: cossim.vector_norm(x, 5),
    "normalize into a list": lambda x: cossim.normalize(x, out=[]),
    "cosine_similarity": lambda x: cossim.cosine_similarity(x, WIDE),
    "cosine_similarity with itself": lambda x: cossim.cosine_similarity(x, x, 5),
    "pairwise": lambda x: cossim.pairwise(x, WIDE),
    "topk": lambda x: cossim.topk(x, WIDE, 1),
    "topk in it": lambda x: cossim.topk(WIDE, x, 1),
    "pairs_above": lambda x: cossim.pairs_above(x, 0.5, WIDE),
    "Index": lambda x: cossim.Index(x).topk(WIDE, 1),
    "linear": lambda x: nn.linear(x, WIDE),
    "cosine_similarity_vjp": lambda x: cossim.cosine_similarity_vjp(x, WIDE)[1](WIDE),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("destructor", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT32, COMPLEX64, UNKNOWN])
def test_a_refusal_raises_its_own_error(name, destructor, dtype, monkeypatch):
    in_callbacks = []
    monkeypatch.setattr(sys, "unraisablehook", in_callbacks.append)
    x = Exporter(code=dtype[0], bits=dtype[1], destructor=destructor)
    if dtype == FLOAT32 and name == "vector_norm":
        assert CALLS[name](x) == 0
    else:
        expected = TypeError if dtype == UNKNOWN else (TypeError, ValueError)
        with pytest.raises(
            expected, match=r"^[\w.]+\(\): .*DLPack type 9" if dtype == UNKNOWN else r"^[\w.]+\(\): |dim"
        ) as error:
            CALLS[name](x)
        assert not isinstance(error.value.__context__, SystemError)
        del error
    assert in_callbacks == []
    assert x.ran.count("deleter") == x.exports
    assert (x.ran.count("destructor") > 0) == destructor


# ---- what a tensor says about itself ----

X = np.arange(12, dtype=np.float32)
BIG = 2**62
GOOD = {
    "contiguous": ({}, X[:6].reshape(2, 3)),
    "strides": ({"strides": (1, 2)}, X[:6].reshape(3, 2).T),
    "offset": ({"byte_offset": 8}, X[2:8].reshape(2, 3)),
    "backwards": ({"strides": (-3, 1), "byte_offset": 12}, X[:6].reshape(2, 3)[::-1]),
    "one number": ({"shape": ()}, X[0]),
    "one row of any stride": ({"shape": (1, 3), "strides": (BIG, 1)}, X[None, :3]),
    "empty": ({"shape": (0, 3), "data": None, "strides": (BIG, BIG)}, X[:0].reshape(0, 3)),
    "int16": ({"code": 0, "bits": 16, "shape": (4,)}, X.view(np.int16)[:4]),
    "uint8": ({"code": 1, "bits": 8, "shape": (4,)}, X.view(np.uint8)[:4]),
    "bool": ({"code": 6, "bits": 8, "shape": (4,)}, X.view(bool)[:4]),
    "float64": ({"bits": 64, "shape": (3,)}, X.view(np.float64)[:3]),
    "pinned memory": ({"device_type": 3, "shape": (3,)}, X[:3]),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("version", [None, (1, 0), (1, 9)])
def test_tensors_are_read_in_place(kind, version):
    fields, expected = GOOD[kind]
    x = Exporter(X.tobytes(), version=version, **fields)
    array = _core.as_array("pairwise", "x", x)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)
    assert array.flags.writeable
    assert (x.ran == []) == (array.size > 0)
    del array
    assert x.ran == ["deleter"]


def test_read_only_tensors():
    x = Exporter(X.tobytes(), version=(1, 0), flags=1)
    assert not _core.as_array("pairwise", "x", x).flags.writeable
    y = np.ones((2, 3))
    y.flags.writeable = False  # NumPy refuses to export it before DLPack 1
    only = type("Only", (), {"__dlpack__": lambda self, **options: y.__dlpack__(**options)})()
    np.testing.assert_array_equal(cossim.normalize(only), cossim.normalize(y))


BAD = {
    "a size below 0": {"shape": (-1, 3)},
    "sizes that overflow": {"shape": (BIG, BIG)},
    "strides that overflow": {"strides": (BIG, 1)},
    "strides beyond the address space": {"shape": (BIG, 3), "strides": (1, 1)},
    "strides of the smallest number": {"shape": (2,), "strides": (-(2**61),)},
    "dimensions below 0": {"ndim": -1},
    "too many dimensions": {"ndim": 65},
    "no shape": {"shape": None, "ndim": 2},
    "no data": {"data": None},
    "another version": {"version": (2, 0)},
    "a graphics card": {"device_type": 2},
    "an unknown type": {"code": 17, "bits": 4},
    "several lanes": {"lanes": 4},
    "bits that make no byte": {"bits": 12},
    "a wide float": {"bits": 128},
}


@pytest.mark.parametrize("kind", BAD)
def test_malformed_tensors_are_refused(kind):
    x = Exporter(X.tobytes(), **BAD[kind])
    with pytest.raises((TypeError, ValueError), match=r"^pairwise\(\): .*x\b"):
        _core.as_array("pairwise", "x", x)
    assert x.ran == ["deleter"]


def test_exports_that_are_not_capsules():
    for value in (None, 3, (1, 2), Exporter(X.tobytes()).deleter):
        only = type("Only", (), {"__dlpack__": lambda self, value=value, **options: value})()
        with pytest.raises(TypeError, match=r"^pairwise\(\): __dlpack__ of x"):
            _core.as_array("pairwise", "x", only)
    used = Exporter(X.tobytes())
    capsule = used.__dlpack__()
    only = type("Only", (), {"__dlpack__": lambda self, **options: capsule})()
    np.testing.assert_array_equal(_core.as_array("pairwise", "x", only), X[:6].reshape(2, 3))
    with pytest.raises(TypeError, match="PyCapsule"):
        _core.as_array("pairwise", "x", only)
    assert used.ran == ["deleter"]
