"""The example notebooks run from first cell to last and print what is stored in them; their data are as described."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SLOWNESS

import cossim

EXAMPLES = ROOT / "examples"
NEEDS = {  # notebook -> libraries that it imports
    "near_duplicates": {"cossim", "matplotlib", "numpy"},
    "simclr": {"cossim", "matplotlib", "numpy", "sklearn"},
    "simclr_colour": {"cossim", "matplotlib", "numpy", "sklearn"},
}


def execute(source, target, folder, environment):
    """Runs a notebook in its own process, where warnings of Jupyter's packages are not errors; at most two minutes."""
    program = [sys.executable, EXAMPLES / "execute.py", source, target, folder]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120 * SLOWNESS)


def read(name):
    return json.loads((EXAMPLES / f"{name}.ipynb").read_text("utf-8"))


@pytest.fixture(params=NEEDS)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return read(name)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A Jupyter environment without user settings, whose only kernel is this Python with this cossim."""
    for name in ("nbclient", "nbformat", "ipykernel", "matplotlib.font_manager"):  # the last fills its font cache
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("jupyter")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "", "language": "python"}))
    kept = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "PYTHONWARNINGS")}
    folders = ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    paths = [str(Path(cossim.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | dict.fromkeys(folders, str(folder)) | {"PYTHONPATH": os.pathsep.join(paths)}


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell):
    """The text that a cell printed, joined. Jupyter splits it and mixes it with pictures differently each time."""
    return "".join("".join(out["text"]) for out in cell["outputs"] if out["output_type"] == "stream")


def pictures(cell):
    return {n: out["data"]["image/png"] for n, out in enumerate(o for o in cell["outputs"] if "data" in o)}


def test_the_data_are_found_in_the_root_too(environment):
    first = "".join(code(read("near_duplicates"))[0]["source"])
    run = subprocess.run([sys.executable, "-c", first], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == printed(code(read("near_duplicates"))[0]), run.stderr


@pytest.mark.parametrize("name", NEEDS)
def test_it_runs_and_prints_what_is_stored(name, environment, tmp_path):
    """The cells assert the claims of the text, so running the notebook is the test."""
    if "sklearn" in NEEDS[name]:
        pytest.importorskip("sklearn")
    notebook, target = read(name), tmp_path / "executed.ipynb"
    run = execute(EXAMPLES / f"{name}.ipynb", target, EXAMPLES, environment)
    assert run.returncode == 0, run.stderr
    executed = code(json.loads(target.read_text("utf-8")))
    assert len(executed) == len(code(notebook))
    for new, stored in zip(executed, code(notebook), strict=True):
        assert all(out.get("name") != "stderr" for out in new["outputs"]), printed(new)
        assert pictures(new).keys() == pictures(stored).keys()
        if "varies" not in stored["metadata"].get("tags", ()):  # varies with NumPy or the processor
            assert printed(new) == printed(stored)


def test_a_broken_cell_is_noticed(environment, tmp_path):
    """A failing assert in a cell must make the test above fail."""
    notebook, broken = read("near_duplicates"), tmp_path / "broken.ipynb"
    cell = code(notebook)[0] | {"source": "assert 1 + 1 == 3"}
    broken.write_text(json.dumps(notebook | {"cells": [cell]}))
    run = execute(broken, tmp_path / "executed.ipynb", tmp_path, environment)
    assert run.returncode != 0
    assert "AssertionError" in run.stderr


def test_claims_about_training_fail_without_training(environment, tmp_path):
    """Each simclr cell with a claim about the trained encoder fails if it gets the untrained one."""
    pytest.importorskip("sklearn")
    notebook, source, target = read("simclr"), tmp_path / "untrained.ipynb", tmp_path / "executed.ipynb"
    claims = ["held_out_loss(trained)", 'means["trained"]', 'shares["trained"]', "after[0] - after[3]"]
    for cell in code(notebook):
        cell["metadata"]["tags"] = ["raises-exception"]  # lets the next cell run
        if '"epochs": 30,' in (text := "".join(cell["source"])):
            cell["source"] = text.replace('"epochs": 30,', '"epochs": 1,') + "\ntrained = untrained"
            changed = cell
    assert changed["source"].endswith("trained = untrained")
    source.write_text(json.dumps(notebook))
    run = execute(source, target, EXAMPLES, environment)
    assert run.returncode == 0, run.stderr
    failed = {}
    for cell in code(json.loads(target.read_text("utf-8"))):
        failed |= {"".join(cell["source"]): out["ename"] for out in cell["outputs"] if out["output_type"] == "error"}
    assert list(failed.values()) == ["AssertionError"] * len(claims)
    assert all(claim in text for claim, text in zip(claims, failed, strict=True))


def test_stored_notebooks_ran_in_order_without_errors(notebook):
    """A stored notebook ran in order from a fresh start, without errors. It has small pictures and no local paths."""
    cells = code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [out for cell in cells for out in cell["outputs"]]
    assert all(out["output_type"] != "error" for out in outputs)
    sizes = [len(picture) for cell in cells for picture in pictures(cell).values()]
    assert len(sizes) >= 3
    assert sum(sizes) < 350_000
    assert all("execution" not in cell["metadata"] for cell in cells)
    text = "".join("".join(cell["source"]) for cell in notebook["cells"]) + "".join(map(printed, cells))
    assert not re.findall(r"(?<![\w.])/(?:home|root|work|Users|tmp)/\w+", text)


def test_it_needs_no_more_than_its_text_says(name, notebook):
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code(notebook)))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in modules}
    assert roots - sys.stdlib_module_names == NEEDS[name]
    said = re.search("All that is needed is (.*)", "".join(notebook["cells"][0]["source"]))[1]
    assert all(module.replace("sklearn", "scikit-learn") in said for module in NEEDS[name] - {"numpy"})


def test_its_links(notebook):
    prose = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", prose) if not link.startswith("https:")]
    readme = EXAMPLES / "data" / "README.md"
    assert links
    for folder, link in [(EXAMPLES, link) for link in links] + [
        (readme.parent, link) for link in re.findall(r"\]\(([^)#]+)\)", readme.read_text("utf-8"))
    ]:
        assert (folder / link).exists(), link


# ---- its data ----


@pytest.fixture(scope="module")
def docstrings():
    with np.load(EXAMPLES / "data" / "docstrings.npz") as file:
        return dict(file)


def test_the_data(docstrings):
    assert (EXAMPLES / "data" / "docstrings.npz").stat().st_size < 2_500_000
    assert set(docstrings) == {"embeddings", "module", "name", "text", "source", "licence"}
    embeddings, text = docstrings["embeddings"], docstrings["text"]
    assert embeddings.shape == (2820, 384)
    assert embeddings.dtype == np.float16
    for name in ("module", "name", "text"):
        assert docstrings[name].shape == (2820,)
        assert docstrings[name].dtype.kind == "U"
    np.testing.assert_allclose(cossim.vector_norm(embeddings.astype(np.float32), 1), 1, atol=1e-4)
    lengths = np.char.str_len(text)
    assert lengths.min() >= 20 and lengths.max() <= 300
    assert all(one == " ".join(one.split()) for one in text)
    assert "3.11" in str(docstrings["source"])
    assert "PSF License" in str(docstrings["licence"]) and "Apache" in str(docstrings["licence"])


def test_the_data_have_exact_duplicates(docstrings):
    """Equal texts have equal rows, and at most a few more rows are duplicates."""
    embeddings, text = docstrings["embeddings"], docstrings["text"]
    first = {}
    for i, one in enumerate(text):
        np.testing.assert_array_equal(embeddings[first.setdefault(one, i)], embeddings[i])
    copies = len(text) - len(first)
    assert copies > 100
    assert copies <= len(text) - len(np.unique(embeddings, axis=0)) <= copies + 10


def test_search_finds_the_duplicates(docstrings):
    """The pairs that score exactly 1 are the equal rows, and their groups are the sets of equal rows."""
    embeddings = docstrings["embeddings"]
    _, inverse = np.unique(embeddings, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    pairs = cossim.pairs_above(embeddings, 1)
    i, j = np.nonzero(np.triu(inverse[:, None] == inverse, 1))
    np.testing.assert_array_equal(pairs.i, i)
    np.testing.assert_array_equal(pairs.j, j)
    lowest = np.full(len(embeddings), len(embeddings))
    np.minimum.at(lowest, inverse, np.arange(len(embeddings)))
    np.testing.assert_array_equal(cossim.duplicate_groups(embeddings, 1), lowest[inverse])


# ---- larger embeddings, if a developer has them ----


def test_pairs_above_on_real_embeddings(sentence_embeddings):
    scores = cossim.pairwise(sentence_embeddings)
    i, j = np.argwhere(np.triu(scores >= np.float32(0.9), 1)).T
    pairs = cossim.pairs_above(sentence_embeddings, 0.9)
    assert len(i) > 1000
    np.testing.assert_array_equal(pairs.i, i)
    np.testing.assert_array_equal(pairs.j, j)
    np.testing.assert_array_equal(pairs.values, scores[i, j])


def test_topk_on_real_embeddings(sentence_embeddings):
    """Many scores are exactly 1 here, so the tie rule decides."""
    scores = cossim.pairwise(sentence_embeddings)
    np.fill_diagonal(scores, -np.inf)
    best = cossim.topk(sentence_embeddings, None, 5)
    assert (best.values[:, 1] == 1).sum() > 100
    order = np.argsort(-scores[:500], axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(best.indices[:500], order)
    rows = np.arange(len(scores))
    for column in range(5):  # removing the first maximum five times gives the first five of a stable sort
        first = scores.argmax(1)
        np.testing.assert_array_equal(best.indices[:, column], first)
        np.testing.assert_array_equal(best.values[:, column], scores[rows, first])
        scores[rows, first] = -np.inf
