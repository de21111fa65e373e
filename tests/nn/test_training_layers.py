"""Batch normalization, average pooling, dropout, leaky ReLU and GELU have torch's values, gradients and state."""

import copy
import pickle

import numpy as np
import pytest
from nn_cases import assert_close, ints, normal, torch_module_vjp, torch_vjp
from oracle import F, torch
from test_nn_module_gradients import in_dtype

import cossim
from cossim import nn

torch_nn = torch.nn
DTYPES = [np.float32, np.float64]
FORWARD, BACKWARD = {np.float32: 1e-5, np.float64: 1e-12}, {np.float32: 1e-4, np.float64: 1e-10}

LAYERS = [
    lambda m: m.BatchNorm2d(4),
    lambda m: m.BatchNorm2d(4, 1e-3, None),
    lambda m: m.BatchNorm2d(4, momentum=0.3, affine=False),
    lambda m: m.BatchNorm2d(4, track_running_stats=False),
    lambda m: m.BatchNorm2d(4, bias=False),
    lambda m: m.AvgPool2d(2),
    lambda m: m.AvgPool2d((3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    lambda m: m.AvgPool2d(3, 1, 1, divisor_override=5),
    lambda m: m.AdaptiveAvgPool2d(1),
    lambda m: m.AdaptiveAvgPool2d((None, 3)),
    lambda m: m.AdaptiveAvgPool2d([9, 2]),
    lambda m: m.LeakyReLU(),
    lambda m: m.LeakyReLU(-0.5),
    lambda m: m.GELU(),
    lambda m: m.GELU("tanh"),
    lambda m: m.Dropout(0.0),
    lambda m: m.Dropout(1.0),
    lambda m: m.Sequential(m.Conv2d(4, 6, 3, padding=1), m.BatchNorm2d(6), m.GELU(), m.AvgPool2d(2), m.BatchNorm2d(6)),
]


def both(make, dtype):
    """The layer and torch's, with the same random parameters and statistics."""
    ours, theirs = make(nn), make(torch_nn)
    theirs = theirs.double() if dtype == np.float64 else theirs
    rng = np.random.default_rng(0)
    for name, tensor in theirs.state_dict().items():
        if tensor.ndim:
            tensor[...] = torch.from_numpy(rng.random(tensor.shape) + 0.1)
        assert name in ours.state_dict()
    in_dtype(ours, dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", LAYERS)
def test_layers_agree_with_torchs(make, dtype):
    ours, theirs = both(make, dtype)
    assert repr(ours) == repr(theirs)
    rng = np.random.default_rng(1)
    for mode in (True, True, False, True, False):
        ours.train(mode)
        theirs.train(mode)
        x = normal(rng, (3, 4, 7, 6), dtype) * 2 + 1
        y, pullback = ours.vjp(x)
        expected, expected_pullback = torch_module_vjp(theirs, x)
        assert y.dtype == dtype
        assert_close(y, expected, FORWARD[dtype])
        dy = normal(rng, y.shape, dtype)
        dx, gradients = pullback(dy)
        expected_dx, expected_gradients = expected_pullback(dy)
        assert_close(dx, expected_dx, BACKWARD[dtype], least=1e-3)
        assert list(gradients) == list(expected_gradients)
        # The bias of a convolution before a batch normalization has no effect: its gradient is 0 but for rounding.
        largest = max((np.abs(gradient).max() for gradient in expected_gradients.values()), default=0)
        for name, gradient in expected_gradients.items():
            assert_close(gradients[name], gradient, BACKWARD[dtype], name, least=largest)
        without, same = pullback(dy, input_gradient=False)
        assert without is None and all((same[name] == gradients[name]).all() for name in same)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert ours.state_dict()[name].dtype == tensor.numpy().dtype
        assert_close(ours.state_dict()[name], tensor.numpy(), FORWARD[dtype], name)
    again = pickle.loads(pickle.dumps(ours))
    assert not again.training
    np.testing.assert_array_equal(again(x), ours(x))


def test_initial_state_is_torchs():
    for make in LAYERS[:5]:
        ours, theirs = make(nn).state_dict(), make(torch_nn).state_dict()
        assert list(ours) == list(theirs)
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(ours[name], tensor.numpy())
            assert ours[name].dtype == tensor.numpy().dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_average_pools_of_any_window(dtype):
    rng = np.random.default_rng(2)
    for _ in range(60):
        kernel = ints(rng.integers(1, 6, 2))
        options = {
            "stride": ints(rng.integers(1, 5, 2)) if rng.uniform() < 0.7 else None,
            "padding": ints(rng.integers(0, k // 2 + 1) for k in kernel),
            "ceil_mode": bool(rng.integers(2)),
            "count_include_pad": bool(rng.integers(2)),
            "divisor_override": int(rng.choice([-2, 3])) if rng.uniform() < 0.2 else None,
        }
        shape = ints(rng.integers(0, 4, 1)) * int(rng.integers(2)) + (2, *(k + int(rng.integers(0, 9)) for k in kernel))
        x = normal(rng, shape, dtype)
        agrees(nn.avg_pool2d_vjp, F.avg_pool2d, rng, x, kernel, **options)
        size = tuple(None if n == 0 else int(n) for n in rng.integers(0, 12, 2))
        agrees(nn.adaptive_avg_pool2d_vjp, F.adaptive_avg_pool2d, rng, x, size)
    y, pullback = nn.adaptive_avg_pool2d_vjp(x, (0, 3))  # torch has no gradient here
    assert y.shape == (*x.shape[:-2], 0, 3)
    np.testing.assert_array_equal(pullback(y), np.zeros_like(x))


def agrees(vjp, theirs, rng, x, *arguments, **options):
    y, pullback = vjp(x, *arguments, **options)
    case = (x.shape, arguments, options)
    function = getattr(nn, vjp.__name__.removesuffix("_vjp"))
    np.testing.assert_array_equal(function(x, *arguments, **options), y)
    expected, expected_pullback = torch_vjp(lambda t: theirs(t, *arguments, **options), x)
    assert_close(y, expected, FORWARD[x.dtype.type], case, least=1e-3)
    dy = normal(rng, y.shape, x.dtype)
    assert_close(pullback(dy), expected_pullback(dy)[0], BACKWARD[x.dtype.type], case, least=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_of_all_magnitudes(dtype):
    rng = np.random.default_rng(3)
    x = np.concatenate((np.linspace(-12, 12, 4001), [0.0, -0.0, np.inf, np.nan, 1e30, -1e30])).astype(dtype)
    x = np.append(x, normal(rng, 9000, dtype))  # more than a block
    for approximate in ("none", "tanh"):
        agrees(nn.gelu_vjp, F.gelu, rng, x[np.isfinite(x) & (abs(x) < 1e9)], approximate=approximate)
        y = nn.gelu(x, approximate)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
        assert y[np.isposinf(x)] == np.inf and (y[x == -1e30] == 0).all()
    agrees(nn.leaky_relu_vjp, F.leaky_relu, rng, x, negative_slope=0.2)
    assert nn.gelu(dtype(2)).shape == nn.leaky_relu(dtype(-2)).shape == ()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_of_infinity_is_its_limit_in_arrays_of_every_size(dtype, approximate):
    for n in (1, 3, 16, 33):
        assert (nn.gelu(np.full(n, np.inf, dtype), approximate) == np.inf).all()
        assert np.isnan(nn.gelu(np.full(n, -np.inf, dtype), approximate)).all()  # as in torch


def test_gelu_keeps_its_precision_for_negative_numbers():
    """At -6 torch's 1 + erf cancels: its float64 result has nine correct digits and its float32 result none."""
    phi = 9.865876450376981e-10  # the distribution function at -6, from tables
    np.testing.assert_allclose(nn.gelu(np.float64(-6)), -6 * phi, rtol=1e-14)
    np.testing.assert_allclose(nn.gelu(np.float32(-6)), -6 * phi, rtol=1e-7)
    np.testing.assert_allclose(nn.gelu(np.float32(-6), "tanh"), nn.gelu(np.float64(-6), "tanh"), rtol=6e-8)


def test_batch_norm_of_other_ranks_and_without_statistics():
    rng = np.random.default_rng(4)
    for shape in ((5, 3), (2, 3, 7), (2, 3, 2, 2, 2)):
        x, (weight, bias) = normal(rng, shape, np.float64), normal(rng, (2, 3), np.float64)
        y, pullback = nn.batch_norm_vjp(x, None, None, weight, bias, True)
        expected, expected_pullback = torch_vjp(
            lambda *t: F.batch_norm(t[0], None, None, *t[1:], True), x, weight, bias
        )
        assert_close(y, expected, 1e-12)
        dy = normal(rng, shape, np.float64)
        for ours, theirs in zip(pullback(dy), expected_pullback(dy), strict=True):
            assert_close(ours, theirs, 1e-10)
    layer = nn.BatchNorm2d(3)
    assert layer(np.ones((0, 3, 4, 4), np.float32)).shape == (0, 3, 4, 4)
    np.testing.assert_array_equal(layer.running_mean, 0)  # torch would leave NaN


def test_layers_of_images_without_pixels_end_at_once():
    images = np.zeros((2**50, 3, 0, 1), np.float32)
    assert nn.BatchNorm2d(3)(images).shape == images.shape
    planes, none = np.zeros((2**50, 0, 1)), (np.zeros((0, 2), np.int64), np.zeros(0))
    for gradient in (False, True):
        cossim._core.avg_pool2d(planes, (0, 1), *none, np.array([[0, 1]]), np.ones(1), gradient=gradient)


def test_batch_norm_of_large_means_stays_exact():
    """The variance is the mean square of differences from the mean: E[x^2] - E[x]^2 would lose all digits here."""
    x = (1e4 + np.random.default_rng(5).standard_normal((16, 1, 8, 8)) * 1e-2).astype(np.float32)
    y = nn.batch_norm(x, None, None, training=True, eps=1e-12)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, (wide - wide.mean()) / np.sqrt(wide.var() + 1e-12), rtol=1e-6, atol=1e-6)


def test_an_image_after_eval_does_not_depend_on_the_others():
    layer, x = nn.BatchNorm2d(2), np.random.default_rng(6).random((5, 2, 4, 4), np.float32)
    layer(x)
    np.testing.assert_array_equal(layer.eval()(x)[1:2], layer(x[1:2]))
    assert layer.num_batches_tracked == 1


@pytest.mark.usefixtures("restore_threads")
def test_results_do_not_depend_on_the_number_of_threads():
    x = np.random.default_rng(7).random((64, 16, 24, 24), np.float32)
    calls = [
        lambda: nn.batch_norm_vjp(x, None, None, x[0, :, 0, 0], None, True)[1](x)[:2],
        lambda: nn.avg_pool2d_vjp(x, 3, 1, 1)[1](x),
        lambda: nn.gelu_vjp(x)[1](x),
        lambda: nn.leaky_relu(x),
    ]
    for call in calls:
        cossim.set_num_threads(1)
        expected = call() if isinstance(call(), tuple) else (call(),)
        cossim.set_num_threads(3)
        found_now = call() if isinstance(call(), tuple) else (call(),)
        for found, array in zip(found_now, expected, strict=True):
            np.testing.assert_array_equal(found, array)


def test_dropout_keeps_the_mean_and_repeats_with_its_seed():
    x = np.full((200, 300), 3, np.float32)
    for p in (0.2, 0.9):
        y, pullback = nn.dropout_vjp(x, p, rng=1)
        np.testing.assert_allclose(np.unique(y), [0, 3 / (1 - p)], rtol=1e-6)
        assert abs((y == 0).mean() - p) < 0.01
        np.testing.assert_array_equal(pullback(x), y)
        np.testing.assert_array_equal(nn.dropout(x, p, rng=1), y)
    layer = nn.Dropout(0.5, rng=2)
    again = copy.deepcopy(layer)
    first = layer(x)
    assert (layer(x) != first).any()
    np.testing.assert_array_equal(again(x), first)
    np.testing.assert_array_equal(layer.eval()(x), x)
    assert layer(x) is not x
    nan = nn.dropout(np.full(100, np.nan), 0.5, rng=3)
    assert np.isnan(nan).all()  # as in torch, whose mask is a factor


def test_train_and_eval_reach_all_layers():
    inner = nn.Sequential(nn.Dropout(), nn.ReLU())
    net = nn.Sequential(inner, nn.BatchNorm2d(1), abs)
    assert net.training and inner[0].training
    assert net.eval() is net
    assert not (net.training or inner[0].training or net[1].training or inner[1].training)
    assert net.train().training and inner[0].training
    with pytest.raises(TypeError, match="abs|builtin"):
        net.vjp(np.ones((2, 1, 2, 2), np.float32))


def test_buffers_are_state_but_not_parameters():
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    running = {"0.running_mean", "0.running_var", "0.num_batches_tracked"}
    assert set(net.state_dict()) - {name for name, _ in net.named_parameters()} == running
    optimizer = nn.Adam(net)
    y, pullback = net.vjp(np.random.default_rng(8).random((3, 2, 4, 4), np.float32))
    optimizer.step(pullback(np.ones_like(y))[1])
    assert not [name for name in optimizer.state_dict() if "running" in name]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.BatchNorm2d(-1), ValueError, "num_features"),
        (lambda: nn.BatchNorm2d(3, eps="0"), TypeError, "eps"),
        (lambda: nn.BatchNorm2d(3)(np.ones((2, 3, 3, 3))), TypeError, "float64"),
        (lambda: nn.batch_norm(np.ones((2, 3)), [0.0] * 3, [1.0] * 3, training=True), TypeError, "running_mean.*list"),
        (lambda: nn.AvgPool2d(0)(np.ones((1, 4, 4))), ValueError, r"avg_pool2d\(\): kernel_size"),
        (lambda: nn.AvgPool2d(2, padding=2)(np.ones((1, 4, 4))), ValueError, "half"),
        (lambda: nn.AvgPool2d(2, divisor_override=2.0)(np.ones((1, 4, 4))), TypeError, "divisor_override"),
        (lambda: nn.AvgPool2d(5)(np.ones((1, 4, 4))), ValueError, r"size \(0, 0\)"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3))(np.ones((1, 4, 4))), ValueError, "output_size"),
        (lambda: nn.AdaptiveAvgPool2d(-1)(np.ones((1, 4, 4))), ValueError, "output_size"),
        (lambda: nn.AdaptiveAvgPool2d(1)(np.ones((4, 4))), ValueError, r"\(4, 4\)"),
        (lambda: nn.Dropout(True), TypeError, r"\bp\b"),
        (lambda: nn.LeakyReLU("1"), TypeError, "negative_slope"),
        (lambda: nn.gelu(np.ones(3, int)), TypeError, "int64"),
        (lambda: nn.gelu_vjp(np.ones(3))[1](np.ones(2)), ValueError, "dy"),
    ],
)
def test_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_refused_batch_changes_no_statistics():
    layer = nn.BatchNorm2d(2)
    before = copy.deepcopy(layer.state_dict())
    for x in (np.ones((1, 2, 1, 1), np.float32), np.ones((2, 2, 3, 3)), np.ones((2, 3, 3, 3), np.float32)):
        with pytest.raises((TypeError, ValueError)):
            layer(x)
    for name, array in before.items():
        np.testing.assert_array_equal(layer.state_dict()[name], array)
