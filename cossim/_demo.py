"""The demo: from a pair of vectors to the similarity matrix of two views of images, as a learner would check it by hand."""

import sys
from time import perf_counter

import numpy as np

import cossim
from cossim import _images, simclr

# The two 2 x 3 matrices of a learner's notebook, which printed them to four digits and their norms and dot products to
# eight. The digits after the fourth are lost; those below are the ones within half a unit of the fourth that give the
# printed norms and dot products again.
MATRIX_A = np.array([[-1.4957143, -1.9285455, -0.2319812], [-0.3471965, -1.1278678, 0.3151052]], np.float32)
MATRIX_B = np.array([[-0.9709234, 0.4931396, -0.2877336], [1.9940162, 1.828801, -0.598121]], np.float32)

PAIRS = 32


class Timer:
    """Milliseconds of each part, for the table at the end."""

    def __init__(self):
        self.parts = []

    def __call__(self, name, function, *args, **kwargs):
        start = perf_counter()
        result = function(*args, **kwargs)
        self.parts.append((name, 1000 * (perf_counter() - start)))
        return result


def _title(text):
    print(f"\n{text}\n{'-' * len(text)}")


def show_pair(rng, timer):
    _title("(a) One pair of vectors, by hand and with cossim")
    c, d = rng.standard_normal((2, 1, 3)).astype(np.float32)
    print(f"c = {c}\nd = {d}")
    norm_c, norm_d, dot = cossim.vector_norm(c), cossim.vector_norm(d), cossim.vecdot(c, d)[0]
    print(f"norms {norm_c:.7f} and {norm_d:.7f}, dot product {dot:.7f}")
    print(f"by hand                             {dot / (norm_c * norm_d):.4f}")
    value = timer("one pair", cossim.cosine_similarity, c, d, dim=1, eps=1e-6)
    print(f"cosine_similarity(c, d, dim=1)      {value[0]:.4f}")


def show_rows(timer):
    _title("(b) Two matrices, row by row")
    a, b = MATRIX_A, MATRIX_B
    print(f"a, to four digits =\n{a}\nb, to four digits =\n{b}")
    norms_a, norms_b = cossim.vector_norm(a, dim=1), cossim.vector_norm(b, dim=1)
    dots = cossim.vecdot(a, b)
    values = timer("two rows", cossim.CosineSimilarity(dim=1, eps=1e-6), a, b)
    for row in range(len(a)):
        print(f"row {row}: norms {norms_a[row]!s} and {norms_b[row]!s}, dot product {dots[row]!s}, similarity {values[row]:.4f}")
    print("dim=1 is the dimension that is summed up: one value per row is left.")


def encode(images, rng, timer):
    """Embeddings of images and of another view of each: (2 N, 100)."""
    views = timer("second views", _images.another_view, images, rng)
    encoder = simclr.Encoder(rng=rng)
    z0 = timer(f"encoder, {len(images)} images", encoder, images)
    z1 = timer(f"encoder, {len(views)} views", encoder, views)
    return np.concatenate((z0, z1))


def show_encoder(z, timer):
    _title("(c) Two views of real images through the encoder, then all pairs")
    z0, z1 = np.split(z, 2)
    a, b = z[None], z[:, None]
    print(f"images {len(z0)} and as many second views -> z {z.shape}")
    print(f"z[None] {a.shape} and z[:, None] {b.shape}, dim=2 -> one similarity for every pair")
    matrix = timer("all pairs, broadcast form", cossim.cosine_similarity, a, b, dim=2)
    assert np.array_equal(matrix, simclr.similarity_matrix(z0, z1))
    diagonal = np.diag(matrix)
    print(f"result {matrix.shape}, from {matrix.min():.4f} to {matrix.max():.4f}; diagonal exactly 1: {bool((diagonal == 1).all())}")
    views = matrix[np.arange(len(z0)), np.arange(len(z0)) + len(z0)]
    others = matrix[~np.eye(len(z), dtype=bool)]
    print(f"mean similarity of an image and its second view {views.mean():.4f}, of all pairs {others.mean():.4f}")
    print(matrix)
    return matrix


def hand_loop(a, b):
    """The loop of the notebook: what it takes for vectors are whole matrices."""
    values = []
    for x in a:
        norm_x = np.linalg.norm(x)
        for y in b:
            norm_y = np.linalg.norm(y)
            values.append(np.dot(x, y.T) / (norm_x * norm_y))
    return np.array(values)[:, :, 0]


def show_difference(z, matrix, timer):
    _title("(d) The same by a loop, and why it gives other values")
    a, b = z[None], z[:, None]
    looped = timer("hand loop", hand_loop, a, b)
    whole, norms = np.linalg.norm(a[0]), cossim.vector_norm(z, dim=1)
    print(f"for x in a: for y in b: np.dot(x, y.T) / (np.linalg.norm(x) * np.linalg.norm(y))  -> {looped.shape}")
    print(f"first values of the loop {looped[0, :4]}, of (c) {matrix[0, :4]}")
    print(f"Same shape, other values: they differ by up to {np.abs(looped - matrix).max():.4f}. Why:")
    print(f"  a has shape {a.shape}, so `for x in a` runs once, and x is the whole {a[0].shape} matrix.")
    print(f"  np.linalg.norm(x) is then one number for all {a[0].size} elements, the Frobenius norm {whole:.6f},")
    print(f"  where each pair needs the norm of its own row: {norms.min():.6f} to {norms.max():.6f}.")
    print(f"  Row {0}: {looped[0, 0]:.8f} * {whole:.6f} / {norms[0]:.6f} = {looped[0, 0] * whole / norms[0]:.6f}, and (c) has {matrix[0, 0]:.6f}.")
    rows = np.linalg.norm(z, axis=1)
    mended = (z @ z.T) / (rows[:, None] * rows[None])
    print(f"With row norms, np.linalg.norm(z, axis=1), the loop's formula gives (c) again: largest difference {np.abs(mended - matrix).max():.1e}.")


def draw_heatmap(matrix, path):
    """The matrix as a picture; the second views begin in the middle."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="viridis", vmin=matrix.min(), vmax=1)
    half = len(matrix) // 2 - 0.5
    axes.axhline(half, color="white", linewidth=0.8)
    axes.axvline(half, color="white", linewidth=0.8)
    axes.set_title("Cosine similarity of all pairs: images, then their second views")
    axes.set_xlabel("row of z")
    axes.set_ylabel("row of z")
    figure.colorbar(image, ax=axes, label="cosine similarity")
    figure.savefig(path, dpi=120)


def load_images(path):
    if path is not None:
        return _images.read_images(path)
    return _images.digits()


def run(images_path=None, output="cossim-demo.png", seed=0, plot=True):
    rng = np.random.default_rng(seed)
    timer = Timer()
    images = timer("reading the images", load_images, images_path)
    if len(images) < PAIRS:
        raise ValueError(f"{images_path}: the demo takes {PAIRS} images, the file has {len(images)}")
    images = images[np.sort(rng.choice(len(images), PAIRS, replace=False))]
    with np.printoptions(precision=4, suppress=True, threshold=50, edgeitems=3):
        show_pair(rng, timer)
        show_rows(timer)
        z = encode(images, rng, timer)
        matrix = show_encoder(z, timer)
        show_difference(z, matrix, timer)
    if plot:
        timer("drawing", draw_heatmap, matrix, output)
        print(f"\nHeatmap of (c): {output}")
    _title("Timings")
    for name, milliseconds in timer.parts:
        print(f"{name:28} {milliseconds:10.3f} ms")
    sys.stdout.flush()
