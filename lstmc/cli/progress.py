"""The progress of a command: a line on a terminal, and a clean end when interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from lstmc.cli.console import Printer, silence
from lstmc.process.status import activity_listener, launched_processes

# Windows has no closed terminal to tell of
SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]


class Interruption:
    """The signal that has asked to stop, if any."""

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
    if not console.is_terminal or launched_processes() > 1 or printer.quiet:
        yield None
        return
    line = ActivityLine(console, printer, SECONDS)
    line.start()
    try:
        with activity_listener(line.tell), printer.making_room(line.away):
            yield line
    finally:
        line.close()
