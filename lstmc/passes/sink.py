"""Out of the loop, after it: what feeds no state is computed once, from all steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, op_over_time
from lstmc.ops import Arg, Leaf
from lstmc.passes.base import Pass, PassResult, Refs, check_unpeeled, result, rewrite
from lstmc.passes.loop_motion import Outer


@dataclass(frozen=True)
class Sink(Pass):
    """Run after a scan what enters no state.

    1. a node that only step outputs depend on => one node on all T steps at once, after the scan; the body returns
       what it needs of each step
    2. a step output that was sunk             => that node's result

    A readout inside a cell costs one matrix product of [T*N, H], not T of [N, H].
    """

    name = "sink"

    def requires(self, graph: Graph) -> None:
        check_unpeeled(self, graph)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if not isinstance(node.op, Scan):
                return None
            return _Sinker(b, node, node.op, args).run(counts)

        return result(graph, rewrite(graph, visit), counts)


class _Sinker:
    """One scan: what can be sunk is found backwards from its readers, then rebuilt outside."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs) -> None:
        self.b, self.node, self.scan = b, node, scan
        self.body = scan.body
        self.outer = {
            Ref(arg.name): Outer(args[i], scan.role(i) == "x")
            for i, arg in enumerate(self.body.body_args())
            if scan.role(i) != "state"
        }
        self.args = args
        self.sunk = self._sinkable()

    def _sinkable(self) -> set[str]:
        feeding = self.body.needed([output.ref for output in self.scan.next_states])
        read_by: dict[str, set[str]] = {}
        for node in self.body:
            for ref in self.body.args(node.name):
                read_by.setdefault(ref.node, set()).add(node.name)
        found: set[str] = set()
        for node in reversed(list(self.body)):
            if node.name in feeding or isinstance(node.op, Leaf) or not read_by.get(node.name, set()) <= found:
                continue
            if self._wide(node) is not None:
                found.add(node.name)
        return found

    def _mapped(self, ref: Ref) -> bool:
        """Whether a value differs from step to step; a body's constants and static arguments do not."""
        if ref in self.outer:
            return self.outer[ref].mapped
        node = self.body.node(ref.node)
        return isinstance(node.op, Arg) or not isinstance(node.op, Leaf)

    def _wide(self, node: Node) -> object:
        operands = self.body.args(node.name)
        mapped = [self._mapped(ref) for ref in operands]
        if not any(mapped):
            return None
        return op_over_time(node.op, self.scan.length, [self.body.type(ref) for ref in operands], mapped)

    def run(self, counts: Counter[str]) -> Refs | None:
        if not self.sunk:
            return None
        counts["sink_node"] += len(self.sunk)
        steps = self.scan.step_outputs
        kept = [o for o in steps if o.ref.node not in self.sunk]
        crossing = self._crossing()
        known = {o.ref for o in kept}
        names = {o.name for o in steps}
        for ref in crossing:
            if ref not in known:
                name = self.body.value_name(ref)
                while name in names:
                    name += "_"
                names.add(name)
                kept.append(Output(name, ref))
        results, states = self._scan_without(kept)
        counts["sink_output"] += sum(o.ref.node in self.sunk for o in steps)
        self._rebuild()
        return (*(results.get(o.name) or self.outer[o.ref].ref for o in steps), *states)

    def _crossing(self) -> list[Ref]:
        """The body's own values that sunk nodes read, in order."""
        wanted: dict[Ref, None] = {}
        for node in self.body:
            if node.name in self.sunk:
                for ref in self.body.args(node.name):
                    if ref.node not in self.sunk and ref not in self.outer and self._mapped(ref):
                        wanted[ref] = None
        return list(wanted)

    def _scan_without(self, kept: list[Output]) -> tuple[dict[str, Ref], Refs]:
        """Add the scan that returns ``kept``: their sequences by name, and the last states."""
        inner = Rebuild(self.body)
        for node in self.body:
            if node.name not in self.sunk:
                inner.copy(node)
        outputs = [*kept, *self.scan.next_states]
        if not outputs:
            return {}, ()
        scan = replace(self.scan, body=inner.finish(outputs))
        titles = dict(zip([o.name for o in self.scan.step_outputs], self.node.names, strict=False))
        names = [titles.get(o.name, f"{self.body.name}/{o.name}") for o in kept]
        names += self.node.names[len(self.scan.step_outputs) :]
        refs = self.b.add(scan, *self.args, names=names, loc=self.node.loc)
        results = {o.name: ref for o, ref in zip(kept, refs, strict=False)}
        for output in kept:
            self.outer.setdefault(output.ref, Outer(results[output.name], True))
        return results, refs[len(kept) :]

    def _rebuild(self) -> None:
        """The sunk nodes, outside, on sequences."""
        titles = {o.ref: name for o, name in zip(self.scan.step_outputs, self.node.names, strict=False)}
        for node in self.body:
            if node.name not in self.sunk:
                continue
            operands = self.body.args(node.name)
            for ref in operands:
                if ref not in self.outer:  # a constant of the body
                    leaf = self.body.node(ref.node)
                    self.outer[ref] = Outer(self.b.add(leaf.op, loc=leaf.loc)[0], False)
            found = [self.outer[ref] for ref in operands]
            types = [self.body.type(ref) for ref in operands]
            op = op_over_time(node.op, self.scan.length, types, [o.mapped for o in found])
            assert op is not None
            refs = [Ref(node.name, out) for out in range(len(node.types))]
            names = [titles.get(r, f"{self.body.name}/{n}") for r, n in zip(refs, node.names, strict=True)]
            made = self.b.add(op, *[o.ref for o in found], names=names, loc=node.loc)
            self.outer.update((r, Outer(m, True)) for r, m in zip(refs, made, strict=True))
