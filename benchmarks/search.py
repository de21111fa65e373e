"""The comparisons of search. Each case first checks that all of its calls find the same rows."""

import itertools
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import cossim
from benchmarks.harness import Case, ProgramCase, peak_program

ROOT = Path(__file__).resolve().parent.parent
EMBEDDINGS = ROOT.parent / "shared" / "data" / "stdlib_docstrings_minilm_f16.npy"  # next to a developer's checkout
INSTALLED, EARLY = "FAISS", "FAISS, BLAS early"


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# ---- rivals: functions of queries and k that return indices into a corpus of normalized rows ----


def _faiss_index(faiss, unit):
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    return index


def _faiss_search(faiss, index, blas_from):
    """FAISS uses a matrix product when the number of queries times the dimension is at least `blas_from`."""

    def search(queries, k):
        faiss.cvar.distance_compute_blas_threshold = blas_from
        return index.search(_unit(queries), k)[1]

    return search


def _numpy_search(unit, scores):
    """Takes len(scores) queries at a time. argpartition is twice as fast row by row as on all rows at once."""

    def search(queries, k):
        found, queries = np.empty((len(queries), k), np.int64), _unit(queries)
        for start in range(0, len(queries), len(scores)):
            chunk = queries[start : start + len(scores)]
            for row, result in zip(
                np.matmul(chunk, unit.T, out=scores[: len(chunk)]), found[start : start + len(chunk)], strict=True
            ):
                best = np.argpartition(row, -k)[-k:]
                result[:] = best[np.argsort(-row[best])]
        return found

    return search


def _torch_search(torch, unit, scores):
    """Takes len(scores) queries at a time."""
    unit, scores = torch.from_numpy(unit), torch.from_numpy(scores)

    def search(queries, k):
        with torch.inference_mode():
            chunks = torch.nn.functional.normalize(torch.from_numpy(queries)).split(len(scores))
            found = [torch.topk(torch.mm(chunk, unit.T, out=scores[: len(chunk)]), k).indices for chunk in chunks]
            return torch.cat(found).numpy()

    return search


def _usearch_search(usearch, unit):
    """Uses the inner product of unit rows, which is a tenth to a third faster than usearch's cosine."""

    def search(queries, k):
        metric = usearch.index.MetricKind.IP
        return usearch.index.search(unit, _unit(queries), k, metric, exact=True, threads=1).keys

    return search


# ---- the checks ----


def _check_neighbours(unit, queries, candidates):
    """Checks that all candidates find neighbours with equal scores, within the error of float32, and none twice."""
    queries, expected = _unit(queries), None
    for name, call in candidates.items():
        found = np.atleast_2d(call()).astype(np.int64)  # usearch returns one dimension for one query
        ordered = np.sort(found, axis=1)
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise SystemExit(f"{name} finds a neighbour twice")
        scores = np.empty(found.shape, np.float32)
        for start in range(0, len(found), 500):
            part = slice(start, start + 500)
            scores[part] = np.vecdot(queries[part, None], unit[found[part]])
        scores.sort(axis=1)
        expected = scores if expected is None else expected
        if scores.shape != expected.shape or not np.allclose(scores, expected, rtol=0, atol=2e-6):
            raise SystemExit(f"{name} does not find the neighbours that {next(iter(candidates))} finds")


def _check_pairs(x, threshold, candidates):
    """Checks that all candidates find the same pairs, except where float32 cannot tell the score from the threshold."""
    unit, expected = _unit(x.astype(np.float64)), None
    for name, call in candidates.items():
        found = set(zip(*(a.tolist() for a in call()), strict=True))
        expected = found if expected is None else expected
        for i, j in found ^ expected:
            if abs(unit[i] @ unit[j] - threshold) > 2e-6:
                raise SystemExit(f"{name} does not find the pairs that {next(iter(candidates))} finds")


# ---- the nearest of a corpus ----


def topk():
    """The ten nearest rows of a corpus, with and without an Index, for one query to 2048."""
    import faiss
    import torch
    import usearch.index

    corpus, k = _random(200000, 384), 10
    unit, index = _unit(corpus), cossim.Index(corpus)
    scores = np.empty((512, len(corpus)), np.float32)  # chunks of 512 queries are faster than 256, 1024 or all
    flat = _faiss_index(faiss, unit)
    installed = faiss.cvar.distance_compute_blas_threshold
    searches = {
        "cossim": lambda queries, k: cossim.topk(queries, corpus, k).indices,
        "cossim Index": lambda queries, k: index.topk(queries, k).indices,
        INSTALLED: _faiss_search(faiss, flat, installed),
        # FAISS 1.15 uses BLAS if queries times dimension is at least 128000, which suits many threads; its pull request
        # 5109 has 800 for one thread
        EARLY: _faiss_search(faiss, flat, 800),
        "torch normalize, mm": _torch_search(torch, unit, scores),
        "NumPy by hand": _numpy_search(unit, scores),
        "usearch": _usearch_search(usearch, unit),
    }
    # least ratios of times: best rival to topk, FAISS with its defaults to topk, index_rival to the Index
    for n, least, least_faiss, index_rival, least_index in (
        (1, 1.1, None, INSTALLED, 2.5),
        (16, 2.0, 6.0, "cossim", 1.3),
        (256, 1.8, 9.0, "cossim", 1.1),
        (2048, 1.2, None, "cossim", 1.0),
    ):
        queries = _random(n, 384, seed=1)
        candidates = {name: lambda f=f: f(queries, k) for name, f in searches.items()}
        if not 800 <= queries.size < installed:  # EARLY is then the same as FAISS with its defaults
            del candidates[EARLY]
        if n == 2048:  # usearch takes one query at a time: 46 s, ten times as long as the others
            del candidates["usearch"]
        _check_neighbours(unit, queries, candidates)
        rivals = [name for name in candidates if not name.startswith("cossim")]
        goals = [(rivals, least), ([index_rival], least_index, "cossim Index")]
        if least_faiss:
            goals.insert(1, ([INSTALLED], least_faiss))
        yield Case(
            f"{k} nearest of (200000, 384), {n} quer{'y' if n == 1 else 'ies'}",
            candidates,
            goals=goals,
            # one query is bound by reading, many by multiplications; these count as float32, so 8-bit codes can exceed
            # the float32 peak
            **({"bytes_read": corpus.nbytes} if n == 1 else {"flops": 2 * n * corpus.size}),
            table="search",
        )
    faiss.cvar.distance_compute_blas_threshold = installed


def binary():
    """The ten nearest rows of packed bits, 1024 a row. Successive calls read different corpora, so from memory."""
    import faiss

    rng, k, corpora = np.random.default_rng(0), 10, 8
    bits = rng.integers(0, 256, (corpora, 200000, 128), np.uint8)
    words, indexes = bits.view(np.uint64).reshape(corpora, -1), []
    faiss.omp_set_num_threads(1)
    for corpus in bits:
        indexes.append(faiss.IndexBinaryFlat(1024))
        indexes[-1].add(corpus)

    def in_turn(call, *arguments):
        numbers = itertools.cycle(range(corpora))
        return lambda: call(next(numbers), *arguments)

    for n in (1, 64):
        queries = rng.integers(0, 256, (n, 128), np.uint8)
        distances = [index.search(queries, k)[0] for index in indexes]
        for corpus, found in zip(bits, distances, strict=True):
            if not np.array_equal(cossim.topk(queries, corpus, k, binary=True).values, 1 - found / 512):
                raise SystemExit("cossim and FAISS do not find neighbours at the same distances")
        candidates = {
            "cossim": in_turn(lambda i, q: cossim.topk(q, bits[i], k, binary=True), queries),
            "FAISS IndexBinaryFlat": in_turn(lambda i, q: indexes[i].search(q, k), queries),
        }
        goals = [(["FAISS IndexBinaryFlat"], 1.2 if n == 1 else 2.0)]
        if n == 1:
            candidates["reading the bytes"] = in_turn(lambda i: np.add.reduce(words[i]))
            goals.append((["reading the bytes"], 1 / 1.3))
        yield Case(
            f"{k} nearest of (200000, 1024) packed bits, {n} quer{'y' if n == 1 else 'ies'}",
            candidates,
            goals=goals,
            bytes_read=bits[0].nbytes if n == 1 else 0,
            table="",
        )


def self_topk():
    """The nearest other rows of each row."""
    import faiss

    x, k = _random(20000, 256), 50
    unit = _unit(x)
    flat = _faiss_index(faiss, unit)
    candidates = {
        "cossim": lambda: cossim.topk(x, None, k).indices,
        "FAISS": lambda: flat.search(unit, k + 1)[1][:, 1:],  # each row finds itself first
    }
    _check_neighbours(unit, x, candidates)
    yield Case(
        f"{k} nearest of each of (20000, 256)",
        candidates,
        goals=[(["FAISS"], 1.7)],
        flops=2 * len(x) * x.size,
        table="search",
    )


def _pairwise_argpartition(queries, corpus, k, itself=False, rows=256):
    """The k nearest by hand. For some queries at a time, NumPy selects and sorts the k best of all scores."""
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), rows):
        scores = cossim.pairwise(queries[start : start + rows], corpus)
        if itself:
            at = np.arange(len(scores))
            scores[at, start + at] = -2
        for row, result in zip(scores, found[start:], strict=False):
            best = np.argpartition(row, -k)[-k:] if k < len(row) else np.arange(k)
            result[:] = best[np.argsort(-row[best])]
    return found


def large_k():
    """k from 100 to all rows of a corpus: at most a tenth slower than pairwise and argpartition."""
    corpus = _random(20000, 384)
    unit = _unit(corpus)
    for n, ks in ((16, (100, 1000, 5000, len(corpus))), (1000, (100, 1000, 5000))):
        queries = _random(n, 384, seed=1)
        for k in ks:
            candidates = {
                "cossim": lambda q=queries, k=k: cossim.topk(q, corpus, k).indices,
                "pairwise, argpartition": lambda q=queries, k=k: _pairwise_argpartition(q, corpus, k),
            }
            _check_neighbours(unit, queries[:16], {name: lambda c=call: c()[:16] for name, call in candidates.items()})
            yield Case(
                f"{k} nearest of {corpus.shape}, {n} queries",
                candidates,
                goals=[(["pairwise, argpartition"], 0.9)],
                table="",
            )
    some = corpus[:5000]
    for k in (100, 1000):
        candidates = {
            "cossim": lambda k=k: cossim.topk(some, None, k).indices,
            "pairwise, argpartition": lambda k=k: _pairwise_argpartition(some, some, k, itself=True),
        }
        goals = [(["pairwise, argpartition"], 0.9)]
        yield Case(f"{k} nearest of each of {some.shape}", candidates, goals=goals, table="")


def alike():
    """Rows that are equal, zero, tiny or huge: at most twice the time of random rows."""
    random = _random(60000, 384)
    corpora = {
        "equal": np.repeat(random[:1], len(random), 0),
        "zero": np.zeros_like(random),
        "tiny": random * np.float32(1e-19),
        "huge": random * np.float32(1e20),
    }
    for n in (1, 4, 16, 256):
        queries = _random(n, 384, seed=1)
        for name, corpus in corpora.items():
            yield Case(
                f"10 nearest of {corpus.shape} {name} rows, {n} quer{'y' if n == 1 else 'ies'}",
                {
                    "cossim": lambda q=queries, x=corpus: cossim.topk(q, x, 10),
                    "random rows": lambda q=queries: cossim.topk(q, random, 10),
                },
                goals=[(["random rows"], 0.5)],
                table="",
            )
    some = random[:4000]
    for name in ("equal", "zero"):
        yield Case(
            f"10 nearest of each of {some.shape} {name} rows",
            {
                "cossim": lambda x=corpora[name][:4000]: cossim.topk(x, None, 10),
                "random rows": lambda: cossim.topk(some, None, 10),
            },
            goals=[(["random rows"], 0.5)],
            table="",
        )


def types():
    """One query and a corpus of each type, against float32; all pairs of 8-bit integers."""
    rows = np.clip(30 * _random(200001, 384), -127, 127)
    floats = rows[:1], rows[1:]
    for dtype, most in (("float64", 2.3), ("int64", 2.3), ("int16", 1.6), ("float16", 0.6), ("int8", 0.4)):
        query, corpus = (part.astype(dtype) for part in floats)
        yield Case(
            f"10 nearest of {corpus.shape} {dtype}, 1 query",
            {
                "cossim": lambda q=query, x=corpus: cossim.topk(q, x, 10),
                "float32": lambda: cossim.topk(*floats, 10),
            },
            goals=[(["float32"], 1 / most)],
            bytes_read=corpus.nbytes,
            table="",
        )
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-128, 128, (2048, 768), np.int8) for _ in range(2))
    wide = x.astype(np.float32), y.astype(np.float32)
    has_vnni = "VNNI" in cossim.show_config("dicts")["instruction set"]["description"]
    yield Case(
        "all pairs of two sets (2048, 768) int8",
        {"cossim": lambda: cossim.pairwise(x, y), "float32": lambda: cossim.pairwise(*wide)},
        goals=[(["float32"], 2.5 if has_vnni else 1.5)],
        table="",
    )


# ---- pairs above a threshold ----


def embeddings():
    """Sentence embeddings, (8068, 384), if the file is next to the checkout, else random clusters of the same shape."""
    if EMBEDDINGS.exists():
        return np.load(EMBEDDINGS).astype(np.float32)
    clusters = np.random.default_rng(1).integers(0, 8068, 8068)
    return _random(8068, 384)[clusters] + 0.2 * _random(8068, 384, seed=2)


def sklearn_pairs(x, threshold):
    """Compares all scores with the threshold. Taking their upper triangle first is slower and needs more memory."""
    from sklearn.metrics.pairwise import cosine_similarity

    i, j = np.argwhere(cosine_similarity(x) >= threshold).T
    return i[i < j], j[i < j]


def pairs_above():
    """Near-duplicates: time, and memory in separate processes."""
    x, threshold = embeddings(), 0.9
    what = f"pairs above {threshold} of {x.shape} {'' if EMBEDDINGS.exists() else 'random '}embeddings"
    candidates = {
        "cossim": lambda: cossim.pairs_above(x, threshold)[:2],
        "scikit-learn": lambda: sklearn_pairs(x, threshold),
    }
    _check_pairs(x, threshold, candidates)
    yield Case(what, candidates, goals=[(["scikit-learn"], 2)], flops=len(x) * x.size, table="search")
    imports = {
        "cossim": "import cossim; cossim.set_num_threads(1); f = cossim.pairs_above",
        "scikit-learn": "from benchmarks.search import sklearn_pairs as f",
    }
    data = "__import__('benchmarks.search').search.embeddings()"
    programs = {
        name: peak_program(each, data, f"f(z[:8].copy(), {threshold})", f"f(z, {threshold})")
        for name, each in imports.items()
    }
    yield ProgramCase(f"peak memory without the result, {what}", programs, "bytes", goals=[(["scikit-learn"], 20)])


def like_embeddings(rows, seed=0):
    """Rows drawn with the mean and covariance of embeddings()."""
    x = embeddings().astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    turn = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    return _random(rows, len(turn), seed=seed) @ turn.T + x.mean(axis=0).astype(np.float32)


def large_sets():
    """Near-duplicates in rows like embeddings, which heads rule out."""
    x, threshold = like_embeddings(20000), 0.9
    x[100:200] = x[300:400] + np.float32(0.01) * x[500:600]

    def through_index():
        i, j, _ = cossim.Index(x).pairs_above(x, threshold)  # both orders, and each row with itself
        return i[i < j], j[i < j]

    candidates = {"cossim": lambda: cossim.pairs_above(x, threshold)[:2], "cossim Index": through_index}
    _check_pairs(x, threshold, candidates)
    yield Case(f"pairs above {threshold} of {x.shape} like embeddings", candidates, flops=len(x) * x.size, table="")


def like():
    """An Index of rows like embeddings, for one query, 16 and 256."""
    import faiss

    corpus = like_embeddings(200000)
    index, unit = cossim.Index(corpus), _unit(corpus)
    flat = _faiss_index(faiss, unit)
    for n, least in ((1, 6), (16, 40), (256, 50)):
        queries = like_embeddings(n, seed=1)
        candidates = {
            "cossim": lambda q=queries: index.topk(q, 10).indices,
            "FAISS": lambda q=queries: flat.search(_unit(q), 10)[1],
        }
        _check_neighbours(unit, queries, candidates)
        title = f"Index, 10 nearest of {corpus.shape} like embeddings, {n} quer{'y' if n == 1 else 'ies'}"
        yield Case(title, candidates, goals=[(["FAISS"], least)], table="")


def many_pairs():
    """Four million pairs: the peak without the result, in memory, in an Index and from a file."""
    start = "import cossim; cossim.set_num_threads(1)\n"
    calls = {
        "cossim": "f = lambda z: cossim.pairs_above(z, 0.0)",
        "cossim Index": "f = lambda z: cossim.Index(z).pairs_above(z[:1450], 0.0)",
        "cossim, file": "import tempfile\nstored = tempfile.NamedTemporaryFile(suffix='.npy')\n"
        "def f(z):\n    np.save(stored.name, z)\n    return cossim.pairs_above(stored.name, 0.0, memory=1 << 20)",
    }
    for dtype in ("f4", "f8"):
        data = f"abs(np.random.default_rng(0).standard_normal((2900, 8))).astype('{dtype}')"
        programs = {name: peak_program(start + call, data, "f(z[:300].copy())", "f(z)") for name, call in calls.items()}
        yield ProgramCase(f"peak memory without the result, 4.2 million pairs of {dtype}", programs, "bytes", 64 << 20)


# ---- the Index ----


def index():
    """Building an Index: time, and the memory that it adds to a corpus, in separate processes."""
    import faiss

    shape = (200000, 384)
    corpus = _random(*shape)

    def build_faiss():
        unit = corpus.copy()
        faiss.normalize_L2(unit)
        return _faiss_index(faiss, unit)

    yield Case(
        f"building an Index of {shape} float32",
        {"cossim": lambda: cossim.Index(corpus), "FAISS": build_faiss},
        limit=corpus.nbytes / 1e9,  # reads at least 1 GB/s
        bytes_read=corpus.nbytes,
        table="",
    )
    imports = {
        "cossim": "import cossim; cossim.set_num_threads(1)\ndef build(z):\n    return cossim.Index(z)",
        "FAISS": "import faiss\ndef build(z):\n    i = faiss.IndexFlatIP(z.shape[1])\n    i.add(z)\n    return i",
    }
    keep = "\ndef f(z):\n    global kept\n    kept = build(z)\n    return z[:0]"
    data = f"np.random.default_rng(0).standard_normal({shape}, dtype=np.float32)"
    programs = {name: peak_program(each + keep, data, "f(z[:8].copy())", "f(z)") for name, each in imports.items()}
    title = f"peak memory of building an Index, without its corpus {shape} float32 ({corpus.nbytes / 1e6:.0f} MB)"
    yield ProgramCase(title, programs, "bytes", 0.30 * corpus.nbytes)


# ---- a corpus larger than memory= ----

_BEYOND = """
import os, statistics, time
import numpy as np
import cossim
cossim.set_num_threads(1)
path = {path!r}
file = os.open(path, os.O_RDONLY)
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # empties the page cache
query = np.random.default_rng(1).standard_normal((1, 384), dtype=np.float32)
def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
def search():
    cossim.topk(query, np.load(path, mmap_mode="r"), 10, memory=256 << 20)
{measure}
"""

# O_DIRECT bypasses the page cache: filling it can halve the speed of a plain read.
_READ = """
import mmap
def read():
    direct, buffer = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 16 << 20)
    while os.readv(direct, [buffer]) == len(buffer):
        pass
print(seconds(read))
"""

_IN_MEMORY = """
corpus = np.array(np.load(path, mmap_mode="r")[: {rows}])
print({times} * statistics.median(seconds(lambda: cossim.topk(query, corpus, 10)) for _ in range(7)))
"""

_RESIDENT = """
search()
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")))
"""


@contextmanager
def _npy(rows, dim):
    """Writes a .npy file of random rows to the disk, yields its path, and removes it."""
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    nbytes = rows * dim * 4
    if shutil.disk_usage(folder).free < nbytes + (2 << 30):
        raise SystemExit(f"beyond_memory needs {(nbytes >> 30) + 2} GiB of disk in {folder}")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        rng = np.random.default_rng(0)
        for start in range(0, rows, 1 << 17):
            rng.standard_normal((min(1 << 17, rows - start), dim), dtype=np.float32).tofile(file)
        file.flush()
        os.fsync(file.fileno())  # only pages that are on the disk can leave the page cache
        yield file.name


def beyond_memory(nbytes=12 << 30):
    """Searches a large file with 256 MiB; each candidate runs in a separate process with an empty page cache."""
    dim, part = 384, 12
    rows = nbytes // (4 * dim)
    with _npy(rows, dim) as path:
        measures = {
            "cossim": "print(seconds(search))",
            "plain read": _READ,
            f"cossim, a {part}th in memory, times {part}": _IN_MEMORY.format(rows=rows // part, times=part),
        }
        programs = {name: _BEYOND.format(path=path, measure=each) for name, each in measures.items()}
        title = f"10 nearest of a file ({rows}, {dim}) float32, 1 query, memory=256 MiB"
        yield ProgramCase(title, programs, "seconds", bytes_read=rows * dim * 4, rounds=3)
        resident = {"cossim": _BEYOND.format(path=path, measure=_RESIDENT)}
        yield ProgramCase(f"resident set, {title}", resident, "bytes", 600 << 20)


BENCHES = {
    bench.__name__: bench
    for bench in (topk, binary, self_topk, large_k, alike, types, pairs_above, large_sets, like, many_pairs, index)
}
ONLY_NAMED = {"beyond_memory": beyond_memory}  # needs too much disk and time to run with the others
