"""Functions that the C core calls although their modules import the core. They are imported on first use.

So `import cossim` loads none of the modules for searches, files, sparse rows and Dask arrays.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cossim import _core, _hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from cossim._typing import Path


def dask_function(name: str) -> Callable[..., Any]:
    """Returns the function of this name for Dask arrays."""
    from cossim.search import dask_arrays

    return getattr(dask_arrays, name, None) or partial(dask_arrays.along_dim, name)


def sparse_function(name: str) -> Callable[..., Any]:
    """Returns the function of this name for sparse rows, and for paths of files that may hold them."""
    from cossim.search import functions, sparse

    return sparse.opening_paths(name, getattr(sparse, name), getattr(functions, name, None) or getattr(_core, name))


def open_path(function: str, name: str, path: Path) -> Any:
    """Opens the rows of a file. Errors name the function and its argument."""
    from cossim.search import blocks

    return blocks.open_path(function, name, path)


_core.sparse_function = sparse_function
_core.dask_function = dask_function
_hooks.open_path = open_path  # for _columns, which reads arguments that are paths
