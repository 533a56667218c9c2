"""The folder of a training run: what the run is, who trains there, and whether another may go on with it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lstmc.errors import Mend, TrainingError
from lstmc.folder_lock import held
from lstmc.files.json_file import NotExpected, read_json
from lstmc.files.output import PREVIOUS, set_aside, write_files
from lstmc.runs.drawing import CURVES
from lstmc.runs.metrics import METRICS
from lstmc.runs.record import RECORD
from lstmc.runs.snapshots import newest, read_about
from lstmc.runs.tensorboard import FOLDER as TENSORBOARD

RUN = "run.json"
LOCK = ".lock"
SNAPSHOTS = "snapshots"
WEIGHTS = "weights.npz"


@dataclass(frozen=True)
class RunIdentity:
    """What a run's weights depend on: the net and the data, as hashes, and the settings by name."""

    net: str
    data: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, net: bytes, data: str, settings: Mapping[str, Any]) -> RunIdentity:
        """``net`` is all of what the net computes, and nothing else; ``data`` a fingerprint of the data."""
        return cls(hashlib.sha256(net).hexdigest(), data, json.loads(json.dumps(settings)))

    def differences(self, before: RunIdentity) -> list[str]:
        """What this run has that the one before had otherwise, a line each."""
        found = [
            f"setting {name}: started with {before.settings.get(name)}, now {value}"
            for name, value in self.settings.items()
            if before.settings.get(name) != value
        ]
        found += ["the net is another one"] if self.net != before.net else []
        found += ["the data is other data, or comes in another order"] if self.data != before.data else []
        return found


@dataclass(frozen=True)
class OfRun:
    """What a snapshot tells of the run that it is of."""

    run: RunIdentity


@dataclass(frozen=True)
class _Files:
    """What the record of a run that has ended tells of the files that it left."""

    files: list[str] = field(default_factory=list)


@contextmanager
def run_folder(folder: Path, identity: RunIdentity, resume: bool, overwrite: bool = False) -> Iterator[Path]:
    """Holds the run's folder for this process alone, and yields where its snapshots are.

    With ``overwrite`` a run that is there is first moved into ``folder/previous/N``. Raises :class:`TrainingError`
    where a new run would write over another one, where one that should go on is not there or is of other settings, and
    where another process trains in it; :class:`OutputError` where the folder cannot be written.
    """
    if resume and not os.path.isfile(folder / RUN) and _of_snapshots(folder) is None:
        raise TrainingError(f"{folder} has no run to resume", mends=[Mend.START])
    with _locked(folder):
        _agree(folder, identity, resume, overwrite)
        yield folder / SNAPSHOTS


def _agree(folder: Path, identity: RunIdentity, resume: bool, overwrite: bool) -> None:
    path = folder / RUN
    if not resume:
        has_snapshot = _of_snapshots(folder) is not None
        if overwrite and (os.path.exists(path) or has_snapshot):
            set_aside(folder, [*_files(folder), RUN])
        elif has_snapshot:
            raise TrainingError(f"{folder} has a run already", mends=[Mend.RESUME, Mend.OVERWRITE, Mend.OTHER_FOLDER])
        elif os.path.exists(path):
            raise TrainingError(
                f"{folder} has a run that ended before its first snapshot", mends=[Mend.OVERWRITE, Mend.OTHER_FOLDER]
            )
        _write(folder, identity)
        return
    before = _before(folder)
    if differences := identity.differences(before):
        raise TrainingError(
            f"cannot resume the run in {folder}: it was started with different settings",
            notes=(*differences, "give what it was started with, or start a new run"),
            mends=[Mend.OVERWRITE, Mend.OTHER_FOLDER],
        )


def _files(folder: Path) -> list[str]:
    """The names of all that a run leaves in its folder, but what says that there is one."""
    left: list[str] = []
    with suppress(OSError, NotExpected):
        left = read_json(folder / RECORD, _Files).files
    left = [name for name in left if Path(name).name == name and name not in ("", "..", PREVIOUS)]
    return [*left, WEIGHTS, METRICS, RECORD, *CURVES, TENSORBOARD, SNAPSHOTS]


def _before(folder: Path) -> RunIdentity:
    """What the run to resume is. Its last whole snapshot tells, which is known to be undamaged; where that is not what
    its own file says, the file is written again."""
    path, known = folder / RUN, _of_snapshots(folder)
    try:
        told = read_json(path, RunIdentity)
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror}"
    except NotExpected as wrong:
        problem = f"{path} does not say what run it is: {wrong}"
    else:
        if known in (None, told):
            return told
    if known is None:
        raise TrainingError(problem, mends=[Mend.OTHER_FOLDER])
    _write(folder, known)
    return known


def _of_snapshots(folder: Path) -> RunIdentity | None:
    found = newest(folder / SNAPSHOTS, lambda path: read_about(path, OfRun).run)
    return found and found[1]


def _write(folder: Path, identity: RunIdentity) -> None:
    write_files(folder, {RUN: json.dumps(asdict(identity), indent=1).encode()})


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A lock that ends with this process, however it ends."""
    busy = TrainingError(f"another process trains in {folder}: wait for it", mends=[Mend.OTHER_FOLDER])
    with held(folder, folder / LOCK, busy, f"into {folder}"):
        yield
