"""Runs the examples of the documentation: tests run one page each, `python tests/helpers/documentation.py` all pages.

A page runs from top to bottom with one set of names:

- Python blocks (```python with >>>) run as doctests.
- Lines `$ cossim ...` run and must print the text below them.
- In tables with the columns `...`, `cossim`, `agree within`, each row has two calls whose results are compared.
- In tables with the columns `case`, `...`, `gives`, `cossim`, `gives`, each row has two calls and their results.

A section (##) ends at the first example that needs a library that is not installed. If the head of the page needs
one, the whole page is left out. In both cases tests skip, and this program fails.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "csrc/README.md", *sorted((ROOT / "docs").glob("*.md"))]
SAME, GIVES = "agree within", "gives"


@dataclass
class Section:
    title: str
    text: str
    missing: str = ""  # a library that it needs and that is not installed
    examples: int = 0  # number of Python examples
    commands: int = 0
    rows: int = 0  # number of table rows
    failures: list = field(default_factory=list)


def sections(text):
    """The head of a page and its sections; a ## inside a fenced block does not begin a section."""
    fences = [match.span() for match in re.finditer(r"^```.*?^```$", text, re.M | re.S)]
    starts = [match.start() for match in re.finditer(r"^## ", text, re.M)]
    starts = [0, *(start for start in starts if not any(first < start < last for first, last in fences))]
    parts = [text[first:last] for first, last in zip(starts, [*starts[1:], None], strict=True)]
    return [Section(part.strip().partition("\n")[0].lstrip("# "), part) for part in parts]


class Missing(Exception):
    """An example needs this library, which is not installed."""


class Runner(doctest.DocTestRunner):
    """Raises Missing at the first example that needs a library that is not installed."""

    def report_unexpected_exception(self, out, test, example, exc_info):
        error = exc_info[1]
        while isinstance(error, ModuleNotFoundError):
            library = (error.name or "").partition(".")[0]
            if library and find_spec(library) is None:
                raise Missing(library)
            error = error.__cause__  # cossim's own error, which names the extra, has the import's error as its cause
        super().report_unexpected_exception(out, test, example, exc_info)


class Numbers(doctest.OutputChecker):
    """With NumPy 1, expects 0.5 where the page has np.float64(0.5), as NumPy 2 prints it."""

    def check_output(self, want, got, optionflags):
        if np.__version__.startswith("1."):
            want = re.sub(r"np\.(?:float|int)(?:32|64)\(([^()]*)\)", r"\1", want)
        return super().check_output(want, got, optionflags)


# ---- the parts of a page ----


def docstring_failures(text, name, names=None, flags=0):
    """Runs the examples and returns (their number, their failures). `names` keeps the names that they define.

    Raises Missing.
    """
    names, printed = {} if names is None else names, []
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    try:
        failed = Runner(Numbers(), optionflags=flags).run(test, out=printed.append, clear_globs=False).failed
    finally:
        names.update(test.globs)
    return len(test.examples), ["".join(printed)] if failed else []


def run_commands(block, section):
    from cossim.__main__ import main

    for command, expected in re.findall(r"^\$ cossim (.*)\n((?:[^$].*\n)*)", block, re.M):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(shlex.split(command))
        section.commands += 1
        if code or printed.getvalue() != expected:
            section.failures.append(f"cossim {command}: exit code {code}, printed\n{printed.getvalue()}")


def plain(value):
    """A result of any library as an array, or several results as a tuple."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def same(value, expected, within):
    """Says how two results differ by more than the tolerance, or returns ""."""
    raised = [str(side) or repr(side) for side in (value, expected) if isinstance(side, Exception)]
    if raised:
        return f"an error: {raised[0]}"
    value, expected = plain(value), plain(expected)
    if isinstance(value, tuple) and isinstance(expected, tuple) and len(value) == len(expected):
        return "; ".join(filter(None, (same(*each, within) for each in zip(value, expected, strict=True))))
    if np.shape(value) != np.shape(expected):
        return f"shapes {np.shape(value)} and {np.shape(expected)}"
    left, right = (np.asarray(side, np.float64) for side in (value, expected))
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        off = np.where(equal, 0, np.abs(left - right))
    return "" if (off <= within).all() else f"{off.max():.3g} apart: {value} and {expected}"


def outcome(call, names):
    """The result of a call or its exception. Warnings of other libraries are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return eval(call, names)
        except Exception as error:
            return error


def run_row(kind, cells, names):
    """Says why a row of a table is wrong, or returns ""."""
    calls = [cell.replace("`", "").strip() for cell in cells]
    if kind == SAME:
        theirs, ours = outcome(calls[0], names), outcome(calls[1], names)
        return same(ours, theirs, float(calls[2]))
    wrong = []
    for call, gives in (calls[1:3], calls[3:5]):
        value, expected = outcome(call, names), eval(gives, {"nan": np.nan, "inf": np.inf, **names})
        if isinstance(expected, type):
            wrong += [] if isinstance(value, expected) else [f"{call} gives {value}"]
        else:
            difference = same(value, expected, 5e-8 * np.nanmax([0, *np.abs(plain(expected)).flat]))
            wrong += [f"{call}: {difference}"] if difference else []
    return "; ".join(wrong)


def run_table(lines, section, names):
    header, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
    kind = SAME if header[1:3] == ["cossim", SAME] else GIVES if header[2::2] == [GIVES, GIVES] else None
    for cells in rows if kind else []:
        section.rows += 1
        why = run_row(kind, cells, names)
        if why:
            section.failures.append(f"| {' | '.join(cells)} |: {why}")


PARTS = re.compile(r"^```(?P<language>\w*)\n(?P<block>.*?)^```$|(?P<table>(?:^\|[^\n]*\n)+)", re.M | re.S)


def run_section(section, name, names):
    for part in PARTS.finditer(section.text):
        if part["table"]:
            run_table(part["table"].splitlines(), section, names)
        elif part["language"] == "python":
            try:
                examples, failures = docstring_failures(part["block"], name, names)
            except Missing as missing:
                section.missing = str(missing)
                return
            section.examples += examples
            section.failures += failures
        elif not part["language"]:
            run_commands(part["block"], section)


def run(path, text=None):
    """Runs the sections of a page, in a temporary folder for the files that they write, and returns them."""
    found, names, before = sections(path.read_text() if text is None else text), {}, os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for section in found:
                section.missing = found[0].missing
                if not section.missing:
                    run_section(section, path.name, names)
        finally:
            os.chdir(before)
    return found


def links(text):
    """Links of a Markdown page to files of the repository, as (file or "", anchor or "")."""
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.M | re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [(link.partition("#")[0], link.partition("#")[2]) for link in found if not re.match(r"[a-z]+:", link)]


def anchors(text):
    """The anchors (#...) of a page: its headings, converted as Git hosting sites do."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def main():
    failed = 0
    for path in PAGES:
        found = run(path)
        counts = {what: sum(getattr(part, what) for part in found) for what in ("examples", "commands", "rows")}
        if any(counts.values()) or any(part.missing for part in found):
            text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            print(f"{path.relative_to(ROOT)}: {text or 'nothing run'}")
        for part in found:
            if part.missing:
                print(f"    left out: {part.title}, which needs {part.missing}")
            failed += len(part.failures) + bool(part.missing)
            print("".join(f"    {part.title}: {failure}\n" for failure in part.failures), end="")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
