"""No written layer has very many tops or bottoms, and the trees mean what the flat layers meant."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, model, scan, tanh, uniform
from lstmc.interp import backward, forward
from lstmc.ir import Builder, Graph, parse_graph, print_graph
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.unroll import FAN, LimitFan, branches
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.write.net import write_net
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

T, N, D, H = dims("T N D H")


@cell
def attentive(
    x: Value = Input(N, D),
    context: Value = Input(N, H),
    h: Value = State(N, H, fill=constant(0.3)),
    *,
    W: Value = Param(H, H, fill=uniform(-0.3, 0.3)),
    W_x: Value = Param(H, D, fill=uniform(-0.3, 0.3)),
    start: Value = Param(N, H, fill=uniform(-1, 1)),
) -> tuple[Value, dict[str, Value]]:
    """Every step reads a static input twice, and a parameter as a value."""
    h = tanh(linear(x, W_x) + linear(h, W) * context + context) * start
    return h, {"h": h}


@model
def long(X: Value = Input(T, N, 3), context: Value = Input(N, 4)) -> dict[str, Value]:
    y, last = scan(attentive(H=4), X, static={"context": context})
    return {"y": y, "h_T": last["h"]}


def widest(graph: Graph) -> int:
    """The most tops, bottoms or readers that anything in a net has."""
    readers = [n for ref, n in graph.readers().items() if isinstance(graph.node(ref.node).op, caffe.CaffeOp)]
    return max(*readers, *(len(node.types) for node in graph), *(len(graph.args(node.name)) for node in graph))


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(1, 3, [1]), (3, 3, [1, 1, 1]), (4, 3, [2, 2]), (9, 3, [3, 3, 3]), (10, 3, [3, 3, 4]), (27, 3, [9, 9, 9])],
)
def test_branches_are_balanced(count: int, most: int, expected: list[int]) -> None:
    assert [len(branch) for branch in branches(count, most)] == expected


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000, 10_000, 10_001, 100_000])
def test_branches_cover_all_leaves_once(count: int) -> None:
    inside = branches(count)
    assert [i for branch in inside for i in branch] == list(range(count))
    assert len(inside) <= FAN


BEFORE = """\
graph net {
  %x: f32[5,2] = caffe.Input()
  %a, %b, %c, %d, %e: f32[1,2], f32[1,2], f32[1,2], f32[1,2], f32[1,2] = caffe.Slice(%x, axis=0, sizes=(1, 1, 1, 1, 1))
  %p: f32[1,2] = caffe.Eltwise(%a, %b)
  %q: f32[1,2] = caffe.Eltwise(%a, %a, operation='PROD')
  %r: f32[1,2] = caffe.Eltwise(%a, %c, operation='PROD')
  %z: f32[5,2] = caffe.Concat(%p, %q, %r, %d, %e, axis=0)
  return z=%z, a=%a
}
"""
AFTER = """\
graph net {
  %x: f32[5,2] = caffe.Input()
  %a, %x_1_to_2, %x_3_to_4: f32[1,2], f32[2,2], f32[2,2] = caffe.Slice(%x, axis=0, sizes=(1, 2, 2))
  %b, %c: f32[1,2], f32[1,2] = caffe.Slice(%x_1_to_2, axis=0, sizes=(1, 1))
  %d, %e: f32[1,2], f32[1,2] = caffe.Slice(%x_3_to_4, axis=0, sizes=(1, 1))
  %a_0_to_1, %a_2_to_3: f32[1,2], f32[1,2] = caffe.Split(%a)
  %a_copy0, %a_copy1: f32[1,2], f32[1,2] = caffe.Split(%a_0_to_1)
  %a_copy2, %a_copy3: f32[1,2], f32[1,2] = caffe.Split(%a_2_to_3)
  %p: f32[1,2] = caffe.Eltwise(%a_copy0, %b)
  %q: f32[1,2] = caffe.Eltwise(%a_copy1, %a_copy2, operation='PROD')
  %r: f32[1,2] = caffe.Eltwise(%a_copy3, %c, operation='PROD')
  %z_1_to_2: f32[2,2] = caffe.Concat(%q, %r, axis=0)
  %z_3_to_4: f32[2,2] = caffe.Concat(%d, %e, axis=0)
  %z: f32[5,2] = caffe.Concat(%p, %z_1_to_2, %z_3_to_4, axis=0)
  return z=%z, a=%a
}
"""


def test_each_rule_as_text() -> None:
    before = parse_graph(BEFORE, caffe.CAFFE_OPS)
    outcome = LimitFan(3).run(before)
    assert print_graph(outcome.graph) == AFTER
    assert outcome.counts == {"slice_of_slices": 1, "split_readers": 1, "concat_of_concats": 1}
    LimitFan(3).ensures(outcome.graph)
    assert LimitFan(4).run(before).counts == {"slice_of_slices": 1, "concat_of_concats": 1}
    assert not LimitFan(5).run(before).modified


def test_the_tree_means_the_same() -> None:
    before = parse_graph(BEFORE, caffe.CAFFE_OPS)
    after = LimitFan(3).run(before).graph
    rng = np.random.default_rng(0)
    x, ct = rng.normal(size=(5, 2)), {"z": rng.normal(size=(5, 2)), "a": rng.normal(size=(1, 2))}
    runs = [forward(graph, {"x": x}) for graph in (before, after)]
    for name, value in runs[0].outputs.items():
        assert_array_equal(runs[1].outputs[name], value)
    assert_array_equal(backward(runs[1], ct).inputs["x"], backward(runs[0], ct).inputs["x"])


def test_a_second_run_changes_nothing() -> None:
    once = LimitFan(3).run(parse_graph(BEFORE, caffe.CAFFE_OPS)).graph
    assert not LimitFan(3).run(once).modified


@pytest.mark.parametrize("steps", [1, 100, 101, 1000])
def test_no_layer_of_a_long_net_is_wide(steps: int) -> None:
    assert widest(compiled(long, T=steps, N=2).expanded) <= FAN


def test_what_is_the_same_at_every_step_is_made_once() -> None:
    """The first step, whose state is a number, has a body of its own."""
    graph = compiled(long, T=300, N=2).expanded
    values = [op.value for node in graph if isinstance(op := node.op, caffe.DummyData)]
    assert sorted(values) == [0.0, 0.0, 0.3]
    assert sum(isinstance(node.op, caffe.Bias) for node in graph) == 2


def test_values_that_nothing_reads_are_silenced_in_parts() -> None:
    b = Builder("net")
    (x,) = b.add(caffe.InputLayer((250, 2)), names=("x",))
    pieces = b.add(caffe.SliceLayer(0, (1,) * 250), x, names=[f"piece{i}" for i in range(250)])
    graph = LimitFan().run(b.finish([("first", pieces[0])])).graph
    silence = [len(layer.bottom) for layer in write_net(graph).layers() if layer.type == "Silence"]
    assert silence == [100, 100, 49]


@pytest.mark.caffe
@pytest.mark.parametrize("steps", [3, 250])
def test_long_nets_in_real_caffe(caffe: Runner, steps: int) -> None:
    assert_caffe_agrees(caffe, compiled(long, T=steps, N=2))
