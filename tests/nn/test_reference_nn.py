"""The reference layers agree with torch, forward and backward, in float64."""

import numpy as np
import pytest
import reference_nn
from nn_cases import (
    LARGER_CONV2D,
    LINEAR,
    TorchEncoder,
    assert_close,
    integers,
    normal,
    random_conv2d,
    random_max_pool2d,
    torch_module_vjp,
    torch_vjp,
)
from oracle import F, torch

pytestmark = pytest.mark.usefixtures("one_torch_thread")
TOLERANCE = 1e-13


def check(ours, theirs, dy, case):
    """Compares the results and pullbacks of both."""
    assert_close(ours[0], theirs[0], TOLERANCE, case)
    gradients, expected = ours[-1](dy), theirs[-1](dy)
    for one, other in zip(gradients if isinstance(gradients, tuple) else [gradients], expected, strict=True):
        assert_close(one, other, TOLERANCE, case)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's own
def test_conv2d(rng):
    cases = [random_conv2d(rng, np.float64) for _ in range(150)]
    for x, weight, options in LARGER_CONV2D:
        cases.append(((normal(rng, x, "f8"), normal(rng, weight, "f8"), normal(rng, weight[0], "f8")), options))
    for arrays, options in cases:
        theirs = torch_vjp(F.conv2d, *arrays, **options)
        dy = normal(rng, theirs[0].shape, np.float64)
        check(reference_nn.conv2d_vjp(*arrays, **options), theirs, dy, ([np.shape(a) for a in arrays], options))


def test_max_pool2d(rng):
    for _ in range(150):
        x, options = random_max_pool2d(rng, np.float64)
        theirs = torch_vjp(F.max_pool2d, x, **options)
        ours = reference_nn.max_pool2d_vjp(x, **options)
        check(ours, theirs, integers(rng, theirs[0].shape, np.float64), (x.shape, options))
        indices = F.max_pool2d(torch.from_numpy(x), return_indices=True, **options)[1]
        np.testing.assert_array_equal(ours[1], indices.numpy())


def test_a_window_without_a_pixel():
    y, indices, pullback = reference_nn.max_pool2d_vjp(np.ones((1, 1, 3)), 2, 1, 1, (2, 1))
    assert y.tolist() == [[[-np.inf] * 4]]
    assert indices.tolist() == [[[-1] * 4]]
    assert pullback(np.ones((1, 1, 4))).tolist() == [[[0, 0, 0]]]


def test_linear(rng):
    for shapes in LINEAR:
        arrays = [None if shape is None else normal(rng, shape, np.float64) for shape in shapes]
        theirs = torch_vjp(F.linear, *arrays)
        check(reference_nn.linear_vjp(*arrays), theirs, normal(rng, theirs[0].shape, np.float64), shapes)


def test_relu_and_flatten(rng):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 2.0, -2.0, 1e-320, -1e-320])
    for dy in (normal(rng, 9, np.float64), np.full(9, np.nan), np.full(9, -np.inf)):
        check(reference_nn.relu_vjp(x), torch_vjp(F.relu, x), dy, dy)
    x = normal(rng, (2, 3, 4, 5), np.float64)
    for start, end in ((1, -1), (0, 1), (-2, 3), (2, 2), (0, -1)):
        theirs = torch_vjp(torch.flatten, x, start_dim=start, end_dim=end)
        check(reference_nn.flatten_vjp(x, start, end), theirs, normal(rng, theirs[0].shape, np.float64), (start, end))


@pytest.mark.parametrize("draw", [normal, integers])
def test_encoder(rng, draw):
    theirs = TorchEncoder().double()
    state = {key: draw(rng, tuple(t.shape), np.float64) for key, t in theirs.state_dict().items()}
    theirs.load_state_dict({key: torch.from_numpy(a) for key, a in state.items()})
    for n in (0, 2):
        x, dy = draw(rng, (n, 1, 28, 28), np.float64), draw(rng, (n, 100), np.float64)
        expected, their_pullback = torch_module_vjp(theirs, x)
        y, pullback = reference_nn.encoder_vjp(x, state)
        assert_close(y, expected, TOLERANCE)
        (dx, gradients), (expected_dx, expected_gradients) = pullback(dy), their_pullback(dy)
        assert_close(dx, expected_dx, TOLERANCE)
        assert list(gradients) == list(expected_gradients)
        for key, gradient in gradients.items():
            assert_close(gradient, expected_gradients[key], TOLERANCE, key)
