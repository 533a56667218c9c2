"""An op whose ``eval`` or ``vjp`` raises is named with its node and its place, in a scan with the step too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lstmc.errors import InterpreterError
from lstmc.interp import backward, forward
from lstmc.ir import Graph, parse_graph
from lstmc.ops import Array, Pointwise

LIMIT = 3.0


@dataclass(frozen=True)
class Fragile(Pointwise):
    """x, as long as it is small enough."""

    name = "test.fragile"

    def f(self, x: Array) -> Array:
        if np.max(x) > LIMIT:
            raise ValueError(f"more than {LIMIT:g}")
        return x

    def df(self, y: Array, x: Array) -> Array:
        raise ZeroDivisionError("no derivative")


def graph(text: str) -> Graph:
    return parse_graph(text, (Fragile,))


ONE = graph("""\
graph one {
  %x: f32[2] = input()
  %y: f32[2] = test.fragile(%x)  # net.py:6:4-6:14
  return y=%y
}
""")
SCANNED = graph("""\
graph scanned {
  %h0: f32[2] = input()
  %h_T: f32[2] = scan(%h0, length=4) {
    body step {
      %h_prev: f32[2] = arg(role='state')
      %held: f32[2] = test.fragile(%h_prev)  # net.py:3:8-3:18
      %h: f32[2] = add(%held, %held)
      return next h=%h
    }
  }
  return h=%h_T
}
""")
FORWARD = """\
InterpreterError: test.fragile failed (ValueError: more than 3)
  net.py:6:5
  while executing %y: f32[2] = test.fragile(%x)"""
BACKWARD = """\
InterpreterError: test.fragile failed (ZeroDivisionError: no derivative)
  net.py:6:5
  while differentiating %y: f32[2] = test.fragile(%x)"""
IN_A_STEP = """\
InterpreterError: test.fragile failed (ValueError: more than 3)
  net.py:3:9
  while executing %held: f32[2] = test.fragile(%h_prev)
  in step 2 of %h_T"""
BACK_IN_A_STEP = """\
InterpreterError: test.fragile failed (ZeroDivisionError: no derivative)
  net.py:3:9
  while differentiating %held: f32[2] = test.fragile(%h_prev)
  in step 3 of %h_T"""


def test_forward() -> None:
    with pytest.raises(InterpreterError) as caught:
        forward(ONE, {"x": [1, 4]})
    assert str(caught.value) == FORWARD
    assert isinstance(caught.value.__cause__, ValueError)


def test_backward() -> None:
    with pytest.raises(InterpreterError) as caught:
        backward(forward(ONE, {"x": [1, 2]}), {"y": [1, 1]})
    assert str(caught.value) == BACKWARD


def test_forward_in_a_step() -> None:
    with pytest.raises(InterpreterError) as caught:
        forward(SCANNED, {"h0": [1, 1]})
    assert str(caught.value) == IN_A_STEP


def test_backward_in_a_step() -> None:
    with pytest.raises(InterpreterError) as caught:
        backward(forward(SCANNED, {"h0": [0.1, 0.1]}), {"h": [1, 1]})
    assert str(caught.value) == BACK_IN_A_STEP
