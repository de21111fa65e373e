"""The gradients of the layer functions agree with torch's autograd, the references and finite differences."""

import itertools
import os

import numpy as np
import pytest
import reference_nn
from conftest import HELPERS, INSTRUCTION_SETS
from nn_cases import LARGER_CONV2D, LINEAR, assert_close, integers, normal, random_conv2d, random_max_pool2d, torch_vjp
from oracle import F, torch
from processes import IMPORTED_FROM, python_on
from public_inputs import LAYOUTS
from reference import same

import cossim
from cossim import nn

pytestmark = pytest.mark.usefixtures("one_torch_thread")
RELATIVE, FORWARD = {np.float32: 1e-4, np.float64: 1e-10}, {np.float32: 1e-5, np.float64: 1e-12}
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def check(forward, theirs, rng, arrays, options=None):
    """Compares y and the gradients of both, first for all arguments, then without the input's gradient."""
    ours, dtype = getattr(nn, f"{forward}_vjp")(*arrays, **(options or {})), arrays[0].dtype.type
    case, dy = ([np.shape(a) for a in arrays], options), normal(rng, theirs[0].shape, dtype)
    np.testing.assert_array_equal(getattr(nn, forward)(*arrays, **(options or {})), ours[0], err_msg=str(case))
    assert_close(ours[0], theirs[0], FORWARD[dtype], case)
    assert ours[0].dtype == dtype
    dy = dy.astype(dtype) if np.ndim(dy) else dtype(dy)
    gradients, expected = ours[1](dy), theirs[1](dy)
    assert isinstance(gradients, tuple)
    for one, other in zip(gradients, expected, strict=True):
        assert_close(one, other, RELATIVE[dtype], case)
        assert one is None or one.dtype == dtype
    without, *rest = ours[1](dy, input_gradient=False)
    assert without is None
    for one, other in zip(rest, gradients[1:], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
@both_dtypes
def test_conv2d_over_random_arguments(rng, dtype):
    """What torch refuses is refused."""
    refused = 0
    for number in range(300):
        (x, weight, bias), options = random_conv2d(rng, dtype)
        if number % 4 == 0:  # these may not fit
            x = x[..., : int(rng.integers(1, 6))]
        elif number % 16 == 1:
            x, options["stride"] = x[..., int(rng.integers(2)) :, :, :], int(rng.integers(1, 3))
        try:
            theirs = torch_vjp(F.conv2d, x, weight, bias, **options)
        except RuntimeError:
            refused += 1
            for function in (nn.conv2d, nn.conv2d_vjp):
                with pytest.raises(ValueError, match=".{20}"):
                    function(x, weight, bias, **options)
        else:
            check("conv2d", theirs, rng, (x, weight, bias), options)
    assert 10 < refused < 100


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
@both_dtypes
@pytest.mark.parametrize(("image", "filters", "options"), LARGER_CONV2D, ids=str)
def test_conv2d_of_larger_shapes_agrees_with_torch(rng, image, filters, options, dtype):
    for bias in (None, normal(rng, filters[0], dtype)):
        arrays = normal(rng, image, dtype), normal(rng, filters, dtype), bias
        check("conv2d", torch_vjp(F.conv2d, *arrays, **options), rng, arrays, options)


@both_dtypes
def test_max_pool2d_over_random_arguments(rng, dtype):
    for _ in range(150):
        x, options = random_max_pool2d(rng, dtype)
        theirs = torch_vjp(F.max_pool2d, x, **options)
        y, pullback = nn.max_pool2d_vjp(x, **options)
        np.testing.assert_array_equal(y, theirs[0])
        dy = integers(rng, y.shape, dtype)  # integers, so that sums of overlapping windows are exact
        dx = pullback(dy)
        np.testing.assert_array_equal(dx, theirs[1](dy)[0], err_msg=str((x, options)))
        assert dx.dtype == dtype
        odd = rng.choice(np.array([1, np.nan, np.inf], dtype), y.shape)
        np.testing.assert_array_equal(pullback(odd), theirs[1](odd)[0])


@both_dtypes
def test_the_gradient_of_equal_maxima_goes_to_the_first(dtype):
    x = np.zeros((1, 1, 4, 4), dtype)
    assert nn.max_pool2d_vjp(x, 2)[1](np.ones((1, 1, 2, 2), dtype)).tolist() == [
        [[[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]]
    ]
    x[0, 0, 1, 1] = x[0, 0, 2, 2] = np.nan
    assert nn.max_pool2d_vjp(x, 3, 1)[1](np.ones((1, 1, 2, 2), dtype))[0, 0].tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 4, 0],
        [0, 0, 0, 0],
    ]


@both_dtypes
def test_a_window_without_a_pixel_has_no_gradient(rng, dtype):
    """Its index lies outside the image or in another row: a gradient added there would damage memory or a pixel."""
    for size, stride, padding, dilation in (
        ((1, 6), 1, 1, (2, 1)),
        ((6, 1), 1, 1, (1, 2)),
        ((1, 1), 1, 1, 2),
        ((3, 2), 2, 1, (1, 3)),
        ((2, 40), (1, 3), 1, (3, 5)),
    ):
        x = normal(rng, (3, 2, *size), dtype)
        y, pullback = nn.max_pool2d_vjp(x, 2, stride, padding, dilation)
        expected, indices, reference = reference_nn.max_pool2d_vjp(x, 2, stride, padding, dilation)
        assert (indices < 0).any()
        np.testing.assert_array_equal(y, expected)
        dy = integers(rng, y.shape, dtype)
        np.testing.assert_array_equal(pullback(dy), reference(dy))


@both_dtypes
@pytest.mark.parametrize("shapes", LINEAR, ids=str)
def test_linear(rng, shapes, dtype):
    arrays = [None if shape is None else normal(rng, shape, dtype) for shape in shapes]
    check("linear", torch_vjp(F.linear, *arrays), rng, arrays)


@both_dtypes
def test_one_bias_for_all_features_has_no_warning_about_infinity(dtype):
    _, pullback = nn.linear_vjp(np.ones((1, 3), dtype), np.ones((2, 3), dtype), np.ones((), dtype))
    assert np.isnan(pullback(np.array([[np.inf, -np.inf]], dtype))[2])


@both_dtypes
def test_relu(rng, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 2.0, -2.0], dtype)
    for n in (0, 1, 5, 9, 64, 100):
        x = np.resize(odd, n)
        for dy in (normal(rng, n, dtype), np.resize(np.roll(odd, 4), n), np.full(n, np.nan, dtype)):
            theirs = torch_vjp(F.relu, x)
            y, pullback = nn.relu_vjp(x)
            np.testing.assert_array_equal(y, theirs[0])
            np.testing.assert_array_equal(y, nn.relu(x))
            np.testing.assert_array_equal(pullback(dy), theirs[1](dy)[0])
            assert pullback(dy).dtype == dtype
    x = normal(rng, (2, 3, 4, 5), dtype)
    np.testing.assert_array_equal(nn.relu_vjp(x)[1](x + 1), np.where(x > 0, x + 1, 0))
    for value in (-2, 0, 3):
        y, pullback = nn.relu_vjp(dtype(value))
        assert y == nn.relu(dtype(value)) == max(value, 0) and pullback(dtype(5)) == (5 if value > 0 else 0)
        assert np.shape(pullback(dtype(5))) == ()


# ---- finite differences and the references, for each function ----


def arrays_of(*shapes):
    rng = np.random.default_rng(7)
    return [normal(rng, shape, np.float64) for shape in shapes]


def alone(y, *indices_and_pullback):
    """(y, pullback) whose pullback returns a tuple, as the pullbacks of functions with parameters do."""
    return y, lambda dy: (indices_and_pullback[-1](dy),)


FUNCTIONS = {
    "conv2d": (
        lambda m, *a: m.conv2d_vjp(*a, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        arrays_of((3, 4, 9, 8), (6, 2, 3, 2), 6),
    ),
    "conv2d, no bias": (lambda m, *a: m.conv2d_vjp(*a, None, 1, "same"), arrays_of((2, 3, 7, 9), (5, 3, 4, 3))),
    "max_pool2d": (lambda m, x: alone(*m.max_pool2d_vjp(x, (3, 2), (2, 1), 1, (1, 2), True)), arrays_of((2, 3, 9, 8))),
    "linear": (lambda m, *a: m.linear_vjp(*a), arrays_of((4, 3, 7), (5, 7), 5)),
    "linear, one feature": (lambda m, *a: m.linear_vjp(*a), arrays_of((4, 7), (7,), ())),
    "relu": (lambda m, x: alone(*m.relu_vjp(x)), arrays_of((7, 30))),
}


@pytest.mark.parametrize("module", [nn, reference_nn], ids=["cossim", "reference"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_agree_with_finite_differences(rng, name, module):
    function, arrays = FUNCTIONS[name]
    y, pullback = function(module, *arrays)
    dy, h = normal(rng, y.shape, np.float64), 1e-6
    gradients = pullback(dy)
    for i, array in enumerate(arrays):
        for _ in range(3):
            v = normal(rng, array.shape, np.float64)
            at = [function(module, *arrays[:i], array + s * v, *arrays[i + 1 :])[0] for s in (h, -h)]
            along = np.vdot(gradients[i], v)
            difference = np.vdot(dy, (at[0] - at[1]) / (2 * h))
            assert abs(along - difference) <= 1e-6 * max(abs(along), np.linalg.norm(gradients[i])), (name, i)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_with_the_references(rng, name):
    function, arrays = FUNCTIONS[name]
    (y, pullback), (expected, reference) = function(nn, *arrays), function(reference_nn, *arrays)
    assert_close(y, expected, 1e-14)
    dy = normal(rng, y.shape, np.float64)
    for ours, theirs in zip(pullback(dy), reference(dy), strict=False):
        assert_close(ours, theirs, 1e-13, name)


# ---- what holds for all of them ----


def results_of(name, arrays, dy):
    y, pullback = FUNCTIONS[name][0](nn, *arrays)
    return y, *pullback(dy)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_pullback_may_be_called_again(rng, name):
    function, arrays = FUNCTIONS[name]
    before = [a.copy() for a in arrays]
    y, pullback = function(nn, *arrays)
    dy, other = normal(rng, y.shape, np.float64), normal(rng, y.shape, np.float64)
    kept = dy.copy()
    first = pullback(dy)
    copies = [None if g is None else np.copy(g) for g in first]
    pullback(other)
    same(copies, pullback(dy))
    same(copies, first)  # not overwritten by later calls
    same([kept, *before], [dy, *arrays])
    for a in (y, *(g for g in first if g is not None)):
        assert not any(np.shares_memory(a, b) for b in (dy, *arrays))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layouts_and_kinds(rng, name):
    arrays = FUNCTIONS[name][1]
    dy = normal(rng, FUNCTIONS[name][0](nn, *arrays)[0].shape, np.float64)
    expected = results_of(name, arrays, dy)
    for form in (*LAYOUTS.values(), torch.from_numpy, np.ndarray.tolist):
        same(expected, results_of(name, [form(a) for a in arrays], dy))
        if form is not np.ndarray.tolist:
            same(expected, results_of(name, arrays, form(dy)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_in_this_machines_order(rng, name):
    """Gradients have native byte order for arguments of any byte order, like forward results."""
    function, arrays = FUNCTIONS[name]
    y, pullback = function(nn, *[a.astype(">f8") for a in arrays])
    for array in (y, *pullback(normal(rng, y.shape, np.float64).astype(">f8"))):
        assert array is None or array.dtype.isnative


@both_dtypes
def test_threads_do_not_change_bits(rng, dtype):
    x, w, b = (normal(rng, s, dtype) for s in ((40, 3, 20, 20), (16, 3, 5, 5), 16))
    rows, matrix, bias = (normal(rng, s, dtype) for s in ((300, 130), (70, 130), 70))
    dy, dp, dr = (normal(rng, s, dtype) for s in ((40, 16, 16, 16), (40, 3, 6, 6), (300, 70)))
    results = []
    for n in (1, 3):
        with cossim.threads(n):
            of_conv2d = nn.conv2d_vjp(x, w, b)[1](dy)
            of_linear = nn.linear_vjp(rows, matrix, bias)[1](dr)
            pooled = nn.max_pool2d_vjp(x, 3)[1](dp)
            forward = nn.conv2d(x, w), nn.max_pool2d(x, 3)
            results.append((*of_conv2d, *of_linear, pooled, nn.relu_vjp(x)[1](x), *forward))
    same(*results)
    same([nn.conv2d_vjp(x[5:6], w, b)[1](dy[5:6])[0]], [results[0][0][5:6]])
    same([nn.conv2d(x[5:6], w)], [results[0][8][5:6]])
    same([nn.conv2d_vjp(x[7:], w, b)[1](dy[7:])[0]], [results[0][0][7:]])
    same([nn.linear_vjp(rows[9], matrix, bias)[1](dr[9])[0]], [results[0][3][9]])
    same([nn.max_pool2d_vjp(x[5:6], 3)[1](dp[5:6])], [results[0][6][5:6]])


@both_dtypes
def test_nan_pixels_propagate(rng, dtype):
    """NaN and infinity reach exactly the elements that the definition gives, also through a zero of the padding."""
    x, w, b = (normal(rng, s, dtype) for s in ((2, 3, 9, 9), (4, 3, 3, 3), 4))
    for options in ({"padding": 1}, {"stride": 2}, {"padding": 2, "dilation": 2, "stride": (1, 3)}):
        dy = normal(rng, nn.conv2d(x, w, b, **options).shape, dtype)
        for value, given in itertools.product((np.nan, np.inf, -np.inf), (x, dy)):
            whole = given[1, 2, 2, 1], given[0, 0, -1, -1]
            given[1, 2, 2, 1] = given[0, 0, -1, -1] = value
            with np.errstate(invalid="ignore"):
                vjps = (m(x, w, b, **options) for m in (nn.conv2d_vjp, reference_nn.conv2d_vjp))
                ours, expected = ((y, *pullback(dy)) for y, pullback in vjps)
            y, pullback = torch_vjp(F.conv2d, x, w, b, **options)
            theirs = y, *pullback(dy)
            given[1, 2, 2, 1], given[0, 0, -1, -1] = whole
            for one, reference, their in zip(ours, expected, theirs, strict=True):
                assert_close(one, reference, 1e-4, (value, options))
                if dtype == np.float64:  # in float32 torch skips zeros of the padding
                    assert_close(reference, their, 1e-10, (value, options))


x4, w4 = np.zeros((2, 4, 6, 6), np.float32), np.zeros((8, 4, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("make", "function", "shape"),
    [
        (lambda: nn.conv2d_vjp(x4, w4), "conv2d", (2, 8, 4, 4)),
        (lambda: nn.conv2d_vjp(x4[0], w4), "conv2d", (8, 4, 4)),
        (lambda: nn.max_pool2d_vjp(x4, 2), "max_pool2d", (2, 4, 3, 3)),
        (lambda: nn.linear_vjp(x4, w4[0, 0, :, :1].repeat(6, 1)), "linear", (2, 4, 6, 3)),
        (lambda: nn.linear_vjp(x4, w4[0, 0, 0, :1].repeat(6)), "linear", (2, 4, 6)),
        (lambda: nn.relu_vjp(x4), "relu", (2, 4, 6, 6)),
    ],
)
def test_dy_of_another_shape_or_type(make, function, shape):
    y, pullback = make()
    assert y.shape == shape
    for wrong in (shape[1:], (*shape, 1), (1, *shape), shape[::-1], (shape[0] + 1, *shape[1:]), ()):
        if wrong == shape:
            continue
        with pytest.raises(ValueError, match=function) as caught:
            pullback(np.ones(wrong, np.float32))
        for word in ("dy", str(shape), str(wrong), "float32"):
            assert word in str(caught.value)
    for dtype in (np.float64, np.float16, np.int32, complex):
        with pytest.raises(TypeError, match=function) as caught:
            pullback(np.ones(shape, dtype))
        for word in ("dy", "real" if dtype is complex else "float32", np.dtype(dtype).name):
            assert word in str(caught.value)
    with pytest.raises((TypeError, ValueError), match=function):
        pullback(None)
    pullback(np.ones(shape, np.float32))  # the pullback can still be called


# Checks each instruction set against the references, in a process of its own: gradients of vectors and NT-Xent too.
CHECK = """
import sys
sys.modules["torch"] = None  # it is not needed, and takes longer to import than all of this
import cossim, numpy as np, reference_nn
from cossim import _core, nn, simclr
from reference_gradients import nt_xent, nt_xent_gradient, pairwise_gradients
from nn_cases import LARGER_CONV2D, assert_close, integers, normal, random_conv2d, random_max_pool2d, weights_of
rng = np.random.default_rng(3)
for dtype, relative in ((np.float32, 1e-5), (np.float64, 1e-13)):
    cases = [random_conv2d(rng, dtype) for _ in range(60)]
    for image, filters, options in LARGER_CONV2D:
        cases.append(([normal(rng, shape, dtype) for shape in (image, filters, filters[0])], options))
    for arrays, options in cases:
        (y, pullback), (expected, reference) = (m.conv2d_vjp(*arrays, **options) for m in (nn, reference_nn))
        dy = normal(rng, y.shape, dtype)
        for ours, theirs in zip((y, *pullback(dy)), (expected, *reference(dy)), strict=True):
            assert_close(ours, theirs, relative, options)
    for _ in range(40):
        x, options = random_max_pool2d(rng, dtype)
        (y, pullback), (expected, _, reference) = (m.max_pool2d_vjp(x, **options) for m in (nn, reference_nn))
        dy = integers(rng, y.shape, dtype)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(pullback(dy), reference(dy))
    for n in (1, 5, 64, 300):
        arrays = [normal(rng, s, dtype) for s in ((n, 2 * n + 1), (n + 3, 2 * n + 1), n + 3)]
        (y, pullback), (expected, reference) = (m.linear_vjp(*arrays) for m in (nn, reference_nn))
        dy = normal(rng, y.shape, dtype)
        for ours, theirs in zip((y, *pullback(dy)), (expected, *reference(dy)), strict=True):
            assert_close(ours, theirs, relative, n)
        np.testing.assert_array_equal(nn.relu_vjp(y)[1](dy), reference_nn.relu_vjp(y)[1](dy))
    encoder = simclr.Encoder(dtype=dtype)
    ones = lambda *arguments: integers(*arguments, most=1)
    state = {key: weights_of(ones, rng, a.shape, dtype) for key, a in encoder.state_dict().items()}
    encoder.load_state_dict(state)
    x, dy = ones(rng, (3, 1, 28, 28), dtype), ones(rng, (3, 100), dtype)
    (y, pullback), (expected, reference) = encoder.vjp(x), reference_nn.encoder_vjp(x, state)
    (dx, gradients), (expected_dx, expected_gradients) = pullback(dy), reference(dy)
    for results in ((encoder(x), expected), (y, expected), (dx, expected_dx)):
        assert_close(*results, relative)
    for key in state:
        assert_close(gradients[key], expected_gradients[key], relative, key)
    z, tolerance = normal(rng, (94, 37), dtype), 1e-4 if dtype == np.float32 else 1e-10
    for temperature in (0.5, 0.01):
        loss, gradient = simclr.nt_xent_value_and_grad(z, temperature=temperature)
        assert_close(loss, nt_xent(z, temperature), tolerance / 10)
        assert_close(gradient, nt_xent_gradient(z, temperature), tolerance)
    x, y, d = (normal(rng, shape, dtype) for shape in ((50, 37), (41, 37), (50, 41)))
    expected = pairwise_gradients(x, y, d)
    for found in (cossim.pairwise_vjp(x, y)[1](d), cossim.cosine_similarity_vjp(x[:, None], y[None], 2)[1](d)):
        for ours, theirs in zip(found, expected, strict=True):
            assert_close(ours.reshape(theirs.shape), theirs, tolerance)
print(_core.config()["isa"])
"""


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_instruction_set(isa):
    python_on(isa, "-c", CHECK, PYTHONPATH=os.pathsep.join([IMPORTED_FROM, str(HELPERS)]))
