"""Index gives the bits of topk and pairs_above, although its SQ8 codes rule out most rows first."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
import reference
from processes import python
from test_search import DTYPES, KINDS, queries_and_corpus, same, scores_of

import cossim


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("depth", [3, 384])
def test_an_index_gives_the_bits_of_the_functions(rng, kind, dtype, depth):
    queries, corpus = queries_and_corpus(rng, kind, dtype, 20, 1500, depth)
    queries = queries[:25]
    index = cossim.Index(corpus)
    scores = scores_of(queries, corpus)
    for threads in (1, 3) if kind == "normal" else (2,):
        with cossim.threads(threads):
            for count, k in ((1, 1), (1, 1500), (3, 10), (25, 20)):
                same(index.topk(queries[:count], k), reference.best_of(scores[:count], k, False))
            for threshold in (-1, 0.3, 0.95, 1):
                expected = reference.reaching(scores, threshold, False)
                same(index.pairs_above(queries, threshold), expected)
                if len(expected[0]):
                    with pytest.raises(ValueError, match=rf"Index\.pairs_above\(\): .*\b{len(expected[0])} in all\b"):
                        index.pairs_above(queries, threshold, max_pairs=len(expected[0]) - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_bound_every_row(rng, kind):
    """The prefilter relies on |x / |x| - scale * code| <= residual norm; that norm is no larger than needed."""
    with np.errstate(over="ignore"):
        x = KINDS[kind](rng, 500, 96).astype(np.float32)
    index = cossim.Index(x)
    upper, lower = (np.concatenate((half & 15, half >> 4), 1).astype(float) for half in index._state.codes)
    scales, rests = index._state.scales.T.astype(float)
    halves = np.maximum((index._state.scales[:, 1].view(np.uint32) << 16).view(np.float32), rests)
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        unit = wide / np.maximum(np.sqrt((wide * wide).sum(1)), 1e-8)[:, None]
        left = np.sqrt(((unit - scales[:, None] * (16 * upper + lower - 128)) ** 2).sum(1))
        half_left = np.sqrt(((unit - scales[:, None] * (16 * upper + 8 - 128)) ** 2).sum(1))
    finite = np.isfinite(wide).all(1)
    assert (rests[~finite] == np.inf).all()
    assert (left <= rests)[finite].all()
    assert (half_left <= halves)[finite].all()
    assert (halves <= 1.01 * half_left + rests)[finite].all()
    assert (rests[finite & ((wide * wide).sum(1) > 1e-60)] < 0.03).all()  # rows far below eps are never ruled out


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, bool], ids=lambda d: np.dtype(d).name)
def test_rows_of_8_bits_are_their_own_codes(rng, dtype, tmp_path):
    """The index adds only scales to such rows, in memory and in the file. Strided rows need codes."""
    x = rng.integers(0, 2, (300, 128)).astype(dtype)
    index, strided = cossim.Index(x), cossim.Index(x[:, ::2])
    assert (index.nbytes, strided.nbytes) == (300 * 8, 300 * (64 + 8))
    index.save(tmp_path / "index")
    for each in (index, cossim.Index.load(tmp_path / "index"), pickle.loads(pickle.dumps(index))):
        same(each.topk(x[:7], 9), cossim.topk(x[:7], x, 9))
    same(strided.topk(x[:7, ::2], 9), cossim.topk(x[:7, ::2], x[:, ::2], 9))
    many = np.repeat(x, 2, 0)  # more queries than rows
    same(index.pairs_above(many, 0.9), cossim.pairs_above(many, 0.9, x))
    strided_scales = cossim.Index._from_state(
        index._state._replace(arrays=index._state.arrays | {"corpus": np.asfortranarray(x)}), index.eps
    )
    same(strided_scales.topk(x[:7], 9), cossim.topk(x[:7], x, 9))


def test_attributes(rng):
    x = rng.standard_normal((2000, 384), np.float32)
    index = cossim.Index(x)
    assert (len(index), index.dim, index.eps) == (2000, 384, 1e-8)
    assert index.corpus.ctypes.data == x.ctypes.data  # not copied
    assert index.nbytes == 2000 * (384 + 8)
    assert index.nbytes <= 0.3 * x.nbytes
    assert repr(index) == "Index of 2000 rows of 384 elements, float32"
    assert repr(cossim.Index(np.eye(2)[:1])) == "Index of 1 row of 2 elements, float64"
    assert repr(cossim.Index(np.eye(2))) == "Index of 2 rows of 2 elements, float64"


class Named(cossim.Index):
    """A user's subclass with an attribute of its own."""


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_copies(rng, again):
    x = rng.standard_normal((200, 384), np.float32)
    index = Named(x, eps=0.1)
    index.names = ["a", "b"]
    other = again(index)
    assert (type(other), other.names, other.eps, other.nbytes) == (Named, ["a", "b"], 0.1, index.nbytes)
    same(other.topk(x[:5], 3), index.topk(x[:5], 3))


@pytest.mark.parametrize("name", ["corpus", "dim", "nbytes", "eps"])
def test_attributes_are_read_only(name):
    index = cossim.Index(np.eye(3))
    with pytest.raises(AttributeError, match=name):
        setattr(index, name, getattr(index, name))


def test_a_corpus_stays_as_it_is_while_an_index_holds_it():
    x = np.eye(6)
    index = cossim.Index(x)
    with pytest.raises(ValueError, match="resize"):
        x.resize((4, 6), refcheck=False)
    x.shape = 36
    assert index.topk(np.eye(6)[2:3], 1).indices == [[2]]
    del index
    x.resize((4, 6), refcheck=False)


def test_rows_that_have_no_codes(rng):
    x = rng.standard_normal((300, 4097), np.float32)
    index = cossim.Index(x)
    assert index.nbytes == 0
    same(index.topk(x[:9], 4), cossim.topk(x[:9], x, 4))
    same(cossim.Index(x[:, :4096]).topk(x[:9, :4096], 4), cossim.topk(x[:9, :4096], x[:, :4096], 4))


def test_queries_of_every_type_are_accepted(rng):
    x, q = rng.standard_normal((2000, 64), np.float32), rng.standard_normal((7, 64))
    index = cossim.Index(x)
    for dtype in (np.float64, np.float16, ml_dtypes.bfloat16, np.int32, ">f4"):
        typed = (9 * q).astype(dtype)
        for count in (1, 7):
            same(index.topk(typed[:count], 8), cossim.topk(typed[:count], x, 8))
        same(index.pairs_above(typed, 0.3), cossim.pairs_above(typed, 0.3, x))
    strided = np.asfortranarray(np.repeat(x, 2, 1))[:, ::2]
    same(cossim.Index(strided).topk(q, 8), cossim.topk(q, strided, 8))


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int16])
def test_saved_and_loaded(rng, tmp_path, dtype, mmap):
    x = (30 * rng.standard_normal((1500, 50))).astype(dtype)
    index = cossim.Index(x, eps=1e-3)
    path = tmp_path / "some.index"
    index.save(path)
    for verify in (True, False):
        loaded = cossim.Index.load(path, mmap=mmap, verify=verify)
        assert (len(loaded), loaded.dim, loaded.nbytes, loaded.eps) == (1500, 50, index.nbytes, 1e-3)
        np.testing.assert_array_equal(loaded.corpus, x)
        same(loaded.topk(x[:6], 5), index.topk(x[:6], 5))
        same(loaded.pairs_above(x[:6], 0.3), index.pairs_above(x[:6], 0.3))
    loaded.save(path)  # replaces the file that it maps
    same(cossim.Index.load(path).topk(x[:6], 5), index.topk(x[:6], 5))
    assert list(tmp_path.iterdir()) == [path]


def test_any_eps_is_saved(rng, tmp_path):
    x = rng.standard_normal((50, 20), np.float32)
    for eps in (0.0, 1e-8, 0.1, 1e300, np.inf):
        cossim.Index(x, eps=eps).save(tmp_path / "index")
        loaded = cossim.Index.load(tmp_path / "index")
        assert loaded.eps == eps
        same(loaded.topk(x, 3), cossim.topk(x, x, 3, eps=eps))


def test_other_arrays_than_those_of_an_index(rng, tmp_path):
    from cossim.search import index_file

    x = rng.standard_normal((30, 8), np.float32)
    index = cossim.Index(x)
    upper, lower = index._state.codes
    good = {"corpus": x, "upper_codes": upper, "lower_codes": lower, "scales": index._state.scales}
    path = tmp_path / "index"
    for header, arrays in (
        ({}, good),
        ({"eps": "x"}, good),
        ({"eps": "-0x1p0"}, good),
        ({"eps": "0x1p5000"}, good),
        ({"eps": ""}, good),
        ({"eps": (0.1).hex()}, {"corpus": x}),
        ({"eps": (0.1).hex()}, {**good, "corpus": x[0]}),
        ({"eps": (0.1).hex()}, {**good, "lower_codes": lower[:-1]}),
        ({"eps": (0.1).hex()}, {**good, "codes": np.zeros((30, 7), np.uint8)}),
        ({"eps": (0.1).hex()}, {**good, "scales": index._state.scales.astype(np.float64)}),
    ):
        index_file.write(path, header, arrays)
        with pytest.raises(ValueError, match=r"Index\.load\(\): .*\barrays\b.*\bindex\b"):
            cossim.Index.load(path)


@pytest.mark.parametrize("dim", [1, 9, 384])
def test_a_file_with_one_array_of_codes(rng, dim, tmp_path):
    """Older files have codes (N, D). Their bounds hold, and their results are those of a new index."""
    from cossim.search import index_file

    x = rng.standard_normal((600, dim), np.float32)
    x[3], x[4], x[5] = 0, np.nan, x[6]
    index = cossim.Index(x)
    upper, lower = (np.concatenate((half & 15, half >> 4), 1)[:, :dim] for half in index._state.codes)
    arrays = {"corpus": x, "codes": 16 * upper + lower, "scales": index._state.scales}
    index_file.write(tmp_path / "index", {"eps": index.eps.hex()}, arrays)
    for mmap in (True, False):
        loaded = cossim.Index.load(tmp_path / "index", mmap=mmap)
        np.testing.assert_array_equal(loaded._state.codes, index._state.codes)
        bounds = [(each._state.scales[:, 1].view(np.uint32) << 16).view(np.float32) for each in (index, loaded)]
        assert (bounds[1] >= bounds[0]).all()
        assert (loaded._state.scales[:, 1] >= index._state.scales[:, 1] * (1 - 2**-7)).all()
        for count in (1, 3, 40):
            same(loaded.topk(x[:count], 7), index.topk(x[:count], 7))


def test_a_corpus_in_a_file(rng, tmp_path):
    x = rng.standard_normal((3000, 64), np.float32)
    np.save(tmp_path / "x", x)
    expected = cossim.topk(x[:9], x, 5)
    for corpus in (str(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", mmap_mode="r")):
        index = cossim.Index(corpus)
        same(index.topk(x[:9], 5), expected)
        same(index.topk(str(tmp_path / "x.npy"), 5, memory=1000), cossim.topk(x, x, 5))


def test_other_instruction_sets_use_the_same_codes(rng, tmp_path):
    """An index that one processor saved works on another."""
    x = rng.standard_normal((2000, 100), np.float32)
    path = tmp_path / "index"
    cossim.Index(x).save(path)
    program = """
import numpy as np, cossim, sys
index = cossim.Index.load(sys.argv[1])
fresh = cossim.topk(index.corpus[:5], np.array(index.corpus), 7)
found = index.topk(index.corpus[:5], 7)
assert (found.values == fresh.values).all() and (found.indices == fresh.indices).all()
print(found.indices.tolist())
"""
    expected = cossim.topk(x[:5], x, 7).indices.tolist()
    for isa in cossim._core.config()["available"]:
        assert eval(python(program, path, COSSIM_ISA=isa)) == expected


@pytest.mark.parametrize(("numbers", "kind"), [("first", "text"), (["a", "b"], "text"), ([[1], [2, 3]], "list")])
def test_numbers_that_are_none_are_refused_by_what_they_are(numbers, kind):
    with pytest.raises(
        TypeError, match=rf"Index.remove\(\): numbers must be integers, as add returns them, not {kind}:"
    ):
        cossim.Index(np.eye(2)).remove(numbers)


def test_the_last_row_has_its_neighbours_if_it_is_alone_in_its_block_of_queries():
    """40,961 rows make 40 blocks of 1,024 queries and one of a single query, whose codes are not in a panel."""
    x = np.random.default_rng(0).standard_normal((40 * 1024 + 1, 32), dtype=np.float32)
    scores = cossim.pairwise(x[-1:], x)[0]
    scores[-1] = -2
    best = np.lexsort((np.arange(len(x)), -scores))[:10]
    np.testing.assert_array_equal(cossim.Index(x).topk(None, 10).indices[-1], best)
