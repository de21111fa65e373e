"""Parameters as dicts of arrays, and the two files they are kept in: .npz and .safetensors."""

import errno
import os
import zipfile
from collections.abc import Mapping

import numpy as np

from cossim import _core
from cossim._io import MAGIC, errors_of, open_regular, read_npy, replacing, write_npz


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        message = "reading and writing .safetensors needs safetensors: pip install 'cossim-c[weights]'"
        raise ModuleNotFoundError(message, name="safetensors") from None
    return safetensors


def _kind(path):
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path}: a weights file must end in .npz or .safetensors")
    return suffix


def load_weights(path):
    """The arrays of a .npz or .safetensors file, by name.

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
        It is truncated, damaged, of another format, or holds Python objects or numbers that NumPy has no type for.
    ImportError
        .safetensors without the package safetensors.

    Examples
    --------
    >>> import os, tempfile, numpy as np, cossim.nn
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> cossim.nn.save_weights(path, {"fc.bias": np.zeros(3)})
    >>> cossim.nn.load_weights(path)
    {'fc.bias': array([0., 0., 0.])}
    """
    path = os.fspath(path)
    if _kind(path) == ".safetensors":
        safetensors = _safetensors()
        with open_regular(path) as file:
            data = file.read(os.fstat(file.fileno()).st_size)  # no more: a file may grow for ever
        try:
            return safetensors.numpy.load(data)
        except KeyError as error:
            raise ValueError(f"{path}: it holds numbers of type {error.args[0]}, which NumPy does not have") from error
        except (safetensors.SafetensorError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged or no .safetensors file: {error}") from error
    with open_regular(path) as file:
        try:
            if file.read(len(MAGIC)) == MAGIC:
                raise ValueError("it holds a single array without a name")
            with zipfile.ZipFile(file) as archive:
                return dict(_member(archive, info) for info in archive.infolist())
        except MemoryError:
            raise
        except Exception as error:  # of many kinds, some of them those of compressions
            # EINVAL: a damaged archive names a position before the start of the file. Others are errors of the disk.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise ValueError(f"{path}: damaged or no .npz file: {error}") from error


def _member(archive, info):
    """Name and array of a file in an archive."""
    with archive.open(info) as stream:
        try:
            return info.filename.removesuffix(".npy"), read_npy(stream)
        except ValueError as error:
            raise ValueError(f"{info.filename!r} in it: {error}") from None


def save_weights(path, state_dict):
    """Writes arrays by name to a .npz or .safetensors file, whole or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        Its end tells the format. A file that is there already is replaced once the new one is complete, and keeps its
        permissions; a symbolic link stays and its target is replaced.
    state_dict : mapping of str to array_like
        Such as Module.state_dict() gives.

    Raises
    ------
    OSError
        The file cannot be written; the old one is still there.
    ValueError
        Another end than .npz and .safetensors; names that the format cannot hold.
    TypeError
        No mapping, or values that are no real numbers, or bfloat16, which NumPy cannot read back (as float32 they are
        the same numbers).
    ImportError
        .safetensors without the package safetensors.

    Examples
    --------
    >>> import os, tempfile, cossim.nn
    >>> path = os.path.join(tempfile.mkdtemp(), "layer.npz")
    >>> cossim.nn.save_weights(path, cossim.nn.Linear(3, 2).state_dict())
    """
    path = os.fspath(path)
    kind = _kind(path)
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"save_weights(): state_dict must be a dict of arrays, not {type(state_dict).__name__}")
    arrays = _as_arrays(state_dict, "save_weights")
    for name, array in arrays.items():
        _check_name(name, kind)
        if array.dtype.kind == "V":
            message = f"{name} is {array.dtype}, which NumPy cannot read back: as float32 it has the same values"
            raise TypeError(f"save_weights(): {message}")
    if kind == ".safetensors":
        data = _safetensors().numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()})
    with errors_of(path), replacing(path) as (file, replace):
        if kind == ".npz":
            write_npz(file, arrays)
        else:
            file.write(data)
        replace()


def _check_name(name, kind):
    """A ValueError for names that a file of this kind cannot give back."""
    try:
        encoded = name.encode()
        if kind == ".safetensors":
            fits = name != "__metadata__"
        else:
            fits = b"\0" not in encoded and len(encoded + b".npy") < 2**16  # two bytes count them in a .zip file
    except UnicodeEncodeError:  # half of a surrogate pair
        fits = False
    if not fits:
        text = repr(name) if len(name) < 100 else f"{name[:100]!r}..., of {len(name)} characters"
        raise ValueError(f"save_weights(): a {kind} file cannot hold an array by the name {text}")


def check_weights_path(path):
    """Raises what would keep save_weights from writing to path, where that shows before there are weights."""
    path = os.fspath(path)
    if _kind(path) == ".safetensors":
        _safetensors()
    with errors_of(path), replacing(path):
        pass


def _as_arrays(state_dict, function):
    given = {}
    for key, value in state_dict.items():
        if not isinstance(key, str):
            raise TypeError(f"{function}(): names must be str, not {key!r}")
        # a torch.nn.Parameter does not become an array by itself
        given[key] = value.detach() if hasattr(value, "detach") else value
    return named_arrays(function, given)


def named_arrays(function, given):
    """The values as arrays, with errors that name the key, which may be any str."""
    names = tuple(key if key.isprintable() else ascii(key) for key in given)
    return dict(zip(given, _core.as_arrays(function, names, tuple(given.values())), strict=True))


def read_weights(source):
    """Arrays by name from a mapping or a file, and what to call the source in a message."""
    if isinstance(source, Mapping):
        return _as_arrays(source, "load_state_dict"), "the dict"
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            return _as_arrays(load_weights(path), "load_state_dict"), path
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from None
    raise TypeError(f"load_state_dict(): state_dict must be a dict of arrays or a path, not {type(source).__name__}")
