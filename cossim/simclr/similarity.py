from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cossim import _errors
from cossim._arithmetic import fixed_arithmetic
from cossim._core import as_arrays, pairwise
from cossim._errors import described

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array, Float


@overload
def similarity_matrix(z0: NDArray[Float], z1: NDArray[Float]) -> NDArray[Float]: ...
@overload
def similarity_matrix(z0: Array, z1: Array) -> NDArray[Any]: ...
def similarity_matrix(z0: Array, z1: Array) -> NDArray[Any]:
    """Cosine similarity of all pairs of rows of both views.

    The rows are those of z0, then those of z1: rows i and i + N are the two views of image i. The torch equivalent is
    ``CosineSimilarity(dim=2)(z[None], z[:, None])`` with ``z = cat((z0, z1))``.

    Parameters
    ----------
    z0, z1 : array_like, shape (N, D)
        Embeddings of the first and the second view. float64, float32, float16 or bfloat16; integers count as float64.

    Returns
    -------
    numpy.ndarray, shape (2 N, 2 N)
        Symmetric, in the promoted dtype. The diagonal is exactly 1, or 0 for zero rows.

    Raises
    ------
    TypeError
        An array does not hold real numbers.
    ValueError
        The shapes are not (N, D), or they differ.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> cossim.simclr.similarity_matrix(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]))
    array([[1., 0.],
           [0., 1.]])
    """
    z0, z1 = as_arrays("similarity_matrix", ("z0", "z1"), (z0, z1))
    if z0.ndim != 2 or z0.shape != z1.shape:
        arrays = described(z0=z0, z1=z1)
        raise ValueError(_errors.VIEWS_SHAPE.format(function="similarity_matrix", arrays=arrays))
    with fixed_arithmetic():
        z = np.concatenate((z0, z1))  # in one dtype
    return pairwise(z)
