"""What a solver setting takes: from Python as a value, from the command line as a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lstmc.numerals import number, whole

LARGEST = 2**31 - 1  # Caffe's counts are int32
HIGHEST = float(np.finfo(np.float32).max)


class WrongValue(Exception):
    """``must be ..., found ...``: completes a message that begins with the setting's name."""


@dataclass(frozen=True)
class Kind:
    """One kind of value. ``expected`` completes "must be"; ``convert`` and ``parse`` return None for what does not fit.

    ``parse`` makes of a text what ``convert`` takes, or None.
    """

    expected: str
    convert: Callable[[Any], Any]
    parse: Callable[[str], Any]

    def take(self, value: Any) -> Any:
        """The value in the type that it is kept in. Raises :class:`WrongValue`."""
        taken = self.convert(value)
        if taken is None:
            raise WrongValue(f"must be {self.expected}, found {value!r}")
        return taken

    def read(self, text: str) -> Any:
        """The value that a text stands for. Raises :class:`WrongValue`."""
        try:
            return self.take(self.parse(text))
        except WrongValue:
            raise WrongValue(f"must be {self.expected}, found {text!r}") from None


def _number(expected: str, fits: Callable[[np.float32], bool]) -> Kind:
    """A finite number. Caffe has it as float32, so that is what must fit: 0.99999999999 is not below 1."""

    def convert(value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            return None
        given: Any = value
        if not abs(given) <= HIGHEST:
            return None
        with np.errstate(under="ignore"):
            return float(given) if fits(np.float32(given)) else None

    return Kind(expected, convert, number)


def _whole(least: int, most: int) -> Kind:
    def convert(value: Any) -> int | None:
        fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if fits and least <= value <= most else None

    return Kind(f"an integer from {least} to {most}", convert, whole)


def one_of(names: Sequence[str]) -> Kind:
    """One of some names, in exactly this spelling."""
    return Kind(f"one of {', '.join(names)}", lambda value: value if value in tuple(names) else None, str)


def _ascending(value: Any) -> tuple[int, ...] | None:
    """Integers from 1 on, each above the one before: with others Caffe's steps come late (sgd_solver.cpp)."""
    if not isinstance(value, list | tuple) or not value:
        return None
    numbers = [COUNT.convert(item) for item in value]
    if None in numbers or any(a >= b for a, b in pairwise(numbers)):
        return None
    return tuple(numbers)


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


ABOVE_0 = _number("a number above 0", lambda x: bool(x > 0))
FROM_0 = _number("a number from 0 on", lambda x: bool(x >= 0))
BELOW_1 = _number("a number from 0 on and below 1", lambda x: bool(0 <= x < 1))
DIFFERENT_FROM_0 = _number("a number other than 0", lambda x: bool(x != 0))
COUNT = _whole(1, LARGEST)
FROM_0_COUNT = _whole(0, LARGEST)
SEED = _whole(0, 2**32 - 1)
COUNTS = Kind("integers from 1 on, each above the last", _ascending, lambda text: [whole(n) for n in text.split(",")])
FLAG = Kind("true or false", lambda value: value if isinstance(value, bool) else None, _flag)
