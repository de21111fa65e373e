"""Layers as functions. The C core checks their arguments, as torch does, and calculates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

from cossim import _core
from cossim.nn.activations import dropout, gelu, leaky_relu
from cossim.nn.average_pooling import adaptive_avg_pool2d, avg_pool2d
from cossim.nn.normalization import batch_norm

if TYPE_CHECKING:
    import numpy as np
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
    return _core.conv2d((x, weight, bias, stride, padding, dilation, groups))


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
    windows = kernel_size, stride, padding, dilation
    maxima, indices = _core.max_pool2d(x, windows, ceil_mode, return_indices)
    return maxima if indices is None else (maxima, indices)


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
    return _core.linear(x, weight, bias)


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
    return _core.relu(x)
