"""The functions accept and refuse the documented arguments, word their refusals clearly, and change no argument."""

import array
import inspect
from fractions import Fraction

import numpy as np
import pytest
from oracle import torch
from public_inputs import OnlyArray, OnlyDLPack, Subclass, mapped, misaligned, read_only

import cossim
from cossim import simclr

TWO = [cossim.cosine_similarity, cossim.cosine_distance, cossim.vecdot]
ONE = [cossim.vector_norm, cossim.normalize]


class IndexOf:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


KINDS = {
    "list": np.ndarray.tolist,
    "tuple of arrays": tuple,
    "misaligned": misaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "read-only": read_only,
    "torch": lambda x: torch.from_numpy(x),
    "DLPack of torch": lambda x: OnlyDLPack(torch.from_numpy(x)),
    "__array__": OnlyArray,
    "memoryview": memoryview,
    "subclass": lambda x: x.view(Subclass),
    "memmap": mapped,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16], ids=lambda d: np.dtype(d).name)
def test_every_kind_of_array_is_accepted(rng, kind, dtype):
    x, y = ((10 * rng.standard_normal((5, 40))).astype(dtype) for _ in range(2))
    before = x.copy()
    other = KINDS[kind](x)
    if kind == "list":  # lists convert to float64
        x, y = x.astype(np.float64), y.astype(np.float64)
    for function in TWO:
        np.testing.assert_array_equal(function(other, y), function(x, y))
        np.testing.assert_array_equal(function(y, other, dim=0), function(y, x, dim=0))
    np.testing.assert_array_equal(cossim.vector_norm(other, 1), cossim.vector_norm(x, 1))
    np.testing.assert_array_equal(cossim.normalize(other), cossim.normalize(x))
    np.testing.assert_array_equal(cossim.pairwise(other, y), cossim.pairwise(x, y))
    np.testing.assert_array_equal(cossim.pairwise(other), cossim.pairwise(x))
    np.testing.assert_array_equal(before, x)


def test_buffers():
    assert cossim.cosine_similarity(array.array("d", [3, 4]), array.array("f", [4, 3]), 0) == pytest.approx(0.96)
    assert cossim.vector_norm(bytearray([3, 4])) == 5


def test_broadcast_views(rng):
    x = rng.standard_normal(7)
    wide = np.broadcast_to(x, (4, 7))
    y = rng.standard_normal((4, 7))
    np.testing.assert_array_equal(cossim.cosine_similarity(wide, y), cossim.cosine_similarity(wide.copy(), y))
    np.testing.assert_allclose(
        cossim.cosine_similarity(wide.T, y.T, 0), cossim.cosine_similarity(wide.copy(), y), atol=1e-15
    )
    np.testing.assert_allclose(cossim.vector_norm(np.broadcast_to(3.0, (4, 9)), 1), 9)
    assert cossim.vector_norm(np.broadcast_to(np.float32(3.0), (0, 9)), 0).tolist() == [0] * 9


def test_arrays_of_many_dimensions_are_accepted(rng):
    ndim = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    x = rng.standard_normal((1,) * (ndim - 2) + (3, 4))
    assert cossim.cosine_similarity(x, x, -1).shape == x.shape[:-1]
    assert cossim.vector_norm(x).shape == ()
    assert cossim.vector_norm(x, keepdim=True).shape == (1,) * ndim


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16], ids=lambda d: np.dtype(d).name)
def test_out(rng, dtype):
    x, y = rng.standard_normal((2, 6, 9)).astype(np.float64)
    for function in TWO:
        expected = function(x, y)
        plain, swapped = np.zeros(6, dtype), np.zeros(6, np.dtype(dtype).newbyteorder())
        for out in (plain, swapped, np.zeros(12, dtype)[::-2], misaligned(plain)):
            assert function(x, y, out=out) is out
            np.testing.assert_array_equal(out, expected.astype(dtype))
    out = np.empty((), dtype)
    assert cossim.vector_norm(x, out=out) is out
    assert cossim.cosine_similarity(x, y, out=None).shape == (6,)


def test_out_that_overlaps(rng):
    x = rng.standard_normal((5, 5))
    expected = cossim.normalize(x, 1)
    same = x.copy()
    np.testing.assert_array_equal(cossim.normalize(same, 1, out=same), expected)
    transposed = x.copy()
    np.testing.assert_array_equal(cossim.normalize(transposed, 1, out=transposed.T), expected)
    both = rng.standard_normal((6, 5))
    expected = cossim.normalize(both[:-1])
    np.testing.assert_array_equal(cossim.normalize(both[:-1], out=both[1:]), expected)
    row = x.copy()
    expected = cossim.cosine_similarity(x, x[::-1])
    np.testing.assert_array_equal(cossim.cosine_similarity(row, row[::-1], out=row[2]), expected)


def test_out_whose_own_elements_overlap(rng):
    """cossim accepts such an out, as NumPy does. The shared element gets one of the results; no other is written."""
    x, room = rng.standard_normal((5, 5)), np.full(3, 7.0)
    out = np.lib.stride_tricks.as_strided(room[1:], (5,), (0,))
    np.add(x[0], x[1], out=out)
    assert cossim.vector_norm(x, 1, out=out) is out
    assert room[1] in cossim.vector_norm(x, 1)
    assert room[0] == room[2] == 7


X, Y = np.zeros((2, 3)), np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [  # the other messages are in test_messages.py
        (lambda: cossim.cosine_similarity(X, X, 2), np.exceptions.AxisError, ["dim 2", "(2, 3)", "float64", "-2 to 1"]),
        (lambda: cossim.cosine_similarity(X, X, dim=-3), IndexError, ["dim -3"]),
        (lambda: cossim.cosine_similarity(1.0, 2.0), np.exceptions.AxisError, ["dim 1", "()"]),
        (lambda: cossim.cosine_similarity(X, X, 10**30), np.exceptions.AxisError, ["dim", "(2, 3)"]),
        (lambda: cossim.normalize(X, (0, -(2**63))), np.exceptions.AxisError, ["normalize(): dim"]),
        (lambda: cossim.vector_norm(X, (0, IndexOf("1"))), TypeError, ["vector_norm(): dim", "integer", "IndexOf"]),
        (lambda: cossim.vector_norm(X, None, axis=0), TypeError, ["dim", "axis"]),
        (lambda: cossim.cosine_similarity(X, X, eps=float("nan")), ValueError, ["eps", "nan"]),
        (lambda: cossim.cosine_similarity(X, X * 1j), TypeError, ["x2", "(2, 3)", "complex128"]),
        (lambda: cossim.cosine_similarity(X.astype(object), X), TypeError, ["x1", "object"]),
        (lambda: cossim.cosine_similarity(X.astype(np.longdouble), X), TypeError, ["x1", str(np.dtype(np.longdouble))]),
        (lambda: cossim.cosine_similarity(X.astype("M8[s]"), X), TypeError, ["x1", "datetime64"]),
        (lambda: cossim.cosine_similarity(["a", "b"], X), TypeError, ["x1", "<U1"]),
        (lambda: cossim.cosine_similarity(None, X), TypeError, ["x1", "None"]),
        (lambda: cossim.cosine_similarity([[1.0], [1.0, 2.0]], X), ValueError, ["x1", "row 1", "2 elements"]),
        (lambda: cossim.cosine_similarity(np.ma.masked_array(X, X == 0), X), TypeError, ["x1", "masked"]),
        (lambda: cossim.cosine_similarity(torch.zeros(2, 3, requires_grad=True), X), TypeError, ["x1.detach()"]),
        (lambda: cossim.cosine_similarity(X, X, 1, 1e-8, None), TypeError, ["at most 4", "5"]),
        (lambda: cossim.cosine_similarity(X, X, epsilon=1), TypeError, ["unexpected", "epsilon"]),
        (lambda: cossim.cosine_similarity(X, X, x1=X), TypeError, ["multiple", "x1"]),
        (lambda: cossim.cosine_similarity(X, X, out=np.zeros(3)), ValueError, ["out", "(3,)", "(2,)"]),
        (lambda: cossim.cosine_similarity(X, X, out=np.zeros(2, int)), TypeError, ["out", "int64"]),
        (lambda: cossim.cosine_similarity(X, X, out=[0.0, 0.0]), TypeError, ["out", "list"]),
        (lambda: cossim.pairwise(X, out=np.ma.zeros((2, 2))), TypeError, ["pairwise(): out", "masked"]),
        (lambda: cossim.cosine_similarity(X, X, out=read_only(np.zeros(2))), ValueError, ["out", "read-only"]),
        (lambda: cossim.cosine_distance(X, Y), ValueError, ["cosine_distance()", "(2, 3)"]),
        (lambda: cossim.vector_norm(X, (0, 5)), np.exceptions.AxisError, ["dim 5"]),
        (lambda: cossim.vector_norm(X, "a"), TypeError, ["dim", "str"]),
        (lambda: cossim.vector_norm(X, keepdim=True, keepdims=True), TypeError, ["keepdim", "keepdims"]),
        (lambda: cossim.normalize(X, 3), np.exceptions.AxisError, ["dim 3", "(2, 3)"]),
        (lambda: cossim.normalize(X, eps=-1), ValueError, ["eps"]),
        (lambda: cossim.pairwise(X, X[0, 0]), ValueError, ["y", "(N, D)", "()"]),
        (lambda: cossim.pairwise(X[0], X[0, :2]), ValueError, ["3", "2", "(3,)", "(2,)"]),
        (lambda: cossim.pairwise(X, np.zeros((2, 4))), ValueError, ["3", "4", "(2, 3)", "(2, 4)"]),
        (lambda: cossim.pairwise(X, eps=-1), ValueError, ["eps"]),
    ],
)
def test_invalid_arguments_are_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


class Changes:
    """An argument whose conversion changes the array of another argument."""

    def __init__(self, change, value):
        self.change, self.value = change, value

    def __array__(self, *_, **__):
        self.change()
        return self.value

    def __index__(self):
        self.change()
        return self.value


def wide(x):
    x.resize((400, 900), refcheck=False)
    x[:] = 1 + np.arange(360000).reshape(400, 900) % 7


CHANGES = {
    "larger": (wide, (400, 900)),
    "smaller": (lambda x: x.resize((2, 3), refcheck=False), (2, 3)),
    "bytes": (lambda x: setattr(x, "dtype", np.int8), (40, 720)),
    "complex": (lambda x: setattr(x, "dtype", np.complex128), (40, 45)),
    "dates": (lambda x: setattr(x, "dtype", "M8[s]"), (40, 90)),
    "another shape": (lambda x: setattr(x, "shape", (90, 40)), (90, 40)),
    "every second": (lambda x: setattr(x, "strides", (720, 0)), (40, 90)),
}
CHANGED = {
    "cosine_similarity": lambda x, change, other: cossim.cosine_similarity(x, Changes(change, other)),
    "vecdot": lambda x, change, other: cossim.vecdot(x, Changes(change, other)),
    "pairwise": lambda x, change, other: cossim.pairwise(x, Changes(change, other)),
    "topk": lambda x, change, other: cossim.topk(x, Changes(change, other), 2),
    "topk, k": lambda x, change, _: cossim.topk(x, None, Changes(change, 1)),
    "explain": lambda x, change, other: cossim.explain(x, Changes(change, other)).similarity,
    "cosine_similarity_vjp": lambda x, change, other: cossim.cosine_similarity_vjp(x, Changes(change, other))[0],
    "dim": lambda x, change, other: cossim.cosine_distance(x, other, Changes(change, 1)),
    "vector_norm": lambda x, change, _: cossim.vector_norm(x, Changes(change, 1)),
    "normalize": lambda x, change, _: cossim.normalize(x, (Changes(change, -1),)),
}


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("function", CHANGED)
def test_arrays_that_other_arguments_change(function, change):
    """The result belongs to the array before or after the change; freed memory is never read."""

    def outcome(array, change):
        try:
            return CHANGED[function](array, change, np.ones(shape))
        except (TypeError, ValueError) as error:
            return type(error)

    change, shape = CHANGES[change]
    x = np.arange(3600.0).reshape(40, 90) % 11
    before, after = x.copy(), x.copy()
    change(after)
    got, allowed = outcome(x, lambda: change(x)), [outcome(after, lambda: None), outcome(before, lambda: None)]
    if isinstance(got, type):
        assert issubclass(got, (TypeError, ValueError))
    else:
        assert any(not isinstance(one, type) and np.array_equal(got, one) for one in allowed)


@pytest.mark.parametrize("function", ["vector_norm", "normalize", "cosine_similarity", "pairwise"])
def test_no_code_of_the_type_of_out_is_run(function):
    """Code of the type, such as its __getattribute__, could change the operands after they were validated."""
    looked_up = []

    class Meta(type):
        def __getattribute__(cls, name):
            looked_up.append(name)
            return super().__getattribute__(name)

    class Array(np.ndarray, metaclass=Meta):
        pass

    x = np.arange(1.0, 10).reshape(3, 3)
    given = {"vector_norm": (x, 1), "normalize": (x,), "cosine_similarity": (x, x[::-1])}.get(function, (x,))
    expected = getattr(cossim, function)(*given)
    out = np.zeros(expected.shape).view(Array)
    looked_up.clear()
    assert getattr(cossim, function)(*given, out=out) is out
    assert looked_up == []
    np.testing.assert_array_equal(np.asarray(out), expected)


def test_broadcast_shapes_too_large_for_an_index():
    x = np.broadcast_to(1.0, (2**31, 1, 2**20))
    y = np.broadcast_to(1.0, (1, 2**31, 2**20))
    with pytest.raises((ValueError, MemoryError)):
        cossim.cosine_similarity(x, y, 2)


@pytest.mark.parametrize("function", [*TWO, *ONE, cossim.pairwise], ids=lambda f: f.__name__)
def test_signatures_can_be_read(function):
    parameters = inspect.signature(function).parameters
    assert parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["out"].default is None


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_ints_beyond_the_range_of_doubles(value):
    x = np.ones((3, 4))
    calls = {
        "eps": [
            lambda: cossim.cosine_similarity(x, x, eps=value),
            lambda: cossim.normalize(x, eps=value),
            lambda: cossim.pairwise(x, eps=value),
            lambda: cossim.topk(x, x, 1, eps=value),
            lambda: cossim.Index(x, eps=value),
        ],
        "threshold": [lambda: cossim.pairs_above(x, value), lambda: cossim.duplicate_groups(x, value)],
        "temperature": [lambda: simclr.nt_xent(x, x, value)],
    }
    for name, some in calls.items():
        for call in some:
            with pytest.raises(ValueError, match=rf"\(\): {name}\b"):
                call()


class Raising(list):
    def __len__(self):
        raise ZeroDivisionError


class OnDevice:
    device = "cuda:0"

    def cpu(self):
        raise NotImplementedError

    def __array__(self, *args, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([np.ones(3), np.ones(3), np.ones(2)], ValueError, ["row 2", "2 elements", "row 0", "3"]),
        ([[[1, 2], [3, 4]], [[5, 6], [7]]], ValueError, ["x[1]", "row 1", "1 elements", "row 0", "2"]),
        (np.array([["a", 1.5]], object), TypeError, ["x[0, 0]", "'a'"]),
        (np.array([[Fraction(1, 2)]], object), TypeError, ["x", "astype(float)"]),
        ({1.0, 2.0}, TypeError, ["x", "set"]),
        ([1j, 2], TypeError, ["x", "x.real"]),
        (OnDevice(), TypeError, ["cuda:0", "x.cpu()"]),
        (lambda: [torch.zeros(2), torch.zeros(2, requires_grad=True)], TypeError, ["x.detach()"]),
        ([Raising([1.0]), [1.0, 2.0]], ValueError, ["x cannot be read", "inhomogeneous"]),  # NumPy's own words
    ],
)
def test_the_message_says_what_is_wrong_where(rows, error, words):
    rows = rows() if callable(rows) else rows
    for call in (cossim.pairwise, cossim.vector_norm, lambda x: cossim.duplicate_groups(x, 0.5)):
        with pytest.raises(error) as caught:
            call(rows)
        for word in words:
            assert word in str(caught.value)
