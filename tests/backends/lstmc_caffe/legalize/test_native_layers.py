"""Scans that are Caffe's own LSTM or RNN layer become it; the others are refused with the first difference."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import Input, Param, State, Value, cell, linear, model, scan, sigmoid, split, tanh
from lstmc.backend import Compiled, load_backend, load_cell
from lstmc.dsl import Model
from lstmc.errors import BackendError
from lstmc.interp import backward, forward, named_rng
from lstmc.ops import Input as CoreInput
from lstmc.ops import Param as CoreParam
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.legalize.recurrent_models import (
    FILL,
    D,
    H,
    N,
    Step,
    T,
    layers_of_two_cells,
    of_cell,
    otherwise,
    plain_lstm,
    plain_rnn,
)
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

LAYERS = {plain_lstm: ["LSTM"], otherwise: ["LSTM"], layers_of_two_cells: ["LSTM", "LSTM"], plain_rnn: ["RNN"]}
each_model = pytest.mark.parametrize("made", LAYERS, ids=lambda made: made.name)
each_length = pytest.mark.parametrize("steps", [1, 2, 5])


def native(made: Model, steps: int = 3) -> Compiled:
    return compiled(made, "caffe-native", T=steps, N=2, H=4)


@each_model
def test_layers(made: Model) -> None:
    graph = native(made).expanded
    found = [n.op.layer_type for n in graph if isinstance(n.op, caffe.LSTM | caffe.RNN)]
    assert found == LAYERS[made]
    left = {n.op.layer_type for n in graph if isinstance(n.op, caffe.CaffeOp)} - set(found)
    assert left <= {"Input", "DummyData", "Concat", "Slice", "Reshape", "TanH"}


@each_model
@each_length
def test_the_layers_mean_the_model(made: Model, steps: int) -> None:
    built = native(made, steps)
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
def test_in_real_caffe(caffe: Runner, made: Model, steps: int) -> None:
    assert_caffe_agrees(caffe, native(made, steps))


def refusal(made: Model) -> tuple[str, ...]:
    with pytest.raises(BackendError) as caught:
        native(made)
    return caught.value.message, *caught.value.notes


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
        " found %h: f32[2,4] = caffe.Eltwise(%n, %mul_z_h_prev)",
    )


def test_an_rnn_without_readout_is_refused() -> None:
    assert refusal(of_cell("rnn")) == (
        NEITHER.format("rnn"),
        "LSTM: expected two states, h and c, found %h_prev",
        "RNN: expected h to be read by one product alone, W_ho h + b_o, found return y, return h_T",
    )


@pytest.mark.parametrize(
    ("units", "biased", "twice"),
    [(H, False, False), (2, True, False), (H, True, True)],
    ids=["none", "fewer", "read"],
)
def test_a_readout_that_is_no_rnns_is_refused(units: int, biased: bool, twice: bool) -> None:
    @model
    def read(
        X: Value = Input(T, N, 3), *, W: Value = Param(units, H, fill=FILL), b: Value = Param(units)
    ) -> dict[str, Value]:
        z = linear(scan(load_cell("rnn")(H=H), X)[0], W, *[b] * biased)
        return {"y": tanh(z), **({"z": z} if twice else {})}

    expected = "RNN: expected W_ho h + b_o of as many units as h, read by one tanh, found %"
    assert refusal(read)[2].startswith(expected)


def test_a_scan_that_runs_backward_is_refused() -> None:
    assert refusal(of_cell("lstm", reverse=True)) == (NEITHER.format("lstm"), f"LSTM: {BACKWARD}", f"RNN: {BACKWARD}")


def test_a_last_c_that_is_read_is_refused() -> None:
    @model
    def shown(X: Value = Input(T, N, 3)) -> dict[str, Value]:
        y, last = scan(load_cell("lstm")(H=H), X)
        return {"y": y, "c_T": last["c"]}

    assert refusal(shown)[1] == (
        "LSTM: expected h to be all that is read of the scan (Caffe's layer shows its states only without gradient),"
        " found the last c read by return c_T"
    )


def test_a_given_first_state_is_refused() -> None:
    @model
    def started(X: Value = Input(T, N, 3), h0: Value = Input(N, H)) -> dict[str, Value]:
        y, _ = scan(load_cell("lstm")(H=H), X, init={"h": h0})
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
        y, _ = scan(two_biases(H=H), X)
        return {"y": y}

    assert refusal(biased)[1] == (
        "LSTM: expected one bias in the gate i, W_x x + b + W_h h, found %two_biases/d, %two_biases/b"
    )


def test_a_layer_scanned_twice_is_refused() -> None:
    @model
    def tied(X: Value = Input(T, N, H)) -> dict[str, Value]:
        bound = load_cell("lstm")(H=H)
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
