"""The manifest tells a program all that it needs: what to feed, read and train, and where every step's states are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc import Input, Param, __version__, constant, dims, linear, model, reshape, scan, sigmoid, uniform
from lstmc.cells import gru, lstm
from lstmc.dsl import Model
from lstmc.interp import forward
from lstmc.ir import parse_graph
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.runtime.runner import Runner

BACKEND = CaffeBackend()
T = dims("T")


@model
def net(
    X=Input(3, 2, 5),
    h0=Input(2, 4, fill=constant(0.5)),
    W=Param(2, 4, fill=uniform(-1, 1), lr_mult=0.5, decay_mult=0),
    unused=Param(7),
):
    y, last = scan(lstm(H=4, name="lstm"), X, init={"h": h0})
    z, _ = scan(gru(H=3, name="back"), y, reverse=True)
    return {"y": sigmoid(y), "z": linear(last["h"], W), "c_T": last["c"], "back": z}


def described(of: Model = net, **sizes: int) -> dict[str, Any]:
    graph = of.graph(**sizes)
    artifact = BACKEND.emit(compile_graph(graph, BACKEND, source="net.py:net"), initial_weights(graph))
    manifest: dict[str, Any] = json.loads(artifact.files[f"{of.name}.manifest.json"])
    return manifest


def test_it_says_what_made_it() -> None:
    found = described()
    assert {key: found[key] for key in ("format", "lstmc", "name", "source", "backend", "target")} == {
        "format": 1,
        "lstmc": __version__,
        "name": "net",
        "source": "net.py:net",
        "backend": "caffe",
        "target": "caffe",
    }


def test_it_names_inputs_and_outputs_with_their_blobs_and_shapes() -> None:
    found = described()
    assert found["inputs"] == {
        "X": {"blob": "X", "shape": [3, 2, 5], "filled": False},
        "h0": {"blob": "h0", "shape": [2, 4], "filled": True},
    }
    assert found["outputs"] == {
        "y": {"blob": "y", "shape": [3, 2, 4]},
        "z": {"blob": "z", "shape": [2, 2]},
        "c_T": {"blob": "c_T", "shape": [2, 4]},
        "back": {"blob": "back", "shape": [3, 2, 3]},
    }


def test_it_names_every_parameter_of_the_model_with_its_multipliers() -> None:
    found = described()["parameters"]
    assert found["W"] == {"shape": [2, 4], "lr_mult": 0.5, "decay_mult": 0}
    assert found["lstm/W_h"] == {"shape": [16, 4], "lr_mult": 1, "decay_mult": 1}
    cells = {"lstm/W_x", "lstm/b", "lstm/W_h", "back/W_x", "back/b", "back/W_h", "back/U"}
    assert found.keys() == {"W", "unused"} | cells


def test_it_says_how_blobs_are_made_of_parameters() -> None:
    found = described()
    weights = initial_weights(net.graph())
    graph = parse_graph(found["weights"])
    made = forward(graph, params=weights).outputs
    assert made.keys() == found["blobs"].keys()
    for name, where in found["blobs"].items():
        assert list(made[name].shape) == where["shape"]
    assert "unused" not in found["weights"]
    np.testing.assert_array_equal(made["W"], weights["W"])


@pytest.mark.caffe
def test_every_blob_is_where_it_says_in_real_caffe(caffe: Runner) -> None:
    graph = net.graph()
    artifact = BACKEND.emit(compile_graph(graph, BACKEND), initial_weights(graph))
    found = json.loads(artifact.files["net.manifest.json"])
    text = artifact.files["net.prototxt"].decode()
    layers = {layer.name: layer for layer in net_from_text(text).layer}
    with caffe.load(text) as loaded:
        for name, where in found["blobs"].items():
            assert layers[where["layer"]].param[where["index"]].name == name
            assert loaded.params[name] == tuple(where["shape"])
        for entry in (*found["inputs"].values(), *found["outputs"].values()):
            assert loaded.blobs[entry["blob"]] == tuple(entry["shape"])
        for scan_entry in found["scans"].values():
            for pattern in scan_entry["blobs"].values():
                assert all(pattern % t in loaded.blobs for t in range(scan_entry["steps"]))


def test_it_has_the_pattern_of_every_state_s_blobs() -> None:
    assert described()["scans"] == {
        "lstm": {"steps": 3, "reverse": False, "blobs": {"h": "lstm/t%03d/h", "c": "lstm/t%03d/c"}},
        "back": {"steps": 3, "reverse": True, "blobs": {"h": "back/t%03d/h"}},
    }


def test_steps_have_as_many_digits_as_the_last_one_needs() -> None:
    @model
    def long(X=Input(1001, 1, 1)):
        return scan(lstm(H=1, name="lstm"), X)[0]

    assert described(long)["scans"]["lstm"]["blobs"]["h"] == "lstm/t%04d/h"


@model
def reset(X=Input(T, 2, 3), C=Input(T, 2)):
    y, _ = scan(lstm(H=4, name="lstm"), X, cont=C)
    return y


@pytest.mark.caffe
@pytest.mark.parametrize("steps", [2, 5])
def test_a_step_that_nothing_reads_keeps_its_place(
    steps: int, caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first step starts from zero, so that its indicator is read by nothing: the others must not move up."""
    graph = reset.graph(T=steps)
    weights = initial_weights(graph, seed=1)
    artifact = BACKEND.emit(compile_graph(graph, BACKEND, "noslice"), weights)
    place = json.loads(artifact.files["reset.manifest.json"])["inputs"]["C"]
    assert place["blob"] is None
    assert place["blobs"] == [None, *(f"lstm/t{t:03d}/cont" for t in range(1, steps))]
    text = artifact.files["reset.prototxt"].decode()
    (line,) = [line for line in text.splitlines() if line.startswith("# feed C")]
    assert (
        line
        == f"# feed C [{steps}, 2]: for each step except 0 a blob [2, 1], lstm/t001/cont to lstm/t{steps - 1:03d}/cont"
    )
    for name, content in artifact.files.items():
        (tmp_path / name).write_bytes(content)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(steps, 2, 3)).astype(np.float32)
    C = (np.arange(2 * steps).reshape(steps, 2) % 3 > 0).astype(np.float32)
    wanted = forward(graph, {"X": X, "C": C}, weights).outputs["y"]
    found = BACKEND.run(tmp_path / "reset.prototxt", {"X": X, "C": C}, None, False)["y"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@model
def reshaped(X=Input(3, 1, 2)):
    y, _ = scan(lstm(H=2, name="lstm"), X)
    return {"o": reshape(y, 1, 3, 1, 2)}


@pytest.mark.caffe
def test_an_output_of_blobs_of_steps_may_have_any_axes(caffe: Runner, tmp_path: Path) -> None:
    graph = reshaped.graph()
    weights = initial_weights(graph, seed=1)
    artifact = BACKEND.emit(compile_graph(graph, BACKEND, "noslice"), weights)
    place = json.loads(artifact.files["reshaped.manifest.json"])["outputs"]["o"]
    assert (len(place["blobs"]), place["shape"]) == (3, [1, 3, 1, 2])
    for name, content in artifact.files.items():
        (tmp_path / name).write_bytes(content)
    X = np.random.default_rng(0).normal(size=(3, 1, 2)).astype(np.float32)
    found = BACKEND.run(tmp_path / "reshaped.prototxt", {"X": X}, None, False)["o"]
    np.testing.assert_allclose(found, forward(graph, {"X": X}, weights).outputs["o"], atol=1e-5)
