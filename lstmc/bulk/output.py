"""The outputs of a bulk run: its parts, as they come, and the HDF5 file that they make in the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.bulk.batches import Layout
from lstmc.errors import DataError
from lstmc.extras import need
from lstmc.files.arrays import read_npz
from lstmc.files.output import write_files

SUFFIXES = (".h5", ".hdf5")


def hdf5() -> Any:
    """The package that writes the outputs. Raises :class:`DataError` where it is not installed."""
    return need("h5py", "h5py", "hdf5", DataError)


def join(parts: Sequence[Path], layout: Layout, to: Path) -> None:
    """Writes the outputs of all parts, in order, into one HDF5 file: whole, or not there.

    Raises :class:`~lstmc.errors.OutputError` where it cannot be written.
    """
    write_files(to.parent, {to.name: partial(_join, parts, layout)})


def _join(parts: Sequence[Path], layout: Layout, path: Path) -> None:
    with hdf5().File(path, "w") as file:
        for part in parts:
            for name, stored in read_npz(part, DataError).items():
                axis, array = layout.outputs[name], np.asarray(stored)
                if axis is None:
                    file.create_dataset(name, data=array)
                    continue
                if name not in file:
                    most = tuple(None if at == axis else size for at, size in enumerate(array.shape))
                    empty = tuple(0 if at == axis else size for at, size in enumerate(array.shape))
                    file.create_dataset(name, empty, array.dtype, maxshape=most, chunks=True)
                made = file[name]
                start = made.shape[axis]
                made.resize(start + array.shape[axis], axis)
                made[(slice(None),) * axis + (slice(start, None),)] = array
