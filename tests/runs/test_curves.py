"""The figure of one run, and of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lstmc.errors import DrawingError
from lstmc.runs.curves import runs_figure, short_names
from lstmc.runs.metrics import _names, plot_runs


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
    figure.draw_without_rendering()  # lays it out
    legend = figure.legends[0].get_window_extent()
    assert all(axes.get_legend() is None and not legend.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_several_runs_have_a_colour_each() -> None:
    losses, accuracy = runs_figure({"a": records("loss", "accuracy"), "b": records("accuracy")}).axes
    assert [(line.get_linestyle(), line.get_color()) for line in losses.lines] == [
        ("-", "C0"),
        ("--", "C0"),
        ("-", "C1"),
    ]
    assert [line.get_color() for line in accuracy.lines] == ["C0", "C1"]


NAMES = [f"kind={kind},solver.base_lr={rate},seed=1" for kind in ("griffin", "lstm") for rate in (0.01, 0.003)]


def test_the_legend_has_each_run_once_without_what_all_names_have_in_common() -> None:
    legend = [text.get_text() for text in runs_figure({name: records("loss") for name in NAMES}).legends[0].get_texts()]
    assert legend == [
        "kind=griffin,solver.base_lr=0.01",
        "kind=griffin,solver.base_lr=0.003",
        "kind=lstm,solver.base_lr=0.01",
        "kind=lstm,solver.base_lr=0.003",
        "training loss, smoothed",
        "test loss",
    ]
    assert short_names(["a,b", "b,a"]) == ["a,b", "b,a"]
    assert short_names(["seed=1,H=2", "seed=2,H=2"]) == ["seed=1", "seed=2"]


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "c"],
        NAMES,
        [f"/home/somebody/experiments/of-last-week/with a long name/{i}/run" for i in range(14)],
        ["W" * 300, "M" * 5],
    ],
)
def test_the_legend_is_inside_of_the_picture(names: list[str]) -> None:
    figure = runs_figure({name: records("loss", "accuracy") for name in names})
    figure.draw_without_rendering()  # lays it out
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.y0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert legend.y1 <= figure.bbox.y1
    assert not any(legend.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_runs_of_a_kind_have_one_colour_and_one_entry() -> None:
    colors = {"kind=griffin": "C3", "kind=lstm": "C1"}
    kinds = {name: (kind, colors[kind]) for name in NAMES for kind in [name.partition(",")[0]]}
    figure = runs_figure({name: records() for name in NAMES}, kinds)
    assert [line.get_color() for line in figure.axes[0].lines] == ["C3", "C3", "C1", "C1"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["kind=griffin", "kind=lstm", "training loss, smoothed"]


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
    assert list(named) == ["x/run", "y/run"]
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
