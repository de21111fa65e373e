"""Reference implementations of the layers, forward and backward, in plain NumPy and float64.

Each `f_vjp` returns its result and a pullback. The pullback takes the gradient with respect to the result and returns
the gradients with respect to the arguments.
"""

import itertools

import numpy as np


def pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def paddings(padding, kernel, dilation):
    """Padding (before, after) along height and along width."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in pair(padding))


def conv2d_vjp(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    if x.ndim == 3:
        y, pullback = conv2d_vjp(x[None], weight, bias, stride, padding, dilation, groups)

        def of_one_image(dy):
            dx, *others = pullback(np.asarray(dy)[None])
            return dx[0], *others

        return y[0], of_one_image
    images, channels, height, width = x.shape
    filters, _, *kernel = weight.shape
    stride, dilation = pair(stride), pair(dilation)
    (top, bottom), (left, right) = paddings(padding, kernel, dilation)
    padded = np.zeros((images, channels, top + height + bottom, left + width + right))
    padded[:, :, top : top + height, left : left + width] = x
    lengths = zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in lengths]

    def seen_by(group, u, v):
        """Index of the padded pixels that the kernel element (u, v) meets, for all outputs of a group."""
        rows, columns = (
            slice(k * d, k * d + s * (n - 1) + 1, s) for k, d, s, n in zip((u, v), dilation, stride, size, strict=True)
        )
        return slice(None), slices(channels, group), rows, columns

    def slices(count, group):
        return slice(group * (count // groups), (group + 1) * (count // groups))

    elements = list(itertools.product(range(groups), range(kernel[0]), range(kernel[1])))
    y = np.zeros((images, filters, *size))
    if bias is not None:
        y += np.asarray(bias, np.float64)[:, None, None]
    for group, u, v in elements:
        own = slices(filters, group)
        y[:, own] += np.einsum("nchw,oc->nohw", padded[seen_by(group, u, v)], weight[own, :, u, v])

    def pullback(dy):
        dy = np.asarray(dy, np.float64)
        dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
        for group, u, v in elements:
            own, seen = slices(filters, group), seen_by(group, u, v)
            dpadded[seen] += np.einsum("nohw,oc->nchw", dy[:, own], weight[own, :, u, v])
            dweight[own, :, u, v] = np.einsum("nohw,nchw->oc", dy[:, own], padded[seen])
        dx = dpadded[:, :, top : top + height, left : left + width]
        return dx, dweight, None if bias is None else dy.sum((0, 2, 3))

    return y, pullback


def windows(size, kernel, stride, padding, dilation, ceil_mode):
    """For each window along one dimension, its positions that lie inside the image."""
    beyond = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-beyond // stride) if ceil_mode else beyond // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:  # it would begin in the padding after the image
        count -= 1
    starts = [i * stride - padding for i in range(count)]
    return [[p for p in range(s, s + kernel * dilation, dilation) if 0 <= p < size] for s in starts]


def max_pool2d_vjp(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """(y, indices, pullback). A window without any pixel gives -inf and index -1, and takes no gradient."""
    x = np.asarray(x, np.float64)
    kernel = pair(kernel_size)
    options = zip(x.shape[-2:], kernel, pair(stride or kernel), pair(padding), pair(dilation), strict=True)
    rows, columns = (windows(*numbers, ceil_mode) for numbers in options)
    planes, width = x.reshape(-1, *x.shape[-2:]), x.shape[-1]
    y = np.full((len(planes), len(rows), len(columns)), -np.inf)
    indices = np.full(y.shape, -1)
    for i, j in itertools.product(range(len(rows)), range(len(columns))):
        for plane, image in enumerate(planes):
            for row, column in itertools.product(rows[i], columns[j]):
                # Finds the first maximum, or the last NaN. If no value is above -inf, takes the first pixel.
                best, value = y[plane, i, j], image[row, column]
                if value > best or np.isnan(value) or indices[plane, i, j] < 0:
                    y[plane, i, j], indices[plane, i, j] = value, row * width + column
    shape = (*x.shape[:-2], *y.shape[1:])

    def pullback(dy):
        dx = np.zeros((len(planes), planes[0].size if len(planes) else 0))
        for (plane, i, j), index in np.ndenumerate(indices):
            if index >= 0:
                dx[plane, index] += np.asarray(dy).reshape(y.shape)[plane, i, j]
        return dx.reshape(x.shape)

    return y.reshape(shape), indices.reshape(shape), pullback


def linear_vjp(x, weight, bias=None):
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    y = x @ weight.T if bias is None else x @ weight.T + np.asarray(bias, np.float64)

    def pullback(dy):
        dy = np.asarray(dy, np.float64)
        dx = dy[..., None] * weight if weight.ndim == 1 else dy @ weight
        rows = x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
        of_rows = dy.reshape(len(rows), *weight.shape[:-1])
        dweight = of_rows.T @ rows
        if bias is None:
            return dx, dweight, None
        of_one = np.shape(bias) != weight.shape[:-1]  # one bias for all features
        return dx, dweight, dy.sum().reshape(np.shape(bias)) if of_one else of_rows.sum(0)

    return y, pullback


def relu_vjp(x):
    x = np.asarray(x, np.float64)
    return np.where(x <= 0, 0, x), lambda dy: np.where(x <= 0, 0, dy)


def flatten_vjp(x, start_dim=1, end_dim=-1):
    x = np.asarray(x, np.float64)
    start, end = (dim % max(x.ndim, 1) for dim in (start_dim, end_dim))
    middle = np.prod(x.shape[start : end + 1], dtype=int)
    return x.reshape(*x.shape[:start], middle, *x.shape[end + 1 :]), lambda dy: np.asarray(dy).reshape(x.shape)


def encoder_vjp(x, state):
    """cossim.simclr.Encoder with the parameters of a state_dict; the pullback gives (dx, {name: gradient})."""
    pullbacks = []

    def through(function, name, *arguments, **options):
        nonlocal x
        x, *_, pullback = function(x, *arguments, **options)
        pullbacks.append((name, pullback))

    for name in ("conv1", "conv2"):
        through(conv2d_vjp, name, state[f"{name}.weight"], state[f"{name}.bias"])
        through(relu_vjp, None)
        through(max_pool2d_vjp, None, 2)
    through(flatten_vjp, None)
    through(linear_vjp, "fc", state["fc.weight"], state["fc.bias"])
    through(relu_vjp, None)

    def pullback(dy):
        gradients = dict.fromkeys(state)
        for name, one in reversed(pullbacks):
            if name is None:
                dy = one(dy)
            else:
                dy, gradients[f"{name}.weight"], gradients[f"{name}.bias"] = one(dy)
        return dy, gradients

    return x, pullback
