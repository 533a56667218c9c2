"""``roll_up``: a recurrence that a person or a pass wrote out step by step becomes a scan again."""

from __future__ import annotations

import pytest

from lstmc import (
    Input,
    Model,
    Param,
    State,
    cell,
    concat,
    full,
    linear,
    maximum,
    model,
    scan,
    sigmoid,
    split,
    stack,
    tanh,
)
from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.dsl.value import Value
from lstmc.ir import Graph, Scan, parse_graph
from lstmc.ops import Linear, Unstack
from lstmc.passes import Dead, Expand, RollUp
from lstmc.testing import assert_same_meaning

T, N, D, H = 5, 2, 3, 4


def lstm_by_hand(X=Input(T, N, D), *, W=Param(4 * H, D), U=Param(4 * H, H), b=Param(4 * H)):  # type: ignore[no-untyped-def]
    h = c = full((N, H), 0.0)
    ys: list[Value] = []
    for t in range(T):
        i, f, o, g = split(linear(X[t], W, b) + linear(h, U), 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        ys.append(h)
    return {"Y": stack(ys), "c": c}


def backwards(X=Input(N, T, D), h0=Input(N, H), *, W=Param(H, D), U=Param(H, H)):  # type: ignore[no-untyped-def]
    h, ys = h0, []
    for t in reversed(range(T)):
        h = tanh(linear(X[:, t], W) + linear(h, U))
        ys.insert(0, h)
    return {"Y": concat(ys, axis=1)}


def first_step_from_nothing(X=Input(T, N, D), *, W=Param(H, D), U=Param(H, H)):  # type: ignore[no-untyped-def]
    h = None
    for t in range(T):
        z = linear(X[t], W)
        h = tanh(z if h is None else z + linear(h, U))
    return {"h": h}


def first_gate_of_nothing(X=Input(T, N, H), F=Input(T, N, H)):  # type: ignore[no-untyped-def]
    h, gates = None, [F[t] for t in range(T)]
    for t in range(T):
        h = tanh(X[t] if h is None else X[t] + gates[t] * h)
    return {"h": h}


def two_layers(X=Input(T, N, D), *, W=Param(H, D), U=Param(H, H), V=Param(H, H)):  # type: ignore[no-untyped-def]
    a = b = full((N, H), 0.0)
    middle = None
    for t in range(T):
        a = tanh(linear(X[t], W) + linear(a, U))
        b = maximum(linear(a, V), b)
        middle = b if t == 2 else middle
    return {"a": a, "b": b, "middle": middle}


def with_head(X=Input(T, N, D), *, W=Param(H, D), U=Param(H, H), V=Param(2, H)):  # type: ignore[no-untyped-def]
    h, ys = full((N, H), 0.0), []
    for t in range(T):
        h = tanh(linear(X[t], W) + linear(h, U))
        ys.append(sigmoid(linear(h, V)))
    return {"Y": stack(ys)}


def scans_of(graph: Graph) -> list[Scan]:
    return [node.op for node in graph if isinstance(node.op, Scan)]


@pytest.mark.parametrize(
    "function", [lstm_by_hand, backwards, first_step_from_nothing, first_gate_of_nothing, two_layers, with_head]
)
def test_what_a_person_wrote_out_becomes_a_scan_of_all_steps(function: object) -> None:
    graph = Model(function).graph()  # type: ignore[arg-type]
    result = RollUp().run(graph)
    scans = scans_of(result.graph)
    assert result.modified
    assert result.counts == {"scan": len(scans)} != {"scan": 0}
    assert {scan.length for scan in scans} == {T}
    assert [scan.reverse for scan in scans] == [function is backwards] * len(scans)
    single = [node for node in result.graph if isinstance(node.op, Unstack)]  # outputs of single steps
    assert len(single) == (function is two_layers)
    assert not any(isinstance(node.op, Linear) for node in result.graph), "what reads a step is in the scan"
    assert_same_meaning(graph, result.graph)
    assert RollUp().run(result.graph).modified is False


@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_peephole", "indrnn", "mgu", "antisymmetric"])
def test_what_expand_writes_out_becomes_a_scan(name: str) -> None:
    graph = CellModel(load_cell(name)).graph(T=4, N=2, D=3, H=3)
    written = Dead().run(Expand().run(graph).graph).graph
    assert scans_of(written) == []
    rolled = RollUp().run(written).graph
    assert max(scan.length for scan in scans_of(rolled)) >= 3
    assert_same_meaning(written, rolled)


def test_steps_that_differ_two_steps_and_steps_with_a_scan_stay() -> None:
    @model
    def mixed(X=Input(3, N, H), *, U=Param(H, H)):  # type: ignore[no-untyped-def]
        h = tanh(X[0] + linear(X[0], U))
        h = tanh(X[1] + linear(sigmoid(h), U))
        return {"h": tanh(X[2] * linear(h, U))}

    @model
    def twice(X=Input(2, N, H), *, U=Param(H, H)):  # type: ignore[no-untyped-def]
        h = full((N, H), 0.5)
        for t in range(2):
            h = tanh(X[t] + linear(h, U))
        return {"h": h}

    @cell
    def inner(x=Input(N, H), h=State(N, H), *, U=Param(H, H)):  # type: ignore[no-untyped-def]
        h = tanh(x + linear(h, U))
        return h, {"h": h}

    @model
    def scans(X=Input(T, N, H), *, U=Param(H, H)):  # type: ignore[no-untyped-def]
        step, y = inner(), X
        for _ in range(4):
            y = tanh(linear(scan(step, y)[0], U))
        return {"y": y}

    for each in (mixed, twice, scans):
        assert RollUp().run(each.graph()).modified is False


@pytest.mark.parametrize("read", ["nothing", "a result", "a node"])
def test_a_first_step_of_one_row_is_one_of_the_loop_if_nothing_else_reads_it(read: str) -> None:
    @model
    def from_one_row(X=Input(T, N, H), *, U=Param(H, H)):  # type: ignore[no-untyped-def]
        h, first = full((1, H), 0.0), None
        for t in range(T):
            a = sigmoid(linear(h, U))
            first = a if first is None else first
            h = tanh(X[t] + a)
        return {"h": h} | ({} if read == "nothing" else {"a": first if read == "a result" else first * first})

    graph = from_one_row.graph()
    rolled = RollUp().run(graph).graph
    assert [scan.length for scan in scans_of(rolled)] == [T if read == "nothing" else T - 1]
    assert_same_meaning(graph, rolled)


def test_equal_scans_of_several_steps_one_after_the_other_stay() -> None:
    lines = [f"%y{t}, %l{t}: f32[2,2,4], f32[2,4] = scan(%s{t}, %h, %W, length=2) {{{BODY}}}" for t in range(4)]
    sums = [f"%s{t}: f32[2,2,4] = add(%{f'y{t - 1}' if t else 'x'}, %z{t})" for t in range(4)]
    inputs = [f"%{name}: f32[2,2,4] = input()" for name in ("x", "z0", "z1", "z2", "z3")]
    leaves = [*inputs, "%h: f32[2,4] = full()", "%W: f32[4,4] = param()"]
    pairs = [line for pair in zip(sums, lines, strict=True) for line in pair]
    graph = parse_graph("graph net {\n" + "\n".join([*leaves, *pairs, "return y=%y3\n}\n"]))
    assert RollUp().run(graph).modified is False


BODY = """
body step {
  %x: f32[2,4] = arg()
  %h_prev: f32[2,4] = arg(role='state')
  %W: f32[4,4] = arg(role='weight')
  %z: f32[2,4] = linear(%h_prev, %W)
  %h: f32[2,4] = add(%x, %z)
  return %h, next h=%h
}
"""
