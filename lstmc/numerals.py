"""Numbers as people and other programs write them: ASCII digits, and not without end."""

from __future__ import annotations

import re
from math import inf, isfinite

import numpy as np

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")


def whole(text: str) -> int | None:
    """An integer; None for anything else, and for more than 19 digits."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """A finite number in decimals, with or without an exponent; None for anything else."""
    made = float(text) if _NUMBER.fullmatch(text) else inf
    return made if isfinite(made) else None


def shortest(value: float) -> float:
    """The number of the fewest digits that is this one as a float32: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(value)))
