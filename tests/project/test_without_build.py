"""Importing an unbuilt source directory, and building without a compiler, give errors that say what to do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

if not (ROOT / "setup.py").exists() or not (ROOT / "csrc").exists():
    pytest.skip("the sources are not here", allow_module_level=True)


def python(*arguments, **options):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)


@pytest.mark.parametrize("module", ["cossim", "cossim.nn", "cossim.__main__"])
def test_import_in_a_source_directory(tmp_path, module):
    if not (ROOT / "cossim").exists():
        pytest.skip("the package is not here")
    shutil.copytree(ROOT / "cossim", tmp_path / "cossim", ignore=shutil.ignore_patterns("_core.*", "__pycache__"))
    # -S ignores .pth files, which lead to the extension if cossim is installed in place.
    environment = {**os.environ, "PYTHONPATH": str(Path(np.__file__).parent.parent)}
    child = python("-S", "-c", f"import {module}", cwd=tmp_path, env=environment)
    last = child.stderr.splitlines()[-1]
    kind = "cossim" if module == "cossim.__main__" else "ImportError"  # the command line prints no traceback
    assert last.startswith(f"{kind}: {tmp_path / 'cossim'} has no C extension for Python {sys.version_info[0]}.")
    assert "start Python in another" in last
    assert "pip install --editable ." in last


def test_an_error_of_the_extension_itself_is_shown():
    child = python("-c", "import cossim", env={**os.environ, "COSSIM_ISA": "none such"})
    assert "none such" in child.stderr.splitlines()[-1]


WITHOUT_HEADERS = """exists = os.path.exists
os.path.exists = lambda path: not path.endswith("Python.h") and exists(path)
"""


@pytest.mark.parametrize(
    ("words", "environment", "prepare"),
    [
        ("the C compiler no-such-compiler was not found", {"CC": "no-such-compiler"}, ""),
        ("the C compiler .* was not found", {"PATH": "", "CC": "cc"}, ""),
        ("Python.h, one of Python's C headers, was not found", {"CC": "false"}, WITHOUT_HEADERS),
        ("[Cc]ommand .*false'", {"CC": "false"}, ""),
    ],
)
def test_a_build_that_fails_says_what_to_install(tmp_path, words, environment, prepare):
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml requires
    code = f"import os, sys\nsys.argv[0] = 'setup.py'\n{prepare}\nexec(open('setup.py').read())"
    options = ["-q", "build_ext", "--build-lib", tmp_path, "--build-temp", tmp_path]
    child = python("-c", code, *options, cwd=ROOT, env={**os.environ, **environment})
    assert child.returncode == 1
    last = child.stderr.splitlines()[-1]
    assert re.match(f"error: {words}", last), last
    assert ("apt-get install gcc python3-dev" in last) == ("not found" in words)
