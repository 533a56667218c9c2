"""Weights that are made of parameters: what counts as one, and the sub-graph that computes them."""

from __future__ import annotations

import pytest

from lstmc.ir import Ref, is_weight, parse_graph, print_graph, twice_stored, weight_graph

GRAPH = parse_graph("""\
graph g {
  %x: f32[2,3] = input()
  %W: f32[4,3] = param()
  %V: f32[4,3] = param()
  %packed: f32[8,3] = concat(%W, %V, axis=0)
  %upper, %lower: f32[2,3], f32[6,3] = split(%packed, axis=0, sizes=(2, 6))
  %negated: f32[6,3] = affine(%lower, scale=-1.0)
  %flat: f32[18] = reshape(%negated, shape=(18,))
  %turned: f32[3,4] = transpose(%V, axis=0)
  %doubled: f32[4,3] = affine(%W, scale=2.0)
  %shifted: f32[4,3] = affine(%W, scale=-1.0, shift=1.0)
  %mixed: f32[6,3] = concat(%x, %W, axis=0)
  %bounded: f32[4,3] = tanh(%W)
  %again: f32[8,3] = concat(%bounded, %V, axis=0)
  return
}
""")


@pytest.mark.parametrize("name", ["W", "packed", "upper", "negated", "flat", "turned"])
def test_parameters_moved_or_negated_are_weights(name: str) -> None:
    assert is_weight(GRAPH, Ref(name))


@pytest.mark.parametrize("name", ["x", "doubled", "shifted", "mixed", "bounded", "again"])
def test_what_is_computed_otherwise_is_no_weight(name: str) -> None:
    assert not is_weight(GRAPH, Ref(name))


def test_an_argument_is_a_weight_by_its_role() -> None:
    for role, expected in (("weight", True), ("static", False), ("state", False), ("x", False)):
        body = parse_graph(
            f"graph b {{\n%a: f32[2] = arg(role='{role}')\n%n: f32[2] = affine(%a, scale=-1.0)\nreturn\n}}"
        )
        assert is_weight(body, Ref("a")) == is_weight(body, Ref("n")) == expected


def test_a_weight_graph_has_what_the_blobs_need_and_no_more() -> None:
    found = weight_graph(GRAPH, [Ref("flat"), Ref("W"), Ref("flat")])
    assert (
        print_graph(found)
        == """\
graph g {
  %W: f32[4,3] = param()
  %V: f32[4,3] = param()
  %packed: f32[8,3] = concat(%W, %V, axis=0)
  %upper, %lower: f32[2,3], f32[6,3] = split(%packed, axis=0, sizes=(2, 6))
  %negated: f32[6,3] = affine(%lower, scale=-1.0)
  %flat: f32[18] = reshape(%negated, shape=(18,))
  return flat=%flat, W=%W
}
"""
    )


def test_values_in_two_blobs_are_named() -> None:
    assert twice_stored(weight_graph(GRAPH, [Ref("flat"), Ref("W")])) == ["W"]
    assert twice_stored(weight_graph(GRAPH, [Ref("upper"), Ref("flat")])) == []
    assert twice_stored(weight_graph(GRAPH, [Ref("packed"), Ref("upper"), Ref("negated")])) == ["packed"]
