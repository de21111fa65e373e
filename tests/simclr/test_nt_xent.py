"""NT-Xent and its gradient agree with golden values, the reference, torch and finite differences."""

import math

import numpy as np
import pytest
from nn_cases import assert_close, torch_nt_xent
from oracle import F, torch
from processes import check_interrupted, extra_memories, reports_memory
from public_inputs import misaligned
from reference_gradients import by_differences, nt_xent, nt_xent_gradient

import cossim
from cossim import _core, simclr

DTYPES = [(np.float32, 1e-4), (np.float64, 1e-10)]
PAIRS = ["halves", "interleaved"]
TEMPERATURES = [0.5, 0.1, 0.03, 0.02, 1e-3, 50.0]  # with the smaller ones, exponentials overflow float32

# Values of the paper's formula for these rows, computed in Python's decimal arithmetic with 60 digits.
SIX = [[3, 4, 0], [1, 2, 2], [0, 0, 5], [2, -1, 2], [1, 0, 0], [4, 4, -2]]
WITH_ZEROS = [[1, 2], [0, 0], [3, -1], [1, 1]]
GOLDEN = [
    (SIX, "halves", 2.0, 1.79925271000268760589),
    (SIX, "halves", 0.5, 2.51272053357393036597),
    (SIX, "halves", 0.1, 7.74030805780354939590),
    (SIX, "halves", 0.01, 72.5691138027359085681),
    (SIX, "halves", 0.001, 722.568795812502194877),
    (SIX, "interleaved", 2.0, 1.47703048778046538366),
    (SIX, "interleaved", 0.5, 1.22383164468504147708),
    (SIX, "interleaved", 0.1, 1.29586361335910495145),
    (SIX, "interleaved", 0.01, 8.12466935829146412362),
    (SIX, "interleaved", 0.001, 78.1243513680577504325),
    (WITH_ZEROS, "halves", 0.5, 1.65162580581529818509),
    (WITH_ZEROS, "halves", 0.001, 515.709022853758659603),
]


def value_and_grad(z, temperature=0.5, pairs="halves"):
    """(loss, gradient) of both views in one array z, computed from two arrays if possible."""
    if pairs == "interleaved":
        return simclr.nt_xent_value_and_grad(z, temperature=temperature, pairs=pairs)
    loss, gradients = simclr.nt_xent_value_and_grad(*np.split(z, 2), temperature)
    return loss, np.concatenate(gradients)


def torch_value_and_grad(z, temperature, pairs):
    """(loss, gradient) by torch, in float64 for any type of z."""
    z = torch.from_numpy(np.asarray(z, np.float64)).requires_grad_()
    loss = torch_nt_xent(z, temperature, pairs)
    loss.backward()
    return loss.item(), z.grad.numpy()


def assert_gradient(gradient, expected, z, temperature, tolerance):
    """Asserts a small error, relative to the largest element, or to one term of its sum if all terms cancel."""
    assert gradient.shape == z.shape
    assert gradient.dtype == z.dtype
    norms = np.maximum(np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True), 1e-8)
    error = np.abs(gradient - expected) * norms
    largest = np.abs(expected * norms).max(initial=0)
    assert error.max(initial=0) <= tolerance * max(largest, 0.01 / (len(z) * temperature))


@pytest.mark.parametrize(("z", "pairs", "temperature", "expected"), GOLDEN)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
def test_golden_values_of_the_formula(z, pairs, temperature, expected, dtype):
    z = np.array(z, dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    assert simclr.nt_xent(z, temperature=temperature, pairs=pairs) == pytest.approx(expected, rel=tolerance)
    assert value_and_grad(z, temperature, pairs)[0] == pytest.approx(expected, rel=tolerance)
    assert float(nt_xent(z, temperature, pairs)) == pytest.approx(expected, rel=1e-14)
    if pairs == "halves":
        assert simclr.nt_xent(z[: len(z) // 2], z[len(z) // 2 :], temperature) == pytest.approx(expected, rel=tolerance)


def test_values_with_a_closed_form():
    eye = np.eye(5)
    for t in (0.05, 0.5, 3.0):
        assert simclr.nt_xent(eye, eye, t) == pytest.approx(math.log1p(8 * math.exp(-1 / t)), rel=1e-14)
        same = np.full((3, 4), 2.5, np.float32)
        assert simclr.nt_xent(same, same, t) == pytest.approx(math.log(5), rel=1e-7)
        assert simclr.nt_xent(np.zeros((3, 4)), np.zeros((3, 4)), t) == pytest.approx(math.log(5), rel=1e-14)


SHAPES = [(2, 3), (4, 1), (6, 5), (16, 16), (30, 7), (34, 64), (64, 100), (66, 33), (258, 40), (300, 20), (516, 513)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_loss_and_gradient_agree_with_torch(rng, shape, pairs, dtype, tolerance):
    for temperature in TEMPERATURES:
        z = rng.standard_normal(shape).astype(dtype)
        loss, gradient = value_and_grad(z, temperature, pairs)
        value = simclr.nt_xent(z, temperature=temperature, pairs=pairs)
        expected, expected_gradient = torch_value_and_grad(z, temperature, pairs)
        assert type(loss) is float
        assert loss == pytest.approx(expected, rel=tolerance / 10, abs=tolerance / 10)
        assert value == pytest.approx(loss, rel=tolerance / 100, abs=tolerance / 100)
        assert_gradient(gradient, expected_gradient, z, temperature, tolerance)


def test_against_torch_in_its_own_float32(rng):
    """Our error against float64 is no larger than torch's in float32."""
    z = rng.standard_normal((128, 100), np.float32)
    loss, gradient = value_and_grad(z)
    theirs = torch.from_numpy(z).requires_grad_()
    torch_nt_xent(theirs, 0.5).backward()
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-4, atol=1e-4 * np.abs(gradient).max())
    _, expected = torch_value_and_grad(z, 0.5, "halves")
    assert np.abs(gradient - expected).max() <= 2 * np.abs(theirs.grad.numpy() - expected).max() + 1e-10


@pytest.mark.parametrize("temperature", [0.5, 0.05, 0.002])
@pytest.mark.parametrize("pairs", PAIRS)
def test_values_and_gradients_agree_with_the_reference_and_with_finite_differences(rng, temperature, pairs):
    z = rng.standard_normal((8, 3))
    loss, gradient = value_and_grad(z, temperature, pairs)
    assert loss == pytest.approx(float(nt_xent(z, temperature, pairs)), rel=1e-13)
    expected = nt_xent_gradient(z, temperature, pairs).astype(np.float64)
    np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())
    step = 1e-5 * temperature
    differences = by_differences(lambda x: float(simclr.nt_xent(x, temperature=temperature, pairs=pairs)), z, step)
    np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_rows_that_are_special(rng, dtype, tolerance):
    """The rows are zero rows, rows below the clamp, equal and opposite rows, and rows of very different norms."""
    z = rng.standard_normal((40, 6)).astype(dtype)
    z[3], z[21] = 0, 0
    z[4] *= 1e-10
    z[5] *= 1e-25
    z[6] = z[7] = z[8] = z[28]
    z[9] = -z[29]
    z[10] *= 1e4
    if dtype == np.float64:
        z[11] *= 1e200
        z[12] *= 1e-300
        z[13] = 5e-324
    scaled = z.astype(np.longdouble)
    for temperature in (0.5, 0.01):
        loss, gradient = value_and_grad(z, temperature)
        assert loss == pytest.approx(float(nt_xent(scaled, temperature)), rel=tolerance / 10)
        expected = nt_xent_gradient(scaled, temperature)
        assert np.isfinite(gradient).all()
        norms = np.maximum(np.sqrt((scaled**2).sum(1, keepdims=True)), 1e-8)
        error, size = np.abs(gradient - expected) * norms, np.abs(expected * norms).max()
        assert (error <= 2 * tolerance * size).all()
        assert np.abs(gradient[3]).max() > 1e4  # a zero row: the gradient of its similarities divided by eps, 1e-8


def test_float32_rows_beyond_the_squares_of_float32(rng):
    z = rng.standard_normal((20, 6)).astype(np.float32)
    loss, gradient = value_and_grad(z)
    huge_loss, huge_gradient = value_and_grad(z * np.float32(2.0**100))
    assert huge_loss == loss
    np.testing.assert_allclose(huge_gradient * np.float32(2.0**100), gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.5, 0.01])
def test_two_rows_have_no_loss_and_no_gradient(rng, dtype, temperature):
    z = rng.standard_normal((2, 9)).astype(dtype)
    loss, gradient = value_and_grad(z, temperature)
    assert loss == 0
    assert (gradient == 0).all()


def test_tiny_losses_keep_their_digits(rng):
    """The loss is a difference of logarithms, and far below their rounding errors. float32 keeps one digit of it."""
    z = np.repeat(np.eye(16), 2, axis=0) + 1e-5 * rng.standard_normal((32, 16))
    for dtype, tolerance in ((np.float32, 0.2), (np.float64, 1e-9)):
        rows = z.astype(dtype)
        loss, gradient = value_and_grad(rows, 0.06, "interleaved")
        expected, expected_gradient = torch_value_and_grad(rows, 0.06, "interleaved")
        assert 0 < expected < 1e-5
        assert loss >= 0
        assert loss == pytest.approx(expected, rel=tolerance)
        np.testing.assert_allclose(gradient, expected_gradient, atol=tolerance * np.abs(expected_gradient).max())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.5, 0.001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_propagates(rng, value, temperature, dtype):
    z = rng.standard_normal((70, 5)).astype(dtype)
    z[33, 2] = value
    loss, gradient = value_and_grad(z, temperature)
    assert math.isnan(loss)
    assert math.isnan(simclr.nt_xent(z, temperature=temperature))
    assert np.isnan(gradient).all()
    assert np.isnan(torch_value_and_grad(z, temperature, "halves")[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_no_elements(dtype):
    loss, (dz0, dz1) = simclr.nt_xent_value_and_grad(np.empty((4, 0), dtype), np.empty((4, 0), dtype))
    assert loss == pytest.approx(math.log(7), rel=1e-7)
    assert dz0.shape == dz1.shape == (4, 0)


def test_types_and_layouts(rng):
    z0, z1 = rng.standard_normal((2, 9, 12))
    loss, (dz0, dz1) = simclr.nt_xent_value_and_grad(z0, z1, 0.2)
    before = z0.copy()
    for a, b in (
        (np.asfortranarray(z0), z1.astype(">f8")),
        (z0.tolist(), z1),
        (np.repeat(z0, 2, 0)[::2], z1[::-1][::-1]),
        (misaligned(z0), misaligned(z1)),
    ):
        other, (da, db) = simclr.nt_xent_value_and_grad(a, b, temperature=np.float32(0.2))
        assert other == pytest.approx(loss, rel=1e-7)
        np.testing.assert_allclose(da, dz0, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(db, dz1, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(z0, before)
    mixed, (da, db) = simclr.nt_xent_value_and_grad(z0.astype(np.float32), z1)
    assert da.dtype == db.dtype == np.float64
    assert mixed == pytest.approx(simclr.nt_xent(z0, z1), rel=1e-6)
    whole, gradient = simclr.nt_xent_value_and_grad(np.concatenate((z0, z1)), temperature=0.2)
    assert whole == loss
    np.testing.assert_array_equal(gradient, np.concatenate((dz0, dz1)))
    z = np.stack((z0, z1), 1).reshape(18, 12)
    woven, gradient = simclr.nt_xent_value_and_grad(z, temperature=0.2, pairs="interleaved")
    assert woven == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(gradient.reshape(9, 2, 12), np.stack((dz0, dz1), 1), atol=1e-15)
    small = rng.integers(-9, 9, (6, 4), dtype=np.int8)
    assert simclr.nt_xent(small) == simclr.nt_xent(small.astype(np.float64))
    assert simclr.nt_xent_value_and_grad(small)[1].dtype == np.float64


# ---- errors ----

Z = np.ones((4, 3))


@pytest.mark.parametrize("call", [simclr.nt_xent, simclr.nt_xent_value_and_grad])
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        # the other messages are in test_messages.py
        ((Z, Z[:, :2]), {}, ValueError, r"z1: shape \(4, 2\)"),
        ((Z, Z, 0), {}, ValueError, r"temperature\b.* 0\.0$"),
        ((Z, Z, -0.5), {}, ValueError, r"temperature\b.* -0\.5$"),
        ((Z, Z, math.nan), {}, ValueError, r"temperature\b.*\bnan\b"),
        ((Z, Z, math.inf), {}, ValueError, r"temperature\b.*\binf\b"),
        ((Z, Z, 1e-310), {}, ValueError, r"temperature 1e-310\b.*\bfloat64\b"),
        ((Z.astype("f4"), Z.astype("f4"), 1e-40), {}, ValueError, r"temperature 1e-40\b.*\bfloat32\b"),
        ((Z, Z.astype(np.float16)), {}, TypeError, r"z1\b.*float32.*float64.*float16"),
        ((Z * 1j, Z), {}, TypeError, r"z0"),
        (([["a"]], [["b"]]), {}, TypeError, r"z0"),
    ],
    ids=repr,
)
def test_invalid_input_is_refused(call, arguments, options, error, message):
    with pytest.raises(error, match=rf"^{call.__name__}\(\): .*{message}"):
        call(*arguments, **options)


def test_the_core_checks_what_memory_needs():
    dz = np.empty_like(Z)
    for *arrays, temperature in (
        (Z, Z[:3], None, None, 0.5),
        (Z.T, None, None, None, 0.5),
        (Z[:3], None, None, None, 0.5),
        (Z, Z.astype("f4"), None, None, 0.5),
        (Z, Z, dz, None, 0.5),
        (Z, None, dz[:2], None, 0.5),
        (Z, Z, None, None, -0.5),
        ("z", None, None, None, 0.5),
    ):
        with pytest.raises(ValueError, match=r"\bfit\b"):
            _core.nt_xent(*arrays, None, None, temperature=temperature, interleaved=False)


# ---- threads, instruction sets, memory, signals ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(640, 130), (2402, 36), (1200, 600)], ids=str)
@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_threads_do_not_change_bits(rng, dtype, shape, temperature):
    """Small inputs keep the matrix of similarities; larger inputs do not."""
    z = rng.standard_normal(shape).astype(dtype)
    results = []
    for threads in (1, 2, 5):
        with cossim.threads(threads):
            results.append((*value_and_grad(z, temperature), simclr.nt_xent(z, temperature=temperature)))
    for loss, gradient, value in results[1:]:
        assert loss == results[0][0]
        assert value == results[0][2]
        np.testing.assert_array_equal(gradient, results[0][1])


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_more_rows_than_a_stored_matrix_allows(rng, dtype, tolerance):
    z = rng.standard_normal((2402, 8)).astype(dtype)
    for temperature in (0.3, 0.01):
        loss, gradient = value_and_grad(z, temperature)
        expected, expected_gradient = torch_value_and_grad(z, temperature, "halves")
        assert loss == pytest.approx(expected, rel=tolerance / 10)
        assert_gradient(gradient, expected_gradient, z, temperature, tolerance)


ROWS = """
z0, z1 = np.random.default_rng(0).standard_normal((2, {half}, 64), np.float32)
def small():
    loss, gradients = simclr.nt_xent_value_and_grad(z0[:40], z1[:40])
    return loss, *(gradient.tobytes() for gradient in gradients)
small()
"""


@reports_memory
@pytest.mark.parametrize("half", [1000, 6000])
def test_memory(half):
    """At most the gradients, 3 copies of the rows, 3 MB a thread and 16 MiB; the matrix of 12,000 rows has 576 MB."""
    calls = ["simclr.nt_xent_value_and_grad(z0, z1)"]
    for _, threads, extra, rows in extra_memories(ROWS.format(half=half), calls, "z0.nbytes + z1.nbytes"):
        assert extra <= 4 * rows + (threads * 3 << 20) + ((16 << 20) if half == 1000 else 0) + (1 << 20)


@reports_memory
@pytest.mark.parametrize(("call", "threads"), [("nt_xent_value_and_grad(z0, z1)", 2), ("nt_xent(z0, z1, 0.001)", 1)])
def test_ctrl_c(call, threads):
    check_interrupted(ROWS.format(half=30000), f"simclr.{call}", threads, seconds=0.5, growth=8 << 20)


# ---- labels: the supervised contrastive loss ----


def torch_supervised(z, labels, temperature):
    """L_out of Khosla et al. of a tensor z whose rows have these labels."""
    units = F.normalize(z, dim=1, eps=1e-8)
    exponents, itself = units @ units.T / temperature, torch.eye(len(z), dtype=torch.bool)
    logs = exponents - torch.logsumexp(exponents.masked_fill(itself, -np.inf), 1, keepdim=True)
    positive = (labels[:, None] == labels[None]) & ~itself
    return -((logs * positive).sum(1) / positive.sum(1)).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "depth", "classes", "temperature"),
    [(5, 3, 2, 0.5), (40, 16, 10, 0.1), (300, 50, 7, 0.2), (30, 8, 4, 0.01), (6, 4, 6, 0.5), (9, 4, 1, 1.0)],
)
def test_labels_give_the_supervised_loss(rng, dtype, n, depth, classes, temperature):
    z0, z1 = rng.standard_normal((2, n, depth)).astype(dtype)
    labels = rng.integers(-classes, 0, n)
    loss, gradients = simclr.nt_xent_value_and_grad(z0, z1, temperature, labels=labels)
    z = torch.tensor(np.concatenate((z0, z1)).astype(float), requires_grad=True)
    expected = torch_supervised(z, torch.tensor(np.tile(labels, 2)), temperature)
    expected.backward()
    assert abs(loss - float(expected.detach())) <= (1e-6 if dtype == np.float32 else 1e-12) * float(expected.detach())
    assert_close(np.concatenate(gradients), z.grad.numpy(), 1e-4 if dtype == np.float32 else 1e-10)
    assert abs(simclr.nt_xent(z0, z1, temperature, labels=labels) - loss) <= 1e-6 * loss
    both = np.stack((z0, z1), 1).reshape(2 * n, depth)
    interleaved, gradient = simclr.nt_xent_value_and_grad(both, None, temperature, pairs="interleaved", labels=labels)
    assert abs(interleaved - loss) <= 1e-6 * loss
    assert_close(gradient[::2], gradients[0], 1e-4)


def test_a_label_for_each_image_is_the_unsupervised_loss(rng):
    z0, z1 = rng.standard_normal((2, 20, 8))
    for labels in (np.arange(20), np.arange(20)[::-1].astype(np.uint8)):
        np.testing.assert_allclose(simclr.nt_xent(z0, z1, labels=labels), simclr.nt_xent(z0, z1), rtol=1e-14)


@pytest.mark.usefixtures("restore_threads")
def test_labels_on_any_number_of_threads(rng):
    z, labels = rng.standard_normal((700, 33)).astype(np.float32), rng.integers(0, 5, 350)
    cossim.set_num_threads(1)
    loss, gradient = simclr.nt_xent_value_and_grad(z, labels=labels)
    cossim.set_num_threads(3)
    again, same = simclr.nt_xent_value_and_grad(z, labels=labels)
    assert again == loss
    np.testing.assert_array_equal(same, gradient)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (np.ones(4), TypeError),
        ([2**70] * 4, TypeError),
        (["a"] * 4, TypeError),
        (np.ones(8, int), ValueError),
        (3, ValueError),
    ],
)
def test_labels_are_refused(rng, labels, error):
    with pytest.raises(error, match="labels"):
        simclr.nt_xent(rng.standard_normal((8, 3)), labels=labels)
