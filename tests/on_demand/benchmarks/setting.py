"""How much a benchmark measures: all rows; with ``--quick`` few rounds; with ``--smallest`` one round of one row."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
SMALLEST = "--smallest" in sys.argv
QUICK = SMALLEST or "--quick" in sys.argv


def rounds(most: int, quick: int) -> int:
    """Return the number of rounds: one, ``quick``, or ``most``."""
    return 1 if SMALLEST else quick if QUICK else most


def rows(most: Sequence[T], quick: Sequence[T] | None = None) -> Sequence[T]:
    """Return the rows to measure: the first one, ``quick``, or ``most``."""
    return most[:1] if SMALLEST else quick if QUICK and quick is not None else most
