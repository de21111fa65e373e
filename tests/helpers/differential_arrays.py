"""Makes random arrays for differential.py: shapes that broadcast, all kinds of values, and all memory layouts."""

import ml_dtypes
import numpy as np
from public_inputs import misaligned, read_only

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
INTEGERS = (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, np.bool_)
SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 33, 40)
MOST = 1500  # most elements of the broadcast shape
EXTREMES = (
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e30,
    -1e-30,
    1e-38,
    1e-45,
    3e38,
    1e200,
    -1e-200,
    1e300,
    5e-324,
    65504,
    6e-8,
)


def pick(rng, values):
    """A random item of a sequence. rng.choice would first convert it to an array, which takes longer than a call."""
    return values[int(rng.integers(len(values)))]


def likely(rng, share):
    return rng.random() < share


def random_shape(rng, ndim):
    shape = []
    for _ in range(ndim):
        size = pick(rng, SIZES)
        shape.append(size if size * int(np.prod(shape)) <= MOST else pick(rng, (1, 2)))
    if shape and likely(rng, 0.05):
        shape = [1] * ndim
        shape[int(rng.integers(ndim))] = int(rng.integers(40, 5000 if likely(rng, 0.1) else 300))
    return shape


def operand_shapes(rng, shape):
    """Two shapes that usually broadcast to this one; sometimes they do not fit."""
    kind = rng.random()
    if kind < 0.4:
        return tuple(shape), tuple(shape)
    shapes = []
    for _ in range(2):
        own = [1 if likely(rng, 0.3) else size for size in shape]
        shapes.append(own[int(rng.integers(len(own) + 1)) :] if likely(rng, 0.2) else own)
    if kind < 0.55 and len(shape) >= 2:  # like z[None] with z[:, None]
        first, second = sorted(int(i) for i in rng.choice(len(shape), 2, replace=False))
        shapes = [list(shape), list(shape)]
        shapes[0][first], shapes[1][second] = 1, 1
    if kind > 0.98 and shapes[0]:
        shapes[0][-1] += 2
    return tuple(shapes[0]), tuple(shapes[1])


def broadcast(*shapes):
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def random_dtype(rng):
    kind = rng.random()
    if kind < 0.9:
        return pick(rng, (np.float32, np.float32, np.float32, np.float64, np.float64, np.float64, *FLOATS[2:]))
    return pick(rng, INTEGERS)


def random_values(rng, shape, dtype):
    """Values of one kind, or with extremes among them. An axis may be scaled, so that vectors differ in size."""
    if dtype == np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if likely(rng, 0.1) else (max(info.min, -9), 9)
        return np.asarray(rng.integers(low, high, shape, dtype, endpoint=True))
    kind = rng.random()
    if kind < 0.5:
        x = rng.standard_normal(shape)
    elif kind < 0.65:
        x = rng.integers(-2, 3, shape).astype(np.float64)
    elif kind < 0.7:
        x = np.full(shape, rng.standard_normal())  # all roundings of a sum go in the same direction
    elif kind < 0.85:
        x = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
    else:
        x = np.zeros(shape)
    x = np.asarray(x)
    if likely(rng, 0.25) and x.ndim:
        axis = int(rng.integers(x.ndim))
        most = 300 if dtype == np.float64 else 40
        scales = 10.0 ** (rng.integers(-most, most, shape[axis]) * rng.choice([0, 0.5, 1], shape[axis]))
        with np.errstate(all="ignore"):
            x = x * scales.reshape(-1, *[1] * (x.ndim - 1 - axis))
    if likely(rng, 0.12) and x.size:
        share = pick(rng, (0.02, 0.1, 0.6))
        x = np.where(rng.random(shape) < share, rng.choice(EXTREMES[3:] if likely(rng, 0.5) else EXTREMES, shape), x)
    with np.errstate(all="ignore"):
        return np.asarray(x, np.float64).astype(np.float32).astype(dtype) if dtype == FLOATS[3] else x.astype(dtype)


def related(rng, x, y, dim):
    """y with some vectors along dim made equal, opposite, parallel or nearly orthogonal to those of x."""
    if x.shape != y.shape or x.dtype != y.dtype or x.dtype.kind in "iub" or x.ndim == 0 or likely(rng, 0.65):
        return y
    shape = list(x.shape)
    shape[dim % x.ndim] = 1
    kinds = rng.integers(0, 5, shape)
    if likely(rng, 0.3):
        kinds[...] = int(rng.integers(0, 5))
    factors = np.array([0, 1, -1, 4, -0.5])[kinds].astype(x.dtype)
    with np.errstate(all="ignore"):
        rolled = np.roll(x, 1, dim)
        rolled[tuple(slice(None, None, 2) if i == dim % x.ndim else slice(None) for i in range(x.ndim))] *= -1
        mixed = np.where(kinds == 0, rolled if likely(rng, 0.3) else y, x * factors)
    return mixed.astype(x.dtype)


def random_layout(rng, x):
    """The same values in another memory layout."""
    kind = int(rng.integers(12))
    if kind <= 3:
        return x
    if kind == 4 and x.ndim:
        return np.asfortranarray(x)
    if kind == 5 and x.ndim > 1:
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if kind in (6, 7):
        steps = [pick(rng, (1, 1, -1, 2, -3)) for _ in x.shape]
        big = np.zeros([abs(step) * n for step, n in zip(steps, x.shape, strict=True)], x.dtype)
        view = big[tuple(slice(None, None, step) for step in steps)] if x.ndim else big
        view[...] = x
        return view
    if kind == 8 and x.dtype != np.bool_:
        return misaligned(x)
    if kind == 9 and x.dtype.kind in "fiu":
        return x.astype(x.dtype.newbyteorder())
    if kind == 10:
        return read_only(x)
    axes = [i for i, size in enumerate(x.shape) if size > 1]
    if kind == 11 and axes:  # a stride of 0 repeats one value along an axis
        axis = pick(rng, axes)
        return np.broadcast_to(x[(slice(None),) * axis + (slice(0, 1),)], x.shape)
    return x


def random_out(rng, shape, dtype):
    """An array for a result, of any layout and usually of the result's dtype."""
    dtype = dtype if likely(rng, 0.6) else pick(rng, FLOATS)
    out = random_layout(rng, np.zeros(shape, dtype))
    if not out.flags.writeable or 0 in [s for s, n in zip(out.strides, shape, strict=True) if n > 1]:
        out = np.zeros(shape, dtype)
    return out


def described(x):
    """An array as a Python expression, with its memory layout."""
    if not isinstance(x, np.ndarray | np.generic):
        return repr(x)
    values = np.asarray(x).astype(np.float64) if x.dtype.kind not in "iubc" else np.asarray(x)
    return f"np.array({values.tolist()}, '{x.dtype.name}') of shape {x.shape}, strides {x.strides}"
