"""``fuse_horizontal``: text before, text after, and the same meaning."""

from __future__ import annotations

from lstmc.ir import parse_graph, print_graph, verify
from lstmc.passes import fuse_horizontal
from lstmc.passes.base import joined_name
from lstmc.testing import assert_same_meaning

BEFORE = """\
graph net {
  %X: f32[2,8] = input()
  %Z: f32[2,8] = input()
  %i, %f, %o, %g: f32[2,2], f32[2,2], f32[2,2], f32[2,2] = split(%X, axis=1, sizes=(2, 2, 2, 2))
  %hi, %hf, %ho, %hg: f32[2,2], f32[2,2], f32[2,2], f32[2,2] = split(%Z, axis=1, sizes=(2, 2, 2, 2))
  %ai: f32[2,2] = add(%i, %hi)
  %af: f32[2,2] = add(%f, %hf)
  %ao: f32[2,2] = add(%o, %ho)
  %ag: f32[2,2] = add(%g, %hg)
  %si: f32[2,2] = sigmoid(%ai)
  %sf: f32[2,2] = sigmoid(%af)
  %so: f32[2,2] = sigmoid(%ao)
  %tg: f32[2,2] = tanh(%ag)
  return i=%si, f=%sf, o=%so, g=%tg
}
"""

AFTER = """\
graph net {
  %X: f32[2,8] = input()
  %Z: f32[2,8] = input()
  %ai_af_ao_ag: f32[2,8] = add(%X, %Z)
  %ai_af_ao, %ag: f32[2,6], f32[2,2] = split(%ai_af_ao_ag, axis=1, sizes=(6, 2))
  %si_sf_so: f32[2,6] = sigmoid(%ai_af_ao)
  %si, %sf, %so: f32[2,2], f32[2,2], f32[2,2] = split(%si_sf_so, axis=1, sizes=(2, 2, 2))
  %tg: f32[2,2] = tanh(%ag)
  return i=%si, f=%sf, o=%so, g=%tg
}
"""


def test_widen_before_and_after() -> None:
    before = parse_graph(BEFORE)
    found = fuse_horizontal.run(before)
    assert print_graph(found.graph) == AFTER
    assert found.counts == {"widen_binary": 1, "widen_function": 1}
    verify(found.graph)
    assert_same_meaning(before, found.graph)


def test_the_name_of_what_is_packed_has_common_first_words_once() -> None:
    assert joined_name(["i", "f", "o"]) == "i_f_o"
    assert joined_name(["sigmoid_i", "sigmoid_f", "sigmoid_o"]) == "sigmoid_i_f_o"
    assert joined_name(["W", "W_a"]) == "W_W_a"
    assert joined_name(["a_gate_x", "a_gate_y", "a_z"]) == "a_gate_x_gate_y_z"
    assert joined_name(["a_longer_name", "some_other_name"]) == "a_longer_name_to_some_other_name"


def test_widen_again_changes_nothing() -> None:
    again = fuse_horizontal.run(parse_graph(AFTER))
    assert not again.modified
    assert print_graph(again.graph) == AFTER


def test_pieces_with_another_reader_are_left_alone() -> None:
    text = BEFORE.replace("return i=%si", "return first=%i, i=%si").replace(", g=%tg", "")
    found = fuse_horizontal.run(parse_graph(text))
    assert "add(%f_o_g, %hf_ho_hg)" in print_graph(found.graph)
    assert_same_meaning(parse_graph(text), found.graph)


def test_pieces_in_another_order_are_left_alone() -> None:
    text = BEFORE.replace("add(%i, %hi)", "add(%i, %hg)").replace("add(%g, %hg)", "add(%g, %hi)")
    found = fuse_horizontal.run(parse_graph(text))
    assert "add(%f_o, %hf_ho)" in print_graph(found.graph)
    assert_same_meaning(parse_graph(text), found.graph)
