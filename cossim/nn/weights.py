"""Reads and writes parameters, as dicts of arrays, in two file formats: .npz and .safetensors."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cossim import _core, _errors
from cossim._archives import write_npz
from cossim._arguments import path_argument
from cossim._arithmetic import fixed_arithmetic
from cossim._io import MAGIC, open_regular, read_npy, replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cossim._typing import Array, Path, Weights


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ModuleNotFoundError(_errors.NEEDS_SAFETENSORS, name="safetensors") from None
    return safetensors


def _kind(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".npz", ".safetensors"):
        raise ValueError(_errors.WEIGHTS_SUFFIX.format(path=path))
    return suffix


def load_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays of a .npz or .safetensors file, by name.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        The file is truncated, damaged or of another format, or it holds Python objects or numbers of a type that NumPy
        does not have.
    ImportError
        The file is .safetensors and the package safetensors is missing.

    Examples
    --------
    >>> import os, tempfile, numpy as np, cossim.nn
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> cossim.nn.save_weights(path, {"fc.bias": np.zeros(3)})
    >>> cossim.nn.load_weights(path)
    {'fc.bias': array([0., 0., 0.])}
    """
    path = path_argument("load_weights", path)
    if _kind(path) == ".safetensors":
        safetensors = _safetensors()
        with open_regular(path) as file:
            data = file.read(os.fstat(file.fileno()).st_size)  # no more than the present size: the file may grow
        try:
            return safetensors.numpy.load(data)
        except KeyError as error:
            raise ValueError(_errors.NOT_A_NUMPY_TYPE.format(path=path, dtype=error.args[0])) from error
        except (safetensors.SafetensorError, TypeError, ValueError) as error:
            raise ValueError(_errors.NOT_WEIGHTS.format(path=path, suffix=".safetensors", error=error)) from error
    with open_regular(path) as file:
        try:
            if file.read(len(MAGIC)) == MAGIC:
                raise ValueError(_errors.UNNAMED_ARRAY)
            with zipfile.ZipFile(file) as archive:
                return dict(_member(archive, info) for info in archive.infolist())
        except MemoryError:
            raise
        except Exception as error:  # zipfile and its decompressors raise many types of error
            # EINVAL means that a damaged archive names a position before the start of the file. Any other OSError
            # comes from the disk.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise ValueError(_errors.NOT_WEIGHTS.format(path=path, suffix=".npz", error=error)) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[str, NDArray[Any]]:
    """Returns (name, array) of one file in an archive."""
    with archive.open(info) as stream:
        try:
            return info.filename.removesuffix(".npy"), read_npy(stream)
        except ValueError as error:
            raise ValueError(_errors.IN_ARCHIVE.format(member=info.filename, error=error)) from None


def save_weights(path: Path, state_dict: Mapping[str, Array]) -> None:
    """Writes arrays by name to a .npz or .safetensors file, atomically.

    Parameters
    ----------
    path : str or os.PathLike
        The suffix selects the format. An existing file is replaced only when the new one is complete, and its
        permissions stay. A symbolic link stays, and its target is replaced.
    state_dict : mapping of str to array_like
        For example the result of Module.state_dict().

    Raises
    ------
    OSError
        The file cannot be written. An existing file is unchanged.
    ValueError
        The suffix is not .npz or .safetensors, or the format cannot hold a name.
    TypeError
        state_dict is not a mapping, or a value is not an array of real numbers. bfloat16 is refused too, because NumPy
        cannot read it back; converted to float32 it keeps its values.
    ImportError
        The file is .safetensors and the package safetensors is missing.

    Examples
    --------
    >>> import os, tempfile, cossim.nn
    >>> path = os.path.join(tempfile.mkdtemp(), "layer.npz")
    >>> cossim.nn.save_weights(path, cossim.nn.Linear(3, 2).state_dict())
    """
    path = path_argument("save_weights", path)
    kind = _kind(path)
    if not isinstance(state_dict, Mapping):
        raise TypeError(_errors.NOT_A_DICT.format(kind=type(state_dict).__name__))
    arrays = _as_arrays(state_dict, "save_weights")
    for name, array in arrays.items():
        _check_name(name, kind)
        if array.dtype.kind == "V":
            raise TypeError(_errors.UNSAVED_DTYPE.format(name=name, dtype=array.dtype))
    if kind == ".safetensors":
        data = _safetensors().numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()})
    with replacing(path) as (file, replace):
        if kind == ".npz":
            write_npz(file, arrays)
        else:
            file.write(data)
        replace()


def _check_name(name: str, kind: str) -> None:
    """Raises ValueError for a name that a file of this kind cannot store and return."""
    try:
        encoded = name.encode()
        if kind == ".safetensors":
            fits = name != "__metadata__"
        else:
            fits = b"\0" not in encoded and len(encoded + b".npy") < 2**16  # .zip stores the length in two bytes
    except UnicodeEncodeError:  # a lone surrogate
        fits = False
    if not fits:
        text = repr(name) if len(name) < 100 else f"{name[:100]!r}..., of {len(name)} characters"
        raise ValueError(_errors.UNSAVED_NAME.format(suffix=kind, name=text))


def check_weights_path(path: Path) -> None:
    """Raises the errors of save_weights that can be found before there are weights to write."""
    path = os.fspath(path)
    if _kind(path) == ".safetensors":
        _safetensors()
    with replacing(path):
        pass


def _as_arrays(state_dict: Mapping[str, Any], function: str) -> dict[str, NDArray[Any]]:
    values = {}
    for key, value in state_dict.items():
        if not isinstance(key, str):
            raise TypeError(_errors.NOT_A_NAME.format(function=function, name=key))
        # NumPy cannot convert a torch.nn.Parameter that requires a gradient
        values[key] = value.detach() if hasattr(value, "detach") else value
    return named_arrays(function, values)


def named_arrays(function: str, values: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    """Converts the values to arrays. Errors name the key, which may be any str."""
    names = tuple(key if key.isprintable() else ascii(key) for key in values)
    return dict(zip(values, _core.as_arrays(function, names, tuple(values.values())), strict=True))


def read_weights(source: Weights) -> tuple[dict[str, NDArray[Any]], str]:
    """Reads a mapping or a file. Returns the arrays by name, and the name of the source for messages."""
    if isinstance(source, Mapping):
        return _as_arrays(source, "load_state_dict"), "the dict"
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            return _as_arrays(load_weights(path), "load_state_dict"), path
        except TypeError as error:
            raise ValueError(_errors.IN_FILE.format(path=path, error=error)) from None
    raise TypeError(_errors.NOT_A_DICT_OR_PATH.format(kind=type(source).__name__))


def misfits(own: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], strict: bool = True) -> list[str]:
    """Says which keys and shapes of arrays do not fit the state `own`. Without strict, keys may differ."""
    missing = [_errors.MISSING.format(name=key) for key in own if strict and key not in arrays]
    unexpected = [_errors.UNEXPECTED.format(name=key) for key in arrays if strict and key not in own]
    shapes = [(key, np.shape(own[key]), arrays[key].shape) for key in own if key in arrays]
    wrong = [_errors.WRONG_SHAPE.format(name=key, wanted=a, shape=b) for key, a, b in shapes if a != b]
    return missing + unexpected + wrong


def copy_into(
    own: Mapping[str, NDArray[Any]], arrays: Mapping[str, NDArray[Any]], problems: list[str], source: str, target: str
) -> None:
    """Copies arrays into those of `own` that have the same keys. Raises ValueError if there are problems."""
    if problems:
        raise ValueError(_errors.DOES_NOT_FIT.format(source=source, target=target, problems="; ".join(problems)))
    with fixed_arithmetic():  # values too large for the dtype become infinite, as in torch
        for key, array in own.items():
            if key in arrays:
                array[...] = arrays[key]
