"""The progress of a command: a line on a terminal, the bar of a training run, and a clean end when interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.spinner import Spinner
from rich.text import Text

from lstmc.cli.console import Printer, silence
from lstmc.process.status import launched, listening
from lstmc.runs.events import Event, Started, Updated
from lstmc.runs.metrics import Smoothed

# Windows has no closed terminal to tell of
SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]


class Interruption:
    """Whether a signal has asked to stop, and which one."""

    signal: signal.Signals | None = None

    def requested(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit status that a shell reports for a process ended by the signal: 130, 143 or 129."""
        assert self.signal is not None
        return 128 + self.signal


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch the first SIGINT, SIGTERM or SIGHUP in the block; a second one, of any, ends the process at once.

    A signal that the process was started to ignore, as nohup has SIGHUP ignored, stays so.
    """
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if interruption.signal is not None:
            raise SystemExit(128 + number)  # unwinds, so that the terminal has its cursor again
        interruption.signal = signal.Signals(number)
        if signal.Signals(number).name == "SIGHUP":  # the terminal is gone: what is printed would fail
            silence(1, 2)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


SECONDS = 1.0  # what a person waits without asking
FRAMES_PER_SECOND = 8


class ActivityLine:
    """A line with the current activity and the seconds since the command began, shown after ``seconds`` without a
    print.

    ``printer`` is what the command prints by, which may be the same terminal.
    """

    def __init__(self, console: Console, printer: Console, seconds: float) -> None:
        self._console, self._printer, self._seconds = console, printer, seconds
        self._what = ""
        self._began = time.monotonic()
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._closed = False
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        if self._closed:
            return
        if self._seconds == 0:
            self._show()
            return
        self._timer = threading.Timer(self._seconds, self._show)
        self._timer.daemon = True
        self._timer.start()

    def tell(self, what: str) -> None:
        self._what = what

    def close(self) -> None:
        """Take the line away for good, or never show it. May be called twice."""
        self._closed = True
        self._hide()

    def _hide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Hide the line in the block; after it the line appears again after a delay."""
        self._hide()
        try:
            yield
        finally:
            self.start()

    def _show(self) -> None:
        self._live = Live(
            console=self._console,
            transient=True,
            refresh_per_second=FRAMES_PER_SECOND,
            get_renderable=self._line,
            redirect_stdout=self._printer.is_terminal,  # else it is a file, and what is printed belongs there
        )
        self._live.start()

    def _line(self) -> Spinner:
        self._spinner.update(text=Text(f"{self._what or 'starting'}  {time.monotonic() - self._began:.0f} s"))
        return self._spinner


@contextmanager
def activity_line(console: Console, printer: Printer) -> Iterator[ActivityLine | None]:
    """Show the library's progress on ``console`` in the block; the line disappears while ``printer`` prints.

    Nothing is, where the console is no terminal, is that of several ranks, or the printer is quiet.
    """
    if not console.is_terminal or launched() > 1 or printer.quiet:
        yield None
        return
    line = ActivityLine(console, printer, SECONDS)
    line.start()
    try:
        with listening(line.tell), printer.making_room(line.away):
            yield line
    finally:
        line.close()


LINE_SECONDS = 10.0  # between two lines where there is no terminal
WINDOW = 50  # updates that the loss shown is a mean of

Clock = Callable[[], float]


class Display(Protocol):
    """Shows how far a run is."""

    def show(self, iteration: int, loss: float, rate: float, update_seconds: float) -> None:
        """Show the state after ``iteration`` updates, each of which took about ``update_seconds``; the loss is a recent
        mean."""
        ...

    def say(self, text: str) -> None:
        """Print a line that stays."""
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
        """Return the time left: ``0:01:30 left``."""
        return f"{timedelta(seconds=round(update_seconds * (self.total - iteration)))} left"


class Bar:
    """A progress bar with the loss, the examples a second, and the time left; lines are printed by ``printer``."""

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


class EventDisplay:
    """A display of a run's events, created when the run begins; until then ``before`` may be shown."""

    def __init__(self, console: Console, make: Callable[[Work], Display], before: ActivityLine | None = None) -> None:
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
def run_display(printer: Printer, console: Console) -> Iterator[EventDisplay]:
    """Show a run's events: as a bar on ``console`` if that is a terminal, and as lines by ``printer`` if that
    is not."""

    def display(work: Work) -> Display:
        if printer.quiet or not console.is_terminal or launched() > 1:
            return Lines(printer, work)
        bar = Bar(console, printer, work)
        return bar if printer.is_terminal else Both(bar, Lines(printer, work))

    with activity_line(console, printer) as before:
        listener = EventDisplay(printer, display, before)
        try:
            yield listener
        finally:
            listener.close()
