"""Constants of a graph, which are rounded, as fractions."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isfinite
from typing import Any

Rational = int | Fraction
LOST = 2.0**-120  # constants below it are 0: divisions add FLT_MIN to divisors that may be 0


class NoRule(Exception):
    """An op does something with numbers that symbols cannot: a comparison that decides, a number as an index."""


@lru_cache(maxsize=4096)
def rational(value: Any) -> Rational:
    """Return a constant of a graph: of a float the simplest fraction that differs from it by rounding alone.

    So 0.1 is 1/10, and so is the float 0.1 * 3 / 3. One that is lost beside any normal float is 0. Raises
    :class:`NoRule` for one that is not finite.
    """
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else value
    if not isfinite(value):
        raise NoRule(f"it computes with {float(value)}")
    exact = Fraction(float(value)) if abs(value) >= LOST else Fraction(0)
    if exact.denominator == 1:
        return exact.numerator
    margin = abs(exact) / 2**50
    nearest = _simplest(abs(exact) - margin, abs(exact) + margin)
    return rational(nearest if exact > 0 else -nearest)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction with the least denominator between two positive ones."""
    whole = low.numerator // low.denominator
    if whole == low or whole + 1 <= high:
        return Fraction(whole if whole == low else whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


def constant_power(value: Rational, exponent: Rational) -> Rational:
    """Return value ** exponent. Raises :class:`NoRule` for a division by 0, and for a root of a negative number."""
    if exponent == int(exponent):
        if value == 0 and exponent < 0:
            raise NoRule("it divides by 0")
        return rational(Fraction(value) ** int(exponent))
    if value < 0:
        raise NoRule(f"it takes a root of {float(value)}")
    return rational(float(value) ** float(exponent))
