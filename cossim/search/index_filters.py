"""Filters of a search in an Index. The candidates are the live rows that where= and exclude= allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _errors
from cossim.search import filters
from cossim.search.filters import Filter

if TYPE_CHECKING:
    from cossim.search.index_state import State


def filter_by_number(
    function: str, state: State, where: Any, exclude: Any, queries: int | None, both: bool
) -> Filter | None:
    """Returns the filter of a search. where and exclude have numbers of rows; the filter has their places.

    queries: the number of queries, or None if the rows of the index are searched with each other. both: filters then
    hold for both rows of a pair.
    """
    if state.living is None and "numbers" not in state.arrays:  # numbers are places
        rows = state.places if queries is None else queries
        return filters.filter_argument(function, where, exclude, rows, state.places, both)
    rows = state.size if queries is None else queries
    if where is not None:
        where = _where(function, state, where, rows, queries is None)
    if exclude is not None:
        exclude = _exclude(function, state, exclude, rows, queries is None)
    rows = state.places if queries is None else queries
    found = filters.filter_argument(function, where, exclude, rows, state.places, both)
    if state.living is None:
        return found
    living = state.living.view("<u8").astype(np.uint64, copy=False)[: -(-state.places // filters.WORD)]
    if found is None:
        return Filter(living, both=both, most=state.size)
    found = found._replace(most=min(found.most, state.size))
    if found.pairs is not None:
        return found._replace(pairs=found.pairs & living)
    return found._replace(rows=living if found.rows is None else found.rows & living)


def _where(function, state, where, rows, itself):
    """Returns where= by places, not numbers.

    itself: the queries are the rows of the index. A mask (live rows, numbers) then gets a row for each removed row.
    """
    given = filters.filter_array(function, "where", where, state.given)
    if given.dtype != bool:
        numbers = filters._numbers(function, "where", given, state.given, least=0)
        places, lives = state.find(numbers)
        return places[lives] if numbers.ndim == 1 else places  # not 1-d, so filter_argument raises an error
    if given.shape == (state.size,) != (state.given,):
        raise ValueError(_errors.MASK_OF_LIVE_ROWS.format(function=function, size=state.size, given=state.given))
    mask = filters._mask(function, given, rows, state.given)
    if "numbers" in state.arrays:
        mask = mask[..., state.arrays["numbers"]]
    if itself and mask.ndim == 2 and state.living is not None:
        whole = np.zeros((state.places, state.places), bool)
        whole[state.living_places()] = mask
        return whole
    return mask


def _exclude(function, state, exclude, rows, itself):
    """Returns exclude= by places, not numbers, with -1 for rows that were removed already."""
    numbers = filters._excluded(function, exclude, rows, state.given)
    places, lives = state.find(numbers)
    places = np.where(lives, places, -1)
    if itself and places.ndim == 2 and state.living is not None:
        whole = np.full((state.places, places.shape[1]), -1)
        whole[state.living_places()] = places
        return whole
    return places
