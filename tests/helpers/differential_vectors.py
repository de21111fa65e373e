"""Random calls of the functions over vectors, with the explanations of how torch's functions differ."""

import differential
import numpy as np
from differential import (
    EXPLANATIONS,
    Call,
    attempt,
    explain,
    explains,
    from_tensor,
    judge_refusals,
    limits,
    out_of_range,
    refuses,
    require,
    require_right,
    rounds_to,
    tensor,
    ulp,
    wide,
)
from differential_arrays import (
    broadcast,
    likely,
    operand_shapes,
    pick,
    random_dtype,
    random_layout,
    random_out,
    random_shape,
    random_values,
    related,
)
from oracle import F, torch

import cossim

FUNCTIONS = ("cosine_similarity",) * 5 + (
    "CosineSimilarity",
    "cosine_distance",
    "cosine_distance",
    "vecdot",
    "vecdot",
    "vector_norm",
    "normalize",
    "normalize",
    "pairwise",
    "pairwise",
    "normalize, mm",
)
COSINES = ("cosine_similarity", "CosineSimilarity", "pairwise", "normalize, mm")
ONE_OPERAND = ("vector_norm", "normalize")
ALL_PAIRS = ("pairwise", "normalize, mm")
EPS = (0.0, 1e-300, 1e-45, 1e-38, 1e-12, 1e-8, 1e-6, 1e-3, 1.0, 30.0, 1e30, 1e300, np.inf)
TOLERANCE = {"float64": 1e-14, "float32": 4e-7, "float16": 1e-3, "bfloat16": 8e-3}
VALUES, REFUSED = [], []


# ---- calls ----


def random_call(rng):
    function = pick(rng, FUNCTIONS)
    faults, options = set(), {}
    ndim = 2 if function in ALL_PAIRS else pick(rng, (0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5))
    shape = random_shape(rng, ndim)
    dim = int(rng.integers(-max(ndim, 1), max(ndim, 1)))
    dtype = random_dtype(rng)
    if function in ALL_PAIRS:
        dim = 1
        shapes = (tuple(shape), (pick(rng, (0, 1, 2, 5, 9, 17)), shape[1] + 2 * likely(rng, 0.02)))
        faults |= {"shape"} if shapes[0][1] != shapes[1][1] else set()
    else:
        shapes = operand_shapes(rng, shape)
        faults |= set() if broadcast(*shapes) else {"shape"}
        ndim = max(map(len, shapes))
        dim = int(rng.integers(-max(ndim, 1), max(ndim, 1)))
        if likely(rng, 0.02):
            dim = pick(rng, (max(ndim, 1), -max(ndim, 1) - 1, 7, -(2**40)))
            faults.add("dim")
        options = {pick(rng, ("dim",) * 9 + ("axis",)): dim}
    second = dtype if likely(rng, 0.85) else random_dtype(rng)
    arrays = [random_values(rng, s, d) for s, d in zip(shapes, (dtype, second), strict=True)]
    if not faults:
        arrays[1] = related(rng, *arrays, dim)
    if likely(rng, 0.08) and not faults and shapes[0] == shapes[1]:
        arrays[1] = arrays[0]
    if function in ONE_OPERAND:
        arrays, faults = arrays[:1], faults - {"shape"}
        dim_of_one(rng, function, arrays[0], options, faults)
    arrays = [random_layout(rng, x) for x in arrays]
    if likely(rng, 0.01):
        kind = pick(rng, (np.complex64, np.longdouble, "masked"))
        with np.errstate(over="ignore"):
            x = arrays[-1]
            arrays[-1] = np.ma.masked_array(x, x == 0) if kind == "masked" else x.astype(kind)
        faults.add("dtype")
    if function == "pairwise" and likely(rng, 0.4) and "dtype" not in faults:
        arrays, faults = arrays[:1], faults - {"shape"}
    if function not in ("vecdot", "vector_norm") and likely(rng, 0.6):
        options["eps"] = pick(rng, EPS) if likely(rng, 0.97) else pick(rng, (-1e-3, -np.inf, np.nan))
        faults |= set() if options["eps"] >= 0 else {"eps"}
    call = Call(function, tuple(arrays), options, None, faults)
    if not faults and function != "CosineSimilarity" and likely(rng, 0.1):
        result = ours(call)
        call.out = random_out(rng, np.shape(result), result.dtype)
    return call


def dim_of_one(rng, function, x, options, faults):
    """dim for functions of one operand; vector_norm also takes None and tuples."""
    options.clear()
    faults.discard("dim")
    most = max(x.ndim, 1)
    dim = int(rng.integers(-most, most))
    kind = rng.random()
    if function == "vector_norm" and kind < 0.6:
        some = rng.permutation(x.ndim)[: int(rng.integers(x.ndim + 1))]
        dim = pick(rng, (None, (), tuple(int(i) - pick(rng, (0, x.ndim)) for i in some)))
        options["keepdim"] = likely(rng, 0.5)
    if 0.6 < kind < 0.62:
        dim = pick(rng, (most, -most - 1))
        faults.add("dim")
    elif 0.62 < kind < 0.64 and function == "vector_norm":
        dim = (0, -most)  # the same axis twice
        faults.add("shape")
    options["dim"] = dim


def shrunk(call):
    """Yields smaller calls: each axis halved from either end, and each element that is not 0 or 1 replaced by one."""
    shapes = [x.shape for x in call.arrays]
    for back in range(1, max(map(len, shapes), default=0) + 1):
        sizes = [s[-back] for s in shapes if len(s) >= back and s[-back] > 1]
        if not sizes or (call.function in ALL_PAIRS and back == 2):
            continue
        half = max(sizes) // 2
        for part in (slice(half, None), slice(half)):
            cut = (..., part) + (slice(None),) * (back - 1)
            arrays = tuple(x[cut] if x.ndim >= back and x.shape[-back] > 1 else x for x in call.arrays)
            yield Call(call.function, arrays, call.options, None, call.faults)
    if call.function in ALL_PAIRS:
        for which, x in enumerate(call.arrays):
            for part in (slice(len(x) // 2), slice(len(x) // 2, None)):
                if 0 < len(x[part]) < len(x):
                    yield Call(call.function, (*call.arrays[:which], x[part], *call.arrays[which + 1 :]), call.options)


def options_of(call):
    """dim and eps with defaults filled in."""
    standard = {"vecdot": -1, "vector_norm": None}.get(call.function, 1)
    dim = call.options.get("dim", call.options.get("axis", standard))
    return dim, call.options.get("eps", 1e-12 if call.function == "normalize" else 1e-8)


def ours(call):
    out = {} if call.out is None else {"out": call.out}
    if call.function == "CosineSimilarity":
        dim, eps = options_of(call)
        return cossim.CosineSimilarity(dim, eps)(*call.arrays)
    name = "pairwise" if call.function == "normalize, mm" else call.function
    return getattr(cossim, name)(*call.arrays, **call.options, **out)


def theirs(call):
    """torch's result as an array."""
    dim, eps = options_of(call)
    if any(isinstance(x, np.ma.MaskedArray) for x in call.arrays):
        raise TypeError("torch has none")
    tensors = [tensor(x) for x in call.arrays]
    name = call.function
    if name in ALL_PAIRS:
        x, y = tensors[0], tensors[-1]
        if name == "normalize, mm" or x.shape[-1] != y.shape[-1]:
            return from_tensor(F.normalize(x, 2.0, 1, eps) @ F.normalize(y, 2.0, 1, eps).T)
        return from_tensor(F.cosine_similarity(x[:, None], y[None], 2, eps))
    if name == "vecdot":
        return from_tensor(torch.linalg.vecdot(*tensors, dim=dim))
    if name == "vector_norm":
        return from_tensor(torch.linalg.vector_norm(tensors[0], 2, dim, call.options.get("keepdim", False)))
    if name == "normalize":
        return from_tensor(F.normalize(tensors[0], 2.0, dim, eps))
    similarity = torch.nn.CosineSimilarity(dim, eps)(*tensors)
    return from_tensor(1 - similarity if name == "cosine_distance" else similarity)


# ---- the exact result, and the promised error ----


class Situation(differential.Situation):
    """A call with our result, torch's and the exact one, all of the same shape."""

    def __init__(self, call, ours, theirs):
        self.call, self.function = call, call.function
        self.dtype = np.asarray(ours).dtype.newbyteorder("=")
        with np.errstate(over="ignore"):  # rounding to the narrower type of out may overflow
            self.theirs = (
                None if theirs is None else wide(theirs.astype(self.dtype) if call.out is not None else theirs)
            )
        self.ours = wide(ours)
        self.types = [x.dtype.newbyteorder("=") for x in call.arrays]
        self.theirs_type = None if theirs is None else theirs.dtype
        dim, self.eps = options_of(call)
        views = list(call.arrays)
        if self.function in ALL_PAIRS:
            views, dim = [views[0][:, None], views[-1][None]], 2
        views = [x[None] if x.ndim == 0 else x for x in np.broadcast_arrays(*views)]
        every = self.function == "vector_norm" and dim in (None, ())
        dim = tuple(range(views[0].ndim)) if every else dim
        dims = {d % views[0].ndim for d in (dim if isinstance(dim, tuple) else (dim,))}
        self.depth = int(np.prod([views[0].shape[d] for d in dims]))
        self.tiles = self.function in ALL_PAIRS or (len(views) == 2 and all_pairs(*views, dims))
        axes = tuple(dims)
        vectors = [wide(x) for x in views]
        with np.errstate(all="ignore"):
            norms = [np.sqrt((x * x).sum(axes, keepdims=True)) for x in vectors]
            self.value_of(vectors, norms, axes)
        shape = self.ours.shape
        if self.function == "normalize" and shape:
            norms = [np.broadcast_to(n, shape) for n in norms]
        self.norms = [n.reshape(shape) for n in norms]
        self.finite = np.logical_and.reduce([np.isfinite(n) for n in self.norms])

    def value_of(self, vectors, norms, axes):
        x, y, eps, shape = vectors[0], vectors[-1], np.longdouble(self.eps), self.ours.shape
        self.constant = None
        if self.function == "vector_norm":
            self.exact = norms[0].reshape(shape)
            return
        if self.function == "normalize":
            self.exact = (x / np.maximum(norms[0], eps)).reshape(shape)
            return
        dot = (x * y).sum(axes).reshape(shape)
        products = np.abs(x * y)
        self.scale = np.where(np.isfinite(products), products, 0).sum(axes).reshape(shape)
        self.equal, self.opposite = ((x == f * y).all(axes).reshape(shape) for f in (1, -1))
        if self.function == "vecdot":
            self.exact = dot
            return
        below = np.prod([np.maximum(n, eps) for n in norms], 0).reshape(shape)
        cosine = np.clip(dot / below, -1, 1) if self.depth else np.zeros(shape, np.longdouble)
        self.exact = 1 - cosine if self.function == "cosine_distance" else cosine
        self.constant = (
            np.logical_and.reduce([(v == v[first(v, axes)]).all(axes) for v in vectors]).reshape(shape)
            if self.depth
            else None
        )

    @property
    def halves(self):
        return any(t.itemsize == 2 and t.kind not in "iu" for t in self.types)

    @property
    def narrow(self):
        return all(t.kind not in "iub" and t.itemsize <= 4 for t in self.types)

    def promised(self):
        """The largest error that we promise: docs/semantics.md, Accuracy."""
        spacing = ulp(self.exact, self.dtype)
        base = 1e-15
        if self.tiles and self.narrow:
            base = 4e-7 if self.constant is None else np.where(self.constant, 6.5e-7, 4e-7)
        elif self.tiles:
            base = 1e-14
        elif self.halves and self.dtype.itemsize == 2 and self.function in COSINES:
            base = 4e-7
        if self.function == "vecdot":
            base = base * self.scale + self.depth * (1e-44 if self.tiles and self.narrow else 5e-324)
        elif self.function in ONE_OPERAND:
            base = 1e-15 * np.abs(self.exact)
        elif self.dtype == np.float64:
            spacing = 5e-324
        return np.where(np.isfinite(base), base, 0) + spacing * (0.501 if self.dtype.itemsize == 2 else 1)

    def agreed(self):
        """Mask of elements within the documented tolerance of torch's."""
        tolerance = max(TOLERANCE[t.name] for t in (self.dtype, self.theirs_type))
        if self.tiles and self.constant is not None and self.dtype == np.float32:
            tolerance = np.where(self.constant, 6.5e-7, tolerance)
        if self.function == "vecdot":
            tolerance = tolerance * self.scale + self.depth * ulp(np.longdouble(0), self.theirs_type)
        elif self.function == "vector_norm":
            tolerance = tolerance * self.exact
        return rounds_to(self.ours, self.theirs, np.where(np.isfinite(tolerance), tolerance, 0), self.dtype)

    def magnitude(self):
        return self.scale if self.function == "vecdot" else np.abs(self.exact) if self.function in ONE_OPERAND else 1


def first(x, axes):
    return tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.ndim))


def all_pairs(x, y, dims):
    """Whether each side varies along an axis where the other is constant: the call is then a matrix product."""
    kept = [i for i, size in enumerate(x.shape) if i not in dims and size > 1]
    left = [i for i in kept if y.strides[i] == 0 != x.strides[i]]
    right = [i for i in kept if x.strides[i] == 0 != y.strides[i]]
    return bool(left and right)


# ---- explanations ----


def ones(s):
    """Mask of equal or opposite vectors for which we give exactly 1 or -1."""
    if s.function in ("vecdot", *ONE_OPERAND) or s.depth == 0:
        return np.zeros(s.ours.shape, bool)
    whole = np.logical_and.reduce([(n >= s.eps) & (n > 0) for n in s.norms]) & s.finite
    target = np.where(s.equal, 1, -1)
    target = 1 - target if s.function == "cosine_distance" else target
    exactly_1 = whole & (s.equal | s.opposite)
    require((s.ours == target)[exactly_1].all(), s.call, "equal vectors score", s.ours)
    return exactly_1


@explains("identical vectors", "identical or opposite vectors", VALUES)
def _(s):
    return ones(s) & (s.ours != s.theirs)


@explains("bounds", "beyond the bounds", VALUES)
def _(s):
    if s.function in ("vecdot", *ONE_OPERAND):
        return np.zeros(s.ours.shape, bool)
    low = 0 if s.function == "cosine_distance" else -1
    require(((s.ours >= low) & (s.ours <= low + 2) | np.isnan(s.ours)).all(), s.call, "ours leaves the bounds")
    return (s.theirs < low) | (s.theirs > low + 2)


@explains("zero vector in float16", "eps is 0 in the type", VALUES)
def _(s):
    with np.errstate(all="ignore"):
        lost = [s.eps > 0 and float(np.asarray(s.eps).astype(t)) == 0 for t in (*s.types, s.theirs_type)]
    zero = np.logical_or.reduce([n == 0 for n in s.norms])
    return zero & (s.ours == (s.function == "cosine_distance")) & np.isnan(s.theirs) & any(lost)


@explains("vectors of norm 1e30 in float32, 1e200 in float64, or 1e-30, 1e-200", "squares leave the range", VALUES)
def _(s):
    types = [s.theirs_type if t.kind in "iub" else t for t in (*s.types, s.types[-1])]
    mask = np.logical_or.reduce([out_of_range(n, t, s.depth) for n, t in zip(s.norms, types, strict=False)])
    if s.function == "vecdot":  # products and sums of products
        mask = s.scale > wide(limits(s.theirs_type).max)
    return mask & s.better()


@explains("float16, bfloat16", "rounded at every step", VALUES)
def _(s):
    return s.rounded() & s.halves


@explains("mixed dtypes", "norms in types of their own", VALUES)
def _(s):
    return s.rounded() & (len(set(s.types)) > 1)


@explains("sums of many elements", "many roundings", VALUES)
def _(s):
    return s.rounded() & (s.depth > 20)


@explains("0-d results", "0-d results", [])
def _(s):
    return isinstance(s, np.generic)


def any_kind(call, kinds):
    return any(x.dtype.kind in kinds for x in call.arrays)


@explains("integers, bool", "integers with floats", VALUES)
def _(s):
    return s.rounded() & any(t.kind in "iub" for t in s.types)


@explains("longdouble, masked arrays", "no longdouble, no masks", REFUSED)
def _(call, ours, theirs):
    odd = any(isinstance(x, np.ma.MaskedArray) or x.dtype == np.longdouble for x in call.arrays)
    return odd and isinstance(ours, TypeError)


@explains("complex", "no complex numbers", REFUSED)
def _(call, ours, theirs):
    return any_kind(call, "c") and isinstance(ours, TypeError)


@explains("integers, bool", "integers", REFUSED)
def _(call, ours, theirs):
    return any_kind(call, "iub") and not refuses(ours) and isinstance(theirs, RuntimeError)


@explains("mixed dtypes", "of mixed types torch has none", REFUSED)
def _(call, ours, theirs):
    mixed = len({x.dtype.newbyteorder("=") for x in call.arrays}) > 1
    return mixed and call.function in ("vecdot", "normalize, mm") and not refuses(ours) and refuses(theirs)


@explains("eps below 0, or NaN", "eps below 0 or NaN", REFUSED)
def _(call, ours, theirs):
    return not options_of(call)[1] >= 0 and isinstance(ours, ValueError)


@explains("`vecdot` of two 1-d operands", "vecdot of 1-d operands", REFUSED)
def _(call, ours, theirs):
    if call.function != "vecdot" or any(x.ndim != 1 for x in call.arrays):
        return False
    if "dim" in call.faults:
        return isinstance(ours, np.exceptions.AxisError) and not refuses(theirs)
    return 1 in (call.arrays[0].size, call.arrays[1].size) and not refuses(ours)


@explains("eps beyond the range of the type", "eps too large for the type", REFUSED)
def _(call, ours, theirs):
    beyond = options_of(call)[1] > min(float(limits(x.dtype).max) for x in call.arrays)
    return beyond and not refuses(ours) and "without overflow" in str(theirs)


# ---- judgement ----


def judge(call):
    ours_result, theirs_result = attempt(ours, call), attempt(theirs, call)
    if refuses(ours_result) or refuses(theirs_result):
        names = judge_refusals(call, ours_result, theirs_result, REFUSED)
        if not refuses(ours_result):  # torch has no such function, but there is an exact result
            judge_values(call, ours_result, None)
        return names
    return judge_values(call, ours_result, theirs_result)


def judge_values(call, result, theirs_result):
    names = []
    require(call.out is None or result is call.out, call, "the result is not out")
    if call.out is None and np.ndim(result) == 0:
        require(EXPLANATIONS["0-d results"].holds(result), call, "0-d, but", type(result))
        names = ["0-d results"]
    s = Situation(call, result, theirs_result)
    right = rounds_to(s.ours, s.exact, s.promised(), s.dtype)
    require_right(right, s, call, "ours")
    s.exact = np.where(np.isinf(s.ours), s.ours, s.exact)  # a value out of the type's range becomes infinite
    if theirs_result is None:
        ones(s)
        return names
    require(s.ours.shape == s.theirs.shape, call, "shapes", s.ours.shape, s.theirs.shape)
    if call.out is None and s.dtype != s.theirs_type:
        whole = any_kind(call, "iub") and s.dtype == np.float64 == np.result_type(s.theirs_type, np.float64)
        require(whole, call, "dtypes", s.dtype, s.theirs_type)
        names.append("integers with floats")
    # The first two explanations are also counted for differences within the tolerance.
    left = ~s.agreed()
    for explanation in VALUES[:2]:
        held = explanation.holds(s)
        names += [explanation.name] * bool(held.any())
        left &= ~held
    return [*names, *explain(s, VALUES[2:], left, call)]
