"""Batches as rows of the HDF5 files that Caffe's HDF5Data layer reads."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lstmc.backend.compiled import Batches, TrainingData
from lstmc.data import Axes, dataset_for
from lstmc.files.output import write_files
from lstmc.ir import parse_graph
from lstmc_caffe.train.net import Source, batch_dataset, hdf5_files, hdf5_sources, write_batches_hdf5


def numbered(examples: int, batch: int) -> Batches:
    """Batches of a model with two inputs."""
    lines = (f"%X: f32[2,{batch},3] = input()", f"%cell/y: f32[{batch}] = input()", "return X=%X, y=%cell/y")
    text = "\n  ".join(("graph net {", *lines)) + "\n}\n"
    axes = {"X": Axes(("T", "N", "3"), 1), "cell/y": Axes(("N",), 0)}
    arrays = {"X": np.arange(6 * examples).reshape(2, examples, 3), "cell/y": np.arange(examples)}
    return dataset_for(parse_graph(text), axes, arrays, "data.npz").for_training(1)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 9))
def test_batches_are_written_as_rows(tmp_path: Path, batch: int, more: int) -> None:
    batches = numbered(batch + more, batch)
    path = tmp_path / "made" / "train.h5"
    write_files(path.parent, {path.name: partial(write_batches_hdf5, batches)})
    with h5py.File(path) as file:
        assert [file[name].dtype for name in ("X_batch", "cell/y_batch")] == [np.float32, np.float32]
        assert file["X_batch"].shape == (batches.per_epoch, 2, batch, 3)
        for n in range(batches.per_epoch):
            for name, array in batches.batch(n).items():
                assert_array_equal(file[batch_dataset(name)][n], array)
    assert [found.name for found in path.parent.iterdir()] == ["train.h5"]


WRITE = """\
import sys
from pathlib import Path
import numpy as np
from lstmc_caffe.train.net import write_batches_hdf5
from lstmc.files.output import write_files

class Ones:
    per_epoch = 50
    def batch(self, iteration):
        return {"X": np.ones((100, 100), np.float32)}

try:
    big = lambda path: write_batches_hdf5(Ones(), path)
    write_files(Path(sys.argv[1]), {"small": b"written before", "train.h5": big, "after": b""})
except Exception as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_in_one_line(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk."""
    command = f"ulimit -f 64; exec {sys.executable} -c '{WRITE}' {tmp_path}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert ended.stdout == f"OutputError: cannot write into {tmp_path}: File too large: nothing was changed there\n"
    assert list(tmp_path.iterdir()) == []


def test_each_phase_has_a_list_of_its_file(tmp_path: Path) -> None:
    train, test = numbered(12, 4), numbered(4, 4)
    assert (hdf5_sources("net", None), hdf5_files("net", None)) == ({}, {})
    assert hdf5_sources("net", TrainingData(train, test)) == {
        "TRAIN": Source("net.train.txt", 3),
        "TEST": Source("net.test.txt", 1),
    }
    same = Source("net.train.txt", 3)  # the net is scored on what it is trained on
    assert hdf5_sources("net", TrainingData(train)) == {"TRAIN": same, "TEST": same}
    assert list(hdf5_files("net", TrainingData(train))) == ["net.train.h5", "net.train.txt"]
    files = hdf5_files("net", TrainingData(train, test))
    assert (files["net.train.txt"], files["net.test.txt"]) == (b"net.train.h5\n", b"net.test.h5\n")
    write_files(tmp_path, files)
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["net.test.h5", "net.train.h5"]
