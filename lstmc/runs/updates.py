"""The updates of a training run, by any engine: feeding, watching the loss, testing, saving, advice after a failure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from lstmc.backend.compiled import TrainingRequest
from lstmc.errors import LstmcError, Mend, OutputError, TrainingError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.prepare import LOSS
from lstmc.runs.folder import RunIdentity, clean, run_folder
from lstmc.runs.metrics import LossWatch
from lstmc.runs.solver import SETTINGS, Solver
from lstmc.verification.conditioning import NotFinite, first_not_finite

# These change when things are shown, tested and saved, or when the run ends, but no update.
FREE = ("max_iter", "snapshot", "display", "average_loss", "test_iter", "test_interval", "test_initialization")
Arrays = Mapping[str, Array]
# a function of parameters by name and a batch, which returns the model's first value that is not finite
Locate = Callable[[Arrays, Arrays], NotFinite | None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class SavedState(ABC):
    """The state of a run in a snapshot, from which it can resume; a backend adds the state of its solver. ``blobs`` are
    the parameters by name, ``carried`` the values that start the next batch, ``first_losses`` detect divergence."""

    iteration: int
    blobs: dict[str, Array]
    carried: dict[str, Array]
    first_losses: tuple[float, ...]
    run: RunIdentity

    @abstractmethod
    def solver_arrays(self) -> Iterable[Array]:
        """Return the solver's history of gradients."""

    def not_finite(self) -> str | None:
        """Return the name of a part of the state that has NaN or infinity, or None."""
        for name, array in {**self.blobs, **self.carried}.items():
            if not np.isfinite(array).all():
                return name
        return None if all(np.isfinite(array).all() for array in self.solver_arrays()) else "the solver's history"


class Update(NamedTuple):
    """One update: its number, the loss before it, and the name of a parameter that is not finite after it."""

    iteration: int
    loss: float
    not_finite: str | None


State = TypeVar("State", bound=SavedState)


class Engine(Protocol[State]):
    """A net with its solver, and the state of both, in any process; the interface of backends that train. ``fed`` are
    the inputs of a batch with their shapes, without inputs that are carried from the previous batch; ``failures`` are
    the errors of a process that ended, after which a run can be resumed."""

    name: str
    fed: dict[str, tuple[int, ...]]
    failures: ClassVar[tuple[type[LstmcError], ...]]

    def computation(self) -> bytes:
        """Return the content of the net that an update depends on."""

    def start(self, state: State | None) -> None:
        """Begin from the first values, or resume from a state."""

    def update(self, batches: Sequence[Arrays]) -> Update:
        """Make one update by the gradients of these batches."""

    def test(self, batch: Arrays, first: bool) -> Mapping[str, float]:
        """Return losses and scores of a test batch. Carried states are reset at the ``first`` batch."""

    def before(self) -> tuple[Arrays, Arrays]:
        """Return the parameters and the carried states as they were before the last update; empty if unknown."""

    def state(self, first_losses: tuple[float, ...], run: RunIdentity) -> State:
        """Return the state after the last update."""

    def save(self, folder: Path, state: State) -> Path:
        """Write a snapshot of a state. Raises :class:`~lstmc.errors.OutputError` where it cannot be written."""

    def saved(self, folder: Path) -> tuple[Path, State] | None:
        """Return the newest complete snapshot and its state."""

    def end(self) -> None:
        """Release the resources of the run, unless its process has ended."""


class TrainedNet(NamedTuple):
    """The result of a run: its last iteration and the parameters by name, which ``snapshot`` holds."""

    iteration: int
    ended: Literal["finished", "stopped"]
    blobs: dict[str, Array]
    snapshot: Path


def train_by(
    engine: Engine[State], solver: Solver, run: TrainingRequest, locate: Locate = lambda blobs, batch: None
) -> TrainedNet:
    """Train to ``solver.max_iter``, or until ``run.stop()``. ``locate`` returns the first value that is not finite,
    computed from the parameters before an update and the update's batch. Raises TrainingError if the run cannot start
    or resume, if its loss is not finite or diverges, and if the engine's process ends; OutputError if a snapshot cannot
    be written. Both name the last snapshot."""
    identity = RunIdentity.from_net(engine.computation(), run.batches.fingerprint, update_settings(solver))
    with run_folder(run.folder, identity, run.resume, run.overwrite) as snapshots:
        try:
            return _Training(engine, solver, run, identity, snapshots, locate).run_to_end()
        finally:
            with suppress(*engine.failures):
                engine.end()


def update_settings(solver: Solver) -> dict[str, Any]:
    """Return the settings of the solver that change the weights, by name: all settings except those of ``FREE``."""
    # the rate of poly depends on when the run ends
    free = set(FREE) - ({"max_iter"} if solver.lr_policy == "poly" else set())
    return {name: getattr(solver, name) for name in SETTINGS if name not in free}


@dataclass
class _Training(Generic[State]):
    """One run, from its start or from its last snapshot."""

    engine: Engine[State]
    solver: Solver
    run: TrainingRequest
    identity: RunIdentity
    snapshots: Path
    locate: Locate

    def __post_init__(self) -> None:
        """Begin at the last snapshot, if there is one."""
        clean(self.snapshots)
        self.snapshot: Path | None
        self.state: State | None
        self.snapshot, self.state = self.engine.saved(self.snapshots) or (None, None)
        self.iteration = self.state.iteration if self.state else 0
        self.watch = LossWatch(list(self.state.first_losses) if self.state else [])

    def run_to_end(self) -> TrainedNet:
        """Make the remaining updates, with tests and snapshots when they are due, and return the result."""
        if self.state is None or self.iteration < self.solver.max_iter:
            self.ask(lambda: self.engine.start(self.state))
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
        assert self.snapshot is not None
        finished = self.iteration >= self.solver.max_iter
        return TrainedNet(self.iteration, "finished" if finished else "stopped", self.state.blobs, self.snapshot)

    def step(self) -> None:
        """Make one update. Raise TrainingError, with advice, if the loss diverges or a parameter is not finite."""
        count = self.solver.iter_size
        numbers = range(self.iteration * count, (self.iteration + 1) * count)
        batches = [self.batch(self.run.batches.batch(number), f"batch {number}") for number in numbers]
        rate = self.solver.rate(self.iteration)
        self.iteration, loss, not_finite = self.ask(lambda: self.engine.update(batches))
        if problem := self.watch.problem(loss):
            at = None if isfinite(loss) else self.first_not_finite(batches)
            raise self.stopped(f"the loss of iteration {self.iteration} {problem}", batches, at)
        self.run.callbacks.stepped(self.iteration, loss, rate)
        if not_finite:
            message = f"after iteration {self.iteration} {not_finite} has values that are NaN or infinite"
            raise self.stopped(message, batches, self.first_not_finite(batches))

    def test(self) -> None:
        """Report the means of the scores over the test batches."""
        batches = self.run.test_batches
        if batches is None:
            return
        totals: dict[str, float] = {}
        count = self.solver.test_iter or batches.per_epoch
        for index in range(count):
            batch = self.batch(batches.batch(index), f"test batch {index}")
            first = index == 0
            for name, score in self.ask(lambda: self.engine.test(batch, first)).items():  # noqa: B023 - called at once
                totals[name] = totals.get(name, 0.0) + score / count
        self.run.callbacks.tested(self.iteration, totals)

    def save(self) -> None:
        """Write a snapshot. Raises :class:`TrainingError` if its content is not finite."""
        state = self.ask(lambda: self.engine.state(tuple(self.watch.first), self.identity))
        if invalid := state.not_finite():
            raise self.stopped(f"after iteration {self.iteration} {invalid} has values that are NaN or infinite")
        try:
            self.snapshot = self.engine.save(self.snapshots, state)
        except OutputError as error:
            raise error.located(notes=[self.last_good()], mends=[Mend.RESUME]) from None
        self.state = state
        self.run.callbacks.saved(self.iteration, self.snapshot)

    def batch(self, arrays: Arrays, title: str) -> dict[str, Array]:
        """Return a batch as float32 arrays. Raises :class:`TrainingError` if it does not fit the net's inputs."""
        fed = self.engine.fed
        if set(arrays) != set(fed):
            expected, found = (", ".join(sorted(names)) or "nothing" for names in (fed, arrays))
            raise TrainingError(f"{title}: expected {expected}, found {found}")
        for name, array in arrays.items():
            if tuple(array.shape) != tuple(fed[name]):
                raise TrainingError(f"{title}: expected {name} of shape {list(fed[name])}, found {list(array.shape)}")
        return {name: np.asarray(array, np.float32) for name, array in arrays.items()}

    def ask(self, request: Callable[[], Result]) -> Result:
        """Return the result of a request to the engine. Raises :class:`TrainingError` if the engine's process ends."""
        try:
            return request()
        except self.engine.failures as error:
            message = f"training {self.engine.name} after iteration {self.iteration}: {error.marked}"
            notes = (*error.marked_notes, self.last_good())
            raise TrainingError(message, notes=notes, mends=[Mend.RESUME]) from error

    def stopped(self, message: str, batches: Sequence[Arrays] = (), at: NotFinite | None = None) -> LstmcError:
        """Return the error for a run that would fail again in the same way, without advice to resume."""
        advice = training_advice(self.solver, batches, at)
        return TrainingError(message, loc=at.loc if at else None, notes=(*advice, self.last_good()))

    def first_not_finite(self, batches: Sequence[Arrays]) -> NotFinite | None:
        """Return the last update's first value that is not finite, from the parameters and states before it. Return
        None if unknown: on a GPU, in the data or a later batch, or if only the engine's order of sums overflows."""
        if not all(np.isfinite(array).all() for batch in batches for array in batch.values()):
            return None
        blobs, states = self.ask(self.engine.before)
        return self.locate(blobs, {**batches[0], **states}) if blobs else None

    def last_good(self) -> str:
        if self.snapshot is None or self.state is None:
            return "there is no snapshot yet"
        return f"the last good snapshot is of iteration {self.state.iteration}: {self.snapshot}"


def not_finite_in(model: Graph, batch: Arrays, weights: Arrays) -> NotFinite | None:
    """Return the first value or gradient of a training graph that is not finite in float32, without dropouts."""
    return first_not_finite(forward(model, batch, weights, np.float32), {LOSS: np.ones(())})


def training_advice(solver: Solver, batches: Sequence[Arrays], at: NotFinite | None = None) -> tuple[str, ...]:
    """Return lines of advice after a loss that is not finite or diverges: to check the data, if a batch is not finite.
    ``at`` is the first value or gradient that is not finite, if known. Settings of the solver are suggested if ``at``
    is unknown, or if a sum or a matrix product overflows, but not if a function of single elements does."""
    invalid = dict.fromkeys(n for batch in batches for n, array in batch.items() if not np.isfinite(array).all())
    if invalid:
        return (f"its batch has NaN or infinity in {', '.join(invalid)}: check the data",)
    if at is not None and at.operands:
        return (str(at), "keep its operand in range, as with maximum(x, 1e-6) or clip(x, -50, 50)")
    clip = "clip_gradients=5" if solver.clip_gradients is None else f"clip_gradients below {solver.clip_gradients:g}"
    settings = f"try base_lr below {solver.base_lr:g}, {clip}, or smaller initial weights"
    return (settings,) if at is None else (str(at), settings)


def _due(iteration: int, interval: int) -> bool:
    return interval > 0 and iteration % interval == 0
