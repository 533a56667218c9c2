"""A model of one step: states come in and go out, so that a net of one step can run sequences of any length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lstmc import ir
from lstmc.errors import Argument, PassError
from lstmc.interp import forward
from lstmc.ir import Graph, Node, Output, Rebuild, Ref, Scan
from lstmc.ops import Arg, Array, Binary, Constant, Full, Input, Op, Param, Split
from lstmc.passes.simplify import without_dead

__all__ = ["OneStep", "StatePair", "one_step"]

STEP = Argument("step", "True")


@dataclass(frozen=True)
class StatePair:
    """One state of a one-step model: feed ``before``, read ``after``, and feed that at the next step. ``initial`` is
    the value to feed at the first step: a number for all elements, a graph that computes it from parameters alone, the
    name of an input of the original model, or, for any other value, a description in words."""

    name: str  # the name of the state: lstm/h
    before: str  # an input of the one-step model: lstm/h_in
    after: str  # an output of the one-step model: lstm/h_out
    initial: float | Graph | str

    def first(self, weights: Mapping[str, Array]) -> float | Array | str:
        """Return ``initial``; if it is a graph, return the float32 array that it computes from ``weights``."""
        if not isinstance(self.initial, Graph):
            return self.initial
        (array,) = forward(self.initial, params=weights).outputs.values()
        return np.asarray(array, np.float32)

    @property
    def learned(self) -> bool:
        nodes = self.initial if isinstance(self.initial, Graph) else ()
        return any(isinstance(node.op, Param) and not node.op.fixed for node in nodes)


@dataclass(frozen=True)
class OneStep:
    """A one-step model and its states."""

    graph: Graph
    states: tuple[StatePair, ...]


def one_step(graph: Graph) -> OneStep:
    """Return a model graph with T = 1, its scans' initial states as inputs and their last states as outputs.

    1. input [T, ...] that a scan reads         => input [1, ...]; likewise for all values along time
    2. scan of T steps => scan of one step
    3. the initial state h of a scan called S   => input ``S/h_in``
    4. the last state h of S                   => output ``S/h_out``
    5. y[-1], y along time => y[0], the value after this step

    Outputs keep their names. Refused are a scan that runs backwards (its first step needs the last input), ops that mix
    steps, such as a concat along time, and a step that reads a value known only after the last step: another scan's
    last state, unless it is a first state. Values that no output reads are left out.
    """
    given = ir.values_over_time(graph) & {Ref(node.name) for node in graph if isinstance(node.op, Input)}
    graph = without_dead(graph, Counter())
    if ir.is_step(graph):
        return _of_step(graph)
    scans = [node for node in graph if isinstance(node.op, Scan)]
    if not scans:
        raise PassError(f"one step of {graph.name}: expected a model with a scan, found none")
    for node in reversed(scans):  # the user's scan comes after the scan of its step_index
        if isinstance(node.op, Scan) and node.op.reverse:
            raise _refused(graph, node, f"{node.op.body.name} runs backwards, so its first step needs the last input")
    over_time = ir.values_over_time(graph) | given  # an input that no step reads
    _check_last_states(graph, over_time)
    return _Stepper(graph, over_time).run()


def _refused(graph: Graph, node: Node, reason: str, *notes: str) -> PassError:
    return PassError(f"one step of {graph.name}: {reason}", loc=node.loc, notes=notes)


def _of_step(graph: Graph) -> OneStep:
    """Return a model that is one step already; its states are the inputs that take outputs at the next step."""
    rebuild, carried, pairs = Rebuild(graph), graph.carried(), list[StatePair]()
    for node in graph:
        if isinstance(node.op, Input) and node.name in carried:
            initial = node.op.fill.value if isinstance(node.op.fill, Constant) else 0.0
            pairs.append(StatePair(node.name, node.name, carried[node.name].name, initial))
            rebuild.put(node, rebuild.builder.copy(node, (), replace(node.op, fill=None)))
        else:
            rebuild.copy(node)
    outputs = [output._replace(carried_to=None) for output in ir.renewed(graph.outputs, rebuild.new)]
    return OneStep(rebuild.builder.finish(outputs), tuple(pairs))


def _check_last_states(graph: Graph, over_time: set[Ref]) -> None:
    """Raise PassError if a step reads a scan's last state: a net of one step has only the state after this step."""
    last: dict[Ref, Ref] = {}  # values computed from last states alone -> these states
    for node in graph:
        args, refs = graph.args(node.name), node.refs
        if isinstance(node.op, Scan):
            last_states = [ref for i, ref in enumerate(args) if ref in last and node.op.role(i) != "state"]
            last.update((ref, ref) for ref in refs[len(node.op.step_outputs) :])
        elif _cuts_last(graph, node, over_time):
            last[refs[-1]] = refs[-1]
            continue
        else:
            last_states = [ref for ref in args if ref in last]
            if over_time.isdisjoint((*refs, *args)):
                last.update((ref, last[last_states[0]]) for ref in refs if last_states)
                continue
        if last_states:
            state = graph.value_name(last[last_states[0]])
            reason = f"%{node.name} reads %{state} at every step, which is known after the last step only"
            note = f"make two models: one that returns %{state}, and one that takes it as an Input"
            raise _refused(graph, node, reason, note)


def _cuts_last(graph: Graph, node: Node, over_time: set[Ref]) -> bool:
    """Return whether a node cuts y[-1] from a value y along time, and nothing reads its other pieces."""
    cuts = isinstance(node.op, Split) and node.op.axis == 0 and node.op.sizes[-1] == 1
    if not cuts or graph.args(node.name)[0] not in over_time:
        return False
    read = {ref for other in graph for ref in graph.args(other.name)} | {output.ref for output in graph.outputs}
    return read.isdisjoint(Ref(node.name, out) for out in range(len(node.types) - 1))


class _Stepper:
    """Builds the one-step model of a graph; ``over_time`` are the values whose first axis is time."""

    def __init__(self, graph: Graph, over_time: set[Ref]) -> None:
        self.graph, self.over_time = graph, over_time
        self.rebuild = Rebuild(graph)
        self.b = self.rebuild.builder
        self.outputs: list[Output] = []  # the states after the step
        self.states: list[StatePair] = []
        self.replaced = self._initial_inputs()  # inputs that the new model does not have

    def _initial_inputs(self) -> set[str]:
        """Return the inputs that are only initial states: the one-step model has an input for each state instead."""
        states: set[str] = set()
        others = {output.ref.node for output in self.graph.outputs}
        for node in self.graph:
            for i, ref in enumerate(self.graph.args(node.name)):
                initial = isinstance(node.op, Scan) and node.op.role(i) == "state"
                (states if initial else others).add(ref.node)
        return {n.name for n in self.graph if isinstance(n.op, Input) and n.name in states - others}

    def run(self) -> OneStep:
        """Return the one-step model, with the new states' outputs after the model's own outputs."""
        for node in self.graph:
            if node.name in self.replaced:
                continue
            if isinstance(node.op, Scan):
                self.rebuild.put(node, self._scan(node, node.op))
            elif _cuts_last(self.graph, node, self.over_time):
                (y,) = self.rebuild.args(node)
                self.rebuild.put(node, (y,) * len(node.types))
            elif self.over_time.isdisjoint((Ref(node.name), *self.graph.args(node.name))):
                self.rebuild.copy(node)
            else:
                self.rebuild.put(node, self.b.copy(node, self.rebuild.args(node), self._op(node)))
        outputs = ir.renewed(self.graph.outputs, self.rebuild.new)
        return OneStep(self.b.finish([*outputs, *self.outputs]), tuple(self.states))

    def _scan(self, node: Node, scan: Scan) -> tuple[Ref, ...]:
        """Add a scan of one step with its states as inputs and outputs, and return its results."""
        title = scan.body.name
        args = self.graph.args(node.name)
        operands = []
        names = [output.name for output in scan.next_states]
        following = iter(names)
        for i, (arg, ref) in enumerate(zip(scan.body.body_args(), args, strict=True)):
            if scan.role(i) not in ("x", "state") and ref in self.over_time:
                read = f"%{self.graph.value_name(ref)}"
                reason = f"every step of {title} reads all steps of {read} {self.graph.type(ref)}"
                note = f"make two models: one that returns {read}, and one that takes it as an Input"
                raise _refused(self.graph, node, reason, note)
            if scan.role(i) != "state":
                operands.append(self.rebuild.new[ref])
                continue
            name = f"{title}/{next(following)}"
            assert isinstance(arg.op, Arg)
            operands += self.b.add(Input(arg.op.shape), names=(f"{name}_in",), loc=node.loc)
            self.states.append(StatePair(name, f"{name}_in", f"{name}_out", self._initial(ref)))
        results = self.b.copy(node, operands, replace(scan, length=1))
        last = results[len(scan.step_outputs) :]
        self.outputs += [Output(f"{title}/{name}_out", ref) for name, ref in zip(names, last, strict=True)]
        return results

    def _initial(self, ref: Ref) -> float | Graph | str:
        """Return a state's first value in the form of :attr:`StatePair.initial`."""
        node = self.graph.node(ref.node)
        if isinstance(node.op, Full):
            return node.op.value
        if isinstance(node.op, Input):  # with a number for a state carried over batches
            return node.op.fill.value if isinstance(node.op.fill, Constant) else node.name
        if any(isinstance(self.graph.node(name).op, Input) for name in self.graph.needed([ref])):
            return f"{self.graph.value_name(ref)}, computed by {node.op.name}"
        return ir.weight_graph(self.graph, [ref])

    def _op(self, node: Node) -> Op:
        """Return the op of a node along time, for one step. Raise PassError if it mixes steps, or if parameters or an
        operand without the axis of time have a value for each step."""
        op = node.op
        if isinstance(op, Input | Full):
            return replace(op, shape=(1, *op.shape[1:]))
        if ir.computed_from_parameters(self.graph, Ref(node.name)):
            if Ref(node.name) not in self.over_time or node.types[0].shape[0] == 1:
                return op  # it belongs to the one step
            reason = f"%{node.name} {node.types[0]}, computed from parameters only, has a value for each step"
            raise _refused(self.graph, node, reason, "make it an Input, of which each step is fed")
        refs = self.graph.args(node.name)
        mapped = [ref in self.over_time for ref in refs]
        types = [self.graph.type(ref) for ref in refs]
        step = ir.op_of_step(op, types, mapped) if Ref(node.name) in self.over_time else None
        if step is not None:
            steps = [ir.of_step(t) if m else t for t, m in zip(types, mapped, strict=True)]
            if (single := ir.op_over_time(step, 1, steps, mapped)) is not None:
                return single
        whole = [ref for ref, is_mapped in zip(refs, mapped, strict=True) if not is_mapped]
        rank = node.types[0].rank
        constant = [t.rank < rank or t.shape[:1] == (1,) for t in map(self.graph.type, whole)]
        if isinstance(op, Binary) and whole and all(constant):
            return op  # each step has the same value
        if isinstance(op, Binary) and whole:
            operand = f"%{self.graph.value_name(whole[0])} {self.graph.type(whole[0])}"
            reason = f"{op.name} takes {operand}, which has a value for each step"
            raise _refused(self.graph, node, reason, "make it an Input, of which each step is fed")
        reason = f"{op.name} combines several time steps of %{node.name} {node.types[0]}"
        past = "values of other steps must be states: for a convolution over time its past inputs"
        imported = f"an imported model: import it with {STEP}, which makes such states, or names the layer"
        raise _refused(self.graph, node, reason, f"{past}, as in the library's causal_conv", imported)
