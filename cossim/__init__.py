"""Cosine similarity for NumPy, written in C, with the exact semantics of torch and at the speed of the hardware.

>>> import numpy as np, cossim
>>> cossim.cosine_similarity(np.array([3.0, 4.0]), np.array([4.0, 3.0]), dim=0)
np.float64(0.96)
"""

from cossim import _interrupts  # noqa: F401  (first: Ctrl-C may arrive during any later import)

try:
    from cossim._core import (
        cosine_distance,
        cosine_similarity,
        get_num_threads,
        normalize,
        pairwise,
        set_num_threads,
        vecdot,
        vector_norm,
    )
except ImportError as error:
    import sys

    from cossim import _errors

    if isinstance(error, ModuleNotFoundError):
        if error.name != "cossim._core":
            raise
        version = ".".join(map(str, sys.version_info[:2]))
        error = ImportError(_errors.NO_EXTENSION.format(folder=__path__[0], version=version))
    if _interrupts.IS_PROGRAM:  # as for an error of a command: one line and exit code 1, no traceback
        print(f"cossim: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    raise error from None

from typing import TYPE_CHECKING

from cossim import _errors, _threadpoolctl  # noqa: F401  (the latter registers the thread pool with threadpoolctl)
from cossim._config import show_config
from cossim._threads import threads
from cossim._version import __version__
from cossim.search.functions import Pairs, TopK, duplicate_groups, pairs_above, topk
from cossim.vectors.similarity import CosineSimilarity

if TYPE_CHECKING:  # the names that __getattr__ imports on first use
    from cossim import nn, simclr
    from cossim.search.index import Index
    from cossim.vectors.explain import explain
    from cossim.vectors.gradients import cosine_similarity_vjp, pairwise_vjp

__all__ = [
    "CosineSimilarity",
    "Index",
    "Pairs",
    "TopK",
    "__version__",
    "cosine_distance",
    "cosine_similarity",
    "cosine_similarity_vjp",
    "duplicate_groups",
    "explain",
    "get_num_threads",
    "nn",
    "normalize",
    "pairs_above",
    "pairwise",
    "pairwise_vjp",
    "set_num_threads",
    "show_config",
    "simclr",
    "threads",
    "topk",
    "vecdot",
    "vector_norm",
]


if not TYPE_CHECKING:  # a type checker would accept every attribute of a module that has a __getattr__

    def __getattr__(name):
        # These modules are imported on first use, so that `import cossim` stays fast.
        import importlib

        if name in ("nn", "simclr"):
            return importlib.import_module(f"cossim.{name}")
        if name == "Index":
            globals()[name] = importlib.import_module("cossim.search.index").Index
            return globals()[name]
        if name in ("cosine_similarity_vjp", "pairwise_vjp"):
            globals()[name] = getattr(importlib.import_module("cossim.vectors.gradients"), name)
            return globals()[name]
        if name == "explain":
            globals()[name] = importlib.import_module("cossim.vectors.explain").explain
            return globals()[name]
        raise AttributeError(_errors.NO_ATTRIBUTE.format(name=name))


def __dir__() -> list[str]:
    return sorted(__all__)
