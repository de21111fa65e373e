"""Batch normalization: the function, its pullback and the layer. The C core runs the loops over the elements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _core, _errors
from cossim._arguments import length_argument
from cossim._arithmetic import fixed_arithmetic
from cossim._errors import described
from cossim.nn.arguments import check_size, dtype_argument, layer_arrays, layer_gradient, real_argument
from cossim.nn.module import ArrayLayer, with_names

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from cossim._typing import Array, Number, ParametersPullback, Pullback


class _Normalized(NamedTuple):
    """A checked call of batch_norm with the statistics that it subtracts and divides by.

    x is (N, C, P), contiguous. mean and inverse, 1 / sqrt(variance + eps), are float64 of shape (C,).
    of_batch: whether mean and variance are the statistics of x, and so have a gradient.
    """

    x: np.ndarray
    shape: tuple
    weight: np.ndarray | None
    bias: np.ndarray | None
    mean: np.ndarray
    inverse: np.ndarray
    of_batch: bool

    def run(self):
        with fixed_arithmetic():
            factors = np.zeros((len(self.mean), 3), np.float64)
            factors[:, 0] = self.inverse if self.weight is None else self.inverse * self.weight
            if self.bias is not None:
                factors[:, 2] = self.bias
        return _core.channel_affine(self.x, None, self.mean, factors).reshape(self.shape)


def _normalized(x, running_mean, running_var, weight, bias, training, momentum, eps):
    """Checks a call of batch_norm. In training, also updates the running statistics, which must be arrays."""
    training = bool(training)
    momentum, eps = real_argument("batch_norm", "momentum", momentum), real_argument("batch_norm", "eps", eps)
    if not (eps > 0 if training else eps >= 0) or eps == math.inf:
        raise ValueError(_errors.BATCH_NORM_EPS.format(eps=eps))
    running = {"running_mean": running_mean, "running_var": running_var}
    if training:
        _check_updatable({name: array for name, array in running.items() if array is not None})
    arrays = layer_arrays("batch_norm", channels=True, x=x, **running, weight=weight, bias=bias)
    x = arrays["x"]
    if not training and (running_mean is None or running_var is None):
        raise ValueError(_errors.BATCH_NORM_STATISTICS)
    images = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    count = len(x) * images.shape[2]
    if training and count == 1:
        raise ValueError(_errors.BATCH_NORM_ONE.format(arrays=described(x=x)))
    if training:
        mean, variance = _statistics(images, count)
        _update(running, {"running_mean": mean, "running_var": variance}, momentum, count)
    else:
        mean, variance = (arrays[name].astype(np.float64) for name in running)
    with fixed_arithmetic():
        inverse = 1 / np.sqrt(variance + eps)
    return _Normalized(images, x.shape, arrays.get("weight"), arrays.get("bias"), mean, inverse, training)


def _check_updatable(running):
    for name, array in running.items():
        if not isinstance(array, np.ndarray):
            kind = type(array).__name__
            raise TypeError(_errors.NOT_A_PARAMETER.format(function="batch_norm", name=name, kind=kind))
        if not array.flags.writeable:
            problem = _errors.READ_ONLY.format(name=name)
            raise ValueError(_errors.PROBLEMS.format(function="batch_norm", problems=problem))


def _statistics(images, count):
    """Mean and variance (of the population) of each channel, float64."""
    mean, sums = np.empty(images.shape[1], np.float64), np.empty((images.shape[1], 2), np.float64)
    _core.channel_statistics(images, mean, sums)
    rest, squares = sums.T
    with fixed_arithmetic():
        return mean, (squares - rest * rest / count) / count


def _update(running, found, momentum, count):
    with fixed_arithmetic():
        for name, array in running.items():
            if array is not None and count:
                value = found[name] * (count / (count - 1)) if name == "running_var" else found[name]
                array[...] = (1 - momentum) * array.astype(np.float64) + momentum * value


def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: Number = 0.1,
    eps: Number = 1e-5,
) -> NDArray[Any]:
    """Batch normalization of each channel, as in torch.nn.functional.batch_norm.

        out[:, c] = (x[:, c] - mean[c]) / sqrt(variance[c] + eps) * weight[c] + bias[c]

    In training, mean and variance are those of channel c over all images and pixels. Otherwise they are running_mean
    and running_var. (Ioffe and Szegedy, "Batch Normalization", 2015.)

    Parameters
    ----------
    x : array_like, shape (N, C, ...)
        float32 or float64. Never modified.
    running_mean, running_var : array_like, shape (C,), or None
        Have the dtype of x. In training they must be NumPy arrays, and are updated in place with the statistics of x:
        ``running = (1 - momentum) * running + momentum * found``. The variance found is the unbiased one. With None,
        training updates nothing.
    weight, bias : array_like, shape (C,), optional
        Have the dtype of x.
    training : bool
        Whether to use the statistics of x.
    momentum, eps : float
        eps is above 0 in training and at least 0 otherwise.

    Returns
    -------
    numpy.ndarray
        Has the shape and dtype of x. Statistics and results are calculated in float64 and rounded once.

    Raises
    ------
    TypeError
        An array is not float32 or float64, or the dtypes differ.
    ValueError
        Shapes do not fit, eps is out of range, a channel has a single value in training, or the running statistics
        are missing or read-only.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> x = np.array([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])  # two images of one channel
    >>> mean, variance = np.zeros(1), np.ones(1)
    >>> cossim.nn.batch_norm(x, mean, variance, training=True).ravel().round(3)
    array([-1.342, -0.447,  0.447,  1.342])
    >>> mean
    array([0.25])
    """
    return _normalized(x, running_mean, running_var, weight, bias, training, momentum, eps).run()


def batch_norm_vjp(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: Number = 0.1,
    eps: Number = 1e-5,
) -> tuple[NDArray[Any], ParametersPullback[Any, Any]]:
    """batch_norm and its pullback.

    Parameters
    ----------
    x, running_mean, running_var, weight, bias, training, momentum, eps
        As in cossim.nn.batch_norm, which updates the running statistics in training. Do not change x and weight before
        the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        batch_norm of the arguments.
    pullback : callable
        ``pullback(dy, input_gradient=True)`` returns ``(dx, dweight, dbias)``. In training, dx includes the derivative
        of the statistics of x. With input_gradient=False, dx is None. Without weight or bias, its gradient is None.

    Raises
    ------
    TypeError, ValueError
        As in batch_norm. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> x, ones = np.array([[[[1.0, 2.0]]], [[[3.0, 4.0]]]]), np.ones(1)
    >>> y, pullback = cossim.nn.batch_norm_vjp(x, None, None, ones, ones, training=True)
    >>> dx, dweight, dbias = pullback(np.ones_like(y))
    >>> dbias
    array([4.])
    """
    call = _normalized(x, running_mean, running_var, weight, bias, training, momentum, eps)
    return _normalized_vjp("batch_norm_vjp", call)


def _normalized_vjp(function, call):
    """Returns the result of a call and its pullback."""
    y = call.run()

    def pullback(dy, input_gradient=True):
        return _pulled(call, layer_gradient(function, dy, y).reshape(call.x.shape), input_gradient)

    return y, pullback


def _pulled(call, dy, input_gradient):
    """Returns (dx, dweight, dbias).

    With v = x - mean, dx is linear in dy and v:
    dx = inverse * weight * (dy - mean of dy - v * inverse**2 * mean of v * dy).
    In evaluation, the terms with a mean are left out.
    """
    sums, products = _core.channel_sums(call.x, dy, call.mean).T
    count = call.x.shape[0] * call.x.shape[2]
    with fixed_arithmetic():
        dweight = None if call.weight is None else (products * call.inverse).astype(dy.dtype)
        dbias = None if call.bias is None else sums.astype(dy.dtype)
        scale = call.inverse if call.weight is None else call.inverse * call.weight
        of_x = of_one = np.zeros_like(scale)
        if call.of_batch and count:
            of_x, of_one = -scale * call.inverse**2 * products / count, -scale * sums / count
        factors = np.stack((of_x, scale, of_one), axis=1)
    if not input_gradient:
        return None, dweight, dbias
    # In evaluation, dx does not depend on x. dy takes the place of x, because 0 * x could be NaN.
    x, centre = (call.x, call.mean) if call.of_batch else (dy, np.zeros_like(call.mean))
    return _core.channel_affine(x, dy, centre, factors).reshape(call.shape), dweight, dbias


class BatchNorm2d(ArrayLayer):
    """batch_norm of images with its own parameters and running statistics, as in torch.nn.BatchNorm2d.

    In training mode, the layer normalizes each channel by its mean and variance over the batch, and updates the running
    statistics. After eval() it normalizes by the running statistics, so the result of one image does not depend on
    others.

    Parameters
    ----------
    num_features : int
        Number of channels.
    eps : float
    momentum : float or None
        Weight of a new batch in the running statistics. None: they are the means over all batches.
    affine : bool
        Whether the layer has weight, which starts at 1, and bias, which starts at 0.
    track_running_stats : bool
        Whether the layer keeps running statistics. Without them it normalizes by the batch's statistics in both modes.
    bias : bool
        Whether an affine layer has a bias.
    dtype : float32 or float64
        The dtype of the parameters, which the images must share.

    Raises
    ------
    TypeError, ValueError
        As in batch_norm, when the layer is called, or num_features is not an integer of at least 0.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> layer = cossim.nn.BatchNorm2d(2)
    >>> y = layer(np.random.default_rng(0).random((8, 2, 5, 5), np.float32))
    >>> bool(abs(y.mean()) < 1e-6), int(layer.num_batches_tracked)
    (True, 1)
    """

    weight: NDArray[Any] | None
    bias: NDArray[Any] | None
    running_mean: NDArray[Any] | None
    running_var: NDArray[Any] | None
    num_batches_tracked: NDArray[np.int64] | None

    parameter_names = ("weight", "bias")
    buffer_names = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        eps: Number = 1e-5,
        momentum: Number | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = length_argument("BatchNorm2d", "num_features", num_features, 0)
        check_size("BatchNorm2d", "num_features", self.num_features)
        self.eps = real_argument("BatchNorm2d", "eps", eps)
        self.momentum = None if momentum is None else real_argument("BatchNorm2d", "momentum", momentum)
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        size, dtype, tracked = self.num_features, dtype_argument(dtype), self.track_running_stats
        self.weight = np.ones(size, dtype) if affine else None
        self.bias = np.zeros(size, dtype) if affine and bias else None
        self.running_mean = np.zeros(size, dtype) if tracked else None
        self.running_var = np.ones(size, dtype) if tracked else None
        self.num_batches_tracked = np.zeros((), np.int64) if tracked else None

    def _call(self, x):
        x = _core.as_array("BatchNorm2d", "x", x)
        if x.ndim != 4 or x.shape[1] != self.num_features:
            wanted = self.num_features
            raise ValueError(_errors.BATCH_NORM_CHANNELS.format(channels=wanted, arrays=described(x=x)))
        of_batch = self.training or self.running_mean is None or self.running_var is None
        updates = self.training and self.track_running_stats
        momentum, tracked = self.momentum, self.num_batches_tracked
        if momentum is None:
            with fixed_arithmetic():
                momentum = 1 / (int(tracked) + 1) if updates and tracked is not None else 0.0
        running = (self.running_mean, self.running_var) if updates or not of_batch else (None, None)
        call = _normalized(x, *running, self.weight, self.bias, of_batch, momentum, self.eps)
        if updates and tracked is not None:
            tracked += 1
        return call

    def forward(self, x: Array) -> NDArray[Any]:
        """batch_norm of images x (N, C, H, W): same as layer(x)."""
        return self._call(x).run()

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        y, pullback = _normalized_vjp("BatchNorm2d.vjp", self._call(x))
        return y, with_names(self.parameter_names, pullback)

    def _arguments_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
