"""benchmarks/accuracy.py measures what it claims, and docs/accuracy.md shows that cossim is as accurate as promised."""

import os
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import reference
from conftest import ROOT

from benchmarks import accuracy

PROMISED = {  # errors of row-by-row results, and of all pairs
    "float32": (6e-8, 6.5e-7),
    "float64": (1e-15, 1e-15),
    "float16": (2.5e-4, 2.5e-4),
}


@pytest.mark.parametrize("kind", accuracy.KINDS)
@pytest.mark.parametrize("dtype", accuracy.DTYPES, ids=lambda dtype: dtype.__name__)
def test_errors_are_those_of_fractions(rng, kind, dtype):
    x, y = (np.asarray(side, dtype) for side in accuracy.KINDS[kind](rng, (4, 9), dtype))
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    values = rng.uniform(-1, 1, (4, 4))
    found = accuracy.errors({"rows": np.diag(values)}, x, y, False)["rows"]
    every = np.reshape(accuracy.errors({"pairs": values}, x, y, True)["pairs"], (4, 4))
    for i, j in np.ndindex(4, 4):
        exact = abs(Fraction(values[i, j]) - reference.exact_cosine(x[i], y[j]))
        assert every[i, j] == pytest.approx(float(exact), rel=1e-12)
    assert found == np.diag(every).tolist()
    assert accuracy.errors({"": np.array([np.nan])}, x[:1], y[:1], False) == {"": [np.inf]}


def test_cells():
    assert [accuracy.cell(each) for each in (None, (np.inf, 0), (1.25e-7, 0))] == ["", "wrong", "1.2e-7"]
    assert accuracy.cell((1e-7, 0.003)) == "1.0e-7, 0.3 % above 1"


@pytest.mark.skipif(not hasattr(np, "vecdot"), reason="measures numpy.vecdot, of NumPy 2, too")
def test_a_small_measurement(monkeypatch):
    monkeypatch.setattr(accuracy, "DEPTHS", (16,))
    libraries = {
        name: parts for name, parts in accuracy.installed().items() if parts[0] in ("cossim", "numpy", "torch")
    }
    for all_pairs in (False, True):
        table = accuracy.measure(libraries, np.float32, all_pairs)
        for (kind, _), figures in table.items():
            assert set(figures) == set(libraries)
            assert figures["cossim"][0] < 4e-7 and figures["cossim"][1] == 0
            assert kind not in ("huge", "tiny") or accuracy.cell(figures["torch"]) == "wrong"
        text = accuracy.written(table, list(libraries))
        assert len(text.splitlines()) == 2 + len(accuracy.KINDS)
    page = f"before\n{accuracy.START}\nold\n{accuracy.END}\nafter\n"
    assert accuracy.renewed(page, "new") == page.replace("old", "new")
    with pytest.raises(SystemExit, match="no"):
        accuracy.renewed("nothing", "new")


def test_contestants_run_the_kernels_of_this_processor():
    """OpenBLAS chooses the same kernels whether or not the environment names others."""
    pytest.importorskip("threadpoolctl")
    code = "import sys, benchmarks\nassert 'numpy' not in sys.modules\nimport numpy\nprint(benchmarks.blas_kernels())"
    printed = []
    for named in ({}, {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_L2_SIZE": "64"}):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
        command = [sys.executable, "-c", code]
        child = subprocess.run(command, cwd=ROOT, env={**kept, **named}, capture_output=True, text=True, check=True)
        printed.append(child.stdout)
    assert printed[0] == printed[1]
    assert "numpy" in printed[0] or "none found" in printed[0]


def test_the_page_shows_what_is_promised():
    text = (ROOT / "docs/accuracy.md").read_text()
    parts = re.split(r"^## (\w+), (\w+)\n", text, flags=re.M)
    assert len(parts) == 1 + 3 * len(PROMISED) * 2
    for dtype, form, part in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
        assert rows[0][2] == "cossim"
        assert len(rows) == 2 + len(accuracy.KINDS) * len(accuracy.DEPTHS)
        for row in rows[2:]:
            assert float(row[2]) <= PROMISED[dtype][form == "pairs"], row
