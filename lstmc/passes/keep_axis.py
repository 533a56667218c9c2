"""Steps that keep the time axis, as an axis of 1: a sequence is then cut and joined without changing its rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Ref, Scan
from lstmc.ops import Arg, Input, Leaf, Param, Reshape
from lstmc.passes.base import Pass, PassResult, Refs, result, rewrite
from lstmc.passes.hoist import op_over_time


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
        made = b.add(scan, *operands, names=names, loc=node.loc)
        last = zip(made[steps:], node.types[steps:], node.names[steps:], strict=True)
        return (*made[:steps], *(b.add(self.reshape(t.shape), ref, names=(name,))[0] for ref, t, name in last))

    def _step(self, b: Builder, state: Ref) -> Ref:
        """A first state as the step before the first."""
        node = b.node(state.node)
        shape = (1, *b.type(state).shape)
        if isinstance(node.op, Leaf) and not isinstance(node.op, Input | Param | Arg):  # a constant
            return b.add(replace(node.op, shape=shape), names=(f"{node.name}/step",), loc=node.loc)[0]
        return b.add(self.reshape(shape), state, names=(f"{node.names[state.out]}/step",), loc=node.loc)[0]


def _kept_body(body: Graph) -> Graph | None:
    """The body on steps that keep their axis; None if a node of it has no such form."""
    builder = Builder(body.name, body)
    new: dict[Ref, Ref] = {}
    mapped: set[Ref] = set()
    for node in body:
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        operands = body.args(node.name)
        op = node.op
        if isinstance(op, Arg):
            if op.role in ("x", "state"):
                op = replace(op, shape=(1, *op.shape))
                mapped.update(refs)
        elif not isinstance(op, Leaf) and mapped.intersection(operands):
            wide = op_over_time(op, 1, [body.type(r) for r in operands], [r in mapped for r in operands])
            if wide is None:
                return None
            op = wide
            mapped.update(refs)
        made = builder.add(op, *[new[ref] for ref in operands], names=node.names, loc=node.loc)
        new.update(zip(refs, made, strict=True))
    if not mapped.issuperset(output.ref for output in body.outputs):
        return None  # a result that is the same at every step has no axis to keep
    return builder.finish([(o.name, new[o.ref]) for o in body.outputs])
