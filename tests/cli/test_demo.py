"""The demo, python -m cossim, runs as documented, agrees with torch, and reads the documented image files."""

import gzip
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused, shown
from conftest import ROOT
from oracle import torch
from processes import printed, started
from public_inputs import idx_bytes, npy_bytes

import cossim
from cossim.__main__ import main
from cossim.cli import demo_command, image_files

# scikit-learn and matplotlib are not pinned, and may use functions that their dependencies deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PNG = b"\x89PNG\r\n\x1a\n"


def run(*arguments, cwd, **environment):
    """Runs the demo in a process of its own, with an ASCII-only terminal, and returns what it prints."""
    command = ["-W", "error::RuntimeWarning", "-m", "cossim", *arguments]
    return printed(*command, cwd=cwd, seconds=120, PYTHONIOENCODING="ascii", **environment) + "\n"


def without_times(text):
    return re.sub(r"^Time: .*$", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run without arguments: (folder, output)."""
    pytest.importorskip("sklearn", reason="the demo's images come from scikit-learn")
    pytest.importorskip("matplotlib", reason="the demo draws with matplotlib")
    folder = tmp_path_factory.mktemp("demo")
    return folder, run("demo", cwd=folder)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (40, 28, 28), np.uint8)


@pytest.fixture
def npy(tmp_path, images):
    path = tmp_path / "images.npy"
    np.save(path, images)
    return str(path)


# ---- what it prints ----


def test_numbers_of_the_notebook(demo):
    rows = re.findall(r"^row \d +(\S+) +(\S+) +(\S+) +(\S+)$", demo[1], re.MULTILINE)
    assert rows == [
        ("2.451584", "1.1263523", "0.5679307", "0.2057"),
        ("1.2214428", "2.7709858", "-2.9434323", "-0.8697"),
    ]


def test_all_parts_in_order(demo):
    text = demo[1]
    places = [text.index(f"\n({part}) ") for part in "abcd"]
    assert places == sorted(places)
    assert len(re.findall(r"^Time: .*\d ms", text, re.MULTILINE)) == 5
    assert "images (32, 1, 28, 28)" in text
    assert "z (64, 100)\na = z[None] (1, 64, 100), b = z[:, None] (64, 1, 100)\n" in text
    assert "CosineSimilarity(dim=2)(a, b) (64, 64) =\n" in text
    assert "diagonal exactly 1: True" in text


def test_parts_fit_a_screen(demo):
    for part in re.split(r"\n\([abcd]\) ", demo[1])[1:]:
        assert len(part.splitlines()) <= 34
    assert max(map(len, demo[1].splitlines())) <= 110


def test_a_pair_has_one_score_by_the_formula_and_by_cossim(demo):
    dot, norm_c, norm_d, by_hand = re.search(r"= (\S+) / \((\S+) \* (\S+)\) = (\S+)", demo[1]).groups()
    assert float(dot) / (float(norm_c) * float(norm_d)) == pytest.approx(float(by_hand), abs=6e-5)
    assert f"(c, d) = [{by_hand}]" in demo[1]


def test_loop_is_explained_with_its_numbers(demo):
    text = demo[1][demo[1].index("\n(d) ") :]
    assert re.search(r"`for x in a`.*\bonce\b.*\(64, 100\)", text)
    differences = [float(d) for d in re.findall(r"largest difference: ([\d.e-]+)", text)]
    assert differences[0] > 0.5
    assert 0 <= differences[1] < 1e-6
    line = re.search(r"^  (\S+) \* (\S+) / (\S+) = ([\d.]+), as in", text, re.MULTILINE)
    first, whole, own, corrected = map(float, line.groups())
    assert corrected == 1
    assert first * whole / own == pytest.approx(1, abs=1e-5)


def test_heatmap(demo):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    path = demo[0] / "cossim-demo.png"
    data = path.read_bytes()
    assert data[:8] == PNG
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 800
    assert height >= 500
    assert len(np.unique(matplotlib_image.imread(path).reshape(height * width, -1), axis=0)) > 50
    assert [entry.name for entry in demo[0].iterdir()] == ["cossim-demo.png"]


def test_the_script_version_of_the_notebook():
    """The example runs from the source tree, and needs only NumPy."""
    text = printed("-W", "error", ROOT / "examples/notebook_retold.py")
    for line in ("First Row: 0.2057", "Second Row: -0.8697", "[ 0.2057 -0.8697]", "(64, 64)", "True"):
        assert line in text


# ---- what it computes ----


def timed(name, function, *arguments):
    return function(*arguments)


timed.show = lambda: None


@pytest.fixture
def parts(images, rng, capsys):
    pictures = images[:32, None].astype(np.float32) / 255
    views, z, matrix = demo_command.show_all_pairs(pictures, rng, timed)
    looped = demo_command.show_loop(z, matrix, timed)
    return pictures, views, z, matrix, looped


def test_matrix_is_torchs(parts):
    _, _, z, matrix, _ = parts
    t = torch.from_numpy(z).double()
    expected = torch.nn.CosineSimilarity(dim=2)(t.unsqueeze(0), t.unsqueeze(1)).numpy()
    assert (z.shape, matrix.shape, matrix.dtype) == ((64, 100), (64, 64), np.float32)
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=4e-7)
    np.testing.assert_array_equal(np.diag(matrix), np.ones(64))


def test_loop_divides_by_the_frobenius_norm(parts):
    _, _, z, matrix, looped = parts
    norms = np.linalg.norm(z.astype(np.float64), axis=1)
    np.testing.assert_allclose(looped, matrix * norms / np.sqrt((norms**2).sum()), rtol=1e-5)


def test_loop_with_row_norms_is_the_matrix(parts):
    _, _, z, matrix, _ = parts
    corrected = np.array(demo_command.loop_with_row_norms(z[None], z[:, None]))[:, :, 0]
    np.testing.assert_allclose(corrected, matrix, rtol=0, atol=1e-6)


def test_second_views_differ_but_resemble(parts):
    pictures, views, *_ = parts
    assert (views.shape, views.dtype) == (pictures.shape, pictures.dtype)
    assert views.min() >= 0
    assert views.max() <= 1
    assert (np.abs(views - pictures).reshape(32, -1).max(1) > 0.05).all()


def test_second_view_of_a_bar_is_a_rotated_and_shifted_bar():
    bar = np.zeros((200, 1, 28, 28), np.float32)
    bar[:, :, 4:24, 13:15] = 1
    views = image_files.another_view(bar, np.random.default_rng(0))[:, 0].astype(np.float64)
    rows, columns = np.mgrid[:28, :28] - 13.5
    weights = np.where(views > 0.3, views, 0)
    mass = weights.sum((1, 2))
    centre = (weights * rows).sum((1, 2)) / mass, (weights * columns).sum((1, 2)) / mass
    assert np.abs(centre).max() < 3, "shifts are of up to 2 pixels in each direction, before the rotation"
    assert (np.std(centre, axis=1) > 0.9).all()
    slope = np.array([np.polyfit(rows[w > 0], columns[w > 0], 1, w=w[w > 0])[0] for w in weights])
    angles = np.rad2deg(np.arctan(slope))
    assert 10 < angles.max() < 18
    assert -18 < angles.min() < -10
    np.testing.assert_allclose(mass, 40, rtol=0.15)


def test_resizing_is_torchs_bilinear(rng):
    small = rng.standard_normal((3, 8, 8))
    expected = torch.nn.functional.interpolate(torch.from_numpy(small)[:, None], size=(28, 28), mode="bilinear")
    np.testing.assert_allclose(image_files._resize(small, 28), expected[:, 0].numpy(), rtol=0, atol=1e-12)


def test_digits():
    pytest.importorskip("sklearn")
    digits = image_files.digits()
    assert (digits.shape, digits.dtype) == ((1797, 1, 28, 28), np.float32)
    assert (digits.min(), digits.max()) == (0, 1)


# ---- the command line ----


def test_mnist(mnist_images_path, tmp_path):
    text = run("demo", "--images", mnist_images_path, "--no-plot", cwd=tmp_path)
    assert "images (32, 1, 28, 28)" in text
    assert "diagonal exactly 1: True" in text
    assert list(tmp_path.iterdir()) == []


def test_same_seed_same_text(npy, capsys):
    texts = []
    for seed in ("0", "0", "1"):
        texts.append(without_times(shown(capsys, "demo --images", Path(npy), "--no-plot --seed", seed)))
    assert texts[0] == texts[1] != texts[2]


def test_output_path(npy, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "similarities \N{LATIN SMALL LETTER E WITH ACUTE}"
    assert main(["demo", "--images", npy, "--output", str(path)]) == 0
    assert path.read_bytes()[:8] == PNG


def test_output_path_the_terminal_cannot_print(npy, tmp_path):
    pytest.importorskip("matplotlib")
    output = "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png"
    assert r"caf\xe9.png" in run("demo", "--images", npy, "--output", output, cwd=tmp_path, LC_ALL="C.UTF-8")


@pytest.mark.parametrize("output", ["no/such/folder/x.png", "."])
def test_output_that_cannot_be_written_is_refused_at_once(npy, output, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, "demo --images", Path(npy), "--output", output)
    assert error.startswith(f"cossim: {output}: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "package", "way_out"),
    [("sklearn", "scikit-learn", "--images FILE"), ("matplotlib", "matplotlib", "--no-plot")],
)
def test_missing_extra(module, package, way_out, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, module, None)
    error = refused(capsys, "demo")
    for text in (package, way_out, "'cossim-c[demo]'"):
        assert text in error


def test_neither_extra_is_needed_with_images_and_no_plot(npy, monkeypatch, capsys):
    for module in ("sklearn", "scipy", "matplotlib"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "diagonal exactly 1: True" in shown(capsys, "demo --images", Path(npy), "--no-plot")


def test_info(capsys):
    assert cossim.show_config("dicts")["instruction set"]["in use"] in shown(capsys, "info")


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"cossim {cossim.__version__}\n"


def test_reader_that_leaves_early(npy, tmp_path):
    """`python -m cossim demo | head -1` prints no traceback."""
    with started("-m", "cossim", "demo", "--images", npy, "--no-plot", cwd=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


# ---- image files ----


@pytest.fixture
def read(tmp_path):
    def read(data, name="images"):
        path = tmp_path / name
        path.write_bytes(data)
        return image_files.read_images(path)

    return read


@pytest.mark.parametrize("shape", [(40, 28, 28), (40, 1, 28, 28), (40, 784)])
@pytest.mark.parametrize("write", [idx_bytes, npy_bytes])
@pytest.mark.parametrize("zipped", [False, True])
def test_bytes(read, images, shape, write, zipped):
    data = write(images.reshape(shape))
    found = read(gzip.compress(data) if zipped else data, name="a name without a hint.txt")
    assert (found.shape, found.dtype) == ((40, 1, 28, 28), np.float32)
    np.testing.assert_array_equal(found[:, 0], images.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("dtype", [">f4", "<f4", "<f8", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_npy_of_floats_is_taken_as_it_is(read, rng, dtype, order, version):
    array = np.array(rng.standard_normal((3, 28, 28)).astype(dtype), order=order)
    np.testing.assert_array_equal(read(npy_bytes(array, version=version))[:, 0], array.astype(np.float32))


def test_mnist_file(mnist_images_path):
    found = image_files.read_images(mnist_images_path)
    assert found.shape == (10000, 1, 28, 28)
    raw = gzip.decompress(mnist_images_path.read_bytes())
    np.testing.assert_array_equal((found * 255).round().astype(np.uint8).tobytes(), raw[16:])


@pytest.mark.parametrize("write", [idx_bytes, npy_bytes])
@pytest.mark.parametrize("missing", [1, 1000, 40 * 784])
def test_truncated_images_are_refused(read, images, write, missing, tmp_path):
    data = write(images)[:-missing]
    found = 40 * 784 - missing
    message = re.escape(f"{tmp_path / 'images'}: ") + rf"truncated\b.*\(40, 28, 28\).*\b31360\b.*\b{found}\b"
    for file in (data, gzip.compress(data)):
        with pytest.raises(ValueError, match=message):
            read(file)


@pytest.mark.parametrize("write", [idx_bytes, npy_bytes])
def test_truncated_gzip_files_are_refused(read, images, write, tmp_path):
    data = gzip.compress(write(images))
    name = re.escape(str(tmp_path / "images"))
    with pytest.raises(ValueError, match=name + r": truncated\b.*\b31360\b.*\bfound \d+\b"):
        read(data[: len(data) // 2])


def test_a_malformed_header_is_refused(read, images):
    data = npy_bytes(images).replace(b"}", b"{")
    for file in (data, gzip.compress(data)):
        with pytest.raises(ValueError, match=r"images: .*\bheader\b"):
            read(file)


@pytest.mark.parametrize("write", [idx_bytes, npy_bytes])
def test_files_longer_than_their_header_says_are_refused(read, images, write):
    with pytest.raises(ValueError, match=r"images: .*\blong\b.*\b31360\b"):
        read(write(images) + b"\0")


def test_damaged_gzip_files_are_refused(read, images):
    data = bytearray(gzip.compress(idx_bytes(images)))
    data[-6] ^= 1
    with pytest.raises(ValueError, match="CRC"):
        read(bytes(data))


@pytest.mark.parametrize("length", range(17))
def test_headers_cut_short_are_refused(read, length):
    with pytest.raises(ValueError, match="images: "):
        read(idx_bytes(np.zeros((2, 28, 28), np.uint8))[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "nothing"),
        (idx_bytes(np.zeros((2, 27, 28), np.uint8)), r"\(2, 27, 28\)"),
        (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), rf"\b{(2**32 - 1) ** 3}\b.*\bfound 0\b"),
        (npy_bytes(np.zeros((2, 5))), r"\(2, 5\)"),
        (npy_bytes(np.zeros(())), r"\(\)$"),
        (npy_bytes(np.zeros((1, 784), [("a", "f4")])), r"\breal\b.*\ba\b"),
        (npy_bytes(np.full((1, 784), "text")), r"\breal\b.*<U4"),
        (npy_bytes(np.full((1, 784), 1e300)), r"\b784\b.*\binfinite\b"),
        (b"\x93NUMPY\7\0" + npy_bytes(np.zeros((1, 784)))[8:], "version"),
        (npy_bytes(np.zeros((1, 784))).replace(b"(1, 784)", b"(-1,784)"), r"\(-1, 784\)"),
        (npy_bytes(np.zeros((1, 784))).replace(b"descr", b"descx"), "images: "),
    ],
)
def test_other_contents(read, data, message):
    with pytest.raises(ValueError, match=message):
        read(data)


def test_pickles_are_never_loaded(read):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("the pickle was loaded",)

    array = np.empty((1, 784), object)
    array[:] = Trap()
    with pytest.raises(ValueError, match=r"\breal\b.*\bobject\b"):
        read(npy_bytes(array, allow_pickle=True))


@pytest.mark.parametrize("count", [1, 5])
def test_fewer_images_than_the_demo_takes(count, images, tmp_path, capsys):
    np.save(tmp_path / "few.npy", images[:count])
    text = shown(capsys, "demo --images", tmp_path / "few.npy", "--no-plot")
    assert f"images ({count}, 1, 28, 28)" in text
    assert "diagonal exactly 1: True" in text


@pytest.mark.parametrize(("name", "reason"), [("missing.npy", "No such file or directory"), (".", "Is a directory")])
def test_files_that_cannot_be_opened(name, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ending = "try: cossim demo --help" if name == "missing.npy" else f"then: cossim demo --images {name} --no-plot"
    assert refused(capsys, "demo --images", name, "--no-plot") == f"cossim: {name}: {reason}; {ending}\n"
