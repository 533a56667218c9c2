"""The trials of a sweep: the varied names, their values, the points, and the results, a row for each trial. Successive
halving trains all trials for a few iterations and continues with the best, until few are trained to the end: Jamieson
and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization", algorithm 1. It is one
bracket of Hyperband (Li and others 2018)."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, exp, inf, isfinite, log, nan, prod
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, Self

import numpy as np

from lstmc.errors import Argument, SweepError
from lstmc.files.json_file import Count, NotExpected, Number, read_json
from lstmc.files.reading import read_file, reading
from lstmc.runs.metrics import Record, Smoothed

__all__ = ["COSTS", "Goal", "OverSeeds", "Range", "Row", "Space", "over_seeds"]

SOLVER = "solver."  # begins the names of what is a setting of the solver
SEED = "seed"
MOST_POINTS = 10_000
_NAME = re.compile(r"(solver\.)?[A-Za-z_]\w*")
_UNSAFE = re.compile(r"[^\w.=,+-]")
LONGEST = 120  # characters of a folder's name
Point = Mapping[str, str]  # a value for each name, as one writes it on the command line
RESULTS = "results.csv"
SUMMARY = "summary.csv"
SCORES, CURVES = "sweep.png", "curves.png"
LOSS = "loss"
# of a run: what it trained, FLOPs of one forward pass for one example, and what updates and tests took
COSTS = ("parameters", "flops", "seconds")
WINDOW = 20  # updates that the loss of a run without tests is a mean of
State = Literal["waiting", "running", "finished", "dropped", "failed", "interrupted"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn uniformly; their logarithms with ``log``; integers with ``whole``."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> str:
        """Return a random number of the range, as text."""
        if self.log:
            number = exp(rng.uniform(log(self.low), log(self.high)))
        else:
            number = rng.uniform(self.low, self.high + (1 if self.whole else 0))
        return str(min(int(number), int(self.high))) if self.whole else f"{number:.4g}"


@dataclass(frozen=True)
class Space:
    """The varied names and their values: a list of values, or a range that random points are drawn from. A name is
    ``solver.SETTING``, ``seed``, an option of the model, or a dimension."""

    values: Mapping[str, Sequence[str] | Range]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Return the space of Python values: lists, and for a range ``{"from": 1e-4, "to": 1e-1, "log": True}``. Raises
        SweepError for an invalid name or value."""
        return cls({name: _values(name, value) for name, value in _flat(values)})

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """Parse a space from texts ``NAME=VALUE,VALUE``. Raises :class:`SweepError`."""
        values: dict[str, Sequence[str]] = {}
        for text in texts:
            name, equals, listed = text.partition("=")
            parts = [part.strip() for part in listed.split(",")]
            argument = Argument("grid", text)
            if not equals or not all(parts):
                raise SweepError(f"{argument}: expected NAME=VALUE,VALUE, found {text!r}")
            if name in values:
                raise SweepError(f"{argument}: {name} is given twice")
            values[name] = parts
        return cls.from_values(values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a space from a TOML file: ``H = [64, 128]``, or ``"solver.base_lr" = {from = 1e-4, to = 1e-1, log =
        true}``. Raises SweepError for a file that is missing or not TOML."""
        with reading(path, SweepError):
            content = read_file(path)
        try:
            return cls.from_values(tomllib.loads(content.decode()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SweepError(f"{path}: expected TOML, found something else: {error}") from None
        except SweepError as error:
            raise SweepError(f"{path}: {error.marked}") from None

    def over(self, other: Space) -> Space:
        return Space({**self.values, **other.values})

    def points(self, random: int | None, seed: int) -> dict[str, Point]:
        """Return the points by the names of their folders: every combination, or ``random`` points drawn by ``seed``.
        Raises SweepError for a space without values, for more than 10000 points, and for a range without ``random``."""
        if not self.values:
            raise SweepError("a sweep varies something: expected values for some name, found none")
        points = self._all_points() if random is None else self._random_points(random, seed)
        named: dict[str, Point] = {}
        for point in points:
            name = _UNSAFE.sub("_", ",".join(f"{key}={value}" for key, value in point.items()))
            named.setdefault(name if len(name) <= LONGEST else f"{len(named):04d}", point)
        return named

    def _all_points(self) -> list[Point]:
        """Return every combination of the values. Raise SweepError if the space has a range."""
        for name, values in self.values.items():
            if isinstance(values, Range):
                raise SweepError(f"{name} has a range: give {Argument('random')} the number of points to draw")
        lists = [values for values in self.values.values() if not isinstance(values, Range)]
        _check_count(prod(map(len, lists)))
        return [dict(zip(self.values, chosen, strict=True)) for chosen in itertools.product(*lists)]

    def _random_points(self, count: int, seed: int) -> list[Point]:
        """Return ``count`` different points drawn by ``seed``, or all points if there are fewer."""
        if count < 1:
            raise SweepError(f"{Argument('random', str(count))}: expected at least one point")
        _check_count(count)
        rng, most = np.random.default_rng(seed), self._combinations()
        drawn: dict[tuple[str, ...], Point] = {}
        while len(drawn) < min(count, most):
            point = {
                name: values.draw(rng) if isinstance(values, Range) else values[int(rng.integers(len(values)))]
                for name, values in self.values.items()
            }
            drawn[tuple(point.values())] = point
        return list(drawn.values())

    def _combinations(self) -> int:
        """Return the number of different points; a range of numbers that are not integers counts as unlimited."""
        count = 1
        for values in self.values.values():
            if not isinstance(values, Range):
                count *= len(set(values))
            else:
                count *= int(values.high) - int(values.low) + 1 if values.whole else MOST_POINTS * 10
        return count


def _check_count(count: int) -> None:
    if count > MOST_POINTS:
        raise SweepError(f"expected at most {MOST_POINTS} points, found {count}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return pairs of name and value. Nested tables, which TOML makes of dotted names, get dotted names again."""
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and not set(value) & {"from", "to"}:
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value))
    return flat


def _values(name: str, values: Any) -> Sequence[str] | Range:
    """Return the values of a varied name as texts, or its range. Raise SweepError for an invalid name or value."""
    if not _NAME.fullmatch(name):
        raise SweepError(f"{name!r} is no name: expected a dimension, an option of the model, solver.SETTING or seed")
    if isinstance(values, Range):
        return values
    if isinstance(values, Mapping):
        return _range(name, values)
    if not isinstance(values, list | tuple) or not values:
        raise SweepError(f"{name}: expected a list of values, or a range with from and to, found {values!r}")
    return tuple(dict.fromkeys(_text(name, value) for value in values))


def _range(name: str, table: Mapping[str, Any]) -> Range:
    """Return the range that a table with ``from`` and ``to`` describes. Raise SweepError for other contents."""
    numbers = [table.get(key) for key in ("from", "to")]
    if (
        not set(table) <= {"from", "to", "log", "whole"}
        or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        or not all(isinstance(table.get(flag, False), bool) for flag in ("log", "whole"))
    ):
        expected = "a range has numbers from and to, and true or false for log and whole"
        raise SweepError(f"{name}: {expected}, found {dict(table)}")
    low, high = map(float, numbers)  # type: ignore[arg-type]
    bounds = Range(low, high, table.get("log", False), table.get("whole", False))
    if not low < high or (bounds.log and low <= 0) or (bounds.whole and any(n != int(n) for n in (low, high))):
        kind = "integers" if bounds.whole else "numbers"
        above = "above 0 " if bounds.log else ""
        raise SweepError(f"{name}: expected {kind} {above}of which from is the smaller, found {low:g} to {high:g}")
    return bounds


def _text(name: str, value: object) -> str:
    """Return a value as text for the command line. Raise SweepError for a value of another type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str) and str(value).strip():
        return str(value)
    raise SweepError(f"{name}: expected numbers, words or true and false, found {value!r}")


@dataclass(frozen=True)
class Outcome:
    """The result of a point's run: complete, with all updates of its ``budget``, or an error, with its ``reason``. A
    ``final`` error would occur again; after other errors the run may resume. ``costs`` are by the names of
    :data:`COSTS`, for a run that did not fail."""

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

    def order(self, scores: Mapping[str, float]) -> float:
        """Return the sort key of scores: smaller is better, infinite without a score."""
        score = scores.get(self.score)
        return inf if score is None else -score if self.highest else score

    def __str__(self) -> str:
        return f"the {'highest' if self.highest else 'lowest'} {self.score}"


@dataclass(frozen=True)
class Row:
    """A point and its state. ``reason`` is the cause of a failure or an interruption."""

    name: str
    point: Point
    state: State = "waiting"
    iteration: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OverSeeds:
    """The finished points that differ in their seed alone: the number of ``runs``, the mean and the sample standard
    deviation of each score over them, and the mean of each cost."""

    point: Point
    runs: int
    scores: Mapping[str, tuple[float, float]]
    costs: Mapping[str, float]


def last_scores(records: Iterable[Record]) -> dict[str, float]:
    """Return the scores of a run's last test. Without a test, return the smoothed last loss, if it is finite."""
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
    return {_outcome_name(outcome.budget): (json.dumps(asdict(outcome), indent=1) + "\n").encode()}


def _outcome_name(budget: int) -> str:
    return f"outcome_{budget:06d}.json"


def best_row(rows: Iterable[Row], goal: Goal) -> Row | None:
    """Return the finished point with the best score; None if no finished point has a score."""
    scored = [row for row in rows if row.state == "finished" and row.scores.get(goal.score) is not None]
    return min(scored, key=lambda row: goal.order(row.scores), default=None)


def rank_rows(rows: Iterable[Row], goal: Goal) -> list[Row]:
    """Return the rows in the order of their states, from finished to failed, and within a state the best first."""
    order = ("finished", "running", "dropped", "waiting", "interrupted", "failed")
    return sorted(rows, key=lambda row: (order.index(row.state), goal.order(row.scores), row.name))


def over_seeds(rows: Sequence[Row]) -> list[OverSeeds]:
    """Return the means over seeds for each point without its seed, in order; none if the seed does not vary."""
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
        costs = {name: mean(row.costs[name] for row in group) for name in COSTS}
        means.append(OverSeeds(dict(point), len(group), spread, costs))
    return means


def summary_csv(groups: Sequence[OverSeeds]) -> bytes:
    """Return a table of points without their seeds: number of runs, mean and deviation of scores, mean of costs."""
    scores = list(dict.fromkeys(name for group in groups for name in group.scores))
    spread = [column for name in scores for column in (f"{name} mean", f"{name} std")]
    table: list[list[object]] = [[*groups[0].point, "runs", *spread, *COSTS]]
    for group in groups:
        figures = [f"{value:.6g}" for name in scores for value in group.scores.get(name, (nan, nan))]
        costs = [f"{group.costs[name]:.6g}" for name in COSTS]
        table.append([*group.point.values(), group.runs, *figures, *costs])
    return _csv(table)


def results_csv(rows: Sequence[Row]) -> bytes:
    """Return a table of all points: varied names, state, iterations, scores, :data:`COSTS`, reason, folder."""
    varied = list(dict.fromkeys(name for row in rows for name in row.point))
    scores = list(dict.fromkeys(name for row in rows for name in row.scores))
    table: list[list[object]] = [[*varied, "state", "iteration", *scores, *COSTS, "reason", "run"]]
    for row in rows:
        values = [row.point.get(name, "") for name in varied]
        figures = [f"{row.scores[name]:.6g}" if name in row.scores else "" for name in scores]
        costs = [f"{row.costs[name]:.9g}" if name in row.costs else "" for name in COSTS]
        table.append([*values, row.state, row.iteration, *figures, *costs, row.reason, f"points/{row.name}"])
    return _csv(table)


def _csv(table: Sequence[Sequence[object]]) -> bytes:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(table)
    return content.getvalue().encode()


def budgets(points: int, updates: int, factor: int) -> list[int]:
    """Return the numbers of updates after which points are compared, in ascending order; the last is ``updates``. Each
    is ``factor`` times the previous one. The first is chosen so that few points remain at the end."""
    ascending, left, budget = [updates], points, updates
    while left > factor - 1 and left > 1 and budget >= factor:
        left, budget = ceil(left / factor), budget // factor
        ascending.append(budget)
    return ascending[::-1]


def survivors(rows: Sequence[Row], factor: int, goal: Goal) -> list[str]:
    """Return the names of the points that continue: the best that have not failed, one for ``factor`` points and at
    least one. ``rows`` are all points that were trained to this budget, the failed ones too."""
    alive = [row for row in rows if row.state not in ("failed", "interrupted")]
    best = sorted(alive, key=lambda row: (goal.order(row.scores), row.name))
    return [row.name for row in best[: ceil(len(rows) / factor)]]
