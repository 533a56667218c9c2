"""The results of a sweep: one row a trial, the best trial, and successive halving.

Successive halving trains all trials for a few iterations and continues with the best, until few are trained to the
end: Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization",
algorithm 1. It is one bracket of Hyperband (Li and others 2018).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, inf, isfinite, nan
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

from lstmc.files.json_file import Count, NotExpected, Number, read_json
from lstmc.runs.metrics import Record, Smoothed
from lstmc.sweeps.space import SEED, Point

RESULTS = "results.csv"
SUMMARY = "summary.csv"
SCORES, CURVES = "sweep.png", "curves.png"
LOSS = "loss"
# of a run: what it trained, FLOPs of one forward pass for one example, and what updates and tests took
COSTS = ("parameters", "flops", "seconds")
WINDOW = 20  # updates that the loss of a run without tests is a mean of

State = Literal["waiting", "running", "finished", "dropped", "failed", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """The result of a point's run: complete, with all updates of its ``budget``, or an error, with its ``reason``.

    ``final`` errors would come again; with others the run may go on. ``costs`` are by the names of :data:`COSTS`, of a
    run that did not fail.
    """

    budget: Count
    iteration: Count
    scores: dict[str, Number] = field(default_factory=dict)
    reason: str = ""
    final: bool = True
    costs: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """The score by which points are compared, and whether the highest or the lowest is the best."""

    score: str = LOSS
    highest: bool = False

    def score_of(self, scores: Mapping[str, float]) -> float | None:
        """Return the score, if there is one."""
        return scores.get(self.score)

    def order(self, scores: Mapping[str, float]) -> float:
        """Return the sort key of scores: smaller is better, infinite without a score."""
        score = self.score_of(scores)
        return inf if score is None else -score if self.highest else score

    def __str__(self) -> str:
        return f"the {'highest' if self.highest else 'lowest'} {self.score}"


@dataclass(frozen=True)
class Row:
    """A point and its state. ``reason`` says why it failed or was interrupted."""

    name: str
    point: Point
    state: State = "waiting"
    iteration: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OverSeeds:
    """The finished points that differ in their seed alone: how many ``runs``, the mean and the sample standard
    deviation of each score over them, and the mean of each cost."""

    point: Point
    runs: int
    scores: Mapping[str, tuple[float, float]]
    costs: Mapping[str, float]


def last_scores(records: Iterable[Record]) -> dict[str, float]:
    """Return the scores of a run's last test; without one, the mean of its last losses."""
    tested: dict[str, float] = {}
    losses = Smoothed(WINDOW)
    loss: float | None = None
    for record in records:
        if record["kind"] == "test":
            tested = {name: value for name, value in record["scores"].items() if value is not None}
        elif record["loss"] is not None:
            loss = losses.add(record["loss"])
    return tested or ({} if loss is None or not isfinite(loss) else {LOSS: loss})


def read_outcome(folder: Path, budget: int) -> Outcome | None:
    """Return the outcome of a point's run to a budget; None if there is none, or it cannot be read."""
    try:
        return read_json(folder / _outcome_name(budget), Outcome)
    except (OSError, NotExpected):
        return None


def outcome_file(outcome: Outcome) -> dict[str, bytes]:
    """Return an outcome as a file's name, in the point's folder, and content."""
    return {_outcome_name(outcome.budget): (json.dumps(asdict(outcome), indent=1) + "\n").encode()}


def _outcome_name(budget: int) -> str:
    return f"outcome_{budget:06d}.json"


def best_row(rows: Iterable[Row], goal: Goal) -> Row | None:
    """Return the finished point with the best score; None where no finished point has one."""
    scored = [row for row in rows if row.state == "finished" and goal.score_of(row.scores) is not None]
    return min(scored, key=lambda row: goal.order(row.scores), default=None)


def rank_rows(rows: Iterable[Row], goal: Goal) -> list[Row]:
    """Return the rows, the best first: finished ones before those that were dropped, and failed ones last."""
    order = ("finished", "running", "dropped", "waiting", "interrupted", "failed")
    return sorted(rows, key=lambda row: (order.index(row.state), goal.order(row.scores), row.name))


def over_seeds(rows: Sequence[Row]) -> list[OverSeeds]:
    """Return the means over seeds, in the order of the rows; none where the seed does not vary."""
    if len({row.point.get(SEED) for row in rows}) < 2:
        return []
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        if row.state == "finished":
            groups.setdefault(tuple(pair for pair in row.point.items() if pair[0] != SEED), []).append(row)
    means = []
    for point, group in groups.items():
        scores = {name: [row.scores[name] for row in group if name in row.scores] for name in group[0].scores}
        spread = {name: (mean(each), stdev(each) if len(each) > 1 else 0.0) for name, each in scores.items()}
        means.append(
            OverSeeds(dict(point), len(group), spread, {name: mean(row.costs[name] for row in group) for name in COSTS})
        )
    return means


def summary_csv(groups: Sequence[OverSeeds]) -> bytes:
    """Return a table with a row for each point without its seed: the number of runs, the mean and the standard
    deviation of each score, and the mean of each cost."""
    scores = list(dict.fromkeys(name for group in groups for name in group.scores))
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    spread = [column for name in scores for column in (f"{name} mean", f"{name} std")]
    writer.writerow([*groups[0].point, "runs", *spread, *COSTS])
    for group in groups:
        figures = [f"{value:.6g}" for name in scores for value in group.scores.get(name, (nan, nan))]
        writer.writerow([*group.point.values(), group.runs, *figures, *(f"{group.costs[name]:.6g}" for name in COSTS)])
    return content.getvalue().encode()


def results_csv(rows: Sequence[Row]) -> bytes:
    """Return a table with a column for what varies, the state, the iterations, each score, each of :data:`COSTS`, the
    reason and the run's folder."""
    varied = list(dict.fromkeys(name for row in rows for name in row.point))
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow([*varied, "state", "iteration", *scores, *COSTS, "reason", "run"])
    for row in rows:
        values = [row.point.get(name, "") for name in varied]
        figures = [f"{row.scores[name]:.6g}" if name in row.scores else "" for name in scores]
        costs = [f"{row.costs[name]:.9g}" if name in row.costs else "" for name in COSTS]
        writer.writerow([*values, row.state, row.iteration, *figures, *costs, row.reason, f"points/{row.name}"])
    return content.getvalue().encode()


def budgets(points: int, updates: int, factor: int | None) -> list[int]:
    """Return the updates after which points are compared, the last being all of them. Without a factor there is no
    other.

    Each is ``factor`` times the one before it, and the first is such that one point is left, or few.
    """
    ascending, left, budget = [updates], points, updates
    while factor is not None and left > factor - 1 and left > 1 and budget >= factor:
        left, budget = ceil(left / factor), budget // factor
        ascending.append(budget)
    return ascending[::-1]


def survivors(rows: Sequence[Row], factor: int, goal: Goal) -> list[str]:
    """Return the names of the points that continue: one in ``factor``, at least one, of those that have not failed.

    ``rows`` are all that were trained to this budget: how many go on does not depend on how many failed.
    """
    alive = [row for row in rows if row.state not in ("failed", "interrupted")]
    best = sorted(alive, key=lambda row: (goal.order(row.scores), row.name))
    return [row.name for row in best[: ceil(len(rows) / factor)]]
