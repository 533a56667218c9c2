"""``dead``: what no output depends on goes, in the model and in its scans; inputs stay."""

from __future__ import annotations

from lstmc.ir import Graph, Scan, parse_graph, print_graph
from lstmc.passes import Dead, PassResult
from lstmc.testing import assert_same_meaning

MODEL = """\
graph g {
  %x: f32[2,4] = input()
  %unread: f32[2,4] = input()
  %W: f32[3,4] = param()
  %V: f32[3,4] = param()
  %a: f32[2,3] = linear(%x, %W)
  %b: f32[2,3] = linear(%x, %V)
  %c: f32[2,3] = tanh(%b)
  %p, %q: f32[2,1], f32[2,2] = split(%a, axis=1, sizes=(1, 2))
  return q=%q
}
"""
MODEL_AFTER = """\
graph g {
  %x: f32[2,4] = input()
  %unread: f32[2,4] = input()
  %W: f32[3,4] = param()
  %a: f32[2,3] = linear(%x, %W)
  %p, %q: f32[2,1], f32[2,2] = split(%a, axis=1, sizes=(1, 2))
  return q=%q
}
"""
SCAN = """\
graph g {
  %X: f32[3,2] = input()
  %Z: f32[3,2] = input()
  %a0: f32[2] = input()
  %b0: f32[2] = input()
  %c0: f32[2] = input()
  %U: f32[2,2] = param()
  %y, %z, %a_T, %b_T, %c_T: f32[3,2], f32[3,2], f32[2], f32[2], f32[2] = \
scan(%X, %a0, %Z, %b0, %c0, %U, length=3) {  # net.py:1:0-1:4
    body step {
      %x: f32[2] = arg()
      %a: f32[2] = arg(role='state')
      %z: f32[2] = arg()
      %b: f32[2] = arg(role='state')
      %c: f32[2] = arg(role='state')
      %U: f32[2,2] = arg(role='weight')
      %x2: f32[2] = mul(%x, %a)
      %a2: f32[2] = add(%x2, %b)
      %b2: f32[2] = tanh(%b)
      %c2: f32[2] = linear(%c, %U, axis=0)
      %z2: f32[2] = exp(%z)
      %z3: f32[2] = add(%z2, %c2)
      %never: f32[2] = exp(%x2)
      return %x2, z=%z3, next a=%a2, next b=%b2, next c=%c2
    }
  }
  return RETURN
}
"""


def alive(text: str) -> tuple[Graph, PassResult]:
    before = parse_graph(text)
    outcome = Dead().run(before)
    assert_same_meaning(before, outcome.graph)
    again = Dead().run(outcome.graph)
    assert again == PassResult(outcome.graph, False, {})
    assert again.graph is outcome.graph
    return before, outcome


def scan_of(graph: Graph) -> Scan:
    (scan,) = [node.op for node in graph if isinstance(node.op, Scan)]
    return scan


def test_nodes_and_parameters_go_and_inputs_stay() -> None:
    _, outcome = alive(MODEL)
    assert print_graph(outcome.graph) == MODEL_AFTER
    assert outcome.counts == {"drop_node": 3}


def test_a_live_graph_is_left_alone() -> None:
    before, outcome = alive(MODEL_AFTER)
    assert outcome.graph is before


def test_results_that_nothing_reads_go_with_what_computes_them() -> None:
    _, outcome = alive(SCAN.replace("RETURN", "y=%y"))
    assert (
        print_graph(outcome.graph)
        == """\
graph g {
  %X: f32[3,2] = input()
  %Z: f32[3,2] = input()
  %a0: f32[2] = input()
  %b0: f32[2] = input()
  %c0: f32[2] = input()
  %y, %a_T, %b_T: f32[3,2], f32[2], f32[2] = scan(%X, %a0, %b0, length=3) {  # net.py:1:0-1:4
    body step {
      %x: f32[2] = arg()
      %a: f32[2] = arg(role='state')
      %b: f32[2] = arg(role='state')
      %x2: f32[2] = mul(%x, %a)
      %a2: f32[2] = add(%x2, %b)
      %b2: f32[2] = tanh(%b)
      return %x2, next a=%a2, next b=%b2
    }
  }
  return y=%y
}
"""
    )
    assert outcome.counts == {
        "drop_node": 1,  # the parameter that only the dead state used
        "drop_state": 1,
        "drop_argument": 2,  # z and U
        "drop_result": 1,
        "drop_body_node": 7,  # c, z and U, and the four that computed with them or were never read
    }


def test_a_state_lives_as_long_as_a_read_result_depends_on_it() -> None:
    for returned, states, operands in (
        ("y=%y", ["a", "b"], ["X", "a0", "b0"]),
        ("z=%z", ["c"], ["Z", "c0", "U"]),
        ("b=%b_T", ["b"], ["b0"]),
        ("a=%a_T", ["a", "b"], ["X", "a0", "b0"]),
        ("c=%c_T, b=%b_T", ["b", "c"], ["b0", "c0", "U"]),
    ):
        _, outcome = alive(SCAN.replace("RETURN", returned))
        scan = scan_of(outcome.graph)
        (node,) = [node for node in outcome.graph if node.op is scan]
        assert [output.name for output in scan.next_states] == list(states)
        assert [ref.node for ref in outcome.graph.args(node.name)] == operands


def test_a_scan_that_nothing_reads_goes_as_a_whole() -> None:
    _, outcome = alive(SCAN.replace("RETURN", "x=%X"))
    assert [node.name for node in outcome.graph] == ["X", "Z", "a0", "b0", "c0"]
    assert outcome.counts == {"drop_node": 2}


def test_a_reader_that_is_dead_itself_keeps_nothing_alive() -> None:
    text = SCAN.replace("RETURN", "b=%b_T").replace("  return b", "  %dead: f32[3,2] = tanh(%y)\n  return b")
    _, outcome = alive(text)
    assert [output.name for output in scan_of(outcome.graph).body.outputs] == ["b"]


def test_only_dead_nodes_in_a_body() -> None:
    _, outcome = alive(SCAN.replace("RETURN", "y=%y, z=%z, a=%a_T, b=%b_T, c=%c_T"))
    assert outcome.counts == {"drop_body_node": 1}
    assert "never" not in scan_of(outcome.graph).body


FIRST = """\
    first step {
      %x: f32[2] = arg()
      %a: f32[2] = arg(role='state')
      %z: f32[2] = arg()
      %b: f32[2] = arg(role='state')
      %c: f32[2] = arg(role='state')
      %U: f32[2,2] = arg(role='weight')
      %z2: f32[2] = mul(%z, %z)
      return %z2, z=%x, next a=%a, next b=%b, next c=%z2
    }
  }
  return RETURN
"""


def test_an_argument_stays_in_both_bodies_if_one_of_them_uses_it() -> None:
    text = SCAN.replace("  }\n  return RETURN\n", FIRST)
    _, outcome = alive(text.replace("RETURN", "y=%y"))
    scan = scan_of(outcome.graph)
    assert scan.first is not None
    assert [arg.name for arg in scan.body.body_args()] == ["x", "a", "z", "b"]
    assert [arg.name for arg in scan.first.body_args()] == ["x", "a", "z", "b"]
    assert [node.name for node in scan.first] == ["x", "a", "z", "b", "z2"]


def test_a_state_that_only_the_first_step_reads_stays() -> None:
    first = FIRST.replace("return %z2", "return %c")
    _, outcome = alive(SCAN.replace("  }\n  return RETURN\n", first).replace("RETURN", "y=%y"))
    assert [output.name for output in scan_of(outcome.graph).next_states] == ["a", "b", "c"]
