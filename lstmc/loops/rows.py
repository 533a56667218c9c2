"""A scan's body on one of N independent rows of a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lstmc.ir import Builder, Graph, Node, Ref, Scan, op_of_step
from lstmc.ops import Add, Arg, Binary, Full, Linear, Op, Pointwise, Split
from lstmc.passes import Cse, Refs, Simplify, rewrite


@dataclass(frozen=True)
class Rows:
    """The body of one row, which arguments have an axis of rows in front of that, and how many rows there are.

    Where the rows are not independent, the whole batch is one row, and its size is fixed.
    """

    body: Graph
    mapped: tuple[bool, ...]
    batch: int
    fixed: bool


def batch_of(scan: Scan) -> int:
    """How many rows a step has, as its first state says; without states, its first input."""
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
    if all(shape[:1] == (batch,) for shape in shapes):
        for ranks in (1, 2):
            mapped = tuple(
                leads and role != "weight" and (role == "state" or arg.types[0].rank >= ranks)
                for leads, role, arg in zip(leading, roles, args, strict=True)
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
    """An op does not do the same to each row alone."""


def _row_body(body: Graph, mapped: tuple[bool, ...]) -> Graph | None:
    b = Builder(body.name, body)
    new: dict[Ref, tuple[Ref, bool]] = {}
    for arg, maps in zip(body.body_args(), mapped, strict=True):
        assert isinstance(arg.op, Arg)
        op = Arg(arg.op.shape[1:], arg.op.role) if maps else arg.op
        new[Ref(arg.name)] = b.add(op, names=arg.names, loc=arg.loc)[0], maps
    try:
        for node in body:
            if not isinstance(node.op, Arg):
                _add_row(b, body, node, new)
    except _Mixed:
        return None
    if not all(new[output.ref][1] for output in body.outputs):
        return None
    return b.finish([(output.name, new[output.ref][0]) for output in body.outputs])


def _add_row(b: Builder, body: Graph, node: Node, new: dict[Ref, tuple[Ref, bool]]) -> None:
    args = body.args(node.name)
    refs = [Ref(node.name, out) for out in range(len(node.types))]
    if isinstance(node.op, Full) or not any(new[ref][1] for ref in args):
        results = b.copy(node, [new[ref][0] for ref in args])
        new.update((ref, (value, False)) for ref, value in zip(refs, results, strict=True))
        return
    types = [body.type(ref) for ref in args]
    mapped = [new[ref][1] for ref in args]
    batch = next(type_.shape[0] for type_, maps in zip(types, mapped, strict=True) if maps)
    constants = [
        not maps and type_.shape[:1] == (batch,) and isinstance(body.node(ref.node).op, Full)
        for ref, type_, maps in zip(args, types, mapped, strict=True)
    ]
    op: Op | None = None
    for chosen in (mapped, [m or c for m, c in zip(mapped, constants, strict=True)]):
        op = op_of_step(node.op, types, chosen)
        if op is not None:
            break
    if op is None:
        raise _Mixed
    operands = []
    for ref, maps, given in zip(args, chosen, mapped, strict=True):
        full = body.node(ref.node).op
        if maps and not given and isinstance(full, Full):
            operands.append(b.add(Full(full.shape[1:], full.value), names=(ref.node,))[0])
        else:
            operands.append(new[ref][0])
    results = b.copy(node, operands, op)
    new.update((ref, (value, True)) for ref, value in zip(refs, results, strict=True))


def split_early(body: Graph) -> Graph:
    """Pieces of what is done element by element are done to pieces: so that one loop has all that is of one size.

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
