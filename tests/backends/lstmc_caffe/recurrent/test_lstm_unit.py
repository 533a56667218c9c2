"""Gate tails become LSTMUnit, however they are written; what is no gate tail does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    concat,
    dims,
    gaussian,
    linear,
    model,
    scan,
    sigmoid,
    split,
    tanh,
    uniform,
)
from lstmc.backend import Compiled, load_backend, load_cell
from lstmc.differential import check
from lstmc.dsl import CellModel
from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph
from lstmc.ops import Input as CoreInput
from lstmc.ops import Param as CoreParam
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.recurrent.lstm_unit import FindLSTMUnit
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner

T, N, D, H = dims("T N D H")
FILL = uniform(-0.5, 0.5)
Step = tuple[Value, dict[str, Value]]


@cell
def caffe_order(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    b: Value = Param(4 * H, fill=FILL),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """Gates in the order i, f, o, g."""
    i, f, o, g = split(linear(x, W_x, b) + linear(h, W_h), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@cell
def torch_order(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    b: Value = Param(4 * H, fill=gaussian(0.1, 0.5)),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """Gates in PyTorch's order i, f, g, o; operands the other way round."""
    i, f, g, o = split(linear(h, W_h) + linear(x, W_x, b), 4)
    c = tanh(g) * sigmoid(i) + c * sigmoid(f)
    h = tanh(c) * sigmoid(o)
    return h, {"c": c, "h": h}


@cell
def gate_by_gate(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_g: Value = Param(H, D, fill=FILL),
    W_f: Value = Param(H, D, fill=FILL),
    W_i: Value = Param(H, D, fill=FILL),
    W_o: Value = Param(H, D, fill=FILL),
    U_g: Value = Param(H, H, fill=FILL),
    U_f: Value = Param(H, H, fill=FILL),
    U_i: Value = Param(H, H, fill=FILL),
    U_o: Value = Param(H, H, fill=FILL),
    b_g: Value = Param(H, fill=FILL),
    b_f: Value = Param(H, fill=FILL),
    b_i: Value = Param(H, fill=FILL),
    b_o: Value = Param(H, fill=FILL),
) -> Step:
    """A product for each gate, in the order g, f, i, o."""
    g = tanh(linear(x, W_g, b_g) + linear(h, U_g))
    f = sigmoid(linear(x, W_f, b_f) + linear(h, U_f))
    i = sigmoid(linear(x, W_i, b_i) + linear(h, U_i))
    o = sigmoid(linear(x, W_o, b_o) + linear(h, U_o))
    c = f * c + i * g
    h = o * tanh(c)
    return h, {"h": h, "c": c}


@cell
def one_sigmoid(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W: Value = Param(4 * H, D + H, fill=FILL),
    b: Value = Param(4 * H, fill=FILL),
) -> Step:
    """One product of x and h together, one sigmoid over three gates, in the order f, o, i, g."""
    foi, g = split(linear(concat(x, h), W, b), (3 * h.shape[1], h.shape[1]))
    f, o, i = split(sigmoid(foi), 3)
    c = f * c + i * tanh(g)
    h = o * tanh(c)
    return h, {"h": h, "c": c}


@cell
def stacked(
    x: Value = Input(N, D),
    h1: Value = State(N, H),
    c1: Value = State(N, H),
    h2: Value = State(N, H),
    c2: Value = State(N, H),
) -> Step:
    """Two layers in one step."""
    y, one = lower(x, h=h1, c=c1)
    y, two = upper(y, h=h2, c=c2)
    return y, {"h1": one["h"], "c1": one["c"], "h2": two["h"], "c2": two["c"]}


lower, upper = caffe_order(H=4), caffe_order(H=4)


@cell
def gates_read_again(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(4 * H, D, fill=FILL),
    W_h: Value = Param(4 * H, H, fill=FILL),
) -> Step:
    """PyTorch's order, and the cell returns its forget gate: its rows cannot be re-ordered."""
    i, f, g, o = split(linear(h, W_h) + linear(x, W_x), 4)
    f = sigmoid(f)
    c = f * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return f, {"h": h, "c": c}


@cell
def coupled(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W_x: Value = Param(3 * H, D, fill=FILL),
    W_h: Value = Param(3 * H, H, fill=FILL),
) -> Step:
    """Input and forget gate coupled, c = f c + (1 - f) g: no LSTMUnit computes that."""
    f, o, g = split(linear(h, W_h) + linear(x, W_x), 3)
    f = sigmoid(f)
    c = f * c + (1 - f) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


@model
def both_ways(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    """One bound cell scanned twice, in PyTorch's order: both scans share the re-ordered rows."""
    shared = torch_order(H=4)
    ahead, last = scan(shared, X)
    back, first = scan(shared, X, reverse=True)
    return {"ahead": ahead, "back": back, "c": last["c"], "c_back": first["c"]}


@model
def given_states(X: Value = Input(T, N, 3), h0: Value = Input(N, 4), c0: Value = Input(N, 4)) -> dict[str, Value]:
    y, last = scan(torch_order(H=4), X, init={"h": h0, "c": c0})
    return {"y": y, **last}


shared = torch_order(H=3)


@cell
def shared_twice(
    x: Value = Input(N, 3),
    h1: Value = State(N, 3),
    c1: Value = State(N, 3),
    h2: Value = State(N, 3),
    c2: Value = State(N, 3),
) -> Step:
    """The same weights in two layers: which of their rows are where would have to be the same for both."""
    y, one = shared(x, h=h1, c=c1)
    y, two = shared(y, h=h2, c=c2)
    return y, {"h1": one["h"], "c1": one["c"], "h2": two["h"], "c2": two["c"]}


@model
def in_one_order_only(X: Value = Input(T, N, 3)) -> dict[str, Value]:
    """A scan that could re-order its rows, and one of the same weights that cannot."""
    y, _ = scan(shared, X)
    z, _ = scan(shared_twice(), X)
    return {"y": y, "z": z}


CASES = {
    "caffe_order": (CellModel(caffe_order), {"D": 3, "H": 4}, 3),
    "torch_order": (CellModel(torch_order), {"D": 3, "H": 4}, 3),
    "gate_by_gate": (CellModel(gate_by_gate), {"D": 3, "H": 4}, 3),
    "one_sigmoid": (CellModel(one_sigmoid), {"D": 3, "H": 4}, 3),
    "stacked": (CellModel(stacked), {"D": 3, "H": 4}, 6),
    "both_ways": (both_ways, {}, 6),
    "given_states": (given_states, {}, 3),
    "gates_read_again": (CellModel(gates_read_again), {"D": 3, "H": 4}, 0),
    "coupled": (CellModel(coupled), {"D": 3, "H": 4}, 0),
    "in_one_order_only": (in_one_order_only, {}, 0),
    "lstm_peephole": (CellModel(load_cell("lstm_peephole")), {"D": 3, "H": 4}, 0),
    "gru": (CellModel(load_cell("gru")), {"D": 3, "H": 4}, 0),
}
each_case = pytest.mark.parametrize("case", CASES)


def compiled(case: str, steps: int = 3) -> Compiled:
    made, sizes, _ = CASES[case]
    return compile_graph(made.graph(T=steps, N=2, **sizes), load_backend("caffe"))


def units(graph: Graph) -> int:
    return sum(isinstance(node.op, caffe.LSTMUnit) for node in graph)


def leaves(graph: Graph, kind: type[CoreInput | CoreParam]) -> dict[str, np.ndarray]:
    return {n.name: named_rng(0, n.name).uniform(-1, 1, n.types[0].shape) for n in graph if isinstance(n.op, kind)}


@each_case
def test_how_many(case: str) -> None:
    assert units(compiled(case).expanded) == CASES[case][2]


@each_case
def test_every_stage_means_the_model(case: str) -> None:
    built = compiled(case)
    given = leaves(built.model, CoreInput), leaves(built.model, CoreParam)
    wanted = forward(built.model, *given)
    ct = {name: named_rng(1, name).uniform(-1, 1, value.shape) for name, value in wanted.outputs.items()}
    wanted_grads = backward(wanted, ct)
    for snapshot in built.history[-8:]:
        found = forward(snapshot.graph, *given)
        for name, value in wanted.outputs.items():
            assert_allclose(found.outputs[name], value, rtol=1e-12, atol=1e-12, err_msg=f"{snapshot.pass_name} {name}")
        grads = backward(found, ct)
        for name, value in (wanted_grads.params | wanted_grads.inputs).items():
            gradient = (grads.params | grads.inputs)[name]
            assert_allclose(gradient, value, rtol=1e-11, atol=1e-11, err_msg=f"{snapshot.pass_name} {name}")


@each_case
def test_a_second_run_changes_nothing(case: str) -> None:
    found = [s.graph for s in compiled(case).history if s.pass_name == "find_lstm_unit"]
    assert not FindLSTMUnit().run(found[0]).modified


@pytest.mark.caffe
@each_case
def test_in_real_caffe(caffe: Runner, case: str) -> None:
    built = compiled(case)
    weights = initial_weights(built.model, 1)
    artifact = load_backend("caffe").emit(built, weights)
    report = check(built, artifact, weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [d for d in report.differences if not d.passed]


@pytest.mark.caffe
def test_a_long_net_in_real_caffe(caffe: Runner) -> None:
    built = compiled("torch_order", 250)
    weights = initial_weights(built.model, 1)
    artifact = load_backend("caffe").emit(built, weights)
    report = check(built, artifact, weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [d for d in report.differences if not d.passed]


def test_gates_stay_in_the_forms_that_say_so() -> None:
    made = CellModel(caffe_order)
    for form, expected in ((None, 2), ("unit", 2), ("packed", 0), ("separate", 0)):
        built = compile_graph(made.graph(T=2, N=200, D=3, H=4), load_backend("caffe"), form=form)
        assert units(built.expanded) == expected
