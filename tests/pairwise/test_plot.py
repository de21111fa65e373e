"""cossim.plot draws the scores, names, thresholds and images that it is given, without pyplot, and orders clusters."""

import doctest
import subprocess
import sys

import numpy as np
import pytest

import cossim
from cossim.search.results import Pairs, TopK

pytest.importorskip("matplotlib", reason="cossim.plot draws with matplotlib")
from matplotlib.figure import Figure  # noqa: E402

import cossim.plot as plot  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # matplotlib is not pinned


def new_axes():
    return Figure().subplots()


def texts(labels):
    return [label.get_text() for label in labels]


@pytest.fixture
def groups(rng):
    """(60 vectors around six centres in random order, the centre of each)."""
    centres = rng.permutation(np.arange(60) // 10)
    return rng.standard_normal((6, 16))[centres] + 0.3 * rng.standard_normal((60, 16)), centres


@pytest.mark.parametrize("name", plot.__all__)
def test_docstrings_run(name):
    test = doctest.DocTestParser().get_doctest(getattr(plot, name).__doc__, {}, name, None, None)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


# ---- the order of clusters ----


def test_rows_of_one_cluster_are_adjacent(groups):
    x, centres = groups
    ordered = centres[plot.cluster_order(cossim.pairwise(x))]
    assert (np.diff(ordered) != 0).sum() == 5


def clusters_by_definition(scores):
    """All clusters of average linkage, each time joining the pair of clusters with the highest mean similarity."""
    clusters, found = [(row,) for row in range(len(scores))], set()
    while len(clusters) > 1:
        pairs = [(a, b) for i, a in enumerate(clusters) for b in clusters[:i]]
        a, b = max(pairs, key=lambda pair: scores[np.ix_(*pair)].mean())
        clusters = [*(each for each in clusters if each not in (a, b)), tuple(sorted(a + b))]
        found.add(clusters[-1])
    return found


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 25])
def test_the_order_is_that_of_average_linkage(rng, rows):
    scores = cossim.pairwise(rng.standard_normal((rows, 5)))
    order = plot.cluster_order(scores)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(rows))
    places = np.argsort(order)
    for cluster in clusters_by_definition(scores):
        found = sorted(places[list(cluster)])
        assert found == list(range(found[0], found[0] + len(found))), cluster


def test_equal_scores_and_nan_have_an_order():
    for scores in (np.ones((9, 9)), np.zeros((9, 9)), np.full((9, 9), np.nan)):
        assert sorted(plot.cluster_order(scores)) == list(range(9))


# ---- heatmap ----


def test_a_heatmap_shows_the_scores_in_the_order_of_clusters(groups):
    x, centres = groups
    scores = cossim.pairwise(x.astype(np.float32))
    order = plot.cluster_order(scores)
    for given in ("clusters", order):
        ax = plot.heatmap(scores, centres, order=given, ax=new_axes())
        np.testing.assert_array_equal(ax.images[0].get_array(), scores[np.ix_(order, order)])
        every = range(0, 60, 2)  # of 60 names at most 40 are shown
        assert texts(ax.get_yticklabels()) == texts(ax.get_xticklabels()) == [str(centres[order[i]]) for i in every]


def test_a_heatmap_of_two_sets_has_two_kinds_of_names(rng):
    scores = cossim.pairwise(rng.standard_normal((3, 4)), rng.standard_normal((2, 4)))
    axes = new_axes()
    ax = plot.heatmap(scores, list("abc"), columns=list("xy"), ax=axes, colorbar=False, vmin=-1)
    assert ax is axes
    assert len(ax.figure.axes) == 1
    assert (texts(ax.get_yticklabels()), texts(ax.get_xticklabels())) == (["a", "b", "c"], ["x", "y"])
    assert ax.images[0].get_clim() == (-1, 1)
    np.testing.assert_array_equal(ax.images[0].get_array(), scores)


# ---- histogram ----


@pytest.mark.parametrize("kind", ["matrix", "pairs", "values with NaN"])
def test_a_histogram_counts_each_pair_once(groups, kind):
    scores = cossim.pairwise(groups[0])
    i, j = np.triu_indices(60, 1)
    values = {"matrix": scores, "pairs": Pairs(i, j, scores[i, j]), "values with NaN": [*scores[i, j], np.nan]}[kind]
    ax = plot.histogram(values, 0.5, ax=new_axes())
    assert sum(bar.get_height() for bar in ax.patches) == len(i)
    above = (scores[i, j] >= 0.5).sum()
    assert texts(ax.get_legend().get_texts())[0].startswith(f"{above} of 1,770 scores >= 0.5 (")
    assert ax.lines[0].get_xdata() == [0.5, 0.5]


def test_a_histogram_of_nothing_is_empty():
    assert plot.histogram([], 0.5, ax=new_axes()).get_legend() is not None


# ---- neighbours of images ----


@pytest.mark.parametrize("layout", ["grey", "one channel", "channels first", "channels last", "uint8"])
def test_neighbours_show_the_images_that_were_found(rng, layout):
    grey = rng.random((6, 5, 4))
    grey[0, 0, :2] = 0, 1
    images = {
        "grey": grey,
        "one channel": grey[:, None],
        "channels first": grey[:, None].repeat(3, axis=1),
        "channels last": grey[..., None].repeat(3, axis=3),
        "uint8": np.rint(255 * grey).astype(np.uint8),
    }[layout]
    found = TopK(np.array([[0.9, 0.8], [0.7, np.nan]]), np.array([[3, 4], [5, -1]]))
    ax = plot.neighbours(images, found, images[:2], right=[[True, False], [True, True]], ax=new_axes())
    canvas = np.asarray(ax.images[0].get_array())
    tall, wide = canvas.shape[0] // 2, canvas.shape[1] // 3

    def tile(query, place):
        return canvas[(query + 1) * tall - 5 : (query + 1) * tall, place * wide : place * wide + 4, 0]

    for query, place, image in ((0, 0, 0), (0, 1, 3), (0, 2, 4), (1, 0, 1), (1, 1, 5)):
        np.testing.assert_allclose(tile(query, place), grey[image], rtol=0, atol=3e-3)
    assert (tile(1, 2) == 1).all()
    assert texts(ax.texts) == ["0.90", "0.80", "0.70"]
    assert [patch.get_edgecolor()[2] > 0.5 for patch in ax.patches] == [True, False, True]


def test_neighbours_of_the_corpus_itself_and_of_one_query(rng):
    images = rng.random((6, 5, 4))
    rows = images.reshape(6, 20)
    ax = plot.neighbours(images, cossim.topk(rows, None, 2), count=3, ax=new_axes())
    assert len(ax.texts) == 3 * 2
    ax = plot.neighbours(images, cossim.topk(rows[0], rows, 2), images[0], ax=new_axes())
    assert texts(ax.get_xticklabels()) == ["query", "1", "2"]


# ---- figures ----


def test_new_figures_belong_to_pyplot_only_if_it_is_imported():
    code = """
import sys
import cossim.plot
ax = cossim.plot.heatmap([[1.0, 0.5], [0.5, 1.0]])
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
assert not plt.get_fignums()
cossim.plot.histogram([0.1, 0.2])
assert len(plt.get_fignums()) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
