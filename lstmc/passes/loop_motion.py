"""Move computations across the boundary of a loop: before it, after it, or into it for targets that cannot cut time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lstmc import ir
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan
from lstmc.ops import Arg, Full, Input, Leaf, Op, Param, Role
from lstmc.passes.base import NodePass, Refs, graph_pass, rewrite
from lstmc.text import Names

__all__ = ["Hoist", "Sink", "roll_in"]


@graph_pass()
def roll_in(graph: Graph, counts: Counter[str]) -> Graph:
    """Move computations on sequences into scans: the reverse of ``hoist`` and ``sink``.

    1. op on sequences [T, ...] => scan of T steps without a state, whose body is the op on one step; a parameter with T
       steps becomes a sequence if the op needs it as one

    A precomputed value stays: it is a weight of the net, and no layer computes it.
    """
    lengths = {node.op.length for node in graph if isinstance(node.op, Scan)}
    weights = ir.precomputed_nodes(graph)
    types = {ref: graph.type(ref) for ref in ir.values_over_time(graph)}
    over_time = {ref for ref, type_ in types.items() if type_.rank > 1 and type_.shape[0] in lengths}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return a scan's results in place of a node along time; None to keep a node, such as one that mixes steps."""
        if Ref(node.name) not in over_time or node.name in weights or isinstance(node.op, Scan | Input | Full):
            return None
        steps = node.types[0].shape[0]
        operands = graph.args(node.name)
        mapped = [ref in over_time and graph.type(ref).shape[0] == steps for ref in operands]
        params = [isinstance(graph.node(r.node).op, Param) and graph.type(r).shape[:1] == (steps,) for r in operands]
        of_steps = [either or other for either, other in zip(mapped, params, strict=True)]
        if (scan := _scan_of(b, node, args, mapped) or _scan_of(b, node, args, of_steps)) is None:
            return None
        counts["op_to_scan"] += 1
        return b.add(scan, *args, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _scan_of(b: Builder, node: Node, args: Refs, mapped: list[bool]) -> Scan | None:
    """Return a scan without states that runs a node on each step of its ``mapped`` operands, or None if it cannot."""
    op = ir.op_of_step(node.op, [b.type(ref) for ref in args], mapped)
    if op is None:
        return None
    body = Builder(node.name)
    operands: list[Ref] = []
    for i, (ref, m) in enumerate(zip(args, mapped, strict=True)):
        type_ = ir.of_step(b.type(ref)) if m else b.type(ref)
        role: Role = "x" if m else "weight" if ir.is_weight(b, ref) else "static"
        operands += body.add(Arg(type_.shape, role), names=(f"x{i}",))
    refs = body.add(op, *operands, names=node.names, loc=node.loc)
    return Scan(body.finish(list(zip(node.names, refs, strict=True))), node.types[0].shape[0])


@dataclass(frozen=True)
class Hoist(NodePass):
    """Move computations that depend on no state before the scan.

    1. a node on sequences (and on values that are the same at every step) => one node on all T steps at once, before
       the scan; the body gets its value as an ``x`` argument if it still needs it
    2. a node on values that are the same at every step => one node before the scan; its value is a ``static`` argument,
       or a ``weight`` if it is a weight
    3. a step output that was hoisted           => the sequence itself
    4. a sequence that both a product which is ``apart`` and other nodes read => two ``x`` arguments, so that the
       gradient of the product is one product for all steps too

    Products that are ``apart`` stay in the loop, because the writer of the loop takes them out later, unless another
    product of sequences needs them. Ops that are ``light`` stay too, unless an op outside or such a product needs them:
    in a loop their results need no memory. With ``of_parameters`` only values made of parameters alone move.

    An LSTM's x @ W_x.T over T steps of [N, D] becomes one matrix product of [T*N, D].
    """

    name = "hoist"
    before_peel = True
    apart: tuple[type[Op], ...] = ()  # ops that stay in the loop if they read a sequence
    light: tuple[type[Op], ...] = ()  # ops that stay too, unless an op that leaves the loop or is apart reads them
    of_parameters: bool = False
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        return _Hoister(b, node, node.op, args, self).run(counts) if isinstance(node.op, Scan) else None


@dataclass(frozen=True)
class Outer:
    """A body's value outside of the scan: a sequence [T, ...] of all steps (``mapped``), or one value for all steps."""

    ref: Ref
    mapped: bool


class _Mover:
    """One scan, and ``outer``, the values of its body that are known outside; at first, the arguments except states."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs) -> None:
        self.b, self.node, self.scan, self.args = b, node, scan, args
        self.body = scan.body
        slots = {Ref(name): i for i, name in enumerate(self.body.arguments()) if scan.role(i) != "state"}
        self.outer = {ref: Outer(args[i], scan.role(i) == "x") for ref, i in slots.items()}
        self.titles = {o.ref: name for o, name in zip(scan.step_outputs, node.names, strict=False)}  # names outside

    def _name(self, name: str) -> str:
        """Return a name outside of the scan: the body's name and the name in the body, unless it begins so already."""
        scope = f"{self.body.name}/"  # which a value named after a parameter of the cell has already
        return name if name.startswith(scope) else scope + name

    def _operands(self, node: Node) -> list[Outer] | None:
        """Return a node's operands as values outside of the scan, where constants are added; None if one is unknown."""
        operands = self.body.args(node.name)
        for ref in operands:
            leaf = self.body.node(ref.node)
            if ref not in self.outer and isinstance(leaf.op, Leaf) and not isinstance(leaf.op, Arg):
                self.outer[ref] = Outer(self.b.add(leaf.op, names=(self._name(leaf.name),), loc=leaf.loc)[0], False)
        return [self.outer[ref] for ref in operands] if all(ref in self.outer for ref in operands) else None

    def _move(self, node: Node, operands: Sequence[Outer]) -> Refs | None:
        """Add a body's node outside of the scan and return its values, for all steps at once if an operand differs from
        step to step. Return None if the op has no form for all steps."""
        mapped = [operand.mapped for operand in operands]
        op: Op | None = node.op
        if any(mapped):
            types = [self.body.type(ref) for ref in self.body.args(node.name)]
            op = ir.op_over_time(node.op, self.scan.length, types, mapped)
        if op is None:
            return None
        names = [self.titles.get(r) or self._name(n) for r, n in zip(node.refs, node.names, strict=True)]
        outs = self.b.add(op, *[operand.ref for operand in operands], names=names, loc=node.loc)
        self.outer.update((r, Outer(m, any(mapped))) for r, m in zip(node.refs, outs, strict=True))
        return outs


class _Hoister(_Mover):
    """Hoists from one scan by the settings of the pass ``what``; nodes that cannot move form the new body."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs, what: Hoist) -> None:
        super().__init__(b, node, scan, args)
        self.what = what
        self.on_state = self.body.dependents(set(self.body.arguments("state")))
        self.read_outside: set[str] = set()  # nodes read by a node that may move, or is ``apart``
        self.staying = self._staying()
        self.hoisted: set[str] = set()
        self.weights: set[Ref] = set()  # values outside, computed from parameters alone

    def _staying(self) -> set[str]:
        """Return the nodes with ``light`` ops on sequences that stay in the loop, because no node that leaves the loop
        reads them. In a scan without states no node stays."""
        if not self.on_state:
            return set()
        of_x = self.body.dependents({ref.node for ref, outer in self.outer.items() if outer.mapped})
        staying: set[str] = set()
        for node in reversed(list(self.body)):
            if node.name in self.on_state or isinstance(node.op, Leaf):
                continue
            if isinstance(node.op, self.what.light) and node.name in of_x and node.name not in self.read_outside:
                staying.add(node.name)
            else:
                self.read_outside.update(ref.node for ref in self.body.args(node.name))
        return staying

    def run(self, counts: Counter[str]) -> Refs | None:
        """Hoist what can be hoisted, and return the scan's results; None if nothing changes."""
        for node in self.body:
            if node.name not in self.on_state | self.staying and not isinstance(node.op, Leaf):
                counts["hoist_node"] += self._hoist(node)
        self.shared = self._shared()
        counts["hoist_argument"] += len(self.shared)
        return self._remaining(counts) if self.hoisted or self.shared else None

    def _product_alone(self, node: Node) -> bool:
        return isinstance(node.op, self.what.apart) and node.name not in self.on_state

    def _shared(self) -> set[Ref]:
        """Return the sequences that both a product that is ``apart`` and another node of the loop read."""
        of_products: set[Ref] = set()
        of_others = {output.ref for output in self.body.outputs}
        for node in self.body:
            if node.name in self.hoisted:
                continue
            operands = set(self.body.args(node.name))
            (of_products if self._product_alone(node) else of_others).update(operands)
        return {ref for ref in of_products & of_others if ref in self.outer and self.outer[ref].mapped}

    def _hoist(self, node: Node) -> bool:
        """Move a node before the scan if possible, and return whether it was moved."""
        if (outer := self._operands(node)) is None:
            return False
        refs, of_parameters = [o.ref for o in outer], self.what.of_parameters
        if of_parameters and not ir.computed_from_parameters(self.b, *refs, known=self.weights):
            return False
        mapped = any(o.mapped for o in outer)
        if mapped and isinstance(node.op, self.what.apart) and node.name not in self.read_outside:
            return False
        if (outs := self._move(node, outer)) is None:
            return False
        self.weights.update(outs if of_parameters else ())
        self.hoisted.add(node.name)
        return True

    def _remaining(self, counts: Counter[str]) -> Refs:
        """Add a scan of the nodes that stay, if a result needs it, and return the old scan's results in their order."""
        sequences = {ref: outer.ref for ref, outer in self.outer.items() if ref.node in self.hoisted and outer.mapped}
        direct = {i: sequences[o.ref] for i, o in enumerate(self.scan.step_outputs) if o.ref in sequences}
        counts["hoist_output"] += len(direct)
        kept = [i for i in range(len(self.body.outputs)) if i not in direct]
        body, operands = self._new_body(kept)
        if kept:
            names = [self.node.names[i] for i in kept]
            refs = self.b.add(replace(self.scan, body=body), *operands, names=names, loc=self.node.loc)
            direct.update(zip(kept, refs, strict=True))
        return tuple(direct[i] for i in range(len(self.body.outputs)))

    def _new_body(self, kept: Sequence[int]) -> tuple[Graph, list[Ref]]:
        """Return the body without the hoisted nodes and with the results at the indices ``kept``, and the scan's
        operands. A hoisted value that the body still reads is a new argument."""
        inner = Rebuild(self.body)
        operands: list[Ref] = []
        of_products: dict[Ref, Ref] = {}

        def argument(ref: Ref) -> Ref:
            """Add an argument for a value that is computed outside, and its value outside to the scan's operands."""
            outer = self.outer[ref]
            role: Role = "x" if outer.mapped else "weight" if ir.is_weight(self.b, outer.ref) else "static"
            node = self.body.node(ref.node)
            arg = Arg(self.body.type(ref).shape, role)
            operands.append(outer.ref)
            return inner.builder.add(arg, names=(node.names[ref.out],), loc=node.loc)[0]

        def value(ref: Ref) -> Ref:
            if ref not in inner.new:  # a hoisted value that the body still reads
                inner.new[ref] = argument(ref)
            return inner.new[ref]

        def of_product(ref: Ref) -> Ref:
            """Return a value for a product that is ``apart``: an argument of its own for a shared sequence."""
            if ref not in self.shared:
                return value(ref)
            if ref not in of_products:
                of_products[ref] = argument(ref)
            return of_products[ref]

        arguments = iter(self.args)
        for node in self.body:
            if node.name in self.hoisted:
                continue
            alone = self._product_alone(node)
            inner.copy(node, [(of_product if alone else value)(ref) for ref in self.body.args(node.name)])
            if isinstance(node.op, Arg):
                operands.append(next(arguments))
        outputs = [self.body.outputs[i] for i in kept]
        for output in outputs:
            value(output.ref)
        return inner.finish(outputs), operands


@dataclass(frozen=True)
class Sink(NodePass):
    """Move computations that no state depends on after the scan.

    1. a node that only step outputs depend on => one node on all T steps at once, after the scan; the body returns the
       operands of each step
    2. a step output that was sunk             => that node's result
    3. a step output that is a step of a sequence => that sequence

    Ops that are ``light`` stay in the loop, unless they read a sunk op's result, or sinking them reduces the bytes that
    leave the loop (a minimum cut decides). A readout inside a cell costs one matrix product of [T*N, H], not T of
    [N, H].
    """

    name = "sink"
    before_peel = True
    light: tuple[type[Op], ...] = ()
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        return _Sinker(b, node, node.op, args, self.light).run(counts) if isinstance(node.op, Scan) else None


class _Sinker(_Mover):
    """Sinks from one scan: the nodes to sink are found backwards from the outputs, then added after the scan."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs, light: tuple[type[Op], ...]) -> None:
        super().__init__(b, node, scan, args)
        self.sunk = self._sinkable()
        if light and scan.next_states:
            self.sunk = self._least(self.sunk, light)

    def _sinkable(self) -> set[str]:
        """Return the nodes that no next state needs, that only such nodes read, and that have a form for all steps."""
        feeding = self.body.needed([output.ref for output in self.scan.next_states])
        read_by: dict[str, set[str]] = {}
        for node in self.body:
            for ref in self.body.args(node.name):
                read_by.setdefault(ref.node, set()).add(node.name)
        sinkable: set[str] = set()
        for node in reversed(list(self.body)):
            if node.name in feeding or isinstance(node.op, Leaf) or not read_by.get(node.name, set()) <= sinkable:
                continue
            if self._wide(node) is not None:
                sinkable.add(node.name)
        return sinkable

    def _least(self, sinkable: set[str], light: tuple[type[Op], ...]) -> set[str]:
        """Return the nodes to sink: nodes whose ops are not ``light``, nodes that depend on these, and nodes whose
        sinking makes the values that leave the loop smaller. A value that the scan returns anyway, or that exists
        outside as a sequence, costs nothing."""
        # products of no state are not heavy: the loop computes them for all steps at once too
        own = self.body.dependents(set(self.body.arguments("state")))
        heavy = {name for name in sinkable & own if not isinstance(self.body.node(name).op, light)}
        heavy |= self.body.dependents(heavy) & sinkable
        if not heavy:
            return set()
        free = {output.ref for output in self.scan.step_outputs} | set(self.outer)
        operands = {ref for name in sinkable for ref in self.body.args(name) if self._mapped(ref)}
        return self.body.beyond_cut(sinkable, heavy, {ref: self.body.type(ref).size for ref in operands - free})

    def _mapped(self, ref: Ref) -> bool:
        """Return whether a value differs from step to step, as constants and static arguments do not."""
        if ref in self.outer:
            return self.outer[ref].mapped
        node = self.body.node(ref.node)
        return isinstance(node.op, Arg) or not isinstance(node.op, Leaf)

    def _wide(self, node: Node) -> object:
        """Return a node's op for all steps at once; None if it has none or if no operand differs between steps."""
        operands = self.body.args(node.name)
        mapped = [self._mapped(ref) for ref in operands]
        if not any(mapped):
            return None
        return ir.op_over_time(node.op, self.scan.length, [self.body.type(ref) for ref in operands], mapped)

    def run(self, counts: Counter[str]) -> Refs | None:
        """Sink the nodes, and return the scan's results; None if nothing changes."""
        steps = self.scan.step_outputs
        passed = {o.ref for o in steps if o.ref in self.outer and self.outer[o.ref].mapped}
        if not self.sunk and not passed:
            return None
        counts["sink_node"] += len(self.sunk)
        kept = [o for o in steps if o.ref.node not in self.sunk and o.ref not in passed]
        crossing = self._crossing()
        names = Names(o.name for o in steps)
        known = {output.ref for output in kept}
        kept += [Output(names.unique(self.body.value_name(ref)), ref) for ref in crossing if ref not in known]
        results, states = self._scan_without(kept)
        counts["sink_output"] += sum(o.ref.node in self.sunk for o in steps)
        counts["pass_sequence"] += sum(o.ref in passed for o in steps)
        for node in self.body:
            if node.name in self.sunk:
                operands = self._operands(node)
                assert operands is not None
                self._move(node, operands)
        return (*(results.get(o.name) or self.outer[o.ref].ref for o in steps), *states)

    def _crossing(self) -> list[Ref]:
        """Return the values of the loop that sunk nodes read, in the order in which they are read."""
        read = dict.fromkeys(ref for node in self.body if node.name in self.sunk for ref in self.body.args(node.name))
        return [ref for ref in read if ref.node not in self.sunk and ref not in self.outer and self._mapped(ref)]

    def _scan_without(self, kept: list[Output]) -> tuple[dict[str, Ref], Refs]:
        """Add the scan without the sunk nodes. Return the sequences of outputs ``kept`` by name, and last states."""
        inner = Rebuild(self.body)
        for node in self.body:
            if node.name not in self.sunk:
                inner.copy(node)
        outputs = [*kept, *self.scan.next_states]
        if not outputs:
            return {}, ()
        scan = replace(self.scan, body=inner.finish(outputs))
        titles = dict(zip([o.name for o in self.scan.step_outputs], self.node.names, strict=False))
        names = [titles.get(o.name) or self._name(o.name) for o in kept]
        names += self.node.names[len(self.scan.step_outputs) :]
        refs = self.b.add(scan, *self.args, names=names, loc=self.node.loc)
        results = {o.name: ref for o, ref in zip(kept, refs, strict=False)}
        for output in kept:
            self.outer.setdefault(output.ref, Outer(results[output.name], True))
        return results, refs[len(kept) :]
