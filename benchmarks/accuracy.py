"""python -m benchmarks.accuracy: measures errors of cosines against exact arithmetic, and renews docs/accuracy.md."""

import re
import sys
import warnings
from datetime import date
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from math import isqrt
from operator import mul
from pathlib import Path

import numpy as np

import cossim
from benchmarks import blas_kernels

PAGE = Path(__file__).resolve().parent.parent / "docs/accuracy.md"
START, END = "<!-- accuracy: renewed by make accuracy -->", "<!-- end of accuracy -->"
DTYPES = (np.float32, np.float64, np.float16)
DEPTHS = (128, 768, 4096)
ROWS, PAIRS = 64, 24  # 64 rows compared one to one; all pairs of 24 rows with 24
DIGITS = 10**60
WRONG = 0.01  # a larger error, or NaN, does not come from rounding


# ---- rows ----


def _random(rng, shape, dtype):
    return rng.standard_normal((2, *shape))


def _near_identical(rng, shape, dtype):
    """Every other pair has identical rows. The rows of the other pairs differ by up to two ulps in each element."""
    x = rng.standard_normal(shape).astype(dtype).astype(np.float64)
    units = rng.integers(-2, 3, shape) * (np.arange(shape[0]) % 2)[:, None]
    return x, x * (1 + units * float(np.finfo(dtype).eps))


def _scaled(power):
    """Returns a function that makes random rows times 10 ** power. power: a dict with a power for each dtype."""

    def rows(rng, shape, dtype):
        return rng.standard_normal((2, *shape)) * 10.0 ** power[dtype]

    return rows


def _runs(rng, shape, dtype):
    """Rows that hold one value, or two long runs of one value each."""
    values, ends = rng.uniform(0.1, 1, (2, 2, *shape[:-1], 1)), rng.integers(0, shape[-1], (2, *shape[:-1], 1))
    return np.where(np.arange(shape[-1]) < ends, *values.swapaxes(0, 1))


KINDS = {
    "random": _random,
    "near-identical": _near_identical,
    "huge": _scaled({np.float32: 30, np.float64: 200, np.float16: 3}),
    "tiny": _scaled({np.float32: -30, np.float64: -200, np.float16: -3}),
    "runs": _runs,
}


# ---- exact arithmetic ----


def integers(rows):
    """Yields each row as integers: its elements times one power of two, which does not change a cosine."""
    for row in rows:
        ratios = [float(element).as_integer_ratio() for element in row]
        below = max(denominator for _, denominator in ratios)
        yield [numerator * (below // denominator) for numerator, denominator in ratios]


def dot(x, y):
    return sum(map(mul, x, y))


def exact_cosine(xy, xx, yy):
    """Returns the cosine times DIGITS, rounded towards 0, from the exact sums x.y, x.x and y.y."""
    root = isqrt(xy * xy * DIGITS * DIGITS // (xx * yy))
    return root if xy >= 0 else -root


def errors(values, x, y, all_pairs):
    """Returns name -> the distance of each value from the exact cosine."""
    left, right = list(integers(x)), list(integers(y))
    squares = [[dot(row, row) for row in rows] for rows in (left, right)]
    where = np.ndindex(len(left), len(right)) if all_pairs else ((i, i) for i in range(len(left)))
    exact = [exact_cosine(dot(left[i], right[j]), squares[0][i], squares[1][j]) for i, j in where]

    def error(value, cosine):
        if not np.isfinite(value):
            return np.inf
        numerator, denominator = float(value).as_integer_ratio()
        return abs(numerator * DIGITS - cosine * denominator) / (DIGITS * denominator)

    return {name: [error(v, c) for v, c in zip(each.ravel(), exact, strict=True)] for name, each in values.items()}


# ---- libraries: name -> (module, rows, pairs) ----


def _norms(x):
    return np.linalg.norm(x, axis=1, keepdims=True)


def _wider(x, call, shape):
    """Calls with an out= of float64, the dtype that some other libraries return. Returns None for float64 rows."""
    return None if x.dtype == np.float64 else call(np.empty(shape))


def _torch_rows(torch, x, y):
    return torch.nn.functional.cosine_similarity(torch.from_numpy(x), torch.from_numpy(y), eps=0)


def _torch_pairs(torch, x, y):
    unit = [torch.nn.functional.normalize(torch.from_numpy(side), eps=0) for side in (x, y)]
    return unit[0] @ unit[1].T


def _faiss_pairs(faiss, x, y):
    if x.dtype != np.float32:
        return None
    unit = [x.copy(), y.copy()]
    for side in unit:
        faiss.normalize_L2(side)
    return faiss.pairwise_distances(*unit, faiss.METRIC_INNER_PRODUCT)


def _scipy_rows(distance, x, y):
    return [1 - float(distance.cosine(a, b)) for a, b in zip(x, y, strict=True)]


LIBRARIES = {
    "cossim": (
        "cossim",
        lambda module, x, y: module.cosine_similarity(x, y, eps=0),
        lambda module, x, y: module.pairwise(x, y, eps=0),
    ),
    "cossim, out= of float64": (
        "cossim",
        lambda module, x, y: _wider(x, lambda out: module.cosine_similarity(x, y, eps=0, out=out), len(x)),
        lambda module, x, y: _wider(x, lambda out: module.pairwise(x, y, eps=0, out=out), (len(x), len(y))),
    ),
    "NumPy by hand": (
        "numpy",
        lambda module, x, y: module.vecdot(x, y) / (_norms(x) * _norms(y))[:, 0],
        lambda module, x, y: (x / _norms(x)) @ (y / _norms(y)).T,
    ),
    "torch": ("torch", _torch_rows, _torch_pairs),
    "scikit-learn": (
        "sklearn.metrics.pairwise",
        lambda module, x, y: 1 - module.paired_cosine_distances(x, y).astype(float),
        lambda module, x, y: module.cosine_similarity(x, y),
    ),
    "SciPy": ("scipy.spatial.distance", _scipy_rows, lambda module, x, y: 1 - module.cdist(x, y, "cosine")),
    "SimSIMD": (
        "simsimd",
        lambda module, x, y: 1 - np.asarray(module.cosine(x, y)),
        lambda module, x, y: 1 - np.asarray(module.cdist(x, y, "cosine")),
    ),
    "NumKong": (
        "numkong",
        lambda module, x, y: 1 - np.asarray(module.angular(x, y)),
        lambda module, x, y: 1 - np.asarray(module.cdist(x, y, "angular")),
    ),
    "FAISS": ("faiss", None, _faiss_pairs),
}


def versions():
    for name, (module, *_) in installed().items():
        package = module.partition(".")[0]
        if package != "cossim":
            number = version({"sklearn": "scikit-learn", "faiss": "faiss-cpu"}.get(package, package))
            yield f"{name.removesuffix(' by hand')} {number}"


def installed():
    return {name: parts for name, parts in LIBRARIES.items() if find_spec(parts[0].partition(".")[0])}


def answers(libraries, x, y, all_pairs):
    """Returns the cosines of each library that offers them, in the type that it returns."""
    found = {}
    for name, (module, *ways) in libraries.items():
        if ways[all_pairs]:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                values = ways[all_pairs](import_module(module), x, y)
            if values is not None:
                found[name] = np.asarray(values)
    return found


def measure(libraries, dtype, all_pairs):
    """Returns (kind, depth) -> name -> (largest error, share of scores above 1)."""
    table = {}
    for kind, make in KINDS.items():
        for depth in DEPTHS:
            rng = np.random.default_rng(depth)
            x, y = (np.asarray(side, dtype) for side in make(rng, (PAIRS if all_pairs else ROWS, depth), dtype))
            values = answers(libraries, x, y, all_pairs)
            table[kind, depth] = {
                name: (max(each), float(np.mean(values[name] > 1)))
                for name, each in errors(values, x, y, all_pairs).items()
            }
    return table


# ---- the page ----


def cell(figure):
    if figure is None:
        return ""
    error, above = figure
    text = "wrong" if error > WRONG else f"{error:.1e}".replace("e-0", "e-")
    return f"{text}, {100 * above:.2g} % above 1" if above else text


def written(table, names):
    lines = [f"| rows | D | {' | '.join(names)} |", "| --- | ---: |" + " --- |" * len(names)]
    for (kind, depth), figures in table.items():
        lines.append(f"| {kind} | {depth} | {' | '.join(cell(figures.get(name)) for name in names)} |")
    return "\n".join(lines)


def renewed(page, text):
    pattern = re.compile(re.escape(START) + ".*?" + re.escape(END), re.S)
    if not pattern.search(page):
        raise SystemExit(f"the page has no {START} ... {END}")
    return pattern.sub(lambda _: f"{START}\n{text}\n{END}", page)


def main():
    libraries = installed()
    parts = []
    for dtype in DTYPES:
        for all_pairs, form in enumerate(("rows", "pairs")):
            print(f"{np.dtype(dtype).name}, {form}", flush=True)
            table = measure(libraries, dtype, all_pairs)
            names = [name for name in libraries if any(name in figures for figures in table.values())]
            parts += [f"## {np.dtype(dtype).name}, {form}\n", written(table, names) + "\n"]
    isa = cossim.show_config("dicts")["instruction set"]["in use"]
    kernels = blas_kernels()
    print(f"BLAS kernels: {kernels}")
    others = ", ".join(versions())
    parts.append(f"cossim {cossim.__version__} ({isa}); {others}; BLAS kernels: {kernels}; {date.today()}.")
    PAGE.write_text(renewed(PAGE.read_text(), "\n".join(["", *parts])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
