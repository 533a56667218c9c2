"""``Rebuild``: what is copied, replaced and left out of a graph, and what its outputs become."""

from __future__ import annotations

import pytest

from lstmc.ir import Output, Rebuild, Ref, parse_graph, print_graph
from lstmc.ops import Relu

GRAPH = parse_graph("""\
graph g {
  %x: f32[2,4] = input()
  %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))
  %t: f32[2,3] = tanh(%b)
  %y: f32[2,3] = mul(%t, %t)
  return y=%y, a=%a
}
""")


def test_a_copy_is_the_same_graph() -> None:
    rebuild = Rebuild(GRAPH)
    for node in GRAPH:
        rebuild.copy(node)
    assert rebuild.finish() == GRAPH


def test_a_value_is_replaced_where_it_is_read() -> None:
    rebuild = Rebuild(GRAPH)
    for node in GRAPH:
        if node.name == "t":
            rebuild.put(node, rebuild.builder.add(Relu(), *rebuild.args(node), names=("r",)))
        else:
            rebuild.copy(node)
    assert (
        print_graph(rebuild.finish([Output("z", Ref("t")), Output("y", Ref("y"))]))
        == """\
graph g {
  %x: f32[2,4] = input()
  %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))
  %r: f32[2,3] = relu(%b)
  %y: f32[2,3] = mul(%r, %r)
  return z=%r, y=%y
}
"""
    )


def test_some_of_a_node_s_values_by_their_positions() -> None:
    rebuild = Rebuild(GRAPH)
    (x,) = rebuild.copy(GRAPH.node("x"))
    rebuild.put(GRAPH.node("a"), {1: x})
    assert rebuild.args(GRAPH.node("t")) == (x,)
    with pytest.raises(KeyError):
        rebuild.finish()  # %a was left out, and is an output
