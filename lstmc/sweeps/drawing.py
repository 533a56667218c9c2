"""The pictures of a sweep: scores over the varied settings, and the curves of its best runs. matplotlib belongs to an
extra and is slow to import, so this module is imported by :func:`lstmc.plugins.need`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lstmc.runs.curves import figure_bytes, figure_files, palette, wrap
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.sweeps.trials import CURVES, SCORES, Goal, Row, best_row
from lstmc.text import number

MOST_CURVES = 8
PANEL = 3.4  # inches


def pictures(rows: Sequence[Row], goal: Goal, runs: Path) -> dict[str, bytes]:
    """Return a sweep's pictures as PNG, by file name; none without scores. ``rows`` are in the order of their ranks."""
    scored = [row for row in rows if row.scores.get(goal.score) is not None]
    if not scored:
        return {}
    files = {SCORES: figure_bytes(lambda: scores_figure(scored, goal), ["png"])["png"]}
    curves = {row.name: read_metrics(runs / row.name / METRICS) for row in scored[:MOST_CURVES]}
    if any(curves.values()):
        kind, colors = _colors(scored)
        words = {row.name: row.point[kind] for row in scored[:MOST_CURVES]} if colors else {}
        kinds = {name: (f"{kind}={word}", colors[word]) for name, word in words.items()}
        files[CURVES] = figure_files(curves, ["png"], kinds or None)["png"]
    return files


def scores_figure(rows: Sequence[Row], goal: Goal) -> Figure:
    """Return a figure with a panel for each varied name: every point's score over its value. The first name whose
    values are words, such as names of cells, determines the colours. Dropped points are hollow; the best has a ring."""
    names = [name for name in rows[0].point if len({row.point[name] for row in rows}) > 1] or list(rows[0].point)[:1]
    figure = Figure(figsize=(max(PANEL * len(names), 4.5), PANEL), layout="constrained")
    best = best_row(rows, goal)
    kind, colors = _colors(rows)
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        places, ticks = _places([row.point[name] for row in rows], axes)
        for row, place in zip(rows, places, strict=True):
            color = colors.get(row.point.get(kind, ""), "C0")
            point = partial(axes.plot, [place], [row.scores.get(goal.score)], "o", clip_on=False)
            point(markerfacecolor=color if row.state == "finished" else "none", markeredgecolor=color)
            if row is best:
                point(markersize=12, markerfacecolor="none", markeredgecolor="black")
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks, rotation=30 if max(map(len, ticks)) > 6 else 0)
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.set_xlabel(name)
    figure.axes[0].set_ylabel(goal.score)
    figure.suptitle(wrap(f"{goal}: {best.name}" if best else str(goal), figure.get_figwidth() - 0.2), fontsize=9)
    if colors and len(names) > 1:
        mark = partial(Line2D, [], [], linestyle="", marker="o")
        handles = [mark(color=color, label=value) for value, color in colors.items()]
        figure.legend(handles=handles, loc="outside right center", frameon=False, title=kind)
    return figure


def _colors(rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """Return the first varied name whose values are not all numbers, and a colour for each value; empty if none."""
    for name in rows[0].point:
        values = list(dict.fromkeys(row.point[name] for row in rows))
        if len(values) > 1 and any(number(value) is None for value in values):
            return name, palette(sorted(values))
    return "", {}


def _places(values: Sequence[str], axes: Axes) -> tuple[list[float], list[str]]:
    """Return positions of values on an axis (words are side by side), and the labels of its ticks, none for numbers."""
    numeric = [value for value in map(number, values) if value is not None]
    if len(numeric) < len(values):
        ticks = list(dict.fromkeys(sorted(values)))
        return [float(ticks.index(value)) for value in values], ticks
    if min(numeric) > 0 and max(numeric) / min(numeric) >= 10:
        axes.set_xscale("log")
    elif all(value.is_integer() for value in numeric):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return numeric, []
