"""What is said of a scan: of each library cell, and where a near miss first differs."""

from __future__ import annotations

from typing import Any

import pytest

from lstmc import (
    Input,
    Param,
    State,
    Value,
    cell,
    clip,
    concat,
    dims,
    hard_sigmoid,
    linear,
    model,
    scan,
    sigmoid,
    split,
    tanh,
)
from lstmc.backend import load_cell
from lstmc.dsl import Cell
from lstmc.ir import Graph
from lstmc.ops import Tanh
from lstmc.passes import KeepTimeAxis, run_passes
from lstmc.patterns import GRU, LSTM, LSTM_ORDERS, RNN, Unrecognised, describe, moved, recognise
from lstmc.pipeline import MODEL_PASSES

T, N, D, H = dims("T N D H")
Step = tuple[Value, dict[str, Value]]


def scanned(step: Cell, *masks: str, **options: Any) -> Graph:
    """A model that scans a cell of 4 units over X [3, 2, 3], called y."""

    def net(X: Value = Input(T, N, 3), C: Value = Input(T, N), L: Value = Input(N)) -> dict[str, Value]:
        given = {mask: {"cont": C, "lengths": L}[mask] for mask in masks}
        y, last = scan(step(H=4, name="one"), X, **given, **options)
        return {"y": y} | {f"{name}_T": value for name, value in last.items() if name == "h"}

    return model(net).graph(T=3, N=2)


def of(graph: Graph) -> LSTM | GRU | RNN | Unrecognised:
    (found,) = [node for node in graph if node.names[0] == "y"]
    return recognise(graph, found.name)


LIBRARY = {
    "lstm": """\
LSTM y: 4 units, 3 steps
  i = sigmoid(one/W_x[0:4] X + one/b[0:4] + one/W_h[0:4] h)
  f = sigmoid(one/W_x[4:8] X + one/b[4:8] + one/W_h[4:8] h)
  o = sigmoid(one/W_x[8:12] X + one/b[8:12] + one/W_h[8:12] h)
  g = tanh(one/W_x[12:16] X + one/b[12:16] + one/W_h[12:16] h)
  c' = f c + i g
  h' = o tanh(c')
  h starts from one/h_0
  c starts from one/c_0
  states are multiplied by C before each step
  a step is there before the length of its sequence, L
  each step returns h' or zero
  read of it: each h', the last h
""",
    "lstm_peephole": """\
LSTM y: 4 units, 3 steps
  i = sigmoid(one/W_x[0:4] X + one/b[0:4] + one/W_h[0:4] h + one/p_i c)
  f = sigmoid(one/W_x[4:8] X + one/b[4:8] + one/W_h[4:8] h + one/p_f c)
  o = sigmoid(one/W_x[8:12] X + one/b[8:12] + one/W_h[8:12] h + one/p_o c')
  g = tanh(one/W_x[12:16] X + one/b[12:16] + one/W_h[12:16] h)
  c' = f c + i g
  h' = o tanh(c')
  h starts from one/h_0
  c starts from one/c_0
  each step returns h'
  read of it: each h', the last h
""",
    "gru": """\
GRU y: 4 units, 3 steps
  z = sigmoid(one/W_x[0:4] X + one/b[0:4] + one/W_h[0:4] h)
  r = sigmoid(one/W_x[4:8] X + one/b[4:8] + one/W_h[4:8] h)
  n = tanh(one/W_x[8:12] X + one/b[8:12] + one/U (r h))
  h' = z h + (1 - z) n
  h starts from one/h_0
  each step returns h'
  read of it: each h', the last h
""",
    "gru_reset_after": """\
GRU y: 4 units, 3 steps
  z = sigmoid(one/W_x[4:8] X + one/b_x[4:8] + one/b_h[4:8] + one/W_h[4:8] h)
  r = sigmoid(one/W_x[0:4] X + one/b_x[0:4] + one/b_h[0:4] + one/W_h[0:4] h)
  n = tanh(one/W_x[8:12] X + one/b_x[8:12] + r (one/W_h[8:12] h + one/b_h[8:12]))
  h' = z h + (1 - z) n
  h starts from one/h_0
  each step returns h'
  read of it: each h', the last h
""",
    "rnn": """\
RNN y: 4 units, 3 steps, backward
  h' = tanh(one/W_x X + one/b + one/W_h h)
  h starts from one/h_0
  each step returns h'
  read of it: each h', the last h
""",
}
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "lstm": (("cont", "lengths"), {}),
    "rnn": ((), {"reverse": True}),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_library_cell_is_told_the_same_before_and_after_all_passes(name: str) -> None:
    masks, options = OPTIONS.get(name, ((), {}))
    graph = scanned(load_cell(name), *masks, **options)
    assert describe(of(graph), graph) == LIBRARY[name]
    optimised = run_passes(graph, MODEL_PASSES, ())[-1].graph
    # equal first states are one value by then
    assert describe(of(optimised), optimised) == LIBRARY[name].replace("one/c_0", "one/h_0")
    kept = KeepTimeAxis().run(optimised).graph
    assert type(of(kept)) is type(of(graph)), describe(of(kept), kept)


def test_a_model_may_name_its_input_as_the_step_names_a_state() -> None:
    def net(h: Value = Input(T, N, 3)) -> dict[str, Value]:
        return {"y": scan(load_cell("lstm")(H=4, name="one"), h)[0]}

    assert isinstance(of(model(net).graph(T=3, N=2)), LSTM)


def test_functions_that_are_several_ops_are_told_as_one() -> None:
    @cell
    def one(
        x: Value = Input(N, D), h: Value = State(N, H), *, W: Value = Param(3 * H, D), U: Value = Param(3 * H, H)
    ) -> Step:
        x_z, x_r, x_n = split(linear(x, W), 3)
        h_z, h_r, h_n = split(linear(h, U), 3)
        z = hard_sigmoid(clip(x_z + h_z, -2, 2))
        r = hard_sigmoid(x_r + h_r, 0.25, 0.5)
        h = z * h + (1 - z) * tanh(clip(x_n + r * h_n, -1, 3))
        return h, {"h": h}

    told = """\
GRU y: 4 units, 3 steps
  z = hard_sigmoid(clip(one/W[0:4] X + one/U[0:4] h, -2, 2), 0.2, 0.5)
  r = hard_sigmoid(one/W[4:8] X + one/U[4:8] h, 0.25, 0.5)
  n = tanh(clip(one/W[8:12] X + r (one/U[8:12] h), -1, 3))
  h' = z h + (1 - z) n
  h starts from one/h_0
  each step returns h'
  read of it: each h', the last h
"""
    graph = scanned(one)
    assert describe(of(graph), graph) == told
    optimised = run_passes(graph, MODEL_PASSES, ())[-1].graph
    assert describe(of(optimised), optimised) == told


def test_the_fields_of_a_coupled_lstm_with_a_forget_bias() -> None:
    @cell
    def coupled(
        x: Value = Input(N, D),
        h: Value = State(N, H),
        c: Value = State(N, H),
        *,
        W: Value = Param(3 * H, D),
        U: Value = Param(3 * H, H),
    ) -> Step:
        f, o, g = split(linear(x, W) + linear(h, U), 3)
        f = sigmoid(1.0 + f)
        c = tanh(g) + f * (c - tanh(g))
        return c, {"h": sigmoid(o) * c, "c": c}

    found = of(scanned(coupled))
    assert isinstance(found, LSTM)
    assert found.f is not None
    assert (found.i, found.f.constant, found.g.activation, found.activation) == (None, 1.0, Tanh(), None)
    assert [result.of for result in found.results] == ["c"]
    assert [matrix.rows for gate in found.gates().values() for matrix in gate.recurrent] == [(0, 4), (4, 8), (8, 12)]


LSTM_CELL = """\
@cell
def near(x: Value = Input(N, D), h: Value = State(N, H), c: Value = State(N, H), *,
         W: Value = Param(4 * H, D), b: Value = Param(4 * H), U: Value = Param(4 * H, H)):
    i, f, o, g = split(linear(x, W, b) + linear(h, U), 4)
    c2 = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h2 = sigmoid(o) * tanh(c2)
    return h2, {"h": h2, "c": c2}
"""
GRU_CELL = """\
@cell
def near(x: Value = Input(N, D), h: Value = State(N, H), *,
         W: Value = Param(3 * H, D), U: Value = Param(2 * H, H), V: Value = Param(H, H)):
    x_z, x_r, x_n = split(linear(x, W), 3)
    h_z, h_r = split(linear(h, U), 2)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    n = tanh(x_n + linear(r * h, V))
    h2 = (1 - z) * h + z * n
    return h2, {"h": h2}
"""
RNN_CELL = """\
@cell
def near(x: Value = Input(N, D), h: Value = State(N, H), *, W: Value = Param(H, D), U: Value = Param(H, H)):
    h2 = tanh(linear(x, W) + linear(h, U))
    return h2, {"h": h2}
"""
# cell, what is replaced by what, and then the kind: what it expects, and what it finds
NEAR_MISSES = [
    (
        LSTM_CELL,
        "sigmoid(i)",
        "sigmoid(i + c * split(b, 4)[0] * split(b, 4)[1])",
        "LSTM: a sum of W x, R h and b",
        "%add_W_b: f32[2,4] = add(%split_W, %mul_b_2)",
    ),
    (
        LSTM_CELL,
        "sigmoid(i)",
        "clip(0.2 * i + 0.5, 0, 2)",
        "LSTM: a function such as sigmoid",
        "%relu_W_2: f32[2,4] = relu(%affine_W_4)",
    ),
    (
        LSTM_CELL,
        "sigmoid(i)",
        "clip(0.2 * i + 0.3 * c, 0, 1)",
        "LSTM: a function such as sigmoid",
        "%relu_W_2: f32[2,4] = relu(%affine_W_3)",
    ),
    (
        LSTM_CELL,
        "sigmoid(f) *",
        "sigmoid(linear(h, split(U, 16, axis=0)[0])) *",
        "LSTM: a gate of 4 units",
        "%linear_U_2: f32[2,1] = linear(%h_prev, %split_U)",
    ),
    (
        LSTM_CELL,
        "sigmoid(f) *",
        "sigmoid(f + linear(h, split(U, 16, axis=0)[0])) *",
        "LSTM: a sum of W x, R h and b",
        "%add_W_U_2: f32[2,4] = add(%split_W_2, %linear_U_2)",
    ),
    (LSTM_CELL, "sigmoid(f) * c +", "c +", "LSTM: c' = f * c + i * g", "%c: f32[2,4] = add(%c_prev, %mul_W)"),
    (LSTM_CELL, "* tanh(g)", "", "LSTM: c' = f * c + i * g", "%c: f32[2,4] = add(%mul_W_c_prev, %sigmoid_W_2)"),
    (LSTM_CELL, "* tanh(c2)", "* tanh(c)", "LSTM: h' = o * tanh(c')", "%h: f32[2,4] = mul(%sigmoid_W_3, %tanh_c_prev)"),
    (
        LSTM_CELL,
        "return h2",
        "return c2 + h2",
        "LSTM: each step to return h or c alone",
        "%add_W: f32[2,4] = add(%c, %h)",
    ),
    (
        LSTM_CELL,
        "sigmoid(i)",
        "sigmoid(i * c)",
        "LSTM: a sum of W x, R h and b",
        "%mul_W_c_prev_2: f32[2,4] = mul(%split_W, %c_prev)",
    ),
    (
        LSTM_CELL,
        "linear(h, U)",
        "linear(c, U)",
        "LSTM: a product of the state %h_prev",
        "%linear_U: f32[2,16] = linear(%c_prev, %one/U)",
    ),
    (GRU_CELL, "linear(r * h,", "tanh(h) + linear(h,", "LSTM: two states, h and c", "%h_prev"),
    (
        GRU_CELL,
        "r * h,",
        "z * h,",
        "GRU: two gates, an update gate z and a reset gate r (one alone is a minimal gated unit)",
        "%sigmoid_W: f32[2,4] = sigmoid(%add_W_U)",
    ),
    (
        GRU_CELL,
        "r * h,",
        "h,",
        "GRU: n = tanh(W x + b + R (r * h)), or r * (R h) in it",
        "%add_W_V: f32[2,4] = add(%split_W_3, %linear_V)",
    ),
    (GRU_CELL, "(1 - z) * h", "h", "GRU: h' = z * h + (1 - z) * n", "%h: f32[2,4] = add(%h_prev, %mul_W)"),
    (
        GRU_CELL,
        "n = tanh(x_n",
        "n = tanh(x_n + h_r",
        "GRU: n to see h through the reset gate alone",
        "%add_W_V: f32[2,4] = add(%add_W_U_3, %linear_V)",
    ),
    (
        RNN_CELL,
        "tanh(",
        "2 * tanh(",
        "RNN: h' = f(W x + b + R h), f being a function such as tanh",
        "%h: f32[2,4] = affine(%tanh_W, scale=2.0)",
    ),
    (
        RNN_CELL,
        "linear(h, U)",
        "h",
        "RNN: a sum of W x, R h and b",
        "%add_W_h_prev: f32[2,4] = add(%linear_W, %h_prev)",
    ),
    (
        RNN_CELL,
        "linear(h, U)",
        "linear(2 * x, W)",
        "RNN: a product R h of the state",
        "%add_W: f32[2,4] = add(%linear_W, %linear_W_2)",
    ),
]


@pytest.mark.parametrize(("source", "old", "new", "expected", "found"), NEAR_MISSES)
def test_the_first_difference_of_a_near_miss(source: str, old: str, new: str, expected: str, found: str) -> None:
    assert old in source
    module: dict[str, Any] = {"__name__": "near"}
    head = "from lstmc import *\nT, N, D, H = dims('T N D H')\n"
    exec(compile(head + source.replace(old, new, 1), "<near>", "exec"), module)
    graph = scanned(module["near"])
    seen = of(graph)
    assert isinstance(seen, Unrecognised)
    kind, _, wanted = expected.partition(": ")
    difference = seen.differences[kind]
    assert (difference.expected, difference.found) == (wanted, found)
    assert difference.loc is not None
    assert f"{kind}: expected {wanted}, found {found}, {difference.loc}\n" in describe(seen, graph)


def test_states_that_are_multiplied_by_different_indicators() -> None:
    @cell
    def half(
        x: Value = Input(N, D),
        m: Value = Input(N, 1),
        h: Value = State(N, H),
        c: Value = State(N, H),
        *,
        W: Value = Param(4 * H, D),
        U: Value = Param(4 * H, H),
    ) -> Step:
        i, f, o, g = split(linear(x, W) + linear(h, U), 4)
        c = sigmoid(f) * (c * m) + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, {"h": h, "c": c}

    @model
    def net(X: Value = Input(T, N, 3), M: Value = Input(T, N, 1)) -> dict[str, Value]:
        y, _ = scan(half(H=4), {"x": X, "m": M})
        return {"y": y}

    seen = of(net.graph(T=3, N=2))
    assert isinstance(seen, Unrecognised)
    assert str(seen.differences["LSTM"]) == (
        "expected every state to be multiplied by the same indicator, or none, found %h_prev and %c_prev times %M"
    )


MASKED = """\
@cell
def near(x: Value = Input(N, D), m: Value = Input(N, 1), h: Value = State(N, H), c: Value = State(N, H), *,
         W: Value = Param(4 * H, D), b: Value = Param(4 * H), U: Value = Param(4 * H, H)):
    i, f, o, g = split(linear(x, W, b) + linear(h, U), 4)
    c2 = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h2 = sigmoid(o) * tanh(c2)
    h3 = m * h2 + (1 - m) * h
    c3 = m * c2 + (1 - m) * c
    return h2, {"h": h3, "c": c3}
"""


@pytest.mark.parametrize(
    ("replaced", "units", "recognised"),
    [
        ({}, 4, True),
        ({}, 2, True),
        ({}, 1, False),
        ({"(1 - m) * c": "(1 - m) * c2"}, 4, False),
        ({"(1 - m) * h": "(1 - m) * h2"}, 4, False),
        ({"(1 - m) * c": "m * c", "m * c2": "(1 - m) * c2"}, 4, False),
    ],
)
def test_a_mask_keeps_every_state_or_is_none(replaced: dict[str, str], units: int, recognised: bool) -> None:
    source = MASKED
    for old, new in replaced.items():
        assert old in source
        source = source.replace(old, new)
    module: dict[str, Any] = {"__name__": "masked"}
    exec(compile("from lstmc import *\nT, N, D, H = dims('T N D H')\n" + source, "<masked>", "exec"), module)

    @model
    def net(X: Value = Input(T, N, 3), M: Value = Input(T, N, 1)) -> dict[str, Value]:
        y, _ = scan(module["near"](H=units), {"x": X, "m": M})
        return {"y": y}

    assert isinstance(of(net.graph(T=3, N=2)), LSTM) == recognised


def test_orders_of_gates() -> None:
    assert moved(LSTM_ORDERS["pytorch"], LSTM_ORDERS["caffe"]) == (0, 1, 3, 2)
    with pytest.raises(ValueError, match=r"^expected the gates ifog in some order, found zrn$"):
        moved("zrn", "ifog")


@cell
def joined(x: Value = Input(N, D), h: Value = State(N, H), c: Value = State(N, H), *, A: Value = Param(2 * H, D),
           B: Value = Param(2 * H, D), U: Value = Param(4 * H, H)) -> Step:  # fmt: skip
    i, f, o, g = split(linear(x, concat(A, B, axis=0)) + linear(h, U), 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, {"h": h, "c": c}


def test_weights_that_a_model_joins_are_named_where_they_are_stored() -> None:
    graph = scanned(joined)
    text = describe(of(graph), graph)
    assert [f"one/{part} X" in text for part in ("A[0:4]", "A[4:8]", "B[0:4]", "B[4:8]")] == [True] * 4
