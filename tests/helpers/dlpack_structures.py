"""Makes DLPack tensors by hand, valid and malformed, whose deleters are Python functions."""

import ctypes

import numpy as np


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", CALLBACK))


class Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", CALLBACK),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class Exporter:
    """Exports the bytes of an array. version: (major, minor), or None for a tensor of DLPack before 1.0; the other
    keywords replace fields. With `destructor`, the capsule's destructor is a Python function too. `ran` has the names
    of the callbacks that ran.
    """

    def __init__(self, data=b"", /, *, version=None, flags=0, destructor=False, shape=(2, 3), strides=None, **fields):
        self.ran, self.exports = [], 0
        self.bytes = np.frombuffer(bytes(data).ljust(64, b"\0"), np.uint8).copy()
        self.sizes = [None if n is None else (ctypes.c_int64 * max(1, len(n)))(*n) for n in (shape, strides)]
        self.deleter, self.destructor = CALLBACK(self.runs("deleter")), CALLBACK(self.runs("destructor"))
        self.tensor = Tensor(self.bytes.ctypes.data, 1, 0, len(shape or ()), 2, 32, 1, *self.sizes, 0)
        for name, value in fields.items():
            setattr(self.tensor, name, value)
        self.name, self.managed = b"dltensor", Managed(self.tensor, None, self.deleter)
        if version is not None:
            self.name, self.managed = b"dltensor_versioned", Versioned(*version, None, self.deleter, flags, self.tensor)
        self.at_capsule = ctypes.cast(self.destructor, ctypes.c_void_p) if destructor else None

    def runs(self, name):
        return lambda _: self.ran.append(name)

    def __dlpack__(self, **options):
        self.exports += 1
        return new_capsule(ctypes.addressof(self.managed), self.name, self.at_capsule)

    def __dlpack_device__(self):
        return self.tensor.device_type, 0
