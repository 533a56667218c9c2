"""Nets that must mean what their models mean, one by one: the smallest, a long one, and what once went wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from docs.examples.lstm_demo import lstm_demo
from lstmc import (
    Input,
    Param,
    State,
    abs,
    argmax,
    cell,
    concat,
    constant,
    dims,
    gaussian,
    linear,
    model,
    one_hot,
    relu,
    reshape,
    scan,
    sigmoid,
    sin,
    softmax,
    split,
    step,
    tanh,
    uniform,
)
from lstmc.cells import lstm
from lstmc.dsl import Model
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc.verification.report import Report
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.targets.target import Summaries
from tests.backends.lstmc_caffe.in_worker import set_params, sharers

pytestmark = pytest.mark.caffe

BACKEND = CaffeBackend()
T, N, D, H = dims("T N D H")
SPREAD = uniform(-1, 1)


def report_of(caffe: Runner, of: Model, target: str = "caffe", **sizes: int) -> Report:
    graph = of.graph(**sizes)
    compiled, weights = compile_graph(graph, BACKEND, target), initial_weights(graph)
    return check(compiled, BACKEND.emit(compiled, weights), weights, CaffeExecutor(caffe, "cpu"))


def assert_right(caffe: Runner, of: Model, target: str = "caffe", **sizes: int) -> Report:
    report = report_of(caffe, of, target, **sizes)
    assert report.passed, [difference for difference in report.differences if not difference.passed]
    return report


@model
def one_lstm(X=Input(T, N, D)):
    y, last = scan(lstm(H=H, name="lstm"), X)
    return {"y": y, "h_T": last["h"], "c_T": last["c"]}


# sizes ---------------------------------------------------------------------------------------------------------------


def test_one_step_of_one_unit(caffe: Runner) -> None:
    assert_right(caffe, one_lstm, T=1, N=1, D=1, H=1)


def test_five_hundred_steps(caffe: Runner) -> None:
    report = assert_right(caffe, one_lstm, T=500, N=1, D=8, H=8)
    (h,) = (d for d in report.differences if (d.kind, d.name) == ("blob", "lstm/t*/h"))
    assert h.count == 500


@pytest.mark.parametrize("sizes", [(1, 3, 2, 4), (2, 1, 1, 3), (7, 1, 3, 1), (2, 5, 1, 1)], ids=str)
def test_axes_of_size_one(caffe: Runner, sizes: tuple[int, int, int, int]) -> None:
    assert_right(caffe, one_lstm, **dict(zip("TNDH", sizes, strict=True)))


# names and sharing ---------------------------------------------------------------------------------------------------


def test_c_and_h_of_every_step_are_reachable_by_name_and_the_net_has_three_parameters(caffe: Runner) -> None:
    graph = one_lstm.graph(T=6, N=2, D=3, H=4)
    compiled, weights = compile_graph(graph, BACKEND), initial_weights(graph)
    artifact = BACKEND.emit(compiled, weights)
    text = artifact.files["one_lstm.prototxt"].decode()
    with caffe.load(text, probes=["y"]) as net:
        assert net.params == {"lstm/W_x": (16, 3), "lstm/b": (16,), "lstm/W_h": (16, 4)}
        # a step of an LSTMUnit keeps its time axis
        assert all(net.blobs[f"lstm/t{t:03d}/{state}"] == (1, 2, 4) for t in range(6) for state in "hc")
        set_params(caffe, net, weights)
        x = np.random.default_rng(0).normal(size=(6, 2, 3))
        dy = np.random.default_rng(1).normal(size=(6, 2, 4))
        whole = net.run({"X": x}, backward={"y": dy}, want_param_diffs=True).param_diffs
        parts = [
            net.run({"X": x}, backward={"y": dy * (np.arange(6) == t)[:, None, None]}, want_param_diffs=True)
            for t in range(6)
        ]
    assert len(sharers(text, "lstm/W_h")) == 5  # all steps but the first, which starts from zero
    for name, gradient in whole.items():
        np.testing.assert_allclose(sum(part.param_diffs[name] for part in parts), gradient, rtol=1e-4, atol=1e-5)


def test_the_demo_has_three_parameters_and_its_blobs_have_the_post_s_names(caffe: Runner) -> None:
    graph = lstm_demo.graph()
    text = BACKEND.emit(compile_graph(graph, BACKEND), initial_weights(graph)).files["lstm_demo.prototxt"].decode()
    with caffe.load(text) as net:
        assert net.params == {"lstm/W_x": (2000, 12800), "lstm/b": (2000,), "lstm/W_h": (2000, 500)}
        assert net.inputs == ("X",)  # h0 and c0 are DummyData, as in the post
        assert {name: net.blobs[name] for name in ("X", "h0", "c0", "H")} == {
            "X": (3, 10, 128, 10, 10),
            "h0": (10, 500),
            "c0": (10, 500),
            "H": (3, 10, 500),
        }
        assert all(net.blobs[f"lstm/t{t:03d}/{state}"] == (1, 10, 500) for t in range(3) for state in "hc")


# what once went wrong, or nearly -------------------------------------------------------------------------------------


def test_a_vector_that_scales_every_step_of_a_single_row_learns_from_all_of_them(caffe: Runner) -> None:
    """Caffe's Scale overwrites its blob's gradient where the blob covers the whole of its bottom."""

    @cell
    def scaled(x=Input(1, 3), h=State(1, 3), *, p=Param(3, fill=SPREAD)):
        h = tanh(x + h * p)
        return h, {"h": h}

    @model
    def net(X=Input(5, 1, 3), M=Input(2, 3, 4), q=Param(3, 4, fill=SPREAD), r=Param(2, fill=SPREAD)):
        y, _ = scan(scaled(), X)
        rows = M * reshape(r, 2, 1, 1)
        return {"y": y, "m": tanh(M * q), "n": reshape(M, 6, 4) * 2, "rows": rows, "again": rows * reshape(r, 2, 1, 1)}

    assert_right(caffe, net)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 1), (1,)], ids=str)
def test_a_parameter_that_is_multiplied_added_and_returned_learns_from_all_of_it(
    caffe: Runner, shape: tuple[int, ...]
) -> None:
    @model
    def net(X=Input(2, 3), P=Param(*shape, fill=SPREAD)):
        return {"a": X * P, "b": tanh(X - P), "c": P * X + P, "p": P, "q": P * P}

    assert_right(caffe, net)


def test_a_cell_may_return_a_parameter_as_output_and_as_state(caffe: Runner) -> None:
    @cell
    def odd(x=Input(2, 3), h=State(2, 3), *, P=Param(2, 3, fill=SPREAD)):
        return (P, x, h), {"h": P}

    @model
    def net(X=Input(4, 2, 3)):
        (p, x, h), last = scan(odd(), X)
        return {"p": p, "x": x, "h": h, "last": last["h"]}

    assert_right(caffe, net)


def test_a_piece_of_a_bias_and_the_whole_of_it_in_two_products(caffe: Runner) -> None:
    @model
    def net(X=Input(2, 3), W=Param(4, 3, fill=SPREAD), V=Param(1, 3, fill=SPREAD), b=Param(4, fill=SPREAD)):
        first, _ = split(b, (1, 3))
        return {"y": linear(X, W, b), "z": linear(X, V, first)}

    assert_right(caffe, net)


def test_a_parameter_is_a_sequence_and_an_initial_state_and_a_static_input(caffe: Runner) -> None:
    @cell
    def adds(x=Input(2, 3), s=Input(2, 3), h=State(2, 3)):
        h = tanh(x + h * s)
        return h, {"h": h}

    @model
    def net(P=Param(4, 2, 3, fill=SPREAD), h0=Param(2, 3, fill=SPREAD), s=Param(2, 3, fill=SPREAD)):
        y, last = scan(adds(), P, init=h0, static={"s": s})
        return {"y": y, "last": last["h"] + s}

    assert_right(caffe, net)


def test_a_cell_without_a_batch_axis(caffe: Runner) -> None:
    @cell
    def flat(x=Input(D), h=State(H), *, W=Param(H, D, fill=SPREAD), U=Param(H, H, fill=SPREAD), b=Param(H)):
        h = tanh(linear(x, W, b) + linear(h, U))
        return softmax(h), {"h": h}

    @model
    def net(X=Input(4, 3)):
        y, last = scan(flat(H=5), X)
        return {"y": y, "h": last["h"]}

    assert_right(caffe, net)


def test_a_cell_reads_a_value_of_the_model_around_it(caffe: Runner) -> None:
    @model
    def net(X=Input(4, 2, 3), s=Input(2, 3), W=Param(3, 3, fill=SPREAD)):
        outer = tanh(s)

        @cell
        def inner(x=Input(2, 3), h=State(2, 3)):
            h = tanh(linear(x, W) + h * outer)
            return h, {"h": h}

        y, _ = scan(inner(), X)
        return {"y": y, "outer": outer}

    assert_right(caffe, net)


def test_cells_in_cells_in_cells_share_what_one_object_owns(caffe: Runner) -> None:
    @cell
    def step(x=Input(N, 3), h=State(N, 3), *, W=Param(3, 3, fill=SPREAD)):
        h = sigmoid(linear(x, W) - h)
        return h, {"h": h}

    shared = step()

    @cell
    def middle(x=Input(N, 3), h=State(N, 3), g=State(N, 3)):
        a, first = shared(x, h=h)
        b, second = shared(a, h=g)
        return a * b, {"h": first["h"], "g": second["h"]}

    inner = middle()

    @cell
    def outer(x=Input(N, 3), h=State(N, 3), g=State(N, 3)):
        y, states = inner(tanh(x), h=h, g=g)
        return y, states

    @model
    def net(X=Input(3, 2, 3)):
        y, _ = scan(outer(), X)
        z, last = scan(shared, y, reverse=True)
        return {"y": y, "z": z, "last": last["h"]}

    report = assert_right(caffe, net)
    assert [d.name for d in report.differences if d.kind == "gradient"] == ["X", "shared/W"]


def test_inputs_are_outputs_and_some_are_not_used(caffe: Runner) -> None:
    @model
    def net(X=Input(2, 3), unused=Input(4), filled=Input(2, fill=gaussian(0, 1)), W=Param(2, 3), idle=Param(5)):
        return {"x": X, "filled": filled, "y": linear(X, W), "again": X}

    assert_right(caffe, net)


def test_an_output_that_no_input_reaches(caffe: Runner) -> None:
    @model
    def net(X=Input(2, 3), P=Param(2, 3, fill=constant(0.5))):
        return {"constant": X * 0 + 2, "p": abs(P), "x": relu(X + 10)}

    assert_right(caffe, net)


def test_an_encoder_s_states_start_a_decoder_and_gradients_flow_through(caffe: Runner) -> None:
    @model
    def net(X=Input(4, 2, 3), Y=Input(3, 2, 3)):
        _, state = scan(lstm(H=4, name="encoder"), X)
        y, last = scan(lstm(H=4, name="decoder"), Y, init=state)
        return {"y": y, "both": concat(last["h"], state["c"])}

    report = assert_right(caffe, net)
    gradients = {d.name: d for d in report.differences if d.kind == "gradient"}
    assert {"encoder/W_x", "decoder/W_h", "X", "Y"} <= gradients.keys()


@pytest.mark.parametrize("target", Summaries())
def test_no_gradient_flows_through_what_has_none(caffe: Runner, target: str) -> None:
    @model
    def net(X=Input(2, 3), W=Param(3, 4, fill=SPREAD)):
        outputs = {"step": step(X) * X, "argmax": one_hot(argmax(X), 3) @ W + X @ W}
        if target != "rknn":  # its float16 has no shift that rounds
            outputs |= {"round": round(X) + X, "sin": sin(X)}
        return outputs

    report = assert_right(caffe, net, target)
    assert {"X", "W"} <= {d.name for d in report.differences if d.kind == "gradient"}


def test_a_wrong_weight_file_is_noticed(caffe: Runner) -> None:
    """The check would find a net that has other weights than the model was given."""
    graph = one_lstm.graph(T=3, N=2, D=3, H=4)
    compiled = compile_graph(graph, BACKEND)
    right, other = (initial_weights(graph, seed) for seed in (0, 1))
    report = check(compiled, BACKEND.emit(compiled, other), right, CaffeExecutor(caffe, "cpu"))
    failed: set[Any] = {(d.kind, d.name) for d in report.differences if not d.passed}
    assert {("output", "y"), ("blob", "lstm/t*/c"), ("gradient", "lstm/W_h"), ("gradient", "X")} <= failed
