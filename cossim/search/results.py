"""TopK and Pairs: the results of searches, and their conversion to tables, sparse matrices and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _errors
from cossim._arguments import needing
from cossim._arithmetic import fixed_arithmetic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cossim._typing import Ids

SHOWN_ROWS = 10  # rows of a table; a longer table shows the first ones and the number of the others
SHOWN_COLUMNS = 5  # neighbours of one query


class TopK(NamedTuple):
    """The result of topk: the best candidates of each query, best first.

    A TopK is a tuple of two arrays: ``values, indices = found``, so ``len(found)`` is 2, and ``for`` goes over the two
    arrays. ``bool(found)`` says whether there is any candidate. A place that no candidate fills has index -1 and value
    NaN.

    Attributes
    ----------
    values : numpy.ndarray
        Scores, float32 or float64. The shape is (Q, k), or (k,) for one query.
    indices : numpy.ndarray of int64
        Row numbers of the corpus, in the same shape.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> found = cossim.topk([[1.0, 1.0], [0.0, 3.0]], [[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]], 2)
    >>> found
    TopK of 2 queries, k = 2
    query  index: value
        0  1: 0.989949  0: 0.707107
        1  2: 1         1: 0.8
    >>> values, indices = found
    >>> indices
    array([[1, 0],
           [2, 1]])
    >>> found.to_list(ids=["east", "north-east", "north"])[1]
    [{'id': 'north', 'value': 1.0}, {'id': 'north-east', 'value': 0.8}]
    """

    values: NDArray[np.floating[Any]]
    indices: NDArray[np.int64]

    def __bool__(self) -> bool:
        return bool((self.indices >= 0).any())

    def __repr__(self) -> str:
        if not _is_table(self, (1, 2)):
            return f"TopK(values={self.values!r}, indices={self.indices!r})"
        return _text_table(self._heading(), ("query", "index: value"), self._cells(), len(self._by_query()[1]))

    def _repr_html_(self) -> str | None:
        if not _is_table(self, (1, 2)):
            return None
        columns = "query", *(f"{n + 1}" for n in range(min(SHOWN_COLUMNS, self.indices.shape[-1])))
        return _html_table(self._heading(), columns, self._cells(), len(self._by_query()[1]))

    def _heading(self):
        queries, k = np.atleast_2d(self.indices).shape
        return f"TopK of {queries} {'query' if queries == 1 else 'queries'}, k = {k}"

    def _by_query(self):
        """Returns (values, indices), both (Q, k)."""
        return np.atleast_2d(self.values), np.atleast_2d(self.indices)

    def _cells(self):
        """Yields the cells of the rows that a table shows."""
        for query, (values, indices) in enumerate(zip(*(a[:SHOWN_ROWS] for a in self._by_query()), strict=True)):
            filled = [(i, v) for i, v in zip(indices, values, strict=True) if i >= 0]
            cells = [f"{i}: {_number(v)}" for i, v in filled[:SHOWN_COLUMNS]]
            yield [f"{query}", *cells, *(["..."] if len(filled) > SHOWN_COLUMNS else [])]

    def to_pandas(self, ids: Ids | None = None) -> Any:
        """Returns a pandas.DataFrame with a row for each candidate found, and the columns query, rank, index and value.

        Queries and rows count from 0, ranks from 1, as in the results of the command ``cossim topk``.

        Parameters
        ----------
        ids : sequence of length N or dict, optional
            Names of the rows of the corpus. They replace the column index by a column id.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            pandas is not installed.
        ValueError
            ids has fewer elements than an index needs.

        Examples
        --------
        >>> import cossim
        >>> cossim.topk([[0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], 1).to_pandas(ids=["east", "north"])
           query  rank     id  value
        0      0     1  north    1.0
        """
        with needing("pandas", "TopK.to_pandas"):
            import pandas
        values, indices = self._by_query()
        query, place = np.nonzero(indices >= 0)
        found = indices[query, place]
        key, keys = ("index", found) if ids is None else ("id", _taken("TopK.to_pandas", ids, found))
        return pandas.DataFrame({"query": query, "rank": place + 1, key: keys, "value": values[query, place]})

    def to_csr(self, shape: tuple[int, int] | None = None, distance: bool = False) -> Any:
        """Returns a scipy.sparse.csr_array of shape (Q, N) with the values of the candidates found.

        Parameters
        ----------
        shape : (int, int), optional
            Defaults to (number of queries, largest index + 1).
        distance : bool
            Whether to store cosine distances, 1 - value, instead. Zero distances are stored as explicit zeros, as
            scikit-learn's graphs of neighbours have them.

        Returns
        -------
        scipy.sparse.csr_array
            The candidates of a query are in its row, best first.

        Raises
        ------
        ImportError
            SciPy is not installed.
        ValueError
            An index does not fit into shape.

        Examples
        --------
        >>> import cossim
        >>> cossim.topk([[0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], 1).to_csr((1, 2)).toarray()
        array([[0., 1.]])
        """
        values, indices = self._by_query()
        filled = indices >= 0
        starts = np.concatenate(([0], np.cumsum(filled.sum(axis=1))))
        return _csr("TopK.to_csr", values[filled], indices[filled], starts, shape, distance)

    def to_list(self, ids: Ids | None = None) -> list[Any]:
        """Returns, for each query, a list of {"index": ..., "value": ...}, which the json module can write.

        Parameters
        ----------
        ids : sequence of length N or dict, optional
            Names of the rows of the corpus. With them the dicts are {"id": ..., "value": ...}.

        Returns
        -------
        list of list of dict, or list of dict for one query
            A value of NaN becomes None, because JSON has no NaN.

        Raises
        ------
        ValueError
            ids has fewer elements than an index needs.

        Examples
        --------
        >>> import cossim
        >>> cossim.topk([[0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], 1).to_list()
        [[{'index': 1, 'value': 1.0}]]
        """
        lists = []
        for values, indices in zip(*self._by_query(), strict=True):
            key, keys = _keys("TopK.to_list", ids, indices[indices >= 0])
            filled = values[indices >= 0].tolist()
            lists.append([{key: k, "value": _json(v)} for k, v in zip(keys, filled, strict=True)])
        return lists[0] if self.indices.ndim == 1 else lists


class Pairs(NamedTuple):
    """The result of pairs_above: pairs of rows and their scores.

    Pairs is a tuple of three arrays of one length: ``i, j, values = found``, so ``len(found)`` is 3, and ``for`` goes
    over the three arrays. ``len(found.i)`` is the number of pairs, and ``bool(found)`` says whether there are any.

    Attributes
    ----------
    i, j : numpy.ndarray of int64
        Row numbers of the two sides.
    values : numpy.ndarray
        Scores, float32 or float64.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> found = cossim.pairs_above([[1.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 2.0]], 0.8)
    >>> found
    3 pairs
    i  j  value
    1  2  1
    1  3  0.8
    2  3  0.8
    >>> i, j, values = found
    >>> i
    array([1, 1, 2])
    >>> found.to_list()[0]
    {'i': 1, 'j': 2, 'value': 1.0}
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    values: NDArray[np.floating[Any]]

    def __bool__(self) -> bool:
        return bool(len(self.i))

    def __repr__(self) -> str:
        if not _is_table(self, (1,)):
            return f"Pairs(i={self.i!r}, j={self.j!r}, values={self.values!r})"
        return _text_table(self._heading(), ("i", "j", "value"), self._cells(), len(self.i))

    def _repr_html_(self) -> str | None:
        if not _is_table(self, (1,)):
            return None
        return _html_table(self._heading(), ("i", "j", "value"), self._cells(), len(self.i))

    def _heading(self):
        return "1 pair" if len(self.i) == 1 else f"{len(self.i)} pairs"

    def _cells(self):
        """Yields the cells of the rows that a table shows."""
        for i, j, value in zip(*(a[:SHOWN_ROWS] for a in self), strict=True):
            yield [f"{i}", f"{j}", _number(value)]

    def sorted(self) -> Pairs:
        """Returns the same pairs by falling score, and pairs of equal scores by i and j.

        Examples
        --------
        >>> import cossim
        >>> cossim.pairs_above([[1.0, 0.0], [1.0, 0.1], [1.0, 0.1]], 0.9).sorted().j
        array([2, 1, 2])
        """
        with fixed_arithmetic():
            order = np.lexsort((self.j, self.i, -self.values))
        return Pairs(self.i[order], self.j[order], self.values[order])

    def to_pandas(self, ids: Ids | tuple[Ids, Ids] | None = None) -> Any:
        """Returns a pandas.DataFrame with the columns i, j and value.

        Parameters
        ----------
        ids : sequence or dict, or tuple of two, optional
            Names of the rows, which replace their numbers. A tuple has the names of both sides, x and y.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            pandas is not installed.
        ValueError
            ids has fewer elements than a row number needs.

        Examples
        --------
        >>> import cossim
        >>> cossim.pairs_above([[1.0, 0.0], [2.0, 0.0]], 0.9).to_pandas(ids=["one", "two"])
             i    j  value
        0  one  two    1.0
        """
        with needing("pandas", "Pairs.to_pandas"):
            import pandas
        i, j = self.i, self.j
        if ids is not None:
            i, j = (_taken("Pairs.to_pandas", *side) for side in zip(_both(ids), (i, j), strict=True))
        return pandas.DataFrame({"i": i, "j": j, "value": self.values})

    def to_csr(self, shape: tuple[int, int] | None = None, distance: bool = False) -> Any:
        """Returns a scipy.sparse.csr_array with the scores at (i, j).

        Where x is compared with itself, each pair is there once, above the diagonal: ``graph + graph.T`` has both
        directions.

        Parameters
        ----------
        shape : (int, int), optional
            Defaults to (largest i + 1, largest j + 1).
        distance : bool
            Whether to store cosine distances, 1 - value, instead. Zero distances are stored as explicit zeros.

        Returns
        -------
        scipy.sparse.csr_array

        Raises
        ------
        ImportError
            SciPy is not installed.
        ValueError
            A row number does not fit into shape.

        Examples
        --------
        >>> import cossim
        >>> cossim.pairs_above([[1.0, 0.0], [2.0, 0.0]], 0.9).to_csr((2, 2)).toarray()
        array([[0., 1.],
               [0., 0.]])
        """
        name = "Pairs.to_csr"
        rows = _shape_of(name, shape, (_end(self.i), _end(self.j)))[0]
        if _end(self.i) > rows:
            raise ValueError(_errors.CSR_SHAPE.format(function=name, shape=shape, number=_end(self.i) - 1, axis=0))
        order = np.lexsort((self.j, self.i))  # because Pairs.sorted orders them by score
        starts = np.concatenate(([0], np.cumsum(np.bincount(self.i, minlength=rows))))
        shape = _shape_of(name, shape, (rows, _end(self.j)))
        return _csr(name, self.values[order], self.j[order], starts, shape, distance)

    def to_list(self, ids: Ids | tuple[Ids, Ids] | None = None) -> list[dict[str, Any]]:
        """Returns a list of {"i": ..., "j": ..., "value": ...}, which the json module can write.

        Parameters
        ----------
        ids : sequence or dict, or tuple of two, optional
            Names of the rows, which replace their numbers. A tuple has the names of both sides, x and y.

        Returns
        -------
        list of dict

        Raises
        ------
        ValueError
            ids has fewer elements than a row number needs.

        Examples
        --------
        >>> import cossim
        >>> cossim.pairs_above([[1.0, 0.0], [2.0, 0.0]], 0.9).to_list()
        [{'i': 0, 'j': 1, 'value': 1.0}]
        """
        i, j = (_keys("Pairs.to_list", *side)[1] for side in zip(_both(ids), (self.i, self.j), strict=True))
        rows = zip(i, j, self.values.tolist(), strict=True)
        return [{"i": a, "j": b, "value": _json(value)} for a, b, value in rows]


# ---- ids ----


def _both(ids):
    """Returns the names of both sides of pairs."""
    return ids if isinstance(ids, tuple) and len(ids) == 2 else (ids, ids)


def _taken(function: str, ids: Ids, numbers: NDArray[np.int64]) -> Any:
    """Returns the names of these rows. Keeps the dtype of an array or Series of names."""
    if isinstance(ids, Mapping):  # row numbers to names, for an Index whose rows come and go
        try:
            return [ids[n] for n in numbers.tolist()]
        except KeyError as error:
            raise ValueError(_errors.NO_ID.format(function=function, number=error.args[0])) from None
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__len__") or not hasattr(ids, "__getitem__"):
        raise TypeError(_errors.IDS_KIND.format(function=function, kind=type(ids).__name__))
    shape: Any = getattr(ids, "shape", (len(ids),))
    if len(shape) != 1:  # a frame, or an array with a column for each kind of name
        kind = f"{type(ids).__name__} of shape {shape}"
        raise TypeError(_errors.IDS_KIND.format(function=function, kind=kind))
    last = _end(numbers)
    if len(ids) < last:
        raise ValueError(_errors.TOO_FEW_IDS.format(function=function, count=len(ids), number=last - 1))
    if hasattr(ids, "iloc"):  # a pandas Series, whose brackets take labels
        return ids.iloc[numbers].reset_index(drop=True)
    if isinstance(ids, np.ndarray):
        return ids[numbers]
    return [ids[n] for n in numbers.tolist()]


def _keys(function: str, ids: Ids | None, numbers: NDArray[np.int64]) -> tuple[str, Sequence[Any]]:
    """Returns ("index", the row numbers) or, with ids, ("id", the names of the rows), for dicts that become JSON."""
    if ids is None:
        return "index", numbers.tolist()
    names = _taken(function, ids, numbers)
    return "id", names.tolist() if hasattr(names, "tolist") else names


# ---- tables ----


def _is_table(result, ndims):
    """Returns whether all fields are NumPy arrays of one shape, with a number of dimensions in ndims."""
    shapes = {field.shape for field in result if isinstance(field, np.ndarray)}
    return all(isinstance(field, np.ndarray) for field in result) and len(shapes) == 1 and len(shapes.pop()) in ndims


def _number(value):
    return f"{value:.6g}"


def _json(value):
    return None if math.isnan(value) else value


def _text_table(heading: str, columns: tuple[str, ...], rows: Iterable[list[str]], count: int) -> str:
    """Returns a table as text. The last heading stands above all remaining cells, which are aligned left."""
    *right, last = columns
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip_longest(right, *rows, fillvalue="")]
    aligned = [str.rjust] * len(right) + [str.ljust] * (len(widths) - len(right))
    lines = [heading]
    for line in [[*right, last], *rows] if rows else []:
        cells = (align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=False))
        lines.append("  ".join(cells).rstrip())
    if count > SHOWN_ROWS:
        lines.append(f"... and {count - SHOWN_ROWS} more")
    return "\n".join(lines)


def _html_table(heading: str, columns: tuple[str, ...], rows: Iterable[list[str]], count: int) -> str:
    """Returns a table as HTML. All cells are numbers, so nothing needs escaping."""
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    rest = f"<p>... and {count - SHOWN_ROWS} more</p>" if count > SHOWN_ROWS else ""
    return f"<p>{heading}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


# ---- sparse matrices ----


def _end(numbers: NDArray[np.int64]) -> int:
    """Returns the largest number plus 1, or 0 for none."""
    return int(numbers.max()) + 1 if numbers.size else 0


def _shape_of(function, shape, default):
    if shape is None:
        return default
    try:
        rows, columns = (int(size) for size in shape)
    except (TypeError, ValueError):
        rows, columns = -1, -1
    if min(rows, columns) < 0:
        raise ValueError(_errors.NOT_A_SHAPE.format(function=function, shape=shape))
    return rows, columns


def _csr(function, values, columns, starts, shape, distance):
    with needing("scipy", function):
        from scipy import sparse
    shape = _shape_of(function, shape, (len(starts) - 1, _end(columns)))
    for axis, number in enumerate((len(starts) - 2, _end(columns) - 1)):
        if number >= shape[axis]:
            raise ValueError(_errors.CSR_SHAPE.format(function=function, shape=shape, number=number, axis=axis))
    starts = np.concatenate((starts, np.full(shape[0] + 1 - len(starts), starts[-1])))
    with fixed_arithmetic():
        return sparse.csr_array((1 - values if distance else values, columns, starts), shape=shape)
