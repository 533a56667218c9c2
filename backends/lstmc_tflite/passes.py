"""The passes of the backend: a product for each gate, formulas of ops that TFLite lacks, one operation a node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstmc import ops
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref
from lstmc.ir.rebuild import renewed
from lstmc.numerics.sequences import constants
from lstmc.numerics.tflite import JOINS, Requantize, keeps_bits
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
    PassResult,
    Precompute,
    Refs,
    Simplify,
    SplitProducts,
    result,
)
from lstmc_tflite.lowerings import lowerings


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


@dataclass(frozen=True)
class SumsAsProducts(NodePass):
    """Write sums as products with ones: LiteRT has no SUM of 16 bits, and its reference kernel of 8 bits is wrong.

    1. sum(x, axis) => reshape(linear(x with this axis last, 1))
    """

    name = "sums_as_products"

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        op = node.op
        if not isinstance(op, ops.Sum):
            return None
        counts["sum_as_product"] += 1
        (x,), last = args, b.type(args[0]).rank - 1
        size = b.type(x).shape[op.axis]
        for axis in range(op.axis, last):
            (x,) = b.add(ops.Transpose(axis), x, names=(f"{node.name}/turned{axis}",), loc=node.loc)
        (ones,) = b.add(ops.Full((1, size), 1.0), names=(f"{node.name}/ones",), loc=node.loc)
        (total,) = b.add(ops.Linear(axis=last), x, ones, names=(f"{node.name}/product",), loc=node.loc)
        return b.add(ops.Reshape(node.types[0].shape), total, names=node.names, loc=node.loc)


@dataclass(frozen=True)
class Widths(Pass):
    """Put states, the values that are added to or multiplied with them, and logistic and tanh of these, in 16 bits, and
    all other values in 8 bits.

    1. a value that an op reads in the other size => requantize(value)

    ``states`` are pairs of an input and the output that it takes at the next step.
    """

    states: tuple[tuple[str, str], ...] = ()
    name = "widths"

    def for_states(self, after: Mapping[str, str]) -> Widths:
        return Widths(tuple(after.items()))

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        fixed, states = constants(graph), dict(self.states)
        wide, casts = set[Ref](), dict[tuple[Ref, bool], Ref]()
        rebuild = Rebuild(graph)

        def cast(ref: Ref, to: bool) -> Ref:
            if (ref in wide) == to or ref.node in kept:
                return ref
            if (ref, to) not in casts:
                counts["requantize"] += 1
                bits, node = (16 if to else 8), rebuild.builder.node(ref.node)
                names = (f"{node.names[ref.out]}/{bits}",)
                (casts[ref, to],) = rebuild.builder.add(Requantize(bits), ref, names=names, loc=node.loc)
                wide.update([casts[ref, to]] if to else [])
            return casts[ref, to]

        kept = set[str]()
        for node in graph:
            args = rebuild.args(node)
            if node.name in fixed or isinstance(node.op, ops.Input):
                refs = rebuild.copy(node)
                kept.update(ref.node for ref in refs if node.name in fixed)
                wide.update(refs if node.name in states else ())
                continue
            among = [ref in wide for ref in args if ref.node not in kept]
            is_wide = keeps_bits(node.op) and (all if isinstance(node.op, JOINS) else any)(among)
            refs = rebuild.copy(node, [cast(ref, is_wide) for ref in args])
            wide.update(refs if is_wide else ())
        outputs = renewed(graph.outputs, rebuild.new)
        done = [o._replace(ref=cast(o.ref, True)) if o.name in states.values() else o for o in outputs]
        return result(graph, rebuild.builder.finish(done), counts)


def _check(op: Op) -> None:
    if not isinstance(op, ops.Full):  # a constant
        lowerings.of(op)


PASSES: tuple[Pass, ...] = (
    *(Simplify(), Cse(), Dead(), FuseLinears(), SplitProducts()),
    *(SoftplusFormula(), EluFormula(), Simplify(), Cse(), Dead(), Precompute(), OneOperation(), Dead()),
    *(CheckOps("TFLite", _check), Expand(), Dead()),
)
INTEGERS: tuple[Pass, ...] = (*PASSES, SumsAsProducts(), Dead())
WIDER_STATES: tuple[Pass, ...] = (*INTEGERS, Widths())
