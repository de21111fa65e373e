"""The version is the same everywhere, and the workflows run only verbs of the Makefile."""

import datetime
import re
from importlib import metadata

import pytest
from conftest import ROOT

import cossim

if not (ROOT / "CHANGELOG.md").exists():
    pytest.skip("the release's files are not here", allow_module_level=True)
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_versions_agree():
    headings = re.findall(r"^## \[(.+?)\](?: - (.+))?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0][0] == "Unreleased"
    releases = headings[1:]
    assert releases[0][0] == cossim.__version__
    dates = [datetime.date.fromisoformat(date) for _, date in releases]
    assert dates == sorted(dates, reverse=True)
    assert metadata.version("cossim-c") == cossim.__version__
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        figures = r"<!-- (\w+): renewed by .*?<!-- end of \1 -->"  # tables name the version that was measured
        written = re.sub(figures, "", page.read_text(), flags=re.S)
        named = re.findall(r"\bcossim(?:-c)?(?: |==|-)v?(\d+\.\d+\.\d+)", written)
        assert set(named) <= {cossim.__version__}, page


def test_one_place_has_the_version():
    quoted = f'"{cossim.__version__}"'
    for path in [ROOT / "pyproject.toml", ROOT / "setup.py", ROOT / "Makefile", *(ROOT / "docs").glob("*.py")]:
        assert quoted not in path.read_text(), path


def verbs(text):
    return set(re.findall(r"^([a-z-]+):", text, re.M))


def used_verbs(text):
    """The verbs of calls such as `make -s test-c CC=clang`, without options, variables, quoted text and comments."""
    calls = re.findall(r"(?<![\w-])make((?: +[^\s;&|,\]]+)+)", re.sub(r'"[^"\n]*"|#.*', "", text))
    return {word for call in calls for word in call.split() if re.fullmatch("[a-z][a-z-]*", word)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_only_targets_of_the_makefile(path):
    used = used_verbs(path.read_text())
    assert used
    assert used <= verbs((ROOT / "Makefile").read_text())


def test_workflows_use_what_developers_use():
    used = set().union(*(used_verbs(path.read_text()) for path in WORKFLOWS))
    assert {"lint", "test", "test-c", "asan", "tsan", "valgrind", "docs", "dist", "test-wheel", "soak", "fuzz"} <= used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_yaml(path):
    workflow = pytest.importorskip("yaml").safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["runs-on"]
        assert job["timeout-minutes"] <= 360, name
        assert all(("uses" in step) != ("run" in step) for step in job["steps"]), name
