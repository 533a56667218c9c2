"""What a backend tells while it trains, written down, and told on as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lstmc.runs.drawing import CurveDrawing
from lstmc.runs.events import Progress, Saved, Scored, Updated
from lstmc.runs.metrics import Metrics

Clock = Callable[[], float]


class Recorder:
    """The :class:`~lstmc.data.request.TrainingCallbacks` that put every update and test into the metrics, draw the
    loss curve for each snapshot, and report all of them to ``progress``."""

    def __init__(
        self, metrics: Metrics, drawing: CurveDrawing, progress: Progress, clock: Clock = time.monotonic
    ) -> None:
        self._metrics, self._drawing, self._progress, self._clock = metrics, drawing, progress, clock
        self._start = self._last = clock()

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
