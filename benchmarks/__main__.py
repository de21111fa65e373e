"""python -m benchmarks [NAME]: all comparisons, or one. A new one is a function here and its name in BENCHES."""

import sys

import numpy as np

import cossim
from benchmarks.harness import race, report, save


def _torch():
    import torch

    torch.set_num_threads(1)
    return torch


def rows():
    """Cosine similarity of rows, float32, one thread."""
    torch = _torch()
    results = []
    for n, d in ((1000, 64), (100000, 128), (10000, 768)):
        x, y = np.random.default_rng(0).standard_normal((2, n, d), dtype=np.float32)
        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        medians = race(
            {
                "cossim": lambda: cossim.cosine_similarity(x, y),
                "numpy vecdot": lambda: np.vecdot(x, y) / (np.sqrt(np.vecdot(x, x)) * np.sqrt(np.vecdot(y, y))),
                "torch": lambda: torch.nn.functional.cosine_similarity(tx, ty),
            }
        )
        results += report(f"rows ({n}, {d}) float32, 1 thread", medians, bytes_read=2 * x.nbytes)
    return results


def columns():
    """dim=1 of a feature map, float32, one thread."""
    torch = _torch()
    x, y = np.random.default_rng(0).standard_normal((2, 32, 256, 56, 56), dtype=np.float32)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def einsum(a, b):
        return np.einsum("bchw,bchw->bhw", a, b)

    medians = race(
        {
            "cossim": lambda: cossim.cosine_similarity(x, y, 1),
            "numpy einsum": lambda: einsum(x, y) / (np.sqrt(einsum(x, x)) * np.sqrt(einsum(y, y))),
            "torch": lambda: torch.nn.functional.cosine_similarity(tx, ty, 1),
        },
        rounds=7,
    )
    return report("dim=1 of (32, 256, 56, 56) float32, 1 thread", medians, bytes_read=2 * x.nbytes)


def pairs():
    """All pairs, float32, one thread."""
    torch = _torch()
    results = []
    for n, d in ((64, 100), (512, 128), (2048, 768)):
        z = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
        t = torch.from_numpy(z)

        def by_hand():
            unit = z / np.sqrt(np.vecdot(z, z))[:, None]
            return unit @ unit.T

        def normalize_mm():
            unit = torch.nn.functional.normalize(t)
            return unit @ unit.T

        candidates = {
            "cossim pairwise(z)": lambda: cossim.pairwise(z),
            "cossim": lambda: cossim.cosine_similarity(z[None], z[:, None], dim=2),
            "numpy": by_hand,
            "torch normalize, mm": normalize_mm,
        }
        if n <= 64:
            candidates["torch broadcast"] = lambda: torch.nn.functional.cosine_similarity(t[None], t[:, None], 2)
        results += report(f"all pairs ({n}, {d}) float32, 1 thread", race(candidates), flops=2 * n * n * d)
    return results


def encoder():
    """The encoder, float32, one thread."""
    torch = _torch()
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(1, 10, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(10, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(320, 100),
        nn.ReLU(),
    )
    ours = cossim.simclr.Encoder()
    names = {"0": "conv1", "3": "conv2", "7": "fc"}
    ours.load_state_dict({f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in net.state_dict().items()})
    results = []
    for n in (1, 32, 1024):
        x = np.random.default_rng(0).random((n, 1, 28, 28), dtype=np.float32)
        tx = torch.from_numpy(x)

        def in_torch():
            with torch.inference_mode():
                return net(tx)

        results += report(
            f"encoder, batch {n}, float32, 1 thread", race({"cossim": lambda: ours(x), "torch": in_torch}, rounds=7)
        )
    return results


BENCHES = {bench.__name__: bench for bench in (rows, columns, pairs, encoder)}


def main(names):
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    results = []
    cossim.show_config()
    with cossim.threads(1):
        for name in names or BENCHES:
            results += BENCHES[name]()
    save(results, "bench.json")


if __name__ == "__main__":
    main(sys.argv[1:])
