"""Training of one point of a sweep, as a Dask worker runs it. The run stays in the point's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from pathlib import Path

from filelock import FileLock

from lstmc.api import Run
from lstmc.api.models import ModelSource, backend_of, model_in
from lstmc.api.options import RunOptions, TrainingOptions
from lstmc.api.training import fit_data, iterations_of_epochs, solver_settings, train_model
from lstmc.errors import Argument, LstmcError, Mend, SweepError
from lstmc.files.output import write_files
from lstmc.plugins import need
from lstmc.runs.events import EventFiles
from lstmc.runs.folder import RUN, SNAPSHOTS
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.sweeps.trials import COSTS, LOSS, SEED, SOLVER, Goal, Outcome, Point, last_scores, outcome_file, read_outcome
from lstmc.text import did_you_mean, nearest_or_all, whole

LOCK = ".point.lock"  # held while the point is trained: a scheduler may give a task away that still runs elsewhere


@dataclass(frozen=True)
class Training(TrainingOptions):
    """The training of every point of a sweep: files and texts, which are sent to workers. Paths are those of workers.
    ``model`` is ``FILE`` or ``FILE:MODEL``."""

    model: str
    data: str
    options: Mapping[str, str] = field(default_factory=dict)
    tensorboard: bool = False
    _: KW_ONLY
    test_data: str | None = None
    solver: tuple[str, ...] = ()
    backend: str = "caffe"


@dataclass(frozen=True)
class Task:
    """A point to train until it has made ``budget`` updates."""

    training: Training
    point: Point
    folder: str
    budget: int


def at_point(training: Training, model: ModelSource, point: Point, budget: int | None = None) -> Training:
    """Return the training of a point: each value of the point sets a setting of the solver, an option, the seed or a
    size. ``model`` is ``training.model``, loaded. Raises SweepError for a value that does not suit its name."""
    sizes, options, seed = dict(training.sizes), dict(training.options), training.seed
    settings: dict[str, str] = dict(text.split("=", 1) for text in training.solver if "=" in text)
    model_options = model.model.signature.options
    for name, value in point.items():
        if name.startswith(SOLVER):
            settings[name.removeprefix(SOLVER)] = value
        elif name in model_options:
            options[name] = value
        else:
            number = whole(value)
            if number is None or number < 0:
                listed = f": options of {model.model.name} are {', '.join(model_options) or 'none'};"
                near = did_you_mean(name, model_options) or f"{listed} a setting of the solver is {SOLVER}{name}"
                raise SweepError(f"{name}: expected integers, as for a dimension, found {value!r}{near}")
            if name == SEED:
                seed = number
            else:
                sizes[name] = number
    if budget is not None:
        settings["max_iter"] = str(budget)
    solver = tuple(f"{name}={value}" for name, value in settings.items())
    return replace(training, sizes=sizes, options=options, seed=seed, solver=solver)


def updates_of(training: Training, points: Sequence[Mapping[str, str]], goal: Goal) -> list[int]:
    """Return the number of updates of each point. Raises, before any point is trained, for an invalid value, such as an
    unknown cell, for a goal that no point measures, and if no point can be trained, as with data that do not fit."""
    backend, source = backend_of(training.backend), model_in(training.model)
    updates, first_error = list[int](), None
    tested, scores = False, dict[str, None]()  # the scores of the models that fit the data, in order
    in_epochs: dict[tuple[tuple[str, int], ...], int] = {}  # data are read once for equal sizes
    for point in points:
        trial = at_point(training, source, point)
        model = source.with_options(trial.options)
        settings = solver_settings(backend, model.model.solver, trial.solver)
        key = *sorted(trial.sizes.items()), ("iter_size", settings.iter_size)
        if goal.score not in scores or (training.epochs is not None and key not in in_epochs):
            try:
                run_data = fit_data(model, trial.data, trial).run_data
                if training.epochs is not None:
                    in_epochs[key] = iterations_of_epochs(training.epochs, trial.solver, run_data, settings.iter_size)
                tested = run_data.test is not None
                outputs = [output.name for output in run_data.graph.outputs if not output.carried_to]
                scores |= dict.fromkeys(outputs if tested else [LOSS])
            except LstmcError as error:
                first_error = first_error or error
        updates.append(in_epochs.get(key, settings.max_iter) if training.epochs is not None else settings.max_iter)
    if first_error is not None and not scores:
        raise first_error
    if goal.score not in scores:
        near = nearest_or_all(goal.score, scores, "it measures")
        message = f"{goal}: a run of {source.model.name} measures no {goal.score}{near}"
        untested = f"without tests only the loss is measured: {Argument('test_data')} or {Argument('test_split')} gives"
        raise SweepError(message, notes=[] if tested else [f"{untested} the data of tests"])
    return updates


def train_point(task: Task) -> Outcome:
    """Train a point, or continue it, and write its outcome. A point that has ended is not trained again. An error that
    would occur again, such as a diverging loss, ends a point for good; another error, such as a full disk, does not. If
    the task is cancelled, the run stops with a snapshot."""
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK, mode=0o644):
        before = read_outcome(folder, task.budget)
        if before is not None:
            return before
        iteration, reason, final, costs = 0, "", True, dict[str, float]()
        try:
            run = _train(task, folder)
            iteration, costs = run.iteration, {name: getattr(run, name) for name in COSTS}
        except LstmcError as error:
            reason = "; ".join((error.message, *error.notes[:1])).replace("\n", " ")
            final = Mend.RESUME not in error.mends
        records = read_metrics(folder / METRICS)
        iteration = iteration or max((record["iteration"] for record in records), default=0)
        if not reason and iteration < task.budget:
            reason, final = "stopped", False
        outcome = Outcome(task.budget, iteration, last_scores(records), reason, final, costs)
        if outcome.final:
            write_files(folder, outcome_file(outcome))
        return outcome


def _train(task: Task, folder: Path) -> Run:
    """Train a point to its budget, in its folder."""
    model = model_in(task.training.model)
    training = at_point(task.training, model, task.point, task.budget)
    with ExitStack() as stack:
        run = RunOptions(
            out=folder,
            resume=(folder / RUN).exists() or (folder / SNAPSHOTS).exists(),
            progress=stack.enter_context(closing(EventFiles(folder))) if training.tensorboard else None,
            stop=_cancelled(),
            command=command(training, folder),
        )
        # without epochs: the budget, a number of updates, replaces them
        return train_model(model.with_options(training.options), training.data, replace(training, epochs=None), run)


def command(training: Training, folder: Path) -> str:
    """Return the call that trains this point alone, for the record of the run."""
    apart = ("model", "data", "options", "epochs", "tensorboard")  # max_iter has the number of the epochs' updates
    given = {item.name: getattr(training, item.name) for item in fields(training) if item.name not in apart}
    model = f"model_in({training.model!r})" + (f".with_options({training.options!r})" if training.options else "")
    defaults = {item.name: item.default for item in fields(training)}
    changed = {name: value for name, value in given.items() if value not in (defaults[name], None, {}, ())}
    arguments = "".join(f", {name}={value!r}" for name, value in changed.items())
    return f"lstmc.train({model}, {training.data!r}, out={str(folder)!r}{arguments})"


def _cancelled() -> Callable[[], bool]:
    """Return a function that tells whether this task was cancelled, by the sweep's command or by its end."""
    try:
        worker = need("distributed", "Dask", "sweep", SweepError).get_worker()
    except ValueError:  # called without Dask
        return lambda: False
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return cancelled
