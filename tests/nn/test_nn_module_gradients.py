"""The gradients of layer objects, Sequential and the encoder agree with torch's autograd and the references."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from nn_cases import (
    TorchEncoder,
    assert_close,
    assert_same,
    build,
    halved,
    integers,
    normal,
    random_network,
    torch_module_vjp,
    weights_of,
)
from oracle import torch
from test_nn_modules import PAIRS, input_for

import cossim
from cossim import nn, simclr

pytestmark = pytest.mark.usefixtures("one_torch_thread")
RELATIVE = {np.float32: 1e-4, np.float64: 1e-10}
TORCH = {np.float32: torch.float32, np.float64: torch.float64}
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def check(ours, theirs, x, dy, dtype, case=""):
    """Compares results, gradients and their keys of two modules, with and without the input's gradient."""
    (y, pullback), (expected, their_pullback) = ours.vjp(x), torch_module_vjp(theirs, x)
    assert_close(y, expected, RELATIVE[dtype] / 10, case)
    np.testing.assert_array_equal(y, ours(x), err_msg=str(case))
    assert y.dtype == dtype
    (dx, gradients), (expected_dx, expected_gradients) = pullback(dy), their_pullback(dy)
    assert_close(dx, expected_dx, RELATIVE[dtype], case)
    assert dx.dtype == dtype
    assert list(gradients) == list(ours.state_dict()) == list(expected_gradients)
    for key, gradient in gradients.items():
        assert_close(gradient, expected_gradients[key], RELATIVE[dtype], (key, case))
        assert gradient.dtype == dtype
    without, again = pullback(dy, input_gradient=False)
    assert without is None
    assert_same(gradients, again)


def test_input_gradient_is_converted_once():
    """A network of several layers converts input_gradient once: each conversion may give another value."""
    asked = []

    class Asked:
        def __bool__(self):
            asked.append(self)
            return len(asked) > 1

    network = nn.Sequential(nn.Linear(3, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=0))
    _, pullback = network.vjp(np.ones((5, 3), np.float32))
    assert pullback(np.ones((5, 2), np.float32), Asked())[0] is None
    assert len(asked) == 1


def with_numbers(ours, theirs, draw, rng, dtype):
    """Both modules with the same parameters, drawn at random."""
    state = {key: weights_of(draw, rng, a.shape, dtype) for key, a in ours.state_dict().items()}
    ours.load_state_dict(state)
    theirs.to(TORCH[dtype]).load_state_dict({key: torch.from_numpy(a) for key, a in state.items()})
    return ours, theirs


def ones(rng, shape, dtype):
    """Random numbers from -1, 0 and 1."""
    return integers(rng, shape, dtype, most=1)


def in_dtype(module, dtype):
    """A layer of ours with its parameters and statistics in another type."""
    for name in (*module.parameter_names, *module.buffer_names):
        array = getattr(module, name)
        if array is not None and array.dtype.kind == "f":
            setattr(module, name, array.astype(dtype))
    for _, inner in module.named_modules():
        in_dtype(inner, dtype)
    return module


def both_networks(layers, rng, dtype):
    """(our network, torch's network) with the same weights, in the range of torch's initial weights."""
    ours, theirs = in_dtype(build(nn, layers), dtype), build(torch.nn, layers).to(TORCH[dtype])
    for array in ours.state_dict().values():
        array[...] = rng.uniform(-1, 1, array.shape) / np.sqrt(max(array[0].size, 4))
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in ours.state_dict().items()})
    return ours, theirs


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@both_dtypes
@pytest.mark.parametrize("make", PAIRS)
def test_gradients_of_each_layer_agree_with_torch(rng, make, dtype):
    ours, theirs = in_dtype(make(nn), dtype), make(torch.nn).to(TORCH[dtype])
    with_numbers(ours, theirs, normal, rng, dtype)
    x = input_for(ours).astype(dtype)
    check(ours, theirs, x, normal(rng, ours(x).shape, dtype), dtype)
    check(ours, theirs, x[:0], normal(rng, ours(x[:0]).shape, dtype), dtype)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@both_dtypes
def test_gradients_of_random_networks_agree_with_torch(rng, dtype):
    """In float32 with small integers, because rounding may move a maximum between nearly equal sums."""
    draw = normal if dtype == np.float64 else ones
    with_parameters = 0
    for _ in range(100):
        layers, shape = random_network(rng, functions=False, indices=False)
        ours, theirs = in_dtype(build(nn, layers), dtype), build(torch.nn, layers)
        with_numbers(ours, theirs, draw, rng, dtype)
        x = draw(rng, (int(rng.choice([0, 1, 3, 9])), *shape), dtype)
        try:
            y = theirs(torch.from_numpy(x))
        except RuntimeError:
            continue  # torch's padding mode needs at least one image
        if not torch.isfinite(y).all():
            continue  # windows with only padding
        check(ours, theirs, x, draw(rng, y.shape, dtype), dtype, (layers, x.shape))
        with_parameters += len(ours.state_dict()) > 2
    assert with_parameters > 30


def test_keys_of_layers_by_name(rng):
    net = nn.Sequential(OrderedDict(first=nn.Linear(3, 4), then=nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False))))
    y, pullback = net.vjp(normal(rng, (5, 3), np.float32))
    assert list(pullback(y)[1]) == ["first.weight", "first.bias", "then.1.weight"]


def test_a_layer_used_twice_has_a_gradient_for_each_use(rng):
    """Each occurrence has its own gradient. The sum of both is the gradient of the parameter."""
    layer = nn.Linear(4, 4, rng=0)
    theirs = torch.nn.Linear(4, 4)
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in layer.state_dict().items()})
    x = normal(rng, (5, 4), np.float32)
    y, pullback = nn.Sequential(layer, nn.ReLU(), layer).vjp(x)
    dx, gradients = pullback(y)
    expected_dx, expected = torch_module_vjp(_Twice(theirs), x)[1](y)
    assert_close(dx, expected_dx, 1e-5)
    for name in ("weight", "bias"):
        assert_close(gradients[f"0.{name}"] + gradients[f"2.{name}"], expected[f"layer.{name}"], 1e-5)


class _Twice(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(self.layer(x).relu())


def test_layers_that_have_no_vjp(rng):
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    x = normal(rng, (2, 3), np.float32)
    for foreign in (halved, np.tanh, Doubled(), torch.nn.Identity()):
        for net, name in (
            (nn.Sequential(OrderedDict(fc=nn.Linear(3, 3), odd=foreign)), "odd"),
            (nn.Sequential(OrderedDict(odd=foreign, fc=nn.Linear(3, 3))), "odd"),
            (nn.Sequential(OrderedDict(fc=nn.Linear(3, 3), inner=nn.Sequential(foreign))), "0"),
        ):
            with pytest.raises(TypeError, match="vjp") as caught:
                net.vjp(x)
            assert name in str(caught.value)
    with pytest.raises(TypeError, match="Doubled.*vjp|vjp.*Doubled"):
        Doubled().vjp(x)


def test_a_users_layer_with_a_vjp_is_trained(rng):
    class Scaled(nn.Module):
        """x times a parameter, with a vjp like that of the other layers."""

        parameter_names = ("scale",)

        def __init__(self, scale):
            self.scale = np.array([scale], np.float32)

        def forward(self, x):
            return self.scale * x

        def vjp(self, x):
            def pullback(dy, input_gradient=True):
                scale = np.array([np.vdot(dy, x)], np.float32)
                return self.scale * dy if input_gradient else None, {"scale": scale}

            return self(x), pullback

    net = nn.Sequential(nn.Linear(3, 4, rng=0), Scaled(3.0), nn.ReLU())
    x = normal(rng, (5, 3), np.float32)
    y, pullback = net.vjp(x)
    np.testing.assert_array_equal(y, net(x))
    dx, gradients = pullback(y)
    assert list(gradients) == ["0.weight", "0.bias", "1.scale"]
    hidden = x @ net[0].weight.T + net[0].bias
    masked = np.where(hidden > 0, y, 0)
    assert_close(gradients["1.scale"], [np.vdot(masked, hidden)], 1e-5)
    assert_close(dx, 3 * masked @ net[0].weight, 1e-5)


def test_a_subclass_has_its_own_forward(rng):
    """A layer with an overridden forward must not use the gradients of the original layer."""

    class Shifted(nn.ReLU):
        def forward(self, x):
            return super().forward(x - 1)

        def vjp(self, x):
            return super().vjp(x - 1)

    net, x = nn.Sequential(nn.Linear(3, 4, rng=0), Shifted()), normal(rng, (5, 3), np.float32)
    y, pullback = net.vjp(x)
    np.testing.assert_array_equal(y, net(x))
    np.testing.assert_array_equal(y, nn.relu(net[0](x) - 1))
    assert_close(pullback(y)[0], y @ net[0].weight, 1e-5)


def test_another_forward_has_no_inherited_vjp(rng):
    """An inherited vjp computes the gradient of the original forward, not of the new one."""

    class Leaky(nn.ReLU):
        def forward(self, x):
            return np.where(x > 0, x, np.float32(0.1) * x)

    class OtherEncoder(simclr.Encoder):
        def forward(self, x):
            return super().forward(x) + 1

    x = normal(rng, (2, 3), np.float32)
    own = nn.ReLU()
    own.forward = Leaky().forward
    for layer in (Leaky(), own):
        for net in (nn.Sequential(layer), nn.Sequential(nn.Linear(3, 3), layer), nn.Sequential(nn.Sequential(layer))):
            with pytest.raises(TypeError, match="(Leaky|ReLU).*vjp"):
                net.vjp(x)
    with pytest.raises(TypeError, match="Leaky.*vjp"):
        Leaky().vjp(x)
    with pytest.raises(TypeError, match="OtherEncoder.*vjp"):
        OtherEncoder().vjp(np.zeros((1, 1, 28, 28), np.float32))


# ---- the encoder ----


def encoders(rng, draw, dtype):
    return with_numbers(simclr.Encoder(dtype=dtype), TorchEncoder().to(TORCH[dtype]), draw, rng, dtype)


@pytest.mark.parametrize("n", [0, 1, 32, 100])
@pytest.mark.parametrize(
    ("dtype", "draw"),
    [(np.float64, normal), (np.float64, ones), (np.float32, ones)],
    ids=["float64", "float64 with equals", "float32 with equals"],
)
def test_encoder(rng, dtype, draw, n):
    ours, theirs = encoders(rng, draw, dtype)
    x, dy = draw(rng, (n, 1, 28, 28), dtype), draw(rng, (n, 100), dtype)
    check(ours, theirs, x, dy, dtype)


@both_dtypes
def test_encoder_with_its_own_weights(rng, dtype):
    """With so few images, no two maxima are nearly equal in float32."""
    ours, theirs = simclr.Encoder(dtype=dtype, rng=0), TorchEncoder().to(TORCH[dtype])
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in ours.state_dict().items()})
    x = rng.random((2, 1, 28, 28)).astype(dtype)
    check(ours, theirs, x, normal(rng, (2, 100), dtype), dtype)


# ---- what holds for all of them ----


@both_dtypes
def test_threads_repetition_and_batches_change_no_bit(rng, dtype):
    """Threads and repetition change no bit, nor does a batch of 16 images or more change the gradient of one image."""
    encoder = simclr.Encoder(dtype=dtype, rng=0)
    x, dy = rng.random((70, 1, 28, 28)).astype(dtype), normal(rng, (70, 100), dtype)
    results = []
    for n in (1, 2, 3):
        with cossim.threads(n):
            y, pullback = encoder.vjp(x)
            results += [{"y": y, "dx": dx, **gradients} for dx, gradients in (pullback(dy), pullback(dy))]
    for one in results[1:]:
        assert_same(results[0], one)
    for part in (slice(0, 1), slice(5, 6), slice(7, 70), slice(63, 70)):
        y, pullback = encoder.vjp(x[part])
        dx = pullback(dy[part])[0]
        if len(y) < 16:  # fewer images may go one by one
            assert_close(y, results[0]["y"][part], RELATIVE[dtype] / 10)
            assert_close(dx, results[0]["dx"][part], RELATIVE[dtype])
        else:
            np.testing.assert_array_equal(y, results[0]["y"][part])
            np.testing.assert_array_equal(dx, results[0]["dx"][part])


def test_arguments_stay_and_results_are_not_overwritten(rng):
    encoder = simclr.Encoder(rng=0)
    x, dy = rng.random((5, 1, 28, 28), np.float32), normal(rng, (5, 100), np.float32)
    state = encoder.state_dict()
    before = {"x": x.copy(), "dy": dy.copy(), **{key: a.copy() for key, a in state.items()}}
    y, pullback = encoder.vjp(x)
    dx, gradients = pullback(dy)
    kept = {"y": y.copy(), "dx": dx.copy(), **{key: a.copy() for key, a in gradients.items()}}
    pullback(2 * dy)
    encoder.vjp(x + 1)[1](dy)
    assert_same(before, {"x": x, "dy": dy, **state})
    assert_same(kept, {"y": y, "dx": dx, **gradients})  # not overwritten by later calls
    for gradient in (dx, *gradients.values()):
        gradient[...] = 0
    assert_same(before, {"x": x, "dy": dy, **state})


def test_dy_of_another_shape_or_type(rng):
    x = normal(rng, (2, 1, 28, 28), np.float32)
    for module in (
        simclr.Encoder(),
        nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 100)),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 1, 28, bias=False), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2)),
        nn.Sequential(),
        nn.Flatten(),
        nn.ReLU(),
    ):
        y, pullback = module.vjp(x)
        for wrong in ((*y.shape, 1), y.shape[:-1], (3, *y.shape[1:]), (y.size,), ()):
            with pytest.raises(ValueError, match="dy") as caught:
                pullback(np.ones(wrong, np.float32))
            assert str(y.shape) in str(caught.value) and str(wrong) in str(caught.value)
        with pytest.raises(TypeError, match="dy.*float64|float64.*dy") as caught:
            pullback(np.ones(y.shape))
        assert "float32" in str(caught.value)
        pullback(np.ones(y.shape, np.float32))


def test_each_call_uses_the_current_weights(rng):
    """No stale copy of weights is used after in-place training steps, new arrays and new layers."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2, rng=0))
    x, dy = normal(rng, (4, 1, 6, 6), np.float32), normal(rng, (4, 2), np.float32)

    def check_again():
        theirs = torch.nn.Sequential(
            torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 2)
        )
        theirs.load_state_dict({key: torch.from_numpy(np.array(a)) for key, a in net.state_dict().items()})
        check(net, theirs, x, dy, np.float32)

    for _ in range(3):
        check_again()
        for key, gradient in net.vjp(x)[1](dy)[1].items():
            net.state_dict()[key][...] -= np.float32(0.1) * gradient
    check_again()
    net[0].weight = normal(rng, (3, 1, 3, 3), np.float32)
    net[3].weight = np.asfortranarray(normal(rng, (2, 48), np.float32))
    check_again()
    net[0].weight[2, 0, 2, 2] += 1
    net[3].weight[1, 47] -= 1
    check_again()
    net = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    net[3].bias *= -2
    check_again()
