"""The loss curve of a run as ``loss.png`` and ``loss.svg``, drawn from its metrics.

It is a program of its own, ``python -m lstmc.runs.loss_curve RUN``: matplotlib takes longer to import than all of
lstmc, and training need not wait while it draws.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from lstmc.output import write_files
from lstmc.runs.curve_drawing import CURVES
from lstmc.runs.metrics import METRICS, Record, Smoothed, read_metrics

PARTS = 50  # the smoothed line follows what takes longer than such a part of the run
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lstmc",
    "font.size": 9,
    "axes.spines.top": False,
}  # the salt: same run, same bytes


def draw(folder: Path) -> list[Path]:
    """Draw the metrics of a run, if there are any, beside them."""
    records = read_metrics(folder / METRICS)
    if not records:
        return []
    with rc_context(STYLE):
        figure = loss_figure(records, folder.resolve().name)
        files = {}
        for name in CURVES:
            suffix = name.rpartition(".")[2]
            content = io.BytesIO()
            figure.savefig(content, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            files[name] = content.getvalue()
    return write_files(folder, files)


def loss_figure(records: Iterable[Record], title: str) -> Figure:
    """The loss of each update, faint, and smoothed; the test loss with it; other test scores on a second axis."""
    records = list(records)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel="iteration", ylabel="loss")
    trained = [(r["iteration"], r["loss"]) for r in records if r["kind"] == "train" and r["loss"] is not None]
    if trained:
        iterations, losses = zip(*trained, strict=True)
        # as pixels also in the SVG, which would have a point for every update otherwise
        axes.plot(iterations, losses, color="C0", alpha=0.25, linewidth=0.7, rasterized=True)
        mean = Smoothed(len(losses) / PARTS)
        axes.plot(iterations, [mean.add(loss) for loss in losses], color="C0", label="training loss")
    scores = _scores(records)
    if "loss" in scores:
        axes.plot(*scores.pop("loss"), "o-", color="C1", markersize=3, label="test loss")
    handles, labels = axes.get_legend_handles_labels()
    if scores:
        right = axes.twinx()
        right.set_ylabel(", ".join(scores))
        for number, (name, points) in enumerate(scores.items(), 2):
            right.plot(*points, "s-", color=f"C{number}", markersize=3, label=f"test {name}")
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    if handles:
        axes.legend(handles, labels, frameon=False, loc="best")
    return figure


def _scores(records: Iterable[Record]) -> dict[str, tuple[list[Any], list[Any]]]:
    """For each test score its iterations and values."""
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for record in records:
        for name, value in record.get("scores", {}).items():
            if value is not None:
                iterations, values = found.setdefault(name, ([], []))
                iterations.append(record["iteration"])
                values.append(value)
    return found


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
