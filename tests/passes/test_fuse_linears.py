"""``fuse_linears``: text before, text after, and the same meaning."""

from __future__ import annotations

from lstmc.ir import parse_graph, print_graph, verify
from lstmc.passes import fuse_linears
from lstmc.testing import assert_same_meaning

BEFORE = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,5] = input()
  %W_a: f32[5,4] = param()
  %W_b: f32[5,4] = param()
  %U_a: f32[5,5] = param()
  %U_b: f32[5,5] = param()
  %b_b: f32[5] = param(lr_mult=2.0)
  %h_T: f32[2,5] = scan(%X, %h0, %W_a, %W_b, %U_a, %U_b, %b_b, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W_a: f32[5,4] = arg(role='weight')
      %W_b: f32[5,4] = arg(role='weight')
      %U_a: f32[5,5] = arg(role='weight')
      %U_b: f32[5,5] = arg(role='weight')
      %b_b: f32[5] = arg(role='weight')
      %x_a: f32[2,5] = linear(%x, %W_a)
      %h_a: f32[2,5] = linear(%h_prev, %U_a)
      %a: f32[2,5] = add(%x_a, %h_a)
      %x_b: f32[2,5] = linear(%x, %W_b)
      %h_b: f32[2,5] = linear(%h_prev, %U_b, %b_b)
      %b: f32[2,5] = add(%h_b, %x_b)
      %h: f32[2,5] = mul(%a, %b)
      return next h=%h
    }
  }
  return h_T=%h_T
}
"""

AFTER = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,5] = input()
  %W_a: f32[5,4] = param()
  %W_b: f32[5,4] = param()
  %U_a: f32[5,5] = param()
  %U_b: f32[5,5] = param()
  %b_b: f32[5] = param(lr_mult=2.0)
  %step/W_a_b: f32[10,4] = concat(%W_a, %W_b, axis=0)
  %step/U_a_b: f32[10,5] = concat(%U_a, %U_b, axis=0)
  %h_T: f32[2,5] = scan(%X, %h0, %W_a, %W_b, %U_a, %U_b, %b_b, %step/W_a_b, %step/U_a_b, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W_a: f32[5,4] = arg(role='weight')
      %W_b: f32[5,4] = arg(role='weight')
      %U_a: f32[5,5] = arg(role='weight')
      %U_b: f32[5,5] = arg(role='weight')
      %b_b: f32[5] = arg(role='weight')
      %W_a_b: f32[10,4] = arg(role='weight')
      %x_a_b: f32[2,10] = linear(%x, %W_a_b)
      %x_a, %x_b: f32[2,5], f32[2,5] = split(%x_a_b, axis=1, sizes=(5, 5))
      %U_a_b: f32[10,5] = arg(role='weight')
      %h_a_b: f32[2,10] = linear(%h_prev, %U_a_b)
      %h_a, %h_b: f32[2,5], f32[2,5] = split(%h_a_b, axis=1, sizes=(5, 5))
      %a: f32[2,5] = add(%x_a, %h_a)
      %b_bias: f32[2,5] = add(%x_b, %b_b)
      %b: f32[2,5] = add(%b_bias, %h_b)
      %h: f32[2,5] = mul(%a, %b)
      return next h=%h
    }
  }
  return h_T=%h_T
}
"""


def test_fuse_linears_before_and_after() -> None:
    before = parse_graph(BEFORE)
    found = fuse_linears.run(before)
    assert print_graph(found.graph) == AFTER
    assert found.counts == {"move_bias": 1, "fuse_linears": 2}
    verify(found.graph)
    assert_same_meaning(before, found.graph)


def test_fuse_linears_again_changes_nothing() -> None:
    again = fuse_linears.run(parse_graph(AFTER))
    assert not again.modified
    assert print_graph(again.graph) == AFTER


def test_parameters_that_are_used_elsewhere_are_not_packed() -> None:
    text = BEFORE.replace("return h_T=%h_T", "return h_T=%h_T, W=%W_a")
    found = fuse_linears.run(parse_graph(text))
    assert found.counts["fuse_linears"] == 1  # the products with h_prev alone


def test_parameters_of_another_learning_rate_are_not_packed() -> None:
    text = BEFORE.replace("%W_a: f32[5,4] = param()", "%W_a: f32[5,4] = param(lr_mult=3.0)")
    found = fuse_linears.run(parse_graph(text))
    assert found.counts["fuse_linears"] == 1
    assert_same_meaning(parse_graph(text), found.graph)


def test_a_bias_that_only_the_state_meets_stays() -> None:
    text = BEFORE.replace("add(%h_b, %x_b)", "mul(%h_b, %x_b)")
    found = fuse_linears.run(parse_graph(text))
    assert "move_bias" not in found.counts
    assert_same_meaning(parse_graph(text), found.graph)


def test_a_parameter_that_stands_behind_the_first_linear_is_put_before_it() -> None:
    before = parse_graph("""\
graph net {
  %X: f32[2,4] = input()
  %V: f32[3,4] = param()
  %v: f32[2,3] = linear(%X, %V)
  %W: f32[5,4] = param()
  %w: f32[2,5] = linear(%X, %W)
  return v=%v, w=%w
}
""")
    result = fuse_linears.run(before)
    assert (
        print_graph(result.graph)
        == """\
graph net {
  %V: f32[3,4] = param()
  %W: f32[5,4] = param()
  %X: f32[2,4] = input()
  %V_W: f32[8,4] = concat(%V, %W, axis=0)
  %v_w: f32[2,8] = linear(%X, %V_W)
  %v, %w: f32[2,3], f32[2,5] = split(%v_w, axis=1, sizes=(3, 5))
  return v=%v, w=%w
}
"""
    )
    assert_same_meaning(before, result.graph)


def test_products_whose_bias_is_read_elsewhere_are_not_packed() -> None:
    text = """\
graph net {
  %X: f32[2,4] = input()
  %V: f32[3,4] = param()
  %W: f32[3,4] = param()
  %p: f32[3] = param()
  %q: f32[3] = param()
  %v: f32[2,3] = linear(%X, %V, %p)
  %w: f32[2,3] = linear(%X, %W, %q)
  return v=%v, w=%w
}
"""
    assert fuse_linears.run(parse_graph(text)).counts == {"fuse_linears": 1}
    assert not fuse_linears.run(parse_graph(text.replace("w=%w", "w=%w, q=%q"))).modified
