"""Sphinx settings of the site that `make docs` builds."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(Path(__file__).parent))

import cossim  # noqa: E402

project = "cossim"
author = "the authors of cossim"
project_copyright = author
version = release = cossim.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "site_pages",
]
exclude_patterns = ["search.md"]  # search-how-to.md includes it
nitpicky = True

myst_heading_anchors = 4  # anchors of headings, `## Files` -> #files, as on sites that host Git
myst_enable_extensions = ["dollarmath"]
myst_links_external_new_tab = False
highlight_language = "text"  # of blocks without a language
html_math_renderer = "mathml"  # defined in site_pages; browsers show MathML without a script, even offline

# The copy button of a block copies what can be run: lines after a prompt, without the prompt and the output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autosummary_generate = False  # each table lists members of its own page
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_param = False  # types of arguments are prose, not names to resolve
napoleon_use_rtype = False
napoleon_use_ivar = False
# Names of Python and NumPy: resolving them would need the network.
nitpick_ignore_regex = [
    (r"py:exc", r"(ArithmeticError|ImportError|IndexError|KeyboardInterrupt|OSError|TypeError|ValueError)"),
    (r"py:exc", r"numpy\.exceptions\.AxisError|sklearn\.exceptions\.NotFittedError"),
    (r"py:class", r"numpy\.(dtype|memmap|ndarray)|float64|int64|matplotlib\.axes\.Axes"),
    (r"py:class", r"[A-Zk]|for one query|the same shape"),  # parts of shapes, in types of attributes
]

html_theme = "pydata_sphinx_theme"
html_title = f"cossim {release}"
html_theme_options = {
    "logo": {"text": "cossim"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_nav_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
templates_path = []
