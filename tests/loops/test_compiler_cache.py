"""The folder of compiled layers stays within a number and a size of files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lstmc.loops.native import RECENT, is_cached, keep, prune


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten files of 100 bytes, 0.so used longest ago, and one that is no library."""
    for i in range(10):
        (tmp_path / "made").write_bytes(b"x" * 68)
        keep(tmp_path / "made", tmp_path / f"{i}.so")
        age(tmp_path / f"{i}.so", RECENT * (20 - i))
    (tmp_path / "notes.txt").write_text("mine")
    age(tmp_path / "notes.txt", RECENT * 100)
    return tmp_path


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_used_longest_ago_goes(folder: Path) -> None:
    prune(folder, files=3, size=10_000)
    assert left(folder) == ["7.so", "8.so", "9.so", "notes.txt"]
    prune(folder, files=3, size=200)
    assert left(folder) == ["8.so", "9.so", "notes.txt"]


def test_what_is_found_again_counts_as_used(folder: Path) -> None:
    assert is_cached(folder / "0.so")
    assert not is_cached(folder / "absent.so")
    prune(folder, files=1, size=10_000)
    assert left(folder) == ["0.so", "notes.txt"]


def test_what_was_used_just_now_stays(folder: Path) -> None:
    for i in range(10):
        age(folder / f"{i}.so", RECENT / 2)
    prune(folder, files=1, size=1)
    assert len(left(folder)) == 11


@pytest.mark.parametrize("content", [b"", b"x" * 68, b"x" * 99, b"y" * 100], ids=["empty", "cut", "short", "other"])
def test_what_is_not_as_it_was_kept_is_not_found_again(folder: Path, content: bytes) -> None:
    (folder / "0.so").write_bytes(content)
    assert not is_cached(folder / "0.so")
    assert is_cached(folder / "1.so")
