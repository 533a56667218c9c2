"""``precompute``: text before, text after, the same meaning; what it leaves; and what the nets of it are."""

from __future__ import annotations

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, State, cell, const, dims, exp, linear, model, scan, sigmoid, softmax, tanh, uniform
from lstmc.ir import Ref, is_weight, parse_graph, print_graph, verify
from lstmc.ops import Precomputed
from lstmc.passes import PassResult, Precompute, roll_in
from lstmc.testing import assert_same_meaning
from lstmc.weights import unpack_weights
from lstmc_caffe.runtime.runner import Runner

BEFORE = """\
graph net {
  %X: f32[3,2,5] = input()
  %h0: f32[2,5] = input()
  %p: f32[5] = param()
  %half: f32[5] = full(value=0.5)
  %q: f32[5] = mul(%p, %half)
  %Y, %h_T: f32[3,2,5], f32[2,5] = scan(%X, %h0, %p, %q, length=3) {
    body step {
      %x: f32[2,5] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %p: f32[5] = arg(role='weight')
      %q: f32[5] = arg(role='static')
      %e: f32[5] = exp(%p)
      %a: f32[2,5] = mul(%h_prev, %e)
      %b: f32[2,5] = mul(%x, %q)
      %h: f32[2,5] = add(%a, %b)
      return h=%h, next h=%h
    }
  }
  %z: f32[3,2,5] = add(%Y, %half)
  return Y=%z, h_T=%h_T, q=%q
}
"""

AFTER = """\
graph net {
  %X: f32[3,2,5] = input()
  %h0: f32[2,5] = input()
  %p: f32[5] = param()
  %half: f32[5] = full(value=0.5)
  %q: f32[5] = mul(%p, %half)
  %q/precomputed: f32[5] = precomputed(%q)
  %step/e: f32[5] = exp(%p)
  %step/e/precomputed: f32[5] = precomputed(%step/e)
  %Y, %h_T: f32[3,2,5], f32[2,5] = scan(%X, %h0, %p, %q/precomputed, %step/e/precomputed, length=3) {
    body step {
      %x: f32[2,5] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %p: f32[5] = arg(role='weight')
      %q: f32[5] = arg(role='weight')
      %e: f32[5] = arg(role='weight')
      %a: f32[2,5] = mul(%h_prev, %e)
      %b: f32[2,5] = mul(%x, %q)
      %h: f32[2,5] = add(%a, %b)
      return h=%h, next h=%h
    }
  }
  %z: f32[3,2,5] = add(%Y, %half)
  return Y=%z, h_T=%h_T, q=%q/precomputed
}
"""


def test_before_and_after() -> None:
    before = parse_graph(BEFORE)
    outcome = Precompute().run(before)
    assert print_graph(outcome.graph) == AFTER
    assert (outcome.modified, outcome.counts) == (True, {"hoist_node": 1, "precompute": 2})
    verify(outcome.graph)
    assert_same_meaning(before, outcome.graph)
    assert Precompute().run(outcome.graph) == PassResult(outcome.graph, False, {})


def test_a_weight_that_a_scan_has_as_a_value_is_one_there_too() -> None:
    before = parse_graph("""\
graph net {
  %X: f32[3,2,5] = input()
  %h0: f32[2,5] = input()
  %p: f32[5,5] = param()
  %t: f32[5,5] = transpose(%p, axis=0)
  %h_T: f32[2,5] = scan(%X, %h0, %t, length=3) {
    body step {
      %x: f32[2,5] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %t: f32[5,5] = arg(role='static')
      %a: f32[2,5] = linear(%h_prev, %t)
      %h: f32[2,5] = add(%a, %x)
      return next h=%h
    }
  }
  return h_T=%h_T
}
""")
    after = Precompute().run(before).graph
    assert print_graph(after) == print_graph(before).replace("'static'", "'weight'")


def test_what_is_much_larger_than_its_parameters_stays() -> None:
    before = parse_graph("""\
graph net {
  %x: f32[300,300] = input()
  %p: f32[300,1] = param()
  %e: f32[300,1] = exp(%p)
  %t: f32[300,300] = tile(%e, axis=1, tiles=300)
  %y: f32[300,300] = add(%x, %t)
  return y=%y
}
""")
    after = Precompute().run(before).graph
    assert [node.names for node in after if isinstance(node.op, Precomputed)] == [("e/precomputed",)]
    assert not is_weight(after, after.args("y")[1])


T, N, D = dims("T N D")


@cell
def cumulated(x=Input(N, D), h=State(N, D)):
    """A product with a fixed matrix, as papers write it: h U."""
    h = 0.5 * h + softmax(x) @ const(np.triu(np.ones((3, 3))))
    return h, {"h": h}


@pytest.mark.parametrize("target", ["caffe", "noslice"])
def test_a_product_with_a_fixed_matrix_is_one_layer(target: str) -> None:
    compiled = lstmc.compile(cumulated, target=target, T=1, N=2, D=3)
    assert [layer.type for layer in compiled.layers].count("InnerProduct") == 1
    assert "Tile" not in {layer.type for layer in compiled.layers}
    assert compiled.verify(["interpreter"])


@cell
def decaying(x=Input(N, D), h=State(N, D), *, A=Param(D), W=Param(D, D), b=Param(D, fill=uniform(0.2, 1))):
    """Functions of parameters: a decay, a matrix, and a bias that has as many rows as nothing."""
    h = exp(-exp(A)) * h + (1 - sigmoid(b)) * linear(x, tanh(W), exp(b))
    return h, {"h": h}


@model
def net(X=Input(T, N, 3)):
    return {"y": scan(decaying(), X)[0]}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["flat", "noslice"])
def test_in_caffe_they_are_weights(caffe: Runner, target: str) -> None:
    compiled = lstmc.compile(net, target=target, T=3, N=2)
    report = compiled.verify(["interpreter", "caffe-cpu"])
    assert report, str(report)
    assert not {"Exp", "Sigmoid", "TanH"} & {layer.type for layer in compiled.layers}


@cell
def one_number(x=Input(N, D), h=State(N, D), *, P=Param(3, fill=uniform(-1, 1))):
    """A number without axes, made of a parameter."""
    h = tanh(x * exp(P.sum(axis=0)) + h)
    return h, {"h": h}


@model
def scaled(X=Input(T, N, 3), P=Param(3, fill=uniform(-1, 1))):
    return {"y": scan(one_number(), X)[0], "z": tanh(X) * P.sum(axis=0)}


@pytest.mark.caffe
@pytest.mark.parametrize(("target", "batch"), [("flat", 2), ("noslice", 1)])
def test_in_caffe_a_number_is_a_blob_of_one_axis(caffe: Runner, target: str, batch: int) -> None:
    report = lstmc.compile(scaled, T=2, N=batch, target=target).verify(["interpreter", "caffe-cpu"])
    assert report, str(report)


def test_the_parameters_are_not_read_back() -> None:
    weights = parse_graph("""\
graph weights {
  %A: f32[3] = param()
  %B: f32[3] = param()
  %e: f32[3] = exp(%A)
  %e/precomputed: f32[3] = precomputed(%e)
  return A=%e/precomputed, B=%B
}
""")
    blobs = {"A": np.ones(3, np.float32), "B": np.zeros(3, np.float32)}
    assert unpack_weights(weights, blobs).keys() == {"B"}


def test_they_stay_outside_of_loops() -> None:
    """A sequence made of parameters is a weight, whatever scan reads it: no step computes it again."""
    before = parse_graph("""\
graph net {
  %X: f32[1,2,3] = input()
  %P: f32[1,2,3] = param()
  %e: f32[1,2,3] = exp(%P)
  %e/precomputed: f32[1,2,3] = precomputed(%e)
  %Y: f32[1,2,3] = scan(%X, %e/precomputed, length=1) {
    body step {
      %x: f32[2,3] = arg()
      %p: f32[2,3] = arg()
      %y: f32[2,3] = mul(%x, %p)
      return Y=%y
    }
  }
  %Z: f32[1,2,3] = maximum(%Y, %e/precomputed)
  return Z=%Z
}
""")
    made = roll_in.run(before)
    assert made.counts == {"op_to_scan": 1}  # the maximum
    assert made.graph.type(Ref("e/precomputed")) == before.type(Ref("e/precomputed"))
    assert is_weight(made.graph, made.graph.args("Z")[1])
    assert_same_meaning(before, made.graph)
