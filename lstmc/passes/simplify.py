"""Simplification: algebraic rules that hold exactly and leave fewer layers, common subexpressions, and dead code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from lstmc import ops
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, reshape_source, reshaped
from lstmc.ops import Pointwise
from lstmc.ops.layers import Pool
from lstmc.passes.base import Pass, PassResult, Refs, Visit, in_bodies, result, rewrite, rewrite_all

__all__ = ["Cse", "Dead", "Simplify"]


@dataclass(frozen=True)
class Simplify(Pass):
    """Use the rules below until none applies, in the model and in every scan body.

    1. affine(x, 1, 0)                  => x
    2. affine(affine(x))                => affine(x), scales and shifts combined
    3. x + c, x - c, x * c (c a full array) => affine(x)
    4. f(full)  (pointwise, softmax)    => full, where the value is finite
    5. x * 0, 0 * x, affine(x, 0, c)    => full
    6. linear(0, W), linear(x, 0, b), conv(0, W) => 0, b broadcast, 0
    7. (0 + b) + y                      => y + b
    8. reshape to its own shape; reshape(reshape(x)) => x; one reshape
    9. linear(reshape(x)) that flattens => linear(x)
    10. split or concat of one piece    => x
    11. split(concat(xs)) with the same cuts; concat(split(x)) in order => xs; x
    12. split, reshape, concat, transpose of full arrays => full
    13. power(x, 1), power(x, 0)        => x, 1
    14. relu(relu(x))                   => relu(x)
    15. pooling of windows of one element => x
    16. x + x, affine(x) - x, ...       => affine(x), scales and shifts added

    Exact: results differ at most where an input is not finite (0 * inf is taken as 0).

    Terminates: each rule replaces a node by operands of it and by new nodes of less weight, which is the sum of the
    operands' weights and the op's own: 0 of a leaf, 2 of a binary op, 3 of linear, 1 of any other. So the multiset of
    the weights of all nodes gets smaller (Dershowitz and Manna, 1979), and no sequence of rules is endless.
    """

    name = "simplify"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, simplified(graph, counts), counts)


def simplified(graph: Graph, counts: Counter[str]) -> Graph:
    """Return the graph after using the rules until none applies. ``counts`` counts the uses of each rule."""
    return rewrite_all(graph, lambda b, node, args: _visit(b, node, args, counts), counts)


def _visit(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Return what the first rule that applies puts in place of a node, or None; the bodies of a scan are simplified."""
    if isinstance(node.op, Scan):
        scan = in_bodies(node.op, lambda body: simplified(body, counts))
        return b.add(scan, *args, names=node.names, loc=node.loc)
    for rule in RULES:
        if (rewritten := rule(b, node, args)) is not None:
            counts[rule.__name__] += 1
            return rewritten
    return None


def _full_value(b: Builder, ref: Ref) -> float | None:
    """Return the number that fills a value, or None if the value is not an array of equal constant numbers."""
    op = b.node(ref.node).op
    return op.value if isinstance(op, ops.Full) else None


def drop_identity_affine(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Rule 1: replace an affine of scale 1 and shift 0 by its operand."""
    return args if node.op == ops.Affine(1.0, 0.0) else None


def merge_affines(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write an affine of an affine as one affine, if its scale and shift are finite numbers."""
    if not isinstance(node.op, ops.Affine) or not isinstance(b.node(args[0].node).op, ops.Affine):
        return None
    x, inner = _multiple(b, args[0])
    merged = ops.Affine(node.op.scale * inner.scale, node.op.scale * inner.shift + node.op.shift)
    return b.copy(node, (x,), merged) if isfinite(merged.scale) and isfinite(merged.shift) else None


def absorb_full_operand(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write a sum, difference or product of x and an array of equal numbers as affine, if x has the result's type."""
    if not isinstance(node.op, ops.Add | ops.Sub | ops.Mul):
        return None
    for kept, other in ((0, 1), (1, 0)):
        value = _full_value(b, args[other])
        if value is None or b.type(args[kept]) != node.types[0]:
            continue
        scale, shift = (1.0, -value) if other == 1 else (-1.0, value)  # of a difference
        if not isinstance(node.op, ops.Sub):
            scale, shift = (value, 0.0) if isinstance(node.op, ops.Mul) else (1.0, value)
        return b.copy(node, (args[kept],), ops.Affine(scale, shift))
    return None


def fold_function_of_full(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write an elementwise function or softmax of an array of equal numbers as an array of the finite result."""
    if not isinstance(node.op, Pointwise | ops.Softmax):
        return None
    if (value := _full_value(b, args[0])) is None:
        return None
    with np.errstate(all="ignore"):
        (folded,) = node.op.eval(np.full(node.types[0].shape, value))
    first = float(folded.flat[0])
    return b.copy(node, (), ops.Full(node.types[0].shape, first)) if isfinite(first) else None


def fold_zero_product(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write a product with zeros as zeros, and an affine with scale 0 as an array filled with its shift."""
    if isinstance(node.op, ops.Affine) and node.op.scale == 0:
        return b.copy(node, (), ops.Full(node.types[0].shape, node.op.shift))
    if isinstance(node.op, ops.Mul) and 0.0 in (_full_value(b, args[0]), _full_value(b, args[1])):
        return b.copy(node, (), ops.Full(node.types[0].shape, 0.0))
    return None


def fold_product_of_zero(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write a linear of a zero input or weight as zeros plus any bias; a convolution of it without bias as zeros."""
    without_bias = isinstance(node.op, ops.Conv) and len(args) == 2
    zeros = [_full_value(b, ref) for ref in args[:2]] if isinstance(node.op, ops.Linear) or without_bias else []
    if 0.0 not in zeros:
        return None
    zero = ops.Full(node.types[0].shape, 0.0)
    if len(args) == 2:
        return b.copy(node, (), zero)
    return b.copy(node, (*b.add(zero, loc=node.loc), args[2]), ops.Add())


def add_without_broadcast_zero(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write (0 + b) + y as y + b if y has the type of the sum, so that zeros broadcast nothing."""
    if not isinstance(node.op, ops.Add):
        return None
    for outer, other in ((0, 1), (1, 0)):
        inner = b.node(args[outer].node)
        if not isinstance(inner.op, ops.Add) or b.type(args[other]) != node.types[0]:
            continue
        x, y = b.args(inner.name)
        for zero, small in ((x, y), (y, x)):
            if _full_value(b, zero) == 0.0:
                return b.copy(node, (args[other], small), ops.Add())
    return None


def merge_reshapes(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write reshapes of reshapes as one reshape, and drop a reshape to the shape that the value has."""
    if not isinstance(node.op, ops.Reshape):
        return None
    if b.type(args[0]) != node.types[0] and reshape_source(b, args[0]) == args[0]:
        return None
    return (reshaped(b, args[0], node.op, node.names, node.loc),)


def flatten_in_linear(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Drop a reshape that joins the axes of a linear's input: linear itself flattens the axes from ``axis`` on."""
    if not isinstance(node.op, ops.Linear) or not isinstance(b.node(args[0].node).op, ops.Reshape):
        return None
    (source,) = b.args(args[0].node)
    axis, shape = node.op.axis, b.type(source).shape
    if shape[:axis] != node.types[0].shape[:-1] or len(shape) == axis:
        return None
    return b.copy(node, (source, *args[1:]))


def drop_single_piece(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Rule 10: replace a split or a concatenation of one piece by its operand."""
    return args if isinstance(node.op, ops.Split | ops.Concat) and len(node.types) == len(args) == 1 else None


def cancel_split_and_concat(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Drop a split that undoes the concat before it, or a concat that undoes the split before it."""
    inner = b.node(args[0].node) if args else None
    if inner is None:
        return None
    if isinstance(node.op, ops.Split) and inner.op == ops.Concat(node.op.axis):
        pieces = b.args(inner.name)
        return pieces if tuple(b.type(p) for p in pieces) == node.types else None
    if isinstance(node.op, ops.Concat) and isinstance(inner.op, ops.Split) and inner.op.axis == node.op.axis:
        whole = tuple((inner.name, out) for out in range(len(inner.types)))
        return b.args(inner.name) if args == whole else None
    return None


def fold_shape_of_full(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write a split, concat, reshape or transpose of arrays filled with one number as such arrays."""
    if not isinstance(node.op, ops.Split | ops.Concat | ops.Reshape | ops.Transpose):
        return None
    values = {_full_value(b, ref) for ref in args}
    value = values.pop()
    if value is None or values:
        return None
    named = zip(node.types, node.names, strict=True)
    return tuple(b.add(ops.Full(t.shape, value), names=(name,), loc=node.loc)[0] for t, name in named)


def fold_trivial_power(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Rule 13: replace a power of exponent 1 by its operand, and a power of exponent 0 by ones."""
    if node.op == ops.Power(1.0):
        return args
    return b.copy(node, (), ops.Full(node.types[0].shape, 1.0)) if node.op == ops.Power(0.0) else None


def drop_double_relu(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Rule 14: replace a ReLU of a ReLU by the inner ReLU."""
    return args if isinstance(node.op, ops.Relu) and isinstance(b.node(args[0].node).op, ops.Relu) else None


def drop_pooling_of_one(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Rule 15: replace a pooling with windows of one element by its operand."""
    return args if isinstance(node.op, Pool) and node.op == type(node.op)(size=(1, 1)) else None


def add_multiples(b: Builder, node: Node, args: Refs) -> Refs | None:
    """Write the sum or difference of two affines of one value as one affine."""
    if not isinstance(node.op, ops.Add | ops.Sub):
        return None
    (x, first), (y, second) = (_multiple(b, ref) for ref in args)
    sign = 1 if isinstance(node.op, ops.Add) else -1
    merged = ops.Affine(first.scale + sign * second.scale, first.shift + sign * second.shift)
    return b.copy(node, (x,), merged) if x == y else None


def _multiple(b: Builder, ref: Ref) -> tuple[Ref, ops.Affine]:
    """Return x and the affine op if a value is an affine of x, else the value itself and the neutral affine."""
    op = b.node(ref.node).op
    return (b.args(ref.node)[0], op) if isinstance(op, ops.Affine) else (ref, ops.Affine(1.0, 0.0))


RULES: tuple[Visit, ...] = (
    drop_identity_affine,
    merge_affines,
    fold_zero_product,
    absorb_full_operand,
    fold_function_of_full,
    fold_product_of_zero,
    add_without_broadcast_zero,
    merge_reshapes,
    flatten_in_linear,
    drop_single_piece,
    cancel_split_and_concat,
    fold_shape_of_full,
    fold_trivial_power,
    drop_double_relu,
    drop_pooling_of_one,
    add_multiples,
)


@dataclass(frozen=True)
class Cse(Pass):
    """Merge equal computations.

    1. two nodes with the same op on the same operands => one node

    Inputs, parameters and arguments have an identity: two of them are never merged.
    """

    name = "cse"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, without_repeats(graph, counts), counts)


def without_repeats(graph: Graph, counts: Counter[str]) -> Graph:
    """Return the graph with every repeated node merged into the first equal node, counted as ``merge_repeat``."""
    seen: dict[Any, Refs] = {}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return the results of an earlier equal node, or of the node itself; None keeps an input or argument."""
        if isinstance(node.op, ops.Input | ops.Param | ops.Arg):
            return None
        op = node.op
        if isinstance(op, Scan):
            op = in_bodies(op, lambda body: without_repeats(body, counts))
        if (op, args) in seen:
            counts["merge_repeat"] += 1
        else:
            seen[op, args] = b.add(op, *args, names=node.names, loc=node.loc)
        return seen[op, args]

    return rewrite(graph, visit)


@dataclass(frozen=True)
class Dead(Pass):
    """Remove nodes that no output depends on, in the model and in every scan.

    1. a node that no output depends on              => nothing (inputs stay: they are the model's signature)
    2. a scan result that nothing reads              => the body no longer returns it
    3. a state that no read result depends on        => no such state
    4. a scan argument that the bodies do not use    => no such operand
    """

    name = "dead"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, without_dead(graph, counts), counts)


def without_dead(graph: Graph, counts: Counter[str]) -> Graph:
    """Return the live part of a model graph. ``counts`` counts the uses of each rule."""
    while True:
        needed = graph.needed()
        dead = [n for n in graph if n.name not in needed and not isinstance(n.op, ops.Input)]
        shrunk = _shrunk_scans(graph, needed, counts)
        if not dead and not shrunk:
            return graph
        counts["drop_node"] += len(dead)
        graph = _rebuilt(graph, {n.name for n in dead}, shrunk)


_Shrunk = tuple[Scan, list[int], list[int]]  # with the slots of its operands and of its results that are kept


def _shrunk_scans(graph: Graph, needed: Collection[str], counts: Counter[str]) -> dict[str, _Shrunk]:
    """Return, by name, the needed scans with a result, state, argument or node to remove, already without it."""
    shrunk = {}
    readers: dict[Ref, int] | None = None
    for node in graph:
        if not isinstance(node.op, Scan) or node.name not in needed:
            continue
        readers = graph.readers() if readers is None else readers
        read = {out for out in range(len(node.types)) if Ref(node.name, out) in readers}
        if (smaller := _shrink(node.op, read, counts)) is not None:
            shrunk[node.name] = smaller
    return shrunk


def _shrink(scan: Scan, read: set[int], counts: Counter[str]) -> _Shrunk | None:
    """Return a scan reduced to what its results with the indices ``read`` need; None if that is all of the scan."""
    steps = len(scan.step_outputs)
    args = scan.body.body_args()
    state_args = [i for i in range(len(args)) if scan.role(i) == "state"]
    live = {s for s in range(len(state_args)) if steps + s in read}
    while True:
        results = [i for i in range(len(scan.body.outputs)) if (i in read if i < steps else i - steps in live)]
        used = {name for body in scan.bodies for name in body.needed([body.outputs[i].ref for i in results])}
        more = {s for s, i in enumerate(state_args) if args[i].name in used} - live
        if not more:
            break
        live |= more
    operands = [i for i, arg in enumerate(args) if arg.name in used or i in {state_args[s] for s in live}]
    kept = {args[i].name for i in operands}
    bodies = [pruned(body, [body.outputs[i] for i in results], kept) for body in scan.bodies]
    removed = sum(map(len, scan.bodies)) - sum(map(len, bodies))
    if len(operands) == len(args) and len(results) == len(scan.body.outputs) and not removed:
        return None
    counts["drop_state"] += len(state_args) - len(live)
    counts["drop_argument"] += len(args) - len(operands) - (len(state_args) - len(live))
    counts["drop_result"] += len(scan.body.outputs) - len(results) - (len(state_args) - len(live))
    counts["drop_body_node"] += removed
    first = bodies[1] if scan.first is not None else None
    return replace(scan, body=bodies[0], first=first), operands, results


def pruned(body: Graph, outputs: Sequence[Output], keep: Collection[str] = ()) -> Graph:
    """Return a body with only these outputs, the nodes that they depend on, and the arguments in ``keep``."""
    needed = body.needed([output.ref for output in outputs])
    dropped = {n.name for n in body if n.name not in needed and not (isinstance(n.op, ops.Arg) and n.name in keep)}
    return _rebuilt(body, dropped, {}, outputs)


def _rebuilt(
    graph: Graph, dropped: Collection[str], shrunk: dict[str, _Shrunk], outputs: Iterable[Output] | None = None
) -> Graph:
    """Return a graph without the nodes ``dropped``, with scans ``shrunk``, and with other ``outputs`` unless None."""
    rebuild = Rebuild(graph)
    for node in graph:
        if node.name in dropped:
            continue
        if (small := shrunk.get(node.name)) is None:
            rebuild.copy(node)
            continue
        args, (scan, operands, results) = rebuild.args(node), small
        names = [node.names[i] for i in results]
        values = rebuild.builder.add(scan, *[args[i] for i in operands], names=names, loc=node.loc)
        rebuild.put(node, dict(zip(results, values, strict=True)))
    return rebuild.finish(outputs)
