"""Index: a corpus prepared for many searches."""

import math

import numpy as np

from cossim import _core
from cossim._arguments import eps_argument, integer_argument
from cossim._progress import reporting
from cossim.search import index_file
from cossim.search.blocks import memory_argument, rows_of
from cossim.search.functions import (
    check_k,
    check_sides,
    max_pairs_argument,
    pairs_rows,
    threshold_argument,
    topk_rows,
)

DEEPEST = 4096  # elements of rows that have codes
ALIGNMENT = 64


def _aligned(shape):
    """Bytes that begin with a cache line: vectors of codes that cross from one to the next take a fifth longer."""
    block = np.empty(math.prod(shape) + ALIGNMENT, np.uint8)
    first = -block.__array_interface__["data"][0] % ALIGNMENT
    return block[first : first + math.prod(shape)].reshape(shape)


class Index:
    """A corpus prepared for search: 8-bit codes beside its rows, a quarter of the bytes to read (for float32).

    The codes only tell which rows cannot be among the best; the others are scored in full. So the results are those of
    ``topk`` and ``pairs_above``, bit for bit.

    Parameters
    ----------
    corpus : array_like of shape (N, D), or path
        Rows are vectors. float64, float32, float16 or bfloat16; integers and bool count as float64. An array, a
        numpy.memmap among them, is kept as it is and not copied: it must not be changed as long as the index is in use.
        The path of a .npy file stands for its memmap. Of a corpus in a file, a search reads the rows that its codes
        cannot rule out, and the system can take back the memory of what was read. Rows of more than 4096 elements get
        no codes.
    eps : float
        The smallest norm to divide by, so that zero rows score 0.
    progress : bool or callable, optional
        True: a bar (needs tqdm). A callable is called with the number of rows done and their total.

    Attributes
    ----------
    corpus : numpy.ndarray
        The rows. Not to be set, nor is eps: the codes are those of both.
    dim : int
        D, the length of a row.
    nbytes : int
        Bytes that the index adds to those of the corpus: D + 8 a row.
    eps : float

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        A corpus without rows or elements, not of two dimensions, or a path of something else than an array.

    Notes
    -----
    A row x of norm 1 and its code x' of one scale a row, a query q and its own q': |x.q - x'.q'| <= |x - x'| |q| +
    |x'| |q - q'| (Cauchy-Schwarz). The norms of the differences are kept, rounded up.

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

    def __init__(self, corpus, *, eps=1e-8, progress=None):
        name = "Index"
        eps = eps_argument(name, eps)
        (rows,) = rows_of(name, corpus=corpus)
        check_sides(name, rows, "corpus", rows, "corpus")
        self._set(rows.array, None, None, eps)
        if self.dim > DEEPEST:
            return
        codes = _aligned(rows.array.shape)
        scales = np.empty((len(rows), 2), np.float32)
        with reporting(progress, name) as report:
            done = 0
            told = None if report is None else lambda some, total: report(done + some, len(rows))
            for first, block in rows.blocks(len(rows) if rows.map is None else rows.rows_per_block(64 << 20)):
                some = slice(first, first + len(block))
                _core.quantize(name, block, self.eps, told, codes[some], scales[some])
                done += len(block)
        self._codes, self._scales = codes, scales

    def _set(self, corpus, codes, scales, eps):
        self._corpus, self._eps = corpus, eps
        self._codes, self._scales = codes, scales
        return self

    @classmethod
    def _of(cls, *parts):
        return cls.__new__(cls)._set(*parts)

    def __len__(self):
        return len(self.corpus)

    @property
    def corpus(self):
        return self._corpus

    @property
    def eps(self):
        return self._eps

    @property
    def dim(self):
        return self.corpus.shape[1]

    @property
    def nbytes(self):
        return 0 if self._codes is None else self._codes.nbytes + self._scales.nbytes

    def __repr__(self):
        return f"Index of {len(self)} rows of {self.dim} elements, {self.corpus.dtype}"

    def _sides(self, name, queries):
        # The corpus is one block, so that its rows and the codes keep the same numbers, even where it arrives as a
        # memmap, which is else gone through in blocks: joblib hands large arrays to its workers as memmaps.
        x, y = rows_of(name, queries=queries, corpus=np.asarray(self.corpus))
        check_sides(name, x, "queries", y, "corpus")
        return x, y

    def _parts(self):
        """(codes, scales) as the C core reads them: those of a pickle can have another byte order or alignment."""
        if self._codes is None:
            return None, None
        return np.require(self._codes, np.uint8, "CA"), np.require(self._scales, np.float32, "CA")

    def topk(self, queries, k, *, memory=None, progress=None):
        """The k rows most similar to each row of queries: ``cossim.topk(queries, corpus, k)``, bit for bit.

        Parameters
        ----------
        queries : array_like of shape (Q, D), or path
            Rows are vectors, of any of the types of a corpus.
        k : int
            From 1 to N.
        memory : int, optional
            Bytes that bound the working set for queries that lie in a file.
        progress : bool or callable, optional
            True: a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        TopK
            values, shape (Q, k), float32 or float64; indices, shape (Q, k), int64.

        Raises
        ------
        TypeError, ValueError
            As ``cossim.topk``.

        Examples
        --------
        >>> import numpy as np, cossim
        >>> cossim.Index(np.eye(3)).topk(np.array([[0.0, 3.0, 4.0]]), 2)
        TopK(values=array([[0.8, 0.6]]), indices=array([[2, 1]]))
        """
        name = "Index.topk"
        k, memory = integer_argument(name, "k", k), memory_argument(name, memory)
        x, y = self._sides(name, queries)
        check_k(name, k, len(y))
        with reporting(progress, name) as report:
            return topk_rows(name, x, y, k, self.eps, memory, report, self._parts())

    def pairs_above(self, queries, threshold, *, max_pairs=None, memory=None, progress=None):
        """Every pair of a query and a row of at least threshold: ``cossim.pairs_above(queries, threshold, corpus)``.

        Parameters
        ----------
        queries : array_like of shape (Q, D), or path
            Rows are vectors, of any of the types of a corpus.
        threshold : float
            In [-1, 1]; rounded to the dtype of the scores.
        max_pairs : int, optional
            If there are more pairs, none are returned: ValueError says how many there are.
        memory : int, optional
            Bytes that bound the working set for queries that lie in a file.
        progress : bool or callable, optional
            True: a bar (needs tqdm). A callable is called with the number of scores done and their total.

        Returns
        -------
        Pairs
            i: query, j: row, both int64; values, float32 or float64. Sorted by i, then j.

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
        x, y = self._sides(name, queries)
        with reporting(progress, name) as report:
            return pairs_rows(name, x, y, threshold, self.eps, max_pairs, memory, report, self._parts())

    def save(self, path, *, progress=None):
        """Writes the index, corpus and codes, to one file.

        An existing file is replaced once the new one is whole: after an error it is what it was before.

        Parameters
        ----------
        path : str or path
        progress : bool or callable, optional
            True: a bar (needs tqdm). A callable is called with the number of bytes done and their total.

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
        arrays = {"corpus": self.corpus, "codes": self._codes, "scales": self._scales}
        with reporting(progress, "Index.save") as report:
            present = {name: array for name, array in arrays.items() if array is not None}
            index_file.write(path, {"eps": self.eps.hex()}, present, progress=report)

    @classmethod
    def load(cls, path, mmap=True, *, verify=True):
        """Reads an index that ``save`` wrote.

        Parameters
        ----------
        path : str or path
        mmap : bool
            Map the file and read of it what searches need; else all of it into memory.
        verify : bool
            Check every byte against its checksum first. False: all but the contents of the arrays, which opens a
            file of any size at once.

        Returns
        -------
        Index

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is no index, truncated, damaged, or of a newer version.

        Examples
        --------
        >>> import cossim
        >>> cossim.Index.load("no such file")
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'no such file'
        """
        header, arrays = index_file.read(path, mmap=mmap, verify=verify)
        corpus, codes, scales = (arrays.get(name) for name in ("corpus", "codes", "scales"))
        try:
            eps = float.fromhex(header.get("eps"))
        except (OverflowError, TypeError, ValueError):
            eps = -1.0
        fits = corpus is not None and corpus.ndim == 2 and corpus.size and eps >= 0
        if fits and corpus.shape[1] <= DEEPEST:
            fits = (
                codes is not None
                and scales is not None
                and (codes.shape, codes.dtype) == (corpus.shape, np.uint8)
                and (scales.shape, scales.dtype) == ((len(corpus), 2), np.float32)
            )
        if not fits:
            raise ValueError(f"Index.load(): {path} holds other arrays than those of an index")
        return cls._of(corpus, codes, scales, eps)
