"""What a run tells while it trains; ``str(event)`` is a line for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Started:
    """The run begins: how much data there is, how often it will be seen, and what scores are means over.

    ``rows`` are examples, or whole batches, as ``of`` says; a batch has ``per_batch`` of them. ``test_rows`` is None
    where nothing is scored.
    """

    iterations: int
    rows: int
    of: str
    per_batch: int
    shuffled: bool
    test_rows: int | None = None
    test_of: str = ""
    test_per_batch: int = 1

    def __str__(self) -> str:
        batches = f" in batches of {self.per_batch}" if self.of == "examples" else ""
        order = "shuffled" if self.shuffled else "in order"
        epochs = self.iterations * self.per_batch / self.rows
        said = f"training on {self.rows} {self.of}{batches}, {order}: {self.iterations} iterations, {epochs:.3g} epochs"
        if self.test_rows is None:
            return said
        left_out = self.test_rows % self.test_per_batch
        whole, rest = (f" of {self.test_rows}", ": the others fill no batch") if left_out else ("", "")
        return f"{said}\ntest scores are means over {self.test_rows - left_out}{whole} {self.test_of}{rest}"


@dataclass(frozen=True)
class Updated:
    """One update is done, the ``iteration``-th: the loss it went down from, its rate, and the seconds it took."""

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
    """A snapshot is whole and on disk: the run can go on from it."""

    iteration: int
    snapshot: Path

    def __str__(self) -> str:
        return f"iteration {self.iteration}, snapshot: {self.snapshot}"


Event = Started | Updated | Scored | Saved
Progress = Callable[[Event], object]
