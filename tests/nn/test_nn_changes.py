"""Sequential always uses the current weights and arguments, although it prepares data at its first call."""

import numpy as np
import pytest
from nn_cases import assert_close, normal
from oracle import torch
from processes import python
from test_nn_sequential import one_by_one, small

from cossim import nn

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def fresh(net, x):
    """The result of a network without earlier calls: the functions, layer by layer, on copies of the arrays."""
    conv, _, pool, flatten, linear = net
    arrays = [None if a is None else np.array(a) for a in (conv.weight, conv.bias, linear.weight, linear.bias)]
    y = nn.conv2d(x, *arrays[:2], conv.stride, conv.padding, conv.dilation, conv.groups)
    y = nn.max_pool2d(nn.relu(y), pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    return nn.linear(nn.Flatten(flatten.start_dim, flatten.end_dim)(y), *arrays[2:])


CHANGES = {
    "all weights in place": lambda net, rng: net[0].weight.__setitem__(..., normal(rng, (4, 2, 3, 3), "f4")),
    "one weight in place": lambda net, rng: net[0].weight.__setitem__((1, 1, 0, 2), 9),
    "the last weight in place": lambda net, rng: net[0].weight.__setitem__((3, 1, 2, 2), 9),
    "the first weight in place": lambda net, rng: net[0].weight.__setitem__((0, 0, 0, 0), 9),
    "two weights exchanged": lambda net, rng: net[0].weight.__setitem__([0, 3], net[0].weight[[3, 0]]),
    "a weight's sign": lambda net, rng: np.negative(net[0].weight[2], out=net[0].weight[2]),
    "bias in place": lambda net, rng: net[0].bias.__setitem__(3, 5),
    "weight of linear in place": lambda net, rng: net[4].weight.__setitem__((1, 20), 9),
    "last weight of linear in place": lambda net, rng: net[4].weight.__setitem__((2, 35), 9),
    "bias of linear in place": lambda net, rng: np.add(net[4].bias, 1, out=net[4].bias),
    "state_dict's arrays": lambda net, rng: [np.multiply(a, 2, out=a) for a in net.state_dict().values()],
    "load_state_dict": lambda net, rng: net.load_state_dict(
        {key: normal(rng, a.shape, "f4") for key, a in net.state_dict().items()}
    ),
    "another array": lambda net, rng: setattr(net[0], "weight", normal(rng, (4, 2, 3, 3), "f4")),
    "an array by columns": lambda net, rng: setattr(net[4], "weight", np.asfortranarray(2 * net[4].weight)),
    "every second element": lambda net, rng: setattr(net[0], "weight", normal(rng, (4, 2, 3, 6), "f4")[..., ::2]),
    "in the other byte order": lambda net, rng: setattr(net[0], "weight", (2 * net[0].weight).astype(">f4")),
    "read-only": lambda net, rng: setattr(net[0], "weight", np.broadcast_to(net[0].weight[:1] + 1, (4, 2, 3, 3))),
    "no bias": lambda net, rng: setattr(net[0], "bias", None),
    "no bias of linear": lambda net, rng: setattr(net[4], "bias", None),
    "more features": lambda net, rng: (
        setattr(net[4], "weight", normal(rng, (8, 36), "f4")),
        setattr(net[4], "bias", None),
    ),
    "another kernel": lambda net, rng: setattr(net[0], "weight", normal(rng, (4, 2, 2, 2), "f4")),
    "stride": lambda net, rng: (
        setattr(net[0], "stride", (2, 2)),
        setattr(net[2], "kernel_size", 1),
        setattr(net[2], "stride", 1),
    ),
    "padding": lambda net, rng: (setattr(net[0], "padding", (1, 1)), setattr(net[2], "kernel_size", 3)),
    "padding by name": lambda net, rng: (setattr(net[0], "padding", "same"), setattr(net[2], "kernel_size", 3)),
    "dilation": lambda net, rng: (setattr(net[0], "dilation", (2, 2)), setattr(net[2], "padding", 1)),
    "pool by ones": lambda net, rng: (setattr(net[2], "kernel_size", 4), setattr(net[2], "stride", (1, 1))),
    "ceil_mode": lambda net, rng: (setattr(net[0], "dilation", 2), setattr(net[2], "ceil_mode", True)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_after_the_first_call(rng, change):
    net = small()
    x = normal(rng, (3, 2, 8, 8), np.float32)
    before = net(x)
    assert_close(before, fresh(net, x), 1e-6)
    CHANGES[change](net, rng)
    try:
        expected = fresh(net, x)
    except ValueError:  # Linear now takes fewer features
        with pytest.raises(ValueError, match="linear"):
            net(x)
        net[4].weight = normal(rng, (3, one_by_one(net[:4], x).shape[1]), np.float32)
        expected = fresh(net, x)
    after = net(x)
    assert_close(after, expected, 1e-6)
    assert after.shape != before.shape or (after != before).any()


def test_arrays_of_another_size(rng):
    """The call uses the current sizes of a layer's arrays; resize() changes an array in place."""
    net, x = small(), normal(rng, (3, 2, 8, 8), np.float32)
    net(x)
    net[4].weight.resize((3, 30), refcheck=False)
    with pytest.raises(ValueError, match=r"\(3, 30\)"):
        net(x)
    net[4].weight.resize((2, 36), refcheck=False)
    net[4].bias.resize(2, refcheck=False)
    assert net(x).shape == (3, 2)
    assert_close(net(x), fresh(net, x), 1e-6)
    net[4].weight.resize((2, 30), refcheck=False)
    with pytest.raises(ValueError, match=r"\(2, 30\)"):
        net(x)
    net[4].weight.resize((2, 36), refcheck=False)
    net[0].weight.resize((4, 2, 3, 2), refcheck=False)
    assert_close(net(x), fresh(net, x), 1e-6)


@pytest.mark.parametrize(
    "form", [np.asfortranarray, lambda a: a.astype(">f4"), lambda a: np.repeat(a, 2, -1)[..., ::2]]
)
def test_arrays_of_other_layouts_changed_in_place(rng, form):
    """The network copies such arrays, and must do so in each call."""
    net, x = small(), normal(rng, (3, 2, 8, 8), np.float32)
    for array in (net[0].weight, net[0].bias, net[4].weight, net[4].bias):
        net(x)
        for layer, name in ((net[0], "weight"), (net[0], "bias"), (net[4], "weight"), (net[4], "bias")):
            if getattr(layer, name) is array:
                setattr(layer, name, form(array))
                before = net(x)
                getattr(layer, name)[-1] += 1
        assert_close(net(x), fresh(net, x), 1e-6)
        assert (net(x) != before).any()


def test_a_parameter_that_is_deleted(rng):
    net, x = small(), normal(rng, (3, 2, 8, 8), np.float32)
    net(x)
    del net[0].bias
    with pytest.raises(AttributeError, match="bias"):
        net(x)


def test_networks_take_the_kinds_of_weights_that_functions_take(rng):
    """Lists, torch's tensors, one bias for all features: these must not be treated as plain arrays."""
    net, x = small(np.float64), normal(rng, (3, 2, 8, 8), np.float64)
    expected = net(x)
    for form in (np.ndarray.tolist, torch.from_numpy, lambda a: a.copy().view(np.recarray)):
        for layer, name in ((net[0], "weight"), (net[0], "bias"), (net[4], "weight"), (net[4], "bias")):
            array = getattr(layer, name)
            setattr(layer, name, form(array))
            np.testing.assert_array_equal(net(x), expected)
            setattr(layer, name, array)
    net[4].bias = np.array([2.0])
    assert_close(net(x), fresh(net, x), 1e-14)
    net[4].bias = np.array(2.0)
    assert_close(net(x), fresh(net, x), 1e-14)
    net[0].weight = net[0].weight.astype(np.float32)
    with pytest.raises(TypeError, match="(?s)float64.*float32"):
        net(x)


def error_of(call):
    try:
        call()
    except Exception as error:
        return error


@pytest.mark.parametrize("value", [1.5, (1.5, 1), (1, 2, 3), 0, -1, (1, -1), 2**62, (2**62, 1), (2**63, 1), "2", True])
@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups", "kernel_size"])
def test_invalid_arguments_are_refused_as_by_the_layer(rng, name, value):
    """Invalid arguments that are set later are refused as by the layer alone. The products of some of them overflow."""
    net = nn.Sequential(nn.Conv2d(2, 4, 5, rng=0), nn.ReLU(), nn.MaxPool2d((4, 4)))
    x = normal(rng, (3, 2, 8, 8), np.float32)
    net(x)
    if (name, value) == ("padding", 0):
        value = None
    layer = net[2] if name == "kernel_size" else net[0]
    setattr(layer, name, value)
    expected, error = error_of(lambda: one_by_one(net, x)), error_of(lambda: net(x))
    assert type(error) is type(expected) and type(error) in (TypeError, ValueError)
    assert str(expected) in str(error)


def test_lists_of_numbers_changed_in_place(rng):
    net, x = small(), normal(rng, (3, 2, 8, 8), np.float32)
    net[2].kernel_size, net[2].stride = [2, 2], (2, 2)
    before = net(x)
    try:
        net[2].kernel_size[0] = 1
    except TypeError:
        return  # it was converted to a tuple
    assert (net(x) != before).any()
    assert_close(net(x), fresh(net, x), 1e-6)


def test_new_arrays_at_addresses_of_old_ones_are_used(rng):
    """A new array may have the address of an old one."""
    net, x = small(), normal(rng, (2, 2, 8, 8), np.float32)
    for _ in range(20):
        net[0].weight = normal(rng, (4, 2, 3, 3), np.float32)
        net[4].weight = normal(rng, (3, 36), np.float32)
        assert_close(net(x), fresh(net, x), 1e-6)


def test_filters_kept_from_the_last_call_follow_every_change(rng):
    """Kernels of five rows, whose transforms a call keeps for the next one."""
    conv = nn.Conv2d(10, 12, 5, rng=0)
    net = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))
    x, first = normal(rng, (1, 10, 12, 12), "f4"), conv.weight.copy()

    def definition():  # on copies; the first call makes the core keep other filters
        nn.conv2d(x[:, :, :11], np.ones_like(first))
        return nn.max_pool2d(nn.relu(nn.conv2d(x, conv.weight.copy(), conv.bias.copy())), 2)

    expected = definition()
    for _ in range(3):
        np.testing.assert_array_equal(net(x), expected)
    conv.weight[11, 9, 4, 4] = np.nextafter(conv.weight[11, 9, 4, 4], np.float32(9))
    changed = net(x)
    np.testing.assert_array_equal(changed, definition())
    conv.weight[:] = first
    conv.bias[:] += 1
    shifted = net(x)
    np.testing.assert_array_equal(shifted, definition())
    conv.bias[:] -= 1
    np.testing.assert_array_equal(net(x), definition())
    other = normal(rng, (1, 10, 13, 16), "f4")
    np.testing.assert_array_equal(net(other)[0, :, 0, 0], net(other.copy())[0, :, 0, 0])


def test_functions_of_a_layers_own(rng):
    """The forward of a subclass or an instance is called, instead of the original layer."""

    class Leaky(nn.ReLU):
        def forward(self, x):
            return np.where(x > 0, x, np.float32(0.5) * x)

    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Called(nn.MaxPool2d):
        def __call__(self, x):
            return -super().__call__(x)

    x = normal(rng, (3, 2, 8, 8), np.float32)
    conv = nn.Conv2d(2, 4, 3, rng=0)
    for net in (
        nn.Sequential(conv, Leaky(), nn.MaxPool2d(2)),
        nn.Sequential(Doubled(2, 4, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(conv, nn.ReLU(), Called(2)),
    ):
        np.testing.assert_array_equal(net(x), one_by_one(net, x))
        assert (net(x) != nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))(x)).any()
    net = small()
    before = net(x)
    net[1].forward = lambda x: x  # as in torch, an instance's own forward is called
    assert (net(x) != before).any()
    assert_close(net(x), one_by_one(net, x), 1e-6)


RESIZED_BY_A_SIGNAL = """
import signal, sys
import cossim, numpy as np
from cossim import nn

cossim.set_num_threads(1)
net = nn.Sequential(nn.Linear(400, 400, rng=0), nn.ReLU())
x = np.ones((60000, 400), np.float32)
array = {"x": x, "weight": net[0].weight, "bias": net[0].bias}[sys.argv[1]]
net(x[:1])

def resize(*signal_and_frame):
    try:
        array.resize((1,), refcheck=False)
        print("resized", flush=True)
    except ValueError:
        print("refused", flush=True)

signal.signal(signal.SIGALRM, resize)
signal.setitimer(signal.ITIMER_REAL, 0.01)  # the call takes ten times as long and more
net(x)
resize()
"""


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_memory_is_held_while_a_network_runs(name):
    """A signal handler runs Python code during the call."""
    assert python(RESIZED_BY_A_SIGNAL, name) == "refused\nresized"
