"""Layers around recurrent cells in real Caffe: forward and all gradients, alone, at every step, and after a scan."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import (
    Input,
    Param,
    State,
    accuracy,
    ave_pool,
    cell,
    conv,
    dims,
    dropout,
    embed,
    euclidean_loss,
    linear,
    max_pool,
    mean,
    model,
    relu,
    reshape,
    scan,
    sigmoid_cross_entropy_loss,
    softmax_loss,
    sum,
    tanh,
    uniform,
)
from lstmc.dsl import Model
from lstmc.interp import backward, forward
from lstmc.pipeline import compile_graph
from lstmc.prepare import fixed_masks
from lstmc.verification.differential import random_inputs
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.ops import DropoutLayer
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.in_worker import set_params
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees

pytestmark = pytest.mark.caffe

BACKEND = CaffeBackend()
N, D, H = dims("N D H")
SPREAD = uniform(-0.6, 0.6)


def assert_right(caffe: Runner, of: Model, gradients: set[str], target: str = "caffe") -> None:
    """Every output, blob and gradient; ``gradients`` are of the inputs that have one."""
    graph = of.graph()
    net = compile_graph(graph, BACKEND, target)
    for seed in range(3):
        report = assert_caffe_agrees(caffe, net, seed=seed)
        named = {(d.kind, d.name) for d in report.differences}
        assert {("output", output.name) for output in graph.outputs} <= named
        assert {name for kind, name in named if kind == "gradient"} == gradients | set(initial_weights(graph))


@cell
def words(x=Input(N), h=State(N, H), *, E=Param(9, D, fill=SPREAD), W=Param(H, D, fill=SPREAD)):
    h = dropout(tanh(linear(embed(x, E), W) + h))
    return h, {"h": h}


@cell
def frames(x=Input(N, 2, 5, 4), h=State(N, H), *, F=Param(3, 2, 2, 2, fill=SPREAD), b=Param(3, fill=SPREAD)):
    y = ave_pool(relu(conv(x, F, b)), 2, pad=(1, 0), stride=1)
    h = tanh(mean(max_pool(y, 2, stride=1), axis=1) + reshape(h, N, H, 1))
    h = reshape(h, N, -1)
    return h, {"h": h}


@model
def language(X=Input(4, 3), y=Input(4, 3), V=Param(9, 5, fill=SPREAD)):
    h, _ = scan(words(D=5, H=5, name="words"), X)
    scores = linear(dropout(h, 0.2), V)
    return {
        "loss": softmax_loss(scores, y, ignore_label=-1),
        "right": accuracy(scores, y, top_k=2, ignore_label=-1),
        "scores": scores,
    }


@model
def shared(X=Input(4, 3), E=Param(9, 5, fill=SPREAD)):
    """One matrix: rows of it go in, scores by it come out."""
    return {"scores": linear(tanh(embed(X, E)), E), "E": 2 * E}


@model
def film(X=Input(3, 2, 2, 5, 4), y=Input(3, 2, 4)):
    h, _ = scan(frames(H=4, name="frames"), X)
    return {"distance": euclidean_loss(h, y), "cross": sigmoid_cross_entropy_loss(h, y, normalization="none")}


@model
def image(x=Input(4, 6, 5), F=Param(4, 2, 2, 3, fill=SPREAD), G=Param(4, 4, 2, 1, fill=SPREAD)):
    """An image without a batch; one matrix in two layers."""
    y = conv(x, F, group=2, pad=1, stride=(1, 2))
    return {"y": conv(tanh(conv(y, G, dilation=(2, 1))), G), "z": max_pool(y, (3, 2), stride=2, pad=(1, 0))}


@model
def sums(x=Input(2, 3, 4, 5), W=Param(3, 4, 5, fill=SPREAD)):
    y = tanh(x)
    found = {f"axis{axis}": sum(y, axis=axis) for axis in range(4)}
    return found | {"all": sum(y), "tail": sum(sum(y, axis=3), axis=2), "mean": mean(y * W), "weight": sum(W, axis=1)}


@model
def losses(
    x=Input(3, 4),
    classes=Input(4),
    first=Input(3),
    chance=Input(3, 4),
    image=Input(2, 3, 1, 2, 2),
    other=Input(2, 3, 1, 2, 2),
    W=Param(3, 4, fill=SPREAD),
):
    s = x * W
    found = {way: softmax_loss(s, first, normalization=way) for way in ("valid", "full", "batch_size", "none")}
    return found | {
        "first_axis": softmax_loss(s, classes, axis=0, ignore_label=2),
        "five_axes": euclidean_loss(other, image),
        "itself": sigmoid_cross_entropy_loss(image, image * 0.5 + 0.2),
        "right": accuracy(s, classes, axis=0),
        "sum": softmax_loss(s, first) + 0.25 * sigmoid_cross_entropy_loss(s, chance, normalization="batch_size"),
    }


@pytest.mark.parametrize(
    ("of", "gradients"),
    [
        (language, set()),
        (shared, set()),
        (film, {"X"}),
        (image, {"x"}),
        (sums, {"x"}),
        (losses, {"x", "other"}),  # image is a target too
    ],
)
def test_layers_mean_what_they_should(caffe: Runner, of: Model, gradients: set[str]) -> None:
    assert_right(caffe, of, gradients)


@pytest.mark.parametrize("target", ["flat", "noslice"])
def test_a_dropout_is_left_out_for_readers(caffe: Runner, target: str) -> None:
    @cell
    def noisy(x=Input(N, 4), h=State(N, 4), *, W=Param(4, 4, fill=SPREAD)):
        h = dropout(tanh(linear(x, W) + h))
        return h, {"h": h}

    @model
    def net(X=Input(3, 2, 4)):
        return {"y": scan(noisy(name="noisy"), X)[0]}

    compiled = compile_graph(net.graph(), BACKEND, target)
    assert not [node for node in compiled.expanded if isinstance(node.op, DropoutLayer)]
    assert_right(caffe, net, {"X"}, target)


def test_training_drops_and_scales_as_the_masks_it_drew_say(caffe: Runner) -> None:
    graph = language.graph()
    compiled, weights = compile_graph(graph, BACKEND), initial_weights(graph)
    files = BACKEND.emit(compiled, weights).files
    inputs = random_inputs(compiled, 0)
    dropped = {node.name: node for node in compiled.expanded if isinstance(node.op, DropoutLayer)}
    assert len(dropped) == 5  # one a step, and one after the scan
    given = {"loss": np.asarray(1.5, np.float32)}
    with caffe.load(files["language.prototxt"].decode(), phase="TRAIN", probes=given, gradients=[]) as net:
        set_params(caffe, net, weights)
        found = net.run(inputs, want=net.blobs, backward=given, want_param_diffs=True)
    masks = {}
    for name, node in dropped.items():
        (x,) = (found.blobs[compiled.expanded.value_name(ref)] for ref in compiled.expanded.args(name))
        mask = np.where(found.blobs[name] == 0, 0, 1 / (1 - node.op.ratio))
        assert_allclose(found.blobs[name], x * mask, rtol=1e-6)
        masks[f"{name}/mask"] = mask
    assert 0 < np.mean([mask == 0 for mask in masks.values() if mask.shape == (3, 5)]) < 1
    run = forward(fixed_masks(compiled.expanded), inputs | masks, weights)
    for name in ("loss", "scores"):
        assert_allclose(found.blobs[name], run.outputs[name], rtol=1e-5, atol=1e-6)
    gradients = backward(run, given).params
    assert gradients.keys() == weights.keys()
    for name, gradient in gradients.items():
        assert_allclose(found.param_diffs[name], gradient, rtol=1e-4, atol=1e-5, err_msg=name)
