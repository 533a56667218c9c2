"""Snapshots of a training run: each a folder that is whole or not there, and says itself whether it is intact.

A backend gives the files of ``RUN/snapshots/000100/``; ``snapshot.json`` beside them has the size and the SHA-256 of
each, what else the backend has to tell, and its own hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lstmc.errors import OutputError, TrainingError
from lstmc.files.json_file import Count, NotExpected, parsed, read_bounded

ABOUT = "snapshot.json"
KEPT = 3
HASH = "sha256"

Made = TypeVar("Made")


@dataclass(frozen=True)
class FileFacts:
    """A file of a snapshot."""

    size: Count
    sha256: str


@dataclass(frozen=True)
class Description:
    """What every ``snapshot.json`` has, beside what the backend tells."""

    files: dict[str, FileFacts]
    sha256: str


def snapshot_folder(folder: Path, iteration: int) -> Path:
    """Where the snapshot after so many iterations is."""
    return folder / f"{iteration:06d}"


def write_snapshot(
    folder: Path, iteration: int, files: Mapping[str, bytes], about: Mapping[str, Any], read: Callable[[Path], object]
) -> Path:
    """Writes ``files``, and ``about`` as JSON, into ``folder/NNNNNN`` and returns that.

    It is written beside its place, brought to the disk, read back by ``read``, and only then renamed. Raises
    :class:`OutputError` where it cannot be written; then nothing is changed. Of those before it the last whole ones
    stay, ``KEPT`` with this one. Later ones, which can only be damaged, are left alone until the run gets there.
    """
    final = snapshot_folder(folder, iteration)
    staged = folder / f".{final.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        staged.mkdir()
        for name, content in {**files, ABOUT: _described(iteration, files, about)}.items():
            _write(staged / name, content)
        _sync(staged)
        read(staged)
        if final.exists():  # one that is not intact: the run went on from an older one
            os.replace(final, folder / f".{final.name}.old")
        os.replace(staged, final)
        _sync(folder)
    except (OSError, TrainingError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        reason = error.strerror or str(error) if isinstance(error, OSError) else error.message
        raise OutputError(f"cannot write snapshot {final}: {reason}") from None
    clean(folder)
    _remove_old(folder, iteration)
    return final


def read_about(path: Path, kind: type[Made]) -> Made:
    """What a snapshot's ``snapshot.json`` tells, as a ``kind``. Raises :class:`TrainingError` where it is no such, or
    any file of the snapshot is not intact."""
    try:
        content = read_bounded(path / ABOUT)
        if _is_intact(path, content):
            return parsed(content, kind)
    except (NotExpected, OSError):
        pass
    raise TrainingError(f"{path} is no whole snapshot")


def newest(folder: Path, read: Callable[[Path], Made]) -> tuple[Path, Made] | None:
    """The newest snapshot that ``read`` reads, and what it made of it. One for which it raises
    :class:`TrainingError` is passed over."""
    for path in _numbered(folder):
        try:
            return path, read(path)
        except TrainingError:
            continue
    return None


def clean(folder: Path) -> None:
    """Removes what a process left that was killed while it wrote or replaced a snapshot."""
    for path in [*folder.glob(".*.part"), *folder.glob(".*.old")]:
        shutil.rmtree(path, ignore_errors=True)


def _remove_old(folder: Path, iteration: int) -> None:
    kept = 1
    for path in _numbered(folder):
        if int(path.name) >= iteration:
            continue
        if kept < KEPT and _is_whole(path):
            kept += 1
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    try:
        read_about(path, Description)
    except TrainingError:
        return False
    return True


def _described(iteration: int, files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    facts = {name: {"size": len(data), HASH: _digest(data)} for name, data in files.items()}
    described = {"iteration": iteration, "files": facts, **about}
    return json.dumps({**described, HASH: _own_digest(described)}, indent=1).encode()


def _own_digest(described: Mapping[str, Any]) -> str:
    """A hash of all that ``snapshot.json`` says but the hash itself."""
    return _digest(json.dumps(described, sort_keys=True).encode())


def _is_intact(path: Path, content: bytes) -> bool:
    """Whether all files have the hashes that ``content``, of ``snapshot.json``, says. Raises :class:`NotExpected`."""
    about = parsed(content, Description)
    own = {key: value for key, value in json.loads(content).items() if key != HASH}
    return about.sha256 == _own_digest(own) and all(
        (path / name).stat().st_size == facts.size and _digest((path / name).read_bytes()) == facts.sha256
        for name, facts in about.files.items()
    )


def _numbered(folder: Path) -> Iterator[Path]:
    """The folders called by an iteration, the newest first."""
    found = [path for path in folder.glob("*") if path.name.isdecimal() and path.is_dir()]
    yield from sorted(found, key=lambda path: int(path.name), reverse=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Brings a folder's own entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
