"""pairs_above holds its result and little else, in memory and for files."""

import numpy as np
import pytest
from processes import printed, reports_memory

PROGRAM = """
import sys
import numpy as np, cossim
cossim.set_num_threads({threads})
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))
path = sys.argv[1]
x = np.load(path)
cossim.pairs_above(x[:300], 0.0)
{call}
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # resets VmHWM
before = status("VmRSS")
found = call()
assert len(found.i) > 2_500_000
print(status("VmHWM") - before - sum(part.nbytes for part in found))
"""
CALLS = {
    "in memory": "call = lambda: cossim.pairs_above(x, 0.0)",
    "two": "call = lambda: cossim.pairs_above(x, 0.0, x[:1200].copy())",
    "Index": "index = cossim.Index(x); call = lambda: index.pairs_above(x[:1200], 0.0)",
    "file": "call = lambda: cossim.pairs_above(path, 0.0, memory=1 << 20)",
}


@reports_memory
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("call", CALLS)
def test_pairs_above_holds_little_beyond_its_result(rng, tmp_path, call, dtype):
    """About three million pairs, 60 or 72 MB: the rest stays below 24 MB."""
    np.save(tmp_path / "x.npy", np.abs(rng.standard_normal((2400, 8))).astype(dtype))
    program = PROGRAM.format(threads=2, call=CALLS[call])
    assert int(printed("-c", program, tmp_path / "x.npy")) < 24 << 20
