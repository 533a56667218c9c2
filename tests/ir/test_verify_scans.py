"""Verification of scans: bodies, first steps, states, and what may stand in a body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lstmc.ir import Builder, Graph, Ref, Scan, Stage, parse_graph, verify
from lstmc.ops import Arg
from lstmc_caffe.ops import CAFFE_OPS
from tests.ir.refusal import refused

STEP = """\
graph step {
  %x: f32[4,2] = arg()
  %h_prev: f32[4,2] = arg(role='state')
  %h: f32[4,2] = add(%x, %h_prev)
  return %h, next h=%h
}
"""
MODEL = """\
graph model {
  %X: f32[3,4,2] = input()
  %W: f32[2,2] = param()
  %h0: f32[4,2] = full()
  %Z: f32[3,4,2] = linear(%X, %W, axis=2)
  %y, %h_T: f32[3,4,2], f32[4,2] = scan(%Z, %h0, length=3) {
    body step {
      %x: f32[4,2] = arg()
      %h_prev: f32[4,2] = arg(role='state')
      %h: f32[4,2] = add(%x, %h_prev)
      return %h, next h=%h
    }
  }
  return y=%y, h=%h_T
}
"""


def test_a_well_formed_scan_passes() -> None:
    verify(parse_graph(MODEL))


def with_scan(change: Callable[[Scan], Scan]) -> Graph:
    """MODEL with another scan op, trusted to have the old types."""
    graph = parse_graph(MODEL)
    builder = Builder("model")
    for node in graph:
        if isinstance(node.op, Scan):
            builder.add(change(node.op), *graph.args(node.name), names=node.names, types=node.types)
        else:
            builder.copy(node, graph.args(node.name))
    return builder.finish([])


def body_of(text: str) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, body=parse_graph(text))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: replace(s, length=0), "scan of step: length must be at least 1, found 0"),
        (
            body_of(STEP.replace("next h=%h", "next h=%n").replace("  return", "  %n: f32[2] = full()\n  return")),
            "scan of step: state h_prev is f32[4,2], its next value is f32[2]",
        ),
        (
            body_of(STEP.replace("%h, next h=%h", "")),
            "scan of step: has 1 states, its body returns 0 results",
        ),
        (
            lambda s: replace(s, first=parse_graph(STEP.replace("role='state'", "role='static'").replace("next ", ""))),
            "scan of step: the first step's arguments differ from the body's",
        ),
        (
            lambda s: replace(s, first=parse_graph(STEP.replace("%x", "%z"))),
            "scan of step: the first step's arguments differ from the body's",
        ),
        (
            lambda s: replace(s, first=parse_graph(STEP.replace("%h, next", "next"))),
            "scan of step: the first step's results differ from the body's",
        ),
        (
            lambda s: replace(s, first=parse_graph(STEP.replace("%h, next", "h=%h, next"))),
            "scan of step: the first step's results differ from the body's",
        ),
        (
            body_of(STEP.replace("return %h", "return a=%h, a=%x")),
            "scan of step: its step outputs need names of their own, found ['a', 'a']",
        ),
        (
            body_of(STEP.replace("next h=", "next ")),
            "scan of step: its next states need names of their own, found ['']",
        ),
        (
            body_of(STEP.replace("arg()", "input()")),
            "graph step: op input is not legal at stage model\n  %x: f32[4,2] = input()",
        ),
        (
            lambda s: replace(s, first=parse_graph(STEP.replace("  return", "  %p: f32[2] = param()\n  return"))),
            "graph step: op param is not legal at stage model\n  %p: f32[2] = param()",
        ),
    ],
)
def test_a_scan_that_is_broken(change: Callable[[Scan], Scan], text: str) -> None:
    assert refused(with_scan(change)) == text


def test_a_scan_whose_body_returns_what_it_has_not() -> None:
    body = Builder("step")
    for arg, role in (("x", "x"), ("h_prev", "state")):
        body.add(Arg((4, 2), role), names=(arg,))  # type: ignore[arg-type]
    broken = body.finish([("", Ref("nowhere")), ("h", Ref("x"))])
    assert refused(with_scan(lambda s: replace(s, body=broken))) == "the output of graph step is no value of it"


def test_a_scan_whose_operands_do_not_fit() -> None:
    text = refused(with_scan(lambda s: replace(s, length=4)))
    assert text.splitlines()[0] == (
        "graph model: is not well typed: scan: argument x must be f32[4,4,2], found f32[3,4,2]"
    )


def test_inputs_of_a_backend_are_not_legal_in_bodies() -> None:
    body = STEP.replace("add(%x, %h_prev)", "caffe.Eltwise(%x, %h_prev)")
    scan = Scan(parse_graph(body, CAFFE_OPS), 3)
    model = Builder("g")
    x = model.add(CAFFE_OPS[0]((3, 4, 2)), names=("X",))  # type: ignore[call-arg]
    h = model.add(CAFFE_OPS[0]((4, 2)), names=("h0",))  # type: ignore[call-arg]
    model.add(scan, *x, *h)
    verify(model.finish([]), Stage.LEGAL, CAFFE_OPS)

    broken = parse_graph(body.replace("  return", "  %i: f32[4,2] = caffe.Input()\n  return"), CAFFE_OPS)
    model = Builder("g")
    x = model.add(CAFFE_OPS[0]((3, 4, 2)), names=("X",))  # type: ignore[call-arg]
    h = model.add(CAFFE_OPS[0]((4, 2)), names=("h0",))  # type: ignore[call-arg]
    model.add(Scan(broken, 3), *x, *h)
    assert refused(model.finish([]), Stage.LEGAL, CAFFE_OPS) == (
        "graph step: op caffe.Input is not legal at stage legal\n  %i: f32[4,2] = caffe.Input()"
    )


def test_a_scan_is_not_legal_once_expanded() -> None:
    text = refused(parse_graph(MODEL), Stage.EXPANDED)
    assert text.splitlines()[0] == "graph model: op scan is not legal at stage expanded"


@pytest.mark.parametrize(
    ("operand", "text"), [("Z", "graph model: argument 2 is a weight, but %Z is computed"), ("P", "")]
)
def test_a_weight_is_never_computed(operand: str, text: str) -> None:
    graph = parse_graph(
        MODEL.replace("%h0, length", f"%h0, %{operand}, length")
        .replace("  %h0: f32", "  %P: f32[3,4,2] = param()\n  %h0: f32")
        .replace("      %h: f32", "      %w: f32[3,4,2] = arg(role='weight')\n      %h: f32")
    )
    if text:
        assert refused(graph).splitlines()[0] == text
    else:
        verify(graph)
