"""Long sequences for ``flat``: cut and joined by trees of layers, which every reader takes as it takes one layer."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from lstmc import Input, model, scan
from lstmc.cells import lstm
from lstmc.verification.differential import check
from lstmc_caffe.legalize.unroll import FAN
from lstmc_caffe.proto.net import NetParameter
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled, emitted
from tests.backends.lstmc_caffe.rows.graphs import graph_of
from tests.backends.lstmc_caffe.rows.test_narrow import FLAT, narrowed

STEPS = 250


@model
def long(X=Input(STEPS, 2, 3)):
    return {"y": scan(lstm(H=4), X)[0]}


def test_no_layer_has_a_top_or_bottom_for_every_step() -> None:
    artifact, _ = emitted(compiled(long, "flat"))
    net = text_format.Parse(artifact.files["long.prototxt"].decode(), NetParameter())
    assert max(max(len(layer.top), len(layer.bottom)) for layer in net.layer) <= FAN < STEPS


@pytest.mark.caffe
def test_real_caffe_agrees(caffe: Runner) -> None:
    assert_caffe_agrees(caffe, compiled(long, "flat"))


@pytest.mark.slow
def test_opencv_agrees(opencv: ReaderExecutor) -> None:
    net = compiled(long, "flat")
    assert check(net, *emitted(net), opencv).passed


@pytest.mark.slow
def test_mnn_agrees(mnn: ReaderExecutor) -> None:
    net = compiled(long, "flat")
    assert check(net, *emitted(net), mnn).passed


def test_more_copies_than_one_concat_takes_are_joined_by_several() -> None:
    leaves = {"x": "f32[2500,2] = input()", "u": "f32[2] = input()"}
    graph = narrowed(graph_of("%z: f32[2500,2] = mul(%x, %u)", leaves=leaves), FLAT)
    joined = [node for node in graph if node.op.name == "caffe.Concat"]
    assert len(joined) > 1
    assert max(len(graph.args(node.name)) for node in joined) <= 1000
