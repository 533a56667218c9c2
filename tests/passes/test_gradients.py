"""Gradients as graphs: for every op and for random models what the interpreter finds, and readable as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from lstmc.errors import PassError
from lstmc.interp import backward, forward
from lstmc.ir import Builder, Graph, Node, Ref, Scan, parse_graph, print_graph, verify
from lstmc.ops import CORE, Input, Leaf, Op, Param, Precomputed
from lstmc.passes import Dead, Peel, Simplify, backward_body, gradient_graph
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


def assert_gradients_are(graph: Graph, inputs: dict[str, Any], params: dict[str, Any]) -> None:
    """``gradient_graph`` gives what the interpreter's backward pass does."""
    cotangents = random_cotangents(graph)
    run = forward(graph, inputs, params)
    expected = backward(run, cotangents)
    gradients = gradient_graph(graph)
    verify(gradients)
    text = print_graph(gradients)
    assert print_graph(parse_graph(text)) == text
    drawn = {node.name: run.values[Ref(node.name)] for node in graph if isinstance(node.op, Input)}
    found = forward(gradients, drawn | {f"d_{name}": ct for name, ct in cotangents.items()}, params).outputs
    for name, value in (expected.inputs | expected.params).items():
        gradient = found.get(f"d_{name}", np.zeros_like(value))
        assert_allclose(gradient, value, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", MADE, ids=lambda op: op.name)
@settings(max_examples=max(5, settings.default.max_examples // 10))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_each_op_tells_its_gradient_once(kind: type[Op], data: st.DataObject, seed: int) -> None:
    sample = kind.sample(HypothesisDraw(data.draw))
    b = Builder("one")
    leaf = Param if kind is Precomputed else Input
    operands = [b.add(leaf(t.shape), names=(f"x{i}",))[0] for i, t in enumerate(sample.operands)]
    made = b.add(sample.op, *operands)
    graph = b.finish([(f"y{i}", ref) for i, ref in enumerate(made)])
    if kind.name in ARRAYS_ALONE:
        with pytest.raises(PassError) as caught:
            gradient_graph(graph)
        assert caught.value.message.startswith(
            f"the gradient of {kind.name} is no graph: its vjp works on arrays alone ("
        )
        return
    arrays = {f"x{i}": array for i, array in enumerate(operands_of(sample, seed))}
    assert_gradients_are(graph, *((arrays, {}) if leaf is Input else ({}, arrays)))


@pytest.mark.slow
@settings(max_examples=max(25, settings.default.max_examples // 3))
@given(random_models())
def test_random_models(model: RandomModel) -> None:
    whole = model.graph()
    graph = whole.returning([output.name for output in whole.outputs if not _refused(whole, output.ref)])
    assert_gradients_are(graph, random_leaves(graph, Input), random_leaves(graph, Param))


def _refused(graph: Graph, ref: Ref) -> bool:
    """Whether an op that has no gradient as a graph is on the way to a value."""
    return any(node.op.name in ARRAYS_ALONE for node in _nodes(graph, graph.needed([ref])))


def _nodes(graph: Graph, names: set[str]) -> Iterator[Node]:
    for node in graph:
        if node.name in names:
            yield node
            if isinstance(node.op, Scan):
                yield from node.op.body


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


def test_a_scan_with_a_first_step_of_its_own_is_refused() -> None:
    graph = Peel().run(parse_graph(BODY.replace("%h0: f32[3,4] = input()", "%h0: f32[3,4] = full()"))).graph
    with pytest.raises(PassError) as caught:
        gradient_graph(graph)
    assert caught.value.message == (
        "gradients come before peel and keep_time_axis: expected a scan of one body, found %y"
    )
