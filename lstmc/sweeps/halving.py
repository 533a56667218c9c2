"""Successive halving: all points train for a little, the best go on for longer, until few have trained to the end.

Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization", algorithm 1; it
is one bracket of Hyperband (Li and others 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from lstmc.sweeps.results import Goal, Row


def budgets(points: int, updates: int, factor: int | None) -> list[int]:
    """The updates after which points are compared, the last being all of them. Without a factor there is no other.

    Each is ``factor`` times the one before it, and the first is such that one point is left, or few.
    """
    made, left, budget = [updates], points, updates
    while factor is not None and left > factor - 1 and left > 1 and budget >= factor:
        left, budget = ceil(left / factor), budget // factor
        made.append(budget)
    return made[::-1]


def kept(rows: Sequence[Row], factor: int, goal: Goal) -> list[str]:
    """The names of the points that go on: one in ``factor``, at least one, of those that have not failed.

    ``rows`` are all that were trained to this budget: how many go on does not depend on how many failed.
    """
    alive = [row for row in rows if row.state not in ("failed", "interrupted")]
    best = sorted(alive, key=lambda row: (goal.order(row.scores), row.name))
    return [row.name for row in best[: ceil(len(rows) / factor)]]
