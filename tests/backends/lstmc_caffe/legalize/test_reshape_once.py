"""reshape_once as text: what steps reshape of a sequence is reshaped before the scan."""

from __future__ import annotations

from lstmc.ir import Stage, parse_graph, print_graph, verify
from lstmc.testing import assert_same_meaning
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import reshape_once

LEGAL = """\
graph net {
  %z: f32[2,3,8] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %h_0: f32[3,2] = caffe.DummyData()
  %V: f32[8,2] = param()
  %column: f32[2,3,1] = caffe.Reshape(%C, shape=(2, 3, 1))
  %y, %h_T: f32[2,3,2], f32[3,2] = scan(%z, %column, %h_0, length=2) {
    body rnn {
      %z: f32[3,8] = arg()
      %cont: f32[3,1] = arg()
      %h_prev: f32[3,2] = arg(role='state')
      %again: f32[3] = caffe.Reshape(%cont, shape=(3,))
      %hc: f32[3,2] = caffe.Scale(%h_prev, %again, axis=0)
      %pairs: f32[3,4,2] = caffe.Reshape(%z, shape=(3, 4, 2))
      %p, %q: f32[3,2,2], f32[3,2,2] = caffe.Slice(%pairs, axis=1, sizes=(2, 2))
      %first, %rest: f32[3,2], f32[3,6] = caffe.Slice(%z, axis=1, sizes=(2, 6))
      %h: f32[3,2] = caffe.Eltwise(%hc, %first)
      return %h, next h=%h
    }
  }
  return y=%y
}
"""
ONCE = """\
graph net {
  %z: f32[2,3,8] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %h_0: f32[3,2] = caffe.DummyData()
  %V: f32[8,2] = param()
  %column: f32[2,3,1] = caffe.Reshape(%C, shape=(2, 3, 1))
  %rnn/z/3x4x2: f32[2,3,4,2] = caffe.Reshape(%z, shape=(2, 3, 4, 2))
  %y, %h_T: f32[2,3,2], f32[3,2] = scan(%z, %rnn/z/3x4x2, %C, %h_0, length=2) {
    body rnn {
      %z: f32[3,8] = arg()
      %z/3x4x2: f32[3,4,2] = arg()
      %cont: f32[3] = arg()
      %h_prev: f32[3,2] = arg(role='state')
      %hc: f32[3,2] = caffe.Scale(%h_prev, %cont, axis=0)
      %p, %q: f32[3,2,2], f32[3,2,2] = caffe.Slice(%z/3x4x2, axis=1, sizes=(2, 2))
      %first, %rest: f32[3,2], f32[3,6] = caffe.Slice(%z, axis=1, sizes=(2, 6))
      %h: f32[3,2] = caffe.Eltwise(%hc, %first)
      return %h, next h=%h
    }
  }
  return y=%y
}
"""


def test_reshape_once_as_text() -> None:
    before = parse_graph(LEGAL, caffe.CAFFE_OPS)
    outcome = reshape_once.run(before)
    assert print_graph(outcome.graph) == ONCE
    assert outcome.counts == {"reshape_sequence": 2}
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)
    assert not reshape_once.run(outcome.graph).modified


def test_a_reshape_of_a_reshape_is_made_once_too() -> None:
    twice = "%row: f32[1,3] = caffe.Reshape(%cont, shape=(1, 3))\n      %again: f32[3] = caffe.Reshape(%row"
    before = parse_graph(LEGAL.replace("%again: f32[3] = caffe.Reshape(%cont", twice), caffe.CAFFE_OPS)
    outcome = reshape_once.run(before)
    assert print_graph(outcome.graph) == ONCE
    assert_same_meaning(before, outcome.graph)
    assert not reshape_once.run(outcome.graph).modified


def test_reshape_once_where_the_first_step_reads_a_sequence_as_it_is() -> None:
    body = LEGAL.partition("body rnn {")[2].partition("    }\n")[0]
    first = f"first rnn {{{body}".replace("%again:", "%same: f32[3,1] = caffe.Power(%cont)\n      %again:")
    before = parse_graph(LEGAL.replace("    }\n  }\n", f"    }}\n    {first}    }}\n  }}\n"), caffe.CAFFE_OPS)
    outcome = reshape_once.run(before)
    operands = [outcome.graph.value_name(ref) for ref in outcome.graph.args("y")]
    assert operands == ["z", "rnn/z/3x4x2", "column", "C", "h_0"]
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)
