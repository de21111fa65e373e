"""Filters of a search: which rows, and which pairs of rows, may be results. They are packed for the C core."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _core, _errors
from cossim._arguments import beyond_int64, integer_text
from cossim._errors import described

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = 64
_BOOL, _INT64 = np.dtype(bool), np.dtype(np.int64)


class Filter(NamedTuple):
    """The pairs of a search that may be results: struct filter of csrc/results/filter.h, in the order of its fields.

    A bitmap has one bit for each of the rows that are candidates, least significant bit first.
    """

    rows: NDArray[np.uint64] | None = None  # (words,): bits of the candidates; None: all rows
    pairs: NDArray[np.uint64] | None = None  # (queries, words): bits for each query; None: no such bits
    excluded: NDArray[np.int64] | None = None  # (queries, m): candidates left out for a query, ascending; -1 for none
    both: bool = False  # the queries are rows of the same array, and `rows` selects among them too
    most: int = sys.maxsize  # no query has more candidates

    def candidates(self, rows: int) -> NDArray[np.bool_]:
        """Returns a mask (rows,) of the rows that are candidates of some query."""
        bits = self.rows if self.pairs is None else np.bitwise_or.reduce(self.pairs, axis=0)
        if bits is None:
            return np.ones(rows, bool)
        return np.unpackbits(bits.astype("<u8").view(np.uint8), count=rows, bitorder="little").view(bool)


def filter_argument(
    function: str, where: Any, exclude: Any, queries: int, candidates: int, both: bool = False
) -> Filter | None:
    """Checks the arguments where= and exclude=. Returns None if all pairs may be results.

    both: the queries are the candidates, so a pair is a result only if the filter allows both of its rows.
    """
    if exclude is None:
        if where is None:
            return None
        # The fast path, for arrays that need no conversion: a search among few candidates takes little longer.
        if type(where) is np.ndarray and where.ndim == 1:
            if where.dtype is _BOOL and len(where) == candidates:
                return make_filter(where, None, both)
            if where.dtype is _INT64 and (packed := _core.pack_numbers(where, candidates)) is not None:
                bits, most = packed
                return Filter(bits, None, None, both, most)
    mask, excluded = checked(function, where, exclude, queries, candidates, both)
    return None if mask is None and excluded is None else make_filter(mask, excluded, both)


def make_filter(mask: NDArray[np.bool_] | None, excluded: NDArray[np.int64] | None, both: bool) -> Filter | None:
    """Returns the Filter of a mask (N,) or (Q, N) and of row numbers (Q, m) to leave out."""
    if mask is None:
        return Filter(None, None, excluded, both)
    bits, most = _core.pack_mask(mask)
    if mask.ndim == 2 and len(mask) == 1 and not both:
        return Filter(bits[0], None, excluded, False, most)
    if mask.ndim == 2:
        return Filter(None, bits, excluded, both, most)
    if most == len(mask) and excluded is None:
        return None
    return Filter(bits, None, excluded, both, most)


def checked(
    function: str, where: Any, exclude: Any, queries: int, candidates: int, both: bool = False
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64] | None]:
    """Returns (mask, excluded) of the arguments where= and exclude=, each None if it is not given.

    mask: (N,) or (Q, N). excluded: row numbers (Q, m), ascending for each query, with -1 for none.
    """
    mask = None if where is None else _mask(function, where, queries, candidates)
    excluded = None if exclude is None else _excluded(function, exclude, queries, candidates)
    if excluded is not None and excluded.ndim == 1:  # rows that are left out for all queries
        mask = np.ones(candidates, bool) if mask is None else np.array(mask)
        left_out = excluded[excluded >= 0]
        mask[..., left_out] = False
        if both and mask.ndim == 2:
            mask[left_out] = False
        excluded = None
    if excluded is not None:
        excluded = np.sort(excluded, axis=1) if (excluded >= 0).any() else None
    return mask, excluded


def chosen_rows(function: str, where: Any, exclude: Any, rows: int) -> NDArray[np.bool_] | None:
    """The mask (rows,) of where and exclude for a search whose filter holds for all queries. None: all rows."""
    mask, excluded = checked(function, where, exclude, 1, rows, True)
    if excluded is None:
        return None if mask is None else mask.reshape(-1)
    chosen = np.ones(rows, bool) if mask is None else np.array(mask.reshape(-1))
    chosen[excluded[excluded >= 0]] = False
    return chosen


def filter_array(function: str, name: str, value: Any, rows: int) -> NDArray[Any]:
    """Returns an argument that has row numbers or a mask as an array. Refuses text, and numbers beyond int64."""
    try:
        return _core.as_array(function, name, value)
    except TypeError:
        if _is_text(value):
            arrays = described(**{name: np.asarray(value)})
            raise TypeError(_errors.FILTER_TEXT.format(function=function, name=name, arrays=arrays)) from None
        for number in beyond_int64(value):
            raise _no_such_row(function, name, number, rows) from None
        raise


def _no_such_row(function, name, number, rows):
    message = _errors.NEGATIVE_ROW if number < 0 else _errors.NO_SUCH_ROW
    return IndexError(message.format(function=function, name=name, number=integer_text(number), rows=rows))


def _is_text(value):
    if not isinstance(value, (list, tuple, np.ndarray)) and not hasattr(value, "to_numpy"):
        return False
    elements = np.asarray(value).ravel().tolist()
    return bool(elements) and all(isinstance(element, (str, bytes)) for element in elements)


def _mask(function, where, queries, candidates):
    """Returns where= as a mask (N,) or (Q, N)."""
    given = filter_array(function, "where", where, candidates)
    if given.dtype == bool:
        if given.shape not in ((candidates,), (queries, candidates)):
            shapes = f"({candidates},) or ({queries}, {candidates})"
            message = _errors.MASK_SHAPE.format(function=function, shapes=shapes, arrays=described(where=given))
            raise ValueError(message)
        return given
    numbers = _numbers(function, "where", given, candidates, least=0)
    if numbers.ndim != 1:
        raise ValueError(_errors.WHERE_NUMBERS.format(function=function, arrays=described(where=given)))
    mask = np.zeros(candidates, bool)
    mask[numbers] = True
    return mask


def _excluded(function, exclude, queries, candidates):
    """Returns exclude= as row numbers (m,) or (Q, m), with -1 for none."""
    given = filter_array(function, "exclude", exclude, candidates)
    numbers = _numbers(function, "exclude", given, candidates, least=-1)
    if numbers.ndim not in (1, 2) or (numbers.ndim == 2 and len(numbers) != queries):
        shapes = f"(m,) or ({queries}, m)"
        message = _errors.EXCLUDE_SHAPE.format(function=function, shapes=shapes, arrays=described(exclude=given))
        raise ValueError(message)
    return numbers


def _numbers(function, name, given, candidates, least):
    """Returns row numbers as int64, one number as (1,). Raises IndexError unless they are in [least, candidates)."""
    if given.dtype.kind not in "iu" and given.size:
        message = _errors.WHERE_DTYPE if name == "where" else _errors.EXCLUDE_DTYPE
        raise TypeError(message.format(function=function, arrays=described(**{name: given})))
    for number in (int(given.min()), int(given.max())) if given.size else ():
        if not least <= number < candidates:
            raise _no_such_row(function, name, number, candidates)
    return np.atleast_1d(given.astype(np.int64))
