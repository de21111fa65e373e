"""Layers as functions. This module checks shapes and arguments as torch does; the C core calculates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import length_argument, plain_text
from cossim._errors import described
from cossim.nn.activations import dropout, gelu, leaky_relu
from cossim.nn.arguments import layer_arrays as _arrays
from cossim.nn.arguments import pair_argument as _pair
from cossim.nn.average_pooling import (
    adaptive_avg_pool2d,
    avg_pool2d,
    pool_images,
    pool_sizes,
    pool_windows,
    pooled_size,
)
from cossim.nn.normalization import batch_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array, ArrayOrScalar, Float, Pair

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "dropout",
    "gelu",
    "leaky_relu",
    "linear",
    "max_pool2d",
    "relu",
]


def _conv_padding(padding, kernel, stride, dilation):
    """Returns torch's zero padding as two (height, width) pairs: before and after the image."""
    if not isinstance(padding, str):
        pair = _pair("conv2d", "padding", padding, 0)
        return pair, pair
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ValueError(_errors.PADDING.format(padding=padding))
    if stride != (1, 1):
        raise ValueError(_errors.SAME_NEEDS_STRIDE_1.format(stride=stride))
    total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    if max(total) >= 2**61:  # only a kernel without elements can be this large
        raise ValueError(_errors.SAME_TOO_LARGE.format(zeros=total))
    before = tuple(t // 2 for t in total)
    return before, tuple(t - b for t, b in zip(total, before, strict=True))


@overload
def conv2d(
    x: NDArray[Float],
    weight: NDArray[Float],
    bias: NDArray[Float] | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> NDArray[Float]: ...
@overload
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> NDArray[Any]: ...
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["same", "valid"] = 0,
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
) -> NDArray[Any]:
    """Convolution (cross-correlation) of images with filters, as in torch.nn.functional.conv2d.

        out[n, o, i, j] = bias[o] + sum over c, u, v of
            weight[o, c, u, v] * x[n, c, i * stride + u * dilation - padding, j * stride + v * dilation - padding]

    where pixels outside the image are 0 and c runs over the channels of o's group.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        float32 or float64. Never modified.
    weight : array_like, shape (O, C // groups, KH, KW)
        Has the dtype of x.
    bias : array_like, shape (O,), optional
        Has the dtype of x.
    stride, dilation : int or pair of int
        At least 1; a pair is (height, width).
    padding : int, pair of int, "same" or "valid"
        Number of zeros added on each side. "same" keeps H and W and needs stride 1; if the total is odd, the extra
        zero goes at the end. "valid" adds none.
    groups : int
        Number of groups that the input and output channels are split into. Each group has its own filters.

    Returns
    -------
    numpy.ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        OH = (H + padding before and after - dilation * (KH - 1) - 1) // stride + 1. OW follows from W and KW in the
        same way. The dtype is that of x.

    Raises
    ------
    TypeError
        An array is not float32 or float64, the dtypes differ, or a number is not an integer.
    ValueError
        Ranks, channels, groups or sizes do not fit together, or the kernel is larger than the padded image.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> cossim.nn.conv2d(x, np.ones((1, 1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    call = _check_conv2d(x, weight, bias, stride, padding, dilation, groups)
    out = call.run()
    return out if call.batched else out[0]


class _Conv2dCall(NamedTuple):
    """Checked arguments of a convolution.

    The arrays are contiguous, and images is always (N, C, H, W): batched is False where the caller passed one image.
    Each tuple is (height, width); before and after are the zero padding, size is the size of the output.
    """

    images: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    stride: tuple
    before: tuple
    after: tuple
    dilation: tuple
    groups: int
    size: tuple
    batched: bool

    @property
    def geometry(self):
        """As the C core takes it."""
        return self.stride, self.before, self.dilation, self.groups

    def run(self, relu=False):
        out = np.empty((len(self.images), len(self.weight), *self.size), self.images.dtype)
        _core.conv2d(self.images, self.weight, self.bias, out, self.geometry, relu=relu)
        return out


def _check_conv2d(x, weight, bias, stride, padding, dilation, groups):
    # Converts numbers and names first: that may run code of the user's that changes the arrays.
    groups = length_argument("conv2d", "groups", groups)
    stride = _pair("conv2d", "stride", stride, 1)
    dilation = _pair("conv2d", "dilation", dilation, 1)
    padding = plain_text(padding) if isinstance(padding, str) else _pair("conv2d", "padding", padding, 0)
    arrays = _arrays("conv2d", x=x, weight=weight, bias=bias)
    x, weight = arrays["x"], arrays["weight"]
    if weight.ndim != 4:
        raise ValueError(_errors.CONV_WEIGHT.format(arrays=described(**arrays)))
    if x.ndim not in (3, 4):
        raise ValueError(_errors.CONV_IMAGES.format(arrays=described(**arrays)))
    images = x if x.ndim == 4 else x[None]
    channels, filters = images.shape[1], weight.shape[0]
    if filters % groups or filters == 0:
        raise ValueError(_errors.CONV_GROUPS.format(groups=groups, filters=filters, arrays=described(**arrays)))
    if channels != weight.shape[1] * groups:
        wanted = weight.shape[1] * groups
        raise ValueError(_errors.CONV_CHANNELS.format(channels=channels, wanted=wanted, arrays=described(**arrays)))
    if "bias" in arrays and arrays["bias"].shape != (filters,):
        raise ValueError(_errors.WRONG_BIAS.format(function="conv2d", wanted=(filters,), arrays=described(**arrays)))
    kernel = weight.shape[2:]
    before, after = _conv_padding(padding, kernel, stride, dilation) if isinstance(padding, str) else (padding, padding)
    padded = tuple(size + b + a for size, b, a in zip(images.shape[2:], before, after, strict=True))
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if min(kernel) < 1:
        raise ValueError(_errors.CONV_EMPTY.format(arrays=described(**arrays)))
    if any(p < r for p, r in zip(padded, extent, strict=True)):
        raise ValueError(_errors.CONV_KERNEL.format(padded=padded, kernel=extent, arrays=described(**arrays)))
    size = tuple((p - r) // s + 1 for p, r, s in zip(padded, extent, stride, strict=True))
    return _Conv2dCall(images, weight, arrays.get("bias"), stride, before, after, dilation, groups, size, x.ndim == 4)


@overload
def max_pool2d(
    x: NDArray[Float],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> NDArray[Float]: ...
@overload
def max_pool2d(
    x: NDArray[Float],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[NDArray[Float], NDArray[np.int64]]: ...
@overload
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> NDArray[Any]: ...
@overload
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[NDArray[Any], NDArray[np.int64]]: ...
@overload
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any: ...
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.int64]]:
    """Maximum of each window of an image, as in torch.nn.functional.max_pool2d.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        float32 or float64. Never modified.
    kernel_size : int or pair of int
        A pair is (height, width).
    stride : int or pair of int, optional
        Defaults to kernel_size.
    padding : int or pair of int
        Padding on each side, at most half of kernel_size. It is never the maximum.
    dilation : int or pair of int
        Distance between the elements of a window.
    ceil_mode : bool
        Whether to keep windows that extend beyond the image. They must begin in it, or in the padding before it.
    return_indices : bool
        Whether to return the position of each maximum too.

    Returns
    -------
    numpy.ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Has the dtype of x. A window that contains NaN gives NaN.
    numpy.ndarray of int64, the same shape
        Returned only with return_indices: row * W + column of each maximum. Ties give the first.

    Raises
    ------
    TypeError
        x is not float32 or float64, or a number is not an integer.
    ValueError
        Ranks or sizes do not fit, the padding is too large, or the output would be empty.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 5.,  7.],
            [13., 15.]]])
    """
    return_indices, ceil_mode = bool(return_indices), bool(ceil_mode)
    pairs = _pool_pairs(kernel_size, stride, padding, dilation)
    out, indices = _pool(return_indices, x, pairs, ceil_mode)
    return (out, indices) if return_indices else out


def _pool_pairs(kernel_size, stride, padding, dilation):
    kernel, stride, padding = pool_windows("max_pool2d", kernel_size, stride, padding)
    return kernel, stride, padding, _pair("max_pool2d", "dilation", dilation, 1)


def _pool(with_indices, x, pairs, ceil_mode):
    """Returns the maxima, and their indices or None. pairs is the result of _pool_pairs."""
    x = pool_images("max_pool2d", x)
    kernel, stride, padding, dilation = pairs
    sides = zip(x.shape[-2:], kernel, stride, padding, dilation, strict=True)
    size = pool_sizes("max_pool2d", x, tuple(pooled_size(*side, ceil_mode) for side in sides))
    planes = x.reshape(-1, *x.shape[-2:])
    out = np.empty((planes.shape[0], *size), x.dtype)
    indices = np.empty(out.shape, np.int64) if with_indices else None
    _core.max_pool2d(planes, out, indices, pairs)
    shape = (*x.shape[:-2], *size)
    return out.reshape(shape), indices.reshape(shape) if with_indices else None


@overload
def linear(x: NDArray[Float], weight: NDArray[Float], bias: NDArray[Float] | None = None) -> ArrayOrScalar[Float]: ...
@overload
def linear(x: Array, weight: Array, bias: Array | None = None) -> ArrayOrScalar[Any]: ...
def linear(x: Array, weight: Array, bias: Array | None = None) -> ArrayOrScalar[Any]:
    """Affine map of the last dimension, x @ weight.T + bias, as in torch.nn.functional.linear.

    Parameters
    ----------
    x : array_like, shape (..., D)
        float32 or float64. Never modified.
    weight : array_like, shape (O, D) or (D,)
        Has the dtype of x.
    bias : array_like, shape (O,), or () where weight has one dimension, optional
        Has the dtype of x.

    Returns
    -------
    numpy.ndarray, shape (..., O), or (...) where weight has one dimension
        Has the dtype of x.

    Raises
    ------
    TypeError
        An array is not float32 or float64, or the dtypes differ.
    ValueError
        The shapes do not fit together.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.linear(np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 3.0]]), np.array([0.5, 0.0]))
    array([[3.5, 6. ]])
    """
    call = _check_linear(x, weight, bias)
    return call.run().reshape(call.shape)[()]


class _LinearCall(NamedTuple):
    """Checked arguments of a linear layer.

    rows is (N, D) and weight is (O, D), both contiguous. shape is the shape of the result; shapes holds the shapes of
    x, weight and bias as the caller passed them.
    """

    rows: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    shape: tuple
    shapes: tuple

    def run(self, relu=False):
        out = np.empty((len(self.rows), len(self.weight)), self.rows.dtype)
        _core.linear(self.rows, self.weight, self.bias, out, relu=relu)
        return out


def _check_linear(x, weight, bias):
    arrays = _arrays("linear", x=x, weight=weight, bias=bias)
    x, weight, bias = arrays["x"], arrays["weight"], arrays.get("bias")
    if weight.ndim not in (1, 2) or x.ndim < 1 or x.shape[-1] != weight.shape[-1]:
        raise ValueError(_errors.LINEAR_WEIGHT.format(arrays=described(**arrays)))
    features = weight.shape[:-1]
    shapes = x.shape, weight.shape, None if bias is None else bias.shape
    if bias is not None and bias.shape not in {features, (1,) * len(features), ()}:
        raise ValueError(_errors.WRONG_BIAS.format(function="linear", wanted=features, arrays=described(**arrays)))
    rows = weight.reshape(math.prod(features), weight.shape[-1])
    if bias is not None:
        bias = np.ascontiguousarray(np.broadcast_to(bias, features).reshape(-1))
    count = math.prod(x.shape[:-1])
    return _LinearCall(x.reshape(count, x.shape[-1]), rows, bias, x.shape[:-1] + features, shapes)


@overload
def relu(x: NDArray[Float]) -> NDArray[Float]: ...
@overload
def relu(x: Array) -> ArrayOrScalar[Any]: ...
def relu(x: Array) -> ArrayOrScalar[Any]:
    """max(x, 0) of each element, as in torch.nn.functional.relu.

    Parameters
    ----------
    x : array_like
        float32 or float64, of any shape. Never modified.

    Returns
    -------
    numpy.ndarray
        Has the shape and dtype of x. NaN stays NaN.

    Raises
    ------
    TypeError
        x is not float32 or float64.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    x = _arrays("relu", x=x)["x"]
    out = np.empty(x.shape, x.dtype)
    _core.relu(x.reshape(-1), out.reshape(-1))
    return out[()]
