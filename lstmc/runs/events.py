"""Events of a training run: messages for people, ``command.json``, the recorder, and TensorBoard event files."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.data import Dataset
from lstmc.errors import TrainingError
from lstmc.plugins import need
from lstmc.runs.metrics import CurveDrawing, Metrics
from lstmc.version import __version__

FOLDER = "tensorboard"
RECORD = "command.json"


@dataclass(frozen=True)
class Started:
    """The run begins: the size of the data, the number of updates, and the size of the test data (None without scores).
    ``rows`` counts examples or whole batches, as ``of`` names them; a batch has ``per_batch`` rows."""

    iterations: int
    rows: int
    of: str
    per_batch: int
    shuffled: bool
    test_rows: int | None = None
    test_of: str = ""
    test_per_batch: int = 1

    def __str__(self) -> str:
        """Return the first message of a run: the size of the data, and the number of updates."""
        batches = f" in batches of {self.per_batch}" if self.of == "examples" else ""
        order = "shuffled" if self.shuffled else "in order"
        epochs = f"{self.iterations * self.per_batch / self.rows:.3g}"
        epochs += " epochs" if epochs != "1" else " epoch"
        first_line = f"training on {self.rows} {self.of}{batches}, {order}: {self.iterations} iterations, {epochs}"
        if self.test_rows is None:
            return first_line
        left_out = self.test_rows % self.test_per_batch
        whole, rest = (f" of {self.test_rows}", ": the others fill no batch") if left_out else ("", "")
        return f"{first_line}\ntest scores are means over {self.test_rows - left_out}{whole} {self.test_of}{rest}"


@dataclass(frozen=True)
class Updated:
    """One update is done, the ``iteration``-th: the loss before it, its learning rate, and its duration in seconds."""

    iteration: int
    loss: float
    rate: float
    seconds: float

    def __str__(self) -> str:
        return f"iteration {self.iteration}: loss {self.loss:.4g}, rate {self.rate:.3g}"


@dataclass(frozen=True)
class Scored:
    """The means of the model's losses and scores over the test data, after ``iteration`` updates."""

    iteration: int
    scores: Mapping[str, float]

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {score:.4g}" for name, score in self.scores.items())
        return f"iteration {self.iteration}, test: {listed}"


@dataclass(frozen=True)
class Saved:
    """A snapshot is complete and on disk: the run can resume from it."""

    iteration: int
    snapshot: Path

    def __str__(self) -> str:
        return f"iteration {self.iteration}, snapshot: {self.snapshot}"


Event = Started | Updated | Scored | Saved
Progress = Callable[[Event], object]


class Recorder:
    """The :class:`~lstmc.backend.compiled.TrainingCallbacks` that put every update and test into the metrics, draw the
    loss curve for each snapshot, and report all of them to ``progress``."""

    def __init__(
        self, metrics: Metrics, drawing: CurveDrawing, progress: Progress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics, self._drawing, self._progress, self._clock = metrics, drawing, progress, clock
        self._start = self._last = clock()  # when the run and the next update began

    def stepped(self, iteration: int, loss: float, rate: float) -> None:
        now = self._clock()
        seconds, self._last = now - self._last, now
        self._metrics.train(iteration, loss, rate, now - self._start)
        self._progress(Updated(iteration, loss, rate, seconds))

    def tested(self, iteration: int, scores: Mapping[str, float]) -> None:
        self._metrics.test(iteration, scores, self._clock() - self._start)
        self._progress(Scored(iteration, dict(scores)))
        self._last = self._clock()

    def saved(self, iteration: int, snapshot: Path) -> None:
        self._drawing.start()
        self._progress(Saved(iteration, snapshot))
        self._last = self._clock()


class EventFiles:
    """Writes each loss, learning rate and test score into ``RUN/tensorboard``: give it as ``progress``. A resumed run
    continues the files; measurements past its snapshot are hidden. Raises TrainingError without tensorboardX."""

    def __init__(self, run: Path) -> None:
        self._package = need("tensorboardX", "tensorboardX", "tensorboard", TrainingError)
        self._folder = run / FOLDER
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._add(event.iteration, {"loss/train": event.loss, "rate": event.rate})
        elif isinstance(event, Scored):
            self._add(event.iteration, {f"{name}/test": value for name, value in event.scores.items()})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, iteration: int, values: dict[str, float]) -> None:
        """Write values of an iteration; the first call creates the file."""
        if self._writer is None:
            named = f".{iteration:09d}"  # files are read in the order of their names, which count seconds
            self._writer = self._package.SummaryWriter(str(self._folder), purge_step=iteration, filename_suffix=named)
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)


def about_data(data: Dataset, name: str) -> dict[str, Any]:
    """Return the description of data: the file, the number of examples or batches, and a hash."""
    return {"file": name, data.of: data.rows, "sha256": data.fingerprint}


def record(command: str, settings: object, **facts: Any) -> dict[str, Any]:
    """Return the record of a run: its command, facts, the solver's settings, and the versions of packages."""
    is_typed = dataclasses.is_dataclass(settings) and not isinstance(settings, type)
    return {
        "command": command,
        **facts,
        "settings": dataclasses.asdict(settings) if is_typed else repr(settings),  # type: ignore[call-overload]
        "versions": {"lstmc": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def record_file(facts: dict[str, Any]) -> dict[str, bytes]:
    return {RECORD: (json.dumps(facts, indent=2, default=str) + "\n").encode()}
