"""Files are written all or not at all, and nothing is left lying beside them."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lstmc.errors import OutputError
from lstmc.files.output import write_files

FILES = {"net.prototxt": b"name: 'net'\n", "net.caffemodel": bytes(range(256)) * 100, "empty": b""}


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def refused(folder: Path, files: dict[str, bytes]) -> str:
    with pytest.raises(OutputError) as caught:
        write_files(folder, files)
    return caught.value.message


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow past ``size``, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_files_are_written_and_their_paths_returned_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folders"
    assert write_files(folder, FILES) == [folder / name for name in FILES]
    assert contents(folder) == FILES


def test_files_that_were_there_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes(b"old, and longer than the new one")
    (tmp_path / "other").write_bytes(b"kept")
    write_files(tmp_path, FILES)
    assert contents(tmp_path) == {**FILES, "other": b"kept"}


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert write_files(tmp_path, {"pipe": b"all of it", "file": b"x"}) == [tmp_path / "pipe", tmp_path / "file"]
        assert os.read(reader, 100) == b"all of it"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    (path,) = write_files(tmp_path, {"a": b""})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_reader_of_the_old_file_never_sees_a_half_new_one(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_files(tmp_path, FILES)
        assert reader.read() == b"old"
    assert path.read_bytes() == FILES["net.prototxt"]


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"old")
    with largest_file(2_000_000):
        text = refused(tmp_path, {"small": b"new", "large": bytes(3_000_000)})
    assert text == f"cannot write into {tmp_path}: File too large: nothing was changed there"
    assert contents(tmp_path) == {"small": b"old"}


def test_a_full_disk_leaves_no_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with largest_file(2_000_000):
        text = refused(folder, {"large": bytes(3_000_000)})
    assert text == f"cannot write into {folder}: File too large: nothing was changed there"
    assert contents(tmp_path) == {}


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    assert (
        refused(tmp_path / "out", FILES)
        == f"cannot write into {tmp_path / 'out'}: File exists: nothing was changed there"
    )
    folder = tmp_path / "out" / "deeper"
    assert refused(folder, FILES) == f"cannot write into {folder}: Not a directory: nothing was changed there"
    assert contents(tmp_path) == {"out": b"a file"}


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").mkdir()
    (tmp_path / "net.prototxt").write_bytes(b"old")
    text = refused(tmp_path, FILES)
    assert text == f"cannot write {tmp_path / 'net.caffemodel'}: it is a folder: nothing was changed"
    assert contents(tmp_path) == {"net.caffemodel": None, "net.prototxt": b"old"}


def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may write anywhere, nobody may not
        text = refused(tmp_path, FILES)
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
    assert text == f"cannot write into {tmp_path}: Permission denied: nothing was changed there"


def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files(tmp_path, FILES)
    assert contents(tmp_path) == {}
