"""Reranking: diverse rows, by maximal marginal relevance, and documents of many vectors, by MaxSim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, overload

import numpy as np

from cossim import _core, _errors
from cossim._arguments import count_argument, eps_argument, number_argument, size_argument
from cossim._arithmetic import fixed_arithmetic
from cossim._errors import described
from cossim._progress import reporting
from cossim.search.blocks import BlockwiseSearch, Options, check_elements, rows_of, score_dtype, with_places
from cossim.search.filters import chosen_rows, filter_argument
from cossim.search.index import Index
from cossim.search.results import TopK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import SupportsIndex, TypeAlias, TypedDict

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from cossim._typing import Array, Number, Progress, Rows

    _Documents: TypeAlias = Array | Iterable[Array] | Index

    class _Options(TypedDict, total=False):
        """The keyword arguments of maxsim, for its overloads."""

        where: Array | None
        exclude: Array | None
        eps: Number
        progress: Progress | None


# Documents may be separate arrays. maxsim copies successive ones into one array: up to ROWS rows with several threads,
# which share the work, and up to FEW_ROWS rows with one.
ROWS, FEW_ROWS = 1 << 14, 1 << 8


def diverse(
    query: Array,
    corpus: Rows,
    k: SupportsIndex,
    weight: Number = 0.5,
    fetch: SupportsIndex | None = None,
    *,
    where: Array | None = None,
    exclude: Array | None = None,
    eps: Number = _core.DEFAULT_EPS,
) -> TopK:
    """Chooses k rows of corpus that are similar to the query but not to each other: maximal marginal relevance.

    Rows are chosen one after the other. The next one is the row with the highest

        weight * similarity to the query - (1 - weight) * largest similarity to the rows chosen so far

    and the first one is the row most similar to the query. Equal rows rank by number. (Carbonell and Goldstein 1998,
    "The use of MMR, diversity-based reranking for reordering documents and producing summaries".)

    Parameters
    ----------
    query : array_like of shape (D,) or (Q, D)
        One vector, or several that are answered one by one.
    corpus : array_like of shape (N, D), or path
        Rows are vectors, as for topk. Rows that are read block by block, such as those of Parquet or HDF5, are read
        into memory.
    k : int
        At least 1. Places that no row fills have the index -1 and the value NaN.
    weight : float
        From 0 to 1. 1 is topk; 0 only looks for rows unlike each other.
    fetch : int, optional
        Chooses only among the ``fetch`` rows most similar to the query. Each choice then takes ``fetch`` similarities
        instead of N. None chooses among all rows.
    where, exclude : array_like, optional
        The rows to choose from, and rows that are left out, as for topk.
    eps : float
        The smallest norm to divide by; zero rows score 0.

    Returns
    -------
    TopK
        values: similarities to the query, of shape (k,) or (Q, k), float32 or float64. indices: int64, of the same
        shape, in the order chosen. Rows that score NaN are not chosen as long as there are others.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        k, weight or fetch is out of range, the rows have different lengths, or a mask does not fit the corpus.
    IndexError
        where or exclude has the number of a row that does not exist.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> corpus = np.array([[1.0, 0.0], [1.0, 0.01], [0.8, 0.6], [0.0, 1.0]])
    >>> cossim.diverse(np.array([1.0, 0.1]), corpus, 2).indices
    array([1, 3])
    >>> cossim.diverse(np.array([1.0, 0.1]), corpus, 2, weight=0.55).indices
    array([1, 2])
    >>> cossim.diverse(np.array([1.0, 0.1]), corpus, 2, where=[2, 3]).indices
    array([2, 3])
    """
    name = "diverse"
    k, weight, eps = count_argument(name, "k", k), number_argument(name, "weight", weight), eps_argument(name, eps)
    if not 0 <= weight <= 1:
        raise ValueError(_errors.WEIGHT.format(function=name, weight=weight))
    vectors = _core.as_array(name, "query", query)
    if corpus is None:
        raise TypeError(_errors.NOT_NUMBERS.format(function=name, name="corpus", kind="NoneType"))
    x, y = rows_of(name, query=np.atleast_2d(vectors), corpus=corpus)
    check_elements(name, "corpus", y.array)
    y = y.with_array()  # because rows are chosen at any place of the corpus
    count = len(y) if fetch is None else min(size_argument(name, "fetch", fetch, 1), len(y))
    left = filter_argument(name, where, exclude, len(x), len(y))
    search = BlockwiseSearch(x, y, Options(name, eps, filter=left))
    near, numbers = (np.atleast_2d(found) for found in search.topk(count))
    values, indices = np.full((len(x), k), np.nan, near.dtype), np.full((len(x), k), -1, np.int64)
    with fixed_arithmetic():
        for query in range(len(x)):
            found = np.count_nonzero(numbers[query] >= 0)
            rows = y.array[numbers[query, :found]].astype(near.dtype)  # scores of 16-bit rows stay float32
            order = _mmr(near[query, :found], rows, min(k, found), weight, eps)
            values[query, : len(order)], indices[query, : len(order)] = near[query, order], numbers[query, order]
    shape = (*vectors.shape[:-1], k)
    return TopK(values.reshape(shape), indices.reshape(shape))


def _mmr(relevance, rows, k, weight, eps):
    """Returns the positions of the k rows chosen. Rows are in order of relevance; argmax takes the first of equals."""
    relevance = weight * relevance.astype(np.float64)
    nearest = np.full(len(rows), -np.inf)
    free = np.ones(len(rows), bool)
    order = [0] if k else []
    while len(order) < k:
        free[order[-1]] = False
        similarity = _core.pairwise(rows[order[-1]][None], rows, eps=eps)[0]
        nearest = np.fmax(nearest, similarity)
        with np.errstate(invalid="ignore"):  # nearest is -inf where all similarities are NaN
            gain = relevance - (1 - weight) * nearest
        gain = np.where(np.isnan(gain), -np.finfo(np.float64).max, gain)
        order.append(int(np.argmax(np.where(free, gain, -np.inf))))
    return order


@overload
def maxsim(
    query: Array, documents: _Documents, offsets: Array | None = None, k: None = None, **options: Unpack[_Options]
) -> NDArray[np.float64]: ...
@overload
def maxsim(
    query: Array, documents: _Documents, offsets: Array | None = None, *, k: SupportsIndex, **options: Unpack[_Options]
) -> TopK: ...
def maxsim(
    query: Array,
    documents: _Documents,
    offsets: Array | None = None,
    k: SupportsIndex | None = None,
    *,
    where: Array | None = None,
    exclude: Array | None = None,
    eps: Number = _core.DEFAULT_EPS,
    progress: Progress | None = None,
) -> NDArray[np.float64] | TopK:
    """Scores documents of many vectors: the sum, over the vectors of the query, of the best cosine in the document.

    This is the late interaction of ColBERT (Khattab and Zaharia 2020). Documents need no padding.

    Parameters
    ----------
    query : array_like of shape (T, D) or (D,)
        One vector for each token of the query.
    documents : N array_like of shape (tokens, D), one array_like of shape (tokens of all documents, D), or Index
        The vectors of each document, at least one. For an Index, its live rows in order of their numbers.
    offsets : array_like of N + 1 integers
        Only for documents in one array or an Index: document n has the rows from offsets[n] to offsets[n + 1].
    k : int, optional
        Returns the k best documents. Places that no document fills have the index -1 and the value NaN.
    where : array_like of bool (N,) or of int (n,), optional
        The documents to choose from: a mask or numbers. The others score NaN, and are not among the k best.
    exclude : array_like of int (m,), optional
        Numbers of documents that are left out; -1 stands for none.
    eps : float
        The smallest norm to divide by, also for the rows of an Index; zero rows score 0.
    progress : bool or callable, optional
        True shows a bar (needs tqdm). A callable is called with the number of documents done and their total.

    Returns
    -------
    numpy.ndarray of shape (N,), float64
        Scores from -T to T. A document with a NaN score for a token scores NaN.
    TopK
        With k: values and indices of shape (k,), best first; equal scores by number, NaN last.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        A document has no rows, the rows have different lengths, offsets do not ascend from 0 to the number of rows,
        k is below 1, or a mask does not fit the documents.
    IndexError
        where or exclude has the number of a document that does not exist.

    Examples
    --------
    >>> import numpy as np, cossim
    >>> query = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> documents = [[[3.0, 4.0]], [[2.0, 0.0], [0.0, 5.0], [1.0, 1.0]]]
    >>> cossim.maxsim(query, documents)
    array([1.4, 2. ])
    >>> cossim.maxsim(query, [[3.0, 4.0], [2.0, 0.0], [0.0, 5.0], [1.0, 1.0]], [0, 1, 4], k=1)
    TopK of 1 query, k = 1
    query  index: value
        0  1: 2
    """
    name = "maxsim"
    eps = eps_argument(name, eps)
    query = np.atleast_2d(_core.as_rows(name, ("query",), (query,))[0])
    if offsets is None:
        parts = _documents(name, documents)
        sizes = np.array([len(rows) if rows.ndim == 2 else -1 for rows in parts], np.int64)
        wrong = np.flatnonzero(sizes < 1)
        if len(wrong):
            document = parts[wrong[0]]
            array = described(**{f"documents[{wrong[0]}]": document})
            message = _errors.VECTOR_AS_DOCUMENT if document.ndim == 1 and len(document) else _errors.NOT_A_DOCUMENT
            raise ValueError(message.format(function=name, number=wrong[0], arrays=array))
    else:
        if isinstance(documents, Index) and not documents.binary:
            documents = documents.corpus
        parts = [_core.as_array(name, "documents", documents)]
        sizes = np.diff(_offsets(name, offsets, parts[0]))
    for n, rows in enumerate(parts):
        if rows.shape[1] != query.shape[1]:
            documents_name = "documents" if offsets is not None else f"documents[{n}]"
            _core.as_rows(name, ("query", documents_name), (query, rows))  # raises ValueError
    if k is not None:
        k = count_argument(name, "k", k)
    mask = chosen_rows(name, where, exclude, len(sizes))
    scores = np.zeros(len(sizes), np.float64)  # a query of no tokens scores 0
    ends = np.append(0, np.cumsum(sizes))
    with reporting(progress, name, "documents") as report, fixed_arithmetic():
        if offsets is not None:
            _core.maxsim(query, parts[0], ends, mask, eps, report, scores)
        else:
            dtype = score_dtype(query, *parts)
            query = query.astype(dtype)
            # A call for one document runs on one thread. Several threads share a call for many, which are copied.
            together = ROWS if _core.get_num_threads() > 1 else FEW_ROWS
            for first, last in _groups(ends[1:], together):
                of_group = None if mask is None else mask[first:last]
                if of_group is None or of_group.any():
                    rows = parts[first]  # not copied if it is alone and has the dtype of the scores
                    if last - first > 1 or score_dtype(query, rows) != dtype:
                        rows = np.concatenate(parts[first:last], dtype=dtype)
                    within = ends[first : last + 1] - ends[first]
                    _core.maxsim(query, rows, within, of_group, eps, None, scores[first:last])
                if report is not None:
                    report(last, len(sizes))
    if mask is not None:
        scores[~mask] = np.nan
    if k is None:
        return scores
    with fixed_arithmetic():
        order = np.lexsort((np.arange(len(scores)), -scores))
        order = order[:k] if mask is None else order[mask[order]][:k]
    values, indices = with_places(name, scores[order][None], order[None], k)
    return TopK(values[0], indices[0])


def _documents(name, documents):
    try:
        each = None if isinstance(documents, (str, bytes, Mapping)) else iter(documents)
    except TypeError:
        each = None
    if each is None:
        raise TypeError(_errors.NOT_DOCUMENTS.format(function=name, kind=type(documents).__name__))
    return [_core.as_array(name, f"documents[{n}]", rows) for n, rows in enumerate(each)]


def _offsets(name, offsets, documents):
    """Returns offsets as int64, after checking them."""
    offsets = _core.as_array(name, "offsets", offsets)
    fits = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) and documents.ndim == 2
    if not fits or offsets[0] != 0 or offsets[-1] != len(documents) or (offsets[1:] <= offsets[:-1]).any():
        arrays = described(documents=documents, offsets=offsets)
        raise ValueError(_errors.OFFSETS.format(function=name, arrays=arrays))
    return offsets.astype(np.int64)


def _groups(ends: NDArray[np.int64], rows: int) -> Iterator[tuple[int, int]]:
    """Yields (first, last) of successive documents that have at most `rows` rows together, or of one document."""
    first = 0
    while first < len(ends):
        limit = (ends[first - 1] if first else 0) + rows
        last = max(first + 1, int(np.searchsorted(ends, limit, "right")))
        yield first, last
        first = last
