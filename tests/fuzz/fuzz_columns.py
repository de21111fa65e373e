"""Fuzzes the readers of Arrow's C data interface and of DLPack with valid and malformed structures.

A valid structure must be read as the array that it was made from, and nulls must be found at their row. A malformed one
must be read or refused with one of the documented exceptions. In both cases everything is released once. No reader can
notice a length beyond the end of a buffer, so the buffers here are longer than small errors of a length can reach.
"""

import re

import arrow_structures as arrow
import dlpack_structures as dlpack
import numpy as np
from source import Source

from cossim import _core

SLACK = 2048
LENGTHS = (-1, -(2**63), 2**63 - 1, 2**62, 2**61, 0, 1, 3)


def read(exporter):
    """Returns what is read, or the message of a refusal."""
    try:
        return _core.as_array("pairwise", "x", exporter)
    except MemoryError:
        return "no memory"
    except (TypeError, ValueError) as error:
        message = str(error)
    assert message.startswith("pairwise(): ") or "array is too big" in message, message
    return message


# ---- Arrow ----


class Made:
    """A random column: the structures, and the rows that they stand for."""

    def __init__(self, source):
        self.source, self.lies = source, False
        letter = source.pick("fgelILicCsSb")
        rows = source.pick((5, 1, 2, 17, 70, 0, 9))
        levels = source.pick((1, 1, 1, 2, 0))
        shape = (rows, *(source.pick((3, 1, 8, 0, 2)) for _ in range(levels)))
        dtype = np.dtype(bool) if letter == "b" else arrow.FORMATS[letter]
        self.x = np.random.default_rng(source.byte()).integers(0, 2 if letter == "b" else 100, shape).astype(dtype)
        self.nulls = []  # (number of the chunk, level of lists, row), in the order in which they are found
        self.field, chunks = None, source.pick((1, 1, 2, 3))
        cuts = sorted(source.below(rows + 1) for _ in range(chunks - 1))
        self.letter = letter
        self.kinds = [source.pick(("fixed", "list", "large", "view", "large view")) for _ in range(levels)]
        self.table = source.one_in(3)
        self.chunks = []
        for number, (part, first) in enumerate(zip(np.split(self.x, cuts), [0, *cuts], strict=True)):
            self.chunk = number
            self.chunks.append(self._chunk(part, first))

    def _chunk(self, x, first):
        before, after = self.source.below(4), self.source.below(3)
        edge = np.zeros((1, *x.shape[1:]), x.dtype)
        field, data = self._array(
            np.concatenate([edge] * before + [x] + [edge] * after), 0, first - before, before, len(x)
        )
        data.offset, data.length, data.null_count = before, len(x), -1 if data.null_count else 0
        if self.table:
            outer = self.source.below(3)
            data.offset -= min(outer, before)
            data.length += min(outer, before)
            others = {"id": arrow.numbers(range(200), "i")} if self.kinds else {}
            field, data = arrow.table(others | {"v": (field, data)}, len(x), offset=min(outer, before))
        self.field = field
        self._lie(data)
        return data

    def _array(self, x, level, first_row, start, count):
        """An array of the elements x of one level. x[0] is in row first_row; x[start : start + count] are of rows."""
        if level == len(self.kinds):
            field, data = arrow.numbers(x, self.letter)
        else:
            field, data = self._lists(x, level, start, count, first_row)
        per_row = 1 if level == 0 else int(np.prod(self.x.shape[1 : level + 1]))
        if self.source.one_in(6) and len(x):
            at = self.source.below(len(x))
            data.buffers[0] = arrow.bits(np.arange(len(x)) != at)
            data.null_count = self.source.pick((1, -1))
            if start <= at < start + count:
                row = first_row + at // per_row
                self.nulls.append((self.chunk, level, row))
        data.buffers = [None if b is None else np.pad(b, (0, SLACK)) for b in data.buffers]
        self._lie(data)
        return field, data

    def _lists(self, x, level, start, count, first_row):
        kind, n, width = self.kinds[level], len(x), x.shape[1]
        inner = x.reshape(n * width, *x.shape[2:])
        order = np.arange(n)
        if "view" in kind and self.source.one_in(2):
            order = np.random.default_rng(self.source.byte()).permutation(n)
            inner = x[order].reshape(n * width, *x.shape[2:])
        wide = "large" in kind
        integer = np.int64 if wide else np.int32
        if (order == np.arange(n)).all():
            child_field, child = self._array(inner, level + 1, first_row, start * width, count * width)
        else:  # nulls of reordered rows would be at other rows
            child_field, child = self._array(inner, level + 1, first_row, 0, 0)
            if child.null_count != 0 or any(c.null_count for c in child.children):
                self.lies = True
        if kind == "fixed":
            return arrow.Field(f"+w:{width}", child_field), arrow.Data(n, [None], child)
        if "view" in kind:
            offsets, sizes = np.argsort(order).astype(integer) * width, np.full(n, width, integer)
            buffers = [None, offsets.tobytes(), sizes.tobytes()]
            return arrow.Field("+vL" if wide else "+vl", child_field), arrow.Data(n, buffers, child)
        offsets = np.arange(n + 1).astype(integer) * width
        return arrow.Field("+L" if wide else "+l", child_field), arrow.Data(n, [None, offsets.tobytes()], child)

    def _lie(self, data):
        source = self.source
        if not source.one_in(12):
            return
        self.lies = True
        kind = source.below(8)
        if kind == 0:
            data.length = source.pick((*LENGTHS, data.length + 1, data.length - 1))
        elif kind == 1:
            data.offset = source.pick((*LENGTHS, data.offset + 1))
        elif kind == 2:
            data.null_count = source.pick((-2, -1, 1, 2**62, data.length, data.length + 1))
        elif kind == 3:
            data.instead["n_buffers"] = source.pick((-1, 0, 1, 2, 3, 2**40))
        elif kind == 4:
            data.instead[source.pick(("buffers", "children"))] = None
        elif kind == 5:
            data.instead["n_children"] = source.pick((-1, 0, 1, 2, 2**40))
        elif kind == 6 and data.buffers:
            data.buffers[source.below(len(data.buffers))] = None
        elif kind == 7 and len(data.buffers) > 1 and data.buffers[-1] is not None:
            at = 4 * source.below(8)
            data.buffers[-1][at : at + 4] = np.frombuffer(bytes(source.byte() for _ in range(4)), np.uint8)


def lying_type(source, field):
    kind = source.below(5)
    if kind == 0:
        field.format = source.pick(
            (None, "", "+w:", "+w:-1", "+w:99999999999999999999", "+l", "+s", "u", "+vl", "x", "f")
        )
    elif kind == 1:
        field.instead["n_children"] = source.pick((-1, 0, 1, 2))
    elif kind == 2:
        field.instead["children"] = None
    elif kind == 3:
        text = source.pick(
            ('{"shape": [3]}', "{}", "[]", "{", '{"shape": "3"}', '{"shape": [3, 1], "permutation": [1]}')
        )
        field.metadata = arrow.pairs(
            {"ARROW:extension:name": "arrow.fixed_shape_tensor", "ARROW:extension:metadata": text}
        )
    elif field.children:
        lying_type(source, source.pick(field.children))


def run_arrow(source):
    made = Made(source)
    if source.one_in(8):
        made.lies = True
        lying_type(source, made.field)
    kind = arrow.OneArray if len(made.chunks) == 1 and source.below(2) else arrow.Chunks
    exporter = kind(made.field, *made.chunks)
    try:
        found = read(exporter)
        if not made.lies:
            check(made, found)
    finally:
        found = None
        assert exporter.released == exporter.exported, (exporter.released, exporter.exported)


def check(made, found):
    if made.nulls:
        assert re.match(rf"pairwise\(\): row {min(made.nulls)[2]} of x (is|has a) null", str(found)), found
        return
    expected = made.x
    if made.table and not made.kinds:
        expected = expected[:, None]
    assert not isinstance(found, str), found
    assert found.dtype == expected.dtype
    if expected.size:
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    else:
        assert found.size == 0
        assert len(found) == len(expected)


# ---- DLPack ----


def run_dlpack(source):
    sizes = (2, 3, 1, 0, -1, 2**62, 2**31, 8)
    fields = {"shape": tuple(source.pick(sizes) for _ in range(source.below(5)))}
    if source.one_in(2):
        fields["strides"] = tuple(source.pick((1, 3, 0, -1, 2**61, -(2**63), 8)) for _ in fields["shape"])
    for name, values in {
        "ndim": (len(fields["shape"]), -1, 65, 2**31 - 1),
        "code": (2, 0, 1, 4, 5, 6, 3, 17, 255),
        "bits": (32, 8, 16, 64, 128, 12, 0),
        "lanes": (1, 0, 4),
        "device_type": (1, 2, 3, 13, 0, -1),
        "data": (None,),
    }.items():
        if source.one_in(3):
            fields[name] = source.pick(values)
    version = source.pick((None, (1, 0), (1, 3), (2, 0)))
    exporter = dlpack.Exporter(version=version, flags=source.below(8), **fields)
    # No reader can notice an ndim above the number of sizes, so it is at most that.
    exporter.tensor.ndim = exporter.managed.tensor.ndim = min(exporter.tensor.ndim, max(len(fields["shape"]), 0)) or (
        source.pick((0, -1, 65))
    )
    found = read(exporter)
    if not isinstance(found, str):
        assert found.shape == fields["shape"][: exporter.tensor.ndim]
    found = None
    assert exporter.ran == ["deleter"]


def run(data):
    source = Source(data)
    (run_dlpack if source.one_in(4) else run_arrow)(source)


def seeds():
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, draw.integers(4, 60), np.uint8).tobytes() for _ in range(200)]
