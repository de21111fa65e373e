"""Releasing a DLPack array may run Python code. No exception is set while it runs, and it hides no error."""

import ctypes
import sys

import numpy as np
import pytest

import cossim
import cossim.nn as nn


class Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", CALLBACK))


new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)

FLOAT32, COMPLEX64, UNKNOWN = (2, 32), (5, 64), (9, 9)  # (type code, bits) of DLPack; NumPy itself refuses the last


class Exporter:
    """A (2, 3) array whose deleter is a Python function. With `destructor`, its capsule's destructor is one too."""

    def __init__(self, dtype, destructor):
        self.ran = []
        self.data, self.shape = (ctypes.c_double * 6)(), (ctypes.c_int64 * 2)(2, 3)
        self.deleter, self.destructor = CALLBACK(self.runs("deleter")), CALLBACK(self.runs("destructor"))
        tensor = Tensor(ctypes.addressof(self.data), Device(1, 0), 2, DataType(*dtype, 1), self.shape, None, 0)
        self.managed = ManagedTensor(tensor, None, self.deleter)
        self.at_capsule = ctypes.cast(self.destructor, ctypes.c_void_p) if destructor else None

    def runs(self, name):
        return lambda _: self.ran.append(name)

    def __dlpack__(self, **options):
        return new_capsule(ctypes.addressof(self.managed), b"dltensor", self.at_capsule)

    def __dlpack_device__(self):
        return 1, 0


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


@pytest.mark.skipif(sys.platform == "win32", reason="the sizes of DLPack's fields are those of other systems")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("destructor", [False, True])
@pytest.mark.parametrize("dtype", [FLOAT32, COMPLEX64, UNKNOWN])
def test_a_refusal_raises_its_own_error(name, destructor, dtype, monkeypatch):
    in_callbacks = []
    monkeypatch.setattr(sys, "unraisablehook", in_callbacks.append)
    x = Exporter(dtype, destructor)
    if dtype == FLOAT32 and name == "vector_norm":
        assert CALLS[name](x) == 0
    else:
        expected = TypeError if dtype == UNKNOWN else (TypeError, ValueError)
        with pytest.raises(expected, match="DLTensor" if dtype == UNKNOWN else r"^[\w.]+\(\): |dim") as error:
            CALLS[name](x)
        assert not isinstance(error.value.__context__, SystemError)
        del error
    assert in_callbacks == []
    taken = dtype != UNKNOWN  # NumPy takes it, and later calls the deleter
    assert (x.ran.count("deleter") > 0) == taken
    assert (x.ran.count("destructor") > 0) == destructor
