"""Provides a call, of any size, of every public function, class and method, for tests that try all of them.

`names()` lists the public names, so `test_references.py` fails if a new one has no case here.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from public_inputs import (
    BOXES,
    FILES,
    LAYOUTS,
    MORE,
    STORED,
    Options,
    called,
    cast,
    ignore,
    instead,
    kinds,
    new_path,
    options,
    read_only,
)

import cossim
import cossim.nn as nn
import cossim.simclr as simclr

MODULES = (cossim, nn, simclr)
SPECIAL = ("__call__", "__getitem__", "__iter__", "__len__", "__repr__", "__getstate__")


class Case(NamedTuple):
    """A call of a public function, class or method, with the facts that tests need."""

    call: Callable
    make: Callable  # (rng, size) -> new arguments
    bad: Callable = lambda *args: [(*args, 1, 2, 3, 4)]  # (*arguments) -> lists of arguments that are refused
    changes: tuple = ()  # positions of arguments that the call changes, as documented
    more: tuple = ()  # functions (call, arguments of `make`) -> other valid arguments

    def inputs(self, rng, size):
        """Valid arguments of all kinds."""
        yield self.make(rng, size)
        for other in self.more:
            yield other(self.call, self.make(rng, size))


def names():
    """ "topk", "Index", "Index.topk", "nn.conv2d", ..."""
    for module in MODULES:
        prefix = module.__name__.replace("cossim", "", 1).removeprefix(".") + "."
        for name in module.__all__:
            value = getattr(module, name)
            if value in MODULES or name == "__version__":
                continue
            yield (prefix + name).removeprefix(".")
            if isinstance(value, type):
                yield from (f"{prefix}{name}.{method}".removeprefix(".") for method in methods(value))


def methods(cls):
    """Public methods of a class, including those that it inherits from another class of cossim."""
    for name in dir(cls):
        ours = any(name in vars(base) and base.__module__.startswith("cossim") for base in cls.__mro__)
        value = getattr(cls, name)
        if ours and (name in SPECIAL or not name.startswith("_")) and (callable(value) or isinstance(value, property)):
            yield name


def found(name):
    value = cossim
    for part in name.split("."):
        value = getattr(value, part)
    return value.fget if isinstance(value, property) else value


# ---- arguments ----


def floats(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def one(*shape):
    """Makes a float32 array whose first dimension grows with the size."""
    return lambda rng, size: (floats(rng, shape[0] * size, *shape[1:]),)


def two(*shape):
    return lambda rng, size: (floats(rng, shape[0] * size, *shape[1:]), floats(rng, shape[0] * size, *shape[1:]))


def also(make, *more):
    return lambda rng, size: (*make(rng, size), *more)


def convolution(rng, size):
    return floats(rng, size, 2, 8, 8), floats(rng, 3, 2, 3, 3), floats(rng, 3)


def normalization(rng, size):
    positive = np.abs(floats(rng, 2)) + np.float32(0.5)
    return floats(rng, size, 2, 4, 4), floats(rng, 2), positive, floats(rng, 2), floats(rng, 2)


def affine(rng, size):
    return floats(rng, 3 * size, 8), floats(rng, 5, 8), floats(rng, 5)


def views(rng, size):
    return floats(rng, 4 * size, 8), floats(rng, 4 * size, 8)


def pulled(vjp):
    """Calls a function of gradients, and then the pullback that it returns."""

    def call(*args, **kwargs):
        y, pullback = vjp(*args, **kwargs)
        return y, pullback(np.ones_like(y))

    return call


def wrong_arrays(x, *rest):
    """Arrays whose type or content every function refuses."""
    yield from ((wrong, *rest) for wrong in ("text", None, [[1.0], [1.0, 2.0]], x.astype(complex), x.astype(object)))


def wrong_queries(x, *rest):
    """The same for the queries of an index, which may be None."""
    return (wrong for wrong in wrong_arrays(x, *rest) if wrong[0] is not None)


def wrong_layers(x, *rest):
    """Arrays that layers refuse; layers take fewer types than other functions."""
    yield from wrong_arrays(x, *rest)
    yield from ((x.astype(np.float16), *rest), (x.astype(int), *rest))


def bad_pair(x, y, *rest):
    yield from wrong_arrays(x, y, *rest)
    yield from ((x, wrong) for wrong in ("text", y[:, :-1], y.astype(complex)))
    yield from ((x, y, wrong) for wrong in (5, -3, 0.5, "0", True, 2**70))


def bad_out(x, *rest):
    """Arrays for a result that have a wrong shape or type, or cannot be written to."""
    wrong = WRONG_SHAPE, np.zeros(len(x), int), read_only(np.zeros(len(x))), [0.0] * len(x)
    return [(x, *rest, Options(out=out)) for out in wrong]


def bad_search(x, y, k):
    yield from wrong_arrays(x, y, k)
    yield from ((x, y[:, :-1], k), (x[None], y, k), (x, y, "3"), (x, y, -5), (x, y, 2**70))


def bad_choice(x, y, k):
    yield from bad_search(x, y, k)
    yield from ((x, y, k, 1.5), (x, y, k, "0"), (x, y, k, 0.5, 0), (x, y, k, 0.5, "2"))


def bad_documents(x, y, offsets):
    yield from ((x, wrong) for wrong in (5, [x[:0]], [x[0]], [y, y[:, 1:]], ["text"], [y.astype(complex)]))
    yield from ((x, y, wrong) for wrong in ([], [0, 4, 1], [0, 2, 2, len(y)], [0.0, 4.0], "text", [1, len(y)]))
    yield from ((x, [y], None, k) for k in (0, "1", 2**70))


# ---- functions ----

WRONG_SHAPE = np.zeros((3, 3, 3, 3))  # made once: in some versions of NumPy, such a call leaks a reference to the dtype
ROWS = two(4, 8)
CASES = {
    name: Case(found(name), make, bad)
    for name, make, bad in [
        ("cosine_similarity", ROWS, lambda x, y: [*bad_pair(x, y), *bad_out(x, y), (x, y, 1, -1.0), (x, y, 1, 1, 1)]),
        ("cosine_distance", ROWS, lambda x, y: [*bad_pair(x, y), *bad_out(x, y), (x, y, 1, "0")]),
        ("vecdot", ROWS, lambda x, y: [*bad_pair(x, y), *bad_out(x, y)]),
        ("normalize", one(4, 8), lambda x: [*wrong_arrays(x), *bad_out(x), (x, (0, 0)), (x, 1, np.nan), (x, 2)]),
        ("vector_norm", one(4, 8), lambda x: [*wrong_arrays(x), *bad_out(x), (x, (1, 1)), (x, [0, 5]), (x, 0.5)]),
        ("pairwise", ROWS, lambda x, y: [*wrong_arrays(x, y), *bad_out(x, y), (x, y[:, :-1]), (x, y[None])]),
        ("topk", also(ROWS, 3), bad_search),
        ("pairs_above", also(one(4, 8), 0.3), lambda x, t: [*wrong_arrays(x, t), (x, 2), (x, "0"), (x, t, x[:, 1:])]),
        ("duplicate_groups", also(one(4, 8), 0.3), lambda x, t: [*wrong_arrays(x, t), (x[None], t), (x, -3)]),
        ("top_pairs", also(one(4, 8), 3), lambda x, m: [*wrong_arrays(x, m), (x, 0), (x, "3"), (x, m, x[:, 1:])]),
        ("deduplicate", also(one(4, 8), 0.3), lambda x, t: [*wrong_arrays(x, t), (x, 2), (x, "0")]),
        (
            "communities",
            also(one(4, 8), 0.3, 2),
            lambda x, t, n: [*wrong_arrays(x, t, n), (x, 2), (x, t, 0), (x, t, "2")],
        ),
        ("diverse", also(ROWS, 3), bad_choice),
        ("maxsim", lambda rng, size: (*ROWS(rng, size), [0, 1, 4 * size]), bad_documents),
        ("cosine_similarity_vjp", ROWS, bad_pair),
        ("pairwise_vjp", ROWS, lambda x, y: [*wrong_arrays(x, y), (x, y[:, :-1])]),
        ("explain", two(2, 4), bad_pair),
        ("get_num_threads", lambda rng, size: (), lambda: [(1,)]),
        ("set_num_threads", lambda rng, size: (2,), lambda n: [(0,), (-1,), (2**40,), (1.0,), ("2",), (True,)]),
        ("threads", lambda rng, size: (2,), lambda n: [(0,), (2**40,), (1.0,), (None,)]),
        ("show_config", lambda rng, size: ("dicts",), lambda mode: [("json",), (1, 2)]),
        ("nn.conv2d", convolution, lambda x, w, b: [*wrong_layers(x, w, b), (x, w[:, :1], b), (x, w, b, 0)]),
        ("nn.conv2d_vjp", convolution, lambda x, w, b: [*wrong_layers(x, w, b), (x, w, b, 1, "no"), (x, w, b, 1, -1)]),
        ("nn.linear", affine, lambda x, w, b: [*wrong_layers(x, w, b), (x, w[:, :-1], b), (x, w, b[:2])]),
        ("nn.linear_vjp", affine, lambda x, w, b: [*wrong_layers(x, w, b), (x, w[:, :-1], b)]),
        ("nn.max_pool2d", also(one(1, 2, 6, 6), 2), lambda x, k: [*wrong_layers(x, k), (x, 0), (x, "2"), (x, 2, 2, 2)]),
        ("nn.max_pool2d_vjp", also(one(1, 2, 6, 6), 2), lambda x, k: [*wrong_layers(x, k), (x, 9), (x, (1, 2, 3))]),
        (
            "nn.avg_pool2d",
            also(one(1, 2, 6, 6), 2),
            lambda x, k: [*wrong_layers(x, k), (x, 0), (x, "2"), (x, 2, 1, 0, False, True, 0)],
        ),
        ("nn.avg_pool2d_vjp", also(one(1, 2, 6, 6), 2), lambda x, k: [*wrong_layers(x, k), (x, 9), (x, (1, 2, 3))]),
        ("nn.adaptive_avg_pool2d", also(one(1, 2, 6, 6), 2), lambda x, n: [*wrong_layers(x, n), (x, -1), (x, "2")]),
        ("nn.adaptive_avg_pool2d_vjp", also(one(1, 2, 6, 6), 2), lambda x, n: [*wrong_layers(x, n), (x, (1, 2, 3))]),
        (
            "nn.batch_norm",
            normalization,
            lambda x, *rest: [*wrong_layers(x, *rest), (x[:, :1], *rest), (x, None, None)],
        ),
        ("nn.batch_norm_vjp", normalization, lambda x, *rest: [*wrong_layers(x, *rest), (x[0, 0, 0], *rest)]),
        ("nn.dropout", also(one(4, 8), 0.5, False), lambda x, *rest: [*wrong_layers(x, *rest), (x, 2), (x, "0")]),
        ("nn.dropout_vjp", also(one(4, 8), 0.5, False), lambda x, *rest: [*wrong_layers(x, *rest), (x, -1)]),
        ("nn.gelu", one(4, 8), lambda x: [*wrong_layers(x), (x, "erf"), (x, None)]),
        ("nn.gelu_vjp", one(4, 8), lambda x: [*wrong_layers(x), (x, 1)]),
        ("nn.leaky_relu", one(4, 8), lambda x: [*wrong_layers(x), (x, "1"), (x, True)]),
        ("nn.leaky_relu_vjp", one(4, 8), lambda x: [*wrong_layers(x), (x, None)]),
        ("nn.relu", one(4, 8), wrong_layers),
        ("nn.relu_vjp", one(4, 8), wrong_layers),
        ("simclr.nt_xent", views, lambda x, y: [*wrong_arrays(x, y), (x, y[1:]), (x, y, 0.0), (x[0], None)]),
        ("simclr.nt_xent_value_and_grad", views, lambda x, y: [*wrong_arrays(x, y), (x, y[1:]), (x, y, -1.0)]),
        ("simclr.similarity_matrix", views, lambda x, y: [*wrong_arrays(x, y), (x, y[:, 1:])]),
        ("simclr.augment", also(one(1, 1, 6, 6), 7), lambda x, s: [*wrong_layers(x, s), (x, "seed"), (x[0, 0, 0], s)]),
    ]
}
for _name in [name for name in CASES if name.endswith("_vjp")]:
    CASES[_name] = CASES[_name]._replace(call=pulled(CASES[_name].call))
CASES["explain"] = CASES["explain"]._replace(call=lambda *args: str(cossim.explain(*args)))


def _threads(n):
    with cossim.threads(n):
        return None


CASES["threads"] = CASES["threads"]._replace(call=_threads)

# ---- search ----


def index(rng, size):
    return cossim.Index(floats(rng, 8 * size, 8))


def saved_index(rng, size):
    path = Path(FILES.name) / f"of {size} rows.index"  # new_path() makes names of numbers
    index(rng, size).save(path)
    return path


def indexed(*more):
    return lambda rng, size: (index(rng, size), floats(rng, 2 * size, 8), *more)


def saved_rows(rng, size):
    np.save(path := new_path(".npy"), floats(rng, size, 8))
    return path


def other_indexes():
    """Indexes of other types, and one that is mapped from a file."""
    change = lambda i, convert: cossim.Index(convert(i.corpus))  # noqa: E731
    for convert in map(cast, (float, np.float16, ml_dtypes.bfloat16, np.int8, bool)):
        yield lambda call, given, convert=convert: (change(given[0], convert), *given[1:])

    def loaded(call, given):
        given[0].save(path := new_path(".index"))
        return cossim.Index.load(path), *given[1:]

    yield loaded


def rows_of_its_type(other):
    """The same arguments, with rows that an index of another type can take."""

    def arguments(call, given):
        i, rows = other(call, given)
        return i, rows.astype(i.corpus.dtype)

    return arguments


CASES |= {
    "CosineSimilarity": Case(cossim.CosineSimilarity, lambda rng, size: (1, 1e-8), lambda *args: [(1, 1e-8, 1)]),
    "CosineSimilarity.__call__": Case(
        cossim.CosineSimilarity.__call__,
        lambda rng, size: (cossim.CosineSimilarity(), *ROWS(rng, size)),
        lambda f, x, y: [(f, *wrong) for wrong in wrong_arrays(x, y)],
    ),
    "Index": Case(
        cossim.Index, one(8, 8), lambda x: [*wrong_queries(x), (None,), (x[None],), (x[:, :0],), ("no such file",)]
    ),
    "Index.topk": Case(
        cossim.Index.topk, indexed(3), lambda i, x, k: [*((i, *w) for w in wrong_queries(x, k)), (i, x[:, 1:], k)]
    ),
    "Index.pairs_above": Case(
        cossim.Index.pairs_above, indexed(0.3), lambda i, x, t: [*((i, *w) for w in wrong_queries(x, t)), (i, x, 2.0)]
    ),
    "Index.duplicate_groups": Case(
        cossim.Index.duplicate_groups, lambda rng, size: (index(rng, size), 0.3), lambda i, t: [(i, 2.0), (i, "0.3")]
    ),
    "Index.add": Case(
        lambda i, rows: copy.copy(i).add(rows),  # each call starts from the same rows
        indexed(),
        lambda i, x: [*((i, *w) for w in wrong_arrays(x)), (i, x[:, 1:]), (i, "no such file")],
    ),
    "Index.remove": Case(
        lambda i, numbers: copy.copy(i).remove(numbers),
        lambda rng, size: (index(rng, size), np.arange(0, 8 * size, 2)),
        lambda i, n: [(i, n - 1), (i, [1, 1]), (i, n / 2), (i, n > 1), (i, None)],
    ),
    "Index.compact": Case(lambda i: copy.copy(i).compact(), lambda rng, size: (index(rng, size),)),
    "Index.__getitem__": Case(
        cossim.Index.__getitem__,
        lambda rng, size: (index(rng, size), np.arange(0, 8 * size, 3)),
        lambda i, n: [(i, n - 1), (i, n / 2), (i, n > 1), (i, slice(2))],
    ),
    "Index.__getstate__": Case(cossim.Index.__getstate__, lambda rng, size: (index(rng, size),)),
    "Index.save": Case(
        cossim.Index.save,
        lambda rng, size: (index(rng, size), Path(FILES.name) / f"saved {size}.index"),
        lambda i, path: [(i, path.parent / "no such folder" / "i"), (i, 5.0)],
    ),
    "open_rows": Case(
        cossim.open_rows,
        lambda rng, size: (saved_rows(rng, size),),
        lambda path: [(path.parent / "no such file",), (Path(__file__),), (5,), ([],), (path, "name")],
    ),
    "Index.load": Case(
        cossim.Index.load,
        lambda rng, size: (saved_index(rng, size),),
        lambda path: [(path.parent / "no such file",), (Path(__file__),)],
    ),
}
for _method in ("__len__", "__repr__", "binary", "corpus", "dim", "dtype", "eps", "nbytes", "numbers"):
    CASES[f"Index.{_method}"] = Case(found(f"Index.{_method}"), lambda rng, size: (index(rng, size),))
for _name in [name for name in CASES if name.startswith("Index.") and name != "Index.load"]:
    CASES[_name] = CASES[_name]._replace(more=(*MORE.pop(_name, ()), *other_indexes()))
CASES["Index.add"] = CASES["Index.add"]._replace(more=[rows_of_its_type(other) for other in other_indexes()])


def tuple_cases(cls, count):
    """Cases of a named tuple with this many arrays."""
    make = lambda rng, size: [floats(rng, size, 2) for _ in range(count)]  # noqa: E731
    yield "", Case(cls, make, lambda *fields: [fields[1:], (*fields, 1)])
    yield ".__repr__", Case(cls.__repr__, lambda rng, size: (cls(*make(rng, size)),))


def some_pairs(rng, size):
    return cossim.Pairs(np.arange(size), np.arange(1, size + 1), floats(rng, size))


def some_topk(rng, size):
    return cossim.TopK(floats(rng, size, 2), np.tile([1, 0], (size, 1)))


TOO_FEW = lambda result: [(result, [])]  # noqa: E731
for _make in (some_pairs, some_topk):
    for _method, _bad in (("to_list", TOO_FEW), ("to_pandas", TOO_FEW), ("to_csr", lambda r: [(r, (1, 1)), (r, 5)])):
        _cls = "TopK" if _make is some_topk else "Pairs"
        CASES[f"{_cls}.{_method}"] = Case(
            found(f"{_cls}.{_method}"), lambda rng, size, make=_make: (make(rng, 3 * size),), _bad
        )
CASES["Pairs.sorted"] = Case(cossim.Pairs.sorted, lambda rng, size: (some_pairs(rng, size),))
for _name, _count in (("TopK", 2), ("Pairs", 3), ("simclr.Training", 2)):
    CASES |= {_name + method: case for method, case in tuple_cases(found(_name), _count)}
CASES["CosineSimilarity.__repr__"] = Case(repr, lambda rng, size: (cossim.CosineSimilarity(),))

# ---- layers ----


class WithoutGradient(nn.Module):
    """A minimal layer of a user, without a gradient."""

    def forward(self, x):
        return 2 * x


class Doubled(WithoutGradient):
    """A layer of a user with a gradient."""

    parameter_names = ("weight",)

    def __init__(self, rng):
        self.weight = floats(rng, 3)

    def vjp(self, x):
        return 2 * x, lambda dy, input_gradient=True: (2 * dy, {"weight": self.weight})


def small_network(rng):
    first, last = nn.Conv2d(1, 2, 3, rng=rng), nn.Linear(18, 3, rng=rng)
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), last)


# (function that makes the layer, shape of its input, arguments of its class, arguments that the class refuses)
LAYERS = {
    "Module": (Doubled, (2, 3), (), [(1,)]),
    "Conv2d": (lambda rng: nn.Conv2d(1, 2, 3, rng=rng), (1, 1, 8, 8), (1, 2, 3), [(1, 2), (1, 2, 0), (0.5, 2, 3)]),
    "MaxPool2d": (lambda rng: nn.MaxPool2d(2), (1, 1, 8, 8), (2,), [()]),
    "AvgPool2d": (lambda rng: nn.AvgPool2d(2), (1, 1, 8, 8), (2,), [()]),
    "AdaptiveAvgPool2d": (lambda rng: nn.AdaptiveAvgPool2d(3), (1, 1, 8, 8), (3,), [()]),
    "BatchNorm2d": (lambda rng: nn.BatchNorm2d(2).eval(), (1, 2, 8, 8), (2,), [(), (-1,), (0.5,), (2, "eps")]),
    "Dropout": (lambda rng: nn.Dropout(0.5, rng=0).eval(), (4, 8), (0.5,), [(2,), ("0",)]),
    "GELU": (lambda rng: nn.GELU(), (4, 8), (), [(1, 2)]),
    "LeakyReLU": (lambda rng: nn.LeakyReLU(), (4, 8), (), [("1",)]),
    "ReLU": (lambda rng: nn.ReLU(), (4, 8), (), [(1,)]),
    "Flatten": (lambda rng: nn.Flatten(), (2, 3, 4), (), [(1, 2, 3)]),
    "Linear": (lambda rng: nn.Linear(8, 3, rng=rng), (4, 8), (8, 3), [(8,), (-1, 3), (8, "3")]),
    "Sequential": (small_network, (1, 1, 8, 8), (nn.ReLU(), nn.Flatten()), [(1,), (nn.ReLU(), "text")]),
    "simclr.Encoder": (
        lambda rng: simclr.Encoder(rng=rng),
        (1, 1, 28, 28),
        (),
        [(1, 2), (np.float16,), (0,), (1, (28, 15))],
    ),
}


# Other arguments of these classes; the layers take the same input
OTHERS = {
    "nn.Conv2d": [
        (1, 4, (3, 2), 2, 1, 2, 1, False),
        (1, 2, 3, Options(padding="same", padding_mode="reflect", dtype=float, rng=0)),
    ],
    "nn.MaxPool2d": [(3, 1, 1, Options(ceil_mode=True))],
    "nn.AvgPool2d": [(3, 1, 1, True, False), (2, Options(divisor_override=3))],
    "nn.AdaptiveAvgPool2d": [((1, None),)],
    "nn.BatchNorm2d": [(2, 1e-3, None, False, False), (2, Options(bias=False, dtype=float))],
    "nn.Dropout": [(0.0,)],
    "nn.GELU": [("tanh",)],
    "nn.LeakyReLU": [(0.5,)],
    "nn.Flatten": [(0,), (-2, -1)],
    "nn.Linear": [(8, 2, False), (8, 3, Options(dtype=float, rng=0))],
    "nn.Sequential": [
        (),
        (nn.Flatten(), nn.Linear(64, 2, dtype=float)),
        ({"pool": nn.MaxPool2d(8), "flat": nn.Flatten()},),
    ],
    "simclr.Encoder": [(Options(dtype=float, rng=0),), (1, (28, 28), Options(rng=0))],
}


def layer_case(cls, method, make, shape, arguments, refused):
    """Returns the Case of a layer class (method is None) or of one of its methods."""
    function = found(f"{cls}.{method}") if method else found(cls)
    if method is None:
        more = [instead(*others) for others in OTHERS.get(cls, ())]
        return Case(function, lambda rng, size: arguments, lambda *args: refused, more=more)

    def others(rest):
        """Other layers of the same class, with other valid arguments."""
        made = lambda others, given: (layer := called(found(cls), others), *rest(layer, *given[1:]))  # noqa: E731
        return [lambda call, given, others=others: made(others, given) for others in OTHERS.get(cls, ())]

    if method in ("__call__", "forward", "vjp"):

        def bad(layer, x):
            wrong = [] if cls == "nn.Module" else ["text", None, x.astype(complex), np.ma.masked_array(x, x > 0)]
            wrong += [] if cls in ("nn.Module", "nn.Flatten") else [x.astype(np.float16)]
            no_gradient = WithoutGradient() if method == "vjp" else layer
            return [(layer, x, 1, 2, 3), (no_gradient,), *((layer, wrong) for wrong in wrong)]

        call = pulled(lambda layer, x: layer.vjp(x)) if method == "vjp" else function
        make_x = lambda rng, size: (make(rng), floats(rng, shape[0] * size, *shape[1:]))  # noqa: E731
        more = others(lambda layer, x: [next((x.astype(w.dtype) for w in layer.state_dict().values()), x)])
        boxes = LAYOUTS.values() if cls == "nn.Module" else BOXES
        changes = (0,) if cls == "nn.BatchNorm2d" else ()  # its running statistics
        return Case(call, make_x, bad, changes, [*more, *kinds(*boxes)])
    if method == "load_state_dict":
        states = lambda rng, size: (make(rng), make(rng).state_dict())  # noqa: E731
        refused = lambda layer, state: [(layer, {"no": 1}), (layer, 5), (layer, "no such.npz")]  # noqa: E731
        more = [*others(lambda layer, state: [layer.state_dict()]), *kinds(*BOXES), options(strict=False)]
        return Case(function, states, refused, (0,), [*more, in_a_file])
    if method == "__getitem__":
        more = [instead(nn.Sequential(nn.ReLU(), nn.Flatten()), np.int8(-1))]
        return Case(
            function, lambda rng, size: (make(rng), 1), lambda layer, i: [(layer, 99), (layer, "text")], more=more
        )
    changes = (0,) if method in ("train", "eval") else ()
    return Case(function, lambda rng, size: (make(rng),), changes=changes, more=others(lambda layer: []))


def in_a_file(call, given):
    """Replaces the last argument, a dict of arrays, by the path of a file that holds it."""
    path = new_path(".npz")
    nn.save_weights(path, given[-1])
    return *given[:-1], path


for _cls, _parts in LAYERS.items():
    _cls = _cls if "." in _cls else f"nn.{_cls}"
    for _method in (None, *methods(found(_cls))):
        CASES[f"{_cls}.{_method}" if _method else _cls] = layer_case(_cls, _method, *_parts)
CASES["nn.Module"] = CASES["nn.Module"]._replace(call=nn.Module)

# ---- optimizers, files, training ----


def parameters(rng):
    return {"weight": floats(rng, 3, 4), "bias": floats(rng, 3)}


def weights_file(rng, size):
    path = Path(FILES.name) / f"{size}.npz"
    nn.save_weights(path, {"weight": floats(rng, size, 4)})
    return path


SETTINGS = {
    nn.SGD: [Options(momentum=0.9, nesterov=True), Options(momentum=0.5, dampening=0.1, weight_decay=0.1)],
    nn.Adam: [Options(betas=[0.5, 0.9], eps=1e-3, weight_decay=0.1)],
    nn.AdamW: [Options(betas=[0.5, 0.9], eps=1e-3, weight_decay=0.1)],
}


def optimizer_cases(cls):
    make = lambda rng, size: (cls(parameters(rng), 0.01),)  # noqa: E731
    stepped = lambda optimizer, gradients: [(optimizer, 5), (optimizer, {}), (optimizer, gradients | {"more": 1})]  # noqa: E731
    steps = lambda rng, size: (*make(rng, size), parameters(rng))  # noqa: E731
    loads = lambda rng, size: (*make(rng, size), make(rng, size)[0].state_dict())  # noqa: E731
    refused = lambda given, lr: [(5, lr), ({}, lr), (given, -1.0), (given, "1")]  # noqa: E731

    def others(rest):
        """Other optimizers of the same class, with other valid arguments."""
        made = lambda more: cls(parameters(np.random.default_rng(0)), 0.01, **more)  # noqa: E731
        return [lambda call, given, more=more: (o := made(more), *rest(o, *given[1:])) for more in SETTINGS[cls]]

    more = [options(**settings) for settings in SETTINGS[cls]] + kinds(cast(float))
    yield "", Case(cls, lambda rng, size: (parameters(rng), 0.01), refused, (0,), more)
    yield (
        ".step",
        Case(cls.step, steps, stepped, (0,), [*others(lambda o, gradients: [gradients]), *kinds(*LAYOUTS.values())]),
    )
    yield ".state_dict", Case(cls.state_dict, make, more=others(lambda o: []))
    refused = lambda o, state: [(o, 5), (o, {"no": 1})]  # noqa: E731
    yield (
        ".load_state_dict",
        Case(cls.load_state_dict, loads, refused, (0,), [*others(lambda o, state: [o.state_dict()]), in_a_file]),
    )
    yield ".__repr__", Case(cls.__repr__, make, more=others(lambda o: []))


for _cls in SETTINGS:
    CASES |= {f"nn.{_cls.__name__}{method}": case for method, case in optimizer_cases(_cls)}


# ---- schedules ----


def an_optimizer(*rest):
    return lambda rng, size: (nn.SGD(parameters(rng), 0.5), *rest)


def two_schedules(rng, size):
    optimizer = nn.SGD(parameters(rng), 0.5)
    return optimizer, [nn.LinearLR(optimizer), nn.CosineAnnealingLR(optimizer, 4)], [5]


for _cls, _make, _bad in (
    (nn.LinearLR, an_optimizer(), lambda o: [(5,), (o, 0), (o, 0.5, 2), (o, 0.5, 1, 0), (o, "1")]),
    (nn.CosineAnnealingLR, an_optimizer(4), lambda o, n: [(5, n), (o, 0), (o, "4"), (o, n, "0")]),
    (
        nn.SequentialLR,
        two_schedules,
        lambda o, parts, at: [(o, parts, []), (o, parts, [-1]), (o, 5, at), (5, parts, at)],
    ),
):
    _made = lambda rng, size, cls=_cls, make=_make: (cls(*make(rng, size)),)  # noqa: E731
    CASES[f"nn.{_cls.__name__}"] = Case(_cls, _make, _bad, (0,))
    for _method in ("step", "get_last_lr", "__repr__"):
        CASES[f"nn.{_cls.__name__}.{_method}"] = Case(getattr(_cls, _method), _made, changes=(0,))


def train(images, new_checkpoint=None, **kwargs):
    """Trains a small encoder for one step."""
    if new_checkpoint is not None:
        new_checkpoint.unlink(missing_ok=True)
        kwargs["checkpoint"] = new_checkpoint
    return simclr.train(images, 1, 2, encoder=ENCODERS[max(getattr(images, "itemsize", 4), 4)], **kwargs)


ENCODERS = {
    itemsize: nn.Sequential(nn.Flatten(), nn.Linear(16, 3, rng=0, dtype=dtype))
    for itemsize, dtype in ((4, np.float32), (8, np.float64))
}
TRAININGS = [
    options(optimizer="sgd", progress=ignore),
    options(augment={"shift": 0, "flip": 0.5, "brightness": 0.2}),
    options(head=None, schedule=None, callback=ignore),
    kinds(lambda x: (255 * np.abs(x)).astype(np.uint8))[0],
    *(
        lambda call, given, name=name: (*given, Options({name: new_path(".npz")}))
        for name in ("checkpoint", "new_checkpoint")
    ),
    *kinds(*LAYOUTS.values(), cast(float)),
]
CASES |= {
    "nn.load_weights": Case(
        nn.load_weights,
        lambda rng, size: (weights_file(rng, size),),
        lambda path: [(path.with_suffix(".txt"),), (path.parent / "no such.npz",), (5,), (__file__,)],
        more=[lambda call, given: (str(given[0]),)],
    ),
    "nn.save_weights": Case(
        nn.save_weights,
        lambda rng, size: (Path(FILES.name) / f"saved {size}.npz", parameters(rng)),
        lambda path, state: [
            (path.with_suffix(".txt"), state),
            (path, 5),
            (path.parent / "no" / "such.npz", state),
            (path, {name: a.astype(ml_dtypes.bfloat16) for name, a in state.items()}),
        ],
        more=STORED,
    ),
    "simclr.train": Case(
        train, one(2, 1, 4, 4), lambda x: [("text",), (x[:1],), (x.astype(int),), (x, Options(head=1))], more=TRAININGS
    ),
}
for _name, _more in MORE.items():
    CASES[_name] = CASES[_name]._replace(more=_more)
