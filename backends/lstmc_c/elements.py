"""C for one element of a value: numbers, identifiers, and the expression of each op on elements."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from math import isfinite, isnan

from lstmc.files.output import shortest
from lstmc.loops.loop_code import Language
from lstmc.loops.memory import KEYWORDS
from lstmc.ops import StopGradient
from lstmc.text import Names


def number(value: float) -> str:
    """Return a float32 constant of C, to the bit."""
    if not isfinite(value):
        return f"of_bits(0x{0x7FC00000 if isnan(value) else 0x7F800000 if value > 0 else 0xFF800000:x}u)"
    return f"{shortest(value)!r}f"


def operand(value: float) -> str:
    """Return a constant as an operand, in parentheses where it begins with a sign."""
    return f"({number(value)})" if value < 0 else number(value)


def _power(exponent: float, x: str) -> str:
    if exponent == 0:
        return "1.0f"
    if exponent != int(exponent):
        return f"pow_({x}, {number(exponent)})"
    sign = f"({x} < 0.0f ? -1.0f : 1.0f) * " if exponent % 2 else ""
    return f"{sign}pow_({x} < 0.0f ? -{x} : {x}, {number(exponent)})"


HEADER = files("lstmc_c").joinpath("functions.h").read_text(encoding="utf-8")
C = Language(
    operand,
    HEADER,
    {
        **{name: f"{name}_({{0}})" for name in ("expm1", "log", "sqrt", "round")},
        "relu": "({0} < 0.0f ? 0.0f : {0})",
        "abs": "({0} < 0.0f ? -{0} : {0})",
        "sin": "sine({0}, 0)",
        "cos": "sine({0}, 1)",
    },
    8,
    _power,
)
ELEMENTS = {op: expression for op, expression in C.expressions().items() if op is not StopGradient}


def _spelled(name: str) -> str:
    base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
    return f"v{base}" if base[0].isdecimal() else base


def c_names(taken: Iterable[str] = ()) -> Names:
    """Return unique identifiers of C, and of C++, for names of any characters."""
    counters = re.compile(r"i\d+")
    return Names({*KEYWORDS, "size_t", "int32_t", "uint32_t", *taken}, _spelled, counters.fullmatch)


def identifier(name: str) -> str:
    """Return the prefix of a net's names in C."""
    return c_names().unique(name)
