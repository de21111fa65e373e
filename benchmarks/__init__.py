"""Before NumPy, or any other library with a BLAS, is imported: each BLAS chooses its kernels by the processor alone."""

import os

OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # with which contestants would run kernels of another processor

for _name in OVERRIDES:
    os.environ.pop(_name, None)


def blas_kernels():
    """Which kernels each BLAS that is loaded runs, by threadpoolctl: "numpy openblas 0.3.30 SkylakeX", and so on.

    Without those that are part of another library, such as torch's.
    """
    from pathlib import Path

    from threadpoolctl import threadpool_info

    found = []
    for library in threadpool_info():
        if library["user_api"] == "blas":
            owner = Path(library["filepath"]).parent.name.removesuffix(".libs")
            kernels = library.get("architecture", "kernels unknown")
            found.append(f"{owner} {library['internal_api']} {library['version']} {kernels}")
    return ", ".join(sorted(found)) or "none found"
