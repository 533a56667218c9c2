"""A scan's body on one of N independent rows of a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from lstmc.errors import ShapeError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import Arg, Binary, Full, Linear, Pointwise, Reshape, Split, Transpose
from lstmc.ops.shape import without
from lstmc.passes import BiasApart, Cse, Refs, Simplify, rewrite_all

MOST_EITHER = 6  # values for which every combination of choices is tried: 64 combinations


@dataclass(frozen=True)
class Rows:
    """The body for one row, which arguments have an axis of rows in the batch (``mapped``), and the number of rows. If
    the rows are not independent, the whole batch is one row, and its size is fixed."""

    body: Graph
    mapped: tuple[bool, ...]
    batch: int
    fixed: bool


def batch_of(scan: Scan) -> int:
    """Return the number of rows of a step, from its first state; without states, from its first input."""
    shapes = _leading_shapes(scan)
    return shapes[0][0] if shapes and shapes[0] else 1


def _leading_shapes(scan: Scan) -> list[tuple[int, ...]]:
    """Return the shapes of a body's states; without states, of its inputs."""
    args = scan.body.body_args()
    states = [arg for slot, arg in enumerate(args) if scan.role(slot) == "state"]
    return [arg.types[0].shape for arg in (states or [arg for i, arg in enumerate(args) if scan.role(i) == "x"])]


def rows_of(scan: Scan) -> Rows:
    """Return the body of one row if rows do not depend on each other, else the body for all rows."""
    args, shapes, batch = scan.body.body_args(), _leading_shapes(scan), batch_of(scan)
    roles = [scan.role(slot) for slot in range(len(args))]
    leading = [arg.types[0].shape[:1] == (batch,) for arg in args]
    # the first axis of a value that is the same for all rows may happen to be as long as the batch
    either = [slot for slot, role in enumerate(roles) if role in ("static", "x") and leading[slot]]
    if all(shape[:1] == (batch,) for shape in shapes):
        for chosen in product((True, False), repeat=min(len(either), MOST_EITHER)):
            same = {slot for slot, is_mapped in zip(either, chosen, strict=False) if not is_mapped}
            maps = [leads and role != "weight" for leads, role in zip(leading, roles, strict=True)]
            mapped = tuple(each and slot not in same for slot, each in enumerate(maps))
            if (body := _row_body(scan.body, mapped)) is not None:
                return Rows(_tidy(body), mapped, batch, False)
    return Rows(_tidy(scan.body), tuple(role in ("x", "state") for role in roles), batch, True)


def _tidy(body: Graph) -> Graph:
    """Return the body simplified, with early splits, and with biases that vary from step to step as sums."""
    split = split_early(BiasApart(_varies).run(body).graph)
    return Cse().run(Simplify().run(split).graph).graph  # not Dead, which removes arguments


def _varies(b: Builder, product: Linear, bias: Ref) -> bool:
    op = b.node(bias.node).op
    return not (isinstance(op, Arg) and op.role in ("weight", "static"))


class _Mixed(Exception):
    """Raised for an op that does not work on each row separately."""


def _row_body(body: Graph, mapped: tuple[bool, ...]) -> Graph | None:
    """Return the body for one row of the ``mapped`` arguments. Return None if an op mixes rows, or if a result has the
    rows elsewhere than at its first axis."""
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
    """A value of one row, and the axis of the rows in the batch's value; None: it is the same for all rows."""

    ref: Ref
    axis: int | None


def _add_row(b: Builder, body: Graph, node: Node, new: dict[Ref, _InRow]) -> None:
    """Add a node of the body for one row, and its results to ``new``. Raise _Mixed if the op mixes rows."""
    args = body.args(node.name)
    types, values = [body.type(ref) for ref in args], [new[ref] for ref in args]
    slot = next((slot for slot, value in enumerate(values) if value.axis is not None), None)
    axes: tuple[int | None, ...] = (None,) * len(node.types)
    if slot is None:
        results = b.copy(node, [value.ref for value in values])
    else:
        along = node.op.along(slot, values[slot].axis, *types)  # type: ignore[arg-type]
        if along is None or along.op is None or None in along.results:
            raise _Mixed
        each = zip(args, values, along.operands, strict=True)
        operands = [_of_row(b, body, ref, value, place) for ref, value, place in each]
        axes = along.results
        shapes = [without(type_.shape, axis) for type_, axis in zip(node.types, axes, strict=True) if axis is not None]
        if isinstance(along.op, Reshape) and isinstance(node.op, Transpose):  # the op disappears
            results = (operands[0],)
        else:
            try:
                results = b.copy(node, operands, along.op)
            except ShapeError:
                raise _Mixed from None
        if shapes != [b.type(ref).shape for ref in results]:
            raise _Mixed
    new.update((Ref(node.name, out), _InRow(*value)) for out, value in enumerate(zip(results, axes, strict=True)))


def _of_row(b: Builder, body: Graph, ref: Ref, value: _InRow, place: int | None) -> Ref:
    """Return an operand as the op of one row reads it, where the op of all rows has the rows at axis ``place`` (None:
    nowhere). Raise _Mixed if the operand itself has its rows at another axis."""
    op, shape = body.node(ref.node).op, body.type(ref).shape
    if value.axis == place:
        return value.ref
    if value.axis is not None or place is None:
        raise _Mixed
    if isinstance(op, Full):
        return b.add(Full(without(shape, place), op.value), names=(ref.node,))[0]
    if shape[place] != 1:
        raise _Mixed
    return b.add(Reshape(without(shape, place)), value.ref)[0]


def with_rows_first(scan: Scan) -> tuple[Graph, tuple[int, ...]] | None:
    """Return the body with the rows first in arguments that had them second, each followed by a transposition back, and
    the slots of these arguments. Return None if there is no such argument."""
    batch, args = batch_of(scan), scan.body.body_args()
    shapes = [arg.types[0].shape for arg in args]
    second = [batch in shape[1:2] and (shape[0] != batch or len(shape) > 2) for shape in shapes]
    slots = tuple(slot for slot in range(len(args)) if scan.role(slot) in ("x", "static") and second[slot])
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

    1. split(f(x)) => f(split(x))
    2. split(x + y) => split(x) + split(y), if x and y have one shape
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
        named = zip(node.names, *pieces, strict=True)
        return tuple(b.add(inner.op, *operands, names=(name,), loc=inner.loc)[0] for name, *operands in named)

    return rewrite_all(body, visit, counts)
