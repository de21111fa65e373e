"""Index: a corpus prepared for many searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from cossim import _core, _errors
from cossim._arguments import eps_argument, length_argument
from cossim._progress import reporting
from cossim.search import index_file, rotation
from cossim.search.blocks import (
    BlockwiseSearch,
    Request,
    check_bits,
    check_corpus,
    max_pairs_argument,
    memory_argument,
    rows_of,
    threshold_argument,
)
from cossim.search.filters import filter_argument
from cossim.search.results import Pairs, TopK

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from cossim._typing import Array, Number, Path, Progress, Rows

MAX_CODED_DIM = 4096  # rows with more elements get no codes


def _aligned(rows, width):
    return index_file.aligned_empty(rows * width).reshape(rows, width)


class Index:
    """A corpus prepared for search: its rows, and 8-bit codes of them with a quarter of the bytes of float32 rows.

    The codes only exclude rows that cannot be among the results; all other rows are scored exactly. So the results are
    those of ``topk`` and ``pairs_above``, bit for bit.

    Parameters
    ----------
    corpus : array_like of shape (N, D) or (D,), or path
        Rows are vectors; one vector is a corpus of one row. float64, float32, float16 or bfloat16; integers and bool
        count as float64. An array or numpy.memmap is not copied, and must not be changed while the index is in use. A
        path means ``open_rows(path)``.
        Of a corpus that is mapped from a file, a search reads only the rows that the codes do not exclude, and the
        system can reclaim the memory of the pages that were read. A corpus of a format that cannot be mapped is read
        into memory. Rows of more than 4096 elements get no codes.
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
        The rows. Read-only, as eps is, because the codes depend on both.
    dim : int
        D, the length of a row: with binary=True, the number of its bits.
    nbytes : int
        Bytes that the index adds to those of the corpus: D + 8 per row, 8 for rows of 8-bit integers, which are their
        own codes, or 0 for rows of packed bits and of more than 4096 elements. Heads, where they pay, add up to
        0.2 D - 8 per row.
    binary : bool
        Whether the rows are packed bits.
    eps : float
        The smallest norm to divide by.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        The corpus has no rows, no elements or more than two dimensions, or the file has no rows of vectors.

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
    """

    _binary = False

    def __init__(
        self,
        corpus: Rows,
        *,
        eps: Number = _core.DEFAULT_EPS,
        binary: bool = False,
        progress: Progress | None = None,
    ) -> None:
        name = "Index"
        eps = eps_argument(name, eps)
        (rows,) = rows_of(name, corpus=corpus)
        check_corpus(name, "corpus", rows.array)
        rows = rows.with_array()  # because an index scores rows at any place of the corpus
        self._set(rows.array, None, None, eps)
        if binary:
            check_bits(name, corpus=rows.array)
            self._binary = True
        if self._binary or self.dim > MAX_CODED_DIM:
            return
        # Contiguous rows of 8-bit integers are their own codes.
        are_codes = rows.array.itemsize == 1 and rows.array.strides[1] == 1
        least_rows = rotation.INDEX_ROWS_PER_ELEMENT * self.dim
        directions = None if are_codes else rotation.directions_for(rows.array, least_rows)
        codes = None if are_codes else _aligned(len(rows), self.dim)
        scales = np.empty((len(rows), 2), np.float32)
        self._rotated = rotation.empty_heads(len(rows), directions)
        with reporting(progress, name) as report:
            done = 0
            report_block = None if report is None else lambda in_block, total: report(done + in_block, len(rows))
            for first, block in rows.blocks(len(rows) if rows.in_memory else rows.rows_per_block(64 << 20)):
                part = slice(first, first + len(block))
                request = Request(name, block, block, first, first, False, eps, report_block)
                _core.quantize(request, None if codes is None else codes[part], scales[part])
                if self._rotated is not None:
                    *of_all, heads, head_scales = self._rotated
                    _core.quantize_heads(request._replace(report=None), (*of_all, heads[part], head_scales[part]))
                done += len(block)
        self._codes, self._scales = codes, scales

    def _set(self, corpus, codes, scales, eps, rotated=None):
        self._corpus, self._eps = corpus, eps
        # rotated is None or (directions, error of the directions, heads, scales of the heads).
        self._codes, self._scales, self._rotated = codes, scales, rotated
        return self

    @classmethod
    def _from_parts(cls, *parts):
        return cls.__new__(cls)._set(*parts)

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def corpus(self) -> NDArray[Any]:
        return self._corpus

    @property
    def eps(self) -> float:
        return self._eps

    @property
    def binary(self) -> bool:
        return self._binary

    @property
    def dim(self) -> int:
        return self.corpus.shape[1] * (8 if self.binary else 1)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for name, array in self._arrays().items() if name != "corpus")

    def __repr__(self) -> str:
        kind = "packed bits" if self.binary else self.corpus.dtype
        return f"Index of {len(self)} rows of {self.dim} elements, {kind}"

    def _arrays(self):
        """Returns the arrays by their names in a file."""
        arrays = {"corpus": self.corpus, "codes": self._codes, "scales": self._scales}
        if self._rotated is not None:
            directions, _, heads, head_scales = self._rotated
            arrays |= {"directions": directions, "heads": heads, "head_scales": head_scales}
        return {name: array for name, array in arrays.items() if array is not None}

    def _as_rows(self, name, queries):
        # np.asarray makes the corpus one block, because row numbers must match the codes. A memmap would be read in
        # blocks, and joblib passes large arrays to its workers as memmaps.
        x, y = rows_of(name, queries=queries, corpus=np.asarray(self.corpus))
        check_corpus(name, "corpus", y.array)
        if self.binary:
            check_bits(name, queries=x.array)
        return x, y

    def _search(self, name, x, y, memory, report, found=None):
        # The C core reads aligned C-contiguous arrays. Those of an unpickled index can be others.
        directions, error, heads, head_scales = self._rotated or (None, 0.0, None, None)
        codes, heads = (None if array is None else np.require(array, np.uint8, "CA") for array in (self._codes, heads))
        scales, directions, head_scales = (
            None if array is None else np.require(array, np.float32, "CA")
            for array in (self._scales, directions, head_scales)
        )
        rotated = None if self._rotated is None else (directions, error, heads, head_scales)
        return BlockwiseSearch(name, x, y, self.eps, memory, report, (codes, scales, rotated), self.binary, found)

    def topk(
        self,
        queries: Rows,
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
        queries : array_like of shape (Q, D) or (D,), or path
            Rows are vectors; shape (D,) is one vector. The dtypes are those of a corpus.
        k : int
            At least 1. Places that no row fills have the index -1 and the value NaN.
        where : array_like of bool (N,) or (Q, N), or of int (n,), optional
            The rows to choose from, as for ``cossim.topk``. Neither rows nor codes of other rows are read.
        exclude : array_like of int, shape (m,) or (Q, m), optional
            Rows that are left out, as for ``cossim.topk``.
        memory : int, optional
            Bound of the working set in bytes, for queries in a file.
        progress : bool or callable, optional
            True shows a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        TopK
            values: shape (Q, k), or (k,) for one query vector; float32 or float64. indices: the same shape, int64.

        Raises
        ------
        TypeError, ValueError
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
        k, memory = length_argument(name, "k", k), memory_argument(name, memory)
        x, y = self._as_rows(name, queries)
        found = filter_argument(name, where, exclude, len(x), len(y))
        with reporting(progress, name) as report:
            return self._search(name, x, y, memory, report, found).topk(k)

    def pairs_above(
        self,
        queries: Rows,
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
        queries : array_like of shape (Q, D) or (D,), or path
            Rows are vectors; shape (D,) is one vector. The dtypes are those of a corpus.
        threshold : float
            In [-1, 1]. It is rounded to the dtype of the scores.
        where : array_like of bool (N,) or (Q, N), or of int (n,), optional
            The rows that may be in a pair, for all queries or for each query, as for ``cossim.pairs_above``.
        exclude : array_like of int, shape (m,) or (Q, m), optional
            Rows that are left out, for all queries or for each query; -1 stands for none.
        max_pairs : int, optional
            If there are more pairs, none are returned; the ValueError says how many there are.
        memory : int, optional
            Bound of the working set in bytes, for queries in a file.
        progress : bool or callable, optional
            True shows a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        Pairs
            i: numbers of queries, int64. j: numbers of rows, int64. values: float32 or float64. Sorted by i, then j.

        Raises
        ------
        TypeError, ValueError
            As ``cossim.pairs_above``.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> found = cossim.Index(np.eye(3)).pairs_above(np.array([[0.0, 3.0, 4.0]]), 0.7)
        >>> found.i, found.j, found.values
        (array([0]), array([2]), array([0.8]))
        """
        name = "Index.pairs_above"
        threshold, memory = threshold_argument(name, threshold), memory_argument(name, memory)
        max_pairs = max_pairs_argument(name, max_pairs)
        x, y = self._as_rows(name, queries)
        found = filter_argument(name, where, exclude, len(x), len(y))
        with reporting(progress, name) as report:
            return self._search(name, x, y, memory, report, found).pairs_above(threshold, max_pairs)

    def save(self, path: Path, *, progress: Progress | None = None) -> None:
        """Writes the index, with corpus and codes, to one .safetensors file.

        Other programs can read the arrays "corpus", "codes" and "scales" with the package safetensors. An existing file
        is replaced once the new one is complete. After an error it is unchanged.

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
        with reporting(progress, "Index.save") as report:
            metadata = {"eps": self.eps.hex()} | ({"binary": "True"} if self.binary else {})
            index_file.write(path, metadata, self._arrays(), progress=report)

    @classmethod
    def load(cls, path: Path, mmap: bool = True, *, verify: bool = True) -> Self:
        """Reads an index that ``save`` wrote.

        Parameters
        ----------
        path : str or os.PathLike
        mmap : bool
            True maps the file, and searches read the parts that they need. False reads the whole file into memory.
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
            of the format can still be read.
        ImportError
            The corpus is bfloat16, and ml_dtypes is not installed.

        Examples
        --------
        >>> import cossim
        >>> cossim.Index.load("no such file")
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'no such file'
        """
        metadata, arrays = index_file.read(path, mmap=mmap, verify=verify)
        corpus, scales, directions = (arrays.get(name) for name in ("corpus", "scales", "directions"))
        codes = arrays.get("codes")
        rotated = None
        try:
            eps = float.fromhex(metadata["eps"])
        except (KeyError, OverflowError, ValueError):
            eps = -1.0
        fits = corpus is not None and corpus.ndim == 2 and corpus.size and eps >= 0
        binary = metadata.get("binary") == "True"
        if fits and binary:
            fits = corpus.dtype == np.uint8 and codes is None and scales is None and directions is None
        elif fits and corpus.shape[1] <= MAX_CODED_DIM:
            rows, dim = corpus.shape
            expected: dict[str, tuple[Any, Any]] = {"scales": ((rows, 2), np.float32)}
            if codes is not None or corpus.itemsize != 1:
                expected["codes"] = corpus.shape, np.uint8
            if directions is not None:
                size = len(directions) if directions.ndim == 2 else 0
                expected |= {
                    "directions": ((size, dim), np.float32),
                    "heads": ((rows, size), np.uint8),
                    "head_scales": ((rows, 3), np.float32),
                }
            fits = all(
                name in arrays and (arrays[name].shape, arrays[name].dtype) == array for name, array in expected.items()
            )
            if fits and directions is not None:
                rotated = directions, rotation.rotation_error(directions), arrays["heads"], arrays["head_scales"]
                fits = 0 < size <= dim and size % 4 == 0 and rotated[1] <= rotation.MOST_ERROR
        if not fits:
            raise ValueError(_errors.NOT_AN_INDEX.format(path=path))
        index = cls._from_parts(corpus, codes, scales, eps, rotated)
        index._binary = binary
        return index
