"""Files of data: read by their content, refused where they are not whole."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lstmc.errors import DataError
from lstmc.files.arrays import read_arrays


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
        said = "expected an .npz or HDF5 file of named arrays, found something else"
        save = "\n  write the arrays by their names with NumPy, as np.savez('data.npz', X=X, label=label)"
        assert unreadable(path) == (said if content.startswith(b"PK") else said + save)
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


def test_an_hdf5_file_that_keeps_elements_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = np.zeros(3)
    with h5py.File(path, "w") as file:
        file["cell/X"] = h5py.ExternalLink("other.h5", "X")
    assert unreadable(path) == "cell/X is a link to another file: expected the array itself"
    elsewhere = "X keeps its elements in other files: expected them in this one"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (3,), "f4", external=[("/etc/passwd", 0, 12)])
    assert unreadable(path) == elsewhere
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "X", (3,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("X", layout)
    assert unreadable(path) == elsewhere
    with h5py.File(path, "w") as file:
        file["X"] = h5py.Empty("f4")
    assert unreadable(path) == "X holds nothing: expected numbers"


def test_a_size_that_is_a_lie_takes_no_memory(tmp_path: Path) -> None:
    """Four tebibytes by the header, of which nothing is stored."""
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", (1 << 40,), "f4", chunks=(1024,))
    found = read_arrays(path)["X"]
    assert found.shape == (1 << 40,)
    with pytest.raises(DataError, match=r"X \[1099511627776\] takes 4 TiB: expected at most .*B, a third of"):
        np.asarray(found)


def test_an_hdf5_object_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """h5py raises SystemError where anything is raised while it visits links, as by a damaged header."""

    def raises(*arguments: object, **options: object) -> None:
        raise RuntimeError("Can't get deprecated info for object")

    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["X"] = np.zeros(3)
    monkeypatch.setattr(h5py.Group, "get", raises)
    assert unreadable(tmp_path / "data.h5") == "an HDF5 file that is damaged or not whole"


def test_groups_in_groups_are_read_once_however_deep(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        group = file
        for _ in range(1500):
            group = group.create_group("g")
        group["x"], file["y"] = [1.0], [2.0]
        group["around"], file["again"], file["soft"] = file, file["y"], h5py.SoftLink("/y")
    found = read_arrays(tmp_path / "deep.h5")
    assert list(found) == ["again", "g/" * 1500 + "x"]
    assert_array_equal(found["g/" * 1500 + "x"], [1.0])
    with h5py.File(tmp_path / "deep.h5", "a") as file:
        file["g/g/other"] = h5py.ExternalLink("other.h5", "/x")
    assert unreadable(tmp_path / "deep.h5") == "g/g/other is a link to another file: expected the array itself"
