"""Mistakes that type checkers must find. Each ignore names the mistake of its line; an unused ignore is an error."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

import cossim
from cossim import nn, simclr

x: NDArray[np.float32] = np.ones((2, 3), np.float32)
images: NDArray[np.float32] = np.ones((4, 1, 28, 28), np.float32)

# objects that are not arrays
cossim.cosine_similarity(None, x)  # type: ignore[call-overload]
cossim.cosine_similarity({1.0, 2.0}, x)  # type: ignore[call-overload]
cossim.pairwise({"a": x})  # type: ignore[call-overload]
cossim.topk(x, object(), 3)  # type: ignore[call-overload]

# arguments that are missing, too many, or unknown
cossim.cosine_similarity(x)  # type: ignore[call-overload]
cossim.cosine_similarity(x, x, 1, 1e-8, x)  # type: ignore[call-overload]
cossim.cosine_similarity(x, x, epsilon=1e-8)  # type: ignore[call-overload]
cossim.pairwise(x, x, 1e-8)  # type: ignore[call-overload]
cossim.topk()  # type: ignore[call-overload]
cossim.duplicate_groups(x)  # type: ignore[call-overload]
cossim.set_num_threads(n=1)  # type: ignore[call-arg]
cossim.explain(x, x, axis=1)  # type: ignore[call-arg]
nn.SGD({"w": x})  # type: ignore[call-arg]

# arguments of another kind
cossim.cosine_similarity(x, x, dim=1.0)  # type: ignore[call-overload]
cossim.cosine_similarity(x, x, dim=(0, 1))  # type: ignore[call-overload]
cossim.cosine_similarity(x, x, eps="small")  # type: ignore[call-overload]
cossim.cosine_similarity(x, x, out=[0.0, 0.0])  # type: ignore[call-overload]
cossim.cosine_similarity_vjp(x, x, axis="rows")  # type: ignore[call-overload]
cossim.vector_norm(x, "rows")  # type: ignore[arg-type]
cossim.topk(x, x, 3.0)  # type: ignore[call-overload]
cossim.pairs_above(x, "0.9")  # type: ignore[call-overload]
cossim.duplicate_groups(x, 0.9, progress="bar")  # type: ignore[call-overload]
cossim.pairwise(x, progress=len)  # type: ignore[arg-type]
cossim.show_config("dict")  # type: ignore[call-overload]
cossim.Index(x).topk(x, None)  # type: ignore[arg-type]
cossim.Index.load(3)  # type: ignore[arg-type]
cossim.Index(x).eps = 1e-6  # type: ignore[misc]
nn.conv2d(x, x, padding="full")  # type: ignore[call-overload]
nn.Conv2d(1, 2, 3, padding_mode="mirror")  # type: ignore[arg-type]
nn.Sequential(nn.ReLU(), 3)  # type: ignore[call-overload]
nn.Adam(nn.Linear(2, 2), betas=0.9)  # type: ignore[arg-type]
nn.save_weights("x.npz", [x])  # type: ignore[arg-type]
simclr.augment(images, scale=0.5)  # type: ignore[call-overload]
simclr.nt_xent(x, pairs="rows")  # type: ignore[arg-type]
simclr.nt_xent_value_and_grad(x, x, pairs="interleaved")  # type: ignore[call-overload]
simclr.train(images, optimizer="adamw")  # type: ignore[arg-type]
simclr.train(images, encoder=lambda batch: batch)  # type: ignore[arg-type]

# results of another kind
matrix = cossim.pairwise(x)
wider: NDArray[np.float64] = matrix  # type: ignore[assignment]
cossim.vector_norm(x)[0]  # type: ignore[index]
print(cossim.topk(x, x, 1).scores)  # type: ignore[attr-defined]
i, j = cossim.pairs_above(x, 0.5)  # type: ignore[misc]
cossim.threads(2) + 1  # type: ignore[operator]
with cossim.threads(2) as entered:
    print(entered.something)  # type: ignore[attr-defined]
loss, (of_both, twice) = simclr.nt_xent_value_and_grad(x)
config: dict[str, Any] = cossim.show_config()  # type: ignore[assignment]
losses: NDArray[np.float32] = simclr.train(images).losses  # type: ignore[assignment]

# names that do not exist
cossim.cosine(x, x)  # type: ignore[attr-defined]
print(simclr.Trainer)  # type: ignore[attr-defined]
print(nn.Linear(2, 2).weigth)  # type: ignore[attr-defined]
nn.Linear(2, 2).weigth = x  # type: ignore[attr-defined]
