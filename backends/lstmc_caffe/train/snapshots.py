"""Snapshots of a training run: each a folder that is whole or not there, and says itself whether it is intact.

``RUN/snapshots/000100/`` holds ``weights.caffemodel`` and ``solver.solverstate`` as Caffe has them, ``carried.npz``
with the state that the next batch starts from, and ``snapshot.json`` with the size and SHA-256 of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.arrays import npz_bytes
from lstmc.errors import OutputError, TrainingError
from lstmc.ops import Array
from lstmc_caffe.proto.net import RawNet, RawState

WEIGHTS, STATE, CARRIED, ABOUT = "weights.caffemodel", "solver.solverstate", "carried.npz", "snapshot.json"
FILES = (WEIGHTS, STATE, CARRIED, ABOUT)
KEPT = 3

# name, type, names of its parameters: of every layer that owns one
Layers = Sequence[tuple[str, str, Sequence[str]]]


@dataclass(frozen=True)
class TrainingState:
    """All that the rest of a run depends on. ``solver`` is Caffe's solverstate, with its history of gradients.

    ``blobs`` are the parameters by name, ``carried`` the blobs that start the next batch, ``first_losses`` the
    losses that a later one is measured by.
    """

    iteration: int
    blobs: dict[str, Array]
    carried: dict[str, Array]
    solver: bytes
    layers: Layers
    first_losses: tuple[float, ...]

    def not_finite(self) -> str | None:
        """What of it is NaN or infinite, in words, or None."""
        for name, array in (self.blobs | self.carried).items():
            if not np.isfinite(array).all():
                return name
        history = RawState.FromString(self.solver).history
        return None if all(np.isfinite(np.frombuffer(b.data, "<f4")).all() for b in history) else "the solver's history"


def write_snapshot(folder: Path, state: TrainingState) -> Path:
    """Writes a snapshot into ``folder/NNNNNN`` and returns that; older ones but the last ``KEPT`` are removed.

    It is written beside its place, brought to the disk, read back, and only then renamed. Raises
    :class:`OutputError` where it cannot be written; then nothing is changed.
    """
    final = folder / f"{state.iteration:06d}"
    staged = folder / f".{final.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        staged.mkdir()
        for name, content in _files(state, final.absolute()).items():
            _write(staged / name, content)
        _sync(staged)
        if read_snapshot(staged).iteration != state.iteration:
            raise OSError(f"{staged} reads back as another iteration")
        if final.exists():  # one that is not intact: the run went on from an older one
            os.replace(final, folder / f".{final.name}.old")
        os.replace(staged, final)
        _sync(folder)
    except (OSError, TrainingError) as error:
        shutil.rmtree(staged, ignore_errors=True)
        reason = error.strerror or str(error) if isinstance(error, OSError) else error.message
        raise OutputError(f"cannot write snapshot {final}: {reason}") from None
    clean(folder)
    for old in list(_numbered(folder))[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def last_whole(folder: Path) -> Path | None:
    """The newest snapshot in ``folder`` that is intact: every file there, of its size and hash."""
    return next((path for path in _numbered(folder) if _intact(path)), None)


def clean(folder: Path) -> None:
    """Removes what a process left that was killed while it wrote or replaced a snapshot."""
    for path in [*folder.glob(".*.part"), *folder.glob(".*.old")]:
        shutil.rmtree(path, ignore_errors=True)


def read_snapshot(path: Path) -> TrainingState:
    """A snapshot as it was written. Raises :class:`TrainingError` for one that is not intact."""
    if not _intact(path):
        raise TrainingError(f"{path} is no whole snapshot")
    about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    layers = tuple((name, kind, tuple(keys)) for name, kind, keys in about["layers"])
    try:
        net = RawNet.FromString((path / WEIGHTS).read_bytes())
        state = RawState.FromString((path / STATE).read_bytes())
    except DecodeError:
        raise TrainingError(f"{path} is no whole snapshot") from None
    blobs: dict[str, Array] = {}
    for layer, (_, _, keys) in zip(net.layer, layers, strict=True):
        for key, blob in zip(keys, layer.blobs, strict=True):
            blobs.setdefault(key, np.frombuffer(blob.data, "<f4").reshape(tuple(blob.shape.dim)))
    state.ClearField("learned_net")  # the folder may have been moved, and the weights are in ``blobs``
    with np.load(path / CARRIED) as carried:
        arrays = {name: carried[name] for name in carried.files}
    losses = tuple(about["first_losses"])
    return TrainingState(state.iter, blobs, arrays, state.SerializeToString(), layers, losses)


def _files(state: TrainingState, final: Path) -> dict[str, bytes]:
    """The contents by name, ``snapshot.json`` last."""
    net = RawNet(name="weights")
    for name, kind, keys in state.layers:
        layer = net.layer.add(name=name, type=kind)
        for key in keys:
            array = np.ascontiguousarray(state.blobs[key], "<f4")
            layer.blobs.add(data=array.tobytes()).shape.dim.extend(array.shape)
    solver = RawState.FromString(state.solver)
    solver.learned_net = str(final / WEIGHTS)  # so that `caffe train --snapshot` goes on from it too
    files = {WEIGHTS: net.SerializeToString(), STATE: solver.SerializeToString(), CARRIED: npz_bytes(state.carried)}
    about: dict[str, Any] = {
        "iteration": state.iteration,
        "files": {name: {"size": len(data), "sha256": _digest(data)} for name, data in files.items()},
        "layers": state.layers,
        "first_losses": state.first_losses,
    }
    return files | {ABOUT: json.dumps(about, indent=1).encode()}


def _intact(path: Path) -> bool:
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        return all(
            (path / name).stat().st_size == facts["size"] and _digest((path / name).read_bytes()) == facts["sha256"]
            for name, facts in about["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


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
