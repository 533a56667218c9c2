"""The space of a sweep: what varies, the values that it takes, and the points that are tried."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from lstmc.errors import Argument, SweepError

SOLVER = "solver."  # begins the names of what is a setting of the solver
SEED = "seed"
MOST_POINTS = 10_000
_NAME = re.compile(r"(solver\.)?[A-Za-z_]\w*")
_UNSAFE = re.compile(r"[^\w.=,+-]")
LONGEST = 120  # characters of a folder's name
RANGE_KEYS = {"from", "to", "log", "whole"}

Point = Mapping[str, str]  # a value for each name, as one writes it on the command line


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high`` that are drawn evenly; evenly of their logarithms where ``log`` is set; whole
    numbers where ``whole`` is."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> str:
        if self.log:
            number = exp(rng.uniform(log(self.low), log(self.high)))
        else:
            number = rng.uniform(self.low, self.high + (1 if self.whole else 0))
        return str(min(int(number), int(self.high))) if self.whole else f"{number:.4g}"


@dataclass(frozen=True)
class Space:
    """The varied names and their values: a list of values, or a range that random points are drawn from.

    A name is ``solver.SETTING``, ``seed``, an option of the model, or a dimension.
    """

    values: Mapping[str, Sequence[str] | Range]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Return the space of Python values: lists, and for a range ``{"from": 1e-4, "to": 1e-1, "log": True}``.

        Raises :class:`SweepError` for a name or a value that is none.
        """
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
                raise SweepError(f"{argument}: expected NAME=VALUE,VALUE, found {text!r}", arguments=(argument,))
            if name in values:
                raise SweepError(f"{argument}: {name} is given twice", arguments=(argument,))
            values[name] = parts
        return cls.from_values(values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a space from a TOML file: ``H = [64, 128]``, or
        ``"solver.base_lr" = {from = 1e-4, to = 1e-1, log = true}``.

        Raises :class:`SweepError` for a file that is not there or no such file.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SweepError(f"{path}: no such file") from None
        except OSError as error:
            raise SweepError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SweepError(f"{path}: expected TOML, found something else: {error}") from None
        try:
            return cls.from_values(values)
        except SweepError as error:
            raise SweepError(f"{path}: {error.message}") from None

    def over(self, other: Space) -> Space:
        """Return this space overridden by ``other``."""
        return Space({**self.values, **other.values})

    def points(self, random: int | None, seed: int) -> dict[str, Point]:
        """Return the points by the names of their folders: every combination, or ``random`` points drawn by ``seed``.

        Raises :class:`SweepError` for a space without values, for more than 10000 points, and for a range where no
        points are drawn.
        """
        if not self.values:
            raise SweepError("a sweep varies something: expected values for some name, found none")
        points = self._all_points() if random is None else self._random_points(random, seed)
        named: dict[str, Point] = {}
        for point in points:
            name = _UNSAFE.sub("_", ",".join(f"{key}={value}" for key, value in point.items()))
            named.setdefault(name if len(name) <= LONGEST else f"{len(named):04d}", point)
        return named

    def _all_points(self) -> list[Point]:
        for name, values in self.values.items():
            if isinstance(values, Range):
                argument = Argument("random")
                raise SweepError(
                    f"{name} has a range: give {argument} the number of points to draw", arguments=(argument,)
                )
        lists = [values for values in self.values.values() if not isinstance(values, Range)]
        _check_count(prod(map(len, lists)))
        return [dict(zip(self.values, chosen, strict=True)) for chosen in itertools.product(*lists)]

    def _random_points(self, count: int, seed: int) -> list[Point]:
        argument = Argument("random", str(count))
        if count < 1:
            raise SweepError(f"{argument}: expected at least one point", arguments=(argument,))
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
        """Return the number of different points. A range of integers has so many, any other enough."""
        counts = [
            len(set(values))
            if not isinstance(values, Range)
            else int(values.high) - int(values.low) + 1
            if values.whole
            else MOST_POINTS * 10
            for values in self.values.values()
        ]
        return prod(counts)


def _check_count(count: int) -> None:
    if count > MOST_POINTS:
        raise SweepError(f"expected at most {MOST_POINTS} points, found {count}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return names with their values; TOML makes tables of dotted names."""
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and not set(value) & {"from", "to"}:
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value))
    return flat


def _values(name: str, values: Any) -> Sequence[str] | Range:
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
    numbers = [table.get(key) for key in ("from", "to")]
    if (
        not set(table) <= RANGE_KEYS
        or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        or not all(isinstance(table.get(flag, False), bool) for flag in ("log", "whole"))
    ):
        raise SweepError(
            f"{name}: a range has numbers from and to, and true or false for log and whole, found {dict(table)}"
        )
    low, high = map(float, numbers)  # type: ignore[arg-type]
    bounds = Range(low, high, table.get("log", False), table.get("whole", False))
    if not low < high or (bounds.log and low <= 0) or (bounds.whole and any(n != int(n) for n in (low, high))):
        kind = "integers" if bounds.whole else "numbers"
        above = "above 0 " if bounds.log else ""
        raise SweepError(f"{name}: expected {kind} {above}of which from is the smaller, found {low:g} to {high:g}")
    return bounds


def _text(name: str, value: object) -> str:
    """Return a value as one writes it on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str) and str(value).strip():
        return str(value)
    raise SweepError(f"{name}: expected numbers, words or true and false, found {value!r}")
