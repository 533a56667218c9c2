"""Data as Caffe's HDF5Data layer reads them: an HDF5 file for each phase, a row of it a batch, and a list of files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.errors import TrainingError
from lstmc.extras import need
from lstmc.files.output import Content
from lstmc.data.request import Batches, TrainingData

TRAIN, TEST = "TRAIN", "TEST"  # Caffe's phases


@dataclass(frozen=True)
class Source:
    """Where a phase's HDF5Data layer finds its data: the file that lists its files, and how many batches they have."""

    file: str
    batches: int


def batch_dataset(name: str) -> str:
    """What an HDF5 file calls the batches of an input: the net that reads them needs the plain name for itself."""
    return f"{name}_batch"


def phase_data(data: TrainingData | None) -> dict[str, Batches]:
    """The batches by phase; without any to score on, both phases read the same."""
    if data is None:
        return {}
    return {TRAIN: data.train} if data.test is None else {TRAIN: data.train, TEST: data.test}


def hdf5_sources(name: str, data: TrainingData | None) -> dict[str, Source]:
    """Where each phase of the net ``name`` finds its data, once its :func:`hdf5_files` are written."""
    found = {
        phase: Source(f"{name}.{phase.lower()}.txt", batches.per_epoch) for phase, batches in phase_data(data).items()
    }
    return found | {TEST: found.get(TEST, found[TRAIN])} if found else {}


def hdf5_files(name: str, data: TrainingData | None) -> dict[str, Content]:
    """The HDF5 file of each phase, and the list of files that names it."""
    files: dict[str, Content] = {}
    for phase, batches in phase_data(data).items():
        file = f"{name}.{phase.lower()}"
        files[f"{file}.h5"] = partial(write_batches_hdf5, batches)
        files[f"{file}.txt"] = f"{file}.h5\n".encode()
    return files


def write_batches_hdf5(batches: Batches, path: Path, count: int | None = None) -> None:
    """The first ``count`` batches (an epoch's, if not given) as the rows of an HDF5 file for HDF5Data.

    There is one float32 dataset ``[count, *shape]`` for each input, called as ``batch_dataset`` says. Raises OSError,
    and :class:`TrainingError` without the package h5py.
    """
    h5py = need("h5py", "h5py", "hdf5", TrainingError)
    count = batches.per_epoch if count is None else count
    with path.open("wb") as file:
        # HDF5 loses its way where a disk fills up under it, so the room is asked for first
        os.posix_fallocate(file.fileno(), 0, _file_bytes(batches, count))
    with h5py.File(path, "w") as made:
        _write_rows(made, batches, count)


def _write_rows(made: Any, batches: Batches, count: int) -> None:
    for row in range(count):
        for name, array in batches.batch(row).items():
            if row == 0:
                made.create_dataset(batch_dataset(name), (count, *array.shape), np.float32)
            made[batch_dataset(name)][row] = array


def _file_bytes(batches: Batches, count: int) -> int:
    """About how large the file will be: its elements, and HDF5's own tables, which take less than 4 KiB a dataset."""
    first = batches.batch(0)
    return count * sum(array.nbytes for array in first.values()) + 4096 * (1 + len(first))
