"""The line that says on a terminal what a command is doing; what the library tells for it."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

import lstmc
from lstmc.activity import doing, listening
from lstmc.cli.working import Working, working


class Screen(io.StringIO):
    """A terminal that says when something was written on it."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self._awaited, self.seen = awaited, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._awaited in self.getvalue():
            self.seen.set()
        return written


def terminal(awaited: str) -> tuple[Screen, Console]:
    screen = Screen(awaited)
    return screen, Console(file=screen, width=60, force_terminal=True)


def test_what_takes_its_time_is_told_and_taken_away_again() -> None:
    screen, console = terminal("pass cse, 2 of 40  ")
    shown = Working(console, seconds=0)
    shown.tell("pass cse, 2 of 40")
    shown.start()
    assert screen.seen.wait(60)
    shown.close()
    shown.close()
    assert screen.getvalue().rstrip().endswith("\x1b[2K")  # the line is erased, and it is the last thing


def test_what_is_done_within_a_second_shows_nothing() -> None:
    screen, console = terminal("")
    shown = Working(console, seconds=3600)
    shown.start()
    shown.close()
    assert screen.getvalue() == ""


@pytest.mark.parametrize("kind", ["file", "quiet"])
def test_nothing_is_shown_where_nobody_looks(kind: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=kind == "quiet", quiet=kind == "quiet")
    with working(console) as shown:
        assert shown is None


def test_the_library_tells_what_it_does() -> None:
    told: list[str] = []
    with listening(told.append):
        lstmc.compile("rnn", T=2, N=1, D=3, H=3).verify(on=["interpreter"])
    doing("something that nobody hears")
    passes = [text for text in told if text.startswith("pass ")]
    assert passes[0] == f"pass simplify, 1 of {len(passes)}"
    assert told[len(passes) :] == [
        "writing rnn for caffe",
        "running the net on interpreter",
        "comparing interpreter with the float64 interpreter",
    ]
