"""binary=True: packed bits score as the rows of +1 and -1 that they stand for, exactly."""

import pickle

import numpy as np
import pytest
import reference
from public_inputs import LAYOUTS
from reference import same

import cossim
from cossim.__main__ import main

EPS = 1e-8


def signs(packed):
    """The rows that packed bits stand for."""
    return 2 * np.unpackbits(packed, axis=1).astype(np.int8) - 1


def exact(x, y=None, eps=EPS):
    """The scores by their formula from exact sums: (n - 2 h) / (max(sqrt(n), eps))^2 for h bits that differ."""
    a, b = (signs(np.ascontiguousarray(z)).astype(float) for z in (x, x if y is None else y))
    n = a.shape[1]
    return (a @ b.T) / (n if np.sqrt(n) >= eps else eps * eps)


def packed(rng, n, depth):
    """Random rows with some equal ones, some opposite ones, and clusters that differ in a few bits."""
    x = rng.integers(0, 256, (n, depth), np.uint8)
    near = rng.integers(0, n, n // 2)
    x[near] = x[rng.integers(0, n, len(near))]
    x[near[::3], rng.integers(0, depth, len(near[::3]))] ^= 1
    x[near[1::5]] ^= 255
    return x


@pytest.mark.parametrize("depth", [*range(1, 70), 96, 127, 128, 129, 192, 255, 256, 300, 992, 993, 2100])
def test_pairwise(rng, depth):
    x, y = packed(rng, 20, depth), packed(rng, 37, depth)
    scores = cossim.pairwise(x, y, binary=True)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, exact(x, y))
    np.testing.assert_array_equal(scores[:, :20].diagonal(), cossim.cosine_similarity(signs(x), signs(y)[:20]))
    np.testing.assert_array_equal(scores, cossim.pairwise(signs(x), signs(y)))
    own = cossim.pairwise(y, binary=True)
    np.testing.assert_array_equal(own, exact(y))
    assert (own.diagonal() == 1).all() and (cossim.pairwise(y, ~y, binary=True).diagonal() == -1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (257, 530), (0, 5), (5, 0)])
def test_pairwise_of_any_shape_and_threads(rng, shape):
    x, y = packed(rng, 600, 24)[: shape[0]], packed(rng, 600, 24)[: shape[1]]
    for threads in (1, 3):
        with cossim.threads(threads):
            np.testing.assert_array_equal(cossim.pairwise(x, y, binary=True), exact(x, y))
            np.testing.assert_array_equal(cossim.pairwise(y, binary=True), exact(y))


@pytest.mark.parametrize("eps", [0, 1e-300, np.sqrt(72), np.nextafter(np.sqrt(72), 9), 9.5, 1e150, 1e200, np.inf])
def test_eps_clamps_the_norms(rng, eps):
    x, y = packed(rng, 30, 9), packed(rng, 300, 9)
    scores = exact(x, y, eps)
    np.testing.assert_array_equal(cossim.pairwise(x, y, eps=eps, binary=True), scores)
    same(cossim.topk(x, y, 7, eps=eps, binary=True), reference.best_of(scores, 7, False))
    for threshold in (-1, -1e-300, 0, 1e-300, 0.25, 1):
        expected = reference.reaching(scores, threshold, False)
        same(cossim.pairs_above(x, threshold, y, eps=eps, binary=True), expected)


def test_layouts(rng):
    x, y = packed(rng, 300, 45), packed(rng, 40, 45)
    best, pairs = cossim.topk(y, x, 9, binary=True), cossim.pairs_above(x, 0.2, binary=True)
    for other in (np.flip(np.flip(x).copy()), *(form(x) for form in LAYOUTS.values())):
        np.testing.assert_array_equal(cossim.pairwise(other, y, binary=True), exact(x, y))
        np.testing.assert_array_equal(cossim.pairwise(other, binary=True), exact(x))
        same(cossim.topk(y, other, 9, binary=True), best)
        same(cossim.pairs_above(other, 0.2, binary=True), pairs)
    one = np.broadcast_to(x[:1], (500, 45))
    np.testing.assert_array_equal(cossim.pairwise(one, y, binary=True), exact(one, y))
    np.testing.assert_array_equal(cossim.topk(y, one, 3, binary=True).indices, [[0, 1, 2]] * len(y))


def test_out_of_any_dtype_and_layout(rng):
    x, y = packed(rng, 70, 5), packed(rng, 300, 5)
    for dtype in (np.float64, np.float32, np.float16):
        for given in ((x, y), (y,)):
            expected = exact(*given).astype(dtype)
            shape = expected.shape
            for out in (np.empty(shape, dtype), np.empty(shape[::-1], dtype).T, np.empty((*shape, 2), dtype)[..., 1]):
                assert cossim.pairwise(*given, out=out, binary=True) is out
                np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("depth", [1, 8, 48, 131])
@pytest.mark.parametrize("threads", [1, 3])
def test_searches(rng, depth, threads):
    """Short rows have many ties: equal scores are in order of index."""
    x, y = packed(rng, 30, depth), packed(rng, 700, depth)
    scores, own = exact(x, y), exact(y)
    with cossim.threads(threads):
        for count, k in ((1, 1), (1, 700), (3, 10), (30, 20)):
            same(cossim.topk(x[:count], y, k, binary=True), reference.best_of(scores[:count], k, False))
        same(cossim.topk(y, x, 4, binary=True), reference.best_of(exact(y, x), 4, False))
        same(cossim.topk(y, y, 4, binary=True), reference.best_of(own.copy(), 4, False))
        for k in (1, 15, 699):
            same(cossim.topk(y, None, k, binary=True), reference.best_of(own.copy(), k, True))
        for threshold in (-1, 0, scores.flat[5], np.nextafter(scores.flat[5], 2), 0.9, 1):
            expected = reference.reaching(scores, threshold, False)
            same(cossim.pairs_above(x, threshold, y, binary=True), expected)
            i, j, values = reference.reaching(scores.T, threshold, False)
            same(cossim.pairs_above(y, threshold, x, binary=True), (i, j, values))
            same(cossim.pairs_above(y, threshold, binary=True), reference.reaching(own, threshold, True))
            groups = cossim.duplicate_groups(y, threshold, binary=True)
            np.testing.assert_array_equal(groups, reference.groups(own, threshold))


def test_blocks_of_files(rng, tmp_path):
    x, path = packed(rng, 1500, 40), tmp_path / "bits.npy"
    np.save(path, x)
    queries, own = x[::100], exact(x)
    for corpus in (path, np.load(path, mmap_mode="r")):
        given = {"binary": True, "memory": 1}  # blocks of 256 rows
        same(cossim.topk(queries, corpus, 9, **given), reference.best_of(own[::100].copy(), 9, False))
        same(cossim.topk(corpus, None, 9, **given), reference.best_of(own.copy(), 9, True))
        same(cossim.pairs_above(corpus, 0.3, **given), reference.reaching(own, 0.3, True))
        np.testing.assert_array_equal(cossim.duplicate_groups(corpus, 0.9, **given), reference.groups(own, 0.9))


def test_index(rng, tmp_path):
    x, queries, path = packed(rng, 700, 33), packed(rng, 21, 33), tmp_path / "index"
    scores = exact(queries, x)
    made = cossim.Index(x, binary=True)
    made.save(path)
    mapped, read = cossim.Index.load(path), cossim.Index.load(path, mmap=False)
    for index in (made, mapped, read, pickle.loads(pickle.dumps(made))):
        assert repr(index) == "Index of 700 rows of 264 elements, packed bits"
        assert (len(index), index.dim, index.nbytes, index.binary) == (700, 264, 0, True)
        same(index.topk(queries, 12), reference.best_of(scores.copy(), 12, False))
        same(index.pairs_above(queries, 0.4), reference.reaching(scores, 0.4, False))
        for wrong in (queries.astype(np.int8), signs(queries).astype(float)[:, :33]):
            with pytest.raises(TypeError, match=r"Index\.topk\(\).*queries.*packbits"):
                index.topk(wrong, 1)
    clamped = cossim.Index(x, eps=100, binary=True)
    clamped.save(path)
    expected = reference.best_of(exact(queries, x, 100), 3, False)
    same(cossim.Index.load(path).topk(queries, 3), expected)
    same(mapped.topk(queries, 12), reference.best_of(scores.copy(), 12, False))
    assert not cossim.Index(x).binary


def test_an_index_file_of_bits_must_hold_bits(rng, tmp_path):
    from cossim.search import index_file

    for corpus in (packed(rng, 5, 8).astype(np.int8), np.zeros((5, 8))):
        index_file.write(tmp_path / "index", {"eps": EPS.hex(), "binary": "True"}, {"corpus": corpus})
        with pytest.raises(ValueError, match="index"):
            cossim.Index.load(tmp_path / "index")


def test_commands(rng, tmp_path):
    x, queries, out = packed(rng, 90, 6), packed(rng, 7, 6), tmp_path / "out.npz"
    paths = [str(tmp_path / name) for name in ("queries.npy", "corpus.npy")]
    for path, rows in zip(paths, (queries, x), strict=True):
        np.save(path, rows)
    assert main(["topk", *paths, "--binary", "-k", "4", "-o", str(out)]) == 0
    with np.load(out) as found:
        same((found["values"], found["indices"]), cossim.topk(queries, x, 4, binary=True))
    assert main(["pairs", paths[1], "--binary", "--threshold", "0.5", "-o", str(out)]) == 0
    with np.load(out) as found:
        same((found["i"], found["j"], found["values"]), cossim.pairs_above(x, 0.5, binary=True))
    assert main(["pairs", paths[1], "--binary", "--threshold", "0.5", "--groups", "-o", str(out)]) == 0
    with np.load(out) as found:
        np.testing.assert_array_equal(found["labels"], cossim.duplicate_groups(x, 0.5, binary=True))


def test_without_binary_uint8_are_numbers(rng):
    x = packed(rng, 50, 12)
    np.testing.assert_array_equal(cossim.pairwise(x), cossim.pairwise(x, binary=False))
    assert (cossim.pairwise(x) >= 0).all() and (cossim.pairwise(x, binary=True) < 0).any()
    same(cossim.topk(x, None, 3), reference.best_of(cossim.pairwise(x), 3, True))


CALLS = {
    "pairwise": lambda x, y: cossim.pairwise(x, y, binary=True),
    "topk": lambda x, y: cossim.topk(x, y, 1, binary=True),
    "pairs_above": lambda x, y: cossim.pairs_above(x, 0.5, y, binary=True),
    "duplicate_groups": lambda x, y: cossim.duplicate_groups(y, 0.5, binary=True),
    "Index": lambda x, y: cossim.Index(y, binary=True),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_other_rows_are_refused(call):
    bits = np.zeros((4, 8), np.uint8)
    for dtype in (np.int8, bool, np.uint16, np.int64, np.float16, np.float32, np.float64):
        with pytest.raises(TypeError, match="packbits"):
            call(bits, bits.astype(dtype))
    if call not in (CALLS["duplicate_groups"], CALLS["Index"]):
        for wrong in (bits.astype(bool), bits[:0].astype(float)):
            with pytest.raises(TypeError, match="packbits"):
                call(wrong, bits)
    with pytest.raises(ValueError, match=r"no (bits|elements)"):
        call(bits[:, :0], bits[:, :0])


def test_progress_counts_all_pairs(rng):
    x, y = packed(rng, 900, 16), packed(rng, 301, 16)
    for threads in (1, 2):
        with cossim.threads(threads):
            for call, total in (
                (lambda report: cossim.pairwise(x, y, binary=True, progress=report), 900 * 301),
                (lambda report: cossim.pairwise(x, binary=True, progress=report), 900 * 901 // 2),
                (lambda report: cossim.topk(y, x, 5, binary=True, progress=report), 900 * 301),
                (lambda report: cossim.topk(x, None, 5, binary=True, progress=report), 900 * 901 // 2),
                (lambda report: cossim.pairs_above(x, 0.5, binary=True, progress=report), 900 * 901 // 2),
            ):
                seen = []
                call(lambda done, all_, seen=seen: seen.append((done, all_)))
                assert seen[-1] == (total, total)


def test_a_callback_stops_a_search(rng):
    x = np.zeros((200_000, 128), np.uint8)

    def stop(done, total):
        raise KeyboardInterrupt

    for call in (
        lambda: cossim.topk(x, None, 1, binary=True, progress=stop),
        lambda: cossim.pairs_above(x, 1, ~x, binary=True, progress=stop),
    ):
        with pytest.raises(KeyboardInterrupt):
            call()


def test_dask(rng):
    da = pytest.importorskip("dask.array")
    dask = pytest.importorskip("dask")
    x, y = packed(rng, 300, 20), packed(rng, 90, 20)
    lazy, other = da.from_array(x, chunks=(110, 7)), da.from_array(y, chunks=(40, -1))
    same(dask.compute(cossim.topk(other, lazy, 6, binary=True))[0], cossim.topk(y, x, 6, binary=True))
    same(dask.compute(cossim.topk(lazy, None, 6, binary=True))[0], cossim.topk(x, None, 6, binary=True))
    same(dask.compute(cossim.pairs_above(lazy, 0.4, binary=True))[0], cossim.pairs_above(x, 0.4, binary=True))
    for given in ((lazy,), (other, lazy), (y, lazy)):
        plain = [np.asarray(each) for each in given]
        np.testing.assert_array_equal(cossim.pairwise(*given, binary=True).compute(), exact(*plain))
    for call in (CALLS["pairwise"], CALLS["topk"], CALLS["pairs_above"]):
        with pytest.raises(TypeError, match="packbits"):
            call(lazy.astype(np.float32), other)


def test_a_vector_of_bits_may_have_any_stride():
    bits, rows = np.broadcast_to(np.uint8(5), 4), np.zeros((2, 4), np.uint8)
    assert cossim.pairwise(bits, bits, binary=True) == 1
    assert cossim.pairwise(rows, bits, binary=True).tolist() == [0.5, 0.5]
    far = np.lib.stride_tricks.as_strided(np.zeros(9, np.uint8), (1,), (2**30,))
    assert cossim.pairwise(far, far, binary=True) == 1


@pytest.mark.parametrize("side", [0, 1])
def test_rows_that_are_not_packed_are_named_although_their_length_differs_too(side):
    rows = np.ones((3, 8))
    sides = [np.packbits(rows > 0, axis=1)] * 2
    sides[side] = rows
    calls = [
        lambda x, y: cossim.pairwise(x, y, binary=True),
        lambda x, y: cossim.topk(x, y, 1, binary=True),
        lambda x, y: cossim.pairs_above(x, 0.5, y, binary=True),
    ]
    if side == 0:
        calls += [lambda x, y: cossim.Index(y, binary=True).topk(x, 1)]
    for call in calls:
        with pytest.raises(TypeError, match="must hold packed bits"):
            call(*sides)
