"""A user's program with all public names. Type checkers must accept it and infer these types; it never runs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import assert_type

import cossim
import cossim.nn.functional as F
from cossim import CosineSimilarity, Index, Pairs, TopK, nn, simclr

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class OfAnotherLibrary:
    """An array of another library, such as a tensor in CPU memory."""

    def __dlpack__(self, *, stream: int | None = None) -> object:
        return None

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class OfDask:
    def __array__(self) -> NDArray[Any]:
        return np.zeros(3)

    def __dask_graph__(self) -> dict[str, object]:
        return {}


def progress(done: int, total: int) -> None:
    print(f"{done} of {total}")


# ---- along a dimension ----


def along_a_dimension(a: Float32, b: Float32, wide: Float64, integers: NDArray[np.int8], unknown: NDArray[Any]) -> None:
    assert_type(cossim.cosine_similarity(a, b), Float32 | Any)
    left: Float32 = a[None]
    right: Float32 = b[:, None]
    assert_type(cossim.cosine_similarity(left, right, dim=2, eps=1e-6), Float32 | Any)
    assert_type(cossim.cosine_similarity(a, b, axis=-1), Float32 | Any)
    mixed: NDArray[np.floating[Any]] = cossim.cosine_similarity(a, wide)
    print(mixed.dtype)
    assert_type(cossim.cosine_similarity(unknown, b), NDArray[Any] | Any)
    assert_type(cossim.cosine_similarity([[1, 2], [3, 4]], integers), NDArray[Any] | Any)
    assert_type(cossim.cosine_similarity(OfAnotherLibrary(), a), NDArray[Any] | Any)
    assert_type(cossim.cosine_similarity(memoryview(b""), bytearray(8), 0), NDArray[Any] | Any)
    assert_type(cossim.cosine_similarity(a, b, out=wide), Float64)
    assert_type(cossim.cosine_distance(a, b, dim=np.int64(1), eps=np.float32(0.5)), Float32 | Any)
    assert_type(cossim.cosine_distance(wide, wide, axis=0, out=a), Float32)
    assert_type(cossim.vecdot(wide, wide), Float64 | Any)
    assert_type(cossim.vecdot([1.0, 2.0], (3.0, 4.0)), NDArray[Any] | Any)
    assert_type(cossim.vecdot(a, b, 0, out=b), Float32)

    assert_type(cossim.vector_norm(a), np.float32)
    assert_type(cossim.vector_norm(a, None, False), np.float32)
    assert_type(cossim.vector_norm(a, 1), Float32 | Any)
    assert_type(cossim.vector_norm(a, axis=(0, 1)), Float32 | Any)
    assert_type(cossim.vector_norm(a, dim=[0, 1], keepdim=True), Float32 | Any)
    assert_type(cossim.vector_norm(a, keepdims=True), Float32 | Any)
    assert_type(cossim.vector_norm([3, 4]), np.floating[Any] | Any)
    assert_type(cossim.vector_norm(integers, 0), NDArray[Any] | Any)
    assert_type(cossim.vector_norm(a, 1, out=wide), Float64)
    assert_type(cossim.normalize(a), Float32)
    assert_type(cossim.normalize(wide, axis=(0, 1), eps=0), Float64)
    assert_type(cossim.normalize(wide, None), Float64)
    assert_type(cossim.normalize([[3, 4]], 1, 1e-6), NDArray[Any] | Any)
    assert_type(cossim.normalize(a, out=a), Float32)

    cos = CosineSimilarity(dim=1, eps=1e-6)
    assert_type(cos(a, b), Float32 | Any)
    assert_type(cos([[1.0]], a), NDArray[Any] | Any)
    print(cos.dim, cos.eps)


def one_pair(u: Float64, v: Float64) -> float:
    return float(cossim.cosine_similarity(u, v)) + float(cossim.pairwise([1, 2], [3, 4]))


def scores(a: Float32, b: Float32, out: Float32 | None = None) -> Float32:
    """A result that is declared and used as an array needs no cast."""
    similarity = cossim.cosine_similarity(a, b)
    print(similarity[0], similarity.mean(), similarity.shape, similarity > 0.5)
    if out is not None:
        return cossim.cosine_similarity(a, b, out=out)
    return similarity


def gradients(a: Float32, b: Float32) -> None:
    y, pullback = cossim.cosine_similarity_vjp(a, b, dim=1)
    assert_type(y, Float32 | Any)
    da, db = pullback(np.ones_like(y))
    assert_type(da, Float32)
    assert_type(db, Float32)
    _, of_lists = cossim.cosine_similarity_vjp([[1, 2]], [[3, 4]], axis=-1, eps=0.1)
    assert_type(of_lists([1.0]), tuple[NDArray[Any], NDArray[Any]])

    matrix, back = cossim.pairwise_vjp(a)
    assert_type(matrix, Float32 | Any)
    assert_type(back(matrix), Float32)
    _, back_to_both = cossim.pairwise_vjp(a, b, eps=1e-6)
    assert_type(back_to_both(matrix), tuple[Float32, Float32])
    assert_type(cossim.pairwise_vjp([[1, 2]])[1]([[1.0]]), NDArray[Any])
    assert_type(cossim.pairwise_vjp([[1, 2]], a)[1](a), tuple[NDArray[Any], NDArray[Any]])


# ---- all pairs and search ----


def all_pairs(a: Float32, b: Float32, wide: Float64) -> Float32:
    assert_type(cossim.pairwise(a), Float32 | Any)
    assert_type(cossim.pairwise(a, b, eps=1e-6, progress=progress), Float32 | Any)
    assert_type(cossim.pairwise([[1, 2]], a, progress=True), NDArray[Any] | Any)
    assert_type(cossim.pairwise(a, out=wide), Float64)
    bits = np.packbits(wide > 0, axis=1)
    assert_type(cossim.pairwise(bits, bits, binary=True), NDArray[Any] | Any)
    return cossim.pairwise(a, None)


def search(queries: Float32, corpus: Float32, path: Path) -> None:
    found = cossim.topk(queries, corpus, 10, eps=1e-6, memory=1 << 20, progress=lambda done, total: None)
    assert_type(found, TopK)
    assert_type(found.values, NDArray[np.floating[Any]])
    assert_type(found.indices, NDArray[np.int64])
    values, indices = cossim.topk(path, None, np.int32(3))
    assert_type(values, NDArray[np.floating[Any]])
    assert_type(indices, NDArray[np.int64])

    mask = np.ones(9, bool)
    assert_type(cossim.topk(queries, corpus, where=mask, exclude=[[0], [-1]]), TopK)
    assert_type(cossim.topk(queries), TopK)

    pairs = cossim.pairs_above(queries, 0.9, where=[1, 2], exclude=None, max_pairs=1000)
    assert_type(pairs, Pairs)
    for i, j, value in zip(pairs.i, pairs.j, pairs.values, strict=True):
        print(int(i), int(j), float(value))
    assert_type(cossim.pairs_above("x.npy", np.float32(0.5), path, memory=None, progress=False), Pairs)
    assert_type(cossim.duplicate_groups(corpus, 0.95, eps=0, progress=True), NDArray[np.int64])

    assert_type(cossim.top_pairs(corpus, 100, memory=1 << 20).sorted(), Pairs)
    kept, like = cossim.deduplicate(path, 0.95, progress=True)
    assert_type(kept, NDArray[np.int64])
    assert_type(like, NDArray[np.int64])
    assert_type(cossim.communities(corpus, 0.75, 10, max_pairs=10**6), list[NDArray[np.int64]])
    assert_type(cossim.diverse(queries[0], corpus, 5, weight=0.7, fetch=50, exclude=[0]), TopK)
    assert_type(cossim.maxsim(queries, corpus, [0, 5], where=[0]), NDArray[np.float64])
    assert_type(cossim.maxsim(queries, [corpus, corpus], k=1), TopK)
    assert_type(cossim.maxsim(queries, cossim.Index(corpus), [0, 5], k=1), TopK)
    print(pairs.to_list(["a", "b"]), found.to_list(), found.to_csr((5, 9), distance=True), pairs.to_pandas())
    with cossim.open_rows([path], "x", dtype=np.float32, shape=(-1, 8), offset=np.int64(0), ids="id") as opened:
        assert_type(opened.shape, tuple[int, int])
        assert_type(opened.ids, NDArray[Any] | None)
        assert_type(cossim.topk(queries, opened, 3), TopK)
        assert_type(cossim.pairwise(opened), NDArray[Any] | Any)

    index = Index(corpus, eps=1e-6, progress=progress)
    assert_type(index.topk(queries, 5, where=mask, exclude=[3]), TopK)
    assert_type(index.pairs_above(path, 0.5, where=[1], exclude=mask.nonzero()[0], max_pairs=None), Pairs)
    assert_type(len(index) * index.dim + index.nbytes, int)
    assert_type(index.corpus, NDArray[Any])
    assert_type(index.eps, float)
    empty = Index(dim=8)
    assert_type(empty.add(corpus), NDArray[np.int64])
    assert_type(empty.add(corpus, remove=[0, 1]), NDArray[np.int64])
    assert_type(empty.dtype, np.dtype[Any])
    empty.remove(0)
    empty.remove(empty.numbers[:2])
    empty.remove([3, 4])
    assert_type(empty[5], NDArray[Any])
    assert_type(empty[[5, 6]], NDArray[Any])
    assert_type(empty.compact(), NDArray[np.int64])
    assert_type(empty.numbers, NDArray[np.int64])
    assert_type(empty.topk(None, 3), TopK)
    assert_type(empty.pairs_above(None, 0.5), Pairs)
    assert_type(empty.duplicate_groups(0.5, progress=True), NDArray[np.int64])
    bits = Index("bits.npy", binary=True)
    assert_type(bits.binary, bool)
    assert_type(cossim.topk(path, bits.corpus, 3, binary=True), TopK)
    index.save(path, progress=None)
    assert_type(Index.load(path, mmap=False, verify=False), Index)
    assert_type(cossim.Index.load("corpus.index"), Index)


def of_dask(lazy: OfDask, a: Float32) -> None:
    """Calls with Dask arrays have results of type Any."""
    assert_type(cossim.cosine_similarity(lazy, a), Any)
    assert_type(cossim.cosine_distance(a, lazy), Any)
    assert_type(cossim.vecdot(lazy, lazy, axis=0), Any)
    assert_type(cossim.vector_norm(lazy), Any)
    assert_type(cossim.normalize(lazy), Any)
    assert_type(cossim.pairwise(lazy), Any)
    assert_type(cossim.pairwise(a, lazy), Any)
    assert_type(cossim.topk(lazy, None, 3), Any)
    assert_type(cossim.topk(a, lazy, 3, where=lazy, exclude=[1]), Any)
    assert_type(cossim.pairs_above(lazy, 0.5), Any)
    assert_type(cossim.pairs_above(a, 0.5, lazy), Any)
    assert_type(cossim.duplicate_groups(lazy, 0.5), Any)


# ---- settings and explain ----


def around(a: Float32) -> None:
    assert_type(cossim.__version__, str)
    with cossim.threads(2):
        assert_type(cossim.get_num_threads(), int)
    cossim.set_num_threads(1)
    cossim.show_config()
    assert_type(cossim.show_config(mode="dicts"), dict[str, Any])
    explanation = cossim.explain(a, [[1.0]], dim=1, eps=1e-8)
    assert_type(explanation.norms1, NDArray[Any])
    assert_type(explanation.shape, tuple[int, ...])
    for step in [*explanation.steps, *explanation.mistakes]:
        print(step.title, step.text, step.shape, *step.lines)


# ---- networks ----


def functions(x: Float32, weight: Float32, bias: Float32) -> None:
    assert_type(nn.conv2d(x, weight), Float32)
    assert_type(F.conv2d(x, weight, bias, stride=2, padding="same", dilation=(1, 2), groups=1), Float32)
    assert_type(nn.conv2d([[[1.0]]], [[[[1.0]]]], None, [1, 1]), NDArray[Any])
    assert_type(nn.max_pool2d(x, 2), Float32)
    assert_type(nn.max_pool2d(x, (2, 2), ceil_mode=True, return_indices=True), tuple[Float32, NDArray[np.int64]])
    assert_type(nn.max_pool2d([[[1.0]]], 1, None, 0, 1, False, False), NDArray[Any])
    assert_type(nn.linear(x, weight, bias), Float32 | Any)
    assert_type(nn.relu(x), Float32)
    assert_type(nn.relu([-1.0]), NDArray[Any] | Any)
    assert_type(nn.avg_pool2d(x, 2, (1, 2), 1, True, False, 3), NDArray[Any])
    assert_type(F.adaptive_avg_pool2d(x, (None, 2)), NDArray[Any])
    assert_type(F.batch_norm(x, None, None, weight, bias, training=True, momentum=0.2, eps=1e-3), NDArray[Any])
    assert_type(F.gelu(x, approximate="tanh"), NDArray[Any] | Any)
    assert_type(F.leaky_relu([-1.0], 0.2), NDArray[Any] | Any)
    assert_type(F.dropout(x, 0.1, training=True, rng=3), NDArray[Any] | Any)


def functions_and_gradients(x: Float32, weight: Float32, bias: Float32, optional: Float32 | None) -> None:
    maps, of_conv2d = nn.conv2d_vjp(x, weight, bias, padding=1)
    assert_type(maps, Float32)
    assert_type(of_conv2d(maps), tuple[Float32, Float32, Float32])
    assert_type(of_conv2d(maps, input_gradient=False), tuple[None, Float32, Float32])
    assert_type(nn.conv2d_vjp(x, weight)[1](maps), tuple[Float32, Float32, None])
    assert_type(nn.conv2d_vjp(x, weight, optional)[1](maps)[2], Float32 | None)
    pooled, of_pool = nn.max_pool2d_vjp(x, 2)
    assert_type(of_pool(pooled), Float32)
    y, of_linear = nn.linear_vjp(x, weight, bias)
    assert_type(of_linear(y, True), tuple[Float32, Float32, Float32])
    assert_type(nn.linear_vjp([[1.0]], [[1.0]])[1]([[1.0]]), tuple[NDArray[Any], NDArray[Any], None])
    assert_type(nn.avg_pool2d_vjp(x, 2)[1](pooled), NDArray[Any])
    assert_type(nn.adaptive_avg_pool2d_vjp(x, 1)[1](pooled), NDArray[Any])
    assert_type(nn.batch_norm_vjp(x, None, None, weight, training=True)[0], NDArray[Any])
    assert_type(nn.gelu_vjp(x)[1](x), NDArray[Any] | Any)
    assert_type(nn.leaky_relu_vjp(x, 0.1)[1](x), NDArray[Any] | Any)
    assert_type(nn.dropout_vjp(x, 0.5, rng=0)[1](x), NDArray[Any] | Any)
    positive, of_relu = nn.relu_vjp(x)
    assert_type(of_relu(positive), Float32)


class Tower(nn.Module):
    """A user's module: an encoder whose output is scaled."""

    parameter_names = ("scale",)
    module_names = ("encoder",)

    def __init__(self, rng: np.random.Generator) -> None:
        self.encoder = simclr.Encoder(rng=rng)
        self.scale = np.ones(100, np.float32)

    def forward(self, x: ArrayLike) -> NDArray[Any]:
        return self.encoder(x) * self.scale

    def vjp(
        self, x: ArrayLike
    ) -> tuple[NDArray[Any], Callable[..., tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]]]:
        y, pullback = self.encoder.vjp(x)

        def back(dy: NDArray[Any], input_gradient: bool = True) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]:
            dx, of_encoder = pullback(dy * self.scale, input_gradient)
            return dx, {"scale": (dy * y).sum(0)} | {f"encoder.{key}": of_encoder[key] for key in of_encoder}

        return y * self.scale, back


def networks(images: Float32, path: Path) -> None:
    layers: Sequence[nn.Module] = [nn.Conv2d(1, 8, (3, 3), padding="same", rng=0), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 14 * 14, 10, dtype=np.float32), np.tanh)
    named = nn.Sequential({"flatten": nn.Flatten(1, -1), "fc": nn.Linear(784, 10, bias=False)})
    assert_type(net(images), NDArray[Any])
    assert_type(nn.MaxPool2d(2, return_indices=True)(images), NDArray[Any] | Any)
    assert_type(nn.Conv2d(1, 8, 3).forward(images), NDArray[Any])
    assert_type(net[:2], nn.Sequential)
    print(len(net), net[0].weight, list(net))

    y, pullback = named.vjp(images)
    dx, of_parameters = pullback(np.ones_like(y))
    print(dx.shape, of_parameters["fc.weight"])
    optimizers = [nn.SGD(named, lr=0.1, momentum=0.9, nesterov=True), nn.Adam(named.state_dict(), betas=(0.9, 0.99))]
    for optimizer in optimizers:
        optimizer.step(of_parameters)
        optimizer.load_state_dict(optimizer.state_dict())
    nn.Adam(named).lr = 0.5
    optimizer = nn.AdamW(named, lr=1e-3, weight_decay=0.05)
    warm_up, cosine = nn.LinearLR(optimizer, 0.1, total_iters=5), nn.CosineAnnealingLR(optimizer, T_max=95, eta_min=0)
    schedule = nn.SequentialLR(optimizer, [warm_up, cosine], milestones=[5])
    schedule.step()
    assert_type(schedule.get_last_lr(), list[float])
    block = nn.Sequential(nn.BatchNorm2d(8, momentum=None), nn.LeakyReLU(0.2), nn.GELU("tanh"), nn.Dropout(0.1, rng=0))
    assert_type(block.train().eval(), nn.Sequential)
    nn.Sequential(block, nn.AvgPool2d(2, ceil_mode=True), nn.AdaptiveAvgPool2d((1, None)))
    assert_type(block.named_parameters(), list[tuple[str, NDArray[Any]]])

    nn.save_weights(path, named.state_dict())
    weights = nn.load_weights(os.fspath(path))
    assert_type(weights, dict[str, NDArray[Any]])
    named.load_state_dict(weights, strict=False)
    named.load_state_dict(path)
    for name, module in named.named_modules():
        print(name, module.state_dict().keys())


def contrastive(images: Float32, z0: Float32, z1: Float32, path: Path) -> NDArray[np.float64]:
    assert_type(simclr.augment(images, 1, shift=1, rotate=(0, 90), scale=(0.5, 1), clip=None), Float32)
    assert_type(
        simclr.augment(images, flip=0.5, brightness=0.4, hue=(-0.1, 0.1), greyscale=0.2, blur=(0.1, 2)), Float32
    )
    assert_type(simclr.similarity_matrix(z0, z1), Float32)
    assert_type(simclr.similarity_matrix([[1, 0]], z1), NDArray[Any])
    assert_type(simclr.nt_xent(z0, z1, 0.1), float)
    assert_type(simclr.nt_xent(z0, pairs="interleaved"), float)
    assert_type(simclr.nt_xent(z0, z1, labels=[0, 1]), float)
    loss, (dz0, dz1) = simclr.nt_xent_value_and_grad(z0, z1, temperature=0.5)
    assert_type(dz0, Float32)
    print(loss, dz1.shape)
    assert_type(simclr.nt_xent_value_and_grad([[1.0], [2.0]]), tuple[float, NDArray[Any]])
    assert_type(simclr.nt_xent_value_and_grad(z0, pairs="interleaved"), tuple[float, Float32])

    encoder = simclr.Encoder(dtype="float32", rng=np.random.default_rng(0))
    assert_type(encoder.conv1, nn.Conv2d)
    assert_type(encoder.fc.weight, NDArray[Any])
    training = simclr.train(images, 3, batch_size=8, progress=progress, checkpoint=path)
    assert_type(training, simclr.Training)
    assert_type(training.encoder(images), NDArray[Any])
    simclr.train(images, encoder=Tower(np.random.default_rng(1)), augment={"shift": 1.0}, optimizer="sgd", lr=0.1)
    simclr.train(images, optimizer=lambda parameters: nn.SGD(parameters, lr=0.1), augment=lambda views, rng: views)
    simclr.train(images, optimizer=nn.Adam, encoder=encoder)
    head = nn.Sequential(nn.Linear(100, 64), nn.ReLU(), nn.Linear(64, 32))
    simclr.train(images, head=head, schedule="cosine", callback=lambda epoch, step, loss: loss < 0.1)
    simclr.train(images, head=None, schedule=lambda optimizer, steps: nn.CosineAnnealingLR(optimizer, steps))
    assert_type(simclr.Encoder(3, (32, 48)).size, tuple[int, int])
    return training.losses
