"""``distribute``: one scan becomes two where products read states that need no others."""

from __future__ import annotations

import pytest

import lstmc
from lstmc.backend import load_cell
from lstmc.dsl import CellModel
from lstmc.ir import Graph, Scan, parse_graph, print_graph
from lstmc.ops import Linear
from lstmc.passes import Sink, distribute
from lstmc.pipeline import LOOP_PASSES
from lstmc.testing import check_pass_on
from tests.random_models.models import seeded_model

BEFORE = """\
graph net {
  %X: f32[3,2,4] = input()
  %p0: f32[2,4] = input()
  %h0: f32[2,4] = input()
  %W: f32[4,4] = param()
  %Y, %h_T, %p_T: f32[3,2,4], f32[2,4], f32[2,4] = scan(%X, %h0, %p0, %W, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %p_prev: f32[2,4] = arg(role='state')
      %W: f32[4,4] = arg(role='weight')
      %m: f32[2,4] = sub(%p_prev, %x)
      %a: f32[2,4] = linear(%m, %W)
      %h: f32[2,4] = mul(%a, %h_prev)
      return %h, next h=%h, next p=%x
    }
  }
  return Y=%Y, h_T=%h_T, p_T=%p_T
}
"""

AFTER = """\
graph net {
  %X: f32[3,2,4] = input()
  %p0: f32[2,4] = input()
  %h0: f32[2,4] = input()
  %W: f32[4,4] = param()
  %step/p_prev, %p_T: f32[3,2,4], f32[2,4] = scan(%X, %p0, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %p_prev: f32[2,4] = arg(role='state')
      return p_prev=%p_prev, next p=%x
    }
  }
  %Y, %h_T: f32[3,2,4], f32[2,4] = scan(%X, %h0, %step/p_prev, %W, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %p_prev: f32[2,4] = arg()
      %W: f32[4,4] = arg(role='weight')
      %m: f32[2,4] = sub(%p_prev, %x)
      %a: f32[2,4] = linear(%m, %W)
      %h: f32[2,4] = mul(%a, %h_prev)
      return %h, next h=%h
    }
  }
  return Y=%Y, h_T=%h_T, p_T=%p_T
}
"""


def test_before_and_after() -> None:
    before = parse_graph(BEFORE)
    found = distribute.run(before)
    assert print_graph(found.graph) == AFTER
    assert found.counts == {"distribute": 1}
    check_pass_on(distribute, before)
    assert not distribute.run(found.graph).modified


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("next p=%x", "next p=%a"),  # the product is of the state itself
        ("next p=%x", "next p=%h"),  # the states need each other
        ("linear(%m, %W)", "mul(%m, %m)"),  # no product
        ("sub(%p_prev, %x)", "sub(%p_prev, %h_prev)"),  # it reads the other state too
        ("%W: f32[4,4]", "%W: f32[1,4]"),  # more would be kept than the product is
    ],
)
def test_nothing_is_gained(old: str, new: str) -> None:
    assert old in BEFORE
    text = BEFORE.replace(old, new)
    if "[1,4]" in new:
        text = text.replace("%a: f32[2,4]", "%a: f32[2,1]")
    assert not distribute.run(parse_graph(text)).modified


def test_what_crosses_is_the_next_state_and_an_output() -> None:
    """Also backwards in time, with values that both scans compute."""
    text = BEFORE.replace("length=3", "length=3, reverse=True").replace("next p=%x", "next p=%q")
    text = text.replace(
        "%m: f32[2,4] = sub(%p_prev, %x)",
        "%s: f32[2,4] = tanh(%x)\n%q: f32[2,4] = mul(%s, %p_prev)\n%m: f32[2,4] = add(%q, %s)",
    ).replace("return %h, next", "return y=%h, q=%q, next")
    text = text.replace("%Y, %h_T, %p_T: f32[3,2,4]", "%Y, %Q, %h_T, %p_T: f32[3,2,4], f32[3,2,4]")
    text = text.replace("return Y=%Y", "return Y=%Y, Q=%Q")
    before = parse_graph(text)
    assert check_pass_on(distribute, before)


def loops(graph: Graph) -> Graph:
    for each in LOOP_PASSES:
        graph = each.run(graph).graph
    return graph


def in_loop(graph: Graph) -> list[str]:
    """The products of a graph's scans that read a state, and the outputs of scans with more than two axes."""
    found = []
    for node in graph:
        if isinstance(node.op, Scan):
            body = node.op.body
            states = {arg.name for i, arg in enumerate(body.body_args()) if node.op.role(i) == "state"}
            found += [n.name for n in body if n.name in body.dependents(states) and isinstance(n.op, Linear)]
            found += [o.name for o in node.op.step_outputs if body.type(o.ref).rank > 2]
    return found


@pytest.mark.parametrize("cell", ["rwkv6", "rwkv7"])
def test_products_of_the_input_before_and_reads_of_a_matrix(cell: str) -> None:
    """The products leave the loop, and what reads the matrix stays in it: no matrix of each step is an output."""
    made = CellModel(load_cell(cell))
    graph = made.graph(**{name: {"D": 8, "G": 2}.get(name, 4) for name in made.dims})
    assert in_loop(loops(graph)) == []


def test_random_models_mean_the_same() -> None:
    """Models of cells with several states."""
    changed = 0
    for seed in range(12):
        graph = seeded_model(seed).graph()
        changed += distribute.run(graph).modified
        check_pass_on(distribute, graph)
    assert changed


def test_two_layers_in_one_cell() -> None:
    """The second one's product with the first one's state is one product for all steps."""

    @lstmc.cell
    def two(
        x=lstmc.Input(2, 3),
        g=lstmc.State(2, 4),
        h=lstmc.State(2, 4),
        *,
        W=lstmc.Param(4, 3, fill=lstmc.xavier()),
        U=lstmc.Param(4, 4, fill=lstmc.xavier()),
        V=lstmc.Param(4, 4, fill=lstmc.xavier()),
        R=lstmc.Param(4, 4, fill=lstmc.xavier()),
    ):
        g = lstmc.tanh(lstmc.linear(x, W) + lstmc.linear(g, U))
        h = lstmc.tanh(lstmc.linear(g, V) + lstmc.linear(h, R))
        return h, {"g": g, "h": h}

    @lstmc.model
    def net(X=lstmc.Input(5, 2, 3)):
        return {"y": lstmc.scan(two(), X)[0]}

    graph = net.graph()
    check_pass_on(distribute, graph)
    scans = [node.op for node in loops(graph) if isinstance(node.op, Scan)]
    assert [scan.states for scan in scans] == [1, 1]
    assert len(in_loop(loops(graph))) == 2
    assert not Sink().run(graph).modified
