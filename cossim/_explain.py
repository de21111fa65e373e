"""explain(): a call of cosine_similarity taken apart, step by step, with the user's own numbers."""

from html import escape

import numpy as np

from cossim._core import as_array, cosine_similarity, vecdot, vector_norm

_SHOWN = 4  # outputs written out one by one


def _number(value):
    return f"{float(value):.8g}"


def _at(index):
    return "[" + ", ".join(str(i) for i in index) + "]" if index else ""


class Step:
    """One step of an explanation: a title, what happens in words, the formula, the shape after it, and its values."""

    def __init__(self, title, text, shape=None, values=()):
        self.title = title
        self.text = text
        self.shape = shape
        self.values = list(values)


class Explanation:
    """What explain() returns. print() it for the text form; a notebook shows the HTML form.

    Attributes
    ----------
    dim : int
        The reduced dimension of the broadcast shape, not negative.
    eps : float
    broadcast_shape : tuple of int
    shape : tuple of int
        Of the result.
    norms1, norms2 : numpy.ndarray
        Norms of the vectors of x1 and x2, in the result's shape.
    dots : numpy.ndarray
        Their dot products, likewise.
    similarity : numpy.ndarray or NumPy scalar
        Exactly cosine_similarity(x1, x2, dim, eps).
    steps : list of Step
    mistakes : list of Step
        What usual mistakes would give for these operands.
    """

    def __init__(self, x1, x2, dim, eps):
        self.similarity = cosine_similarity(x1, x2, dim, eps)  # first: its errors are the ones to see
        self.x1, self.x2 = as_array("explain", "x1", x1), as_array("explain", "x2", x2)
        self.eps = float(eps)
        self.broadcast_shape = np.broadcast_shapes(self.x1.shape, self.x2.shape)
        self.dim = int(dim) % max(len(self.broadcast_shape), 1)
        self.shape = np.shape(self.similarity)
        self.norms1, self.norms2 = self._norms(self.x1), self._norms(self.x2)
        self.dots = vecdot(self.x1, self.x2, self.dim)
        self._indices = [index for index, _ in zip(np.ndindex(self.shape), range(_SHOWN), strict=False)]
        self.steps = self._steps()
        self.mistakes = [mistake for mistake in (self._frobenius(), self._wrong_dim(), self._distance(), self._pairs()) if mistake]

    def _norms(self, x):
        """One norm per vector of x, seen in the result's shape; computed before broadcasting, so none twice."""
        if not self.broadcast_shape:
            return vector_norm(x)
        x = x.reshape((1,) * (len(self.broadcast_shape) - x.ndim) + x.shape)
        along = (*x.shape[: self.dim], self.broadcast_shape[self.dim], *x.shape[self.dim + 1 :])
        return np.broadcast_to(vector_norm(np.broadcast_to(x, along), self.dim), self.shape)

    def _first_vector(self, x, dim):
        """The vector along dim at place 0 of every other dimension."""
        wide = np.broadcast_to(x, self.broadcast_shape)
        return wide[tuple(slice(None) if i == dim else 0 for i in range(wide.ndim))]

    # ---- the steps ----

    def _each(self, line):
        """line(index) for the first outputs, and how many there are besides."""
        lines = [line(index) for index in self._indices]
        count = int(np.prod(self.shape, dtype=np.int64))
        if count > len(lines):
            lines.append(f"... and {count - len(lines)} more")
        return lines

    def _norm_lines(self, name, norms):
        def line(index):
            norm = float(np.asarray(norms)[index])
            clamp = f"  -> eps = {_number(self.eps)}, since the norm is below it" if norm < self.eps else ""
            return f"|{name}{_at(index)}| = {_number(norm)}{clamp}"

        return self._each(line)

    def _steps(self):
        size = self.broadcast_shape[self.dim] if self.broadcast_shape else 1
        similarity, dots, n1, n2 = (np.asarray(a) for a in (self.similarity, self.dots, self.norms1, self.norms2))
        shapes = f"x1 {self.x1.shape} {self.x1.dtype}, x2 {self.x2.shape} {self.x2.dtype}"
        same = self.x1.shape == self.x2.shape

        def ratio(index):
            a, b = max(float(n1[index]), self.eps), max(float(n2[index]), self.eps)
            return f"{_number(dots[index])} / ({_number(a)} * {_number(b)}) = {_number(similarity[index])}"

        return [
            Step(
                "Shapes",
                shapes + (", the same for both." if same else f", which broadcast to {self.broadcast_shape}."),
                self.broadcast_shape,
            ),
            Step(
                "Which dimension is reduced",
                f"dim={self.dim} of {self.broadcast_shape}: each vector has {size} element(s) along it, and every other "
                f"dimension counts vectors, so the result has shape {self.shape}.",
                self.shape,
            ),
            Step("Norms of x1", "The root of the sum of squares of each vector.", self.shape, self._norm_lines("x1", n1)),
            Step("Norms of x2", "Likewise; a norm below eps counts as eps.", self.shape, self._norm_lines("x2", n2)),
            Step(
                "Dot products",
                "The sum of the products of elements, vector by vector.",
                self.shape,
                self._each(lambda index: f"(x1 . x2){_at(index)} = {_number(dots[index])}"),
            ),
            Step("Ratios", "x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))", self.shape, self._each(ratio)),
        ]

    # ---- usual mistakes ----

    def _frobenius(self):
        """The norm of all elements where the norm of each vector is meant."""
        if not self._indices or self.norms1.size == 1 and self.norms2.size == 1:
            return None  # with one vector they are the same
        whole1, whole2 = float(vector_norm(self.x1)), float(vector_norm(self.x2))
        index = self._indices[0]
        dot, right = float(np.asarray(self.dots)[index]), float(np.asarray(self.similarity)[index])
        below = whole1 * whole2
        wrong = dot / below if below else float("nan")
        return Step(
            "The norm of the whole array instead of one norm per vector",
            f"np.linalg.norm(x1) without axis= is the norm of all {self.x1.size} elements together (the Frobenius norm), "
            "not of one vector; dividing by it makes the values too small.",
            values=[
                f"np.linalg.norm(x1) = {_number(whole1)}, but |x1{_at(index)}| = {_number(np.asarray(self.norms1)[index])}",
                f"np.linalg.norm(x2) = {_number(whole2)}, but |x2{_at(index)}| = {_number(np.asarray(self.norms2)[index])}",
                f"the first value would be {_number(wrong)}, where {_number(right)} is right",
            ],
        )

    def _wrong_dim(self):
        """What the other dimensions would give."""
        lines = []
        for dim in range(len(self.broadcast_shape)):
            if dim != self.dim:
                shape = (*self.broadcast_shape[:dim], *self.broadcast_shape[dim + 1 :])
                line = f"dim={dim} would compare vectors of {self.broadcast_shape[dim]}: shape {shape}"
                if 0 not in shape:
                    first = (self._first_vector(x, dim) for x in (self.x1, self.x2))
                    line += f", beginning with {_number(cosine_similarity(*first, 0, self.eps))}"
                lines.append(line)
        if not lines:
            return None
        return Step("Another dim", f"dim={self.dim} is the dimension that disappears, not the one that stays.", values=lines)

    def _distance(self):
        """Similarity and distance taken for one another."""
        if not self._indices:
            return None
        value = float(np.asarray(self.similarity)[self._indices[0]])
        return Step(
            "Distance taken for similarity",
            "SciPy's cosine and scikit-learn's cosine_distances give 1 - similarity: 0, not 1, for vectors of one direction.",
            values=[f"similarity {_number(value)} is distance {_number(1 - value)}"],
        )

    def _pairs(self):
        """Row by row where every pair was meant."""
        if self.x1.ndim != 2 or self.x2.ndim != 2 or self.dim != 1 or self.x1.shape[1] != self.x2.shape[1]:
            return None
        n, m = self.x1.shape[0], self.x2.shape[0]
        return Step(
            "Rows compared one to one where every pair was meant",
            f"Row i of x1 meets row i of x2 only. For every row with every row, shape {(n, m)}: "
            "cossim.pairwise(x1, x2), or cosine_similarity(x1[:, None], x2[None], dim=2).",
        )

    # ---- forms ----

    def __str__(self):
        lines = [f"cosine_similarity of x1 {self.x1.shape} and x2 {self.x2.shape}, dim={self.dim}, eps={_number(self.eps)}"]
        for number, step in enumerate(self.steps, 1):
            shape = "" if step.shape is None else f"   shape {step.shape}"
            lines += ["", f"{number}. {step.title}{shape}", f"   {step.text}"]
            lines += [f"     {value}" for value in step.values]
        if self.mistakes:
            lines += ["", "If you expected other numbers"]
        for mistake in self.mistakes:
            lines += [f" - {mistake.title}:", f"   {mistake.text}"]
            lines += [f"     {value}" for value in mistake.values]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self):
        def listed(values):
            return "<ul>" + "".join(f"<li><code>{escape(value)}</code></li>" for value in values) + "</ul>" if values else ""

        parts = [f"<p><b>cosine_similarity</b>, dim={self.dim}, eps={escape(_number(self.eps))}</p>", "<ol>"]
        for step in self.steps:
            shape = "" if step.shape is None else f" <small>shape {escape(str(step.shape))}</small>"
            parts.append(f"<li><b>{escape(step.title)}</b>{shape}<br>{escape(step.text)}{listed(step.values)}</li>")
        parts.append("</ol>")
        if self.mistakes:
            parts.append("<details><summary>If you expected other numbers</summary><ul>")
            for mistake in self.mistakes:
                parts.append(f"<li><b>{escape(mistake.title)}</b><br>{escape(mistake.text)}{listed(mistake.values)}</li>")
            parts.append("</ul></details>")
        return "<div>" + "".join(parts) + "</div>"


def explain(x1, x2, dim=1, eps=1e-8):
    """Shows, step by step and with your own numbers, how cosine_similarity(x1, x2, dim, eps) comes about.

        x1 . x2 / (max(|x1|, eps) * max(|x2|, eps))

    Parameters
    ----------
    x1, x2, dim, eps
        As in cosine_similarity.

    Returns
    -------
    Explanation
        Prints as text, shows as HTML in a notebook; its attributes norms1, norms2, dots and similarity hold the numbers.
        It also says what usual mistakes would have given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As cosine_similarity.

    Examples
    --------
    >>> import cossim
    >>> e = cossim.explain([[3.0, 4.0]], [[4.0, 3.0]])
    >>> print(e.steps[-1].values[0])
    24 / (5 * 5) = 0.96
    >>> e.norms1, e.dots
    (array([5.]), array([24.]))
    """
    return Explanation(x1, x2, dim, eps)
