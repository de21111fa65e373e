"""Leaky ReLU, GELU and dropout: functions, pullbacks and layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cossim import _core, _errors
from cossim._arguments import plain_text
from cossim._arithmetic import fixed_arithmetic
from cossim.nn.arguments import layer_arrays, layer_gradient, probability_argument, real_argument
from cossim.nn.module import ArrayLayer, FunctionLayer, without_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Array, ArrayOrScalar, Number, Pullback, Seed


def _activation_vjp(function, name, x, slope=0.0):
    y = _core.activation(name, x, None, slope=slope)
    return y, lambda dy: _core.activation(name, x, layer_gradient(function, dy, y), slope=slope)


def leaky_relu(x: Array, negative_slope: Number = 0.01) -> ArrayOrScalar[Any]:
    """x where x is above 0, else negative_slope * x, as in torch.nn.functional.leaky_relu.

    Parameters
    ----------
    x : array_like
        float32 or float64, of any shape. Never modified.
    negative_slope : float
        The factor of elements that are not above 0.

    Returns
    -------
    numpy.ndarray
        Has the shape and dtype of x. NaN stays NaN.

    Raises
    ------
    TypeError
        x is not float32 or float64, or negative_slope is not a number.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.leaky_relu(np.array([-1.0, 0.0, 2.0]))
    array([-0.01,  0.  ,  2.  ])
    """
    slope = real_argument("leaky_relu", "negative_slope", negative_slope)
    return _core.activation("leaky_relu", layer_arrays("leaky_relu", x=x)["x"], None, slope=slope)


def leaky_relu_vjp(
    x: Array, negative_slope: Number = 0.01
) -> tuple[ArrayOrScalar[Any], Callable[[Array], ArrayOrScalar[Any]]]:
    """leaky_relu and its pullback.

    Parameters
    ----------
    x, negative_slope
        As in cossim.nn.leaky_relu. Do not change x before the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        leaky_relu of x.
    pullback : callable
        ``pullback(dy)`` returns dx, as in torch: dy where x is above 0, else negative_slope * dy.

    Raises
    ------
    TypeError, ValueError
        As in leaky_relu. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.leaky_relu_vjp(np.array([-1.0, 2.0]), 0.1)
    >>> pullback(np.array([1.0, 1.0]))
    array([0.1, 1. ])
    """
    slope = real_argument("leaky_relu_vjp", "negative_slope", negative_slope)
    return _activation_vjp("leaky_relu_vjp", "leaky_relu", layer_arrays("leaky_relu_vjp", x=x)["x"], slope)


def _gelu_name(function, approximate):
    if isinstance(approximate, str):
        approximate = plain_text(approximate)
        if approximate in ("none", "tanh"):
            return "gelu" if approximate == "none" else "gelu_tanh"
    raise ValueError(_errors.GELU.format(function=function, approximate=approximate))


def gelu(x: Array, approximate: Literal["none", "tanh"] = "none") -> ArrayOrScalar[Any]:
    """x times the normal distribution function of x, as in torch.nn.functional.gelu.

        "none"    x * (1 + erf(x / sqrt(2))) / 2
        "tanh"    x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2

    (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.)

    Parameters
    ----------
    x : array_like
        float32 or float64, of any shape. Never modified.
    approximate : "none" or "tanh"

    Returns
    -------
    numpy.ndarray
        Has the shape and dtype of x. The error is at most 10 units in the last place ("tanh" in float64: more
        where the result is tiny). Results of negative x keep their relative precision, where torch's sums cancel.

    Raises
    ------
    TypeError
        x is not float32 or float64.
    ValueError
        approximate is unknown.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.gelu(np.array([-1.0, 0.0, 2.0])).round(4)
    array([-0.1587,  0.    ,  1.9545])
    """
    name = _gelu_name("gelu", approximate)
    return _core.activation(name, layer_arrays("gelu", x=x)["x"], None)


def gelu_vjp(
    x: Array, approximate: Literal["none", "tanh"] = "none"
) -> tuple[ArrayOrScalar[Any], Callable[[Array], ArrayOrScalar[Any]]]:
    """gelu and its pullback.

    Parameters
    ----------
    x, approximate
        As in cossim.nn.gelu. Do not change x before the last call of the pullback.

    Returns
    -------
    y : numpy.ndarray
        gelu of x.
    pullback : callable
        ``pullback(dy)`` returns dx.

    Raises
    ------
    TypeError, ValueError
        As in gelu. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.gelu_vjp(np.array([0.0, 10.0]))
    >>> pullback(np.array([1.0, 1.0]))
    array([0.5, 1. ])
    """
    name = _gelu_name("gelu_vjp", approximate)
    return _activation_vjp("gelu_vjp", name, layer_arrays("gelu_vjp", x=x)["x"])


def dropout(x: Array, p: Number = 0.5, training: bool = True, *, rng: Seed | None = None) -> ArrayOrScalar[Any]:
    """Replaces elements by 0 with probability p and divides the others by 1 - p, as in torch.nn.functional.dropout.

    Parameters
    ----------
    x : array_like
        float32 or float64, of any shape. Never modified.
    p : float
        From 0 to 1.
    training : bool
        Whether to drop elements. Otherwise the result is a copy of x.
    rng : int or numpy.random.Generator, optional
        Seed or source of the random numbers.

    Returns
    -------
    numpy.ndarray
        Has the shape and dtype of x. A NaN or an infinity that is dropped gives NaN, as in torch.

    Raises
    ------
    TypeError
        x is not float32 or float64, or p is not a number.
    ValueError
        p is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.dropout(np.ones(8), 0.5, rng=0)
    array([2., 2., 2., 0., 0., 0., 0., 0.])
    """
    return dropout_vjp(x, p, training, rng=rng)[0]


def dropout_vjp(
    x: Array, p: Number = 0.5, training: bool = True, *, rng: Seed | None = None
) -> tuple[ArrayOrScalar[Any], Callable[[Array], ArrayOrScalar[Any]]]:
    """dropout and its pullback.

    Parameters
    ----------
    x, p, training, rng
        As in cossim.nn.dropout.

    Returns
    -------
    y : numpy.ndarray
        dropout of x.
    pullback : callable
        ``pullback(dy)`` returns dx: dy / (1 - p), and 0 for the elements that were dropped.

    Raises
    ------
    TypeError, ValueError
        As in dropout. The pullback raises them where dy does not have the dtype or shape of y.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> y, pullback = cossim.nn.dropout_vjp(np.ones(4), 0.5, rng=0)
    >>> bool((pullback(np.ones(4)) == y).all())
    True
    """
    p, training = probability_argument("dropout", "p", p), bool(training)
    x = layer_arrays("dropout", x=x)["x"]
    factors = x.dtype.type(1)
    with fixed_arithmetic():
        if training and p > 0:
            kept = np.random.default_rng(rng).random(x.shape, np.float32) >= p
            factors = kept * x.dtype.type(1 / (1 - p) if p < 1 else 0)
        y = np.asarray(x * factors)

    def pullback(dy):
        dy = layer_gradient("dropout_vjp", dy, y)
        with fixed_arithmetic():
            return dy * factors

    return y[()], pullback


class LeakyReLU(FunctionLayer):
    """leaky_relu with a stored slope, as in torch.nn.LeakyReLU without inplace.

    Parameters
    ----------
    negative_slope : float

    Raises
    ------
    TypeError
        negative_slope is not a number.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.LeakyReLU(0.1)(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    _functions = leaky_relu, leaky_relu_vjp
    _options = ("negative_slope",)

    def __init__(self, negative_slope: Number = 0.01) -> None:
        self.negative_slope = real_argument("LeakyReLU", "negative_slope", negative_slope)


class GELU(FunctionLayer):
    """gelu with a stored formula, as in torch.nn.GELU.

    Parameters
    ----------
    approximate : "none" or "tanh"
        As in cossim.nn.gelu.

    Raises
    ------
    ValueError
        approximate is unknown, raised when the layer is called.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> cossim.nn.GELU()(np.array([-1.0, 2.0])).round(4)
    array([-0.1587,  1.9545])
    """

    _functions = gelu, gelu_vjp
    _options = ("approximate",)

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self.approximate = approximate

    def _arguments_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Dropout(ArrayLayer):
    """dropout in training mode, as in torch.nn.Dropout without inplace. After eval() the layer returns its input.

    Parameters
    ----------
    p : float
        Probability with which an element is dropped, from 0 to 1.
    rng : int or numpy.random.Generator, optional
        Seed or source of the random numbers. The layer draws new numbers in each call.

    Raises
    ------
    TypeError, ValueError
        p is not a number from 0 to 1.

    Examples
    --------
    >>> import numpy as np, cossim.nn
    >>> layer = cossim.nn.Dropout(0.5, rng=0)
    >>> layer(np.ones(4)), layer.eval()(np.ones(4))
    (array([2., 2., 2., 0.]), array([1., 1., 1., 1.]))
    """

    p: float

    def __init__(self, p: Number = 0.5, *, rng: Seed | None = None) -> None:
        self.p = probability_argument("Dropout", "p", p)
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Array) -> NDArray[Any]:
        """dropout of x: same as layer(x). x has any shape."""
        return dropout(x, self.p, self.training, rng=self.rng)

    def vjp(self, x: Array) -> tuple[NDArray[Any], Pullback]:
        y, pullback = dropout_vjp(x, self.p, self.training, rng=self.rng)
        return y, without_parameters(pullback)

    def _arguments_repr(self) -> str:
        return f"p={self.p}, inplace=False"
