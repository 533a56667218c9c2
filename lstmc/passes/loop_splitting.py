"""Loop splitting: peel off the first step, which known zero states make simpler; and distribute a scan over two scans,
so that products with the first scan's states are one product for all steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan
from lstmc.ops import Arg, Full, Linear, Op
from lstmc.passes.base import NodePass, Pass, PassResult, Refs, result, rewrite
from lstmc.passes.simplify import pruned, simplified, without_repeats
from lstmc.patterns import state_arguments, states_read

__all__ = ["Distribute", "Peel"]


@dataclass(frozen=True)
class Peel(NodePass):
    """Give each scan that starts from a constant its own first step.

    1. scan(body) from full initial states => scan(body, first), where first is the body with those states put in
       and simplified: a product with a zero state is gone, and so is the matrix that it was multiplied by
    """

    name = "peel"
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        if not isinstance(node.op, Scan) or node.op.first is not None:
            return None
        first = _first_step(node.op, b, args)
        if first is None:
            return None
        counts["peel_first_step"] += 1
        return b.add(replace(node.op, first=first), *args, names=node.names, loc=node.loc)


def _first_step(scan: Scan, b: Builder, operands: Refs) -> Graph | None:
    constants = {
        arg.name: op
        for i, (arg, ref) in enumerate(zip(scan.body.body_args(), operands, strict=True))
        if scan.role(i) == "state" and isinstance(op := b.node(ref.node).op, Full)
    }
    if not constants:
        return None
    rebuild = Rebuild(scan.body)
    for node in scan.body:
        rebuild.copy(node)
        if node.name in constants:
            rebuild.put(node, rebuild.builder.add(constants[node.name], loc=node.loc))
    counts: Counter[str] = Counter()
    first = without_repeats(simplified(rebuild.finish(), counts), counts)
    return pruned(first, first.outputs, {arg.name for arg in first.body_args()})


@dataclass(frozen=True)
class Distribute(Pass):
    """Compute states that need no others in a scan before, where products of the rest read them alone.

    1. states that need no other states, and products that read no others and that these do not need => a scan of
       these states, and a scan of the rest that takes their sequences, where ``hoist`` then finds the products; unless
       the sequences have more elements than the products

    An example are RWKV's mixtures of an input and the previous input: the products with them leave the loop.
    """

    name = "distribute"
    before_peel = True
    products: tuple[type[Op], ...] = (Linear,)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if not isinstance(node.op, Scan) or node.op.kept or node.op.states < 2:
                return None
            return _first_that_pays(b, node, node.op, args, self.products, counts)

        before = -1
        while counts.total() > before:
            before = counts.total()
            graph = rewrite(graph, visit)
        return result(graph, graph, counts) if counts else PassResult(graph, False)


def _first_that_pays(
    b: Builder, node: Node, scan: Scan, args: Refs, products: tuple[type[Op], ...], counts: Counter[str]
) -> Refs | None:
    body = scan.body
    states, reads = state_arguments(body), states_read(body)
    numbers = {name: number for number, name in enumerate(states)}
    groups: dict[frozenset[int], None] = {}  # states that need no other states, and that a product reads
    for each in body:
        if isinstance(each.op, products):
            read = {numbers[name] for name in body.needed([Ref(each.name)]) & numbers.keys()}
            groups[frozenset(read.union(*(reads[number] for number in read)))] = None
    for group in sorted(groups, key=lambda group: (len(group), *sorted(group))):
        if 0 < len(group) < len(states):
            halves = _Halves(scan, group, products)
            if halves.pays:
                counts["distribute"] += 1
                return halves.scans(b, node, args)
    return None


class _Halves:
    """A scan as two scans: of the ``first`` states, by their numbers, which need no other states; and of the rest."""

    def __init__(self, scan: Scan, first: Collection[int], products: tuple[type[Op], ...]) -> None:
        self.scan, self.body = scan, scan.body
        self.names = state_arguments(self.body)
        self.numbers = sorted(first), [number for number in range(len(self.names)) if number not in first]
        self.first = {self.names[number] for number in first}
        varying = self.body.dependents(self.first)
        computed = (self.body.needed([output.ref for output in self._nexts(0)]) | self.first) & varying
        self.crossing = self._crossing(computed)
        alone = varying - self.body.dependents(set(self.names) - self.first) - computed
        freed = [node for node in self.body if node.name in alone and isinstance(node.op, products)]
        moved = sum(self.body.type(ref).size for ref in self.crossing)
        self.pays = bool(freed) and moved <= sum(node.types[0].size for node in freed)

    def _nexts(self, half: int) -> list[Output]:
        return [self.scan.next_states[number] for number in self.numbers[half]]

    def _crossing(self, computed: set[str]) -> list[Ref]:
        """Return the values of the first scan that the rest reads."""
        stack = [output.ref for output in (*self.scan.step_outputs, *self._nexts(1))]
        seen = set(stack)
        for ref in stack:
            more = [] if ref.node in computed else [arg for arg in self.body.args(ref.node) if arg not in seen]
            seen.update(more)
            stack += more
        return [ref for ref in stack if ref.node in computed]

    def scans(self, b: Builder, node: Node, args: Refs) -> Refs:
        """Return the results of the scan, computed by two scans."""
        values = [Output(self.body.value_name(ref), ref) for ref in self.crossing]
        names = [f"{self.body.name}/{output.name}" for output in values]
        operands = dict(zip((arg.name for arg in self.body.body_args()), args, strict=True))
        steps = node.names[: len(self.scan.step_outputs)]
        ends = node.names[len(steps) :]

        def half(number: int, body: Graph, outputs: Sequence[str]) -> tuple[Refs, Refs]:
            titles = [*outputs, *(ends[state] for state in self.numbers[number])]
            arguments = [operands[arg.name] for arg in body.body_args()]
            results = b.add(replace(self.scan, body=body), *arguments, names=titles, loc=node.loc)
            return results[: len(outputs)], results[len(outputs) :]

        sequences, first = half(0, pruned(self.body, [*values, *self._nexts(0)], self.first), names)
        body, taken = self._rest()
        operands |= {name: sequences[at] for name, at in taken.items()}
        results, second = half(1, body, steps)
        last = dict(zip((*self.numbers[0], *self.numbers[1]), (*first, *second), strict=True))
        return (*results, *(last[number] for number in range(len(ends))))

    def _rest(self) -> tuple[Graph, dict[str, int]]:
        """Return the second scan's body, and for each of its new arguments the index of a value of the first scan."""
        rebuild, taken = Rebuild(self.body), dict[str, int]()
        for node in self.body:
            crossing = [ref for ref in self.crossing if ref.node == node.name]
            for ref in crossing:
                arg = Arg(node.types[ref.out].shape, "x")
                (rebuild.new[ref],) = rebuild.builder.add(arg, names=(node.names[ref.out],), loc=node.loc)
                taken[rebuild.new[ref].node] = self.crossing.index(ref)
            if (
                not crossing
                and node.name not in self.first
                and all(r in rebuild.new for r in self.body.args(node.name))
            ):
                rebuild.copy(node)
        body = rebuild.finish([*self.scan.step_outputs, *self._nexts(1)])
        return pruned(body, body.outputs, state_arguments(body)), taken
