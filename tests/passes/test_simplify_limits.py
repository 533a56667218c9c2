"""Where the rules of ``simplify`` must keep away, how they work together, and what they leave in place."""

from __future__ import annotations

import numpy as np
import pytest

from lstmc.ir import Graph, Scan, parse_graph, print_graph
from lstmc.passes import Dead, PassResult, Simplify
from lstmc.testing import assert_same_meaning
from tests.passes.rule_text import dedented, graph_of, shown


def simplified(lines: str) -> tuple[Graph, PassResult]:
    before = graph_of(lines)
    return before, Simplify().run(before)


KEPT_AS_IT_IS = {
    "affines whose product overflows": """
        %a: f32[2,6] = affine(%x, scale=1e+200)
        %z: f32[2,6] = affine(%a, scale=1e+200)
        return z=%z
        """,
    "zero minus a smaller value": """
        %zero: f32[2,6] = full()
        %z: f32[2,6] = sub(%zero, %y)
        return z=%z
        """,
    "zero that makes a value larger": """
        %zero: f32[2,6] = full()
        %z: f32[2,6] = add(%y, %zero)
        return z=%z
        """,
    "one that makes a value larger": """
        %one: f32[2,6] = full(value=1.0)
        %z: f32[2,6] = mul(%y, %one)
        return z=%z
        """,
    "a function that is not finite": """
        %big: f32[2,6] = full(value=1000.0)
        %zero: f32[2,6] = full()
        %a: f32[2,6] = exp(%big)
        %c: f32[2,6] = log(%zero)
        return a=%a, c=%c
        """,
    "a linear of ones": """
        %one: f32[2,6] = full(value=1.0)
        %z: f32[2,4] = linear(%one, %W)
        return z=%z
        """,
    "a reshape that mixes rows": """
        %a: f32[3,4] = reshape(%x, shape=(3, 4))
        %V: f32[5,4] = param()
        %z: f32[3,5] = linear(%a, %V)
        return z=%z
        """,
    "a reshape that swaps leading axes": """
        %a: f32[2,3,2] = reshape(%x, shape=(2, 3, 2))
        %c: f32[2,3,2] = tanh(%a)
        %d: f32[3,2,2] = reshape(%c, shape=(3, 2, 2))
        %V: f32[5,2] = param()
        %z: f32[3,2,5] = linear(%d, %V, axis=2)
        return z=%z
        """,
    "split of a concat with other cuts": """
        %c: f32[4,6] = concat(%x, %x, axis=0)
        %a, %d: f32[1,6], f32[3,6] = split(%c, axis=0, sizes=(1, 3))
        return a=%a, d=%d
        """,
    "split of a concat on another axis": """
        %c: f32[2,12] = concat(%x, %x, axis=1)
        %a, %d: f32[1,12], f32[1,12] = split(%c, axis=0, sizes=(1, 1))
        return a=%a, d=%d
        """,
    "concat of pieces out of order": """
        %a, %c: f32[2,3], f32[2,3] = split(%x, axis=1, sizes=(3, 3))
        %d: f32[2,6] = concat(%c, %a, axis=1)
        return d=%d
        """,
    "concat of some of the pieces": """
        %a, %c, %d: f32[2,2], f32[2,2], f32[2,2] = split(%x, axis=1, sizes=(2, 2, 2))
        %e: f32[2,4] = concat(%a, %c, axis=1)
        return e=%e
        """,
    "concat on another axis than the split": """
        %a, %c: f32[2,3], f32[2,3] = split(%x, axis=1, sizes=(3, 3))
        %d: f32[4,3] = concat(%a, %c, axis=0)
        return d=%d
        """,
    "concat of different constants": """
        %zero: f32[2,6] = full()
        %one: f32[2,6] = full(value=1.0)
        %z: f32[4,6] = concat(%zero, %one, axis=0)
        return z=%z
        """,
    "other powers": """
        %z: f32[2,6] = power(%x, exponent=2.0)
        return z=%z
        """,
    "relu after abs": """
        %a: f32[2,6] = abs(%x)
        %z: f32[2,6] = relu(%a)
        return z=%z
        """,
}


@pytest.mark.parametrize("lines", KEPT_AS_IT_IS.values(), ids=KEPT_AS_IT_IS)
def test_no_rule_is_used_where_none_holds(lines: str) -> None:
    before, outcome = simplified(lines)
    assert outcome == PassResult(before, False, {})
    assert outcome.graph is before


def test_one_rule_makes_room_for_the_next() -> None:
    before, outcome = simplified("""
        %h0: f32[2,6] = full()
        %a: f32[2,4] = linear(%h0, %W, %b)
        %c: f32[2,4] = linear(%x, %W)
        %d: f32[2,4] = add(%a, %c)
        %e: f32[2,6] = mul(%h0, %x)
        %f: f32[2,6] = tanh(%e)
        %g: f32[2,6] = add(%f, %x)
        return d=%d, g=%g
        """)
    assert shown(Dead().run(outcome.graph).graph) == dedented("""
        %c: f32[2,4] = linear(%x, %W)
        %d: f32[2,4] = add(%c, %b)
        return d=%d, g=%x
        """)
    assert_same_meaning(before, outcome.graph)


def test_scan_bodies_and_first_steps_are_simplified_too() -> None:
    before = parse_graph(
        """\
graph g {
  %X: f32[3,2] = input()
  %h0: f32[2] = input()
  %y: f32[3,2] = scan(%X, %h0, length=3) {
    body s {
      %x: f32[2] = arg()
      %h: f32[2] = arg(role='state')
      %a: f32[2] = affine(%x)
      %n: f32[2] = mul(%a, %h)
      return next h=%n
    }
    first s {
      %x: f32[2] = arg()
      %h: f32[2] = arg(role='state')
      %a: f32[2] = power(%x, exponent=1.0)
      return next h=%a
    }
  }
  return y=%y
}
""".replace("%y: f32[3,2]", "%y: f32[2]")
    )
    outcome = Simplify().run(before)
    assert outcome.counts == {"drop_identity_affine": 1, "fold_trivial_power": 1}
    scan = outcome.graph.node("y").op
    assert isinstance(scan, Scan)
    assert scan.first is not None
    assert [len(body) for body in scan.bodies] == [3, 2]
    assert_same_meaning(before, outcome.graph)


def test_a_replacement_keeps_the_name_and_place_of_what_it_replaces() -> None:
    outcome = Simplify().run(
        parse_graph("""\
graph g {
  %x: f32[2] = input()
  %c: f32[2] = full(value=2.0)
  %z: f32[2] = mul(%x, %c)  # cell.py:3:4-3:9
  return z=%z
}
""")
    )
    assert "  %z: f32[2] = affine(%x, scale=2.0)  # cell.py:3:4-3:9\n" in print_graph(outcome.graph)


def test_constants_are_folded_as_the_op_would_compute_them() -> None:
    for value in np.linspace(-2, 2, 9):
        before, outcome = simplified(f"""
        %c: f32[3] = full(value={value.item()!r})
        %s: f32[3] = sigmoid(%c)
        %e: f32[3] = elu(%c, alpha=0.5)
        %t: f32[3] = power(%c, exponent=3.0)
        return s=%s, e=%e, t=%t
        """)
        assert outcome.counts == {"fold_function_of_full": 3}
        assert_same_meaning(before, outcome.graph, rtol=0)
