"""Cosine similarity for NumPy, written in C, with the exact semantics of torch and at the speed of the hardware.

>>> import cossim
>>> cossim.cosine_similarity([3, 4], [4, 3])
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
    if _interrupts.IS_PROGRAM:  # the command line shows an error as one line, with exit code 1
        print(f"cossim: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    raise error from None

from typing import TYPE_CHECKING

# _arguments and _errors are imported early, so that a wrong argument gives its own message when no file can be opened.
# _finders gives functions to the C core. _threadpoolctl registers the thread pool.
from cossim import _arguments, _errors, _finders, _threadpoolctl  # noqa: F401
from cossim._threads import threads
from cossim._version import __version__

if TYPE_CHECKING:  # the names that __getattr__ imports on first use
    from cossim import nn, simclr
    from cossim._config import show_config
    from cossim.rows.opening import open_rows
    from cossim.search.functions import duplicate_groups, pairs_above, top_pairs, topk
    from cossim.search.index import Index
    from cossim.search.near_duplicates import communities, deduplicate
    from cossim.search.rerank import diverse, maxsim
    from cossim.search.results import Pairs, TopK
    from cossim.vectors.explain import explain
    from cossim.vectors.gradients import cosine_similarity_vjp, pairwise_vjp
    from cossim.vectors.similarity import CosineSimilarity

__all__ = [
    "CosineSimilarity",
    "Index",
    "Pairs",
    "TopK",
    "__version__",
    "communities",
    "cosine_distance",
    "cosine_similarity",
    "cosine_similarity_vjp",
    "deduplicate",
    "diverse",
    "duplicate_groups",
    "explain",
    "get_num_threads",
    "maxsim",
    "nn",
    "normalize",
    "open_rows",
    "pairs_above",
    "pairwise",
    "pairwise_vjp",
    "set_num_threads",
    "show_config",
    "simclr",
    "threads",
    "top_pairs",
    "topk",
    "vecdot",
    "vector_norm",
]


# The names that are imported on first use, by their modules. This keeps `import cossim` fast.
_LATER = {
    "cossim._config": ("show_config",),
    "cossim.rows.opening": ("open_rows",),
    "cossim.search.functions": ("duplicate_groups", "pairs_above", "top_pairs", "topk"),
    "cossim.search.index": ("Index",),
    "cossim.search.near_duplicates": ("communities", "deduplicate"),
    "cossim.search.rerank": ("diverse", "maxsim"),
    "cossim.search.results": ("Pairs", "TopK"),
    "cossim.vectors.explain": ("explain",),
    "cossim.vectors.gradients": ("cosine_similarity_vjp", "pairwise_vjp"),
    "cossim.vectors.similarity": ("CosineSimilarity",),
}

if not TYPE_CHECKING:  # a type checker would accept every attribute of a module that has a __getattr__

    def __getattr__(name):
        from importlib import import_module

        if name in ("nn", "plot", "simclr", "sklearn"):
            return import_module(f"cossim.{name}")
        for module in (module for module, names in _LATER.items() if name in names):
            return globals().setdefault(name, getattr(import_module(module), name))
        raise AttributeError(_errors.NO_ATTRIBUTE.format(name=name))


def __dir__() -> list[str]:
    return sorted(__all__)
