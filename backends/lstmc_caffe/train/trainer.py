"""Training in real Caffe: its own solver makes the updates, one a request; lstmc feeds it, watches it and saves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lstmc.backend import RankPart
from lstmc.data.request import TrainingRequest
from lstmc.errors import LstmcError, Mend, OutputError, TrainingError
from lstmc.ops import Array
from lstmc.runs.folder import RunIdentity, clean, run_folder
from lstmc.runs.metrics import LossWatch
from lstmc.verification.conditioning import NotFinite
from lstmc_caffe.processes.worker import CaffeAborted, CaffeError, CaffeStopped, CaffeTimeout
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.runtime.runner import CallResult, Runner
from lstmc_caffe.train.snapshots import TrainingState, last_state, save_state
from lstmc_caffe.train.solver import SETTINGS, Solver, solver_text, training_advice
from lstmc_caffe.worker import TRAINING

# These change when things are shown, tested and saved, or when the run ends, but no update.
FREE = ("max_iter", "snapshot", "display", "average_loss", "test_iter", "test_interval", "test_initialization")
# of parameters by name, and a batch: where the model first has a value that is not finite
Locate = Callable[[Mapping[str, Array], Mapping[str, Array]], NotFinite | None]
SECONDS = 3600.0  # for one request: an iteration of a large net is slow, but not endless


@dataclass(frozen=True)
class TrainableNet:
    """A net that Caffe's solver can train, with its inputs, scores and carried states.

    ``prototxt`` has phases TRAIN and, where scores are wanted, TEST, with Input layers for ``inputs`` (blob to shape).
    ``scores`` are scalar tops to report in phase TEST. After a batch the first blob of each pair of ``carried`` is
    copied to the second, an input of the next batch. ``blobs`` are first values of all parameters by name (LAYER/INDEX
    for one without). ``random`` says whether a layer draws random numbers.
    """

    name: str
    prototxt: str
    inputs: Mapping[str, tuple[int, ...]]
    scores: tuple[str, ...]
    carried: tuple[tuple[str, str], ...]
    blobs: Mapping[str, Array]
    random: bool


@dataclass(frozen=True)
class Mask:
    """The mask that replaces a dropout's own draws: of elements of the whole batch, drawn in ``shape``."""

    name: str
    ratio: float
    shape: tuple[int, ...]
    axis: int | None


@dataclass(frozen=True)
class RankNets:
    """The text of each rank's net, ``parts`` of a batch by examples, the axis of examples of every array by name.

    ``test`` is the net of whole batches, by which one rank tests.
    """

    texts: tuple[str, ...]
    parts: tuple[RankPart, ...]
    axes: Mapping[str, int | None]
    masks: tuple[Mask, ...]
    test: str

    def start(self, args: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the arguments and arrays that start every rank, in place of those for a single process."""
        carried = {target for _, target in args["carried"]}
        each = [
            {
                "net": text,
                "test": bool(args["test"]) and rank == 0,
                "ranks": {
                    "test_net": self.test,
                    "axes": {name: self.axes[name] for name in carried},
                    "masks": [(m.name, m.ratio, m.shape, m.axis, part.start, part.stop) for m in self.masks],
                },
            }
            for rank, (text, part) in enumerate(zip(self.texts, self.parts, strict=True))
        ]
        shared = {name: array for name, array in arrays.items() if not name.startswith("carried:")}
        states = {name: array for name, array in arrays.items() if name.startswith("carried:")}
        return {**args, "each": each}, {**shared, **self._divided(states, "carried:")}

    def divide(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return the arrays of a batch, those of a rank as ``RANK|NAME``, and each rank's share of counted labels."""
        parts = self._divided(batch, "")
        for name, counted in self.parts[0].counted.items():
            labels, axis = batch[counted.labels], self.axes[counted.labels]
            assert axis is not None
            is_counted = labels != counted.ignored
            total = max(1, int(is_counted.sum()))
            for rank, part in enumerate(self.parts):
                count = int(np.take(is_counted, np.arange(part.start, part.stop), axis).sum())
                parts[f"{rank}|{name}"] = np.array(max(1, count) / total, np.float32)
        return parts

    def _divided(self, arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
        parts: dict[str, Array] = {}
        for name, array in arrays.items():
            axis = self.axes[name.removeprefix(prefix)]
            if axis is None:
                parts[name] = array
                continue
            for rank, part in enumerate(self.parts):
                parts[f"{rank}|{name}"] = array[(slice(None),) * axis + (slice(part.start, part.stop),)]
        return parts


class TrainedNet(NamedTuple):
    """The result of a run: its last iteration and the parameters by name, which ``snapshot`` holds."""

    iteration: int
    ended: Literal["finished", "stopped"]
    blobs: dict[str, Array]
    snapshot: Path


def train_net(
    runner: Runner,
    net: TrainableNet,
    solver: Solver,
    run: TrainingRequest,
    fingerprint: str,
    ranks: RankNets | None = None,
    locate: Locate = lambda blobs, batch: None,
) -> TrainedNet:
    """Train to ``solver.max_iter``, or until ``run.stop()``; ``fingerprint`` is of the data.

    With ``ranks`` the runner's workers train ``net`` together. ``locate`` returns the first value that is not finite,
    of the parameters before an update and its batch. Raises :class:`TrainingError` where the run cannot start or go on,
    where its loss is no number or runs away, and where Caffe's process ends; :class:`OutputError` where a snapshot
    cannot be written. Both name the last snapshot.
    """
    if run.gpu and not runner.gpu.usable:
        raise TrainingError(f"cannot train {net.name} on a GPU: {runner.gpu.reason}")
    if solver.iter_size > 1:
        raise TrainingError(
            f"cannot train {net.name} with iter_size {solver.iter_size}: lstmc gives Caffe one batch an update",
            notes=("make the batch larger in the model, or run `caffe train` on the files of `lstmc compile`",),
        )
    identity = RunIdentity.from_net(computation(net), fingerprint, update_settings(solver))
    with run_folder(run.folder, identity, run.resume, run.overwrite) as snapshots:
        training = _Training(runner, net, solver, run, identity, snapshots, ranks, locate)
        try:
            return training.run_to_end()
        finally:
            training.end()


def computation(net: TrainableNet) -> bytes:
    """Return the content of a net that an update depends on: all but its name and the comments of its text."""
    message = net_from_text(net.prototxt)
    message.ClearField("name")
    rest = repr((sorted(net.inputs.items()), net.carried, net.random))
    return bytes(message.SerializeToString(deterministic=True)) + rest.encode()


def update_settings(solver: Solver) -> dict[str, Any]:
    """Return the settings that an update depends on, by name."""
    # the rate of poly depends on when the run ends
    free = set(FREE) - ({"max_iter"} if solver.lr_policy == "poly" else set())
    return {name: getattr(solver, name) for name in SETTINGS if name not in free}


class _Training:
    """One run, from its start or from its last snapshot."""

    def __init__(
        self,
        runner: Runner,
        net: TrainableNet,
        solver: Solver,
        run: TrainingRequest,
        identity: RunIdentity,
        snapshots: Path,
        ranks: RankNets | None,
        locate: Locate,
    ) -> None:
        self.runner, self.net, self.solver, self.run = runner, net, solver, run
        self.ranks, self.locate = ranks, locate
        self.identity, self.snapshots = identity, snapshots
        clean(snapshots)
        self.saved: Path | None = None
        self.state: TrainingState | None = None
        if last := last_state(snapshots):
            self.saved, self.state = last
        self.iteration = self.state.iteration if self.state else 0
        self.watch = LossWatch(list(self.state.first_losses) if self.state else [])
        self.loaded = False
        self.fed = set(net.inputs) - {target for _, target in net.carried}

    def run_to_end(self) -> TrainedNet:
        if self.state is None or self.iteration < self.solver.max_iter:
            self.start()
        if self.state is None and self.solver.test_initialization:
            self.test()
        stopped = False
        while self.iteration < self.solver.max_iter and not stopped:
            self.step()
            stopped = self.run.stop()
            finished = self.iteration >= self.solver.max_iter
            if finished or (not stopped and _due(self.iteration, self.solver.test_interval)):
                self.test()
            if finished or stopped or _due(self.iteration, self.solver.snapshot):
                self.save()
        assert self.state is not None
        assert self.saved is not None
        ended: Literal["finished", "stopped"] = "finished" if self.iteration >= self.solver.max_iter else "stopped"
        return TrainedNet(self.iteration, ended, self.state.blobs, self.saved)

    def start(self) -> None:
        state = self.state
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
        self.layers = tuple((name, kind, tuple(keys)) for name, kind, keys in reply["layers"])
        if missing := sorted(set(reply["params"]) - {name.removeprefix("param:") for name in arrays}):
            raise TrainingError(f"cannot train {self.net.name}: no values were given for {', '.join(missing)}")

    def step(self) -> None:
        batch = self.batch(self.run.batches.batch(self.iteration), f"batch {self.iteration}")
        rate = self.solver.rate(self.iteration)
        seed = self.solver.random_seed if self.net.random else None
        reply = self.ask("step", {"seed": seed}, batch if self.ranks is None else self.ranks.divide(batch)).value
        self.iteration, loss = int(reply["iteration"]), float(reply["loss"])
        if problem := self.watch.problem(loss):
            at = None if isfinite(loss) else self.first_not_finite(batch)
            raise self.stopped(f"the loss of iteration {self.iteration} {problem}", batch, at)
        self.run.callbacks.stepped(self.iteration, loss, rate)
        if name := reply["not_finite"]:
            message = f"after iteration {self.iteration} {name} has values that are NaN or infinite"
            raise self.stopped(message, batch, self.first_not_finite(batch))

    def test(self) -> None:
        batches = self.run.test_batches
        if batches is None:
            return
        totals = dict.fromkeys(self.net.scores, 0.0)
        count = self.solver.test_iter or batches.per_epoch
        for index in range(count):
            batch = self.batch(batches.batch(index), f"test batch {index}")
            for name, score in self.ask("test", {"first": index == 0}, batch).value.items():
                totals[name] += score / count
        self.run.callbacks.tested(self.iteration, totals)

    def save(self) -> None:
        """Write a snapshot. Raises :class:`TrainingError` if its content is not finite."""
        arrays = self.ask("snapshot").arrays
        by_kind = {
            kind: {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
            for kind in ("param:", "carried:")
        }
        state = TrainingState(
            iteration=self.iteration,
            blobs=by_kind["param:"],
            carried=by_kind["carried:"],
            solver=arrays["state"].tobytes(),
            layers=self.layers,
            first_losses=tuple(self.watch.first),
            run=self.identity,
        )
        if invalid := state.not_finite():
            raise self.stopped(f"after iteration {self.iteration} {invalid} has values that are NaN or infinite")
        try:
            self.saved = save_state(self.snapshots, state)
        except OutputError as error:
            raise error.located(notes=[self.last_good()], mends=[Mend.RESUME]) from None
        self.state = state
        self.run.callbacks.saved(self.iteration, self.saved)

    def end(self) -> None:
        """Free the net in the worker, if that still runs."""
        if self.loaded:
            with suppress(CaffeError):
                self.runner.call(TRAINING, "end")

    def batch(self, arrays: Mapping[str, Array], title: str) -> dict[str, Array]:
        """Return a batch as float32 arrays. Raises :class:`TrainingError` where it does not fit the net's inputs."""
        if set(arrays) != self.fed:
            raise TrainingError(f"{title}: expected {_joined(self.fed)}, found {_joined(arrays)}")
        for name, array in arrays.items():
            if tuple(array.shape) != tuple(self.net.inputs[name]):
                shapes = f"{list(self.net.inputs[name])}, found {list(array.shape)}"
                raise TrainingError(f"{title}: expected {name} of shape {shapes}")
        return {name: np.asarray(array, np.float32) for name, array in arrays.items()}

    def ask(self, function: str, args: Any = None, arrays: Mapping[str, Array] | None = None) -> CallResult:
        self.loaded = False  # unless the worker is still there afterwards
        try:
            result = self.runner.call(TRAINING, function, args, arrays, timeout=SECONDS, stop=self.run.stop)
        except (CaffeAborted, CaffeStopped, CaffeTimeout) as error:
            where = f"training {self.net.name} after iteration {self.iteration}"
            raise TrainingError(
                f"{where}: {error.message}", notes=(*error.notes, self.last_good()), mends=[Mend.RESUME]
            ) from error
        self.loaded = True
        return result

    def stopped(
        self, message: str, batch: Mapping[str, Array] | None = None, at: NotFinite | None = None
    ) -> LstmcError:
        """Return an error for a run that would fail again in the same way: so nothing of resuming."""
        advice = training_advice(self.solver, batch or {}, at)
        return TrainingError(message, loc=at.loc if at else None, notes=(*advice, self.last_good()))

    def first_not_finite(self, batch: Mapping[str, Array]) -> NotFinite | None:
        """Return the first value of the last update that is not finite, by the parameters and states before it.

        None where it is not known: on a GPU, and where only Caffe's own order of sums overflows.
        """
        if not all(np.isfinite(array).all() for array in batch.values()):
            return None
        before = self.ask("before").arrays
        blobs, states = (
            {name.removeprefix(kind): array for name, array in before.items() if name.startswith(kind)}
            for kind in ("param:", "carried:")
        )
        return self.locate(blobs, {**batch, **states}) if blobs else None

    def last_good(self) -> str:
        if self.saved is None or self.state is None:
            return "there is no snapshot yet"
        return f"the last good snapshot is of iteration {self.state.iteration}: {self.saved}"


def _due(iteration: int, interval: int) -> bool:
    return interval > 0 and iteration % interval == 0


def _joined(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
