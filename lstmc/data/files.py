"""Named arrays from ``.npz`` and HDF5 files, and batches as the HDF5 file that Caffe's HDF5Data layer reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lstmc.arrays import read_npz
from lstmc.errors import DataError, OutputError
from lstmc.training import Batches, batch_dataset

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


def write_batches_hdf5(batches: Batches, path: Path, count: int | None = None) -> None:
    """The first ``count`` batches (an epoch's, if not given) as the rows of an HDF5 file for HDF5Data.

    There is one float32 dataset ``[count, *shape]`` for each input, called as ``batch_dataset`` says. Like all output
    it is written beside its place, then renamed into it. Raises :class:`OutputError` where it cannot be written.
    """
    count = batches.per_epoch if count is None else count
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                # HDF5 loses its way where a disk fills up under it, so the room is asked for first
                os.posix_fallocate(file.fileno(), 0, _file_bytes(batches, count))
            with h5py.File(temporary, "w") as made:
                _write_rows(made, batches, count)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _write_rows(made: h5py.File, batches: Batches, count: int) -> None:
    for row in range(count):
        for name, array in batches.batch(row).items():
            if row == 0:
                made.create_dataset(batch_dataset(name), (count, *array.shape), np.float32)
            made[batch_dataset(name)][row] = array


def _file_bytes(batches: Batches, count: int) -> int:
    """About how large the file will be: its elements, and HDF5's own tables, which take less than 4 KiB a dataset."""
    first = batches.batch(0)
    return count * sum(array.nbytes for array in first.values()) + 4096 * (1 + len(first))
