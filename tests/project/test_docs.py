"""The documentation is correct: examples run, tables of calls hold, and links lead somewhere."""

import functools
import importlib.util
import re

import documentation
import numpy as np
import pytest
import reliability_report
from conftest import ROOT
from documentation import PAGES, Section, anchors, links, run, run_row, sections

import cossim
import cossim.nn
import cossim.simclr

TITLES = [(path, section.title) for path in PAGES for section in sections(path.read_text())]
SITE = [path for path in PAGES if path.parent == ROOT / "docs"]
WITH_EXAMPLES = "README command-line files index plots recipes search semantics training"
ROWS = {
    "from-faiss": 13,
    "from-numkong": 25,
    "from-scikit-learn": 24,
    "from-scipy": 19,
    "from-sentence-transformers": 8,
    "from-sparse-dot-topn": 5,
    "from-torch": 26,
}


@functools.cache
def ran(path):
    return {section.title: section for section in run(path)}


@pytest.mark.parametrize(("path", "title"), TITLES, ids=[f"{path.stem}-{title}" for path, title in TITLES])
def test_examples_of_each_section_are_right(path, title):
    section = ran(path)[title]
    assert not section.failures, "\n".join(section.failures)
    if section.missing:
        pytest.skip(f"needs {section.missing}")


def test_the_pages_with_examples():
    """A page that loses its examples, for example because a code block has another marker, fails."""
    shown = {path.stem for path in PAGES if any(part.examples or part.missing for part in ran(path).values())}
    assert shown == {*WITH_EXAMPLES.split(), *ROWS}
    assert sum(part.commands for part in ran(ROOT / "docs/command-line.md").values()) == 16
    for path in PAGES:
        parts = ran(path).values()
        assert sum(part.rows for part in parts) >= ROWS.get(path.stem, 0) or any(part.missing for part in parts)
        text = path.read_text()
        fenced = sum(block.count(">>> ") for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S))
        assert fenced == text.count(">>> "), path


def test_headings_follow_an_empty_line():
    for path in (*PAGES, ROOT / "benchmarks/SPEED.md"):
        assert not re.findall(r"^.+\n## .*", path.read_text(), re.M), path


def test_recipes_have_at_most_six_lines():
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/recipes.md").read_text(), re.M | re.S)
    assert len(blocks) > 20
    for block in blocks:
        assert sum(line.startswith((">>> ", "... ")) for line in block.splitlines()) <= 6, block


def test_the_costs_of_smaller_embeddings():
    """The table of recipes: errors of cosines and shares of the 10 nearest rows, of embeddings in smaller types."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.load(ROOT / "examples/data/docstrings.npz") as file:
        x = np.unique(file["embeddings"], axis=0).astype(np.float32)
    x *= np.random.default_rng(0).uniform(0.5, 2, (len(x), 1)).astype(np.float32)
    int8 = np.rint(x * (127 / np.abs(x).max(axis=1, keepdims=True))).astype(np.int8)
    bits = np.packbits(x > 0, axis=1)
    scores, nearest = cossim.pairwise(x.astype(np.float64)), cossim.topk(x.astype(np.float64), None, 10).indices

    def found(indices):
        return 100 * np.mean([np.isin(mine, right) for mine, right in zip(indices, nearest, strict=True)])

    def cost(rows, wide, binary=False):
        off = np.abs(cossim.pairwise(wide, binary=binary) - scores).max()
        return [rows[0].nbytes, off, found(cossim.topk(rows, None, 10, binary=binary).indices)]

    some = cossim.topk(bits, None, 50, binary=True).indices
    again = [near[cossim.topk(row, x[near], 10).indices] for row, near in zip(x, some, strict=True)]
    costs = [
        cost(rows, rows.astype(np.float64)) for rows in map(x.astype, (np.float32, np.float16, ml_dtypes.bfloat16))
    ]
    costs += [cost(int8, int8), [*cost(bits, bits, binary=True), found(again)]]
    text = (ROOT / "docs/recipes.md").read_text()
    table = re.findall(r"^\|.*\|$", text[text.index("| rows | bytes a row |") :], re.M)[2:]
    for line, (size, off, *shares) in zip(table, costs, strict=True):
        _, bytes_, error, words = line.strip("| ").split(" | ")
        assert size == int(bytes_) and off == pytest.approx(float(error), rel=0.07)
        assert shares == pytest.approx([float(share) for share in re.findall(r"([\d.]+) %", words)], abs=0.4), line


@pytest.mark.parametrize("rival", ["torch", "scikit-learn", "scipy"])
def test_calls_agree_in_float64(rival):
    """The bounds are 1e-14, and 1e-13 for sums that are not divided by norms."""
    path = ROOT / f"docs/from-{rival}.md"
    text = path.read_text()
    text = text[: text.rindex("\n## What differs")].replace("np.float32", "np.float64")
    text, cosines = re.subn(r"(?<=\| )([245]e-7|1e-6)(?= \|)", "1e-14", text)
    text, sums = re.subn(r"(?<=\| )(2e-6|4e-6|2e-5)(?= \|)", "1e-13", text)
    parts = run(path, text)
    if missing := {part.missing for part in parts if part.missing}:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    exact = len(re.findall(r"(?<=\| )0(?= \|)", text))
    assert cosines + sums + exact == sum(part.rows for part in parts) > 10
    assert not [failure for part in parts for failure in part.failures if failure.startswith("|")]


# ---- the tool itself ----


def ran_text(text):
    return run(ROOT / "docs/index.md", text)


def test_wrong_examples_are_found():
    table = "| a | cossim | agree within |\n| --- | --- | --- |\n| `{}` | `{}` | 1e-7 |\n"
    for calls in (("1.0", "1.1"), ("1.0", "float('nan')"), ("[1.0]", "1.0"), ("(1, 2)", "(1, 3)"), ("1", "1 / 0")):
        (section,) = ran_text(f"# Page\n\n{table.format(*calls)}")
        assert section.rows == len(section.failures) == 1, calls
    assert not ran_text(f"# Page\n\n{table.format('(1, [2.0])', '(1, [2.00000001])')}")[0].failures
    for cells, right in (
        (["", "`1 / 0`", "`ZeroDivisionError`", "`0.0`", "`0.0`"], True),
        (["", "`1 / 0`", "`ValueError`", "`0.0`", "`0.0`"], False),
        (["", "`1`", "`ValueError`", "`0.0`", "`0.0`"], False),
        (["", "`1.0000001`", "`1.0`", "`[nan]`", "`[nan]`"], False),
        (["", "`1.0`", "`1.0`", "`[np.nan, 1.0]`", "`[nan, 1.0]`"], True),
    ):
        assert (not run_row(documentation.GIVES, cells, {"np": np})) == right, cells
    wrong = "# Page\n\n```python\n>>> 1 + 1\n3\n\n```\n\n```\n$ cossim pairs none.npy --threshold 1\n```\n"
    (section,) = ran_text(wrong)
    assert (section.examples, section.commands, len(section.failures)) == (1, 1, 2)


def test_sections_that_need_a_missing_library_are_left_out_visibly():
    text = "# Page\n\n{}\n## Other\n\n```python\n>>> 1 + 1\n2\n\n```\n\n## Third\n\n{}"
    block = "```python\n>>> import no_such_library.part as part\n>>> part.f()\n\n```\n"
    assert [part.missing for part in ran_text(text.format("", block))] == ["", "", "no_such_library"]
    assert [part.missing for part in ran_text(text.format(block, ""))] == ["no_such_library"] * 3
    assert ran_text(text.format("", block))[1].examples == 1
    assert sections("# A\n\n```\n## no heading\n```\n")[0] == Section("A", "# A\n\n```\n## no heading\n```\n")


# ---- links, and required contents ----


@pytest.mark.parametrize("path", [*PAGES, ROOT / "benchmarks/SPEED.md", ROOT / "examples/data/README.md"], ids=str)
def test_links_of_pages_have_targets(path):
    for link, anchor in links(path.read_text()):
        target = path.parent / link if link else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), (link, anchor)


def loaded(name):
    specification = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_broken_screenshots_are_found():
    faults = loaded("check_browser").faults
    text = np.where(np.arange(390) % 9 < 3, 30, 250) * np.ones((1000, 1), int)
    text[:, -16:] = 250
    assert faults(text, 390, True) == faults(280 - text, 390, False) == []
    assert faults(text, 1300, True) == ["390 pixels wide, not 1300"]
    assert faults(text, 390, False) == ["the background has the grey 250"]
    assert faults(np.full((1000, 390), 250), 390, True) == [f"part {number} of 4 is blank" for number in (1, 2, 3, 4)]
    assert faults(np.where(np.arange(1000)[:, None] < 500, text, 250), 390, True)[-1] == "part 4 of 4 is blank"
    assert faults(np.roll(text, 18, axis=1), 390, True) == ["text at the right edge is cut off"]


def test_broken_pages_are_found_in_a_browser(tmp_path):
    check_browser = loaded("check_browser")
    if (browser := check_browser.installed()) is None:
        pytest.skip("needs Chromium")
    dark = "<style>[data-theme=dark] body { background: #222; color: #ddd } [data-theme=dark] p { color: #444 }</style>"
    pages = {
        "good.html": f"{dark}<h1>Title</h1><math><mi>x</mi></math><div class=highlight><button class=copybtn></div>",
        "faint.html": f"{dark}<p>one word",
        "grey.html": "<body style='background: #999; color: #777'>other words",
        "wide.html": "<div style='width: 900px'>wide</div>",
        "broken.html": "<img src=none.png><div class=highlight>no button</div>",
        "semantics.html": "no formula",
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(f"<!doctype html>{text}")
    with check_browser.served(tmp_path) as address:
        wrong = check_browser.measured(browser, address, tmp_path, [*pages, "none.html"])
    assert [line.split(": ", 1)[0] for line in wrong if "good.html" in line] == []
    for expected in (
        "faint.html: contrast 1.6 in dark colours: 'one word'",
        "grey.html: contrast 1.6 in light colours: 'other words'",
        "wide.html: 908 pixels wide",
        "broken.html: no image none.png",
        "broken.html: 1 blocks have 0 copy buttons",
        "semantics.html: a formula is not shown",
    ):
        assert expected in wrong, wrong


def test_the_links_of_a_site_are_checked(tmp_path):
    check_links = loaded("check_links")
    (tmp_path / "a.css").touch()
    texts = {
        "one.html": '<a href="two.html#here">1</a><link href="a.css?v=1"><a href="#">2</a><a href="https://x.example/">3</a>',
        "two.html": '<h1 id="here"></h1><a href="one.html#there">1</a><img src="none.png"><a href="../two.html">2</a>',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    pages = {tmp_path / name: check_links.Page(text) for name, text in texts.items()}
    count, broken = check_links.internal(tmp_path, pages)
    assert count == 6
    assert [line.split(": ")[1:] for line in broken] == [
        ["../two.html", "no such file"],
        ["none.png", "no such file"],
        ["one.html#there", "no such anchor"],
    ]


@pytest.mark.parametrize(("page", "module"), [("api", cossim), ("api-nn", cossim.nn), ("api-simclr", cossim.simclr)])
def test_the_reference_lists_every_name(page, module):
    text = (ROOT / f"docs/{page}.md").read_text()
    listed = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", text, re.M)
    assert sorted(listed) == sorted(set(module.__all__) - {"nn", "simclr", "__version__"})


def test_the_reference_lists_the_pictures():
    names = pytest.importorskip("cossim.plot").__all__
    text = (ROOT / "docs/api.md").read_text()
    assert sorted(names) == sorted(re.findall(r"^\.\. autofunction:: cossim\.plot\.(\w+)$", text, re.M))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_block_ends(path):
    fences = [line.strip() for line in path.read_text().splitlines() if line.strip().startswith("```")]
    assert len(fences) % 2 == 0 and set(fences[1::2]) <= {"```"}


def test_the_reference_lists_the_estimators():
    estimators = pytest.importorskip("cossim.sklearn").__all__
    text = (ROOT / "docs/api.md").read_text()
    assert sorted(estimators) == sorted(re.findall(r"^\.\. autoclass:: cossim\.sklearn\.(\w+)$", text, re.M))


def test_every_page_is_in_a_list():
    lists = re.findall(r"{toctree}\n(.*?)```", "".join(path.read_text() for path in SITE), re.S)
    listed = [line for lines in lists for line in lines.split() if not line.startswith(":")]
    assert sorted(listed) == sorted({path.stem for path in SITE} - {"index", "search"})


def test_figures_of_some_tests_leave_the_others_as_they_are():
    page = (ROOT / "docs/reliability.md").read_text()
    row = {"tried": 1234, "survived": 1233, "test": "tests/test_x.py::test_y"}
    added = reliability_report.renew(page, {"something new": row}, "2030-01-02", keep=True)
    line = "| something new | 1,234 | 1,233 | 1 | 2030-01-02 | `tests/test_x.py::test_y` |\n"
    assert added.replace(line, "") == page != added
    again = reliability_report.renew(added, {"something new": row | {"tried": 1233}}, "2030-01-03", keep=True)
    assert "| something new | 1,233 | 1,233 | 0 | 2030-01-03 |" in again and again.count("something new") == 1
    alone = reliability_report.renew(page, {"something new": row}, "2030-01-02")
    assert line in alone and alone.count("| `tests/") == 1
    with pytest.raises(ValueError, match="figures"):
        reliability_report.renew("no table", {}, "2030-01-02")
