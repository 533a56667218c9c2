"""Named arrays as the content of a file, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstmc.arrays import npz_bytes, read_npz
from lstmc.errors import DataError

NAMES = ("x", "lstm/W_x", "file", "allow_pickle", "args", "kwds", "arr_0", "größe")


def test_arrays_of_any_name_come_back(tmp_path: Path) -> None:
    arrays = {name: np.arange(6.0).reshape(2, 3) + i for i, name in enumerate(NAMES)}
    arrays |= {"number": np.float32(2.5), "turned": np.arange(6.0).reshape(2, 3).T, "none": np.zeros((0, 3))}
    path = tmp_path / "arrays.npz"
    path.write_bytes(npz_bytes(arrays))
    for found in (read_npz(path, DataError), dict(np.load(path))):
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_the_same_arrays_are_the_same_bytes() -> None:
    assert npz_bytes({"x": np.ones(3)}) == npz_bytes({"x": np.ones(3)})


def test_python_objects_are_not_written() -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        npz_bytes({"x": np.array([{}], dtype=object)})
