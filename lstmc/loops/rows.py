"""A scan's body on one of N independent rows of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import NamedTuple

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, op_of_step
from lstmc.ops import (
    Add,
    Arg,
    Binary,
    Dropout,
    Full,
    Linear,
    Max,
    Op,
    Pointwise,
    Reshape,
    Softmax,
    Split,
    Sum,
    Transpose,
)
from lstmc.passes import Cse, Refs, Simplify, rewrite
from lstmc.types import TensorType

MOST_EITHER = 6  # values of which every choice is tried: 64 choices


@dataclass(frozen=True)
class Rows:
    """The body for one row, the arguments that have an axis of rows, and the number of rows.

    Where the rows are not independent, the whole batch is one row, and its size is fixed.
    """

    body: Graph
    mapped: tuple[bool, ...]
    batch: int
    fixed: bool


def batch_of(scan: Scan) -> int:
    """Return the number of rows of a step, from its first state; without states, from its first input."""
    shapes = _leading_shapes(scan)
    return shapes[0][0] if shapes and shapes[0] else 1


def _leading_shapes(scan: Scan) -> list[tuple[int, ...]]:
    args = scan.body.body_args()
    states = [arg for slot, arg in enumerate(args) if scan.role(slot) == "state"]
    return [arg.types[0].shape for arg in (states or [arg for i, arg in enumerate(args) if scan.role(i) == "x"])]


def rows_of(scan: Scan) -> Rows:
    """The rows of a scan's body."""
    args, shapes, batch = scan.body.body_args(), _leading_shapes(scan), batch_of(scan)
    roles = [scan.role(slot) for slot in range(len(args))]
    leading = [arg.types[0].shape[:1] == (batch,) for arg in args]
    # a value that is the same for all rows may have as many elements first as the batch has rows
    either = [slot for slot, role in enumerate(roles) if role in ("static", "x") and leading[slot]]
    if all(shape[:1] == (batch,) for shape in shapes):
        for chosen in product((True, False), repeat=min(len(either), MOST_EITHER)):
            same = {slot for slot, maps in zip(either, chosen, strict=False) if not maps}
            mapped = tuple(
                leads and role != "weight" and slot not in same
                for slot, (leads, role) in enumerate(zip(leading, roles, strict=True))
            )
            body = _row_body(scan.body, mapped)
            if body is not None:
                return Rows(_tidy(body), mapped, batch, False)
    return Rows(_tidy(scan.body), tuple(role in ("x", "state") for role in roles), batch, True)


def _tidy(body: Graph) -> Graph:
    return Cse().run(Simplify().run(split_early(_bias_apart(body))).graph).graph  # not Dead, which takes arguments away


def _bias_apart(body: Graph) -> Graph:
    """linear(x, W, b) => linear(x, W) + b, where b is not the same at every step."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Linear) or len(args) < 3:
            return None
        bias = b.node(args[2].node).op
        if isinstance(bias, Arg) and bias.role in ("weight", "static"):
            return None
        product = b.add(node.op, *args[:2], names=(f"{node.name}/product",), loc=node.loc)
        return b.add(Add(), *product, args[2], names=node.names, loc=node.loc)

    return rewrite(body, visit)


class _Mixed(Exception):
    """Raised for an op that does not work on each row separately."""


def _row_body(body: Graph, mapped: tuple[bool, ...]) -> Graph | None:
    b = Builder(body.name, body)
    new: dict[Ref, _InRow] = {}
    for arg, maps in zip(body.body_args(), mapped, strict=True):
        assert isinstance(arg.op, Arg)
        op = Arg(arg.op.shape[1:], arg.op.role) if maps else arg.op
        new[Ref(arg.name)] = _InRow(b.add(op, names=arg.names, loc=arg.loc)[0], 0 if maps else None)
    try:
        for node in body:
            if not isinstance(node.op, Arg):
                _add_row(b, body, node, new)
    except _Mixed:
        return None
    if any(new[output.ref].axis != 0 for output in body.outputs):
        return None
    return b.finish([(output.name, new[output.ref].ref) for output in body.outputs])


class _InRow(NamedTuple):
    """A value of one row, and which axis of all rows' value the rows are; None where it is the same for all."""

    ref: Ref
    axis: int | None


def _add_row(b: Builder, body: Graph, node: Node, new: dict[Ref, _InRow]) -> None:
    args = body.args(node.name)
    refs = [Ref(node.name, out) for out in range(len(node.types))]
    axes = {new[ref].axis for ref in args} - {None}
    if not axes:
        results = b.copy(node, [new[ref].ref for ref in args])
        new.update((ref, _InRow(value, None)) for ref, value in zip(refs, results, strict=True))
        return
    types = [body.type(ref) for ref in args]
    op: Op | None = None
    if axes == {0}:
        mapped = [new[ref].axis is not None for ref in args]
        batch = next(type_.shape[0] for type_, maps in zip(types, mapped, strict=True) if maps)
        constants = [
            not maps and type_.shape[:1] == (batch,) and isinstance(body.node(ref.node).op, Full)
            for ref, type_, maps in zip(args, types, mapped, strict=True)
        ]
        for chosen in (mapped, [m or c for m, c in zip(mapped, constants, strict=True)]):
            op = op_of_step(node.op, types, chosen)
            if op is not None:
                break
    if op is None:
        inner = _inside_rows(node.op, types, node.types[0], [new[ref].axis for ref in args])
        if inner is None:
            raise _Mixed
        row_op, axis = inner
        values = [new[ref].ref for ref in args]
        if isinstance(row_op, Binary):  # an operand that is equal for all rows has no row axis
            last = node.types[0].rank - axis
            values = [
                b.add(Reshape(_without(type_.shape, type_.rank - last)), value)[0]
                if new[ref].axis is None and type_.rank >= last
                else value
                for ref, value, type_ in zip(args, values, types, strict=True)
            ]
        (value,) = values if row_op is None else b.copy(node, values, row_op)
        if b.type(value).shape != _without(node.types[0].shape, axis):
            raise _Mixed
        new[refs[0]] = _InRow(value, axis)
        return
    operands = []
    for ref, maps, given in zip(args, chosen, mapped, strict=True):
        full = body.node(ref.node).op
        if maps and not given:
            assert isinstance(full, Full)
            operands.append(b.add(Full(full.shape[1:], full.value), names=(ref.node,))[0])
        else:
            operands.append(new[ref].ref)
    results = b.copy(node, operands, op)
    new.update((ref, _InRow(value, 0)) for ref, value in zip(refs, results, strict=True))


def _inside_rows(
    op: Op, operands: Sequence[TensorType], result: TensorType, axes: Sequence[int | None]
) -> tuple[Op | None, int] | None:
    """Return the op on one row, and the axis of rows of its result, where rows are inside of other axes.

    ``axes`` are those of the operands. The op is None where it does nothing within a row. None for an op that has no
    such form, or mixes rows.
    """
    rows = [axis for axis in axes if axis is not None]
    if isinstance(op, Binary):
        last, *others = {t.rank - axis for t, axis in zip(operands, axes, strict=True) if axis is not None}
        same = [t for t, axis in zip(operands, axes, strict=True) if axis is None]
        if others or any(t.rank >= last and t.shape[-last] != 1 for t in same):
            return None
        return op, result.rank - last
    if axes[0] is None or len(rows) > 1:
        return None
    row = axes[0]
    if isinstance(op, Pointwise) and not isinstance(op, Dropout):
        return op, row
    if isinstance(op, Transpose) and row in (op.axis, op.axis + 1):
        return None, 2 * op.axis + 1 - row
    if isinstance(op, Reshape):
        rows_of_all = prod(operands[0].shape[:row]), operands[0].shape[row]
        parts = [(prod(result.shape[:i]), size) for i, size in enumerate(result.shape)]
        axis = parts.index(rows_of_all) if rows_of_all in parts else None
        return None if axis is None else (Reshape(_without(result.shape, axis)), axis)
    if not isinstance(op, Linear | Softmax | Sum | Max | Transpose) or op.axis == row:
        return None
    if op.axis > row:
        return replace(op, axis=op.axis - 1), row
    return None if isinstance(op, Linear) else (op, row - 1 if isinstance(op, Sum | Max) else row)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def with_rows_first(scan: Scan) -> tuple[Graph, tuple[int, ...]] | None:
    """Return the body of a scan with the rows of each argument first, and the slots of those that had them second.

    None where no argument has. The body begins with what puts these axes back in their places.
    """
    batch, args = batch_of(scan), scan.body.body_args()
    shapes = [arg.types[0].shape for arg in args]
    slots = tuple(
        slot
        for slot, shape in enumerate(shapes)
        if scan.role(slot) in ("x", "static") and batch in shape[1:2] and (shape[0] != batch or len(shape) > 2)
    )
    if not slots:
        return None
    rebuild = Rebuild(scan.body)
    swap = Transpose(0)
    for slot, arg in enumerate(args):
        if slot not in slots:
            rebuild.copy(arg)
            continue
        assert isinstance(arg.op, Arg)
        (swapped,) = swap.infer(arg.types[0])
        first = rebuild.builder.add(Arg(swapped.shape, arg.op.role), names=arg.names, loc=arg.loc)
        rebuild.put(arg, rebuild.builder.add(swap, *first, loc=arg.loc))
    for node in scan.body:
        if not isinstance(node.op, Arg):
            rebuild.copy(node)
    return rebuild.finish(), slots


def split_early(body: Graph) -> Graph:
    """Move splits before elementwise ops, so that one loop has all elements of one size.

    split(f(x)) => f(split(x)); split(x + y) => split(x) + split(y), where both are of one shape
    """
    counts: Counter[str] = Counter()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Split):
            return None
        inner = b.node(args[0].node)
        whole = b.args(inner.name)
        if not isinstance(inner.op, Pointwise | Binary) or any(b.type(ref) != inner.types[0] for ref in whole):
            return None
        counts["split_early"] += 1
        pieces = [b.add(node.op, ref, names=[f"{ref.node}/{name}" for name in node.names]) for ref in whole]
        return tuple(
            b.add(inner.op, *operands, names=(name,), loc=inner.loc)[0]
            for name, operands in zip(node.names, zip(*pieces, strict=True), strict=True)
        )

    while True:
        before = sum(counts.values())
        body = rewrite(body, visit)
        if sum(counts.values()) == before:
            return body
