"""What an op does over time: for all steps at once, for one of them, and which values have an axis of time."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.errors import ShapeError
from lstmc.ir.graph import Graph
from lstmc.ir.node import Node, Ref
from lstmc.ir.scan import Scan
from lstmc.ops import Binary, Op, Param
from lstmc.types import TensorType


def op_over_time(op: Op, steps: int, operands: Sequence[TensorType], mapped: Sequence[bool]) -> Op | None:
    """``op`` for all steps at once, if that has just the results of the steps; operand types are those of a step."""
    wide = op.over_time(steps, mapped)
    ranks = {t.rank for t, m in zip(operands, mapped, strict=True) if m}
    # broadcasting counts axes from the last: those of a lower rank would line up with the steps where sizes agree
    if wide is None or (isinstance(op, Binary) and len(ranks) > 1):
        return None
    types = [over_steps(t, steps) if m else t for t, m in zip(operands, mapped, strict=True)]
    try:
        fits = wide.infer(*types) == tuple(over_steps(t, steps) for t in op.infer(*operands))
    except ShapeError:
        return None
    return wide if fits else None


def over_steps(step: TensorType, steps: int) -> TensorType:
    """The type of a sequence of ``steps``."""
    return TensorType((steps, *step.shape), step.dtype)


def of_step(sequence: TensorType) -> TensorType:
    """The type of a step of a sequence."""
    return TensorType(sequence.shape[1:], sequence.dtype)


def op_of_step(op: Op, operands: Sequence[TensorType], mapped: Sequence[bool]) -> Op | None:
    """The op of one step that is ``op`` for all of them; None if ``op`` mixes steps, or has no such form.

    Operand types are those of sequences: the ``mapped`` operands and the results have a leading axis of time.
    """
    lengths = {t.shape[:1] for t, m in zip(operands, mapped, strict=True) if m}
    if len(lengths) != 1 or () in lengths:
        return None
    ((steps,),) = lengths
    step = op.of_step(steps, mapped)
    types = [of_step(t) if m else t for t, m in zip(operands, mapped, strict=True)]
    return step if step is not None and op_over_time(step, steps, types, mapped) == op else None


def values_over_time(graph: Graph) -> set[Ref]:
    """The values that have an axis of time, first: found from what scans read and give, both ways along ops."""
    found: set[Ref] = set()
    along: list[set[Ref]] = []  # the values of a node that have such an axis, or none of them has
    for node in graph:
        refs = {Ref(node.name, out) for out in range(len(node.types))}
        if isinstance(node.op, Scan):
            found |= {ref for i, ref in enumerate(graph.args(node.name)) if node.op.role(i) == "x"}
            found |= {Ref(node.name, i) for i in range(len(node.op.step_outputs))}
        elif carriers := _carriers(graph, node):
            along.append(refs | carriers)
    while True:
        before = len(found)
        for values in along:
            if not found.isdisjoint(values):
                found |= values
        if len(found) == before:
            return found


def _carriers(graph: Graph, node: Node) -> set[Ref]:
    """The operands that an axis of time would be passed on from: the op has a form for one step of them.

    A parameter passes none on, whatever its shape; beside a sequence it may have a value for each step.
    """
    args = graph.args(node.name)
    types = [graph.type(ref) for ref in args]
    steps = node.types[0].shape[:1]
    slots = [slot for slot in range(len(args)) if steps and types[slot].shape[:1] == steps]
    passing = [slot for slot in slots if not isinstance(graph.node(args[slot].node).op, Param)]
    for chosen in (slots, passing, *([slot] for slot in passing)) if passing else ():
        if op_of_step(node.op, types, [slot in chosen for slot in range(len(args))]) is not None:
            return {args[slot] for slot in chosen if slot in passing}
    return set()
