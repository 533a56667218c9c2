"""The interface of training to a backend: the request with its batches, the callbacks while it runs, and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lstmc.ops import Array


class Batches(Protocol):
    """The arrays of each iteration by the model's input names: the same for the same iteration, whenever asked.

    Here iterations count from 0: the updates that were done before.
    """

    per_epoch: int  # after so many batches every example has been seen once

    @property
    def fingerprint(self) -> str:
        """A hash of the data and their order."""
        ...

    def batch(self, iteration: int) -> dict[str, Array]: ...


@dataclass(frozen=True)
class TrainingData:
    """The training data and the test data of a net trained without lstmc; None: the same."""

    train: Batches
    test: Batches | None = None


class TrainingCallbacks(Protocol):
    """The listener of a training. Iterations count the solver's updates from 1."""

    def stepped(self, iteration: int, loss: float, rate: float) -> None:
        """Report one update: the loss before it, and its learning rate."""
        ...

    def tested(self, iteration: int, scores: Mapping[str, float]) -> None:
        """Report the means of the model's losses and scores over the test batches."""
        ...

    def saved(self, iteration: int, snapshot: Path) -> None:
        """Report a snapshot that is complete and on disk."""
        ...


@dataclass(frozen=True)
class TrainingRequest:
    """The request to a backend that trains; the number of updates is in the backend's own settings.

    ``resume`` goes on with the run in ``folder``; ``overwrite`` sets it aside and begins anew. ``stop`` is asked after
    every iteration; where it says True a snapshot is written and the run ends.
    """

    folder: Path
    batches: Batches
    test_batches: Batches | None
    callbacks: TrainingCallbacks
    stop: Callable[[], bool]
    resume: bool = False
    overwrite: bool = False
    gpu: bool = False


@dataclass(frozen=True)
class Trained:
    """The result of a run: how it ended, and the parameters by the model's own names and shapes."""

    iteration: int
    ended: Literal["finished", "stopped"]
    weights: dict[str, Array]
    snapshot: Path
