"""SGD, Adam and AdamW follow torch.optim step by step, restore their state, and refuse bad input."""

import numpy as np
import pytest
from conftest import SUFFIXES
from nn_cases import assert_same
from oracle import torch

from cossim import nn

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SHAPES = {"conv.weight": (3, 2, 5, 5), "conv.bias": (3,), "scale": ()}
OPTIONS = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.7, "dampening": 0.3, "weight_decay": 0.01},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.5, "dampening": -1.0},
        {"weight_decay": 0.5},
        {"lr": 0},
    ],
    "Adam": [
        {},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"betas": (0.3, 0.99), "eps": 1e-3},
        {"betas": (0.0, 0.0)},
        {"weight_decay": 0.05},
        {"lr": 0},
    ],
    "AdamW": [{"weight_decay": 0.3}, {"weight_decay": 0.0}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]
# Tolerances for parameters around 1: torch uses fused multiply-adds, NumPy does not.
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


def parameters(rng, dtype):
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


def gradients(rng, dtype, step):
    """Random gradients of many magnitudes; some are zero."""
    found = {}
    for key, shape in SHAPES.items():
        sizes = 10.0 ** rng.uniform(-4, 1, shape) * (rng.random(shape) < 0.9)
        found[key] = np.asarray(rng.standard_normal(shape) * sizes * (1 + np.cos(step / 20)), dtype)
    return found


def ours_of(name, own, options):
    return getattr(nn, name)(own, **({"lr": 0.01} | options))


def theirs_of(name, own, options):
    tensors = {key: torch.tensor(array, requires_grad=True) for key, array in own.items()}
    return tensors, getattr(torch.optim, name)(tensors.values(), **({"lr": 0.01} | options))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_steps_follow_torch(rng, name, options, dtype):
    own = parameters(rng, dtype)
    before = {key: array.copy() for key, array in own.items()}
    tensors, theirs = theirs_of(name, own, options)
    ours = ours_of(name, own, options)
    for step in range(70):
        given = gradients(rng, dtype, step)
        kept = {key: array.copy() for key, array in given.items()}
        for key, tensor in tensors.items():
            tensor.grad = torch.tensor(given[key])
        ours.step(given)
        theirs.step()
        assert_same(given, kept)
        for key, tensor in tensors.items():
            expected, scale = tensor.detach().numpy(), max(1, np.abs(own[key]).max())
            np.testing.assert_allclose(own[key], expected, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=str(step))
            assert own[key].dtype == dtype
    assert all((own[key] != before[key]).any() for key in own) == (options.get("lr") != 0)


def test_the_first_step_in_full():
    """SGD does not dampen the first step, and Adam's first step is lr for a gradient of any size."""
    w = np.array([1.0, -2.0])
    nn.SGD({"w": w}, 0.5, momentum=0.9, dampening=0.5, weight_decay=0.1).step({"w": np.array([3.0, 0.0])})
    np.testing.assert_allclose(w, [1 - 0.5 * 3.1, -2 - 0.5 * -0.2], rtol=1e-15)
    w = np.array([1.0, -2.0, 0.0])
    nn.Adam({"w": w}, 0.25, eps=0).step({"w": np.array([1e-150, -1e150, 3.0])})
    np.testing.assert_allclose(w, [0.75, -1.75, -0.25], rtol=1e-14)


def test_a_module_is_changed_in_place():
    net = nn.Sequential(nn.Linear(3, 2, rng=0), nn.ReLU(), nn.Linear(2, 2, bias=False, rng=1))
    arrays, x = net.state_dict(), np.ones((4, 3), np.float32)
    y = net(x)
    before = {key: array.copy() for key, array in arrays.items()}
    optimizer = nn.SGD(net, lr=1)
    optimizer.step({key: np.full_like(array, 0.5) for key, array in arrays.items()})
    for key, array in net.state_dict().items():
        assert array is arrays[key]
        np.testing.assert_array_equal(array, before[key] - np.float32(0.5))
    expected = np.maximum(x @ net[0].weight.T + net[0].bias, 0) @ net[2].weight.T
    np.testing.assert_allclose(net(x), expected, rtol=1e-6)
    assert not np.allclose(y, expected)
    optimizer.lr = 2.0
    optimizer.step({key: np.full_like(array, 0.25) for key, array in arrays.items()})
    np.testing.assert_array_equal(net[0].weight, before["0.weight"] - np.float32(0.5) - np.float32(0.5))


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strided_parameters(rng, name, dtype):
    """Fortran order or every second element of an array gives the same bits; other elements are unchanged."""
    options = {"momentum": 0.9, "weight_decay": 0.1} if name == "SGD" else {"weight_decay": 0.1}
    plain = rng.standard_normal((4, 6)).astype(dtype)
    wide = np.full((4, 12), 7, dtype)
    wide[:, ::2] = plain
    column_major = np.asfortranarray(plain)
    optimizers = [ours_of(name, {"w": w}, options) for w in (plain, wide[:, ::2], column_major)]
    for _ in range(5):
        gradient = rng.standard_normal((4, 6)).astype(dtype)
        for optimizer, one in zip(optimizers, (gradient, np.asfortranarray(gradient), gradient[:]), strict=True):
            optimizer.step({"w": one})
    np.testing.assert_array_equal(wide[:, ::2], plain)
    np.testing.assert_array_equal(column_major, plain)
    assert (wide[:, 1::2] == 7).all()


@pytest.mark.parametrize("suffix", [None, *SUFFIXES])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_loaded_state_continues_to_the_same_bits(rng, tmp_path, name, options, suffix):
    """The state comes as a dict or from a file."""
    given = [gradients(rng, np.float32, step) for step in range(12)]
    whole = parameters(rng, np.float32)
    broken = {key: array.copy() for key, array in whole.items()}
    first, second, optimizer = (ours_of(name, own, options) for own in (broken, broken, whole))
    for number, one in enumerate(given):
        optimizer.step(one)
        if number < 7:
            first.step(one)
    state = first.state_dict()
    assert state["step"] == 7
    if suffix is not None:
        nn.save_weights(tmp_path / f"state{suffix}", state)
        state = tmp_path / f"state{suffix}"
    second.load_state_dict(state)
    for one in given[7:]:
        second.step(one)
    assert_same(broken, whole)
    assert_same(second.state_dict(), optimizer.state_dict())


def test_names_in_the_state():
    layer = nn.Linear(2, 3)
    kinds = {
        ("step",): nn.SGD(layer, 0.1),
        ("step", "momentum_buffer.weight", "momentum_buffer.bias"): nn.SGD(layer, 0.1, momentum=0.9),
        ("step", "exp_avg.weight", "exp_avg.bias", "exp_avg_sq.weight", "exp_avg_sq.bias"): nn.Adam(layer),
    }
    for names, optimizer in kinds.items():
        assert tuple(optimizer.state_dict()) == names


def test_states_that_do_not_fit_change_nothing():
    optimizer = nn.Adam({"w": np.ones(3)})
    optimizer.step({"w": np.ones(3)})
    before = {key: array.copy() for key, array in optimizer.state_dict().items()}
    good = {"step": 5, "exp_avg.w": np.full(3, 9.0), "exp_avg_sq.w": np.full(3, 9.0)}
    cases = {
        r"exp_avg\.w\b.*\bmissing": {"step": 5, "exp_avg_sq.w": np.ones(3)},
        r"momentum_buffer\.w\b.*\bexpected": {**good, "momentum_buffer.w": np.ones(3)},
        r"exp_avg_sq\.w\b.*\(3,\).*\(2,\)": {**good, "exp_avg_sq.w": np.ones(2)},
        r"step\b.*\(\).*\(1,\)": {**good, "step": [5]},
        r"step\b.*-1": {**good, "step": -1},
        r"step\b.*1\.5": {**good, "step": 1.5},
        r"step\b.*nan": {**good, "step": np.nan},
        r"step\b.*inf": {**good, "step": np.inf},
    }
    for words, state in cases.items():
        with pytest.raises(ValueError, match=rf"^load_state_dict\(\): .*Adam.*\b{words}"):
            optimizer.load_state_dict(state)
    with pytest.raises(TypeError, match="exp_avg_sq.w"):
        optimizer.load_state_dict({**good, "exp_avg_sq.w": np.ones(3, complex)})
    assert_same(optimizer.state_dict(), before)
    optimizer.load_state_dict(good)
    assert optimizer.state_dict()["step"] == 5


# ---- refusals; the messages are in test_messages.py ----


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"w": np.ones(3)}, ValueError, r"b\b.*\bmissing"),
        ({"w": np.ones(3), "b": np.ones(2), "c": np.ones(2)}, ValueError, r"c\b.*\bexpected"),
        ({"w": np.ones(3), "b": np.ones(3)}, ValueError, r"b\b.*\(2,\).*\(3,\)"),
        ({"w": np.ones(3), "b": np.ones((2, 1))}, ValueError, r"b\b.*\(2,\).*\(2, 1\)"),
        ({"w": np.ones(3), "b": 1.0}, ValueError, r"b\b.*\(2,\).*\(\)"),
        ({"w": np.ones(3), "b": np.ones(2, "f4")}, TypeError, r"b\b.*\bfloat64\b.*\bfloat32\b"),
        ({"w": np.ones(3), "b": np.ones(2, int)}, TypeError, r"b\b.*\bfloat64\b.*\bint64\b"),
        ({"w": np.ones(3), "b": None}, TypeError, r"b\b.*\breal\b"),
        ({"w": np.ones(3), "b": np.ma.ones(2)}, TypeError, r"b\b.*\bmasked\b"),
        ([np.ones(3), np.ones(2)], TypeError, r"gradients\b.*\bdict\b.*\blist\b"),
    ],
)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_that_do_not_fit_change_nothing(name, given, error, words):
    own = {"w": np.ones(3), "b": np.ones(2)}
    optimizer = ours_of(name, own, {"momentum": 0.9} if name == "SGD" else {})
    with pytest.raises(error, match=rf"^{name}\.step\(\): (?:.*\b)?{words}"):
        optimizer.step(given)
    assert all((array == 1).all() for array in own.values())
    assert all((array == 0).all() for array in optimizer.state_dict().values())


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_arrays_that_have_become_read_only(name):
    own = {"w": np.ones(3), "b": np.ones(2)}
    optimizer = ours_of(name, own, {"momentum": 0.9} if name == "SGD" else {})
    gradients, state = {"w": np.ones(3), "b": np.ones(2)}, optimizer.state_dict()
    last = [array for array in state.values() if array.shape == (2,)][-1]
    for array, words in ((own["b"], "b"), (last, r"\w+\.b")):
        array.flags.writeable = False
        with pytest.raises(ValueError, match=rf"^{name}\.step\(\): {words}\b.*\bread-only\b"):
            optimizer.step(gradients)
        with pytest.raises(ValueError, match=rf"^load_state_dict\(\): .*\b{words}\b.*\bread-only\b"):
            optimizer.load_state_dict({key: array + 1 for key, array in state.items()})
        assert all((array == 1).all() for array in own.values())
        assert all((array == 0).all() for array in optimizer.state_dict().values())
        array.flags.writeable = True
    optimizer.step(gradients)
    assert (own["b"] < 1).all()


W = {"w": np.ones(3)}


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.SGD(W, np.nan), ValueError, "lr.*nan"),
        (lambda: nn.SGD(W, 0.1, momentum=-1), ValueError, "momentum"),
        (lambda: nn.SGD(W, 0.1, weight_decay=-1), ValueError, "weight_decay"),
        (lambda: nn.Adam(W, -1), ValueError, r"Adam\(\): lr"),
        (lambda: nn.Adam(W, np.inf), ValueError, "lr.*inf"),
        (lambda: nn.Adam(W, 1 + 2j), TypeError, "lr"),
        (lambda: nn.Adam(W, betas=(0.9, -0.1)), ValueError, r"betas\[1\]"),
        (lambda: nn.Adam(W, eps=-1e-8), ValueError, "eps"),
        (lambda: nn.Adam(W, weight_decay=np.nan), ValueError, "weight_decay"),
        (lambda: nn.SGD(nn.ReLU(), 0.1), ValueError, "parameters"),
        (lambda: nn.Adam({"w": np.ma.ones(3)}), TypeError, "w.*MaskedArray"),
    ],
)
def test_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_numbers_of_numpy_and_zeros_are_fine():
    optimizer = nn.Adam({"w": np.ones(2)}, np.float32(0.5), betas=[0, np.float64(0.5)], eps=0)
    assert repr(optimizer) == "Adam(lr=0.5, betas=(0.0, 0.5), eps=0.0, weight_decay=0.0)"
    expected = "SGD(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False)"
    assert repr(nn.SGD({"w": np.ones(2)}, 0.1)) == expected


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_propagate_as_in_torch(name, dtype):
    """NaN and infinity cause no warning."""
    own = {"w": np.ones(5, dtype)}
    tensors, theirs = theirs_of(name, own, {"lr": 1e30})
    ours = ours_of(name, own, {"lr": 1e30})
    for _ in range(3):
        gradient = np.array([np.nan, np.inf, -np.inf, np.finfo(dtype).max, 0], dtype)
        tensors["w"].grad = torch.tensor(gradient)
        ours.step({"w": gradient})
        theirs.step()
    expected = tensors["w"].detach().numpy()
    assert np.isnan(own["w"]).any()
    np.testing.assert_allclose(own["w"], expected, rtol=1e-6)


SCHEDULES = [
    lambda m, o: m.LinearLR(o, 0.1, total_iters=7),
    lambda m, o: m.LinearLR(o, 1.0, 0.0, 4),
    lambda m, o: m.CosineAnnealingLR(o, 9, 0.01),
    lambda m, o: m.SequentialLR(o, [m.LinearLR(o, 0.2, total_iters=3), m.CosineAnnealingLR(o, 10)], [3]),
    lambda m, o: m.SequentialLR(o, [m.CosineAnnealingLR(o, 4), m.LinearLR(o), m.LinearLR(o, 0.5)], [0, 6]),
]


@pytest.mark.parametrize("make", SCHEDULES)
def test_schedules_follow_torch(make):
    ours = nn.SGD({"w": np.ones(3)}, 0.3)
    theirs = torch.optim.SGD([torch.ones(3, requires_grad=True)], 0.3)
    schedule, expected = make(nn, ours), make(torch.optim.lr_scheduler, theirs)
    for _ in range(25):
        rate = theirs.param_groups[0]["lr"]
        np.testing.assert_allclose(ours.lr, rate, rtol=1e-12, atol=1e-15)
        assert schedule.get_last_lr() == [ours.lr]
        theirs.step()
        schedule.step()
        expected.step()
    assert schedule.last_epoch == 25


def test_schedules_refuse_what_does_not_fit():
    optimizer, other = nn.SGD({"w": np.ones(3)}, 0.3), nn.SGD({"w": np.ones(3)}, 0.3)
    parts = [nn.LinearLR(optimizer), nn.LinearLR(optimizer)]
    for call, error, words in (
        (lambda: nn.LinearLR(optimizer, 1.5), ValueError, "start_factor"),
        (lambda: nn.LinearLR(optimizer, end_factor=-1), ValueError, "end_factor"),
        (lambda: nn.LinearLR(optimizer, total_iters=0), ValueError, "total_iters"),
        (lambda: nn.CosineAnnealingLR(optimizer, 2.0), TypeError, "T_max"),
        (lambda: nn.CosineAnnealingLR(np.ones(3), 2), TypeError, r"\blr\b"),
        (lambda: nn.SequentialLR(other, parts, [3]), ValueError, "schedulers"),
        (lambda: nn.SequentialLR(optimizer, parts, [3, 2]), ValueError, "milestones"),
    ):
        with pytest.raises(error, match=words):
            call()
