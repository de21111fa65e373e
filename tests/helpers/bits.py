"""Checks that a change alters no bit of any result: it compares all results with hashes recorded before the change.

    python tests/helpers/bits.py record FILE     computes all results and stores one SHA-256 for each group of them
    python tests/helpers/bits.py compare FILE    computes them again, prints those that differ, exits with 1 if any do

Each instruction set that this machine can run is tested in a process of its own, with one thread and with two threads;
the number of threads must not change a bit. All inputs come from the integer generator below. NaN is compared by its
bits too. Some results depend on NumPy functions (sin and exp in augment, the random streams of augment and train), and
builds by other compilers may round differently. So record and compare on one machine, with one NumPy and one compiler.
The check calls only public functions, so it keeps working while modules move.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
from public_inputs import misaligned, strided

import cossim
from cossim import nn, simclr

# ---- inputs ----


def integers(seed, shape):
    """Random uint64: the output function of SplitMix64, applied to a counter."""
    x = np.arange(np.prod(shape, dtype=int), dtype=np.uint64) + np.uint64(seed << 32)
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))).reshape(shape)


MANTISSA = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
FLOATS = ("float64", "float32")
DTYPES = (*MANTISSA, "int8", "uint8", "int32")


def numbers(seed, shape, dtype="float32"):
    """Numbers over the range of an integer dtype, or floats in [-4, 4) of varied magnitude, exact in their dtype."""
    bits = integers(seed, shape)
    if dtype not in MANTISSA:
        return bits.astype(dtype)
    mantissa = (bits >> np.uint64(64 - MANTISSA[dtype])).astype(np.float64) * 2.0 ** (1 - MANTISSA[dtype]) - 1
    return np.ldexp(mantissa, (bits % np.uint64(6)).astype(int) - 3).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def special(seed, shape, dtype="float32"):
    """Rows of zeros, of tiny and of huge numbers, rows with NaN and infinity, and equal and similar rows."""
    x = numbers(seed, shape, dtype)
    x[1::7] = 0
    x[5::7] = x[0]
    if dtype in MANTISSA:
        small, large = {"float64": (1e-160, 1e160), "float16": (6e-8, 6e4)}.get(dtype, (1e-22, 1e22))
        x[2::7] = x[2::7] * x.dtype.type(small)
        x[3::7] = np.sign(x[3::7]) * x.dtype.type(large)
        x[4::21, 0], x[11::21, -1] = np.nan, -np.inf
        x[6::7] = x[0] + x[6::7] * x.dtype.type(0.0078125)
    return x


def similar(seed, rows, depth, dtype="float32"):
    """Rows clustered around 50 centres, like embeddings; some rows appear twice."""
    centres = numbers(seed, (50, depth), "float32").astype(np.float64)
    at = (integers(seed + 1, rows) % np.uint64(50)).astype(int)
    x = centres[at] + numbers(seed + 2, (rows, depth), "float64") / 8
    x[7::40] = x[min(3, rows - 1)]
    scaled = {"int8": x * 16, "uint8": np.abs(x * 16), "int32": x * 1000}.get(dtype, x)
    return scaled.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


PLAIN = "contiguous"
LAYOUTS = {
    PLAIN: lambda x: x,
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "negative strides": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "misaligned": misaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()) if x.dtype.name != "bfloat16" else x,
}

# ---- cases: generators of (function, dtype, layout, case, call) ----

# A call runs before its generator continues, so the lambdas need not bind the variables of their loops.
# ruff: noqa: E731

LENGTHS = {
    "1 to 19": range(1, 20),
    "31 to 130": (31, 32, 33, 47, 48, 63, 64, 65, 100, 127, 128, 130),
    "255 to 4097": (255, 256, 257, 600, 1000, 4097),
}
# Shapes of x1 and x2 for rows of n elements, and the dimension along which the rows lie
FORMS = {
    "one vector": ((lambda n: (n,)), (lambda n: (n,)), 0),
    "rows": ((lambda n: (5, n)), (lambda n: (5, n)), 1),
    "columns": ((lambda n: (n, 37)), (lambda n: (n, 37)), 0),
    "columns of 4 dimensions": ((lambda n: (2, n, 3, 5)), (lambda n: (2, n, 3, 5)), 1),
    "one row against many": ((lambda n: (1, n)), (lambda n: (9, n)), -1),
    "all pairs by broadcasting": ((lambda n: (7, 1, n)), (lambda n: (1, 18, n)), 2),
    "broadcast columns": ((lambda n: (3, n, 1)), (lambda n: (n, 20)), -2),
}


def vector_functions(x, y, dim):
    return {
        "cosine_similarity": lambda: cossim.cosine_similarity(x, y, dim),
        "cosine_distance": lambda: cossim.cosine_distance(x, y, dim),
        "vecdot": lambda: cossim.vecdot(x, y, dim),
        "vector_norm": lambda: cossim.vector_norm(x, dim),
        "normalize": lambda: cossim.normalize(x, dim),
    }


def vectors():
    for dtype, (form, (left, right, dim)), (lengths, ns) in product(DTYPES, FORMS.items(), LENGTHS.items()):
        for layout, laid in LAYOUTS.items():
            if layout != PLAIN and lengths == "255 to 4097" and form not in ("rows", "columns"):
                continue
            calls = [
                vector_functions(laid(numbers(n, left(n), dtype)), laid(numbers(n + 1, right(n), dtype)), dim)
                for n in ns
            ]
            for name in calls[0]:
                yield name, dtype, layout, f"{form}, {lengths}", lambda: [c[name]() for c in calls]
    for dtype, n in product(DTYPES, (3, 40, 600)):
        x, y = special(n, (42, n), dtype), special(n, (42, n), dtype)[::-1]
        for eps, transposed in product((1e-8, 0.5, 0.0), (False, True)):
            a, b, dim = (x.T.copy(), y.T.copy(), 0) if transposed else (x, y, 1)
            calls = vector_functions(a, b, dim) | {
                "cosine_similarity": lambda: cossim.cosine_similarity(a, b, dim, eps),
                "cosine_distance": lambda: cossim.cosine_distance(a, b, dim, eps),
                "normalize": lambda: cossim.normalize(a, dim, eps),
            }
            for name, call in calls.items():
                yield name, dtype, "columns" if transposed else "rows", f"special values, {n}, eps={eps}", call
    x = numbers(1, (4, 5, 6, 7))
    for dim in (None, 0, (0, 2), (1, 3), (0, 1, 2, 3)):
        yield "vector_norm", "float32", PLAIN, f"dim={dim}", lambda: cossim.vector_norm(x, dim)
        yield "normalize", "float32", PLAIN, f"dim={dim}", lambda: cossim.normalize(x, dim)
    for one, other in product(DTYPES, repeat=2):
        a, b, out = numbers(2, (6, 77), one), numbers(3, (6, 77), other), np.empty(6, np.float32)
        call = lambda: [cossim.cosine_similarity(a, b), cossim.vecdot(a, b), cossim.pairwise(a, b)]
        yield "cosine_similarity", f"{one} with {other}", PLAIN, "vecdot and pairwise too", call
        if one in FLOATS and other in FLOATS[1:]:
            call = lambda: cossim.cosine_similarity(a, b, out=strided(out))
            yield "cosine_similarity", f"{one} with {other}", PLAIN, "out=", call


def pairwise():
    shapes = ((1, 1, 5), (3, 7, 16), (8, 33, 17), (65, 33, 100), (120, 131, 300), (150, 40, 1031))
    for dtype, (rows, others, depth), (layout, laid) in product(DTYPES, shapes, LAYOUTS.items()):
        x, y = laid(numbers(rows, (rows, depth), dtype)), laid(numbers(others, (others, depth), dtype))
        yield "pairwise", dtype, layout, f"{rows} x {depth} itself", lambda: cossim.pairwise(x)
        yield "pairwise", dtype, layout, f"{rows} x {others} x {depth}", lambda: cossim.pairwise(x, y)
    for dtype, depth, eps in product(DTYPES, (3, 40, 600), (1e-8, 0.5)):
        x, y = special(depth, (70, depth), dtype), special(depth + 1, (50, depth), dtype)
        call = lambda: [cossim.pairwise(x, eps=eps), cossim.pairwise(x, y, eps=eps)]
        yield "pairwise", dtype, PLAIN, f"special values, {depth}, eps={eps}", call
    for dtype in FLOATS:
        x, y = numbers(8, (45, 99), dtype), numbers(9, (37, 99), dtype)
        out = lambda *shape: strided(np.zeros(shape, dtype))
        call = lambda: [cossim.pairwise(x, out=out(45, 45)), cossim.pairwise(x, y, out=out(45, 37))]
        yield "pairwise", dtype, PLAIN, "out=", call


def search():
    kinds = {"similar": similar, "random": lambda seed, *shape: numbers(seed, shape[:2], *shape[2:])}
    kinds["special"] = lambda seed, *shape: special(seed, shape[:2], *shape[2:])
    for dtype, (kind, rows), depth in product(DTYPES, kinds.items(), (12, 70, 300)):
        corpus, case = rows(depth, 800, depth, dtype), f"{kind}, {depth}"
        index = cossim.Index(corpus)
        yield "Index", dtype, PLAIN, case, lambda: stored(cossim.Index(corpus))
        for queries in (1, 4, 30, 100):
            if dtype not in ("float64", "float32", "float16") and queries in (4, 30):
                continue
            q, k = rows(depth, queries, depth, dtype), 1 if queries == 4 else 15
            at = f"{case}, {queries} queries"
            yield "topk", dtype, PLAIN, at, lambda: cossim.topk(q, corpus, k)
            yield "Index.topk", dtype, PLAIN, at, lambda: index.topk(q, k)
            yield "pairs_above", dtype, PLAIN, at, lambda: cossim.pairs_above(q, 0.85, corpus)
            yield "Index.pairs_above", dtype, PLAIN, at, lambda: index.pairs_above(q, 0.85)
        some = corpus[:300]
        yield "topk", dtype, PLAIN, f"{case}, itself", lambda: cossim.topk(some, None, 5)
        yield "pairs_above", dtype, PLAIN, f"{case}, itself", lambda: cossim.pairs_above(some, 0.9)
        call = lambda: [cossim.duplicate_groups(some, at) for at in (0.5, 0.95)]
        yield "duplicate_groups", dtype, PLAIN, case, call
    for layout, laid in LAYOUTS.items():
        x, q = laid(similar(1, 900, 100)), laid(similar(1, 20, 100))
        call = lambda: [cossim.topk(q, x, 9), cossim.topk(q[:2], x, 9), cossim.pairs_above(x, 0.9)]
        yield "topk", "float32", layout, "pairs_above too", call
        yield "Index", "float32", layout, "similar", lambda: stored(cossim.Index(x))
    for one, other in (("float64", "float32"), ("float32", "float16"), ("int8", "float32")):
        x, q = similar(3, 900, 100, one), similar(3, 20, 100, other)
        call = lambda: [cossim.topk(q, x, 9), cossim.pairs_above(q, 0.8, x), cossim.Index(x).topk(q, 9)]
        yield "topk", f"{other} in {one}", PLAIN, "pairs_above and Index too", call
    long = numbers(5, (60, 4097))
    call = lambda: [cossim.topk(long, None, 5), cossim.Index(long).topk(long[:3], 5), cossim.pairs_above(long, 0.01)]
    yield "topk", "float32", PLAIN, "rows of 4097", call
    x = similar(6, 5000, 40)
    call = lambda: [
        cossim.topk(x[:2], x, 20, eps=4),
        cossim.topk(x[:70], x, 20, eps=4),
        cossim.duplicate_groups(x, 0.9),
    ]
    yield "topk", "float32", PLAIN, "several tasks, eps=4", call
    yield "topk", "float32", "a file", "in blocks", lambda: in_blocks(x)


def stored(index):
    """The bytes of the index file: rows, codes and scales, and their offsets."""
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        return np.fromfile(Path(folder) / "index", np.uint8)


def in_blocks(x):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, x)
        options = {"memory": 200_000}
        found = cossim.topk(x[:40], path, 9, **options), cossim.topk(path, None, 3, **options)
        return *found, cossim.pairs_above(path, 0.95, **options), cossim.duplicate_groups(path, 0.95, **options)


def vjps():
    for dtype, (form, (left, right, dim)), n in product(DTYPES[:4], FORMS.items(), (5, 64, 300)):
        x, y = numbers(n, left(n), dtype), numbers(n + 1, right(n), dtype)
        call = lambda: pulled(*cossim.cosine_similarity_vjp(x, y, dim))
        yield "cosine_similarity_vjp", dtype, PLAIN, f"{form}, {n}", call
    for dtype, depth in product(DTYPES[:4], (5, 64, 300)):
        x, y = numbers(depth, (40, depth), dtype), numbers(depth + 1, (25, depth), dtype)
        call = lambda: [pulled(*cossim.pairwise_vjp(x)), pulled(*cossim.pairwise_vjp(x, y))]
        yield "pairwise_vjp", dtype, PLAIN, f"{depth}", call
        x, y = special(depth, (21, depth), dtype), special(depth + 1, (21, depth), dtype)
        call = lambda: [
            pulled(*cossim.pairwise_vjp(x)),
            pulled(*cossim.cosine_similarity_vjp(x, y)),
            pulled(*cossim.cosine_similarity_vjp(x.T, y.T, 0)),
        ]
        yield "pairwise_vjp", dtype, PLAIN, f"special values, {depth}, cosine_similarity_vjp too", call


def pulled(y, pullback):
    """A result, and its pullback's results for two gradients: a random one, and the same with most elements 0."""
    dy = numbers(99, np.shape(y), "float32").astype(np.asarray(y).dtype)
    return y, pullback(dy), pullback(np.where(dy > 1.5, dy, dy.dtype.type(0)))


# images, filters, and options: (N, C, H, W), (O, C / groups, h, w)
CONVOLUTIONS = [
    ((2, 1, 28, 28), (10, 1, 5, 5), {}),
    ((3, 10, 12, 12), (20, 10, 5, 5), {}),
    ((2, 6, 40, 37), (9, 6, 5, 5), {"padding": "same"}),
    ((1, 3, 33, 70), (16, 3, 5, 4), {"padding": 2}),
    ((2, 8, 21, 35), (8, 8, 5, 3), {"stride": (1, 2)}),
    ((2, 3, 9, 8), (5, 3, 3, 2), {}),
    ((2, 16, 14, 14), (24, 16, 3, 3), {"padding": 1}),
    ((1, 40, 7, 7), (17, 40, 3, 3), {"padding": 1}),
    ((1, 64, 20, 20), (13, 64, 1, 1), {}),
    ((4, 3, 32, 32), (12, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 4, 30, 41), (6, 4, 3, 3), {"stride": (3, 2), "dilation": (2, 3), "padding": (1, 4)}),
    ((2, 8, 19, 23), (12, 4, 3, 3), {"groups": 2, "padding": "same", "dilation": 2}),
    ((2, 12, 17, 18), (12, 1, 3, 3), {"groups": 12, "padding": 1}),
    ((1, 2, 5, 200), (3, 2, 1, 9), {"dilation": (1, 7)}),
    ((5, 1, 6, 6), (2, 1, 6, 6), {}),
    ((1, 2, 130, 9), (8, 2, 5, 1), {}),
    ((0, 2, 8, 8), (3, 2, 3, 3), {}),
]
POOLS = [(2,), (3,), (2, 1), (3, 2, 1), ((3, 2), (2, 3), (1, 0), (2, 1)), (2, 2, 0, 1, True), (5, 3, 2, 2, True)]

LINEAR = [(1, 320, 100), (3, 7, 5), (50, 65, 33), (200, 320, 100), (4, 1500, 9)]  # rows, inputs, outputs


def layers():
    for dtype, (number, (shape, filters, options)) in product(FLOATS, enumerate(CONVOLUTIONS)):
        x, weight, bias = (numbers(number + i, s, dtype) for i, s in enumerate((shape, filters, filters[:1])))
        case = f"{shape}, {filters}, {options}"
        for layout, laid in LAYOUTS.items() if number in (1, 10) else [(PLAIN, LAYOUTS[PLAIN])]:
            a, w = laid(x), laid(weight)
            call = lambda: [nn.conv2d(a, w, bias, **options), nn.conv2d(a, w, **options)]
            yield "nn.conv2d", dtype, layout, case, call
            call = lambda: [pulled(*nn.conv2d_vjp(a, w, *bs, **options)) for bs in ((bias,), ())]
            yield "nn.conv2d_vjp", dtype, layout, case, call
        for tail, more in {"relu": [nn.ReLU()], "pool": [nn.ReLU(), nn.MaxPool2d(2)]}.items():
            if min(nn.conv2d(x, weight, **options).shape[2:]) > 1:
                model = nn.Sequential(convolution(x, weight, bias, options), *more)
                yield "nn.Sequential", dtype, PLAIN, f"{case}, {tail}", lambda: [model(x), model(x[:1])]
                yield "nn.Sequential.vjp", dtype, PLAIN, f"{case}, {tail}", lambda: pulled(*model.vjp(x))
    for dtype, pool, size in product(FLOATS, POOLS, ((9, 11), (28, 28), (24, 67))):
        x = special(size[1], (21, size[0] * size[1]), dtype).reshape(7, 3, *size)
        pool, ceil = pool[:4], {"ceil_mode": len(pool) > 4}
        case = f"{size}, {pool}, {ceil}"
        call = lambda: [nn.max_pool2d(x, *pool, **ceil), nn.max_pool2d(x, *pool, return_indices=True, **ceil)]
        yield "nn.max_pool2d", dtype, PLAIN, case, call
        yield "nn.max_pool2d_vjp", dtype, PLAIN, case, lambda: pulled(*nn.max_pool2d_vjp(x, *pool, **ceil))
    for dtype, (rows, ins, outs) in product(FLOATS, LINEAR):
        x, weight, bias = (numbers(ins + i, s, dtype) for i, s in enumerate(((rows, ins), (outs, ins), (outs,))))
        case = f"{rows} x {ins} x {outs}"
        call = lambda: [nn.linear(x, weight, bias), nn.linear(x, weight), nn.linear(x[0], weight, bias)]
        yield "nn.linear", dtype, PLAIN, case, call
        yield "nn.linear_vjp", dtype, PLAIN, case, lambda: pulled(*nn.linear_vjp(x, weight, bias))
    for dtype, (layout, laid) in product(FLOATS, LAYOUTS.items()):
        x = laid(special(4, (21, 333), dtype))
        yield "nn.relu", dtype, layout, "special values", lambda: [nn.relu(x), pulled(*nn.relu_vjp(x))]


def loaded(module, seed=0):
    """The module with parameters from our generator, in the range of the usual initial values."""
    state = module.state_dict()
    given = {name: numbers(seed + i, w.shape, w.dtype.name) for i, (name, w) in enumerate(state.items())}
    scale = {name: w.dtype.type(2.0 ** -(int(w[0].size).bit_length() // 2 + 1)) for name, w in state.items()}
    module.load_state_dict({name: w * scale[name] for name, w in given.items()})
    return module


def convolution(x, weight, bias, options):
    groups = options.get("groups", 1)
    layer = nn.Conv2d(weight.shape[1] * groups, len(weight), weight.shape[2:], dtype=x.dtype, rng=0, **options)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def training():
    for dtype in FLOATS:
        images = np.abs(numbers(1, (70, 1, 28, 28), dtype)) / 4
        encoder = loaded(simclr.Encoder(dtype=dtype, rng=0))
        for n in (1, 3, 16, 70):
            yield "simclr.Encoder", dtype, PLAIN, f"{n} images", lambda: encoder(images[:n])
            yield "simclr.Encoder.vjp", dtype, PLAIN, f"{n} images", lambda: pulled(*encoder.vjp(images[:n]))
        wide = nn.Sequential(nn.Conv2d(1, 4, 3, padding="same", padding_mode="reflect", dtype=dtype, rng=0), nn.ReLU())
        deep = nn.Sequential(wide, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 30, dtype=dtype, rng=0), nn.ReLU())
        loaded(deep)
        call = lambda: [deep(images), pulled(*deep.vjp(images))]
        yield "nn.Sequential", dtype, PLAIN, "reflected border", call
        for make in (nn.SGD, nn.Adam):
            for options in OPTIMIZERS[make]:
                call = lambda: stepped(make, options, dtype)
                yield f"nn.{make.__name__}", dtype, PLAIN, str(options), call
        still = {"rotate": 0, "shear": 0, "aspect": (1, 1)}
        views = {"defaults": {}, "neither sin nor exp": still, "all": {"shear": 9, "aspect": (0.5, 2), "clip": None}}
        for case, options in views.items():
            yield "simclr.augment", dtype, PLAIN, case, lambda: simclr.augment(images, 7, **options)
        for optimizer in ("adam", "sgd"):
            call = lambda: trained(encoder, images, optimizer)
            yield "simclr.train", dtype, PLAIN, optimizer, call
    for dtype, (rows, depth), temperature in product((*FLOATS, "int8"), EMBEDDINGS, (0.5, 0.01, 1e-4)):
        z0, z1 = numbers(rows, (rows, depth), dtype), numbers(rows + 1, (rows, depth), dtype)
        case = f"{rows} x {depth}, temperature={temperature}"
        call = lambda: [
            simclr.nt_xent(z0, z1, temperature),
            simclr.nt_xent(z0, temperature=temperature, pairs="interleaved"),
            simclr.nt_xent_value_and_grad(z0, z1, temperature),
            simclr.nt_xent_value_and_grad(z0, None, temperature),
        ]
        yield "simclr.nt_xent", dtype, PLAIN, case, call
        if temperature == 0.5:
            yield "simclr.similarity_matrix", dtype, PLAIN, case, lambda: simclr.similarity_matrix(z0, z1)


EMBEDDINGS = [(2, 3), (8, 100), (70, 33), (150, 128)]
OPTIMIZERS = {
    nn.SGD: [{}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "dampening": 0.1, "weight_decay": 0.1}],
    nn.Adam: [{}, {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}],
}


def stepped(make, options, dtype):
    parameters = {"weight": numbers(1, (30, 41), dtype), "bias": numbers(2, (30,), dtype)}
    optimizer = make(parameters, 0.01, **options)
    for step in range(3):
        optimizer.step({name: numbers(step + 3, w.shape, dtype) for name, w in parameters.items()})
    return parameters, optimizer.state_dict()


def trained(encoder, images, optimizer):
    encoder, losses = simclr.train(images, 2, 30, seed=3, encoder=encoder, optimizer=optimizer)
    return encoder.state_dict(), losses


TABLE = (vectors, pairwise, search, vjps, layers, training)

# ---- hashes ----


def add(digest, result):
    """Adds the type, shape and bytes of each array and number of a (nested) result to a hash."""
    if isinstance(result, dict):
        result = [part for name in sorted(result) for part in (name, result[name])]
    if isinstance(result, (tuple, list)):
        digest.update(b"%d parts" % len(result))
        for part in result:
            add(digest, part)
    elif result is None or isinstance(result, str):
        digest.update(repr(result).encode())
    else:
        array = np.asarray(result)
        digest.update(f"{array.dtype.name} {array.shape}".encode() + array.tobytes())


def hashed(call):
    digest = hashlib.sha256()
    add(digest, call())
    return digest.hexdigest()


def all_hashes():
    """{"function | dtype | layout | case": hash} for this process's instruction set."""
    hashes = {}
    for *key, call in (case for cases in TABLE for case in cases()):
        key = " | ".join(key)
        results = []
        for threads in (1, 2):
            with cossim.threads(threads):
                results.append(hashed(call))
        if results[0] != results[1]:
            raise AssertionError(f"the result depends on the number of threads: {key}")
        if hashes.setdefault(key, results[0]) is not results[0]:
            raise AssertionError(f"two cases have the same key: {key}")
    return hashes


def computed():
    """The hashes of every instruction set. Each runs in its own process, because COSSIM_ISA is read at import."""
    result = {"NumPy": np.__version__, "instruction sets": {}}
    for isa in cossim.show_config("dicts")["instruction set"]["available"]:
        environment = {**os.environ, "COSSIM_ISA": isa}
        run = subprocess.run([sys.executable, __file__, "hashes"], env=environment, stdout=subprocess.PIPE, check=True)
        result["instruction sets"][isa] = json.loads(run.stdout)
    return result


def differences(before, after):
    """One line for each result that differs, or that only one of the two files has."""
    sets = before["instruction sets"], after["instruction sets"]
    for isa in sorted(set(sets[0]) | set(sets[1])):
        old, new = (hashes.get(isa, {}) for hashes in sets)
        for key in sorted(set(old) | set(new)):
            if old.get(key) != new.get(key):
                kind = "is new" if key not in old else "is missing" if key not in new else "differs"
                yield f"{isa} | {key}: {kind}"


def main(verb, path=None):
    if verb == "hashes":
        json.dump(all_hashes(), sys.stdout)
        return None
    if verb == "record":
        result = computed()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(result, indent=0) + "\n")
        count = {isa: len(hashes) for isa, hashes in result["instruction sets"].items()}
        print(f"recorded in {path}: {count}")
        return None
    before, after = json.loads(Path(path).read_text()), computed()
    if before["NumPy"] != after["NumPy"]:
        print(f"recorded with NumPy {before['NumPy']}, not {after['NumPy']}: results of augment and train may differ")
    lines = list(differences(before, after))
    print(*lines, f"{len(lines)} results differ from those in {path}", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or (sys.argv[1], len(sys.argv)) not in {("hashes", 2), ("record", 3), ("compare", 3)}:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
