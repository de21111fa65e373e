"""The loss of SimCLR. This module checks the arguments; the C core calculates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import beyond_int64, check_temperature, plain_text, temperature_argument
from cossim._arithmetic import contiguous, fixed_arithmetic
from cossim._errors import described

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array, Float, Number

    _Halves: TypeAlias = Literal["halves"]
    _Pairs: TypeAlias = Literal["halves", "interleaved"]
    _Labels: TypeAlias = Array | None

PAIRS = ("halves", "interleaved")


def _dtype(function, z0, z1):
    """Returns the promoted dtype of both views, float32 or float64. Integers count as float64."""
    arrays = [z for z in (z0, z1) if z is not None]
    for name, z in zip(("z0", "z1"), arrays, strict=False):
        if z.dtype.itemsize == 2 and z.dtype.kind not in "iu":  # float16, bfloat16
            raise TypeError(_errors.VIEWS_DTYPE.format(function=function, name=name, dtype=z.dtype))
    narrow = [z.dtype.kind == "f" and z.dtype.itemsize == 4 for z in arrays]
    return np.dtype(np.float32 if all(narrow) else np.float64)


def _classes(function, labels, count, pairs):
    """Returns the class of each row of both views, and the number of the other rows of its class."""
    if isinstance(labels, (list, tuple)) and any(isinstance(label, str) for label in labels):
        raise TypeError(_errors.LABELS_DTYPE.format(function=function, dtype="text"))
    try:
        labels = _core.as_array(function, "labels", labels)
    except TypeError:
        if beyond_int64(labels):
            raise TypeError(_errors.LABELS_DTYPE.format(function=function, dtype="wider ones")) from None
        raise
    if labels.dtype.kind not in "iub":
        raise TypeError(_errors.LABELS_DTYPE.format(function=function, dtype=labels.dtype))
    if labels.shape != (count,):
        raise ValueError(_errors.LABELS_SHAPE.format(function=function, wanted=(count,), shape=labels.shape))
    with fixed_arithmetic():
        classes = np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
        positives = (2 * np.bincount(classes)[classes] - 1).astype(np.float64)
    both = (lambda x: np.repeat(x, 2)) if pairs == "interleaved" else (lambda x: np.tile(x, 2))
    return both(classes), both(positives)


def _nt_xent(function, z0, z1, temperature, pairs, labels, gradient):
    pairs = plain_text(pairs) if isinstance(pairs, str) else pairs
    if not isinstance(pairs, str) or pairs not in PAIRS:
        raise ValueError(_errors.PAIRS.format(function=function, pairs=pairs))
    temperature = temperature_argument(function, temperature)
    if z1 is None:
        z0 = _core.as_array(function, "z0", z0)
    else:
        z0, z1 = _core.as_arrays(function, ("z0", "z1"), (z0, z1))
    if z0.ndim != 2 or (z1 is not None and z1.shape != z0.shape):
        message = _errors.ONE_ARRAY_SHAPE if z1 is None else _errors.VIEWS_SHAPE
        raise ValueError(message.format(function=function, arrays=described(z0=z0, z1=z1)))
    if z1 is not None and pairs != "halves":
        raise ValueError(_errors.INTERLEAVED.format(function=function, arrays=described(z0=z0, z1=z1)))
    if z1 is None and len(z0) % 2:
        raise ValueError(_errors.ODD_ROWS.format(function=function, arrays=described(z0=z0)))
    if len(z0) == 0:
        raise ValueError(_errors.NO_PAIRS.format(function=function, arrays=described(z0=z0, z1=z1)))
    dtype = _dtype(function, z0, z1)
    check_temperature(function, temperature, dtype)
    z0, z1 = contiguous(z0, dtype), None if z1 is None else contiguous(z1, dtype)
    images = len(z0) if z1 is not None else len(z0) // 2
    classes = (None, None) if labels is None else _classes(function, labels, images, pairs)
    dz0 = np.empty(z0.shape, dtype) if gradient else None
    dz1 = np.empty(z1.shape, dtype) if gradient and z1 is not None else None
    loss = _core.nt_xent(z0, z1, dz0, dz1, *classes, temperature=temperature, interleaved=pairs == "interleaved")
    return loss, dz0, dz1


def nt_xent(
    z0: Array, z1: Array | None = None, temperature: Number = 0.5, *, pairs: _Pairs = "halves", labels: _Labels = None
) -> float:
    """The loss of SimCLR, NT-Xent: small where each row is most similar to its partner, the other view of its image.

        loss[i] = -s[i, p(i)] / temperature + log(sum over k != i of exp(s[i, k] / temperature))

    The result is the mean over all 2 N rows of both views. s holds the cosine similarities of all pairs of rows, the
    result of ``similarity_matrix(z0, z1)``. p(i) is the partner of row i: i + N for the rows of z0, i - N for those of
    z1. The formula is equation 1 of Chen et al., A Simple Framework for Contrastive Learning of Visual Representations
    (2020).

    With labels, it is the supervised contrastive loss, small where each row is similar to all rows of its class. The
    mean of s[i, p] over all other rows p of row i's class stands in the place of s[i, p(i)]: L_out, equation 2 of
    Khosla et al., Supervised Contrastive Learning (2020).

    Parameters
    ----------
    z0, z1 : array_like, shape (N, D)
        Embeddings of the first and of the second view, with N at least 1. float32 or float64; integers count as
        float64, and mixed dtypes are promoted. Never modified.
        If z1 is None, z0 has shape (2 N, D) and holds both views.
    temperature : float
        Above 0. The smaller it is, the larger the share of the most similar rows in the loss.
    pairs : "halves" or "interleaved"
        Which rows are partners if z1 is None: i and i + N for "halves", 2 i and 2 i + 1 for "interleaved".
    labels : array_like, shape (N,), optional
        The class of each image, integers or bool. Both views of an image have its class.

    Returns
    -------
    float
        At least 0. It is log(2 N - 1) if all rows are equal, and NaN if a row holds NaN or infinity.

    Raises
    ------
    TypeError
        An array has another dtype, such as float16 or bfloat16, or temperature is not a number.
    ValueError
        The shapes do not fit, there are no rows, there is not one label for each image, temperature is not above 0 and
        finite, or pairs is unknown.

    See Also
    --------
    nt_xent_value_and_grad : the loss and its gradient in one call.

    Notes
    -----
    The matrix of similarities is never stored. Norms are clamped to at least 1e-8, so a zero row has similarity 0 with
    every row. Similarities of float32 rows are summed as in cossim.pairwise, the loss in float64. Ctrl-C stops a long
    call.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> z0 = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> z1 = np.array([[1.0, 0.1], [0.1, 1.0]])
    >>> round(cossim.simclr.nt_xent(z0, z1, temperature=0.5), 6)
    0.289878
    >>> z = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> round(cossim.simclr.nt_xent(z, pairs="interleaved"), 6)
    0.289878
    """
    return _nt_xent("nt_xent", z0, z1, temperature, pairs, labels, False)[0]


@overload
def nt_xent_value_and_grad(
    z0: NDArray[Float], z1: None = None, temperature: Number = 0.5, *, pairs: _Pairs = "halves", labels: _Labels = None
) -> tuple[float, NDArray[Float]]: ...
@overload
def nt_xent_value_and_grad(
    z0: NDArray[Float],
    z1: NDArray[Float],
    temperature: Number = 0.5,
    *,
    pairs: _Halves = "halves",
    labels: _Labels = None,
) -> tuple[float, tuple[NDArray[Float], NDArray[Float]]]: ...
@overload
def nt_xent_value_and_grad(
    z0: Array, z1: None = None, temperature: Number = 0.5, *, pairs: _Pairs = "halves", labels: _Labels = None
) -> tuple[float, NDArray[Any]]: ...
@overload
def nt_xent_value_and_grad(
    z0: Array, z1: Array, temperature: Number = 0.5, *, pairs: _Halves = "halves", labels: _Labels = None
) -> tuple[float, tuple[NDArray[Any], NDArray[Any]]]: ...
def nt_xent_value_and_grad(
    z0: Array, z1: Array | None = None, temperature: Number = 0.5, *, pairs: _Pairs = "halves", labels: _Labels = None
) -> tuple[float, NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]]:
    """nt_xent and its gradient with respect to the embeddings.

    Parameters
    ----------
    z0, z1, temperature, pairs, labels
        As in nt_xent.

    Returns
    -------
    float
        The loss. It differs from the result of nt_xent by rounding errors only.
    tuple of two numpy.ndarray, or numpy.ndarray
        The gradients (dz0, dz1), with the shapes of z0 and z1. If z1 is None, one array with the shape of z0. float32
        if all inputs are float32, else float64.

    Raises
    ------
    TypeError, ValueError
        As in nt_xent.

    Notes
    -----
    The gradient includes the derivative of the norms, except for a row with a norm below 1e-8, where the clamped norm
    is constant. NaN in one row makes all gradients NaN. Loss and gradients do not depend on the number of threads.
    The call needs memory for copies of the rows, and for one (2 N, 2 N) matrix if that is at most 16 MiB. Larger calls
    calculate the similarities twice and store no matrix.

    Examples
    --------
    >>> import numpy as np, cossim.simclr
    >>> z0, z1 = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.1], [0.1, 1.0]])
    >>> loss, (dz0, dz1) = cossim.simclr.nt_xent_value_and_grad(z0, z1)
    >>> dz0.round(4)
    array([[0.    , 0.2041],
           [0.2041, 0.    ]])
    >>> cossim.simclr.nt_xent(z0 - dz0, z1 - dz1) < loss
    True
    """
    loss, dz0, dz1 = _nt_xent("nt_xent_value_and_grad", z0, z1, temperature, pairs, labels, True)
    return loss, (dz0 if dz1 is None else (dz0, dz1))
