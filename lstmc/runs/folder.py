"""The folder of a training run: its settings, its lock, and its snapshots. A snapshot is a folder that is complete or
absent. A backend provides the files of ``RUN/snapshots/000100/``; ``snapshot.json`` beside them has the size and the
SHA-256 of each file, the backend's own values, and its own hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lstmc.errors import Mend, OutputError, TrainingError
from lstmc.files.json_file import Count, NotExpected, parse_json, read_bounded, read_json
from lstmc.files.lock import hold_folder
from lstmc.files.output import PREVIOUS, set_aside, write_files
from lstmc.runs.events import FOLDER as TENSORBOARD
from lstmc.runs.events import RECORD
from lstmc.runs.metrics import CURVES, METRICS

ABOUT = "snapshot.json"
KEPT = 3
HASH = "sha256"

T = TypeVar("T")
RUN = "run.json"
LOCK = ".lock"
SNAPSHOTS = "snapshots"
WEIGHTS = "weights.npz"


@dataclass(frozen=True)
class FileFacts:
    """A file of a snapshot."""

    size: Count
    sha256: str


@dataclass(frozen=True)
class Description:
    """The part of ``snapshot.json`` that every backend has."""

    files: dict[str, FileFacts]
    sha256: str


def snapshot_folder(folder: Path, iteration: int) -> Path:
    return folder / f"{iteration:06d}"


def write_snapshot(
    folder: Path, iteration: int, files: Mapping[str, bytes], about: Mapping[str, Any], read: Callable[[Path], object]
) -> Path:
    """Write ``files``, and ``about`` as JSON, into ``folder/NNNNNN``, and return this folder.
    The snapshot is written under another name, flushed to the disk, read back by ``read``, and only then renamed.
    Raises OutputError if it cannot be written; then nothing is changed. The last ``KEPT`` complete snapshots stay,
    including this one. Later snapshots, which can only be damaged, stay until the run reaches them."""
    final = snapshot_folder(folder, iteration)
    staged = folder / f".{final.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        staged.mkdir()
        for name, content in {**files, ABOUT: _description(iteration, files, about)}.items():
            _write_flushed(staged / name, content)
        _sync(staged)
        read(staged)
        if final.exists():  # it is damaged, and the run continued from an older snapshot
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


def read_about(path: Path, kind: type[T]) -> T:
    """Return a snapshot's ``snapshot.json`` as a ``kind``. Raises TrainingError if it or another file is damaged."""
    try:
        content = read_bounded(path / ABOUT)
        if _is_intact(path, content):
            return parse_json(content, kind)
    except (NotExpected, OSError):
        pass
    raise TrainingError(f"{path} is no whole snapshot")


def newest(folder: Path, read: Callable[[Path], T]) -> tuple[Path, T] | None:
    """Return the newest snapshot for which ``read`` raises no TrainingError, and its result; None if there is none."""
    for path in _snapshot_folders(folder):
        try:
            return path, read(path)
        except TrainingError:
            continue
    return None


def clean(folder: Path) -> None:
    """Remove the remains of a process that was killed while it wrote or replaced a snapshot."""
    for path in [*folder.glob(".*.part"), *folder.glob(".*.old")]:
        shutil.rmtree(path, ignore_errors=True)


def _remove_old(folder: Path, iteration: int) -> None:
    """Remove earlier snapshots that are damaged, and those beyond the last ``KEPT``."""
    kept = 1
    for path in _snapshot_folders(folder):
        if int(path.name) < iteration:
            with suppress(TrainingError):
                if kept < KEPT and read_about(path, Description):
                    kept += 1
                    continue
            shutil.rmtree(path, ignore_errors=True)


def _description(iteration: int, files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    facts = {name: {"size": len(data), HASH: _digest(data)} for name, data in files.items()}
    described = {"iteration": iteration, "files": facts, **about}
    return json.dumps({**described, HASH: _own_digest(described)}, indent=1).encode()


def _own_digest(described: Mapping[str, Any]) -> str:
    """Return a hash of the content of ``snapshot.json`` except the hash itself."""
    return _digest(json.dumps(described, sort_keys=True).encode())


def _is_intact(path: Path, content: bytes) -> bool:
    """Return whether a snapshot's files have the sizes and hashes that ``content``, its ``snapshot.json``, lists."""
    about = parse_json(content, Description)
    own = {key: value for key, value in json.loads(content).items() if key != HASH}
    return about.sha256 == _own_digest(own) and all(
        (path / name).stat().st_size == facts.size and _digest((path / name).read_bytes()) == facts.sha256
        for name, facts in about.files.items()
    )


def _snapshot_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders that are named by an iteration, the newest first."""
    folders = [path for path in folder.glob("*") if path.name.isdecimal() and path.is_dir()]
    yield from sorted(folders, key=lambda path: int(path.name), reverse=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Flush a folder's own entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class RunIdentity:
    """What the weights of a run depend on: hashes of the net and the data, and the settings by name."""

    net: str
    data: str
    settings: Mapping[str, Any]

    @classmethod
    def from_net(cls, net: bytes, data: str, settings: Mapping[str, Any]) -> RunIdentity:
        """Return the identity: ``net`` is all that the net computes, and nothing else; ``data`` a fingerprint."""
        return cls(hashlib.sha256(net).hexdigest(), data, json.loads(json.dumps(settings)))

    def differences(self, before: RunIdentity) -> list[str]:
        """Return the differences from the previous run, a line each."""
        lines = [
            f"setting {name}: started with {before.settings.get(name)}, now {value}"
            for name, value in self.settings.items()
            if before.settings.get(name) != value
        ]
        lines += ["the net is another one"] if self.net != before.net else []
        lines += ["the data is other data, or comes in another order"] if self.data != before.data else []
        return lines


@dataclass(frozen=True)
class OfRun:
    """The part of a snapshot that identifies its run."""

    run: RunIdentity


@dataclass(frozen=True)
class _Files:
    """The names of the files that an ended run has left, in its record."""

    files: list[str] = field(default_factory=list)


@contextmanager
def run_folder(folder: Path, identity: RunIdentity, resume: bool, overwrite: bool = False) -> Iterator[Path]:
    """Hold the run's folder for this process alone, and yield the folder of its snapshots. With ``overwrite`` an
    existing run is first moved into ``folder/previous/N``. Raises TrainingError if a new run would overwrite another
    run, if the run to resume is missing or has other settings, and if another process trains in the folder; OutputError
    if the folder cannot be written."""
    if resume and not os.path.isfile(folder / RUN) and _snapshot_identity(folder) is None:
        raise TrainingError(f"{folder} has no run to resume", mends=[Mend.START])
    busy = TrainingError(f"another process trains in {folder}: wait for it", mends=[Mend.OTHER_FOLDER])
    with hold_folder(folder, folder / LOCK, busy, f"into {folder}"):
        _agree(folder, identity, resume, overwrite)
        yield folder / SNAPSHOTS


def _agree(folder: Path, identity: RunIdentity, resume: bool, overwrite: bool) -> None:
    """Write the identity of a new run. Raise TrainingError if the folder has a run already and nothing is overwritten,
    or if the run to resume has another identity than the run in the folder."""
    path = folder / RUN
    if not resume:
        has_snapshot = _snapshot_identity(folder) is not None
        if overwrite and (os.path.exists(path) or has_snapshot):
            set_aside(folder, [*_files(folder), RUN])
        elif has_snapshot:
            raise TrainingError(f"{folder} has a run already", mends=[Mend.RESUME, Mend.OVERWRITE, Mend.OTHER_FOLDER])
        elif os.path.exists(path):
            mends = [Mend.OVERWRITE, Mend.OTHER_FOLDER]
            raise TrainingError(f"{folder} has a run that ended before its first snapshot", mends=mends)
        _write(folder, identity)
        return
    if differences := identity.differences(_earlier_identity(folder)):
        raise TrainingError(
            f"cannot resume the run in {folder}: it was started with different settings",
            notes=(*differences, "use the settings and data that it was started with, or start a new run"),
            mends=[Mend.OVERWRITE, Mend.OTHER_FOLDER],
        )


def _files(folder: Path) -> list[str]:
    """Return the names of all files that a run leaves in its folder, except the record of its identity."""
    left: list[str] = []
    with suppress(OSError, NotExpected):
        left = read_json(folder / RECORD, _Files).files
    left = [name for name in left if Path(name).name == name and name not in ("", "..", PREVIOUS)]
    return [*left, WEIGHTS, METRICS, RECORD, *CURVES, TENSORBOARD, SNAPSHOTS]


def _earlier_identity(folder: Path) -> RunIdentity:
    """Return the identity of the run to resume: that of the last complete snapshot, which is known to be undamaged, or
    else that of the run's file. A file that differs from the snapshot is rewritten."""
    path, snapshot_identity = folder / RUN, _snapshot_identity(folder)
    try:
        identity = read_json(path, RunIdentity)
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror}"
    except NotExpected as wrong:
        problem = f"{path} does not say what run it is: {wrong}"
    else:
        if snapshot_identity in (None, identity):
            return identity
    if snapshot_identity is None:
        raise TrainingError(problem, mends=[Mend.OTHER_FOLDER])
    _write(folder, snapshot_identity)
    return snapshot_identity


def _snapshot_identity(folder: Path) -> RunIdentity | None:
    snapshot = newest(folder / SNAPSHOTS, lambda path: read_about(path, OfRun).run)
    return snapshot and snapshot[1]


def _write(folder: Path, identity: RunIdentity) -> None:
    write_files(folder, {RUN: json.dumps(asdict(identity), indent=1).encode()})
