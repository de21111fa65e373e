"""Gradients of the similarities, as pullbacks: from the gradient of a result to those of its operands.

With u = x / max(|x|, eps), a similarity s = u . v gives du = ds v, summed over whatever x was broadcast along, and

    dx = (du - u (u . du)) / |x|        where |x| >= eps
    dx = du / eps                       elsewhere: there the norm is a constant

Sums over broadcast axes are dot products (vecdot), so that no array of the broadcast shape with dim is built.
"""

import math

import numpy as np

from cossim import _core
from cossim._arguments import eps_argument, integer_argument
from cossim.vectors.similarity import broadcast_shape


class _Unpassed(int):
    """A default that can be told from the same number passed by the caller."""

    __slots__ = ()


_DIM = _Unpassed(1)


class _Rows:
    """Vectors along `dim`, normalised, and the way back through that."""

    def __init__(self, x, dim, eps):
        shape = list(x.shape)
        shape[dim] = 1
        norms = _core.vector_norm(x, dim, True, out=np.empty(shape, np.float64))
        self.clamped, self.kept = np.maximum(norms, eps), norms >= eps
        info = np.finfo(x.dtype)
        if not ((self.clamped < info.tiny) | (self.clamped > info.max)).any():  # else too few digits, or none
            self.clamped = self.clamped.astype(x.dtype)
        self.dim, self.units = dim, _core.normalize(x, dim, eps)

    def back(self, du, total=False):
        """dx; its sum along dim with total: before the division, by which terms may leave the range."""
        with np.errstate(all="ignore"):
            along = np.expand_dims(_core.vecdot(self.units, du, self.dim), self.dim)
            # not times 0: a vector that is clamped may meet one that is not finite
            along = np.where(self.kept, along, along.dtype.type(0))
            dx = du - self.units * along
            return (dx.sum(self.dim, keepdims=True) if total else dx) / self.clamped


def _work(dtype):
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def _cast(x, dtype):
    """Without a warning of what leaves the range, or of a NaN that signals."""
    with np.errstate(all="ignore"):
        return x.astype(dtype, copy=False)


def _stored(gradient, x):
    """Of the shape of x and its dtype; float64 where x has integers."""
    dtype = np.float64 if x.dtype.kind in "iub" else x.dtype.newbyteorder("=")
    return _cast(gradient.reshape(x.shape), dtype)


def _gradient_argument(function, name, value, result, result_name):
    d = _core.as_array(function, name, value)
    message = (
        f"{function}(): {name} must have the shape and dtype of {result_name} "
        f"({name}: shape {d.shape}, dtype {d.dtype}; {result_name}: shape {result.shape}, dtype {result.dtype})"
    )
    if d.shape != result.shape:
        raise ValueError(message)
    if d.dtype.newbyteorder("=") != result.dtype:
        raise TypeError(message)
    return _cast(d, _work(result.dtype))


def _summed_product(d, units, axes, dim):
    """The sum over some axes (not dim) of d * units, where d has size 1 along dim."""
    if not axes:
        with np.errstate(all="ignore"):
            return d * units
    rest = [i for i in range(d.ndim) if i != dim and i not in axes]

    def rows(x):  # (*rest, dim, all of axes in one)
        x = x.transpose(*rest, dim, *axes)
        shape = x.shape[: len(rest) + 1]
        return x.reshape(*shape, math.prod(x.shape[len(shape) :]))

    sums = _core.vecdot(rows(d), rows(units))
    sums = sums.reshape(*sums.shape, *(1 for _ in axes))
    return sums.transpose(*np.argsort([*rest, dim, *axes]))


def cosine_similarity_vjp(x1, x2, dim=_DIM, eps=1e-8, *, axis=None):
    """cosine_similarity, and the pullback of gradients through it.

    Parameters
    ----------
    x1, x2 : array_like
        Any shapes that broadcast against each other, as in cosine_similarity.
    dim : int
        The dimension of the broadcast shape that holds the vectors. axis is another name for it.
    eps : float
        The smallest norm to divide by.

    Returns
    -------
    y : numpy.ndarray or NumPy scalar
        cosine_similarity(x1, x2, dim, eps).
    pullback : callable
        pullback(dy) with dy of the shape and dtype of y gives (dx1, dx2): the gradients of sum(dy * y), of the shapes
        and dtypes of x1 and x2 (float64 for integers), summed over what they were broadcast along. It may be called
        any number of times.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cosine_similarity; pullback: TypeError or ValueError where dy does not fit y.

    Notes
    -----
    float32 and float64 are calculated in their own type, float16 and bfloat16 in float32 and rounded at the end. Where
    the norm of a vector is below eps it counts as a constant, which is the gradient of the formula; torch gives another
    one there, but for zero vectors. Operands that broadcast against each other, such as z[None] and z[:, None], never
    build the product in between, here neither.

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
    if axis is not None and dim is not _DIM:
        raise TypeError(f"{function}() got both dim and axis, which are two names of one argument")
    if dim is _DIM:
        dim = 1 if axis is None else axis
    dim, eps = integer_argument(function, "dim", dim), eps_argument(function, eps)
    x1, x2 = _core.as_arrays(function, ("x1", "x2"), (x1, x2))
    y = _core.cosine_similarity(x1, x2, dim, eps)
    shape = broadcast_shape(x1.shape, x2.shape, (1,))
    dim %= len(shape)
    operands = []
    for x in (x1, x2):
        aligned = _cast(x, _work(y.dtype)).reshape((1,) * (len(shape) - x.ndim) + x.shape)
        vectors = [shape[dim] if i == dim else size for i, size in enumerate(aligned.shape)]
        operands.append((x, aligned.shape, _Rows(np.broadcast_to(aligned, vectors), dim, eps)))

    def pullback(dy):
        d = np.expand_dims(_gradient_argument(function, "dy", dy, y, "y"), dim)
        if 0 in shape:
            return tuple(_stored(np.zeros(x.shape), x) for x, _, _ in operands)
        gradients = []
        for (x, own, rows), (_, _, others) in (operands, operands[::-1]):
            axes = [i for i, size in enumerate(shape) if i != dim and own[i] == 1 != size]
            gradient = rows.back(_summed_product(d, others.units, axes, dim), own[dim] != shape[dim])
            gradients.append(_stored(gradient, x))
        return tuple(gradients)

    return y, pullback


def pairwise_vjp(x, y=None, *, eps=1e-8):
    """pairwise, and the pullback of gradients through it.

    Parameters
    ----------
    x : array_like, shape (N, D)
        Rows are vectors, as in pairwise.
    y : array_like, shape (M, D), optional
        None means x with itself.
    eps : float
        The smallest norm to divide by.

    Returns
    -------
    S : numpy.ndarray, shape (N, M)
        pairwise(x, y, eps=eps).
    pullback : callable
        pullback(dS) with dS of the shape and dtype of S gives (dx, dy), the gradients of sum(dS * S), or dx alone
        where y was not given: with what x gives as the right side too. Of the shapes and dtypes of x and y
        (float64 for integers). It may be called any number of times.

    Raises
    ------
    TypeError, ValueError
        As pairwise; pullback: where dS does not fit S.

    Notes
    -----
    Types and clamped norms as in cosine_similarity_vjp.

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
    scores = _core.pairwise(x, y, eps=eps)
    left = _Rows(_cast(x, _work(scores.dtype)), 1, eps)
    right = left if y is None else _Rows(_cast(y, _work(scores.dtype)), 1, eps)

    def product(d, rows):  # d @ rows.units
        return _core.vecdot(d[:, None], np.ascontiguousarray(rows.units.T)[None])

    def pullback(dS):  # noqa: N803
        d = _gradient_argument(function, "dS", dS, scores, "S")
        if d.size == 0:
            zeros = tuple(_stored(np.zeros(z.shape), z) for z in (x, y) if z is not None)
            return zeros if y is not None else zeros[0]
        if y is None:
            with np.errstate(all="ignore"):
                return _stored(left.back(product(d + d.T, left)), x)
        return _stored(left.back(product(d, right)), x), _stored(right.back(product(d.T, left)), y)

    return scores, pullback
