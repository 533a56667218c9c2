"""The losses and scores of one run, or of several to compare, as a figure.

matplotlib is an extra's and slow to import, so this module is imported by :func:`lstmc.extras.need`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstmc.runs.metrics import Record, Smoothed

PARTS = 50  # the smoothed line follows what takes longer than such a part of the run
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lstmc",  # same run, same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
WIDTH, LOSS_HEIGHT, SCORE_HEIGHT = 7.0, 3.6, 1.6  # inches
Points = tuple[list[Any], list[Any]]


def drawn(runs: Mapping[str, Sequence[Record]], forms: Iterable[str]) -> dict[str, bytes]:
    """The figure of some runs, by their names, in each of the ``forms``: ``png``, ``svg``, ``pdf``."""
    return figure_bytes(lambda: runs_figure(runs), forms)


def figure_bytes(make: Callable[[], Figure], forms: Iterable[str]) -> dict[str, bytes]:
    """The figure that ``make`` makes, in the style of all figures here, in each of the ``forms``."""
    with rc_context(STYLE):
        figure = make()
        files = {}
        for form in forms:
            content = io.BytesIO()
            dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
            figure.savefig(content, format=form, dpi=150, metadata=dates.get(form))
            files[form] = content.getvalue()
    return files


def runs_figure(runs: Mapping[str, Sequence[Record]]) -> Figure:
    """The losses in one panel, and each score in one of its own below.

    A loss axis is logarithmic where every loss is above zero. Of a single run each update's loss is shown, faint,
    behind the smoothed one. What the lines are stands above the panels, and nothing over the lines.
    """
    scores = {name: _scores(records) for name, records in runs.items()}
    panels = list(dict.fromkeys(score for found in scores.values() for score in found if score != "loss"))
    heights = [LOSS_HEIGHT, *[SCORE_HEIGHT] * len(panels)]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    losses = axes[0]
    for number, (name, records) in enumerate(runs.items()):
        label = "" if len(runs) == 1 else f"{name}, "
        _losses(losses, records, scores[name].pop("loss", None), number, label, faint=len(runs) == 1)
        for panel, score in zip(axes[1:], panels, strict=True):
            if score in scores[name]:
                panel.plot(*scores[name][score], "s-", color=f"C{number}", markersize=3)
            panel.set_ylabel(f"test {score}")
    losses.set(title=", ".join(runs) if len(runs) == 1 else "", ylabel="loss")
    axes[-1].set_xlabel("iteration")
    values = [value for line in losses.lines for value in line.get_ydata()]
    if values and min(values) > 0:
        losses.set_yscale("log")
    if losses.lines:
        figure.legend(loc="outside upper center", ncols=2 if len(runs) > 1 else 3, frameon=False)
    return figure


def _losses(axes: Axes, records: Sequence[Record], tested: Points | None, number: int, label: str, faint: bool) -> None:
    trained = [(r["iteration"], r["loss"]) for r in records if r["kind"] == "train" and r["loss"] is not None]
    color = f"C{number}"
    if trained:
        iterations, losses = zip(*trained, strict=True)
        if faint:
            # as pixels also in the SVG, which would have a point for every update otherwise
            every = "training loss of each update"
            axes.plot(iterations, losses, color=color, alpha=0.25, linewidth=0.7, rasterized=True, label=every)
        mean = Smoothed(len(losses) / PARTS)
        axes.plot(iterations, [mean.add(loss) for loss in losses], color=color, label=f"{label}training loss, smoothed")
    if tested is not None:
        axes.plot(*tested, "o--", color="C1" if faint else color, markersize=3, linewidth=1, label=f"{label}test loss")


def _scores(records: Iterable[Record]) -> dict[str, Points]:
    """For each test score its iterations and values."""
    found: dict[str, Points] = {}
    for record in records:
        for name, value in (record.get("scores") or {}).items():
            if value is not None:
                iterations, values = found.setdefault(name, ([], []))
                iterations.append(record["iteration"])
                values.append(value)
    return found
