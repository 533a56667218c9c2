"""What an op does over time is told by the op alone: passes that move ops in time take one they have not heard of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lstmc.ir import Builder, Graph, Ref, Scan, op_of_step, op_over_time, parse_graph, values_over_time
from lstmc.ops import Add, Arg, Array, Arrays, Draw, Full, Input, Sample, Tanh, Types
from lstmc.ops.base import AlongAxis, check_axis, sample_type
from lstmc.passes import Hoist, KeepTimeAxis, Pass, Sink, roll_in
from lstmc.prepare import one_step
from lstmc.testing import assert_same_meaning
from lstmc.types import TensorType


@dataclass(frozen=True)
class Reverse(AlongAxis):
    """x with the elements along an axis in the opposite order."""

    name = "test.reverse"
    operands = ("x",)

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (x,)

    def eval(self, x: Array) -> Arrays:
        return (np.flip(x, self.axis),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (np.flip(cts[0], self.axis),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))


def in_a_scan(before: bool) -> Graph:
    """h = tanh(h) + reverse(x), or y = reverse(h): an op before the state, or behind it."""
    body = Builder("step")
    (x,) = body.add(Arg((2, 4), "x"), names=("x",))
    (h,) = body.add(Arg((2, 4), "state"), names=("h_prev",))
    if before:
        (x,) = body.add(Reverse(1), x, names=("turned",))
    (following,) = body.add(Tanh(), h, names=("h",))
    from_x = body.add(Add(), following, x, names=("both",))[0]
    (y,) = (from_x,) if before else body.add(Reverse(1), from_x, names=("turned",))
    b = Builder("net")
    (xs,) = b.add(Input((3, 2, 4)), names=("X",))
    (h0,) = b.add(Full((2, 4)), names=("h0",))
    made = b.add(Scan(body.finish([("", y), ("h", from_x)]), 3), xs, h0, names=("Y", "h_T"))
    return b.finish([("Y", made[0]), ("h_T", made[1])])


def on_a_sequence(axis: int) -> Graph:
    """reverse(scan(x)) along an axis, 0 being time's."""
    graph = in_a_scan(before=True)
    b = Builder("net")
    for node in graph:
        b.copy(node, graph.args(node.name))
    (z,) = b.add(Reverse(axis), Ref("Y"), names=("Z",))
    return b.finish([("Z", z)])


def axes(graph: Graph) -> dict[str, int]:
    """Where each Reverse stands, and its axis."""
    found = {node.name: node.op.axis for node in graph if isinstance(node.op, Reverse)}
    for node in graph:
        if isinstance(node.op, Scan):
            found |= {f"in {node.name}": axis for axis in axes(node.op.body).values()}
    return found


@pytest.mark.parametrize(
    ("step", "before", "found"),
    [
        (Hoist(), in_a_scan(before=True), {"step/turned": 2}),
        (Sink(), in_a_scan(before=False), {"Y": 2}),
        (KeepTimeAxis(), in_a_scan(before=True), {"in Y": 2}),
        (roll_in, on_a_sequence(2), {"in Y": 1, "in Z": 1}),
        (roll_in, on_a_sequence(0), {"in Y": 1, "Z": 0}),
    ],
    ids=["hoist", "sink", "keep_axis", "roll_in", "along time"],
)
def test_an_op_of_someone_elses_moves_in_time(step: Pass, before: Graph, found: dict[str, int]) -> None:
    after = step.run(before).graph
    assert axes(after) == found
    assert_same_meaning(before, after)


def test_it_has_an_axis_of_time_and_a_single_step() -> None:
    graph = on_a_sequence(1)
    assert Ref("Z") in values_over_time(graph)
    assert axes(one_step(graph).graph) == {"in Y": 1, "Z": 1}
    assert Ref("Z") not in values_over_time(on_a_sequence(0))


@pytest.mark.parametrize("axis", [0, 1])
def test_over_time_and_back(axis: int) -> None:
    step, sequence = TensorType((2, 4)), TensorType((3, 2, 4))
    wide = op_over_time(Reverse(axis), 3, [step], [True])
    assert wide == Reverse(axis + 1)
    assert op_of_step(wide, [sequence], [True]) == Reverse(axis)
    assert op_of_step(Reverse(0), [sequence], [True]) is None


def test_a_parameter_of_each_step_goes_into_the_loop() -> None:
    """max(P, y) and m + P, where P has a value for each step; P + P is a weight."""
    graph = parse_graph("""\
graph net {
  %X: f32[3,2,4] = input()
  %P: f32[3,2,4] = param()
  %Y: f32[3,2,4] = scan(%X, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %y: f32[2,4] = tanh(%x)
      return y=%y
    }
  }
  %most: f32[3,2,4] = maximum(%P, %Y)
  %sum: f32[3,2,4] = add(%most, %P)
  %alone: f32[3,2,4] = add(%P, %P)
  return sum=%sum, alone=%alone
}
""")
    rolled = roll_in.run(graph)
    assert rolled.counts == {"op_to_scan": 2}
    assert {node.name for node in rolled.graph if isinstance(node.op, Scan)} == {"Y", "most", "sum"}
    assert [rolled.graph.node("most").op.role(slot) for slot in (0, 1)] == ["x", "x"]  # type: ignore[attr-defined]
    assert not roll_in.run(rolled.graph).modified
    assert_same_meaning(graph, rolled.graph)
