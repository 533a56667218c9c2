"""One-step nets: a stream through them gives what the net of the whole sequence gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import Input, cell, maximum, tanh
from lstmc import State as Carried
from lstmc import compile as compile_net
from lstmc.backend import Compiled, load_backend
from lstmc.interp import forward
from lstmc.manifest import Manifest, State, parse_manifest
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import random_inputs
from lstmc.weights import initial_weights
from lstmc_caffe.proto.net import RawNet
from lstmc_caffe.runtime.runner import Net, Runner
from tests.backends.lstmc_caffe.in_worker import set_params
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees
from tests.backends.lstmc_caffe.rows.models import CELLS, TARGETS, graph_of

BACKEND = load_backend("caffe")
STEPS = 300


def stepped(name: str, target: str, size: int = 2) -> tuple[Compiled, Any, dict[str, Any]]:
    graph = graph_of(name, STEPS, size)
    compiled, weights = compile_graph(graph, BACKEND, target, step=True), initial_weights(graph, 1)
    return compiled, BACKEND.emit(compiled, weights), weights


def stream(net: Net, manifest: Manifest, sequences: dict[str, Any], size: int) -> dict[str, list[Any]]:
    """Feed a one-step net step by step, by its manifest alone: each output's values."""
    places = {name: entry.place for name, entry in manifest.inputs.items()}
    states = {pair.input: np.full(places[pair.input].shape, pair.initial) for pair in manifest.states.values()}
    found: dict[str, list[Any]] = {name: [] for name in manifest.outputs}
    for t in range(STEPS):
        inputs = {name: array[t : t + 1] for name, array in sequences.items()} | states
        fed = {blob: part for name, array in inputs.items() for blob, part in places[name].fed(array)}
        blobs = net.run(fed, want=manifest.output_blobs).blobs
        outputs = {name: place.read(blobs) for name, place in manifest.outputs.items()}
        states = {pair.input: outputs[pair.output] for pair in manifest.states.values()}
        for name, array in outputs.items():
            found[name].append(array)
    return found


@pytest.mark.caffe
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CELLS)
def test_a_stream_of_300_steps_is_the_sequence(caffe: Runner, name: str, target: str) -> None:
    compiled, artifact, weights = stepped(name, target)
    manifest = parse_manifest(artifact.files[f"{compiled.name}.manifest.json"])
    model = graph_of(name, STEPS, 2)
    inputs = {"x": np.random.default_rng(0).normal(size=(STEPS, 2, 3)).astype(np.float32)}
    wanted = forward(model, inputs, weights).outputs
    text = artifact.files[f"{compiled.name}.prototxt"].decode()
    with caffe.load(text) as net:
        set_params(caffe, net, blobs_of(artifact, compiled, manifest))
        found = stream(net, manifest, inputs, 2)
    assert_allclose(np.concatenate(found["y"]), wanted["y"], rtol=0, atol=1e-5)
    last = wanted.keys() - {"y"}
    assert last
    for state in last:
        scale = max(1.0, np.abs(wanted[state]).max())
        assert_allclose(found[state][-1], wanted[state], rtol=0, atol=1e-5 * scale)


def blobs_of(artifact: Any, compiled: Compiled, manifest: Manifest) -> dict[str, Any]:
    """The learned blobs by name, from the caffemodel."""
    layers = {layer.name: layer for layer in RawNet.FromString(artifact.files[f"{compiled.name}.caffemodel"]).layer}
    return {
        name: np.frombuffer(layers[where.layer].blobs[where.index].data, "<f4").reshape(where.shape)
        for name, where in manifest.blobs.items()
    }


@pytest.mark.caffe
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*CELLS, "masked", "stacked", "encoder_decoder"])
def test_real_caffe_agrees_on_one_step(caffe: Runner, name: str, target: str) -> None:
    compiled, _, weights = stepped(name, target)
    assert_caffe_agrees(caffe, compiled, weights)


def test_the_manifest_pairs_states() -> None:
    compiled, artifact, _ = stepped("stacked", "flat")
    manifest = parse_manifest(artifact.files["stacked.manifest.json"])
    assert manifest.states == {
        "lstm/h": State("lstm/h_in", "lstm/h_out", 0.0),
        "lstm/c": State("lstm/c_in", "lstm/c_out", "noise"),
        "gru/h": State("gru/h_in", "gru/h_out", 0.0),
    }
    assert list(random_inputs(compiled, 0)) == ["X", "lstm/h_in", "lstm/c_in", "gru/h_in"]
    assert list(manifest.outputs) == ["classes", "c", "lstm/h_out", "lstm/c_out", "gru/h_out"]


@cell
def largest(x: Any = Input(2, 3), m: Any = Carried(2, 3, fill=-1e30), h: Any = Carried(2, 3)) -> Any:
    m = maximum(m, x)
    return m, {"m": m, "h": tanh(h + m)}


@pytest.mark.parametrize("target", ["caffe", "opencv", "onnx"])
def test_a_first_value_that_is_not_zero_is_said_beside_the_net_and_in_it(target: str) -> None:
    net = compile_net(largest, target=target, step=True, sizes={"T": 4})
    assert "input largest/m_in: at the first step feed -1e+30" in net.artifact.notes
    assert not [note for note in net.artifact.notes if "largest/h_in" in note]
    if target != "onnx":
        assert "# feed largest/m_in [2, 3], at the first step -1e+30\n# feed largest/h_in [2, 3]\n" in net.prototxt
