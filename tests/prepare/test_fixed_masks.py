"""``fixed_masks``: dropouts of an expanded graph become products with masks that are fed."""

from __future__ import annotations

import pytest

from lstmc.errors import PassError
from lstmc.ir import parse_graph, print_graph, verify
from lstmc.prepare import fixed_masks

BEFORE = """\
graph net {
  %x: f32[2,4] = input()
  %a: f32[2,4] = dropout(%x, ratio=0.5)
  %b: f32[2,4] = tanh(%a)
  %c: f32[2,4] = dropout(%b, ratio=0.25, draw=1)
  return c=%c, x=%x
}
"""
AFTER = """\
graph net {
  %x: f32[2,4] = input()
  %a/mask: f32[2,4] = input()
  %a: f32[2,4] = mul(%x, %a/mask)
  %b: f32[2,4] = tanh(%a)
  %c/mask: f32[2,4] = input()
  %c: f32[2,4] = mul(%b, %c/mask)
  return c=%c, x=%x
}
"""
SCAN = """\
graph net {
  %X: f32[3,2,4] = input()
  %h0: f32[2,4] = full()
  %Y, %h_T: f32[3,2,4], f32[2,4] = scan(%X, %h0, length=3) {  # net.py:4:4-4:20
    body step {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %h: f32[2,4] = dropout(%x, ratio=0.5)
      return h=%h, next h=%h
    }
  }
  return Y=%Y
}
"""


def test_before_and_after() -> None:
    made = fixed_masks(parse_graph(BEFORE))
    verify(made)
    assert print_graph(made) == AFTER
    assert fixed_masks(made) == made


def test_a_dropout_inside_a_scan_is_refused() -> None:
    with pytest.raises(PassError) as raised:
        fixed_masks(parse_graph(SCAN))
    assert str(raised.value).splitlines()[:2] == [
        "PassError: fixed masks of net: expected an expanded graph, found a scan with a dropout",
        "  net.py:4:5",
    ]
    without = SCAN.replace("dropout(%x, ratio=0.5)", "tanh(%x)")
    assert print_graph(fixed_masks(parse_graph(without))) == without
