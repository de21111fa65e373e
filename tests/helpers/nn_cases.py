"""Makes random arguments of layers and random networks, and computes their gradients with torch as the oracle."""

import numpy as np
from oracle import F, torch
from reference_gradients import partners


class TorchEncoder(torch.nn.Module):
    """The network of simclr.Encoder in torch."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 10, 5)
        self.conv2 = torch.nn.Conv2d(10, 20, 5)
        self.fc = torch.nn.Linear(4 * 4 * 20, 100)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), kernel_size=2, stride=2)
        x = F.max_pool2d(F.relu(self.conv2(x)), kernel_size=2, stride=2)
        return F.relu(self.fc(x.view(-1, 4 * 4 * 20)))


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def integers(rng, shape, dtype, most=3):
    """Small integers. Sums of their products are exact, so results are equal in any order of summation."""
    return rng.integers(-most, most + 1, shape).astype(dtype)


def weights_of(draw, rng, shape, dtype):
    """Random weights times 24. Winograd convolutions divide weights by 24, so integers stay integers in them."""
    return 24 * draw(rng, shape, dtype)


def assert_close(ours, theirs, relative, case="", least=0):
    """Asserts an error within `relative` of the largest finite magnitude or `least`, and equal NaN and infinities."""
    assert (ours is None) == (theirs is None), case
    if ours is None:
        return
    theirs = np.asarray(theirs)
    assert np.shape(ours) == theirs.shape, case
    largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=least)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * largest, err_msg=str(case))


def torch_vjp(function, *arrays, **options):
    """(result, pullback) by torch's autograd; an argument of None has a gradient of None."""
    inputs = [None if a is None else torch.tensor(np.array(a), requires_grad=True) for a in arrays]
    given = [t for t in inputs if t is not None]
    y = function(*inputs, **options)

    def pullback(dy):
        gradients = iter(torch.autograd.grad(y, given, torch.from_numpy(np.array(dy)), retain_graph=True))
        return [None if t is None else next(gradients).numpy() for t in inputs]

    return y.detach().numpy(), pullback


def torch_module_vjp(module, x):
    """(result, pullback) of a torch.nn.Module; the pullback returns (dx, {key of state_dict: gradient})."""
    x = torch.tensor(np.array(x), requires_grad=True)
    y = module(x)
    parameters = dict(module.named_parameters())

    def pullback(dy):
        inputs = [x, *parameters.values()]
        dx, *others = torch.autograd.grad(y, inputs, torch.from_numpy(np.array(dy)), retain_graph=True)
        return dx.numpy(), {k: g.numpy() for k, g in zip(parameters, others, strict=True)}

    return y.detach().numpy(), pullback


def torch_nt_xent(z, temperature, pairs="halves"):
    """NT-Xent of a tensor z, (2 N, D), in torch: the cross entropy of the similarities divided by the temperature.

    The similarity of a row to itself is left out.
    """
    units = F.normalize(z, dim=1, eps=1e-8)
    itself = torch.eye(len(z), dtype=torch.bool)
    exponents = (units @ units.T / temperature).masked_fill(itself, -np.inf)
    return F.cross_entropy(exponents, torch.from_numpy(partners(len(z), pairs)))


def assert_same(found, expected):
    """Asserts that two dicts have the same keys, in the same order, and equal arrays."""
    assert list(found) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def ints(values):
    return tuple(int(v) for v in values)


def random_conv2d(rng, dtype):
    """Random ((x, weight, bias), options) that fit together."""
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    most = int(rng.choice([3, 3, 3, 20]))
    inner, filters = int(rng.integers(1, most + 1)), groups * int(rng.integers(1, most + 1))
    kernel, dilation = ints(rng.integers(1, 6, 2)), ints(rng.integers(1, 4, 2))
    stride = (1, 1) if rng.uniform() < 0.4 else ints(rng.integers(1, 5, 2))
    padding = ints(rng.integers(0, 4, 2))
    if rng.uniform() < 0.3:
        padding = "same" if stride == (1, 1) else "valid"
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if isinstance(padding, tuple):
        least = [max(r - 2 * p, 1) for r, p in zip(reach, padding, strict=True)]
    else:
        least = [1, 1] if padding == "same" else reach
    size = [n + int(rng.integers(0, 9)) for n in least]
    x = normal(rng, (int(rng.integers(0, 5)), groups * inner, *size), dtype)
    if rng.uniform() < 0.2 and len(x):
        x = x[0]
    bias = normal(rng, filters, dtype) if rng.uniform() < 0.5 else None
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for name in ("stride", "dilation"):
        if options[name] == (1, 1) and rng.uniform() < 0.5:
            options[name] = 1
    return (x, normal(rng, (filters, inner, *kernel), dtype), bias), options


# Shapes of real networks, and shapes around the block sizes of the kernels: (x, weight, options).
LARGER_CONV2D = [
    ((9, 1, 28, 28), (10, 1, 5, 5), {}),
    ((33, 10, 12, 12), (20, 10, 5, 5), {}),
    ((2, 3, 40, 37), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((3, 64, 9, 17), (65, 64, 3, 3), {"padding": 1}),
    ((2, 130, 7, 7), (33, 130, 1, 1), {}),
    ((2, 24, 15, 16), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    ((2, 32, 10, 10), (48, 8, 3, 3), {"groups": 4, "stride": (1, 2)}),
    ((1, 5, 1, 300), (7, 5, 1, 25), {"dilation": (1, 3), "padding": "same"}),
    ((1, 2, 70, 3), (3, 2, 11, 2), {"stride": (5, 1), "padding": (6, 1)}),
    ((4, 3, 8, 8), (1, 3, 8, 8), {}),
    ((2, 2, 5, 5), (3, 2, 2, 2), {"stride": 7, "padding": 4}),
    ((70, 4, 3, 3), (17, 4, 3, 3), {}),
    # lanes across filters, images of one column, and taps that meet only padding
    ((9, 32, 4, 4), (40, 32, 3, 3), {"padding": 1}),
    ((2, 16, 30, 1), (24, 16, 3, 3), {"padding": 1}),
    ((2, 8, 40, 1), (9, 8, 9, 1), {"padding": (4, 0)}),
    ((2, 3, 32, 32), (40, 3, 8, 8), {"stride": 8}),
    ((3, 40, 6, 6), (70, 40, 6, 6), {}),
    ((2, 5, 3, 2), (8, 5, 5, 7), {"padding": (3, 5), "dilation": (2, 1)}),
    # kernels of 1 x 1
    ((2, 40, 13, 21), (70, 40, 1, 1), {}),
    ((2, 24, 20, 25), (40, 12, 1, 1), {"groups": 2, "stride": 2}),
    # kernels of 3 x 3: the algorithm computes 2 x 2 output pixels at a time
    ((2, 32, 29, 31), (70, 32, 3, 3), {"padding": 1}),
    ((2, 64, 28, 28), (64, 64, 3, 3), {}),
    ((2, 24, 13, 16), (40, 24, 3, 3), {"padding": 1}),
    # the same for many small images
    ((35, 70, 7, 7), (72, 70, 3, 3), {"padding": 1}),
    ((17, 32, 9, 6), (40, 16, 3, 3), {"padding": (0, 2), "groups": 2}),
    # the same, where the estimates for 16 and for 35 images choose different algorithms with AVX2
    ((35, 44, 3, 5), (28, 44, 3, 3), {"padding": 1}),
    # kernels of five rows: the algorithm computes two output rows at a time
    ((3, 5, 12, 40), (9, 5, 5, 5), {}),
    ((2, 5, 5, 37), (8, 5, 5, 5), {"padding": (1, 0)}),
    ((2, 60, 9, 21), (8, 60, 5, 3), {"padding": 2}),
    ((2, 16, 11, 47), (20, 8, 5, 4), {"groups": 2, "stride": (1, 2), "padding": (2, 3)}),
    ((1, 7, 30, 150), (33, 7, 5, 4), {"dilation": (1, 3), "padding": "same"}),
]


def random_max_pool2d(rng, dtype, any_window=False):
    """Random (x, options) where each window has a pixel. torch's gradient is undefined for other windows, which
    `any_window` allows; it also allows windows larger than the padded image."""
    while True:
        kernel, dilation = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
        size = rng.integers(1, 14, 2)
        options = {
            "kernel_size": ints(kernel),
            "stride": None if rng.uniform() < 0.3 else ints(rng.integers(1, 5, 2)),
            "padding": ints(rng.integers(0, kernel // 2 + 1)),
            "dilation": ints(dilation),
            "ceil_mode": bool(rng.uniform() < 0.5),
        }
        steps = options["stride"] or options["kernel_size"]
        numbers = zip(ints(size), ints(kernel), steps, options["padding"], ints(dilation), strict=True)
        if any_window or all(_each_window_has_a_pixel(*five, options["ceil_mode"]) for five in numbers):
            break
    x = integers(rng, (int(rng.integers(0, 3)), int(rng.integers(1, 4)), *size), dtype)
    kind = rng.choice(["ties", "nan", "-inf", "all -inf", "inf"], p=[0.4, 0.25, 0.15, 0.1, 0.1])
    if kind != "ties":
        share = 1 if kind == "all -inf" else rng.choice([0.1, 0.5])
        x[rng.uniform(size=x.shape) < share] = float(str(kind).removeprefix("all "))
    return x[0] if len(x) and rng.uniform() < 0.2 else x, options


def _each_window_has_a_pixel(size, kernel, stride, padding, dilation, ceil_mode):
    from reference_nn import windows

    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return False
    return all(windows(size, kernel, stride, padding, dilation, ceil_mode))


LINEAR = [
    ((7,), (5, 7), (5,)),
    ((1, 7), (5, 7), (5,)),
    ((50, 7), (5, 7), None),
    ((2, 3, 7), (1, 7), (1,)),
    ((2, 1, 3, 7), (9, 7), (9,)),
    ((0, 7), (5, 7), (5,)),
    ((3, 0), (5, 0), (5,)),
    ((6, 7), (5, 7), (1,)),
    ((2, 3, 7), (5, 7), ()),
    ((7,), (7,), ()),
    ((4, 7), (7,), None),
    ((2, 4, 7), (7,), ()),
    ((64, 320), (100, 320), (100,)),
    ((300, 130), (257, 130), (257,)),
    ((300, 700), (400, 700), None),
]


# ---- networks ----


def build(module, layers):
    """module.Sequential of layers given as (name, arguments, options) or as functions."""
    made = []
    for layer in layers:
        if callable(layer):
            made.append(layer)
        elif layer[0] == "Sequential":
            made.append(build(module, layer[1]))
        else:
            made.append(getattr(module, layer[0])(*layer[1], **layer[2]))
    return module.Sequential(*made) if module is not torch.nn else _TorchSequential(made)


class _TorchSequential(torch.nn.Sequential):
    """torch.nn.Sequential that also takes functions."""

    def __init__(self, layers):
        super().__init__(*(layer if isinstance(layer, torch.nn.Module) else _Function(layer) for layer in layers))


class _Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def halved(x):
    return x / 2


def _random_conv(rng, channels):
    groups = int(rng.choice([1, 1, 1, 2]))
    groups = groups if channels % groups == 0 else 1
    filters = groups * int(rng.integers(1, int(rng.choice([5, 20]))))
    stride = 1 if rng.uniform() < 0.6 else ints(rng.integers(1, 4, 2))
    options = {
        "stride": stride,
        "padding": "same" if stride == 1 and rng.uniform() < 0.2 else ints(rng.integers(0, 3, 2)),
        "dilation": 1 if rng.uniform() < 0.7 else ints(rng.integers(1, 3, 2)),
        "groups": groups,
        "bias": bool(rng.uniform() < 0.7),
    }
    if rng.uniform() < 0.1:
        options["padding_mode"] = str(rng.choice(["reflect", "replicate", "circular"]))
    return ("Conv2d", (channels, filters, ints(rng.integers(1, 6, 2))), options)


def _random_pool(rng, **others):
    kernel = rng.integers(1, 4, 2)
    options = {
        "stride": None if rng.uniform() < 0.4 else ints(rng.integers(1, 4, 2)),
        "padding": ints(rng.integers(0, kernel // 2 + 1)) if rng.uniform() < 0.5 else 0,
        "dilation": 1 if rng.uniform() < 0.8 else ints(rng.integers(1, 3, 2)),
        "ceil_mode": bool(rng.uniform() < 0.4),
    }
    return ("MaxPool2d", (2,) if rng.uniform() < 0.4 else (ints(kernel),), {**options, **others})


# c: convolution, r: relu, p: pooling, f: a function, [...]: a Sequential inside
ONE_AFTER_ANOTHER = ("c", "cr", "crp", "cpr", "cp", "crr", "cc", "crpp", "p", "r", "rp", "pr", "cpprp")
STAGES = (*ONE_AFTER_ANOTHER, "f", "cfr", "crfp", "[cr]p", "[crp]")


def random_network(rng, functions=True, indices=True):
    """(layers for build(), shape of an image). Layers that do not fit after the others are left out."""
    widths = rng.integers(5, 20) if rng.uniform() < 0.6 else rng.integers(20, 50)  # rows of one vector or more
    shape = ints((rng.integers(1, 5), rng.integers(5, 20), widths))
    none = torch.zeros(0, *shape)  # an empty batch, because only shapes matter
    layers, relu = [], ("ReLU", (), {})

    def add(layer, to=layers):
        nonlocal none
        try:
            none = build(torch.nn, [layer])(none)
            to.append(layer)
        except (RuntimeError, ValueError):
            pass

    for stage in rng.choice(STAGES, int(rng.integers(0, 4))):
        inner, to = [], layers
        for letter in stage:
            if letter == "[":
                to = inner
            elif letter == "]":
                layers.append(("Sequential", inner))
                to = layers
            elif letter == "c":
                add(_random_conv(rng, none.shape[1]), to)
            elif letter == "p":
                add(_random_pool(rng), to)
            elif letter == "r" or functions:
                add(relu if letter == "r" else halved, to)
    end = rng.choice(["none", "classes", "classes", "mlp", "dims", "rows", "indices"])
    if end in ("classes", "mlp"):
        add(("Flatten", (), {}))
    elif end == "dims":
        add(("Flatten", (int(rng.integers(1, 3)), int(rng.integers(2, 4))), {}))
    if end in ("classes", "mlp", "dims", "rows"):
        add(("Linear", (none.shape[-1], int(rng.integers(1, 40))), {"bias": bool(rng.uniform() < 0.7)}))
        if rng.uniform() < 0.5:
            add(relu)
    if end == "mlp":
        add(relu)
        add(("Linear", (none.shape[-1], 5), {}))
    if end == "indices" and indices:
        add(_random_pool(rng, return_indices=True))
    return layers, shape
