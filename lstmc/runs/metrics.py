"""``metrics.jsonl``: the measurements of a run, a line of JSON for each update and each test; divergence of a loss.
Also curves of runs, drawn during training in another process, ``python -m lstmc.runs.metrics RUN``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from pydantic import Field

from lstmc.errors import DrawingError, LstmcError, OutputError
from lstmc.files.json_file import Count, NotExpected, Number, parse_json
from lstmc.files.output import write_files
from lstmc.plugins import need

METRICS = "metrics.jsonl"
Record = dict[str, Any]
Measured = Number | None  # None stands for what is not finite
FIRST = 10  # losses with whose mean later losses are compared
TIMES = 1e3  # a loss of so many times this mean diverges
FORMATS = ("png", "svg", "pdf")  # of pictures
PROGRAM = "lstmc.runs.metrics"  # this module, which draws CURVES
CURVES = ("loss.png", "loss.svg")
ROOT = Path(__file__).parents[2]  # where the package lstmc is


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
    """The file, open for adding lines; each line is flushed before the next measurement. A resumed run first removes
    the lines past its snapshot: they will be measured again."""

    def __init__(self, folder: Path, resume: bool = False, beside: Mapping[str, bytes] = {}) -> None:
        """``beside`` are files to write with the first line: only then the run has begun."""
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
        return self._file is not None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, kind: str, iteration: int, measured: Record) -> None:
        """Add a record as a line. The first record of a resumed run removes the lines from its iteration on."""
        record = {"kind": kind, "iteration": iteration, **measured}
        try:
            if self._file is None:
                kept = [r for r in read_metrics(self.path) if _order(r) < _order(record)] if self._resume else []
                lines = "".join(map(_line, kept)).encode()
                write_files(self.path.parent, {METRICS: lines, **self._beside})
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(_line(record))
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from None


class Smoothed:
    """A running mean, unbiased from the start. A value ``window`` steps back has a third of the newest one's weight."""

    def __init__(self, window: float) -> None:
        self._keep = 1 - 1 / max(window, 1)
        self._sum = self._weight = 0.0

    def add(self, number: float) -> float:
        self._sum = self._keep * self._sum + number
        self._weight = self._keep * self._weight + 1
        return self._sum / self._weight


def run_seconds(records: Iterable[Record]) -> float:
    """Return the duration of a run. The seconds of records begin at 0 again in each process that resumes the run."""
    total = last = 0.0
    for record in records:
        if record["seconds"] < last:
            total += last
        last = record["seconds"]
    return total + last


def read_metrics(path: Path) -> list[Record]:
    """Return the records of a file, none if it does not exist, without damaged lines, such as a killed run's last."""
    records = list[Record]()
    for line in path.read_bytes().splitlines() if os.path.isfile(path) else ():
        with suppress(NotExpected):
            records.append(asdict(parse_json(line, Line)))  # type: ignore[arg-type]  # to mypy a union is no type
    return records


def _order(record: Record) -> tuple[int, bool]:
    """Return the key that orders records: a test after k updates comes after the k-th update."""
    return record["iteration"], record["kind"] == "test"


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN and no infinity."""
    return value if isfinite(value) else None


@dataclass
class LossWatch:
    """A watch for divergence: a loss diverges when it is over 1000 times the larger of 1 and the mean of the first
    losses.
    ``first`` holds the first losses, at most ten; before the tenth the mean is that of the losses so far."""

    first: list[float]

    def problem(self, loss: float) -> str | None:
        """Return the problem of the next loss, in words after "the loss of iteration 7", or None if it is normal."""
        if not isfinite(loss):
            return f"is {loss}"
        if self.first:
            mean = sum(abs(value) for value in self.first) / len(self.first)
            if abs(loss) > TIMES * max(1.0, mean):
                return f"is {loss:g}: it diverges: the mean of the first {len(self.first)} is {mean:g}"
        if len(self.first) < FIRST:
            self.first.append(loss)
        return None


def plot_runs(folders: Sequence[Path], to: Path) -> Path:
    """Draw the losses and scores of runs, whose folders are given, into one file. The file's suffix names the format.
    Raises DrawingError for a folder without metrics, for another suffix, and without the package matplotlib."""
    form = to.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        expected = ", ".join(f".{each}" for each in FORMATS)
        raise DrawingError(f"{to}: expected a file that ends in one of {expected}, found {to.suffix or 'none'}")
    runs = {name: read_metrics(folder / METRICS) for name, folder in _names(folders).items()}
    empty = [str(folder) for folder, records in zip(folders, runs.values(), strict=True) if not records]
    if empty:
        raise DrawingError(f"expected the folder of a run, with {METRICS} in it, found none in {', '.join(empty)}")
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    return write_files(to.parent, {to.name: curves.figure_files(runs, [form])[form]})[0]


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Return each run's folder by the folder's name, or by its path below the common folder if two have one name."""
    paths = [folder.resolve() for folder in folders]
    short = [path.name for path in paths]
    if len(set(short)) < len(short):
        parent = os.path.commonpath(paths)
        short = [os.path.relpath(path, parent) for path in paths]
    return dict(zip(short, folders, strict=True))


class CurveDrawing:
    """Draws curves in a process of its own, one drawing at a time: a request in the meantime is ignored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._last_state = (0, 0)  # what was recorded as the process began

    def start(self) -> None:
        """Begin a drawing unless one is in progress."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._process.communicate()  # closes its pipe
        self._process = self._begin()

    def finish(self) -> str | None:
        """Draw all metrics, unless nothing was recorded since the last drawing began, and wait for the drawing. Return
        the reason if it failed, or None. A failed drawing does not fail the run."""
        last = self._process
        stderr = "" if last is None else last.communicate()[1]
        if last is None or self._metrics_state() != self._last_state:
            last = self._begin()
            stderr = last.communicate()[1]
        lines = stderr.strip().splitlines() or [f"exit status {last.returncode}"]
        return f"the loss curve could not be drawn: {lines[-1]}" if last.returncode else None

    def _metrics_state(self) -> tuple[int, int]:
        """Return the length and the time of the metrics' file, which change with each record."""
        with suppress(OSError):
            status = (self._folder / METRICS).stat()
            return status.st_size, status.st_mtime_ns
        return 0, 0

    def _begin(self) -> subprocess.Popen[str]:
        """Start a process that draws the metrics."""
        self._last_state = self._metrics_state()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM, str(self._folder)],  # -P: a user's file must not hide a module
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is not meant for it
        )


def draw(folder: Path) -> list[Path]:
    """Draw the metrics of a run, if there are any, beside them. Raises :class:`DrawingError` without matplotlib."""
    records = read_metrics(folder / METRICS)
    if not records:
        return []
    forms = {name: name.rpartition(".")[2] for name in CURVES}
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    pictures = curves.figure_files({folder.resolve().name: records}, forms.values())
    return write_files(folder, {name: pictures[form] for name, form in forms.items()})


if __name__ == "__main__":
    try:
        draw(Path(sys.argv[1]))
    except LstmcError as error:
        sys.exit(error.message)
