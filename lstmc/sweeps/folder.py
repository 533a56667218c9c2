"""The folder of a sweep: what the sweep is, the runs of its points, its results; who works there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lstmc.errors import Mend, SweepError
from lstmc.folder_lock import held
from lstmc.files.json_file import NotExpected, read_json
from lstmc.files.output import set_aside, write_files
from lstmc.sweeps.results import CURVES, RESULTS, SCORES, SUMMARY
from lstmc.sweeps.space import Point

SWEEP = "sweep.json"
POINTS = "points"
LOCK = ".lock"
BEST = "best"
BEGIN = (Mend.OVERWRITE, Mend.OTHER_FOLDER)
LEFT = (RESULTS, SUMMARY, SCORES, CURVES, BEST, POINTS, SWEEP)  # all that a sweep leaves


@dataclass(frozen=True)
class Definition:
    """What the results of a sweep depend on. ``files`` are hashes of those that are read, by their names."""

    training: dict[str, Any]
    files: dict[str, str]
    points: dict[str, dict[str, str]]
    halving: int | None
    goal: str

    def differences(self, before: Definition) -> list[str]:
        """What this sweep has that the one before had otherwise, a line each."""
        found = [
            f"{name}: started with {before.training.get(name)}, now {value}"
            for name, value in self.training.items()
            if before.training.get(name) != value
        ]
        found += [
            f"{name} has changed" for name, digest in self.files.items() if before.files.get(name, digest) != digest
        ]
        found += ["the points are others"] if self.points != before.points else []
        for name in ("halving", "goal"):
            now, then = getattr(self, name), getattr(before, name)
            found += [f"{name}: started with {then}, now {now}"] if now != then else []
        return found


def defined(
    training: Mapping[str, Any], files: list[str], points: Mapping[str, Point], halving: int | None, goal: str
) -> Definition:
    """The definition; ``training`` is made what JSON makes of it. Raises :class:`SweepError` for a file that is not
    there."""
    return Definition(
        json.loads(json.dumps(training)),
        {name: _digest(Path(name)) for name in files},
        {name: dict(point) for name, point in points.items()},
        halving,
        goal,
    )


@contextmanager
def sweep_folder(folder: Path, definition: Definition, overwrite: bool = False) -> Iterator[Path]:
    """Holds the folder for this process, and yields where the runs of its points are.

    With ``overwrite`` a sweep that is there is first moved into ``folder/previous/N``. Raises :class:`SweepError` where
    the folder has another sweep, or another process works in it, and :class:`OutputError` where it cannot be written.
    """
    busy = SweepError(f"another sweep runs in {folder}: wait for it", mends=[Mend.OTHER_FOLDER])
    with held(folder, folder / LOCK, busy, f"into {folder}"):
        if overwrite and any(os.path.exists(folder / name) for name in LEFT):
            set_aside(folder, LEFT)
        _agree(folder, definition)
        yield folder / POINTS


def link_best(folder: Path, name: str) -> Path:
    """``SWEEP/best``, a link to the run of the best point."""
    link, beside = folder / BEST, folder / f".{BEST}"
    with suppress(FileNotFoundError):
        beside.unlink()
    beside.symlink_to(Path(POINTS) / name)
    os.replace(beside, link)
    return link


def _agree(folder: Path, definition: Definition) -> None:
    path = folder / SWEEP
    if not os.path.exists(path):
        if os.path.exists(folder / POINTS):
            raise SweepError(
                f"{folder} has runs, and no {SWEEP} that says of what", mends=[Mend.OVERWRITE, Mend.OTHER_FOLDER]
            )
        write_files(folder, {SWEEP: (json.dumps(asdict(definition), indent=1) + "\n").encode()})
        return
    try:
        before = read_json(path, Definition)
    except (OSError, NotExpected) as error:
        raise SweepError(
            f"{path} does not say what sweep it is: {error}", mends=[Mend.OVERWRITE, Mend.OTHER_FOLDER]
        ) from None
    if differences := definition.differences(before):
        raise SweepError(
            f"{folder} has another sweep: it was started with different settings",
            notes=differences,
            mends=BEGIN,
        )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SweepError(f"{path}: cannot be read: {error.strerror}") from None
