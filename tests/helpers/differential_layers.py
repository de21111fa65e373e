"""Random calls of the layers and their gradients, with the explanations of how torch's layers differ."""

import warnings

import numpy as np
import reference_nn
from differential import (
    Call,
    attempt,
    explain,
    explains,
    judge_refusals,
    near,
    refuses,
    require,
    require_right,
    rounds_to,
    same,
    tensor,
    ulp,
    wide,
)
from differential_arrays import likely, pick, random_layout
from nn_cases import LINEAR, integers, normal, random_conv2d, random_max_pool2d, torch_vjp
from oracle import F

from cossim import nn

FUNCTIONS = ("conv2d", "conv2d", "max_pool2d", "max_pool2d", "linear", "linear", "relu", "relu", "pooled")
TORCH_FUNCTIONS = {"conv2d": F.conv2d, "max_pool2d": F.max_pool2d, "linear": F.linear, "relu": F.relu}
FORWARD = {"float32": 1e-5, "float64": 1e-12}  # bounds; for gradients 10 times (float32) and 100 times (float64)
ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 1e15, -1e-15)
VALUES, REFUSED = [], []


# ---- calls: the arrays of a call are the arguments and a seed for the gradient ----


def random_call(rng):
    function, dtype = pick(rng, FUNCTIONS), pick(rng, (np.float32, np.float64))
    arrays, options = MAKERS[function](rng, dtype)
    faults = set()
    if function in ("conv2d", "linear", "relu") and likely(rng, 0.25):
        arrays = [with_odd_elements(rng, x) if likely(rng, 0.4) else x for x in arrays]
    if likely(rng, 0.04) and function != "pooled":
        faults.add("arguments")
        kind = int(rng.integers(3))
        if kind == 0:
            other = pick(rng, (np.int64, np.float16))
            with np.errstate(all="ignore"):
                arrays = [None if x is None else x.astype(other) for x in arrays]
        elif kind == 1 or function in ("relu", "max_pool2d"):
            arrays[0] = arrays[0].astype(np.complex64)
        else:
            arrays[1] = arrays[1][..., :-1]
    arrays = [None if x is None else random_layout(rng, x) for x in arrays]
    return Call(function, (*arrays, int(rng.integers(2**31))), options, None, faults)


def with_odd_elements(rng, x, odd=ODD):
    if x is None:
        return x
    odd = rng.choice(odd, x.shape).astype(np.float32)
    with np.errstate(over="ignore"):  # some values overflow float32 and become infinite
        return np.asarray(np.where(rng.random(x.shape) < pick(rng, (0.01, 0.1, 0.5)), odd, x), x.dtype)


def make_conv2d(rng, dtype):
    if likely(rng, 0.85):
        arrays, options = random_conv2d(rng, dtype)
        return list(arrays), options
    # Kernels of five rows, computed by Winograd's algorithm. One row of the image is huge, and usually one row of the
    # kernels is 0: an output that multiplies the huge row only by that 0 still has an error relative to the huge row.
    channels, filters = int(rng.integers(4, 9)), int(rng.integers(8, 20))
    x = normal(rng, (int(rng.integers(1, 3)), channels, int(rng.integers(6, 12)), int(rng.integers(16, 40))), dtype)
    x[:, :, int(rng.integers(x.shape[2]))] *= dtype(1e5)
    weight = normal(rng, (filters, channels, 5, int(rng.integers(3, 6))), dtype)
    weight[:, :, int(rng.integers(5))] *= pick(rng, (0, 0, 0, 1))
    return [x, weight, None], {"padding": int(rng.integers(0, 3))}


def make_max_pool2d(rng, dtype):
    x, options = random_max_pool2d(rng, dtype)
    return [x], options


def make_linear(rng, dtype):
    return [None if shape is None else normal(rng, shape, dtype) for shape in pick(rng, LINEAR[:12])], {}


def make_relu(rng, dtype):
    shape = tuple(pick(rng, (0, 1, 2, 5, 9, 17)) for _ in range(int(rng.integers(4))))
    return [np.asarray(integers(rng, shape, dtype) if likely(rng, 0.3) else normal(rng, shape, dtype), dtype)], {}


def make_pooled(rng, dtype):
    """A convolution and a pool of it. Most sums in a window add the same numbers in another order, so they differ by
    rounding alone."""
    width, filters = int(rng.integers(2, 5)), int(rng.integers(1, 9))
    shape = 2, 1, int(rng.integers(5, 10)), int(rng.integers(3, 6)) * width
    x = np.resize(normal(rng, width, dtype), shape) if likely(rng, 0.7) else normal(rng, shape, dtype)
    weight = np.broadcast_to(normal(rng, (filters, 1, 1, 1), dtype), (filters, 1, 2, width)).copy()
    return [x, weight, normal(rng, filters, dtype)], {}


MAKERS = {name: globals()[f"make_{name}"] for name in FUNCTIONS}


def shrunk(call):
    """A smaller call: fewer and smaller images."""
    x = call.arrays[0]
    for axis in range(x.ndim if call.function in ("conv2d", "relu", "pooled") else 0):
        if x.shape[axis] > 1 and (axis != x.ndim - 3 or call.function == "relu"):
            half = (slice(None),) * axis + (slice(x.shape[axis] // 2),)
            yield Call(call.function, (x[half], *call.arrays[1:]), call.options, None, call.faults)


# ---- both results, and the exact one ----


def arguments_of(call):
    """Arrays in native byte order, as torch and the references take them."""
    return [None if x is None else np.array(x, x.dtype.newbyteorder("=")) for x in call.arrays[:-1]]


def gradient_of(call, y):
    """A gradient: integers for pools, so that sums are exact; sometimes with elements that are not finite."""
    rng, pool = np.random.default_rng(call.arrays[-1]), call.function == "max_pool2d"
    dy = np.asarray((integers if pool else normal)(rng, np.shape(y), np.asarray(y).dtype))
    odd = call.arrays[-1] % 16 == 0 and call.function != "pooled"
    return with_odd_elements(rng, dy, ODD[:3] if pool else ODD) if odd else dy


def tupled(x):
    return x if isinstance(x, tuple | list) else (x,)


def ours(call):
    if call.function == "pooled":
        x, weight, bias = call.arrays[:-1]
        layers = nn.Sequential(
            nn.Conv2d(1, len(weight), weight.shape[2:], dtype=x.dtype.newbyteorder("=")), nn.MaxPool2d(2)
        )
        layers[0].load_state_dict({"weight": weight, "bias": bias})
        y, pullback = layers.vjp(x)
        dx, gradients = pullback(gradient_of(call, y))
        return y, (dx, gradients["0.weight"], gradients["0.bias"])
    y, pullback = getattr(nn, f"{call.function}_vjp")(*call.arrays[:-1], **call.options)
    return y, tupled(pullback(gradient_of(call, y)))


def theirs(call):
    arrays = arguments_of(call)
    if arrays[0].dtype.kind == "i":  # integers have no gradient
        return TORCH_FUNCTIONS[call.function](*(x if x is None else tensor(x) for x in arrays), **call.options)
    if call.function == "pooled":
        y, pullback = torch_vjp(lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b), 2), *arrays)
    else:
        with warnings.catch_warnings():  # torch warns about padding="same"
            warnings.simplefilter("ignore", UserWarning)
            y, pullback = torch_vjp(TORCH_FUNCTIONS[call.function], *arrays, **call.options)
    return y, tupled(pullback(gradient_of(call, y)))


def exact(call, arrays):
    """(y, gradients) of these arrays, computed by the references."""
    if call.function == "pooled":
        maps, through_maps = reference_nn.conv2d_vjp(*arrays)
        y, _, through_pool = reference_nn.max_pool2d_vjp(chosen(call), 2)
        dy = gradient_of(call, y.astype(call.arrays[0].dtype))
        y = reference_nn.max_pool2d_vjp(maps, 2)[0]
        return y, tupled(through_maps(through_pool(dy)))
    y, *_, pullback = getattr(reference_nn, f"{call.function}_vjp")(*arrays, **call.options)
    return y, tupled(pullback(gradient_of(call, np.asarray(y).astype(call.arrays[0].dtype.newbyteorder("=")))))


def chosen(call):
    """The maps that our pooling reads: they have the bits of conv2d, and our gradient goes to their maxima."""
    return nn.conv2d(*call.arrays[:-1])


def sizes(call, arrays):
    """(y, gradients) computed from magnitudes; rounding errors are relative to these."""
    arrays = [None if x is None else np.abs(x) for x in arrays]
    if call.function in ("max_pool2d", "relu"):
        return None
    name = "conv2d" if call.function == "pooled" else call.function
    y, pullback = getattr(reference_nn, f"{name}_vjp")(*arrays, **call.options)
    if call.function == "pooled":
        pooled, _, through_pool = reference_nn.max_pool2d_vjp(y, 2)
        dy = through_pool(np.full(pooled.shape, np.abs(gradient_of(call, pooled)).max(initial=0)))
        return pooled, [g if g is None else np.full(g.shape, np.abs(g).max(initial=0)) for g in pullback(dy)]
    return y, pullback(np.abs(gradient_of(call, np.asarray(y).astype(call.arrays[0].dtype.newbyteorder("=")))))


class Situation:
    """The result or one gradient of a call: ours, torch's and the exact one."""

    def __init__(self, call, which, ours, theirs, exact, size):
        self.call, self.which = call, which
        self.dtype = np.asarray(ours).dtype
        self.ours, self.theirs, self.exact = wide(ours), None if theirs is None else wide(theirs), wide(exact)
        tolerance = FORWARD[self.dtype.name] * (1 if which < 0 else 10 if self.dtype == np.float32 else 100)
        size = np.zeros(self.exact.shape) if size is None else np.where(np.isfinite(size), size, 0)
        few = 1000 * ulp(np.longdouble(0), self.dtype) * (size > 0)
        self.own = tolerance * size + few  # relative to the terms of an element's sum
        self.of_winograd = self.own
        if self.five_rows() and which < 0:
            self.of_winograd = np.maximum(self.own, tolerance * self.size_of_neighbours((2,)))
        if self.three_by_three() and which < 0:
            self.of_winograd = np.maximum(self.own, tolerance * self.size_of_neighbours((2, 3)))

    def five_rows(self):
        if self.call.function != "conv2d" or self.dtype != np.float32:
            return False
        filters, channels, rows, _ = self.call.arrays[1].shape
        stride = self.call.options.get("stride", 1)
        return rows == 5 and channels > 1 and filters >= 8 and (stride if isinstance(stride, int) else stride[0]) == 1

    def three_by_three(self):
        if self.call.function != "conv2d" or self.dtype != np.float32:
            return False
        options = self.call.options
        plain = all(options.get(name, 1) in (1, (1, 1)) for name in ("stride", "dilation"))
        return self.call.arrays[1].shape[2:] == (3, 3) and plain

    def size_of_neighbours(self, axes):
        """Sums of magnitudes for Winograd convolutions along rows (axis 2) and columns (3).

        Their errors depend on all rows or columns of a kernel and on the output pixels next to a pixel.
        """
        x, weight, bias = (None if a is None else np.abs(a) for a in arguments_of(self.call))
        weight = np.broadcast_to(weight.max(axes, keepdims=True), weight.shape)
        size = reference_nn.conv2d_vjp(np.where(np.isfinite(x), x, 0), weight, bias, **self.call.options)[0]
        for axis in (a - 4 for a in axes):
            width = [(0, 0)] * size.ndim
            width[axis] = (1, 1)
            padded = np.moveaxis(np.pad(size, width), axis, 0)
            size = np.moveaxis(np.maximum.reduce([padded[:-2], padded[1:-1], padded[2:]]), 0, axis)
        return size


# ---- explanations ----


@explains("NaN or infinite pixels", "torch leaves zeros of the padding out", VALUES)
def _(s):
    padded = s.call.function == "conv2d" and s.call.options.get("padding", 0) not in (0, (0, 0), "valid")
    mask = np.isnan(s.ours) & np.isnan(s.exact) & ~np.isnan(s.theirs)
    return mask & (s.dtype == np.float32) & padded


@explains("NaN or infinite weights, strides above 1", "zeros between the gradients of strides", VALUES)
def _(s):
    strided = s.call.function == "conv2d" and s.call.options.get("stride", 1) not in (1, (1, 1))
    odd = s.which == 0 and not np.isfinite(s.call.arrays[1]).all()
    return np.isnan(s.theirs) & ~np.isnan(s.exact) & (s.dtype == np.float32) & strided & odd


def _within_winograd(s):
    return near(s.ours, s.exact, s.of_winograd) & (s.of_winograd > s.own)


@explains(
    "float32 convolutions by kernels of 3 x 3, stride 1, of many channels to many filters",
    "fewer multiplications in both directions",
    VALUES,
)
def _(s):
    return _within_winograd(s) & s.three_by_three()


@explains(
    "float32 convolutions by kernels of five rows, stride 1, of several channels to eight filters or more",
    "fewer multiplications",
    VALUES,
)
def _(s):
    return _within_winograd(s) & s.five_rows()


@explains("pooled values that differ by rounding alone", "another of the pool's equals", VALUES)
def _(s):
    if s.call.function != "pooled" or s.which < 0:
        return np.zeros(s.ours.shape, bool)
    # our gradient goes to pixels that are maxima up to rounding, and some other pixel of the window is nearly equal
    arrays = arguments_of(s.call)
    maps, mine = reference_nn.conv2d_vjp(*arrays)[0], chosen(s.call)
    sizes = reference_nn.conv2d_vjp(*map(np.abs, arrays))[0]
    best, taken = (reference_nn.max_pool2d_vjp(m, 2)[1] for m in (maps, mine))
    within = np.abs(at(maps, best) - at(maps, taken)) <= FORWARD[s.dtype.name] * at(sizes, best)
    return np.full(s.ours.shape, within.all() and (near_equals(maps, sizes, s.dtype)).any())


def at(maps, indices):
    """The elements of each plane at the indices that a pool gave."""
    planes = maps.reshape(*maps.shape[:2], -1)
    return np.take_along_axis(planes, indices.reshape(*indices.shape[:2], -1), 2).reshape(indices.shape)


def near_equals(maps, sizes, dtype):
    """Mask of the 2 x 2 squares whose two largest elements differ by rounding only."""
    rows, columns = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
    squares = [maps[:, :, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]
    ranked = np.sort(squares, axis=0)
    return ranked[-1] - ranked[-2] <= FORWARD[dtype.name] * sizes.max()


@explains("integers, float16", "layers of integers or float16", REFUSED)
def _(call, ours, theirs):
    other = all(x is None or x.dtype.kind in "iub" or x.dtype.itemsize == 2 for x in call.arrays[:-1])
    return other and isinstance(ours, TypeError) and not refuses(theirs)


# ---- judgement ----


def judge(call):
    mine, other = attempt(ours, call), attempt(theirs, call)
    if refuses(mine) or refuses(other):
        return judge_refusals(call, mine, other, REFUSED)
    arrays = arguments_of(call)
    with np.errstate(all="ignore"):
        truth, size = exact(call, arrays), sizes(call, arrays)
    names = []
    parts = zip(*((r[0], *r[1]) for r in (mine, other, truth)), *(((size[0], *size[1]),) if size else ()), strict=False)
    for which, (a, b, c, *d) in enumerate(parts, -1):
        require((a is None) == (b is None), call, "part", which, a, b)
        if a is None:
            continue
        require(
            np.shape(a) == np.shape(b) and a.dtype == b.dtype, call, "part", which, np.shape(a), np.shape(b), a.dtype
        )
        s = Situation(call, which, a, b, c, d[0] if d else None)
        right = rounds_to(s.ours, s.exact, s.of_winograd + ulp(s.exact, s.dtype) * (size is not None), s.dtype)
        require_right(right, s, call, f"part {which}")
        left = ~(near(s.ours, s.theirs, s.own * 2) | same(s.ours, s.theirs))
        names += explain(s, VALUES, left, call)
    if call.function != "pooled":
        again = getattr(nn, call.function)(*call.arrays[:-1], **call.options)
        require(np.array_equal(again, mine[0], equal_nan=True), call, "forward alone gives other bits", again, mine[0])
    if call.function == "max_pool2d":
        judge_indices(call)
    return names


def judge_indices(call):
    arrays = arguments_of(call)
    _, mine = nn.max_pool2d(call.arrays[0], **call.options, return_indices=True)
    _, other = F.max_pool2d(tensor(arrays[0]), **call.options, return_indices=True)
    require(np.array_equal(mine, other.numpy()) and mine.dtype == np.int64, call, "indices", mine, other)
