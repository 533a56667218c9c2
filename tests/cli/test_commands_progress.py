"""What is shown while a run trains, lines or a bar; and how a signal is noted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lstmc.cli.commands import interruptible
from lstmc.cli.console import Plain, Printer
from lstmc.cli.train import RunDisplay, run_display
from lstmc.runs.events import Saved, Scored, Started, Updated


class Clock:
    """A second passes whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def started(iterations: int) -> Started:
    return Started(iterations, rows=64, of="examples", per_batch=32, shuffled=True)


def test_a_line_every_ten_seconds_and_at_the_end() -> None:
    printer = Printer(file=io.StringIO(), width=60)
    shown = RunDisplay(printer, Plain(file=io.StringIO()), clock=Clock())
    shown(started(100))
    for iteration in range(1, 101):
        shown(Updated(iteration, 0.5, 0.01, 0.25))
    said = printer.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]
    assert said[0] == "iteration 10 of 100: loss 0.5, rate 0.01, 128 examples/s, 0:00:22 left"
    assert said[-1] == "iteration 100 of 100: loss 0.5, rate 0.01, 128 examples/s, 0:00:00 left"
    assert len(said) in range(9, 12)


def test_a_bar_shows_loss_pace_and_the_time_left() -> None:
    console = Printer(file=io.StringIO(), width=100, force_terminal=True)
    shown = RunDisplay(console, console)
    shown(started(100))
    shown(Updated(20, 0.123456, 0.01, 0.5))
    shown(Scored(20, {"accuracy": 0.9}))
    shown.close()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert " 20/100" in text
    assert " 20%" in text
    assert "loss 0.1235  64 examples/s  0:00:40 left" in text
    assert "iteration 20, test: accuracy 0.9" in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is there again


def test_the_events_of_a_run_are_shown() -> None:
    printer = Printer(file=io.StringIO(), width=90)
    made = RunDisplay(printer, Plain(file=io.StringIO()), clock=Clock())
    made(Started(iterations=2, rows=10, of="examples", per_batch=4, shuffled=True))
    made(Updated(1, 2.0, 0.1, 0.5))
    made(Updated(2, 1.0, 0.1, 0.5))
    made(Scored(2, {"loss": 1.5, "accuracy": 0.25}))
    made(Saved(2, Path("run/2.state")))
    made.close()
    assert printer.file.getvalue() == (  # type: ignore[attr-defined]
        "training on 10 examples in batches of 4, shuffled: 2 iterations, 0.8 epochs\n"
        "iteration 2 of 2: loss 1.495, rate 0.1, 8 examples/s, 0:00:00 left\n"
        "iteration 2, test: loss 1.5, accuracy 0.25\n"
        "iteration 2, snapshot: run/2.state\n"
    )


def test_where_nothing_begins_nothing_is_shown() -> None:
    console = Printer(file=io.StringIO(), width=60)
    with run_display(console, console):
        pass
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


TWICE = """\
import os, signal, sys
from lstmc.cli.commands import interruptible
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what runs in the background
with interruptible() as interruption:
    os.kill(os.getpid(), signal.SIGINT)
    print(interruption.requested(), interruption.exit_code, flush=True)
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    finally:
        print("unwound", flush=True)
    print("not reached")
"""


RUN = (Started(iterations=2, rows=10, of="examples", per_batch=4, shuffled=True), Updated(2, 1.0, 0.1, 0.5))
SAID = (
    "training on 10 examples in batches of 4, shuffled: 2 iterations, 0.8 epochs",
    "iteration 2 of 2: loss 1, rate 0.1, 8 examples/s, 0:00:00 left",
)


@pytest.mark.parametrize("kind", ["file", "quiet"])
def test_a_terminal_has_a_bar_besides_the_lines_of_a_file(kind: str) -> None:
    printer = Printer(file=io.StringIO(), width=90, quiet=kind == "quiet")
    console = Plain(file=io.StringIO(), width=90, force_terminal=True)
    with run_display(printer, console) as made:
        for event in RUN:
            made(event)
    assert printer.file.getvalue().splitlines() == list(SAID if kind == "file" else ())  # type: ignore[attr-defined]
    assert ("2/2" in console.file.getvalue()) == (kind == "file")  # type: ignore[attr-defined]


def test_a_run_on_a_terminal_has_a_bar_and_no_lines() -> None:
    printer = Printer(file=io.StringIO(), width=90, force_terminal=True)
    console = Plain(file=io.StringIO(), width=90, force_terminal=True)
    with run_display(printer, console) as made:
        for event in RUN:
            made(event)
    assert printer.file.getvalue().splitlines() == [SAID[0]]  # type: ignore[attr-defined]
    assert "2/2" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(("second", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_second_signal_ends_at_once(second: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE, second], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "True 130\nunwound\n", "")


def test_what_was_started_to_ignore_a_closed_terminal_goes_on_doing_so() -> None:
    number = getattr(signal, "SIGHUP", signal.SIGTERM)  # where terminals tell nobody that they close
    before = signal.signal(number, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible() as interruption:
            os.kill(os.getpid(), number)
            assert not interruption.requested()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_signals_mean_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as interruption:
        assert not interruption.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
