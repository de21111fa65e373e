"""Exact cosine neighbours as scikit-learn estimators: pip install 'cossim-c[sklearn]'."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core, _errors

try:
    from scipy import sparse
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    message = _errors.NEEDS_PACKAGE.format(function="cossim.sklearn", package="scikit-learn")
    raise ModuleNotFoundError(message) from error

from cossim._arguments import eps_argument
from cossim.search.blocks import check_k
from cossim.search.functions import pairs_above, topk
from cossim.search.index import Index
from cossim.search.near_duplicates import own_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CosineNeighbors", "CosineNeighborsTransformer"]

FLOATS = np.float64, np.float32, np.float16
MODES = ("distance", "similarity", "connectivity")


class _Fitted:
    """The rows of fit, and their Index, which is made when it is first used: fit_transform does not need it.

    Sparse rows, and dense rows for sparse queries, are searched without an Index.

    An estimator's own attributes may not change after fit, so these two are in a separate object.
    """

    def __init__(self, rows: Any, eps: float) -> None:
        self.rows, self.eps = rows, eps

    def without_index(self, queries: Any) -> bool:
        return sparse.issparse(self.rows) or sparse.issparse(queries)

    @cached_property
    def index(self) -> Index:
        return Index(self.rows, eps=self.eps)


class _Neighbors(BaseEstimator):
    """Base class of both estimators: a prepared corpus and its searches."""

    def fit(self, X: Any, y: None = None) -> Any:
        """Prepares the rows of X for searches.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Floats keep their type, float64, float32 or float16. Other numbers become float64. Other sparse formats
            than CSR are converted to CSR.
        y : None
            Ignored; pipelines pass it.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            X is not a matrix of finite real numbers with at least one row, or a parameter of the estimator is invalid.
        """
        self._check_parameters()
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS)
        self._fitted = _Fitted(X, eps_argument("Index", self.eps))
        self.n_samples_fit_ = X.shape[0]
        return self

    @property
    def index_(self) -> Index:
        check_is_fitted(self)
        if sparse.issparse(self._fitted.rows):
            raise AttributeError(_errors.NO_INDEX_OF_SPARSE.format(function=type(self).__name__))
        return self._fitted.index

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_parameters(self):
        pass

    def _rows(self, X):
        """Checks X. Returns an array, CSR, or None, which means the rows of fit, each without itself."""
        check_is_fitted(self)
        return None if X is None else validate_data(self, X, reset=False, accept_sparse="csr", dtype=FLOATS)

    def _check_k(self, k, candidates):
        with_itself = getattr(self, "mode", "connectivity") != "connectivity"  # results include the row
        check_k(type(self).__name__, k, candidates, "n_neighbors + 1" if with_itself else "n_neighbors")

    def _topk(self, X, k):
        self._check_k(k, self.n_samples_fit_ - (X is None))
        corpus = self._fitted.rows
        if X is None:
            return topk(corpus, None, k, eps=self.eps)
        return topk(X, corpus, k, eps=self.eps) if self._fitted.without_index(X) else self.index_.topk(X, k)

    def _topk_of_fit(self, k):
        """Returns _topk for the rows of fit as queries, which may find themselves. Scores each pair of rows once."""
        self._check_k(k, self.n_samples_fit_)
        corpus = self._fitted.rows
        if sparse.issparse(corpus):
            return topk(corpus, corpus, k, eps=self.eps)
        values, indices = topk(corpus, None, k, eps=self.eps)
        own, rows = own_scores(corpus, self.eps, values.dtype)[:, None], np.arange(len(corpus))[:, None]
        # Scores are not NaN. A neighbour precedes the row itself if it scores higher, or the same with a lower number.
        first = (values > own) | ((values == own) & (indices < rows))
        place, columns = first.sum(axis=1, keepdims=True), np.arange(k)
        source = np.maximum(columns - (columns > place), 0)
        values, indices = np.take_along_axis(values, source, 1), np.take_along_axis(indices, source, 1)
        return np.where(columns == place, own, values), np.where(columns == place, rows, indices)

    def _graph_of_nearest(self, X, k, mode, of_fit=False):
        count = self.n_samples_fit_
        values, indices = self._topk_of_fit(k) if of_fit else self._topk(X, k)
        starts = np.arange(0, values.size + 1, k)
        return sparse.csr_matrix((_weights(values.ravel(), mode), indices.ravel(), starts), (len(values), count))

    def _graph_within(self, X, radius, mode):
        """Returns the graph of all neighbours within a radius, each row in order of index."""
        if not 0 <= radius <= 2:
            raise ValueError(_errors.RADIUS.format(function=type(self).__name__, radius=radius))
        corpus = self._fitted.rows
        if X is None:
            i, j, values = pairs_above(corpus, 1 - radius, eps=self.eps)
            i, j, values = np.concatenate((i, j)), np.concatenate((j, i)), np.concatenate((values, values))
        elif self._fitted.without_index(X):
            i, j, values = pairs_above(X, 1 - radius, corpus, eps=self.eps)
        else:
            i, j, values = self.index_.pairs_above(X, 1 - radius)
        rows = (corpus if X is None else X).shape[0]
        order = np.lexsort((j, i))
        starts = np.concatenate(([0], np.cumsum(np.bincount(i, minlength=rows))))
        return sparse.csr_matrix((_weights(values[order], mode), j[order], starts), (rows, corpus.shape[0]))


class CosineNeighborsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Neighbors):
    """Transforms rows into the sparse graph of their nearest rows, by exact cosine similarity.

    It replaces ``sklearn.neighbors.KNeighborsTransformer(metric="cosine")`` in front of estimators with
    ``metric="precomputed"``: DBSCAN, HDBSCAN, TSNE, Isomap, SpectralClustering and others.

    Parameters
    ----------
    n_neighbors : int
        Neighbours of each row. As in KNeighborsTransformer, graphs of distances have one more, because a row of the
        training set is its own nearest neighbour. At most n_samples.
    radius : float, optional
        Take all neighbours within this cosine distance, in [0, 2], instead of n_neighbors.
    mode : "distance", "similarity" or "connectivity"
        The values in the graph: 1 - cosine, the cosine, or 1.
    eps : float
        The smallest norm to divide by.

    Attributes
    ----------
    index_ : cossim.Index
        Made when it is first used. Sparse rows have none.
    n_samples_fit_, n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from cossim.sklearn import CosineNeighborsTransformer
    >>> X = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    >>> graph = CosineNeighborsTransformer(n_neighbors=1).fit_transform(X)
    >>> graph.toarray().round(1)
    array([[0. , 0.4, 0. ],
           [0. , 0. , 0.2],
           [0. , 0.2, 0. ]])
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        radius: float | None = None,
        mode: str = "distance",
        eps: float = _core.DEFAULT_EPS,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.mode = mode
        self.eps = eps

    def _check_parameters(self):
        if self.mode not in MODES:
            raise ValueError(_errors.MODE.format(function=type(self).__name__, modes=MODES, mode=self.mode))

    def transform(self, X: Any) -> Any:
        """Returns the graph of the neighbours of X among the rows of fit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_queries, n_features)

        Returns
        -------
        scipy.sparse.csr_matrix of shape (n_queries, n_samples_fit)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            fit was not called.
        ValueError
            X does not have the number of columns of fit, or n_neighbors is larger than the number of rows of fit.

        Examples
        --------
        >>> import numpy as np
        >>> from cossim.sklearn import CosineNeighborsTransformer
        >>> X = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
        >>> transformer = CosineNeighborsTransformer(n_neighbors=1, mode="connectivity").fit(X)
        >>> transformer.transform(np.array([[0.0, 3.0]])).toarray()
        array([[0., 0., 1.]])
        """
        X = self._rows(X)
        if self.radius is not None:
            return self._graph_within(X, self.radius, self.mode)
        return self._graph_of_nearest(X, self.n_neighbors + (self.mode != "connectivity"), self.mode)

    def fit_transform(self, X: Any, y: None = None) -> Any:
        """Returns ``fit(X).transform(X)``, but computes one score for each pair of rows instead of two.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : None
            Ignored; pipelines pass it.

        Returns
        -------
        scipy.sparse.csr_matrix of shape (n_samples, n_samples)
        """
        self.fit(X)
        if self.radius is not None:
            return self.transform(X)
        return self._graph_of_nearest(None, self.n_neighbors + (self.mode != "connectivity"), self.mode, of_fit=True)

    @property
    def _n_features_out(self):
        return self.n_samples_fit_


class CosineNeighbors(_Neighbors):
    """Searches for the nearest rows by exact cosine similarity.

    It replaces ``sklearn.neighbors.NearestNeighbors(metric="cosine")``. Distances are 1 - cosine.

    Parameters
    ----------
    n_neighbors : int
        Default number of neighbours of ``kneighbors``.
    radius : float
        Default cosine distance of ``radius_neighbors``, in [0, 2].
    eps : float
        The smallest norm to divide by.

    Attributes
    ----------
    index_ : cossim.Index
        Made when it is first used. Sparse rows have none.
    n_samples_fit_, n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from cossim.sklearn import CosineNeighbors
    >>> neighbors = CosineNeighbors(n_neighbors=1).fit(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
    >>> distances, indices = neighbors.kneighbors(np.array([[0.0, 1.0]]))
    >>> distances, indices
    (array([[0.]]), array([[2]]))
    """

    def __init__(self, n_neighbors: int = 5, *, radius: float = 0.25, eps: float = _core.DEFAULT_EPS) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.eps = eps

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Finds the nearest rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_queries, n_features), optional
            None stands for the rows of fit, and leaves each row out of its own neighbours.
        n_neighbors : int, optional
            Defaults to the parameter of the estimator.
        return_distance : bool
            Whether to return the distances too.

        Returns
        -------
        distances : numpy.ndarray of shape (n_queries, n_neighbors)
            Only with return_distance; ascending.
        indices : numpy.ndarray of the same shape

        Raises
        ------
        sklearn.exceptions.NotFittedError
            fit was not called.
        ValueError
            X does not have the number of columns of fit, or n_neighbors is larger than the number of candidates.

        Examples
        --------
        >>> import numpy as np
        >>> from cossim.sklearn import CosineNeighbors
        >>> neighbors = CosineNeighbors(n_neighbors=1).fit(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
        >>> neighbors.kneighbors(return_distance=False)
        array([[1],
               [2],
               [1]])
        """
        values, indices = self._topk(self._rows(X), self.n_neighbors if n_neighbors is None else n_neighbors)
        return (_weights(values, "distance"), indices) if return_distance else indices

    def kneighbors_graph(self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity") -> Any:
        """Returns the graph of the nearest rows as a scipy.sparse.csr_matrix of shape (n_queries, n_samples_fit).

        Parameters
        ----------
        X, n_neighbors
            As in ``kneighbors``.
        mode : "connectivity", "distance" or "similarity"
            The values in the graph: 1, 1 - cosine, or the cosine.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As ``kneighbors``, or mode has another value.

        Examples
        --------
        >>> import numpy as np
        >>> from cossim.sklearn import CosineNeighbors
        >>> neighbors = CosineNeighbors(n_neighbors=1).fit(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
        >>> neighbors.kneighbors_graph(mode="similarity").toarray()
        array([[0. , 0.6, 0. ],
               [0. , 0. , 0.8],
               [0. , 0.8, 0. ]])
        """
        if mode not in MODES:
            raise ValueError(_errors.MODE.format(function="kneighbors_graph", modes=MODES, mode=mode))
        return self._graph_of_nearest(self._rows(X), self.n_neighbors if n_neighbors is None else n_neighbors, mode)

    def radius_neighbors(
        self, X: Any = None, radius: float | None = None, return_distance: bool = True, sort_results: bool = False
    ) -> Any:
        """Finds all rows within a cosine distance.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_queries, n_features), optional
            None stands for the rows of fit, and leaves each row out of its own neighbours.
        radius : float, optional
            In [0, 2]. Defaults to the parameter of the estimator.
        return_distance : bool
            Whether to return the distances too.
        sort_results : bool
            Whether to sort the neighbours of a row by distance. Otherwise they are in order of index.

        Returns
        -------
        distances : numpy.ndarray of shape (n_queries,), of arrays
            Only with return_distance.
        indices : numpy.ndarray of shape (n_queries,), of arrays

        Raises
        ------
        sklearn.exceptions.NotFittedError
            fit was not called.
        ValueError
            X does not have the number of columns of fit, or radius is outside [0, 2].

        Examples
        --------
        >>> import numpy as np
        >>> from cossim.sklearn import CosineNeighbors
        >>> neighbors = CosineNeighbors(radius=0.3).fit(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
        >>> distances, indices = neighbors.radius_neighbors(np.array([[0.0, 1.0]]))
        >>> indices[0].tolist()
        [1, 2]
        """
        graph = self._graph_within(self._rows(X), self.radius if radius is None else radius, "distance")
        distances, indices = (_object_array(np.split(a, graph.indptr[1:-1])) for a in (graph.data, graph.indices))
        if sort_results:
            orders = [np.argsort(d, kind="stable") for d in distances]
            distances, indices = (
                _object_array([r[o] for r, o in zip(a, orders, strict=True)]) for a in (distances, indices)
            )
        return (distances, indices) if return_distance else indices


def _weights(values: NDArray[Any], mode: str) -> NDArray[Any]:
    if mode == "connectivity":
        return np.ones_like(values)
    return values if mode == "similarity" else 1 - values


def _object_array(arrays):
    result = np.empty(len(arrays), object)
    result[:] = arrays
    return result
