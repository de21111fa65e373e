"""The demo: repeats a learner's notebook on cosine similarity, and answers the question at its end.

It has four parts: a pair of vectors, two matrices row by row, all pairs of encoded images, and a loop that is meant to
give the same matrix but gives different values. The demo shows why the values differ.
"""

from importlib.util import find_spec
from time import perf_counter

import numpy as np

import cossim
from cossim import _errors, simclr
from cossim._io import errors_as_text, replacing, write_errors_as_text
from cossim.cli import image_files

# The notebook printed its two 2 x 3 matrices with four decimals, and their norms and dot products with eight digits.
# These matrices round to the printed ones, and have the printed norms and dot products.
MATRIX_A = np.array([[-1.4957143, -1.9285455, -0.2319812], [-0.3471965, -1.1278678, 0.3151052]], np.float32)
MATRIX_B = np.array([[-0.9709234, 0.4931396, -0.2877336], [1.9940162, 1.828801, -0.598121]], np.float32)

IMAGES = 32


class Stopwatch:
    """Measures calls, and prints the times of one part of the demo."""

    def __init__(self):
        self.times = []

    def __call__(self, name, function, *args, **kwargs):
        start = perf_counter()
        result = function(*args, **kwargs)
        self.times.append(f"{name} {1000 * (perf_counter() - start):.3g} ms")
        return result

    def show(self):
        print(f"\nTime: {', '.join(self.times)}.")
        self.times.clear()


def _title(text):
    print(f"\n{text}\n{'=' * len(text)}\n")


def _max_difference(x, y):
    return f"{np.abs(x - y).max():.3g}"


def show_pair(rng, timed):
    """Shows the first cell of the notebook: two vectors, as matrices of one row."""
    _title("(a) One pair of vectors")
    c, d = rng.standard_normal((2, 1, 3)).astype(np.float32)
    print(f"c {c.shape} = {c}\nd {d.shape} = {d}\n")
    norm_c, norm_d, dot = np.linalg.norm(c), np.linalg.norm(d), np.dot(c, d.T)
    print("by hand, with NumPy:")
    print("  np.dot(c, d.T) / (np.linalg.norm(c) * np.linalg.norm(d))")
    print(f"  = {dot.item():.7f} / ({norm_c:.7f} * {norm_d:.7f}) = {(dot / (norm_c * norm_d)).item():.4f}\n")
    cos = cossim.CosineSimilarity(dim=1, eps=1e-6)
    print("with cossim:")
    print(f"  CosineSimilarity(dim=1, eps=1e-6)(c, d) = {timed('cosine similarity', cos, c, d)}")
    timed.show()


def show_rows(timed):
    """Shows the two matrices of the notebook, and every number that the notebook prints for them."""
    _title("(b) Two matrices, row by row")
    a, b = MATRIX_A, MATRIX_B
    print(f"a =\n{a}\nb =\n{b}\n")
    similarities = timed("cosine similarity", cossim.CosineSimilarity(dim=1, eps=1e-6), a, b)
    columns = cossim.vector_norm(a, dim=1), cossim.vector_norm(b, dim=1), cossim.vecdot(a, b, dim=1)
    print(f"        {'|a|':>12}{'|b|':>12}{'a . b':>14}   similarity")
    for row, (norm_a, norm_b, dot) in enumerate(zip(*columns, strict=True)):
        print(f"row {row}   {norm_a!s:>12}{norm_b!s:>12}{dot!s:>14}   {similarities[row]:.4f}")
    a, b = a.round(4), b.round(4)
    norms = np.concatenate((cossim.vector_norm(a, dim=1), cossim.vector_norm(b, dim=1)))
    print("\ndim=1 is the axis that is summed away: one value is left for each row.")
    print("The numbers come from the matrices before rounding; their four decimals alone give")
    print(f"norms {norms}, similarities {cossim.cosine_similarity(a, b)}.")
    timed.show()


def show_all_pairs(images, rng, timed):
    """Encodes N images and a second view of each, and compares every row with every row.

    Returns (the views, the 2 N encoded rows, their similarity matrix of shape (2 N, 2 N)).
    """
    _title("(c) Real images through an encoder, then every pair")
    views = timed("views", image_files.another_view, images, rng)
    encoder = simclr.Encoder(rng=rng)
    z0, z1 = timed("encoder", encoder, images), timed("again", encoder, views)
    z = np.concatenate((z0, z1))
    a, b = z[None], z[:, None]
    print(f"images {images.shape}, and a second view of each: rotated, shifted, with noise")
    print(f"the encoder, untrained: {z0.shape} each, together z {z.shape}")
    print(f"a = z[None] {a.shape}, b = z[:, None] {b.shape}")
    matrix = timed("cosine similarity", cossim.CosineSimilarity(dim=2), a, b)
    print(f"CosineSimilarity(dim=2)(a, b) {matrix.shape} =\n{matrix}\n")
    print(f"diagonal exactly 1: {bool((np.diag(matrix) == 1).all())}")
    print(f"all values: from {matrix.min():.4f} to {matrix.max():.4f}")
    same = np.diag(matrix, len(z0))
    others = matrix[~np.eye(len(z), dtype=bool)]
    print(f"an image and its second view: {same.mean():.4f} on average; any two rows: {others.mean():.4f}")
    difference = _max_difference(simclr.similarity_matrix(z0, z1), matrix)
    print(f"simclr.similarity_matrix(z0, z1) differs by at most {difference}")
    timed.show()
    return views, z, matrix


def loop_of_the_notebook(a, b):
    values = []
    for x in a:
        norm_x = np.linalg.norm(x)
        for y in b:
            norm_y = np.linalg.norm(y)
            values.append(np.dot(x, y.T) / (norm_x * norm_y))
    return values


def loop_with_row_norms(a, b):
    values = []
    for x in a:
        norms_x = np.linalg.norm(x, axis=1, keepdims=True)
        for y in b:
            norms_y = np.linalg.norm(y, axis=1)
            values.append(np.dot(x, y.T) / (norms_x * norms_y))
    return values


def show_loop(z, matrix, timed):
    """Shows why the notebook's loop over a and b gives other values than part (c). Returns its values as a matrix."""
    _title("(d) The same by a loop: equal in shape, different in values. Why?")
    a, b = z[None], z[:, None]
    print("for x in a:\n    for y in b:\n        np.dot(x, y.T) / (np.linalg.norm(x) * np.linalg.norm(y))\n")
    looped = np.array(timed("loop", loop_of_the_notebook, a, b))[:, :, 0]
    print(f"the loop {looped.shape}: {looped[0, :4]} ...\n(c)      {matrix.shape}: {matrix[0, :4]} ...")
    print(f"largest difference: {_max_difference(looped, matrix)}\n")
    norms, whole = np.linalg.norm(z, axis=1), np.linalg.norm(a[0])
    factor, rows = whole / norms[0], len(z)
    print(f"a has shape {a.shape}: `for x in a` runs once, and x is the whole {a[0].shape} matrix, not a row.")
    print(f"np.linalg.norm(x) is then the Frobenius norm of all its {a[0].size} numbers, {whole:.6f},")
    print(f"but each row needs its own: {norms[0]:.6f} for the first, {norms.min():.6f} to {norms.max():.6f} for all.")
    print(f"So the first value is {factor:.4f} times too small, about sqrt({rows}) = {rows**0.5:.4f} for {rows} rows:")
    print(f"  {looped[0, 0]:.7f} * {whole:.6f} / {norms[0]:.6f} = {looped[0, 0] * factor:.4f}, as in (c).")
    corrected = np.array(timed("loop with row norms", loop_with_row_norms, a, b))[:, :, 0]
    print("\nWith one norm per row, np.linalg.norm(x, axis=1), the same loop gives the values of (c):")
    print(f"largest difference: {_max_difference(corrected, matrix)}, the rounding of float32.")
    timed.show()
    return looped


def draw(images, views, matrix, looped, path):
    """Writes a PNG with some images above their second views, the similarity matrix, and the loop's matrix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from cossim import plot

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 3))
    shown = min(12, len(images))
    axes_of_images = top.subplots(2, shown, squeeze=False).flat
    for axes, image in zip(axes_of_images, (*images[:shown], *views[:shown]), strict=True):
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    top.suptitle(f"{shown} of {len(images)} images, and below each its second view")
    titles = "(c) cosine similarity of every pair of rows", "(d) the loop: divided by the norm of the whole matrix"
    for axes, values, title in zip(bottom.subplots(1, 2), (matrix, looped), titles, strict=True):
        plot.heatmap(values, ax=axes, vmin=values.min(), vmax=values.max())
        axes.set(title=title, xlabel="row of z", ylabel="row of z")
        for line in (axes.axhline, axes.axvline):  # separates the images from their second views
            line(len(images) - 0.5, color="white", linewidth=0.8)
    figure.savefig(path, dpi=110, format="png")


def _require(module, message):
    if find_spec(module) is None:
        raise ModuleNotFoundError(message, name=module)


def read_images(path):
    """Returns the images of a file, or without a path scikit-learn's digits."""
    with errors_as_text():
        images = image_files.digits() if path is None else image_files.read_images(path)
    if len(images) == 0:
        raise ValueError(_errors.NO_IMAGES.format(path=path))
    return images


def run(images_path=None, output="cossim-demo.png", seed=0, plot=True):
    """Prints all parts, and writes the PNG unless plot is false.

    Before the first line is printed, raises ModuleNotFoundError if an optional package is missing, OSError if a file
    cannot be read or written, and ValueError if the file of images is not valid.
    """
    if images_path is None:
        _require("sklearn", _errors.NEEDS_SCIKIT_LEARN)
    if plot:
        _require("matplotlib", _errors.NEEDS_MATPLOTLIB)
        with write_errors_as_text(output), replacing(output):
            pass
    rng, timed = np.random.default_rng(seed), Stopwatch()
    available = read_images(images_path)
    images = available[np.sort(rng.choice(len(available), min(IMAGES, len(available)), replace=False))]

    with np.printoptions(precision=4, suppress=True, threshold=50, edgeitems=3, floatmode="fixed"):
        show_pair(rng, timed)
        show_rows(timed)
        views, z, matrix = show_all_pairs(images, rng, timed)
        looped = show_loop(z, matrix, timed)
    if plot:
        timed("drawing", draw, images, views, matrix, looped, output)
        print(f"\nThe matrices of (c) and (d) as heatmaps: {output}")
        timed.show()
    print("\ncossim.explain(x1, x2, dim) explains your own calls step by step, as here.")
