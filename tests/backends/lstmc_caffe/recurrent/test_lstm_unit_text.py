"""find_lstm_unit as text: what it makes of one scan, and what it leaves alone."""

from __future__ import annotations

import pytest

from lstmc.ir import Stage, parse_graph, print_graph, verify
from lstmc_caffe import ops as caffe
from lstmc_caffe.recurrent.lstm_unit import FindLSTMUnit

BEFORE = """\
graph net {
  %x: f32[2,3,8] = caffe.Input()
  %h0: f32[1,3,2] = caffe.DummyData()
  %c0: f32[1,3,2] = caffe.DummyData()
  %W: f32[8,2] = param()
  %V: f32[8,8] = param()
  %z: f32[2,3,8] = caffe.InnerProduct(%x, %V, axis=2, num_output=8)
  %y, %h_T, %c_T: f32[2,3,2], f32[1,3,2], f32[1,3,2] = scan(%z, %h0, %c0, %W, length=2, kept=True) {
    body lstm {
      %z: f32[1,3,8] = arg()
      %h_prev: f32[1,3,2] = arg(role='state')
      %c_prev: f32[1,3,2] = arg(role='state')
      %W: f32[8,2] = arg(role='weight')
      %r: f32[1,3,8] = caffe.InnerProduct(%h_prev, %W, axis=2, num_output=8)
      %a: f32[1,3,8] = caffe.Eltwise(%r, %z)
      %fi, %g, %o: f32[1,3,4], f32[1,3,2], f32[1,3,2] = caffe.Slice(%a, axis=2, sizes=(4, 2, 2))
      %sfi: f32[1,3,4] = caffe.Sigmoid(%fi)
      %sf, %si: f32[1,3,2], f32[1,3,2] = caffe.Slice(%sfi, axis=2, sizes=(2, 2))
      %tg: f32[1,3,2] = caffe.TanH(%g)
      %so: f32[1,3,2] = caffe.Sigmoid(%o)
      %new: f32[1,3,2] = caffe.Eltwise(%tg, %si, operation='PROD')
      %old: f32[1,3,2] = caffe.Eltwise(%c_prev, %sf, operation='PROD')
      %c: f32[1,3,2] = caffe.Eltwise(%new, %old)
      %tc: f32[1,3,2] = caffe.TanH(%c)
      %h: f32[1,3,2] = caffe.Eltwise(%so, %tc, operation='PROD')
      return %h, next h=%h, next c=%c
    }
  }
  return y=%y, c_T=%c_T
}
"""
AFTER = """\
graph net {
  %x: f32[2,3,8] = caffe.Input()
  %h0: f32[1,3,2] = caffe.DummyData()
  %c0: f32[1,3,2] = caffe.DummyData()
  %W: f32[8,2] = param()
  %V: f32[8,8] = param()
  %V_0, %V_1, %V_2, %V_3: f32[2,8], f32[2,8], f32[2,8], f32[2,8] = split(%V, axis=0, sizes=(2, 2, 2, 2))
  %V_1032: f32[8,8] = concat(%V_1, %V_0, %V_3, %V_2, axis=0)
  %z: f32[2,3,8] = caffe.InnerProduct(%x, %V_1032, axis=2, num_output=8)
  %W_0, %W_1, %W_2, %W_3: f32[2,2], f32[2,2], f32[2,2], f32[2,2] = split(%W, axis=0, sizes=(2, 2, 2, 2))
  %W_1032: f32[8,2] = concat(%W_1, %W_0, %W_3, %W_2, axis=0)
  %y/cont: f32[1,3] = caffe.DummyData(value=1.0)
  %y, %h_T, %c_T: f32[2,3,2], f32[1,3,2], f32[1,3,2] = scan(%y/cont, %z, %h0, %c0, %W_1032, length=2, kept=True) {
    body lstm {
      %cont: f32[1,3] = arg(role='static')
      %z: f32[1,3,8] = arg()
      %h_prev: f32[1,3,2] = arg(role='state')
      %c_prev: f32[1,3,2] = arg(role='state')
      %W: f32[8,2] = arg(role='weight')
      %r: f32[1,3,8] = caffe.InnerProduct(%h_prev, %W, axis=2, num_output=8)
      %a: f32[1,3,8] = caffe.Eltwise(%r, %z)
      %c, %h: f32[1,3,2], f32[1,3,2] = caffe.LSTMUnit(%c_prev, %a, %cont)
      return %h, next h=%h, next c=%c
    }
  }
  return y=%y, c_T=%c_T
}
"""


def test_text() -> None:
    before = parse_graph(BEFORE, caffe.CAFFE_OPS)
    outcome = FindLSTMUnit().run(before)
    assert print_graph(outcome.graph) == AFTER
    assert outcome.counts == {"find_unit": 1, "reorder_rows": 1}
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("%c: f32[1,3,2] = caffe.Eltwise(%new, %old)", "%c: f32[1,3,2] = caffe.Eltwise(%new, %old, coeff=(1.0, -1.0))"),
        ("%tg: f32[1,3,2] = caffe.TanH(%g)", "%tg: f32[1,3,2] = caffe.Sigmoid(%g)"),
        ("caffe.Eltwise(%so, %tc", "caffe.Eltwise(%so, %c"),
        ("caffe.Eltwise(%so, %tc", "caffe.Eltwise(%sf, %tc"),
        ("%tg: f32[1,3,2] = caffe.TanH(%g)", "%tg: f32[1,3,2] = caffe.TanH(%h_prev)"),
        ("return y=%y", "return z=%z, y=%y"),  # another reader of what would be re-ordered
    ],
)
def test_what_does_not_match(line: str, other: str) -> None:
    assert BEFORE.count(line) == 1
    assert not FindLSTMUnit().run(parse_graph(BEFORE.replace(line, other), caffe.CAFFE_OPS)).modified
