"""Layers as objects that hold their parameters, with torch's constructor arguments, reprs and state_dict keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cossim import _core, _errors
from cossim._arguments import integer_argument, integer_text, length_argument
from cossim._arithmetic import fixed_arithmetic
from cossim._errors import described
from cossim.nn import functional, gradients
from cossim.nn.arguments import check_size, dtype_argument
from cossim.nn.module import ArrayLayer, FunctionLayer, with_names, without_parameters

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from cossim._typing import Array, ArrayOrScalar, Pair, Pullback, Seed


def _uniform(rng, shape, fan_in, dtype):
    """torch's default for weights and biases: uniform in [-b, b] with b = 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return rng.uniform(-bound, bound, shape).astype(dtype)


class Conv2d(ArrayLayer):
    """conv2d with its own weight and bias, as in torch.nn.Conv2d.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation, groups
        As in cossim.nn.conv2d.
    bias : bool
        Whether the layer has a bias.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        Values of the padding outside the image.
    dtype : float32 or float64
        The dtype of the parameters, which the images must share.
    rng : int or numpy.random.Generator, optional
        Seed or source of the initial values. As in torch, they are uniform in [-b, b] with
        b = 1 / sqrt(in_channels / groups * KH * KW).

    Raises
    ------
    TypeError, ValueError
        As in torch: groups does not divide the channels, a number is out of range, or a name is unknown.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.Conv2d(1, 10, 5)(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10, 24, 24)
    """

    padding: tuple[int, int] | Literal["same", "valid"]
    weight: NDArray[Any]
    bias: NDArray[Any] | None

    parameter_names = ("weight", "bias")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | Literal["same", "valid"] = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        dtype: DTypeLike = np.float32,
        rng: Seed | None = None,
    ) -> None:
        in_channels = length_argument("Conv2d", "in_channels", in_channels)
        out_channels = length_argument("Conv2d", "out_channels", out_channels)
        groups = length_argument("Conv2d", "groups", groups)
        if in_channels % groups or out_channels % groups:
            channels = {"in_channels": in_channels, "out_channels": out_channels}
            raise ValueError(_errors.LAYER_GROUPS.format(groups=groups, **channels))
        _check_padding_mode(padding_mode)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _core.pair_argument("Conv2d", "kernel_size", kernel_size, 1)
        sizes = in_channels // groups, out_channels, *self.kernel_size
        check_size("Conv2d", "in_channels / groups * out_channels * kernel_size", *sizes)
        options = _core.conv2d_options("Conv2d", stride, padding, dilation, groups)
        self.stride, self.padding, self.dilation, self.groups = options
        self.padding_mode = padding_mode
        rng = np.random.default_rng(rng)
        fan_in = in_channels // groups * math.prod(self.kernel_size)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = _uniform(rng, shape, fan_in, dtype_argument(dtype))
        self.bias = _uniform(rng, out_channels, fan_in, dtype_argument(dtype)) if bias else None

    def _arguments(self, x):
        _check_padding_mode(self.padding_mode)  # the attribute may have changed since the constructor
        return x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups

    def _padded(self, x):
        """Returns the arguments of the same convolution with the padding written into x, and the padding.

        Zero padding is left to the convolution. The padding is ((top, left), (bottom, right)), or None.
        """
        arguments = gradients.conv2d_arguments(*self._arguments(x))
        if self.padding_mode == "zeros":
            return arguments, None
        padding = _core.conv2d_padding(arguments)
        x, weight, bias, stride, _, dilation, groups = arguments
        return (_pad(x, padding, self.padding_mode), weight, bias, stride, (0, 0), dilation, groups), padding

    def forward(self, x: Array) -> NDArray[Any]:
        """conv2d of x with this layer's parameters: same as layer(x). x is (N, C, H, W) or (C, H, W)."""
        arguments = self._arguments(x) if self.padding_mode == "zeros" else self._padded(x)[0]
        return functional.conv2d(*arguments)

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        return self._vjp(x)

    def _vjp(self, x, relu=False, pool=False):
        """As vjp. relu and pool say whether ReLU and 2 x 2 max pooling follow the layer."""
        (arguments, padding), mode = self._padded(x), self.padding_mode
        y, pullback_padded = gradients._conv2d_vjp(arguments, relu, pool)

        def pullback(dy, input_gradient=True):
            dx, *parameter_gradients = pullback_padded(dy, input_gradient)
            if dx is not None and padding is not None:
                dx = _fold_border(dx, padding, mode)
            return dx, *parameter_gradients

        return y, with_names(self.parameter_names, pullback)

    def _arguments_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        shown: dict[str, Any] = {"padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        shown |= {"bias": self.bias is not None, "padding_mode": self.padding_mode}
        usual = ((0, 0), (1, 1), 1, True, "zeros")
        changed = (item for item, value in zip(shown.items(), usual, strict=True) if item[1] != value)
        return text + "".join(f", {name}={value}" for name, value in changed)


# padding modes: torch's name to NumPy's name
_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _check_padding_mode(mode):
    if not isinstance(mode, str) or mode not in _PAD_MODES:
        raise ValueError(_errors.PADDING_MODE.format(modes=", ".join(_PAD_MODES), mode=mode))


def _pad(images, padding, mode):
    """np.pad of the last two dimensions by ((top, left), (bottom, right)) pixels.

    Raises an error where the image is too small for the mode, as torch does; np.pad would reflect a second time.
    "reflect" pads by at most size - 1 pixels, "circular" by at most size.
    """
    margin = {"reflect": 1, "circular": 0}.get(mode)
    image, widths = images.shape[-2:], list(zip(*padding, strict=True))
    for size, width in zip(image, widths, strict=True):
        if max(width) > 0 and (size == 0 or (margin is not None and max(width) > size - margin)):
            raise ValueError(_errors.PADDING_MODE_TOO_LARGE.format(padding=width, mode=mode, size=image))
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + widths, _PAD_MODES[mode])


def _fold_border(dx, padding, mode):
    """Gradient of _pad: adds the gradient of each padding pixel to that of the image pixel it repeats.

    dx has the shape of the padded images; the result has the shape of the images.
    """
    image = tuple(size - sum(width) for size, width in zip(dx.shape[-2:], zip(*padding, strict=True), strict=True))
    pixels = np.arange(math.prod(image)).reshape(image)
    sources = _pad(pixels, padding, mode).reshape(-1)
    folded = np.zeros((math.prod(dx.shape[:-2]), pixels.size), dx.dtype)
    with fixed_arithmetic():
        np.add.at(folded, (slice(None), sources), dx.reshape(len(folded), sources.size))
    return folded.reshape(*dx.shape[:-2], *image)


class MaxPool2d(FunctionLayer):
    """max_pool2d with stored arguments, as in torch.nn.MaxPool2d.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, return_indices, ceil_mode
        As in cossim.nn.max_pool2d.

    Raises
    ------
    TypeError, ValueError
        As in max_pool2d, raised when the layer is called.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.MaxPool2d(2)(np.zeros((1, 1, 4, 4))).shape
    (1, 1, 2, 2)
    """

    _functions = functional.max_pool2d, gradients.max_pool2d_vjp
    _options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    if TYPE_CHECKING:
        # Any: with return_indices the result is a pair of arrays.
        def __call__(self, x: Array) -> ArrayOrScalar[Any]: ...

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, x: Array) -> ArrayOrScalar[Any]:
        """max_pool2d of x: same as layer(x). x is (N, C, H, W) or (C, H, W)."""
        return functional.max_pool2d(x, *self._arguments(), self.return_indices)

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        if self.return_indices:
            raise TypeError(_errors.POOL_INDICES)
        return super().vjp(x)


class ReLU(FunctionLayer):
    """max(x, 0) of each element, as in torch.nn.ReLU without inplace.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    _functions = functional.relu, gradients.relu_vjp


class Flatten(ArrayLayer):
    """Merges dimensions start_dim to end_dim into one, as torch.nn.Flatten does.

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last dimension to merge. Negative numbers count from the end.

    Raises
    ------
    numpy.exceptions.AxisError
        A dimension is out of range.
    ValueError
        end_dim is before start_dim.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.Flatten()(np.zeros((2, 20, 4, 4))).shape
    (2, 320)
    """

    _options = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Array) -> NDArray[Any]:
        """x with the dimensions merged: same as layer(x). x has any shape and any dtype of real numbers."""
        dims = tuple(integer_argument("Flatten", name, getattr(self, name)) for name in self._options)
        x = _core.as_array("Flatten", "x", x)
        range_ = max(x.ndim, 1)
        for dim in dims:
            if not -range_ <= dim < range_:
                message = _errors.FLATTEN_DIM.format(
                    dim=integer_text(dim), least=-range_, most=range_ - 1, arrays=described(x=x)
                )
                raise np.exceptions.AxisError(message)
        start, end = (dim % range_ for dim in dims)
        if end < start:
            message = _errors.FLATTEN_ORDER.format(end=dims[1], start=dims[0], arrays=described(x=x))
            raise ValueError(message)
        middle = x.shape[start : end + 1]
        return x.reshape(*x.shape[:start], math.prod(middle), *x.shape[end + 1 :])

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        x = _core.as_array("Flatten", "x", x)
        y = self.forward(x)
        return y, without_parameters(lambda dy: gradients._gradient("Flatten.vjp", dy, y).reshape(x.shape))


class Linear(ArrayLayer):
    """linear with its own weight and bias, as in torch.nn.Linear.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether the layer has a bias.
    dtype : float32 or float64
        The dtype of the parameters, which the input must share.
    rng : int or numpy.random.Generator, optional
        Seed or source of the initial values. As in torch, they are uniform in [-b, b] with b = 1 / sqrt(in_features).

    Raises
    ------
    TypeError, ValueError
        A size is not an integer of at least 0.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.Linear(320, 100)(np.zeros((2, 320), np.float32)).shape
    (2, 100)
    """

    weight: NDArray[Any]
    bias: NDArray[Any] | None

    parameter_names = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        rng: Seed | None = None,
    ) -> None:
        self.in_features = in_features = length_argument("Linear", "in_features", in_features, 0)
        self.out_features = out_features = length_argument("Linear", "out_features", out_features, 0)
        check_size("Linear", "in_features * out_features", in_features, out_features)
        rng = np.random.default_rng(rng)
        self.weight = _uniform(rng, (out_features, in_features), in_features, dtype_argument(dtype))
        self.bias = _uniform(rng, out_features, in_features, dtype_argument(dtype)) if bias else None

    def forward(self, x: Array) -> NDArray[Any]:
        """linear of x with this layer's parameters: same as layer(x). x is (..., in_features)."""
        return functional.linear(x, self.weight, self.bias)

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        return self._vjp(x)

    def _vjp(self, x, relu=False):
        """As vjp. With relu=True, ReLU follows the layer."""
        y, pullback = gradients._linear_vjp(x, self.weight, self.bias, relu)
        return y, with_names(self.parameter_names, pullback)

    def _arguments_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


# The layers that the core runs as a network, in the order of enum layer_kind in csrc/network/shapes.h.
NETWORK_LAYERS = (Conv2d, Linear, MaxPool2d, ReLU, Flatten)
