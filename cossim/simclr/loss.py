"""The loss of SimCLR. Arguments are checked here; the work is done in C."""

import numpy as np

from cossim import _core
from cossim._arguments import check_temperature, plain_text, temperature_argument

EPS = 1e-8  # that of cosine_similarity
PAIRS = ("halves", "interleaved")


def _error(kind, function, message, z0, z1):
    arrays = {"z0": z0} if z1 is None else {"z0": z0, "z1": z1}
    described = "; ".join(f"{name}: shape {z.shape}, dtype {z.dtype}" for name, z in arrays.items())
    return kind(f"{function}(): {message} ({described})")


def _dtype(function, z0, z1):
    """float32 or float64: what both promote to, integers as float64."""
    arrays = [z for z in (z0, z1) if z is not None]
    for name, z in zip(("z0", "z1"), arrays, strict=False):
        if z.dtype.itemsize == 2 and z.dtype.kind not in "iu":  # float16, bfloat16
            raise _error(TypeError, function, f"{name} must be float32, float64 or integers", z0, z1)
    return np.dtype(np.float32 if all(z.dtype.kind == "f" and z.dtype.itemsize == 4 for z in arrays) else np.float64)


def _run(function, z0, z1, temperature, pairs, gradient):
    pairs = plain_text(pairs) if isinstance(pairs, str) else pairs
    if not isinstance(pairs, str) or pairs not in PAIRS:
        raise ValueError(f"{function}(): pairs must be 'halves' or 'interleaved', not {pairs!r}")
    temperature = temperature_argument(function, temperature)
    if z1 is None:
        z0 = _core.as_array(function, "z0", z0)
    else:
        z0, z1 = _core.as_arrays(function, ("z0", "z1"), (z0, z1))
    if z0.ndim != 2 or (z1 is not None and z1.shape != z0.shape):
        raise _error(ValueError, function, "z0 and z1 must have the same shape (N, D); z0 alone, (2 N, D)", z0, z1)
    if z1 is not None and pairs != "halves":
        raise _error(ValueError, function, "pairs='interleaved' takes one array of both views, z0 alone", z0, z1)
    if z1 is None and len(z0) % 2:
        raise _error(ValueError, function, "z0 alone holds both views: its rows must be even in number", z0, z1)
    if len(z0) == 0:
        raise _error(ValueError, function, "at least one pair of rows is needed", z0, z1)
    dtype = _dtype(function, z0, z1)
    check_temperature(function, temperature, dtype)
    with np.errstate(invalid="ignore"):  # a NaN that signals
        z0 = np.require(z0, dtype, ["C", "A"])
        z1 = None if z1 is None else np.require(z1, dtype, ["C", "A"])
    dz0 = np.empty(z0.shape, dtype) if gradient else None
    dz1 = np.empty(z1.shape, dtype) if gradient and z1 is not None else None
    loss = _core.nt_xent(z0, z1, temperature, EPS, pairs == "interleaved", dz0, dz1)
    return loss, dz0, dz1


def nt_xent(z0, z1=None, temperature=0.5, *, pairs="halves"):
    """The loss of SimCLR, NT-Xent: each row is to find its partner among all others by cosine similarity.

        loss[i] = -s[i, p(i)] / temperature + log(sum over k != i of exp(s[i, k] / temperature))

    averaged over all 2 N rows z of both views, with s the cosine similarities of all pairs of rows, as
    ``similarity_matrix(z0, z1)`` gives them, and p(i) the other view of row i: i + N for the rows of z0, i - N for
    those of z1. It is equation 1 of Chen et al., A Simple Framework for Contrastive Learning of Visual
    Representations (2020).

    Parameters
    ----------
    z0, z1 : array_like, shape (N, D)
        Embeddings of the first and of the second view, at least one each. float32 or float64, integers count as
        float64, mixed types promote. Never modified.
        z0 alone, of shape (2 N, D): both views in one array.
    temperature : float
        Above 0. The smaller it is, the more the most similar rows count.
    pairs : "halves" or "interleaved"
        Which rows of z0 alone belong together: i and i + N, or 2 i and 2 i + 1.

    Returns
    -------
    float
        At least 0; log(2 N - 1) where all rows are equal. NaN or infinity in a row gives NaN.

    Raises
    ------
    TypeError
        Arrays of another dtype (float16 and bfloat16 among them); a temperature that is no number.
    ValueError
        Shapes that do not fit; no rows; a temperature that is not above 0 and finite; unknown pairs.

    See Also
    --------
    nt_xent_value_and_grad : the loss and its gradient in one go.

    Notes
    -----
    The matrix of similarities is not built. Norms are clamped at 1e-8, so zero rows have similarity 0 with all.
    float32 is summed as in cossim.pairwise, the loss itself in float64. Ctrl-C stops a long call.

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
    return _run("nt_xent", z0, z1, temperature, pairs, False)[0]


def nt_xent_value_and_grad(z0, z1=None, temperature=0.5, *, pairs="halves"):
    """nt_xent and its gradient with respect to the embeddings.

    Parameters
    ----------
    z0, z1, temperature, pairs
        Those of nt_xent.

    Returns
    -------
    float
        The loss, as nt_xent gives it, but for rounding errors.
    tuple of two numpy.ndarray, or numpy.ndarray
        The gradients (dz0, dz1), of the shapes of z0 and z1; of z0 alone, one array of its shape. float32 where all
        rows are, else float64.

    Raises
    ------
    TypeError, ValueError
        As nt_xent.

    Notes
    -----
    The gradient goes through the norms; that of a row whose norm is below 1e-8 does not, for there the norm is a
    constant. NaN in one row makes all gradients NaN. Neither depends on the number of threads. Memory: copies of the
    rows, and one matrix of (2 N, 2 N) if that is at most 16 MiB; in larger calls similarities are calculated twice.

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
    loss, dz0, dz1 = _run("nt_xent_value_and_grad", z0, z1, temperature, pairs, True)
    return loss, (dz0 if dz1 is None else (dz0, dz1))
