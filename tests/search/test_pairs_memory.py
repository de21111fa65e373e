"""pairs_above holds its result and little else, in memory and for files."""

import numpy as np
import pytest
from processes import extra_memories, reports_memory


@reports_memory
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_pairs_above_holds_little_beyond_its_result(rng, tmp_path, dtype):
    """About three million pairs, 60 or 72 MB: the rest stays below 24 MB."""
    np.save(tmp_path / "x.npy", np.abs(rng.standard_normal((2400, 8))).astype(dtype))
    prepare = f"""
path = {str(tmp_path / "x.npy")!r}
x = np.load(path)
index = cossim.Index(x)
cossim.pairs_above(x[:300], 0.0)
"""
    calls = [
        "cossim.pairs_above(x, 0.0)",
        "cossim.pairs_above(x, 0.0, x[:1200].copy())",
        "index.pairs_above(x[:1200], 0.0)",
        "cossim.pairs_above(path, 0.0, memory=1 << 20)",
    ]
    for call, threads, extra, count, *size in extra_memories(
        prepare, calls, "len(result.i), *[a.nbytes for a in result]"
    ):
        assert count > 2_500_000
        assert extra - sum(size) < 24 << 20, (call, threads)
