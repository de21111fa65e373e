"""Comparisons with other libraries. No environment variable handicaps a candidate.

OpenBLAS reads OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE when it is loaded, and would choose its kernels by them. So this
module removes both variables before NumPy is imported. It also removes PYTHONDONTWRITEBYTECODE: with it, a source tree
would be compiled at each import, and installed libraries would not.
"""

import os

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE"):
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
