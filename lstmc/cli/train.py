"""``lstmc train``: a model and data in, a run out. ``lstmc sweep``: a run for each point of a space. Their displays."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as ProgressBar

from lstmc.api import RunOptions, train_model
from lstmc.api.models import model_in
from lstmc.cli import options as opts
from lstmc.cli.commands import ActivityLine, activity_line, advanced, interruptible, option
from lstmc.cli.console import Plain, Printer, Rows, Styles, err, out, output, print_files, table
from lstmc.errors import SweepError
from lstmc.files.output import PREVIOUS
from lstmc.process.status import launched_processes
from lstmc.runs.events import Event, EventFiles, Progress, Started, Updated
from lstmc.runs.metrics import Smoothed
from lstmc.sweeps import COSTS, Goal, OverSeeds, Range, Row, Search, Space, SweepRun, over_seeds, sweep_model


@dataclass(frozen=True)
class RunArguments:
    """One run of a training: its initial weights, whether it continues, and its processes."""

    weights: opts.WeightsOption = None
    resume: Annotated[bool, option("--resume", "Continue the run in RUN from its last snapshot.")] = False
    ranks: Annotated[
        int | None,
        advanced(
            "--ranks INT",
            "Train in this number of processes, each with a part of every batch. Default: the processes of the MPI"
            " launcher.",
            parser=opts.whole_from_0,
        ),
    ] = None


def train_command(
    *,
    file: opts.LossModelArgument,
    data: opts.TrainingDataOption,
    folder: Annotated[Path, option("-o --output RUN", "Write the run into this folder.")],
    test_data: Annotated[
        Path | None, option("--test-data DATA", "Test the model on these arrays while it trains.")
    ] = None,
    test_split: opts.TestSplitOption = None,
    training: opts.TrainingArguments,
    run: RunArguments,
) -> None:
    """Train a model. It minimizes the output called loss; other losses and metrics are reported for test data.

    An array of DATA has the shape of its input, with any number of examples on the axis N, or one more axis in front
    that counts whole batches. -D need not give sizes that the arrays show. Ctrl-C, SIGTERM and a closed terminal write
    a snapshot and end the run; --resume continues it.

    Examples:

    ```console
    lstmc train model.py --data train.npz -D N=60 -o run --epochs 10
    lstmc train model.py --data d.npz --test-split 0.2 -D N=60 -o run --gpu
    lstmc train model.py --data d.npz -D N=60 -o run --solver max_iter=2000
    lstmc train model.py --data train.npz -D N=60 -o run --resume
    ```
    """
    with interruptible() as interruption, run_display(out, err) as progress, ExitStack() as stack:
        listeners: list[Progress] = [progress]
        if training.tensorboard:
            listeners.append(stack.enter_context(closing(EventFiles(folder))))
        model, model_options = model_in(file), opts.parse_options(training.options or [])
        opts.say_which_cells(model, [model_options])
        run_options = RunOptions(
            out=folder,
            weights=run.weights,
            resume=run.resume,
            overwrite=training.overwrite,
            ranks=run.ranks,
            progress=lambda event: notify(event, listeners),
            stop=interruption.requested,
            command=command(),
        )
        model = model.with_options(model_options)
        options = training.training_options(test_data=test_data, test_split=test_split)
        result = train_model(model, data, options, run_options)
    if training.overwrite and (folder / PREVIOUS).is_dir():
        out.print(f"earlier runs are in {folder / PREVIOUS}")
    if result.not_drawn:
        out.print(result.not_drawn)
    print_files(result.files)
    output.fact("ended", result.ended)
    output.fact("iteration", result.iteration)
    if result.ended == "stopped":
        out.print(f"stopped after {result.iteration} iterations, with the snapshot {result.snapshot}")
        out.print(f"resume with: {command('--resume')}")
        raise typer.Exit(interruption.exit_code)
    out.print(f"finished after {result.iteration} iterations")


def notify(event: Event, listeners: Sequence[Progress]) -> None:
    """Pass an event to each listener; none of them stops the run."""
    for listener in listeners:
        listener(event)


def command(*more: str) -> str:
    """Return the running command line, without --resume and --overwrite, and with ``more`` words at its end."""
    begins = ("--resume", "--overwrite")
    return shlex.join(["lstmc", *[word for word in sys.argv[1:] if word not in begins], *more])


LINE_SECONDS = 10.0  # between two lines where there is no terminal
WINDOW = 50  # updates that the loss shown is a mean of

Clock = Callable[[], float]


class RunDisplay:
    """Shows a run's events: on a terminal a bar with the loss, speed and time left; elsewhere lines, one every ten
    seconds and one for the last update. ``before`` is shown until the run begins."""

    def __init__(
        self, printer: Printer, console: Plain, before: ActivityLine | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._printer, self._before, self._clock = printer, before, clock
        self._bar: ProgressBar | None = None
        if console.is_terminal and not printer.quiet and launched_processes() == 1:
            columns = MofNCompleteColumn(), TaskProgressColumn(), BarColumn(bar_width=None)
            state = TextColumn("{task.fields[state]}")
            # what is printed into a file belongs there
            self._bar = ProgressBar(*columns, state, console=console, redirect_stdout=printer.is_terminal)
        self._has_lines = self._bar is None or not printer.is_terminal  # a file gets lines beside a bar
        self._loss, self._seconds = Smoothed(WINDOW), Smoothed(WINDOW)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._update(event)
            return
        if isinstance(event, Started) and self._before is not None:
            self._before.close()
        self._printer.print(str(event))
        if isinstance(event, Started):
            self._started, self._next = event, self._clock() + LINE_SECONDS
            if self._bar is not None:
                self._bar.add_task("", total=event.iterations, state="")
                self._bar.start()

    def _update(self, event: Updated) -> None:
        """Show an update: its smoothed loss, the speed and the time left."""
        loss, seconds, total = self._loss.add(event.loss), self._seconds.add(event.seconds), self._started.iterations
        by_example = self._started.of == "examples"
        pace, unit = (self._started.per_batch, "examples") if by_example else (1, "batches")
        left = timedelta(seconds=round(seconds * (total - event.iteration)))
        speed = f"{pace / max(seconds, 1e-9):,.0f} {unit}/s"
        if self._bar is not None:
            state = f"loss {loss:.4g}  {speed}  {left} left"
            self._bar.update(self._bar.task_ids[0], completed=event.iteration, state=state)
        if self._has_lines and (self._clock() >= self._next or event.iteration == total):
            self._next = self._clock() + LINE_SECONDS
            at = f"iteration {event.iteration} of {total}"
            self._printer.print(f"{at}: loss {loss:.4g}, rate {event.rate:.3g}, {speed}, {left} left")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def run_display(printer: Printer, console: Plain) -> Iterator[RunDisplay]:
    """Show a run's events, and its activity before it begins."""
    with activity_line(console, printer) as before, closing(RunDisplay(printer, console, before)) as display:
        yield display


STYLES: Styles = {"finished": "green", "running": "cyan", "failed": "red", "interrupted": "yellow", "dropped": "dim"}
SHOWN = 20  # rows of the table that moves


@dataclass(frozen=True)
class SearchArguments:
    """The search space, and the choice and comparison of its trials."""

    grid: Annotated[
        list[str] | None,
        option(
            "--grid NAME=VALUE,VALUE", "Vary a dimension, an option of the model, solver.SETTING or seed. Repeatable."
        ),
    ] = None
    space: Annotated[
        Path | None,
        option("--space FILE.toml", "Read the search space from this file: lists and ranges, by the same names."),
    ] = None
    random: Annotated[
        int | None, option("--random INT", "Draw this number of trials. Default: all.", parser=opts.whole_from_0)
    ] = None
    halving: Annotated[
        int | None,
        option(
            "--halving INT",
            "Compare trials early, and continue with one of this number (successive halving).",
            parser=opts.whole_from_0,
        ),
    ] = None
    lowest: Annotated[str | None, option("--lowest METRIC", "Look for the lowest of this metric. Default: loss.")] = (
        None
    )
    highest: Annotated[str | None, option("--highest METRIC", "Look for the highest of this metric.")] = None


def sweep_command(
    *,
    file: opts.LossModelArgument,
    data: opts.TrainingDataOption,
    folder: Annotated[Path, option("-o --output SWEEP", "Write the sweep into this folder.")],
    search: SearchArguments,
    test_data: Annotated[Path | None, option("--test-data DATA", "Test the models on these arrays.")] = None,
    test_split: opts.TestSplitOption = None,
    workers: opts.WorkerArguments,
    training: opts.TrainingArguments,
) -> None:
    """Train a model at every point of a search space, and find the best.

    Each trial is a run of `lstmc train` in SWEEP/points. After any interruption the same command continues the
    unfinished trials. Exits with 1 if a trial failed.

    Examples:

    ```console
    lstmc sweep model.py --data d.npz --test-split 0.2 --grid H=64,128 -o sweep
    lstmc sweep model.py --data d.npz --grid cell=mine,gru --grid seed=1,2 -o s
    lstmc sweep model.py --data d.npz --space space.toml --random 50 -o sweep
    ```
    """
    lowest, highest = search.lowest, search.highest
    if lowest is not None and highest is not None:
        raise SweepError(f"--lowest {lowest} and --highest {highest} both define the best point: expected one of them")
    space = Space({}) if search.space is None else Space.read(search.space)
    space = space.over(Space.parse(search.grid or []))
    model_options = opts.parse_options(training.options or [])
    listed_values = (
        {name: value} for name, each in space.values.items() if not isinstance(each, Range) for value in each
    )
    opts.say_which_cells(model_in(file), [model_options, *listed_values])
    with interruptible() as interruption, sweep_display(out) as watch:
        options = training.training_options(test_data=test_data, test_split=test_split)
        goal = Goal(lowest or highest or "loss", highest is not None)
        run = SweepRun(
            out=folder,
            scheduler=workers.scheduler,
            workers=workers.workers,
            tensorboard=training.tensorboard,
            overwrite=training.overwrite,
            watch=watch,
            stop=interruption.requested,
        )
        result = sweep_model(
            file, data, Search(space, search.random, search.halving, goal), options, run, model_options
        )
    out.print(points_table(result.rows, final=True))
    if groups := over_seeds(result.rows):
        out.print(seeds_table(groups))
    if training.overwrite and (folder / PREVIOUS).is_dir():
        out.print(f"earlier sweeps are in {folder / PREVIOUS}")
    for path in result.files:
        out.print(f"wrote {path}")
    if result.best is not None:
        output.fact("best", str(result.best))
        out.print(f"the best: {result.best}")
    if result.stopped:
        out.print("stopped: run the same command again to continue")
        raise typer.Exit(interruption.exit_code)
    if any(row.state in ("failed", "interrupted") for row in result.rows):
        raise typer.Exit(1)


def points_table(rows: Sequence[Row], final: bool = False) -> Rows:
    """Return the rows as a table; ``final``: it is the command's result, and so also in its JSON object."""
    varied = list(dict.fromkeys(name for row in rows for name in row.point))
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    columns = (*varied, "state", "iteration", *scores, *COSTS, "reason")
    rows_table = table("", *columns, key="points", styles=STYLES) if final else Rows("points", "", columns, {}, STYLES)
    for row in rows:
        values = [row.point.get(name, "") for name in varied]
        figures = [f"{row.scores[name]:.4g}" if name in row.scores else "" for name in scores]
        costs = [f"{row.costs[name]:,.4g}" if name == "seconds" else f"{row.costs[name]:,.0f}" for name in row.costs]
        rows_table.add_row(*values, row.state, row.iteration, *figures, *(costs or [""] * len(COSTS)), row.reason)
    return rows_table


def seeds_table(groups: Sequence[OverSeeds]) -> Rows:
    """Return the means and standard deviations over seeds as a table."""
    varied, scores = list(groups[0].point), list(dict.fromkeys(name for group in groups for name in group.scores))
    rows_table = table("means and standard deviations over seeds", *varied, "runs", *scores, *COSTS, key="over_seeds")
    for group in groups:
        figures = ["{:.4g} ± {:.2g}".format(*group.scores[name]) if name in group.scores else "" for name in scores]
        costs = [f"{group.costs[name]:,.4g}" if name == "seconds" else f"{group.costs[name]:,.0f}" for name in COSTS]
        rows_table.add_row(*group.point.values(), group.runs, *figures, *costs)
    return rows_table


@contextmanager
def sweep_display(console: Plain) -> Iterator[Callable[[Sequence[Row]], object]]:
    """Show a sweep while it runs: a moving table on a terminal, elsewhere a line for each point that ends."""
    if not console.is_terminal or console.quiet:
        yield partial(_print_ended, console, {})
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield lambda rows: live.update(points_table(rows[:SHOWN]).__rich__(), refresh=True)


def _print_ended(console: Plain, printed: dict[str, tuple[str, int]], rows: Sequence[Row]) -> None:
    """Print a line for each point that has ended since the last call; ``printed`` has the points of earlier lines."""
    for row in rows:
        progress = (row.state, row.iteration)
        if row.state in ("finished", "failed", "interrupted") and printed.get(row.name) != progress:
            printed[row.name] = progress
            scores = "".join(f", {name} {score:.4g}" for name, score in row.scores.items())
            why = f": {row.reason}" if row.reason else ""
            console.print(f"{row.name}: {row.state} after {row.iteration} iterations{scores}{why}")
