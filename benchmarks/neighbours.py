"""The comparisons of an Index that lives, filters, and neighbours. Each case first checks that its calls agree."""

import itertools

import numpy as np

import cossim
from benchmarks.harness import Case, ProgramCase, peak_program
from benchmarks.search import _random, _unit

N, DIM, K = 200_000, 384, 10


def _like_embeddings(n, rows_of_a_topic=20, seed=0):
    """Rows that form topics, as embeddings do. Most of their energy is in a quarter of the directions."""
    rng = np.random.default_rng(seed)
    directions = _random(DIM, DIM, seed=seed + 1) * 0.97 ** np.arange(DIM, dtype=np.float32)[:, None]
    topics = _random(max(1, n // rows_of_a_topic), DIM, seed=seed + 2)
    return (topics[rng.integers(0, len(topics), n)] + 0.45 * _random(n, DIM, seed=seed + 3)) @ directions


def filters():
    """One query among the rows that a mask leaves."""
    import faiss

    corpus, query = _random(N, DIM), _random(1, DIM, seed=1)
    index, unit = cossim.Index(corpus), _unit(query)
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(_unit(corpus))
    for share, of_all in ((0.5, 0.8), (0.1, 0.35), (0.001, 0.1)):
        mask = np.random.default_rng(2).random(N) < share
        # FAISS gets its bitmap ready-made, cossim packs the mask in each call.
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")))
        candidates = {
            "cossim": lambda mask=mask: index.topk(query, K, where=mask).indices,
            "cossim, all rows": lambda: index.topk(query, K).indices,
            "FAISS": lambda parameters=parameters: flat.search(unit, K, params=parameters)[1],
        }
        if not np.array_equal(candidates["cossim"](), candidates["FAISS"]()):
            raise SystemExit("cossim and FAISS find other rows")
        yield Case(
            f"{K} nearest of ({N}, {DIM}), 1 query, a mask of {100 * share:g} % of the rows",
            candidates,
            goals=[(["cossim, all rows"], 1 / of_all), (["FAISS"], 4)],
            table="neighbours",
        )


_COLD = """
import time
import numpy as np
{imports}
random = np.random.default_rng(0)
corpus = random.standard_normal(({n}, {dim}), dtype=np.float32)
rows = corpus[:10].copy()
{prepare}
seconds = []
for _ in range({rounds}):
    corpus.sum()  # takes the caches
    start = time.perf_counter()
    {step}
    seconds.append(time.perf_counter() - start)
    {after}
print(sorted(seconds)[{rounds} // 2])
"""


def _cold(imports, prepare, step, after="", rounds=15):
    """Returns a program that times a step after all of the corpus was read, so that the caches hold nothing else."""
    fields = {"imports": imports, "prepare": prepare, "step": step, "after": after, "rounds": rounds}
    return _COLD.format(n=N, dim=DIM, **fields)


_SERIES = """
import time
import numpy as np
{imports}
random = np.random.default_rng(0)
corpus = random.standard_normal(({n}, {dim}), dtype=np.float32)
rows = corpus[:10].copy()
{prepare}
start = time.perf_counter()
for step in range({steps}):
    {step}
print((time.perf_counter() - start) / {steps})
"""


def _series(imports, prepare, step, steps=2000):
    """Returns a program that prints the mean time of a series of steps, including the steps that move all rows."""
    fields = {"imports": imports, "prepare": prepare, "step": step, "steps": steps}
    return _SERIES.format(n=N, dim=DIM, **fields)


def changes():
    """Rows that come and go, ten at a time.

    A series is one step after the other: 20,000 adds, which double the rows, or 2,000 removals. Its time is the mean
    of all steps. In the case in turn, a removal follows each add. In the cold cases each step follows a pass over all
    rows of the corpus.
    """
    import faiss

    ours = "import cossim\ncossim.set_num_threads(1)"
    theirs = "import faiss\nfaiss.omp_set_num_threads(1)"
    flat_of = "flat = faiss.IndexFlatIP(corpus.shape[1])\nflat.add(corpus)"
    living = "index = cossim.Index(corpus)\nadded = index.add(rows)\nindex.remove(added)"
    at_random = f"order = random.permutation({N})"
    yield ProgramCase(
        f"10 rows added to ({N}, {DIM}), a series",
        {
            "cossim": _series(ours, "index = cossim.Index(corpus)", "index.add(rows)", N // 10),
            "cossim, a new Index": _series(ours, "", "cossim.Index(corpus)", 10),
        },
        "seconds",
        goals=[(["cossim, a new Index"], 1000)],
    )
    yield ProgramCase(
        f"10 rows of ({N}, {DIM}), at random, removed, a series",
        {
            "cossim": _series(
                ours, f"index = cossim.Index(corpus)\n{at_random}", "index.remove(order[10 * step : 10 * step + 10])"
            ),
            "FAISS": _series(
                theirs, f"{flat_of}\n{at_random}", "flat.remove_ids(order[10 * step : 10 * step + 10] * 9 // 10)", 30
            ),
        },
        "seconds",
        goals=[(["FAISS"], 1000)],
    )
    corpus, rows = _random(N, DIM), _random(10, DIM, seed=1)
    index, numbers = cossim.Index(corpus), itertools.count(0, 10)
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(_unit(corpus))

    def add_and_remove():
        first = next(numbers)
        index.add(rows)
        index.remove(np.arange(first, first + 10))

    def faiss_remove():
        flat.remove_ids(faiss.IDSelectorRange(0, 10))
        flat.add(rows)

    yield Case(
        f"10 rows added to ({N}, {DIM}) and 10 removed, in turn, some hundred times",
        {"cossim": add_and_remove, "cossim, a new Index": lambda: cossim.Index(corpus), "FAISS": faiss_remove},
        table="neighbours",
    )
    yield ProgramCase(
        f"10 rows added to ({N}, {DIM}), with cold caches",
        {
            "cossim": _cold(ours, living, "added = index.add(rows)", "index.remove(added)"),
            "cossim, a new Index": _cold(ours, "", "cossim.Index(corpus)"),
        },
        "seconds",
    )
    yield ProgramCase(
        f"10 rows of ({N}, {DIM}) removed, with cold caches",
        {
            "cossim": _cold(
                ours, living + "\nadded = index.add(rows)", "index.remove(added)", "added = index.add(rows)"
            ),
            "FAISS": _cold(theirs, flat_of, "flat.remove_ids(faiss.IDSelectorRange(0, 10))", "flat.add(rows)"),
        },
        "seconds",
    )
    for kind, gone in (("first", np.arange(N // 5)), ("scattered", np.arange(0, N, 5))):
        changed = cossim.Index(corpus)
        changed.remove(gone)
        changed.add(corpus[gone])
        fresh, query = cossim.Index(changed.corpus), _random(1, DIM, seed=2)
        yield Case(
            f"{K} nearest after a fifth of the rows, the {kind} ones, was removed and added again",
            {"cossim": lambda i=changed: i.topk(query, K), "cossim, a new Index": lambda i=fresh: i.topk(query, K)},
            goals=[(["cossim, a new Index"], 1 / 1.1)],
            table="neighbours",
        )


def top_pairs():
    """The best pairs of a set, against a search at the threshold that finds as many."""
    x = _like_embeddings(20_000)
    threshold = float(cossim.top_pairs(x, 1000).values[-1])
    yield Case(
        f"1000 best pairs of {x.shape} like embeddings",
        {
            "cossim": lambda: cossim.top_pairs(x, 1000),
            "cossim, pairs_above": lambda: cossim.pairs_above(x, threshold),
        },
        goals=[(["cossim, pairs_above"], 0.5)],
        table="neighbours",
    )


def maxsim():
    """ColBERT's score of 250 documents of 666 tokens."""
    query, tokens = _random(32, 128), _random(250 * 666, 128, seed=1)
    offsets = np.arange(0, len(tokens) + 1, 666)

    def by_hand():
        scores = cossim.pairwise(query, tokens)
        return np.maximum.reduceat(scores, offsets[:-1], axis=1).sum(axis=0, dtype=np.float64)

    candidates = {"cossim": lambda: cossim.maxsim(query, tokens, offsets), "cossim, pairwise and max": by_hand}
    try:
        import maxsim_cpu

        unit, documents = _unit(query), np.split(_unit(tokens), offsets[1:-1])
        candidates["maxsim-cpu"] = lambda: maxsim_cpu.maxsim_scores_variable(unit, documents)
    except ModuleNotFoundError:
        pass
    expected = by_hand()
    for name, call in candidates.items():
        if not np.allclose(call(), expected, atol=1e-3):
            raise SystemExit(f"{name} scores otherwise")
    goals = [(["cossim, pairwise and max"], 2)] + [(["maxsim-cpu"], 4)] * ("maxsim-cpu" in candidates)
    yield Case("MaxSim of 32 tokens, 250 documents of (666, 128)", candidates, goals=goals, table="neighbours")


def graph():
    """scikit-learn's graph of the nearest rows."""
    from sklearn.neighbors import KNeighborsTransformer

    from cossim.sklearn import CosineNeighborsTransformer

    x = _like_embeddings(20_000)
    yield Case(
        f"CosineNeighborsTransformer(15).fit_transform of {x.shape} like embeddings",
        {
            "cossim": lambda: CosineNeighborsTransformer(15).fit_transform(x),
            "scikit-learn": lambda: KNeighborsTransformer(n_neighbors=15, metric="cosine", n_jobs=1).fit_transform(x),
        },
        goals=[(["scikit-learn"], 15)],
        table="neighbours",
    )


def communities():
    """Groups of rows around a centre."""
    try:
        from sentence_transformers.util import community_detection
    except ModuleNotFoundError:
        return
    import torch

    x = _like_embeddings(50_000)
    tensor = torch.from_numpy(x)
    yield Case(
        f"communities above 0.75 of {x.shape} like embeddings",
        {
            "cossim": lambda: cossim.communities(x, 0.75),
            "sentence-transformers": lambda: community_detection(tensor, 0.75, 10),
        },
        goals=[(["sentence-transformers"], 10)],
        table="neighbours",
    )
    data = "__import__('benchmarks.neighbours', fromlist=['x'])._like_embeddings(50_000)"
    small = "z[:2000]"
    yield ProgramCase(
        f"communities above 0.75 of {x.shape} like embeddings, memory",
        {
            "cossim": peak_program(
                "import cossim\ncossim.set_num_threads(1)",
                data,
                f"cossim.communities({small}, 0.75)",
                "cossim.communities(z, 0.75) and ()",
            ),
            "sentence-transformers": peak_program(
                "import torch\nfrom sentence_transformers.util import community_detection\ntorch.set_num_threads(1)",
                f"torch.from_numpy({data})",
                f"community_detection({small}, 0.75, 10)",
                "community_detection(z, 0.75, 10) and ()",
            ),
        },
        "bytes",
        goals=[(["sentence-transformers"], 20)],
    )


BENCHES = {f"neighbours_{bench.__name__}": bench for bench in (filters, changes, top_pairs, maxsim, graph, communities)}
