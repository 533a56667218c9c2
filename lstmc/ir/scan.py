"""The only loop: an op that owns the graph of one step; ops over time; and analyses that go through loops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lstmc import ops
from lstmc.errors import ShapeError
from lstmc.ir.graph import Graph, Node, Output, Ref
from lstmc.ops import Along, Array, Arrays, Draw, Op, Sample, Types, Work
from lstmc.types import TensorType

__all__ = [
    "Rounding", "Scan", "all_nodes", "depending", "differentiable_inputs", "differentiable_outputs", "graph_work",
    "has_gradient", "is_step", "node_count", "node_work", "of_step", "op_of_all", "op_of_one", "op_of_step",
    "op_over_time", "over_steps", "places_of", "values_over_time",
]  # fmt: skip

T = TypeVar("T")


class Rounding(Protocol):
    """The arithmetic of a device: the numbers that a node reads, and the stored numbers of its results."""

    def operands(self, graph: Graph, node: Node, args: Sequence[Array], /) -> Sequence[Array]: ...

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays, /) -> Arrays: ...


@dataclass(frozen=True)
class Scan(Op):
    """Run ``body`` for ``length`` steps; the next states of a step are the states of the following step.
    There is an operand for each argument of the body, in order: for an ``x`` argument [...] a sequence [T, ...]; for a
    ``state`` its initial value; for ``static`` and ``weight`` the value that all steps read. The body's outputs are the
    step's outputs, then the next states in the order of the state arguments, with the user's names: a single output may
    have no name, and a state may have the name of an output. The results of the scan are the outputs of all steps,
    stacked to [T, ...], then the last states. ``reverse`` runs from the last step to the first; results keep their
    places in time. ``first``, if given, replaces the body at the step that runs first. With ``kept`` the steps keep the
    time axis: ``x`` arguments and outputs of a step are [1, ...]. With ``inside`` the scan is part of a step, and runs
    along another axis than time, such as the bands of a frame. ``lstmc/interp.py`` defines the meaning of a scan."""

    name = "scan"
    operands = ("*args",)
    body: Graph
    length: int
    reverse: bool = False
    first: Graph | None = None
    kept: bool = False
    inside: bool = False

    @property
    def states(self) -> int:
        return sum(self.role(i) == "state" for i in range(len(self.body.body_args())))

    def role(self, operand: int) -> ops.Role:
        op = self.body.body_args()[operand].op
        assert isinstance(op, ops.Arg)
        return op.role

    def of_role(self, role: ops.Role, values: Sequence[T]) -> list[T]:
        """Return the values whose operands have this role; ``values`` has one value for each operand."""
        return [value for i, value in enumerate(values) if self.role(i) == role]

    @property
    def step_outputs(self) -> tuple[Output, ...]:
        return self.body.outputs[: len(self.body.outputs) - self.states]

    @property
    def next_states(self) -> tuple[Output, ...]:
        return self.body.outputs[len(self.body.outputs) - self.states :]

    @property
    def rounding(self) -> Rounding | None:
        """The arithmetic of the steps, or None if they compute exactly."""
        return None

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,) if self.first is None else (self.body, self.first)

    def order(self) -> range:
        """Return the steps, 0 to ``length`` - 1, in the order in which they run."""
        return range(self.length - 1, -1, -1) if self.reverse else range(self.length)

    def infer(self, *args: TensorType) -> Types:
        params = self.body.body_args()
        if len(args) != len(params):
            raise ShapeError(f"scan: the body takes {len(params)} arguments, found {len(args)}")
        for i, (arg, param) in enumerate(zip(args, params, strict=True)):
            expected = self._sequence(param.types[0]) if self.role(i) == "x" else param.types[0]
            if arg != expected:
                raise ShapeError(f"scan: argument {param.name} must be {expected}, found {arg}")
        steps = tuple(self._sequence(self.body.type(o.ref)) for o in self.step_outputs)
        return steps + tuple(self.body.type(o.ref) for o in self.next_states)

    def _sequence(self, step: TensorType) -> TensorType:
        if self.kept and step.shape[:1] != (1,):
            raise ShapeError(f"scan: a step that keeps its time axis must be [1, ...], found {step}")
        return TensorType((self.length, *(step.shape[1:] if self.kept else step.shape)), step.dtype)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        """Return the rule of time, axis 0 of sequences and of step outputs; the steps depend on each other."""
        if axis or self.role(slot) != "x":
            return None
        operands = tuple(0 if self.role(other) == "x" else None for other in range(len(types)))
        return Along(None, operands, (*(0 for _ in self.step_outputs), *(None for _ in self.next_states)))

    def work(self, operands: Types, results: Types) -> Work:
        return graph_work(self.body) * (self.length - 1) + graph_work(self.first or self.body)

    def eval(self, *args: Any) -> Arrays:
        raise NotImplementedError("lstmc.interp runs scans")

    def vjp(self, cts: Arrays, outs: Arrays, *args: Any) -> Arrays:
        raise NotImplementedError("lstmc.interp differentiates scans")

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        raise NotImplementedError("random scans come from tests/strategies.py")


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Yield the nodes of a graph, each scan followed by those of its bodies."""
    for node in graph:
        yield node
        for body in node.op.bodies if isinstance(node.op, Scan) else ():
            yield from all_nodes(body)


def node_count(graph: Graph) -> int:
    """Return the number of nodes, with those in the bodies of scans."""
    return sum(1 for _ in all_nodes(graph))


def is_step(graph: Graph) -> bool:
    """Return whether a model is one step: it has states as inputs and outputs, and no loop along time."""
    return bool(graph.carried()) and all(node.op.inside for node in graph if isinstance(node.op, Scan))


Places = Sequence[int | None]  # the place of an axis in each value, None for a value without it


def op_of_one(op: Op, operands: Sequence[TensorType], places: Places) -> Along | None:
    """Return ``op.along`` of the axis that operands have at ``places``, if ``op`` computes each element along the axis
    separately, else None. An operand with place None has the same value for all elements: it lacks the axis, or has
    size 1 there."""
    slot = next((slot for slot, place in enumerate(places) if place is not None), None)
    along = None if slot is None else op.along(slot, places[slot], *operands)  # type: ignore[arg-type]
    if along is None or along.op is None or None in along.results:
        return None
    sizes = set()
    for type_, own, place in zip(operands, places, along.operands, strict=True):
        if own != place if own is not None else place is not None and type_.shape[place] != 1:  # not as given
            return None
        sizes.add(None if own is None else type_.shape[own])
    return along if len(sizes - {None}) == 1 else None


def places_of(op: Op, axis: int, operands: Sequence[TensorType]) -> Sequence[int | None]:
    """Return for each operand the place of the axis that all results have at ``axis``, or None if it lacks the axis."""
    for slot, type_ in enumerate(operands):
        for place in range(type_.rank):
            along = op.along(slot, place, *operands)
            if along is not None and {*along.results} == {axis}:
                return along.operands
    return (None,) * len(operands)


def op_of_all(op: Op, size: int, operands: Sequence[TensorType], places: Places) -> tuple[Op, tuple[int, ...]] | None:
    """Return the op that computes ``op`` along one more axis of ``size`` elements, which operands have at ``places``,
    and the axis's places in the results. Return None if there is no such op."""
    types = [t if place is None else _with(t, place, size) for t, place in zip(operands, places, strict=True)]
    for wide in op.wider(size):
        try:
            results = wide.infer(*types)
            along = op_of_one(wide, types, places)
            if along is not None and along.op == op and along.operands == tuple(places):
                at = [place for place in along.results if place is not None]
                if results == tuple(_with(t, place, size) for t, place in zip(op.infer(*operands), at, strict=True)):
                    return wide, tuple(at)
        except ShapeError:
            continue
    return None


def _with(type_: TensorType, axis: int, size: int) -> TensorType:
    return TensorType((*type_.shape[:axis], size, *type_.shape[axis:]), type_.dtype)


def op_over_time(op: Op, steps: int, operands: Sequence[TensorType], mapped: Sequence[bool]) -> Op | None:
    """Return ``op`` for all steps at once, or None; the ``mapped`` operands become sequences."""
    wide = op_of_all(op, steps, operands, [0 if m else None for m in mapped])
    return wide[0] if wide is not None and not any(wide[1]) else None


def over_steps(step: TensorType, steps: int) -> TensorType:
    return TensorType((steps, *step.shape), step.dtype)


def of_step(sequence: TensorType) -> TensorType:
    return TensorType(sequence.shape[1:], sequence.dtype)


def op_of_step(op: Op, operands: Sequence[TensorType], mapped: Sequence[bool]) -> Op | None:
    """Return the op of one step for an ``op`` on all steps, or None if it mixes steps or has no such form. The
    ``mapped`` operands, and the results, have a leading axis of time."""
    places = [0 if m else None for m in mapped]
    if any(m and not t.rank for t, m in zip(operands, mapped, strict=True)):
        return None
    along = op_of_one(op, operands, places)
    if along is None or along.op is None or any(along.results) or along.operands != tuple(places):
        return None
    try:
        step = along.op.infer(*(of_step(t) if m else t for t, m in zip(operands, mapped, strict=True)))
        return along.op if step == tuple(map(of_step, op.infer(*operands))) else None
    except ShapeError:
        return None


def values_over_time(graph: Graph) -> set[Ref]:
    """Return the values whose first axis is time: the sequences of scans, and values connected with them by ops."""
    over_time: set[Ref] = set()
    along: list[set[Ref]] = []  # values of a node of which all or none begin with time
    for node in graph:
        refs = set(node.refs)
        if isinstance(node.op, Scan) and node.op.inside:
            continue
        if isinstance(node.op, Scan):
            over_time |= {ref for i, ref in enumerate(graph.args(node.name)) if node.op.role(i) == "x"}
            over_time |= {Ref(node.name, i) for i in range(len(node.op.step_outputs))}
        elif carriers := _carriers(graph, node):
            along.append(refs | carriers)
    while True:
        before = len(over_time)
        for values in along:
            if not over_time.isdisjoint(values):
                over_time |= values
        if len(over_time) == before:
            return over_time


def _carriers(graph: Graph, node: Node) -> set[Ref]:
    """Return the operands from which the first axis of the results comes, if the op treats elements along it
    separately. A parameter is never among them: next to a sequence it may have a value for each step."""
    args = graph.args(node.name)
    types = [graph.type(ref) for ref in args]
    given = (ref for ref, t in zip(args, types, strict=True) if t.rank)
    passing = [ref for ref in given if not isinstance(graph.node(ref.node).op, ops.Param)]
    for ref in passing:
        along = node.op.along(args.index(ref), 0, *types)
        if along is not None and along.op is not None and not any(place != 0 for place in along.results):
            carriers = {arg for arg, place in zip(args, along.operands, strict=True) if place == 0 and arg in passing}
            if all(graph.type(arg).shape[0] == node.types[0].shape[0] for arg in carriers):
                return carriers
    return set()


def has_gradient(node: Node) -> bool:
    """Return whether an op has a gradient for any operand, or has no operands: False for Accuracy."""
    return not node.op.operands or len(node.op.undifferentiated) < len(node.op.operands)


def differentiable_outputs(graph: Graph) -> tuple[str, ...]:
    """Return the names of a graph's outputs that have a gradient."""
    without = depending(graph, lambda node: not has_gradient(node))
    return tuple(output.name for output in graph.outputs if output.ref not in without)


def differentiable_inputs(graph: Graph, outputs: Iterable[str]) -> tuple[str, ...]:
    """Return the inputs for which ``outputs`` have a gradient: not indices or labels, for which Caffe aborts."""
    names = set(outputs)
    stopped = _stopped(graph, [output.ref for output in graph.outputs if output.name in names])
    return tuple(node.name for node in graph if isinstance(node.op, ops.Input) and node.name not in stopped)


def _stopped(graph: Graph, roots: Sequence[Ref]) -> set[str]:
    """Return the nodes on which ``roots`` depend through an operand that gets no gradient, such as a label."""
    needed, stops = graph.needed(roots), list[Ref]()
    read = {*roots, *(ref for name in needed for ref in graph.args(name))}
    for node in graph:
        if node.name in needed:
            args, slots = graph.args(node.name), node.op.undifferentiated
            if isinstance(node.op, Scan):
                slots = _stopped_operands(
                    node.op, {out for out in range(len(node.types)) if Ref(node.name, out) in read}
                )
            stops += [args[slot] for slot in slots]
    return graph.needed(stops) if stops else set()


def _stopped_operands(scan: Scan, read: set[int]) -> tuple[int, ...]:
    """Return the slots of operands whose gradient the scan's body stops, for the results with the indices ``read``."""
    states = [slot for slot in range(len(scan.body.body_args())) if scan.role(slot) == "state"]
    results = list(enumerate(states, len(scan.step_outputs)))

    def reached_arguments(outs: set[int], of: Callable[[Graph, list[Ref]], set[str]]) -> set[int]:
        """Return the slots of the body's arguments among the nodes that ``of`` returns for these results."""
        reached_by = [(body, of(body, [body.outputs[out].ref for out in outs])) for body in scan.bodies]
        return {slot for body, names in reached_by for slot, arg in enumerate(body.body_args()) if arg.name in names}

    while more := {out for out, slot in results if slot in reached_arguments(read, Graph.needed)} - read:
        read |= more  # the next states that later steps need for ``read``
    reachable, stopped = reached_arguments(read, _stopped), set[int]()
    while stopped != reachable:
        stopped = reachable  # with the arguments that reach a stopped state in earlier steps
        reachable = stopped | reached_arguments({out for out, slot in results if slot in stopped}, Graph.needed)
    return tuple(reachable)


def node_work(graph: Graph, node: Node) -> Work:
    """Return the work of one forward pass of a node."""
    return node.op.work(tuple(graph.type(ref) for ref in graph.args(node.name)), node.types)


def graph_work(graph: Graph) -> Work:
    """Return the work of one forward pass of a graph, over all steps of its scans."""
    return sum((node_work(graph, node) for node in graph), Work())


Visit = Callable[[Graph, set[Ref]], None]


def depending(
    graph: Graph, starts: Callable[[Node], bool], visit: Visit | None = None, leaves: Collection[str] = ()
) -> set[Ref]:
    """Return the values that depend on a node for which ``starts`` is true, or on one of these ``leaves``.
    Inside a scan an argument depends on what its operand depends on, a state also on nodes of earlier steps; a last
    state depends on its initial value too. ``visit`` gets each graph with its dependent values, bodies first."""
    values: set[Ref] = set()
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, Scan):
            values.update(node.refs[i] for i in _results(node.op, [ref in values for ref in args], starts, visit))
        elif starts(node) or node.name in leaves or not values.isdisjoint(args):
            values.update(node.refs)
    if visit is not None:
        visit(graph, values)
    return values


def _results(scan: Scan, operands: list[bool], starts: Callable[[Node], bool], visit: Visit | None) -> list[int]:
    """Return the indices of a scan's results that depend on ``starts`` nodes, or on operands marked in ``operands``."""
    args = scan.body.arguments()
    dependent = {name for name, depends in zip(args, operands, strict=True) if depends}
    states = [name for i, name in enumerate(args) if scan.role(i) == "state"]
    while True:
        values = depending(scan.body, starts, visit, dependent)
        more = {s for s, o in zip(states, scan.next_states, strict=True) if o.ref in values} - dependent
        if not more:
            last = [None] * len(scan.step_outputs) + states
            results = zip(scan.body.outputs, last, strict=True)
            return [i for i, (output, state) in enumerate(results) if output.ref in values or state in dependent]
        dependent |= more
