"""Random choices (``lstmc.ops.Draw``) of hypothesis, which can shrink them.

What hypothesis draws is much alike from one example to the next; what a generator draws is independent: see
``lstmc.testing.SeededDraw``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


@dataclass(frozen=True)
class HypothesisDraw:
    draw: Callable[[st.SearchStrategy[Any]], Any]

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def choice(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]
