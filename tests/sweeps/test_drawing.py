"""The pictures of a sweep: where values stand on their axis, and colours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lstmc.runs import curves
from lstmc.runs.metrics import METRICS
from lstmc.sweeps import drawing
from lstmc.sweeps.drawing import scores_figure
from lstmc.sweeps.trials import Goal, Row


@pytest.mark.parametrize(
    ("values", "ticks", "scale"),
    [
        (("0", "1"), [0, 1], "linear"),
        (("1e-3", "1"), None, "log"),
        (("gru", "lstm", "gru"), [0, 1], "linear"),
    ],
)
def test_ticks(values: tuple[str, ...], ticks: list[float] | None, scale: str) -> None:
    rows = [Row(f"{i}", {"v": value}, "finished", 1, {"loss": 1.0 + i}) for i, value in enumerate(values)]
    axes = scores_figure(rows, Goal()).axes[0]
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    if ticks is not None:
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == ticks


def test_both_pictures_have_the_same_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(cell, {"cell": cell}, "finished", 1, {"loss": 1.0 + i}) for i, cell in enumerate(("lstm", "gru"))]
    for row in rows:
        (tmp_path / row.name).mkdir()
        record = {"kind": "train", "iteration": 1, "loss": 1.0, "rate": 1.0, "seconds": 0.5}
        (tmp_path / row.name / METRICS).write_text(json.dumps(record) + "\n")
    figures = []
    monkeypatch.setattr(curves, "figure_bytes", lambda draw, forms: dict.fromkeys(forms, figures.append(draw())))
    monkeypatch.setattr(drawing, "figure_bytes", curves.figure_bytes)
    drawing.pictures(rows, Goal(), tmp_path)
    scores, losses = figures
    dots = [line for line in scores.axes[0].lines if line.get_markeredgecolor() != "black"]
    assert [line.get_markeredgecolor() for line in dots] == ["C1", "C0"]  # lstm, then gru, of gru and lstm
    assert {line.get_label(): line.get_color() for line in losses.legends[0].get_lines()[:2]} == {
        "cell=lstm": "C1",
        "cell=gru": "C0",
    }


def test_the_cells_give_the_colours() -> None:
    points = [{"seed": seed, "cell": cell} for cell in ("mine", "gru") for seed in ("1", "2")]
    rows = [Row(f"{i}", point, "finished", 1, {"loss": 1.0 + i}) for i, point in enumerate(points)]
    figure = scores_figure(rows, Goal())
    seeds = [line.get_markeredgecolor() for line in figure.axes[0].lines]
    assert seeds == ["C1", "black", "C1", "C0", "C0"]  # black is the ring of the best
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gru", "mine"]
