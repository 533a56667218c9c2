"""Indicators and masks in the unrolled net: LSTMUnit's own cont, and which layers a step has."""

from __future__ import annotations

import pytest

from lstmc.backend import Compiled
from lstmc.dsl import Model
from lstmc.ir import Stage, parse_graph, print_graph, verify
from lstmc.testing import assert_same_meaning
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.lstm_unit import find_lstm_unit
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.legalize.recurrent_models import SIZES, of_cell
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

MODELS = [
    of_cell("lstm", "cont"),
    of_cell("lstm", "cont", reverse=True),
    of_cell("lstm", "cont", carry=True),
    of_cell("lstm", "lengths"),
    of_cell("lstm", "cont", "lengths"),
    of_cell("lstm_peephole", "cont"),
    of_cell("gru", "cont"),
    of_cell("rnn", "cont", "lengths"),
]
each_model = pytest.mark.parametrize("made", MODELS, ids=lambda made: made.name)
each_size = pytest.mark.parametrize("size", SIZES)


@each_model
@each_size
def test_the_net_means_the_model(made: Model, size: str) -> None:
    built = compiled(made, **SIZES[size])
    assert_same_meaning(built.model, built.expanded, -1, 1, rtol=1e-11)


@pytest.mark.caffe
@each_model
@each_size
def test_in_real_caffe(caffe: Runner, made: Model, size: str) -> None:
    assert_caffe_agrees(caffe, compiled(made, **SIZES[size]))


def layers_of_step(built: Compiled, step: int) -> list[str]:
    nodes = [n for n in built.expanded if isinstance(n.op, caffe.CaffeOp) and n.name.startswith(f"lstm/t{step:03d}/")]
    return [node.op.layer_type for node in nodes if isinstance(node.op, caffe.CaffeOp)]


@pytest.mark.parametrize("size", ["usual", "one sequence"])
def test_the_layers_of_a_step(size: str) -> None:
    unit = ["InnerProduct", "Eltwise", "LSTMUnit"]
    assert layers_of_step(compiled(of_cell("lstm", "cont"), **SIZES[size]), 2) == ["Scale", *unit]
    kept = ["Scale", "Scale", "Eltwise"]  # of h and of c: the new one where there is a step, else the old one
    assert layers_of_step(compiled(of_cell("lstm", "lengths"), **SIZES[size]), 2) == [*unit, *kept, *kept]


GATES = """\
graph net {
  %z: f32[2,3,8] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %h_0: f32[1,3,2] = caffe.Input()
  %c_0: f32[1,3,2] = caffe.Input()
  %V: f32[8,2] = param()
  %y, %h_T, %c_T: f32[2,3,2], f32[1,3,2], f32[1,3,2] = scan(%z, %h_0, %c_0, %C, %V, length=2, kept=True) {
    body lstm {
      %z: f32[1,3,8] = arg()
      %h_prev: f32[1,3,2] = arg(role='state')
      %c_prev: f32[1,3,2] = arg(role='state')
      %mask: f32[1,3] = arg()
      %V: f32[8,2] = arg(role='weight')
      %hc: f32[1,3,2] = caffe.Scale(%h_prev, %mask, axis=0, num_axes=2)
      %cc: f32[1,3,2] = caffe.Scale(%c_prev, %mask, axis=0, num_axes=2)
      %r: f32[1,3,8] = caffe.InnerProduct(%hc, %V, axis=2, num_output=8)
      %a: f32[1,3,8] = caffe.Eltwise(%r, %z)
      %ifo, %g: f32[1,3,6], f32[1,3,2] = caffe.Slice(%a, axis=2, sizes=(6, 2))
      %s: f32[1,3,6] = caffe.Sigmoid(%ifo)
      %i, %f, %o: f32[1,3,2], f32[1,3,2], f32[1,3,2] = caffe.Slice(%s, axis=2, sizes=(2, 2, 2))
      %tg: f32[1,3,2] = caffe.TanH(%g)
      %new: f32[1,3,2] = caffe.Eltwise(%tg, %i, operation='PROD')
      %old: f32[1,3,2] = caffe.Eltwise(%cc, %f, operation='PROD')
      %c: f32[1,3,2] = caffe.Eltwise(%new, %old)
      %tc: f32[1,3,2] = caffe.TanH(%c)
      %h: f32[1,3,2] = caffe.Eltwise(%o, %tc, operation='PROD')
      return %h, next h=%h, next c=%c
    }
  }
  return y=%y, c_T=%c_T
}
"""
UNIT = """\
graph net {
  %z: f32[2,3,8] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %h_0: f32[1,3,2] = caffe.Input()
  %c_0: f32[1,3,2] = caffe.Input()
  %V: f32[8,2] = param()
  %y, %h_T, %c_T: f32[2,3,2], f32[1,3,2], f32[1,3,2] = scan(%C, %z, %h_0, %c_0, %C, %V, length=2, kept=True) {
    body lstm {
      %cont: f32[1,3] = arg()
      %z: f32[1,3,8] = arg()
      %h_prev: f32[1,3,2] = arg(role='state')
      %c_prev: f32[1,3,2] = arg(role='state')
      %mask: f32[1,3] = arg()
      %V: f32[8,2] = arg(role='weight')
      %hc: f32[1,3,2] = caffe.Scale(%h_prev, %mask, axis=0, num_axes=2)
      %r: f32[1,3,8] = caffe.InnerProduct(%hc, %V, axis=2, num_output=8)
      %a: f32[1,3,8] = caffe.Eltwise(%r, %z)
      %c, %h: f32[1,3,2], f32[1,3,2] = caffe.LSTMUnit(%c_prev, %a, %cont)
      return %h, next h=%h, next c=%c
    }
  }
  return y=%y, c_T=%c_T
}
"""


def test_find_lstm_unit_as_text() -> None:
    before = parse_graph(GATES, caffe.CAFFE_OPS)
    outcome = find_lstm_unit.run(before)
    assert print_graph(outcome.graph) == UNIT
    assert outcome.counts == {"find_unit": 1, "cont_of_unit": 1}
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)


@pytest.mark.parametrize("other", ["", "values=integers(0, 2)", "values=integers(0, 1, -1)"])
def test_what_is_no_indicator_keeps_its_product(other: str) -> None:
    """A gradient may be wanted there, or LSTMUnit's would not be right."""
    before = parse_graph(GATES.replace("values=integers(0, 1)", other), caffe.CAFFE_OPS)
    outcome = find_lstm_unit.run(before)
    assert outcome.counts == {"find_unit": 1}
    assert "caffe.LSTMUnit(%cc, %a, %cont)" in print_graph(outcome.graph)
    assert_same_meaning(before, outcome.graph)
