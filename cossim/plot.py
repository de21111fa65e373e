"""Pictures of similarities, drawn with matplotlib: pip install 'cossim-c[plot]'.

Each function draws into ax, or into a new figure, and returns the matplotlib Axes. A new figure belongs to pyplot only
where pyplot or IPython is already imported, so that notebooks and plt.show() display it. Elsewhere, such as in a
service, nothing keeps the figure alive; save it by ``ax.figure.savefig("picture.png")``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core, _errors
from cossim._arguments import number_argument
from cossim._arithmetic import fixed_arithmetic

try:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(_errors.PLOT_NEEDS_MATPLOTLIB) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from cossim._typing import Array, Ids
    from cossim.search.results import Pairs, TopK

__all__ = ["cluster_order", "heatmap", "histogram", "neighbours"]

LABELS_SHOWN = 40  # names along one side of a heatmap; of more names, every n-th is shown
RIGHT, WRONG = "tab:blue", "tab:orange"  # frames of neighbours
GREY, ACCENT = "0.6", "tab:orange"


def heatmap(
    matrix: Array,
    labels: Ids | None = None,
    *,
    columns: Ids | None = None,
    order: str | Array | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draws a matrix of similarities, a coloured cell for each score.

    Parameters
    ----------
    matrix : array_like of shape (N, M)
        Scores, such as those of pairwise. NaN is left white.
    labels : sequence of length N, optional
        Names of the rows, and also of the columns if the matrix is square and columns is not passed.
    columns : sequence of length M, optional
        Names of the columns.
    order : {"clusters"} or array_like of int, optional
        Draws rows and columns of a square matrix in another order: that of cluster_order, which puts similar rows next
        to each other, or these row numbers.
    colorbar : bool, optional
        Draws the scale of colours to the right.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None draws a new figure.
    **options
        Passed to Axes.imshow. By default, vmax is 1 and vmin the smallest score, but at most 0.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        matrix does not have two dimensions, it has an order but is not square, or there is not one name for
        each row.

    Examples
    --------
    >>> import numpy as np, cossim, cossim.plot
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    >>> ax = cossim.plot.heatmap(cossim.pairwise(x), ["east", "north", "nearly east"], order="clusters")
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['east', 'nearly east', 'north']
    """
    scores = _scores("heatmap", matrix, 2)
    rows, others = scores.shape
    columns, numbers = labels if columns is None and rows == others else columns, None
    if order is not None:
        if rows != others:
            raise ValueError(_errors.PLOT_NOT_SQUARE.format(function="heatmap", shape=scores.shape))
        numbers = cluster_order(scores) if isinstance(order, str) and order == "clusters" else np.asarray(order)
        if numbers.dtype.kind not in "iu" or not np.array_equal(np.sort(numbers), np.arange(rows)):
            raise ValueError(_errors.PLOT_ORDER.format(last=rows - 1))
        scores = scores[np.ix_(numbers, numbers)]
    if ax is None:
        ax = _new_axes((6.4, 5.4))
    if "norm" not in options:
        known = scores[np.isfinite(scores)]
        options = {"vmin": min(0.0, float(known.min(initial=0.0))), "vmax": 1.0} | options
    image = ax.imshow(scores, **{"interpolation": "nearest", "aspect": "equal"} | options)
    _name_ticks(ax.set_yticks, labels, numbers, "labels", rows, "rows")
    _name_ticks(ax.set_xticks, columns, numbers, "columns", others, "columns", rotation=90)
    if colorbar:
        ax.figure.colorbar(image, ax=ax, shrink=0.9)
    return ax


def histogram(
    scores: Array | TopK | Pairs,
    threshold: float | None = None,
    *,
    bins: Any = 60,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draws a histogram of scores, and the share of them that reaches a threshold.

    Parameters
    ----------
    scores : array_like, TopK or Pairs
        Scores of any shape. A symmetric matrix, such as pairwise(x), counts each pair of rows once, and no row with
        itself. NaN is left out.
    threshold : float, optional
        Draws a line there. Its label says how many scores are at least as large.
    bins : int, str or sequence of float, optional
        As for numpy.histogram.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None draws a new figure.
    **options
        Passed to Axes.hist, such as log=True.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np, cossim, cossim.plot
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    >>> ax = cossim.plot.histogram(cossim.pairwise(x), threshold=0.9)
    >>> ax.get_legend().get_texts()[0].get_text()
    '1 of 3 scores >= 0.9 (33.3 %)'
    """
    name = "histogram"
    threshold = None if threshold is None else number_argument(name, "threshold", threshold)
    values = _scores(name, getattr(scores, "values", scores), None)
    if values.ndim == 2 and values.shape[0] == values.shape[1] and np.array_equal(values, values.T, equal_nan=True):
        values = values[np.triu_indices(len(values), 1)]
    values = values[~np.isnan(values)]
    if ax is None:
        ax = _new_axes((6.4, 3.2))
    ax.hist(values, bins, **{"color": GREY} | options)
    if threshold is not None:
        count = int((values >= threshold).sum())
        share = f" ({100 * count / values.size:.3g} %)" if values.size else ""
        label = f"{count:,} of {values.size:,} scores >= {threshold:g}{share}"
        ax.axvline(threshold, color=ACCENT, label=label)
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, frameon=False)  # above the bars
    ax.set(xlabel="cosine similarity", ylabel="number")
    return ax


def neighbours(
    images: Array,
    found: TopK,
    queries: Array | None = None,
    *,
    right: Array | None = None,
    count: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Draws image queries, and next to each of them the images that a search found, with their scores.

    Parameters
    ----------
    images : array_like of shape (N, H, W), (N, 1, H, W), (N, 3, H, W) or (N, H, W, 3)
        The images of the corpus, grey or RGB: from 0 to 1, uint8 from 0 to 255, or other numbers, whose range is
        mapped to 0..1. Shape (N, 3, H, 3) counts as (N, 3, H, W).
    found : TopK
        Indices of shape (Q, k) or (k,). Places with the index -1 stay empty.
    queries : array_like, optional
        Q images like those of the corpus, or one grey image (H, W). None: the corpus itself, as after topk(z, None, k).
    right : array_like of bool, optional
        The shape of found.indices. Neighbours get a blue frame where it is True and an orange one where it is False.
    count : int, optional
        Draws at most this many queries, the first ones.
    ax : matplotlib.axes.Axes, optional
        Where to draw. None draws a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        images and queries are not images of one size, images has no image for a row number in found, or there are
        not as many queries as found has rows.

    Examples
    --------
    >>> import numpy as np, cossim, cossim.plot
    >>> images = np.random.default_rng(0).random((20, 8, 8))
    >>> found = cossim.topk(images.reshape(20, 64), None, k=3)
    >>> ax = cossim.plot.neighbours(images, found, count=4)
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['query', '1', '2', '3']
    """
    corpus = _rgb("images", images)
    asked = corpus if queries is None else _rgb("queries", queries)
    values, indices = np.atleast_2d(found[0]), np.atleast_2d(found[1])
    if len(asked) != len(indices):
        message = _errors.PLOT_QUERIES.format(count=len(asked), queries=len(indices))
        raise ValueError(message)
    if indices.size and indices.max() >= len(corpus):
        raise ValueError(_errors.PLOT_IMAGES.format(count=len(corpus), index=indices.max()))
    if asked.shape[1:] != corpus.shape[1:]:
        raise ValueError(_errors.PLOT_SIZES.format(images=corpus.shape[1:3], queries=asked.shape[1:3]))
    frames = None if right is None else np.broadcast_to(_core.as_array("neighbours", "right", right), indices.shape)
    shown, places = min(count, len(indices)), indices.shape[1] + 1
    height, width = corpus.shape[1:3]
    tall, wide = height + max(2, round(0.35 * height)), width + max(2, round(0.12 * width))  # a tile with its margins
    canvas = np.ones((shown * tall, places * wide, 3), np.float32)
    if ax is None:
        ax = _new_axes((0.3 + 0.8 * places * wide / tall, 0.4 + 0.8 * shown))
    for query in range(shown):
        top = (query + 1) * tall - height
        canvas[top : top + height, :width] = asked[query]
        for place, (index, value) in enumerate(zip(indices[query], values[query], strict=True), 1):
            if index < 0:
                continue
            left = place * wide
            canvas[top : top + height, left : left + width] = corpus[index]
            ax.text(left + width / 2, top - 1, f"{value:.2f}", ha="center", va="bottom", size="small")
            if frames is not None:
                color = RIGHT if frames[query, place - 1] else WRONG
                corner = left - 0.5, top - 0.5
                ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=2.5))
    ax.imshow(canvas, interpolation="nearest")
    ax.set_xticks(np.arange(places) * wide + width / 2, ["query", *map(str, range(1, places))])
    ax.set_yticks([])
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    return ax


def cluster_order(matrix: Array) -> NDArray[np.int64]:
    """Returns an order of rows in which similar rows are next to each other, as heatmap draws them.

    It is the order of the leaves of a tree: average linkage joins the two clusters whose rows have the highest mean
    similarity, until one is left (Sokal and Michener 1958, found by nearest-neighbour chains, Murtagh 1983). Two
    clusters are joined at their most similar ends. This takes time and memory of O(N^2).

    Parameters
    ----------
    matrix : array_like of shape (N, N)
        Similarities of N rows with each other. NaN counts as -1.

    Returns
    -------
    numpy.ndarray of int64, shape (N,)
        Row numbers.

    Raises
    ------
    ValueError
        matrix is not square.

    Examples
    --------
    >>> import numpy as np, cossim, cossim.plot
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    >>> cossim.plot.cluster_order(cossim.pairwise(x))
    array([0, 2, 3, 1])
    """
    scores = _scores("cluster_order", matrix, 2)
    if scores.shape[0] != scores.shape[1]:
        raise ValueError(_errors.PLOT_NOT_SQUARE.format(function="cluster_order", shape=scores.shape))
    with fixed_arithmetic():
        return np.array(_leaves(np.nan_to_num(scores, nan=-1.0, posinf=1.0, neginf=-1.0)), np.int64)


def _leaves(scores):
    """Returns the row numbers in the order of average linkage. scores: (N, N) float64, without NaN."""
    rows = len(scores)
    mean = (scores + scores.T) / 2  # [a, b]: mean similarity of the rows of clusters a and b
    np.fill_diagonal(mean, -np.inf)
    leaves: list[list[int]] = [[row] for row in range(rows)]
    alive = np.ones(rows, bool)
    chain: list[int] = []
    for _ in range(rows - 1):
        if not chain:
            chain = [int(alive.argmax())]
        while True:  # each cluster of the chain is the nearest to the one before; similarities rise along it
            last = chain[-1]
            nearest = int(mean[last].argmax())
            if len(chain) > 1 and mean[last, chain[-2]] >= mean[last, nearest]:
                break
            chain.append(nearest)
        a, b = sorted((chain.pop(), chain.pop()))
        sizes = len(leaves[a]), len(leaves[b])
        mean[a] = (sizes[0] * mean[a] + sizes[1] * mean[b]) / sum(sizes)
        mean[:, a] = mean[a]
        mean[b] = mean[:, b] = -np.inf
        mean[a, a] = -np.inf
        alive[b] = False
        leaves[a], leaves[b] = _joined(scores, leaves[a], leaves[b]), []
    return leaves[0] if rows else []


def _joined(scores, a, b):
    """Joins two lists of row numbers so that their most similar ends meet. May reverse either list."""
    ends = [(scores[a[-1], b[0]], a, b), (scores[a[-1], b[-1]], a, b[::-1])]
    ends += [(scores[a[0], b[0]], a[::-1], b), (scores[b[-1], a[0]], b, a)]
    _, first, second = max(ends, key=lambda end: end[0])
    return first + second


# ---- arguments ----


def _scores(function, matrix, dimensions):
    """Returns scores as float64, with this number of dimensions or any (None)."""
    scores = _core.as_array(function, "scores" if dimensions is None else "matrix", matrix)
    if dimensions is not None and scores.ndim != dimensions:
        raise ValueError(_errors.PLOT_MATRIX.format(function=function, shape=scores.shape))
    with fixed_arithmetic():
        return scores.astype(np.float64)


def _name_ticks(set_ticks, names, order, argument, size, what, **options):
    """Writes the names of the rows or columns, if there are any. order: the row numbers drawn, or None."""
    if names is None:
        return
    names = list(names)
    if len(names) != size:
        message = _errors.PLOT_LABELS.format(name=argument, count=len(names), size=size, what=what)
        raise ValueError(message)
    numbers = range(size) if order is None else order.tolist()
    places = range(0, size, max(1, -(-size // LABELS_SHOWN)))
    set_ticks(places, [str(names[numbers[place]]) for place in places], **options)


def _rgb(name, images):
    """Returns images as (N, H, W, 3), float32 from 0 to 1."""
    array = _core.as_array("neighbours", name, images)
    if array.ndim == 2 and name == "queries":  # one image
        array = array[None]
    if array.ndim == 4 and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    elif array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        raise ValueError(_errors.PLOT_PIXELS.format(name=name, shape=array.shape))
    with fixed_arithmetic():
        pixels = array.astype(np.float32) / np.float32(255 if array.dtype == np.uint8 else 1)
        known = pixels[np.isfinite(pixels)]
        low, high = known.min(initial=0.0), known.max(initial=1.0)
        pixels = (pixels - low) / (high - low)
    return np.broadcast_to(np.nan_to_num(pixels, nan=1.0), (*pixels.shape[:3], 3))


def _new_axes(size):
    """Returns the axes of a new figure. size: inches, (width, height)."""
    if sys.modules.keys() & {"IPython", "matplotlib.pyplot"}:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=size, layout="constrained").subplots()
    return Figure(figsize=size, layout="constrained").subplots()
