"""Gradients of the layers' functions as pullbacks: what leads from the gradient of a result to those of its arguments.

``y, pullback = f_vjp(x, ...)`` calculates ``y = f(x, ...)`` and remembers what its gradient needs. For a loss L of y,
``pullback(dL/dy)`` gives dL/dx and so on: the product of a vector with the Jacobian of f (vector-Jacobian product).
"""

import math

import numpy as np

from cossim import _core
from cossim.nn import functional


def _gradient(function, dy, y):
    """dy as a contiguous native array, if it is one of y's shape and dtype."""
    array = functional._plain(_core.as_array(function, "dy", dy))
    if array.shape != y.shape or array.dtype != y.dtype.newbyteorder("="):
        kind = ValueError if array.shape != y.shape else TypeError
        raise functional._error(kind, function, "dy must have the shape and dtype of the result", {"dy": array, "y": y})
    return array


def _conv2d_pullback(call, dy, input_gradient, indices=None):
    """With indices, dy is that of a pool behind it, and belongs to these pixels of the maps; the others have none."""
    geometry = call.stride, call.before, call.dilation, call.groups
    # Zeros may be left out where products with them are zero, not NaN.
    sparse = indices is not None and call.dilation[1] == 1 and _core.all_finite(call.images)
    maps = dy
    if indices is not None and (input_gradient or not sparse):
        maps = _unpool(indices, dy, (*dy.shape[:2], *call.size))
    dx = None
    if input_gradient:
        dx = np.empty_like(call.images)
        _core.conv2d_grad_input(call.weight, maps, dx, *geometry)
        dx = dx if call.many else dx[0]
    dweight = np.empty_like(call.weight)
    dbias = None if call.bias is None else np.empty_like(call.bias)
    given = (dy, indices) if sparse else (maps, None)
    _core.conv2d_grad_weight(call.images, given[0], dweight, dbias, *geometry, given[1], call.size)
    return dx, dweight, dbias


def conv2d_vjp(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """conv2d and its pullback.

    Parameters
    ----------
    x, weight, bias, stride, padding, dilation, groups
        As in cossim.nn.conv2d. The arrays must not be changed before the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        conv2d of the arguments.
    pullback : callable
        ``pullback(dy, input_gradient=True)`` takes the gradient of y, of its shape and dtype, and returns
        ``(dx, dweight, dbias)``: dx is None with input_gradient=False, which saves its calculation, and dbias is None
        where there is no bias.

    Raises
    ------
    TypeError, ValueError
        As conv2d; by the pullback where dy has another dtype or shape than y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.conv2d_vjp(np.arange(9.0).reshape(1, 3, 3), np.ones((1, 1, 2, 2)))
    >>> dx, dweight, dbias = pullback(np.ones_like(y))
    >>> dx
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    >>> dweight
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    return _conv2d_vjp(functional._check_conv2d(x, weight, bias, stride, padding, dilation, groups))


def _conv2d_vjp(call, relu=False):
    """With relu, of relu of the maps."""
    maps = call.run(relu)
    y = maps if call.many else maps[0]

    def pullback(dy, input_gradient=True):
        dy = _gradient("conv2d_vjp", dy, y)
        dy = dy if call.many else dy[None]
        return _conv2d_pullback(call, _masked(maps, dy) if relu else dy, input_gradient)

    return y, pullback


def _conv2d_pooled_vjp(call):
    """relu of the maps, of each square of 2 x 2 the largest, and the pullback: the maps themselves are not kept."""
    shape = len(call.images), len(call.weight), *(size // 2 for size in call.size)
    pooled, indices = np.empty(shape, call.images.dtype), np.empty(shape, np.int64)
    geometry = call.stride, call.before, call.dilation, call.groups
    _core.conv2d_pooled(call.images, call.weight, call.bias, pooled, indices, *geometry, True, call.size)

    def pullback(dy, input_gradient=True):
        dy = _masked(pooled, dy if call.many else dy[None])
        return _conv2d_pullback(call, dy, input_gradient, indices)

    return pooled if call.many else pooled[0], pullback


def _unpool(indices, dy, shape):
    """Zeros of that shape, and at the index of each window's maximum the sum of the gradients that belong there."""
    dx = np.empty(shape, dy.dtype)
    planes = math.prod(shape[:-2])
    sizes = dy.shape[-2:]
    _core.max_pool2d_scatter(
        indices.reshape(planes, *sizes), dy.reshape(planes, *sizes), dx.reshape(planes, *shape[-2:])
    )
    return dx


def max_pool2d_vjp(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """max_pool2d and its pullback.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode
        As in cossim.nn.max_pool2d.

    Returns
    -------
    y : numpy.ndarray
        max_pool2d of the arguments.
    pullback : callable
        ``pullback(dy)`` returns dx. A window's gradient goes to its maximum, of equals to the first, as in torch.

    Raises
    ------
    TypeError, ValueError
        As max_pool2d; by the pullback where dy has another dtype or shape than y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.max_pool2d_vjp(np.array([[[1.0, 2.0], [2.0, 0.0]]]), 2)
    >>> pullback(np.array([[[5.0]]]))
    array([[[0., 5.],
            [0., 0.]]])
    """
    ceil_mode = bool(ceil_mode)
    pairs = functional._pool_pairs(kernel_size, stride, padding, dilation)
    x = _core.as_array("max_pool2d", "x", x)
    y, indices = functional._pool(True, x, pairs, ceil_mode)
    shape = x.shape
    if indices.size:  # else the sizes of a map may be any numbers
        empty = _without_pixels(shape, pairs, y.shape)
        indices[..., empty] = 0

    def pullback(dy):
        dy = _gradient("max_pool2d_vjp", dy, y)
        return _unpool(indices, np.where(empty, y.dtype.type(0), dy) if indices.size and empty.any() else dy, shape)

    return y, pullback


def _without_pixels(shape, pairs, out):
    """Which windows see nothing but padding, as dilation can bring it about: nothing was their maximum."""
    sides = []
    for i in (0, 1):
        _, s, p, d = (pair[i] for pair in pairs)
        begins = np.arange(out[-2 + i]) * s - p
        sides.append(np.where(begins < 0, begins % d, begins) >= shape[-2 + i])
    return sides[0][:, None] | sides[1]


def _linear_pullback(call, dy, input_gradient):
    dx = None
    if input_gradient:
        dx = np.empty_like(call.rows)
        _core.matmul(dy, call.weight, dx, False)
    dweight = np.empty_like(call.weight)
    _core.matmul(dy, call.rows, dweight, True)
    return dx, dweight, None if call.bias is None else _column_sums(dy)


def _column_sums(dy):
    sums = np.empty((1, dy.shape[1]), dy.dtype)
    _core.matmul(np.ones((1, len(dy)), dy.dtype), dy, sums, False)
    return sums[0]


def linear_vjp(x, weight, bias=None):
    """linear and its pullback.

    Parameters
    ----------
    x, weight, bias
        As in cossim.nn.linear. They must not be changed before the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        linear of the arguments.
    pullback : callable
        ``pullback(dy, input_gradient=True)`` returns ``(dx, dweight, dbias)``: dx is None with input_gradient=False,
        and dbias is None where there is no bias.

    Raises
    ------
    TypeError, ValueError
        As linear; by the pullback where dy has another dtype or shape than y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.linear_vjp(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([5.0]))
    >>> y
    array([[16.]])
    >>> pullback(np.array([[1.0]]))
    (array([[3., 4.]]), array([[1., 2.]]), array([1.]))
    """
    return _linear_vjp(x, weight, bias)


def _linear_vjp(x, weight, bias, relu=False):
    """With relu, of relu of the result."""
    call = functional._check_linear(x, weight, bias)
    y = call.run(relu).reshape(call.shape)[()]
    x_shape, weight_shape, bias_shape = call.shapes

    def pullback(dy, input_gradient=True):
        dy = _gradient("linear_vjp", dy, np.asarray(y))
        dy = (_masked(np.asarray(y), dy) if relu else dy).reshape(len(call.rows), len(call.weight))
        dx, dweight, dbias = _linear_pullback(call, dy, input_gradient)
        if dx is not None:
            dx = dx.reshape(x_shape)
        if dbias is not None and dbias.size != math.prod(bias_shape):  # a single bias for all features
            with np.errstate(all="ignore"):
                dbias = dbias.sum()
        if dbias is not None:
            dbias = dbias.reshape(bias_shape)
        return dx, dweight.reshape(weight_shape), dbias

    return y, pullback


def _masked(y, dy):
    """dy where y is not at most 0."""
    dx = np.empty(y.shape, y.dtype)
    _core.relu_gradient(y.reshape(-1), dy.reshape(-1), dx.reshape(-1))
    return dx


def relu_vjp(x):
    """relu and its pullback.

    Parameters
    ----------
    x : array_like
        As in cossim.nn.relu.

    Returns
    -------
    y : numpy.ndarray
        relu of x. It must not be changed before the last call of the pullback.
    pullback : callable
        ``pullback(dy)`` returns dx: dy where x is above 0 or NaN, else 0, as in torch.

    Raises
    ------
    TypeError, ValueError
        As relu; by the pullback where dy has another dtype or shape than y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.relu_vjp(np.array([-1.0, 0.0, 2.0]))
    >>> pullback(np.array([1.0, 2.0, 3.0]))
    array([0., 0., 3.])
    """
    y = np.asarray(functional.relu(x))
    return y[()], lambda dy: _masked(y, _gradient("relu_vjp", dy, y))[()]
