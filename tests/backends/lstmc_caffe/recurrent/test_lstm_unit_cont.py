"""Indicators and masks in the unrolled net: LSTMUnit's own cont, and no reshaping at every step."""

from __future__ import annotations

import pytest

from lstmc import Input, Value, dims, model, scan
from lstmc.backend import Compiled, load_backend, load_cell
from lstmc.differential import check
from lstmc.dsl import Model
from lstmc.ir import Stage, parse_graph, print_graph, verify
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.reshape_once import ReshapeOnce
from lstmc_caffe.recurrent.lstm_unit import FindLSTMUnit
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner
from tests.equivalence import assert_same_meaning

T, N, H = dims("T N H")


def of_cell(cell: str, *masks: str, **options: bool) -> Model:
    """A model that scans a library cell with these masks."""

    def run(X: Value = Input(T, N, 3), C: Value = Input(T, N), L: Value = Input(N)) -> dict[str, Value]:
        given = {name: {"cont": C, "lengths": L}[name] for name in masks}
        y, last = scan(load_cell(cell)(H=H), X, **given, **options)  # type: ignore[arg-type]
        return {"y": y} | {f"{name}_T": value for name, value in last.items()}

    run.__name__ = "_".join((cell, *masks, *options))
    return model(run)


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
SIZES = {"usual": (4, 2, 3), "one step": (1, 2, 3), "one sequence": (4, 1, 3), "one unit": (3, 2, 1), "all": (1, 1, 1)}
each_model = pytest.mark.parametrize("made", MODELS, ids=lambda made: made.name)
each_size = pytest.mark.parametrize("size", SIZES)


def compiled(made: Model, size: str = "usual") -> Compiled:
    steps, batch, units = SIZES[size]
    return compile_graph(made.graph(T=steps, N=batch, H=units), load_backend("caffe"))


@each_model
@each_size
def test_the_net_means_the_model(made: Model, size: str) -> None:
    built = compiled(made, size)
    assert_same_meaning(built.model, built.expanded, -1, 1, rtol=1e-11)


@pytest.mark.caffe
@each_model
@each_size
def test_in_real_caffe(caffe: Runner, made: Model, size: str) -> None:
    built = compiled(made, size)
    weights = initial_weights(built.model, 1)
    artifact = load_backend("caffe").emit(built, weights)
    report = check(built, artifact, weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [d for d in report.differences if not d.passed]


def layers_of_step(built: Compiled, step: int) -> list[str]:
    nodes = [n for n in built.expanded if isinstance(n.op, caffe.CaffeOp) and n.name.startswith(f"lstm/t{step:03d}/")]
    return [node.op.layer_type for node in nodes if isinstance(node.op, caffe.CaffeOp)]


@pytest.mark.parametrize("size", ["usual", "one sequence"])
def test_the_layers_of_a_step(size: str) -> None:
    unit = ["InnerProduct", "Eltwise", "LSTMUnit"]
    assert layers_of_step(compiled(of_cell("lstm", "cont"), size), 2) == ["Scale", *unit]
    kept = ["Scale", "Scale", "Eltwise"]  # of h and of c: the new one where there is a step, else the old one
    assert layers_of_step(compiled(of_cell("lstm", "lengths"), size), 2) == [*unit, *kept, *kept]


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
    outcome = ReshapeOnce().run(before)
    assert print_graph(outcome.graph) == ONCE
    assert outcome.counts == {"reshape_sequence": 2}
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)
    assert not ReshapeOnce().run(outcome.graph).modified


def test_reshape_once_where_the_first_step_reads_a_sequence_as_it_is() -> None:
    body = LEGAL.partition("body rnn {")[2].partition("    }\n")[0]
    first = f"first rnn {{{body}".replace("%again:", "%same: f32[3,1] = caffe.Power(%cont)\n      %again:")
    before = parse_graph(LEGAL.replace("    }\n  }\n", f"    }}\n    {first}    }}\n  }}\n"), caffe.CAFFE_OPS)
    outcome = ReshapeOnce().run(before)
    operands = [outcome.graph.value_name(ref) for ref in outcome.graph.args("y")]
    assert operands == ["z", "rnn/z/3x4x2", "column", "C", "h_0"]
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)


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
    outcome = FindLSTMUnit().run(before)
    assert print_graph(outcome.graph) == UNIT
    assert outcome.counts == {"find_unit": 1, "cont_of_unit": 1}
    verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
    assert_same_meaning(before, outcome.graph)


@pytest.mark.parametrize("other", ["", "values=integers(0, 2)", "values=integers(0, 1, -1)"])
def test_what_is_no_indicator_keeps_its_product(other: str) -> None:
    """A gradient may be wanted there, or LSTMUnit's would not be right."""
    before = parse_graph(GATES.replace("values=integers(0, 1)", other), caffe.CAFFE_OPS)
    outcome = FindLSTMUnit().run(before)
    assert outcome.counts == {"find_unit": 1}
    assert "caffe.LSTMUnit(%cc, %a, %cont)" in print_graph(outcome.graph)
    assert_same_meaning(before, outcome.graph)
