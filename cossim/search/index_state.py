"""The arrays of an Index at one moment, and how rows are added to them and left out.

No function changes the rows of a State. A search reads one State, and a change of the index makes a new one.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cossim import _core, _errors
from cossim._arithmetic import fixed_arithmetic
from cossim._dtypes import dtype_name, is_bfloat16
from cossim.search import rotation
from cossim.search.blocks import Request
from cossim.search.index_file import ChosenRows, aligned_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

MAX_CODED_DIM = 4096  # rows with more elements get no codes
LEAST_ROOM = 64  # rows
# add() closes the gaps of removed rows once there is more than one gap for HOLES_OF_ADD live rows. remove() closes them
# once a quarter of the places is empty. A search does not read removed rows, but scattered gaps make it up to an
# eighth slower.
HOLES_OF_ADD, HOLES_OF_REMOVE = 8, 4
RUN_BYTES = 4096  # runs of at least this mean size are copied one by one
HALVES = "upper_codes", "lower_codes"
FILE_ORDER = ("corpus", *HALVES, "scales", "directions", "heads", "head_scales", "numbers")
COPIED_ROWS = 256  # rows copied at a time, if some are left out and np.take cannot write the others in place


class State(NamedTuple):
    """The rows of an Index at one moment.

    A row has a place, its position in the arrays, and a number, which the user knows. Both rise together, so that equal
    scores, which are in order of place, are in order of number too. csrc/python/arrays.c reads the fields in this
    order.
    """

    # By name, with one row for each place: "corpus" (P, D); "upper_codes" and "lower_codes" (P, ceil(D / 2)), and
    # "scales" (P, 2); "heads" (P, H) and "head_scales" (P, 3); "numbers" (P,), int64, if they are not 0 .. P - 1.
    arrays: Arrays
    directions: NDArray[np.float32] | None  # (H, D), directions of the heads
    error: float  # rotation.rotation_error of the directions
    living: NDArray[np.uint8] | None  # bit p % 8 of byte p // 8: whether the row at place p is live; None: all are
    size: int  # live rows
    given: int  # how many numbers were ever given, which is the number of the next row
    measured: int  # the value of `given` when the directions were last measured
    any_dtype: bool  # the first rows that are added choose the dtype

    @property
    def corpus(self) -> NDArray[Any]:
        return self.arrays["corpus"]

    @property
    def codes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        """The upper and the lower halves of the codes."""
        return (self.arrays[HALVES[0]], self.arrays[HALVES[1]]) if HALVES[0] in self.arrays else None

    @property
    def scales(self) -> NDArray[np.float32] | None:
        return self.arrays.get("scales")

    @property
    def rotated(self) -> tuple[NDArray[np.float32], float, NDArray[np.uint8], NDArray[np.float32]] | None:
        if self.directions is None:
            return None
        return self.directions, self.error, self.arrays["heads"], self.arrays["head_scales"]

    @property
    def places(self) -> int:
        return len(self.corpus)

    def living_places(self) -> NDArray[np.int64] | None:
        """Returns the places of the live rows, ascending, or None if all are live."""
        if self.living is None:
            return None
        return np.flatnonzero(np.unpackbits(self.living, count=self.places, bitorder="little"))

    def numbers(self) -> NDArray[np.int64]:
        """Returns the numbers of the live rows, ascending."""
        places = self.living_places()
        numbers = self.numbers_at(np.arange(self.places) if places is None else places)
        return numbers.astype(np.int64)  # a copy

    def numbers_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the number of the row at each place, in the shape of places. Place -1 has the number -1."""
        numbers = self.arrays.get("numbers")
        if numbers is None or not len(numbers):
            return places
        return np.where(places < 0, -1, numbers[places])

    def find(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns (places, lives). lives tells which numbers are those of live rows; only these have a valid place."""
        column = self.arrays.get("numbers")
        places, lives = numbers, numbers.view(np.uint64) < self.places  # False for those below 0 too
        if column is not None and self.places:
            places = np.minimum(np.searchsorted(column, numbers), self.places - 1)
            lives = column[places] == numbers
        if self.living is not None:
            places = places * lives
            lives &= (self.living[places >> 3] >> (places & 7) & 1) != 0
        return places, lives

    def places_of(self, function: str, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the places of numbers. Raises IndexError for a number never given, or whose row was removed."""
        places, lives = self.find(numbers)
        if not lives.all():
            number = int(numbers[~lives][0])
            message = _errors.NUMBER_REMOVED if 0 <= number < self.given else _errors.NUMBER_UNKNOWN
            raise IndexError(message.format(function=function, number=number, given=self.given))
        return places


def readable(state: State) -> State:
    """Returns a state whose codes, heads, numbers and bits the C core can read: aligned and C-contiguous.

    The arrays of an unpickled index may not be. The codes of older files and pickles are split into halves.
    """
    types: dict[str, Any] = dict.fromkeys((*HALVES, "heads"), np.uint8)
    types |= dict.fromkeys(("scales", "head_scales"), np.float32) | {"numbers": np.int64}
    arrays = {
        name: np.require(array, types[name], ["C", "A"]) if name in types else array
        for name, array in (_with_halves(state.arrays) if "codes" in state.arrays else state.arrays).items()
    }
    directions = None if state.directions is None else np.require(state.directions, np.float32, ["C", "A"])
    living = state.living
    if living is not None and (living.nbytes % 8 or living.ctypes.data % 8):  # searches read words of 64 bits
        living = _core.living_with(np.require(living, np.uint8, "C"), state.places, state.places)
    return state._replace(arrays=arrays, directions=directions, living=living)


# ---- the codes of older files ----


def _with_halves(arrays):
    """Replaces codes (P, D), one byte for each element, by their upper and lower halves.

    The scales get an upper bound of the residual of the upper halves: the residual of the codes, plus the norm of the
    difference between the codes and the centers of their upper halves.
    """
    codes, old, size = arrays["codes"], arrays["scales"], -(-arrays["codes"].shape[1] // 2)
    new = {name: array for name, array in arrays.items() if name != "codes"}
    upper, lower = (aligned_empty(len(codes) * size).reshape(len(codes), size) for _ in HALVES)
    scales = aligned_empty(8 * len(codes)).view(np.float32).reshape(-1, 2)
    for first in range(0, len(codes), COPIED_ROWS):
        part = slice(first, first + COPIED_ROWS)
        block = np.zeros((len(codes[part]), 2 * size), np.uint8)
        block[:, : codes.shape[1]] = codes[part]
        left, right = block[:, :size], block[:, size:]
        upper[part] = left >> 4 | (right & 0xF0)
        lower[part] = (left & 15) | right << 4
        with fixed_arithmetic():
            scale, residual = old[part].astype(np.float64).T
            rest = (codes[part] & 15) - 8.0
            half = (residual + scale * np.sqrt(np.einsum("ij,ij->i", rest, rest))) * (1 + 1e-6)
            bits = [(np.asarray(x, np.float32).view(np.uint32) + 0xFFFF) >> 16 for x in (old[part, 1] * 1, half)]
            both = np.where(np.isfinite(old[part, 1]), bits[0] << 16 | bits[1], old[part, 1].view(np.uint32))
            scales[part, 0], scales[part, 1] = old[part, 0], both.astype(np.uint32).view(np.float32)
    return new | dict(zip(HALVES, (upper, lower), strict=True)) | {"scales": scales}


# ---- the first rows ----


def empty_like(arrays: Arrays, rows: int) -> Arrays:
    """Returns new arrays of the types of `arrays` with this many rows, in the byte order of this machine."""

    def one(array):
        dtype = array.dtype if is_bfloat16(array.dtype) else array.dtype.newbyteorder("=")
        size = int(np.prod(array.shape[1:])) * dtype.itemsize
        return aligned_empty(rows * size).view(dtype).reshape(rows, *array.shape[1:])

    return {name: one(array) for name, array in arrays.items()}


def first_state(corpus: NDArray[Any], binary: bool, any_dtype: bool) -> State:
    """Returns the State of an Index of these rows, which are not copied. encode() fills its codes and heads later.

    Rows of packed bits, and rows of more than MAX_CODED_DIM elements, have neither codes nor heads.
    """
    rows, dim = corpus.shape
    arrays, directions, error = {"corpus": corpus}, None, 0.0
    if not binary and dim <= MAX_CODED_DIM:
        # Contiguous rows of 8-bit integers are their own codes.
        if corpus.itemsize > 1 or corpus.strides[1] != 1:
            size = -(-dim // 2)
            arrays |= {name: aligned_empty(rows * size).reshape(rows, size) for name in HALVES}
        arrays["scales"] = np.empty((rows, 2), np.float32)
    if HALVES[0] in arrays:
        directions = rotation.directions_for(corpus, rotation.INDEX_ROWS_PER_ELEMENT * dim)
        error = _add_heads(arrays, directions, rows)
    return State(arrays, directions, error, None, rows, rows, rows, any_dtype)


def _add_heads(arrays, directions, rows):
    """Replaces the heads in the arrays by empty ones for `rows` rows. Returns rotation.rotation_error."""
    arrays.pop("heads", None)
    arrays.pop("head_scales", None)
    empty = rotation.empty_heads(rows, directions)
    if empty is None:
        return 0.0
    _, error, arrays["heads"], arrays["head_scales"] = empty
    return error


def encode(
    function: str,
    block: NDArray[Any],
    state: State,
    first: int,
    eps: float,
    report: Callable[[int, int], object] | None = None,
    heads_only: bool = False,
) -> None:
    """Makes the codes and heads of a block of rows, whose first one has the place `first`, in the arrays of a state."""
    if state.scales is None or not len(block):
        return
    part = slice(first, first + len(block))
    request = Request(function, block, block, first, first, False, eps, report)
    if not heads_only:
        codes = None if state.codes is None else (state.codes[0][part], state.codes[1][part])
        _core.quantize(request, codes, state.scales[part])
    if state.rotated is not None:
        directions, error, heads, head_scales = state.rotated
        _core.quantize_heads(request._replace(report=None), (directions, error, heads[part], head_scales[part]))


# ---- rows of another dtype ----

_MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_WIDER = {"float16": ("float32", "float64"), "bfloat16": ("float32", "float64"), "float32": ("float64",)}


def _widest_range(name):
    """Returns the range of whole numbers that a dtype holds without gaps."""
    if name == "bool":
        return 0, 1
    if name in _MANTISSA:
        return -(2 ** _MANTISSA[name]), 2 ** _MANTISSA[name]
    return np.iinfo(name).min, np.iinfo(name).max


def exact_rows(function: str, rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns rows as an array of a dtype, in either byte order. Raises TypeError if that could change their values.

    Floats become wider floats. Integers and bool become any type that holds all whole numbers from their smallest to
    their largest element.
    """
    if rows.dtype == dtype:
        return rows
    source, target = dtype_name(rows.dtype), dtype_name(dtype)
    exact = source == target or target in _WIDER.get(source, ())
    if rows.dtype.kind in "iub" and not exact:
        least, most = _widest_range(target)
        exact = not rows.size or (least <= int(rows.min()) and int(rows.max()) <= most)
    if not exact:
        raise TypeError(_errors.NOT_EXACT.format(function=function, source=source, target=target))
    if source != target and source == "bfloat16":
        rows = (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif source != target and target == "bfloat16":  # whole numbers up to 2^8, which it holds exactly
        rows = (rows.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(dtype)
    return rows if dtype_name(rows.dtype) == target else rows.astype(dtype.newbyteorder("="))


def _copy_rows(to, rows, places=None):
    """Copies rows, or only those at `places`, to the first rows of `to`. Both have one type, in either byte order."""
    if to.dtype != rows.dtype and is_bfloat16(
        to.dtype
    ):  # as integers, because not all kinds of bfloat16 convert to one another
        to, rows = to.view(np.uint16), rows.view(np.uint16)
    if places is None:
        to[: len(rows)] = rows
        return
    ends = np.flatnonzero(places[1:] != places[:-1] + 1) + 1
    if rows[:1].nbytes * len(places) >= RUN_BYTES * (len(ends) + 1):  # twice as fast as np.take
        firsts = [0, *ends.tolist()]
        for first, last, place in zip(firsts, [*firsts[1:], len(places)], places[firsts].tolist(), strict=True):
            to[first:last] = rows[place : place + last - first]
        return
    if rows.flags.c_contiguous and rows.flags.aligned and rows.dtype == to.dtype:
        np.take(rows, places, axis=0, out=to[: len(places)], mode="clip")  # the mode in which take needs no buffer
        return
    for first in range(0, len(places), COPIED_ROWS):
        part = places[first : first + COPIED_ROWS]
        to[first : first + len(part)] = rows[part]


# ---- changes ----


def moved(function: str, state: State, more: int, eps: float) -> tuple[State, Arrays]:
    """Copies the live rows to new arrays of at least twice their number, with room for `more` further rows.

    Returns the state, which has no holes, and the longer arrays, whose first rows are those of the state.
    If half of the rows were added since the directions were measured, measures whether others suit the rows better.
    """
    places, count = state.living_places(), state.size
    old = dict(state.arrays)
    if places is not None and "numbers" not in old:
        old["numbers"] = np.arange(state.places)
    room = empty_like(old, max(LEAST_ROOM, count + more, 2 * count))
    for name, array in old.items():
        _copy_rows(room[name], array, places)
    new = state._replace(arrays=_first_rows(room, count), living=None)
    if new.codes is not None and 2 * (state.given - state.measured) >= count:
        new = _measured(function, new, room, eps)
    return new, room


def _first_rows(room, count):
    arrays = {name: array[:count] for name, array in room.items()}
    arrays["corpus"].flags.writeable = False  # users see it
    return arrays


def _measured(function, state, room, eps):
    """Chooses directions for the present rows. If the directions change, computes the heads of all rows again."""
    least_rows = rotation.INDEX_ROWS_PER_ELEMENT * state.corpus.shape[1]
    directions = rotation.directions_for(state.corpus, least_rows, state.directions)
    state = state._replace(measured=state.given)
    if directions is state.directions:
        return state
    error = _add_heads(room, directions, len(room["corpus"]))
    state = state._replace(arrays=_first_rows(room, state.size), directions=directions, error=error)
    encode(function, state.corpus, state, 0, eps, heads_only=True)
    return state


def added(
    function: str, state: State, room: Arrays | None, blocks: Iterable[NDArray[Any]], rows: int, eps: float
) -> tuple[State, Arrays]:
    """Adds blocks with `rows` rows in all, of the dtype of the corpus. Returns a state and arrays, as moved() does."""
    first = state.places
    crowded = room is None or len(room["corpus"]) < first + rows
    if room is None or crowded or HOLES_OF_ADD * (first - state.size) > state.size:
        state, room = moved(function, state, rows, eps)
        first = state.places
    last = first + rows
    if "numbers" in room:
        room["numbers"][first:last] = np.arange(state.given, state.given + rows)
    grown = state._replace(
        arrays=_first_rows(room, last),
        living=None if state.living is None else _core.living_with(state.living, first, last),
        size=state.size + rows,
        given=state.given + rows,
    )
    at = first
    for block in blocks:
        to = room["corpus"][at : at + len(block)]
        _copy_rows(to, block)
        encode(function, to, grown, at, eps)
        at += len(block)
    return grown, room


def removed(function: str, state: State, numbers: NDArray[np.int64]) -> State:
    """Removes rows. Raises IndexError for a number without a live row, and ValueError for one that occurs twice."""
    without: State | None = _core.state_without(state, numbers) if len(numbers) else state
    if without is None:
        state.places_of(function, numbers)
        ordered = np.sort(numbers)
        number = ordered[1:][ordered[1:] == ordered[:-1]][0]
        raise ValueError(_errors.NUMBER_TWICE.format(function=function, number=number))
    return without


def _is_part(array):
    """Returns whether an array is part of a larger one that it keeps in memory, and not of a mapped file."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    return base.nbytes > array.nbytes + 4096 and not isinstance(base, np.memmap)


def compacted(state: State) -> tuple[State, NDArray[np.int64]]:
    """Returns the state with the numbers 0 .. N - 1 and without room or holes, and the old numbers."""
    old, places, count = state.numbers(), state.living_places(), state.size
    arrays = {name: array for name, array in state.arrays.items() if name != "numbers"}
    if places is not None or any(_is_part(array) for array in arrays.values()):
        exact = empty_like(arrays, count)
        for name, array in arrays.items():
            _copy_rows(exact[name], array, places)
        arrays = _first_rows(exact, count)
    return state._replace(arrays=arrays, living=None, given=count, measured=count), old


# ---- files ----


def as_file(state: State) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the metadata and the arrays of the live rows, for index_file.write."""
    places = state.living_places()
    arrays: dict[str, Any] = {
        name: state.arrays[name] for name in ("corpus", *HALVES, "scales") if name in state.arrays
    }
    if state.directions is not None:
        arrays |= {name: state.arrays[name] for name in ("heads", "head_scales")}
    if places is not None:
        arrays = {name: ChosenRows(array, places) for name, array in arrays.items()}
    if state.directions is not None:
        arrays["directions"] = state.directions
    metadata = {"any_dtype": "True"} if state.any_dtype else {}
    if state.given != state.size:
        metadata["given"] = str(state.given)
        arrays["numbers"] = state.numbers()
    return metadata, {name: arrays[name] for name in FILE_ORDER if name in arrays}


def _ascend(numbers, given):
    return numbers[0] >= 0 and numbers[-1] < given and (numbers[1:] > numbers[:-1]).all()


def of_file(metadata: dict[str, str], arrays: Arrays, binary: bool, verify: bool) -> State | None:
    """Returns the state that as_file() described, or None if the arrays are not those of an index.

    Without verify, it does not check that the numbers ascend.
    """
    corpus = arrays.get("corpus")
    if corpus is None or corpus.ndim != 2 or not corpus.shape[1]:
        return None
    rows, dim = corpus.shape
    directions = arrays.get("directions")
    expected: dict[str, tuple[Any, Any]] = {"corpus": (corpus.shape, np.uint8 if binary else corpus.dtype)}
    if not binary and dim <= MAX_CODED_DIM:
        expected["scales"] = (rows, 2), np.float32
        if "codes" in arrays:  # of older files
            expected["codes"] = corpus.shape, np.uint8
        elif HALVES[0] in arrays or corpus.itemsize != 1:
            expected |= dict.fromkeys(HALVES, ((rows, -(-dim // 2)), np.uint8))
    error = 0.0
    if directions is not None:
        size = len(directions) if directions.ndim == 2 else 0
        if not 0 < size <= dim or size % rotation.STEP or "scales" not in expected:
            return None
        expected["heads"], expected["head_scales"] = ((rows, size), np.uint8), ((rows, 3), np.float32)
        if (directions.shape, directions.dtype) != ((size, dim), np.float32):
            return None
        error = rotation.rotation_error(directions)
        if not error <= rotation.MOST_ERROR:
            return None
    given = rows
    if "given" in metadata:
        digits = metadata["given"]
        given = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else -1
        if not rows < given < 2**63:
            return None
        expected["numbers"] = (rows,), np.int64
    if any((arrays[n].shape, arrays[n].dtype) != e if n in arrays else True for n, e in expected.items()):
        return None
    if verify and rows and "given" in metadata and not _ascend(arrays["numbers"], given):
        return None
    kept = {name: arrays[name] for name in expected}
    any_dtype = metadata.get("any_dtype") == "True" and not rows
    return State(kept, directions, error, None, rows, given, given, any_dtype)


# ---- one change at a time ----


class WriteLock:
    """A lock that is free in a new process after a fork, whichever thread held it in the old one.

    Use it as `with write_lock.lock`. This class has no __enter__ and __exit__, because Ctrl-C could stop them while the
    lock is held, and then no later change could begin.
    """

    _every: weakref.WeakSet[WriteLock] = weakref.WeakSet()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        WriteLock._every.add(self)

    @classmethod
    def release_all(cls) -> None:
        for lock in cls._every:
            lock.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WriteLock.release_all)
