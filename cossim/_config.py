from __future__ import annotations

import os
from typing import Any, Literal, overload

import numpy as np

from cossim import _core, _errors
from cossim._version import __version__


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Shows the version, the instruction set in use, the available instruction sets and the number of threads.

    On AVX-512, layers use vectors of 512 bits, and of 256 bits where part of them would stay unused. That depends on
    whether the processor splits 512-bit instructions, according to a table of processors. The environment variable
    COSSIM_VECTOR_BITS overrides this: with 256, all layers use 256 bits; with 512, a processor counts as one that does
    not split.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        "stdout" prints the configuration, "dicts" returns it as a dict (as in numpy.show_config).

    Returns
    -------
    dict or None
        None with mode="stdout".

    Raises
    ------
    ValueError
        mode has another value.

    Examples
    --------
    >>> import cossim
    >>> config = cossim.show_config(mode="dicts")
    >>> config["instruction set"]["in use"] in config["instruction set"]["available"]
    True
    """
    import platform  # on first use, because its import is slow

    if mode not in ("stdout", "dicts"):
        raise ValueError(_errors.CONFIG_MODE.format(mode=mode))
    core = _core.config()
    config = {
        "version": __version__,
        "instruction set": {
            "in use": core["isa"],
            "description": core["description"],
            "available": core["available"],
            "COSSIM_ISA": os.environ.get("COSSIM_ISA", "not set"),
            "vector bits of layers": core["vector_bits"],
            "COSSIM_VECTOR_BITS": os.environ.get("COSSIM_VECTOR_BITS", "not set"),
        },
        "threads": {
            "in use": core["threads"],
            "COSSIM_NUM_THREADS": os.environ.get("COSSIM_NUM_THREADS", "not set"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        },
        "runs on": {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"    {key}: {', '.join(entry) if isinstance(entry, list) else entry}")
        else:
            print(f"{name}: {value}")
    return None
