"""Average pooling with fixed and with adaptive windows: functions, pullbacks and layers.

This module finds the windows along each axis. The C core calculates the means.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np

from cossim import _core, _errors
from cossim._arguments import integer_argument, integer_text
from cossim.nn.arguments import layer_gradient
from cossim.nn.module import FunctionLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Array, Pair

    _OutputSize: TypeAlias = SupportsIndex | None | tuple[SupportsIndex | None, SupportsIndex | None] | list[int | None]


class _Windows(NamedTuple):
    """The windows along one axis. spans, int64 (windows, 2): the first pixel of each window and the one after its last.

    sizes, (windows,): the divisor of the mean over a window is the product of its sizes along both axes.
    """

    spans: np.ndarray
    sizes: np.ndarray


def _run(x, windows, size, gradient=False):
    """Pools images x (..., H, W) to a size. With gradient=True, spreads a gradient x of pooled images to this size."""
    rows, columns = windows
    return _core.avg_pool2d(x, size, rows.spans, rows.sizes, columns.spans, columns.sizes, gradient=gradient)


def _pooled(x, windows):
    return _run(x, windows, tuple(len(side.spans) for side in windows))


def _pooled_vjp(function, x, windows):
    y, size = _pooled(x, windows), x.shape[-2:]
    return y, lambda dy: _run(layer_gradient(function, dy, y), windows, size, True)


def _fixed_windows(function, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Returns the images and the windows of avg_pool2d along both axes."""
    ceil_mode, count_include_pad = bool(ceil_mode), bool(count_include_pad)
    pairs = _core.pool_windows(function, (kernel_size, stride, padding, 1))
    if divisor_override is not None:
        divisor_override = integer_argument(function, "divisor_override", divisor_override)
        if divisor_override == 0 or abs(divisor_override) >= 2**63:
            value = integer_text(divisor_override)
            raise ValueError(_errors.POOL_DIVISOR.format(function=function, value=value))
    x, counts = _core.pool_images(function, x, pairs, ceil_mode)
    sides = zip(x.shape[-2:], *pairs[:3], counts, strict=True)
    windows = [_fixed_spans(*side, count_include_pad) for side in sides]
    if divisor_override is not None:
        windows = [
            side._replace(sizes=np.full(len(side.spans), divisor, np.float64))
            for side, divisor in zip(windows, (divisor_override, 1), strict=True)
        ]
    return x, windows


@functools.lru_cache(32)  # finding the windows can take longer than pooling
def _fixed_spans(size, kernel, stride, padding, count, count_include_pad):
    begins = np.arange(count, dtype=np.int64) * stride - padding
    ends = np.minimum(begins + kernel, size + padding)
    inside = np.stack((np.maximum(begins, 0), np.minimum(ends, size)), axis=1)
    sizes = ends - begins if count_include_pad else inside[:, 1] - inside[:, 0]
    return _Windows(inside, sizes.astype(np.float64))


def _adaptive_windows(function, x, output_size):
    """Returns the images and the windows of adaptive_avg_pool2d along both axes."""
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    if len(sizes) != 2:
        value = integer_text(output_size)
        raise ValueError(_errors.NOT_A_PAIR.format(function=function, name="output_size", value=value))
    counts = [size if size is None else _core.pair_argument(function, "output_size", size, 0)[0] for size in sizes]
    x, _ = _core.pool_images(function, x, (1, 1, 0, 1), False)
    sides = zip(x.shape[-2:], counts, strict=True)
    return x, [_adaptive_spans(size, size if count is None else count) for size, count in sides]


@functools.lru_cache(32)
def _adaptive_spans(size, count):
    numbers = np.arange(count, dtype=np.int64)
    spans = np.stack((numbers * size // max(count, 1), -(-(numbers + 1) * size // max(count, 1))), axis=1)
    return _Windows(spans, (spans[:, 1] - spans[:, 0]).astype(np.float64))


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: SupportsIndex | None = None,
) -> NDArray[Any]:
    """Mean of each window of an image, as in torch.nn.functional.avg_pool2d.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        float32 or float64. Never modified.
    kernel_size : int or pair of int
        A pair is (height, width).
    stride : int or pair of int, optional
        Defaults to kernel_size.
    padding : int or pair of int
        Zeros on each side, at most half of kernel_size.
    ceil_mode : bool
        Whether to keep windows that extend beyond the padded image. They must begin in it.
    count_include_pad : bool
        Whether the zeros of the padding count in the divisor.
    divisor_override : int, optional
        The divisor of all windows, not 0. Default: the number of pixels of the window.

    Returns
    -------
    numpy.ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Has the dtype of x. Sums are calculated in float64.

    Raises
    ------
    TypeError
        x is not float32 or float64, or a number is not an integer.
    ValueError
        Ranks or sizes do not fit, the padding is too large, the divisor is 0, or the output would be empty.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    windows = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return _pooled(*_fixed_windows("avg_pool2d", x, *windows))


def avg_pool2d_vjp(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: SupportsIndex | None = None,
) -> tuple[NDArray[Any], Callable[[Array], NDArray[Any]]]:
    """avg_pool2d and its pullback.

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in cossim.nn.avg_pool2d.

    Returns
    -------
    y : numpy.ndarray
        avg_pool2d of the arguments.
    pullback : callable
        ``pullback(dy)`` returns dx. Each pixel of a window gets an equal share of the window's gradient.

    Raises
    ------
    TypeError, ValueError
        As in avg_pool2d. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.avg_pool2d_vjp(np.array([[[1.0, 2.0], [2.0, 0.0]]]), 2)
    >>> pullback(np.array([[[4.0]]]))
    array([[[1., 1.],
            [1., 1.]]])
    """
    windows = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return _pooled_vjp("avg_pool2d_vjp", *_fixed_windows("avg_pool2d_vjp", x, *windows))


def adaptive_avg_pool2d(x: Array, output_size: _OutputSize) -> NDArray[Any]:
    """Mean of the windows that make a result of the given size, as in torch.nn.functional.adaptive_avg_pool2d.

    Window i of n along a side of length L covers the pixels from floor(i L / n) to below ceil((i + 1) L / n).

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        float32 or float64. Never modified.
    output_size : int, None, or a pair of them
        Height and width of the result, which may be larger than x. None keeps the size of x.

    Returns
    -------
    numpy.ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Has the dtype of x. Sums are calculated in float64.

    Raises
    ------
    TypeError
        x is not float32 or float64, or a size is not an integer.
    ValueError
        x has another rank or no pixels, or a size is below 0.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.adaptive_avg_pool2d(np.arange(9.0).reshape(1, 3, 3), (1, 2))
    array([[[3.5, 4.5]]])
    """
    return _pooled(*_adaptive_windows("adaptive_avg_pool2d", x, output_size))


def adaptive_avg_pool2d_vjp(x: Array, output_size: _OutputSize) -> tuple[NDArray[Any], Callable[[Array], NDArray[Any]]]:
    """adaptive_avg_pool2d and its pullback.

    Parameters
    ----------
    x, output_size
        As in cossim.nn.adaptive_avg_pool2d.

    Returns
    -------
    y : numpy.ndarray
        adaptive_avg_pool2d of the arguments.
    pullback : callable
        ``pullback(dy)`` returns dx. Each pixel of a window gets an equal share of the window's gradient.

    Raises
    ------
    TypeError, ValueError
        As in adaptive_avg_pool2d. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.adaptive_avg_pool2d_vjp(np.ones((1, 2, 2)), 1)
    >>> pullback(np.array([[[4.0]]]))
    array([[[1., 1.],
            [1., 1.]]])
    """
    return _pooled_vjp("adaptive_avg_pool2d_vjp", *_adaptive_windows("adaptive_avg_pool2d_vjp", x, output_size))


class AvgPool2d(FunctionLayer):
    """avg_pool2d with stored arguments, as in torch.nn.AvgPool2d.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in cossim.nn.avg_pool2d.

    Raises
    ------
    TypeError, ValueError
        As in avg_pool2d, raised when the layer is called.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.AvgPool2d(2)(np.zeros((1, 1, 4, 4))).shape
    (1, 1, 2, 2)
    """

    _functions = avg_pool2d, avg_pool2d_vjp
    _options = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: SupportsIndex | None = None,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def _arguments_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(FunctionLayer):
    """adaptive_avg_pool2d with a stored size, as in torch.nn.AdaptiveAvgPool2d.

    Parameters
    ----------
    output_size
        As in cossim.nn.adaptive_avg_pool2d. 1 gives the mean of each channel.

    Raises
    ------
    TypeError, ValueError
        As in adaptive_avg_pool2d, raised when the layer is called.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.AdaptiveAvgPool2d(1)(np.zeros((2, 8, 5, 7))).shape
    (2, 8, 1, 1)
    """

    _functions = adaptive_avg_pool2d, adaptive_avg_pool2d_vjp
    _options = ("output_size",)

    def __init__(self, output_size: _OutputSize) -> None:
        self.output_size = output_size
