"""What a backend tells while it trains: written down as metrics, told on as events that are lines for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.runs.events import Event, Recorder, Saved, Scored, Started, Updated
from lstmc.runs.metrics import CurveDrawing, Metrics, read_metrics


class Clock:
    """A second passes whenever it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_what_is_told_is_written_and_told_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(CurveDrawing, "start", lambda self: asked.append("drawn"))
    events: list[Event] = []
    metrics = Metrics(tmp_path, beside={"about.txt": b"a run"})
    recorder = Recorder(metrics, CurveDrawing(tmp_path), events.append, Clock())
    assert list(tmp_path.iterdir()) == []
    recorder.stepped(1, 2.0, 0.1)
    recorder.stepped(2, float("nan"), 0.1)
    recorder.tested(2, {"loss": 1.5, "accuracy": 0.25})
    recorder.saved(2, Path("run/2.state"))
    metrics.close()
    assert read_metrics(metrics.path) == [
        {"kind": "train", "iteration": 1, "loss": 2.0, "rate": 0.1, "seconds": 1},
        {"kind": "train", "iteration": 2, "loss": None, "rate": 0.1, "seconds": 2},
        {"kind": "test", "iteration": 2, "scores": {"loss": 1.5, "accuracy": 0.25}, "seconds": 3},
    ]
    assert events[0] == Updated(1, 2.0, 0.1, 1.0)
    assert events[2:] == [Scored(2, {"loss": 1.5, "accuracy": 0.25}), Saved(2, Path("run/2.state"))]
    assert asked == ["drawn"]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "about.txt"}


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Updated(3, 0.25, 0.01, 1.0), "iteration 3: loss 0.25, rate 0.01"),
        (Scored(3, {"loss": 1.0, "accuracy": 0.5}), "iteration 3, test: loss 1, accuracy 0.5"),
        (Saved(3, Path("run/3")), "iteration 3, snapshot: run/3"),
        (Started(10, 8, "batches", 1, False), "training on 8 batches, in order: 10 iterations, 1.25 epochs"),
        (
            Started(10, 22, "examples", 4, True, test_rows=11, test_of="examples", test_per_batch=4),
            "training on 22 examples in batches of 4, shuffled: 10 iterations, 1.82 epochs\n"
            "test scores are means over 8 of 11 examples: the others fill no batch",
        ),
        (
            Started(10, 22, "examples", 4, True, test_rows=8, test_of="examples", test_per_batch=4),
            "training on 22 examples in batches of 4, shuffled: 10 iterations, 1.82 epochs\n"
            "test scores are means over 8 examples",
        ),
    ],
)
def test_an_event_is_a_line_for_people(event: Event, text: str) -> None:
    assert str(event) == text
