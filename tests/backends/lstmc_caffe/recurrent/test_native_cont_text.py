"""find_native_layers as text, where states are multiplied by an indicator or carried; and what of that is refused."""

from __future__ import annotations

import pytest

from lstmc.errors import BackendError
from lstmc.ir import parse_graph, print_graph
from lstmc_caffe import ops as caffe
from lstmc_caffe.recurrent.native_layers import FindNativeLayers

BEFORE = """\
graph net {
  %x: f32[2,3,4] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %h_0: f32[3,2] = caffe.FilledInput(fill=constant(0), after='h_T')
  %c_0: f32[3,2] = caffe.FilledInput(fill=constant(0), after='c_T')
  %W: f32[8,4] = param()
  %b: f32[8] = param()
  %V: f32[8,2] = param()
  %z: f32[2,3,8] = caffe.InnerProduct(%x, %W, %b, axis=2, num_output=8, bias=True)
  %y, %h_T, %c_T: f32[2,3,2], f32[3,2], f32[3,2] = scan(%z, %h_0, %c_0, %C, %V, length=2) {
    body lstm {
      %z: f32[3,8] = arg()
      %h_prev: f32[3,2] = arg(role='state')
      %c_prev: f32[3,2] = arg(role='state')
      %cont: f32[3] = arg()
      %V: f32[8,2] = arg(role='weight')
      %hc: f32[3,2] = caffe.Scale(%h_prev, %cont, axis=0)
      %cc: f32[3,2] = caffe.Scale(%c_prev, %cont, axis=0)
      %r: f32[3,8] = caffe.InnerProduct(%hc, %V, num_output=8)
      %a: f32[3,8] = caffe.Eltwise(%r, %z)
      %i, %f, %o, %g: f32[3,2], f32[3,2], f32[3,2], f32[3,2] = caffe.Slice(%a, axis=1, sizes=(2, 2, 2, 2))
      %si: f32[3,2] = caffe.Sigmoid(%i)
      %sf: f32[3,2] = caffe.Sigmoid(%f)
      %so: f32[3,2] = caffe.Sigmoid(%o)
      %tg: f32[3,2] = caffe.TanH(%g)
      %new: f32[3,2] = caffe.Eltwise(%tg, %si, operation='PROD')
      %old: f32[3,2] = caffe.Eltwise(%cc, %sf, operation='PROD')
      %c: f32[3,2] = caffe.Eltwise(%new, %old)
      %tc: f32[3,2] = caffe.TanH(%c)
      %h: f32[3,2] = caffe.Eltwise(%so, %tc, operation='PROD')
      return %h, next h=%h, next c=%c
    }
  }
  return y=%y, h_T=%h_T, c_T=%c_T
}
"""
HEAD = """\
graph net {
  %x: f32[2,3,4] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %W: f32[8,4] = param()
  %b: f32[8] = param()
  %V: f32[8,2] = param()
"""
CARRYING = f"""\
{HEAD}\
  %y: f32[2,3,2] = caffe.LSTM(%x, %C, %W, %b, %V, num_output=2)
  return y=%y
}}
"""
FROM_ZERO = f"""\
{HEAD}\
  %y/cont_first: f32[1,3] = caffe.DummyData()
  %y/cont_others: f32[1,3] = caffe.DummyData(value=1.0)
  %y/cont_mask: f32[2,3] = caffe.Concat(%y/cont_first, %y/cont_others, axis=0)
  %y/cont: f32[2,3] = caffe.Eltwise(%C, %y/cont_mask, operation='PROD')
  %y: f32[2,3,2] = caffe.LSTM(%x, %y/cont, %W, %b, %V, num_output=2)
  return y=%y
}}
"""
ONES = CARRYING.replace("%y: ", "%y/cont: f32[2,3] = caffe.DummyData(value=1.0)\n  %y: ").replace(
    "%x, %C", "%x, %y/cont"
)


def changed(*changes: tuple[str, str]) -> str:
    text = BEFORE
    for line, other in changes:
        assert line in text
        text = text.replace(line, other)
    return text


ZERO = tuple((f"caffe.FilledInput(fill=constant(0), after='{s}_T')", "caffe.DummyData()") for s in "hc")
ONLY_Y = ("return y=%y, h_T=%h_T, c_T=%c_T", "return y=%y")
PLAIN = (
    ("%hc: f32[3,2] = caffe.Scale(%h_prev, %cont, axis=0)", ""),
    ("%cc: f32[3,2] = caffe.Scale(%c_prev, %cont, axis=0)", ""),
    ("%hc", "%h_prev"),
    ("%cc", "%c_prev"),
)


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        (BEFORE, CARRYING, {"find_lstm": 1, "keep_cont": 1, "carry_states": 1}),
        (changed(*ZERO, ONLY_Y), FROM_ZERO, {"find_lstm": 1, "keep_cont": 1}),
        (changed(*PLAIN), ONES, {"find_lstm": 1, "carry_states": 1}),
        (changed(ONLY_Y), CARRYING, {"find_lstm": 1, "keep_cont": 1, "carry_states": 1}),
    ],
    ids=["carried", "from zero", "without cont", "outputs not kept"],
)
def test_text(before: str, after: str, counts: dict[str, int]) -> None:
    outcome = FindNativeLayers().run(parse_graph(before, caffe.CAFFE_OPS))
    assert print_graph(outcome.graph) == after
    assert outcome.counts == counts


FREE = "%C: f32[2,3] = caffe.Input(values=integers(0, 1))"
GIVEN_ZERO = (
    "LSTM: expected %{0}_prev to start from zero (through a given first state Caffe's layer passes no gradient),"
    " found %{0}_0: f32[3,2] = "
)
INDICATOR = (
    "LSTM: expected what multiplies the states to be an input [T, N] of 0 and 1 (Caffe's layer passes no gradient"
    " to cont), found %C: f32[2,3] = "
)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            ((FREE, "%C: f32[2,3] = caffe.Input()"),),
            INDICATOR + "caffe.Input()",
        ),
        (
            ((FREE, "%C: f32[2,3] = caffe.Input(values=integers(0, 2))"),),
            INDICATOR + "caffe.Input(values=integers(0, 2))",
        ),
        (
            (("InnerProduct(%hc", "InnerProduct(%h_prev"),),
            "LSTM: expected every state to be multiplied by the same indicator, or none,"
            " found %h_prev and %c_prev times %C",
        ),
        (
            (ZERO[0], ("h_T=%h_T, ", "")),
            GIVEN_ZERO.format("c") + "caffe.FilledInput(fill=constant(0), after='c_T')",
        ),
        (
            (
                (
                    "%h_0: f32[3,2] = caffe.FilledInput(fill=constant(0)",
                    "%h_0: f32[3,2] = caffe.FilledInput(fill=constant(1)",
                ),
            ),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(1), after='h_T')",
        ),
        (
            (("h_T=%h_T, c_T=%c_T", "h_T=%c_T, c_T=%h_T"),),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(0), after='h_T')",
        ),
        (
            (("return y=%y", "return first=%h_0, y=%y"),),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(0), after='h_T')",
        ),
        (
            (("return y=%y", "return last=%c_T, y=%y"),),
            "LSTM: expected h to be all that is read of the scan (Caffe's layer shows its states only without"
            " gradient), found the last c read by return last",
        ),
    ],
)
def test_what_is_refused(changes: tuple[tuple[str, str], ...], difference: str) -> None:
    with pytest.raises(BackendError) as caught:
        FindNativeLayers().run(parse_graph(changed(*changes), caffe.CAFFE_OPS))
    assert caught.value.notes[0] == difference
