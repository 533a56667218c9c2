"""Views of what a scan reads are made once for all steps, not at every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, reshaped
from lstmc.ops import Arg
from lstmc.passes import Pass, PassResult, Refs, result, rewrite
from lstmc_caffe.ops import ReshapeLayer

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
            if not isinstance(node.op, Scan) or node.op.kept:
                return None
            bodies = [_Reads(body) for body in node.op.bodies]
            views = _views(bodies)
            counts["reshape_sequence"] += sum(map(len, views.values()))
            return _outside(b, node, node.op, args, bodies, views) if views else None

        return result(graph, rewrite(graph, visit), counts)


@dataclass(frozen=True)
class _Reads:
    """How a body reads the steps of its sequences: as they are, or by a reshape, which may be one of a reshape."""

    body: Graph

    @cached_property
    def reshapes(self) -> dict[str, str]:
        """Every Reshape of an ``x`` argument, at whatever remove, and the argument."""
        found: dict[str, str] = {}
        for node in self.body:
            if isinstance(node.op, ReshapeLayer):
                source = self.body.node(self.body.args(node.name)[0].node)
                if source.name in found:
                    found[node.name] = found[source.name]
                elif isinstance(source.op, Arg) and source.op.role == "x":
                    found[node.name] = source.name
        return found

    @cached_property
    def otherwise(self) -> set[str]:
        """The nodes that something else than such a Reshape reads."""
        reads = Counter(self.body.args(name)[0] for name in self.reshapes)
        return {ref.node for ref, count in self.body.readers().items() if count > reads[ref]}


def _views(bodies: Sequence[_Reads]) -> Views:
    """The shapes that sequences are read in, and free names for arguments of those shapes."""
    found: Views = {}
    read = _read_as_they_are(bodies)
    for reads in bodies:
        for view, arg in reads.reshapes.items():
            if view in reads.otherwise:
                shapes, shape = found.setdefault(arg, {}), reads.body.node(view).types[0].shape
                name = arg if not shapes and arg not in read else f"{arg}/{'x'.join(map(str, shape))}"
                shapes.setdefault(shape, name)
    return found


def _read_as_they_are(bodies: Sequence[_Reads]) -> set[str]:
    """The arguments that a scan's steps read other than by a Reshape."""
    return {node.name for reads in bodies for node in reads.body.body_args() if node.name in reads.otherwise}


def _outside(b: Builder, node: Node, scan: Scan, args: Refs, bodies: Sequence[_Reads], views: Views) -> Refs:
    operands: list[Ref] = []
    read = _read_as_they_are(bodies)
    for arg, ref in zip(scan.body.body_args(), args, strict=True):
        if arg.name in read or arg.name not in views:
            operands.append(ref)
        for shape, name in views.get(arg.name, {}).items():
            operands.append(reshaped(b, ref, ReshapeLayer((scan.length, *shape)), (f"{scan.body.name}/{name}",)))
    made = [_new_body(reads, views, read) for reads in bodies]
    op = replace(scan, body=made[0], first=made[1] if scan.first is not None else None)
    return b.add(op, *operands, names=node.names, loc=node.loc)


def _new_body(reads: _Reads, views: Views, read: Collection[str]) -> Graph:
    rebuild = Rebuild(reads.body)
    arguments: dict[tuple[str, Shape], Ref] = {}
    for node in reads.body:
        if node.name in reads.reshapes:
            if node.name in reads.otherwise:
                rebuild.put(node, (arguments[reads.reshapes[node.name], node.types[0].shape],))
        elif node.name not in views or node.name in read:
            rebuild.copy(node)
        for shape, name in views.get(node.name, {}).items():
            (arguments[node.name, shape],) = rebuild.builder.add(Arg(shape, "x"), names=(name,), loc=node.loc)
    return rebuild.finish()
