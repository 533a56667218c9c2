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

from lstmc.activity import listening

SECONDS = 1.0  # what a person waits without asking
FRAMES_PER_SECOND = 8


class Working:
    """A line with what was told last and the seconds since the command began."""

    def __init__(self, console: Console, seconds: float = SECONDS) -> None:
        self._what = ""
        self._began = time.monotonic()
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console,
            transient=True,
            refresh_per_second=FRAMES_PER_SECOND,
            get_renderable=self._line,
        )
        self._timer = threading.Timer(seconds, self._live.start)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def tell(self, what: str) -> None:
        self._what = what

    def close(self) -> None:
        """Take the line away, or never show it. May be called twice."""
        self._timer.cancel()
        self._timer.join()
        self._live.stop()

    def _line(self) -> Spinner:
        self._spinner.update(text=Text(f"{self._what or 'starting'}  {time.monotonic() - self._began:.0f} s"))
        return self._spinner


@contextmanager
def working(console: Console) -> Iterator[Working | None]:
    """Inside, what the library tells is shown on a terminal, and nothing elsewhere or where the console is quiet."""
    if not console.is_terminal or console.quiet:
        yield None
        return
    made = Working(console)
    made.start()
    try:
        with listening(made.tell):
            yield made
    finally:
        made.close()
