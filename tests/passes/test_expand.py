"""``expand``: every step's nodes by their own names, what is shared being the very same node."""

from __future__ import annotations

from collections import Counter

import pytest

from lstmc.errors import PassError, VerifyError
from lstmc.ir import Graph, Ref, Scan, Stage, parse_graph, print_graph, verify
from lstmc.ops import CORE, Affine, Arg, Param, Unstack
from lstmc.passes import Expand, PassResult, step_pattern
from lstmc.testing import assert_same_meaning
from lstmc_caffe.legalize.unroll import CaffeTimeAxis
from lstmc_caffe.ops import CAFFE_OPS

BOTH_WAYS = """\
graph g {
  %X: f32[2,3,4] = input()
  %s: f32[3,5] = input()
  %h0: f32[3,5] = input()
  %W: f32[5,4] = param()
  %a/y, %a/h_T: f32[2,3,5], f32[3,5] = scan(%X, %h0, %s, %W, length=2) {
    body a {
      %x: f32[3,4] = arg()
      %h_prev: f32[3,5] = arg(role='state')
      %s: f32[3,5] = arg(role='static')
      %W: f32[5,4] = arg(role='weight')
      %linear: f32[3,5] = linear(%x, %W)  # net.py:3:4-3:9
      %mul: f32[3,5] = mul(%h_prev, %s)
      %add: f32[3,5] = add(%linear, %mul)
      return %add, next h=%add
    }
  }
  %b/y, %b/h_T: f32[2,3,5], f32[3,5] = scan(%X, %a/h_T, %W, length=2, reverse=True) {
    body b {
      %u: f32[3,4] = arg()
      %h_prev: f32[3,5] = arg(role='state')
      %W: f32[5,4] = arg(role='weight')
      %linear: f32[3,5] = linear(%u, %W)
      %h: f32[3,5] = add(%linear, %h_prev)
      return %linear, next h=%h
    }
  }
  return y=%a/y, h=%b/h_T
}
"""
BOTH_WAYS_EXPANDED = """\
graph g {
  %X: f32[2,3,4] = input()
  %s: f32[3,5] = input()
  %h0: f32[3,5] = input()
  %W: f32[5,4] = param()
  %a/t000/x, %a/t001/x: f32[3,4], f32[3,4] = unstack(%X)  @ a:0, a:1
  %a/t000/linear: f32[3,5] = linear(%a/t000/x, %W)  @ a:0  # net.py:3:4-3:9
  %a/t000/mul: f32[3,5] = mul(%h0, %s)  @ a:0
  %a/t000/h: f32[3,5] = add(%a/t000/linear, %a/t000/mul)  @ a:0
  %a/t001/linear: f32[3,5] = linear(%a/t001/x, %W)  @ a:1  # net.py:3:4-3:9
  %a/t001/mul: f32[3,5] = mul(%a/t000/h, %s)  @ a:1
  %a/t001/h: f32[3,5] = add(%a/t001/linear, %a/t001/mul)  @ a:1
  %a/y: f32[2,3,5] = stack(%a/t000/h, %a/t001/h)
  %b/t001/linear: f32[3,5] = linear(%a/t001/x, %W)  @ b:1
  %b/t001/h: f32[3,5] = add(%b/t001/linear, %a/t001/h)  @ b:1
  %b/t000/linear: f32[3,5] = linear(%a/t000/x, %W)  @ b:0
  %b/t000/h: f32[3,5] = add(%b/t000/linear, %b/t001/h)  @ b:0
  return y=%a/y, h=%b/t000/h
}
"""
FIRST = """\
graph g {
  %X: f32[LENGTH,2] = input()
  %h0: f32[2] = full(value=9.0)
  %kept: f32[2] = full(value=8.0)
  %y, %z, %h_T, %g_T: f32[LENGTH,2], f32[LENGTH,2], f32[2], f32[2] = scan(%X, %h0, %kept, length=LENGTH) {
    body c {
      %x: f32[2] = arg()
      %h_prev: f32[2] = arg(role='state')
      %g_prev: f32[2] = arg(role='state')
      %h: f32[2] = mul(%x, %h_prev)
      %e: f32[2] = exp(%x)
      return out=%h, e=%e, next h=%h, next g=%g_prev
    }
    first c {
      %x: f32[2] = arg()
      %h_prev: f32[2] = arg(role='state')
      %g_prev: f32[2] = arg(role='state')
      %h: f32[2] = affine(%x, scale=9.0)
      %e: f32[2] = exp(%x)
      return out=%h, e=%e, next h=%h, next g=%g_prev
    }
  }
  return y=%y, h=%h_T, g=%g_T
}
"""


def expanded(text: str) -> Graph:
    before = parse_graph(text)
    outcome = Expand().run(before)
    verify(outcome.graph, Stage.EXPANDED)
    Expand().ensures(outcome.graph)
    assert_same_meaning(before, outcome.graph)
    again = Expand().run(outcome.graph)
    assert again == PassResult(outcome.graph, False, {})
    return outcome.graph


def test_steps_are_written_out_in_the_order_they_run() -> None:
    assert print_graph(expanded(BOTH_WAYS)) == BOTH_WAYS_EXPANDED


def test_steps_are_counted() -> None:
    assert Expand().run(parse_graph(BOTH_WAYS)).counts == {"unroll_step": 4}


def test_what_is_shared_is_one_node() -> None:
    graph = expanded(BOTH_WAYS)
    assert [node.name for node in graph if isinstance(node.op, Param)] == ["W"]
    assert [node.name for node in graph if isinstance(node.op, Unstack)] == ["a/t000/x"]
    readers = graph.readers()
    assert readers[Ref("W")] == 4
    assert readers[Ref("s")] == 2
    assert readers[Ref("a/t000/x", 0)] == readers[Ref("a/t000/x", 1)] == 2


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_step_that_runs_first_is_the_first_body(length: int, reverse: bool) -> None:
    text = FIRST.replace("length=LENGTH", f"length=LENGTH, reverse={reverse}")
    graph = expanded(text.replace("LENGTH", str(length)))
    assert graph.node(f"c/t{length - 1 if reverse else 0:03d}/h").op == Affine(9.0)
    kinds = Counter(type(node.op).__name__ for node in graph)
    assert kinds["Affine"] == 1
    assert kinds["Mul"] == length - 1
    assert kinds["Exp"] == length
    assert kinds["Unstack"] == kinds["Stack"] == 1  # of the two step outputs one is read


def test_an_initial_state_that_no_step_reads_is_gone_and_one_that_is_passed_on_is_not() -> None:
    graph = expanded(FIRST.replace("LENGTH", "2"))
    assert "h0" not in graph
    assert [output.ref for output in graph.outputs] == [Ref("y"), Ref("c/t001/h"), Ref("kept")]


def test_an_input_stays_though_no_step_reads_it() -> None:
    text = FIRST.replace("LENGTH", "2").replace("%h0: f32[2] = full(value=9.0)", "%h0: f32[2] = input()")
    graph = parse_graph(text)
    assert "h0" in Expand().run(graph).graph


def test_an_initial_state_that_something_else_reads_stays() -> None:
    text = FIRST.replace("LENGTH", "2").replace("return y=%y,", "return y=%y, h0=%h0,")
    assert "h0" in expanded(text)


def test_next_states_and_outputs_have_their_own_names() -> None:
    graph = expanded(FIRST.replace("LENGTH", "2"))
    assert [node.name for node in graph if node.name.startswith("c/t001")] == ["c/t001/h", "c/t001/e"]
    # a value that is both is called by the state; another value of a name that is wanted makes way
    text = BOTH_WAYS.replace("%add, next", "sum=%add, h_out=%mul, next").replace(
        "%a/y, %a/h_T: f32[2,3,5], f32[3,5]", "%a/y, %a/m, %a/h_T: f32[2,3,5], f32[2,3,5], f32[3,5]"
    )
    text = text.replace("%linear", "%h", 2)  # in the first of the two bodies
    names = [node.name for node in expanded(text) if node.name.startswith("a/t000")]
    assert names == ["a/t000/x", "a/t000/h_2", "a/t000/h_out", "a/t000/h"]


@pytest.mark.parametrize(
    ("length", "t", "prefix"),
    [
        (1, 0, "c/t000/"),
        (3, 2, "c/t002/"),
        (1000, 999, "c/t999/"),
        (1001, 7, "c/t0007/"),
        (1001, 1000, "c/t1000/"),
        (100_000, 99_999, "c/t99999/"),
    ],
)
def test_step_names_sort_by_time(length: int, t: int, prefix: str) -> None:
    body = parse_graph("graph c {\n%x: f32[2] = arg()\nreturn y=%x\n}\n")
    assert step_pattern(Scan(body, length)) % t == prefix


def test_a_graph_without_scans_is_left_alone() -> None:
    before = parse_graph("graph g {\n  %x: f32[2] = input()\n  return x=%x\n}\n")
    outcome = Expand().run(before)
    assert outcome == PassResult(before, False, {})
    assert outcome.graph is before


def test_a_scan_or_argument_left_behind_is_an_error() -> None:
    with pytest.raises(PassError) as caught:
        Expand().ensures(parse_graph(BOTH_WAYS))
    assert caught.value.message == "expand left %a/y behind"
    with pytest.raises(PassError) as caught:
        Expand().ensures(parse_graph("graph g {\n  %x: f32[2] = arg()\n  return x=%x\n}\n"))
    assert caught.value.message == "expand left %x behind"


def test_steps_are_joined_and_cut_where_a_scan_feeds_a_scan() -> None:
    first = "  %y, %h_T: f32[3,2], f32[2] = scan(%X, %h0, length=3) {\n"
    body = """\
    body NAME {
      %x: f32[2] = arg()
      %h_prev: f32[2] = arg(role='state')
      %h: f32[2] = sub(%x, %h_prev)
      return %h, next h=%h
    }
  }
"""
    second = first.replace("%y, %h_T", "%z, %g_T").replace("%X", "%y")
    graph = expanded(
        "graph g {\n  %X: f32[3,2] = input()\n  %h0: f32[2] = input()\n"
        + first
        + body.replace("NAME", "low")
        + second
        + body.replace("NAME", "high")
        + "  return z=%z\n}\n"
    )
    assert [node.name for node in graph if node.name.startswith("high")] == [
        "high/t000/x",
        "high/t000/h",
        "high/t001/h",
        "high/t002/h",
    ]


CAFFE = """\
graph g {
  %X: f32[LENGTH,3,2] = caffe.Input()
  %Z: f32[LENGTH,3,2] = caffe.Reshape(%X, shape=(LENGTH, 3, 2))
  %h0: f32[3,2] = caffe.Input()
  %y, %z: f32[LENGTH,3,2], f32[3,2] = scan(%Z, %h0, length=LENGTH) {
    body c {
      %x: f32[3,2] = arg()
      %h_prev: f32[3,2] = arg(role='state')
      %h: f32[3,2] = caffe.Eltwise(%x, %h_prev)
      return %h, next h=%h
    }
  }
  return y=%y
}
"""


@pytest.mark.parametrize(
    ("length", "lines"),
    [
        (
            2,
            """\
  %Z/rows: f32[6,2] = caffe.Reshape(%X, shape=(6, 2))
  %c/t000/x, %c/t001/x: f32[3,2], f32[3,2] = caffe.Slice(%Z/rows, axis=0, sizes=(3, 3))  @ c:0, c:1
  %c/t000/h: f32[3,2] = caffe.Eltwise(%c/t000/x, %h0)  @ c:0
  %c/t001/h: f32[3,2] = caffe.Eltwise(%c/t001/x, %c/t000/h)  @ c:1
  %y/rows: f32[6,2] = caffe.Concat(%c/t000/h, %c/t001/h, axis=0)
  %y: f32[2,3,2] = caffe.Reshape(%y/rows, shape=(2, 3, 2))
""",
        ),
        (
            1,
            """\
  %c/t000/x: f32[3,2] = caffe.Reshape(%X, shape=(3, 2))  @ c:0
  %c/t000/h: f32[3,2] = caffe.Eltwise(%c/t000/x, %h0)  @ c:0
  %y: f32[1,3,2] = caffe.Reshape(%c/t000/h, shape=(1, 3, 2))
""",
        ),
    ],
)
def test_in_caffe_a_step_has_no_time_axis(length: int, lines: str) -> None:
    before = parse_graph(CAFFE.replace("LENGTH", str(length)), CAFFE_OPS)
    graph = Expand(CaffeTimeAxis()).run(before).graph
    verify(graph, Stage.EXPANDED, CAFFE_OPS)
    assert lines in print_graph(graph)
    assert not [node for node in graph if isinstance(node.op, Scan | Arg)]
    assert_same_meaning(before, graph)


def test_a_scan_that_a_backend_has_loops_for_stays_as_it_is() -> None:
    before = parse_graph(BOTH_WAYS)
    graph = Expand(loops=lambda scan: scan.reverse).run(before).graph
    (kept,) = (node for node in graph if isinstance(node.op, Scan))
    assert (kept.op, kept.names) == (before.node("b/y").op, ("b/y", "b/h_T"))
    verify(graph, Stage.EXPANDED, (*CORE, Scan))
    with pytest.raises(VerifyError, match="op scan is not legal at stage expanded"):
        verify(graph, Stage.EXPANDED, CORE)
    assert_same_meaning(before, graph)
    again = Expand(loops=lambda scan: scan.reverse).run(graph)
    assert not again.modified
