"""Global heaps of HDF5: those of h5py pass, and damage that libhdf5 would never come to an end with does not."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import pytest

from lstmc.importers import SourceError, import_file
from lstmc.importers.read.keras_file import HEAD, SIGNATURE, check_heaps


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number in range(3):
            file.attrs[f"text{number}"] = "of any length" * (number + 1)
    return (tmp_path / "x.h5").read_bytes()


def objects(content: bytes) -> list[int]:
    """Where the objects of the one collection are."""
    at = content.index(SIGNATURE) + HEAD
    found = [at]
    while int.from_bytes(content[at : at + 2], "little"):
        at += HEAD + -(-int.from_bytes(content[at + 8 : at + 16], "little") // 8) * 8
        found.append(at)
    return found


def test_what_h5py_writes_is_sound(content: bytes) -> None:
    check_heaps(content)
    assert len(objects(content)) > 3
    check_heaps(b"no heap at all")


@pytest.mark.parametrize(("which", "length"), [(-1, 0), (0, 2**63), (1, 5000)])
def test_an_object_that_leads_nowhere(content: bytes, tmp_path: Path, which: int, length: int) -> None:
    damaged = bytearray(content)
    struct.pack_into("<Q", damaged, objects(content)[which] + 8, length)
    with pytest.raises(ValueError, match=r"the global heap at byte \d+ is damaged"):
        check_heaps(bytes(damaged))
    (tmp_path / "x.h5").write_bytes(damaged)
    with pytest.raises(SourceError, match=r"not a file of Keras, or a damaged one: the global heap"):
        import_file(tmp_path / "x.h5")
