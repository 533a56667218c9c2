"""What a command is doing, on a terminal, once it has taken a second: gone again before anything is printed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from lstmc.cli.console import Printer
from lstmc.process.status import launched, listening

SECONDS = 1.0  # what a person waits without asking
FRAMES_PER_SECOND = 8


class Working:
    """A line with what was told last and the seconds since the command began, after ``seconds`` without a print.

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
        """Inside there is no line, and after it not at once."""
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
def working(console: Console, printer: Printer) -> Iterator[Working | None]:
    """Inside, what the library tells is shown on ``console``, and taken away while ``printer`` prints.

    Nothing is, where the console is no terminal, is that of several ranks, or the printer is quiet.
    """
    if not console.is_terminal or launched() > 1 or printer.quiet:
        yield None
        return
    made = Working(console, printer, SECONDS)
    made.start()
    try:
        with listening(made.tell), printer.making_room(made.away):
            yield made
    finally:
        made.close()
