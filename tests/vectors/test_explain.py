"""explain() shows the numbers of the functions, and the mistakes that it describes give the values that it claims."""

import base64
import io
import re
import tracemalloc
import weakref
from html.parser import HTMLParser

import ml_dtypes
import numpy as np
import pytest

import cossim

SHAPES = [
    ((2, 3), (2, 3)),
    ((5, 7), (7,)),
    ((4,), (6, 4)),
    ((1, 9, 5), (9, 1, 5)),
    ((2, 3, 4), (3, 4)),
    ((3, 1), (3, 6)),
    ((2, 3, 1, 5), (1, 3, 4, 1)),
]
RANKS = [len(np.broadcast_shapes(*shapes)) for shapes in SHAPES]
CALLS = [(*shapes, dim) for shapes, rank in zip(SHAPES, RANKS, strict=True) for dim in range(-rank, rank)]
A = np.array([[-1.4957, -1.9285, -0.2320], [-0.3472, -1.1279, 0.3151]])
B = np.array([[-0.9709, 0.4931, -0.2877], [1.9940, 1.8288, -0.5981]])


def mistake(explanation, title):
    found = [m for m in explanation.mistakes if m.title.startswith(title)]
    assert len(found) == 1, f"{title}: {[m.title for m in explanation.mistakes]}"
    return found[0]


def titles(explanation):
    return [m.title for m in explanation.mistakes]


def last_number(line):
    return float(re.findall(r"-?\d[\d.]*(?:e-?\d+)?", line)[-1])


# ---- the steps ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int32])
@pytest.mark.parametrize(("shape1", "shape2", "dim"), CALLS)
def test_numbers_are_those_of_the_functions(rng, shape1, shape2, dim, dtype):
    x1, x2 = ((10 * rng.standard_normal(shape)).astype(dtype) for shape in (shape1, shape2))
    e = cossim.explain(x1, x2, dim, 1e-3)
    expected = cossim.cosine_similarity(x1, x2, dim, 1e-3)
    assert e.similarity.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(e.similarity, np.float64), np.asarray(expected, np.float64))

    wide1, wide2 = np.broadcast_arrays(x1, x2)
    assert (e.broadcast_shape, e.shape, e.dim) == (wide1.shape, np.shape(expected), dim % wide1.ndim)
    for norms, wide in ((e.norms1, wide1), (e.norms2, wide2)):
        every = np.asarray(cossim.vector_norm(wide, dim), np.float64)
        np.testing.assert_array_equal(np.broadcast_to(norms, e.shape).astype(np.float64), every)
    np.testing.assert_array_equal(e.dots.astype(np.float64), np.asarray(cossim.vecdot(x1, x2, dim), np.float64))


def test_steps_lead_to_the_result(rng):
    """The attributes alone give the result, by the definition in NumPy."""
    x1, x2 = rng.standard_normal((1, 6, 8)), rng.standard_normal((5, 1, 8))
    x1[0, 2] = 0
    e = cossim.explain(x1, x2, dim=2, eps=0.5)
    np.testing.assert_allclose(e.norms1, np.sqrt((x1**2).sum(2)), rtol=1e-14)
    np.testing.assert_allclose(e.dots, (x1 * x2).sum(2), rtol=1e-12, atol=1e-14)
    clamped = np.maximum(e.norms1, 0.5) * np.maximum(e.norms2, 0.5)
    np.testing.assert_allclose(e.similarity, e.dots / clamped, rtol=0, atol=1e-14)
    assert [step.shape for step in e.steps] == [(5, 6, 8), (5, 6), (1, 6), (5, 1), (5, 6), (5, 6)]


def test_text_shows_every_number_of_two_rows():
    text = str(cossim.explain(A.astype(np.float32), B.astype(np.float32), dim=1, eps=1e-6))
    a, b = A.astype(np.float32), B.astype(np.float32)
    numbers = (cossim.vector_norm(a, 1), cossim.vector_norm(b, 1), cossim.vecdot(a, b), cossim.cosine_similarity(a, b))
    for number in np.concatenate(numbers):
        assert str(number) in text
    assert "axis 1, size 3: reduced" in text
    assert "axis 0, size 2: kept" in text
    assert repr(cossim.explain(A, B)) == str(cossim.explain(A, B))


def test_lines_of_ratios_are_true():
    e = cossim.explain(A, B)
    ratio = re.compile(r"\[\d\] (\S+) / \((\S+) \* (\S+)\) += (\S+)")
    for index, line in enumerate(e.steps[-1].lines):
        dot, norm1, norm2, value = map(float, ratio.fullmatch(line).groups())
        assert dot / (norm1 * norm2) == pytest.approx(value, rel=1e-6)
        assert value == pytest.approx(e.similarity[index], rel=1e-7)


def test_clamped_norms_are_marked(rng):
    x = rng.standard_normal((50, 4))
    x[37] *= 1e-9
    e = cossim.explain(x, np.ones((50, 4)), eps=1e-6)
    norms1, norms2 = e.steps[2], e.steps[3]
    assert re.search(r"\b1 of them\b.*\beps=1e-06\b", norms1.text)
    assert any("|x1[37]|" in line and "below eps: 1e-06 is used" in line for line in norms1.lines)
    assert "None of them" in norms2.text
    assert not any("below eps" in line for line in norms2.lines)


def test_clamped_ratio_divides_by_eps():
    e = cossim.explain([[3e-4, 4e-4]], [[1.0, 0.0]], eps=0.01)
    assert e.steps[-1].lines == ["[0] 0.0003 / (0.01 * 1) = 0.03"]


def test_zero_vector_of_float16_is_below_an_eps_that_float16_cannot_hold():
    e = cossim.explain(np.zeros((1, 3), np.float16), np.ones((1, 3), np.float16))
    assert re.search(r"\b1 of them\b.*\beps=1e-08\b", e.steps[2].text)


def test_nan_is_not_below_eps():
    e = cossim.explain([[np.nan, 1.0]], [[1.0, 1.0]])
    assert "None of them" in e.steps[2].text
    assert e.steps[-1].lines[0].endswith("= nan")


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(np.float16, 1e4), (np.float32, 1e30), (np.float32, 1e-25), (np.float64, 1e200), (np.float64, 1e-200)],
)
def test_numbers_beyond_the_dtype_are_marked(dtype, size):
    e = cossim.explain(np.full((1, 3), size, dtype), np.full((1, 3), size, dtype), eps=0)
    assert e.similarity[0] == 1
    assert f"{np.dtype(dtype)} cannot hold some of the numbers shown" in e.steps[-1].text
    assert "cannot hold" not in cossim.explain(A.astype(dtype), B.astype(dtype)).steps[-1].text


def test_large_results_are_summarised(rng):
    z = rng.standard_normal((64, 100))
    e = cossim.explain(z[None], z[:, None], dim=2)
    text = str(e)
    assert [step.lines[-1] for step in e.steps[2:]] == ["... and 60 more"] * 2 + ["... and 4092 more"] * 2
    assert [len(step.lines) for step in e.steps[2:]] == [5] * 4
    assert re.search(r"\bevery vector\b.*\bevery vector\b", text)
    assert len(text.splitlines()) < 80


def test_all_pairs_never_build_the_product(rng):
    z = rng.standard_normal((400, 256)).astype(np.float32)
    tracemalloc.start()
    try:
        cossim.explain(z[None], z[:, None], dim=2)._repr_html_()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6, "two (400, 400) results take 1.3 MB, the product would take 164 MB"


def test_operands_are_neither_changed_nor_kept(rng):
    x = rng.standard_normal((3, 4))
    before, alive = x.copy(), weakref.ref(x)
    e = cossim.explain(x, x)
    np.testing.assert_array_equal(x, before)
    del x
    assert alive() is None
    assert "(3, 4)" in str(e)


@pytest.mark.parametrize(
    ("x1", "x2", "dim"),
    [
        (3.0, -4.0, 0),
        (3.0, -4.0, -1),
        (np.zeros((0, 3)), np.zeros((1, 3)), 1),
        (np.zeros((2, 0)), np.zeros((2, 0)), 1),
        (np.zeros((2, 0, 3)), np.zeros((2, 1, 3)), -1),
        ([1, 2, 3], [[True, False, True]], 1),
    ],
)
def test_unusual_shapes(x1, x2, dim):
    e = cossim.explain(x1, x2, dim)
    np.testing.assert_array_equal(e.similarity, cossim.cosine_similarity(x1, x2, dim))
    assert "6. Ratios" in str(e)
    assert "Ratios" in e._repr_html_()


# ---- the mistakes ----


def test_norm_of_the_whole_matrix():
    e = cossim.explain(A, B)
    lines = mistake(e, "The norm of the whole array").lines
    wrong = A[0] @ B[0] / (np.linalg.norm(A) * np.linalg.norm(B))
    assert f"{np.linalg.norm(A):.8g}" in lines[0]
    assert f"{np.linalg.norm(B):.8g}" in lines[1]
    assert lines[2] == f"first value: {wrong:.8g} by that mistake, {e.similarity[0]:.8g} is right"


def test_norm_of_the_whole_matrix_in_a_loop(rng):
    """The mistake gives the first value of the loop itself."""
    z = rng.standard_normal((6, 5))
    a, b = z[None], z[:, None]
    loop = [np.dot(x, y.T) / (np.linalg.norm(x) * np.linalg.norm(y)) for x in a for y in b]
    lines = mistake(cossim.explain(a, b, dim=2), "The norm of the whole array").lines
    assert last_number(lines[-1]) == pytest.approx(loop[0][0, 0], rel=1e-7)


def test_one_vector_has_no_whole_matrix():
    one = cossim.explain([[3.0, 4.0]], [[4.0, 3.0]])
    assert not any(title.startswith("The norm of the whole") for title in titles(one))


@pytest.mark.parametrize(("shape1", "shape2", "dim"), CALLS)
def test_the_mistake_of_another_dim_has_the_right_values(rng, shape1, shape2, dim):
    x1, x2 = rng.standard_normal(shape1), rng.standard_normal(shape2)
    e = cossim.explain(x1, x2, dim, eps=2)
    others = [d for d in range(len(e.broadcast_shape)) if d != e.dim]
    lines = mistake(e, "Another dim").lines
    assert len(lines) == len(others) + 1
    for other, line in zip(others, lines, strict=False):
        expected = cossim.cosine_similarity(x1, x2, other, 2)
        assert line.startswith(f"dim={other} ")
        assert f"shape {expected.shape}" in line
        assert last_number(line) == pytest.approx(expected.flat[0], rel=1e-7)


def test_the_mistake_of_a_distance_has_the_right_values():
    lines = mistake(cossim.explain(A, B), "Distance").lines
    right = cossim.cosine_similarity(A, B)[0]
    assert lines == [f"first value: distance {1 - right:.8g}, similarity {right:.8g}"]


def test_row_by_row_where_every_pair_was_meant():
    lines = mistake(cossim.explain(A, B), "Row by row").lines
    assert last_number(lines[1]) == pytest.approx(cossim.pairwise(A, B)[0, 1], rel=1e-7)


def test_every_pair_where_row_by_row_was_meant():
    text = mistake(cossim.explain(A[None], B[:, None], 2), "Every pair").text
    assert re.search(r"\b2 vectors of x1\b.*\b2 vectors of x2\b.*\b4 values\b", text)
    assert not any(title.startswith("Every pair") for title in titles(cossim.explain(A, B)))


def test_vectors_of_one_number():
    e = cossim.explain(A[:, None], B[:, None], dim=1)
    assert set(np.ravel(e.similarity)) <= {1.0, -1.0}
    assert "size 1" in mistake(e, "Vectors of one number").text


def test_repeated_number_is_pointed_out():
    assert "repeated 3 times" in str(cossim.explain(A[:, :1], B))


# ---- errors ----


@pytest.mark.parametrize(
    "arguments",
    [
        (A, B[:, :2]),
        (A, B, 2),
        (A, B, -3),
        (A, np.ones((4, 3)), 7),
        (A, B, 1.5),
        (A, B, 1, -1),
        (A, B, 1, np.nan),
        (A, B, 1, "small"),
        (A * 1j, B),
        (A.astype(object), B),
        ([[1, 2], [3]], A),
        (A, "text"),
        (A, None),
    ],
)
def test_errors_are_those_of_cosine_similarity(arguments):
    with pytest.raises((TypeError, ValueError, FileNotFoundError)) as expected:
        cossim.cosine_similarity(*arguments)
    with pytest.raises(expected.type) as found:
        cossim.explain(*arguments)
    assert found.type is expected.type
    assert str(found.value).startswith(str(expected.value).replace("cosine_similarity", "explain"))


# ---- HTML ----


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects the text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(("shape1", "shape2", "dim"), [(*SHAPES[0], 1), (*SHAPES[1], 1), (*SHAPES[3], 2)])
def test_html_says_what_the_text_says(rng, shape1, shape2, dim):
    e = cossim.explain(rng.standard_normal(shape1), rng.standard_normal(shape2), dim)
    page = Page(e._repr_html_())
    assert {"ol", "ul", "details", "pre"} <= page.tags
    for step in e.steps + e.mistakes:
        for text in (step.title, step.text, *step.lines):
            assert text in page.text


def test_html_draws_a_matrix(rng, monkeypatch):
    image = pytest.importorskip("matplotlib.image")
    z = rng.standard_normal((30, 8))
    html = cossim.explain(z[:, None], z[None], dim=2)._repr_html_()
    (png,) = re.findall(r'<img alt="[\w ]+" src="data:image/png;base64,([\w+/=]+)"/>', html)
    pixels = image.imread(io.BytesIO(base64.b64decode(png)), format="png")
    colours = np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)
    assert len(colours) > 100, "a heatmap has many colours"
    assert "<img" not in cossim.explain(z, z)._repr_html_()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "<img" not in cossim.explain(z[:, None], z[None], dim=2)._repr_html_()


def test_html_is_escaped():
    swapped = np.dtype(np.float32).newbyteorder()
    html = cossim.explain(A.astype(swapped), B.astype(swapped))._repr_html_()
    assert str(swapped)[0] in "<>"
    assert str(swapped) not in html
    assert str(swapped) in Page(html).text


def test_sparse_rows_are_refused_by_explain_itself():
    sparse = pytest.importorskip("scipy.sparse", reason="makes sparse rows")
    with pytest.raises(TypeError, match=r"explain\(\): x2 is sparse"):
        cossim.explain(np.eye(2), sparse.csr_array(np.eye(2)))
