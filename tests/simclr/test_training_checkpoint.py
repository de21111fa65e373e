"""A training interrupted anywhere resumes from its checkpoint to the same bits; bad checkpoints are refused."""

import json
import os
import re
import signal
import subprocess
import threading
import tracemalloc

import numpy as np
import pytest
from conftest import SAFETENSORS, SUFFIXES
from nn_cases import assert_same
from processes import python, started

import cossim
from cossim import nn, simclr
from cossim.simclr import training

STEPS = 3  # an epoch
OPTIONS = {"epochs": 4, "batch_size": 7, "seed": 2}
TOTAL = STEPS * OPTIONS["epochs"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).random((22, 1, 28, 28), dtype=np.float32)


def changed(options):
    return {**OPTIONS, **options}


class Stop:
    """A progress callable that raises an exception after a number of steps."""

    def __init__(self, at, error=KeyboardInterrupt):
        self.at, self.error = at, error

    def __call__(self, done, total):
        if done == self.at:
            raise self.error


def interrupted(images, path, at, **options):
    with pytest.raises(KeyboardInterrupt):
        simclr.train(images, **changed(options), checkpoint=path, progress=Stop(at))


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    return request.param


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """An uninterrupted training, and the bytes of its checkpoint in both formats."""
    folder, data = tmp_path_factory.mktemp("whole"), {}
    for suffix in (".npz", ".safetensors") if SAFETENSORS else (".npz",):
        found = simclr.train(images, **OPTIONS, checkpoint=folder / f"x{suffix}")
        data[suffix] = (folder / f"x{suffix}").read_bytes()
    return found, data


@pytest.fixture
def complete(whole, tmp_path):
    """The checkpoint of the uninterrupted training."""
    (tmp_path / "x.npz").write_bytes(whole[1][".npz"])
    return tmp_path / "x.npz"


def same(found, expected):
    np.testing.assert_array_equal(found.losses, expected.losses)
    assert_same(found.encoder.state_dict(), expected.encoder.state_dict())


# ---- resuming ----


def test_a_checkpoint_changes_nothing(images, whole):
    same(simclr.train(images, **OPTIONS), whole[0])


@pytest.mark.parametrize(
    "stops", [[1], [STEPS], [STEPS + 1], [2, 5, 6, 10], [TOTAL - 1], [TOTAL], list(range(1, TOTAL))]
)
def test_an_interrupted_training_resumes(images, whole, tmp_path, suffix, stops):
    """Weights, optimizer state, losses and all file bytes are equal, with another number of threads each time."""
    path = tmp_path / f"x{suffix}"
    for number, at in enumerate(stops):
        with cossim.threads(1 + number % 3):
            interrupted(images, path, at)
        assert len(nn.load_weights(path)["losses"]) == at
    with cossim.threads(2):
        found = simclr.train(images, **OPTIONS, checkpoint=path)
    same(found, whole[0])
    assert path.read_bytes() == whole[1][suffix]
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "option",
    [
        {"optimizer": "sgd"},
        {"optimizer": lambda encoder: nn.Adam(encoder, 0.01, weight_decay=0.1)},
        {"encoder": simclr.Encoder(rng=8)},
    ],
)
def test_other_optimizers_and_a_given_encoder_resume_too(images, tmp_path, option):
    interrupted(images, tmp_path / "x.npz", 5, **option)
    found = simclr.train(images, **OPTIONS, **option, checkpoint=tmp_path / "x.npz")
    same(found, simclr.train(images, **OPTIONS, **option))


def test_nothing_is_saved_before_the_first_step(images, tmp_path):
    interrupted(images, tmp_path / "x.npz", 0)
    assert os.listdir(tmp_path) == []


def test_a_finished_training_is_returned(images, whole, complete):
    before = os.stat(complete).st_mtime_ns
    calls = []
    same(simclr.train(images, **OPTIONS, checkpoint=complete, progress=lambda *done: calls.append(done)), whole[0])
    assert calls == []
    assert os.stat(complete).st_mtime_ns == before


def test_a_training_continues_to_more_epochs(images, whole, tmp_path):
    """A training of two epochs, continued to four."""
    path = tmp_path / "x.npz"
    simclr.train(images, **changed({"epochs": 2}), checkpoint=path)
    same(simclr.train(images, **OPTIONS, checkpoint=path), whole[0])
    assert path.read_bytes() == whole[1][".npz"]


def test_schedules_dropout_and_callbacks_resume_too(images, tmp_path):
    """The rate and the dropped elements of a step depend only on its number."""
    layers = nn.Flatten(), nn.Linear(784, 12, rng=0), nn.Dropout(0.3, rng=1)
    options = {**OPTIONS, "schedule": "cosine", "encoder": nn.Sequential(*layers)}
    expected, path = simclr.train(images, **options), tmp_path / "x.npz"
    for stop in ((1, 2), (3, 1), None):
        found = simclr.train(
            images, **options, checkpoint=path, callback=lambda epoch, step, loss, stop=stop: (epoch, step) == stop
        )
    same(found, expected)
    with pytest.raises(ValueError, match="schedule was.*12 steps.*15 steps"):
        simclr.train(images, **{**options, "epochs": 5}, checkpoint=path)


def test_a_checkpoint_holds_weights_losses_and_settings(images, tmp_path):
    path = tmp_path / "x.npz"
    found = simclr.train(images, **OPTIONS, checkpoint=path)
    arrays = nn.load_weights(path)
    np.testing.assert_array_equal(arrays["losses"], found.losses)
    for key, array in found.encoder.state_dict().items():
        np.testing.assert_array_equal(arrays[f"encoder.{key}"], array)
    assert arrays["optimizer.step"] == TOTAL
    settings = json.loads(bytes(arrays["settings"]))
    assert (settings["version"], settings["batch_size"], settings["seed"]) == (2, 7, 2)
    assert {"head.0.weight", "head.2.bias", "optimizer.exp_avg.head.0.weight"} < set(arrays)


def test_saved_after_each_epoch(images, tmp_path, monkeypatch):
    lengths, save = [], training.save_weights

    def spy(path, arrays):
        save(path, arrays)
        lengths.append(len(nn.load_weights(path)["losses"]))

    monkeypatch.setattr(training, "save_weights", spy)
    simclr.train(images, **OPTIONS, checkpoint=tmp_path / "x.npz")
    assert lengths == [3, 6, 9, 12]


# ---- stopped within a step ----


class Interrupted(nn.SGD):
    """Ctrl-C during the fifth step, when only some parameters have been updated."""

    def _update(self, *arrays):
        if self._steps == 4 and arrays[0].shape == (20,):
            self.interrupt()
        super()._update(*arrays)

    @staticmethod
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_waits_for_the_end_of_a_step(images, tmp_path):
    def optimizer(encoder):
        return Interrupted(encoder, 0.01, momentum=0.9)

    def without(encoder):
        return nn.SGD(encoder, 0.01, momentum=0.9)

    path, before = tmp_path / "x.npz", signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            simclr.train(images, **OPTIONS, optimizer=optimizer, checkpoint=path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(nn.load_weights(path)["losses"]) == 5
    found = simclr.train(images, **OPTIONS, optimizer=optimizer, checkpoint=path)
    same(found, simclr.train(images, **OPTIONS, optimizer=without))


def test_an_incomplete_step_is_not_saved(images, tmp_path, monkeypatch):
    """An optimizer that raises KeyboardInterrupt itself ends the step immediately, unlike a signal."""

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(Interrupted, "interrupt", staticmethod(interrupt))
    path = tmp_path / "x.npz"
    with pytest.raises(KeyboardInterrupt):
        simclr.train(images, **OPTIONS, optimizer=lambda encoder: Interrupted(encoder, 0.01), checkpoint=path)
    assert len(nn.load_weights(path)["losses"]) == 3


def test_in_another_thread(images, whole, tmp_path):
    """Signal handlers cannot be set in other threads."""
    found = []
    thread = threading.Thread(
        target=lambda: found.append(simclr.train(images, **OPTIONS, checkpoint=tmp_path / "x.npz"))
    )
    thread.start()
    thread.join()
    same(found[0], whole[0])


TRAINS = """
import os, signal, sys
import numpy as np
from cossim import simclr
signal.signal(signal.SIGINT, signal.default_int_handler)
images = np.random.default_rng(5).random((22, 1, 28, 28), dtype=np.float32)
def train(**options):
    return simclr.train(images, 4, 7, seed=2, checkpoint=sys.argv[1], **options)
"""


def test_killed_while_the_checkpoint_is_written(images, whole, tmp_path):
    """A kill while the second epoch is saved leaves the first one's checkpoint, from which the training resumes."""
    path = tmp_path / "x.npz"
    code = """
fsync, calls = os.fsync, []
def stop(handle):
    calls.append(1)
    if len(calls) == 3:  # after the file and the folder of the first epoch: the file of the second
        print("writing", flush=True)
        sys.stdin.read()  # until the end
    fsync(handle)
os.fsync = stop
train()
"""
    with started("-c", TRAINS + code, path, stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "writing\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert len(nn.load_weights(path)["losses"]) == STEPS
    assert len(os.listdir(tmp_path)) == 2
    same(simclr.train(images, **OPTIONS, checkpoint=path), whole[0])


def test_full_disk(images, whole, tmp_path, suffix):
    """A file size limit stands in for a full disk, after the fourth step."""
    path = tmp_path / f"x{suffix}"
    code = """
import resource
def progress(done, total):
    if done == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    train(progress=progress)
except OSError as error:
    print(error)
"""
    assert python(TRAINS + code, path) == f"[Errno 27] File too large: {os.fspath(path)!r}"
    assert os.listdir(tmp_path) == [path.name]
    assert len(nn.load_weights(path)["losses"]) == STEPS
    same(simclr.train(images, **OPTIONS, checkpoint=path), whole[0])


# ---- refusals ----


def refused(images, path, options=()):
    """Expects a refusal that leaves the checkpoint unchanged, and returns its message."""
    before = path.read_bytes()
    with pytest.raises(ValueError, match=path.name) as caught:
        simclr.train(images, **changed(dict(options)), checkpoint=path)
    assert path.read_bytes() == before
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 8}, r"batch_size\b.*7.*8"),
        ({"temperature": 0.1}, r"temperature\b.*0\.2.*0\.1"),
        ({"seed": 3}, r"encoder\b.*\bhead\b.*\bparameters\b.*\bseed\b.*2.*3"),
        ({"lr": 1e-3}, r"optimizer\b.*Adam\(lr=0\.002, .*Adam\(lr=0\.001, "),
        ({"optimizer": "sgd"}, r"optimizer\b.*Adam\(.*SGD\(lr=0\.002, "),
        ({"encoder": simclr.Encoder(rng=7)}, r"encoder\b.*\bparameters\b"),
        ({"augment": {"shift": 1}}, r"augment\b.*'shift', 3.*'shift', 1"),
        ({"augment": max}, r"augment\b.*\bbuiltins\.max"),
        ({"epochs": 3}, r"\b12 steps\b.*\b9\b"),
        ({"batch_size": 8, "temperature": 0.1}, r"batch_size\b.*7.*8.*temperature\b.*0\.2.*0\.1"),
        ({"head": None}, r"head\b.*\bdifferent parameters\b"),
        ({"schedule": "cosine"}, r"schedule was None\b.*cosine, 12 steps"),
    ],
)
def test_checkpoints_of_other_settings_are_refused(images, complete, options, words):
    assert re.search(rf"\banother training\b.*\b{words}", refused(images, complete, options))


def test_checkpoints_of_other_images_are_refused(images, complete):
    other = images.copy()
    other[-1, 0, -1, -1] = 0.5
    for others in (other, images[:21], images[::-1]):
        assert re.search(r"\banother training\b.*\bimages\b[^;]*$", refused(others, complete))
    assert re.search(r"\bimages\b.*\bencoder\b", refused(images.astype(np.float64), complete))


def test_damaged_checkpoints_are_refused(images, whole, tmp_path, suffix):
    path, data = tmp_path / f"x{suffix}", whole[1][suffix]
    for cut in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert refused(images, path).startswith("damaged")
    for place in range(len(data) // 40, len(data), len(data) // 13):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert "damaged" in refused(images, path)


def test_other_weights_files_are_refused(images, tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    nn.save_weights(path, simclr.Encoder(rng=0).state_dict())
    assert "not a checkpoint" in refused(images, path)
    nn.save_weights(path, {"settings": np.frombuffer(b"[1]", np.uint8), "losses": np.zeros(3), "sha256": np.zeros(32)})
    assert "not a checkpoint" in refused(images, path)


@pytest.mark.parametrize(
    "changed_arrays",
    [
        {"losses": np.array(2.0)},
        {"losses": np.zeros((3, 1))},
        {"losses": np.zeros(3, np.int8)},
        {"losses": np.array(["x"])},
        {"settings": np.frombuffer(b"[]", np.uint8)},
        {"settings": np.frombuffer(b"{}      ", np.float64)},
        {"settings": np.frombuffer(b'"version"', np.uint8)},
        {"encoder.fc.bias": np.array(["x"] * 100)},
        {"encoder.fc.bias": np.zeros(3)},
        {"optimizer.step": np.array(2.0**63)},
        {"optimizer.step": np.array("x")},
    ],
    ids=str,
)
def test_arrays_that_do_not_belong_there(images, complete, changed_arrays):
    """The checksum is right, as another program could write it."""
    arrays = {**nn.load_weights(complete), **changed_arrays}
    arrays.pop("sha256")
    arrays["sha256"] = np.frombuffer(bytes.fromhex(training._digest(arrays)), np.uint8)
    np.savez(complete, **arrays)
    refused(images, complete)


@pytest.mark.parametrize("name", ["settings", "sha256"])
def test_an_integer_is_not_a_number_of_bytes(images, complete, name):
    """bytes(n) would create n bytes."""
    np.savez(complete, **{**nn.load_weights(complete), name: np.array(10**8)})
    tracemalloc.start()
    try:
        assert "not a checkpoint" in refused(images, complete)
        assert tracemalloc.get_traced_memory()[1] < 5e7
    finally:
        tracemalloc.stop()
