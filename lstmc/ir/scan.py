"""The only loop: an op that owns the graph of one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmc.errors import ShapeError
from lstmc.ir.graph import Graph
from lstmc.ir.node import Output
from lstmc.ops import Arg, Arrays, Draw, Op, Role, Sample, Types
from lstmc.types import TensorType


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
        """How many states there are."""
        return sum(self.role(i) == "state" for i in range(len(self.body.body_args())))

    def role(self, operand: int) -> Role:
        op = self.body.body_args()[operand].op
        assert isinstance(op, Arg)
        return op.role

    @property
    def step_outputs(self) -> tuple[Output, ...]:
        return self.body.outputs[: len(self.body.outputs) - self.states]

    @property
    def next_states(self) -> tuple[Output, ...]:
        return self.body.outputs[len(self.body.outputs) - self.states :]

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
            wanted = self._sequence(param.types[0]) if self.role(i) == "x" else param.types[0]
            if arg != wanted:
                raise ShapeError(f"scan: argument {param.name} must be {wanted}, found {arg}")
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
