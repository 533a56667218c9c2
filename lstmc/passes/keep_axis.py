"""Steps that keep the time axis, as an axis of 1: a sequence is then cut and joined without changing its rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Ref, Scan, op_over_time
from lstmc.ops import Arg, Input, Leaf, Param, Reshape
from lstmc.passes.base import Pass, PassResult, Refs, result, rewrite
from lstmc.passes.dead import pruned


def every_scan(scan: Scan) -> bool:
    """All scans."""
    return True


@dataclass(frozen=True)
class KeepTimeAxis(Pass):
    """Let the steps of the scans that ``where`` picks be [1, N, ...] instead of [N, ...].

    1. an ``x`` argument, a state, a step output: [N, ...]  => [1, N, ...]; each node of a body does for one step what
       it would do for several at once
    2. a first and a last state outside                     => reshaped to [1, N, ...], and back; a constant is made so

    What is the same at every step stays as it is. A scan stays too, if one of its nodes cannot do this.
    ``reshape`` is the op of the stage that reshapes.
    """

    name = "keep_time_axis"
    where: Callable[[Scan], bool] = every_scan
    reshape: type[Reshape] = Reshape

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            scan = node.op
            if not isinstance(scan, Scan) or scan.kept or not self.where(scan):
                return None
            bodies = [kept for body in scan.bodies if (kept := _kept_body(body)) is not None]
            if len(bodies) < len(scan.bodies):
                return None
            counts["keep_axis"] += 1
            first = bodies[1] if scan.first is not None else None
            return self._scan(b, node, replace(scan, body=bodies[0], first=first, kept=True), args)

        return result(graph, rewrite(graph, visit), counts)

    def _scan(self, b: Builder, node: Node, scan: Scan, args: Refs) -> Refs:
        operands = [self._step(b, ref) if scan.role(i) == "state" else ref for i, ref in enumerate(args)]
        steps = len(scan.step_outputs)
        names = (*node.names[:steps], *(f"{name}/step" for name in node.names[steps:]))
        results = b.add(scan, *operands, names=names, loc=node.loc)
        last = zip(results[steps:], node.types[steps:], node.names[steps:], strict=True)
        return (*results[:steps], *(b.add(self.reshape(t.shape), ref, names=(name,))[0] for ref, t, name in last))

    def _step(self, b: Builder, state: Ref) -> Ref:
        """A first state as the step before the first."""
        node = b.node(state.node)
        shape = (1, *b.type(state).shape)
        if isinstance(node.op, Leaf) and _is_constant(b, state):
            return b.add(_with_axis(node.op), names=(f"{node.name}/step",), loc=node.loc)[0]
        return b.add(self.reshape(shape), state, names=(f"{node.names[state.out]}/step",), loc=node.loc)[0]


def _kept_body(body: Graph) -> Graph | None:
    """The body on steps that keep their axis; None if a node of it has no such form."""
    builder = Builder(body.name, body)
    same: dict[Ref, Ref] = {}  # values that are the same at every step, without the axis
    kept: dict[Ref, Ref] = {}  # values with the axis
    for node in body:
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        if isinstance(node.op, Arg) and node.op.role in ("x", "state"):
            kept[refs[0]] = builder.add(_with_axis(node.op), names=node.names, loc=node.loc)[0]
            continue
        operands = body.args(node.name)
        if kept.keys().isdisjoint(operands):
            outs = builder.copy(node, [same[ref] for ref in operands])
            same.update(zip(refs, outs, strict=True))
            continue
        for ref in operands:
            if ref not in kept and _is_constant(body, ref) and body.type(ref).rank == node.types[0].rank:
                leaf = body.node(ref.node)
                assert isinstance(leaf.op, Leaf)
                (kept[ref],) = builder.add(_with_axis(leaf.op), names=(f"{leaf.name}/step",), loc=leaf.loc)
        mapped = [ref in kept for ref in operands]
        op = op_over_time(node.op, 1, [body.type(ref) for ref in operands], mapped)
        if op is None:
            return None
        outs = builder.add(op, *[kept.get(r) or same[r] for r in operands], names=node.names, loc=node.loc)
        kept.update(zip(refs, outs, strict=True))
    if not kept.keys() >= {output.ref for output in body.outputs}:
        return None  # a result that is the same at every step has no axis to keep
    whole = builder.finish([(o.name, kept[o.ref]) for o in body.outputs])
    return pruned(whole, whole.outputs, {arg.name for arg in whole.body_args()})


def _is_constant(graph: Graph | Builder, ref: Ref) -> bool:
    op = graph.node(ref.node).op
    return isinstance(op, Leaf) and not isinstance(op, Input | Param | Arg)


def _with_axis(op: Leaf) -> Leaf:
    return replace(op, shape=(1, *op.shape))
