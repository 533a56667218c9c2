"""Sequences without Slice and Concat: steps whose blobs have several shapes, and steps that are none."""

from __future__ import annotations

import pytest

from lstmc import Input, Param, State, cell, concat, dims, exp, linear, maximum, model, reshape, scan, tanh, uniform
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.ir import Scan
from lstmc.passes import roll_in
from lstmc.pipeline import compile_graph
from lstmc.testing import assert_same_meaning
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

N, D, H = dims("N D H")


@cell
def late(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=uniform(-1, 1)), U=Param(H, H, fill=uniform(-1, 1))):
    """It gives the state that it got, in another shape: at the first step an input's blob."""
    return reshape(h, 4, 2), {"h": tanh(linear(x, W) + linear(h, U))}


@model
def delayed(X=Input(3, 2, 5), h0=Input(2, 4)):
    y, last = scan(late(H=4), X, init={"h": h0})
    return {"y": y, "h": last["h"]}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["flat", "noslice"])
def test_a_first_step_may_have_a_blob_of_another_shape(caffe: Runner, target: str) -> None:
    assert_caffe_agrees(caffe, compiled(delayed, target))


@cell
def added(x=Input(N, D), p=Input(N, D), h=State(N, D)):
    h = tanh(x + p + h)
    return h, {"h": h}


@model
def of_parameters(
    X=Input(3, 2, 4),
    positions=Param(3, 4, fill=uniform(-1, 1)),  # of each step, for the whole batch
    P=Param(3, 2, 4, fill=uniform(-1, 1)),
):
    y, last = scan(added(), [X + positions[:, None], exp(P)])
    return {"y": y, "h": last["h"], "z": maximum(y, P)}


@model
def of_one_step(X=Input(1, 2, 4), P=Param(1, 2, 4, fill=uniform(-1, 1))):
    return scan(added(), [X, P])[0]


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["flat", "noslice"])
@pytest.mark.parametrize("net", [of_parameters, of_one_step], ids=lambda net: net.name)
def test_a_sequence_may_be_made_of_parameters(caffe: Runner, target: str, net: Model) -> None:
    assert_caffe_agrees(caffe, compiled(net, target))


def test_steps_of_another_number_are_refused() -> None:
    @model
    def recut(X=Input(3, 2, 5)):
        y, _ = scan(late(H=4), X)
        z, _ = scan(late(H=4), reshape(y, 6, 2, 2))
        return z

    with pytest.raises(BackendError) as caught:
        compile_graph(recut.graph(), CaffeBackend(), "noslice")
    assert caught.value.message == (
        "target noslice: a sequence that a scan reads must be an Input, a Param or a scan's own output"
    )
    assert caught.value.notes == (
        "found late/y: f32[3,4,2], computed by host.stack, for 6 steps",
        "there is no Slice to cut it into steps; compute it inside the cell",
        "TensorRT's Caffe parser has no Slice: write one InnerProduct a piece, one Input a step",
        "documented in: NVIDIA/TensorRT parsers/caffe/caffeParser/opParsers (TensorRT 8)",
    )


@model
def flattened(X=Input(3, 2, 1), P=Param(3, 1, fill=uniform(-1, 1))):
    v = linear(X, P)
    y, _ = scan(late(H=4), concat(v, v))
    w = reshape(v, 18)
    return {"y": y, "w": tanh(w + w)}


@model
def spread(X=Input(3, 2, 5), once=Input(1, 2, 4)):
    y, _ = scan(late(H=4), X)
    z = reshape(y, 3, 2, 4)
    return {"z": z + tanh(once), "t": tanh(once)}


@pytest.mark.parametrize("net", [flattened, spread], ids=lambda net: net.name)
def test_what_has_no_axis_of_time_is_not_taken_into_a_loop(net: Model) -> None:
    graph = net.graph()
    for inner in roll_in.run(graph).graph:
        if isinstance(inner.op, Scan):
            assert inner.op.length == 3, inner.name
    assert_same_meaning(graph, roll_in.run(graph).graph)
