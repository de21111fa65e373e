"""In random calls, every difference between torch and us is one that docs/semantics.md explains."""

import json
import re
from collections import Counter
from fractions import Fraction

import differential
import differential_vectors
import ml_dtypes
import numpy as np
import pytest
import reference
from conftest import HELPERS, ROOT
from differential import EXPLANATIONS, Call, Unexplained
from processes import printed

import cossim
from cossim import _core

PAGE = ROOT / "docs/semantics.md"
MODULES = {name: differential.family(name) for name in differential.FAMILIES}
# Rows that are not about results, or are about calls without dim or about networks -> the test that covers them.
NOT_OF_RESULTS = {
    "z[None] with z[:, None]": "test_similarity_gradients.py: test_memory",
    "one pair of vectors, dim not passed": "test_one_vector.py: test_is_the_call_with_dim_0",
    "convolutions by kernels of five rows, stride 1, in a network with a vector across images": "test_lanes.py: "
    "test_results_and_gradients_agree_with_torch",
    "NaN or infinite weights, in a network with a vector across images": "test_lanes.py: "
    "test_an_infinite_weight_is_in_all_gradients_of_the_pixels_that_it_multiplies",
}

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs a longdouble of more digits than a double"),
]


def run_with(isa, seed, calls):
    program = HELPERS / "differential.py"
    return json.loads(printed(program, "all", seed, calls, seconds=36_000, COSSIM_ISA=isa).splitlines()[-1])


@pytest.mark.soak
def test_random_calls(amount, figures):
    """With --soak, each instruction set runs in a process of its own."""
    calls, available = amount(2_400, 240_000), _core.config()["available"]
    if calls < 10_000:
        runs = [differential.run(20261125, calls)]
    else:
        runs = [run_with(isa, 20261125 + i, calls // len(available)) for i, isa in enumerate(available)]
    found = sum((Counter(counts) for counts, _ in runs), Counter())
    unexplained = [text for _, texts in runs for text in texts]
    for name, count in found.most_common():
        print(f"{count:8,} {name}" + (f" ({EXPLANATIONS[name].row})" if name in EXPLANATIONS else ""))
    for text in unexplained[:10]:
        print(text)
    what = "random calls of all functions that torch has: exact within what is promised, differences explained"
    figures(what, found["calls"], found["calls"] - len(unexplained))


# ---- the explanations ----


def rows_of_tables():
    """(first cell, cells) of all table rows of the page, without the head rows."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [(row[0], row) for row in rows if row[0] and not set(row[0]) <= set("- ")]


def differences():
    """First cells of the rows in which torch differs, in the tables that compare with torch."""
    compared = re.sub(r"## What counts as an array\n.*?\n## ", "## ", PAGE.read_text(), flags=re.S)
    rows = [(first, row) for first, row in rows_of_tables() if len(row) > 2 and f"| {first} |" in compared]
    return [first for first, row in rows if row[2] not in ("", "the same", "torch 2.13")]


def test_each_explanation_has_its_row_and_each_difference_an_explanation():
    explained = {explanation.row for explanation in EXPLANATIONS.values()}
    assert explained <= {first for first, _ in rows_of_tables()}
    missing = set(differences()) - explained - set(NOT_OF_RESULTS)
    # Where a cell of the page begins with "the same" and continues, it describes calls that torch refuses.
    assert {first for first in missing if not dict(rows_of_tables())[first][2].startswith("the same")} == set()


def f32(*rows):
    return np.array(rows, np.float32)


ONE, TWO, ZERO = f32([3, 4, 5], [1, 2, 3]), f32([1, -2, 4], [5, 1, 2]), np.zeros((2, 3), np.float32)
RNG = np.random.default_rng(4)
LONG = np.full((1, 4000), 0.1, np.float32)
SMALL_ROWS = (f32([3e-10, 4e-10, 0]), f32([1, 2, 3]))
MANY = RNG.standard_normal((200, 40)).astype(np.float32)
HALVES = MANY[:20].astype(np.float16), MANY[20:40].astype(ml_dtypes.bfloat16)
IMAGE, FILTERS = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 8, 9), (4, 3, 3, 3)))
FILTERS[0, 0, 0, 0] = np.nan
FIVE = [RNG.standard_normal(shape).astype(np.float32) for shape in ((1, 8, 10, 30), (16, 8, 5, 5))]
FIVE[0][:, :, 5] *= np.float32(1e5)
FIVE[1][:, :, 2] = 0
THREE = [RNG.standard_normal(shape).astype(np.float32) for shape in ((1, 64, 28, 28), (64, 64, 3, 3))]
THREE[0][:, :, 9] *= np.float32(1e5)
THREE[1][:, :, 1] = 0
EQUALS = np.resize(RNG.standard_normal(3), (2, 1, 9, 12)), np.full((2, 1, 2, 3), 0.3), np.ones(2)
CALLS = {
    "identical or opposite vectors": ("cosine_similarity", (LONG, LONG.copy()), {}),
    "beyond the bounds": ("cosine_similarity", (MANY, MANY * np.float32(3)), {}),
    "eps is 0 in the type": ("cosine_similarity", (ZERO.astype(np.float16), ONE.astype(np.float16)), {}),
    "squares leave the range": ("cosine_similarity", (ONE * np.float32(1e30), TWO), {}),
    "rounded at every step": ("cosine_similarity", HALVES, {"eps": 1e-3}),
    "norms in types of their own": ("cosine_similarity", (ONE, TWO.astype(np.float64)), {}),
    "many roundings": ("vector_norm", (LONG.T,), {"dim": 0}),
    "integers with floats": ("cosine_similarity", (ONE, TWO.astype(int)), {}),
    "0-d results": ("vector_norm", (ONE,), {}),
    "no longdouble, no masks": ("normalize", (ONE.astype(np.longdouble),), {}),
    "no complex numbers": ("vecdot", (ONE * np.complex64(1j), TWO.astype(np.complex64)), {}),
    "integers": ("vecdot", (np.array([1, 2]), np.array([3, 4])), {}),
    "of mixed types torch has none": ("vecdot", (ONE, TWO.astype(np.float64)), {}),
    "vecdot of 1-d operands": ("vecdot", (ONE[0], TWO[0, :1]), {}),
    "eps below 0 or NaN": ("normalize", (ONE,), {"eps": -1.0}),
    "eps too large for the type": ("cosine_similarity", (ONE, TWO), {"eps": 1e300}),
    "norm below eps": ("cosine_similarity_vjp", (*SMALL_ROWS, 0.0, 1), {"dim": 1}),
    "gradients of norms out of range": ("pairwise_vjp", (ONE * np.float32(1e30), TWO, 0.0, 1), {}),
    "gradients rounded at every step": ("pairwise_vjp", (MANY[:20], HALVES[1], 0.0, 1), {}),
    "gradients with an eps that is 0 in the type": ("pairwise_vjp", (ZERO, ONE, 0.0, 1), {"eps": 1e-300}),
    "gradients of mixed types": ("pairwise_vjp", (ONE, TWO.astype(np.float64) / 3, 0.0, 1), {}),
    "gradients of integers": ("pairwise_vjp", (np.array([[1, 2]]), np.array([[3, 4]]), 0.0, 1), {}),
    "gradients with an eps too large for the type": ("pairwise_vjp", (ONE, TWO, 0.0, 1), {"eps": 1e300}),
    "no NT-Xent of halves": ("nt_xent", (ONE.astype(np.float16), TWO.astype(np.float16)), {"temperature": 0.5}),
    "temperature beyond the type": ("nt_xent", (ONE, TWO), {"temperature": 1e-310}),
    "torch leaves zeros of the padding out": ("conv2d", (IMAGE, FILTERS, None, 1), {"padding": 1}),
    "zeros between the gradients of strides": ("conv2d", (IMAGE, FILTERS, None, 1), {"stride": (1, 4)}),
    "fewer multiplications": ("conv2d", (*FIVE, None, 1), {}),
    "fewer multiplications in both directions": ("conv2d", (*THREE, None, 1), {}),
    "another of the pool's equals": ("pooled", (*EQUALS, 1), {}),
    "layers of integers or float16": ("relu", (np.array([1, -2]), 1), {}),
}
FAMILY_OF = {
    name: family for family, module in MODULES.items() for name in {e.name for e in (*module.VALUES, *module.REFUSED)}
} | {"0-d results": "vectors"}


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_each_explanation_occurs(name):
    function, arrays, options = CALLS[name]
    assert name in MODULES[FAMILY_OF[name]].judge(Call(function, arrays, options))


# ---- the judge itself ----


def broken(name):
    """The function, but the error of its last element is a little larger than promised."""
    right = getattr(cossim, name)

    def wrong(*arguments, **options):
        result = np.array(right(*arguments, **options))
        result[-1] += 3e-7
        return result

    return wrong


@pytest.mark.parametrize("name", ["cosine_similarity", "cosine_distance", "normalize", "vecdot", "vector_norm"])
def test_a_wrong_result_is_found(monkeypatch, name):
    monkeypatch.setattr(cossim, name, broken(name))
    arrays = (ONE / 10,) if name in ("normalize", "vector_norm") else (ONE / 10, TWO)
    with pytest.raises(Unexplained, match=r"ours is wrong at \(.*1.*\)"):
        differential_vectors.judge(Call(name, arrays, {"dim": 1}))


def test_a_difference_that_nothing_explains_is_found(monkeypatch):
    """A difference is reported if nothing in the operands explains it, and the reported call can be repeated."""
    theirs = differential_vectors.theirs
    monkeypatch.setattr(differential_vectors, "theirs", lambda call: theirs(call) + np.float32(1e-3))
    with pytest.raises(Unexplained, match="ours .* theirs .* exact"):
        differential_vectors.judge(Call("cosine_similarity", (ONE, TWO), {}))
    found, unexplained = differential.run(3, 40)
    assert 0 < len(unexplained) < found["calls"]
    family, seed, number = re.match(
        r"PYTHONPATH=. python tests/helpers/differential.py (\w+) (\d+) (\d+)\n", unexplained[0]
    ).groups()
    with pytest.raises(Unexplained) as caught:
        differential.one(family, int(seed), int(number))
    assert str(caught.value) == unexplained[0]
    monkeypatch.undo()
    assert differential.run(3, 40)[1] == []


def test_a_missing_error_is_found(monkeypatch):
    monkeypatch.setattr(cossim, "vecdot", lambda *arguments, **options: ONE)
    with pytest.raises(Unexplained, match="theirs: IndexError"):
        differential_vectors.judge(Call("vecdot", (ONE, TWO), {"dim": 5}, None, {"dim"}))


@pytest.mark.parametrize("scale", [1, 1e30, 1e-30])
def test_the_exact_values_are_those_of_fractions(scale):
    """longdouble is exact enough to judge results in float32 and float64."""
    for _ in range(20):
        x, y = RNG.standard_normal((2, 1, 30)) * scale
        situation = differential_vectors.Situation(Call("cosine_similarity", (x, y), {"eps": 0}), np.zeros(1), None)
        assert abs(Fraction(*situation.exact[0].as_integer_ratio()) - reference.exact_cosine(x[0], y[0])) < 1e-18
        situation = differential_vectors.Situation(Call("vecdot", (x, y), {}), np.zeros(1), None)
        error = Fraction(*situation.exact[0].as_integer_ratio()) - reference.exact_dot(x[0], y[0])
        assert abs(error) < 1e-18 * Fraction(*situation.scale[0].as_integer_ratio())
