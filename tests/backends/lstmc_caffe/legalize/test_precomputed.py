"""What is precomputed, and what layers compute of the same values."""

from __future__ import annotations

from typing import Any

import pytest

import lstmc
from lstmc import Input, Param, State, cell, dims, exp, linear, model, scan, tanh
from lstmc.ir import Graph, parse_graph, print_graph
from lstmc.passes import Dead
from lstmc.testing import assert_same_meaning
from lstmc_caffe.legalize.legalize import separate_layers
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import legalised

T, N, D, H = dims("T N D H")


def shared(outputs: str) -> Graph:
    """A constant and a function of a parameter, both for a weight and, with these outputs, for layers."""
    return parse_graph(f"""\
graph net {{
  %x: f32[2,4] = input()
  %p: f32[4] = param()
  %zeros: f32[2,4] = full()
  %e: f32[4] = exp(%p)
  %first: f32[2,4] = add(%zeros, %e)
  %first/precomputed: f32[2,4] = precomputed(%first)
  %y: f32[2,4] = add(%x, %first/precomputed)
  %z: f32[2,4] = add(%x, %e)
  return {outputs}
}}
""")


def test_layers_have_copies_of_what_they_share_with_a_weight() -> None:
    before = shared("y=%y, z=%z, o=%zeros")
    after = separate_layers.run(before).graph
    assert (
        print_graph(after)
        == """\
graph net {
  %x: f32[2,4] = input()
  %p: f32[4] = param()
  %zeros: f32[2,4] = full()
  %zeros/layer: f32[2,4] = full()
  %e: f32[4] = exp(%p)
  %e/layer: f32[4] = exp(%p)
  %first: f32[2,4] = add(%zeros, %e)
  %first/precomputed: f32[2,4] = precomputed(%first)
  %y: f32[2,4] = add(%x, %first/precomputed)
  %z: f32[2,4] = add(%x, %e/layer)
  return y=%y, z=%z, o=%zeros/layer
}
"""
    )
    assert_same_meaning(before, after)
    assert separate_layers.run(after).graph == after


def test_what_is_not_shared_is_left() -> None:
    alone = Dead().run(shared("y=%y")).graph
    assert separate_layers.run(alone).graph is alone


def test_both_are_legal() -> None:
    before = shared("y=%y, z=%z, o=%zeros")
    after = legalised(before, trained=False).graph
    assert [after.node(output.ref.node).op.name for output in after.outputs] == [
        "caffe.Bias",
        "caffe.Bias",
        "caffe.DummyData",
    ]
    assert_same_meaning(before, after)


@cell
def idle(x: Any = Input(N, D), h: Any = State(N, H), *, W: Any = Param(H, D)) -> Any:
    return tanh(linear(x, W) + h), {"h": h}


@model
def begun(X: Any = Input(T, N, 3), P: Any = Param(4)) -> Any:
    """A first state that is made of a parameter and zeros, and an output that is the same zeros."""
    y, last = scan(idle(H=4), X, init={"h": exp(P)})
    return {"y": y, "nothing": last["h"] * 0}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["flat", "noslice"])
def test_an_output_of_the_zeros_that_a_first_state_is_made_of(caffe: Runner, target: str) -> None:
    report = lstmc.compile(begun, target=target, T=3, N=2).verify(["interpreter", "caffe-cpu"])
    assert report, str(report)
