"""``hoist``: text before, text after, and the same meaning."""

from __future__ import annotations

from lstmc.ir import Scan, parse_graph, print_graph, verify
from lstmc.ops import Binary, Leaf, Linear, Pointwise
from lstmc.passes import Hoist
from lstmc.testing import assert_same_meaning

BEFORE = """\
graph net {
  %X: f32[3,2,4] = input()
  %S: f32[2,4] = input()
  %h0: f32[2,5] = input()
  %W: f32[5,4] = param()
  %Y, %G, %h_T: f32[3,2,5], f32[3,2,4], f32[2,5] = scan(%X, %h0, %S, %W, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %s: f32[2,4] = arg(role='static')
      %W: f32[5,4] = arg(role='weight')
      %g: f32[2,4] = tanh(%x)
      %k: f32[2,5] = linear(%s, %W)
      %z: f32[2,5] = linear(%g, %W)
      %a: f32[2,5] = add(%z, %k)
      %h: f32[2,5] = mul(%a, %h_prev)
      return h=%h, g=%g, next h=%h
    }
  }
  return Y=%Y, G=%G, h_T=%h_T
}
"""

AFTER = """\
graph net {
  %X: f32[3,2,4] = input()
  %S: f32[2,4] = input()
  %h0: f32[2,5] = input()
  %W: f32[5,4] = param()
  %G: f32[3,2,4] = tanh(%X)
  %step/k: f32[2,5] = linear(%S, %W)
  %step/z: f32[3,2,5] = linear(%G, %W, axis=2)
  %step/a: f32[3,2,5] = add(%step/z, %step/k)
  %Y, %h_T: f32[3,2,5], f32[2,5] = scan(%X, %h0, %S, %W, %step/a, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %s: f32[2,4] = arg(role='static')
      %W: f32[5,4] = arg(role='weight')
      %a: f32[2,5] = arg()
      %h: f32[2,5] = mul(%a, %h_prev)
      return h=%h, next h=%h
    }
  }
  return Y=%Y, G=%G, h_T=%h_T
}
"""


def test_hoist_before_and_after() -> None:
    before = parse_graph(BEFORE)
    found = Hoist().run(before)
    assert print_graph(found.graph) == AFTER
    assert found.counts == {"hoist_node": 4, "hoist_output": 1}
    verify(found.graph)
    assert_same_meaning(before, found.graph)


def test_hoist_again_changes_nothing() -> None:
    again = Hoist().run(parse_graph(AFTER))
    assert not again.modified
    assert print_graph(again.graph) == AFTER


STATELESS = """\
graph net {
  %X: f32[3,2,4] = input()
  %Y: f32[3,2,4] = scan(%X, length=3, reverse=True) {
    body step {
      %x: f32[2,4] = arg()
      %y: f32[2,4] = exp(%x)
      return y=%y
    }
  }
  return Y=%Y
}
"""


def test_a_scan_that_has_no_state_is_gone() -> None:
    before = parse_graph(STATELESS)
    after = Hoist().run(before).graph
    assert [node.op.name for node in after] == ["input", "exp"]
    assert_same_meaning(before, after)


# the step's [4] and [2, 4] become [3, 4] and [3, 2, 4], which do not line up
MISALIGNED = """\
graph net {
  %X: f32[3,2,4] = input()
  %V: f32[3,4] = input()
  %h0: f32[2,4] = input()
  %h_T: f32[2,4] = scan(%X, %V, %h0, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %v: f32[4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %t: f32[2,4] = tanh(%x)
      %a: f32[2,4] = add(%t, %v)
      %h: f32[2,4] = mul(%a, %h_prev)
      return next h=%h
    }
  }
  return h_T=%h_T
}
"""


def test_what_would_broadcast_otherwise_stays_in_the_body() -> None:
    before = parse_graph(MISALIGNED)
    found = Hoist().run(before)
    assert found.counts == {"hoist_node": 1}
    assert "add(%t, %v)" in print_graph(found.graph)
    assert_same_meaning(before, found.graph)


OF_WEIGHTS = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %U: f32[8,4] = param()
  %h_T: f32[2,4] = scan(%X, %h0, %U, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %U: f32[8,4] = arg(role='weight')
      %U_i, %U_o: f32[4,4], f32[4,4] = split(%U, axis=0, sizes=(4, 4))
      %z: f32[2,4] = linear(%h_prev, %U_i)
      %w: f32[2,4] = linear(%z, %U_o)
      %h: f32[2,4] = add(%x, %w)
      return next h=%h
    }
  }
  return h_T=%h_T
}
"""


def test_a_weight_that_is_cut_in_the_body_is_cut_before_it_and_enters_as_weights() -> None:
    before = parse_graph(OF_WEIGHTS)
    after = Hoist().run(before).graph
    verify(after)
    text = print_graph(after)
    assert "%step/U_i, %step/U_o: f32[4,4], f32[4,4] = split(%U, axis=0, sizes=(4, 4))" in text
    assert "%U_i: f32[4,4] = arg(role='weight')" in text
    assert "%U_o: f32[4,4] = arg(role='weight')" in text
    assert_same_meaning(before, after)


APART = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %W: f32[4,4] = param()
  %V: f32[4,4] = param()
  %Y, %h_T: f32[3,2,4], f32[2,4] = scan(%X, %h0, %W, %V, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %W: f32[4,4] = arg(role='weight')
      %V: f32[4,4] = arg(role='weight')
      %r: f32[2,4] = relu(%x)
      %first: f32[2,4] = linear(%r, %W)
      %second: f32[2,4] = linear(%first, %V)
      %t: f32[2,4] = tanh(%r)
      %a: f32[2,4] = add(%second, %t)
      %b: f32[2,4] = add(%first, %a)
      %h: f32[2,4] = mul(%b, %h_prev)
      return h=%h, next h=%h
    }
  }
  return Y=%Y, h_T=%h_T
}
"""


def test_of_what_is_light_or_apart_only_what_a_product_needs_leaves() -> None:
    before = parse_graph(APART)
    hoist = Hoist(apart=(Linear,), light=(Pointwise, Binary))
    after = hoist.run(before).graph
    verify(after)
    assert_same_meaning(before, after)
    assert [node.op.name for node in after if not isinstance(node.op, Leaf)] == ["relu", "linear", "scan"]
    (scan,) = [node for node in after if isinstance(node.op, Scan)]
    assert isinstance(scan.op, Scan)
    body = scan.op.body
    (product,) = [node for node in body if isinstance(node.op, Linear)]
    own = body.args(product.name)[0]
    assert sum(own in body.args(node.name) for node in body) == 1  # what others read of it is another argument
    assert not hoist.run(after).modified
