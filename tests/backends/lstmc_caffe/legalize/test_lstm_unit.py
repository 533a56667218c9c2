"""Gate tails become LSTMUnit, however they are written, as text too; what is no gate tail does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc.backend import Compiled, load_backend, load_cell
from lstmc.dsl import CellModel
from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph, Stage, parse_graph, print_graph, verify
from lstmc.ops import Input as CoreInput
from lstmc.ops import Param as CoreParam
from lstmc.pipeline import compile_graph
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.lstm_unit import find_lstm_unit
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.legalize.recurrent_models import (
    both_ways,
    caffe_order,
    clipped,
    coupled,
    gate_by_gate,
    gates_read_again,
    given_states,
    in_one_order_only,
    of_three_axes,
    one_sigmoid,
    stacked,
    stacked_orders,
    stacked_torch_order,
    torch_order,
)
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

CASES = {
    "caffe_order": (CellModel(caffe_order), {"D": 3, "H": 4}, 3),
    "torch_order": (CellModel(torch_order), {"D": 3, "H": 4}, 3),
    "gate_by_gate": (CellModel(gate_by_gate), {"D": 3, "H": 4}, 3),
    "one_sigmoid": (CellModel(one_sigmoid), {"D": 3, "H": 4}, 3),
    "stacked": (CellModel(stacked), {"D": 3, "H": 4}, 6),
    "stacked_torch_order": (CellModel(stacked_torch_order), {"D": 3, "H": 4}, 0),
    "stacked_orders": (CellModel(stacked_orders), {"D": 3, "H": 4}, 0),
    "both_ways": (both_ways, {}, 6),
    "given_states": (given_states, {}, 3),
    "gates_read_again": (CellModel(gates_read_again), {"D": 3, "H": 4}, 0),
    "clipped": (clipped, {}, 0),
    "coupled": (CellModel(coupled), {"D": 3, "H": 4}, 0),
    "in_one_order_only": (in_one_order_only, {}, 0),
    "of_three_axes": (of_three_axes, {}, 0),
    "lstm_peephole": (CellModel(load_cell("lstm_peephole")), {"D": 3, "H": 4}, 0),
    "gru": (CellModel(load_cell("gru")), {"D": 3, "H": 4}, 0),
}
each_case = pytest.mark.parametrize("case", CASES)


def net_of(case: str, steps: int = 3) -> Compiled:
    made, sizes, _ = CASES[case]
    return compiled(made, T=steps, N=2, **sizes)


def units(graph: Graph) -> int:
    return sum(isinstance(node.op, caffe.LSTMUnit) for node in graph)


def leaves(graph: Graph, kind: type[CoreInput | CoreParam]) -> dict[str, np.ndarray]:
    return {n.name: named_rng(0, n.name).uniform(-1, 1, n.types[0].shape) for n in graph if isinstance(n.op, kind)}


@each_case
def test_how_many(case: str) -> None:
    assert units(net_of(case).expanded) == CASES[case][2]


@each_case
def test_every_stage_means_the_model(case: str) -> None:
    built = net_of(case)
    given = leaves(built.model, CoreInput), leaves(built.model, CoreParam)
    wanted = forward(built.model, *given)
    ct = {name: named_rng(1, name).uniform(-1, 1, value.shape) for name, value in wanted.outputs.items()}
    wanted_grads = backward(wanted, ct)
    for snapshot in built.history[-8:]:
        found = forward(snapshot.graph, *given)
        for name, value in wanted.outputs.items():
            assert_allclose(found.outputs[name], value, rtol=1e-12, atol=1e-12, err_msg=f"{snapshot.pass_name} {name}")
        grads = backward(found, ct)
        for name, value in (wanted_grads.params | wanted_grads.inputs).items():
            gradient = (grads.params | grads.inputs)[name]
            assert_allclose(gradient, value, rtol=1e-11, atol=1e-11, err_msg=f"{snapshot.pass_name} {name}")


@each_case
def test_a_second_run_changes_nothing(case: str) -> None:
    found = [s.graph for s in net_of(case).history if s.pass_name == "find_lstm_unit"]
    assert not find_lstm_unit.run(found[0]).modified


@pytest.mark.caffe
@each_case
def test_in_real_caffe(caffe: Runner, case: str) -> None:
    assert_caffe_agrees(caffe, net_of(case))


@pytest.mark.caffe
def test_a_long_net_in_real_caffe(caffe: Runner) -> None:
    assert_caffe_agrees(caffe, net_of("torch_order", 250))


def test_gates_stay_in_the_forms_that_say_so() -> None:
    made = CellModel(caffe_order)
    for form, expected in ((None, 2), ("unit", 2), ("packed", 0), ("separate", 0)):
        built = compile_graph(made.graph(T=2, N=200, D=3, H=4), load_backend("caffe"), form=form)
        assert units(built.expanded) == expected


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


def test_as_text() -> None:
    before = parse_graph(BEFORE, caffe.CAFFE_OPS)
    outcome = find_lstm_unit.run(before)
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
def test_what_does_not_match_as_text(line: str, other: str) -> None:
    assert BEFORE.count(line) == 1
    assert not find_lstm_unit.run(parse_graph(BEFORE.replace(line, other), caffe.CAFFE_OPS)).modified
