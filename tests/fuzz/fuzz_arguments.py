"""Fuzzes the public functions over vectors with arguments of any kind, right and wrong, in any mixture.

A call that succeeds must agree with the references of tests/helpers/reference.py. A call that fails must raise one of
the documented exceptions, or the exception that a bad object raised itself. In both cases the operands stay unchanged.
"""

import contextlib
import io
import operator
import random
import warnings

import numpy as np
import objects
import reference
from objects import Name, Planted, Returns, array_of, other, shape_of
from source import Source

import cossim

ALLOWED = (TypeError, ValueError, IndexError, MemoryError, Planted)

FUNCTIONS = {
    "cosine_similarity": (cossim.cosine_similarity, ("x1", "x2", "dim", "eps", "out", "axis"), 2),
    "cosine_distance": (cossim.cosine_distance, ("x1", "x2", "dim", "eps", "out", "axis"), 2),
    "vecdot": (cossim.vecdot, ("x1", "x2", "dim", "out", "axis"), 2),
    "vector_norm": (cossim.vector_norm, ("x", "dim", "keepdim", "out", "axis", "keepdims"), 1),
    "normalize": (cossim.normalize, ("x", "dim", "eps", "out", "axis"), 1),
    "pairwise": (cossim.pairwise, ("x", "y", "eps", "out", "progress"), 2),
    "topk": (cossim.topk, ("queries", "corpus", "k", "eps", "memory", "progress"), 2),
    "pairs_above": (cossim.pairs_above, ("x", "threshold", "y", "eps", "max_pairs", "memory", "progress"), 1),
    "duplicate_groups": (cossim.duplicate_groups, ("x", "threshold", "eps", "memory", "progress"), 1),
    "Index": (cossim.Index, ("corpus", "eps", "progress"), 1),
    "cosine_similarity_vjp": (cossim.cosine_similarity_vjp, ("x1", "x2", "dim", "eps", "axis"), 2),
    "pairwise_vjp": (cossim.pairwise_vjp, ("x", "y", "eps"), 2),
    "explain": (cossim.explain, ("x1", "x2", "dim", "eps"), 2),
}
REFERENCES = ("cosine_similarity", "cosine_distance", "vecdot", "vector_norm", "normalize", "pairwise")
MATRICES = ("pairwise", "topk", "pairs_above", "duplicate_groups", "Index", "pairwise_vjp")


class Call:
    """One call: a function, its positional and keyword arguments, and the facts that the checks need."""

    def __init__(self, source):
        self.source = source
        self.name = source.pick(list(FUNCTIONS))
        self.function, self.names, self.operands = FUNCTIONS[self.name]
        self.given = {}
        self._operands()
        self._options()

    def _operands(self):
        source = self.source
        shape = shape_of(source, 2 if self.name in MATRICES else None)
        dtypes = objects.NUMBERS if not source.one_in(4) else source.pick((objects.FLOATS[:2], objects.FLOATS))
        self.given[self.names[0]] = array_of(source, shape, dtypes)
        if self.operands == 2 or (self.name == "pairs_above" and source.below(2)):
            if self.name in MATRICES:
                shape = (shape_of(source, 1)[0], shape[-1] if shape else 1)
            else:
                shape = tuple(1 if source.one_in(4) else n for n in shape)[source.one_in(6) :]
            second = "y" if self.name == "pairs_above" else self.names[1]
            same = source.one_in(6)
            self.given[second] = self.given[self.names[0]] if same else array_of(source, shape, dtypes)
            if self.name in ("pairwise", "topk", "pairwise_vjp") and source.one_in(4):
                self.given[second] = None

    def _options(self):
        source = self.source
        ordinary = {
            "dim": lambda: source.pick((1, 0, -1, 2, -2, np.int8(0))),
            "axis": lambda: source.pick((1, 0, -1)),
            "eps": lambda: source.pick((1e-8, 0, 0.5, 1, np.float32(1e-6), 1e-300, 5e-324)),
            "keepdim": lambda: source.pick((True, False, 1)),
            "keepdims": lambda: source.pick((True, False)),
            "k": lambda: source.pick((1, 2, 3, 17, 40, np.int64(2))),
            "threshold": lambda: source.pick((0.5, 0.9, -1, 1, 0, np.float32(0.1))),
            "memory": lambda: source.pick((1, 1000, 1 << 20)),
            "max_pairs": lambda: source.pick((0, 1, 5, 1000)),
            "progress": lambda: source.pick((lambda done, total: None, False, None)),
            "out": lambda: None,
        }
        for name in self.names:
            needed = name in ("k", "threshold")
            if name in ordinary and (needed or source.below(3) == 0) and not source.one_in(40):
                self.given[name] = ordinary[name]()
        if self.name == "vector_norm" and source.one_in(3):
            self.given["dim"] = source.pick(((0,), (0, 1), (), None, [1], (0, -1)))
        if source.one_in(3):  # a wrong argument
            self.given[source.pick(self.names)] = other(source)
        if source.one_in(16):
            self.given.pop(source.pick(self.names), None)

    def arguments(self):
        source, given = self.source, dict(self.given)
        args, kwargs = [], {}
        for name in self.names:
            if name not in given or source.below(4) == 0 and name != self.names[0]:
                break
            if name in ("out", "axis", "progress", "keepdims", "memory", "max_pairs"):
                break
            args.append(given.pop(name))
        for name, value in given.items():
            kwargs[Name(name) if source.one_in(64) else name] = value
        if source.one_in(48):
            kwargs[source.pick(("nonsense", "", "X1", "dim\0"))] = other(source)
        if source.one_in(48):
            args.append(other(source))
        return args, kwargs


def _bytes(x):
    """The bytes of the array that owns the argument's memory, or None if they are not compared."""
    if type(x) is not np.ndarray or x.dtype.hasobject:
        return None
    while type(x.base) is np.ndarray:
        x = x.base
    return x.copy(order="K").tobytes() if x.size < 1 << 16 else None


def _out(call, expected):
    """An array for out=, which sometimes shares memory with an operand, and its dtype."""
    source, shape = call.source, np.shape(expected)
    dtype = source.pick(objects.FLOATS)
    x = call.given.get(call.names[0])
    kind = source.below(8)
    if kind == 1:
        return np.empty(shape, dtype, order="F"), dtype
    if kind == 2 and np.size(expected) and len(shape) < 7:
        return np.empty(tuple(2 * n for n in shape), dtype)[(..., *(slice(None, None, 2) for _ in shape))], dtype
    if kind == 3:
        return np.empty(shape, dtype)[(..., *(slice(None, None, -1) for _ in shape))], dtype
    if kind == 4:
        raw = np.empty(np.empty(shape, dtype).nbytes + 1, np.uint8)
        return raw[1:].view(dtype).reshape(shape), dtype
    if kind == 5 and type(x) is np.ndarray and x.flags.writeable and x.dtype.name in ("float64", "float32", "float16"):
        flat = x.reshape(-1) if x.flags.c_contiguous else None
        n = int(np.prod(shape))
        if flat is not None and n <= flat.size:
            start = source.byte() % (flat.size - n + 1)
            return flat[start : start + n].reshape(shape), x.dtype
    return np.empty(shape, dtype), dtype


def _tolerance(dtype, matrix):
    return {"float64": 1e-13, "float32": 2e-6 if matrix else 3e-7, "float16": 2e-3, "bfloat16": 1.6e-2}[dtype.name]


def _moderate(x):
    """Tells whether x is an array of finite numbers below 1e150, whose squares a longdouble sums without overflow."""
    if type(x) is not np.ndarray or x.dtype not in objects.NUMBERS:
        return False
    values = reference.wide(x)
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.isfinite(values) & (np.abs(values) < 1e150)))


def _check_value(call, args, kwargs, result):
    """Compares the result with the reference, if the arguments are valid and unambiguous."""
    options = kwargs | dict(zip(call.names, args, strict=False))
    operands = [options.pop(name) for name in call.names[: call.operands] if name in options]
    options.pop("out", None)
    options.pop("progress", None)
    if not all(x is None or (_moderate(x) and x.ndim <= 32) for x in operands) or options.get("eps", 1) in (0, False):
        return
    for name, own in (("axis", "dim"), ("keepdims", "keepdim")):  # NumPy's names; None means not given
        if (value := options.pop(name, None)) is not None:
            options[own] = value
    if "keepdim" in options:
        options["keepdim"] = bool(options["keepdim"])
    if call.name in ("normalize", "cosine_similarity", "cosine_distance"):
        options.setdefault("dim", 0 if max(x.ndim for x in operands) == 1 else 1)  # single vectors have one dim
    dim = options.get("dim")
    if isinstance(dim, (tuple, list)) or dim is None and call.name in ("vector_norm", "normalize"):
        options["dim"] = tuple(dim) if dim else None
    if "eps" in options:
        options["eps"] = float(options["eps"])
    if call.name not in ("pairwise", "vector_norm", "normalize"):
        if not any(x.ndim for x in operands):  # a 0-d array takes the same dims as an array of shape (1,)
            operands = [x.reshape(1) for x in operands]
            options["dim"] = 0
    elif call.name != "pairwise" and not operands[0].ndim:
        options["dim"] = None
    if not isinstance(options.get("dim", 0), (int, np.integer, tuple, type(None))):
        options["dim"] = operator.index(options["dim"])
    expected = getattr(reference, call.name)(*operands, **options)
    got = reference.wide(result)
    scale = 1.0
    if call.name == "vecdot":  # the error is relative to the terms, which may cancel out
        scale += np.max(reference.vecdot(*(np.abs(reference.wide(x)) for x in operands), **options), initial=0)
    elif call.name == "vector_norm":
        scale += np.max(expected, initial=0)
    assert got.shape == np.shape(expected), (got.shape, np.shape(expected))
    dtype = np.asarray(result).dtype
    narrowest = min((_tolerance(x.dtype, True) for x in operands if x is not None and x.dtype.kind == "f"), default=0)
    tolerance = max(_tolerance(dtype.newbyteorder("="), True), narrowest if narrowest < 1e-5 else 2e-6) * scale
    with np.errstate(all="ignore"):
        largest = {"float16": 65504}.get(dtype.name, 3e38)
        fine = (
            (np.abs(got - expected) <= tolerance) | (np.isnan(got) & np.isnan(expected)) | (np.abs(expected) > largest)
        )
    assert fine.all(), (call.name, options, got, expected)


def _check_rest(call, result):
    if call.name in ("cosine_similarity", "pairwise"):
        with np.errstate(invalid="ignore"):
            values = reference.wide(result)
        assert np.all(np.isnan(values) | (np.abs(values) <= 1))
    if call.name == "topk":
        values, indices = map(np.atleast_2d, result)
        assert values.shape == indices.shape
        assert indices.dtype == np.int64 and np.all(indices >= -1)
        assert np.all(np.isnan(values[indices < 0]))  # places that no row fills
    if call.name == "Index":
        result.topk(np.ones((2, result.dim), np.float32), 1)
        result.pairs_above(np.ones((1, result.dim)), 0.5)
    if call.name.endswith("_vjp"):
        y, pullback = result
        pullback(np.ones(np.shape(y), np.asarray(y).dtype))
    if call.name == "explain":
        str(result)
        result._repr_html_()


def run(data):
    call = Call(Source(data))
    args, kwargs = call.arguments()
    before = [(x, _bytes(x)) for x in (*args, *kwargs.values())]
    out = next((value for name, value in kwargs.items() if str(name) == "out"), None)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # progress=True prints a bar
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        try:
            result = call.function(*args, **kwargs)
        except ALLOWED:
            result = Planted
        except OverflowError:  # raised by bool(object), through the object's own __len__
            assert any(isinstance(x, Returns) for x in (*args, *kwargs.values()))
            result = Planted
        except OSError:  # a path that does not exist
            assert any(isinstance(x, str) or hasattr(type(x), "__fspath__") for x in (*args, *kwargs.values()))
            result = Planted
    for x, held in before:
        assert held is None or _bytes(x) == held or out is x, "an argument was changed"
    if result is Planted:
        return
    with np.errstate(all="ignore"):
        if call.name in REFERENCES and out is None and all(type(name) is str for name in kwargs):
            _check_value(call, args, kwargs, result)
            _check_out(call, args, kwargs, result)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        _check_rest(call, result)


def _check_out(call, args, kwargs, expected):
    """Repeats the call with out=, which must receive the same numbers, rounded to its dtype."""
    kwargs.pop("out", None)
    out, _ = _out(call, expected)
    if call.source.one_in(8):
        out.flags.writeable = False
        try:
            call.function(*args, **kwargs, out=out)
        except ValueError:
            return
        raise AssertionError("wrote to a read-only array")
    assert call.function(*args, **kwargs, out=out) is out
    got, wanted = reference.wide(out), reference.wide(expected)
    narrow = max(_tolerance(np.asarray(x).dtype.newbyteorder("="), True) for x in (out, expected))
    with np.errstate(all="ignore"):
        close = np.abs(got - wanted) <= narrow * (1 + np.abs(wanted))
        beyond = np.abs(wanted) >= 65000
        assert np.all(close | beyond | (np.isnan(got) & np.isnan(wanted)) | (got == wanted)), (call.name, got, wanted)


def seeds():
    return [random.Random(i).randbytes(64) for i in range(64)] + [bytes((i, 1, 2, 3)) for i in range(len(FUNCTIONS))]
