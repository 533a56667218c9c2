"""The picture that a run leaves, and the process that draws it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lstmc.runs.metrics import CurveDrawing, draw


def records(*scores: str) -> list[dict[str, Any]]:
    at = {"seconds": 0.5}
    trained = [{"kind": "train", "iteration": i, "loss": 1 / i if i != 5 else None, "rate": 1} for i in range(1, 41)]
    tested = [{"kind": "test", "iteration": i, "scores": dict.fromkeys(scores, 0.5)} for i in (20, 40)]
    return [record | at for record in (*trained, *tested)]


@pytest.mark.slow
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


@pytest.mark.parametrize(("more", "times"), [("", 1), ("{}\n", 2)])
def test_it_is_drawn_again_at_the_end_where_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, times: int
) -> None:
    started, popen = list[Any](), subprocess.Popen

    def nothing(command: list[str], **options: Any) -> subprocess.Popen[str]:
        started.append(command)
        return popen([sys.executable, "-c", ""], **options)

    monkeypatch.setattr(subprocess, "Popen", nothing)
    drawing, metrics = CurveDrawing(tmp_path), tmp_path / "metrics.jsonl"
    metrics.write_text("{}\n")
    drawing.start()
    with metrics.open("a") as file:
        file.write(more)
    assert drawing.finish() is None
    assert len(started) == times


def test_a_drawing_that_has_ended_leaves_no_open_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    begun = list[subprocess.Popen[str]]()

    def nothing(command: list[str], **options: Any) -> subprocess.Popen[str]:
        begun.append(popen([sys.executable, "-c", ""], **options))
        begun[-1].wait()
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", nothing)
    drawing = CurveDrawing(tmp_path)
    drawing.start()
    drawing.start()
    assert drawing.finish() is None
    assert [process.stderr.closed for process in begun if process.stderr] == [True, True]


@pytest.mark.slow
def test_a_curve_that_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
    (tmp_path / "loss.png").mkdir()
    assert CurveDrawing(tmp_path).finish() == (
        f"the loss curve could not be drawn: cannot write {tmp_path / 'loss.png'}: it is a folder: nothing was changed"
    )
