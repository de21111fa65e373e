"""Sphinx extension of the site: shows files outside docs/ as pages, draws pictures, adapts docstrings and formulas.

Pages in docs/ link to files anywhere in the repository, so they are also readable where Git is hosted. On the site such
a link leads to the page that shows the file, or else to a copy of the file.
"""

import base64
import contextlib
import doctest
import io
import json
import os
import posixpath
import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxDirective

from cossim.__main__ import main

# file of the repository -> page of the site that shows it
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/SPEED.md": "speed-log.md",
    "csrc/README.md": "design.md",
    "docs/search.md": "search-how-to.md",  # search.html is Sphinx's own
    "examples/data/README.md": "example-data.md",
    "examples/near_duplicates.ipynb": "near-duplicates.md",
    "examples/simclr.ipynb": "simclr-notebook.md",
    "examples/simclr_colour.ipynb": "simclr-colour-notebook.md",
}


def site_link(link, folder):
    """Rewrites a link of a file in `folder` of the repository as a link of a page in docs/."""
    path, mark, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return link
    path = posixpath.normpath(posixpath.join(folder, path))
    path = posixpath.relpath(posixpath.join("docs", PAGES[path]) if path in PAGES else path, "docs")
    return path + mark + anchor


def for_site(text, folder):
    """Rewrites the links of Markdown, and removes the empty line at the end of blocks, which only doctest needs."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    parts[::2] = (re.sub(r"(?<=\]\()([^)\s]+)(?=\))", lambda m: site_link(m[1], folder), part) for part in parts[::2])
    parts[1::2] = (part.replace("\n\n```", "\n```") for part in parts[1::2])
    return "".join(parts)


# ---- notebooks ----


def fenced(text, language=""):
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def output(data):
    """Returns one output of a cell as Markdown."""
    if "text" in data:
        return fenced("".join(data["text"]), "text")
    forms = {name: "".join(lines) for name, lines in data.get("data", {}).items()}
    if "image/png" in forms:
        return f"![plot of the cell above](data:image/png;base64,{forms['image/png'].replace(chr(10), '')})\n"
    return fenced(forms["text/plain"], "text")


def notebook(text):
    """Returns a notebook with its outputs as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(fenced(source, "python") if cell["cell_type"] == "code" else source + "\n")
        parts += map(output, cell.get("outputs", []))
    return "\n".join(parts)


# ---- pictures ----


def drawn(text):
    """Runs the examples of a page, and replaces each block {picture} NAME by a picture of the axes of that name."""
    names, parts = {}, re.split(r"(^```(?:python|{picture} \w+)\n.*?^```$)", text, flags=re.M | re.S)
    for number in range(1, len(parts), 2):
        first, _, body = parts[number].removesuffix("```").partition("\n")
        if first == "```python":
            for example in doctest.DocTestParser().get_examples(body):
                exec(compile(example.source, "page", "single"), names)
        else:
            picture = io.BytesIO()
            names[first.split()[1]].figure.savefig(picture, format="png", dpi=90)
            code = base64.b64encode(picture.getvalue()).decode()
            parts[number] = f"![{body.strip()}](data:image/png;base64,{code})"
    return "".join(parts)


def read_page(app, name, content):
    if "```{picture}" in content[0]:
        with contextlib.redirect_stdout(io.StringIO()):
            content[0] = drawn(content[0])
    content[0] = for_site(content[0], posixpath.join("docs", posixpath.dirname(name)))


def read_included(app, path, parent, content):
    path = posixpath.normpath(posixpath.join("docs", path.as_posix()))
    if path.endswith(".ipynb"):
        content[0] = notebook(content[0])
    content[0] = for_site(content[0], posixpath.dirname(path))


# ---- docstrings ----


def read_docstring(app, what, name, value, options, lines):
    """Escapes bars and marks indented formulas as literal blocks, which help() shows unchanged."""
    result, formula = [], False
    for number, line in enumerate(lines):
        before = lines[number - 2] if number >= 2 and not lines[number - 1] else ""  # last line of a paragraph
        if line.startswith("    ") and not formula and before[:1].strip() and not before.startswith(">>>"):
            formula = True
            result += [] if before.endswith("::") else ["::", ""]
        formula = formula and (not line or line.startswith("    "))
        literal = formula or line.lstrip().startswith((">>>", "..."))
        result.append(line if literal else line.replace("|", "\\|"))
    lines[:] = result


# ---- formulas ----


def visit_math(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator, node):
    translator.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


# ---- the command line ----


class CommandHelp(SphinxDirective):
    """A literal block with the output of `cossim COMMAND --help`."""

    optional_arguments = 1
    final_argument_whitespace = True  # index build

    def run(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*" ".join(self.arguments).split(), "--help"])
        text = printed.getvalue()
        return [nodes.literal_block(text, text, language="text")]


def setup(app):
    os.environ["COLUMNS"] = "92"  # width of the commands' help
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon's handler
    app.add_directive("command-help", CommandHelp)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
