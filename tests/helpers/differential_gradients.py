"""Random calls of the gradients of similarities and NT-Xent, with the explanations of how torch's autograd differs."""

import differential
import numpy as np
from differential import (
    Call,
    attempt,
    explain,
    explains,
    from_tensor,
    judge_refusals,
    limits,
    near,
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
    random_shape,
    random_values,
    related,
)
from nn_cases import torch_nt_xent
from oracle import F, torch
from reference_gradients import cosine_similarity_gradients, nt_xent, nt_xent_gradient, pairwise_gradients

import cossim
from cossim import simclr

FUNCTIONS = ("cosine_similarity_vjp",) * 3 + ("pairwise_vjp", "normalize, mm", "nt_xent", "nt_xent")
EPS = (0.0, 1e-300, 1e-45, 1e-8, 1e-8, 1e-8, 1e-3, 1.0, 30.0, 1e30, np.inf)
TEMPERATURES = (0.5, 0.5, 0.1, 0.07, 0.03, 0.02, 0.004, 1e-3, 50.0)
TOLERANCE = {"float64": 1e-10, "float32": 1e-4, "float16": 2e-3, "bfloat16": 1.6e-2}
VALUES, REFUSED = [], []


# ---- calls ----


def random_call(rng):
    function = pick(rng, FUNCTIONS)
    if function == "nt_xent":
        return random_nt_xent(rng)
    faults, dim = set(), 1
    dtype = random_dtype(rng)
    if function == "cosine_similarity_vjp":
        shapes = operand_shapes(rng, random_shape(rng, pick(rng, (0, 1, 2, 2, 2, 3, 3, 4))))
        most = max(*map(len, shapes), 1)
        dim = int(rng.integers(-most, most))
        if likely(rng, 0.01):
            dim = pick(rng, (most, -most - 1))
            faults.add("dim")
        if not broadcast(*shapes):
            faults.add("shape")
        options = {"dim": dim}
    else:
        depth = pick(rng, (0, 1, 2, 3, 5, 8, 17))
        shapes = [(pick(rng, (0, 1, 2, 3, 9, 18)), depth) for _ in range(2)]
        options = {}
    arrays = [
        random_values(rng, s, d)
        for s, d in zip(shapes, (dtype, dtype if likely(rng, 0.9) else random_dtype(rng)), strict=True)
    ]
    arrays[1] = related(rng, *arrays, dim) if not faults else arrays[1]
    arrays = [random_layout(rng, x) for x in arrays]
    arrays = arrays[:1] if function == "pairwise_vjp" and likely(rng, 0.5) else arrays
    if likely(rng, 0.4):
        options["eps"] = pick(rng, EPS)
    if function == "normalize, mm" and (
        0 in (len(arrays[0]), len(arrays[1])) or len({x.dtype.name for x in arrays}) > 1
    ):
        function = "pairwise_vjp"  # torch refuses mixed types, and gives NaN for infinite rows compared with none
    return Call(function, (*arrays, rng.standard_normal(), int(rng.integers(2**31))), options, None, faults)


def random_nt_xent(rng):
    """Two views, as two arrays or as one; their rows may be similar."""
    dtype = pick(rng, (np.float32, np.float32, np.float64)) if likely(rng, 0.9) else random_dtype(rng)
    shape = pick(rng, (1, 2, 3, 4, 8, 17)), pick(rng, (0, 1, 2, 3, 8, 33))
    views = [random_values(rng, shape, dtype) for _ in range(2)]
    views[1] = related(rng, *views, 1)
    options = {"temperature": pick(rng, TEMPERATURES)}
    if likely(rng, 0.02):
        options["temperature"] = 1e-310
    if likely(rng, 0.5):
        views, options["pairs"] = [np.concatenate(views)], pick(rng, ("halves", "interleaved"))
    return Call("nt_xent", tuple(random_layout(rng, x) for x in views), options)


def shrunk(call):
    return ()


# ---- both results, and the exact one ----


def gradient_of(call, y):
    """A gradient of y in its dtype; repeated calls return the same one."""
    _, seed = call.arrays[-2:]
    dy = np.random.default_rng(seed).standard_normal(np.shape(y))
    return np.asarray(dy * 10.0 ** (seed % 5 - 2)).astype(np.asarray(y).dtype)


def ours(call):
    if call.function == "nt_xent":
        loss, gradients = simclr.nt_xent_value_and_grad(*call.arrays, **call.options)
        again = simclr.nt_xent(*call.arrays, **call.options)
        return again, loss, np.concatenate(gradients) if isinstance(gradients, tuple) else gradients
    arrays = call.arrays[:-2]
    name = "cosine_similarity_vjp" if call.function == "cosine_similarity_vjp" else "pairwise_vjp"
    y, pullback = getattr(cossim, name)(*arrays, **call.options)
    dy = gradient_of(call, y)
    gradients = pullback(dy)
    return dy, gradients if isinstance(gradients, tuple) else (gradients,)


def theirs(call, dy):
    eps = call.options.get("eps", 1e-8)
    if call.function == "nt_xent":
        z = torch.cat([tensor(x) for x in call.arrays]).requires_grad_()
        loss = torch_nt_xent(z, call.options["temperature"], call.options.get("pairs", "halves"))
        loss.backward()
        return loss.item(), from_tensor(z.grad)
    arrays = call.arrays[:-2]
    tensors = [tensor(x, x.dtype.kind not in "iub") for x in arrays]
    if call.function == "cosine_similarity_vjp":
        y = F.cosine_similarity(*tensors, call.options["dim"], eps)
    elif call.function == "normalize, mm":
        y = F.normalize(tensors[0], 2.0, 1, eps) @ F.normalize(tensors[-1], 2.0, 1, eps).T
    else:
        y = F.cosine_similarity(tensors[0][:, None], tensors[-1][None], 2, eps)
    if not all(t.requires_grad for t in tensors):
        raise RuntimeError("torch has no gradients of integers")
    y.backward(tensor(dy if dy is not None else gradient_of(call, from_tensor(y))).to(y.dtype))
    return [from_tensor(t.grad) for t in tensors]


def exact_gradients(call, dy):
    eps, arrays = call.options.get("eps", 1e-8), call.arrays[:-2]
    with np.errstate(all="ignore"):
        if call.function == "cosine_similarity_vjp":
            return cosine_similarity_gradients(*arrays, dy, call.options["dim"], np.longdouble(eps))
        dx, dy = pairwise_gradients(arrays[0], arrays[-1], dy, np.longdouble(eps))
        return (dx, dy) if len(arrays) == 2 else (dx + dy,)


class Situation(differential.Situation):
    """One gradient of a call: ours, torch's and the exact one, with the norms of its vectors."""

    def __init__(self, call, which, dy, ours, theirs, exact):
        self.call, self.exact = call, exact
        arrays, self.eps = call.arrays[:-2], call.options.get("eps", 1e-8)
        self.dtype = ours.dtype
        self.theirs_type = None if theirs is None else theirs.dtype
        self.ours, self.theirs = wide(ours), None if theirs is None else wide(theirs)
        self.types = [x.dtype.newbyteorder("=") for x in (arrays[which], arrays[which - 1])]
        x, other = wide(arrays[which]), wide(arrays[which - 1])
        if call.function == "cosine_similarity_vjp":
            x, other, dim = np.atleast_1d(x), np.atleast_1d(other), call.options["dim"]
            shape = np.broadcast_shapes(x.shape, other.shape)
            dim %= len(shape)
            spread = np.abs(np.expand_dims(wide(dy), dim))
            depth = shape[dim]
        else:
            depth = x.shape[1]
        with np.errstate(all="ignore"):
            if call.function == "cosine_similarity_vjp":
                norms = np.sqrt((np.broadcast_to(x, shape) ** 2).sum(dim, keepdims=True))
                terms = np.broadcast_to(spread / np.maximum(norms, self.eps), shape)
                self.norms = self.like(np.broadcast_to(norms, shape), x.shape, np.max).reshape(self.ours.shape)
                self.scale = self.like(terms, x.shape, np.sum).reshape(self.ours.shape)
                self.others = np.sqrt((np.broadcast_to(other, shape) ** 2).sum(dim))
            else:
                norms = np.sqrt((x * x).sum(1, keepdims=True))
                given = np.abs(wide(dy))
                sums = given.sum(1) + given.sum(0) if len(arrays) == 1 else given.sum(1 - which)
                self.norms = np.broadcast_to(norms, x.shape)
                self.scale = np.broadcast_to(sums[:, None] / np.maximum(norms, self.eps), x.shape)
                self.others = np.sqrt((other * other).sum(1))
        self.depth = depth

    @staticmethod
    def like(values, shape, reduction):
        """Reduces the axes along which an operand of this shape was broadcast."""
        values = reduction(values, axis=tuple(range(values.ndim - len(shape))), initial=0)
        axes = tuple(i for i, size in enumerate(shape) if size == 1 != values.shape[i])
        return reduction(values, axis=axes, keepdims=True, initial=0) if axes else values

    def compute_type(self):
        return "float64" if any(t.itemsize == 8 or t.kind in "iub" for t in self.types) else "float32"

    def promised(self):
        rounding = ulp(self.exact, self.dtype) * (1 if self.dtype.itemsize == 2 else 4)
        return TOLERANCE[self.compute_type()] * self.magnitude() + rounding

    def agreed(self):
        tolerance = TOLERANCE[self.theirs_type.name] * self.magnitude()
        return near(self.ours, self.theirs, tolerance + ulp(np.longdouble(0), self.dtype))

    def magnitude(self):
        return np.where(np.isfinite(self.scale), self.scale, 0)


# ---- explanations ----


@explains("norm below eps, but not 0", "norm below eps", VALUES)
def _(s):
    return (s.norms > 0) & (s.norms < s.eps) & s.better()


@explains("float32 norms of 1e30, 1e-30 (with a smaller eps)", "gradients of norms out of range", VALUES)
def _(s):
    mask = s.scale > wide(limits(s.theirs_type).max)  # dy / eps overflows too
    mask |= out_of_range(s.norms, s.types[0], s.depth) | out_of_range(s.others, s.types[-1], s.depth).any()
    return mask & s.better()


@explains("float16, bfloat16", "gradients rounded at every step", VALUES)
def _(s):
    return s.rounded() & any(t.itemsize == 2 and t.kind not in "iu" for t in s.types)


@explains("zero vector in float16", "gradients with an eps that is 0 in the type", VALUES)
def _(s):
    with np.errstate(all="ignore"):
        lost = s.eps > 0 and any(float(np.asarray(s.eps).astype(t)) == 0 for t in (*s.types, s.theirs_type))
    zero = (s.norms == 0) | (s.others == 0).any()
    return zero & np.isnan(s.theirs) & s.better() & lost


@explains("mixed dtypes", "gradients of mixed types", VALUES)
def _(s):
    return s.rounded() & (len(set(s.types)) > 1)


@explains("integers", "gradients of integers", REFUSED)
def _(call, ours, theirs):
    return any(x.dtype.kind in "iub" for x in call.arrays[:2] if isinstance(x, np.ndarray)) and not refuses(ours)


@explains("eps beyond the range of the type", "gradients with an eps too large for the type", REFUSED)
def _(call, ours, theirs):
    largest = min(float(limits(x.dtype).max) for x in call.arrays[:2] if isinstance(x, np.ndarray))
    return call.options.get("eps", 0) > largest and not refuses(ours) and "without overflow" in str(theirs)


@explains("float16, bfloat16", "no NT-Xent of halves", REFUSED)
def _(call, ours, theirs):
    halves = any(x.dtype.itemsize == 2 and x.dtype.kind not in "iu" for x in call.arrays if isinstance(x, np.ndarray))
    return call.function == "nt_xent" and halves and isinstance(ours, TypeError)


@explains("temperature", "temperature beyond the type", REFUSED)
def _(call, ours, theirs):
    return call.options.get("temperature", 1) < 1e-38 and isinstance(ours, ValueError)


# ---- judgement ----


def judge(call):
    mine = attempt(ours, call)
    other = attempt(theirs, call, None if refuses(mine) else mine[0])
    names = []
    if refuses(mine) or refuses(other):
        names = judge_refusals(call, mine, other, REFUSED)
        other = None
    if refuses(mine):
        return names
    if call.function == "nt_xent":
        return [*names, *judge_nt_xent(call, mine, other)]
    dy, gradients = mine
    for which, (gradient, exact) in enumerate(zip(gradients, exact_gradients(call, dy), strict=True)):
        x = call.arrays[which]
        expected = np.float64 if x.dtype.kind in "iub" else x.dtype.newbyteorder("=")
        require(gradient.shape == x.shape and gradient.dtype == expected, call, gradient.shape, gradient.dtype)
        s = Situation(call, which, dy, gradient, None if other is None else other[which], exact)
        right = rounds_to(s.ours, exact, s.promised(), s.dtype)
        require_right(right, s, call, f"gradient {which}")
        with np.errstate(invalid="ignore"):  # a value out of the type's range becomes infinite
            s.exact = np.where(np.isinf(s.ours) & right, s.ours, exact)
        if other is not None:
            names += explain(s, VALUES, ~s.agreed(), call)
    return names


def judge_nt_xent(call, mine, theirs):
    """Judges the loss and the gradient, whose errors are relative to the largest gradient that a row can have."""
    again, loss, gradient = mine
    temperature, pairs = call.options["temperature"], call.options.get("pairs", "halves")
    z = np.concatenate([np.asarray(x) for x in call.arrays])
    norms = np.sqrt((wide(z) ** 2).sum(1, keepdims=True))
    narrow = gradient.dtype == np.float32
    s = Situation.__new__(Situation)
    s.call, s.types, s.norms, s.eps, s.dtype, s.theirs_type = call, [z.dtype], norms, 1e-8, z.dtype, z.dtype
    s.depth = z.shape[1]
    with np.errstate(all="ignore"):
        exact, exact_gradient = nt_xent(z, temperature, pairs), nt_xent_gradient(z, temperature, pairs)
        if not (np.isfinite(norms)).all():
            exact, exact_gradient = exact * np.nan, exact_gradient * np.nan
        s.scale = np.broadcast_to(1 / (len(z) * temperature) / np.maximum(norms, 1e-8), gradient.shape)
        losses = wide([again, loss])
        error = 4e-7 if narrow else 1e-14  # error of one similarity
        right = near(losses, exact, np.maximum((1e-6 if narrow else 1e-13) * np.abs(exact), error / temperature))
        require(right.all(), call, "losses", losses, "exact", exact)
        tolerance = (1e-4 if narrow else 1e-10) * s.scale + 4 * ulp(exact_gradient, gradient.dtype)
        right = rounds_to(wide(gradient), exact_gradient, tolerance, gradient.dtype)
        require(
            right.all(), call, "a wrong gradient at", np.argwhere(~right)[:1], gradient[~right], exact_gradient[~right]
        )
    if theirs is None:
        return []
    names = []
    s.others = norms
    tolerance = 1e-5 if narrow else 1e-12
    for mine, other, truth, scale, share in (
        (wide(loss), wide(theirs[0]), exact, wide(1 / temperature) + exact, 1),
        (wide(gradient), wide(theirs[1]), exact_gradient, s.scale, 10 if narrow else 100),
    ):
        s.ours, s.theirs, s.exact = np.atleast_1d(mine), np.atleast_1d(other), np.atleast_1d(truth)
        s.norms, s.scale = (
            np.broadcast_to(norms if mine.ndim else norms.max(), s.ours.shape),
            np.broadcast_to(scale, s.ours.shape),
        )
        left = ~near(s.ours, s.theirs, tolerance * share * s.scale)
        names += explain(s, VALUES, left, call)
    return names
