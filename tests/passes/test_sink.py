"""``sink``: text before, text after, and the same meaning."""

from __future__ import annotations

from lstmc.ir import Scan, parse_graph, print_graph, verify
from lstmc.ops import Binary, Concat, Pointwise, Split
from lstmc.passes import Sink
from lstmc.testing import assert_same_meaning

BEFORE = """\
graph net {
  %X: f32[3,2,5] = input()
  %h0: f32[2,5] = input()
  %V: f32[4,5] = param()
  %Y, %h_T: f32[3,2,4], f32[2,5] = scan(%X, %h0, %V, length=3) {
    body step {
      %x: f32[2,5] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %V: f32[4,5] = arg(role='weight')
      %h: f32[2,5] = add(%x, %h_prev)
      %t: f32[2,5] = mul(%h, %x)
      %o: f32[2,4] = linear(%t, %V)
      return %o, next h=%h
    }
  }
  return Y=%Y, h_T=%h_T
}
"""

AFTER = """\
graph net {
  %X: f32[3,2,5] = input()
  %h0: f32[2,5] = input()
  %V: f32[4,5] = param()
  %step/h, %h_T: f32[3,2,5], f32[2,5] = scan(%X, %h0, %V, length=3) {
    body step {
      %x: f32[2,5] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %V: f32[4,5] = arg(role='weight')
      %h: f32[2,5] = add(%x, %h_prev)
      return h=%h, next h=%h
    }
  }
  %step/t: f32[3,2,5] = mul(%step/h, %X)
  %Y: f32[3,2,4] = linear(%step/t, %V, axis=2)
  return Y=%Y, h_T=%h_T
}
"""


def test_sink_before_and_after() -> None:
    before = parse_graph(BEFORE)
    found = Sink().run(before)
    assert print_graph(found.graph) == AFTER
    assert found.counts == {"sink_node": 2, "sink_output": 1}
    verify(found.graph)
    assert_same_meaning(before, found.graph)


def test_sink_again_changes_nothing() -> None:
    again = Sink().run(parse_graph(AFTER))
    assert not again.modified
    assert print_graph(again.graph) == AFTER


def test_a_value_that_feeds_a_state_stays() -> None:
    text = BEFORE.replace("next h=%h", "next h=%t")
    found = Sink().run(parse_graph(text))
    assert found.counts == {"sink_node": 1, "sink_output": 1}
    assert_same_meaning(parse_graph(text), found.graph)


def test_the_previous_state_can_be_read_after_the_scan() -> None:
    text = BEFORE.replace("mul(%h, %x)", "mul(%h_prev, %x)")
    before = parse_graph(text)
    found = Sink().run(before)
    assert "return h_prev=%h_prev" in print_graph(found.graph)
    assert_same_meaning(before, found.graph)


def test_reverse_keeps_places_in_time() -> None:
    text = BEFORE.replace("length=3", "length=3, reverse=True")
    before = parse_graph(text)
    assert_same_meaning(before, Sink().run(before).graph)


PASSED = """\
graph net {
  %X: f32[3,2,5] = input()
  %h0: f32[2,5] = input()
  %Y, %Z, %h_T: f32[3,2,5], f32[3,2,5], f32[2,5] = scan(%X, %h0, length=3) {
    body step {
      %x: f32[2,5] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %h: f32[2,5] = mul(%x, %h_prev)
      return y=%x, z=%h, next h=%h
    }
  }
  return Y=%Y, Z=%Z
}
"""


def test_a_sequence_that_a_scan_returns_as_it_is_does_not_go_through_it() -> None:
    """It would be cut into its steps and joined again, which TPU-MLIR takes out, and the name of the output with it."""
    before = parse_graph(PASSED)
    found = Sink().run(before)
    assert found.counts == {"pass_sequence": 1}
    verify(found.graph)
    assert_same_meaning(before, found.graph)
    text = print_graph(found.graph)
    assert "%Z, %h_T: f32[3,2,5], f32[2,5] = scan(%X, %h0, length=3)" in text
    assert "return Y=%X, Z=%Z" in text
    assert not Sink().run(found.graph).modified


LIGHT = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %V: f32[5,4] = param()
  %Y, %Z, %h_T: f32[3,2,5], f32[3,2,4], f32[2,4] = scan(%X, %h0, %V, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %V: f32[5,4] = arg(role='weight')
      %h: f32[2,4] = add(%x, %h_prev)
      %wide: f32[2,8] = concat(%h, %h_prev, axis=1)
      %t: f32[2,8] = tanh(%wide)
      %a, %b: f32[2,4], f32[2,4] = split(%t, axis=1, sizes=(4, 4))
      %ab: f32[2,4] = mul(%a, %b)
      %s: f32[2,4] = sigmoid(%ab)
      %o: f32[2,5] = linear(%s, %V)
      %y: f32[2,5] = tanh(%o)
      %z: f32[2,4] = mul(%ab, %h)
      return Y=%y, Z=%z, next h=%h
    }
  }
  return Y=%Y, Z=%Z, h_T=%h_T
}
"""


def test_light_ops_stay_but_for_what_a_product_enters_and_for_the_least_that_crosses() -> None:
    before = parse_graph(LIGHT)
    after = Sink(light=(Concat, Pointwise, Binary, Split)).run(before).graph
    verify(after)
    assert_same_meaning(before, after)
    (scan,) = [node for node in after if isinstance(node.op, Scan)]
    assert isinstance(scan.op, Scan)
    # s has as many elements as what it is of, so that it stays; the product and its tanh do not
    assert [output.ref.node for output in scan.op.body.outputs] == ["z", "s", "h"]
    assert {node.op.name for node in after} == {"input", "param", "scan", "linear", "tanh"}


def test_a_light_op_is_sunk_where_less_crosses_then() -> None:
    text = LIGHT.replace("%s: f32[2,4] = sigmoid(%ab)", "%s: f32[2,4] = concat(%m, %m, %m, %m, axis=1)").replace(
        "%s: f32[2,4] = concat",
        "%m, %rest: f32[2,1], f32[2,3] = split(%ab, axis=1, sizes=(1, 3))\n      %s: f32[2,4] = concat",
    )
    before = parse_graph(text)
    after = Sink(light=(Concat, Pointwise, Binary, Split)).run(before).graph
    verify(after)
    assert_same_meaning(before, after)
    (scan,) = [node for node in after if isinstance(node.op, Scan)]
    assert isinstance(scan.op, Scan)
    assert [output.ref.node for output in scan.op.body.outputs] == ["z", "m", "h"]
