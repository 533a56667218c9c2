"""Blobs whose names readers take: layers are renamed, the manifest still speaks of the model's names."""

from __future__ import annotations

import re

from lstmc import Input, State, cell, linear, model, scan, tanh
from lstmc.dsl import Param
from lstmc.manifest import parse_manifest
from lstmc.passes import PassResult
from lstmc.testing import assert_same_meaning
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.rows.narrow import RenameBlobs
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.target import load_target
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled, emitted
from tests.backends.lstmc_caffe.rows.graphs import graph_of

WORDS, APART = (RenameBlobs(load_target(name)) for name in ("x2paddle", "tpu-mlir"))


def test_layers_and_inputs_are_renamed() -> None:
    before = """%X: f32[2,3] = caffe.Input()
        %h_t: f32[2,3] = caffe.TanH(%X)
        %h_T: f32[2,3] = caffe.Sigmoid(%h_t)"""
    graph = graph_of(before, "z=%h_T")
    outcome = WORDS.run(graph)
    after = """%X: f32[2,3] = host.input()
        %x: f32[2,3] = caffe.Feed(%X, shape=(2, 3))
        %h_t: f32[2,3] = caffe.TanH(%x)
        %h_t_2: f32[2,3] = caffe.Sigmoid(%h_t)"""
    assert outcome == PassResult(graph_of(after, "z=%h_t_2"), True, {"feed": 1, "rename": 1})
    assert_same_meaning(graph, outcome.graph)
    assert not WORDS.run(outcome.graph).modified


def test_names_that_are_one_without_slashes_stay_apart() -> None:
    before = """%x: f32[2,3] = caffe.Input()
        %a/sum_2: f32[2,3] = caffe.TanH(%x)
        %a_sum/2: f32[2,3] = caffe.Sigmoid(%a/sum_2)
        %is: f32[2,3] = caffe.ReLU(%a_sum/2)"""
    outcome = WORDS.run(graph_of(before, "z=%is"))
    after = """%x: f32[2,3] = caffe.Input()
        %a_sum_2: f32[2,3] = caffe.TanH(%x)
        %a_sum_2_2: f32[2,3] = caffe.Sigmoid(%a_sum_2)
        %is_2: f32[2,3] = caffe.ReLU(%a_sum_2_2)"""
    assert outcome == PassResult(graph_of(after, "z=%is_2"), True, {"rename": 3})
    assert not WORDS.run(outcome.graph).modified


def test_no_blob_is_called_as_a_reader_calls_the_weights_of_a_layer() -> None:
    """TPU-MLIR ended with "shape p_1 conflict", where a Scale was called p and another blob p_1."""
    before = """%W: f32[3] = param()
        %x: f32[2,3] = caffe.Input()
        %p: f32[2,3] = caffe.Scale(%x, %W, learned=True)
        %p_1: f32[2,3] = caffe.TanH(%p)
        %p_1_1: f32[2,3] = caffe.Sigmoid(%p_1)
        %p_weight_0: f32[2,3] = caffe.ReLU(%p_1_1)"""
    graph = graph_of(before, "z=%p_weight_0")
    outcome = APART.run(graph)
    after = """%W: f32[3] = param()
        %x: f32[2,3] = caffe.Input()
        %p: f32[2,3] = caffe.Scale(%x, %W, learned=True)
        %p_1_2: f32[2,3] = caffe.TanH(%p)
        %p_1_1: f32[2,3] = caffe.Sigmoid(%p_1_2)
        %p_weight_0_2: f32[2,3] = caffe.ReLU(%p_1_1)"""
    assert outcome == PassResult(graph_of(after, "z=%p_weight_0_2"), True, {"rename": 2})
    assert not APART.run(outcome.graph).modified


@cell
def plain(x=Input(2, 3), H=State(2, 3), *, W=Param(3, 3)):
    h = tanh(x + linear(H, W))
    return h, {"H": h}


@model
def capitals(X=Input(3, 2, 3), H0=Input(2, 3)):
    Y, last = scan(plain(), X, init={"H": H0})
    return {"Y": Y, "h_T": last["H"]}


def test_the_manifest_has_the_models_names(caffe: Runner) -> None:
    net = compiled(capitals, "x2paddle")
    artifact, _ = emitted(net)
    found = parse_manifest(artifact.files["capitals.manifest.json"])
    layers = net_from_text(artifact.files["capitals.prototxt"].decode()).layer
    assert all(re.fullmatch("[a-z0-9_]+", layer.name) for layer in layers)
    assert {name: entry.place.names for name, entry in found.inputs.items()} == {"X": ["x_rows"], "H0": ["h0"]}
    assert {name: place.names for name, place in found.outputs.items()} == {"Y": ["y_rows"], "h_T": ["h_t"]}
    assert_caffe_agrees(caffe, net)
