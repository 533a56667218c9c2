"""What depends on what, through scans: arguments, states that states depend on, last states."""

from __future__ import annotations

from lstmc.ir import Graph, depending, parse_graph
from lstmc.ops import Tanh

TEXT = """\
graph net {
  %X: f32[3,2] = input()
  %h0: f32[2] = input()
  %c0: f32[2] = input()
  %m0: f32[2] = input()
  %first: f32[2] = tanh(%h0)
  %y, %h_T, %c_T, %m_T: f32[3,2], f32[2], f32[2], f32[2] = scan(%X, %first, %c0, %m0, length=3) {
    body step {
      %x: f32[2] = arg()
      %h: f32[2] = arg(role='state')
      %c: f32[2] = arg(role='state')
      %m: f32[2] = arg(role='state')
      %next_c: f32[2] = add(%c, %h)
      %next_m: f32[2] = add(%m, %x)
      return %next_m, next h=%x, next c=%next_c, next m=%next_m
    }
  }
  return y=%y, h=%h_T, c=%c_T, m=%m_T
}
"""


def names(graph: Graph, kind: type) -> set[str]:
    found = depending(graph, lambda node: isinstance(node.op, kind))
    return {output.name for output in graph.outputs if output.ref in found}


def test_a_state_depends_on_the_states_before_it_and_on_its_first_value() -> None:
    assert names(parse_graph(TEXT), Tanh) == {"h", "c"}


def test_what_starts_inside_a_body_comes_out_of_it() -> None:
    graph = parse_graph(TEXT.replace("add(%m, %x)", "tanh(%x)").replace("tanh(%h0)", "sigmoid(%h0)"))
    assert names(graph, Tanh) == {"y", "m"}


def test_bodies_are_told_before_what_they_stand_in() -> None:
    told: list[str] = []
    depending(parse_graph(TEXT), lambda node: False, lambda graph, found: told.append(graph.name))
    assert told == ["step", "net"]
