"""``metrics.jsonl``: the measurements of a run, a line of JSON for each update and each test; divergence of a loss."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from pydantic import Field

from lstmc.errors import OutputError
from lstmc.files.json_file import Count, NotExpected, Number, parse_json
from lstmc.files.output import write_files

METRICS = "metrics.jsonl"
Record = dict[str, Any]
Measured = Number | None  # None stands for what is not finite


@dataclass(frozen=True)
class TrainLine:
    """An update."""

    kind: Literal["train"]
    iteration: Count
    loss: Measured
    rate: Measured
    seconds: Number


@dataclass(frozen=True)
class TestLine:
    """A test."""

    kind: Literal["test"]
    iteration: Count
    scores: dict[str, Measured]
    seconds: Number


Line = Annotated[TrainLine | TestLine, Field(discriminator="kind")]


class Metrics:
    """The file, open for adding lines; each is on its way to the disk before the next is measured.

    A run that goes on first loses the lines past the snapshot that it goes on from: they will be measured again.
    """

    def __init__(self, folder: Path, resume: bool = False, beside: Mapping[str, bytes] = {}) -> None:
        """``beside`` are files to write when the first line is: until then it is not known that the run begins."""
        self.path = folder / METRICS
        self._resume, self._beside = resume, beside
        self._file: TextIO | None = None

    def train(self, iteration: int, loss: float, rate: float, seconds: float) -> None:
        """One update: the loss before it, its learning rate, and the seconds since the run began."""
        self._add("train", iteration, {"loss": _number(loss), "rate": rate, "seconds": round(seconds, 3)})

    def test(self, iteration: int, scores: Mapping[str, float], seconds: float) -> None:
        """The scores over the test data after ``iteration`` updates."""
        numbers = {name: _number(score) for name, score in scores.items()}
        self._add("test", iteration, {"scores": numbers, "seconds": round(seconds, 3)})

    @property
    def has_lines(self) -> bool:
        """Whether this run has measured something."""
        return self._file is not None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, kind: str, iteration: int, measured: Record) -> None:
        record = {"kind": kind, "iteration": iteration, **measured}
        if self._file is None:
            kept = [r for r in read_metrics(self.path) if _order(r) < _order(record)] if self._resume else []
            lines = "".join(map(_line, kept)).encode()
            write_files(self.path.parent, {METRICS: lines, **self._beside})
            self._file = _opened(self.path)
        try:
            self._file.write(_line(record))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None


class Smoothed:
    """A running mean in which a number ``window`` steps ago has a third of the weight; unbiased from the first on."""

    def __init__(self, window: float) -> None:
        self._keep = 1 - 1 / max(window, 1)
        self._sum = self._weight = 0.0

    def add(self, number: float) -> float:
        self._sum = self._keep * self._sum + number
        self._weight = self._keep * self._weight + 1
        return self._sum / self._weight


def run_seconds(records: Iterable[Record]) -> float:
    """Return the duration of a run. A process that resumes it counts its seconds from 0 again."""
    total = last = 0.0
    for record in records:
        if record["seconds"] < last:
            total += last
        last = record["seconds"]
    return total + last


def read_metrics(path: Path) -> list[Record]:
    """Return the records of a file, empty if it does not exist. A damaged line, as a killed run's last, is left out."""
    return list(_records(path.read_bytes()) if os.path.isfile(path) else ())


def _records(content: bytes) -> Iterator[Record]:
    for line in content.splitlines():
        with suppress(NotExpected):
            yield asdict(parse_json(line, Line))  # type: ignore[arg-type]  # to mypy a union is no type


def _order(record: Record) -> tuple[int, bool]:
    """Return the key that orders records: a test after k updates comes after the k-th update."""
    return record["iteration"], record["kind"] == "test"


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


FIRST = 10
TIMES = 1e3


@dataclass
class LossWatch:
    """A watch for divergence: a loss diverges when it is over 1000 times the larger of 1 and the mean of the first
    losses.

    ``first`` holds up to ten; until there are ten, the mean is of those so far.
    """

    first: list[float]

    def problem(self, loss: float) -> str | None:
        """Return the fault of the next loss, in words that follow "the loss of iteration 7", or None."""
        if not isfinite(loss):
            return f"is {loss}"
        if self.first:
            mean = sum(abs(value) for value in self.first) / len(self.first)
            if abs(loss) > TIMES * max(1.0, mean):
                return f"is {loss:g}: it diverges: the mean of the first {len(self.first)} is {mean:g}"
        if len(self.first) < FIRST:
            self.first.append(loss)
        return None
