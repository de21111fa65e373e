"""Networks with an image in each lane agree with torch, gradients too; an image's bits depend on that image alone."""

import numpy as np
import pytest
from nn_cases import assert_close, normal
from oracle import torch
from test_nn_module_gradients import RELATIVE, both_dtypes, both_networks

from cossim import _core, nn
from cossim.nn.modules import NETWORK_LAYERS

pytestmark = pytest.mark.usefixtures("one_torch_thread")
IMAGE = (4, 9, 11)
RELU, POOL, FLATTEN = ("ReLU", (), {}), ("MaxPool2d", (2,), {}), ("Flatten", (), {})


def conv(*args, **options):
    return ("Conv2d", args, options)


NETWORKS = {
    "conv, relu, pool": [conv(4, 20, 3), RELU, POOL, FLATTEN, ("Linear", (240, 7), {}), RELU],
    "pool without relu": [conv(4, 20, 3), POOL, conv(20, 20, 2, bias=False), POOL],
    "odd sizes": [conv(4, 20, (2, 3)), RELU, POOL, conv(20, 13, 3, padding=1), RELU],
    "border": [conv(4, 16, 3, padding=(1, 2)), RELU, conv(16, 16, 3, padding=2), POOL],
    "same": [conv(4, 20, (2, 5), padding="same"), RELU, conv(20, 20, (4, 3), padding="same", dilation=2)],
    "strides": [conv(4, 40, (5, 3), stride=(2, 3), padding=(2, 1)), RELU, conv(40, 40, 3, stride=2, padding=2)],
    "stride above the kernel": [conv(4, 60, 3), RELU, conv(60, 60, (2, 1), stride=(3, 2))],
    "dilation": [conv(4, 20, 3, dilation=(2, 3)), RELU, conv(20, 30, (3, 2), dilation=(2, 1), padding=2)],
    "groups": [conv(4, 24, 5, groups=2, padding=2), RELU, conv(24, 48, 3, groups=4, padding=1), POOL],
    "depthwise": [conv(4, 16, 3), RELU, conv(16, 32, 3, groups=16, padding=1), conv(32, 32, 1), POOL],
    "long sums": [conv(4, 40, 3), RELU, conv(40, 16, 5, padding=1), FLATTEN, ("Linear", (560, 300), {})],
    "five rows": [conv(4, 20, 5, padding=(2, 3)), RELU, POOL, conv(20, 20, (5, 3), padding=(1, 2)), RELU],
    "five rows, pool": [conv(4, 16, (5, 1), padding=(4, 0)), RELU, conv(16, 24, 5, padding=1, bias=False), POOL],
    "five rows of an odd width": [conv(4, 20, 1), RELU, conv(20, 20, (5, 1)), POOL],
    "other pools": [
        conv(4, 32, 3),
        ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}),
        conv(32, 32, 3, padding=1),
        ("MaxPool2d", ((2, 3), (1, 2)), {"dilation": (1, 2)}),
        RELU,
    ],
    "relu and pool first": [RELU, ("MaxPool2d", (2, 1), {}), conv(4, 40, 3), RELU, RELU, conv(40, 9, 2)],
    "linear layers": [conv(4, 40, 3), RELU, FLATTEN, ("Linear", (2520, 30), {}), RELU, RELU, ("Linear", (30, 5), {})],
}


def torch_gradients(net, x, dy):
    """(torch's outputs, its gradients by the input and by each parameter)."""
    tx = torch.tensor(x, requires_grad=True)
    ty = net(tx)
    return ty.detach(), torch.autograd.grad(ty, [tx, *net.parameters()], torch.from_numpy(dy))


def runs_across(net, x):
    return _core.forward_layers(NETWORK_LAYERS, tuple(net), x)[2] is not None


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@both_dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_results_and_gradients_agree_with_torch(rng, name, dtype):
    ours, theirs = both_networks(NETWORKS[name], rng, dtype)
    for n in (16, 37):
        x = normal(rng, (n, *IMAGE), dtype)
        assert runs_across(ours, x), name
        (y, pullback), forward = ours.vjp(x), ours(x)
        dy = normal(rng, y.shape, dtype)
        ty, expected = torch_gradients(theirs, x, dy)
        assert_close(y, ty, RELATIVE[dtype] / 10, name, least=0.1)
        np.testing.assert_array_equal(y, forward)
        dx, gradients = pullback(dy)
        assert_close(dx, expected[0], RELATIVE[dtype], name)
        assert list(gradients) == list(ours.state_dict())
        for (key, gradient), their in zip(gradients.items(), expected[1:], strict=True):
            assert_close(gradient, their, RELATIVE[dtype], (name, key))
        without, again = pullback(dy, input_gradient=False)
        assert without is None
        for key, gradient in gradients.items():
            np.testing.assert_array_equal(again[key], gradient)


@both_dtypes
def test_gradients_of_more_windows_than_one_list_holds(rng, dtype):
    """324 windows of a pool; their lists hold 256."""
    ours, theirs = both_networks([conv(4, 8, 5), RELU, POOL], rng, dtype)
    x = normal(rng, (16, 4, 40, 40), dtype)
    assert runs_across(ours, x)
    y, pullback = ours.vjp(x)
    dy = normal(rng, y.shape, dtype)
    _, expected = torch_gradients(theirs, x, dy)
    _, gradients = pullback(dy)
    for (key, gradient), their in zip(gradients.items(), expected[1:], strict=True):
        assert_close(gradient, their, RELATIVE[dtype], key)


@both_dtypes
def test_bits_of_an_image_depend_on_it_alone(rng, dtype):
    net, _ = both_networks(NETWORKS["other pools"], rng, dtype)
    x = normal(rng, (61, *IMAGE), dtype)
    whole = net(x)
    for first, end in ((0, 16), (3, 20), (5, 61), (44, 61), (1, 34)):
        np.testing.assert_array_equal(net(x[first:end]), whole[first:end])
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(net(x[order]), whole[order])
    x[7], x[40] = np.nan, np.inf
    odd = np.isin(np.arange(61), (7, 40))
    np.testing.assert_array_equal(net(x)[~odd], whole[~odd])


@both_dtypes
@pytest.mark.filterwarnings("ignore:invalid value")
def test_winograd_keeps_what_is_not_finite_in_its_image(rng, dtype):
    """A NaN and an infinity reach the same outputs and gradients as in torch, and change no bit of another image."""
    ours, theirs = both_networks(NETWORKS["five rows, pool"], rng, dtype)
    x = normal(rng, (40, *IMAGE), dtype)
    (whole, pullback), odd = ours.vjp(x), np.isin(np.arange(40), (5, 30))
    dy = normal(rng, whole.shape, dtype)
    dx = pullback(dy)[0]
    x[5, 1, 4, 4], x[30, 2, 3, 7] = np.nan, np.inf
    dy[30, 3, 1, 2] = np.inf
    y, pullback = ours.vjp(x)
    ty, expected = torch_gradients(theirs, x, dy)
    assert_close(y, ty, RELATIVE[dtype] / 10)
    np.testing.assert_array_equal(ours(x), y)
    np.testing.assert_array_equal(y[~odd], whole[~odd])
    ours_dx, gradients = pullback(dy)
    np.testing.assert_array_equal(ours_dx[~odd], dx[~odd])
    for one, their in zip((ours_dx, *gradients.values()), expected, strict=True):
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(their.numpy()))


@both_dtypes
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_infinite_weight_is_in_all_gradients_of_the_pixels_that_it_multiplies(rng, dtype):
    """Gradients that are not finite may reach other pixels of the same channel, but no other channel."""
    ours, theirs = both_networks(NETWORKS["five rows"], rng, dtype)
    ours[0].weight[3, 2, 1, 0] = np.inf
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in ours.state_dict().items()})
    x = normal(rng, (37, *IMAGE), dtype)
    net = nn.Sequential(ours[0])
    dy = normal(rng, net(x).shape, dtype)
    assert runs_across(net, x)
    dx, their_dx = net.vjp(x)[1](dy)[0], torch_gradients(theirs[0], x, dy)[1][0].numpy()
    assert not np.isfinite(dx[~np.isfinite(their_dx)]).any()
    assert np.isfinite(dx[:, [0, 1, 3]]).all()


@both_dtypes
def test_gradients_of_an_incomplete_vector_are_those_of_its_images(rng, dtype):
    """Idle lanes add nothing, not even NaN: an infinite bias makes their values infinite."""
    net, theirs = both_networks(NETWORKS["conv, relu, pool"], rng, dtype)
    net[0].bias[3] = np.inf
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in net.state_dict().items()})
    x = normal(rng, (19, *IMAGE), dtype)
    y, pullback = net.vjp(x)
    dy = normal(rng, y.shape, dtype)
    dx, gradients = pullback(dy)
    expected = torch_gradients(theirs, x, dy)[1]
    for one, their in zip((dx, *gradients.values()), expected, strict=True):
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(their.numpy()))


def test_tape_keeps_the_parameters_of_its_forward_pass(rng):
    net, _ = both_networks(NETWORKS["conv, relu, pool"], rng, np.float32)
    x = normal(rng, (32, *IMAGE), np.float32)
    y, pullback = net.vjp(x)
    dy = np.ones_like(y)
    expected = pullback(dy)
    net[0].weight, net[4].weight = np.zeros_like(net[0].weight), np.zeros_like(net[4].weight)
    x[...] = 0
    dx, gradients = pullback(dy)
    np.testing.assert_array_equal(dx, expected[0])
    for key, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, expected[1][key])


def test_few_images_and_small_networks_go_one_by_one(rng):
    net, _ = both_networks(NETWORKS["conv, relu, pool"], rng, np.float32)
    assert not runs_across(net, normal(rng, (1, *IMAGE), np.float32))
    assert not runs_across(nn.Sequential(nn.ReLU()), normal(rng, (64, *IMAGE), np.float32))
    assert not runs_across(nn.Sequential(nn.Linear(9, 9)), normal(rng, (64, 9), np.float32))
    assert not runs_across(nn.Sequential(nn.Conv2d(4, 2, 1)), normal(rng, (64, *IMAGE), np.float32))


@both_dtypes
def test_vjp_goes_the_way_of_the_forward_pass(rng, dtype):
    """A network goes image by image as a whole, though its last layers alone would go across images."""
    net, _ = both_networks(NETWORKS["conv, relu, pool"], rng, dtype)
    whole = nn.Sequential(nn.MaxPool2d(3), *net)
    x = normal(rng, (37, 4, 27, 33), dtype)
    assert runs_across(net, whole[0](x))
    assert not runs_across(whole, x)
    y, pullback = whole.vjp(x)
    np.testing.assert_array_equal(y, whole(x))
    one_by_one = net[4](net[3](net[2](net[1](net[0](whole[0](x))))))
    np.testing.assert_array_equal(y, np.maximum(one_by_one, 0))
    assert list(pullback(np.ones_like(y))[1]) == list(whole.state_dict())


def test_layers_with_their_own_vjp_keep_it(rng):
    net, _ = both_networks(NETWORKS["conv, relu, pool"], rng, np.float32)
    x = normal(rng, (32, *IMAGE), np.float32)
    calls = []
    own = net[3].vjp

    def vjp(x):
        calls.append(x.shape)
        return own(x)

    net[3].vjp = vjp
    y, pullback = net.vjp(x)
    assert calls == [(32, 20, 3, 4)]
    assert list(pullback(np.ones_like(y))[1]) == list(net.state_dict())
