"""The layers agree with torch's, forward."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from conftest import SLOWNESS
from oracle import F, torch
from processes import ENVIRONMENT

import cossim
from cossim import _core, nn

RELATIVE = {np.float32: 1e-5, np.float64: 1e-12}


def close(ours, theirs, dtype):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    scale = max(np.abs(theirs[np.isfinite(theirs)]).max(initial=0), 1)
    np.testing.assert_allclose(ours, theirs, rtol=RELATIVE[dtype], atol=RELATIVE[dtype] * scale)


def same_or_both_refuse(ours, theirs, check):
    """Runs both. If torch refuses, so must we, with a ValueError or TypeError that has a message."""
    try:
        expected = theirs()
    except (RuntimeError, ValueError, TypeError, IndexError):
        with pytest.raises((ValueError, TypeError)) as caught:
            ours()
        assert len(str(caught.value)) > 20
        return False
    check(ours(), expected)
    return True


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_conv2d_over_random_arguments(rng, dtype):
    compared = 0
    for _ in range(400):
        groups = int(rng.choice([1, 1, 2, 3]))
        channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        if rng.uniform() < 0.1:
            channels += 1  # usually does not fit the weight
        kernel = tuple(rng.integers(1, 5, 2))
        x = rng.standard_normal((int(rng.integers(0, 4)), channels, *rng.integers(1, 12, 2))).astype(dtype)
        weight = rng.standard_normal((filters, max(channels // groups, 1), *kernel)).astype(dtype)
        bias = rng.standard_normal(filters).astype(dtype) if rng.uniform() < 0.5 else None
        arguments = {
            "stride": tuple(int(v) for v in rng.integers(1, 4, 2)),
            "padding": [tuple(int(v) for v in rng.integers(0, 4, 2)), "same", "valid"][
                int(rng.choice(3, p=[0.7, 0.2, 0.1]))
            ],
            "dilation": tuple(int(v) for v in rng.integers(1, 4, 2)),
            "groups": groups,
        }
        if rng.uniform() < 0.3:
            arguments["stride"] = 1
        if rng.uniform() < 0.2 and len(x):
            x = x[0]
        tensors = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
        compared += same_or_both_refuse(
            lambda: nn.conv2d(x, weight, bias, **arguments),
            lambda: F.conv2d(*tensors, **arguments),
            lambda a, b: close(a, b, dtype),
        )
    assert compared > 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_pool2d_over_random_arguments(rng, dtype):
    compared = 0
    for _ in range(500):
        x = rng.integers(-4, 5, (int(rng.integers(0, 3)), int(rng.integers(1, 4)), *rng.integers(1, 12, 2))).astype(
            dtype
        )
        if rng.uniform() < 0.3:
            x[rng.uniform(size=x.shape) < 0.1] = np.nan
        if rng.uniform() < 0.2:
            x[rng.uniform(size=x.shape) < 0.5] = -np.inf
        if rng.uniform() < 0.2 and len(x):
            x = x[0]
        kernel = rng.integers(1, 5, 2)
        padding = rng.integers(0, kernel // 2 + 1) if rng.uniform() < 0.8 else rng.integers(0, 3, 2)
        arguments = {
            "kernel_size": tuple(int(v) for v in kernel),
            "stride": None if rng.uniform() < 0.3 else tuple(int(v) for v in rng.integers(1, 5, 2)),
            "padding": tuple(int(v) for v in padding),
            "dilation": tuple(int(v) for v in rng.integers(1, 3, 2)),
            "ceil_mode": bool(rng.uniform() < 0.5),
        }

        def check(ours, theirs):
            np.testing.assert_array_equal(ours[0], theirs[0].numpy())
            np.testing.assert_array_equal(ours[1], theirs[1].numpy())
            assert ours[1].dtype == np.int64

        compared += same_or_both_refuse(
            lambda: nn.max_pool2d(x, return_indices=True, **arguments),
            lambda: F.max_pool2d(torch.from_numpy(x), return_indices=True, **arguments),
            check,
        )
        try:
            np.testing.assert_array_equal(
                nn.max_pool2d(x, **arguments), nn.max_pool2d(x, return_indices=True, **arguments)[0]
            )
        except ValueError:
            pass
    assert compared > 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear(rng, dtype):
    for shape, features, bias in itertools.product(
        [(7,), (1, 7), (50, 7), (2, 3, 7), (0, 7)], [1, 5, 100], [True, False]
    ):
        x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal((features, 7)).astype(dtype)
        b = rng.standard_normal(features).astype(dtype) if bias else None
        theirs = F.linear(torch.from_numpy(x), torch.from_numpy(w), None if b is None else torch.from_numpy(b))
        close(nn.linear(x, w, b), theirs, dtype)
        close(nn.linear(x, w[0]), F.linear(torch.from_numpy(x), torch.from_numpy(w[0])), dtype)
    big = rng.standard_normal((300, 700)).astype(dtype), rng.standard_normal((400, 700)).astype(dtype)
    close(nn.linear(*big), F.linear(*map(torch.from_numpy, big)), dtype)
    assert nn.linear(np.ones((3, 0), dtype), np.ones((2, 0), dtype), np.ones(2, dtype)).tolist() == [[1, 1]] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu(rng, dtype):
    x = rng.standard_normal((3, 4, 5)).astype(dtype)
    x[0, 0] = [np.nan, np.inf, -np.inf, 0.0, -0.0]
    np.testing.assert_array_equal(nn.relu(x), F.relu(torch.from_numpy(x)).numpy())
    np.testing.assert_array_equal(nn.relu(x.T[::2]), nn.relu(x).T[::2])
    assert nn.relu(dtype(-2)) == 0
    assert nn.relu(np.zeros((0, 3), dtype)).shape == (0, 3)


def test_nan_pixels_propagate(rng):
    x = rng.standard_normal((1, 1, 6, 6)).astype(np.float32)
    x[0, 0, 2, 2] = np.nan
    w = rng.standard_normal((2, 1, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        np.isnan(nn.conv2d(x, w, padding=1)), F.conv2d(*map(torch.from_numpy, (x, w)), padding=1).isnan().numpy()
    )


def test_layouts_and_kinds(rng):
    x, w = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, 2, 2))
    expected = nn.conv2d(x, w)
    np.testing.assert_array_equal(nn.conv2d(np.asfortranarray(x), w[..., ::-1][..., ::-1]), expected)
    np.testing.assert_array_equal(nn.conv2d(x.astype(">f8"), w.tolist()), expected)
    np.testing.assert_array_equal(nn.conv2d(torch.from_numpy(x), torch.from_numpy(w)), expected)
    padded = np.zeros((4, 3, 8, 9))
    padded[::2] = x
    padded.flags.writeable = False
    np.testing.assert_array_equal(nn.conv2d(padded[::2], w), expected)
    np.testing.assert_array_equal(
        nn.max_pool2d(x.transpose(0, 1, 3, 2), 2), nn.max_pool2d(x, 2).transpose(0, 1, 3, 2)[..., :4, :]
    )


def test_inputs_are_not_modified(rng):
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 8, 9), (4, 3, 2, 2), 4))
    before = x.copy(), w.copy(), b.copy()
    nn.conv2d(x, w, b, padding=1), nn.max_pool2d(x, 2), nn.relu(x), nn.linear(x, x[0, 0])
    for a, old in zip((x, w, b), before, strict=True):
        np.testing.assert_array_equal(a, old)


def test_threads_do_not_change_bits(rng):
    x, w = rng.standard_normal((40, 3, 30, 30)).astype("f4"), rng.standard_normal((16, 3, 5, 5)).astype("f4")
    results = []
    for n in (1, 3):
        with cossim.threads(n):
            results.append((nn.conv2d(x, w), nn.max_pool2d(x, 3)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(nn.conv2d(x[5:6], w), results[0][0][5:6])


x4, w4 = np.zeros((2, 4, 6, 6), np.float32), np.zeros((8, 4, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.conv2d(x4[0, 0], w4), ValueError, ["x", "(6, 6)", "(8, 4, 3, 3)", "float32"]),
        (lambda: nn.conv2d(x4, w4[0]), ValueError, ["weight", "(4, 3, 3)"]),
        (lambda: nn.conv2d(x4[:, :3], w4), ValueError, ["3 channels", "(2, 3, 6, 6)", "(8, 4, 3, 3)"]),
        (lambda: nn.conv2d(x4, w4, groups=3), ValueError, ["groups=3"]),
        (lambda: nn.conv2d(x4, w4, groups=0), ValueError, ["groups"]),
        (lambda: nn.conv2d(x4, w4, np.zeros(7, np.float32)), ValueError, ["bias", "(8,)", "(7,)"]),
        (lambda: nn.conv2d(x4, w4.astype(np.float64)), TypeError, ["x", "weight", "float32", "float64"]),
        (lambda: nn.conv2d(x4.astype(int), w4), TypeError, ["x", "int64"]),
        (lambda: nn.conv2d(x4, w4, stride=0), ValueError, ["stride", "0"]),
        (lambda: nn.conv2d(x4, w4, stride=(1, 2, 3)), ValueError, ["stride", "(1, 2, 3)"]),
        (lambda: nn.conv2d(x4, w4, stride=1.5), TypeError, ["stride", "not float"]),
        (lambda: nn.conv2d(x4, w4, padding=-1), ValueError, ["padding", "-1"]),
        (lambda: nn.conv2d(x4, w4, padding="full"), ValueError, ["padding", "'full'"]),
        (lambda: nn.conv2d(x4, w4, padding="same", stride=2), ValueError, ["same", "stride"]),
        (lambda: nn.conv2d(x4, w4, dilation=3), ValueError, ["(6, 6)", "(7, 7)"]),
        (lambda: nn.max_pool2d(x4, 0), ValueError, ["kernel_size"]),
        (lambda: nn.max_pool2d(x4, 2, padding=2), ValueError, ["padding", "half"]),
        (lambda: nn.max_pool2d(x4, 7), ValueError, ["empty", "(2, 4, 6, 6)"]),
        (lambda: nn.max_pool2d(x4[0, 0], 2), ValueError, ["(6, 6)"]),
        (lambda: nn.max_pool2d(x4 > 0, 2), TypeError, ["x", "bool"]),
        (lambda: nn.linear(x4, w4), ValueError, ["weight", "(8, 4, 3, 3)"]),
        (lambda: nn.linear(np.zeros(5), np.zeros((3, 4))), ValueError, ["(5,)", "(3, 4)"]),
        (lambda: nn.linear(np.zeros(4), np.zeros((3, 4)), np.zeros(2)), ValueError, ["bias", "(3,)", "(2,)"]),
        (lambda: nn.linear(np.float32(3), np.zeros((3, 4), np.float32)), ValueError, ["()"]),
        (lambda: nn.relu(np.zeros(3, complex)), TypeError, ["complex128"]),
        (lambda: nn.relu([[1.0], [1.0, 2.0]]), ValueError, ["relu()", "x"]),
        (lambda: nn.relu(None), TypeError, ["relu()", "x", "real"]),
        (lambda: nn.conv2d(None, w4), TypeError, ["conv2d()", "x", "real"]),
        (lambda: nn.linear(np.zeros(4), None), TypeError, ["linear()", "weight", "real"]),
    ],
)
def test_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_the_core_checks_what_memory_safety_needs():
    """The C functions themselves refuse arrays that do not fit together."""
    from cossim import _core

    out = np.zeros((2, 8, 4, 4), np.float32)
    for arguments in (
        (x4[:, :3].copy(), w4, None, out, (1, 1), (0, 0), (1, 1), 1, False),
        (x4, w4, np.zeros(3, np.float32), out, (1, 1), (0, 0), (1, 1), 1, False),
        (x4[::-1], w4, None, out, (1, 1), (0, 0), (1, 1), 1, False),
        (x4, w4, None, out[:1].copy(), (1, 1), (0, 0), (1, 1), 1, False),
        (x4, w4, None, out, (1, 1), (0, 0), (1, 1), 0, False),
    ):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.conv2d(*arguments)
    with pytest.raises(ValueError, match=r"\bfit\b"):
        _core.max_pool2d(x4[0], np.zeros((4, 9, 9), np.float32), None, (2, 2), (2, 2), (0, 0), (1, 1))
    with pytest.raises(ValueError, match=r"\bfit\b"):
        _core.linear(x4[0, 0], x4[0, 0], None, np.zeros((6, 5), np.float32), False)
    number = np.array(1.0)  # has no first dimension to read
    for call in (lambda: _core.relu(number, number), lambda: _core.linear(number, number, None, number, False)):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            call()


def test_weight_is_no_option():
    for call in (lambda: nn.conv2d(np.ones((1, 1, 2, 2)), None), lambda: nn.linear(np.ones((1, 2)), None)):
        with pytest.raises(TypeError, match=r"\bweight\b.*\breal\b"):
            call()
    with pytest.raises(TypeError, match=r"\bx\b.*\breal\b"):
        nn.relu(None)


@pytest.mark.parametrize("step", [2**29, 2**30, 2**31 - 1])
def test_padded_images_beyond_any_memory(step):
    """The size of the padded copy overflows 64 bits; some of these products wrap to 0."""
    x, weight = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 1), np.float32)
    options = {"stride": (1, step), "dilation": (2**31 - 1, 1), "padding": (2**30, 0)}
    with pytest.raises(MemoryError):
        nn.conv2d(x, weight, **options)
    with pytest.raises(MemoryError):
        nn.Sequential(nn.Conv2d(1, 1, (2, 1), **options))(x)
    maps, out = np.ones((1, 1, 2, 1), np.float32), weight.copy()
    for indices in (None, np.zeros(maps.shape, np.int64)):
        with pytest.raises(MemoryError):
            _core.conv2d_grad_weight(x, maps, out, None, (1, step), (2**30, 0), (2**31 - 1, 1), 1, indices, (2, 1))


def test_shapes_between_layers_beyond_any_memory():
    """The shape between the layers has 2^64 pixels, which overflows 64 bits."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, padding=2**31 - 1), nn.MaxPool2d(2**31 - 1))
    with pytest.raises((MemoryError, ValueError)):
        net(np.ones((1, 1, 2, 2), np.float32))


def test_gradient_of_no_images_of_any_size():
    x, weight = np.empty((0, 1, 4, 2**58 + 3), np.float32), np.ones((1, 1, 4, 4), np.float32)
    y, pullback = nn.conv2d_vjp(x, weight)
    dx, gradients, _ = pullback(y)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(gradients, np.zeros_like(weight))


def test_windows_that_begin_far_outside():
    """Positions before the image are skipped at once; 2^30 steps for each of 4,096 windows would take an hour."""
    code = """
import numpy as np
from cossim import nn
x = np.arange(4096.0).reshape(1, 64, 64)
y = nn.max_pool2d(x, 2**31 - 1, stride=1, padding=2**30 - 1)
assert y.shape == (1, 64, 64) and (y == 4095).all()
"""
    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, check=True, timeout=120 * SLOWNESS)


@pytest.mark.parametrize("kernel", [2**31, 2**33, 2**40])
@pytest.mark.parametrize("images", [0, 1])
def test_same_padding_beyond_all_arrays(kernel, images):
    """A kernel without elements can have any size; multiplied by its dilation, the size overflows."""
    x, weight = np.zeros((images, 0, 3, 1)), np.zeros((1, 0, kernel, 1))
    for function in (nn.conv2d, nn.conv2d_vjp):
        with pytest.raises(ValueError, match="padding='same' would add .* take a smaller kernel or dilation"):
            function(x, weight, dilation=2**31 - 1, padding="same")


@pytest.mark.parametrize("number", [-1, 2**31, 2**62])
def test_the_core_takes_no_numbers_that_overflow(number):
    x, weight, out = (np.ones((1, 1, 3, 3), np.float32) for _ in range(3))
    for place in range(3):
        sizes = [(1, 1), (1, 1), (1, 1)]
        sizes[place] = (1, number)
        if place == 1 and number == 2**31:  # padding may be that large
            continue
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.conv2d(x, weight, None, out, *sizes, 1, False)
        with pytest.raises(ValueError, match=r"^Network\(\)"):
            _core.Network((("conv2d", weight, None, *sizes[:2], (0, 0), sizes[2], 1),))


def test_indices_are_only_written_where_they_may_be():
    x, out, indices = np.ones((1, 4, 4)), np.ones((1, 2, 2)), np.zeros((1, 2, 2), np.int64)
    indices.flags.writeable = False
    with pytest.raises(ValueError, match=r"\bfit\b"):
        _core.max_pool2d(x, out, indices, (2, 2), (2, 2), (0, 0), (1, 1))
