"""Gradients of the similarities as pullbacks, which map the gradient of a result to the gradients of its operands.

Let u = x / max(|x|, eps) and s = u . v. Then du = ds v, summed over the axes along which x was broadcast, and

    dx = (du - u (u . du)) / |x|        if |x| >= eps
    dx = du / eps                       otherwise: the clamped norm is a constant

Sums over broadcast axes are computed as dot products (vecdot), so no array of the full broadcast shape is built.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import DEFAULT_DIM, UnpassedInt, dim_argument, dim_of_operands, eps_argument
from cossim._arithmetic import fixed_arithmetic
from cossim._errors import described
from cossim.vectors.similarity import broadcast_shape, clamp, is_clamped

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cossim._typing import Array, ArrayOrScalar, Axis, Dim, Float, Number


def _named(function, call, *arguments, **options):
    """Returns call(*arguments, **options). Its errors name `function`, which the user called."""
    try:
        return call(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace(call.__name__, function, 1)) from None


class _NormalizedVectors:
    """Vectors normalized along `dim`, and the pullback of the normalization."""

    def __init__(self, x, dim, eps):
        shape = list(x.shape)
        shape[dim] = 1
        norms = _core.vector_norm(x, dim, True, out=np.empty(shape, np.float64))
        info = np.finfo(x.dtype)
        with fixed_arithmetic():
            self.divisors, self.unclamped = clamp(norms, eps), ~is_clamped(norms, eps)
            # In x's dtype, a divisor below tiny would lose digits, and one above max would become infinite.
            if not ((self.divisors < info.tiny) | (self.divisors > info.max)).any():
                self.divisors = self.divisors.astype(x.dtype)
        self.dim, self.units = dim, _core.normalize(x, dim, eps)

    def pullback(self, du, total=False):
        """Returns dx for the gradient du of the normalized vectors. With total, returns the sum of dx along dim.

        The sum precedes the division by the norm, because the division can take single terms out of range.
        """
        with fixed_arithmetic():
            radial = np.expand_dims(_core.vecdot(self.units, du, self.dim), self.dim)
            # np.where, because 0 times an infinite radial would be NaN
            radial = np.where(self.unclamped, radial, radial.dtype.type(0))
            dx = du - self.units * radial
            return (dx.sum(self.dim, keepdims=True) if total else dx) / self.divisors


def _compute_dtype(dtype):
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def _cast(x, dtype):
    """Converts x to dtype without the warnings for overflow and for signaling NaNs."""
    with fixed_arithmetic():
        return x.astype(dtype, copy=False)


def _cast_like(gradient, x):
    """Returns gradient with the shape and dtype of the operand x, or float64 if x holds integers."""
    dtype = np.float64 if x.dtype.kind in "iub" else x.dtype.newbyteorder("=")
    return _cast(gradient.reshape(x.shape), dtype)


def gradient_argument(function, name, value, result, result_name):
    """Returns value as an array. Raises an error unless it has the shape and dtype of the result."""
    d = _core.as_array(function, name, value)
    if d.shape != result.shape or d.dtype.newbyteorder("=") != result.dtype.newbyteorder("="):
        arrays = described(**{name: d, result_name: result})
        message = _errors.WRONG_GRADIENT.format(function=function, name=name, result=result_name, arrays=arrays)
        raise (ValueError if d.shape != result.shape else TypeError)(message)
    return d


def _summed_product(d, units, axes, dim):
    """Returns d * units summed over axes, which do not include dim. d has size 1 along dim."""
    if not axes:
        with fixed_arithmetic():
            return d * units
    rest = [i for i in range(d.ndim) if i != dim and i not in axes]

    def rows(x):  # shape (*rest, dim, axes merged into one)
        x = x.transpose(*rest, dim, *axes)
        shape = x.shape[: len(rest) + 1]
        return x.reshape(*shape, math.prod(x.shape[len(shape) :]))

    sums = _core.vecdot(rows(d), rows(units))
    sums = sums.reshape(*sums.shape, *(1 for _ in axes))
    return sums.transpose(*np.argsort([*rest, dim, *axes]))


@overload
def cosine_similarity_vjp(
    x1: NDArray[Float], x2: NDArray[Float], dim: Dim = 1, eps: Number = _core.DEFAULT_EPS, *, axis: Axis = None
) -> tuple[ArrayOrScalar[Float], Callable[[Array], tuple[NDArray[Float], NDArray[Float]]]]: ...
@overload
def cosine_similarity_vjp(
    x1: Array, x2: Array, dim: Dim = 1, eps: Number = _core.DEFAULT_EPS, *, axis: Axis = None
) -> tuple[ArrayOrScalar[Any], Callable[[Array], tuple[NDArray[Any], NDArray[Any]]]]: ...
def cosine_similarity_vjp(
    x1: Array, x2: Array, dim: Dim = DEFAULT_DIM, eps: Number = _core.DEFAULT_EPS, *, axis: Axis = None
) -> tuple[ArrayOrScalar[Any], Callable[[Array], tuple[NDArray[Any], NDArray[Any]]]]:
    """Returns cosine_similarity(x1, x2, dim, eps) and its pullback (vector-Jacobian product).

    Parameters
    ----------
    x1, x2 : array_like
        Any shapes that broadcast against each other, as in cosine_similarity.
    dim : int
        The dimension of the broadcast shape that holds the vectors. If it is not passed, a broadcast shape with one
        dimension is one vector. axis is another name for it.
    eps : float
        The smallest norm to divide by.

    Returns
    -------
    y : numpy.ndarray or NumPy scalar
        cosine_similarity(x1, x2, dim, eps).
    pullback : callable
        pullback(dy) returns (dx1, dx2), the gradients of sum(dy * y). dy has the shape and dtype of y. dx1 and dx2
        have the shapes and dtypes of x1 and x2 (float64 for integers); they are summed over the axes along which the
        operands were broadcast. The pullback may be called any number of times.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cosine_similarity. pullback(dy) raises TypeError or ValueError if dy does not fit y.

    Notes
    -----
    float32 and float64 are computed in their own type, float16 and bfloat16 in float32 and rounded at the end. A norm
    below eps counts as a constant, which gives the exact gradient of the formula; torch's gradient differs there,
    except for zero vectors. Operands that broadcast against each other, such as z[None] and z[:, None], are never
    expanded to an array of the full broadcast shape.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> y, pullback = cossim.cosine_similarity_vjp(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
    >>> y
    array([0.96])
    >>> dx1, dx2 = pullback(np.array([1.0]))
    >>> dx1.round(4), dx2.round(4)
    (array([[ 0.0448, -0.0336]]), array([[-0.0336,  0.0448]]))
    """
    function = "cosine_similarity_vjp"
    if axis is not None:
        if not isinstance(dim, UnpassedInt):
            _named(function, _core.cosine_similarity, x1, x2, dim, axis=axis)  # raises TypeError
        dim = axis
    dim, eps = dim_argument(function, dim), eps_argument(function, eps)
    x1, x2 = _core.as_arrays(function, ("x1", "x2"), (x1, x2))
    dim = dim_of_operands(dim, max(x1.ndim, x2.ndim))
    y = _named(function, _core.cosine_similarity, x1, x2, dim, eps)
    shape = broadcast_shape(x1.shape, x2.shape, (1,))
    dim %= len(shape)
    operands = []
    for x in (x1, x2):
        aligned = _cast(x, _compute_dtype(y.dtype)).reshape((1,) * (len(shape) - x.ndim) + x.shape)
        vectors = [shape[dim] if i == dim else size for i, size in enumerate(aligned.shape)]
        operands.append((x, aligned.shape, _NormalizedVectors(np.broadcast_to(aligned, vectors), dim, eps)))

    def pullback(dy):
        d = _cast(gradient_argument(function, "dy", dy, y, "y"), _compute_dtype(y.dtype))
        d = np.expand_dims(d, dim)
        if 0 in shape:
            return tuple(_cast_like(np.zeros(x.shape), x) for x, _, _ in operands)
        gradients = []
        for (x, own, rows), (_, _, others) in (operands, operands[::-1]):
            axes = [i for i, size in enumerate(shape) if i != dim and own[i] == 1 != size]
            gradient = rows.pullback(_summed_product(d, others.units, axes, dim), own[dim] != shape[dim])
            gradients.append(_cast_like(gradient, x))
        return tuple(gradients)

    return y, pullback


@overload
def pairwise_vjp(
    x: NDArray[Float], y: None = None, *, eps: Number = _core.DEFAULT_EPS
) -> tuple[ArrayOrScalar[Float], Callable[[Array], NDArray[Float]]]: ...
@overload
def pairwise_vjp(
    x: NDArray[Float], y: NDArray[Float], *, eps: Number = _core.DEFAULT_EPS
) -> tuple[ArrayOrScalar[Float], Callable[[Array], tuple[NDArray[Float], NDArray[Float]]]]: ...
@overload
def pairwise_vjp(
    x: Array, y: None = None, *, eps: Number = _core.DEFAULT_EPS
) -> tuple[ArrayOrScalar[Any], Callable[[Array], NDArray[Any]]]: ...
@overload
def pairwise_vjp(
    x: Array, y: Array, *, eps: Number = _core.DEFAULT_EPS
) -> tuple[ArrayOrScalar[Any], Callable[[Array], tuple[NDArray[Any], NDArray[Any]]]]: ...
def pairwise_vjp(
    x: Array, y: Array | None = None, *, eps: Number = _core.DEFAULT_EPS
) -> tuple[ArrayOrScalar[Any], Callable[[Array], Any]]:
    """Returns pairwise(x, y, eps=eps) and its pullback (vector-Jacobian product).

    Parameters
    ----------
    x : array_like, shape (N, D) or (D,)
        Rows are vectors, as in pairwise.
    y : array_like, shape (M, D) or (D,), optional
        None means that x is compared with itself.
    eps : float
        The smallest norm to divide by.

    Returns
    -------
    S : numpy.ndarray, shape (N, M), or NumPy scalar
        pairwise(x, y, eps=eps). For one vector it lacks the axis, as in pairwise.
    pullback : callable
        pullback(dS) returns (dx, dy), the gradients of sum(dS * S). dS has the shape and dtype of S; dx and dy have
        the shapes and dtypes of x and y (float64 for integers). Without y it returns dx alone, which then includes
        the gradient of x as the right operand. The pullback may be called any number of times.

    Raises
    ------
    TypeError, ValueError
        As pairwise. pullback(dS) raises them if dS does not fit S.

    Notes
    -----
    Compute types and clamped norms are as in cosine_similarity_vjp.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> S, pullback = cossim.pairwise_vjp(np.array([[3.0, 4.0], [1.0, 0.0]]))
    >>> S
    array([[1. , 0.6],
           [0.6, 1. ]])
    >>> pullback(np.array([[0.0, 1.0], [0.0, 0.0]])).round(3)
    array([[ 0.128, -0.096],
           [ 0.   ,  0.8  ]])
    """
    function = "pairwise_vjp"
    eps = eps_argument(function, eps)
    x, y = (_core.as_array(function, "x", x), None) if y is None else _core.as_arrays(function, ("x", "y"), (x, y))
    scores = _named(function, _core.pairwise, x, y, eps=eps)
    dtype = _compute_dtype(scores.dtype)
    left = _NormalizedVectors(_cast(np.atleast_2d(x), dtype), 1, eps)
    right = left if y is None else _NormalizedVectors(_cast(np.atleast_2d(y), dtype), 1, eps)

    def product(d, rows):  # d @ rows.units
        return _core.vecdot(d[:, None], np.ascontiguousarray(rows.units.T)[None])

    def pullback(dS):  # noqa: N803
        d = _cast(gradient_argument(function, "dS", dS, scores, "S"), dtype)
        d = d.reshape(len(left.units), len(right.units))
        if d.size == 0:
            zeros = tuple(_cast_like(np.zeros(z.shape), z) for z in (x, y) if z is not None)
            return zeros if y is not None else zeros[0]
        if y is None:
            with fixed_arithmetic():
                return _cast_like(left.pullback(product(d + d.T, left)), x)
        return _cast_like(left.pullback(product(d, right)), x), _cast_like(right.pullback(product(d.T, left)), y)

    return scores, pullback
