from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from cossim._arguments import DEFAULT_DIM, UnpassedInt
from cossim._core import DEFAULT_EPS, cosine_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array, ArrayOrScalar, Float, Lazy, Number


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the broadcast shape of shapes that are known to broadcast.

    np.broadcast_shapes does the same, but takes at most 32 dimensions.
    """
    ndim = max(map(len, shapes))
    sizes = zip(*((1,) * (ndim - len(shape)) + shape for shape in shapes), strict=True)
    return tuple(next((size for size in some if size != 1), 1) for some in sizes)


def is_clamped(norm, eps):
    """Returns whether the formula replaces this norm by eps. False for NaN."""
    return norm < eps


def clamp(norm, eps):
    """Returns max(norm, eps), by which the formula divides. NaN stays NaN."""
    return np.where(is_clamped(norm, eps), eps, norm)


class CosineSimilarity:
    """Cosine similarity along dim, as a callable object like torch.nn.CosineSimilarity.

    The call ``CosineSimilarity(dim, eps)(x1, x2)`` is ``cosine_similarity(x1, x2, dim, eps)``, with its shapes, dtypes
    and errors. ``CosineSimilarity()`` takes single vectors too, as ``cosine_similarity`` without dim does.

    Parameters
    ----------
    dim : int
        The dimension of the broadcast shape that holds the vectors. If it is not passed, the attribute dim is 1, and
        a broadcast shape with one dimension is one vector.
    eps : float
        The smallest norm to divide by.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cosine_similarity, when the object is called.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> cos = cossim.CosineSimilarity(dim=1, eps=1e-6)
    >>> cos(np.array([[1.0, 2.0, 2.0]]), np.array([[2.0, 1.0, 2.0]])).round(4)
    array([0.8889])
    >>> cossim.CosineSimilarity()([3, 4], [4, 3])
    np.float64(0.96)
    """

    def __init__(self, dim: SupportsIndex = DEFAULT_DIM, eps: Number = DEFAULT_EPS) -> None:
        self.dim = dim
        self.eps = eps

    @overload
    def __call__(self, x1: Lazy, x2: Array | Lazy) -> Any: ...
    @overload
    def __call__(self, x1: Array, x2: Lazy) -> Any: ...
    @overload
    def __call__(self, x1: NDArray[Float], x2: NDArray[Float]) -> ArrayOrScalar[Float]: ...
    @overload
    def __call__(self, x1: Array, x2: Array) -> ArrayOrScalar[Any]: ...
    def __call__(self, x1: Any, x2: Any) -> Any:
        if isinstance(self.dim, UnpassedInt):
            return cosine_similarity(x1, x2, eps=self.eps)
        return cosine_similarity(x1, x2, self.dim, self.eps)

    def __repr__(self) -> str:
        return "CosineSimilarity()"  # as torch prints it
