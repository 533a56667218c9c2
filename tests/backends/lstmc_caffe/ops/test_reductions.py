"""Sums, means, the largest, variances, layer normalization and softmax along any axis in real Caffe, with gradients."""

from __future__ import annotations

import pytest

from lstmc import (
    Input,
    Param,
    State,
    cell,
    dims,
    layer_norm,
    max,
    mean,
    min,
    model,
    reshape,
    scan,
    softmax,
    sum,
    tanh,
    uniform,
    var,
)
from lstmc.errors import BackendError
from lstmc.pipeline import compile_graph
from lstmc_caffe import CaffeBackend
from lstmc_caffe.backend import passes_of
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.ops.test_layers import assert_right

N, A, B = dims("N A B")
SPREAD = uniform(-0.6, 0.6)


@cell
def normed(
    x=Input(N, A, B),
    h=State(N, A, B),
    g=Param(B, fill=SPREAD),
    b=Param(B, fill=SPREAD),
    k=Param(A, fill=SPREAD),
):
    n = layer_norm(h + x, g, b, eps=1e-3) + layer_norm(x, k, axis=1) * softmax(h, axis=1)
    h = tanh(n + h * mean(h, 1, keepdims=True) - sum(x, (0, 2), keepdims=True) + var(x * h, -1, keepdims=True))
    return mean(h, -2), {"h": h}


@model
def norms(x=Input(3, 2, 4, 3)):
    y, last = scan(normed(A=4, B=3, name="normed"), x)
    return {"y": y, "h": softmax(last["h"], axis=0)}


@model
def extremes(x=Input(3, 2, 4)):
    return {"a": max(x, axis=1), "b": min(x, axis=(0, -1)), "c": max(x, axis=-1, keepdims=True), "d": max(x)}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_sums_and_norms_along_any_axis_are_right(caffe: Runner, target: str) -> None:
    assert_right(caffe, norms, {"x"}, target)


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_the_largest_and_the_smallest_are_right(caffe: Runner, target: str) -> None:
    assert_right(caffe, extremes, {"x"}, target)


def test_the_largest_is_refused_where_nothing_cuts() -> None:
    with pytest.raises(BackendError) as caught:
        compile_graph(extremes.graph(), CaffeBackend(), "noslice")
    assert caught.value.message == "target noslice has no Pooling layer, which %maxpooling needs"
    assert caught.value.notes[0].startswith("its blobs have four axes")


def test_narrow_finds_nothing_more_to_do_where_matrices_of_several_shapes_meet() -> None:
    @model
    def net(x=Input(5, 2, 4)):
        y = tanh(x)
        turned = y - reshape(tanh(reshape(y, 5, 8)), 5, 2, 4)
        return {"a": layer_norm(y, axis=1), "b": turned, "c": softmax(y, axis=1), "d": sum(y[:, :1], axis=1)}

    graph = net.graph()
    for one in passes_of("flat"):
        graph = one.run(graph).graph
        assert not one.run(graph).modified, one.name
