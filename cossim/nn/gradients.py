"""Gradients of the layers' functions as pullbacks (vector-Jacobian products).

``y, pullback = f_vjp(x, ...)`` calculates ``y = f(x, ...)`` and keeps the arrays that its gradient needs. For a loss L
of y, ``pullback(dL/dy)`` returns the gradient of L with respect to each argument: the product of dL/dy with the
Jacobian of f.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

import numpy as np

from cossim import _core
from cossim._arithmetic import fixed_arithmetic
from cossim.nn import functional
from cossim.nn.arguments import layer_arrays
from cossim.nn.arguments import layer_gradient as _gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Array, ArrayOrScalar, Float, Pair, ParametersPullback


def conv2d_arguments(x, weight, bias, stride, padding, dilation, groups):
    """Returns the arguments as arrays and pairs of int. The objects that the user passed may change later."""
    options = _core.conv2d_options("conv2d", stride, padding, dilation, groups)
    arrays = layer_arrays("conv2d", x=x, weight=weight, bias=bias)
    return arrays["x"], arrays["weight"], arrays.get("bias"), *options


def _conv2d_pullback(arguments, size, dy, input_gradient, indices=None):
    """Returns (dx, dweight, dbias) of a convolution to feature maps (..., O, *size).

    Without indices, dy is the gradient of the feature maps. With indices, dy is the gradient of the pooled maps: each
    value belongs to the pixel at its index, and all other pixels have gradient 0.
    """
    x, dilation = arguments[0], arguments[5]
    # The sparse path skips products of pixels with zeros of dy. They are 0 only if all pixels are finite.
    sparse = indices is not None and dilation[1] == 1 and _core.all_finite(x)
    feature_maps = dy
    if indices is not None and (input_gradient or not sparse):
        feature_maps = _core.max_pool2d_scatter(indices, dy, size)
    dx = _core.conv2d_grad_input(arguments, feature_maps) if input_gradient else None
    maps, pixels = (dy, indices) if sparse else (feature_maps, None)
    return dx, *_core.conv2d_grad_weight(arguments, maps, pixels)


@overload
def conv2d_vjp(
    x: NDArray[Float],
    weight: NDArray[Float],
    bias: None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Float], ParametersPullback[Float, None]]: ...
@overload
def conv2d_vjp(
    x: NDArray[Float],
    weight: NDArray[Float],
    bias: NDArray[Float],
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Float], ParametersPullback[Float, NDArray[Float]]]: ...
@overload
def conv2d_vjp(
    x: Array,
    weight: Array,
    bias: None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Any], ParametersPullback[Any, None]]: ...
@overload
def conv2d_vjp(
    x: Array,
    weight: Array,
    bias: Array,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Any], ParametersPullback[Any, NDArray[Any]]]: ...
def conv2d_vjp(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> tuple[NDArray[Any], ParametersPullback[Any, Any]]:
    """conv2d and its pullback.

    Parameters
    ----------
    x, weight, bias, stride, padding, dilation, groups
        As in cossim.nn.conv2d. Do not change the arrays before the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        conv2d of the arguments.
    pullback : callable
        ``pullback(dy, input_gradient=True)`` takes the gradient of y, which has the shape and dtype of y, and returns
        ``(dx, dweight, dbias)``. With input_gradient=False, dx is not calculated and is None. Without a bias, dbias is
        None.

    Raises
    ------
    TypeError, ValueError
        As in conv2d. The pullback raises them where dy does not have the dtype or shape of y.

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
    return _conv2d_vjp(conv2d_arguments(x, weight, bias, stride, padding, dilation, groups))


def _conv2d_vjp(arguments, relu=False, pool=False):
    """conv2d_vjp, given conv2d_arguments. relu and pool say whether ReLU and 2 x 2 max pooling follow the convolution.

    With pool, the feature maps before pooling are not stored. The gradient of ReLU only depends on where its argument
    is above 0. Its result shows that, and so does the pooled result, so no copy of the argument is kept.
    """
    if pool:
        y, indices, size = _core.conv2d_pooled(arguments, relu=relu)
    else:
        y, indices = _core.conv2d(arguments, relu=relu), None
        size = y.shape[-2:]

    def pullback(dy, input_gradient=True):
        dy = _gradient("conv2d_vjp", dy, y)
        if indices is not None and not relu:  # the dense path sums in the same order as separate layers
            return _conv2d_pullback(arguments, size, _core.max_pool2d_scatter(indices, dy, size), input_gradient)
        return _conv2d_pullback(arguments, size, _relu_gradient(y, dy) if relu else dy, input_gradient, indices)

    return y, pullback


@overload
def max_pool2d_vjp(
    x: NDArray[Float],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Float], Callable[[Array], NDArray[Float]]]: ...
@overload
def max_pool2d_vjp(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Any], Callable[[Array], NDArray[Any]]]: ...
def max_pool2d_vjp(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Any], Callable[[Array], NDArray[Any]]]:
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
        ``pullback(dy)`` returns dx. The gradient of a window goes to its maximum; ties go to the first, as in torch.

    Raises
    ------
    TypeError, ValueError
        As in max_pool2d. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.max_pool2d_vjp(np.array([[[1.0, 2.0], [2.0, 0.0]]]), 2)
    >>> pullback(np.array([[[5.0]]]))
    array([[[0., 5.],
            [0., 0.]]])
    """
    pairs = _core.pool_windows("max_pool2d", (kernel_size, stride, padding, dilation))
    x = layer_arrays("max_pool2d", x=x)["x"]
    y, indices = _core.max_pool2d(x, pairs, ceil_mode, True)
    size = x.shape[-2:]
    if indices.size:  # not for an empty array, whose height and width may be huge
        empty = _without_pixels(size, pairs, y.shape[-2:])
        indices[..., empty] = 0

    def pullback(dy):
        dy = _gradient("max_pool2d_vjp", dy, y)
        dy = np.where(empty, y.dtype.type(0), dy) if indices.size and empty.any() else dy
        return _core.max_pool2d_scatter(indices, dy, size)

    return y, pullback


def _without_pixels(size, pairs, out):
    """Boolean mask (OH, OW) of the windows that contain only padding. Such a window has no maximum.

    Only dilation makes such windows possible: all taps can then miss the image.
    """
    sides = []
    for i in (0, 1):
        _, s, p, d = (pair[i] for pair in pairs)
        begins = np.arange(out[i]) * s - p
        sides.append(np.where(begins < 0, begins % d, begins) >= size[i])
    return sides[0][:, None] | sides[1]


def _linear_pullback(x, weight, bias, dy, input_gradient):
    """Returns (dx, dweight, dbias) of a linear layer. Each has the shape of its argument; all arrays are contiguous."""
    outputs = math.prod(weight.shape[:-1])
    matrix = weight.reshape(outputs, weight.shape[-1])
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    dy = dy.reshape(len(rows), outputs)
    dx = _core.matmul(dy, matrix).reshape(x.shape) if input_gradient else None
    dweight, dbias = _core.matmul(dy.T, rows).reshape(weight.shape), None
    if bias is not None:
        dbias = _core.matmul(np.ones((1, len(dy)), dy.dtype), dy)[0]
        if dbias.size != bias.size:  # one bias value for all features
            with fixed_arithmetic():
                dbias = dbias.sum()
        dbias = dbias.reshape(bias.shape)
    return dx, dweight, dbias


@overload
def linear_vjp(
    x: NDArray[Float], weight: NDArray[Float], bias: None = None
) -> tuple[ArrayOrScalar[Float], ParametersPullback[Float, None]]: ...
@overload
def linear_vjp(
    x: NDArray[Float], weight: NDArray[Float], bias: NDArray[Float]
) -> tuple[ArrayOrScalar[Float], ParametersPullback[Float, NDArray[Float]]]: ...
@overload
def linear_vjp(
    x: Array, weight: Array, bias: None = None
) -> tuple[ArrayOrScalar[Any], ParametersPullback[Any, None]]: ...
@overload
def linear_vjp(
    x: Array, weight: Array, bias: Array
) -> tuple[ArrayOrScalar[Any], ParametersPullback[Any, NDArray[Any]]]: ...
def linear_vjp(
    x: Array, weight: Array, bias: Array | None = None
) -> tuple[ArrayOrScalar[Any], ParametersPullback[Any, Any]]:
    """linear and its pullback.

    Parameters
    ----------
    x, weight, bias
        As in cossim.nn.linear. Do not change the arrays before the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        linear of the arguments.
    pullback : callable
        ``pullback(dy, input_gradient=True)`` returns ``(dx, dweight, dbias)``. With input_gradient=False, dx is None;
        without a bias, dbias is None.

    Raises
    ------
    TypeError, ValueError
        As in linear. The pullback raises them where dy does not have the dtype or shape of y.

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
    """As linear_vjp. With relu=True, ReLU follows the linear map."""
    arrays = layer_arrays("linear", x=x, weight=weight, bias=bias)
    x, weight, bias = arrays["x"], arrays["weight"], arrays.get("bias")
    y = _core.linear(x, weight, bias, relu=relu)

    def pullback(dy, input_gradient=True):
        dy = _gradient("linear_vjp", dy, np.asarray(y))
        return _linear_pullback(x, weight, bias, _relu_gradient(np.asarray(y), dy) if relu else dy, input_gradient)

    return y, pullback


def _relu_gradient(y, dy):
    """Gradient of ReLU: dy where y is above 0 or NaN, else 0."""
    return np.asarray(_core.relu_gradient(y, dy))


@overload
def relu_vjp(x: NDArray[Float]) -> tuple[NDArray[Float], Callable[[Array], NDArray[Float]]]: ...
@overload
def relu_vjp(x: Array) -> tuple[ArrayOrScalar[Any], Callable[[Array], ArrayOrScalar[Any]]]: ...
def relu_vjp(x: Array) -> tuple[ArrayOrScalar[Any], Callable[[Array], ArrayOrScalar[Any]]]:
    """relu and its pullback.

    Parameters
    ----------
    x : array_like
        As in cossim.nn.relu.

    Returns
    -------
    y : numpy.ndarray
        relu of x. Do not change it before the last call of the pullback.
    pullback : callable
        ``pullback(dy)`` returns dx, as in torch: dy where x is above 0 or NaN, else 0.

    Raises
    ------
    TypeError, ValueError
        As in relu. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.relu_vjp(np.array([-1.0, 0.0, 2.0]))
    >>> pullback(np.array([1.0, 2.0, 3.0]))
    array([0., 0., 3.])
    """
    y = np.asarray(functional.relu(x))
    return y[()], lambda dy: _relu_gradient(y, _gradient("relu_vjp", dy, y))[()]
