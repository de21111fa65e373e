"""Calls functions with an argument whose conversion frees the memory of another: changing_arguments.py OWNER CHANGE.

It runs as a process of its own, because a call that reads freed memory ends the process. It prints one line for each
call: the name of the call, and "same" if the result equals the result of an unchanged array, or else the type of the
exception.
"""

import ctypes
import sys
import warnings
from contextlib import suppress

import numpy as np
from public_inputs import Interface, OnlyDLPack, Subclass

import cossim
from cossim import nn, simclr

# Sets M_MMAP_THRESHOLD: glibc then unmaps a freed block of 256 KiB or more immediately, so reading it crashes.
ctypes.CDLL(None).mallopt(-3, 1 << 18)


# For each kind of owner: a function that makes the argument from an array, and the refcheck of resize(). Only a
# reference to the array keeps the memory behind a DLPack capsule alive, so resize() must check references there.
OWNERS = {
    "array": (lambda x: x, False),
    "subclass": (lambda x: x, False),
    "memoryview": (memoryview, False),
    "view": (lambda x: x[:], False),
    "interface": (Interface, False),
    "dlpack": (OnlyDLPack, True),
}


class Frees:
    """An argument with a value. Its conversion reallocates the owner's memory, if the owner allows that."""

    def __init__(self, free, value):
        self.free, self.value = free, value

    def _value(self, *args, **kwargs):
        with suppress(ValueError):
            self.free()
        return self.value

    __array__ = __index__ = __float__ = __bool__ = _value


class FreesAsFloat(float):
    def __float__(self):
        with suppress(ValueError):
            self.free()
        return float.__add__(self, 0.0)


class FreesByComparison(str):
    def __eq__(self, other):
        with suppress(ValueError):
            self.free()
        return str.__eq__(self, other)

    __hash__ = str.__hash__


X, Y = np.random.default_rng(0).standard_normal((2, 400, 300)).astype(np.float32)
IMAGES, FILTERS = X.reshape(1, 2, 200, 300), Y[:2, :18].reshape(2, 2, 3, 3)
MAPS, WEIGHT = np.ones((2, 198, 298), np.float32), Y[:200]
SGD = {"w": np.zeros_like(X), "v": np.zeros_like(Y)}


def step(x, other):
    parameters = {key: array.copy() for key, array in SGD.items()}
    nn.SGD(parameters, 0.1).step({"w": x, "v": other})
    return parameters["w"]


def loaded(weight, bias):
    layer = nn.Linear(300, 200)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.weight


# name -> (array whose memory is freed, value whose conversion frees it, call)
ARRAYS = {
    "cosine_similarity": (X, Y, lambda x, y: cossim.cosine_similarity(x, y)),
    "cosine_distance": (X, Y, lambda x, y: cossim.cosine_distance(x, y)),
    "vecdot": (X, Y, lambda x, y: cossim.vecdot(x, y)),
    "pairwise": (X, Y, lambda x, y: cossim.pairwise(x, y)),
    "topk": (X, Y, lambda x, y: cossim.topk(x, y, 3).values),
    "pairs_above": (X, Y, lambda x, y: cossim.pairs_above(x, 0.1, y).values),
    "Index.topk": (X, Y, lambda x, y: cossim.Index(x).topk(y, 3).values),
    "explain": (X, Y, lambda x, y: cossim.explain(x, y).similarity),
    "cosine_similarity_vjp": (X, Y, lambda x, y: cossim.cosine_similarity_vjp(x, y)[0]),
    "pairwise_vjp": (X, Y, lambda x, y: cossim.pairwise_vjp(x, y)[0]),
    "linear": (X, WEIGHT, lambda x, y: nn.linear(x, y)),
    "linear, bias": (X, Y[0, :200], lambda x, y: nn.linear(x, WEIGHT, y)),
    "linear_vjp": (X, WEIGHT, lambda x, y: nn.linear_vjp(x, y)[0]),
    "conv2d": (IMAGES, FILTERS, lambda x, y: nn.conv2d(x, y)),
    "conv2d of an image": (IMAGES[0], FILTERS, lambda x, y: nn.conv2d(x, y)),
    "nt_xent": (X, Y, lambda x, y: simclr.nt_xent(x, y)),
    "nt_xent_value_and_grad": (X, Y, lambda x, y: simclr.nt_xent_value_and_grad(x, y)[1][0]),
    "similarity_matrix": (X, Y, lambda x, y: simclr.similarity_matrix(x, y)),
    "SGD.step": (X, Y, step),
    "load_state_dict": (WEIGHT, Y[0, :200], loaded),
}
# The forward call has already taken these arrays, so their owners cannot move them.
PULLBACKS = {
    "cosine_similarity_vjp, dy": (X, Y[:, 0], lambda x, y: cossim.cosine_similarity_vjp(x, Y)[1](y)[0]),
    "pairwise_vjp, dS": (X, np.ones((400, 400), np.float32), lambda x, y: cossim.pairwise_vjp(x)[1](y)),
    "linear_vjp, dy": (X, Y[:, :200], lambda x, y: nn.linear_vjp(x, WEIGHT)[1](y)[1]),
    "linear_vjp, dy and weight": (WEIGHT, Y[:, :200], lambda x, y: nn.linear_vjp(X, x)[1](y)[0]),
    "conv2d_vjp, dy": (IMAGES[0], MAPS, lambda x, y: nn.conv2d_vjp(x, FILTERS)[1](y)[1]),
    "max_pool2d_vjp, dy": (IMAGES, MAPS[None, :, :100, :150], lambda x, y: nn.max_pool2d_vjp(x, 2)[1](y)),
    "relu_vjp, dy": (X, Y, lambda x, y: nn.relu_vjp(x)[1](y)),
    "Linear.vjp, dy": (X, Y[:, :7], lambda x, y: nn.Linear(300, 7, rng=0).vjp(x)[1](y)[1]["weight"]),
    "Sequential.vjp, dy": (
        IMAGES,
        np.ones((1, 3), np.float32),
        lambda x, y: nn.Sequential(nn.Flatten(), nn.Linear(120000, 3, rng=0)).vjp(x)[1](y)[1]["1.weight"],
    ),
}
NUMBERS = {
    "cosine_similarity, dim": (X, 1, lambda x, n: cossim.cosine_similarity(x, Y, n)),
    "cosine_similarity, eps": (X, 1e-8, lambda x, n: cossim.cosine_similarity(x, Y, 1, n)),
    "vector_norm, dim": (X, 1, lambda x, n: cossim.vector_norm(x, n)),
    "vector_norm, keepdim": (X, True, lambda x, n: cossim.vector_norm(x, 1, n)),
    "normalize, dim": (X, 1, lambda x, n: cossim.normalize(x, n)),
    "normalize, eps": (X, 1e-12, lambda x, n: cossim.normalize(x, 1, n)),
    "pairwise, eps": (X, 1e-8, lambda x, n: cossim.pairwise(x, eps=n)),
    "topk, k": (X, 3, lambda x, n: cossim.topk(x, Y, n).values),
    "topk, eps": (X, 1e-8, lambda x, n: cossim.topk(x, Y, 3, eps=n).values),
    "topk, memory": (X, 1 << 20, lambda x, n: cossim.topk(x, Y, 3, memory=n).values),
    "pairs_above, threshold": (X, 0.25, lambda x, n: cossim.pairs_above(x, n).values),
    "pairs_above, max_pairs": (X, 10**6, lambda x, n: cossim.pairs_above(x, 0.25, max_pairs=n).values),
    "duplicate_groups, threshold": (X, 0.25, lambda x, n: cossim.duplicate_groups(x, n)),
    "Index, eps": (X, 1e-8, lambda x, n: cossim.Index(x, eps=n).topk(Y, 3).values),
    "Index.topk, k": (X, 3, lambda x, n: cossim.Index(Y).topk(x, n).values),
    "cosine_similarity_vjp, dim": (X, 1, lambda x, n: cossim.cosine_similarity_vjp(x, Y, n)[0]),
    "cosine_similarity_vjp, eps": (X, 1e-8, lambda x, n: cossim.cosine_similarity_vjp(x, Y, 1, n)[0]),
    "pairwise_vjp, eps": (X, 1e-8, lambda x, n: cossim.pairwise_vjp(x, eps=n)[0]),
    "explain, dim": (X, 1, lambda x, n: cossim.explain(x, Y, n).similarity),
    "conv2d, stride": (IMAGES, 1, lambda x, n: nn.conv2d(x, FILTERS, stride=n)),
    "conv2d, padding": (IMAGES, 1, lambda x, n: nn.conv2d(x, FILTERS, padding=(1, n))),
    "conv2d, padding's name": (IMAGES, "same", lambda x, name: nn.conv2d(x, FILTERS, padding=name)),
    "conv2d, groups": (IMAGES, 1, lambda x, n: nn.conv2d(x, FILTERS, groups=n)),
    "max_pool2d, kernel_size": (IMAGES, 2, lambda x, n: nn.max_pool2d(x, n)),
    "max_pool2d, ceil_mode": (IMAGES, True, lambda x, n: nn.max_pool2d(x, 2, ceil_mode=n)),
    "max_pool2d_vjp, stride": (IMAGES, 2, lambda x, n: nn.max_pool2d_vjp(x, 2, n)[0]),
    "nt_xent, temperature": (X, 0.5, lambda x, n: simclr.nt_xent(x, Y, n)),
    "augment, noise": (IMAGES, 0.5, lambda x, n: simclr.augment(x, 0, noise=n)),
    "augment, shift": (IMAGES, 1.0, lambda x, n: simclr.augment(x, 0, shift=n)),
    "augment, rotate": (IMAGES, 9.0, lambda x, n: simclr.augment(x, 0, rotate=(0, n))),
    "Flatten, start_dim": (IMAGES, 1, lambda x, n: nn.Flatten(n)(x)),
}


def outcome(call, *arguments):
    try:
        return np.array(call(*arguments))
    except (TypeError, ValueError, IndexError) as error:
        return type(error).__name__


def own_array(values, kind):
    array = np.ndarray.__new__(kind, values.shape, values.dtype)
    array[...] = values
    return array


def main(owner, change):
    warnings.simplefilter("ignore")
    stands, refcheck = OWNERS[owner]
    if change == "resize":
        tables = ARRAYS | PULLBACKS
        if owner in ("array", "subclass", "interface", "dlpack"):  # freeing the base frees the caller's own views
            tables |= NUMBERS
    else:  # __setstate__ also frees the memory of views that an Index or a pullback keeps
        tables = {name: case for name, case in (ARRAYS | NUMBERS).items() if name != "Index.topk"}
    for name, (values, value, call) in tables.items():
        x = own_array(values, Subclass if owner == "subclass" else np.ndarray)

        def free(x=x):
            if change == "resize":
                x.resize((2, 3), refcheck=refcheck)
            else:
                x.__setstate__((1, (2, 3), np.dtype("f4"), False, bytes(24)))

        if isinstance(value, str) or name.startswith("augment"):
            frees = (FreesByComparison if isinstance(value, str) else FreesAsFloat)(value)
            frees.free = free
        else:
            frees = Frees(free, value)
        wanted, found = outcome(call, values, value), outcome(call, stands(x), frees)
        same = isinstance(found, np.ndarray) and np.array_equal(found, wanted)
        print(f"{name}: {'same' if same else found if isinstance(found, str) else 'another result'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
