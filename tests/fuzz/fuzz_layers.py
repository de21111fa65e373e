"""Fuzzes the layers, networks that run in one call, the parts of SimCLR, and the C functions behind them.

Convolutions and linear layers must agree with tests/helpers/reference_nn.py, and networks with their layers one by one.
Everything else must only succeed or raise a documented exception. The C functions are called without the checks in
Python, with arguments of any size that are mostly of the right kinds.
"""

import contextlib
import io
import random
import warnings

import numpy as np
import reference_nn
from objects import FLOATS, Planted, array_of, other
from source import Source

import cossim
from cossim import _core, nn, simclr
from cossim.nn.modules import NETWORK_LAYERS
from cossim.search.blocks import Request

ALLOWED = (TypeError, ValueError, IndexError, MemoryError, OSError, Planted)  # OSError: text is the path of no file
UNCHECKED = (*ALLOWED, OverflowError)  # OverflowError: an int that fits no C type

SMALL = (1, 2, 3, 4, 5, 0, 7, 9)
NUMBERS = (1, 1, 2, 3, 0, -1, 5, 2**31 - 1, 2**31, 2**32, 2**62, -(2**63), 2**64, 1073741824, 2**31 - 8)


def small(source):
    return source.pick(SMALL)


def setting(source, *ordinary):
    """An option of a layer: mostly an ordinary value, sometimes a large number or another object."""
    if source.one_in(12):
        return other(source)
    if source.one_in(8):
        return source.pick(NUMBERS)
    value = source.pick(ordinary)
    return (value, source.pick(ordinary)) if source.one_in(4) else value


def floats(source, *shape):
    if source.one_in(24):
        return other(source)
    return array_of(source, shape, FLOATS[:2] if source.one_in(6) else [np.dtype(np.float32)])


def _close(got, expected, terms):
    got, expected = np.asarray(got), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    with np.errstate(all="ignore"):
        finite = np.isfinite(expected)
        assert np.all(np.isnan(got) | np.isinf(got) | finite), (got, expected)
        error = np.abs(np.where(finite, got - expected, 0))
        assert np.all(np.isnan(error) | (error <= 1e-5 * (terms + np.abs(expected)))), (got, expected)


def _moderate(*arrays):
    return all(a is None or (type(a) is np.ndarray and np.all(np.abs(a) < 1e3)) for a in arrays)


# ---- functions and layers ----


def conv2d(source):
    groups, channels, filters = source.pick((1, 1, 2, 3)), source.pick((1, 2, 3)), source.pick((1, 2, 5, 6))
    x = floats(
        source,
        source.pick((1, 2, 0, 3)),
        channels * groups,
        source.pick((5, 3, 9, 1, 20, 0)),
        source.pick((5, 4, 9, 1, 33, 0)),
    )
    weight = floats(source, filters * groups, channels, source.pick((3, 1, 2, 5)), source.pick((3, 1, 2, 5)))
    bias = floats(source, filters * groups) if source.below(2) else None
    options = (
        setting(source, 1, 2, 3),
        setting(source, 0, 1, 2, "same", "valid"),
        setting(source, 1, 2),
        setting(source, groups) if source.one_in(8) else groups,
    )
    y = nn.conv2d(x, weight, bias, *options)
    if _moderate(x, weight, bias) and y.size < 5000:
        _close(y, reference_nn.conv2d_vjp(x, weight, bias, *options)[0], 9.0 * channels * 1e2)
    result, pullback = nn.conv2d_vjp(x, weight, bias, *options)
    np.testing.assert_array_equal(result, y)
    pullback(floats(source, *y.shape) if source.one_in(4) else np.ones_like(y))


def max_pool2d(source):
    x = floats(
        source, source.pick((1, 2, 0)), small(source), source.pick((4, 5, 1, 9, 2)), source.pick((4, 5, 1, 9, 33))
    )
    options = (
        setting(source, 2, 1, 3),
        setting(source, 2, 1, None),
        setting(source, 0, 0, 1),
        setting(source, 1, 1, 2),
        source.pick((False, True)),
    )
    y, indices = nn.max_pool2d(x, *options, return_indices=True)
    np.testing.assert_array_equal(nn.max_pool2d(x, *options), y)
    assert y.shape == indices.shape
    result, pullback = nn.max_pool2d_vjp(x, *options)
    np.testing.assert_array_equal(result, y)
    pullback(np.ones_like(y))


def linear(source):
    depth = small(source)
    lead = tuple(small(source) for _ in range(source.below(3)))
    x, weight = floats(source, *lead, depth), floats(source, *((small(source),) if source.below(4) else ()), depth)
    bias = floats(source, *np.shape(weight)[:-1]) if source.below(2) else None
    y = nn.linear(x, weight, bias)
    if _moderate(x, weight, bias):
        _close(y, reference_nn.linear_vjp(x, weight, bias)[0], 1e2)
    nn.linear_vjp(x, weight, bias)[1](np.ones_like(y))
    nn.relu_vjp(y)[1](np.ones_like(nn.relu(y)))


def _layer(source, channels):
    kind = source.below(6)
    if kind < 2:
        kernel = source.pick((1, 2, 3, 5))
        out = source.pick((1, 2, 5, 6))
        options = setting(source, 1, 2), setting(source, 0, 1, "same"), setting(source, 1, 2)
        return nn.Conv2d(channels, out, kernel, *options, rng=0), out
    if kind == 2:
        options = setting(source, 2, 3), setting(source, None, 2, 1), setting(source, 0, 0, 1)
        return nn.MaxPool2d(*options, ceil_mode=bool(source.below(2))), channels
    if kind == 3:
        return nn.Flatten(), channels
    if kind == 4:
        return nn.Linear(source.pick((channels, 4, 9)), source.pick((1, 4, 9)), rng=0), channels
    return nn.ReLU(), channels


def network(source):
    channels = source.pick((1, 2, 3))
    x = floats(source, source.pick((1, 2, 0, 3)), channels, source.pick((8, 5, 1, 16)), source.pick((8, 5, 33, 1, 2)))
    layers = []
    for _ in range(1 + source.below(4)):
        layer, channels = _layer(source, channels)
        layers.append(layer)
    net = nn.Sequential(*layers)
    y = net(x)
    expected = x
    for layer in layers:
        expected = layer(expected)
    np.testing.assert_array_equal(y, expected)
    result, pullback = net.vjp(x)
    pullback(np.ones_like(result))


def loss(source):
    rows, depth = source.pick((2, 1, 3, 8, 0)), source.pick((3, 1, 17, 0))
    z0 = array_of(source, (rows, depth)) if source.below(8) else other(source)
    z1 = None if source.one_in(3) else array_of(source, (rows, depth)) if source.below(8) else other(source)
    temperature = source.pick((0.5, 0.1, 1, 1e-3, 1e-38, 1e300, float("nan"), 10**400, None, "0.5"))
    pairs = source.pick(("halves", "halves", "interleaved", "none", None))
    value = simclr.nt_xent(z0, z1, temperature, pairs=pairs)
    again, _ = simclr.nt_xent_value_and_grad(z0, z1, temperature, pairs=pairs)
    assert value == again or value != value


def augment(source):
    images = floats(
        source, source.pick((1, 2, 0)), source.pick((1, 3, 0)), source.pick((5, 1, 28, 0)), source.pick((5, 1, 28, 0))
    )
    names = ("rotate", "shear", "scale", "aspect", "shift", "noise", "clip")
    ordinary = (0.5, 1.0, (0.5, 1), (1, 2), 0, 1e300, (1e-300, 1e300), float("inf"), 10**400, (2, 1), None, 360)
    options = {
        source.pick(names): source.pick(ordinary) if source.below(4) else other(source) for _ in range(source.below(4))
    }
    views = simclr.augment(images, source.pick((0, 1, 2**63, None, -1)), **options)
    assert views.shape == images.shape


def threads(source):
    before = cossim.get_num_threads()
    n = other(source)
    try:
        with cossim.threads(n if source.below(2) else source.pick((1, 2, 0, -1, 10**30))):
            pass
    finally:
        cossim.set_num_threads(before)


# ---- the C functions, called directly ----


def _size(source):
    return source.pick(NUMBERS) if source.one_in(5) else source.pick((1, 2, 0, 3))


def _pair(source):
    return (_size(source), _size(source)) if source.below(16) else other(source)


def _plain(source, ndim, dtype=np.float32):
    """An array that the C functions take, or one that is slightly wrong."""
    if source.one_in(24):
        return other(source)
    x = np.zeros([source.pick((1, 2, 3, 4, 0, 5)) for _ in range(ndim)], np.float64 if source.one_in(40) else dtype)
    if x.size == 0 and ndim and source.one_in(4):  # an empty array with sizes beyond any memory
        shape = list(x.shape)
        other_axes = [i for i, n in enumerate(shape) if n]
        if other_axes:
            shape[source.pick(other_axes)] = source.pick((2**31, 2**40, 2**58))
        x = np.zeros(shape, x.dtype)
    if source.one_in(40):
        x.flags.writeable = False
    return x


def _indices(source, ndim):
    x = _plain(source, ndim, np.int64)
    if type(x) is np.ndarray and x.dtype == np.int64 and x.flags.writeable:
        x[...] = source.pick((0, 0, 1, 3, -1, 2**62))
    return x


def _windows(source, x, out, axis, gradient):
    """(spans, sizes) of average pooling along an axis, one for each pixel of its result. Some lie outside the image."""
    images = type(x) is np.ndarray and type(out) is np.ndarray and max(x.shape[axis], out.shape[axis]) < 1000
    if not images or source.one_in(12):
        return _indices(source, 2), _plain(source, 1, np.float64)
    spans = np.zeros(((x if gradient else out).shape[axis], 2), np.int64)
    spans[:] = source.pick(((0, 1), (0, 1), (0, 0), (1, 3), (2, 1), (-1, 1), (0, 2**62), (2**62, 1)))
    return spans, np.full(len(spans), source.pick((1.0, 0.0, float("nan"))))


def _any_array(source, x):
    """An array of the shape of x, or an unrelated one."""
    if type(x) is np.ndarray and source.below(3):
        return np.ones_like(x)
    return _plain(source, source.pick((2, 4, 3, 1)))


def _convolution(source):
    """(x, weight, maps, groups) of a convolution. Channels and groups mostly fit; the sizes of the maps may not."""
    x = _plain(source, 4)
    if type(x) is not np.ndarray or source.one_in(6) or x.shape[1] > 1000:
        return x, _plain(source, 4), _plain(source, 4), 1
    groups = source.pick((1, 1, 2)) if x.shape[1] % 2 == 0 else 1
    maps_of = x.shape[0] if x.shape[0] < 1000 else 1
    weight = np.ones(
        (source.pick((1, 2, 3)) * groups, x.shape[1] // groups, source.pick((1, 2, 3)), source.pick((1, 2, 3))), x.dtype
    )
    maps = np.ones((maps_of, weight.shape[0], source.pick((1, 2, 3, 5, 0)), source.pick((1, 2, 3, 18))), x.dtype)
    return x, weight, maps, groups


def _search_call(source):
    x, y = (_plain(source, 2, source.pick((np.float32, np.float64, np.int8))) for _ in range(2))
    if type(x) is np.ndarray and source.below(4):
        y = x if source.below(2) else np.ones((source.pick((1, 3)), *x.shape[1:]), np.float32)
    numbers = source.pick((0, 0, 1, -1, 2**62, 5)), source.pick((0, 0, 2, -1, 2**62))
    without_self = bool(source.below(2))
    codes = (None, None) if source.below(3) else (_plain(source, 2, np.uint8), _plain(source, 2))
    return Request("f", x, y, *numbers, without_self, 1e-8, None, False, *codes), y


def _results(source, rows, columns):
    shape = (rows, columns) if source.below(6) else (source.pick((0, 1, 2)), source.pick((0, 1, 4)))
    return np.full(shape, np.nan, source.pick((np.float32, np.float32, np.float64))), np.zeros(shape, np.int64)


def unchecked(source):
    kind = source.below(18)
    x, weight, maps, groups = _convolution(source)
    sizes = _pair(source), _pair(source), _pair(source)
    groups = groups if source.below(8) else _size(source)
    bias = source.pick((None, None, _plain(source, 1)))
    call = x, weight, bias, *sizes, groups
    if kind == 0:
        _core.conv2d(call, relu=bool(source.below(2)))
    elif kind == 1:
        _core.conv2d_grad_input(call, maps)
    elif kind == 2:
        _core.conv2d_grad_weight(call, maps, None)
    elif kind == 3:
        indices = np.full(np.shape(maps), source.pick((0, 1, 5, -1)), np.int64)
        _core.conv2d_grad_weight(call, maps, indices)
    elif kind == 4:
        _core.conv2d_pooled(call, relu=bool(source.below(2)))
    elif kind == 5:
        windows, images = (*sizes, _pair(source)), _plain(source, source.pick((3, 4)))
        _core.max_pool2d(images, windows, bool(source.below(2)), bool(source.below(2)))
        _core.pool_images("f", images, windows, bool(source.below(2)))
    elif kind == 6:
        _core.max_pool2d_scatter(_indices(source, 3), _plain(source, 3), sizes[0])
    elif kind == 7:
        left = _plain(source, 2)
        right = _any_array(source, left)
        left = left.T if type(left) is np.ndarray and source.below(2) else left
        _core.matmul(left, right)
    elif kind == 8:
        _core.linear(_plain(source, 2), _plain(source, 2), bias, relu=True)
    elif kind == 9:
        x = _plain(source, source.pick((1, 2, 0)))
        _core.relu(x)
        _core.relu_gradient(x, _any_array(source, x))
    elif kind == 10:
        rows = _plain(source, 2)
        dz = source.pick((None, _any_array(source, rows)))
        temperature = source.pick((0.5, 0.0, 1e-300, float("nan"), -1.0, 1e308))
        others = source.pick((None, _any_array(source, rows)))
        _core.nt_xent(rows, others, dz, None, None, None, temperature=temperature, interleaved=True)
    elif kind == 11:
        images = _plain(source, 4)
        n = len(images) if type(images) is np.ndarray and source.below(6) else 1
        values = source.pick((0.0, 1.0, float("nan"), 1e300, -1e18, float("inf")))
        if n < 1000:
            keys = np.zeros(n, np.uint64)
            maps = np.full((n, 2, 3), values)
            _core.augment(
                images, maps, keys, _any_array(source, images), colours=None, noise=0.1, low=values, high=-values
            )
    elif kind == 12:
        request, y = _search_call(source)
        rows = len(y) if type(y) is np.ndarray and len(y) < 1000 else 1
        _core.topk(request, *_results(source, rows, source.pick((1, 2, 0))))
    elif kind == 13:
        request, y = _search_call(source)
        rows = len(y) if type(y) is np.ndarray else 1
        threshold, most = source.pick((0.5, -1.0, float("nan"), 2.0)), source.pick((0, 100, -1, 2**63 - 1))
        sizes = source.pick((rows, 1000, 0, 2**62)), source.pick((1000, rows, 0, 2**62))
        found = _core.pairs_begin(*sizes, threshold=threshold, max_pairs=most, double=bool(source.below(2)))
        _core.pairs(request, found, swapped=bool(source.below(2)))
        _core.pairs_end(found)
    elif kind == 14:
        request, _ = _search_call(source)
        parents = np.arange(source.pick((3, 5, 1, 8, 0)))
        if source.one_in(4) and len(parents):
            parents[source.byte() % len(parents)] = source.pick((-1, 100, 0, 2**62))
        _core.components(request, parents, threshold=source.pick((0.5, -1.0)))
    elif kind == 15:
        x = _plain(source, 3)
        channels = x.shape[1] if type(x) is np.ndarray and x.size and source.below(8) else source.pick((1, 2, 3))
        centre, sums, factors = (
            np.ones(shape) if source.below(8) else _plain(source, source.pick((1, 2)), np.float64)
            for shape in ((channels,), (channels, 2), (channels, 3))
        )
        other_x = source.pick((None, _any_array(source, x)))
        _core.channel_sums(x, other_x, centre)
        _core.channel_statistics(x, centre, sums)
        _core.channel_affine(x, other_x, centre, factors)
        _core.layer_arrays("f", ("x", "y", "z"), (x, centre, other_x), channels=True)
    elif kind == 16:
        x, name = _plain(source, 1), source.pick(("gelu", "leaky_relu", "gelu_tanh", "relu", ""))
        slope = source.pick((0.1, -1.0, float("nan")))
        with contextlib.suppress(ValueError):
            _core.activation(name, x, source.pick((None, _any_array(source, x))), slope=slope)
        x, out = _plain(source, 3), _plain(source, 3)
        if type(x) is type(out) is np.ndarray and out.size and source.below(8):
            out = np.zeros((len(x), *out.shape[1:]) if len(x) < 1000 else out.shape, x.dtype)
        gradient = bool(source.below(2))
        sides = [_windows(source, x, out, axis, gradient) for axis in (1, 2)]
        size = out.shape[1:] if type(out) is np.ndarray and out.ndim == 3 else sizes[0]
        _core.avg_pool2d(x, size, *sides[0], *sides[1], gradient=gradient)
    else:
        rows = _plain(source, 2)
        codes, scales = (_plain(source, 2, np.uint8), _plain(source, 2, np.uint8)), _plain(source, 2)
        if type(rows) is np.ndarray and rows.size and source.below(4):
            half = np.zeros((len(rows), -(-rows.shape[1] // 2)), np.uint8)
            codes, scales = (half, half.copy()), np.zeros((len(rows), 2), np.float32)
        eps = source.pick((1e-8, 0.0, float("nan")))
        _core.quantize(Request("f", rows, rows, 0, 0, False, eps, None), codes, scales)


def raw_network(source):
    def weight(ndim):
        return _plain(source, ndim)

    def layer():
        made = source.pick((nn.Conv2d(2, 2, 1, rng=0), nn.Linear(2, 2), nn.MaxPool2d(1), nn.ReLU(), nn.Flatten(), None))
        numbers = _pair(source), [_size(source), 1], _size(source), bool(source.below(2)), "same", "valid", None
        for name, value in list(vars(made).items() if made is not None else ()):
            if isinstance(value, np.ndarray) and source.below(2):
                setattr(made, name, source.pick((weight(value.ndim), weight(value.ndim), None)))
            elif source.below(4) == 0:
                setattr(made, name, source.pick(numbers))
        return made

    classes = NETWORK_LAYERS if source.below(20) else other(source)
    layers = tuple(layer() for _ in range(source.below(5))) if source.below(20) else other(source)
    names = layers if source.below(20) else other(source)
    x = np.ones(
        (
            source.pick((1, 2, 0)),
            source.pick((1, 2)),
            *((source.pick((1, 3, 4)), source.pick((1, 4, 18))) if source.below(4) else ()),
        ),
        np.float32,
    )
    x = x if source.below(12) else other(source)
    _core.run_layers(classes, lambda name, layer, x: x, names, layers, x)
    _core.fused_layers(classes, layers)


TARGETS = conv2d, max_pool2d, linear, network, loss, augment, threads, *[unchecked] * 3, *[raw_network] * 2
OWN = (unchecked, raw_network, threads)  # these may pass ints of any length to C


def run(data):
    source = Source(data)
    target = source.pick(TARGETS)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with contextlib.suppress(*(UNCHECKED if target in OWN else ALLOWED)):
            target(source)


def seeds():
    return [bytes([i % 18]) + random.Random(i).randbytes(80) for i in range(96)] + [
        bytes((i,)) + bytes(40) for i in range(12)
    ]
