"""When a loss has gone wrong."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

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
                return f"is {loss:g}: it diverges: the mean of the first {len(self.first)} is {mean:g}"
        if len(self.first) < FIRST:
            self.first.append(loss)
        return None
