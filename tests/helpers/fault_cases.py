"""Provides calls of every public function that reaches the C core, for the tests that make calls fail or stop them."""

import os
import tempfile
from types import SimpleNamespace

import ml_dtypes
import numpy as np
from public_inputs import OnlyDLPack
from reference import bits

import cossim
from cossim import _core, nn, simclr


class Case:
    """One call. It reads the arrays `inputs` and must not change them; it may write to the array `out`."""

    def __init__(self, call, *inputs, out=None):
        self.call, self.inputs, self.out = call, inputs, out
        self.before = bits(inputs)

    def __call__(self):
        return bits(self.call())

    def inputs_are_as_they_were(self):
        return bits(self.inputs) == self.before


def numbers(dtype, *shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return (30 * x if np.dtype(dtype).kind == "i" else x).astype(dtype)


def similarity_cases(dtype, scale=1):
    """Calls for each driver of the core (few rows, rows, columns, gemm), with and without a buffer for the result."""
    few, more = numbers(dtype, 3, 2, 40), numbers(dtype, 2, 150 * scale, 200)
    columns = numbers(dtype, 2, 12, 2000 * scale)
    z, other = numbers(dtype, 70 * scale, 48), numbers(dtype, 90 * scale, 48, seed=1)
    swapped = more[0, :, ::2].astype(np.dtype(np.float64).newbyteorder("S"))
    out_dtype = np.float64 if more.dtype.kind == "i" else more.dtype
    out, pairs = np.zeros(len(more[0]), out_dtype), np.zeros((len(z), len(z)), out_dtype)
    lying_over = np.zeros((len(z) + 1, len(z)), out_dtype)

    def over_its_input():
        lying_over[: len(z), : z.shape[1]] = z
        return cossim.pairwise(lying_over[: len(z), : z.shape[1]], out=lying_over[1:])

    yield "few rows", Case(lambda: cossim.cosine_similarity(few[0], few[1], -1), few)
    yield "rows", Case(lambda: cossim.cosine_similarity(*more), more)
    yield "rows, out", Case(lambda: cossim.cosine_similarity(*more, out=out), more, out=out)
    yield "rows, other order of bytes", Case(lambda: cossim.cosine_similarity(swapped, swapped[::-1]), swapped)
    yield "columns", Case(lambda: cossim.cosine_similarity(*columns, 0), columns)
    yield "distance", Case(lambda: cossim.cosine_distance(*columns, dim=0), columns)
    yield "broadcast", Case(lambda: cossim.cosine_similarity(z[None], other[:, None], 2), z, other)
    yield "vector_norm", Case(lambda: cossim.vector_norm(columns, (0, 1), keepdim=True), columns)
    yield "vecdot", Case(lambda: cossim.vecdot(z[:, None], other[None]), z, other)
    yield "normalize", Case(lambda: cossim.normalize(more, 2), more)
    yield "module", Case(lambda: cossim.CosineSimilarity(0)(*columns), columns)
    yield "pairwise", Case(lambda: cossim.pairwise(z), z)
    yield "pairwise, out", Case(lambda: cossim.pairwise(z, out=pairs), z, out=pairs)
    yield "pairwise of two", Case(lambda: cossim.pairwise(z, other), z, other)
    yield "pairwise, out over x", Case(over_its_input, z)
    if more.dtype.name in ("float32", "float64"):
        yield "explain", Case(lambda: str(cossim.explain(few[0], few[1], 1)), few)
        yield "cosine_similarity_vjp", Case(lambda: gradients(cossim.cosine_similarity_vjp(*more)), more)
        pairs_vjp = lambda: cossim.cosine_similarity_vjp(z[None], other[:, None], 2)  # noqa: E731
        yield "broadcast vjp", Case(lambda: gradients(pairs_vjp()), z, other)
        yield "pairwise_vjp", Case(lambda: gradients(cossim.pairwise_vjp(z)), z)
        yield "pairwise_vjp of two", Case(lambda: gradients(cossim.pairwise_vjp(z, other)), z, other)


def gradients(value_and_pullback):
    y, pullback = value_and_pullback
    return y, pullback(np.cos(np.arange(y.size)).astype(y.dtype).reshape(y.shape))


def search_cases(dtype, scale=1):
    """Searches with float and SQ8 prefilters and with gemm, within one set and between two, with many and few hits; an
    index and its file."""
    corpus, queries = numbers(dtype, 400 * scale, 64), numbers(dtype, 20 * scale, 64, seed=1)
    shallow = numbers(dtype, 150, 3)
    index = cossim.Index(corpus)
    yield "topk of 1", Case(lambda: cossim.topk(queries[:1], corpus, 5), corpus, queries)
    yield "topk", Case(lambda: cossim.topk(queries, corpus, 5), corpus, queries)
    yield "topk, large k", Case(lambda: cossim.topk(queries, corpus, 300), corpus, queries)
    yield "topk of itself", Case(lambda: cossim.topk(corpus, None, 4), corpus)
    yield "topk, short rows", Case(lambda: cossim.topk(shallow, None, 4), shallow)
    yield "pairs_above", Case(lambda: cossim.pairs_above(corpus, 0.2), corpus)
    yield "pairs_above of two", Case(lambda: cossim.pairs_above(queries, 0.2, corpus), corpus, queries)
    yield "pairs_above, all", Case(lambda: cossim.pairs_above(shallow, -1), shallow)
    yield "pairs_above, too many", Case(lambda: too_many(corpus), corpus)
    yield "duplicate_groups", Case(lambda: cossim.duplicate_groups(corpus, 0.3), corpus)
    yield "Index", Case(lambda: index_parts(cossim.Index(corpus)), corpus)
    yield "Index.topk", Case(lambda: index.topk(queries, 5), corpus, queries)
    yield "Index.topk of 1", Case(lambda: index.topk(queries[:1], 5), corpus, queries)
    yield "Index.pairs_above", Case(lambda: index.pairs_above(queries, 0.2), corpus, queries)
    yield "Index.save, load", Case(lambda: saved_and_loaded(index), corpus)


def index_parts(index):
    return index.corpus, *(index._state.codes or ()), index._state.scales


def saved_and_loaded(index):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "index")
        try:
            index.save(path)
            return [index_parts(cossim.Index.load(path, mmap=mmap)) for mmap in (True, False)]
        finally:
            assert not [name for name in os.listdir(folder) if name != "index"]


def too_many(corpus):
    try:
        return cossim.pairs_above(corpus, 0.0, max_pairs=10)
    except ValueError as error:
        return str(error)


def file_cases(folder, dtype):
    """Searches of a corpus in a file, block by block."""
    corpus, queries = numbers(dtype, 1500, 64), numbers(dtype, 20, 64, seed=1)
    path = os.path.join(folder, "corpus.npy")
    np.save(path, corpus)
    yield "topk, file", Case(lambda: cossim.topk(queries, path, 5, memory=1), queries)
    yield "pairs_above, file", Case(lambda: cossim.pairs_above(path, 0.3, memory=1))


def sparse_cases(dtype):
    """Calls over sparse rows."""
    sparse = SimpleNamespace(  # of 200 columns and ten entries a row
        data=numbers(dtype, 1500),
        indices=np.arange(1500) * 7 % 200,
        indptr=np.arange(0, 1501, 10),
        shape=(150, 200),
    )
    entries = sparse.data, sparse.indices, sparse.indptr
    yield "topk, sparse", Case(lambda: cossim.topk(sparse, None, 3), *entries)
    yield "pairs_above, sparse", Case(lambda: cossim.pairs_above(sparse, 0.1, sparse), *entries)
    yield "duplicate_groups, sparse", Case(lambda: cossim.duplicate_groups(sparse, 0.5), *entries)
    yield "pairwise, sparse", Case(lambda: cossim.pairwise(sparse), *entries)
    yield "cosine_similarity, sparse", Case(lambda: cossim.cosine_similarity(sparse, sparse), *entries)


def network_cases(dtype, scale=1):
    images, small = numbers(dtype, 4 * scale, 1, 28, 28), numbers(dtype, 3 * scale, 8, 12, 12)
    five, three = numbers(dtype, 10, 8, 5, 5, seed=1), numbers(dtype, 12, 4, 3, 3, seed=2)
    rows, weight, bias = numbers(dtype, 40 * scale, 30), numbers(dtype, 20, 30, seed=3), numbers(dtype, 20, seed=4)
    encoder = simclr.Encoder(dtype=dtype, rng=0)
    long = nn.Sequential(*[nn.Linear(30, 30, dtype=dtype, rng=i) if i % 2 == 0 else nn.ReLU() for i in range(18)])
    mixed = nn.Sequential(
        nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect", dtype=dtype, rng=0),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(6 * 36, 5, dtype=dtype, rng=0),
    )
    yield "conv2d", Case(lambda: nn.conv2d(small, three, None, 2, 1, groups=2), small, three)
    yield "conv2d of five rows", Case(lambda: nn.conv2d(small, five, padding=2), small, five)
    yield "conv2d_vjp", Case(lambda: gradients(nn.conv2d_vjp(small, three, bias[:12], 2, 1, groups=2)), small, three)
    yield "conv2d_vjp of five rows", Case(lambda: gradients(nn.conv2d_vjp(small, five, padding="same")), small, five)
    yield "max_pool2d", Case(lambda: nn.max_pool2d(small, 3, 2, 1, return_indices=True), small)
    yield "max_pool2d_vjp", Case(lambda: gradients(nn.max_pool2d_vjp(small, 2)), small)
    yield "linear", Case(lambda: nn.linear(rows, weight, bias), rows, weight, bias)
    yield "linear_vjp", Case(lambda: gradients(nn.linear_vjp(rows, weight, bias)), rows, weight, bias)
    yield "relu", Case(lambda: nn.relu(rows), rows)
    yield "relu_vjp", Case(lambda: gradients(nn.relu_vjp(rows)), rows)
    yield "Encoder", Case(lambda: encoder(images), images, encoder.state_dict())
    yield "a new Encoder", Case(lambda: simclr.Encoder(dtype=dtype, rng=0)(images), images)
    yield "Encoder.vjp", Case(lambda: gradients(encoder.vjp(images)), images, encoder.state_dict())
    yield "Sequential of 18", Case(lambda: long(rows), rows, long.state_dict())
    yield "Sequential, mixed", Case(lambda: mixed(small), small, mixed.state_dict())
    yield "Sequential, mixed, vjp", Case(lambda: gradients(mixed.vjp(small)), small, mixed.state_dict())


def simclr_cases(dtype, scale=1):
    images, z = numbers(dtype, 6 * scale, 1, 28, 28), numbers(dtype, 2, 20 * scale, 50)
    encoder = simclr.Encoder(dtype=dtype, rng=0)
    yield "augment", Case(lambda: simclr.augment(images, 0, noise=0.1), images)
    yield "similarity_matrix", Case(lambda: simclr.similarity_matrix(*z), z)
    yield "nt_xent", Case(lambda: simclr.nt_xent(*z), z)
    yield "nt_xent_value_and_grad", Case(lambda: simclr.nt_xent_value_and_grad(*z, 0.01), z)
    yield "nt_xent, interleaved", Case(lambda: simclr.nt_xent_value_and_grad(z[0], pairs="interleaved"), z)
    yield "train", Case(lambda: trained(images, encoder, 4 * scale), images, encoder.state_dict())


def trained(images, encoder, batch_size):
    found = simclr.train(images, 1, batch_size, encoder=encoder)
    return found.encoder.state_dict(), found.losses


def refused_calls():
    """Calls that end with an error, and calls with rare kinds of arguments."""
    x, z = numbers(np.float32, 4, 6), numbers(np.float32, 3, 5)
    calls = {
        "shapes": lambda: cossim.cosine_similarity(x, z),
        "dim": lambda: cossim.cosine_similarity(x, x, 7),
        "eps": lambda: cossim.pairwise(x, eps=-1),
        "no eps": lambda: cossim.pairwise(x, eps="1"),
        "no rows": lambda: cossim.pairwise(x[0]),
        "other rows": lambda: cossim.pairwise(x, z),
        "complex": lambda: cossim.normalize(x + 1j),
        "objects": lambda: cossim.vecdot([object()], [object()]),
        "out": lambda: cossim.pairwise(x, out=z),
        "out, integers": lambda: cossim.pairwise(x, out=np.zeros((4, 4), int)),
        "no out": lambda: cossim.pairwise(x, out=3),
        "masked out": lambda: cossim.pairwise(x, out=np.ma.array(z)),
        "unknown name": lambda: cossim.pairwise(x, zzz=1),
        "too many": lambda: cossim.pairwise(x, x, 1, 2, 3),
        "masked": lambda: cossim.vector_norm(np.ma.array(x)),
        "lists": lambda: cossim.cosine_similarity(x.tolist(), x.tolist()),
        "dims": lambda: cossim.vector_norm(x, [0, 1]),
        "dims twice": lambda: cossim.vector_norm(x, [0, 0]),
        "a dim far away": lambda: cossim.vector_norm(x, 10**30),
        "an array for a dim": lambda: cossim.vector_norm(x, np.array([1])),
        "progress": lambda: cossim.pairwise(numbers(np.float32, 200, 50), progress=lambda *done: None),
        "network": lambda: _core.run_layers((), None, (), (), x),
        "threads": lambda: cossim.set_num_threads(0),
        "many threads": lambda: cossim.set_num_threads(10**30),
        "config": lambda: str(_core.config()),
        "dlpack": lambda: cossim.vector_norm(OnlyDLPack(x)),
    }
    return {name: Case(lambda call=call: result_or_error(call), x, z) for name, call in calls.items()}


def result_or_error(call):
    try:
        return call()
    except (TypeError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"


DTYPES = {np.dtype(dtype).name: dtype for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8)}
GROUPS = {"similarity": similarity_cases, "search": search_cases, "network": network_cases, "simclr": simclr_cases}


def groups(dtypes=None):
    """(group, dtype) of all groups of cases; layers take only float32 and float64."""
    return [
        (group, name)
        for group in GROUPS
        for name in dtypes or DTYPES
        if group in ("similarity", "search") or name in ("float32", "float64")
    ]


def cases(group, dtype, scale=1):
    """The cases of a group by name."""
    return dict(GROUPS[group](DTYPES[dtype], scale))
