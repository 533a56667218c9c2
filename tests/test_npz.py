"""Named arrays as the content of a file, and back."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lstmc.errors import DataError
from lstmc.files.arrays import npz_bytes, read_npz

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


def test_elements_are_not_copied_on_their_way() -> None:
    array = np.ones(6 * 2**20, np.float32)
    tracemalloc.start()
    try:
        content = npz_bytes({"x": array})
        assert tracemalloc.get_traced_memory()[1] < 1.3 * len(content)
    finally:
        tracemalloc.stop()


def test_python_objects_are_not_written() -> None:
    with pytest.raises(ValueError, match="x holds Python objects: expected numbers"):
        npz_bytes({"x": np.array([{}], dtype=object)})


def unreadable(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_npz(path, DataError)
    return str(caught.value).removeprefix(f"DataError: {path}: ")


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def with_header(text: str, elements: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + elements


def test_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    packed(path, {"x.npy": npy(np.zeros(3)), "notes.txt": b"of whom?"})
    assert unreadable(path) == "expected an .npz file of named arrays, found notes.txt in it, which is no .npy"
    other = "expected an .npz file of named arrays, found something else"
    for content in (b"", b"nothing of NumPy's", npy(np.zeros(3))[:40], with_header("{'descr': '<f4', 'shape': (3,\n")):
        assert unreadable(packed(path, {"x.npy": content})) == other
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(np.zeros(3)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", npy(np.ones(3)))
    assert unreadable(path) == "expected an .npz file of named arrays, found x twice"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_elements_is_found_as_they_are_read(tmp_path: Path, method: int) -> None:
    array = np.random.default_rng(0).normal(size=5000)
    path = packed(tmp_path / "data.npz", {"x.npy": npy(array)}, method)
    np.testing.assert_array_equal(np.asarray(read_npz(path, DataError)["x"]), array)
    content = bytearray(path.read_bytes())
    content[len(content) - 4000] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DataError, match="found something else"):
        np.asarray(read_npz(path, DataError)["x"])


def test_a_shape_that_is_not_of_the_elements(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 10)}\n"
    path = packed(tmp_path / "data.npz", {"x.npy": with_header(header, b"abcd" * 3)})
    assert unreadable(path) == "x has 12 bytes of elements, which do not fit the shape [1000000, 1000000, 10]"
    path = packed(tmp_path / "data.npz", {"x.npy": with_header(header.replace("(1000000,", "(-1,"))})
    assert unreadable(path) == "x has 0 bytes of elements, which do not fit the shape [-1, 1000000, 10]"


def test_what_nobody_asks_for_is_not_read(tmp_path: Path) -> None:
    """A bomb: three megabytes that become three gigabytes."""
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(np.arange(3.0)))
        with archive.open("bomb.npy", "w", force_zip64=True) as member:
            member.write(with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({64 << 20},)}}\n"))
            for _ in range(64):
                member.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        found = read_npz(path, DataError)
        assert found["bomb"].shape == (64 << 20,)
        assert np.asarray(found["x"]).tolist() == [0, 1, 2]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_elements_past_the_memory_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "data.npz", {"x.npy": npy(np.zeros((10, 100)))})
    monkeypatch.setattr("lstmc.process.memory.free_memory", lambda: 6144)
    with pytest.raises(DataError) as caught:
        np.asarray(read_npz(path, DataError)["x"])
    assert caught.value.message == (
        f"{path}: x [10, 100] takes 7.81 KiB: expected at most 2 KiB, a third of the memory that is free"
    )


@pytest.mark.slow
def test_free_memory_is_not_more_than_a_limit_leaves() -> None:
    code = (
        "import resource; from lstmc.process.memory import free_memory; before = free_memory();"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, -1)); print(0 < free_memory() < 4 << 30, before > 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"True True\n"
