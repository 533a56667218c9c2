"""Indicators, masks and carried states for readers without Reshape: golden text, the same meaning, real Caffe."""

from __future__ import annotations

import pytest

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    expand,
    layer_norm,
    linear,
    model,
    reshape,
    scan,
    sigmoid,
    stack,
    step_index,
    tanh,
    uniform,
)
from lstmc import compile as compile_net
from lstmc.backend import load_backend, load_cell
from lstmc.errors import BackendError
from lstmc.ir import parse_graph, print_graph
from lstmc.pipeline import compile_graph
from lstmc.testing import assert_same_meaning
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.views import fit_readers
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled
from tests.backends.lstmc_caffe.rows.models import N, T, carried, with_cont, with_lengths

MODELS = {m.name: m for m in (with_cont, carried, with_lengths)}
SIZES = {
    "usual": {"T": 3, "N": 2, "H": 4},
    "one step": {"T": 1, "N": 2, "H": 4},
    "one sequence": {"T": 3, "N": 1, "H": 4},
    "one unit": {"T": 3, "N": 2, "H": 1},
}
each = [pytest.mark.parametrize(n, v) for n, v in (("target", ["flat", "noslice"]), ("name", MODELS), ("size", SIZES))]


@each[0]
@each[1]
@each[2]
def test_the_net_means_the_model(target: str, name: str, size: str) -> None:
    built = compiled(MODELS[name], target, **SIZES[size])
    assert_same_meaning(built.model, built.expanded, -1, 1, rtol=1e-11)


@pytest.mark.caffe
@each[0]
@each[1]
@each[2]
def test_in_real_caffe(caffe: Runner, target: str, name: str, size: str) -> None:
    assert_caffe_agrees(caffe, compiled(MODELS[name], target, **SIZES[size]))


BEFORE = """\
graph net {
  %x: f32[2,3] = host.input()
  %L: f32[3] = host.input()
  %y: f32[3,4] = host.input()
  %step: f32[1,3] = caffe.Feed(%x, shape=(1, 3), step=0)
  %rows: f32[1,3] = host.view(%L, shape=(1, 3))
  %ones: f32[1,3] = caffe.DummyData(value=1.0)
  %left: f32[1,3] = caffe.Power(%rows, shift=-1.0)
  %row: f32[3] = host.view(%left, shape=(3,))
  %again: f32[1,3] = host.view(%row, shape=(1, 3))
  %valid: f32[1,3] = caffe.Eltwise(%again, %step, %ones, operation='PROD')
  %column: f32[3,1] = host.view(%valid, shape=(3, 1))
  %spread: f32[3,4] = caffe.Concat(%column, %column, %column, %column)
  %z: f32[3,4] = caffe.Eltwise(%y, %spread, operation='PROD')
  return z=%z, row=%row
}
"""
AFTER = """\
graph net {
  %x: f32[2,3] = host.input()
  %L: f32[3] = host.input()
  %y: f32[3,4] = host.input()
  %step: f32[3,1] = caffe.Feed(%x, shape=(3, 1), step=0)
  %rows: f32[1,3] = host.view(%L, shape=(1, 3))
  %ones: f32[3,1] = caffe.DummyData(value=1.0)
  %rows/rows: f32[3,1] = host.view(%L, shape=(3, 1))
  %left: f32[3,1] = caffe.Power(%rows/rows, shift=-1.0)
  %row: f32[3] = host.view(%left, shape=(3,))
  %again: f32[1,3] = host.view(%left, shape=(1, 3))
  %valid: f32[3,1] = caffe.Eltwise(%left, %step, %ones, operation='PROD')
  %spread: f32[3,4] = caffe.Concat(%valid, %valid, %valid, %valid)
  %z: f32[3,4] = caffe.Eltwise(%y, %spread, operation='PROD')
  return z=%z, row=%row
}
"""
OPS = caffe.CAFFE_OPS + caffe.HOST_OPS


def test_text() -> None:
    before = parse_graph(BEFORE.replace("%column, %column)", "%column, %column, axis=1)"), OPS)
    outcome = fit_readers.run(before)
    assert print_graph(outcome.graph) == AFTER.replace("%valid, %valid)", "%valid, %valid, axis=1)")
    assert outcome.counts == {"fit_layer": 3, "fit_step": 1}
    assert_same_meaning(before, outcome.graph)
    assert not fit_readers.run(outcome.graph).modified


@pytest.mark.parametrize("output", ["%valid", "%step"])
def test_what_the_host_reads_as_it_is_stays(output: str) -> None:
    text = BEFORE.replace("%column, %column)", "%column, %column, axis=1)").replace("row=%row", f"as_it_is={output}")
    before = parse_graph(text, OPS)
    assert_same_meaning(before, fit_readers.run(before).graph)


def test_an_input_of_one_step_is_fed_so_and_stays_what_is_carried_to_it() -> None:
    text = """\
graph net {
  %C: f32[1,3] = host.input()
  %y: f32[3,4] = host.input()
  %column: f32[3,1] = host.view(%C, shape=(3, 1))
  %z: f32[3,5] = caffe.Concat(%y, %column, axis=1)
  %next: f32[1,3] = caffe.DummyData()
  return z=%z, C_T=%next -> %C
}
"""
    outcome = fit_readers.run(parse_graph(text, OPS))
    assert print_graph(outcome.graph) == text.replace(
        "  %y:", "  %C/rows: f32[3,1] = caffe.Feed(%C, shape=(3, 1))\n  %y:"
    ).replace("  %column: f32[3,1] = host.view(%C, shape=(3, 1))\n", "").replace("%column", "%C/rows")
    assert outcome.counts == {"fit_input": 1}


def test_two_shapes_of_one_value_are_refused() -> None:
    @model
    def both(X: Value = Input(T, N, 4), C: Value = Input(T, N)) -> dict[str, Value]:
        y, _ = scan(load_cell("rnn")(H=4), X, cont=C)
        return {"y": y, "gate": sigmoid(C)}

    with pytest.raises(BackendError) as caught:
        compile_graph(both.graph(T=3, N=2), load_backend("caffe"), "noslice")
    assert (caught.value.message, *caught.value.notes[:2]) == (
        "target noslice: rnn/t001/cont/spread cannot read rnn/t001/cont in another shape: there is no Reshape",
        "found f32[1,2]",
        "expected f32[2,1]: give this reader an input of its own to compute it from",
    )


@cell
def vectors(
    x=Input(2, 3, 4),
    h=State(2, 3, 4),
    *,
    W=Param(4, 4, fill=uniform(-1, 1)),
    b=Param(4, fill=uniform(-1, 1)),
    gain=Param(4, fill=uniform(0, 1)),
):
    """A product with each vector of a row, their norm, and elements that take turns."""
    y = layer_norm(gain * h + tanh(linear(h, W, b)) + x)
    even, odd = y[:, :, ::2], y[:, :, 1::2]
    return y, {"h": reshape(stack([odd, even], axis=3), 2, 3, 4)}


@model
def of_vectors(X=Input(3, 2, 3, 4)):
    y, last = scan(vectors(), X)
    return {"y": y, "h": last["h"]}


@pytest.mark.parametrize("step", [False, True])
def test_vectors_in_rows_need_no_reshape(caffe: Runner, step: bool) -> None:
    """A row [2, 12] and the matrix [6, 4] of one value: it was refused for want of a Reshape."""
    net = compile_net(of_vectors, target="noslice", step=step)
    assert_same_meaning(net.compiled.model, net.compiled.expanded, -1, 1, rtol=1e-9)
    assert_caffe_agrees(caffe, net.compiled)


@cell
def kept(x=Input(2, 6), c=State(2, 3, 2)):
    return {"flat": reshape(c, 12), "y": tanh(x)}, {"c": c}


@model
def of_kept(X=Input(3, 2, 6)):
    return scan(kept(), X)[0]


def test_the_steps_of_a_sequence_have_one_shape() -> None:
    """The first step's zeros were a row, those of the others a matrix: a ShapeError, where it is to be said why."""
    with pytest.raises(BackendError, match="target noslice: nothing makes a constant"):
        compile_net(of_kept, target="noslice")


@cell
def clock(x=Input(1, 3), h=State(1, 2)):
    return step_index() * 0.5, {"h": tanh(h)}


@model
def of_all_steps(X=Input(4, 1, 3)):
    return expand(scan(clock(), X)[0][None], 2, 4, 1)


def test_a_layer_that_reads_all_steps_gives_no_shape_to_one() -> None:
    """A step of one element took the shape of all four: a ShapeError, where it is to be said why."""
    with pytest.raises(BackendError, match="a layer cannot read a sequence whose steps are blobs of their own"):
        compile_net(of_all_steps, target="noslice")


@cell
def alike(x=Input(4, 4), h=State(4, 4), *, P=Param(4), W=Param(2, 4)):
    return {"a": x, "b": linear(P, W)}, {"h": tanh(h + x)}


@model
def of_alike_steps(X=Input(6, 4, 4), s=Param(1, 1)):
    outputs, last = scan(alike(), X)
    return {"y": tanh(outputs["b"] / (1.5 + tanh(s))), "h": last["h"]}


def test_a_row_of_factors_that_reads_all_steps_gives_no_shape_to_one() -> None:
    """A step that is the same for all took the shape of the six: a ShapeError, where it is to be said why."""
    with pytest.raises(BackendError, match="a layer cannot read a sequence whose steps are blobs of their own"):
        compile_net(of_alike_steps, target="noslice")
