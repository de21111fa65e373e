"""simclr.train follows torch's steps, uses images and options as documented, and refuses bad input."""

import sys

import numpy as np
import pytest
from nn_cases import TorchEncoder, assert_same, torch_nt_xent
from oracle import torch
from test_training_checkpoint import same

import cossim
from cossim import nn, simclr
from cossim.simclr import training

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def bars(rng):
    """22 images of bars."""
    x = np.zeros((22, 1, 28, 28), np.float32)
    for image in x:
        top, left, height, width = (*rng.integers(2, 14, 2), *rng.integers(3, 12, 2))
        image[0, top : top + height, left : left + width] = rng.uniform(0.5, 1)
    return x


@pytest.fixture
def images(rng):
    return bars(rng)


def another(images, rng):
    """Views made without augment: brighter or darker, with noise."""
    shape = (len(images), 1, 1, 1)
    views = images * rng.uniform(0.7, 1.3, shape) + rng.normal(0, 0.05, images.shape)
    return views.astype(images.dtype)


# ---- what a step does ----


# With steps this small, and with images of bars, rounding does not decide which pixel of a pool is the largest, on any
# instruction set. float32 then stays within 2e-6 of float64. Otherwise it may be 1e-3 away after 50 steps, as in torch.
RATES = {"adam": 3e-4, "sgd": 1e-3}


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_follow_torch(kind, dtype):
    """The same initial weights and batches: 50 steps, losses within 1e-4 in float32 and 1e-9 in float64."""
    seen = []

    def recorded(images, rng):
        seen.append(another(images, rng))
        return seen[-1]

    images = bars(np.random.default_rng(1)).astype(dtype)
    start = simclr.Encoder(dtype=dtype, rng=3)
    options = {"epochs": 50, "batch_size": 20, "temperature": 0.5, "lr": RATES[kind], "optimizer": kind}
    ours = simclr.train(images, encoder=start, head=None, augment=recorded, **options)
    theirs = TorchEncoder().to(torch.float64 if dtype == np.float64 else torch.float32)
    theirs.load_state_dict({key: torch.tensor(array) for key, array in start.state_dict().items()})
    if kind == "adam":
        optimizer = torch.optim.Adam(theirs.parameters(), RATES[kind])
    else:
        optimizer = torch.optim.SGD(theirs.parameters(), RATES[kind], momentum=0.9)
    losses = []
    for views in zip(seen[::2], seen[1::2], strict=True):
        optimizer.zero_grad()
        loss = torch_nt_xent(theirs(torch.tensor(np.concatenate(views))), 0.5)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert ours.losses.shape == (50,)
    np.testing.assert_allclose(ours.losses, losses, rtol=1e-4 if dtype == np.float32 else 1e-9)
    assert np.ptp(losses) > 0.1
    z = ours.encoder(seen[0])
    assert z.dtype == dtype
    expected = theirs(torch.tensor(seen[0])).detach().numpy()
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-4 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize(
    ("n", "batch_size", "size", "steps"), [(22, 5, 5, 4), (22, 22, 22, 1), (7, 99, 7, 1), (2, 2, 2, 1)]
)
def test_batches(n, batch_size, size, steps):
    """An epoch takes each image at most once, in a new order. Both views of a batch are views of the same images."""
    images = np.full((n, 1, 28, 28), 0.5, np.float32)
    images[:, 0, 0, 0] = np.arange(n)
    seen = []

    def recorded(images, rng):
        seen.append((images[:, 0, 0, 0].astype(int).tolist(), rng.random()))
        return another(images, rng)

    simclr.train(images, 3, batch_size, augment=recorded)
    assert len(seen) == 2 * 3 * steps
    epochs = []
    for epoch in range(3):
        batches = seen[2 * steps * epoch : 2 * steps * (epoch + 1)]
        assert [len(batch) for batch, _ in batches] == [size] * 2 * steps
        assert [batch for batch, _ in batches[::2]] == [batch for batch, _ in batches[1::2]]
        epochs.append([image for batch, _ in batches[::2] for image in batch])
        assert len(set(epochs[-1])) == steps * size
    assert n == 2 or len(set(map(tuple, epochs))) == 3
    assert len({number for _, number in seen}) == len(seen)


def test_the_loss_falls(images):
    losses = simclr.train(images, 40, 22).losses
    assert losses.dtype == np.float64
    assert losses[-5:].mean() < losses[0] - 0.3


def test_the_seed_decides_the_training(images):
    options = {"epochs": 2, "batch_size": 10}
    one, again, other = (simclr.train(images, seed=seed, **options) for seed in (5, np.int64(5), 6))
    same(one, again)
    assert (one.losses != other.losses).all()
    np.random.seed(0)  # noqa: NPY002
    same(one, simclr.train(images, seed=5, **options))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit_of_a_training(images, threads):
    with cossim.threads(1):
        one = simclr.train(images, 3, 22)
    with cossim.threads(threads):
        same(one, simclr.train(images, 3, 22))


# ---- images and options ----


def test_layouts_of_images(images, tmp_path):
    images = images[:8]
    expected = simclr.train(images, 2, 4)
    np.save(tmp_path / "x.npy", images)
    wide = np.zeros((8, 1, 28, 56), np.float32)
    wide[..., ::2] = images
    for other in (images[:, 0], wide[..., ::2], images.astype(">f4"), np.load(tmp_path / "x.npy", mmap_mode="r")):
        before = np.array(other)
        same(expected, simclr.train(other, 2, 4))
        np.testing.assert_array_equal(other, before)


def test_no_epochs_return_the_initial_encoder(images):
    found = simclr.train(images, 0, seed=4)
    assert found.losses.shape == (0,)
    assert_same(found.encoder.state_dict(), simclr.Encoder(rng=4).state_dict())


def test_a_given_encoder_is_copied(images):
    start = simclr.Encoder(rng=9)
    before = {key: array.copy() for key, array in start.state_dict().items()}
    first = simclr.train(images, 2, 11, encoder=start)
    same(first, simclr.train(images, 2, 11, encoder=start))
    for key, array in start.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
        assert (first.encoder.state_dict()[key] != array).any()


def test_encoders_of_other_kinds(rng):
    images = rng.random((12, 3, 8, 6))
    layers = (nn.Conv2d(3, 4, 3, dtype=np.float64, rng=0), nn.ReLU(), nn.Flatten())
    net = nn.Sequential(*layers, nn.Linear(96, 5, dtype=np.float64, rng=0))
    found = simclr.train(images, 20, 12, encoder=net, temperature=0.5)
    assert found.encoder(images).shape == (12, 5)
    assert found.losses[-1] < found.losses[0]


def test_the_head_is_trained_and_dropped(images):
    """The loss takes head(encoder(views)). Both change, and the encoder alone is returned."""
    start, head = simclr.Encoder(rng=9), nn.Sequential(nn.Linear(100, 8, rng=1), nn.GELU(), nn.Linear(8, 4, rng=2))
    before, seen = [a.copy() for a in head.state_dict().values()], []

    def recorded(images, rng):
        seen.append(another(images, rng))
        return seen[-1]

    options = {"encoder": start, "augment": recorded, "batch_size": 11, "temperature": 0.5}
    found = simclr.train(images, 1, head=head, optimizer=lambda net: nn.SGD(net, 0.01), **options)
    z = [head(start(views)) for views in seen[:2]]
    np.testing.assert_allclose(found.losses[0], simclr.nt_xent(*z, 0.5), rtol=1e-6)
    assert type(found.encoder) is simclr.Encoder
    assert all((a != start.state_dict()[key]).any() for key, a in found.encoder.state_dict().items())
    assert all((a == b).all() for a, b in zip(head.state_dict().values(), before, strict=True))  # it was copied
    without = simclr.train(images, 1, head=None, **{**options, "augment": another})
    mlp = simclr.train(images, 1, **{**options, "augment": another})
    assert without.losses[0] != mlp.losses[0]


def test_the_head_has_the_dtype_and_size_of_the_embeddings(images):
    seen = []
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 7, rng=0, dtype=np.float64))
    simclr.train(images.astype(float), 0, encoder=encoder, optimizer=lambda net: seen.append(net) or nn.SGD(net, 0.1))
    shapes = {name: (a.shape, a.dtype) for name, a in seen[0].state_dict().items() if name.startswith("head")}
    sizes = {"head.0.weight": (7, 7), "head.0.bias": (7,), "head.2.weight": (7, 7), "head.2.bias": (7,)}
    assert shapes == {name: (size, np.float64) for name, size in sizes.items()}


def test_the_mode_is_training_in_steps_and_evaluation_afterwards(images):
    layers = nn.Conv2d(1, 3, 5, rng=0), nn.BatchNorm2d(3), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    encoder = nn.Sequential(*layers, nn.Dropout(0.2, rng=0)).eval()
    found = simclr.train(images, 3, 11, encoder=encoder)
    assert not found.encoder.training and not found.encoder[5].training
    assert found.encoder[1].num_batches_tracked == 6 and encoder[1].num_batches_tracked == 0
    same(found, simclr.train(images, 3, 11, encoder=encoder))
    one, all_ = found.encoder(images[:1]), found.encoder(images)
    np.testing.assert_allclose(one, all_[:1], rtol=1e-5, atol=1e-6)


def test_the_schedule_sets_the_rate_of_each_step(images):
    rates = []

    class Recorded(nn.SGD):
        def step(self, gradients):
            rates.append(self.lr)
            super().step(gradients)

    options = {"epochs": 20, "batch_size": 11, "optimizer": lambda net: Recorded(net, 1e-3)}
    simclr.train(images, schedule="cosine", **options)
    expected = [1e-5, 1e-5 + 0.99e-3 / 2, *(1e-3 * (1 + np.cos(np.pi * np.arange(38) / 38)) / 2)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    rates.clear()
    simclr.train(images, schedule=lambda optimizer, steps: nn.LinearLR(optimizer, 1.0, 0.0, steps), **options)
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(40) / 40), rtol=1e-12)
    rates.clear()
    simclr.train(images, schedule=None, **options)
    assert set(rates) == {1e-3}


def test_the_callback_sees_each_step_and_may_stop(images):
    calls = []
    whole = simclr.train(images, 3, 11, callback=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(epoch, step) for epoch in (1, 2, 3) for step in (1, 2)]
    assert [call[2] for call in calls] == whole.losses.tolist()
    stopped = simclr.train(images, 3, 11, callback=lambda epoch, step, loss: (epoch, step) == (2, 1))
    np.testing.assert_array_equal(stopped.losses, whole.losses[:3])
    assert not stopped.encoder.training


def test_pixels_of_uint8_train_as_if_divided_by_255(images):
    pixels = (images * 255).astype(np.uint8)
    found = simclr.train(pixels, 2, 11)
    same(found, simclr.train(np.divide(pixels, 255, dtype=np.float32), 2, 11))
    np.testing.assert_array_equal(found.encoder(pixels[:, 0]), found.encoder(np.divide(pixels, 255, dtype=np.float32)))


@pytest.mark.parametrize("shape", [(12, 3, 32, 20), (12, 16, 17), (12, 1, 40, 40)], ids=str)
def test_the_default_encoder_fits_the_images(rng, shape):
    images = rng.random(shape, np.float32)
    found = simclr.train(images, 1, 6)
    assert found.encoder(images).shape == (12, 100)
    height, width = shape[-2:]
    assert found.encoder.size == (height, width)


def test_a_dict_for_augment_replaces_default_options(images, monkeypatch):
    seen = []

    def spy(images, rng, **options):
        seen.append(options)
        return images.copy()

    spy.__kwdefaults__ = {"shift": 2.0, "rotate": 15.0}
    monkeypatch.setattr(training, "augment_images", spy)
    simclr.train(images, 1, 22, augment={"shift": 1})
    assert seen == [{"shift": 1, "rotate": 20.0, "shear": 10.0}] * 2
    monkeypatch.undo()
    plain, moved = simclr.train(images, 1, 22), simclr.train(images, 1, 22, augment={"rotate": 90})
    assert plain.losses != moved.losses
    with pytest.raises(TypeError, match="twist"):
        simclr.train(images, 1, 22, augment={"twist": 1})


def test_optimizers_of_other_kinds(images):
    own = simclr.train(images, 2, 11, optimizer=lambda encoder: nn.SGD(encoder, 2e-3, momentum=0.9))
    same(own, simclr.train(images, 2, 11, optimizer="sgd"))
    plain = simclr.train(images, 2, 11, optimizer=lambda encoder: nn.SGD(encoder, 0.0))
    start = simclr.Encoder(rng=0).state_dict()
    assert all((array == start[key]).all() for key, array in plain.encoder.state_dict().items())


# ---- progress ----


def test_progress_counts_steps(images):
    calls = []
    simclr.train(images, 3, 11, progress=lambda *done: calls.append(done))
    assert calls == [(done, 6) for done in range(7)]


def test_the_bar_shows_the_loss(images, capsys):
    pytest.importorskip("tqdm")
    losses = simclr.train(images, 3, 11, progress=True).losses
    out, err = capsys.readouterr()
    assert out == ""
    last = err.rstrip("\n").split("\r")[-1]
    assert last.startswith("train: 100%")
    assert "6/6" in last
    assert f"loss {losses[-1]:.4f}" in last


def test_progress_needs_tqdm(images, monkeypatch):
    for module in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"train\(\): progress=True"):
        simclr.train(images, 1, progress=True)


# ---- refusals; the messages are in test_messages.py ----

GOOD = np.random.default_rng(0).random((4, 1, 28, 28), dtype=np.float32)


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        (GOOD.astype(np.float16), {}, TypeError, "images.*float16"),
        (GOOD.astype(complex), {}, TypeError, r"train\(\): images\b.*\breal\b.*complex"),
        (np.ma.masked_less(GOOD, 0.5), {}, TypeError, r"train\(\): images\b.*\bmasked\b"),
        (GOOD, {"epochs": 1.5}, TypeError, "epochs.*float"),
        (GOOD, {"epochs": True}, TypeError, "epochs.*bool"),
        (GOOD, {"batch_size": 1}, ValueError, "batch_size.* 2.* 1$"),
        (GOOD, {"batch_size": "many"}, TypeError, "batch_size.*str"),
        (GOOD, {"seed": -1}, ValueError, "seed.* 0.* -1$"),
        (GOOD, {"temperature": 0}, ValueError, "temperature"),
        (GOOD, {"temperature": np.nan, "epochs": 0}, ValueError, r"train\(\): temperature\b.*\bnan$"),
        (GOOD, {"temperature": 10**400}, ValueError, r"train\(\): temperature\b.*\bfloat64\b"),
        (GOOD, {"temperature": "0.1"}, TypeError, r"train\(\): temperature\b.*\bstr$"),
        (GOOD, {"temperature": True}, TypeError, r"train\(\): temperature\b.*\bbool$"),
        (GOOD, {"lr": -1}, ValueError, "lr.* -1"),
        (GOOD, {"augment": lambda x, rng: x.astype(float)}, ValueError, r"augment\b.*\bfloat32\b.*\bfloat64\b"),
        (GOOD, {"progress": "yes"}, TypeError, "progress.*str"),
        (GOOD, {"checkpoint": 3}, TypeError, "int"),
    ],
)
def test_refused(images, options, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        simclr.train(images, **{"epochs": 1, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite(images, tmp_path):
    """Views are NaN from the third step on. The checkpoint holds the first epoch and nothing of the second."""
    calls = []

    def views(images, rng):
        calls.append(1)
        return another(images, rng) if len(calls) <= 4 else np.full_like(images, np.nan)

    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match=r"^train\(\): .*\bloss\b.*\bstep 1 of 2\b.*\bepoch 2\b.*\bnan\b"):
        simclr.train(images, 3, 11, augment=views, checkpoint=path)
    assert len(nn.load_weights(path)["losses"]) == 2
    with pytest.raises(ValueError, match=r"^train\(\): .*\bloss\b.*\bstep\b"):
        simclr.train(images, 50, 11, lr=1e30)
