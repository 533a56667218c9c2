"""Which gradients of a graph can be asked for: none through indices, labels, and accuracy."""

from __future__ import annotations

from lstmc import Input, Param, State, accuracy, cell, model, scan
from lstmc.dsl.value import apply
from lstmc.ir import differentiable_inputs, differentiable_outputs, has_gradient, parse_graph
from lstmc.ops import Embed

GRAPH = parse_graph("""\
graph net {
  %ids: f32[3] = input()
  %x: f32[3,4] = input()
  %label: f32[3] = input()
  %both: f32[3,4] = input()
  %E: f32[7,4] = param()
  %e: f32[3,4] = embed(%ids, %E)
  %a: f32[3,4] = add(%e, %x)
  %s: f32[3,4] = mul(%a, %both)
  %l: f32[] = softmax_loss(%s, %label, axis=1)
  %c: f32[] = sigmoid_cross_entropy_loss(%s, %both)
  %acc: f32[] = accuracy(%s, %label, axis=1)
  %wrong: f32[] = affine(%acc, scale=-1.0, shift=1.0)
  return l=%l, c=%c, acc=%acc, wrong=%wrong, s=%s
}
""")


def test_ops_without_any_gradient() -> None:
    found = {node.name for node in GRAPH if not has_gradient(node)}
    assert found == {"acc"}


def test_a_score_and_what_is_made_of_it_has_no_gradient_to_send_back() -> None:
    assert differentiable_outputs(GRAPH) == ("l", "c", "s")


def test_an_input_that_an_op_on_the_way_does_not_differentiate_by_has_none() -> None:
    assert differentiable_inputs(GRAPH, ["s"]) == ("x", "label", "both")  # label has a gradient of zero
    assert differentiable_inputs(GRAPH, ["l", "s"]) == ("x", "both")
    assert differentiable_inputs(GRAPH, ["l", "c"]) == ("x",)
    assert differentiable_inputs(GRAPH, []) == ("ids", "x", "label", "both")


@cell
def delayed(z=Input(3, 4), i=Input(3), before=State(3), *, E=Param(7, 4)):
    v = apply(Embed(), before, E) + z  # embed takes the index of a state as one_hot
    return (v, accuracy(v, i)), {"before": i}


@model
def in_a_scan(X=Input(2, 3, 4), ids=Input(2, 3), first=Input(3), other=Input(3)):
    (y, right), last = scan(delayed(), (X, ids), init={"before": first})
    return {"y": y, "right": right, "last": last["before"], "o": other}


def test_what_a_scan_does_with_an_operand_counts_in_a_later_step_too() -> None:
    graph = in_a_scan.graph()
    assert differentiable_outputs(graph) == ("y", "last", "o")
    assert differentiable_inputs(graph, ["y"]) == ("X", "other")
    assert differentiable_inputs(graph, ["o"]) == ("X", "ids", "first", "other")
