"""Layer objects have torch's arguments, reprs, initial ranges and keys, and load weights from dicts and files."""

import io
import pickle
import re
import tracemalloc
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from conftest import SUFFIXES
from nn_cases import assert_same
from oracle import torch

from cossim import nn, simclr

torch_nn = torch.nn

PAIRS = [
    lambda m: m.Conv2d(1, 10, 5),
    lambda m: m.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
    lambda m: m.Conv2d(2, 3, 3, padding="same"),
    lambda m: m.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
    lambda m: m.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="replicate"),
    lambda m: m.Conv2d(2, 3, 3, padding=2, padding_mode="circular"),
    lambda m: m.Conv2d(2, 3, (2, 3), padding="same", padding_mode="reflect"),
    lambda m: m.MaxPool2d(2),
    lambda m: m.MaxPool2d((3, 2), stride=2, padding=1, dilation=1, ceil_mode=True),
    lambda m: m.ReLU(),
    lambda m: m.Flatten(),
    lambda m: m.Flatten(start_dim=2, end_dim=-1),
    lambda m: m.Linear(7, 3),
    lambda m: m.Linear(7, 3, bias=False),
    lambda m: m.Sequential(m.Conv2d(4, 2, 3), m.ReLU(), m.Flatten()),
    lambda m: m.Sequential(OrderedDict(first=m.Linear(7, 3), then=m.Sequential(m.ReLU(), m.Linear(3, 2)))),
]


def input_for(layer):
    first = layer
    while isinstance(first, nn.Sequential):
        first = first[0]
    channels = getattr(first, "in_channels", 4)
    return np.random.default_rng(0).standard_normal((2, channels, 8, 7)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("make", PAIRS)
def test_layers_agree_with_torchs(make):
    ours, theirs = make(nn), make(torch_nn)
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [a.shape for a in ours.state_dict().values()] == [tuple(t.shape) for t in state.values()]
    ours.load_state_dict(state)
    x = input_for(ours)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5)
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again(x), ours(x))


def test_initial_values_have_torchs_range():
    layers = [
        (nn.Conv2d(6, 400, (3, 5), groups=2, rng=0), 45),
        (nn.Conv2d(np.int8(100), np.int16(400), np.int8(5), rng=0), 2500),  # the product overflows int8
        (nn.Linear(50, 400, rng=0), 50),
    ]
    for ours, fan_in in layers:
        for values in (ours.weight, ours.bias):
            bound = fan_in**-0.5
            assert np.abs(values).max() <= bound
            assert np.abs(values).max() > 0.95 * bound
            assert abs(values.mean()) < 0.1 * bound
            assert values.dtype == np.float32
    same, other = nn.Linear(4, 3, rng=7), nn.Linear(4, 3, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(same.weight, other.weight)
    assert (nn.Linear(4, 3).weight != nn.Linear(4, 3).weight).any()
    assert nn.Linear(4, 3, dtype=np.float64)(np.ones(4)).dtype == np.float64


def test_sequential_is_a_sequence():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert len(net) == 3
    assert net[1] is list(net)[1]
    assert net[-1].out_features == 2
    assert list(net[1:].state_dict()) == ["2.weight", "2.bias"]
    x = np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(net(x), net[2](net[1](net[0](x))))
    with pytest.raises(IndexError):
        net[3]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.Conv2d(4, 6.5, 3), TypeError, "out_channels"),
        (lambda: nn.Conv2d(4, 6, 0), ValueError, "kernel_size"),
        (lambda: nn.Linear(-1, 2), ValueError, "in_features"),
        (lambda: nn.Linear(2**62, 3), ValueError, r"in_features \* out_features must be below 2\*\*60, not 4611"),
        (lambda: nn.Conv2d(2**62, 1, 3), ValueError, r"in_channels.*\b2\*\*60\b"),
        (lambda: nn.BatchNorm2d(2**62), ValueError, r"num_features.*\b2\*\*60\b"),
        (lambda: nn.Sequential(nn.Flatten(True))(np.zeros((2, 3, 4))), TypeError, "start_dim.*bool"),
        (lambda: nn.Flatten()(np.ma.ones((2, 3, 4))), TypeError, r"Flatten\(\): x\b.*\bmasked\b"),
        (
            lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")(np.ma.ones((1, 1, 4, 4))),
            TypeError,
            r"conv2d\(\): x\b.*\bmasked\b",
        ),
    ],
)
def test_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("mode", ["mirror", None, ["zeros"]])
def test_a_padding_mode_that_is_set_later_is_checked_by_the_call(mode):
    layer, x = nn.Conv2d(1, 2, 3, padding=1), np.zeros((1, 1, 5, 5), np.float32)
    net = nn.Sequential(layer, nn.ReLU())
    net(x)
    layer.padding_mode = mode
    for call in (layer, layer.vjp, net, net.vjp):
        with pytest.raises(ValueError, match=rf"Conv2d\(\): padding_mode\b.*{re.escape(repr(mode))}"):
            call(x)


# ---- weights ----


def state_of(layer):
    return {key: array.copy() for key, array in layer.state_dict().items()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saved_weights_are_loaded_unchanged(tmp_path, suffix):
    encoder, other = simclr.Encoder(rng=1), simclr.Encoder(rng=2)
    path = tmp_path / f"weights{suffix}"
    nn.save_weights(path, encoder.state_dict())
    nn.save_weights(path, encoder.state_dict())  # replaces the first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    other.load_state_dict(path)
    assert_same(other.state_dict(), encoder.state_dict())
    other.load_state_dict(nn.load_weights(str(path)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_refused(tmp_path, suffix):
    layer = nn.Linear(40, 30, rng=0)
    path = tmp_path / f"weights{suffix}"
    nn.save_weights(path, layer.state_dict())
    whole = path.read_bytes()
    before = state_of(layer)
    for cut in (0, 1, 7, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="weights"):
            layer.load_state_dict(path)
    path.write_bytes(b"\xff" * 200)
    with pytest.raises(ValueError, match="weights"):
        layer.load_state_dict(path)
    assert_same(layer.state_dict(), before)


def test_unreadable_files_are_refused(tmp_path):
    layer = nn.Linear(2, 2)
    with pytest.raises(FileNotFoundError):
        layer.load_state_dict(tmp_path / "none.npz")
    np.savez(tmp_path / "objects.npz", weight=np.array([{}], object))
    with pytest.raises(ValueError, match="objects.npz"):
        layer.load_state_dict(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match=r"\.npz\b.*\.safetensors\b"):
        layer.load_state_dict(tmp_path / "weights.bin")
    with pytest.raises(TypeError, match="int"):
        layer.load_state_dict(3)


@pytest.mark.parametrize(
    ("suffix", "good", "bad"),
    [
        (".npz", "b\n", "a\0b"),
        (".npz", "x" * 65_531, "x" * 65_532),
        (".npz", "é 文", "\ud800"),
        (".safetensors", "é\0文", "\ud800"),
        (".safetensors", "metadata", "__metadata__"),
    ],
)
def test_names_that_a_file_cannot_hold(tmp_path, suffix, good, bad):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    nn.save_weights(path, {good: np.ones(2)})
    with pytest.raises(ValueError, match=r"^save_weights\(\): .*\.\w+ file\b.*\bname\b"):
        nn.save_weights(path, {bad: np.ones(3)})
    assert list(nn.load_weights(path)) == [good]


def test_weights_that_do_not_fit_change_nothing():
    layer = nn.Sequential(nn.Linear(3, 2, rng=0), nn.Linear(2, 2, rng=0))
    before = state_of(layer)
    good = {key: np.zeros_like(a) for key, a in before.items()}
    cases = {
        r"1\.bias\b.*\bmissing": {k: v for k, v in good.items() if k != "1.bias"},
        r"2\.bias\b.*\bexpected": {**good, "2.bias": np.zeros(2)},
        r"1\.weight\b.*\(2, 2\).*\(3, 2\)": {**good, "1.weight": np.zeros((3, 2))},
    }
    for words, state in cases.items():
        with pytest.raises(ValueError, match=words):
            layer.load_state_dict(state)
    with pytest.raises(TypeError, match="1.weight"):
        layer.load_state_dict({**good, "1.weight": np.zeros((2, 2), complex)})
    assert_same(layer.state_dict(), before)
    layer[1].bias.flags.writeable = False
    with pytest.raises(ValueError, match=r"1\.bias\b.*\bread-only\b"):
        layer.load_state_dict(good)
    layer[1].bias = [1.0, 2.0]
    with pytest.raises(ValueError, match=r"1\.bias\b.*\blist\b"):
        layer.load_state_dict(good)
    layer[1].bias = before["1.bias"].copy()
    assert_same(layer.state_dict(), before)
    layer.load_state_dict({"0.bias": [5.0, 6.0], "nothing": [1]}, strict=False)
    assert layer[0].bias.tolist() == [5, 6]
    with pytest.raises(ValueError, match="shape"):
        layer.load_state_dict({"0.bias": [5.0]}, strict=False)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "weights.npz"
    nn.save_weights(path, {"a": np.ones(3)})
    with pytest.raises(TypeError):
        nn.save_weights(path, {"a": np.ones(3), "b": [object()]})
    np.testing.assert_array_equal(nn.load_weights(path)["a"], np.ones(3))
    with pytest.raises(TypeError, match=r"save_weights\(\): .*\bb\b.*\bbfloat16\b.*\bfloat32\b"):
        nn.save_weights(path, {"a": np.ones(4), "b": np.ones(3, ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(nn.load_weights(path)["a"], np.ones(3))
    with pytest.raises(ValueError, match=r"\.npz\b.*\.safetensors\b"):
        nn.save_weights(tmp_path / "weights.txt", {"a": np.ones(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["weights.npz"]


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_the_range_of_the_layer():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.array([[1e300, -1e300]]), "bias": np.zeros(1)})
    np.testing.assert_array_equal(layer.weight, [[np.inf, -np.inf]])


def npz_of(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def npy_header(text):
    return b"\x93NUMPY\1\0v\0" + text.encode().ljust(117) + b"\n"


DAMAGED = {
    "lying": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }"),
    "lying, but less so": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999,), }"),
    "no number of elements": npy_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {10**30}), }}"),
    "open brackets": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,"),
    "nested": npy_header("{'descr': " + "[" * 90),
    "no header": b"\x93NUMPY\1\0",
    "header of a gigabyte": b"\x93NUMPY\2\0\0\0\0\x3e" + b"{'descr': '<f8'",
    "text": b"text",
    "nothing": b"",
    "too long": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }") + bytes(9),
}


NONSENSE = ("open brackets", "nested")  # Python's parsers raise their own exceptions for these


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_members_of_an_archive(tmp_path, kind):
    """Damage always gives the documented error, and allocates no memory for missing data."""
    path = tmp_path / "weights.npz"
    path.write_bytes(npz_of(x=DAMAGED[kind]))
    tracemalloc.start()
    try:
        words = r"damaged.*\bheader\b" if kind in NONSENSE else r"weights\.npz: damaged"
        with pytest.raises(ValueError, match=words):
            nn.load_weights(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_an_encrypted_archive_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    data = bytearray(npz_of(x=DAMAGED["too long"][:-1]))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="encrypted"):
        nn.load_weights(path)


def test_arrays_of_archives_can_be_written_to(tmp_path):
    """Arrays of any order, compressed or not, empty or 0-d, are writable."""
    arrays = {"a": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.float32(3), "c": np.zeros((0, 4), np.int8)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "weights.npz", **arrays)
        found = nn.load_weights(tmp_path / "weights.npz")
        assert_same(found, arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and found[name].flags.writeable
