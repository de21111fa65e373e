"""Makes structures of Arrow's C data interface by hand, valid and malformed, and counts how often each is released."""

import ctypes
import json
import struct
from collections import Counter

import numpy as np


class Schema(ctypes.Structure):
    pass


class Array(ctypes.Structure):
    pass


class Stream(ctypes.Structure):
    pass


def callback(kind, result=None):
    return ctypes.CFUNCTYPE(result, *kind)


RELEASE_SCHEMA, RELEASE_ARRAY, RELEASE_STREAM = (callback([ctypes.POINTER(kind)]) for kind in (Schema, Array, Stream))
GET_SCHEMA = callback([ctypes.POINTER(Stream), ctypes.POINTER(Schema)], ctypes.c_int)
GET_NEXT = callback([ctypes.POINTER(Stream), ctypes.POINTER(Array)], ctypes.c_int)
GET_ERROR = callback([ctypes.POINTER(Stream)], ctypes.c_void_p)

Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))),
    ("dictionary", ctypes.POINTER(Schema)),
    ("release", RELEASE_SCHEMA),
    ("private_data", ctypes.c_void_p),
]
Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.POINTER(Array)),
    ("release", RELEASE_ARRAY),
    ("private_data", ctypes.c_void_p),
]
Stream._fields_ = [
    ("get_schema", GET_SCHEMA),
    ("get_next", GET_NEXT),
    ("get_last_error", GET_ERROR),
    ("release", RELEASE_STREAM),
    ("private_data", ctypes.c_void_p),
]

new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class Field:
    """A type. The keywords replace fields of its structure."""

    def __init__(self, format, *children, name="", metadata=None, **instead):
        self.children, self.instead = children, instead
        self.format, self.name = format, name
        self.metadata = metadata if isinstance(metadata, (bytes, type(None))) else pairs(metadata)


class Data:
    """An array: its length, its buffers (NumPy arrays, bytes or None) and children. Other keywords replace fields."""

    def __init__(self, length, buffers, /, *children, null_count=0, offset=0, **instead):
        self.length, self.null_count, self.offset = length, null_count, offset
        self.buffers = [None if b is None else np.frombuffer(bytes(b), np.uint8).copy() for b in buffers]
        self.children, self.instead = children, instead


def pairs(metadata):
    """Returns the metadata of a type, a dict, encoded as the C data interface defines it."""
    items = [part.encode() for item in metadata.items() for part in item]
    return struct.pack("=i", len(metadata)) + b"".join(struct.pack("=i", len(part)) + part for part in items)


def tensor_metadata(**values):
    return {"ARROW:extension:name": "arrow.fixed_shape_tensor", "ARROW:extension:metadata": json.dumps(values)}


# Exporters whose structures are in use: their callbacks must not be freed.
IN_USE = []


class Exporter:
    """Exports one chunk by __arrow_c_array__; its subclass Chunks exports several by __arrow_c_stream__.

    released counts the calls of the release callbacks: "array", "schema", "stream". When an array is released, its
    buffers are overwritten, so that reading them later gives wrong results.
    """

    def __init__(self, field, *chunks):
        self.field, self.chunks = field, chunks
        self.released, self.exported, self.kept = Counter(), Counter(), []
        IN_USE[:] = [exporter for exporter in IN_USE if exporter.released != exporter.exported]
        IN_USE.append(self)

    def _keep(self, value):
        self.kept.append(value)
        return value

    def _release(self, kind, name, buffers=()):
        def release(pointer):
            self.released[name] += 1
            pointer.contents.release = kind()
            for buffer in buffers:
                buffer[...] = 0x5A

        return self._keep(kind(release))

    def _pointers(self, kind, parts, make):
        made = [
            ctypes.pointer(self._keep(make(part))) if part is not None else ctypes.POINTER(kind)() for part in parts
        ]
        return self._keep((ctypes.POINTER(kind) * max(1, len(made)))(*made))

    def _schema(self, field, top=False):
        metadata = None
        if field.metadata is not None:
            metadata = ctypes.addressof(
                self._keep(ctypes.create_string_buffer(field.metadata, len(field.metadata) + 64))
            )
        format = None if field.format is None else self._keep(field.format.encode())
        schema = Schema(format, self._keep(field.name.encode()), metadata, 2, len(field.children))
        schema.children = self._pointers(Schema, field.children, self._schema)
        for name, value in field.instead.items():
            setattr(schema, name, value if value is not None else type(getattr(schema, name))())
        if top:
            self.exported["schema"] += 1
            schema.release = self._release(RELEASE_SCHEMA, "schema")
        return schema

    def _array(self, data, copies=None):
        """copies: gets the buffers of a child; the release of the array at the top overwrites all of them."""
        top, copies = copies is None, [] if copies is None else copies
        array = Array(data.length, data.null_count, data.offset, len(data.buffers), len(data.children))
        buffers = [None if b is None else b.copy() for b in data.buffers]
        copies.extend(b for b in buffers if b is not None)
        addresses = [None if b is None else self._keep(b).ctypes.data for b in buffers]
        array.buffers = self._keep((ctypes.c_void_p * max(1, len(addresses)))(*addresses))
        array.children = self._pointers(Array, data.children, lambda child: self._array(child, copies))
        for name, value in data.instead.items():
            setattr(array, name, value if value is not None else type(getattr(array, name))())
        if top:
            self.exported["array"] += 1
            array.release = self._release(RELEASE_ARRAY, "array", copies)
        return array

    def capsule(self, structure, name):
        """A capsule whose destructor releases the structure, if nobody has taken it."""

        def destroy(_):
            if structure.release:
                structure.release(ctypes.pointer(structure))

        destructor = self._keep(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(destroy))
        address = ctypes.addressof(self._keep(structure))
        return new_capsule(address, self._keep(name), ctypes.cast(destructor, ctypes.c_void_p))


class OneArray(Exporter):
    def __arrow_c_array__(self, requested_schema=None):
        schema, array = self._schema(self.field, True), self._array(self.chunks[0])
        return self.capsule(schema, b"arrow_schema"), self.capsule(array, b"arrow_array")


class Chunks(Exporter):
    """fails_at: the chunk at which the stream returns an error, with -1 for its type; text: the error's text."""

    def __init__(self, field, *chunks, fails_at=None, text=None):
        super().__init__(field, *chunks)
        self.fails_at, self.text = fails_at, text

    def __arrow_c_stream__(self, requested_schema=None):
        numbers = iter(range(len(self.chunks)))

        def get_schema(stream, schema):
            if self.fails_at == -1:
                return 5
            schema[0] = self._schema(self.field, True)
            return 0

        def get_next(stream, array):
            number = next(numbers, None)
            if number is not None and number == self.fails_at:
                return 5
            array[0] = Array() if number is None else self._array(self.chunks[number])
            return 0

        text = None if self.text is None else ctypes.addressof(self._keep(ctypes.create_string_buffer(self.text)))
        stream = Stream(
            self._keep(GET_SCHEMA(get_schema)),
            self._keep(GET_NEXT(get_next)),
            self._keep(GET_ERROR(lambda stream: text)),
            self._release(RELEASE_STREAM, "stream"),
        )
        self.exported["stream"] += 1
        return self.capsule(stream, b"arrow_array_stream")


# ---- valid data of the shapes that rows have ----

NAMES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
FORMATS = dict(zip("cCsSiIlLefg", map(np.dtype, NAMES), strict=True))


def bits(flags):
    """A bitmap."""
    return np.packbits(np.asarray(flags, bool), bitorder="little")


def numbers(x, letter="f", **more):
    """The elements of x as (type, array) of numbers."""
    x = np.asarray(x).reshape(-1)
    values = bits(x) if letter == "b" else x.astype(FORMATS[letter])
    return Field(letter), Data(len(x), [None, values.tobytes()], **more)


def fixed_lists(x, letter="f", **more):
    """The rows of x as (type, array) of lists of one length."""
    field, values = numbers(x, letter)
    return Field(f"+w:{x.shape[1]}", field), Data(len(x), [None], values, **more)


def lists(x, letter="f", wide=False, **more):
    """The rows of x as (type, array) of lists with offsets."""
    field, values = numbers(x, letter)
    offsets = np.arange(len(x) + 1, dtype=np.int64 if wide else np.int32) * x.shape[1]
    return Field("+L" if wide else "+l", field), Data(len(x), [None, offsets.tobytes()], values, **more)


def views(x, order, letter="f", wide=False):
    """The rows of x as (type, array) of list views whose values are stored in another order of rows."""
    field, values = numbers(x[order], letter)
    offsets = np.argsort(order).astype(np.int64 if wide else np.int32) * x.shape[1]
    sizes = np.full(len(x), x.shape[1], offsets.dtype)
    return Field("+vL" if wide else "+vl", field), Data(len(x), [None, offsets.tobytes(), sizes.tobytes()], values)


def table(columns, length, **more):
    """(type, array) of a table from {name: (type, array)}."""
    for name, (field, _) in columns.items():
        field.name = name
    fields, arrays = zip(*columns.values(), strict=True)
    return Field("+s", *fields), Data(length, [None], *arrays, **more)


def nulls(x, row, column=None):
    """The rows of x as (type, array) of lists. One row is null or, with `column`, one number of it."""
    field, data = lists(x)
    target = data if column is None else data.children[0]
    target.buffers[0] = bits(np.arange(target.length) != (row if column is None else row * x.shape[1] + column))
    target.null_count = 1
    return field, data


def nested(levels):
    """An empty array of lists in lists."""
    field, data = numbers([])
    for _ in range(levels):
        field, data = Field("+w:1", field), Data(0, [None], data)
    return field, data
