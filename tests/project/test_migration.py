"""The pages on other libraries are right: their calls give what ours give, or differ as the page says.

The tables themselves run in float32, as they stand there (documentation.py), and here once more in float64.
"""

import re

import pytest
from conftest import ROOT
from documentation import run

ROWS = {"torch": 26, "scikit-learn": 24, "scipy": 19, "faiss": 13, "numkong": 25}


def page(rival):
    return ROOT / f"docs/from-{rival}.md"


def skip_if_missing(parts):
    missing = {part.missing for part in parts if part.missing}
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}")


@pytest.mark.parametrize("rival", ROWS)
def test_tables_of_calls(rival):
    parts = run(page(rival))
    assert not [failure for part in parts for failure in part.failures]
    skip_if_missing(parts)
    assert sum(part.rows for part in parts) >= ROWS[rival]


@pytest.mark.parametrize("rival", ["torch", "scikit-learn", "scipy"])
def test_calls_agree_in_float64(rival):
    """The bounds are 1e-14, and 1e-13 for sums that are not divided by norms."""
    text = page(rival).read_text()
    text = text[: text.rindex("\n## What differs")].replace("np.float32", "np.float64")
    text, cosines = re.subn(r"(?<=\| )([245]e-7|1e-6)(?= \|)", "1e-14", text)
    text, sums = re.subn(r"(?<=\| )(2e-6|4e-6|2e-5)(?= \|)", "1e-13", text)
    parts = run(page(rival), text)
    skip_if_missing(parts)
    exact = len(re.findall(r"(?<=\| )0(?= \|)", text))
    assert cosines + sums + exact == sum(part.rows for part in parts) > 10
    assert not [failure for part in parts for failure in part.failures if failure.startswith("|")]
