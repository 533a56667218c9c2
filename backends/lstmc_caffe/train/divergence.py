"""When a loss has gone wrong, and what to try then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np

from lstmc.ops import Array
from lstmc_caffe.train.solver import Solver

FIRST = 10
TIMES = 1e3


@dataclass
class LossWatch:
    """Knows a run by its first losses: a later one runs away when it is over 1000 times the larger of 1 and their mean.

    ``first`` holds up to ten; until there are ten, the mean is of those so far.
    """

    first: list[float]

    def problem(self, loss: float) -> str | None:
        """What is wrong with the next loss, in words that follow "the loss of iteration 7", or None."""
        if not isfinite(loss):
            return f"is {loss}"
        if self.first:
            mean = sum(abs(value) for value in self.first) / len(self.first)
            if abs(loss) > TIMES * max(1.0, mean):
                return f"is {loss:g}: it runs away, the mean of the first {len(self.first)} is {mean:g}"
        if len(self.first) < FIRST:
            self.first.append(loss)
        return None


def what_to_try(solver: Solver, batch: Mapping[str, Array]) -> tuple[str, ...]:
    """Lines of advice; where the batch itself is not finite, that and nothing else."""
    bad = [name for name, array in batch.items() if not np.isfinite(array).all()]
    if bad:
        return (f"its batch has NaN or infinity in {', '.join(bad)}: check the data",)
    clip = "clip_gradients=5" if solver.clip_gradients is None else f"clip_gradients below {solver.clip_gradients:g}"
    return (f"try base_lr below {solver.base_lr:g}, {clip}, or smaller first weights",)
