"""The comparisons of vectors and pairs. Each function imports its rivals and yields cases. BENCHES lists them."""

import subprocess
import sys
from contextlib import contextmanager

import numpy as np

import cossim
from benchmarks.harness import Case, ProgramCase, on, peak_program


def _random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32).astype(dtype)


def _two(*shape, dtype=np.float32):
    """Two arrays in separate memory."""
    return _random(*shape, dtype=dtype), _random(*shape, dtype=dtype, seed=1)


# ---- by hand, in NumPy ----


def _numpy_rows(x, y):
    return np.vecdot(x, y) / (np.sqrt(np.vecdot(x, x)) * np.sqrt(np.vecdot(y, y)))


def _numpy_pair(x, y):
    return np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))


def _numpy_pairs(x, y=None, out=None):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    other = unit if y is None else y / np.linalg.norm(y, axis=1, keepdims=True)
    return np.matmul(unit, other.T, out=out)


def _faiss_pairs(faiss, x):
    unit = x.copy()
    faiss.normalize_L2(unit)
    return faiss.pairwise_distances(unit, unit, faiss.METRIC_INNER_PRODUCT)


def _torch_pairs(torch, x, y=None, out=None):
    unit = torch.nn.functional.normalize(x)
    other = unit if y is None else torch.nn.functional.normalize(y)
    return torch.mm(unit, other.T, out=out)


# ---- dim-wise ----


def pair():
    """Two vectors."""
    import numkong
    import scipy.spatial.distance
    import simsimd
    import torch

    for d in (128, 768, 1536):
        x, y = _two(d)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        yield Case(
            f"one pair ({d},) float32",
            {
                "cossim": lambda: cossim.cosine_similarity(x, y, 0),
                "SimSIMD": lambda: simsimd.cosine(x, y),
                "NumKong": lambda: numkong.angular(x, y),
                "NumPy by hand": lambda: _numpy_pair(x, y),
                "SciPy": lambda: scipy.spatial.distance.cosine(x, y),
                "torch": lambda: torch.nn.functional.cosine_similarity(tx, ty, 0),
            },
            goals=[(["SimSIMD"], 1.0)],
            bytes_read=2 * x.nbytes,
        )


def rows():
    """Row by row, float32."""
    import numkong
    import simsimd
    import torch

    for (n, d), times_torch in (((1000, 64), 3), ((100000, 128), 20), ((10000, 768), 5)):
        x, y = _two(n, d)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        yield Case(
            f"rows ({n}, {d}) float32",
            {
                "cossim": lambda: cossim.cosine_similarity(x, y),
                "SimSIMD": lambda: simsimd.cosine(x, y),
                "NumKong": lambda: numkong.angular(x, y),
                "NumPy vecdot": lambda: _numpy_rows(x, y),
                "torch": lambda: torch.nn.functional.cosine_similarity(tx, ty),
            },
            goals=[(["SimSIMD"], 1.0), (["torch"], times_torch)],
            bytes_read=2 * x.nbytes,
        )


def halves():
    """Row by row, 16-bit floats."""
    import ml_dtypes
    import numkong
    import simsimd
    import torch

    for name, dtype, code in (("float16", np.float16, "f16"), ("bfloat16", ml_dtypes.bfloat16, "bf16")):
        x, y = _two(100000, 128, dtype=dtype)
        # SimSIMD and NumKong take the bits of bfloat16 as integers, and the name of the type.
        bits = [a.view(np.uint16) if code == "bf16" else a for a in (x, y)]
        tx, ty = (torch.from_numpy(a.astype(np.float32)).to(getattr(torch, name)) for a in (x, y))
        yield Case(
            f"rows (100000, 128) {name}",
            {
                "cossim": lambda: cossim.cosine_similarity(x, y),
                "SimSIMD": lambda: simsimd.cosine(*bits, code),
                "NumKong": lambda: numkong.angular(*bits, code),
                "torch": lambda: torch.nn.functional.cosine_similarity(tx, ty),
            },
            goals=[(["SimSIMD", "NumKong"], 1.0)],
            bytes_read=2 * x.nbytes,
        )


def normalize():
    """Rows divided by their norms."""
    import sklearn.preprocessing
    import torch

    for shape, dtype in (
        ((1000, 64), "float32"),
        ((200, 768), "float32"),
        ((5000, 768), "float32"),
        ((200, 768), "float64"),
    ):
        x = _random(*shape, dtype=dtype)
        tx = torch.from_numpy(x)
        yield Case(
            f"normalize {shape} {dtype}",
            {
                "cossim": lambda: cossim.normalize(x),
                "NumPy by hand": lambda: x / np.linalg.norm(x, axis=1, keepdims=True),
                "scikit-learn": lambda: sklearn.preprocessing.normalize(x),
                "torch": lambda: torch.nn.functional.normalize(tx),
            },
            goals=[(["torch"], 1.0)],
            bytes_read=2 * x.nbytes,
        )


def columns():
    """dim=1 of a feature map."""
    import torch

    x, y = _two(32, 256, 56, 56)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def einsum(a, b):
        return np.einsum("bchw,bchw->bhw", a, b)

    yield Case(
        "dim=1 of (32, 256, 56, 56) float32",
        {
            "cossim": lambda: cossim.cosine_similarity(x, y, 1),
            "NumPy einsum": lambda: einsum(x, y) / (np.sqrt(einsum(x, x)) * np.sqrt(einsum(y, y))),
            "torch": lambda: torch.nn.functional.cosine_similarity(tx, ty, 1),
        },
        goals=[(["NumPy einsum"], 1.8), (["torch"], 25)],
        bytes_read=2 * x.nbytes,
    )


# ---- all pairs ----


def broadcast():
    """The notebook's similarity matrix: z[None] with z[:, None]."""
    import numkong
    import sklearn.metrics.pairwise
    import torch

    z = _random(64, 100)
    t = torch.from_numpy(z)
    yield Case(
        "all pairs of (64, 100) float32, broadcast form",
        {
            "cossim": lambda: cossim.cosine_similarity(z[None], z[:, None], dim=2),
            "NumPy by hand": lambda: _numpy_pairs(z),
            "NumKong": lambda: numkong.cdist(z, z, "angular"),
            "torch normalize, mm": lambda: _torch_pairs(torch, t),
            "scikit-learn": lambda: sklearn.metrics.pairwise.cosine_similarity(z),
            "torch": lambda: torch.nn.functional.cosine_similarity(t[None], t[:, None], 2),
        },
        goals=[(["NumPy by hand"], 2), (["torch"], 30)],
        flops=64 * 65 * 100,
    )


def pairs():
    """All pairs of the rows of one matrix."""
    import faiss
    import numkong
    import scipy.spatial.distance
    import sklearn.metrics.pairwise
    import torch

    best = ["torch normalize, mm", "NumPy by hand", "scikit-learn"]
    for n, d in ((512, 128), (2048, 768), (8192, 384)):
        z = _random(n, d)
        t = torch.from_numpy(z)
        out = np.empty((n, n), np.float32)
        torch_out = torch.empty(n, n)
        candidates = {
            "cossim": lambda: cossim.pairwise(z, out=out),
            "NumPy by hand": lambda: _numpy_pairs(z, out=out),
            "torch normalize, mm": lambda: _torch_pairs(torch, t, out=torch_out),
            "scikit-learn": lambda: sklearn.metrics.pairwise.cosine_similarity(z),
            "FAISS": lambda: _faiss_pairs(faiss, z),
        }
        if n == 512:
            candidates["NumKong"] = lambda: numkong.cdist(z, z, "angular")
            candidates["SciPy"] = lambda: scipy.spatial.distance.cdist(z, z, "cosine")
            candidates["cossim"] = lambda: cossim.pairwise(z)
            candidates["NumPy by hand"] = lambda: _numpy_pairs(z)
            candidates["torch normalize, mm"] = lambda: _torch_pairs(torch, t)
        out_given = "" if n == 512 else ", out="
        yield Case(
            f"self-pairs ({n}, {d}) float32{out_given}",
            candidates,
            goals=[(best, 1.5)],
            flops=n * (n + 1) * d,
        )


def cross():
    """All pairs of the rows of two matrices."""
    import numkong
    import sklearn.metrics.pairwise
    import torch

    best = ["torch normalize, mm", "NumPy by hand", "scikit-learn"]
    n, d = 2048, 768
    for dtype, least in ((np.float32, 1.1), (np.float64, 1.0)):
        x, y = _two(n, d, dtype=dtype)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        candidates = {
            "cossim": lambda: cossim.pairwise(x, y),
            "NumPy by hand": lambda: _numpy_pairs(x, y),
            "torch normalize, mm": lambda: _torch_pairs(torch, tx, ty),
            "scikit-learn": lambda: sklearn.metrics.pairwise.cosine_similarity(x, y),
        }
        if dtype == np.float32:
            candidates["NumKong"] = lambda: numkong.cdist(x, y, "angular")
        yield Case(
            f"cross pairs ({n}, {d}) {dtype.__name__}",
            candidates,
            goals=[(best, least)],
            flops=2 * n * n * d,
            dtype=dtype.__name__,
        )
    x, y = _two(n, d, dtype=np.float16)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    yield Case(
        f"cross pairs ({n}, {d}) float16",
        {
            "cossim": lambda: cossim.pairwise(x, y),
            "torch normalize, mm": lambda: _torch_pairs(torch, tx, ty),
            "NumKong": lambda: numkong.cdist(x, y, "angular"),
        },
        goals=[(["torch normalize, mm"], 4)],
        flops=2 * n * n * d,
    )
    x, y = np.random.default_rng(0).integers(-128, 128, (2, n, d), dtype=np.int8)
    fx, fy = _two(n, d)
    yield Case(
        f"cross pairs ({n}, {d}) int8",
        {
            "cossim": lambda: cossim.pairwise(x, y),
            "cossim, float32 rows": lambda: cossim.pairwise(fx, fy),
            "NumKong": lambda: numkong.cdist(x, y, "angular"),
        },
        goals=[(["cossim, float32 rows"], 1.5)],
        flops=2 * n * n * d,
        table="",
    )


# ---- threads ----


@contextmanager
def _busy_core():
    """A second process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def threads():
    """Two threads of cossim against one, on an idle machine and while another process keeps a core busy."""
    z = _random(2048, 768)
    out = np.empty((2048, 2048), np.float32)

    def case(where, least):
        call = lambda: cossim.pairwise(z, out=out)  # noqa: E731
        return Case(
            f"self-pairs (2048, 768) float32, 2 threads, {where}",
            {"cossim": on(2, call), "cossim, 1 thread": on(1, call)},
            goals=[(["cossim, 1 thread"], least)],
            flops=2048 * 2049 * 768,
            threads=2,
        )

    yield case("nothing else running", 1.7)
    with _busy_core():
        yield case("one core busy elsewhere", 0.85)


# ---- memory and start-up ----


def _normal(shape):
    return f"np.random.default_rng(0).standard_normal({shape}, dtype=np.float32)"


def memory():
    """Peak memory of a call, not counting its result. Each call runs in a separate process (Linux)."""
    rivals = {
        "cossim": ("import cossim; cossim.set_num_threads(1); f = cossim.pairwise", "f(z)"),
        "NumPy by hand": (
            "def f(z):\n    unit = z / np.linalg.norm(z, axis=1, keepdims=True)\n    return unit @ unit.T",
            "f(z)",
        ),
        "torch normalize, mm": (
            "import torch\n"
            "def f(z):\n    unit = torch.nn.functional.normalize(torch.from_numpy(z))\n"
            "    return (unit @ unit.T).numpy()",
            "f(z)",
        ),
        "scikit-learn": ("from sklearn.metrics.pairwise import cosine_similarity as f", "f(z)"),
    }
    for shape in ((2048, 768), (8192, 384)):
        programs = {
            name: peak_program(imports, _normal(shape), "f(z[:8].copy())", call)
            for name, (imports, call) in rivals.items()
        }
        yield ProgramCase(f"peak memory without the result, self-pairs {shape} float32", programs, "bytes", 8 << 20)
    programs = {
        name: peak_program(imports, _normal((512, 128)), "f(z[:8, None], z[None, :8], 2)", call)
        for name, (imports, call) in {
            "cossim": ("import cossim; f = cossim.cosine_similarity", "f(z[:, None], z[None], 2)"),
            "torch": (
                "import torch\n"
                "def f(a, b, dim):\n    a, b = torch.from_numpy(a), torch.from_numpy(b)\n"
                "    return torch.nn.functional.cosine_similarity(a, b, dim).numpy()",
                "f(z[:, None], z[None], 2)",
            ),
        }.items()
    }
    yield ProgramCase("peak memory without the result, broadcast form (512, 128) float32", programs, "bytes", 8 << 20)


def startup():
    """Time of an import, without NumPy's."""
    program = "import numpy, time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    modules = {
        "cossim": "cossim",
        "SimSIMD": "simsimd",
        "NumKong": "numkong",
        "SciPy": "scipy.spatial.distance",
        "scikit-learn": "sklearn.metrics.pairwise",
        "torch": "torch",
    }
    programs = {name: program.format(module) for name, module in modules.items()}
    yield ProgramCase("import, beyond that of NumPy", programs, "seconds", 0.003, rounds=7)


BENCHES = {
    bench.__name__: bench
    for bench in (pair, rows, halves, normalize, columns, broadcast, pairs, cross, threads, memory, startup)
}
