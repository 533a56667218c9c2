"""``peel``: a scan that starts from constants gets a first step of its own, with less to compute."""

from __future__ import annotations

import pytest

from lstmc.ir import Graph, Scan, parse_graph, print_graph, verify
from lstmc.passes import Dead, PassResult, peel
from lstmc.testing import assert_same_meaning

ELMAN = """\
graph g {
  %X: f32[3,2,4] = input()
  %h0: f32[2,5] = full()
  %W: f32[5,4] = param()
  %U: f32[5,5] = param()
  %b: f32[5] = param()
  %y, %h_T: f32[3,2,5], f32[2,5] = scan(%X, %h0, %W, %U, %b, length=3) {
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W: f32[5,4] = arg(role='weight')
      %U: f32[5,5] = arg(role='weight')
      %b: f32[5] = arg(role='weight')
      %z: f32[2,5] = linear(%x, %W, %b)
      %r: f32[2,5] = linear(%h_prev, %U)
      %s: f32[2,5] = add(%z, %r)
      %h: f32[2,5] = tanh(%s)  # elman.py:4:4-4:20
      return %h, next h=%h
    }
  }
  return y=%y, h=%h_T
}
"""
ELMAN_FIRST = """\
    first step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,5] = arg(role='state')
      %W: f32[5,4] = arg(role='weight')
      %U: f32[5,5] = arg(role='weight')
      %b: f32[5] = arg(role='weight')
      %z: f32[2,5] = linear(%x, %W, %b)
      %h: f32[2,5] = tanh(%z)  # elman.py:4:4-4:20
      return %h, next h=%h
    }
"""


def peeled(text: str) -> tuple[Graph, PassResult]:
    before = parse_graph(text)
    outcome = peel.run(before)
    verify(outcome.graph)
    assert_same_meaning(before, outcome.graph)
    again = peel.run(outcome.graph)
    assert again == PassResult(outcome.graph, False, {})
    return before, outcome


def scan_of(graph: Graph) -> Scan:
    (scan,) = [node.op for node in graph if isinstance(node.op, Scan)]
    return scan


def test_a_product_with_a_zero_state_is_gone_from_the_first_step() -> None:
    _, outcome = peeled(ELMAN)
    assert outcome.counts == {"peel_first_step": 1}
    end_of_body = "    }\n  }\n"
    assert print_graph(outcome.graph) == ELMAN.replace(end_of_body, "    }\n" + ELMAN_FIRST + "  }\n")


def test_a_constant_that_is_not_zero_is_put_in_too() -> None:
    _, outcome = peeled(ELMAN.replace("full()", "full(value=0.5)"))
    first = scan_of(outcome.graph).first
    assert first is not None
    assert "linear(%full, %U)" in print_graph(first)
    assert len(first) == 10  # all of the body, and the constant


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_short_and_reversed_scans_are_peeled_too(length: int, reverse: bool) -> None:
    text = ELMAN.replace("f32[3,", f"f32[{length},").replace("length=3", f"length={length}, reverse={reverse}")
    _, outcome = peeled(text)
    assert outcome.counts == {"peel_first_step": 1}


@pytest.mark.parametrize(
    "start", ["%h0: f32[2,5] = input()", "%h0: f32[2,5] = input(fill=constant(0.0))", "%h0: f32[2,5] = param()"]
)
def test_a_scan_that_starts_from_something_else_is_left_alone(start: str) -> None:
    before, outcome = peeled(ELMAN.replace("%h0: f32[2,5] = full()", start))
    assert outcome == PassResult(before, False, {})
    assert outcome.graph is before


def test_a_constant_that_is_no_state_is_left_alone() -> None:
    text = ELMAN.replace("%X: f32[3,2,4] = input()", "%X: f32[3,2,4] = full()").replace("full()\n  %W", "input()\n  %W")
    before, outcome = peeled(text)
    assert outcome.graph is before


def test_states_that_start_from_something_else_keep_their_arguments() -> None:
    _, outcome = peeled("""\
graph g {
  %X: f32[3,2] = input()
  %a0: f32[2] = input()
  %b0: f32[2] = full(value=2.0)
  %a_T, %b_T: f32[2], f32[2] = scan(%X, %a0, %b0, length=3) {
    body step {
      %x: f32[2] = arg()
      %a: f32[2] = arg(role='state')
      %b: f32[2] = arg(role='state')
      %p: f32[2] = mul(%a, %b)
      %q: f32[2] = add(%b, %x)
      return next a=%p, next b=%q
    }
  }
  return a=%a_T, b=%b_T
}
""")
    first = scan_of(outcome.graph).first
    assert first is not None
    assert (
        print_graph(first)
        == """\
graph step {
  %x: f32[2] = arg()
  %a: f32[2] = arg(role='state')
  %b: f32[2] = arg(role='state')
  %p: f32[2] = affine(%a, scale=2.0)
  %q: f32[2] = affine(%x, shift=2.0)
  return next a=%p, next b=%q
}
"""
    )


def test_a_state_passed_on_unchanged_is_the_constant() -> None:
    _, outcome = peeled("""\
graph g {
  %X: f32[3,2] = input()
  %h0: f32[2] = full(value=3.0)
  %y, %h_T: f32[3,2], f32[2] = scan(%X, %h0, length=3) {
    body step {
      %x: f32[2] = arg()
      %h: f32[2] = arg(role='state')
      %p: f32[2] = mul(%x, %h)
      return %p, next h=%h
    }
  }
  return y=%y, h=%h_T
}
""")
    first = scan_of(outcome.graph).first
    assert first is not None
    full = first.outputs[1].ref
    assert first.node(full.node).op == parse_graph("graph g {\n%f: f32[2] = full(value=3.0)\nreturn\n}").node("f").op


def test_arguments_keep_their_names_whatever_they_are_called() -> None:
    # once the constant was called %full, and an argument of that name had to make way for it
    renamed = ELMAN.replace("%b: f32[5] = arg", "%full: f32[5] = arg").replace("%W, %b)", "%W, %full)")
    _, outcome = peeled(renamed)
    names = [[arg.name for arg in body.body_args()] for body in scan_of(outcome.graph).bodies]
    assert names == [["x", "h_prev", "W", "U", "full"]] * 2
    verify(Dead().run(outcome.graph).graph)


def test_each_scan_is_peeled_for_itself() -> None:
    scan = ELMAN[ELMAN.index("  %y, %h_T") : ELMAN.index("  return y=%y")]
    second = scan.replace("%y, %h_T", "%v, %w_T").replace("%h0, %W", "%h_T, %W")
    _, outcome = peeled(ELMAN.replace(scan, scan + second))
    firsts = [node.op.first for node in outcome.graph if isinstance(node.op, Scan)]
    assert [first is None for first in firsts] == [False, True]
