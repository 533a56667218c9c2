"""The losses and scores of one run, or of several to compare, as a figure. matplotlib belongs to an extra and is slow
to import, so this module is imported by :func:`lstmc.plugins.need`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

from matplotlib import colormaps, rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

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
LEGEND_LINE, HANDLE = 0.19, 0.75  # inches: a line of the legend, and what stands beside a label there
Points = tuple[list[Any], list[Any]]


def figure_files(
    runs: Mapping[str, Sequence[Record]], forms: Iterable[str], kinds: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, bytes]:
    """Return the figure of some runs, given by their names, in each of the ``forms``: ``png``, ``svg``, ``pdf``.
    ``kinds`` has the label and the colour of each run's kind. Without it each run has its own colour."""
    return figure_bytes(lambda: runs_figure(runs, kinds), forms)


def figure_bytes(make: Callable[[], Figure], forms: Iterable[str]) -> dict[str, bytes]:
    """Return a figure in each of the ``forms``, by form. ``make`` creates the figure, in the style of all figures."""
    with rc_context(STYLE):
        figure = make()
        files = {}
        for form in forms:
            content = io.BytesIO()
            dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
            figure.savefig(content, format=form, dpi=150, metadata=dates.get(form))
            files[form] = content.getvalue()
    return files


def runs_figure(runs: Mapping[str, Sequence[Record]], kinds: Mapping[str, tuple[str, str]] | None = None) -> Figure:
    """Return a figure with the losses in one panel, and each score in its own panel below. A loss axis is logarithmic
    if every loss is above zero. For a single run the loss of each update is shown, faint, behind the smoothed loss. The
    legend has an entry for each of several runs or kinds, and two for solid and dashed lines."""
    scores = {name: _scores(records) for name, records in runs.items()}
    panels = list(dict.fromkeys(score for run_scores in scores.values() for score in run_scores if score != "loss"))
    single = len(runs) == 1
    entries = {name: kinds[name][0] if kinds else label for name, label in zip(runs, short_names(runs), strict=True)}
    colors = dict(kinds.values()) if kinds else palette(entries.values())
    lines = [] if single else _entries(colors, any("loss" in run_scores for run_scores in scores.values()))
    labels = [wrap(str(line.get_label()), WIDTH - HANDLE) for line in lines]
    columns = 3 if single else max(1, min(4, int(WIDTH / (max(map(text_width, labels)) + HANDLE))))
    rows = -(-len(labels) // columns) * max((label.count("\n") + 1 for label in labels), default=1)
    heights = [LOSS_HEIGHT, *[SCORE_HEIGHT] * len(panels)]
    figure = Figure(figsize=(WIDTH, sum(heights) + LEGEND_LINE * rows), layout="constrained")
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    losses = axes[0]
    for name, records in runs.items():
        color = colors[entries[name]]
        _losses(losses, records, scores[name].pop("loss", None), color, faint=single)
        for panel, score in zip(axes[1:], panels, strict=True):
            if score in scores[name]:
                panel.plot(*scores[name][score], "s-", color=color, markersize=3)
            panel.set_ylabel(f"test {score}")
    losses.set(title=wrap(next(iter(runs)), WIDTH - HANDLE) if single else "", ylabel="loss")
    axes[-1].set_xlabel("iteration")
    values = [value for line in losses.lines for value in line.get_ydata()]
    if values and min(values) > 0:
        losses.set_yscale("log")
    if losses.lines:
        handles = losses.lines if single else lines
        texts = [str(line.get_label()) for line in handles] if single else labels
        figure.legend(handles, texts, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def palette(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name. More than ten names have colours along a colour map."""
    each = list(dict.fromkeys(names))
    if len(each) <= 10:
        return {name: f"C{number}" for number, name in enumerate(each)}
    return {name: to_hex(colormaps["turbo"](number / (len(each) - 1))) for number, name in enumerate(each)}


def short_names(names: Iterable[str]) -> list[str]:
    """Return names without the parts, between commas, that they all have in common, as in ``cell=lstm,seed=1``. A name
    that has only such parts stays whole."""
    parts = [name.split(",") for name in names]
    common = set(parts[0]).intersection(*parts) if len(parts) > 1 else set()
    return [",".join(part for part in each if part not in common) or ",".join(each) for each in parts]


def _entries(colors: Mapping[str, str], tested: bool) -> list[Line2D]:
    """Return the legend of several runs: a line for each entry, one for training and, if ``tested``, one for tests."""
    lines = [Line2D([], [], color=color, label=entry) for entry, color in colors.items()]
    lines.append(Line2D([], [], color="0.4", label="training loss, smoothed"))
    if tested:
        lines.append(Line2D([], [], color="0.4", linestyle="--", marker="o", markersize=3, label="test loss"))
    return lines


def text_width(text: str) -> float:
    """Return the width of a text in inches, at the size that legends have."""
    lines = [TextPath((0, 0), line, size=rcParams["font.size"]) for line in text.splitlines() if line.strip()]
    return max((float(line.get_extents().width) / 72 for line in lines), default=0.0)


def wrap(text: str, width: float) -> str:
    """Return a text with line breaks, so that it is at most ``width`` inches wide."""
    characters = len(text)
    while characters > 1 and text_width(fill(text, characters)) > width:
        characters = min(characters - 1, int(characters * width / text_width(fill(text, characters))) + 1)
    return fill(text, characters) if characters else text


def _losses(axes: Axes, records: Sequence[Record], tested: Points | None, color: str, faint: bool) -> None:
    """Draw a run's smoothed training loss, with ``faint`` also the loss of each update, and its test loss, if any."""
    trained = [(r["iteration"], r["loss"]) for r in records if r["kind"] == "train" and r["loss"] is not None]
    if trained:
        iterations, losses = zip(*trained, strict=True)
        if faint:
            # as pixels also in the SVG, which would have a point for every update otherwise
            every = "training loss of each update"
            axes.plot(iterations, losses, color=color, alpha=0.25, linewidth=0.7, rasterized=True, label=every)
        mean = Smoothed(len(losses) / PARTS)
        axes.plot(iterations, [mean.add(loss) for loss in losses], color=color, label="training loss, smoothed")
    if tested is not None:
        axes.plot(*tested, "o--", color="C1" if faint else color, markersize=3, linewidth=1, label="test loss")


def _scores(records: Iterable[Record]) -> dict[str, Points]:
    """Return the iterations and the values of each test score, by the score's name."""
    points: dict[str, Points] = {}
    for record in records:
        for name, value in (record.get("scores") or {}).items():
            if value is not None:
                iterations, values = points.setdefault(name, ([], []))
                iterations.append(record["iteration"])
                values.append(value)
    return points
