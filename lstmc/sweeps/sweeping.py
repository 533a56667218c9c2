"""``lstmc.sweep``: train one model for each trial of a search space, in a folder with the runs and the results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from lstmc.api.models import backend_of, model_in
from lstmc.api.options import TrainingOptions, options_of
from lstmc.errors import Mend, SweepError
from lstmc.files.json_file import NotExpected, read_json
from lstmc.files.lock import hold_folder
from lstmc.files.output import set_aside, write_files
from lstmc.files.reading import reading, regular
from lstmc.plugins import need
from lstmc.process.pool import Pool, pool
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.sweeps import trials
from lstmc.sweeps.task import Task, Training, train_point, updates_of
from lstmc.sweeps.trials import Goal, Outcome, Row, Space, best_row, rank_rows

__all__ = ["Search", "SweepRun", "Swept", "sweep", "sweep_model"]

SWEEP = "sweep.json"
POINTS = "points"
LOCK = ".lock"
BEST = "best"
BEGIN = (Mend.OVERWRITE, Mend.OTHER_FOLDER)
LEFT = (trials.RESULTS, trials.SUMMARY, trials.SCORES, trials.CURVES, BEST, POINTS, SWEEP)  # all that a sweep leaves
TRIES = 3  # of a point whose run is interrupted again and again
SECONDS = 0.5  # between two looks at the runs
Watch = Callable[[Sequence[Row]], object]


@dataclass(frozen=True)
class Definition:
    """All that the results of a sweep depend on. ``files`` are hashes of the files that the sweep reads, by name.
    Without halving the goal does not change the training, so the goal may differ from command to command."""

    training: dict[str, Any]
    files: dict[str, str]
    points: dict[str, dict[str, str]]
    halving: int | None
    goal: str

    def differences(self, before: Definition) -> list[str]:
        """Return the differences from the previous sweep, a line each."""
        lines = [
            f"{name}: started with {before.training.get(name)}, now {value}"
            for name, value in self.training.items()
            if before.training.get(name) != value
        ]
        changed = [name for name, digest in self.files.items() if before.files.get(name, digest) != digest]
        lines += [f"{name} has changed" for name in changed]
        lines += ["the points are others"] if self.points != before.points else []
        for name in ("halving", "goal") if self.halving is not None else ("halving",):
            now, then = getattr(self, name), getattr(before, name)
            lines += [f"{name}: started with {then}, now {now}"] if now != then else []
        return lines


@contextmanager
def sweep_folder(folder: Path, definition: Definition, overwrite: bool = False) -> Iterator[Path]:
    """Lock the sweep's folder for this process, and yield the folder of the points' runs. With ``overwrite`` an
    existing sweep is first moved into ``folder/previous/N``. Raises SweepError if the folder has another sweep, or
    another process uses it, and OutputError if it cannot be written."""
    busy = SweepError(f"another sweep runs in {folder}: wait for it", mends=[Mend.OTHER_FOLDER])
    with hold_folder(folder, folder / LOCK, busy, f"into {folder}"):
        if overwrite and any(os.path.exists(folder / name) for name in LEFT):
            set_aside(folder, LEFT)
        _check_definition(folder, definition)
        yield folder / POINTS


def link_best(folder: Path, name: str) -> Path:
    """Create ``SWEEP/best``, a link to the run of the best point."""
    link, beside = folder / BEST, folder / f".{BEST}"
    with suppress(FileNotFoundError):
        beside.unlink()
    beside.symlink_to(Path(POINTS) / name)
    os.replace(beside, link)
    return link


def _check_definition(folder: Path, definition: Definition) -> None:
    """Write a new sweep's definition. Raise SweepError if the folder has a sweep with another definition."""
    path = folder / SWEEP
    if not os.path.exists(path):
        if os.path.exists(folder / POINTS):
            raise SweepError(f"{folder} has runs, and no {SWEEP} that defines their sweep", mends=BEGIN)
        _write_definition(folder, definition)
        return
    try:
        before = read_json(path, Definition)
    except (OSError, NotExpected) as error:
        raise SweepError(f"{path} does not say what sweep it is: {error}", mends=BEGIN) from None
    if differences := definition.differences(before):
        problem = f"{folder} has another sweep: it was started with different settings"
        raise SweepError(problem, notes=differences, mends=BEGIN)
    if definition.goal != before.goal:
        _write_definition(folder, definition)


def _write_definition(folder: Path, definition: Definition) -> None:
    write_files(folder, {SWEEP: (json.dumps(asdict(definition), indent=1) + "\n").encode()})


def _file_digest(path: Path) -> str:
    with reading(path, SweepError), regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Swept:
    """The result of a sweep: a row for each point, the best first. ``best`` is the folder of the best point's run."""

    folder: Path
    rows: tuple[Row, ...]
    best: Path | None
    files: tuple[Path, ...]
    stopped: bool = False


def sweep(
    model: str,
    space: Space | Mapping[str, object],
    data: str | Path,
    /,
    *,
    out: str | Path,
    random: int | None = None,
    halving: int | None = None,
    goal: Goal = Goal(),
    scheduler: str | None = None,
    workers: int | None = None,
    test_data: str | Path | None = None,
    test_split: float | None = None,
    sizes: Mapping[str, int] | None = None,
    options: Mapping[str, str] | None = None,
    epochs: float | None = None,
    solver: Sequence[str] = (),
    seed: int = 0,
    batch: str | None = None,
    shuffle: bool = True,
    tensorboard: bool = False,
    overwrite: bool = False,
    gpu: bool = False,
    target: str | None = None,
    backend: str | None = None,
    watch: Watch | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Swept:
    """Train a model at every point of a space, each in a folder of its own, several at a time.

    An interrupted sweep continues if it is called again with the same arguments: finished and failed points are not
    trained again, and the other points resume from their last snapshots.

    Args:
        model: A model's file, ``FILE`` or ``FILE:MODEL``: the workers import it.
        space: The varied names and their values: dimensions, options of the model, ``solver.SETTING``, ``seed``.
        data: An ``.npz`` or HDF5 file, as for :func:`lstmc.train`.
        out: The output folder, which all workers see under the same path.
        random: Draw this number of points, by ``seed``; by default every combination.
        halving: Also compare the points after fewer updates; each time, one of this number of points continues.
        goal: The score that decides which point is best.
        scheduler: The address of a Dask scheduler; without one, ``workers`` processes on this machine.
        tensorboard: Also write event files into the folder of each run.
        watch: A function that gets the rows from time to time.
        stop: A function that returns whether to stop, with snapshots.

    The other arguments are those of :func:`lstmc.train`, for all points. Raises :class:`~lstmc.errors.SweepError` for
    an unsuitable space or folder, if the scheduler ends, and without the packages of the extra ``sweep``.
    """
    given = locals()
    training, run = options_of(TrainingOptions, sweep, given), options_of(SweepRun, sweep, given)
    search = Search(space if isinstance(space, Space) else Space.from_values(space), random, halving, goal)
    return sweep_model(model, data, search, training, run, options)


@dataclass(frozen=True)
class Search:
    """A search of a space: which points are trained, and how they are compared."""

    space: Space
    random: int | None = None  # draw this number of points
    halving: int | None = None
    goal: Goal = field(default_factory=Goal)


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """The options of :func:`sweep` for its folder, its workers, and its observers."""

    out: str | Path
    scheduler: str | None = None
    workers: int | None = None
    tensorboard: bool = False
    overwrite: bool = False
    watch: Watch | None = None
    stop: Callable[[], bool] = lambda: False


def sweep_model(
    model: str,
    data: str | Path,
    search: Search,
    options: TrainingOptions,
    run: SweepRun,
    model_options: Mapping[str, str] | None = None,
) -> Swept:
    """Train a model at every point of a space: :func:`sweep` with most of its keywords as objects. Test data are a
    file, and settings of the solver are texts: workers on other machines read them."""
    test_data = None if options.test_data is None else _absolute(cast("str | Path", options.test_data))
    solver = tuple(cast("Sequence[str]", options.solver or ()))
    backend = backend_of(options.backend, options.target).name
    given = {**vars(options), "test_data": test_data, "solver": solver, "backend": backend}
    training = Training(_absolute_model(model), _absolute(data), dict(model_options or {}), run.tensorboard, **given)
    halving = search.halving
    if halving is not None and halving < 2:
        raise SweepError(f"halving: expected an integer from 2 on, found {halving}")
    points = search.space.points(search.random, training.seed)
    rows = {name: Row(name, point) for name, point in points.items()}
    updates = updates_of(training, list(points.values()), search.goal)
    if halving is not None and len(set(updates)) > 1:
        raise SweepError("halving compares points after the same number of updates: solver.max_iter cannot vary")
    drawing = need("lstmc.sweeps.drawing", "matplotlib", "sweep", SweepError)  # before anything is trained
    files = [training.model.rpartition(":")[0], training.data, *([training.test_data] if training.test_data else [])]
    settings = {name: value for name, value in asdict(training).items() if name != "tensorboard"}
    hashes = {name: _file_digest(Path(name)) for name in files}
    named = {name: dict(point) for name, point in points.items()}
    definition = Definition(json.loads(json.dumps(settings)), hashes, named, halving, str(search.goal))
    folder = Path(run.out).absolute()
    with sweep_folder(folder, definition, run.overwrite) as runs, pool(run.scheduler, run.workers) as workers:
        state = _Sweep(training, rows, runs, search.goal, run, workers, drawing)
        try:
            if halving is None:
                state.train(list(rows), dict(zip(rows, updates, strict=True)))
            else:
                state.halve(updates[0], halving)
        finally:
            files_written = state.write(folder)
    results = rank_rows(state.rows.values(), search.goal)
    best = best_row(results, search.goal)
    return Swept(folder, tuple(results), None if best is None else runs / best.name, files_written, state.stopped)


@dataclass
class _Sweep:
    """A running sweep: the state of each point, and the workers. ``drawing`` is the module."""

    training: Training
    rows: dict[str, Row]
    runs: Path
    goal: Goal
    run: SweepRun
    pool: Pool
    drawing: Any
    stopped: bool = False

    def halve(self, updates: int, factor: int) -> None:
        """Train all points to a small budget, then the best, one for ``factor`` points, to each larger budget."""
        names = list(self.rows)
        for budget in trials.budgets(len(names), updates, factor):
            self.train(names, dict.fromkeys(names, budget))
            if self.stopped:
                return
            if budget < updates:
                going_on = set(trials.survivors([self.rows[name] for name in names], factor, self.goal))
                for name in names:
                    if name not in going_on and self.rows[name].state == "finished":
                        self.rows[name] = replace(self.rows[name], state="dropped")
                names = [name for name in names if name in going_on]

    def train(self, names: Sequence[str], budget: Mapping[str, int]) -> None:
        """Train points to their budgets, unless trained or failed before; interrupted ones at most ``TRIES`` times."""
        tries = dict.fromkeys(names, 0)
        for name in names:
            if outcome := trials.read_outcome(self.runs / name, budget[name]):
                self.note(name, outcome)
            else:
                self.rows[name] = replace(self.rows[name], state="waiting")
                self.submit(name, budget[name])
        while self.pool.waiting and not self.stopped:
            for ended in self.pool.ended(SECONDS):
                outcome = ended.result or Outcome(budget[ended.name], 0, {}, ended.problem, final=False)
                self.note(ended.name, outcome)
                tries[ended.name] += 1
                if not outcome.final and tries[ended.name] < TRIES:
                    self.submit(ended.name, budget[ended.name])
            self.look(names)
            self.stopped = self.run.stop()

    def submit(self, name: str, budget: int) -> None:
        self.pool.submit(train_point, Task(self.training, self.rows[name].point, str(self.runs / name), budget), name)

    def note(self, name: str, outcome: Outcome) -> None:
        state = "finished" if not outcome.reason else "failed" if outcome.final else "interrupted"
        facts = {key: getattr(outcome, key) for key in ("iteration", "scores", "reason", "costs")}
        self.rows[name] = replace(self.rows[name], **{"state": state, **facts})

    def look(self, names: Sequence[str]) -> None:
        """Update the rows of running points from their metrics, and report all rows to ``watch``."""
        if self.run.watch is None:
            return
        for name in names:
            running = self.rows[name].state in ("waiting", "running")
            if running and (records := read_metrics(self.runs / name / METRICS)):
                now = {"iteration": records[-1]["iteration"], "scores": trials.last_scores(records)}
                self.rows[name] = replace(self.rows[name], state="running", **now)
        self.run.watch(rank_rows(self.rows.values(), self.goal))

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write the tables and pictures of all points, and the link to the best run. Return the written paths."""
        rows = rank_rows(self.rows.values(), self.goal)
        pictures = self.drawing.pictures(rows, self.goal, self.runs)
        tables = {trials.RESULTS: trials.results_csv(rows)}
        if groups := trials.over_seeds(rows):
            tables[trials.SUMMARY] = trials.summary_csv(groups)
        paths = write_files(folder, {**tables, **pictures})
        best = best_row(rows, self.goal)
        return (*paths, *([link_best(folder, best.name)] if best is not None else []))


def _absolute(file: str | Path) -> str:
    return str(Path(file).absolute())


def _absolute_model(model: str) -> str:
    """Return ``FILE`` or ``FILE:MODEL`` with the file's absolute path. Raises ModelFileError for other texts."""
    source = model_in(model)
    file = model.removesuffix(f":{source.model.name}")
    return f"{Path(file).absolute()}:{source.model.name}"
