"""Comparisons with other libraries. Each BLAS chooses its kernels by the processor, not by environment variables.

OpenBLAS reads OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE when it is loaded. So this module removes both variables before
NumPy is imported.
"""

import os

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)


def blas_kernels():
    """Names the kernels of each loaded BLAS, from threadpoolctl: "numpy openblas 0.3.30 SkylakeX", and so on.

    threadpoolctl does not see a BLAS that is linked into another library, such as torch's.
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
