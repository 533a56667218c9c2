"""Sequence indicators and carried states in Caffe's own layers: text, meaning, several forward passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc.backend import Compiled, load_backend
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.interp import backward, forward
from lstmc.ir import parse_graph, print_graph
from lstmc.ops import Input as CoreInput
from lstmc.ops import IntegerRange
from lstmc.ops import Param as CoreParam
from lstmc.testing import assert_same_meaning, random_cotangents, random_leaves
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.native import FindNativeLayers
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.legalize.recurrent_models import (
    SIZES,
    last_h_too,
    lstm_carried,
    lstm_cont,
    one_of_two,
    rnn_carried,
    rnn_cont,
    two_layers_cont,
    without_cont,
)
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

BATCHES = Path(__file__).with_name("batches.py")


FRESH = {m.name: m for m in (lstm_cont, rnn_cont, two_layers_cont)}
CARRIED = {m.name: m for m in (lstm_carried, last_h_too, rnn_carried, without_cont, one_of_two)}
each_size = pytest.mark.parametrize("size", SIZES)


def net_of(made: Model, size: str = "usual", target: str = "caffe-native") -> Compiled:
    return compiled(made, target, **SIZES[size])


def layers(graph_of: Compiled) -> list[str]:
    return [n.op.layer_type for n in graph_of.expanded if isinstance(n.op, caffe.CaffeOp)]


def test_what_is_written() -> None:
    assert layers(net_of(lstm_carried)) == ["Input", "Input", "LSTM"]
    assert layers(net_of(without_cont)) == ["Input", "DummyData", "LSTM"]
    made = ["Input", "Input", "DummyData", "DummyData", "Concat", "Eltwise", "LSTM", "Slice", "Reshape"]
    assert layers(net_of(lstm_cont)) == made


@pytest.mark.parametrize("name", FRESH)
@each_size
def test_with_cont_the_layers_mean_the_model(name: str, size: str) -> None:
    built = net_of(FRESH[name], size)
    assert_same_meaning(built.model, built.expanded, rtol=1e-11)


@pytest.mark.parametrize("name", CARRIED)
@each_size
def test_with_carried_states_the_layers_mean_the_first_batch(name: str, size: str) -> None:
    built = net_of(CARRIED[name], size)
    inputs, params = random_leaves(built.model, CoreInput, -1, 1), random_leaves(built.model, CoreParam, -1, 1)
    carried = built.model.carried()
    inputs |= {n: np.zeros(inputs[n].shape) for n in carried}
    assert not carried.keys() & {node.name for node in built.expanded}
    assert [o.name for o in built.expanded.outputs] == [
        o.name for o in built.model.outputs if o not in carried.values()
    ]
    runs = [forward(graph, inputs, params) for graph in (built.model, built.expanded)]
    for output, value in runs[1].outputs.items():
        assert_allclose(value, runs[0].outputs[output], rtol=1e-12, atol=1e-12)
    wanted, found = (backward(run, random_cotangents(built.expanded)) for run in runs)
    for leaf, gradient in (found.inputs | found.params).items():
        assert_allclose(gradient, (wanted.inputs | wanted.params)[leaf], rtol=1e-11, atol=1e-11, err_msg=leaf)


@pytest.mark.caffe
@pytest.mark.parametrize("name", FRESH | CARRIED)
@each_size
def test_in_real_caffe(caffe: Runner, name: str, size: str) -> None:
    assert_caffe_agrees(caffe, net_of((FRESH | CARRIED)[name], size))


@pytest.mark.caffe
@pytest.mark.parametrize("name", FRESH | CARRIED)
def test_two_forward_passes(caffe: Runner, tmp_path: Path, name: str) -> None:
    """What the layer carries by itself is what a caller of the unrolled net carries, and the interpreter."""
    made = (FRESH | CARRIED)[name]
    outputs = [o.name for o in net_of(made).expanded.outputs]
    graph = net_of(made, target="caffe").model
    rng = np.random.default_rng(2)
    arrays = {"X": rng.normal(size=(2, 4, 2, 3)).astype(np.float32)}
    if "C" in graph:
        arrays["C"] = np.array([[[1, 1], [1, 1], [0, 1], [1, 1]], [[1, 0], [1, 1], [1, 0], [1, 1]]], np.float32)
    weights = initial_weights(graph, 1)
    found = {}
    for target in ("caffe", "caffe-native"):
        built = net_of(made, target=target)
        blobs = {o.name: built.expanded.value_name(o.ref) for o in built.expanded.outputs}
        for file, content in load_backend("caffe").emit(built, weights).files.items():
            (tmp_path / file).write_bytes(content)
        args = {
            "prototxt": str(tmp_path / f"{name}.prototxt"),
            "weights": str(tmp_path / f"{name}.caffemodel"),
            "batches": 2,
            "outputs": [blobs[output] for output in outputs],
            "carried": {name: blobs[output.name] for name, output in built.expanded.carried().items()},
        }
        read = caffe.call(BATCHES, "forward", args, arrays).arrays
        found[target] = {
            f"{output}/{batch}": read[f"{blobs[output]}/{batch}"] for output in outputs for batch in (0, 1)
        }
    state: dict[str, np.ndarray] = {}
    for batch in (0, 1):
        run = forward(graph, {n: a[batch] for n, a in arrays.items()} | state, weights).outputs
        state = {name: run[output.name] for name, output in graph.carried().items()}
        for output in outputs:
            for target, values in found.items():
                assert_allclose(
                    values[f"{output}/{batch}"], run[output], atol=1e-6, err_msg=f"{target} {output} {batch}"
                )


@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_inputs_keep_what_they_say(target: str) -> None:
    graph = net_of(lstm_carried, target=target).expanded
    inputs = {n.name: n.op for n in graph if isinstance(n.op, CoreInput)}
    assert inputs["X"].values is None
    assert inputs["C"].values == IntegerRange(0, 1)
    assert {name: output.name for name, output in graph.carried().items()} == {
        "lstm/h_0": "lstm/h_T",
        "lstm/c_0": "lstm/c_T",
    }


BEFORE = """\
graph net {
  %x: f32[2,3,4] = caffe.Input()
  %C: f32[2,3] = caffe.Input(values=integers(0, 1))
  %h_0: f32[3,2] = caffe.FilledInput(fill=constant(0))
  %c_0: f32[3,2] = caffe.FilledInput(fill=constant(0))
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
  return y=%y, h_T=%h_T -> %h_0, c_T=%c_T -> %c_0
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


ZERO = tuple(
    (f"%{s}_0: f32[3,2] = caffe.FilledInput(fill=constant(0))", f"%{s}_0: f32[3,2] = caffe.DummyData()") for s in "hc"
)
ONLY_Y = ("return y=%y, h_T=%h_T -> %h_0, c_T=%c_T -> %c_0", "return y=%y")
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
    ],
    ids=["carried", "from zero", "without cont"],
)
def test_as_text(before: str, after: str, counts: dict[str, int]) -> None:
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
            (ZERO[0], ("h_T=%h_T -> %h_0, ", "")),
            GIVEN_ZERO.format("c") + "caffe.FilledInput(fill=constant(0))",
        ),
        (
            (
                (
                    "%h_0: f32[3,2] = caffe.FilledInput(fill=constant(0)",
                    "%h_0: f32[3,2] = caffe.FilledInput(fill=constant(1)",
                ),
            ),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(1))",
        ),
        (
            (("h_T=%h_T -> %h_0, c_T=%c_T -> %c_0", "h_T=%h_T -> %c_0, c_T=%c_T -> %h_0"),),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(0))",
        ),
        (
            (ONLY_Y,),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(0))",
        ),
        (
            (("return y=%y", "return first=%h_0, y=%y"),),
            GIVEN_ZERO.format("h") + "caffe.FilledInput(fill=constant(0))",
        ),
        (
            (("return y=%y", "return last=%c_T, y=%y"),),
            "LSTM: expected h to be all that is read of the scan (Caffe's layer shows its states only without"
            " gradient), found the last c read by return last",
        ),
    ],
)
def test_what_of_that_is_refused(changes: tuple[tuple[str, str], ...], difference: str) -> None:
    with pytest.raises(BackendError) as caught:
        FindNativeLayers().run(parse_graph(changed(*changes), caffe.CAFFE_OPS))
    assert caught.value.notes[0] == difference
