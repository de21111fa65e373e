"""Renews the table in docs/reliability.md from what `make soak` wrote: reliability_report.py FIGURES PAGE."""

import json
import re
import sys
from datetime import date
from pathlib import Path


def table(rows, today):
    lines = ["| what was done | tried | survived | lost | test |", "| --- | --- | --- | --- | --- |"]
    for what, row in rows.items():
        tried, survived = row["tried"], row["survived"]
        lines.append(f"| {what} | {tried:,} | {survived:,} | {tried - survived:,} | `{row['test']}` |")
    return "\n".join([*lines, "", f"`make soak`, {today}."])


def renew(page, rows, today):
    """The page with the table between its two marks replaced."""
    start, end = "<!-- figures: renewed by make soak -->", "<!-- end of figures -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.S)
    if not pattern.search(page):
        raise ValueError(f"the page has no {start} ... {end}")
    return pattern.sub(lambda _: f"{start}\n{table(rows, today)}\n{end}", page)


if __name__ == "__main__":
    figures, page = map(Path, sys.argv[1:])
    page.write_text(renew(page.read_text(), json.loads(figures.read_text()), date.today()))
