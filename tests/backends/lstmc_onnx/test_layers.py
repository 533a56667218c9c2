"""Scans as ONNX's LSTM, GRU and RNN, however they are written; and what those do not have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc.ops import Draw
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc.weights import initial_weights, unpack_weights
from lstmc_onnx import OnnxBackend
from lstmc_onnx.artifact import write_model
from lstmc_onnx.runtime import RuntimeExecutor
from tests.draws import HypothesisDraw
from tests.random_models.models import RandomModel

BACKEND = OnnxBackend()
FILL = "fill=uniform(-0.7, 0.7)"
HEAD = "from lstmc import *\n\nT, N, D, H = dims('T N D H')\n\n"


@dataclass
class Cell:
    """A cell as it is drawn: one of three kinds, gates packed in any order or apart, biases here and there."""

    draw: Draw
    kind: str
    lines: list[str]
    params: list[str]

    def sums(self, order: str, state: str = "h") -> dict[str, str]:
        """W x + R h + b for each gate, by the names of their values."""
        biases = self.draw.choice((0, 1, 2))
        if self.draw.choice((True, False)):
            gates = list(order)
            for i in range(len(gates) - 1, 0, -1):
                j = self.draw.integer(0, i)
                gates[i], gates[j] = gates[j], gates[i]
            self.declare("W", len(gates), biases)
            terms = f"linear(x, W{', b_x' if biases else ''}) + linear({state}, R{', b_h' if biases > 1 else ''})"
            self.lines.append(f"z = split({terms}, {len(gates)})" if len(gates) > 1 else f"z = [{terms}]")
            return {gate: f"z[{at}]" for at, gate in enumerate(gates)}
        for gate in order:
            self.declare(f"W_{gate}", 1, biases, gate)
            more = ("_x", "_h") if biases > 1 else ("_x",)
            given = [f", b{side}_{gate}" if side in more and biases else "" for side in ("_x", "_h")]
            self.lines.append(f"z_{gate} = linear({state}, R_{gate}{given[1]}) + linear(x, W_{gate}{given[0]})")
        return {gate: f"z_{gate}" for gate in order}

    def declare(self, w: str, gates: int, biases: int, gate: str = "") -> None:
        end = f"_{gate}" if gate else ""
        self.params += [f"{w}=Param({gates} * H, D, {FILL})", f"R{end}=Param({gates} * H, H, {FILL})"]
        self.params += [f"b{side}{end}=Param({gates} * H, {FILL})" for side in ("_x", "_h")[:biases]]

    def function(self, *names: str) -> str:
        return self.draw.choice(names)

    def held(self) -> str:
        """What is done to all that functions of gates are of."""
        return self.draw.choice(("({})", "({})", "(clip({}, -0.4, 0.4))"))


def lstm(cell: Cell) -> None:
    gate, new = cell.function("sigmoid", "sigmoid", "relu", "hard_sigmoid"), cell.function("tanh", "softplus")
    held = cell.held()
    z = cell.sums("ifog")
    peephole = cell.draw.choice((True, False, False))
    if peephole:
        cell.params += [f"p_{g}=Param(H, {FILL})" for g in "ifo"]
    seen = {g: f" + p_{g} * {'c_new' if g == 'o' else 'c'}" if peephole else "" for g in "ifo"}
    coupled = cell.draw.choice(("", "", "i", "f")) if gate.endswith("sigmoid") else ""
    for g in "if":
        cell.lines.append(f"{g} = {gate}{held.format(z[g] + seen[g])}")
    if coupled:
        cell.lines.append("f = 1 - i" if coupled == "i" else "i = 1 - f")
    shown = cell.draw.choice(("tanh(c_new)", "tanh(c_new)", "c_new"))
    opened = f"{gate}{held.format(z['o'] + seen['o'])}"
    cell.lines += [f"c_new = f * c + i * {new}{held.format(z['g'])}", f"h_new = {opened} * {shown}"]
    cell.lines.append("return h_new, {'h': h_new, 'c': c_new}")


def gru(cell: Cell) -> None:
    gate, held = cell.function("sigmoid", "hard_sigmoid"), cell.held()
    if cell.draw.choice((True, False)):  # apart: the candidate sees h through r
        cell.params += [f"W=Param(3 * H, D, {FILL})", f"R=Param(3 * H, H, {FILL})", f"b=Param(3 * H, {FILL})"]
        cell.params.append(f"b_h=Param(3 * H, {FILL})")
        cell.lines += ["a = split(linear(x, W, b), 3)", "e = split(linear(h, R, b_h), 3)"]
        cell.lines += [f"{g} = {gate}{held.format(f'a[{at}] + e[{at}]')}" for at, g in enumerate("rz")]
        cell.lines.append(f"n = tanh{held.format('a[2] + r * e[2]')}")
    else:
        cell.params += [f"W_{g}=Param(H, D, {FILL})" for g in "zrn"] + [f"R_{g}=Param(H, H, {FILL})" for g in "zrn"]
        cell.params.append(f"b=Param(H, {FILL})")
        sums = {
            g: f"linear(x, W_{g}) + linear({h}, R_{g}{', b' if h == 'h' else ''})"
            for g, h in (("z", "h"), ("r", "h"), ("n", "r * h"))
        }
        cell.lines += [f"{g} = {gate if g != 'n' else 'tanh'}{held.format(terms)}" for g, terms in sums.items()]
    cell.lines.append(f"h = {cell.draw.choice(('z * h + (1 - z) * n', 'h + z * (n - h)'))}")
    cell.lines.append("return h, {'h': h}")


def rnn(cell: Cell) -> None:
    z = cell.sums("h")
    function = cell.function("tanh", "sigmoid", "relu", "elu", "hard_sigmoid")
    cell.lines += [f"h = {function}{cell.held().format(z['h'])}", "return h, {'h': h}"]


KINDS = {"LSTM": lstm, "GRU": gru, "RNN": rnn}


def layered(draw: Draw) -> tuple[RandomModel, str]:
    """A model of one layer, or of both directions of one, and the operator that it is."""
    kind = draw.choice(tuple(KINDS))
    cell = Cell(draw, kind, [], [])
    KINDS[kind](cell)
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    arguments = ["x=Input(N, D)", *(f"{state}=State(N, H)" for state in states), "*", *cell.params]
    source = HEAD + f"@cell\ndef layer({', '.join(arguments)}):\n    " + "\n    ".join(cell.lines) + "\n\n"
    inputs, given = ["X=Input(T, N, 3)"], []
    if draw.choice((True, False, False)):
        inputs.append("L=Input(N)")
        given.append("lengths=L")
    if draw.choice((True, False)):
        inputs += [f"{state}0=Input(N, 2)" for state in states]
        given.append("init={" + ", ".join(f"'{state}': {state}0" for state in states) + "}")
    directions = draw.choice((("",), ("reverse=True",), ("", "reverse=True"), ("reverse=True", "")))
    lines, results = [], []
    for number, direction in enumerate(directions):
        more = ", ".join(filter(None, (*given, direction, f"name='layer{number}'")))
        lines.append(f"y{number}, s{number} = scan(layer(H=2, name='layer{number}'), X, {more})")
        results.append(f"'y{number}': y{number}")
        results += [f"'{state}{number}_T': s{number}['{state}']" for state in states if draw.choice((True, False))]
    body = "\n    ".join([*lines, f"return {{{', '.join(results)}}}"])
    source += f"@model\ndef net({', '.join(inputs)}):\n    {body}\n"
    return RandomModel(source, draw.integer(1, 4), draw.integer(1, 3), draw.integer(0, 99)), kind


@st.composite
def layered_models(draw: Any) -> tuple[RandomModel, str]:
    return layered(HypothesisDraw(draw))


def operators(graph: Graph, form: str | None = None, seed: int = 0) -> Counter[str]:
    """The operators of a model that agrees with its meaning in ONNX Runtime, and whose weights can be read back."""
    weights = initial_weights(graph, seed)
    compiled = compile_graph(graph, BACKEND, form=form)
    report = check(compiled, BACKEND.emit(compiled, weights), weights, RuntimeExecutor(), seed)
    assert report.passed, [difference for difference in report.differences if not difference.passed]
    written = write_model(compiled.expanded, weights, 17)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in written.proto.graph.initializer}
    found = unpack_weights(written.weights, {o.name: stored[o.name] for o in written.weights.outputs})
    assert all((found[name] == weights[name]).all() for name in found)
    return Counter(node.op_type for node in written.proto.graph.node)


@pytest.mark.slow
def test_a_layer_is_found_however_it_is_written() -> None:
    kinds: Counter[str] = Counter()

    @settings(max_examples=max(15, settings.default.max_examples // 12), deadline=None)
    @given(layered_models())
    def holds(drawn: tuple[RandomModel, str]) -> None:
        model, kind = drawn
        found = operators(model.graph(), seed=model.seed)
        assert (found[kind], found["Scan"]) == (1, 0)  # both directions are one
        kinds[kind] += 1

    holds()
    assert len(kinds) == len(KINDS)


def graph_of(body: str, scan: str, inputs: str = "X=Input(T, N, 3)", states: str = "h=State(N, H)") -> Graph:
    params = f"W=Param(H, D, {FILL}), R=Param(H, H, {FILL}), S=Param(H, H, {FILL})"
    source = f"{HEAD}@cell\ndef step(x=Input(N, D), {states}, *, {params}):\n    {body}\n\n"
    source += f"@model\ndef net({inputs}):\n    y, last = {scan}\n    return y\n"
    return RandomModel(source, 3, 2, 0).graph()


RNN = "h = tanh(linear(x, W) + linear(h, R))\n    return h, {'h': h}"
DIFFERENCES = {
    "states that go on from step to step, found an indicator that they are multiplied by": (
        RNN, "scan(step(H=2), X, cont=C)", "X=Input(T, N, 3), C=Input(T, N)",
    ),
    "one product of h in the gate h, found 2 of them": (
        RNN.replace("linear(h, R)", "linear(h, R) + linear(h, S)"), "scan(step(H=2), X)",
    ),
    "one of the functions Sigmoid, Tanh, Relu, Softplus, LeakyRelu, Elu, HardSigmoid, found abs": (
        RNN.replace("tanh", "abs"), "scan(step(H=2), X)",
    ),
    "every gate to be clipped between -c and c, or none, found h between -1 and 2": (
        RNN.replace("linear(h, R))", "linear(h, R), -1, 2))").replace("tanh(", "tanh(clip("), "scan(step(H=2), X)",
    ),
    "the gate h to be of W x + R h + b alone, found %U added to it": (
        RNN.replace("(linear(x, W)", "(x"), "scan(step(H=2, D=2), U)", "U=Input(T, N, 2)",
    ),
    "h' = f(W x + b + R h), f being a function such as tanh, found %h: f32[2,2] = mul(%tanh, %h_prev)": (
        "h = tanh(linear(x, W) + linear(h, R)) * h\n    return h, {'h': h}", "scan(step(H=2), X)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("expected", DIFFERENCES)
def test_what_a_layer_does_not_have_is_told_and_the_scan_is_a_loop(expected: str) -> None:
    graph = graph_of(*DIFFERENCES[expected])
    with pytest.raises(BackendError) as caught:
        compile_graph(graph, BACKEND, form="lstm-op")
    assert caught.value.message == "the scan step is not an LSTM, GRU or RNN of ONNX"
    compiled = compile_graph(graph, BACKEND)
    note, rare = BACKEND.emit(compiled, initial_weights(graph)).notes
    assert rare == (
        "Scan: few runtimes besides ONNX Runtime have this operator; `lstmc compile` of the model with its weights"
        " and the form unrolled writes a net without it, and so does `lstmc convert` of a Caffe net"
        " with the constant cont=1"
    )
    if "f being" not in expected:
        assert caught.value.notes == (f"expected {expected}",)
        assert note == f"step: Scan; it is no LSTM, GRU or RNN: expected {expected}"
    assert operators(graph)["Scan"] == 1


def test_what_enters_may_be_several_values_and_the_same_at_every_step() -> None:
    source = HEAD + (
        f"@cell\ndef step(x=Input(N, D), u=Input(N, 2), h=State(N, H), *, W=Param(H, D + 2, {FILL}),"
        f" R=Param(H, H, {FILL})):\n    h = tanh(linear(concat(x, u), W) + linear(h, R))\n    return h, {{'h': h}}\n\n"
        "@model\ndef net(X=Input(T, N, 3), U=Input(N, 2)):\n"
        "    y, _ = scan(step(H=2), X, static={'u': U})\n    return y\n"
    )
    found = operators(RandomModel(source, 3, 2, 0).graph())
    assert (found["RNN"], found["Scan"]) == (1, 0)


def test_which_form_each_scan_got_is_told() -> None:
    two = HEAD + (
        "from lstmc.cells import lstm\n\n@cell\n"
        f"def odd(x=Input(N, D), h=State(N, H), *, R=Param(H, H, {FILL})):\n"
        "    h = tanh(x[:, :2] * h + linear(h, R))\n    return h, {'h': h}\n\n"
        "@model\ndef net(X=Input(T, N, 3)):\n    a, _ = scan(lstm(H=2, name='left'), X)\n"
        "    b, _ = scan(lstm(H=2, name='right'), X, reverse=True)\n    c, _ = scan(odd(H=2), X)\n    return a, b, c\n"
    )
    graph = RandomModel(two, 3, 2, 0).graph()
    artifact = BACKEND.emit(compile_graph(graph, BACKEND), initial_weights(graph))
    pair, loop, _ = artifact.notes
    assert pair == "left and right: LSTM of both directions"
    assert loop.startswith("odd: Scan; it is no LSTM, GRU or RNN: expected h' = ")
    one = RandomModel(two, 1, 2, 0).graph()
    assert (
        BACKEND.emit(compile_graph(one, BACKEND), initial_weights(one))
        .notes[1]
        .startswith("odd: unrolled, as it has one step; it is no LSTM, GRU or RNN: ")
    )
    assert BACKEND.emit(compile_graph(graph, BACKEND, form="scan"), initial_weights(graph)).notes == ()


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_one_step_takes_any_number_of_steps_left(kind: str) -> None:
    source = HEAD + (
        f"from lstmc.cells import {kind}\n\n@model\ndef net(X=Input(T, N, 3), L=Input(N), H0=Input(N, 2)):\n"
        f"    y, last = scan({kind}(H=2), X, lengths=L, init={{'h': H0}})\n    return y, last['h']\n"
    )
    graph = RandomModel(source, 3, 2, 0).graph()
    weights = initial_weights(graph)
    compiled = compile_graph(graph, BACKEND, step=True)
    artifact = BACKEND.emit(compiled, weights)
    assert f"{kind}: unrolled" in "".join(artifact.notes)
    for left in ([3.0, 2.0], [1.0, 0.0], [-1.0, -4.0]):
        report = check(compiled, artifact, weights, RuntimeExecutor(), 0, {"steps_left/left_in": np.array(left)})
        assert report.passed, report.differences
