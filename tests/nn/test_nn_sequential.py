"""Sequential agrees with torch, and for one image gives the bits of its layers one by one."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from nn_cases import TorchEncoder, assert_close, halved, normal, random_network
from oracle import torch
from public_inputs import LAYOUTS
from test_nn_module_gradients import TORCH, both_dtypes, both_networks, in_dtype

import cossim
from cossim import _core, nn, simclr

pytestmark = pytest.mark.usefixtures("one_torch_thread")
RELATIVE = {np.float32: 1e-5, np.float64: 1e-12}


def small(dtype=np.float32):
    return in_dtype(
        nn.Sequential(nn.Conv2d(2, 4, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3, rng=0)),
        dtype,
    )


def one_by_one(net, x):
    """The result of calling the layers one by one."""
    if isinstance(net, simclr.Encoder):
        pool = nn.MaxPool2d(2)
        net = [net.conv1, nn.ReLU(), pool, net.conv2, nn.ReLU(), pool, nn.Flatten(), net.fc, nn.ReLU()]
    for layer in net:
        x = one_by_one(layer, x) if type(layer) is nn.Sequential else layer(x)
    return x


def check(ours, theirs, x, dtype, case=""):
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))
    results, alone = ours(x), one_by_one(ours, x)
    if not isinstance(expected, tuple):
        results, alone, expected = (results,), (alone,), (expected,)
    for one, other, their in zip(results, alone, expected, strict=True):
        assert_close(one, their, RELATIVE[dtype], case, least=0.1)
        if len(x) < 2:  # the same kernels give the same bits
            np.testing.assert_array_equal(one, other, err_msg=str(case))
        else:  # a batch that fills a vector has an image in each lane
            assert_close(one, other, RELATIVE[dtype], case, least=0.1)
        assert one.dtype == their.numpy().dtype
    return results


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
@both_dtypes
def test_random_networks_agree_with_torch(rng, dtype):
    lengths = set()
    for i in range(200):
        layers, shape = random_network(rng)
        ours, theirs = both_networks(layers, rng, dtype)
        n = int(rng.choice([0, 1, 7, 33], p=[0.1, 0.3, 0.4, 0.2]))
        x = normal(rng, (n, *shape), dtype)
        results = check(ours, theirs, x, dtype, (i, layers, x.shape))
        lengths.add(len(layers))
        for part in (slice(0, 1), slice(n // 2, n)) if n else ():
            again = ours(x[part])
            for whole, one in zip(results, again if isinstance(again, tuple) else (again,), strict=True):
                assert_close(one, whole[part], RELATIVE[dtype], (i, layers, part), least=0.1)
    assert lengths >= {0, 1, 2, 3, 4, 5, 6, 7}


IMAGE = (2, 14, 38)  # rows of several vectors and part of one, in the image and in later layers
CONV, RELU, POOL = ("Conv2d", (2, 12, 3), {}), ("ReLU", (), {}), ("MaxPool2d", (2,), {})
NETWORKS = {
    "nothing": [],
    "one convolution": [CONV],
    "relu of it": [CONV, RELU],
    "in the usual order": [CONV, RELU, POOL, ("Conv2d", (12, 5, 3), {}), RELU, POOL, ("Flatten", (), {})],
    "pool before relu": [CONV, POOL, RELU],
    "two of each": [CONV, RELU, RELU, POOL, POOL],
    "pool of pool": [CONV, POOL, ("MaxPool2d", (3, 1, 1), {}), RELU],
    "no convolution": [("Flatten", (), {}), ("Linear", (1064, 9), {}), RELU, ("Linear", (9, 3), {}), RELU, RELU],
    "relu first": [RELU, CONV, RELU],
    "pool first": [POOL, CONV, POOL],
    "pool of ceil_mode": [CONV, RELU, ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True})],
    "pool that leaves rows out": [CONV, RELU, ("MaxPool2d", (2, 5), {})],
    "pool that overlaps": [CONV, RELU, ("MaxPool2d", ((4, 3), (1, 2)), {"dilation": (1, 2)})],
    "pool of negatives": [CONV, ("MaxPool2d", (3, 3, 1), {}), ("Conv2d", (12, 3, 1), {})],
    "pool of rows": [CONV, RELU, ("MaxPool2d", ((1, 3),), {})],
    "indices": [CONV, RELU, ("MaxPool2d", (2,), {"return_indices": True})],
    "a function between": [CONV, halved, RELU, halved, POOL, ("Flatten", (), {}), halved, ("Linear", (1296, 3), {})],
    "linear of rows": [CONV, RELU, ("Linear", (36, 7), {}), RELU],
    "linear of images": [("Linear", (38, 9), {}), RELU, CONV, RELU, POOL],
    "flatten of maps": [CONV, RELU, ("Flatten", (2,), {}), ("Linear", (432, 3), {}), RELU],
    "flatten of all": [CONV, ("Flatten", (0,), {})],
    "flatten of images and channels": [CONV, POOL, ("Flatten", (0, 1), {}), ("Linear", (18, 4), {})],
    "flatten of nothing": [CONV, ("Flatten", (1, 1), {}), RELU, POOL],
    "flatten twice": [CONV, ("Flatten", (2,), {}), ("Flatten", (), {}), ("Linear", (5184, 3), {})],
    "same": [("Conv2d", (2, 4, (3, 4)), {"padding": "same", "dilation": 2}), RELU, POOL],
    "depthwise": [("Conv2d", (2, 4, 5), {"groups": 2, "bias": False, "padding": 2}), RELU, POOL],
    "strides": [("Conv2d", (2, 17, (5, 3)), {"stride": (3, 2), "padding": (2, 1)}), RELU, ("MaxPool2d", (2, 1), {})],
    "a kernel as large as the image": [("Conv2d", (2, 33, (14, 38)), {}), RELU, ("MaxPool2d", (1,), {})],
    "five rows": [("Conv2d", (2, 12, (5, 12)), {}), RELU, POOL],
    "five rows, of which one is left": [("Conv2d", (2, 3, (2, 1)), {}), ("Conv2d", (3, 9, (5, 8)), {}), RELU],
    "five rows, of which one is left out": [("Conv2d", (2, 3, (2, 1)), {}), ("Conv2d", (3, 9, (5, 8)), {}), RELU, POOL],
    "reflected": [("Conv2d", (2, 4, 3), {"padding": 1, "padding_mode": "reflect"}), RELU, POOL],
    "circular": [CONV, RELU, ("Conv2d", (12, 4, 3), {"padding": 2, "padding_mode": "circular"}), RELU, POOL],
    "more layers than one has": [("Conv2d", (2, 2, 3), {"padding": 1}), RELU] * 11 + [POOL],
    "more layers than one call of the core runs": [("Conv2d", (2, 2, 3), {"padding": 1}), RELU] * 17 + [POOL],
    "networks inside": [("Sequential", [CONV, ("Sequential", [RELU])]), POOL, ("Sequential", [])],
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@both_dtypes
@pytest.mark.parametrize("name", NETWORKS)
def test_orders(rng, name, dtype):
    layers = NETWORKS[name]
    ours, theirs = both_networks(layers, rng, dtype)
    for n in (0, 1, 7, 33):
        check(ours, theirs, normal(rng, (n, *IMAGE), dtype), dtype, n)
    if "flatten of" not in name and layers:  # torch refuses some of these
        for layer in ours:
            if isinstance(layer, nn.Linear):
                break
        else:
            check(ours, theirs, normal(rng, IMAGE, dtype), dtype, "one image without a batch")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@both_dtypes
@pytest.mark.parametrize("name", [name for name in NETWORKS if "function" not in name])
def test_nan_and_infinite_pixels_propagate_as_in_torch(rng, name, dtype, value):
    """NaN and infinite pixels reach the same outputs as in torch, and no other image of the batch."""
    ours, theirs = both_networks(NETWORKS[name], rng, dtype)
    x = normal(rng, (11, *IMAGE), dtype)
    for image, row, column in ((1, 6, 7), (3, 6, 8), (5, 7, 7), (7, 7, 8), (9, 13, 37), (9, 0, 0)):
        x[image, image % 2, row, column] = value  # each of the four pixels of a pooling window
    with np.errstate(all="raise"):
        for _ in range(2):
            check(ours, theirs, x, dtype)
            x[1::2] *= -1
    if name != "flatten of all" and name != "flatten of images and channels":
        result = ours(x)
        for one in result if isinstance(result, tuple) else (result,):
            assert np.isfinite(one[::2]).all()


@both_dtypes
def test_nan_and_infinite_weights_propagate_as_in_torch(rng, dtype):
    """The networks have no padding, because torch does not always multiply the zeros of a padding by these weights."""
    for name in ("in the usual order", "two of each", "no convolution", "pool of ceil_mode"):
        for value in (np.nan, np.inf, -np.inf):
            ours, theirs = both_networks(NETWORKS[name], rng, dtype)
            for key in ours.state_dict():
                changed = {k: a.copy() for k, a in ours.state_dict().items()}
                changed[key].reshape(-1)[-1] = value
                other, their_other = copy.deepcopy(ours), copy.deepcopy(theirs)
                other.load_state_dict(changed)
                their_other.load_state_dict({k: torch.from_numpy(a) for k, a in changed.items()})
                check(other, their_other, normal(rng, (3, *IMAGE), dtype), dtype, (name, key, value))


# ---- the encoder ----


@both_dtypes
def test_encoder(rng, dtype):
    ours, theirs = simclr.Encoder(dtype=dtype, rng=0), TorchEncoder().to(TORCH[dtype])
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in ours.state_dict().items()})
    x = rng.random((130, 1, 28, 28)).astype(dtype)
    whole = ours(x)
    for n in (0, 1, 2, 7, 33, 130):
        check(ours, theirs, x[:n], dtype, n)
        if n > 15:  # at least a vector of images
            np.testing.assert_array_equal(ours(x[130 - n :]), whole[130 - n :])
        else:
            assert_close(ours(x[130 - n :]), whole[130 - n :], RELATIVE[dtype], n)
    for n in (1, 2, 3):
        with cossim.threads(n):
            np.testing.assert_array_equal(ours(x), whole)
    x[3, 0, 5, 5], x[9, 0, 27, 0] = np.nan, np.inf
    check(ours, theirs, x, dtype, "odd pixels")


def test_layers_of_the_encoder_may_be_replaced(rng):
    encoder, x = simclr.Encoder(rng=0), rng.random((3, 1, 28, 28), np.float32)
    encoder(x)
    encoder.fc = nn.Linear(320, 7, rng=1)
    assert_close(encoder(x), one_by_one(encoder, x), 1e-6)
    assert encoder(x).shape == (3, 7)
    encoder.conv1 = nn.Conv2d(1, 10, 3, padding=(0, 0), stride=1, dilation=2, rng=2)
    assert_close(encoder(x), one_by_one(encoder, x), 1e-6)
    encoder.conv2 = nn.Conv2d(10, 20, 5, bias=False, rng=3)
    assert_close(encoder(x), one_by_one(encoder, x), 1e-6)
    encoder.conv2 = lambda x: x[:, :, :8, :8].repeat(2, 1)
    assert_close(encoder(x), one_by_one(encoder, x), 1e-6)


# ---- copies, threads, arguments and results ----


@both_dtypes
def test_copies(rng, dtype):
    net, x = small(dtype), normal(rng, (3, 2, 8, 8), dtype)
    expected = net(x)
    for one in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net[:], copy.copy(net)):
        np.testing.assert_array_equal(one(x), expected)
    apart = copy.deepcopy(net)
    apart[0].weight[...] = 0
    np.testing.assert_array_equal(net(x), expected)
    assert (apart(x) != expected).any()
    net[4].bias += 1
    np.testing.assert_array_equal(net[4:](net[:4](x)), net(x))
    assert_close(net(x), expected + 1, 1e-6)
    assert repr(apart) == repr(net) == repr(small())
    assert len(pickle.dumps(net)) < len(pickle.dumps(small(dtype))) + 100  # no packed copies


def test_results_are_not_overwritten(rng):
    for net in (small(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2))):
        x, other = normal(rng, (2, 3, 2, 8, 8), np.float32)
        before = x.copy()
        y = net(x)
        kept = y.copy()
        for _ in range(3):
            net(other)
        np.testing.assert_array_equal(y, kept)
        np.testing.assert_array_equal(x, before)
        assert y.flags.writeable and y.flags.c_contiguous and not np.shares_memory(x, y)
        y[...] = 0
        np.testing.assert_array_equal(net(x), kept)


def test_layouts_and_kinds(rng):
    for net in (small(), nn.Sequential(nn.ReLU(), *small()), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 4, 3, rng=0))):
        x = normal(rng, (3, 2, 8, 8), np.float32)
        expected = net(x)
        for form in (*LAYOUTS.values(), torch.from_numpy):
            np.testing.assert_array_equal(net(form(x)), expected)
            assert net(form(x)).dtype.isnative
    double = small(np.float64)
    x = normal(rng, (3, 2, 8, 8), np.float64)
    np.testing.assert_array_equal(double(x.tolist()), double(x))


@pytest.mark.parametrize(
    ("x", "error", "layer", "words"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), ValueError, "first", ["3 channels", "(2, 3, 8, 8)", "(4, 2, 3, 3)"]),
        (np.zeros((2, 8), np.float32), ValueError, "first", ["(2, 8)", "4 dimensions"]),
        (np.array(1, np.float32), ValueError, "first", ["()", "4 dimensions"]),
        (np.zeros(8, np.float32), ValueError, "first", ["(8,)", "4 dimensions"]),
        (np.zeros((1, 1, 2, 8, 8), np.float32), ValueError, "first", ["(1, 1, 2, 8, 8)", "4 dimensions"]),
        (np.zeros((2, 2, 2, 8), np.float32), ValueError, "first", ["(2, 8)", "(3, 3)", "smaller"]),
        (np.zeros((2, 2, 8, 8)), TypeError, "first", ["float64", "float32", "(2, 2, 8, 8)"]),
        (np.zeros((2, 2, 8, 8), int), TypeError, "first", ["int64"]),
        (np.zeros((2, 2, 8, 8), np.float16), TypeError, "first", ["float16"]),
        (np.zeros((2, 2, 3, 8), np.float32), ValueError, "pooled", ["size (0, 3)", "(2, 4, 1, 6)"]),
        (np.zeros((2, 2, 8, 10), np.float32), ValueError, "last", ["(2, 48)", "(3, 36)"]),
        (np.zeros((2, 8, 8), np.float32), ValueError, "last", ["(4, 9)", "(3, 36)"]),
    ],
)
def test_errors_name_the_layer(x, error, layer, words):
    conv, relu, pool, flatten, linear = small()
    net = nn.Sequential(OrderedDict(first=conv, active=relu, pooled=pool, flat=flatten, last=linear))
    with pytest.raises(error) as caught:
        net(x)
    for word in (layer, *words):
        assert word in str(caught.value)
    assert not [other for other in ("first", "active", "pooled", "flat", "last") if other in str(caught.value)][1:]


def test_layers_that_do_not_fit_together_are_refused(rng):
    x = normal(rng, (2, 2, 8, 8), np.float32)
    other_type = nn.Sequential(OrderedDict(a=nn.Conv2d(2, 4, 3), b=nn.ReLU(), c=nn.Conv2d(4, 4, 3, dtype=np.float64)))
    with pytest.raises(TypeError, match="(?s)float32.*float64") as caught:
        other_type(x)
    assert "'c'" in str(caught.value) or "c:" in str(caught.value)
    with pytest.raises(ValueError, match="4 channels"):
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(5, 4, 3))(x)
    net = small()
    net[0].bias = np.zeros(5, np.float32)
    with pytest.raises(ValueError, match=r"\bbias\b.*\(4,\)"):
        net(x)
    with pytest.raises(ValueError, match=r"\bpadding \(2, 2\)"):
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2, padding=2))(x)
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\)"):
        simclr.Encoder()(x)

    def fails(x):
        raise KeyError("of the function itself")

    with pytest.raises(KeyError, match="of the function itself"):
        nn.Sequential(nn.Conv2d(2, 4, 3), fails)(x)


@pytest.mark.parametrize("algorithm", ["direct", "filter_lanes", "winograd3", None])
def test_pooling_fused_into_each_algorithm_has_the_bits_of_a_separate_layer(algorithm):
    rng = np.random.default_rng(7)
    _core._conv2d_force(algorithm)
    try:
        for channels, filters, size in ((3, 20, (17, 40)), (40, 70, (24, 33)), (5, 4, (3, 90))):
            net = nn.Sequential(nn.Conv2d(channels, filters, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2))
            for dtype in (np.float32, np.float64):
                ours, x = in_dtype(net, dtype), normal(rng, (1, channels, *size), dtype)
                for value in (0.0, np.nan, np.inf):
                    x[0, 0, 1, 2] = value
                    np.testing.assert_array_equal(ours(x), one_by_one(ours, x), err_msg=str((size, dtype, value)))
    finally:
        _core._conv2d_force(None)
