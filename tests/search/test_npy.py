"""All functions and commands share one reader of .npy, and they read regular files only."""

import errno
import gzip
import os
import re
import signal
import zipfile

import numpy as np
import pytest
from commands import refused
from conftest import SAFETENSORS, SLOWNESS
from processes import run
from public_inputs import npy_bytes

import cossim
from cossim import _io, nn, simclr
from cossim.__main__ import main
from cossim.cli.image_files import read_images

VERSIONS = [(1, 0), (2, 0), (3, 0)]


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A folder with images.npy, rows.npy and weights.npz, in which the test runs."""
    np.save(tmp_path / "images.npy", rng.random((5, 28, 28), np.float32))
    np.save(tmp_path / "rows.npy", rng.standard_normal((30, 8)).astype(np.float32))
    nn.save_weights(tmp_path / "weights.npz", simclr.Encoder(rng=0).state_dict())
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- one reader ----


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("order", "CF")
def test_every_version_is_read_by_all(folder, version, order, capsys):
    rows, images = (np.asarray(np.load(f"{name}.npy"), order=order) for name in ("rows", "images"))
    (folder / "r.npy").write_bytes(npy_bytes(rows, version=version))
    (folder / "i.npy").write_bytes(npy_bytes(images, version=version))
    (folder / "i.npy.gz").write_bytes(gzip.compress(npy_bytes(images, version=version)))
    with zipfile.ZipFile(folder / "w.npz", "w") as archive:
        for name, array in nn.load_weights("weights.npz").items():
            archive.writestr(f"{name}.npy", npy_bytes(array, version=version))

    np.testing.assert_array_equal(cossim.topk("r.npy", "r.npy", 2), cossim.topk(rows, rows, 2))
    np.testing.assert_array_equal(cossim.Index("r.npy").corpus, rows)
    np.testing.assert_array_equal(read_images("i.npy.gz"), read_images("images.npy"))
    assert set(nn.load_weights("w.npz")) == set(nn.load_weights("weights.npz"))
    for command in (
        "topk r.npy -k 2",
        "topk r.npy r.npy -k 2",
        "pairs r.npy --threshold 0.5",
        "train i.npy --epochs 0 -o t.npz",
        "embed i.npy --weights w.npz -o z.npy",
        "embed i.npy.gz --weights w.npz -o z.npy",
        "demo --images i.npy --no-plot",
    ):
        assert main(command.split()) == 0, (command, capsys.readouterr())
    capsys.readouterr()


@pytest.mark.parametrize("name", ["a", "ä", "一", "\\", "\\ä", "'一\"", "\U0001f600"])
def test_names_of_fields(tmp_path, name):
    """Such names need version 3 of the format."""
    array = np.zeros(3, [(name, "f4")])
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("x.npy", npy_bytes(array, version=(3, 0)))
    assert nn.load_weights(tmp_path / "w.npz")["x"].dtype == array.dtype


def test_damaged_headers_of_version_3(folder):
    whole = npy_bytes(np.zeros((4, 8)), version=(3, 0))
    for data in (whole[:9], whole[:50], whole.replace(b"descr", b"desc\xff"), whole.replace(b"(4, 8)", b"(4, x)")):
        (folder / "bad.npy").write_bytes(data)
        with pytest.raises(ValueError, match=r"^topk\(\): queries\b.*\bbad\.npy\b"):
            cossim.topk("bad.npy", "rows.npy", 1)


def test_truncated_arrays_say_what_is_missing(folder, capsys):
    data = (folder / "rows.npy").read_bytes()
    (folder / "rows.npy").write_bytes(data[:-1])
    words = r"\btruncated\b.*\(30, 8\).*\b960\b.*\b959\b"
    with pytest.raises(ValueError, match=words):
        cossim.topk("rows.npy", None, 1)
    assert re.search(words, refused(capsys, "topk rows.npy -k 1"))


# ---- archives ----


def test_an_archive_without_its_first_bytes(folder):
    """The list of members at the end of such an archive has offsets before the start of the file."""
    data = (folder / "weights.npz").read_bytes()
    for missing in (1, 100, len(data) // 2, len(data) - 200):
        (folder / "cut.npz").write_bytes(data[missing:])
        with pytest.raises(ValueError, match=r"^cut\.npz: .*\bdamaged\b.*\.npz\b"):
            nn.load_weights("cut.npz")
        with pytest.raises(ValueError, match=r"^cut\.npz: .*\bdamaged\b.*\.npz\b"):
            simclr.Encoder().load_state_dict("cut.npz")


def test_errors_of_the_disk_are_not_called_damage(folder, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "infolist", fail)
    with pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error: 'weights\.npz'$"):
        nn.load_weights("weights.npz")


# ---- regular files alone ----

READERS = {
    "load_weights": nn.load_weights,
    "load_state_dict": lambda path: simclr.Encoder().load_state_dict(path),
    "checkpoint": lambda path: simclr.train(np.zeros((2, 1, 28, 28), np.float32), 1, checkpoint=path),
    "topk": lambda path: cossim.topk(path, None, 1),
    "pairs_above": lambda path: cossim.pairs_above(path, 0.5),
    "Index": cossim.Index,
    "Index.load": cossim.Index.load,
    "images": read_images,
}
SUFFIX = {"load_weights": ".npz", "load_state_dict": ".npz", "checkpoint": ".npz"}


@pytest.mark.parametrize("name", READERS)
def test_only_regular_files_are_read(folder, name):
    """The refusal neither waits for a pipe's other end nor reads an endless device."""
    suffixes = [SUFFIX.get(name, ".npy"), *[".safetensors"] * (name in SUFFIX and SAFETENSORS)]
    for suffix in suffixes:
        os.mkfifo(f"pipe{suffix}")
        os.symlink("/dev/zero", f"zero{suffix}")
        os.mkdir(f"folder{suffix}")
        for kind in ("pipe", "zero"):
            # The writer of a checkpoint first finds that the file could not be replaced.
            path = rf"^([\w.]+\(\): \w+: )?'{kind}{suffix}': "
            words = "regular file" if name == "checkpoint" else rf"{path}.*\bregular file\b"
            with pytest.raises(OSError if name == "checkpoint" else ValueError, match=words):
                READERS[name](f"{kind}{suffix}")
        # A folder stands for the rows of its files; this one has no files.
        words = rf"(Is a directory|regular file\b.*): 'folder{suffix}'$|^folder{suffix}: there is no file\b"
        with pytest.raises(OSError, match=words):
            READERS[name](f"folder{suffix}")


def test_a_pipe_in_the_place_of_a_file(folder, monkeypatch):
    """The pipe appears after the check of the path, before the file is opened."""
    os.mkfifo("pipe.npy")
    monkeypatch.setattr(os, "stat", lambda path, stat=os.stat, **options: stat("rows.npy", **options))
    with pytest.raises(ValueError, match=r"^'pipe\.npy': .*\bregular file\b"), _io.open_regular("pipe.npy"):
        pass


def test_a_pipe_in_the_place_of_a_file_to_write(folder, monkeypatch):
    """The pipe appears after the check of the path, and is replaced. Opening it would wait for a reader."""

    def wait_no_longer(number, frame):
        raise AssertionError("it waits for the pipe")

    os.mkfifo("pipe.index")
    index = cossim.Index(np.ones((2, 3)))
    before = signal.signal(signal.SIGALRM, wait_no_longer)
    signal.setitimer(signal.ITIMER_REAL, 5 * SLOWNESS)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", lambda path, stat=os.stat, **options: stat("rows.npy", **options))
            index.save("pipe.index")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(cossim.Index.load("pipe.index")) == 2


@pytest.mark.skipif(not SAFETENSORS or not os.path.exists("/proc/self/maps"), reason="needs safetensors and procfs")
def test_no_more_is_read_than_the_size_of_a_file(folder):
    """Files of procfs report a size of 0, but reading some of them hardly ends: /proc/self/pagemap has 256 GiB."""
    open("empty.safetensors", "wb").close()
    os.symlink("/proc/self/maps", "maps.safetensors")
    messages = []
    for name in ("empty", "maps"):
        with pytest.raises(ValueError, match=r"\bdamaged\b.*\.safetensors\b") as caught:
            nn.load_weights(f"{name}.safetensors")
        messages.append(str(caught.value).removeprefix(name))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("path", ["pipe.npy", "zero.npy"])
@pytest.mark.parametrize(
    "command",
    [
        "topk {} -k 1",
        "topk rows.npy {} -k 1",
        "pairs {} --threshold 0.5",
        "train {} -o t.npz",
        "embed {} --weights weights.npz -o z.npy",
        "embed images.npy --weights {}.npz -o z.npy",
        "demo --images {} --no-plot",
    ],
)
def test_commands_refuse_them(folder, command, path, capsys):
    for suffix in ("", ".npz"):
        os.mkfifo(f"pipe.npy{suffix}")
        os.symlink("/dev/zero", f"zero.npy{suffix}")
    assert re.fullmatch(rf"cossim: '{path}(\.npz)?': .*\bregular file\b.*\n", refused(capsys, command.format(path)))


# ---- outputs that are inputs ----


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("topk in.npy -k 1 -o out.npz", "QUERIES"),
        ("topk rows.npy in.npy -k 1 -o out.csv", "CORPUS"),
        ("pairs in.npy --threshold 0.5 -o out.npz", "CORPUS"),
        ("pairs rows.npy in.npy --threshold 0.5 -o out.csv", "OTHER"),
        ("train in.npy -o out.npz", "IMAGES"),
        ("train in.npy -o w.npz --checkpoint out.npz", "IMAGES"),
        ("train images.npy -o out.npz --checkpoint in.npz", "-o/--output"),
        ("embed in.npy --weights weights.npz -o out.npy", "IMAGES"),
        ("embed images.npy --weights in.npz -o out.npy", "--weights"),
        ("demo --images in.npy --output out.npy", "--images"),
    ],
)
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_output_that_is_an_input_is_refused(folder, command, name, link, capsys):
    """The output is refused under any name of the input, and before anything is read."""
    given = re.search(r"\bin\.\w+", command)[0]
    (folder / given).write_bytes(b"precious")
    link(given, re.search(r"\bout\.\w+", command)[0])
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    option = "--checkpoint" if "--checkpoint" in command else "--output" if "demo" in command else "-o/--output"
    message = capsys.readouterr().err
    assert f"error: argument {option}: {name} names the same file: choose another; " in message
    assert re.search(r"; (try|then): cossim ", message)
    assert (folder / given).read_bytes() == b"precious"


def test_an_embedding_over_its_own_images(folder):
    """The command runs in a process of its own."""
    code, out, err = run("embed", "images.npy", "--weights", "weights.npz", "-o", "./images.npy")
    assert (code, out) == (2, "")
    assert "IMAGES names the same file" in err
    assert np.load("images.npy").shape == (5, 28, 28)
