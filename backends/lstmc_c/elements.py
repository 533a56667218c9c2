"""Parts of generated C: numbers, identifiers, and an expression for each elementwise op."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from math import isfinite, isnan

from lstmc.files.format import shortest
from lstmc.loops.loop_code import header_functions
from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Cos,
    Elu,
    Exp,
    LeakyRelu,
    Log,
    Maximum,
    Mul,
    Op,
    Positive,
    Power,
    Relu,
    Round,
    Sin,
    Sub,
    Tanh,
)
from lstmc.text import unused


def number(value: float) -> str:
    """Return a float32 constant of C, to the bit."""
    if not isfinite(value):
        return f"of_bits(0x{0x7FC00000 if isnan(value) else 0x7F800000 if value > 0 else 0xFF800000:x}u)"
    return f"{shortest(value)!r}f"


def operand(value: float) -> str:
    """Return a constant as an operand, in parentheses where it begins with a sign."""
    return f"({number(value)})" if value < 0 else number(value)


def _power(op: Power, x: str) -> str:
    exponent = op.exponent
    if exponent == int(exponent) and 1 <= abs(exponent) <= 8:
        product = " * ".join([x] * int(abs(exponent)))
        return product if exponent > 0 else f"1.0f / ({product})"
    special = {0.0: "1.0f", 0.5: f"sqrt_({x})", -0.5: f"1.0f / sqrt_({x})"}
    if exponent in special:
        return special[exponent]
    if exponent != int(exponent):
        return f"pow_({x}, {number(exponent)})"
    sign = f"({x} < 0.0f ? -1.0f : 1.0f) * " if exponent % 2 else ""
    return f"{sign}pow_({x} < 0.0f ? -{x} : {x}, {number(exponent)})"


def _affine(op: Affine, x: str) -> str:
    scaled = {1.0: x, -1.0: f"-{x}"}.get(op.scale, f"{number(op.scale)} * {x}")
    return f"{scaled} + {number(op.shift)}" if op.shift else scaled


HEADER = files("lstmc_c").joinpath("functions.h").read_text(encoding="utf-8")

# An element of a result from an element of each operand.
ELEMENTS: Mapping[type[Op], Callable[..., str]] = {
    **header_functions(HEADER),
    Tanh: lambda op, x: f"tanh_({x})",
    Relu: lambda op, x: f"{x} < 0.0f ? 0.0f : {x}",
    LeakyRelu: lambda op, x: f"{x} > 0.0f ? {x} : {number(op.slope)} * {x}",
    Positive: lambda op, x: f"{x} > 0.0f ? 1.0f : 0.0f",
    Elu: lambda op, x: f"{x} > 0.0f ? {x} : {number(op.alpha)} * expm1_({x})",
    Abs: lambda op, x: f"{x} < 0.0f ? -{x} : {x}",
    Exp: lambda op, x: f"exp_({x})",
    Log: lambda op, x: f"log_({x})",
    Sin: lambda op, x: f"sine({x}, 0)",
    Cos: lambda op, x: f"sine({x}, 1)",
    Power: _power,
    Round: lambda op, x: f"round_({x})",
    Affine: _affine,
    Add: lambda op, x, y: f"{x} + {y}",
    Sub: lambda op, x, y: f"{x} - {y}",
    Mul: lambda op, x, y: f"{x} * {y}",
    Maximum: lambda op, x, y: f"{x} > {y} || {x} != {x} ? {x} : {y}",
}
# Of C, of C++, and of the headers that generated code includes.
KEYWORDS = frozenset(
    """
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype
    default delete do double else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not nullptr operator or private protected public register restrict return short signed
    sizeof static struct switch template this throw true try typedef typeid typename union unsigned using virtual void
    volatile wchar_t while xor size_t int32_t uint32_t
    """.split()  # noqa: SIM905
)


class Names:
    """Unique identifiers of C, and of C++, for names of any characters."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.used = {*KEYWORDS, *reserved}

    def unique(self, name: str) -> str:
        """Return an identifier like ``name``, with a number appended where it is used."""
        base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
        base = f"v{base}" if base[0].isdecimal() else base
        fresh = unused(base, self.used.__contains__)
        self.used.add(fresh)
        return fresh


def identifier(name: str) -> str:
    """Return the prefix of a net's names in C."""
    return Names().unique(name)
