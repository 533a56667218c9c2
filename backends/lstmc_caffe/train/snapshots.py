"""The content of a snapshot of a training run: weights and solver state in Caffe's own formats, and carried states.

``weights.caffemodel`` and ``solver.solverstate`` are Caffe's files, ``carried.npz`` holds the states that the next
batch starts from; :mod:`lstmc.runs.folder` writes them and checks that they are complete.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.errors import TrainingError
from lstmc.files.arrays import npz_bytes, read_npz
from lstmc.files.json_file import Number
from lstmc.ops import Array
from lstmc.runs.folder import ABOUT, RunIdentity, newest, read_about, snapshot_folder, write_snapshot
from lstmc.runs.updates import not_finite_part
from lstmc_caffe.proto.net import RawNet, RawState

WEIGHTS, STATE, CARRIED = "weights.caffemodel", "solver.solverstate", "carried.npz"
FILES = (WEIGHTS, STATE, CARRIED, ABOUT)

# name, type, names of its parameters: of every layer that owns one
Layers = tuple[tuple[str, str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class TrainingState:
    """All that the rest of a run depends on. ``solver`` is Caffe's solverstate, with its history of gradients.

    ``blobs`` are the parameters by name, ``carried`` the blobs that start the next batch, ``first_losses`` the
    losses that a later one is measured by, ``run`` is what it is a run of.
    """

    iteration: int
    blobs: dict[str, Array]
    carried: dict[str, Array]
    solver: bytes
    layers: Layers
    first_losses: tuple[float, ...]
    run: RunIdentity

    def not_finite(self) -> str | None:
        """Return the name of a part with NaN or infinity, or None."""
        history = RawState.FromString(self.solver).history
        return not_finite_part(self.blobs | self.carried, (np.frombuffer(blob.data, "<f4") for blob in history))


@dataclass(frozen=True)
class About:
    """The content of ``snapshot.json``: the facts on a state beside its files."""

    layers: Layers
    first_losses: tuple[Number, ...]
    run: RunIdentity


def save_state(folder: Path, state: TrainingState) -> Path:
    """Write a snapshot. Raises :class:`~lstmc.errors.OutputError` where it cannot be written."""
    final = snapshot_folder(folder, state.iteration)
    about = About(state.layers, state.first_losses, state.run)
    return write_snapshot(folder, state.iteration, _files(state, final.absolute()), asdict(about), read_state)


def last_state(folder: Path) -> tuple[Path, TrainingState] | None:
    """Return the newest complete snapshot and its state."""
    return newest(folder, read_state)


def read_state(path: Path) -> TrainingState:
    """Return the state of a snapshot. Raises :class:`TrainingError` for an incomplete one."""
    about = read_about(path, About)
    broken = TrainingError(f"{path} is no whole snapshot")
    try:
        net = RawNet.FromString((path / WEIGHTS).read_bytes())
        state = RawState.FromString((path / STATE).read_bytes())
        blobs: dict[str, Array] = {}
        for layer, (_, _, keys) in zip(net.layer, about.layers, strict=True):
            for key, blob in zip(keys, layer.blobs, strict=True):
                blobs.setdefault(key, np.frombuffer(blob.data, "<f4").reshape(tuple(blob.shape.dim)))
    except (DecodeError, ValueError, OSError):  # ValueError: they do not go with each other
        raise broken from None
    state.ClearField("learned_net")  # the folder may have been moved, and the weights are in ``blobs``
    carried = {name: np.asarray(array) for name, array in read_npz(path / CARRIED, TrainingError).items()}
    solver = state.SerializeToString()
    return TrainingState(state.iter, blobs, carried, solver, about.layers, about.first_losses, about.run)


def _files(state: TrainingState, final: Path) -> dict[str, bytes]:
    """Return the contents by name."""
    net = RawNet(name="weights")
    for name, kind, keys in state.layers:
        layer = net.layer.add(name=name, type=kind)
        for key in keys:
            array = np.ascontiguousarray(state.blobs[key], "<f4")
            layer.blobs.add(data=array.tobytes()).shape.dim.extend(array.shape)
    solver = RawState.FromString(state.solver)
    solver.learned_net = os.fsencode(final / WEIGHTS)  # so that `caffe train --snapshot` goes on from it too
    return {WEIGHTS: net.SerializeToString(), STATE: solver.SerializeToString(), CARRIED: npz_bytes(state.carried)}
