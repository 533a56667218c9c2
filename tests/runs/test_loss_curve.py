"""The picture of a run's losses and scores, and the process that draws it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lstmc.runs.curve_drawing import CurveDrawing
from lstmc.runs.loss_curve import draw, loss_figure


def records(*scores: str) -> list[dict[str, Any]]:
    at = {"seconds": 0.5}
    trained = [{"kind": "train", "iteration": i, "loss": 1 / i if i != 5 else None, "rate": 1} for i in range(1, 41)]
    tested = [{"kind": "test", "iteration": i, "scores": dict.fromkeys(scores, 0.5)} for i in (20, 40)]
    return [record | at for record in (*trained, *tested)]


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
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
    (tmp_path / "loss.png").mkdir()
    assert CurveDrawing(tmp_path).finish() == (
        "the loss curve could not be drawn: lstmc.errors.OutputError: OutputError:"
        f" cannot write into {tmp_path}: Is a directory: nothing was changed there"
    )
