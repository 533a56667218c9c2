"""Gradients as graphs: for every op and for steps of random models what the interpreter finds, and readable as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lstmc.errors import PassError
from lstmc.interp import backward, forward
from lstmc.ir import Builder, Graph, Ref, Scan, parse_graph, print_graph, verify
from lstmc.loops.plan import backward_body
from lstmc.ops import CORE, Arg, Input, Leaf, Op, Param, Precomputed, Role
from lstmc.passes import Dead, Simplify
from lstmc.testing import operands_of, random_cotangents, random_leaves
from tests.draws import HypothesisDraw
from tests.random_models.models import RandomModel
from tests.strategies import random_models

# Their vjp is written in NumPy: by loops over windows, by places in a table, by the first of several.
ARRAYS_ALONE = {
    *("ave_pool", "conv", "embed", "euclidean_loss", "max_pool", "sigmoid_cross_entropy_loss"),
    "softmax_loss",
}
MADE = [op for op in CORE if not issubclass(op, Leaf)]


def scanned(body: Graph, names: Iterable[str]) -> Graph:
    """A graph that scans ``body`` for one step; its inputs and parameters have these names."""
    b, operands = Builder("net"), list[Ref]()
    for name, arg in zip(names, body.body_args(), strict=True):
        assert isinstance(arg.op, Arg)
        leaf, lead = Param if arg.op.role == "weight" else Input, (1,) if arg.op.role == "x" else ()
        operands += b.add(leaf((*lead, *arg.op.shape)), names=(name,))
    return b.finish([(f"o{i}", ref) for i, ref in enumerate(b.add(Scan(body, 1), *operands))])


def assert_gradients_are(body: Graph, arrays: dict[str, Any] | None = None) -> None:
    """``backward_body`` gives what the interpreter's backward pass does, for one step of a body."""
    names, states = body.arguments(), body.arguments("state")
    graph = scanned(body, names)
    given = random_leaves(graph, Input) | random_leaves(graph, Param) | (arrays or {})
    given = {name: array.reshape(graph.type(Ref(name)).shape) for name, array in given.items()}
    cotangents = random_cotangents(graph)
    expected = backward(forward(graph, given, given), cotangents)
    back = backward_body(body)
    text = print_graph(back)
    assert print_graph(parse_graph(text)) == text
    whole = scanned(back, [*names, *cotangents])
    verify(whole)
    fed = {name: array.reshape(whole.type(Ref(name)).shape) for name, array in (given | cotangents).items()}
    found = forward(whole, fed, fed).outputs.values()
    ordered = (*(name for name in names if name not in states), *states)
    for name, gradient in zip(ordered, found, strict=True):
        value = (expected.inputs | expected.params)[name]
        assert_allclose(gradient.reshape(value.shape), value, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", MADE, ids=lambda op: op.name)
@settings(max_examples=max(5, settings.default.max_examples // 10))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_each_op_tells_its_gradient_once(kind: type[Op], data: st.DataObject, seed: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    b = Builder("one")
    role: Role = "weight" if kind is Precomputed else "x"
    operands = [b.add(Arg(t.shape, role), names=(f"x{i}",))[0] for i, t in enumerate(sample.operands)]
    made = b.add(sample.op, *operands)
    body = b.finish([(f"y{i}", ref) for i, ref in enumerate(made)])
    if kind.name in ARRAYS_ALONE:
        with pytest.raises(PassError) as caught:
            backward_body(body)
        assert caught.value.message.startswith(
            f"the gradient of {kind.name} is no graph: its vjp works on arrays alone ("
        )
        return
    assert_gradients_are(body, {f"x{i}": array for i, array in enumerate(operands_of(sample, seed))})


@pytest.mark.slow
@settings(max_examples=max(25, settings.default.max_examples // 3))
@given(random_models())
def test_steps_of_random_models(model: RandomModel) -> None:
    for node in model.graph():
        if isinstance(node.op, Scan) and not any(n.op.name in {*ARRAYS_ALONE, Scan.name} for n in node.op.body):
            assert_gradients_are(node.op.body)


BODY = """\
graph net {
  %X: f32[2,3,4] = input()
  %h0: f32[3,4] = input()
  %W: f32[4,4] = param()
  %y, %h_T: f32[2,3,4], f32[3,4] = scan(%X, %h0, %W, length=2) {
    body cell {
      %x: f32[3,4] = arg()
      %h: f32[3,4] = arg(role='state')
      %W: f32[4,4] = arg(role='weight')
      %z: f32[3,4] = linear(%h, %W)
      %a: f32[3,4] = add(%x, %z)
      %h_next: f32[3,4] = tanh(%a)
      return %h_next, next h=%h_next
    }
  }
  return y=%y
}
"""
BACK = """\
graph d_cell {
  %x: f32[3,4] = arg()
  %h: f32[3,4] = arg()
  %W: f32[4,4] = arg(role='weight')
  %z: f32[3,4] = linear(%h, %W)
  %a: f32[3,4] = add(%x, %z)
  %h_next: f32[3,4] = tanh(%a)
  %d_y: f32[3,4] = arg()
  %d_h: f32[3,4] = arg(role='state')
  %d_y_2: f32[3,4] = add(%d_y, %d_h)
  %d_h_next: f32[3,4] = mul(%h_next, %h_next)
  %d_h_next_2: f32[3,4] = affine(%d_h_next, scale=-1.0, shift=1.0)
  %d_h_next_3: f32[3,4] = mul(%d_y_2, %d_h_next_2)
  %d_W: f32[4,4] = transpose(%W, axis=0)
  %d_z_2: f32[3,4] = linear(%d_h_next_3, %d_W)
  %d_z_4: f32[4,3] = transpose(%d_h_next_3, axis=0)
  %d_h_3: f32[4,3] = transpose(%h, axis=0)
  %d_z_5: f32[4,4] = linear(%d_z_4, %d_h_3)
  return d_x=%d_h_next_3, d_W=%d_z_5, next d_h=%d_z_2
}
"""


def test_the_backward_body_of_a_step() -> None:
    scan = parse_graph(BODY).node("y").op
    assert isinstance(scan, Scan)
    assert print_graph(Dead().run(Simplify().run(backward_body(scan.body)).graph).graph) == BACK
