"""Masks of lengths: values that are 1 or 0, whose gradient is zero everywhere, and the complement of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from lstmc.ir import Builder, Graph, Node, Ref, Scan
from lstmc.ops import Add, Affine, Arg, Full, Input, IntegerRange, Mul, Param, Relu, Reshape, Sub, Values
from lstmc.patterns.recurrence import MOVES

LAST = Affine(-1.0, 1.0)


@dataclass(frozen=True)
class Mask:
    """``relu(1 - relu(n))`` of integers n, by its node; if ``inverted``, one minus it."""

    of: Ref
    inverted: bool


Masks = Mapping[str, Mask]
NO_MASKS: Masks = MappingProxyType({})


def mask_of(graph: Graph | Builder, ref: Ref, known: Masks = NO_MASKS) -> Mask | None:
    """Return what mask a value is, in whatever shape; of arguments those that are ``known``. None if it is none."""
    inverted = False
    while ref.node not in known:
        op = graph.node(ref.node).op
        if isinstance(op, Relu):
            (missing,) = graph.args(ref.node)
            left = graph.args(missing.node)[0] if graph.node(missing.node).op == LAST else missing
            found = left != missing and isinstance(graph.node(left.node).op, Relu) and _whole(graph, left)
            return Mask(ref, inverted) if found else None
        if not isinstance(op, Reshape) and op != LAST:
            return None
        inverted ^= op == LAST
        (ref,) = graph.args(ref.node)
    return Mask(known[ref.node].of, known[ref.node].inverted ^ inverted)


def operand_masks(graph: Graph | Builder, scan: Scan, operands: Sequence[Ref]) -> Masks:
    """Return the arguments of a scan's body that are masks."""
    arguments = zip(scan.body.body_args(), operands, strict=True)
    found = {arg.name: mask_of(graph, ref) for arg, ref in arguments if isinstance(arg.op, Arg) and arg.op.role == "x"}
    return {name: mask for name, mask in found.items() if mask}


def masked_sum(body: Graph, node: Node, known: Masks) -> list[tuple[Ref, Ref]]:
    """Return mask and value of the two terms of ``mask * value + (1 - mask) * other``; none of another sum."""
    parts = []
    for ref in body.args(node.name):
        product = body.node(ref.node)
        operands = body.args(product.name) if isinstance(product.op, Mul) else ()
        for factor, value in zip(operands, operands[::-1], strict=True):
            if mask := mask_of(body, factor, known):
                parts.append((mask, factor, value))
    if len(parts) != 2 or replace(parts[0][0], inverted=not parts[0][0].inverted) != parts[1][0]:
        return []
    return [(factor, value) for _, factor, value in parts]


def _whole(graph: Graph | Builder, ref: Ref, known: frozenset[str] = frozenset()) -> bool:
    """Whether all elements of a value are integers; those of the arguments ``known`` are."""
    op, args = graph.node(ref.node).op, graph.args(ref.node)
    match op:
        case _ if ref.node in known:
            return True
        case Input(values=values):
            return isinstance(values, IntegerRange)
        case Full(value=value):
            return float(value).is_integer()
        case Param(fill=Values() as fill) if op.fixed:
            numbers = fill.draw(np.random.default_rng(0), fill.shape)
            return bool((numbers == np.floor(numbers)).all())
        case Affine(scale=scale, shift=shift) if not (scale.is_integer() and shift.is_integer()):
            return False
        case Scan(body=body):
            arguments = zip(body.body_args(), args, strict=True)
            inside = frozenset(arg.name for arg, value in arguments if _whole(graph, value, known))
            results = [output.ref for output in (body.outputs[ref.out], *op.next_states)]
            return all(_whole(body, result, inside) for result in results)
    return isinstance(op, (Add, Sub, Affine, Relu, *MOVES)) and all(_whole(graph, arg, known) for arg in args)
