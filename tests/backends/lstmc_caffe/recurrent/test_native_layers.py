"""Scans that are Caffe's own LSTM or RNN layer become it; the others are refused with the first difference."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import Input, Param, State, Value, cell, constant, dims, linear, model, scan, sigmoid, split, tanh, uniform
from lstmc.backend import Compiled, load_backend, load_cell
from lstmc.differential import check
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.interp import backward, forward, named_rng
from lstmc.ops import Input as CoreInput
from lstmc.ops import Param as CoreParam
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner

T, N, D, H = dims("T N D H")
FILL = uniform(-0.5, 0.5)
Step = tuple[Value, dict[str, Value]]


@cell
def written_otherwise(
    x: Value = Input(N, D),
    memory: Value = State(N, H),
    out: Value = State(N, H),
    *,
    W: Value = Param(4 * H, D, fill=FILL),
    bias: Value = Param(4 * H, fill=constant(0.1), lr_mult=2),
    U: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """An LSTM under other names, gates in PyTorch's order, the bias at the recurrent product."""
    a, b, c, d = split(linear(out, U, bias) + linear(x, W), 4)
    memory = tanh(c) * sigmoid(a) + memory * sigmoid(b)
    out = tanh(memory) * sigmoid(d)
    return out, {"out": out, "memory": memory}


@cell
def elman(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    *,
    W_xh: Value = Param(H, D, fill=FILL),
    b_h: Value = Param(H, fill=FILL),
    W_hh: Value = Param(H, H, fill=FILL),
    W_ho: Value = Param(H, H, fill=FILL),
    b_o: Value = Param(H, fill=FILL),
) -> Step:
    """Caffe's RNN: the output is a readout of h."""
    h = tanh(linear(h, W_hh) + linear(x, W_xh, b_h))
    return tanh(linear(h, W_ho, b_o)), {"h": h}


@model
def lstm(X: Value = Input(T, N, 3, 2)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=4), X)
    return {"y": y, "h_T": last["h"]}


@model
def otherwise(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, _ = scan(written_otherwise(H=4), X)
    return {"y": y}


@model
def two_layers(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, last = scan(load_cell("lstm")(H=4), tanh(X))
    z, _ = scan(written_otherwise(H=3), y)
    return {"z": z, "h": last["h"]}


@model
def rnn(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    y, _ = scan(elman(H=4), X)
    return {"y": y}


MODELS = {"lstm": lstm, "otherwise": otherwise, "two_layers": two_layers, "rnn": rnn}
LAYERS = {"lstm": ["LSTM"], "otherwise": ["LSTM"], "two_layers": ["LSTM", "LSTM"], "rnn": ["RNN"]}
each_model = pytest.mark.parametrize("name", MODELS)
each_length = pytest.mark.parametrize("steps", [1, 2, 5])


def compiled(made: Model, steps: int = 3) -> Compiled:
    return compile_graph(made.graph(T=steps, N=2), load_backend("caffe"), "caffe-native")


@each_model
def test_layers(name: str) -> None:
    graph = compiled(MODELS[name]).expanded
    found = [n.op.layer_type for n in graph if isinstance(n.op, caffe.LSTM | caffe.RNN)]
    assert found == LAYERS[name]
    left = {n.op.layer_type for n in graph if isinstance(n.op, caffe.CaffeOp)} - set(found)
    assert left <= {"Input", "DummyData", "Concat", "Slice", "Reshape", "TanH"}


@each_model
@each_length
def test_the_layers_mean_the_model(name: str, steps: int) -> None:
    built = compiled(MODELS[name], steps)
    inputs, params = (
        {n.name: named_rng(0, n.name).uniform(-1, 1, n.types[0].shape) for n in built.model if isinstance(n.op, kind)}
        for kind in (CoreInput, CoreParam)
    )
    runs = [forward(graph, inputs, params) for graph in (built.model, built.expanded)]
    ct = {name: named_rng(1, name).uniform(-1, 1, value.shape) for name, value in runs[0].outputs.items()}
    wanted, found = (backward(run, ct) for run in runs)
    for output, value in runs[0].outputs.items():
        assert_allclose(runs[1].outputs[output], value, rtol=1e-12, atol=1e-12)
    for leaf, value in (wanted.inputs | wanted.params).items():
        gradient = (found.inputs | found.params).get(leaf, np.zeros_like(value))
        assert_allclose(gradient, value, rtol=1e-11, atol=1e-11, err_msg=leaf)


@pytest.mark.caffe
@each_model
@each_length
def test_in_real_caffe(caffe: Runner, name: str, steps: int) -> None:
    built = compiled(MODELS[name], steps)
    weights = initial_weights(built.model, 1)
    artifact = load_backend("caffe").emit(built, weights)
    report = check(built, artifact, weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [d for d in report.differences if not d.passed]


def refusal(made: Model) -> tuple[str, ...]:
    with pytest.raises(BackendError) as caught:
        compiled(made)
    return caught.value.message, *caught.value.notes


def of_cell(name: str, **options: object) -> Model:
    def run(X: Value = Input(T, N, 3)) -> dict[str, Value]:
        y, _ = scan(load_cell(name)(H=4), X, **options)  # type: ignore[arg-type]
        return {"y": y}

    run.__name__ = name
    return model(run)


NEITHER = "the scan {} is neither Caffe's LSTM layer nor its RNN layer"
BACKWARD = "expected steps that run forward (Caffe has no layer that reverses a sequence), found reverse=True"


def test_a_peephole_lstm_is_refused_with_its_first_difference() -> None:
    assert refusal(of_cell("lstm_peephole")) == (
        NEITHER.format("lstm_peephole"),
        "LSTM: expected the gate i not to see c, found %lstm_peephole/p_i times c",
        "RNN: expected one state, h, found %h_prev, %c_prev",
    )


@pytest.mark.parametrize("name", ["gru", "gru_reset_after"])
def test_a_gru_is_refused_with_its_first_difference(name: str) -> None:
    assert refusal(of_cell(name)) == (
        NEITHER.format(name),
        "LSTM: expected two states, h and c, found %h_prev",
        "RNN: expected h' = f(W x + b + R h), f being a function such as tanh,"
        " found %h: f32[2,4] = caffe.Eltwise(%n, %mul_2)",
    )


def test_an_rnn_without_readout_is_refused() -> None:
    assert refusal(of_cell("rnn")) == (
        NEITHER.format("rnn"),
        "LSTM: expected two states, h and c, found %h_prev",
        "RNN: expected h to be read by one product alone, W_ho h + b_o, found return y",
    )


def test_a_scan_that_runs_backward_is_refused() -> None:
    assert refusal(of_cell("lstm", reverse=True)) == (NEITHER.format("lstm"), f"LSTM: {BACKWARD}", f"RNN: {BACKWARD}")


def test_a_last_c_that_is_read_is_refused() -> None:
    @model
    def shown(X: Value = Input(T, N, 3)) -> dict[str, Value]:
        y, last = scan(load_cell("lstm")(H=4), X)
        return {"y": y, "c_T": last["c"]}

    assert refusal(shown)[1] == (
        "LSTM: expected h to be all that is read of the scan (Caffe's layer shows its states only without gradient),"
        " found the last c read by return c_T"
    )


def test_a_given_first_state_is_refused() -> None:
    @model
    def started(X: Value = Input(T, N, 3), h0: Value = Input(N, 4)) -> dict[str, Value]:
        y, _ = scan(load_cell("lstm")(H=4), X, init={"h": h0})
        return {"y": y}

    assert refusal(started)[1] == (
        "LSTM: expected %h_prev to start from zero (through a given first state Caffe's layer passes no gradient),"
        " found %h0: f32[2,4] = caffe.Input()"
    )


def test_a_product_with_two_biases_is_refused() -> None:
    @cell
    def two_biases(
        x: Value = Input(N, D),
        h: Value = State(N, H),
        c: Value = State(N, H),
        *,
        W: Value = Param(4 * H, D, fill=FILL),
        U: Value = Param(4 * H, H, fill=FILL),
        b: Value = Param(4 * H),
        d: Value = Param(4 * H),
    ) -> Step:
        i, f, o, g = split(linear(x, W, b) + linear(h, U, d), 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, {"h": h, "c": c}

    @model
    def biased(X: Value = Input(T, N, 3)) -> dict[str, Value]:
        y, _ = scan(two_biases(H=4), X)
        return {"y": y}

    assert refusal(biased)[1] == (
        "LSTM: expected one bias in the gate i, W_x x + b + W_h h, found %two_biases/d, %two_biases/b"
    )


def test_a_layer_scanned_twice_is_refused() -> None:
    @model
    def tied(X: Value = Input(T, N, 4)) -> dict[str, Value]:
        bound = load_cell("lstm")(H=4)
        y, _ = scan(bound, X)
        z, _ = scan(bound, y)
        return {"z": z}

    assert refusal(tied) == (
        "bound/W_x, bound/b, bound/W_h would be in two layers, one of them the LSTM layer bound/y: its steps share"
        " their blobs inside, and in training only the first step would be tied to the other",
    )


def test_more_steps_than_ascend_takes_are_refused() -> None:
    @model
    def long(X: Value = Input(257, 1, 3)) -> dict[str, Value]:
        y, _ = scan(load_cell("lstm")(H=4), X)
        return {"y": y}

    backend, graph = load_backend("caffe"), long.graph()
    with pytest.raises(BackendError) as caught:
        backend.emit(compile_graph(graph, backend, "caffe-native"), initial_weights(graph))
    assert caught.value.message == (
        "target caffe-native has no such LSTM layer: 257 steps, expected at most 256 steps, which %y needs"
    )
    assert caught.value.notes[0] == "Ascend's LSTM takes at most 256 steps"
    assert len(caught.value.notes) == 2  # the second is the place; nothing is said of a bug


def test_more_outputs_than_ascend_takes_are_refused() -> None:
    @model
    def wide(X: Value = Input(2, 1, 3), W: Value = Param(32769, 4)) -> dict[str, Value]:
        y, _ = scan(load_cell("lstm")(H=4), X)
        return {"z": linear(y, W)}

    backend, graph = load_backend("caffe"), wide.graph()
    with pytest.raises(BackendError) as caught:
        backend.emit(compile_graph(graph, backend, "caffe-native"), initial_weights(graph))
    assert caught.value.message == (
        "target caffe-native has no such InnerProduct layer: num_output is 32769, expected num_output of at most 32768,"
        " which %z needs"
    )
    assert len(caught.value.notes) == 2
