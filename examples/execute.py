"""Runs a notebook and stores its outputs in it: python examples/execute.py examples/near_duplicates.ipynb

The second argument is another file for the result, the third is the working directory of the notebook. The script
needs nbclient, nbformat and ipykernel.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(source, target, folder):
    notebook = nbformat.read(source, as_version=4)
    # Omits execution times, and below the version of Python, so that two runs store the same file.
    NotebookClient(notebook, record_timing=False, resources={"metadata": {"path": folder}}).execute()
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, target)


if __name__ == "__main__":
    source, target, folder, *_ = [*sys.argv[1:], *[None] * 3]
    if source is None:
        sys.exit(__doc__)
    execute(source, target or source, folder or str(Path(source).parent))
