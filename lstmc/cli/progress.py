"""What a person sees of a run while it trains: a bar that moves on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from lstmc.cli.console import Printer
from lstmc.cli.working import Working, working
from lstmc.process.status import launched
from lstmc.runs.events import Event, Started, Updated
from lstmc.runs.metrics import Smoothed

LINE_SECONDS = 10.0  # between two lines where there is no terminal
WINDOW = 50  # updates that the loss shown is a mean of

Clock = Callable[[], float]


class Display(Protocol):
    """Shows how far a run is."""

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        """``iteration`` updates are done, each of which took about so long; the loss is a mean of the last ones."""
        ...

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Work:
    """How many updates a run makes, and how much each of them does: ``amount`` examples, say."""

    total: int
    amount: int
    unit: str

    def pace(self, update_seconds: float) -> str:
        return f"{self.amount / max(update_seconds, 1e-9):,.0f} {self.unit}/s"

    def left(self, iteration: int, update_seconds: float) -> str:
        """The time left: ``0:01:30 left``."""
        return f"{timedelta(seconds=round(update_seconds * (self.total - iteration)))} left"


class Bar:
    """A progress bar with the loss, what is done in a second, and the time left; lines are printed by ``printer``."""

    def __init__(self, console: Console, printer: Console, work: Work) -> None:
        self._printer, self._work = printer, work
        self._progress = Progress(
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
        self._printer.print(text, markup=False)

    def close(self) -> None:
        self._progress.stop()


class Lines:
    """A line every ten seconds, and at the last update."""

    def __init__(self, console: Console, work: Work, clock: Clock = time.monotonic) -> None:
        self._console, self._work, self._clock = console, work, clock
        self._next = clock() + LINE_SECONDS

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        if self._clock() >= self._next or iteration == self._work.total:
            self._next = self._clock() + LINE_SECONDS
            times = f"{self._work.pace(update_seconds)}, {self._work.left(iteration, update_seconds)}"
            self.say(f"iteration {iteration} of {self._work.total}: loss {loss:.4g}, rate {rate:.3g}, {times}")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

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


class Shown:
    """Shows the events of a run on a display that is made when the run begins; ``before`` it another may be shown."""

    def __init__(self, console: Console, make: Callable[[Work], Display], before: Working | None = None) -> None:
        self._console, self._make, self._before = console, make, before
        self._display: Display | None = None
        self._loss, self._seconds = Smoothed(WINDOW), Smoothed(WINDOW)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            if self._before is not None:
                self._before.close()
            self._console.print(str(event), markup=False)
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
def shown(printer: Printer, console: Console) -> Iterator[Shown]:
    """A run's events: as a bar on ``console``, if that is a terminal, and as lines by ``printer``, if that is none."""

    def display(work: Work) -> Display:
        if printer.quiet or not console.is_terminal or launched() > 1:
            return Lines(printer, work)
        bar = Bar(console, printer, work)
        return bar if printer.is_terminal else Both(bar, Lines(printer, work))

    with working(console, printer) as before:
        made = Shown(printer, display, before)
        try:
            yield made
        finally:
            made.close()
