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
from lstmc_caffe.run.runner import Runner
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
def test_the_largest_and_the_smallest_are_right(caffe: Runner) -> None:
    assert_right(caffe, extremes, {"x"})


@pytest.mark.parametrize(("target", "layer"), [("flat", "Pooling"), ("noslice", "Pooling")])
def test_the_largest_is_refused_where_there_is_no_layer_for_it(target: str, layer: str) -> None:
    with pytest.raises(BackendError) as caught:
        compile_graph(extremes.graph(), CaffeBackend(), target)
    assert caught.value.message == f"target {target} has no {layer} layer, which %maxpooling needs"
    assert caught.value.notes[0].startswith("its blobs have four axes")


def test_a_sum_is_refused_where_nothing_cuts() -> None:
    with pytest.raises(BackendError) as caught:
        compile_graph(norms.graph(), CaffeBackend(), "noslice")
    assert caught.value.message == "target noslice has no Reduction layer, which %sum needs"
    assert caught.value.notes[0].startswith("OpenCV cannot create it: a sum over the last axis is a linear")
