"""Reference gradients of the similarities and of NT-Xent, in plain NumPy and longdouble, without any blocking."""

import numpy as np
from reference import pairwise, wide


def _unbroadcast(gradient, shape):
    """Sums the gradient of a broadcast array over the axes that were broadcast; the sum has the array's shape."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(tuple(i for i, size in enumerate(shape) if size == 1), keepdims=True).reshape(shape)


def cosine_similarity_gradients(x1, x2, dy, dim=1, eps=1e-8):
    """Gradients of sum(dy * cosine_similarity(x1, x2, dim, eps)); norms below eps count as constants."""
    shapes = np.shape(x1), np.shape(x2)
    x1, x2 = np.broadcast_arrays(wide(x1), wide(x2))
    if x1.ndim == 0:
        x1, x2 = x1[None], x2[None]
    norms = [np.sqrt((x * x).sum(dim, keepdims=True)) for x in (x1, x2)]
    clamped = [np.maximum(n, eps) for n in norms]
    dy, cosine = (np.expand_dims(wide(a), dim) for a in (dy, (x1 * x2).sum(dim) / np.squeeze(np.prod(clamped, 0), dim)))
    gradients = []
    for x, n, c, other in ((x1, norms[0], clamped[0], x2 / clamped[1]), (x2, norms[1], clamped[1], x1 / clamped[0])):
        gradients.append(dy * (other - np.where(n >= eps, cosine * x / c, 0)) / c)
    return tuple(_unbroadcast(g, shape) for g, shape in zip(gradients, shapes, strict=True))


def pairwise_gradients(x, y, dscores, eps=1e-8):
    """(dx, dy) of sum(dscores * pairwise(x, y, eps)); if y is x, the gradient is the sum of the two."""
    dx, dy = cosine_similarity_gradients(np.asarray(x)[:, None], np.asarray(y)[None], dscores, 2, eps)
    return dx[:, 0], dy[0]


def partners(rows, pairs):
    return np.arange(rows) ^ 1 if pairs == "interleaved" else (np.arange(rows) + rows // 2) % rows


def _probabilities(z, temperature, pairs):
    exponents = pairwise(z) / np.longdouble(temperature)
    np.fill_diagonal(exponents, -np.inf)
    largest = exponents.max(1, keepdims=True)
    sums = np.exp(exponents - largest).sum(1, keepdims=True)
    logs = np.log(sums) + largest
    return exponents, logs, np.exp(exponents - logs), partners(len(z), pairs)


def nt_xent(z, temperature=0.5, pairs="halves"):
    """(loss, gradient) for z, both views: the mean of -s[i, p(i)] / t + log(sum over k != i of exp(s[i, k] / t))."""
    exponents, logs, _, p = _probabilities(z, temperature, pairs)
    return (logs[:, 0] - exponents[np.arange(len(z)), p]).mean()


def nt_xent_gradient(z, temperature=0.5, pairs="halves"):
    _, _, probabilities, p = _probabilities(z, temperature, pairs)
    probabilities[np.arange(len(z)), p] -= 1
    dx, dy = pairwise_gradients(z, z, probabilities / (len(z) * np.longdouble(temperature)))
    return dx + dy


def by_differences(f, x, step=1e-6):
    """The gradient of f at x by central differences."""
    gradient = np.empty(np.shape(x))
    for i in np.ndindex(*gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = np.array(x, np.float64)
            moved[i] += sign * step
            ends.append(f(moved))
        gradient[i] = (ends[0] - ends[1]) / (2 * step)
    return gradient
