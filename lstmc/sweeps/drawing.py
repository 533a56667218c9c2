"""The pictures of a sweep: scores over what varied, and the curves of its best runs.

matplotlib is an extra's and slow to import, so this module is imported by :func:`lstmc.extras.need`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstmc.numerals import number
from lstmc.runs.curves import drawn, figure_bytes
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.sweeps.results import Goal, Row, best_of

SCORES, CURVES = "sweep.png", "curves.png"
MOST_CURVES = 8
PANEL = 3.4  # inches


def pictures(rows: Sequence[Row], goal: Goal, runs: Path) -> dict[str, bytes]:
    """The PNGs by name, of rows in the order of their ranks; none where nothing has a score."""
    scored = [row for row in rows if goal.of(row.scores) is not None]
    if not scored:
        return {}
    found = {SCORES: figure_bytes(lambda: scores_figure(scored, goal), ["png"])["png"]}
    curves = {row.name: read_metrics(runs / row.name / METRICS) for row in scored[:MOST_CURVES]}
    if any(curves.values()):
        found[CURVES] = drawn(curves, ["png"])["png"]
    return found


def scores_figure(rows: Sequence[Row], goal: Goal) -> Figure:
    """A panel for each name that varies: every point's score over its value there. Dropped points are hollow."""
    names = [name for name in rows[0].point if len({row.point[name] for row in rows}) > 1] or list(rows[0].point)[:1]
    figure = Figure(figsize=(max(PANEL * len(names), 4.5), PANEL), layout="constrained")
    best = best_of(rows, goal)
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        places, ticks = _places([row.point[name] for row in rows], axes)
        for row, place in zip(rows, places, strict=True):
            color = "C1" if row is best else "C0"
            filled = color if row.state == "finished" else "none"
            axes.plot([place], [goal.of(row.scores)], "o", markerfacecolor=filled, markeredgecolor=color, clip_on=False)
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks, rotation=30 if max(map(len, ticks)) > 6 else 0)
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.set_xlabel(name)
    figure.axes[0].set_ylabel(goal.score)
    figure.suptitle(f"{goal}: {best.name}" if best else str(goal), fontsize=9)
    return figure


def _places(values: Sequence[str], axes: Axes) -> tuple[list[float], list[str]]:
    """Where values stand on an axis: numbers where they are, words beside each other, with their ticks."""
    numbers = [number(value) for value in values]
    found = [value for value in numbers if value is not None]
    if len(found) < len(values):
        ticks = list(dict.fromkeys(sorted(values)))
        return [float(ticks.index(value)) for value in values], ticks
    if min(found) > 0 and max(found) / min(found) >= 10:
        axes.set_xscale("log")
    elif all(value.is_integer() for value in found):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return found, []
