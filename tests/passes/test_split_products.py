"""``split_products`` and ``roll_in``: text before, text after, and the same meaning."""

from __future__ import annotations

import pytest

from lstmc.ir import Scan, parse_graph, print_graph, verify
from lstmc.ops import Leaf
from lstmc.passes import Dead, roll_in, split_products
from lstmc.testing import assert_same_meaning

PACKED = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,5] = input()
  %W: f32[10,4] = param()
  %b: f32[10] = param()
  %p: f32[10] = param()
  %h_T: f32[2,5] = scan(%X, %h0, %W, %b, %p, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W: f32[10,4] = arg(role='weight')
      %b: f32[10] = arg(role='weight')
      %p: f32[10] = arg(role='weight')
      %z: f32[2,10] = linear(%x, %W, %b)
      %y: f32[2,10] = mul(%z, %p)
      %t: f32[2,10] = tanh(%y)
      %i, %g: f32[2,5], f32[2,5] = split(%t, axis=1, sizes=(5, 5))
      %c: f32[2,5] = mul(%i, %h_prev)
      %h: f32[2,5] = add(%c, %g)
      return next h=%h
    }
  }
  return h_T=%h_T
}
"""

PIECES = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,5] = input()
  %W: f32[10,4] = param()
  %b: f32[10] = param()
  %p: f32[10] = param()
  %step/W/0, %step/W/1: f32[5,4], f32[5,4] = split(%W, axis=0, sizes=(5, 5))
  %step/b/0, %step/b/1: f32[5], f32[5] = split(%b, axis=0, sizes=(5, 5))
  %step/p/0, %step/p/1: f32[5], f32[5] = split(%p, axis=0, sizes=(5, 5))
  %h_T: f32[2,5] = scan(%X, %h0, %step/W/0, %step/b/0, %step/W/1, %step/b/1, %step/p/0, %step/p/1, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W/0: f32[5,4] = arg(role='weight')
      %b/0: f32[5] = arg(role='weight')
      %i/y/z: f32[2,5] = linear(%x, %W/0, %b/0)
      %W/1: f32[5,4] = arg(role='weight')
      %b/1: f32[5] = arg(role='weight')
      %g/y/z: f32[2,5] = linear(%x, %W/1, %b/1)
      %p/0: f32[5] = arg(role='weight')
      %i/y: f32[2,5] = mul(%i/y/z, %p/0)
      %p/1: f32[5] = arg(role='weight')
      %g/y: f32[2,5] = mul(%g/y/z, %p/1)
      %i: f32[2,5] = tanh(%i/y)
      %g: f32[2,5] = tanh(%g/y)
      %c: f32[2,5] = mul(%i, %h_prev)
      %h: f32[2,5] = add(%c, %g)
      return next h=%h
    }
  }
  return h_T=%h_T
}
"""


def test_per_piece_before_and_after() -> None:
    before = parse_graph(PACKED)
    made = split_products.run(before)
    after = Dead().run(made.graph).graph
    assert print_graph(after) == PIECES
    assert made.counts == {"linear_per_piece": 1, "function_per_piece": 2}
    verify(after)
    assert_same_meaning(before, after)
    assert not split_products.run(after).modified


def test_an_operand_that_is_the_same_for_all_pieces_is_read_by_each() -> None:
    before = parse_graph("""\
graph net {
  %x: f32[1,4] = input()
  %p: f32[1,1] = param()
  %s: f32[1,4] = add(%x, %p)
  %a, %b: f32[1,2], f32[1,2] = split(%s, axis=1, sizes=(2, 2))
  return a=%a, b=%b
}
""")
    after = split_products.run(before).graph
    assert [node.op.name for node in after] == ["input", "param", "add", "split", "add", "add"]
    assert_same_meaning(before, after)


def test_nothing_is_cut_for_a_split_that_stays() -> None:
    before = parse_graph("""\
graph net {
  %x: f32[1,4] = input()
  %p: f32[1,4] = param()
  %s: f32[1,4] = add(%x, %p)
  %a, %b: f32[1,2], f32[1,2] = split(%s, axis=1, sizes=(2, 2))
  return a=%a, b=%b
}
""")
    assert not split_products.run(before).modified


@pytest.mark.parametrize("of", ["%c", "%w"])
def test_a_product_with_a_bias_or_a_matrix_that_is_an_input_stays(of: str) -> None:
    text = """\
graph net {
  %x: f32[2,3] = input()
  %c: f32[4] = input()
  %w: f32[4,3] = input()
  %W: f32[4,3] = param()
  %b: f32[4] = param()
  %y: f32[2,4] = linear(%x, %W, %b)
  %p, %q: f32[2,2], f32[2,2] = split(%y, axis=1, sizes=(2, 2))
  return p=%p, q=%q
}
"""
    assert split_products.run(parse_graph(text)).counts["linear_per_piece"] == 1
    computed = text.replace("%b)", "%c)") if of == "%c" else text.replace("%x, %W", "%x, %w")
    assert not split_products.run(parse_graph(computed)).modified


def test_a_split_of_what_cannot_be_cut_stays() -> None:
    text = """\
graph net {
  %X: f32[2,4] = input()
  %a, %b: f32[2,2], f32[2,2] = split(%X, axis=1, sizes=(2, 2))
  %y: f32[2,2] = mul(%a, %b)
  return y=%y
}
"""
    assert not split_products.run(parse_graph(text)).modified


OUTSIDE = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %W: f32[5,4] = param()
  %Y: f32[3,2,4] = scan(%X, %h0, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %h: f32[2,4] = add(%x, %h_prev)
      return h=%h, next h=%h
    }
  }
  %Z: f32[3,2,5] = linear(%Y, %W, axis=2)
  return Z=%Z
}
"""

INSIDE = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %W: f32[5,4] = param()
  %Y, %h_T: f32[3,2,4], f32[2,4] = scan(%X, %h0, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %h: f32[2,4] = add(%x, %h_prev)
      return h=%h, next h=%h
    }
  }
  %Z: f32[3,2,5] = scan(%Y, %W, length=3) {
    body Z {
      %x0: f32[2,4] = arg()
      %x1: f32[5,4] = arg(role='weight')
      %Z: f32[2,5] = linear(%x0, %x1)
      return Z=%Z
    }
  }
  return Z=%Z
}
"""


def test_in_loop_before_and_after() -> None:
    before = parse_graph(OUTSIDE.replace("%Y: f32[3,2,4] =", "%Y, %h_T: f32[3,2,4], f32[2,4] ="))
    made = roll_in.run(before)
    assert print_graph(made.graph) == INSIDE
    assert made.counts == {"op_to_scan": 1}
    verify(made.graph)
    assert_same_meaning(before, made.graph)
    assert not roll_in.run(made.graph).modified


SEQUENCES = """\
graph net {
  %X: f32[3,2,4] = input()
  %I: f32[3,2] = input(values=integers(0, 4))
  %P: f32[3,2,1,2,2] = input()
  %h0: f32[2,4] = input()
  %W: f32[5,4] = param()
  %F: f32[2,1,1,1] = param()
  %Y, %K, %Q, %h_T: f32[3,2,4], f32[3,2], f32[3,2,1,2,2], f32[2,4] = scan(%X, %I, %P, %h0, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %i: f32[2] = arg()
      %p: f32[2,1,2,2] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %h: f32[2,4] = add(%x, %h_prev)
      return h=%h, i=%i, p=%p, next h=%h
    }
  }
  %E: f32[3,2,4] = embed(%K, %W)
  %C: f32[3,2,2,2,2] = conv(%Q, %F)
  %M: f32[3,2,2,1,2] = max_pool(%C, size=(2, 1))
  %A: f32[3,2,2,2,1] = ave_pool(%C, size=(1, 2))
  %D: f32[3,2,4] = dropout(%Y, ratio=0.5)
  %S: f32[3,2] = sum(%Y, axis=2)
  %N: f32[2,4] = sum(%Y, axis=0)
  return E=%E, M=%M, A=%A, D=%D, S=%S, N=%N
}
"""


def test_every_op_that_has_a_step_goes_into_a_loop() -> None:
    before = parse_graph(SEQUENCES)
    made = roll_in.run(before)
    assert made.counts == {"op_to_scan": 6}
    outside = {node.op.name for node in made.graph if not isinstance(node.op, Leaf | Scan)}
    assert outside == {"sum"}  # the one over time
    verify(made.graph)
    assert_same_meaning(before, made.graph)
