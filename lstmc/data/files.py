"""Named arrays from ``.npz`` and HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lstmc.arrays import read_npz
from lstmc.errors import DataError

EXPECTED = "an .npz or HDF5 file of named arrays"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# what h5py raises for a damaged file, whichever part of it is damaged
DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an ``.npz`` or HDF5 file by its name; one in a group of HDF5 is called ``group/name``.

    What kind of file it is its content says. Raises :class:`DataError` for a file that is not there, is no such
    file, is damaged or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    arrays = _read_hdf5(path) if start == HDF5_SIGNATURE else read_npz(path, DataError, EXPECTED)
    if not arrays:
        raise DataError(f"{path}: expected {EXPECTED}, found no array in it")
    return arrays


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except DAMAGED:
        raise DataError(f"{path}: an HDF5 file that is damaged or not whole") from None
    for name, array in found.items():
        if array.dtype == object:  # texts, or arrays of different lengths
            raise DataError(f"{path}: {name} holds Python objects: expected numbers")
    return found
