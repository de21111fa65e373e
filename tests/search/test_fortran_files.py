"""A .npy file in Fortran order is read in blocks of rows, and its pages are released."""

import numpy as np
import pytest
from processes import printed, reports_memory

import cossim

PROGRAM = """
import sys
import numpy as np, cossim
cossim.set_num_threads(1)
path = sys.argv[1]
queries = np.load(sys.argv[2])
def resident():
    with open("/proc/self/smaps") as maps:
        lines = iter(maps)
        for line in lines:
            if line.rstrip().endswith(path):
                return next(int(each.split()[1]) << 10 for each in lines if each.startswith("Rss:"))
    return 0
seen = []
cossim.topk(queries, path, 5, memory=8 << 20, progress=lambda done, total: seen.append(resident()))
assert len(seen) > 5
print(max(seen))
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8], ids=lambda d: np.dtype(d).name)
def test_results(rng, tmp_path, dtype):
    x = (20 * rng.standard_normal((2000, 30))).astype(dtype)
    np.save(tmp_path / "rows.npy", x)
    np.save(tmp_path / "columns.npy", np.asfortranarray(x))
    rows, columns = np.load(tmp_path / "rows.npy", mmap_mode="r"), np.load(tmp_path / "columns.npy", mmap_mode="r")
    assert columns.strides[0] < columns.strides[1]
    for call in (
        lambda x: cossim.topk(x[:9], x, 4, memory=1),
        lambda x: cossim.topk(x, None, 4, memory=1 << 15),
        lambda x: cossim.pairs_above(x, 0.5, memory=1),
        lambda x: cossim.Index(x).topk(np.array(x[:9]), 4),
    ):
        for found, expected in zip(call(columns), call(rows), strict=True):
            np.testing.assert_array_equal(found, expected)


@reports_memory
def test_pages_are_released(rng, tmp_path):
    """The file has 64 MB."""
    x = np.asfortranarray(rng.standard_normal((250_000, 64), np.float32))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", x[:3])
    assert int(printed("-c", PROGRAM, tmp_path / "x.npy", tmp_path / "q.npy")) < 24 << 20
