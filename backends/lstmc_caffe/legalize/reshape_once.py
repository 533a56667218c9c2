"""Views of what a scan reads are made once for all steps, not at every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import Arg
from lstmc.passes import Pass, PassResult, Refs, result, rewrite
from lstmc_caffe.ops import ReshapeLayer

MOST_ROUNDS = 4
Shape = tuple[int, ...]
Views = dict[str, dict[Shape, str]]  # of each argument: the shapes it is read in, and the argument of each


@dataclass(frozen=True)
class ReshapeOnce(Pass):
    """Reshape sequences before a scan where its steps reshape what they read of them.

    1. reshape of an ``x`` argument => an ``x`` argument of the reshaped sequence; the old one goes if nothing reads it
    2. reshape(reshape(x)) outside  => one reshape; in x's own shape => x

    Legalisation gives the second bottom of a Scale or Bias the shape of the axes that it covers, as an indicator
    [N, 1] the shape [N]: a layer at every step otherwise.
    """

    name = "reshape_once"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if not isinstance(node.op, Scan) or node.op.kept or not (views := _views(node.op)):
                return None
            counts["reshape_sequence"] += sum(map(len, views.values()))
            return _outside(b, node, node.op, args, views)

        after = graph
        for _ in range(MOST_ROUNDS):  # a view of a view becomes one of the sequence only when the inner one has gone
            before = counts.total()
            after = rewrite(after, visit)
            if counts.total() == before:
                break
        return result(graph, after, counts)


def _views(scan: Scan) -> Views:
    """The shapes that sequences are read in, and free names for arguments of those shapes."""
    found: Views = {}
    read = _read_as_they_are(scan)
    for body in scan.bodies:
        for arg, view in _reshapes(body):
            shapes, shape = found.setdefault(arg, {}), view.types[0].shape
            name = arg if not shapes and arg not in read else f"{arg}/{'x'.join(map(str, shape))}"
            shapes.setdefault(shape, name)
    return found


def _reshapes(body: Graph) -> Iterator[tuple[str, Node]]:
    """Each Reshape of an ``x`` argument, with the argument."""
    for node in body:
        if isinstance(node.op, ReshapeLayer):
            arg = body.node(body.args(node.name)[0].node)
            if isinstance(arg.op, Arg) and arg.op.role == "x":
                yield arg.name, node


def _outside(b: Builder, node: Node, scan: Scan, args: Refs, views: Views) -> Refs:
    operands: list[Ref] = []
    read = _read_as_they_are(scan)
    for arg, ref in zip(scan.body.body_args(), args, strict=True):
        if arg.name in read or arg.name not in views:
            operands.append(ref)
        for shape, name in views.get(arg.name, {}).items():
            operands.append(_reshaped(b, ref, (scan.length, *shape), f"{scan.body.name}/{name}"))
    bodies = [_new_body(body, views, read) for body in scan.bodies]
    made = replace(scan, body=bodies[0], first=bodies[1] if scan.first is not None else None)
    return b.add(made, *operands, names=node.names, loc=node.loc)


def _read_as_they_are(scan: Scan) -> set[str]:
    """The arguments that a scan's steps read other than by a Reshape."""
    found: set[str] = set()
    for body in scan.bodies:
        views = Counter(arg for arg, _ in _reshapes(body))
        found |= {ref.node for ref, count in body.readers().items() if count > views[ref.node]}
    return found


def _reshaped(b: Builder, ref: Ref, shape: Shape, name: str) -> Ref:
    if isinstance(b.node(ref.node).op, ReshapeLayer):
        (ref,) = b.args(ref.node)
    if b.type(ref).shape == shape:
        return ref
    return b.add(ReshapeLayer(shape), ref, names=(name,))[0]


def _new_body(body: Graph, views: Views, read: Collection[str]) -> Graph:
    rebuild = Rebuild(body)
    arguments: dict[tuple[str, Shape], Ref] = {}
    reshapes = {node.name: arg for arg, node in _reshapes(body)}
    for node in body:
        if node.name in reshapes:
            rebuild.put(node, (arguments[reshapes[node.name], node.types[0].shape],))
        elif node.name not in views or node.name in read:
            rebuild.copy(node)
        for shape, name in views.get(node.name, {}).items():
            (arguments[node.name, shape],) = rebuild.builder.add(Arg(shape, "x"), names=(name,), loc=node.loc)
    return rebuild.finish()
