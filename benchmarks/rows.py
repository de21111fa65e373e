"""The comparisons of readers of rows: columns in memory, files that are searched block by block, the command line."""

import tempfile
from pathlib import Path

import numpy as np

import cossim
from benchmarks.harness import Case, ProgramCase, race
from cossim import _core

SLACK = 2e-6  # seconds that a column may take more than a NumPy array
RESIDENT = 200 << 20  # bytes that a process may hold while it searches an HDF5 dataset within MEMORY
MEMORY = 64 << 20
ROWS, DIM = 700_000, 768  # 2 GB of float32
TABLE_ROWS = 350_000  # 1 GB of float32


def _columns(x):
    """The rows of x as columns of other libraries, without a copy: name -> object."""
    import polars
    import pyarrow as pa
    import torch

    chunk = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    return {
        "an Arrow FixedSizeList": chunk,
        "a polars Array": polars.Series("v", x, dtype=polars.Array(polars.Float32, x.shape[1])),
        "a torch tensor": torch.from_numpy(x),
    }


def columns():
    """Small calls with columns in memory. They share the memory of the column, and take little longer than arrays."""
    x = np.random.default_rng(0).standard_normal((16, 8), np.float32)
    for name, column in _columns(x).items():
        first, second = (_core.as_rows("columns", ("x",), (column,))[0] for _ in range(2))
        if not np.array_equal(first, x) or first.__array_interface__["data"] != second.__array_interface__["data"]:
            raise SystemExit(f"{name} is copied")

        def call(rows):
            return lambda: cossim.pairwise(rows)

        limit = race({"array": call(x)}, total_seconds=0.5)["array"] + SLACK
        candidates = {"cossim": call(column), "cossim, NumPy array": call(x)}
        yield Case(f"pairwise {x.shape} of {name}", candidates, limit=limit)


_HDF5 = """
import cossim, h5py, numpy as np
cossim.set_num_threads(1)
with h5py.File({path!r}) as file:
    cossim.topk(file["x"][:4], file["x"], 10, memory={memory})
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")))
"""

_COMMAND = """
import sys, time
from cossim.__main__ import main
start = time.process_time()
main(["topk", {queries!r}, {corpus!r}, "-k", "1", "--threads", "1", "-o", {output!r}])
print(time.process_time() - start)
"""

_PYARROW = """
import time, pyarrow, pyarrow.parquet
start = time.process_time()
pyarrow.set_cpu_count(1)
for batch in pyarrow.parquet.ParquetFile({corpus!r}).iter_batches(10_000, use_threads=False):
    batch.column(0).values.to_numpy()
print(time.process_time() - start)
"""


def files(rows=ROWS, table_rows=TABLE_ROWS):
    """Searches of large files: peak memory of a process that reads HDF5, and the CPU time of a command for Parquet."""
    import h5py
    import pyarrow as pa
    import pyarrow.parquet

    rng, step = np.random.default_rng(0), 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "x.h5")
        with h5py.File(path, "w") as file:
            data = file.create_dataset("x", (rows, DIM), np.float32, chunks=(1000, DIM))
            for first in range(0, rows, step):
                data[first : first + step] = rng.standard_normal((min(step, rows - first), DIM), np.float32)
        title = f"resident memory, topk of HDF5 {(rows, DIM)} with memory={MEMORY >> 20} MiB"
        yield ProgramCase(title, {"cossim": _HDF5.format(path=path, memory=MEMORY)}, "bytes", limit=RESIDENT)
        Path(path).unlink()

        names = {name: str(Path(folder) / name) for name in ("queries.npy", "corpus.parquet", "found.npz")}
        np.save(names["queries.npy"], rng.standard_normal((4, DIM), np.float32))
        kind = pa.list_(pa.float32(), DIM)
        with pyarrow.parquet.ParquetWriter(
            names["corpus.parquet"], pa.schema({"v": kind}), compression="none"
        ) as writer:
            for first in range(0, table_rows, step):
                part = rng.standard_normal((min(step, table_rows - first), DIM), np.float32)
                writer.write(pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), type=kind)}))
        paths = {key.split(".")[0]: path for key, path in names.items()}
        programs = {
            "cossim": _COMMAND.format(queries=paths["queries"], corpus=paths["corpus"], output=paths["found"]),
            "pyarrow, reading only": _PYARROW.format(corpus=paths["corpus"]),
        }
        title = f"command topk, Parquet {(table_rows, DIM)}, 4 queries"
        yield ProgramCase(title, programs, "seconds", goals=[(["pyarrow, reading only"], 1 / 1.3)], rounds=3)


BENCHES = {"columns": columns}
ONLY_NAMED = {"files": files}  # needs too much disk and time to run with the others
