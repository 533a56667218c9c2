"""Our LSTM against two others, on the same weights: the post's NetSpec net, and Caffe's own LSTM and RNN layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.examples.lstm_demo import lstm_demo
from lstmc import Input, Param, State, cell, dims, linear, model, scan, sigmoid, split, tanh, uniform
from lstmc.backend import Execution, RunArrays
from lstmc.cells import lstm, rnn
from lstmc.interp import named_rng
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights, parameters
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.in_worker import FORCED, set_params
from tests.closeness import assert_gradients_agree, assert_values_agree

pytestmark = pytest.mark.caffe

POST = Path(__file__).with_name("netspec_post.py")
BACKEND = CaffeBackend()
T, N, D, H, S = dims("T N D H S")
SIZES = [(1, 1, 1, 1), (2, 3, 4, 5), (5, 2, 3, 4), (12, 4, 7, 6)]
Shape = tuple[int, ...]


def normal(name: str, *shape: int, scale: float = 1.0) -> Array:
    return (scale * named_rng(0, name).normal(size=shape)).astype(np.float32)


def run_ours(
    caffe: Runner, graph: Graph, arrays: dict[str, Array], cotangents: dict[str, Array]
) -> tuple[Execution, dict[str, Any]]:
    """The compiled net in real Caffe, and its manifest. An output without a cotangent has none."""
    weights = {name: arrays[name] for name in parameters(graph)}
    compiled = compile_graph(graph, BACKEND)
    artifact = BACKEND.emit(compiled, weights)
    zeros = {o.name: np.zeros(graph.type(o.ref).shape, np.float32) for o in graph.outputs}
    execution = CaffeExecutor(caffe, "cpu").run(compiled, artifact, RunArrays(arrays, weights, zeros | cotangents))
    return execution, json.loads(artifact.files[f"{graph.name}.manifest.json"])


def gradients(execution: Execution, params: dict[str, Array]) -> dict[str, Array]:
    """Of every parameter; one that no step uses (W_h at T = 1, from a zero state) is not in the net."""
    return {name: execution.param_gradients.get(name, np.zeros_like(array)) for name, array in params.items()}


# the post's net --------------------------------------------------------------------------------------------------


def test_the_demo_computes_what_the_post_s_netspec_net_computes(caffe: Runner) -> None:
    graph = lstm_demo.graph()
    weights = initial_weights(graph) | {"lstm/b": normal("b", 2000, scale=0.05)}
    x, dh = normal("X", 3, 10, 128, 10, 10), normal("dH", 3, 10, 500)
    ours, manifest = run_ours(caffe, graph, weights | {"X": x}, {"H": dh})
    wanted = post(caffe, x, weights, dh)
    values = {name: ours.values[manifest["outputs"][name]["blob"]] for name in ("H", "h_T", "c_T")}
    assert_values_agree(
        {"H": values["H"], **steps_by_name(ours, manifest, ("h", "c"))},
        {"H": wanted["H"], **{f"{s}{t}": wanted[f"{s}{t}"] for s in "hc" for t in range(3)}},
    )
    np.testing.assert_array_equal(values["h_T"], values["H"][-1])
    assert_values_agree({"c_T": values["c_T"]}, {"c_T": wanted["c2"][0]})
    assert_gradients_agree(
        {**ours.param_gradients, "X": ours.input_gradients["X"]},
        {
            "lstm/W_x": wanted["dw_Mxw"],
            "lstm/b": wanted["dw_Mxb"],
            "lstm/W_h": wanted["dw_Mhw"],
            "X": wanted["dX"],
        },
    )


def post(caffe: Runner, x: Array, weights: dict[str, Array], dh: Array) -> dict[str, Array]:
    """The post's net on the same weights; its structure is checked here too."""
    steps, _, units = dh.shape
    arrays = {"X": x, "w_Mxw": weights["lstm/W_x"], "w_Mxb": weights["lstm/b"], "w_Mhw": weights["lstm/W_h"], "dH": dh}
    result = caffe.call(POST, "run", {"shape": x.shape, "units": units}, arrays)
    assert result.value["params"] == ["w_Mhw", "w_Mxb", "w_Mxw"]
    per_step = {"InnerProduct": 2, "Eltwise": 5, "Sigmoid": 3, "TanH": 2, "Slice": 1}
    once = {"DummyData": 3, "Slice": 1, "Concat": 1}
    assert result.value["types"] == {
        name: steps * per_step.get(name, 0) + once.get(name, 0) for name in per_step | once
    }
    return result.arrays


def steps_by_name(execution: Execution, manifest: dict[str, Any], names: tuple[str, ...]) -> dict[str, Array]:
    """The blobs of every step, by the patterns that the manifest gives for them."""
    scan_entry = manifest["scans"]["lstm"]
    return {
        f"{name}{t}": execution.values[scan_entry["blobs"][name] % t]
        for name in names
        for t in range(scan_entry["steps"])
    }


# Caffe's own recurrent layers ------------------------------------------------------------------------------------


def native(
    caffe: Runner, layer: str, units: int, inputs: dict[str, Array], params: list[Array], dtop: Array
) -> tuple[Array, list[Array], dict[str, Array]]:
    """Caffe's recurrent layer on inputs x, cont and perhaps a static one: its top, gradients of blobs and inputs."""
    lines = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {size}" for size in array.shape)
        + " } } }"
        for name, array in inputs.items()
    ]
    bottoms = " ".join(f'bottom: "{name}"' for name in inputs)
    filler = 'weight_filler { type: "constant" } bias_filler { type: "constant" }'
    lines.append(
        f'layer {{ name: "r" type: "{layer}" {bottoms} top: "y" recurrent_param {{ num_output: {units} {filler} }} }}'
    )
    with caffe.load(FORCED + "\n".join(lines), probes=["y"]) as net:
        assert list(net.params.values()) == [array.shape for array in params]
        set_params(caffe, net, {f"r/{i}": array for i, array in enumerate(params)})
        differentiable = [name for name in inputs if name != "cont"]
        result = net.run(inputs, want=net.blobs, backward={"y": dtop}, want_diffs=differentiable, want_param_diffs=True)
    return result.blobs["y"], [result.param_diffs[f"r/{i}"] for i in range(len(params))], result.diffs


def continuing(steps: int, batch: int) -> Array:
    """Caffe's continuation indicator of one sequence: 0 at the first step, then 1."""
    cont = np.ones((steps, batch), np.float32)
    cont[0] = 0
    return cont


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_our_lstm_is_caffe_s_own_lstm_layer(caffe: Runner, sizes: Shape) -> None:
    @model
    def net(X=Input(T, N, D)):
        y, _ = scan(lstm(H=units, name="lstm"), X)
        return {"y": y}

    steps, batch, width, units = sizes
    params = {
        "lstm/W_x": normal("W_x", 4 * units, width, scale=0.5),
        "lstm/b": normal("b", 4 * units, scale=0.5),
        "lstm/W_h": normal("W_h", 4 * units, units, scale=0.5),
    }
    x, dy = normal("X", steps, batch, width), normal("dy", steps, batch, units)
    ours, manifest = run_ours(caffe, net.graph(T=steps, N=batch, D=width), {**params, "X": x}, {"y": dy})
    inputs = {"x": x, "cont": continuing(steps, batch)}
    y, dparams, dinputs = native(caffe, "LSTM", units, inputs, list(params.values()), dy)
    assert_values_agree({"y": ours.values[manifest["outputs"]["y"]["blob"]]}, {"y": y})
    wanted = dict(zip(params, dparams, strict=True))
    assert_gradients_agree({**gradients(ours, params), "X": ours.input_gradients["X"]}, {**wanted, "X": dinputs["x"]})


def test_an_lstm_with_a_static_input_is_caffe_s_own_with_x_static(caffe: Runner) -> None:
    @cell
    def lstm_static(
        x=Input(N, D),
        s=Input(N, S),
        h=State(N, H),
        c=State(N, H),
        *,
        W_x=Param(4 * H, D),
        b=Param(4 * H),
        W_s=Param(4 * H, S),
        W_h=Param(4 * H, H),
    ):
        i, f, o, g = split(linear(x, W_x, b) + linear(s, W_s) + linear(h, W_h), 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, {"h": h, "c": c}

    @model
    def net(X=Input(4, 3, 5), static=Input(3, 2)):
        y, _ = scan(lstm_static(H=6, name="a"), X, static={"s": static})
        return {"y": y}

    shapes = {"a/W_x": (24, 5), "a/b": (24,), "a/W_s": (24, 2), "a/W_h": (24, 6)}
    params = {name: normal(name, *shape, scale=0.5) for name, shape in shapes.items()}
    x, s, dy = normal("X", 4, 3, 5), normal("s", 3, 2), normal("dy", 4, 3, 6)
    ours, _ = run_ours(caffe, net.graph(), {**params, "X": x, "static": s}, {"y": dy})
    inputs = {"x": x, "cont": continuing(4, 3), "s": s}
    y, dparams, dinputs = native(caffe, "LSTM", 6, inputs, list(params.values()), dy)
    assert_values_agree({"y": ours.values["y"]}, {"y": y})
    assert_gradients_agree(
        ours.param_gradients | ours.input_gradients,
        {**dict(zip(params, dparams, strict=True)), "X": dinputs["x"], "static": dinputs["s"]},
    )


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_our_rnn_with_a_readout_is_caffe_s_own_rnn_layer(caffe: Runner, sizes: Shape) -> None:
    @model
    def net(X=Input(T, N, D), W_o=Param(H, H, fill=uniform(-1, 1)), b_o=Param(H)):
        y, _ = scan(rnn(H=units, name="rnn"), X)
        return {"o": tanh(linear(y, W_o, b_o))}

    steps, batch, width, units = sizes
    shapes = {
        "rnn/W_x": (units, width),
        "rnn/b": (units,),
        "rnn/W_h": (units, units),
        "W_o": (units, units),
        "b_o": (units,),
    }
    params = {name: normal(name, *shape, scale=0.5) for name, shape in shapes.items()}
    x, do = normal("X", steps, batch, width), normal("do", steps, batch, units)
    ours, _ = run_ours(caffe, net.graph(T=steps, N=batch, D=width, H=units), {**params, "X": x}, {"o": do})
    inputs = {"x": x, "cont": continuing(steps, batch)}
    o, dparams, dinputs = native(caffe, "RNN", units, inputs, list(params.values()), do)
    assert_values_agree({"o": ours.values["o"]}, {"o": o})
    wanted = dict(zip(params, dparams, strict=True))
    assert_gradients_agree({**gradients(ours, params), "X": ours.input_gradients["X"]}, {**wanted, "X": dinputs["x"]})
