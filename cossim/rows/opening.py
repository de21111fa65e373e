"""open_rows: from a path to the reader of its format."""

from __future__ import annotations

import glob
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _errors
from cossim._arguments import size_argument
from cossim._io import open_regular
from cossim.rows import arrays, binary, hdf5, tables, words
from cossim.rows.file_rows import FileRows
from cossim.rows.reader import Reader, RowsError, ShardsReader, Source, errors_with_path
from cossim.rows.sparse_files import SparseFileRows, SparseReader, joined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import SupportsIndex

    from numpy.typing import DTypeLike

    from cossim._typing import Path

# The openers of all formats, by suffix: each takes a Source and returns a Reader. Add a new format to the FORMATS of a
# module, or a new module here.
FORMATS: dict[str, Any] = {**arrays.FORMATS, **binary.FORMATS, **words.FORMATS, **tables.FORMATS, **hdf5.FORMATS}
MAGIC = {  # first bytes of formats, for files of other suffixes
    b"\x93NUMPY": ".npy",
    b"PK\3\4": ".npz",
    b"PAR1": ".parquet",
    b"\x89HDF\r\n\x1a\n": ".h5",
}
OTHER = {  # suffixes of files that have to be converted: the message, and the suffix of the new file
    ".json": (_errors.ROWS_WHOLE_JSON, ".parquet"),
    ".pkl": (_errors.ROWS_PICKLE, ".npy"),
    ".pickle": (_errors.ROWS_PICKLE, ".npy"),
    ".joblib": (_errors.ROWS_PICKLE, ".npy"),
    ".pt": (_errors.ROWS_PICKLE, ".npy"),
    ".pth": (_errors.ROWS_PICKLE, ".npy"),
}


def open_rows(
    path_or_paths: Path | Sequence[Path],
    name: str | None = None,
    *,
    dtype: DTypeLike | None = None,
    shape: SupportsIndex | tuple[SupportsIndex, ...] | None = None,
    offset: SupportsIndex = 0,
    ids: str | None = None,
) -> FileRows:
    """Opens the rows of a file, or of several files of one kind as if they were one, without reading them whole.

    Every function over rows takes the result, and a path given to a search means ``open_rows(path)``. The suffix
    selects the format:

    ============================ ====================================================== =================
    .npy, .npz                   arrays of NumPy; compressed ones are unzipped by       mapped
                                 blocks
    .npz of sparse rows          scipy.sparse.save_npz, in CSR, CSC or COO              in memory
    .safetensors                 arrays, bfloat16 too                                   mapped
    .fvecs, .bvecs, .ivecs       TEXMEX (FAISS)                                         mapped
    .fbin, .u8bin, .i8bin, .ibin Big-ANN benchmarks                                     mapped
    any, with dtype= and shape=  raw elements in C order                                mapped
    .txt, .vec, .w2v, .glove     word2vec, fastText and GloVe text; rows of numbers     by blocks
    .bin                         word2vec binary                                        by blocks
    .parquet, .csv, .tsv,        tables; they need pyarrow                              by blocks
    .jsonl, .ndjson
    .h5, .hdf5                   HDF5 datasets; they need h5py                          by blocks
    ============================ ====================================================== =================

    Files of .npy, text, word2vec, CSV and JSON lines may be gzipped, with .gz as a second suffix.

    Parameters
    ----------
    path_or_paths : str or os.PathLike, or a sequence of them
        A file; a folder, whose files are taken in sorted order, without those whose names begin with "." or "_"; a
        pattern such as ``"part-*.npy"``, whose files are taken in sorted order; or a sequence of files. All of them
        must have the same D and dtype.
    name : str, optional
        The array or column of vectors, where the file has more than one: a column of lists, or the common prefix of
        columns of numbers x0, x1, ...; ``"*"`` means all columns of numbers.
    dtype : dtype, optional
        The type of the elements of raw files. For text, the type that numbers get: float32 for words, else float64.
    shape : int or tuple of int, optional
        The shape of raw files: D, (-1, D) or (N, D).
    offset : int
        The byte at which raw elements begin.
    ids : str, optional
        The column of ids. By default the first of the names id, _id, ids, key, word, token and name, or an index
        without a name, as pandas writes it; else the only column of text. In HDF5, a dataset of N elements next to that
        of the vectors.

    Returns
    -------
    FileRows
        It has shape, dtype, ids and slices, and close(). That of sparse rows has the arrays of CSR: data, indices and
        indptr. The functions that take sparse matrices take it.

    Raises
    ------
    OSError
        A file cannot be opened.
    ValueError
        A file is cut short, damaged or of another format, or name is needed; the message lists the names.
    ImportError
        The format needs a package that is missing; the message names the extra that installs it.

    Notes
    -----
    By blocks: the memory holds the rows that are read, and some MB. Opening a file of text or of word2vec reads all of
    it once, to find where the rows begin.

    Examples
    --------
    >>> import os, tempfile, numpy as np, cossim
    >>> path = os.path.join(tempfile.mkdtemp(), "vectors.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("3 2\\nking 3 4\\nqueen 4 3\\nfish 0 -1\\n")
    >>> rows = cossim.open_rows(path)
    >>> rows.shape, rows.ids
    ((3, 2), array(['king', 'queen', 'fish'], dtype=object))
    >>> rows.ids[cossim.topk(rows, None, 1).indices[0]]
    array(['queen'], dtype=object)
    """
    given = {
        "name": name,
        "ids": ids,
        "dtype": None if dtype is None else np.dtype(dtype),
        "shape": None if shape is None else _shape_argument(shape),
        "offset": size_argument("open_rows", "offset", offset, 0),
    }
    return open_paths(_paths_argument(path_or_paths), given)


def open_argument(path: Path, name: str | None = None, ids: str | None = None) -> FileRows:
    """Opens a path that is an argument of a function or command. A .npy file of one vector is one row."""
    return open_paths(_paths_argument(path), {"name": name, "ids": ids, "may_be_vector": True})


def _paths_argument(path_or_paths: Any) -> list[str]:
    if isinstance(path_or_paths, (str, os.PathLike)):
        return _expanded(os.fsdecode(path_or_paths))
    if not isinstance(path_or_paths, (list, tuple)) or not path_or_paths:
        paths = type(path_or_paths).__name__ if hasattr(path_or_paths, "shape") else repr(path_or_paths)[:60]
        raise TypeError(_errors.ROWS_PATHS.format(paths=paths))
    if not all(isinstance(path, (str, bytes, os.PathLike)) for path in path_or_paths):
        raise TypeError(_errors.ROWS_PATHS.format(paths=f"a {type(path_or_paths).__name__} of something else"))
    return [os.fsdecode(path) for path in path_or_paths]


def open_paths(paths: list[str], given: dict[str, Any]) -> FileRows:
    readers: list[Reader] = []
    for path in paths:
        with open_regular(path):  # refuses pipes and devices
            pass
        with errors_with_path(path):
            readers.append(_with_ids(_open(path, given), given["ids"]))
    if len(paths) == 1:
        reader, text = readers[0], paths[0]
    else:
        with errors_with_path(paths[0]):
            reader = _shards(paths, readers)
        text = f"{paths[0]} and {len(paths) - 1} more"
    absolute = [os.path.abspath(path) for path in paths]
    kind = SparseFileRows if isinstance(reader, SparseReader) else FileRows
    return kind(text, reader, (open_paths, (absolute, given)), absolute)


def _shards(paths: list[str], readers: list[Reader]) -> Reader:
    """Returns the reader of several files as one set of rows, all of them dense or all sparse."""
    for path, reader in zip(paths, readers, strict=True):
        if isinstance(reader, SparseReader) != isinstance(readers[0], SparseReader):
            raise RowsError(_errors.ROWS_SPARSE_MIXED.format(path=path, first=paths[0]))
    rows = ShardsReader(paths, readers)
    sparse = [reader for reader in readers if isinstance(reader, SparseReader)]
    return joined(sparse) if sparse else rows


def _with_ids(reader: Reader, ids: str | None) -> Reader:
    """Checks that the reader has the column of ids that the caller named. HDF5 puts the path of the group before it."""
    if ids is not None and (reader.id_name or "").split("/")[-1] != ids.split("/")[-1]:
        raise RowsError(_errors.ROWS_NO_IDS.format(ids=ids))
    return reader


def open_data(path: str, suffix: str, data: bytes, **given: Any) -> FileRows:
    """Opens the contents of a file with this suffix, given as bytes. path names them in messages."""
    with errors_with_path(path):
        reader = _with_ids(FORMATS[suffix](Source(path, suffix, data=data, **given)), given.get("ids"))
    return FileRows(path, reader, (partial(open_data, **given), (path, suffix, data)))


def _shape_argument(shape: Any) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(size_argument("open_rows", "shape", size, -1) for size in sizes)


def _expanded(path: str) -> list[str]:
    """Returns the files of a folder or pattern, sorted, or the path itself."""
    if os.path.isdir(path):
        names = [name for name in sorted(os.listdir(path)) if not name.startswith((".", "_"))]
        files = [os.path.join(path, name) for name in names]
        files = [file for file in files if os.path.isfile(file)]
        known = [file for file in files if suffix_of(file)[0] in FORMATS] or files
        if not known:
            raise FileNotFoundError(_errors.ROWS_PATTERN.format(path=path))
        suffixes = sorted(suffix_of(file)[0] for file in known)
        if suffixes[0] != suffixes[-1]:
            most = max(suffixes, key=suffixes.count)
            zipped = any(suffix_of(file) == (most, True) for file in known)
            pattern = os.path.join(glob.escape(path), f"*{most}*" if zipped else f"*{most}")
            text = _errors.ROWS_FOLDER.format(path=path, suffixes=", ".join(dict.fromkeys(suffixes)), pattern=pattern)
            raise ValueError(text)
        return known
    if glob.has_magic(path) and not os.path.exists(path):
        files = sorted(glob.glob(path, recursive=True))
        if not files:
            raise FileNotFoundError(_errors.ROWS_PATTERN.format(path=path))
        return files
    return [path]


def suffix_of(path: str) -> tuple[str, bool]:
    """Returns (suffix of the format in lower case, whether the file is gzipped)."""
    rest, suffix = os.path.splitext(path.lower())
    return (os.path.splitext(rest)[1], True) if suffix == ".gz" else (suffix, False)


def _open(path: str, given: dict[str, Any]) -> Reader:
    suffix, zipped = suffix_of(path)
    source = Source(path, suffix, zipped, **given)
    if source.shape is not None and (suffix not in FORMATS or suffix == ".bin"):
        return binary.open_raw(source)
    if source.shape is not None or source.offset:
        raise RowsError(_errors.ROWS_NOT_RAW.format(suffix=suffix))
    if suffix in FORMATS:
        return FORMATS[suffix](source)
    with source.open() as stream:
        start = stream.read(8)
    suffix = next((suffix for magic, suffix in MAGIC.items() if start.startswith(magic)), "")
    if source.suffix in OTHER and suffix in ("", ".npz"):  # torch.save writes pickles into a zip archive
        message, new = OTHER[source.suffix]
        folder, name = os.path.split(os.path.splitext(path)[0] + new)
        while os.path.lexists(os.path.join(folder, name)):  # which the conversion would overwrite
            name = "new-" + name
        raise RowsError(message.format(path=path, new=os.path.join(folder, name)))
    if not suffix:
        raise RowsError(_errors.ROWS_FORMAT.format(suffixes=" ".join(FORMATS)))
    return FORMATS[suffix](source._replace(suffix=suffix))
