"""Index: a corpus prepared for many searches, to which rows can be added and from which they can be removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np

from cossim import _core, _errors
from cossim._arguments import (
    beyond_int64,
    count_argument,
    eps_argument,
    integer_argument,
    integer_text,
    path_argument,
    size_argument,
)
from cossim._errors import described
from cossim._progress import reporting
from cossim.search import blocks, index_file, index_filters, index_state
from cossim.search.index_state import WriteLock
from cossim.search.results import Pairs, TopK

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from cossim._typing import Array, Number, Numbers, Path, Progress, Rows

BLOCK_BYTES = 64 << 20  # of a corpus in a file that are read at a time
# Attributes that copies and pickles of an Index leave out. A copy gets no room for more rows: rows added to the copy
# and to the original would overwrite each other.
_OWN = ("_lock", "_room")


def _numbers_argument(function, numbers, given):
    """Returns an argument of row numbers as an array of int64. Raises IndexError for a number that int64 cannot hold.

    `given` is how many numbers the index has given to rows so far.
    """
    try:
        array = np.asarray(numbers)
    except ValueError:  # lists of different lengths
        array = np.empty((), object)
    if array.dtype.kind in "fO" or (array.dtype == np.uint64 and array.size and array.max() >= 2**63):
        for number in beyond_int64(numbers if array.dtype.kind == "f" else array):  # NumPy reads [1, 2**63] as floats
            text = integer_text(number)
            raise IndexError(_errors.NUMBER_UNKNOWN.format(function=function, number=text, given=given))
    if array.dtype.kind not in "iu" and (array.size or array.dtype.kind != "f"):
        kind = type(numbers).__name__ if array.dtype == object else array.dtype.name
        kind = "text" if array.dtype.kind in "US" else kind
        raise TypeError(_errors.NUMBERS.format(function=function, kind=kind))
    return array.astype(np.int64)


class _Options(NamedTuple):
    """The options of one search of an index. where and exclude are as the user passed them."""

    where: Any = None
    exclude: Any = None
    memory: int | None = None
    report: Any = None


class Index:
    """A corpus prepared for search: its rows, and 8-bit codes of them with a quarter of the bytes of float32 rows.

    The codes only exclude rows that cannot be among the results; all other rows are scored exactly. So the results are
    those of ``topk`` and ``pairs_above``, bit for bit.

    Rows can be added and removed. A row keeps the number that ``add`` returns for it; the rows of corpus have the
    numbers 0 to N - 1. Results hold these numbers, and are those of a new Index of the live rows, which are those not
    removed. Threads may search while others change an index: a search sees all of an ``add`` or ``remove``, or none of
    it. Copies (``copy.copy``) share memory; a change of one does not change the others.

    Parameters
    ----------
    corpus : array_like of shape (N, D) or (D,), path or None
        Rows are vectors; one vector is a corpus of one row. float64, float32, float16 or bfloat16; integers and bool
        count as float64. An array or numpy.memmap is not copied, and must not be changed while the index is in use. A
        path means ``open_rows(path)``.
        If the corpus is mapped from a file, a search reads only the rows that the codes do not exclude, and the
        system can reclaim the memory of the pages that were read. A corpus of a format that cannot be mapped is read
        into memory. Rows of more than 4096 elements get no codes.
    dim : int, optional
        D, for an index that begins without rows; with binary=True, the number of bits. The first rows that are added
        set the dtype of the index. To choose it earlier, pass a corpus without rows: ``np.empty((0, D), np.float32)``.
    eps : float
        The smallest norm to divide by; zero rows score 0.
    binary : bool
        True: the rows and all queries are packed bits, as for ``pairwise``: uint8, eight elements a byte, +1 for bit 1
        and -1 for bit 0. Such an index has no codes. False: uint8 are numbers.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of rows done and their total.

    Attributes
    ----------
    corpus : numpy.ndarray
        The live rows, in order of their numbers. Read-only, as eps is, because the codes depend on both. It is a copy
        if rows were removed.
    numbers : numpy.ndarray
        The numbers of these rows, int64.
    dim : int
        D, the length of a row; with binary=True, the number of its bits.
    dtype : numpy.dtype
        The dtype of the rows. With ``dim`` alone it is float32 until the first rows set it.
    nbytes : int
        Bytes that the index needs in addition to the corpus: D + 8 per row (D + 9 if D is odd); 8 per row of 8-bit
        integers, which are their own codes; 0 for packed bits and for rows of more than 4096 elements. Heads, where
        they save time, add up to 0.2 D - 8 per row. The numbers add 8 per row once rows were removed.
    binary : bool
        Whether the rows are packed bits.
    eps : float
        The smallest norm to divide by.

    Raises
    ------
    TypeError
        An argument has the wrong type, or corpus and dim are both missing.
    ValueError
        The rows of the corpus have no elements or more than two dimensions, the file has no rows of vectors, or the
        corpus has rows of another length than dim.

    Notes
    -----
    Let x be a row of norm 1 and x' its code, with one scale per row; let q be a query and q' its code. Then
    |x.q - x'.q'| <= |x - x'| |q| + |x'| |q - q'| (Cauchy-Schwarz). The index stores |x - x'|, rounded up.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> index = cossim.Index(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
    >>> index
    Index of 3 rows of 2 elements, float64
    >>> len(index), index.dim
    (3, 2)
    >>> index.topk(np.array([[1.0, 1.0]]), 2).indices
    array([[1, 0]])
    >>> index.remove(1)
    >>> index.add([[2.0, 2.0], [-1.0, 0.0]])
    array([3, 4])
    >>> index.topk(np.array([[1.0, 1.0]]), 2).indices
    array([[3, 0]])
    """

    def __init__(
        self,
        corpus: Rows | None = None,
        *,
        dim: SupportsIndex | None = None,
        eps: Number = _core.DEFAULT_EPS,
        binary: bool = False,
        progress: Progress | None = None,
    ) -> None:
        name = "Index"
        eps = eps_argument(name, eps)
        if isinstance(corpus, (int, np.integer)):
            raise TypeError(_errors.DIM_BY_NAME.format(kind=type(corpus).__name__))
        any_dtype = corpus is None
        if corpus is None:
            corpus = _no_rows(dim, binary)
        (rows,) = blocks.rows_of(name, corpus=corpus)
        if not rows.array.shape[1]:
            blocks.check_corpus(name, "corpus", rows.array)
        rows = rows.with_array()  # because an index scores rows at any place of the corpus
        if binary:
            blocks.check_bits(name, corpus=rows.array)
        size = rows.array.shape[1] * (8 if binary else 1)
        if dim is not None and integer_argument(name, "dim", dim) != size:
            arrays = described(corpus=rows.array)
            raise ValueError(_errors.OTHER_DIM.format(dim=integer_argument(name, "dim", dim), size=size, arrays=arrays))
        state = index_state.first_state(rows.array, binary, any_dtype)
        with reporting(progress, name) as report:
            done = 0
            report_block = None if report is None else lambda in_block, total: report(done + in_block, len(rows))
            for first, block in rows.blocks(max(1, len(rows)) if rows.in_memory else rows.rows_per_block(BLOCK_BYTES)):
                index_state.encode(name, block, state, first, eps, report_block)
                done += len(block)
        self._set(state, eps, binary)

    def _set(self, state, eps, binary):
        self._state, self._eps, self._binary = index_state.readable(state), eps, bool(binary)
        self._room, self._lock = None, WriteLock()
        return self

    @classmethod
    def _from_state(cls, state, eps, binary=False):
        return cls.__new__(cls)._set(state, eps, binary)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _OWN}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.__dict__.update(attributes)
        self._set(self._state, self._eps, self._binary)

    def __len__(self) -> int:
        return self._state.size

    __iter__ = None  # else Python would go through index[0], index[1], ... and stop at the first row that was removed

    def __array__(self, *args: object, **kwargs: object) -> NDArray[Any]:
        raise TypeError(_errors.NOT_AN_ARRAY)

    @property
    def corpus(self) -> NDArray[Any]:
        state = self._state
        places = state.living_places()
        return state.corpus if places is None else state.corpus[places]

    @property
    def numbers(self) -> NDArray[np.int64]:
        return self._state.numbers()

    @property
    def eps(self) -> float:
        return self._eps

    @property
    def binary(self) -> bool:
        return self._binary

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._state.corpus.dtype

    @property
    def dim(self) -> int:
        return self._state.corpus.shape[1] * (8 if self.binary else 1)

    @property
    def nbytes(self) -> int:
        state = self._state
        arrays = [array for name, array in state.arrays.items() if name != "corpus"]
        return sum(array.nbytes for array in (*arrays, state.directions, state.living) if array is not None)

    def __repr__(self) -> str:
        state = self._state
        kind = "packed bits" if self.binary else "any dtype" if state.any_dtype else state.corpus.dtype
        return f"Index of {state.size} {'row' if state.size == 1 else 'rows'} of {self.dim} elements, {kind}"

    def __getitem__(self, numbers: Numbers) -> NDArray[Any]:
        """Returns a copy of rows by their numbers: shape (D,) for an integer, (M, D) for M numbers."""
        name = "Index.__getitem__"
        state = self._state
        wanted = _numbers_argument(name, numbers, state.given)
        return state.corpus[state.places_of(name, wanted.reshape(-1))].reshape(*wanted.shape, state.corpus.shape[1])

    # ---- changes ----

    def add(self, rows: Rows, *, remove: Numbers | None = None) -> NDArray[np.int64]:
        """Adds rows and returns their numbers. A number is never given to another row.

        The first call copies the rows of the index to memory of its own, with room for as many again; the array or
        file that they came from is no longer used. A later call takes time in proportion to the rows that it adds. It
        moves all rows only if no room is left, or if many rows were removed.

        Parameters
        ----------
        rows : array_like of shape (M, D) or (D,), or path
            Rows are vectors; shape (D,) is one vector. They are copied, and become the dtype of the index where that
            is exact: floats become wider floats, and integers and bool any dtype that holds their values.
        remove : int or array_like of int, optional
            Numbers of rows that are removed in the same step: a search in another thread sees the old rows or the new
            ones, never both and never neither.

        Returns
        -------
        numpy.ndarray of shape (M,)
            int64, ascending.

        Raises
        ------
        TypeError
            The rows have the wrong type, or the dtype of the index cannot hold their values exactly.
        ValueError
            The rows have another length.
        TypeError, IndexError, ValueError
            The numbers to remove are wrong, as for ``remove``. Then no row is added either.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> index = cossim.Index(dim=2)
        >>> index.add([[3.0, 4.0], [1.0, 0.0]])
        array([0, 1])
        >>> index.add([0, 2], remove=1)
        array([2])
        >>> index.numbers
        array([0, 2])
        >>> index[2]
        array([0., 2.])
        """
        name = "Index.add"
        with self._lock.lock:
            state = self._state if remove is None else _core.state_without(self._state, remove)
            added = None if state is None else _core.state_with_rows(state, self._room, rows, index_state.HOLES_OF_ADD)
            if added is not None:
                new_state, block, place, numbers = added
                index_state.encode(name, block, new_state, place, self._eps)
                self._state = new_state
                return numbers
        if type(rows) is np.ndarray:
            new = blocks.Rows(_core.as_rows(name, ("rows",), (rows,))[0], None)
        else:
            new = blocks.rows_of(name, rows=rows)[0].with_array()
        if self.binary:
            blocks.check_bits(name, rows=new.array)
        # Conversions can run code of the caller, which may use the index: they are done without the lock.
        unwanted = None if remove is None else _numbers_argument(name, remove, self._state.given).reshape(-1)
        with self._lock.lock:
            state, room = self._state, self._room
            if new.array.shape[1] != state.corpus.shape[1]:
                arrays = described(rows=new.array)
                raise ValueError(_errors.OTHER_LENGTH.format(function=name, size=self.dim, arrays=arrays))
            if unwanted is not None:
                state = index_state.removed(name, state, unwanted)
            if not len(new):
                self._state = state
                return np.empty(0, np.int64)
            if state.any_dtype:
                empty = index_state.empty_like({"corpus": new.array}, 0)["corpus"]
                state, room = index_state.first_state(empty, self.binary, False)._replace(given=state.given), None
            dtype = state.corpus.dtype
            new_blocks = [(0, new.array)] if new.in_memory else new.blocks(new.rows_per_block(BLOCK_BYTES))
            exact = (index_state.exact_rows(name, block, dtype) for _, block in new_blocks)
            self._state, self._room = index_state.added(name, state, room, exact, len(new), self.eps)
            return np.arange(self._state.given - len(new), self._state.given)

    def remove(self, numbers: Numbers) -> None:
        """Removes rows by their numbers. The numbers of other rows do not change.

        The memory of removed rows is used again once there are enough of them. Numbers are not used again.

        Parameters
        ----------
        numbers : int or array_like of int

        Raises
        ------
        TypeError
            The numbers are not integers.
        IndexError
            A number was never given, or its row was removed before. Then no row is removed.
        ValueError
            A number occurs twice. Then no row is removed.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> index = cossim.Index(np.eye(3))
        >>> index.remove([0, 2])
        >>> index.numbers
        array([1])
        """
        name = "Index.remove"
        with self._lock.lock:
            state = _core.state_without(self._state, numbers)
            if state is not None:
                self._set_without_holes(name, state)
                return
        wanted = _numbers_argument(name, numbers, self._state.given).reshape(-1)
        with self._lock.lock:
            self._set_without_holes(name, index_state.removed(name, self._state, wanted))

    def _set_without_holes(self, name, state):
        """Sets a state from which rows were removed. Closes the gaps if there are many."""
        room = self._room
        if room is not None and (state.places - state.size) * index_state.HOLES_OF_REMOVE > state.places:
            state, room = index_state.moved(name, state, 0, self._eps)
        self._state, self._room = state, room  # Ctrl-C cannot come between the two

    def compact(self) -> NDArray[np.int64]:
        """Renumbers the rows from 0 to N - 1 in the same order, and frees memory that is not in use.

        Returns
        -------
        numpy.ndarray of shape (N,)
            The old numbers, int64: row i had the number old[i]. ``ids = ids[old]`` reorders an array of ids to match.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> index = cossim.Index(np.eye(3))
        >>> index.remove(0)
        >>> index.compact()
        array([1, 2])
        >>> index.numbers
        array([0, 1])
        """
        with self._lock.lock:
            state, old = index_state.compacted(self._state)
            self._state, self._room = state, None
            return old

    # ---- searches ----

    def _as_rows(self, name, state, queries):
        # np.asarray makes the corpus one block, because row numbers must match the codes. A memmap would be read in
        # blocks, and joblib passes large arrays to its workers as memmaps.
        corpus = blocks.Rows(np.asarray(state.corpus), None)
        if queries is None:
            return corpus, None
        living = corpus.array[: state.size]  # for messages, in which removed rows do not count
        if self.binary:
            x = blocks.rows_of_bits(name, queries=queries, corpus=living)[0]
        elif type(queries) is np.ndarray:
            x = blocks.Rows(_core.as_rows(name, ("queries", "corpus"), (queries, living))[0], None)
        else:
            x = blocks.rows_of(name, queries=queries, corpus=living)[0]
        return x, corpus

    def _search(self, name, state, queries, options, both=False):
        """Returns the search of queries, or of all rows with each other, among the live rows that filters allow.

        both: with queries=None, filters hold for both rows of a pair.
        """
        x, y = self._as_rows(name, state, queries)
        rows = None if y is None else len(x)
        left = index_filters.filter_by_number(name, state, options.where, options.exclude, rows, both)
        memory = None if y is None else options.memory  # rows with codes are one block
        codes = state.codes, state.scales, state.rotated
        checked = blocks.Options(name, self.eps, memory, options.report, self.binary, left, codes)
        return blocks.BlockwiseSearch(x, y, checked)

    def topk(
        self,
        queries: Rows | None,
        k: SupportsIndex = 10,
        *,
        where: Array | None = None,
        exclude: Array | None = None,
        memory: SupportsIndex | None = None,
        progress: Progress | None = None,
    ) -> TopK:
        """Finds the k rows most similar to each query. The result is ``cossim.topk(queries, corpus, k)``, bit for bit.

        Parameters
        ----------
        queries : array_like of shape (Q, D) or (D,), path or None
            Rows are vectors; shape (D,) is one vector. The dtypes are those of a corpus. None searches with every row
            of the index, in order of ``numbers``, and excludes each from its own results.
        k : int
            At least 1. Places that no row fills have the index -1 and the value NaN.
        where : array_like of bool (M,) or (Q, M), or of int (n,), optional
            The rows to choose from, for all queries or for each query: numbers, or a mask over all M numbers that were
            given since the last ``compact``. Removed rows are never chosen. Neither rows nor codes of other rows are
            read. With queries=None, Q is N, and every row is a query.
        exclude : int, or array_like of int, shape (m,) or (Q, m), optional
            Numbers of rows that are left out, for all queries or for each query; -1 stands for none.
        memory : int, optional
            Bound of the working set in bytes, for queries in a file.
        progress : bool or callable, optional
            True shows a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        TopK
            values: shape (Q, k), or (k,) for one query vector; float32 or float64. indices: numbers of rows, of the
            same shape, int64.

        Raises
        ------
        TypeError, ValueError, IndexError, MemoryError
            As ``cossim.topk``.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> index = cossim.Index(np.eye(3))
        >>> index.topk(np.array([[0.0, 3.0, 4.0]]), 2)
        TopK of 1 query, k = 2
        query  index: value
            0  2: 0.8       1: 0.6
        >>> index.topk([0, 3, 4], 2).indices
        array([2, 1])
        >>> index.topk([0, 3, 4], 2, where=[True, True, False]).indices
        array([1, 0])
        """
        name = "Index.topk"
        k, memory = count_argument(name, "k", k), blocks.memory_argument(name, memory)
        state = self._state
        if queries is None and state.places * (1 - 1 / index_state.HOLES_OF_REMOVE) > state.size:
            state, _ = index_state.moved(name, state, 0, self.eps)  # else most queries would be removed rows
        with reporting(progress, name) as report:
            values, places = self._search(name, state, queries, _Options(where, exclude, memory, report)).topk(k)
        if queries is None and (living := state.living_places()) is not None:
            values, places = values[living], places[living]
        return TopK(values, state.numbers_at(places))

    def pairs_above(
        self,
        queries: Rows | None,
        threshold: Number,
        *,
        where: Array | None = None,
        exclude: Array | None = None,
        max_pairs: SupportsIndex | None = None,
        memory: SupportsIndex | None = None,
        progress: Progress | None = None,
    ) -> Pairs:
        """Finds every pair of a query and a row with a similarity of at least threshold.

        The result is ``cossim.pairs_above(queries, threshold, corpus)``, bit for bit.

        Parameters
        ----------
        queries : array_like of shape (Q, D) or (D,), path or None
            Rows are vectors; shape (D,) is one vector. The dtypes are those of a corpus. None compares the rows of the
            index with each other, and gives each pair of different rows once, with i < j.
        threshold : float
            In [-1, 1]. It is rounded to the dtype of the scores.
        where : array_like of bool (M,) or (Q, M), or of int (n,), optional
            The rows that may be in a pair, as for ``topk``. With queries=None, numbers and a mask (M,) hold for both
            rows of a pair.
        exclude : int, or array_like of int, shape (m,) or (Q, m), optional
            Numbers of rows that are left out, for all queries or for each query; -1 stands for none.
        max_pairs : int, optional
            If there are more pairs, none are returned; the ValueError says how many there are.
        memory : int, optional
            Bound of the working set in bytes, for queries in a file.
        progress : bool or callable, optional
            True shows a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        Pairs
            i: numbers of queries, or of rows with queries=None; int64. j: numbers of rows, int64. values: float32 or
            float64. Sorted by i, then j.

        Raises
        ------
        TypeError, ValueError, IndexError
            As ``cossim.pairs_above``.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> found = cossim.Index(np.eye(3)).pairs_above(np.array([[0.0, 3.0, 4.0]]), 0.7)
        >>> found.i, found.j, found.values
        (array([0]), array([2]), array([0.8]))
        """
        name = "Index.pairs_above"
        threshold, memory = blocks.threshold_argument(name, threshold), blocks.memory_argument(name, memory)
        max_pairs = blocks.max_pairs_argument(name, max_pairs)
        state = self._state
        with reporting(progress, name) as report:
            search = self._search(name, state, queries, _Options(where, exclude, memory, report), queries is None)
            i, j, values = search.pairs_above(threshold, max_pairs)
        return Pairs(state.numbers_at(i) if queries is None else i, state.numbers_at(j), values)

    def duplicate_groups(self, threshold: Number, *, progress: Progress | None = None) -> NDArray[np.int64]:
        """Finds groups of near-duplicates among the rows, as ``cossim.duplicate_groups`` does.

        Parameters
        ----------
        threshold : float
            In [-1, 1]. It is rounded to the dtype of the scores.
        progress : bool or callable, optional
            True shows a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        numpy.ndarray of shape (N,)
            For each row, in order of ``numbers``, the lowest number of its group; int64.

        Raises
        ------
        TypeError, ValueError
            As ``cossim.duplicate_groups``.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> index = cossim.Index(np.array([[1.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, 2.0]]))
        >>> index.remove(0)
        >>> index.duplicate_groups(0.9)
        array([1, 1, 3])
        """
        name = "Index.duplicate_groups"
        threshold = blocks.threshold_argument(name, threshold)
        state = self._state
        with reporting(progress, name) as report:
            labels = self._search(name, state, None, _Options(report=report), True).duplicate_groups(threshold)
        living = state.living_places()
        return state.numbers_at(labels if living is None else labels[living])

    # ---- files ----

    def save(self, path: Path, *, progress: Progress | None = None) -> None:
        """Writes the index, with its rows and codes, to one .safetensors file.

        Other programs can read the arrays "corpus", "upper_codes", "lower_codes" and "scales" with the package
        safetensors, and "numbers" if rows were removed. Removed rows are left out. An existing file is replaced once
        the new one is complete. After an error it is unchanged.

        Parameters
        ----------
        path : str or os.PathLike
        progress : bool or callable, optional
            True shows a bar (needs tqdm). A callable is called with the number of bytes done and their total.

        Raises
        ------
        OSError
            The file cannot be written.

        Examples
        --------
        >>> import numpy as np, cossim, tempfile, os
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "three.index")
        ...     cossim.Index(np.eye(3)).save(path)
        ...     cossim.Index.load(path, mmap=False)
        Index of 3 rows of 3 elements, float64
        """
        path = path_argument("Index.save", path)
        metadata, arrays = index_state.as_file(self._state)
        metadata = {"eps": self.eps.hex()} | ({"binary": "True"} if self.binary else {}) | metadata
        with reporting(progress, "Index.save") as report:
            index_file.write(path, metadata, arrays, progress=report)

    @classmethod
    def load(cls, path: Path, mmap: bool = True, *, verify: bool = True) -> Self:
        """Reads an index that ``save`` wrote.

        Parameters
        ----------
        path : str or os.PathLike
        mmap : bool
            True maps the file, and searches read the parts that they need. False reads the whole file into memory. The
            first ``add`` to a mapped index copies it to memory; ``remove`` does not.
        verify : bool
            True checks every byte against its checksum first. False skips the contents of the arrays, so that a file
            of any size opens at once.

        Returns
        -------
        Index

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            The file is not an index, is truncated or damaged, or has a newer version of the format. Files of version 1
            of the format, and those with one array of codes, can still be read; their codes are then copied.
        ImportError
            The corpus is bfloat16, and ml_dtypes is not installed.

        Examples
        --------
        >>> import cossim
        >>> cossim.Index.load("no such file")
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'no such file'
        """
        path = path_argument("Index.load", path)
        metadata, arrays = index_file.read(path, mmap=mmap, verify=verify)
        try:
            eps = float.fromhex(metadata["eps"])
        except (KeyError, OverflowError, ValueError):
            eps = -1.0
        binary = metadata.get("binary") == "True"
        state = index_state.of_file(metadata, arrays, binary, verify) if eps >= 0 else None
        if state is None:
            raise ValueError(_errors.NOT_AN_INDEX.format(path=path))
        return cls._from_state(state, eps, binary)


def _no_rows(dim, binary):
    """Returns the corpus of an index that begins without rows."""
    if dim is None:
        raise TypeError(_errors.EMPTY_INDEX)
    size = size_argument("Index", "dim", dim, 1)
    if size >= 2**61:  # a longer row of float32 would not fit a NumPy array
        value = integer_text(size)
        raise ValueError(_errors.TOO_LARGE.format(function="Index", name="dim", limit="2**61", value=value))
    if binary and size % 8:
        raise ValueError(_errors.BITS_DIM.format(dim=size))
    return np.empty((0, size // 8), np.uint8) if binary else np.empty((0, size), np.float32)
