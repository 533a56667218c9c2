"""The passes of the backend: a product for each gate, formulas of ops that TFLite lacks, one operation a node."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from lstmc import ops
from lstmc.ir import Builder, Node
from lstmc.ops import Op, applied
from lstmc.passes import (
    CheckOps,
    Cse,
    Dead,
    Decompose,
    Expand,
    FuseLinears,
    NodePass,
    Pass,
    Precompute,
    Refs,
    Simplify,
    SplitProducts,
)
from lstmc_tflite.lowerings import lowering_of


@dataclass(frozen=True)
class SoftplusFormula(Decompose):
    """softplus(x) as max(x, 0) + ln(1 + exp(-|x|)), which cannot overflow."""

    name = "softplus_formula"
    op = ops.Softplus

    def formula(self, op: ops.Softplus, x: Any) -> Any:
        (above,), (size,) = applied(ops.Relu(), x), applied(ops.Abs(), x)
        (rest,) = applied(ops.Exp(), *applied(ops.Affine(-1.0), size))
        return above + applied(ops.Log(), *applied(ops.Affine(shift=1.0), rest))[0]


@dataclass(frozen=True)
class EluFormula(Decompose):
    """elu(x) as max(x, 0) + alpha (exp(min(x, 0)) - 1)."""

    name = "elu_formula"
    op = ops.Elu

    def formula(self, op: ops.Elu, x: Any) -> Any:
        (above,), (below,) = applied(ops.Relu(), x), applied(ops.Relu(), *applied(ops.Affine(-1.0), x))
        (rest,) = applied(ops.Exp(), *applied(ops.Affine(-1.0), below))
        return above + applied(ops.Affine(op.alpha, -op.alpha), rest)[0]


@dataclass(frozen=True)
class OneOperation(NodePass):
    """Write each affine as one operation of TFLite: s - x, s x or x + s.

    1. affine(x, scale, shift) => affine(affine(x, scale), 1, shift), unless the scale is 1 or -1
    """

    name = "one_operation"

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        op = node.op
        if type(op) is not ops.Affine or op.scale in (1, -1) or op.shift == 0:
            return None
        counts["one_operation"] += 1
        (scaled,) = b.add(ops.Affine(op.scale), *args, names=(f"{node.name}/scaled",), loc=node.loc)
        return b.add(ops.Affine(shift=op.shift), scaled, names=node.names, loc=node.loc)


def _check(op: Op) -> None:
    if not isinstance(op, ops.Full):  # a constant
        lowering_of(op)


PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), FuseLinears(), SplitProducts()),
    *(SoftplusFormula(), EluFormula(), Simplify(), Cse(), Dead(), Precompute(), OneOperation(), Dead()),
    *(CheckOps("TFLite", _check), Expand(), Dead()),
)
