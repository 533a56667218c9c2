"""Text is exact: what is printed parses back to the same graph, and what is written prints the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lstmc.ir import Builder, Graph, Output, Ref, Scan, parse_graph, print_graph
from lstmc.ops import FILLERS, Add, Full, Gaussian, Input, Mul, Param, Split, Uniform, Values
from lstmc.source import SrcLoc
from lstmc_caffe.ops import CAFFE_OPS

LEAVES_AND_PLACES = """\
graph demo {
  %X: f32[3,4,5] = input()  # models/demo.py:9:10-9:24
  %h_0: f32[4,8] = input(fill=constant(0))  # models/with space.py:10:0-12:3
  %W: f32[8,5] = param(fill=uniform(-0.05, 0.05))
  %U: f32[8,8] = param(fill=gaussian(0.0, 0.01), lr_mult=2.0, decay_mult=0.0)  # <stdin>:1:2-3:4
  %b: f32[8] = param()
  %V: f32[8,8] = param(fill=xavier('average'))
  %R: f32[8,8] = param(fill=msra('fan_in'))
  %s: f32[] = full(value=1e-07)
  %z: f32[3,4,8] = linear(%X, %W, %b, axis=2)
  %i, %f: f32[3,4,3], f32[3,4,5] = split(%z, axis=2, sizes=(3, 5))
  %y: f32[3,4,13] = concat(%f, %i, %f, axis=2)
  %y_2: f32[3,4,13] = affine(%y, scale=-1.0)
  %y_3: f32[3,4,13] = affine(%y_2, shift=0.1)
  %y_4: f32[3,4,13] = elu(%y_3, alpha=0.5)
  %y_5: f32[3,4,13] = power(%y_4, exponent=-2.0)
  %out: f32[156] = reshape(%y_5, shape=(156,))
  return out=%out, i=%i, again=%out
}
"""

SCANS = """\
graph two_scans {
  %X: f32[3,4,5] = input()
  %W: f32[2,5] = param()
  %h0: f32[4,2] = full()
  %a/y, %a/h_T: f32[3,4,2], f32[4,2] = scan(%X, %h0, %W, length=3) {  # cell.py:1:0-1:9
    body a {
      %x: f32[4,5] = arg()
      %h_prev: f32[4,2] = arg(role='state')
      %W: f32[2,5] = arg(role='weight')
      %z: f32[4,2] = linear(%x, %W)
      %h: f32[4,2] = add(%z, %h_prev)  # cell.py:4:8-4:20
      return %h, next h=%h
    }
    first a {
      %x: f32[4,5] = arg()
      %h_prev: f32[4,2] = arg(role='state')
      %W: f32[2,5] = arg(role='weight')
      %z: f32[4,2] = linear(%x, %W)
      return %z, next h=%z
    }
  }
  %b/h_T: f32[4,2] = scan(%a/y, %a/h_T, %h0, length=3, reverse=True) {
    body b {
      %x: f32[4,2] = arg()
      %h_prev: f32[4,2] = arg(role='state')
      %s: f32[4,2] = arg(role='static')
      %h: f32[4,2] = mul(%x, %s)
      return next h=%h
    }
  }
  return h=%b/h_T
}
"""

CARRIED = """\
graph net {
  %x: f32[2,3] = input()
  %h_0: f32[2,3] = input(fill=constant(0))
  %h_T: f32[2,3] = add(%x, %h_0)
  return y=%h_T, h_T=%h_T -> %h_0
}
"""

UNROLLED = """\
graph unrolled {
  %X: f32[2,3] = input()
  %enc/t1/t000/x, %enc/t1/t001/x: f32[3], f32[3] = unstack(%X)  @ enc/t1:0, enc/t1:1  # net.py:1:0-1:4
  %a, %b: f32[1], f32[2] = split(%enc/t1/t001/x, axis=0, sizes=(1, 2))  @ enc/t1:1
  %c, %d: f32[1], f32[1] = split(%b, axis=0, sizes=(1, 1))  @ -, dec:12
  %last: f32[1] = tanh(%d)  @ dec:12
  return y=%last
}
"""

CAFFE = """\
graph net {
  %x: f32[2,3] = caffe.Input()
  %c: f32[2,3] = caffe.FilledInput(fill=constant(0.5))
  %W: f32[4,3] = param(fill=uniform(-1.0, 1.0))
  %z: f32[2,4] = caffe.InnerProduct(%x, %W, num_output=4)
  %e: f32[2,3] = caffe.Eltwise(%x, %c, coeff=(1.0, -1.0))
  %p: f32[2,3] = caffe.Eltwise(%e, %e, operation='PROD')
  return z=%z, p=%p
}
"""


@pytest.mark.parametrize(
    "text",
    [LEAVES_AND_PLACES, SCANS, CARRIED, UNROLLED, CAFFE],
    ids=["leaves", "scans", "carried", "unrolled", "caffe"],
)
def test_what_is_written_prints_the_same(text: str) -> None:
    graph = parse_graph(text, CAFFE_OPS)
    assert print_graph(graph) == text
    assert parse_graph(print_graph(graph), CAFFE_OPS) == graph


def test_what_is_parsed_is_what_is_written() -> None:
    builder = Builder("demo")
    place = SrcLoc("a.py", 3, 4, 5, 6)
    (x,) = builder.add(Input((2, 4), Gaussian(0.5, 2.0)), names=("x",), loc=place)
    pieces = builder.add(Split(1, (1, 3)), x, names=("a", "b"))
    (square,) = builder.add(Mul(), x, x, names=("square",))
    expected = builder.finish([("square", square), ("b", pieces[1])])
    assert (
        parse_graph("""\
graph demo {
  %x: f32[2,4] = input(fill=gaussian(0.5, 2.0))  # a.py:3:4-5:6
  %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))
  %square: f32[2,4] = mul(%x, %x)
  return square=%square, b=%b
}
""")
        == expected
    )


def test_what_is_carried_to_the_next_batch_is_a_part_of_the_graph() -> None:
    graph = parse_graph(CARRIED)
    assert graph.outputs == (Output("y", Ref("h_T")), Output("h_T", Ref("h_T"), Ref("h_0")))
    assert graph.carried() == {"h_0": graph.outputs[1]}
    assert graph != parse_graph(CARRIED.replace(" -> %h_0", ""))


def test_a_delay_is_a_part_of_the_graph() -> None:
    text = CARRIED.replace("y=%h_T", "y=%h_T late 2").replace("%h_T ->", "%h_T late 1 ->")
    graph = parse_graph(text)
    assert [output.delay for output in graph.outputs] == [2, 1]
    assert (print_graph(graph), graph.carried().keys()) == (text, {"h_0"})
    assert graph != parse_graph(CARRIED)


def test_bodies_keep_places_and_first_steps() -> None:
    scans = [node.op for node in parse_graph(SCANS) if isinstance(node.op, Scan)]
    assert [scan.first is None for scan in scans] == [False, True]
    assert [scan.reverse for scan in scans] == [False, True]
    assert scans[0].body.node("h").loc == SrcLoc("cell.py", 4, 8, 4, 20)
    assert parse_graph(SCANS).node("a/y").loc == SrcLoc("cell.py", 1, 0, 1, 9)


def test_comments_blank_ends_and_indentation_do_not_matter() -> None:
    text = "# a dump's header\n# of two lines\n" + "\n".join(line.strip() for line in SCANS.splitlines()) + "\n\n"
    assert parse_graph(text) == parse_graph(SCANS)


@pytest.mark.parametrize("kind", [kind for kind in FILLERS if kind is not Values])
def test_every_filler_comes_back(kind: type) -> None:
    for fill in (kind(), kind("average") if kind.__name__ in ("Xavier", "Msra") else kind(0.1)):
        builder = Builder("g")
        builder.add(Param((2, 2), fill, 0.5, 3.0))
        builder.add(Input((2, 2), fill))
        graph = builder.finish([])
        assert parse_graph(print_graph(graph)) == graph


def test_numbers_from_numpy_come_back() -> None:
    numpy = pytest.importorskip("numpy")
    builder = Builder("g")
    builder.add(Param((2, 2), Uniform(-1 / numpy.sqrt(3), 1 / numpy.sqrt(3))))
    graph = builder.finish([])
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, 1.7976931348623157e308, 5e-324, 3.0, 123456789.123456789])
def test_numbers_are_exact(value: float) -> None:
    builder = Builder("g")
    (full,) = builder.add(Full((1,), value))
    graph = builder.finish([("y", full)])
    (node,) = parse_graph(print_graph(graph))
    assert node.op == Full((1,), value)


def test_a_graph_without_nodes_or_outputs_has_a_text() -> None:
    text = "graph nothing {\n  return\n}\n"
    assert print_graph(Builder("nothing").finish([])) == text
    assert parse_graph(text) == Builder("nothing").finish([])


def test_long_graphs_parse() -> None:
    builder = Builder("long")
    (x,) = builder.add(Input((2,)), names=("x",))
    for _ in range(3000):
        (x,) = builder.add(Add(), x, x)
    graph = builder.finish([("y", x)])
    assert parse_graph(print_graph(graph)) == graph


def test_a_scan_differs_by_its_body_alone() -> None:
    graph = parse_graph(SCANS)
    node = graph.node("b/h_T")
    assert isinstance(node.op, Scan)
    renamed = parse_graph(SCANS.replace("%s", "%other"))
    assert node.op != renamed.node("b/h_T").op
    assert replace(node.op, body=renamed.node("b/h_T").op.body) == renamed.node("b/h_T").op  # type: ignore[attr-defined]


def test_graphs_of_scans_print_their_bodies_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    graph: Graph = parse_graph(SCANS)
    assert print_graph(graph).count("body a {") == 1
    assert print_graph(graph).count("first a {") == 1
