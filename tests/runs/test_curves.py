"""The figure of one run, and of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lstmc.errors import DrawingError
from lstmc.runs.comparison import _names, plot_runs
from lstmc.runs.curves import runs_figure


def records(*scores: str, low: float = 1.0) -> list[dict[str, Any]]:
    trained = [{"kind": "train", "iteration": i, "loss": low / i if i != 5 else None} for i in range(1, 41)]
    return trained + [{"kind": "test", "iteration": i, "scores": dict.fromkeys(scores, 0.5)} for i in (20, 40)]


def test_losses_are_on_a_log_axis_and_each_score_has_a_panel_of_its_own() -> None:
    figure = runs_figure({"digits": records("loss", "accuracy", "top5")})
    losses, accuracy, top5 = figure.axes
    faint, smooth, tested = losses.lines
    assert (len(faint.get_xdata()), 5 in faint.get_xdata()) == (39, False)  # type: ignore[arg-type,operator]
    assert next(iter(smooth.get_ydata())) == 1  # type: ignore[arg-type]
    assert list(tested.get_xdata()) == [20, 40]  # type: ignore[arg-type]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["training loss of each update", "training loss, smoothed", "test loss"]
    assert (losses.get_title(), losses.get_yscale(), losses.get_ylabel()) == ("digits", "log", "loss")
    assert [axes.get_ylabel() for axes in (accuracy, top5)] == ["test accuracy", "test top5"]
    assert top5.get_xlabel() == "iteration"
    assert len(runs_figure({"digits": records()}).axes) == 1


def test_a_loss_that_is_not_above_zero_is_on_a_linear_axis() -> None:
    assert runs_figure({"digits": records(low=-1.0)}).axes[0].get_yscale() == "linear"


def test_nothing_lies_over_the_lines() -> None:
    figure = runs_figure({"a": records("loss", "accuracy"), "b": records("loss")})
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert all(axes.get_legend() is None and not legend.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_several_runs_have_a_colour_each() -> None:
    losses, accuracy = runs_figure({"a": records("loss", "accuracy"), "b": records("accuracy")}).axes
    labels = ["a, training loss, smoothed", "a, test loss", "b, training loss, smoothed"]
    assert [(line.get_label(), line.get_color()) for line in losses.lines] == list(
        zip(labels, ("C0", "C0", "C1"), strict=True)
    )
    assert [line.get_color() for line in accuracy.lines] == ["C0", "C1"]


def written(folder: Path, *scores: str) -> Path:
    folder.mkdir(parents=True)
    text = "".join(
        json.dumps({"seconds": 0.5, "rate": 1.0} | record if record["kind"] == "train" else {"seconds": 0.5} | record)
        + "\n"
        for record in records(*scores)
    )
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_runs_that_are_called_alike_are_called_by_their_paths(tmp_path: Path) -> None:
    runs = [written(tmp_path / "x" / "run"), written(tmp_path / "y" / "run")]
    named = _names(runs)
    assert list(named) == [str(run) for run in runs]
    assert list(_names(runs[:1])) == ["run"]


def test_a_folder_without_a_run_and_another_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DrawingError) as caught:
        plot_runs([tmp_path], tmp_path / "x.png")
    assert str(caught.value) == (
        f"DrawingError: expected the folder of a run, with metrics.jsonl in it, found none in {tmp_path}"
    )
    with pytest.raises(DrawingError) as caught:
        plot_runs([tmp_path], Path("x.gif"))
    assert str(caught.value) == "DrawingError: x.gif: expected a file that ends in one of .png, .svg, .pdf, found .gif"
