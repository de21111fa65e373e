"""Runs a notebook and stores what it gives: python examples/execute.py examples/near_duplicates.ipynb

A second argument names another file for the result, a third the folder to run in. Needs nbclient, nbformat, ipykernel.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(source, target, folder):
    notebook = nbformat.read(source, as_version=4)
    # Without times, and below without the version of Python: they would make a difference of every run.
    NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": folder}}).execute()
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, target)


if __name__ == "__main__":
    source, target, folder, *_ = [*sys.argv[1:], *[None] * 3]
    if source is None:
        sys.exit(__doc__)
    execute(source, target or source, folder or str(Path(source).parent))
