"""``cse``: the same op on the same operands is computed once; what is told apart by name never is."""

from __future__ import annotations

import pytest

from lstmc.ir import Graph, Scan, parse_graph, print_graph
from lstmc.passes import Cse, PassResult
from lstmc.testing import assert_same_meaning

BEFORE = """\
graph g {
  %x: f32[2,4] = input()
  %a: f32[2,4] = tanh(%x)
  %b: f32[2,4] = tanh(%x)  # cell.py:2:0-2:9
  %c: f32[2,4] = add(%a, %b)
  %d: f32[2,4] = add(%b, %a)
  %p, %q: f32[2,1], f32[2,3] = split(%c, axis=1, sizes=(1, 3))
  %r, %s: f32[2,1], f32[2,3] = split(%d, axis=1, sizes=(1, 3))
  %e: f32[2,4] = affine(%x, scale=2.0)
  %f: f32[2,4] = affine(%x, scale=3.0)
  return p=%p, s=%s, e=%e, f=%f, b=%b
}
"""
AFTER = """\
graph g {
  %x: f32[2,4] = input()
  %a: f32[2,4] = tanh(%x)
  %c: f32[2,4] = add(%a, %a)
  %p, %q: f32[2,1], f32[2,3] = split(%c, axis=1, sizes=(1, 3))
  %e: f32[2,4] = affine(%x, scale=2.0)
  %f: f32[2,4] = affine(%x, scale=3.0)
  return p=%p, s=%q, e=%e, f=%f, b=%a
}
"""


def merged(text: str) -> tuple[Graph, PassResult]:
    before = parse_graph(text)
    outcome = Cse().run(before)
    assert_same_meaning(before, outcome.graph)
    again = Cse().run(outcome.graph)
    assert not again.modified
    assert again.graph is outcome.graph
    return before, outcome


def test_repeats_are_merged_into_the_first() -> None:
    _, outcome = merged(BEFORE)
    assert print_graph(outcome.graph) == AFTER
    assert outcome == PassResult(outcome.graph, True, {"merge_repeat": 3})


@pytest.mark.parametrize(
    "lines",
    [
        "%a: f32[2] = input()\n%b: f32[2] = input()",
        "%a: f32[2] = input(fill=constant(0.0))\n%b: f32[2] = input(fill=constant(0.0))",
        "%a: f32[2] = param()\n%b: f32[2] = param()",
        "%x: f32[2] = input()\n%y: f32[2] = input()\n%a: f32[2] = sub(%x, %y)\n%b: f32[2] = sub(%y, %x)",
        "%x: f32[2] = input()\n%a: f32[2] = power(%x, exponent=2.0)\n%b: f32[2] = power(%x, exponent=3.0)",
        "%a: f32[2] = full()\n%b: f32[2] = full(value=1.0)",
        "%x: f32[2] = input()\n%a: f32[2] = elu(%x)\n%b: f32[2] = relu(%x)",
        "%x: f32[2] = input()\n%a: f32[2] = dropout(%x, ratio=0.5)\n%b: f32[2] = dropout(%x, ratio=0.5, draw=1)",
    ],
)
def test_what_differs_stays_apart(lines: str) -> None:
    before, outcome = merged(f"graph g {{\n{lines}\nreturn a=%a, b=%b\n}}\n")
    assert outcome == PassResult(before, False, {})
    assert outcome.graph is before


SCAN = """\
  %NAME, %NAME_T: f32[3,2], f32[2] = scan(%X, %h0, %s, %t, length=3REVERSE) {
    body step {
      %x: f32[2] = arg()
      %h: f32[2] = arg(role='state')
      %s: f32[2] = arg(role='static')
      %t: f32[2] = arg(role='static')
      %a: f32[2] = mul(%x, %s)
      %b: f32[2] = mul(%x, %s)
      %c: f32[2] = mul(%x, %t)
      %d: f32[2] = sub(%a, %b)
      %e: f32[2] = add(%d, %c)
      %n: f32[2] = add(%e, %h)
      return %n, next h=%n
    }
  }
"""


def scans(*reverse: str) -> str:
    nodes = "".join(SCAN.replace("NAME", f"y{i}").replace("REVERSE", r) for i, r in enumerate(reverse))
    leaves = "".join(f"  %{n}: f32[{s}] = input()\n" for n, s in (("X", "3,2"), ("h0", "2"), ("s", "2"), ("t", "2")))
    returned = ", ".join(f"y{i}=%y{i}, h{i}=%y{i}_T" for i in range(len(reverse)))
    return f"graph g {{\n{leaves}{nodes}  return {returned}\n}}\n"


def test_repeats_in_a_body_are_merged_and_arguments_are_not() -> None:
    _, outcome = merged(scans(""))
    scan = outcome.graph.node("y0").op
    assert isinstance(scan, Scan)
    assert [node.name for node in scan.body] == ["x", "h", "s", "t", "a", "c", "d", "e", "n"]
    assert outcome.counts == {"merge_repeat": 1}


def test_equal_scans_of_equal_operands_are_one_scan() -> None:
    _, outcome = merged(scans("", "", ", reverse=True"))
    assert [node.name for node in outcome.graph if isinstance(node.op, Scan)] == ["y0", "y2"]
    assert [output.ref.node for output in outcome.graph.outputs] == ["y0", "y0", "y0", "y0", "y2", "y2"]
