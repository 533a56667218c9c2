"""The line that says on a terminal what a command is doing; what the library tells for it."""

from __future__ import annotations

import io
import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

import lstmc
from lstmc.cli import commands as of_working
from lstmc.cli import main
from lstmc.cli.commands import ActivityLine, activity_line
from lstmc.cli.console import Plain, Printer, err
from lstmc.process.status import activity_listener, report_activity, with_progress

GRU = ("--cell", "gru", "-D", "T=3", "-D", "N=2", "-D", "D=3", "-D", "H=4")


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


def terminal(awaited: str) -> tuple[Screen, Plain]:
    screen = Screen(awaited)
    return screen, Plain(file=screen, width=60, force_terminal=True)


def on(screen: io.StringIO) -> Printer:
    return Printer(file=screen, width=60, force_terminal=True)


def test_what_takes_its_time_is_told_and_taken_away_again() -> None:
    screen, console = terminal("pass cse, 2 of 40  ")
    shown = ActivityLine(console, on(screen), seconds=0.001)
    shown.tell("pass cse, 2 of 40")
    shown.start()
    assert screen.seen.wait(60)
    shown.close()
    shown.close()
    assert screen.getvalue().rstrip().endswith("\x1b[2K")  # the line is erased, and it is the last thing


def test_what_is_done_within_a_second_shows_nothing() -> None:
    screen, console = terminal("")
    shown = ActivityLine(console, on(screen), seconds=3600)
    shown.start()
    shown.close()
    shown.start()  # as after a print
    assert screen.getvalue() == ""


@pytest.mark.parametrize("kind", ["file", "quiet", "rank"])
def test_nothing_is_shown_where_nobody_looks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "rank":
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    console = Plain(file=io.StringIO(), force_terminal=kind != "file")
    with activity_line(console, Printer(file=io.StringIO(), quiet=kind == "quiet")) as shown:
        assert shown is None


def test_in_a_pipe_a_line_comes_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_working, "LOG_SECONDS", 0.001)
    screen = Screen("pass cse, 2 of 40  0 s\n")
    with activity_line(Plain(file=screen, width=20), Printer(file=io.StringIO())) as shown:
        assert shown is None
        report_activity("pass cse, 2 of 40")
        assert screen.seen.wait(60)
    text = screen.getvalue()
    assert text.startswith(("starting  0 s\n", "pass cse, 2 of 40  0 s\n"))


def test_the_line_is_away_while_something_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_working, "SECONDS", 0)
    screen, console = terminal("")
    printer = on(screen)
    with activity_line(console, printer) as shown:
        assert shown is not None
        shown.tell("first")
        printer.print("printed")
        shown.tell("second")
    text = screen.getvalue()
    before, after = text.split("printed\n")
    assert "first" in before
    assert before.endswith("\x1b[2K")
    assert "second" in after
    assert after.rstrip().endswith("\x1b[2K")


def test_the_library_tells_what_it_does() -> None:
    told: list[str] = []
    with activity_listener(told.append):
        lstmc.compile("rnn", T=2, N=1, D=3, H=3).verify(on=["interpreter"])
    report_activity("something that nobody hears")
    passes = [text for text in told if text.startswith("pass ")]
    assert passes[0] == f"pass roll_up, 1 of {len(passes)}"
    begun = list(dict.fromkeys(re.sub(r", \d+ %$", " ...", text) for text in told if not text.startswith("pass ")))
    assert begun == [
        "unrolling rnn ...",
        "writing rnn for caffe",
        "making the net's layers ...",
        "checking layers for caffe ...",
        "writing the net as text ...",
        "computing rnn ...",  # the blobs that its parameters are packed in
        "running the net on interpreter",
        "gradients of rnn ...",
        "comparing interpreter with the float64 interpreter",
        "comparing blobs ...",
    ]


def test_each_percent_is_told_once_and_only_to_who_listens() -> None:
    told: list[str] = []
    with activity_listener(told.append):
        assert list(with_progress(range(300), "counting")) == list(range(300))
    assert told == [f"counting, {percent} %" for percent in range(100)]
    assert list(with_progress("abc", "telling nobody")) == ["a", "b", "c"]


def test_the_steps_of_a_scan_are_counted_and_not_what_each_of_them_does() -> None:
    net = lstmc.compile("rnn", T=4, N=1, D=3, H=3)
    told: list[str] = []
    with activity_listener(told.append):
        net.verify(on=["interpreter"])
    of_scan = told[told.index("comparing interpreter with the float64 interpreter") + 1 :]
    assert of_scan[:4] == [f"computing rnn, {percent} %" for percent in (0, 25, 50, 75)]


@contextmanager
def pseudo_terminal() -> Iterator[int]:
    """Standard error as a real pseudo-terminal: its other end."""
    ours, theirs = os.openpty()
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as stream, redirect_stderr(stream):
            yield ours
    finally:
        os.close(ours)


def seen(screen: int) -> str:
    """What has come to the terminal."""
    found = b""
    while select.select([screen], [], [], 0)[0]:
        found += os.read(screen, 65536)
    return found.decode()


@pytest.mark.parametrize("how", [(), ("--json",), ("--quiet",)])
def test_a_command_tells_on_standard_error_and_only_a_person(
    how: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(err, "is_interactive", True)  # asked once, when the console is made
    monkeypatch.setattr(of_working, "SECONDS", 0)
    monkeypatch.setattr(sys, "argv", ["lstmc", "verify", *GRU, "--on", "interpreter", *how])
    with pseudo_terminal() as screen:
        with pytest.raises(SystemExit) as ended:
            main()
        told = seen(screen)
    assert not ended.value.code
    if how:
        assert told == ""
    else:
        assert re.search(r"comparing blobs, \d+ %  \d+ s", told)
        assert told.rstrip().endswith("\x1b[2K")
        assert capsys.readouterr().out == "interpreter: all 33 agree\n"
