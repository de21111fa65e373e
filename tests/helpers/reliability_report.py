"""Updates the table of docs/reliability.md from the figures of `make soak`: reliability_report.py FIGURES PAGE [--keep]

--keep leaves the rows of tests that did not run this time as they are.
"""

import json
import re
import sys
from datetime import date
from pathlib import Path

HEAD = ["| what was done | tried | survived | lost | when | test |", "| --- | --- | --- | --- | --- | --- |"]


def line(what, row, today):
    tried, survived = row["tried"], row["survived"]
    return f"| {what} | {tried:,} | {survived:,} | {tried - survived:,} | {today} | `{row['test']}` |"


def renew(page, rows, today, keep=False):
    """Replaces the table between the two marks of the page. With `keep`, rows under other names stay."""
    start, end = "<!-- figures: renewed by make soak -->", "<!-- end of figures -->"
    pattern = re.compile(re.escape(start) + "(.*?)" + re.escape(end), re.S)
    if not (found := pattern.search(page)):
        raise ValueError(f"the page has no {start} ... {end}")
    old = found[1].strip().splitlines()[len(HEAD) :] if keep else []
    lines = {text.split(" | ")[0].removeprefix("| "): text for text in old}
    lines |= {what: line(what, row, today) for what, row in rows.items()}
    text = "\n".join([*HEAD, *lines.values()])
    return page[: found.start()] + f"{start}\n{text}\n{end}" + page[found.end() :]


if __name__ == "__main__":
    figures, page = map(Path, sys.argv[1:3])
    page.write_text(renew(page.read_text(), json.loads(figures.read_text()), date.today(), "--keep" in sys.argv))
