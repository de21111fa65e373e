"""HDF5 files, read with h5py, which is imported when a file is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cossim import _errors
from cossim._dtypes import is_real
from cossim.rows.reader import ID_NAMES, Reader, RowsError, Source, check_rows, chosen, strings

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Hdf5Reader(Reader):
    """One dataset of a file. The ids are N elements in the same group, named by the caller or one of ID_NAMES."""

    def __init__(self, source: Source) -> None:
        source.check(own_dtype=True)
        source.check(plain=True)
        try:
            import h5py
        except ImportError:
            message = _errors.NEEDS_EXTRA.format(path=source.path, package="h5py")
            raise ModuleNotFoundError(message, name="h5py") from None
        self.file = h5py.File(source.path, "r")
        try:
            self._choose(source, h5py.Dataset)
        except BaseException:  # if it stayed open, HDF5 would use it for later files of the same name
            self.file.close()
            raise

    def _choose(self, source: Source, dataset: type) -> None:
        found: dict[str, Any] = {}
        self.file.visititems(lambda name, item: found.update({name: item} if isinstance(item, dataset) else {}))
        rows = [name for name, item in found.items() if item.ndim == 2 and is_real(item.dtype)]
        name = None if source.name is None else source.name.strip("/")
        name = chosen(rows if name not in found else [name], name)
        self.dataset = found[name]
        check_rows(self.dataset.shape, self.dataset.dtype)
        self.shape, self.dtype = self.dataset.shape, self.dataset.dtype
        self._set_ids(found, name, source.ids)

    def _set_ids(self, found: dict[str, Any], name: str, ids: str | None) -> None:
        folder = name.rpartition("/")[0]
        folder += "/" * bool(folder)
        fitting = [n for n, item in found.items() if item.shape == self.shape[:1] and item.dtype.kind in "iuOS"]
        names = [n for n in (folder + own for own in ID_NAMES if own) if n in fitting]
        if ids is not None:
            names = [chosen(fitting, ids if ids in fitting else folder + ids)]
        self.ids: Any = found[names[0]] if names else None
        self.id_name = names[0] if names else None

    def read(self, first: int, last: int) -> NDArray[Any]:
        rows = self.dataset[first:last]
        if rows.shape != (last - first, self.shape[1]):
            raise RowsError(_errors.ROWS_COUNT.format(count=self.shape[0], found=len(self.dataset)))
        return rows

    def read_ids(self) -> NDArray[Any] | None:
        if self.ids is None:
            return None
        if self.ids.dtype.kind in "iu":
            return self.ids[:]
        return strings([value.decode("utf-8", "replace") for value in self.ids[:]])

    def close(self) -> None:
        self.file.close()


FORMATS = {".h5": Hdf5Reader, ".hdf5": Hdf5Reader}
