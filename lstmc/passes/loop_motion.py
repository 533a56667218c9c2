"""Out of the loop, before it: what depends on no state is computed once, for all steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight, made_of_parameters, op_over_time
from lstmc.ops import Arg, Leaf, Op, Role
from lstmc.passes.base import Pass, PassResult, Refs, check_unpeeled, result, rewrite


@dataclass(frozen=True)
class Hoist(Pass):
    """Run before a scan what no state enters.

    1. a node on sequences (and on what is the same at every step) => one node on all T steps at once, before the
       scan; the body gets its value as an ``x`` argument where it still needs it
    2. a node on what is the same at every step => one node before the scan; a ``static`` argument, or a ``weight``
       where it is one
    3. a step output that was hoisted           => the sequence itself

    Products that are ``apart`` stay in the loop: for who writes it and can take them out there. With ``of_parameters``
    all stays but what is made of parameters alone.

    An LSTM's x @ W_x.T over T steps of [N, D] becomes one matrix product of [T*N, D].
    """

    name = "hoist"
    apart: tuple[type[Op], ...] = ()  # what stays in the loop where it is on a sequence
    of_parameters: bool = False

    def requires(self, graph: Graph) -> None:
        check_unpeeled(self, graph)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if not isinstance(node.op, Scan):
                return None
            return _Hoister(b, node, node.op, args, self).run(counts)

        return result(graph, rewrite(graph, visit), counts)


@dataclass(frozen=True)
class Outer:
    """A body's value outside of the scan: the value of every step (``mapped``: [T, ...]), or one for all."""

    ref: Ref
    mapped: bool


class _Hoister:
    """One scan: its body is walked once; what can go out goes out, the rest becomes the new body."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs, what: Hoist) -> None:
        self.what = what
        self.b, self.node, self.scan, self.args = b, node, scan, args
        self.body = scan.body
        params = self.body.body_args()
        states = {a.name for i, a in enumerate(params) if scan.role(i) == "state"}
        self.on_state = self.body.dependents(states)
        self.outer = {
            Ref(a.name): Outer(args[i], scan.role(i) == "x") for i, a in enumerate(params) if scan.role(i) != "state"
        }
        self.hoisted: set[str] = set()
        self.made: set[Ref] = set()  # outside, of parameters alone
        self.titles = {o.ref: name for o, name in zip(scan.step_outputs, node.names, strict=False)}

    def run(self, counts: Counter[str]) -> Refs | None:
        for node in self.body:
            if node.name not in self.on_state and not isinstance(node.op, Leaf) and self._hoist(node):
                counts["hoist_node"] += 1
        if not self.hoisted:
            return None
        return self._remaining(counts)

    def _hoist(self, node: Node) -> bool:
        operands = self.body.args(node.name)
        for ref in operands:
            leaf = self.body.node(ref.node)
            if ref not in self.outer and isinstance(leaf.op, Leaf) and not isinstance(leaf.op, Arg):
                self.outer[ref] = Outer(self.b.add(leaf.op, names=(self._name(leaf.name),), loc=leaf.loc)[0], False)
        if not all(ref in self.outer for ref in operands):
            return False
        found = [self.outer[ref] for ref in operands]
        if self.what.of_parameters and not made_of_parameters(self.b, *[o.ref for o in found], known=self.made):
            return False
        mapped = any(o.mapped for o in found)
        op: Op | None = node.op
        if mapped and isinstance(node.op, self.what.apart):
            return False
        if mapped:
            types = [self.body.type(ref) for ref in operands]
            op = op_over_time(node.op, self.scan.length, types, [o.mapped for o in found])
        if op is None:
            return False
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        names = [self.titles.get(r) or self._name(n) for r, n in zip(refs, node.names, strict=True)]
        made = self.b.add(op, *[o.ref for o in found], names=names, loc=node.loc)
        self.outer.update((r, Outer(m, mapped)) for r, m in zip(refs, made, strict=True))
        if self.what.of_parameters:
            self.made.update(made)
        self.hoisted.add(node.name)
        return True

    def _name(self, name: str) -> str:
        return f"{self.body.name}/{name}"

    def _remaining(self, counts: Counter[str]) -> Refs:
        """The scan of what is left, if anything is; its results and the hoisted ones, in the old order."""
        direct = {
            i: self.outer[o.ref].ref
            for i, o in enumerate(self.scan.step_outputs)
            if o.ref.node in self.hoisted and self.outer[o.ref].mapped
        }
        counts["hoist_output"] += len(direct)
        kept = [i for i in range(len(self.body.outputs)) if i not in direct]
        body, operands = self._new_body(kept)
        made: dict[int, Ref] = dict(direct)
        if kept:
            scan = replace(self.scan, body=body)
            names = [self.node.names[i] for i in kept]
            refs = self.b.add(scan, *operands, names=names, loc=self.node.loc)
            made.update(zip(kept, refs, strict=True))
        return tuple(made[i] for i in range(len(self.body.outputs)))

    def _new_body(self, kept: Sequence[int]) -> tuple[Graph, list[Ref]]:
        inner = Rebuild(self.body)
        operands: list[Ref] = []

        def value(ref: Ref) -> Ref:
            if ref not in inner.new:  # a hoisted value that the body still reads
                outer = self.outer[ref]
                role: Role = "x" if outer.mapped else "weight" if is_weight(self.b, outer.ref) else "static"
                node = self.body.node(ref.node)
                name = node.names[ref.out]
                (made,) = inner.builder.add(Arg(self.body.type(ref).shape, role), names=(name,), loc=node.loc)
                inner.new[ref] = made
                operands.append(outer.ref)
            return inner.new[ref]

        arguments = iter(self.args)
        for node in self.body:
            if node.name in self.hoisted:
                continue
            inner.copy(node, [value(ref) for ref in self.body.args(node.name)])
            if isinstance(node.op, Arg):
                operands.append(next(arguments))
        outputs = [self.body.outputs[i] for i in kept]
        for output in outputs:
            value(output.ref)
        return inner.finish(outputs), operands
