"""The only loop: an op that owns the graph of one step; and ops over time, for all steps at once or for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lstmc.errors import ShapeError
from lstmc.ir.graph import Graph, Node, Output, Ref
from lstmc.ops import Arg, Array, Arrays, Binary, Draw, Op, Param, Role, Sample, Types
from lstmc.types import TensorType

T = TypeVar("T")


class Rounding(Protocol):
    """The arithmetic of a device: the numbers that a node reads, and those that are stored of what it computes."""

    def operands(self, graph: Graph, node: Node, args: Sequence[Array], /) -> Sequence[Array]: ...

    def results(self, graph: Graph, node: Node, args: Sequence[Array], results: Arrays, /) -> Arrays: ...


@dataclass(frozen=True)
class Scan(Op):
    """Run ``body`` for ``length`` steps, each step's next states being the following step's states.

    Operands are the body's arguments in order: an ``x`` argument [...] takes a sequence [T, ...]; a ``state``
    takes its initial value; ``static`` and ``weight`` take the value all steps see. The body's outputs are the
    step's outputs, then the next states in the order of the state arguments, each called as the user wrote it: the
    only output may have no name, and a state that of an output. Results: each step output stacked to [T, ...], then
    the last states. ``reverse`` runs from the last step to the first; results keep their places in time. ``first``,
    if there is one, is what the body amounts to at the step that runs first. Where the time axis is ``kept``, an
    ``x`` argument is [1, ...] and takes [T, ...], and so with step outputs.

    Its meaning is in ``lstmc/interp.py``.
    """

    name = "scan"
    operands = ("*args",)
    body: Graph
    length: int
    reverse: bool = False
    first: Graph | None = None
    kept: bool = False

    @property
    def states(self) -> int:
        """The number of states."""
        return sum(self.role(i) == "state" for i in range(len(self.body.body_args())))

    def role(self, operand: int) -> Role:
        op = self.body.body_args()[operand].op
        assert isinstance(op, Arg)
        return op.role

    def of_role(self, role: Role, values: Sequence[T]) -> list[T]:
        """Return those of the operands' ``values`` that have this role."""
        return [value for i, value in enumerate(values) if self.role(i) == role]

    @property
    def step_outputs(self) -> tuple[Output, ...]:
        return self.body.outputs[: len(self.body.outputs) - self.states]

    @property
    def next_states(self) -> tuple[Output, ...]:
        return self.body.outputs[len(self.body.outputs) - self.states :]

    @property
    def rounding(self) -> Rounding | None:
        """The arithmetic of its steps, where that is not exact."""
        return None

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,) if self.first is None else (self.body, self.first)

    def order(self) -> range:
        """The steps in the order they run."""
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

    def eval(self, *args: Any) -> Arrays:
        raise NotImplementedError("lstmc.interp runs scans")

    def vjp(self, cts: Arrays, outs: Arrays, *args: Any) -> Arrays:
        raise NotImplementedError("lstmc.interp differentiates scans")

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        raise NotImplementedError("random scans come from tests/strategies.py")


def node_count(graph: Graph) -> int:
    """The nodes of a graph, with those in the bodies of its scans."""
    bodies = [body for node in graph if isinstance(node.op, Scan) for body in node.op.bodies]
    return len(graph) + sum(map(node_count, bodies))


def op_over_time(op: Op, steps: int, operands: Sequence[TensorType], mapped: Sequence[bool]) -> Op | None:
    """``op`` for all steps at once, if that has just the results of the steps; operand types are those of a step."""
    wide = op.over_time(steps, mapped)
    ranks = {t.rank for t, m in zip(operands, mapped, strict=True) if m}
    # broadcasting counts axes from the last: those of a lower rank would line up with the steps where sizes agree
    if wide is None or (isinstance(op, Binary) and len(ranks) > 1):
        return None
    types = [over_steps(t, steps) if m else t for t, m in zip(operands, mapped, strict=True)]
    try:
        fits = wide.infer(*types) == tuple(over_steps(t, steps) for t in op.infer(*operands))
    except ShapeError:
        return None
    return wide if fits else None


def over_steps(step: TensorType, steps: int) -> TensorType:
    """The type of a sequence of ``steps``."""
    return TensorType((steps, *step.shape), step.dtype)


def of_step(sequence: TensorType) -> TensorType:
    """The type of a step of a sequence."""
    return TensorType(sequence.shape[1:], sequence.dtype)


def op_of_step(op: Op, operands: Sequence[TensorType], mapped: Sequence[bool]) -> Op | None:
    """The op of one step that is ``op`` for all of them; None if ``op`` mixes steps, or has no such form.

    Operand types are those of sequences: the ``mapped`` operands and the results have a leading axis of time.
    """
    lengths = {t.shape[:1] for t, m in zip(operands, mapped, strict=True) if m}
    if len(lengths) != 1 or () in lengths:
        return None
    ((steps,),) = lengths
    step = op.of_step(steps, mapped)
    types = [of_step(t) if m else t for t, m in zip(operands, mapped, strict=True)]
    return step if step is not None and op_over_time(step, steps, types, mapped) == op else None


def values_over_time(graph: Graph) -> set[Ref]:
    """The values that have an axis of time, first: found from what scans read and give, both ways along ops."""
    over_time: set[Ref] = set()
    along: list[set[Ref]] = []  # the values of a node that have such an axis, or none of them has
    for node in graph:
        refs = {Ref(node.name, out) for out in range(len(node.types))}
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
    """The operands that an axis of time would be passed on from: the op has a form for one step of them.

    A parameter passes none on, whatever its shape; beside a sequence it may have a value for each step.
    """
    args = graph.args(node.name)
    types = [graph.type(ref) for ref in args]
    steps = node.types[0].shape[:1]
    slots = [slot for slot in range(len(args)) if steps and types[slot].shape[:1] == steps]
    passing = [slot for slot in slots if not isinstance(graph.node(args[slot].node).op, Param)]
    for chosen in (slots, passing, *([slot] for slot in passing)) if passing else ():
        if op_of_step(node.op, types, [slot in chosen for slot in range(len(args))]) is not None:
            return {args[slot] for slot in chosen if slot in passing}
    return set()
