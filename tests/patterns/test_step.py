"""Ends of LSTM steps, found wherever they stand in a body."""

from __future__ import annotations

import pytest

from lstmc import Input, Param, State, Value, cell, dims, linear, relu, sigmoid, split, tanh
from lstmc.dsl import CellModel
from lstmc.ir import Graph, Ref, Scan, parse_graph
from lstmc.ops import Relu, Sigmoid, Tanh
from lstmc.patterns import CORE_FORMULAS, Equations, LSTMTail, lstm_tails, packed
from lstmc.patterns.equations import Columns, Place, Where

N, D, H = dims("N D H")
Step = tuple[Value, dict[str, Value]]


@cell
def two_ticks(
    x: Value = Input(N, D),
    h: Value = State(N, H),
    c: Value = State(N, H),
    *,
    W: Value = Param(4 * H, D),
    U: Value = Param(4 * H, H),
) -> Step:
    """Two steps of an LSTM in one: the second one's old c is no state."""
    for _ in range(2):
        f, i, g, o = split(linear(x, W) + linear(h, U), 4)
        c = tanh(g) * sigmoid(i) + c * sigmoid(f)
        h = sigmoid(o) * relu(c)
    return h, {"h": h, "c": c}


def body_of(step: object) -> Graph:
    graph = CellModel(step).graph(T=2, N=2, D=3, H=4)  # type: ignore[arg-type]
    (scan,) = [node.op for node in graph if isinstance(node.op, Scan)]
    return scan.body


def orders(body: Graph, tails: list[LSTMTail]) -> list[str]:
    found = []
    for tail in tails:
        parts = packed(body, {name: place for name, (_, place) in tail.gates.items()}, 4)
        assert parts is not None
        found.append("".join(sorted(parts[1], key=parts[1].__getitem__)))
    return found


def test_two_steps_in_one_body() -> None:
    body = body_of(two_ticks)
    tails = list(lstm_tails(Equations(body, CORE_FORMULAS)))
    assert [body.node(tail.h.node).op.name for tail in tails] == ["mul", "mul"]
    assert [tail.activation for tail in tails] == [Relu(), Relu()]
    assert {name: op for name, (op, _) in tails[0].gates.items()} == {
        "i": Sigmoid(),
        "f": Sigmoid(),
        "o": Sigmoid(),
        "g": Tanh(),
    }
    assert [tail.c_prev for tail in tails] == [Ref("c_prev"), tails[0].c]
    assert orders(body, tails) == ["figo", "figo"]


FIRST = """\
graph first {
  %z: f32[2,8] = arg()
  %i, %f, %o, %g: f32[2,2], f32[2,2], f32[2,2], f32[2,2] = split(%z, axis=1, sizes=(2, 2, 2, 2))
  %si: f32[2,2] = sigmoid(%i)
  %tg: f32[2,2] = tanh(%g)
  %c: f32[2,2] = mul(%si, %tg)
  %so: f32[2,2] = sigmoid(%o)
  %tc: f32[2,2] = tanh(%c)
  %h: f32[2,2] = mul(%tc, %so)
  return y=%h
}
"""


def test_a_first_step_from_zero_has_no_forget_gate() -> None:
    body = parse_graph(FIRST)
    (tail,) = lstm_tails(Equations(body, CORE_FORMULAS))
    assert (tail.c, tail.h, tail.c_prev, sorted(tail.gates)) == (Ref("c"), Ref("h"), None, ["g", "i", "o"])
    found = packed(body, {name: place for name, (_, place) in tail.gates.items()}, 4)
    assert found == (Ref("z"), {"i": 0, "g": 3, "o": 2})


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("sigmoid(%i)", "affine(%i, scale=2.0)"),
        ("tanh(%c)", "tanh(%g)"),
        ("mul(%tc, %so)", "add(%tc, %so)"),
        ("mul(%si, %tg)", "add(%si, %tg)"),
    ],
)
def test_what_is_no_tail(line: str, other: str) -> None:
    assert line in FIRST
    assert list(lstm_tails(Equations(parse_graph(FIRST.replace(line, other)), CORE_FORMULAS))) == []


@pytest.mark.parametrize("other", ["sigmoid(%g)", "sigmoid(%f_g)"])
def test_gates_that_are_no_four_parts_of_one_value(other: str) -> None:
    text = FIRST.replace("%so: f32[2,2] = sigmoid(%o)", f"%f_g: f32[2,2] = add(%f, %g)\n  %so: f32[2,2] = {other}")
    body = parse_graph(text)
    (tail,) = lstm_tails(Equations(body, CORE_FORMULAS))
    assert packed(body, {name: place for name, (_, place) in tail.gates.items()}, 4) is None


@pytest.mark.parametrize(
    ("where", "columns", "wanted"),
    [("step", (0, 2), {"i": 0, "f": 2}), ("outside", (0, 2), None), ("sequence", (0, 2), None), ("step", None, None)],
)
def test_parts_are_columns_of_one_value_of_the_step(
    where: Where, columns: Columns, wanted: dict[str, int] | None
) -> None:
    body = parse_graph("graph g {\n  %x: f32[3,8] = input()\n  return y=%x\n}\n")
    places = {"i": Place(Ref("x"), columns, where), "f": Place(Ref("x"), (4, 6))}
    assert packed(body, places, 4) == (wanted and (Ref("x"), wanted))
