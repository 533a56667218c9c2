"""Broadcasting, indices and arrangement as Caffe's layers: forward and all gradients, and what a target refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    dims,
    expand,
    full,
    model,
    ones_like,
    reshape,
    scan,
    stack,
    tanh,
    tile,
    transpose,
    uniform,
)
from lstmc.dsl import Model
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.ops.test_layers import assert_right

N, A, B = dims("N A B")
SPREAD = uniform(-0.6, 0.6)


@cell
def outer_sum(x=Input(N, A), y=Input(N, B), h=State(N, A, B), w=Param(A, 1, fill=SPREAD), k=Param(1, B, fill=SPREAD)):
    h = tanh(x[:, :, None] * y[:, None, :] + h * 0.5 + w * k)
    return h, {"h": h}


@cell
def turned(x=Input(N, A), h=State(N, A, B), *, P=Param(B, 3, fill=SPREAD)):
    columns = transpose(h)
    h = tanh(h + x[:, :, None] - transpose(columns * columns)) * stack(x, x * 2, axis=-1)[..., 1:]
    part = tile(h[..., -1:], (2, 1)) + expand(x[..., None], N, A, 1)[:, :1] + transpose(P)[0, :1]
    return reshape(part + full((N, 1, 1), 0.5) + ones_like(part), N, -1), {"h": h}


@model
def broadcasts(x=Input(3, 2, 4), y=Input(3, 2, 3)):
    h, last = scan(outer_sum(A=4, B=3, name="outer_sum"), [x, y])
    return {"h": h, "last": last["h"][0, 1] + last["h"][-1, :, :1]}


@model
def arrangement(x=Input(3, 2, 4)):
    y, last = scan(turned(A=4, B=3, name="turned"), x)
    return {"y": y, "turned": transpose(last["h"]), "mixed": x[0] + y[1:, :, :4]}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
@pytest.mark.parametrize(("of", "gradients"), [(broadcasts, {"x", "y"}), (arrangement, {"x"})])
def test_what_is_repeated_cut_and_turned_is_right(caffe: Runner, target: str, of: Model, gradients: set[str]) -> None:
    assert_right(caffe, of, gradients, target)


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat", "noslice"])
def test_rows_are_repeated_within_a_batch_on_every_target(caffe: Runner, target: str) -> None:
    @model
    def net(x=Input(2, 6), y=Input(2, 3)):
        return {"z": tanh(tile(y, 2)) * x, "w": tile(reshape(y, 2, 1, 3), (2, 1)) + reshape(x, 2, 2, 3)}

    assert_right(caffe, net, {"x", "y"}, target)


@pytest.mark.caffe
@pytest.mark.parametrize("turn", [transpose, lambda x: x[:, :2]])
def test_what_is_cut_and_turned_is_a_product_where_there_are_no_slices(
    caffe: Runner, turn: Callable[[Value], Value]
) -> None:
    @model
    def net(x=Input(2, 4, 3)):
        return {"y": turn(x)}

    assert_right(caffe, net, {"x"}, "noslice")
    expanded = compile_graph(net.graph(), CaffeBackend(), "noslice").expanded
    assert "caffe.Slice" not in {node.op.name for node in expanded}
    assert "caffe.InnerProduct" in {node.op.name for node in expanded}
