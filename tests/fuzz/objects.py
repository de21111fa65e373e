"""Makes arrays of every kind, and objects that behave badly, from the bytes of a fuzzer's input."""

import array as array_module
import contextlib
import itertools

import ml_dtypes
import numpy as np
from public_inputs import Interface, OnlyDLPack, misaligned

FLOATS = [np.dtype(name) for name in ("f8", "f4", "f2", ">f8", ">f4", ml_dtypes.bfloat16)]
NUMBERS = FLOATS + [
    np.dtype(name) for name in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", ">i4", ">u8", ">f2")
]
OTHERS = [np.dtype(name) for name in ("c8", "c16", "O", "U3", "S2", "M8[s]", "m8[s]", "V4", "g")] + [
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.int4),
    np.dtype([("a", "f4"), ("b", "i2")]),
]
MOST_DIMENSIONS = 32 if np.__version__.startswith("1.") else 64
SIZES = [1, 2, 3, 4, 5, 7, 8, 0, 16, 17, 33, 65, 130]


class Planted(Exception):
    """The exception that bad objects raise; a call may pass it on."""


# ---- arrays ----


def shape_of(source, ndim=None):
    ndim = source.pick((2, 2, 1, 3, 0, 4, 5)) if ndim is None else ndim
    return tuple(SIZES[source.below(7)] if i else source.pick(SIZES) for i in range(ndim))


def _values(source, shape, dtype):
    kind, n = source.below(5), int(np.prod(shape))
    rng = np.random.default_rng(source.byte())
    if dtype.kind in "OUSMmVcg" or dtype.isbuiltin == 2 and dtype.name != "bfloat16":
        return np.zeros(shape, dtype)
    if kind == 4:
        data = (source.data[source.at : source.at + 64] or b"\1") * (n * dtype.itemsize + 1)
        data = bytes(data[: n * dtype.itemsize])
        if dtype.kind == "b":
            data = bytes(byte & 1 for byte in data)
        return np.frombuffer(data, dtype).reshape(shape).copy()
    values = rng.integers(-4, 5, shape) if kind in (0, 3) else rng.standard_normal(shape)
    with np.errstate(all="ignore"):
        values = values.astype(dtype)
    if kind == 3 and n and dtype.kind == "f":
        values.reshape(-1)[source.byte() % n] = source.pick((np.nan, np.inf, -np.inf, 0.0))
    return values


def laid_out(source, x):
    """The same elements in another memory layout; some layouts repeat elements or change the shape."""
    kind = source.below(12)
    if kind == 1:
        return np.asfortranarray(x)
    if kind == 2 and x.ndim:
        return x[::-1].copy()[::-1]
    if kind == 3 and x.ndim:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if kind == 4:
        return np.ascontiguousarray(x.T).T
    if kind == 5 and not x.dtype.hasobject:
        return misaligned(x)
    if kind == 6:
        x.flags.writeable = False
    if kind == 7 and x.ndim and x.shape[0]:
        return np.broadcast_to(x[:1], x.shape)
    if kind == 8 and x.size == 0 and x.ndim:
        return np.lib.stride_tricks.as_strided(x, x.shape, [source.long() for _ in x.shape])
    if kind == 9 and x.ndim == 1 and len(x) > 3:
        return np.lib.stride_tricks.sliding_window_view(x, 3)
    return x


def array_of(source, shape=None, dtypes=NUMBERS):
    shape = shape_of(source) if shape is None else shape
    return laid_out(source, _values(source, shape, source.pick(dtypes)))


# ---- objects that are not ordinary arrays of numbers, some of them misbehaving ----


class Name(str):
    """A keyword name whose == raises."""

    def __eq__(self, other):
        raise Planted

    def __hash__(self):
        return str.__hash__(self)


class Returns:
    """Answers every protocol for numbers and arrays with one value, or raises it if it is an exception."""

    def __init__(self, value):
        self.value = value

    def _answer(self):
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def _method(self, *args, **kwargs):
    return self._answer()


METHODS = (
    "__array__ __index__ __float__ __dlpack__ __array_interface__ __array_struct__ __bool__ "
    "__len__ __getitem__ __iter__ __dask_graph__ __int__ __fspath__ __call__ "
    "__complex__ __repr__ detach _baseclass __array_ufunc__ __dlpack_device__ __str__"
)


def bad(source):
    """An object whose class has one to three of METHODS."""
    value = source.pick(
        (
            Planted(),
            None,
            2**70,
            -(2**70),
            -1,
            0,
            1,
            2,
            "text",
            (),
            [1.0, 2.0],
            float("nan"),
            1.5,
            object(),
            {},
            np.zeros((2, 2)),
            np.zeros(3, object),
            ValueError("its own"),
            TypeError("its own"),
            b"12345678",
            np.ma.masked_array([1.0, 2.0], [True, False]),
            {"shape": (3,), "typestr": "<f8", "version": 3},
            {"shape": (3,), "typestr": "rubbish", "data": b"x", "version": 3},
            {"shape": (2,), "typestr": "<f8", "data": b"0123456789abcdef", "version": 3},
            {"shape": (2,), "typestr": "<f8", "data": b"0123", "version": 3},
            {"shape": "no", "typestr": 3, "version": None},
        )
    )
    names = METHODS.split()
    chosen = {source.pick(names) for _ in range(1 + source.below(3))}
    plain = ("__array_interface__", "__array_struct__", "_baseclass", "__array_ufunc__")
    methods = {name: property(_method) if name in plain else _method for name in chosen}
    kind = type("Bad", (Returns,), methods)
    return kind(value)


class Finalizes(np.ndarray):
    def __array_finalize__(self, other):
        if other is not None and type(other) is not np.ndarray:
            raise Planted


class Subclass(np.ndarray):
    def __array_wrap__(self, *args, **kwargs):
        raise Planted


def other(source):
    """An object that is not an ordinary array of numbers."""
    kind = source.below(30)
    if kind >= 18:
        return bad(source)
    if kind == 17:
        return array_of(source, dtypes=OTHERS)
    x = np.arange(6.0).reshape(2, 3)
    return (
        lambda: None,
        lambda: True,
        lambda: source.pick((0, 1, 2, -1, -2, 3, 64, 2**31, 2**63, -(2**63), 2**64, 10**400)),
        lambda: source.pick((0.0, 1e-8, -1.0, 1.5, float("nan"), float("inf"), 1e-320, 1e308)),
        lambda: source.pick(("text", "", "same", "valid", "x.npy", "\0", "\udc80")),
        lambda: source.pick(([], (), [[1, 2], [3]], [1, "a"], [None], [[]], (0, 0), (0, 1), (-1, 5), ((1, 2), 3))),
        lambda: source.pick(
            ({}, {"x": 1}, set(), range(3), object(), len, int, 1j, b"bytes", bytearray(b"ab"), iter([]))
        ),
        lambda: array_module.array(source.pick("dfbhiq"), [1, 2, 3]),
        lambda: memoryview(x)[:: source.pick((1, -1))],
        lambda: memoryview(b"abcdef").cast(source.pick("Bbc"), (2, 3)),
        lambda: x.view(source.pick((Subclass, np.matrix, Finalizes))),
        lambda: np.ma.masked_array(x, x > 2),
        lambda: source.pick((np.float64(2), np.int8(1), np.bool_(True), np.array(1), np.array([1]), np.str_("x"))),
        lambda: Name("dim"),
        lambda: np.zeros((1,) * min(source.pick((33, 64, 32)), MOST_DIMENSIONS)),
        lambda: x.astype(np.longdouble),
        lambda: np.array([x, None], dtype=object),
    )[kind]()


# ---- objects that change other arguments ----


class Owner(np.ndarray):
    """A subclass that owns its memory."""


def _as_subclass(x):
    own = np.ndarray.__new__(Owner, x.shape, x.dtype)
    own[...] = x
    return own, own, False


# Each function maps an array to (owner of the memory, argument for the call, refcheck of resize()). An argument that
# is a view of the owner needs the refcheck: a resize without it frees memory that NumPy's own views still use.
OWNERS = (
    lambda x: (x, x, x.base is not None),
    lambda x: (x, x, x.base is not None),
    _as_subclass,
    lambda x: (x, memoryview(x), True) if x.dtype.kind in "fiub" and x.dtype.isbuiltin == 1 else (x, x, True),
    lambda x: (x, x[...], True),
    lambda x: (x, Interface(x), False) if x.dtype.isbuiltin == 1 else (x, x, False),
    lambda x: (x, OnlyDLPack(x), True),
)


def _resized(shape):
    return lambda x, referred: x.resize(shape, refcheck=referred)


def _set(name, value):
    return lambda x, referred: setattr(x, name, value(x) if callable(value) else value)


def _written(x, referred):
    x[...] = 3


# A change that an array does not allow raises NumPy's own exception.
CHANGES = (
    *map(_resized, ((0,), (1,), (2, 3), (70, 90), (3, 2, 5, 5), ())),
    *(_set("dtype", name) for name in ("i1", "f2", "f4", ">f8", "c16", "M8[s]", "V3", "S4", "?", ml_dtypes.bfloat16)),
    _set("shape", lambda x: x.shape[::-1]),
    _set("shape", -1),
    _set("shape", lambda x: (1, 1, *x.shape)),
    _set("strides", lambda x: (0,) * x.ndim),
    _set("strides", lambda x: x.strides[::-1]),
    _written,
    lambda x, referred: x.setflags(write=False),
)
LIST_CHANGES = (list.clear, list.pop, lambda x: x.extend([0] * 100), lambda x: x.insert(0, None))
CONVERSIONS = {
    "__array__": None,  # returns the value that the object stands for
    "__index__": 1,
    "__int__": 1,
    "__float__": 0.5,
    "__bool__": True,
    "__len__": 2,
    "__iter__": None,
    "__getitem__": 0,
    "__dlpack__": None,
    "__fspath__": "no such.npy",
}


def changing(source, value, victim, when=None, referred=False):
    """An object that stands for `value` and changes the victim, an array or a list, when it is converted.

    It does so at conversion number `when`, or at each one if `when` is None. If the victim refuses the change, the
    conversion raises that error or ignores it.
    """
    change = source.pick(LIST_CHANGES if isinstance(victim, list) else CHANGES)
    likely = (
        ("__array__", "__array__", "__dlpack__")
        if getattr(value, "ndim", 0)
        else ("__index__", "__float__", "__bool__")
    )
    names = {source.pick(likely), *([source.pick(list(CONVERSIONS))] if source.one_in(3) else [])}
    stands = victim if source.one_in(4) and isinstance(victim, np.ndarray) else value
    refusals = source.pick((ValueError, ()))
    conversions = itertools.count()

    def method(name):
        def convert(self, *args, **kwargs):
            if when is None or next(conversions) == when:
                with contextlib.suppress(refusals):
                    change(victim) if isinstance(victim, list) else change(victim, referred)
            if name == "__iter__":
                return iter((0, 1))
            if name == "__dlpack__":
                return stands.__dlpack__(*args, **kwargs)
            return stands if name == "__array__" else CONVERSIONS[name]

        return convert

    methods = {name: method(name) for name in names}
    if "__dlpack__" in names:
        methods["__dlpack_device__"] = lambda self: (1, 0)
    return type("Changing", (), methods)()
