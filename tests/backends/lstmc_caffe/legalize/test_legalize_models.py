"""``legalize`` of whole models: scans and their bodies, parameters that are returned, and what Caffe cannot do."""

from __future__ import annotations

import pytest

from lstmc.ir import Graph, Scan, Stage, parse_graph, print_graph, verify
from lstmc.ops import CORE, Arg, Largest, Param, Positive, Precomputed
from lstmc.passes import PassResult
from lstmc.testing import assert_same_meaning
from lstmc_caffe.legalize.legalize import KEPT
from lstmc_caffe.legalize.rules import rules
from lstmc_caffe.ops import CAFFE_OPS
from tests.backends.lstmc_caffe.nets import legalised

SCAN = """\
graph g {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = param()
  %V: f32[4,4] = param()
  %P: f32[2,4] = param()
  %y, %h_T: f32[3,2,4], f32[2,4] = scan(%X, %h0, %V, %P, %P, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %V: f32[4,4] = arg(role='weight')
      %P: f32[2,4] = arg(role='weight')
      %s: f32[2,4] = arg(role='static')
      %a: f32[2,4] = linear(%x, %V)
      %b: f32[2,4] = sub(%a, %P)
      %h: f32[2,4] = mul(%b, %s)
      return %h, next h=%P
    }
    first step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %V: f32[4,4] = arg(role='weight')
      %P: f32[2,4] = arg(role='weight')
      %s: f32[2,4] = arg(role='static')
      %h: f32[2,4] = tanh(%h_prev)
      return %h, next h=%x
    }
  }
  return y=%y, h=%h_T
}
"""
SCAN_LEGAL = """\
graph g {
  %X: f32[3,2,4] = caffe.Input()
  %h0: f32[2,4] = param()
  %V: f32[4,4] = param()
  %P: f32[2,4] = param()
  %h0/zeros: f32[2,4] = caffe.DummyData()
  %h0/value: f32[2,4] = caffe.Bias(%h0/zeros, %h0, axis=0, num_axes=2, learned=True)
  %P/zeros: f32[2,4] = caffe.DummyData()
  %P/value: f32[2,4] = caffe.Bias(%P/zeros, %P, axis=0, num_axes=2, learned=True)
  %y, %h_T: f32[3,2,4], f32[2,4] = scan(%X, %h0/value, %V, %P, %P/value, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %V: f32[4,4] = arg(role='weight')
      %P: f32[2,4] = arg(role='weight')
      %s: f32[2,4] = arg(role='static')
      %a: f32[2,4] = caffe.InnerProduct(%x, %V, num_output=4)
      %P/zeros: f32[2,4] = caffe.DummyData()
      %P/value: f32[2,4] = caffe.Bias(%P/zeros, %P, axis=0, num_axes=2, learned=True)
      %b: f32[2,4] = caffe.Eltwise(%a, %P/value, coeff=(1.0, -1.0))
      %h: f32[2,4] = caffe.Eltwise(%b, %s, operation='PROD')
      %P/zeros_2: f32[2,4] = caffe.DummyData()
      %h_2: f32[2,4] = caffe.Bias(%P/zeros_2, %P, axis=0, num_axes=2, learned=True)
      return %h, next h=%h_2
    }
    first step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %V: f32[4,4] = arg(role='weight')
      %P: f32[2,4] = arg(role='weight')
      %s: f32[2,4] = arg(role='static')
      %h: f32[2,4] = caffe.TanH(%h_prev)
      return %h, next h=%x
    }
  }
  return y=%y, h=%h_T
}
"""


def legalized(text: str) -> Graph:
    before = parse_graph(text)
    outcome = legalised(before)
    assert outcome.modified
    verify(outcome.graph, Stage.LEGAL, CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)
    assert legalised(outcome.graph) == PassResult(outcome.graph, False, {})
    return outcome.graph


@pytest.mark.parametrize(("shape", "learned"), [("1,3,4", False), ("2,3,4", True)])
def test_a_scale_keeps_its_own_blob_only_where_caffe_adds_up_its_gradient(shape: str, learned: bool) -> None:
    x = f"%x: f32[{shape}] = input()"
    text = f"graph g {{\n{x}\n%Q: f32[3,4] = param()\n%z: f32[{shape}] = mul(%x, %Q)\nreturn z=%z\n}}"
    assert ("learned=True" in print_graph(legalized(text)).splitlines()[-3]) == learned


def test_a_model_that_returns_parameters_returns_values() -> None:
    graph = legalized("graph g {\n%V: f32[5,4] = param()\nreturn w=%V, again=%V\n}\n")
    assert (
        print_graph(graph)
        == """\
graph g {
  %V: f32[5,4] = param()
  %V/zeros: f32[5,4] = caffe.DummyData()
  %again: f32[5,4] = caffe.Bias(%V/zeros, %V, axis=0, num_axes=2, learned=True)
  return w=%again, again=%again
}
"""
    )


def test_bodies_are_legalised_and_parameters_enter_them_by_what_they_are_for() -> None:
    assert print_graph(legalized(SCAN)) == SCAN_LEGAL


def test_arguments_keep_their_names_whatever_they_are_called() -> None:
    # legalisation itself makes a value called %power here, before the argument of that name
    static = "      %s: f32[2,4] = arg(role='static')\n"
    difference = "      %b: f32[2,4] = sub(%a, %P)\n"
    constant = "      %r: f32[4] = full(value=2.0)\n"
    text = SCAN.replace(static, "", 1).replace(difference, constant + difference.replace("%P", "%r") + static)
    text = text.replace("%s:", "%power:").replace("mul(%b, %s)", "mul(%b, %power)")
    (scan,) = [node.op for node in legalized(text) if isinstance(node.op, Scan)]
    names = [[arg.name for arg in body.body_args()] for body in scan.bodies]
    assert names == [["x", "h_prev", "V", "P", "power"]] * 2
    assert "power_2" in scan.body


def test_a_product_of_computed_matrices_is_one_of_elements() -> None:
    graph = parse_graph("""\
graph g {
  %x: f32[2,3] = input()
  %w: f32[4,3] = input()
  %b: f32[4] = input()
  %t: f32[4,3] = tanh(%w)
  %z: f32[2,4] = linear(%x, %t, %b)
  return z=%z
}
""")
    legal = legalised(graph).graph
    assert_same_meaning(graph, legal)
    lines = [line.strip() for line in print_graph(legal).splitlines()[4:]]
    assert lines == [
        "%t: f32[4,3] = caffe.TanH(%w)",
        "%reshape: f32[2,1,3] = caffe.Reshape(%x, shape=(2, 1, 3))",
        "%tile: f32[2,4,3] = caffe.Tile(%reshape, axis=1, tiles=4)",
        "%scale: f32[2,4,3] = caffe.Scale(%tile, %t, num_axes=2)",
        "%reduction: f32[2,4] = caffe.Reduction(%scale, axis=2)",
        "%reshape_2: f32[2,4] = caffe.Reshape(%reduction, shape=(2, 4))",
        "%z: f32[2,4] = caffe.Bias(%reshape_2, %b)",
        "return z=%z",
        "}",
    ]


def test_every_core_op_has_a_rule_or_is_kept() -> None:
    installed = rules()
    assert installed.faults == {}
    assert set(CORE) - {Positive, Largest} == {*installed.trained, *KEPT}  # these are of gradients alone
    assert not set(installed.trained) & KEPT
    assert {Param, Arg, Precomputed} == KEPT


def test_a_parameter_without_axes_is_a_value() -> None:
    lines = "%W: f32[] = param()\n%y: f32[] = tanh(%W)"
    before = parse_graph(f"graph g {{\n{lines}\nreturn y=%y\n}}\n")
    assert_same_meaning(before, legalised(before).graph)
