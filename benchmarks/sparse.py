"""The comparisons of sparse rows. Each case first checks that all of its calls give the same result."""

import re
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

import cossim
from benchmarks.harness import Case, ProgramCase, peak_program

TEXTS, THRESHOLD = 20_000, 0.8


def random_rows(rows, columns, entries, dtype=np.float32, seed=0):
    """Random rows in CSR, with `entries` entries each."""
    import scipy.sparse

    rng, width = np.random.default_rng(seed), columns // entries
    indices = np.sort(rng.integers(0, width, (rows, entries)) + np.arange(entries) * width)
    indptr = np.arange(rows + 1) * entries
    return scipy.sparse.csr_array((rng.random(rows * entries, dtype), indices.ravel(), indptr), shape=(rows, columns))


def tf_idf(count):
    """The TF-IDF matrix of the longest docstrings of the standard library and of the packages that are installed."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = set()
    paths = {path for key in ("stdlib", "purelib") for path in Path(sysconfig.get_path(key)).rglob("*.py")}
    for path in sorted(paths):
        texts.update(re.findall(r'^ *r?"""(.+?)"""', path.read_text(encoding="utf-8", errors="replace"), re.M | re.S))
        if len(texts) > 3 * count:
            break
    return TfidfVectorizer().fit_transform(sorted(texts, key=len)[-count:])


def sparse_topk():
    """The ten nearest other rows of each row."""
    import scipy.sparse
    from sklearn.preprocessing import normalize
    from sparse_dot_topn import sp_matmul_topn

    for dtype in (np.float32, np.float64):
        x = random_rows(6000, 40_000, 50, dtype)
        unit = normalize(scipy.sparse.csr_matrix(x))  # sparse_dot_topn takes matrices only
        transposed = unit.T.tocsr()
        candidates = {
            "cossim": lambda: cossim.topk(x, None, 10),
            "sparse_dot_topn": lambda: sp_matmul_topn(unit, transposed, top_n=11, sort=True),
        }
        found, theirs = (call() for call in candidates.values())
        if not np.isclose(found.values.sum() + len(found.values), theirs.sum(), rtol=1e-4):
            raise SystemExit("sparse_dot_topn does not find the neighbours that cossim finds")
        yield Case(
            f"10 nearest of each of {x.shape}, 50 entries a row, {np.dtype(dtype)}",
            candidates,
            goals=[(["sparse_dot_topn"], 3)],
        )


def sparse_pairs():
    """Near-duplicates of texts: time, and memory in separate processes."""
    import scipy.sparse
    from sklearn.metrics.pairwise import cosine_similarity
    from sparse_dot_topn import sp_matmul_topn

    texts = tf_idf(TEXTS)
    columns, what = texts.T.tocsr(), f"pairs above {THRESHOLD} of TF-IDF {texts.shape}"
    candidates = {
        "cossim": lambda: cossim.pairs_above(texts, THRESHOLD),
        "sparse_dot_topn": lambda: sp_matmul_topn(texts, columns, top_n=columns.shape[1], threshold=THRESHOLD),
    }
    found, theirs = (call() for call in candidates.values())
    filled = np.count_nonzero(np.diff(texts.indptr))  # texts without words are not similar to themselves
    if 2 * len(found.i) + filled != theirs.nnz:
        raise SystemExit("sparse_dot_topn does not find the pairs that cossim finds")
    yield Case(what, candidates, goals=[(["sparse_dot_topn"], 10)])

    part = texts[: TEXTS // 4]
    candidates = {
        "cossim": lambda: cossim.pairs_above(part, THRESHOLD),
        "scikit-learn": lambda: (cosine_similarity(part, dense_output=False) >= THRESHOLD).nonzero(),
    }
    yield Case(f"pairs above {THRESHOLD} of TF-IDF {part.shape}", candidates, goals=[(["scikit-learn"], 10)])

    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        scipy.sparse.save_npz(file, part)
        file.flush()
        calls = {
            "cossim": "import cossim; cossim.set_num_threads(1)\nf = lambda z: cossim.pairs_above(z, {})",
            "scikit-learn": "from sklearn.metrics.pairwise import cosine_similarity\n"
            "f = lambda z: (cosine_similarity(z, dense_output=False) >= {}).nonzero()",
        }
        data = f"__import__('scipy.sparse').sparse.load_npz({file.name!r})"
        programs = {
            name: peak_program(call.format(THRESHOLD), data, "f(z[:8])", "f(z)") for name, call in calls.items()
        }
        title = f"peak memory without the result, pairs above {THRESHOLD} of TF-IDF {part.shape}"
        yield ProgramCase(title, programs, "bytes", goals=[(["scikit-learn"], 20)])


def sparse_pairwise():
    """All scores, as a dense matrix: of one set, and of two."""
    from sklearn.metrics.pairwise import cosine_similarity

    for dtype in (np.float32, np.float64):
        x, y = (random_rows(3000, 20_000, 75, dtype, seed) for seed in (0, 1))
        for what, others in (("itself", ()), ("another", (y,))):
            candidates = {
                "cossim": lambda a=others: cossim.pairwise(x, *a),
                "scikit-learn": lambda a=others: cosine_similarity(x, *a, dense_output=True),
            }
            if not np.allclose(*(call() for call in candidates.values()), atol=1e-6):
                raise SystemExit("scikit-learn does not give the scores that cossim gives")
            title = f"pairwise {x.shape} with {what}, 75 entries a row, {np.dtype(dtype)}"
            yield Case(title, candidates, goals=[(["scikit-learn"], 2)])


BENCHES = {bench.__name__: bench for bench in (sparse_topk, sparse_pairs, sparse_pairwise)}
