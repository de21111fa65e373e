"""cossim train and cossim embed write the right files, refuse bad input, and stop cleanly."""

import gzip
import inspect
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import SLOWNESS, SUFFIXES
from nn_cases import assert_same
from processes import process, run
from public_inputs import idx_bytes
from test_progress import on_a_terminal

import cossim
from cossim import nn, simclr
from cossim.__main__ import main
from cossim.cli import training_commands
from cossim.cli.image_files import read_images

TRAIN = ["train", "images.npy", "--epochs", "2", "--batch-size", "8"]
EMBED = ["embed", "images.npy", "--weights", "old.npz"]
OPTIONS = {"epochs": 2, "batch_size": 8}
INPUTS = ["images.npy", "old.npz"]


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A folder with 20 images and with weights, in which the test runs."""
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (20, 28, 28), np.uint8))
    nn.save_weights(tmp_path / "old.npz", simclr.Encoder(rng=3).state_dict())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(os.listdir(folder))


def same_weights(path, encoder):
    assert_same(dict(sorted(nn.load_weights(path).items())), dict(sorted(encoder.state_dict().items())))


# ---- what they write ----


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".NPZ"])
def test_train(folder, suffix, capsys):
    assert main([*TRAIN, "-o", f"weights{suffix}"]) == 0
    assert capsys.readouterr() == ("", "")
    os.rename(f"weights{suffix}", f"weights{suffix.lower()}")
    same_weights(f"weights{suffix.lower()}", simclr.train(read_images("images.npy"), **OPTIONS).encoder)
    assert names(folder) == sorted([*INPUTS, f"weights{suffix.lower()}"])


def test_options_reach_train(folder, monkeypatch):
    seen = []

    def spy(images, **options):
        seen.append({"threads": cossim.get_num_threads(), **options})
        return simclr.Training(simclr.Encoder(rng=0), np.zeros(0))

    monkeypatch.setattr(simclr, "train", spy)
    before = cossim.get_num_threads()
    assert main(["train", "images.npy", "-o", "weights.npz"]) == 0
    text = "--epochs 7 --batch-size 9 --temperature 0.25 --seed 11 --lr 1e-3 --checkpoint c.npz --threads 3"
    assert main(["train", "images.npy", "-o", "weights.npz", *text.split()]) == 0
    defaults = {"epochs": 60, "batch_size": 128, "temperature": 0.2, "seed": 0, "lr": 2e-3, "checkpoint": None}
    given = {"epochs": 7, "batch_size": 9, "temperature": 0.25, "seed": 11, "lr": 1e-3, "checkpoint": "c.npz"}
    assert seen == [{"threads": before, "progress": False, **defaults}, {"threads": 3, "progress": False, **given}]
    assert cossim.get_num_threads() == before
    monkeypatch.undo()
    signature = inspect.signature(simclr.train).parameters
    assert {name: signature[name].default for name in defaults} == defaults


def test_embed(folder, capsys, monkeypatch):
    monkeypatch.setattr(training_commands, "BATCH", 7)
    assert main([*EMBED, "-o", "z.npy"]) == 0
    assert capsys.readouterr() == ("", "")
    z = np.load("z.npy")
    encoder = simclr.Encoder(rng=3)
    np.testing.assert_allclose(z, encoder(read_images("images.npy")), rtol=1e-5, atol=1e-6)  # other batches
    assert z.dtype == np.float32
    assert z.any()
    assert names(folder) == sorted([*INPUTS, "z.npy"])
    assert main(["topk", "z.npy", "-k", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == 21


def test_embed_takes_any_file_of_images(folder):
    images = np.load("images.npy")
    (folder / "images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    np.save("rows.npy", images.reshape(20, 784) / 255)
    np.save("none.npy", images[:0])
    for name in ("images.npy", "images-idx3-ubyte", "images-idx3-ubyte.gz", "rows.npy"):
        assert main(["embed", name, "--weights", "old.npz", "-o", "z.npy"]) == 0
        np.testing.assert_array_equal(np.load("z.npy"), simclr.Encoder(rng=3)(read_images("images.npy")))
    assert main(["embed", "none.npy", "--weights", "old.npz", "-o", "z.npy"]) == 0
    assert np.load("z.npy").shape == (0, 100)


def test_embed_takes_weights_of_torch(folder):
    safetensors = pytest.importorskip("safetensors.torch")
    from oracle import torch

    state = {key: torch.tensor(array) for key, array in simclr.Encoder(rng=5).state_dict().items()}
    safetensors.save_file(state, "torch.safetensors")
    assert main(["embed", "images.npy", "--weights", "torch.safetensors", "-o", "z.npy"]) == 0
    np.testing.assert_array_equal(np.load("z.npy"), simclr.Encoder(rng=5)(read_images("images.npy")))


def test_commands_run_as_programs(folder):
    assert run(*TRAIN, "-o", "weights.npz") == (0, "", "")
    same_weights("weights.npz", simclr.train(read_images("images.npy"), **OPTIONS).encoder)
    assert run("embed", "images.npy", "--weights", "weights.npz", "-o", "z.npy") == (0, "", "")
    assert np.load("z.npy").shape == (20, 100)


# ---- bars ----

SEEN = {"train": ([*TRAIN, "-o", "w.npz"], "train: 100%"), "embed": ([*EMBED, "-o", "z.npy"], "embed: 100%")}


@pytest.mark.parametrize("name", SEEN)
def test_a_terminal_shows_a_bar(folder, name):
    pytest.importorskip("tqdm")
    arguments, bar = SEEN[name]
    code, out, shown = on_a_terminal(*arguments)
    assert (code, out) == (0, "")
    assert bar in shown
    assert ("loss" in shown) == (name == "train")
    assert shown.endswith("\r\n")
    assert on_a_terminal(*arguments, "--quiet") == (0, "", "")
    assert on_a_terminal(*arguments, prepare="sys.modules['tqdm'] = None") == (0, "", "")


# ---- what they refuse ----


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train no.npy -o w.npz", "no.npy: No such file or directory"),
        ("train . -o w.npz", ".: Is a directory"),
        ("train old.npz -o w.npz", "old.npz: .* 50 4b 03 04"),
        ("train images.npy -o w.npz --epochs -1", r"train\(\): epochs\b.* -1"),
        ("train images.npy -o w.npz --batch-size 1", r"train\(\): batch_size\b.* 1"),
        ("train images.npy -o w.npz --seed -1", r"train\(\): seed\b.* -1"),
        ("train images.npy -o w.npz --lr nan", r"Adam\(\): lr\b.* nan"),
        ("train images.npy -o w.npz --epochs 9 --lr 1e30", r"train\(\): .*\bloss\b.*\bstep\b"),
        ("train images.npy -o w.npz --temperature 0", "temperature"),
        ("train images.npy -o no/w.npz", "no/w.npz: .*folder does not exist"),
        ("train images.npy -o w.npz --checkpoint no/c.npz", "no/c.npz: .*folder does not exist"),
        ("train images.npy -o w.npz --checkpoint old.npz", r"old\.npz: .*\bcheckpoint\b"),
        ("embed no.npy --weights old.npz -o z.npy", "no.npy: No such file or directory"),
        ("embed images.npy --weights no.npz -o z.npy", "no.npz: No such file or directory"),
        ("embed images.npy --weights images.npz -o z.npy", r"images\.npz: damaged\b"),
        ("embed images.npy --weights other.npz -o z.npy", r"other\.npz\b.*\bEncoder\b.*\bconv1\.weight\b"),
        ("embed images.npy --weights v2.npz -o z.npy", r"v2\.npz: load_state_dict\(\): conv1\.weight\b.*\breal\b"),
        ("embed images.npy --weights old.npz -o no/z.npy", "no/z.npy: .*folder does not exist"),
        ("embed old.npz --weights old.npz -o z.npy", r"old\.npz: .*\bidx\b.*\.npy\b"),
    ],
)
def test_failures(folder, command, message, capsys):
    (folder / "images.npz").write_text("nothing of use")
    nn.save_weights(folder / "other.npz", {"weight": np.ones(3)})
    np.savez(folder / "v2.npz", **{"conv1.weight": np.ones(3, "V2")})  # np.savez stores bfloat16 like this
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(command.split()) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(f"cossim: .*{message}.*\n", printed.err), printed.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_paths_are_tried_before_the_training(folder, monkeypatch, capsys):
    monkeypatch.setattr(simclr, "train", lambda *_, **__: pytest.fail("it trained"))
    monkeypatch.setattr(simclr.Encoder, "forward", lambda *_: pytest.fail("it embedded"))
    os.mkdir("folder.npz"), os.mkdir("folder.npy")
    for command in ("train images.npy -o folder.npz", f"{' '.join(EMBED)} -o folder.npy"):
        assert main(command.split()) == 1
        assert f"cossim: {command.split()[-1]}: " in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for option in ("-o w.safetensors", "-o w.npz --checkpoint c.safetensors"):
        assert main(["train", "images.npy", *option.split()]) == 1
        assert "'cossim-c[weights]'" in capsys.readouterr().err
    assert names(folder) == sorted([*INPUTS, "folder.npz", "folder.npy"])


# ---- stopped ----

# Makes a training pause after three of its four steps.
STANDS = """
from cossim.simclr import training
two_views, calls = training._two_views, []
def stand(*arguments):
    two_views(*arguments)
    calls.append(1)
    if len(calls) == 4:
        print("three", flush=True)
        sys.stdin.read()  # until the end
training._two_views = stand
"""


@pytest.mark.parametrize(
    ("number", "code", "steps"),
    [(signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 3), (signal.SIGHUP, 129, 3), (signal.SIGKILL, -signal.SIGKILL, 2)],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_stopped_training_resumes(folder, number, code, steps):
    arguments = [*TRAIN, "-o", "weights.npz", "--checkpoint", "c.npz"]
    with process(*arguments, prepare=STANDS, stdin=subprocess.PIPE) as child:
        assert child.stdout.readline() == "three\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=60 * SLOWNESS)
    assert (child.returncode, out, err) == (code, "", "")
    assert names(folder) == sorted([*INPUTS, "c.npz"])
    assert len(nn.load_weights("c.npz")["losses"]) == steps
    assert run(*arguments) == (0, "", "")
    same_weights("weights.npz", simclr.train(read_images("images.npy"), **OPTIONS).encoder)


@pytest.mark.parametrize(
    ("arguments", "full"),
    [
        ([*TRAIN, "-o", "old.npz"], r"old\.npz: .*: File too large"),
        ([*TRAIN, "-o", "weights.npz", "--checkpoint", "c.npz"], r"c\.npz: File too large"),
        ([*EMBED, "-o", "z.npy"], r"z\.npy: .*: File too large"),
    ],
)
def test_full_disk(folder, arguments, full):
    """A file size limit stands in for a full disk."""
    np.save("z.npy", np.zeros(3))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    code, out, err = run(*arguments, prepare=limit)
    assert (code, out) == (1, "") and re.fullmatch(f"cossim: {full}; then: cossim .*\n", err), err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
