"""Writes arrays by name as .npz and .safetensors files.

Searches import _io but not this module, because zipfile is slow to import.
"""

import json
from zipfile import ZipFile

import numpy as np


def write_npz(file, arrays):
    """Writes an .npz as np.savez does. np.savez of NumPy 1.26 prints an error if the file is closed first."""
    archive = ZipFile(file, "w")
    try:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.close()
    except BaseException:
        archive.fp = None  # otherwise its destructor would complete the file, and raise ValueError after an interrupt
        raise


def write_safetensors(file, arrays):
    """Writes arrays of numbers by name as a .safetensors file."""
    header, offset = {}, 0
    for name, array in arrays.items():
        dtype = f"{array.dtype.kind.upper()}{8 * array.itemsize}"
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (offset, offset + array.nbytes)}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
