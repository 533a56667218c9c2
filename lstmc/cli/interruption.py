"""Ctrl-C, SIGTERM and a closed terminal while something runs that must come to a clean end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lstmc.cli.console import silence

# Windows has no closed terminal to tell of
SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__]


class Interruption:
    """Whether the run was asked to stop, and by which signal."""

    signal: signal.Signals | None = None

    def asked(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that the signal ended: 130, 143 or 129."""
        assert self.signal is not None
        return 128 + self.signal


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Inside, the first SIGINT, SIGTERM or SIGHUP is only noted; a second one, of any, ends the process at once.

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
