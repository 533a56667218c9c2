"""What a run measures as event files that TensorBoard shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstmc.errors import TrainingError
from lstmc.extras import need
from lstmc.runs.events import Event, Scored, Updated

FOLDER = "tensorboard"


class EventFiles:
    """Writes each loss, learning rate and test score into ``RUN/tensorboard``: give it as ``progress``.

    A run that goes on writes on: what was measured past its snapshot is shown no more. Raises :class:`TrainingError`
    without the package tensorboardX.
    """

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
        if self._writer is None:
            named = f".{iteration:09d}"  # files are read in the order of their names, which count seconds
            self._writer = self._package.SummaryWriter(str(self._folder), purge_step=iteration, filename_suffix=named)
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)
