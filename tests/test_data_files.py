"""Files of data: read by their content, refused where they are not whole, and written for HDF5Data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lstmc.data import Axes, dataset_for, read_arrays, write_batches_hdf5
from lstmc.errors import DataError, OutputError
from lstmc.ir import parse_graph
from lstmc.training import Batches, batch_dataset


def numbered(examples: int, batch: int) -> Batches:
    """Batches of a model with two inputs."""
    lines = (f"%X: f32[2,{batch},3] = input()", f"%cell/y: f32[{batch}] = input()", "return X=%X, y=%cell/y")
    text = "\n  ".join(("graph net {", *lines)) + "\n}\n"
    axes = {"X": Axes(("T", "N", "3"), 1), "cell/y": Axes(("N",), 0)}
    arrays = {"X": np.arange(6 * examples).reshape(2, examples, 3), "cell/y": np.arange(examples)}
    return dataset_for(parse_graph(text), axes, arrays, "data.npz").for_training(1)


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_files_are_read_by_their_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "data.of.any.name"
    X, y = np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(3.0)
    if suffix == "npz":
        with path.open("wb") as file:
            np.savez(file, **{"cell/x": X, "y": y})  # type: ignore[arg-type]
    else:
        with h5py.File(path, "w") as file:
            file["cell/x"], file["y"] = X, y
    found = read_arrays(path)
    assert set(found) == {"cell/x", "y"}
    assert_array_equal(found["cell/x"], X)
    assert found["cell/x"].dtype == np.uint8
    assert_array_equal(found["y"], y)


def unreadable(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_arrays(path)
    return str(caught.value).removeprefix(f"DataError: {path}: ")


def test_files_that_are_not_data(tmp_path: Path) -> None:
    assert unreadable(tmp_path / "none.npz") == "no such file"
    assert unreadable(tmp_path) == "cannot be read: Is a directory"
    path = tmp_path / "data"
    for content in (b"", b"a,b\n1,2\n", b"PK\x03\x04 not a zip"):
        path.write_bytes(content)
        assert unreadable(path) == "expected an .npz or HDF5 file of named arrays, found something else"
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert unreadable(tmp_path / "one.npy") == "expected an .npz or HDF5 file of named arrays, found a single array"
    np.savez(tmp_path / "objects.npz", X=np.array([{}], dtype=object))
    assert unreadable(tmp_path / "objects.npz") == "X holds Python objects: expected numbers"
    np.savez(tmp_path / "empty.npz")
    nothing = "expected an .npz or HDF5 file of named arrays, found no array in it"
    assert unreadable(tmp_path / "empty.npz") == nothing
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file["X"] = ["one", "two"]
    assert unreadable(tmp_path / "texts.h5") == "X holds Python objects: expected numbers"
    h5py.File(tmp_path / "empty.h5", "w").close()
    assert unreadable(tmp_path / "empty.h5") == nothing


def test_files_cut_anywhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    whole = tmp_path / "whole"
    with h5py.File(whole, "w") as file:
        file["X"] = np.random.default_rng(0).normal(size=(40, 3))
    content = whole.read_bytes()
    for size in range(8, len(content), 97):
        path.write_bytes(content[:size])
        assert unreadable(path) == "an HDF5 file that is damaged or not whole"
    with whole.open("wb") as file:
        np.savez(file, X=np.zeros((40, 3)))
    path.write_bytes(whole.read_bytes()[:500])
    assert unreadable(path) == "expected an .npz or HDF5 file of named arrays, found something else"


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 9))
def test_batches_are_written_as_rows(tmp_path: Path, batch: int, more: int) -> None:
    batches = numbered(batch + more, batch)
    path = tmp_path / "made" / "train.h5"
    write_batches_hdf5(batches, path)
    with h5py.File(path) as file:
        assert [file[name].dtype for name in ("X_batch", "cell/y_batch")] == [np.float32, np.float32]
        assert file["X_batch"].shape == (batches.per_epoch, 2, batch, 3)
        for n in range(batches.per_epoch):
            for name, array in batches.batch(n).items():
                assert_array_equal(file[batch_dataset(name)][n], array)
    assert [found.name for found in path.parent.iterdir()] == ["train.h5"]


def test_batches_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "train.h5"
    with pytest.raises(OutputError) as caught:
        write_batches_hdf5(numbered(8, 4), path)
    assert str(caught.value) == f"OutputError: cannot write {path}: File exists"


WRITE = """\
import sys
from pathlib import Path
import numpy as np
from lstmc.data import write_batches_hdf5

class Ones:
    per_epoch = 50
    def batch(self, iteration):
        return {"X": np.ones((100, 100), np.float32)}

try:
    write_batches_hdf5(Ones(), Path(sys.argv[1], "train.h5"))
except Exception as error:
    print(error)
"""


def test_a_disk_that_is_full_is_said_in_one_line(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk."""
    command = f"ulimit -f 64; exec {sys.executable} -c '{WRITE}' {tmp_path}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert ended.stdout == f"OutputError: cannot write {tmp_path}/train.h5: File too large\n"
    assert list(tmp_path.iterdir()) == []
