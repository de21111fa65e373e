"""explain(): shows each step of a call of cosine_similarity with the user's own numbers."""

from __future__ import annotations

import math
from itertools import islice
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from cossim._arguments import DEFAULT_DIM, dim_argument, dim_of_operands, eps_argument
from cossim._core import DEFAULT_EPS, as_arrays, cosine_distance, cosine_similarity, vecdot, vector_norm
from cossim.vectors.similarity import broadcast_shape, is_clamped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cossim._typing import Array, ArrayOrScalar, Number

_FUNCTION = "explain"
SHOWN = 4  # outputs that are written out; the rest are counted
MAX_DRAWN = 100_000  # outputs of a matrix that is drawn, for which matplotlib takes about 10 MB
ALL_PAIRS = "cosine_similarity(x1[:, None], x2[None], dim=2), or cossim.pairwise(x1, x2)"


class Step(NamedTuple):
    """One step, or one common mistake: a title, an explanation in words, and lines of numbers."""

    title: str
    text: str
    shape: tuple[int, ...] | None = None  # the shape after the step
    lines: Sequence[str] = ()


def _number(value):
    """Prints narrow types with the fewest digits that are unique (as NumPy does), and float64 with eight digits."""
    narrow = isinstance(value, np.generic) and value.dtype.itemsize < 8
    return str(value) if narrow else f"{float(value):.8g}"


def _at(index):
    return f"[{', '.join(map(str, index))}]" if index else ""


def _count(n, what):
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _ratio(dot, norm1, norm2):
    """Divides the numbers as they are shown. cosine_similarity may compute with more digits."""
    below = float(norm1) * float(norm2)
    return float(dot) / below if below else math.nan


class Explanation:
    """The result of explain(). print() shows it as text, a notebook as HTML.

    Attributes
    ----------
    dim : int
        The reduced axis of the broadcast shape, counted from 0.
    eps : float
    broadcast_shape : tuple of int
    shape : tuple of int
        The shape of the result: broadcast_shape without dim.
    norms1, norms2 : numpy.ndarray
        The norm of each vector of x1 and of x2, before it is clamped to eps. The shapes broadcast to the result's.
    dots : numpy.ndarray
        The dot product of each pair of vectors, in the result's shape.
    similarity : numpy.ndarray or NumPy scalar
        Exactly cosine_similarity(x1, x2, dim, eps).
    steps : list of Step
        The steps in order. Each has a title, a text, the shape after the step and lines of numbers.
    mistakes : list of Step
        The results of common mistakes for these operands, in the same form.
    """

    dim: int
    eps: float
    broadcast_shape: tuple[int, ...]
    shape: tuple[int, ...]
    norms1: NDArray[Any]
    norms2: NDArray[Any]
    dots: NDArray[Any]
    similarity: ArrayOrScalar[Any]
    steps: list[Step]
    mistakes: list[Step]

    def __init__(self, x1: Array, x2: Array, dim: SupportsIndex, eps: Number) -> None:
        dim, self.eps = dim_argument(_FUNCTION, dim), eps_argument(_FUNCTION, eps)
        x1, x2 = as_arrays(_FUNCTION, ("x1", "x2"), (x1, x2))
        dim = dim_of_operands(dim, max(x1.ndim, x2.ndim))
        try:
            self.similarity = cosine_similarity(x1, x2, dim, self.eps)
        except ValueError as error:  # shapes that do not broadcast, or an AxisError
            raise type(error)(str(error).replace("cosine_similarity", _FUNCTION, 1)) from None
        self.broadcast_shape = broadcast_shape(x1.shape, x2.shape)
        self.dim = dim % max(len(self.broadcast_shape), 1)
        self.shape = np.shape(self.similarity)
        self._given = (x1.shape, x2.shape), (x1.dtype, x2.dtype)

        # Both operands get all axes, with size 1 where an operand lacks one. A scalar becomes a vector of one number.
        self._full = self.broadcast_shape or (1,)
        self._x1, self._x2 = (x.reshape((1,) * (len(self._full) - x.ndim) + x.shape) for x in (x1, x2))
        self.norms1, self.norms2 = (np.asarray(vector_norm(self._widened(x), self.dim)) for x in (self._x1, self._x2))
        self.dots = np.asarray(vecdot(self._x1, self._x2, self.dim))

        self._indices = list(islice(np.ndindex(self.shape), SHOWN))
        self.steps = [self._shapes(), self._axes(), *self._norms(), self._dot_products(), self._ratios()]
        possible = (
            self._whole_norm(),
            self._other_dims(),
            self._one_number(),
            self._distance(),
            self._row_by_row(),
            self._all_pairs(),
        )
        self.mistakes = [mistake for mistake in possible if mistake]
        del self._x1, self._x2  # so that the explanation does not keep large operands alive

    def _widened(self, x):
        """Broadcasts x along the reduced axis alone. Broadcasting the other axes would repeat its vectors."""
        shape = list(x.shape)
        shape[self.dim] = self._full[self.dim]
        return np.broadcast_to(x, shape)

    def _vectors(self, index, dim):
        """Returns the two vectors along dim that give the output at index of a call with that dim."""
        at = (*index[:dim], slice(None), *index[dim:])
        return (np.broadcast_to(x, self._full)[at] for x in (self._x1, self._x2))

    def _norms_at(self, index):
        return tuple(np.broadcast_to(norms, self.shape)[index] for norms in (self.norms1, self.norms2))

    def _first(self):
        """Returns (index, dot product, similarity) of the first output, which is the example for the mistakes."""
        index = self._indices[0]
        return index, self.dots[index], np.asarray(self.similarity)[index]

    def _each(self, line, indices, count):
        """Returns one line "left = right" for each index, and a last line that counts the remaining ones.

        line(index) returns (left, right). count is the number of lines that all indices would take.
        """
        sides = [line(index) for index in indices]
        width = max((len(left) for left, _ in sides), default=0)
        lines = [f"{left:{width}} = {right}" for left, right in sides]
        return lines + ([f"... and {count - len(lines)} more"] if count > len(lines) else [])

    # ---- the steps ----

    def _shapes(self):
        (shape1, shape2), (dtype1, dtype2) = self._given
        same = shape1 == shape2
        text = "Both have the same shape." if same else f"They broadcast to {self.broadcast_shape}."
        lines = [f"x1 {shape1} {dtype1}", f"x2 {shape2} {dtype2}"]
        return Step("Shapes", text, self.broadcast_shape, lines)

    def _role(self, axis):
        size, size1, size2 = self._full[axis], self._x1.shape[axis], self._x2.shape[axis]
        if axis == self.dim:
            repeated = "x1" if size1 != size else "x2" if size2 != size else None
            note = f" ({repeated} has one there, repeated {size} times)" if repeated else ""
            return f"reduced: {_count(size, 'number')} along it {'is' if size == 1 else 'are'} one vector{note}"
        if size1 == size2:
            return "kept: element i of x1 meets element i of x2"
        return f"kept: x{1 if size1 != 1 else 2} varies along it, x{2 if size1 != 1 else 1} is repeated"

    def _varies(self):
        """Returns whether x1 varies along a kept axis where x2 has size 1, and the same with x1 and x2 swapped."""
        kept = [axis for axis in range(len(self._full)) if axis != self.dim]
        sizes = [(self._x1.shape[axis], self._x2.shape[axis]) for axis in kept]
        return any(s2 == 1 != s1 for s1, s2 in sizes), any(s1 == 1 != s2 for s1, s2 in sizes)

    def _axes(self):
        text = f"Axis {self.dim} is summed away and the others stay: the result has shape {self.shape}."
        if all(self._varies()):
            text += " x1 and x2 vary along different axes, so every vector of one meets every vector of the other."
        lines = [f"axis {axis}, size {size}: {self._role(axis)}" for axis, size in enumerate(self._full)]
        return Step(f"The reduced axis, dim={self.dim}", text, self.shape, lines)

    def _norms(self):
        for name, norms in (("x1", self.norms1), ("x2", self.norms2)):
            below = is_clamped(norms.astype(np.float64), self.eps)  # float64, because eps could round to 0 in float16
            clamped = int(np.count_nonzero(below))
            shorter = f"{clamped or 'None'} of them {'are' if clamped > 1 else 'is'} shorter than"
            effect = "which replaces such a norm" if clamped else "so eps changes nothing"
            text = f"The root of the sum of squares: {_count(norms.size, 'vector')}. "
            text += f"{shorter} eps={_number(self.eps)}, {effect}."

            def line(index, name=name, norms=norms, below=below):
                clamp = f", below eps: {_number(self.eps)} is used" if below[index] else ""
                return f"|{name}{_at(index)}|", f"{_number(norms[index])}{clamp}"

            indices = list(islice(np.ndindex(norms.shape), SHOWN))
            if clamped:  # show the first clamped norm even if it is not among the first norms
                first = tuple(int(i) for i in np.unravel_index(np.argmax(below), below.shape))
                indices += [] if first in indices else [first]
            yield Step(f"Norms of {name}", text, norms.shape, self._each(line, indices, norms.size))

    def _dot_products(self):
        def line(index):
            return f"(x1 . x2){_at(index)}", _number(self.dots[index])

        text = f"The sum of the products of the elements of two vectors: {_count(self.dots.size, 'pair')} of vectors."
        return Step("Dot products", text, self.shape, self._each(line, self._indices, self.dots.size))

    def _ratios(self):
        similarity = np.asarray(self.similarity)
        too_wide = False

        def line(index):
            nonlocal too_wide
            dot, value = self.dots[index], similarity[index]
            norm1, norm2 = (self.eps if is_clamped(float(norm), self.eps) else norm for norm in self._norms_at(index))
            too_wide |= math.isfinite(value) and not abs(_ratio(dot, norm1, norm2) - float(value)) < 0.01
            ratio = f"{_at(index)} {_number(dot)} / ({_number(norm1)} * {_number(norm2)})"
            return ratio.lstrip(), _number(value)

        lines = self._each(line, self._indices, similarity.size)
        text = "x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)): what cosine_similarity returns, in [-1, 1]."
        if too_wide:
            text += (
                f" {self.dots.dtype} cannot hold some of the numbers shown; cosine_similarity computes in a wider type."
            )
        return Step("Ratios", text, self.shape, lines)

    # ---- common mistakes ----

    def _whole_norm(self):
        """The mistake of taking the norm of the whole array where the norm of each vector is meant."""
        if not self._indices or max(self.norms1.size, self.norms2.size) == 1:
            return None
        index, dot, right = self._first()
        wholes = [vector_norm(self._x1), vector_norm(self._x2)]
        each = zip(("x1", "x2"), wholes, self._norms_at(index), self._given[0], strict=True)
        lines = [
            f"np.linalg.norm({name}) = {_number(whole)} for all of {shape}; its first vector has {_number(norm)}"
            for name, whole, norm, shape in each
        ]
        lines.append(f"first value: {_number(_ratio(dot, *wholes))} by that mistake, {_number(right)} is right")
        shape1, shape2 = self._given[0]
        if len(shape1) == len(shape2) > 2 and self.dim > 0:
            parts = [vector_norm(x[0]) for x in (self._x1, self._x2)]
            parts_shapes = f"u is a whole {shape1[1:]} and v a whole {shape2[1:]}"
            lines.append(f"in a loop, `for u in x1: for v in x2:`, {parts_shapes}:")
            norms = f"{_number(parts[0])} and {_number(parts[1])}"
            lines.append(f"their norms are {norms}, which makes the first value {_number(_ratio(dot, *parts))}")
        return Step(
            "The norm of the whole array in place of one norm per vector",
            "np.linalg.norm without axis= gives one number for all vectors together: the Frobenius norm of a matrix. "
            f"Use np.linalg.norm(x, axis={self.dim}), or cossim.vector_norm(x, dim={self.dim}).",
            lines=lines,
        )

    def _other_dims(self):
        lines = []
        for dim, size in enumerate(self._full):
            if dim == self.dim:
                continue
            shape = self._full[:dim] + self._full[dim + 1 :]
            line = f"dim={dim} compares vectors of {_count(size, 'number')}: shape {shape}"
            if 0 not in shape:  # computes only the first value, because the result could be large
                one, other = self._vectors((0,) * len(shape), dim)
                line += f", first value {_number(cosine_similarity(one, other, 0, self.eps))}"
            lines.append(line)
        if not lines:
            return None
        right = f", first value {_number(self._first()[2])}" if self._indices else ""
        lines.append(f"dim={self.dim}, as here: shape {self.shape}{right}")
        return Step("Another dim", "dim names the axis that is summed away, not one that stays.", lines=lines)

    def _one_number(self):
        if not self._indices or self._full[self.dim] != 1:
            return None
        return Step(
            "Vectors of one number",
            f"Axis {self.dim} has size 1, and the similarity of two single numbers says only whether their signs "
            "agree: 1, -1, or 0 for a zero. The numbers of a vector probably lie along another axis.",
        )

    def _distance(self):
        if not self._indices:
            return None
        index, _, right = self._first()
        one, other = self._vectors(index, self.dim)
        distance = cosine_distance(one, other, 0, self.eps)
        return Step(
            "Distance in place of similarity",
            "SciPy's cosine and scikit-learn's cosine_distances give 1 - similarity: 0 for vectors of one direction, "
            "2 for opposite ones.",
            lines=[f"first value: distance {_number(distance)}, similarity {_number(right)}"],
        )

    def _row_by_row(self):
        """(N, D) with (N, D) gives N values, but the user may have meant all N x N pairs."""
        n = self._full[0]
        if len(self._full) != 2 or self.dim != 1 or self._x1.shape != self._x2.shape or n < 2:
            return None
        pair = cosine_similarity(self._x1[0], self._x2[1], 0, self.eps)
        return Step(
            "Row by row where every pair was meant",
            f"Row i of x1 meets row i of x2 and no other: {n} values, not {n} x {n}.",
            lines=[
                f"every row with every row, shape {(n, n)}: {ALL_PAIRS}",
                f"x1[0] with x2[1], which is not among the values here: {_number(pair)}",
            ],
        )

    def _all_pairs(self):
        """If x1 and x2 have size 1 along different axes, every pair is compared; the user may have meant row by row."""
        if not all(self._varies()):
            return None
        n1, n2 = self.norms1.size, self.norms2.size
        return Step(
            "Every pair where row by row was meant",
            f"{_count(n1, 'vector')} of x1 with {_count(n2, 'vector')} of x2 give {self.dots.size} values. "
            "For one value per row, give x1 and x2 the same shape, without axes of size 1.",
        )

    # ---- text and HTML ----

    def _title(self):
        return f"cosine_similarity(x1, x2, dim={self.dim}, eps={_number(self.eps)})"

    def __str__(self) -> str:
        def paragraph(step):
            text = fill(step.text, 100, initial_indent="   ", subsequent_indent="   ")
            return [text, *(f"     {line}" for line in step.lines)]

        lines = [self._title()]
        for number, step in enumerate(self.steps, 1):
            lines += ["", f"{number}. {step.title} -> {step.shape}", *paragraph(step)]
        if self.mistakes:
            lines += ["", "If you expected other numbers, one of these may be why:"]
        for mistake in self.mistakes:
            lines += ["", f" * {mistake.title}", *paragraph(mistake)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape  # on first use, because few explanations are shown as HTML

        def item(step, after=""):
            lines = f"<pre>{escape(chr(10).join(step.lines))}</pre>" if step.lines else ""
            return f"<li><b>{escape(step.title)}</b>{after}<br>{escape(step.text)}{lines}</li>"

        steps = "".join(item(step, f" &rarr; {step.shape}") for step in self.steps)
        mistakes = "".join(item(mistake) for mistake in self.mistakes)
        if mistakes:
            mistakes = f"<details><summary>If you expected other numbers</summary><ul>{mistakes}</ul></details>"
        return f"<div><code>{escape(self._title())}</code><ol>{steps}</ol>{self._picture()}{mistakes}</div>"

    def _picture(self):
        """Returns a heatmap as an <img>, or "" if the result is no matrix, or matplotlib is not installed."""
        from base64 import b64encode  # on first use, as in _repr_html_
        from importlib.util import find_spec
        from io import BytesIO

        if self.similarity.ndim != 2 or not 1 < self.similarity.size <= MAX_DRAWN or find_spec("matplotlib") is None:
            return ""
        from matplotlib.figure import Figure

        from cossim import plot

        figure, png = Figure(figsize=(4, 3.4), layout="constrained"), BytesIO()
        plot.heatmap(self.similarity, ax=figure.subplots())
        figure.savefig(png, format="png")
        data = b64encode(png.getvalue()).decode()
        return f'<img alt="heatmap of the similarities" src="data:image/png;base64,{data}"/>'


def explain(x1: Array, x2: Array, dim: SupportsIndex = DEFAULT_DIM, eps: Number = DEFAULT_EPS) -> Explanation:
    """Explains the result of cosine_similarity(x1, x2, dim, eps) step by step, with your own numbers.

    cosine_similarity computes

        x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))

    Parameters
    ----------
    x1, x2, dim, eps
        As in cosine_similarity, with the same shapes and dtypes. The operands are not modified.

    Returns
    -------
    Explanation
        print() shows it as text, a notebook as HTML, with a heatmap of a matrix if matplotlib is installed. It shows
        which axis is reduced, each norm, where eps replaces a norm, each dot product, each ratio, the shape at each
        step, and the results of common mistakes. It writes out the first four outputs. The attributes norms1, norms2,
        dots and similarity hold all of the numbers.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cosine_similarity.

    Examples
    --------
    >>> import cossim
    >>> e = cossim.explain([[3.0, 4.0]], [[4.0, 3.0]])
    >>> print(str(e)[str(e).index("5.") : str(e).index("If you")].rstrip())
    5. Dot products -> (1,)
       The sum of the products of the elements of two vectors: 1 pair of vectors.
         (x1 . x2)[0] = 24
    <BLANKLINE>
    6. Ratios -> (1,)
       x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)): what cosine_similarity returns, in [-1, 1].
         [0] 24 / (5 * 5) = 0.96
    >>> e.norms1, e.dots, e.similarity
    (array([5.]), array([24.]), array([0.96]))
    """
    return Explanation(x1, x2, dim, eps)
