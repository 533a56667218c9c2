"""Training in real Caffe: its own solver makes the updates, one for each request; lstmc feeds the solver, watches it
and saves its state.
A snapshot has weights and solver state in Caffe's own formats (``weights.caffemodel``, ``solver.solverstate``), and in
``carried.npz`` the states that the next batch starts from; :mod:`lstmc.runs.folder` writes and checks these files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from lstmc.backend.compiled import DividedBatch, TrainingRequest
from lstmc.errors import LstmcError, TrainingError
from lstmc.files.arrays import npz_bytes, read_npz
from lstmc.files.json_file import Number
from lstmc.ops import Array
from lstmc.runs.folder import ABOUT, RunIdentity, newest, read_about, snapshot_folder, write_snapshot
from lstmc.runs.solver import SETTINGS, Solver
from lstmc.runs.updates import Locate, SavedState, TrainedNet, Update, train_by
from lstmc_caffe.processes.process import CaffeAborted, CaffeError, CaffeStopped, CaffeTimeout
from lstmc_caffe.proto.net import RawNet, RawState, SolverParameter, net_from_text
from lstmc_caffe.runtime.runner import CallResult, Runner
from lstmc_caffe.worker import TRAINING

WEIGHTS, STATE, CARRIED = "weights.caffemodel", "solver.solverstate", "carried.npz"
FILES = (WEIGHTS, STATE, CARRIED, ABOUT)

# name, type, names of its parameters: of every layer that owns one
Layers = tuple[tuple[str, str, tuple[str, ...]], ...]
_CARRIED = "carried:"  # begins the names of carried states among a worker's arrays
SECONDS = 3600.0  # for one request: an iteration of a large net is slow, but not endless
Mask = tuple[str, float, tuple[int, ...], int | None]  # its input, the ratio, the whole batch's shape, axis of examples


@dataclass(frozen=True)
class TrainingState(SavedState):
    """A state whose ``solver`` is Caffe's solverstate, with its history of gradients."""

    solver: bytes
    layers: Layers

    def solver_arrays(self) -> Iterator[Array]:
        return (np.frombuffer(blob.data, "<f4") for blob in RawState.FromString(self.solver).history)


@dataclass(frozen=True)
class About:
    """The content of ``snapshot.json``: facts on a state that its other files lack."""

    layers: Layers
    first_losses: tuple[Number, ...]
    run: RunIdentity


def save_state(folder: Path, state: TrainingState) -> Path:
    """Write a snapshot and return its folder. Raises :class:`~lstmc.errors.OutputError` if it cannot be written."""
    final = snapshot_folder(folder, state.iteration)
    about = About(state.layers, state.first_losses, state.run)
    return write_snapshot(folder, state.iteration, _files(state, final.absolute()), asdict(about), read_state)


def last_state(folder: Path) -> tuple[Path, TrainingState] | None:
    return newest(folder, read_state)


def read_state(path: Path) -> TrainingState:
    """Return the state of a snapshot. Raises TrainingError if files of the snapshot are missing or do not fit."""
    about = read_about(path, About)
    try:
        net = RawNet.FromString((path / WEIGHTS).read_bytes())
        state = RawState.FromString((path / STATE).read_bytes())
        blobs: dict[str, Array] = {}
        for layer, (_, _, keys) in zip(net.layer, about.layers, strict=True):
            for key, blob in zip(keys, layer.blobs, strict=True):
                blobs.setdefault(key, np.frombuffer(blob.data, "<f4").reshape(tuple(blob.shape.dim)))
    except (DecodeError, ValueError, OSError):  # ValueError: the layers, keys and blobs differ in number
        raise TrainingError(f"{path} is no whole snapshot") from None
    state.ClearField("learned_net")  # the folder may have been moved, and the weights are in ``blobs``
    carried = {name: np.asarray(array) for name, array in read_npz(path / CARRIED, TrainingError).items()}
    solver = state.SerializeToString()
    return TrainingState(state.iter, blobs, carried, about.first_losses, about.run, solver, about.layers)


def _files(state: TrainingState, final: Path) -> dict[str, bytes]:
    """Return the contents of a snapshot's files by name: weights, Caffe's solverstate, and carried states."""
    net = RawNet(name="weights")
    for name, kind, keys in state.layers:
        layer = net.layer.add(name=name, type=kind)
        for key in keys:
            array = np.ascontiguousarray(state.blobs[key], "<f4")
            layer.blobs.add(data=array.tobytes()).shape.dim.extend(array.shape)
    solver = RawState.FromString(state.solver)
    solver.learned_net = os.fsencode(final / WEIGHTS)  # so that `caffe train --snapshot` goes on from it too
    return {WEIGHTS: net.SerializeToString(), STATE: solver.SerializeToString(), CARRIED: npz_bytes(state.carried)}


@dataclass(frozen=True)
class RankNets:
    """The text of each rank's net, its part of a batch, and the masks that replace the draws of dropouts."""

    texts: tuple[str, ...]
    batch: DividedBatch
    masks: tuple[Mask, ...]

    def start(self, args: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the arguments and arrays that start the ranks, made from those that start a single process."""
        carried = {target for _, target in args["carried"]}
        each = [
            {
                "net": text,
                "test": bool(args["test"]) and rank == 0,
                "ranks": {
                    "test_net": args["net"],
                    "axes": {name: self.batch.axes[name] for name in carried},
                    "masks": [(*mask, part.start, part.stop) for mask in self.masks],
                },
            }
            for rank, (text, part) in enumerate(zip(self.texts, self.batch.parts, strict=True))
        ]
        shared = {name: array for name, array in arrays.items() if not name.startswith(_CARRIED)}
        states = {name.removeprefix(_CARRIED): array for name, array in arrays.items() if name.startswith(_CARRIED)}
        return {**args, "each": each}, {**shared, **self._divided(states, _CARRIED)}

    def divide(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays of a batch for all ranks, named ``RANK|NAME``, and each rank's share of counted labels."""
        shares = enumerate(self.batch.shares(batch))
        return self._divided(batch, "") | {f"{rank}|{n}": share for rank, each in shares for n, share in each.items()}

    def _divided(self, arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
        """Return arrays as ``PREFIXNAME`` for all ranks, or if with axis of examples in parts, ``RANK|PREFIXNAME``."""
        return {
            prefix + name if self.batch.axes[name] is None else f"{rank}|{prefix}{name}": array
            for rank, part in enumerate(self.batch.divide(arrays))
            for name, array in part.items()
        }


@dataclass(frozen=True)
class TrainableNet:
    """A net that Caffe's solver can train, with its inputs, scores and carried states.
    ``prototxt`` has phases TRAIN and, if scores are wanted, TEST, with Input layers for ``inputs`` (blob to shape).
    ``scores`` are scalar tops to report in phase TEST. After a batch the first blob of each pair of ``carried`` is
    copied to the second, an input of the next batch. ``blobs`` are first values of all parameters by name (LAYER/INDEX
    for unnamed ones). ``random`` says whether a layer draws random numbers. With ``ranks`` several workers train it."""

    name: str
    prototxt: str
    inputs: Mapping[str, tuple[int, ...]]
    scores: tuple[str, ...]
    carried: tuple[tuple[str, str], ...]
    blobs: Mapping[str, Array]
    random: bool
    ranks: RankNets | None = None


def train_net(
    runner: Runner, net: TrainableNet, solver: Solver, run: TrainingRequest, locate: Locate = lambda blobs, batch: None
) -> TrainedNet:
    """Train by Caffe's solver: see :func:`~lstmc.runs.updates.train_by`. ``iter_size`` above 1 raises TrainingError."""
    if run.gpu and not runner.gpu.usable:
        raise TrainingError(f"cannot train {net.name} on a GPU: {runner.gpu.reason}")
    if solver.iter_size > 1:
        raise TrainingError(
            f"cannot train {net.name} with iter_size {solver.iter_size}: lstmc gives Caffe one batch an update",
            notes=("make the batch larger in the model, or run `caffe train` on the files of `lstmc compile`",),
        )
    return train_by(CaffeEngine(runner, net, solver, run), solver, run, locate)


class CaffeEngine:
    """Caffe's own solver in a worker process, which makes one update a request."""

    failures: ClassVar[tuple[type[LstmcError], ...]] = (CaffeAborted, CaffeStopped, CaffeTimeout)

    def __init__(self, runner: Runner, net: TrainableNet, solver: Solver, run: TrainingRequest) -> None:
        """Prepare the engine of a run; the net is loaded by :meth:`start`."""
        self.runner, self.net, self.solver, self.run, self.ranks = runner, net, solver, run, net.ranks
        self.name = net.name
        carried = {target for _, target in net.carried}
        self.fed = {name: shape for name, shape in net.inputs.items() if name not in carried}
        self.loaded = False  # whether the worker has the net

    def computation(self) -> bytes:
        """Return bytes that are equal for nets that compute the same, whatever their names and comments."""
        message = net_from_text(self.net.prototxt)
        message.ClearField("name")
        rest = repr((sorted(self.net.inputs.items()), self.net.carried, self.net.random))
        return bytes(message.SerializeToString(deterministic=True)) + rest.encode()

    def start(self, state: TrainingState | None) -> None:
        """Load the net in the worker, or resume from ``state``. Raises :class:`TrainingError` if a value is missing."""
        arrays = {f"param:{name}": array for name, array in (state.blobs if state else self.net.blobs).items()}
        if state:
            arrays |= {f"carried:{name}": array for name, array in state.carried.items()}
        arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        if state:
            arrays["state"] = np.frombuffer(state.solver, np.uint8)
        mode = "gpu" if self.run.gpu else "cpu"
        args: dict[str, Any] = {
            "solver": solver_text(self.solver, "", "", mode),
            "net": self.net.prototxt,
            "mode": mode,
            "test": self.run.test_batches is not None,
            "carried": self.net.carried,
            "scores": self.net.scores,
            "restored": state is not None,
            "ranks": None,
        }
        if self.ranks is not None:
            args, arrays = self.ranks.start(args, arrays)
        reply = self.ask("start", args, arrays).value
        self.iteration = int(reply["iteration"])
        self.layers = tuple((name, kind, tuple(keys)) for name, kind, keys in reply["layers"])
        if missing := sorted(set(reply["params"]) - {name.removeprefix("param:") for name in arrays}):
            raise TrainingError(f"cannot train {self.net.name}: no values were given for {', '.join(missing)}")

    def update(self, batches: Sequence[Mapping[str, Array]]) -> Update:
        """Make one update by a single batch."""
        (batch,) = batches
        seed = self.solver.random_seed if self.net.random else None
        reply = self.ask("step", {"seed": seed}, batch if self.ranks is None else self.ranks.divide(batch)).value
        self.iteration = int(reply["iteration"])
        return Update(self.iteration, float(reply["loss"]), reply["not_finite"])

    def test(self, batch: Mapping[str, Array], first: bool) -> Mapping[str, float]:
        scores = self.ask("test", {"first": first}, batch).value
        return {name: scores[name] for name in self.net.scores}

    def before(self) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """Return the last copy that the worker made of weights and carried states, each by name; nothing on a GPU."""
        return _by_kind(self.ask("before").arrays)

    def state(self, first_losses: tuple[float, ...], run: RunIdentity) -> TrainingState:
        arrays = self.ask("snapshot").arrays
        blobs, carried = _by_kind(arrays)
        return TrainingState(self.iteration, blobs, carried, first_losses, run, arrays["state"].tobytes(), self.layers)

    save, saved = staticmethod(save_state), staticmethod(last_state)

    def end(self) -> None:
        """Free the net in the worker, if that still runs."""
        if self.loaded:
            with suppress(CaffeError):
                self.runner.call(TRAINING, "end")

    def ask(self, function: str, args: Any = None, arrays: Mapping[str, Array] | None = None) -> CallResult:
        """Call a function in the worker and return its result. ``loaded`` is False if the call fails."""
        self.loaded = False  # unless the worker is still there afterwards
        result = self.runner.call(TRAINING, function, args, arrays, timeout=SECONDS, stop=self.run.stop)
        self.loaded = True
        return result


def _by_kind(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Divide a worker's arrays into parameters and carried states, each by name."""
    params, carried = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("param:", "carried:")
    )
    return params, carried


def solver_text(solver: Solver, net_file: str, snapshot_prefix: str, mode: str, *, test_batches: int = 0) -> str:
    """Return ``NAME.solver.prototxt``, which ``caffe train --solver=`` reads. ``mode`` is ``cpu`` or ``gpu``. The net
    is tested only if the number of batches is known: ``test_iter``, or ``test_batches`` if that is 0."""
    message = SolverParameter(net=net_file, snapshot_prefix=snapshot_prefix, solver_mode=mode.upper())
    tests = solver.test_iter or test_batches
    for name in SETTINGS:
        value = getattr(solver, name)
        if name == "stepvalue":
            message.stepvalue.extend(value or ())
        elif value is not None and not name.startswith("test_"):
            setattr(message, name, value)
    if tests:
        message.test_iter.append(tests)
        message.test_interval = solver.test_interval or solver.max_iter
        message.test_initialization = solver.test_initialization
    return str(text_format.MessageToString(message))
