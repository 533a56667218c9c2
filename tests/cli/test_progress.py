"""What is shown and written down while a run trains: lines, a bar, metrics, a curve; and how a signal is noted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lstmc.cli.curve_drawing import CurveDrawing
from lstmc.cli.interruption import interruptible
from lstmc.cli.loss_curve import draw, loss_figure
from lstmc.cli.metrics import Metrics, Smoothed, read_metrics
from lstmc.cli.progress import Bar, Lines, Observer, Work
from lstmc.errors import OutputError
from tests.cli.test_train import Undrawn

WORK = Work(total=100, amount=32, unit="examples")


class Clock:
    """A second passes whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_line_every_ten_seconds_and_at_the_end() -> None:
    console = Console(file=io.StringIO(), width=60)
    lines = Lines(console, WORK, Clock())
    for iteration in range(1, 101):
        lines.show(iteration, 0.5, 0.01, 0.25)
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == "iteration 10 of 100: loss 0.5, rate 0.01, 128 examples/s, 0:00:22 left"
    assert said[-1] == "iteration 100 of 100: loss 0.5, rate 0.01, 128 examples/s, 0:00:00 left"
    assert len(said) in range(9, 12)


def test_a_bar_shows_loss_pace_and_the_time_left() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, highlight=False)
    bar = Bar(console, WORK)
    bar.show(20, 0.123456, 0.01, 0.5)
    bar.say("iteration 20, test: accuracy 0.9")
    bar.close()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert " 20/100" in shown
    assert "loss 0.1235  64 examples/s  0:00:40 left" in shown
    assert "iteration 20, test: accuracy 0.9" in shown
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is there again


def test_the_observer_writes_and_says_what_it_is_told(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=60)
    metrics, drawing = Metrics(tmp_path, beside={"about.txt": b"a run"}), Undrawn(tmp_path)
    observer = Observer(Lines(console, WORK), metrics, drawing, Clock())
    assert list(tmp_path.iterdir()) == []
    observer.stepped(1, 2.0, 0.1)
    observer.stepped(2, float("nan"), 0.1)
    observer.tested(2, {"loss": 1.5, "accuracy": 0.25})
    observer.saved(2, Path("run/2.state"))
    metrics.close()
    assert read_metrics(metrics.path) == [
        {"kind": "train", "iteration": 1, "loss": 2.0, "rate": 0.1, "seconds": 1},
        {"kind": "train", "iteration": 2, "loss": None, "rate": 0.1, "seconds": 2},
        {"kind": "test", "iteration": 2, "scores": {"loss": 1.5, "accuracy": 0.25}, "seconds": 3},
    ]
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "iteration 2, test: loss 1.5, accuracy 0.25\niteration 2, snapshot: run/2.state\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "about.txt", "asked"}


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0, 100))
def test_a_smoothed_number_is_a_mean(numbers: list[float], window: float) -> None:
    mean = Smoothed(window)
    for count, number in enumerate(numbers, 1):
        found = mean.add(number)
        assert min(numbers[:count]) - 1e-9 <= found <= max(numbers[:count]) + 1e-9
        if window <= 1 or count == 1:
            assert found == number


@given(st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_a_run_that_goes_on_measures_each_update_once(tmp_path: Path, reached: int, snapshot: int, torn: bool) -> None:
    snapshot = min(snapshot, reached)
    (tmp_path / "metrics.jsonl").unlink(missing_ok=True)

    def measure(metrics: Metrics, first: int, last: int) -> None:
        for iteration in range(first, last + 1):
            metrics.train(iteration, 1.0, 0.1, 0.0)
            if iteration % 3 == 0:
                metrics.test(iteration, {"loss": 1.0}, 0.0)
        metrics.close()

    measure(Metrics(tmp_path), 1, reached)
    if torn:
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "tra')
    measure(Metrics(tmp_path, resume=True), snapshot + 1, 13)
    found = [(record["kind"], record["iteration"]) for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert found == [(kind, i) for i in range(1, 14) for kind in (("train", "test") if i % 3 == 0 else ("train",))]


def test_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        Metrics(tmp_path / "file").train(1, 1.0, 0.1, 0.0)
    assert str(caught.value).startswith(f"OutputError: cannot write into {tmp_path}/file: ")


def records(*scores: str) -> list[dict[str, Any]]:
    trained = [{"kind": "train", "iteration": i, "loss": 1 / i if i != 5 else None} for i in range(1, 41)]
    tested = [{"kind": "test", "iteration": i, "scores": dict.fromkeys(scores, 0.5)} for i in (20, 40)]
    return [*trained, *tested]


def test_the_curve_shows_losses_and_scores() -> None:
    left, right = loss_figure(records("loss", "accuracy"), "digits").axes
    faint, smooth, tested = left.lines
    assert (len(faint.get_xdata()), 5 in faint.get_xdata()) == (39, False)  # type: ignore[arg-type,operator]
    assert next(iter(smooth.get_ydata())) == 1  # type: ignore[arg-type]
    assert list(tested.get_xdata()) == [20, 40]  # type: ignore[arg-type]
    assert (left.get_title(), left.get_ylabel(), right.get_ylabel()) == ("digits", "loss", "accuracy")
    assert [line.get_label() for line in right.lines] == ["test accuracy"]
    assert len(loss_figure(records(), "digits").axes) == 1


def test_the_curve_is_drawn_beside_training_and_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records("loss")))
    assert draw(tmp_path / "nothing") == []
    drawing = CurveDrawing(tmp_path)
    drawing.start()
    drawing.start()  # the first one is not done yet
    assert drawing.finish() is None
    made = {name: (tmp_path / name).read_bytes() for name in ("loss.png", "loss.svg")}
    draw(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in made} == made


def test_a_curve_that_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train"}\n')
    assert CurveDrawing(tmp_path).finish() == "the loss curve could not be drawn: KeyError: 'loss'"


TWICE = """\
import os, signal, sys
from lstmc.cli.interruption import interruptible
with interruptible() as interruption:
    os.kill(os.getpid(), signal.SIGINT)
    print(interruption.asked(), interruption.exit_code, flush=True)
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    finally:
        print("unwound", flush=True)
    print("not reached")
"""


@pytest.mark.parametrize(("second", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_second_signal_ends_at_once(second: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE, second], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "True 130\nunwound\n", "")


def test_signals_mean_what_they_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as interruption:
        assert not interruption.asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
