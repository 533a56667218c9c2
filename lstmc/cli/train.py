"""``lstmc train``: a model and data in, a run out; and the display of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as ProgressBar

from lstmc.api import RunOptions, train_model
from lstmc.api.models import model_in
from lstmc.cli.commands import ActivityLine, activity_line, advanced, interruptible, option
from lstmc.cli.console import Plain, Printer, err, out, output, print_files
from lstmc.cli.options import (
    DeviceArguments,
    ExampleArguments,
    LossModelArgument,
    OverwriteOption,
    SettingsArguments,
    TensorboardOption,
    TestSplitOption,
    TrainingDataOption,
    WeightsOption,
    parse_options,
    say_which_cells,
    training_options,
    whole_from_0,
)
from lstmc.files.output import PREVIOUS
from lstmc.process.status import launched_processes
from lstmc.runs.events import Event, EventFiles, Progress, Started, Updated
from lstmc.runs.metrics import Smoothed


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """One run of a training: its initial weights, where it starts, and where it runs."""

    weights: WeightsOption = None
    examples: ExampleArguments
    resume: Annotated[bool, option("--resume", "Continue the run in RUN from its last snapshot.")] = False
    overwrite: OverwriteOption = False
    tensorboard: TensorboardOption = False
    ranks: Annotated[
        int | None,
        advanced(
            "--ranks INT",
            "Train in this number of processes, each with a part of every batch. Default: the processes of the MPI"
            " launcher.",
            parser=whole_from_0,
        ),
    ] = None
    device: DeviceArguments


def train_command(
    *,
    file: LossModelArgument,
    data: TrainingDataOption,
    folder: Annotated[Path, option("-o --output RUN", "Write the run into this folder.")],
    test_data: Annotated[
        Path | None, option("--test-data DATA", "Test the model on these arrays while it trains.")
    ] = None,
    test_split: TestSplitOption = None,
    settings: SettingsArguments,
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
        if run.tensorboard:
            listeners.append(stack.enter_context(closing(EventFiles(folder))))
        model, model_options = model_in(file), parse_options(settings.options or [])
        say_which_cells(model, [model_options])
        run_options = RunOptions(
            out=folder,
            weights=run.weights,
            resume=run.resume,
            overwrite=run.overwrite,
            ranks=run.ranks,
            progress=lambda event: notify(event, listeners),
            stop=interruption.requested,
            command=command(),
        )
        model = model.with_options(model_options)
        options = training_options(settings, run.examples, run.device, test_data=test_data, test_split=test_split)
        result = train_model(model, data, options, run_options)
    if run.overwrite and (folder / PREVIOUS).is_dir():
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
    """Return the running command as one types it, without --resume and --overwrite, with ``more`` words at its end."""
    begins = ("--resume", "--overwrite")
    return shlex.join(["lstmc", *[word for word in sys.argv[1:] if word not in begins], *more])


LINE_SECONDS = 10.0  # between two lines where there is no terminal
WINDOW = 50  # updates that the loss shown is a mean of

Clock = Callable[[], float]


class Display(Protocol):
    """Shows how far a run is."""

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        """Show the state after ``iteration`` updates of about ``update_seconds`` each; the loss is a recent mean."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Work:
    """The number of updates of a run, and the amount of data in each: ``amount`` examples, for instance."""

    total: int
    amount: int
    unit: str

    def pace(self, update_seconds: float) -> str:
        return f"{self.amount / max(update_seconds, 1e-9):,.0f} {self.unit}/s"

    def left(self, iteration: int, update_seconds: float) -> str:
        """Return the time left: ``0:01:30 left``."""
        return f"{timedelta(seconds=round(update_seconds * (self.total - iteration)))} left"


class Bar:
    """A progress bar with the loss, the examples a second, and the time left; lines are printed by ``printer``."""

    def __init__(self, console: Plain, printer: Plain, work: Work) -> None:
        self._printer, self._work = printer, work
        self._progress = ProgressBar(
            MofNCompleteColumn(),
            TaskProgressColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[state]}"),
            console=console,
            redirect_stdout=printer.is_terminal,  # else it is a file, and lines belong there
        )
        self._task = self._progress.add_task("", total=work.total, state="")
        self._progress.start()

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        state = f"loss {loss:.4g}  {self._work.pace(update_seconds)}  {self._work.left(iteration, update_seconds)}"
        self._progress.update(self._task, completed=iteration, state=state)

    def say(self, text: str) -> None:
        self._printer.print(text)

    def close(self) -> None:
        self._progress.stop()


class Lines:
    """A line every ten seconds, and at the last update."""

    def __init__(self, console: Plain, work: Work, clock: Clock = time.monotonic) -> None:
        self._console, self._work, self._clock = console, work, clock
        self._next = clock() + LINE_SECONDS

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        if self._clock() >= self._next or iteration == self._work.total:
            self._next = self._clock() + LINE_SECONDS
            times = f"{self._work.pace(update_seconds)}, {self._work.left(iteration, update_seconds)}"
            self.say(f"iteration {iteration} of {self._work.total}: loss {loss:.4g}, rate {rate:.3g}, {times}")

    def say(self, text: str) -> None:
        self._console.print(text)

    def close(self) -> None:
        pass


class Both:
    """A bar on a terminal, and lines in a file."""

    def __init__(self, bar: Bar, lines: Lines) -> None:
        self._bar, self._lines = bar, lines

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        self._bar.show(iteration, loss, rate, update_seconds)
        self._lines.show(iteration, loss, rate, update_seconds)

    def say(self, text: str) -> None:
        self._lines.say(text)

    def close(self) -> None:
        self._bar.close()


class EventDisplay:
    """A display of a run's events, created when the run begins; until then ``before`` may be shown."""

    def __init__(self, console: Plain, make: Callable[[Work], Display], before: ActivityLine | None = None) -> None:
        self._console, self._make, self._before = console, make, before
        self._display: Display | None = None
        self._loss, self._seconds = Smoothed(WINDOW), Smoothed(WINDOW)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            if self._before is not None:
                self._before.close()
            self._console.print(str(event))
            per_update = (event.per_batch, "examples") if event.of == "examples" else (1, "batches")
            self._display = self._make(Work(event.iterations, *per_update))
        elif self._display is not None:
            if isinstance(event, Updated):
                loss, seconds = self._loss.add(event.loss), self._seconds.add(event.seconds)
                self._display.show(event.iteration, loss, event.rate, seconds)
            else:
                self._display.say(str(event))

    def close(self) -> None:
        if self._display is not None:
            self._display.close()


@contextmanager
def run_display(printer: Printer, console: Plain) -> Iterator[EventDisplay]:
    """Show a run's events: as a bar on ``console`` if that is a terminal, else as lines by ``printer``."""

    def display(work: Work) -> Display:
        if printer.quiet or not console.is_terminal or launched_processes() > 1:
            return Lines(printer, work)
        bar = Bar(console, printer, work)
        return bar if printer.is_terminal else Both(bar, Lines(printer, work))

    with activity_line(console, printer) as before:
        listener = EventDisplay(printer, display, before)
        try:
            yield listener
        finally:
            listener.close()
