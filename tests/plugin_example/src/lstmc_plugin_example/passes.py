"""A pass that writes the op in core ops, where ONNX has no operator for it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from lstmc.ops import Array, Exp, applied
from lstmc.passes import Decompose, Insertion
from lstmc_plugin_example.ops import Exponential


@dataclass(frozen=True)
class ExponentialAsExp(Decompose):
    """A power with a variable exponent is an exponential.

    1. exponential(x, base) => exp(log(base) * x)
    """

    name = "exponential_as_exp"
    op = Exponential

    def formula(self, op: Exponential, x: Array) -> Array:
        return applied(Exp(), log(op.base) * x)[0]


EXPONENTIAL_AS_EXP = Insertion(ExponentialAsExp(), before="simplify:1", backend="onnx")
