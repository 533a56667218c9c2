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
from typing import Annotated

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


class RunDisplay:
    """Shows a run's events: on a terminal a bar with the loss, the examples a second and the time left; elsewhere
    lines, one every ten seconds and one for the last update. Until the run begins ``before`` is shown.
    """

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
        self._has_lines = self._bar is None or not printer.is_terminal
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
    """Show a run's events, and what happens before it begins."""
    with activity_line(console, printer) as before, closing(RunDisplay(printer, console, before)) as display:
        yield display
