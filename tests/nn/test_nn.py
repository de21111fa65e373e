"""The forward functions of layers agree with torch's, refuse what torch refuses, and overflow nowhere."""

from types import SimpleNamespace

import numpy as np
import pytest
from nn_cases import LARGER_CONV2D, normal, random_max_pool2d
from oracle import F, torch
from processes import python

from cossim import _core, nn
from cossim.nn.modules import NETWORK_LAYERS

RELATIVE = {np.float32: 1e-5, np.float64: 1e-12}


def test_a_result_beyond_any_memory_names_what_to_do():
    with pytest.raises(MemoryError, match="fewer rows or images"):
        nn.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), padding=2**31 - 1)


@pytest.mark.parametrize("stride", [2**31 - 1, (2**31 - 1, 1), (1, 2**31 - 1)])
def test_strides_beyond_the_image_leave_one_window(rng, stride):
    x, weight = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, 3, 2))
    every = nn.conv2d(x, weight, padding=1)
    h, w = (stride, stride) if isinstance(stride, int) else stride
    np.testing.assert_allclose(nn.conv2d(x, weight, stride=stride, padding=1), every[:, :, ::h, ::w], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_pool2d_over_random_arguments(rng, dtype):
    """Some windows have no pixel. What torch refuses is refused."""
    compared = 0
    for _ in range(200):
        x, options = random_max_pool2d(rng, dtype, any_window=True)
        try:
            expected = F.max_pool2d(torch.from_numpy(x), return_indices=True, **options)
        except RuntimeError:
            with pytest.raises(ValueError, match=".{20}"):
                nn.max_pool2d(x, **options)
            continue
        ours = nn.max_pool2d(x, return_indices=True, **options)
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(one, other.numpy(), err_msg=str((x, options)))
        assert ours[1].dtype == np.int64
        np.testing.assert_array_equal(nn.max_pool2d(x, **options), ours[0])
        compared += 1
    assert 100 < compared < 200


x4, w4 = np.zeros((2, 4, 6, 6), np.float32), np.zeros((8, 4, 3, 3), np.float32)


# Forward functions, and functions of gradients under the same names.
FUNCTIONS = (
    nn,
    SimpleNamespace(**{name: getattr(nn, f"{name}_vjp") for name in ("conv2d", "max_pool2d", "linear", "relu")}),
)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: f.conv2d(x4, w4, groups=0), ValueError, ["groups"]),
        (lambda f: f.conv2d(x4, w4.astype(np.float64)), TypeError, ["x", "weight", "float32", "float64"]),
        (lambda f: f.conv2d(x4.astype(int), w4), TypeError, ["x", "int64"]),
        (lambda f: f.conv2d(x4, w4, stride=0), ValueError, ["stride", "0"]),
        (lambda f: f.conv2d(x4, w4, stride=(1, 2, 3)), ValueError, ["stride", "(1, 2, 3)"]),
        (lambda f: f.conv2d(x4, w4, stride=1.5), TypeError, ["stride", "not float"]),
        (lambda f: f.conv2d(x4, w4, padding=-1), ValueError, ["padding", "-1"]),
        (lambda f: f.max_pool2d(x4, 0), ValueError, ["kernel_size"]),
        (lambda f: f.max_pool2d(x4 > 0, 2), TypeError, ["x", "bool"]),
        (lambda f: f.linear(np.zeros(4), np.zeros((3, 4)), np.zeros(2)), ValueError, ["bias", "(3,)", "(2,)"]),
        (lambda f: f.relu(np.zeros(3, complex)), TypeError, ["complex128"]),
        (lambda f: f.relu([[1.0], [1.0, 2.0]]), ValueError, ["relu()", "x"]),
        (lambda f: f.relu(None), TypeError, ["relu()", "x", "real"]),
        (lambda f: f.conv2d(None, w4), TypeError, ["conv2d()", "x", "real"]),
        (lambda f: f.conv2d(x4, None), TypeError, ["conv2d()", "weight", "real"]),
        (lambda f: f.linear(np.zeros(4), None), TypeError, ["linear()", "weight", "real"]),
    ],
)
@pytest.mark.parametrize("functions", FUNCTIONS, ids=["forward", "vjp"])
def test_refused(call, error, words, functions):
    with pytest.raises(error) as caught:
        call(functions)
    for word in words:
        assert word in str(caught.value)


def test_the_core_checks_what_memory_safety_needs():
    """The C functions for gradients refuse arrays that do not fit together."""
    call = x4, w4, None, 1, 0, 1, 1
    maps = nn.conv2d(x4, w4)
    for wrong in (maps[:1].copy(), maps[::-1], maps.astype(np.float64), maps[0], None):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.conv2d_grad_input(call, wrong)
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.conv2d_grad_weight(call, wrong, None)
    for index in (-1, maps[0, 0].size):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.conv2d_grad_weight(call, maps, np.full(maps.shape, index))
    number = np.array(1.0, np.float32)  # has no first dimension to read
    for gradient in (x4, None):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.relu_gradient(number, gradient)


@pytest.mark.parametrize("step", [2**29, 2**30, 2**31 - 1])
def test_padded_images_beyond_any_memory(step):
    """The size of the padded copy overflows 64 bits; some of these products wrap to 0."""
    x, weight = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 1), np.float32)
    options = {"stride": (1, step), "dilation": (2**31 - 1, 1), "padding": (2**30, step // 2)}
    with pytest.raises(MemoryError, match="fewer rows or images"):
        nn.conv2d(x, weight, **options)
    with pytest.raises(MemoryError):
        nn.Sequential(nn.Conv2d(1, 1, (2, 1), **options))(x)
    maps = np.ones((1, 1, 3, 1), np.float32)
    for indices in (None, np.zeros(maps.shape, np.int64)):
        with pytest.raises(MemoryError):
            _core.conv2d_grad_weight((x, weight, None, (1, step), (2**30, 0), (2**31 - 1, 1), 1), maps, indices)


def test_integers_of_numpy_as_sizes_of_windows(rng):
    x = rng.standard_normal((2, 3, 9, 8), np.float32)
    for size in (np.int64(2), np.uint8(3)):
        expected = nn.MaxPool2d(int(size), int(size))(x)
        np.testing.assert_array_equal(nn.MaxPool2d(size, size)(x), expected)
        np.testing.assert_array_equal(nn.Sequential(nn.MaxPool2d(size, size))(x), expected)


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
    """Positions before the image are skipped in one step; 2^30 steps for each of 4,096 windows would take an hour."""
    code = """
import numpy as np
from cossim import nn
x = np.arange(4096.0).reshape(1, 64, 64)
y = nn.max_pool2d(x, 2**31 - 1, stride=1, padding=2**30 - 1)
assert y.shape == (1, 64, 64) and (y == 4095).all()
"""
    python(code, seconds=120)


@pytest.mark.parametrize("kernel", [2**31, 2**33, 2**40])
@pytest.mark.parametrize("images", [0, 1])
def test_same_padding_beyond_all_arrays(kernel, images):
    """A kernel without elements can have any size; multiplied by its dilation, the size overflows."""
    x, weight = np.zeros((images, 0, 3, 1)), np.zeros((1, 0, kernel, 1))
    for function in (nn.conv2d, nn.conv2d_vjp):
        with pytest.raises(ValueError, match=r"^conv2d\(\): padding='same'.*\bkernel\b"):
            function(x, weight, dilation=2**31 - 1, padding="same")


@pytest.mark.parametrize("number", [-1, 2**31, 2**62])
def test_the_core_takes_no_numbers_that_overflow(number):
    x, weight = (np.ones((1, 1, 3, 3), np.float32) for _ in range(2))
    for place in range(3):
        sizes = [(1, 1), (1, 1), (1, 1)]
        sizes[place] = (1, number)
        with pytest.raises(ValueError, match=("stride", "padding", "dilation")[place]):
            _core.conv2d((x, weight, None, *sizes, 1))
        layer = nn.Conv2d(1, 1, 3)
        layer.stride, layer.padding, layer.dilation = sizes
        alone = _core.run_layers(NETWORK_LAYERS, lambda *call: call, ("first",), (layer,), x)
        assert alone == ("first", layer, x)


ALGORITHMS = ("direct", "filter_lanes", "pointwise", "winograd", "winograd3")


@pytest.fixture
def forced():
    yield _core._conv2d_force
    _core._conv2d_force(None)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
@pytest.mark.parametrize("case", LARGER_CONV2D, ids=str)
def test_every_algorithm_gives_what_torch_gives(rng, forced, case):
    shape, weight_shape, options = case
    for dtype in (np.float32, np.float64):
        x, weight = rng.standard_normal(shape).astype(dtype), rng.standard_normal(weight_shape).astype(dtype)
        bias = rng.standard_normal(len(weight)).astype(dtype)
        expected = F.conv2d(*(torch.from_numpy(a.astype(np.float64)) for a in (x, weight, bias)), **options).numpy()
        for name in (None, *ALGORITHMS):
            forced(name)
            ours = nn.conv2d(x, weight, bias, **options)
            assert np.abs(ours - expected).max() <= RELATIVE[dtype] * np.abs(expected).max(), name
            # 3 x 3 kernels can take another way from 16 images on
            batch = 16 if weight_shape[2:] == (3, 3) and len(x) >= 16 else 1
            for first in range(len(x) - batch + 1):
                part = slice(first, first + batch)
                alone = nn.conv2d(x[part], weight, bias, **options)
                np.testing.assert_array_equal(ours[part], alone, err_msg=str(name))


def test_an_image_of_many_that_is_not_finite_leaves_the_others_alone(rng, forced):
    x, weight = normal(rng, (19, 64, 7, 7), np.float32), normal(rng, (48, 64, 3, 3), np.float32)
    options = {"padding": 1, "stride": 1}
    expected = nn.conv2d(x, weight, **options)
    for value in (np.nan, np.inf):
        x[7, 3, 2, 5] = value
        y = nn.conv2d(x, weight, **options)
        others = np.arange(19) != 7
        np.testing.assert_array_equal(y[others], expected[others])
        forced("direct")
        np.testing.assert_array_equal(y[7], nn.conv2d(x[7], weight, **options))
        forced(None)


def test_unknown_convolution_algorithms_are_refused(forced):
    with pytest.raises(ValueError, match="_core"):
        forced("none such")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [3, 4, 9, 13, (1, 8), (7, 1), (20, 40)])
@pytest.mark.parametrize("stride", [1, 2, 5, None])
def test_large_windows_have_torchs_maxima_and_indices(rng, dtype, kernel, stride):
    kernel_size = np.broadcast_to(kernel, 2)
    for kind in (None, np.nan, -np.inf, -0.0):
        x = rng.integers(-2, 3, (2, 2, 20, 40)).astype(dtype)
        if kind is not None:
            x[rng.random(x.shape) < 0.3] = kind
        for padding in ((0, 0), tuple(int(k) // 2 for k in kernel_size)):
            options = {"stride": stride, "padding": padding, "return_indices": True}
            ours = nn.max_pool2d(x, kernel, **options)
            theirs = F.max_pool2d(torch.from_numpy(x), kernel, **options)
            for mine, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(mine, other.numpy())
            alone = nn.max_pool2d(x, kernel, stride, padding)
            np.testing.assert_array_equal(alone, ours[0])


def test_vector_bits_are_256_or_512():
    show = "import cossim; print(cossim.show_config('dicts')['instruction set']['vector bits of layers'])"
    for bits in ("256", "512"):
        assert python(show, COSSIM_VECTOR_BITS=bits) in (bits, "256", "128")


def test_layers_of_any_vector_width_agree_with_torch(tmp_path):
    """Rows that fill wide vectors, that leave half of one unused, and that are shorter."""
    program = """
import sys, numpy as np
from cossim import nn
rng = np.random.default_rng(0)
results = {}
shapes = (40, 5, 1, 2), (24, 3, 1, 1), (7, 3, 1, 1), (2, 3, 1, 1), (48, 7, 2, 3), (32, 16, 16, 0)
for size, kernel, stride, padding in shapes:
    for images in (1, 17):
        x, w = (rng.standard_normal(s, np.float32) for s in ((images, 20, size, size), (33, 20, kernel, kernel)))
        y, pullback = nn.conv2d_vjp(x, w, stride=stride, padding=padding)
        name = f"{size} {stride} {padding} {images}"
        results |= {name + " x": x, name + " w": w, name + " y": y}
        results |= {f"{name} d{i}": d for i, d in enumerate(pullback(np.ones_like(y))[:2])}
        if images == 1:
            results |= {f"{name} pool": nn.max_pool2d(x, 3 if size > 2 else 2), f"{name} all": nn.max_pool2d(x, size)}
np.savez(sys.argv[1], **results)
"""
    for bits in ("", "256", "512"):
        file = tmp_path / f"layers{bits}.npz"
        python(program, file, **({"COSSIM_VECTOR_BITS": bits} if bits else {}))
        with np.load(file) as results:
            for name in [key[:-2] for key in results if key.endswith(" x")]:
                size, stride, padding, _ = map(int, name.split())
                x, w = (torch.from_numpy(results[f"{name} {side}"]).double().requires_grad_() for side in "xw")
                y = F.conv2d(x, w, stride=stride, padding=padding)
                y.sum().backward()
                for mine, other in (("y", y), ("d0", x.grad), ("d1", w.grad)):
                    other = other.detach().numpy()
                    np.testing.assert_allclose(results[f"{name} {mine}"], other, rtol=0, atol=1e-5 * abs(other).max())
                if f"{name} pool" in results:
                    for kind, window in (("pool", 3 if size > 2 else 2), ("all", size)):
                        np.testing.assert_array_equal(
                            results[f"{name} {kind}"], F.max_pool2d(x.float(), window).detach()
                        )
