"""keep_time_axis: golden text, the same meaning, and scans that it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph, parse_graph, print_graph, verify
from lstmc.ops import Input, Param
from lstmc.passes import Dead, Expand, KeepTimeAxis, run_passes

BEFORE = """\
graph net {
  %x: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %c0: f32[2,4] = full(value=0.5)
  %W: f32[4,4] = param()
  %s: f32[4] = input()
  %y, %h_T, %c_T: f32[3,2,4], f32[2,4], f32[2,4] = scan(%x, %h0, %c0, %W, %s, length=3, reverse=True) {
    body rnn {
      %x: f32[2,4] = arg()
      %h_prev: f32[2,4] = arg(role='state')
      %c_prev: f32[2,4] = arg(role='state')
      %W: f32[4,4] = arg(role='weight')
      %s: f32[4] = arg(role='static')
      %z: f32[2,4] = linear(%h_prev, %W)
      %a: f32[2,4] = add(%z, %x)
      %b: f32[2,4] = mul(%a, %s)
      %p, %q: f32[2,1], f32[2,3] = split(%b, axis=1, sizes=(1, 3))
      %h: f32[2,4] = concat(%q, %p, axis=1)
      %c: f32[2,4] = softmax(%c_prev, axis=1)
      return %h, next h=%h, next c=%c
    }
  }
  return y=%y, h_T=%h_T, c_T=%c_T
}
"""
AFTER = """\
graph net {
  %x: f32[3,2,4] = input()
  %h0: f32[2,4] = input()
  %c0: f32[2,4] = full(value=0.5)
  %W: f32[4,4] = param()
  %s: f32[4] = input()
  %h0/step: f32[1,2,4] = reshape(%h0, shape=(1, 2, 4))
  %c0/step: f32[1,2,4] = full(value=0.5)
  %y, %h_T/step, %c_T/step: f32[3,2,4], f32[1,2,4], f32[1,2,4] = \
scan(%x, %h0/step, %c0/step, %W, %s, length=3, reverse=True, kept=True) {
    body rnn {
      %x: f32[1,2,4] = arg()
      %h_prev: f32[1,2,4] = arg(role='state')
      %c_prev: f32[1,2,4] = arg(role='state')
      %W: f32[4,4] = arg(role='weight')
      %s: f32[4] = arg(role='static')
      %z: f32[1,2,4] = linear(%h_prev, %W, axis=2)
      %a: f32[1,2,4] = add(%z, %x)
      %b: f32[1,2,4] = mul(%a, %s)
      %p, %q: f32[1,2,1], f32[1,2,3] = split(%b, axis=2, sizes=(1, 3))
      %h: f32[1,2,4] = concat(%q, %p, axis=2)
      %c: f32[1,2,4] = softmax(%c_prev, axis=2)
      return %h, next h=%h, next c=%c
    }
  }
  %h_T: f32[2,4] = reshape(%h_T/step, shape=(2, 4))
  %c_T: f32[2,4] = reshape(%c_T/step, shape=(2, 4))
  return y=%y, h_T=%h_T, c_T=%c_T
}
"""


def leaves(graph: Graph, kind: type[Input | Param]) -> dict[str, np.ndarray]:
    return {n.name: named_rng(0, n.name).uniform(-1, 1, n.types[0].shape) for n in graph if isinstance(n.op, kind)}


def assert_same(before: Graph, after: Graph) -> None:
    given = leaves(before, Input), leaves(before, Param)
    runs = [forward(graph, *given) for graph in (before, after)]
    ct = {name: named_rng(1, name).uniform(-1, 1, value.shape) for name, value in runs[0].outputs.items()}
    grads = [backward(run, ct) for run in runs]
    for found, wanted in (
        (runs[1].outputs, runs[0].outputs),
        (grads[1].inputs, grads[0].inputs),
        (grads[1].params, grads[0].params),
    ):
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            assert_allclose(found[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_text() -> None:
    before = parse_graph(BEFORE)
    outcome = KeepTimeAxis().run(before)
    assert print_graph(outcome.graph) == AFTER
    assert parse_graph(AFTER) == outcome.graph
    assert outcome.counts == {"keep_axis": 1}
    verify(outcome.graph)


def test_meaning_rolled_and_expanded() -> None:
    before = parse_graph(BEFORE)
    after = KeepTimeAxis().run(before).graph
    assert_same(before, after)
    assert_same(before, run_passes(after, (Expand(), Dead()))[-1].graph)


def test_a_second_run_changes_nothing() -> None:
    once = KeepTimeAxis().run(parse_graph(BEFORE)).graph
    assert not KeepTimeAxis().run(once).modified


def test_only_the_scans_that_where_picks() -> None:
    assert not KeepTimeAxis(lambda scan: scan.length > 3).run(parse_graph(BEFORE)).modified


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("%c: f32[2,4] = softmax(%c_prev, axis=1)", "%c: f32[2,4] = full(value=2.0)"),  # the same at every step
        # linear has no form for several steps of its matrix
        ("%b: f32[2,4] = mul(%a, %s)", "%b: f32[2,4] = mul(%a, %s)\n%d: f32[2,2] = linear(%x, %a)"),
    ],
)
def test_scans_that_stay(line: str, other: str) -> None:
    assert not KeepTimeAxis().run(parse_graph(BEFORE.replace(line, other))).modified
