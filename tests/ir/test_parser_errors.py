"""Text that is not a graph is refused with the line's number, what was expected there and what was found."""

from __future__ import annotations

import pytest

from lstmc.errors import ParseError
from lstmc.ir import parse_filler, parse_graph
from lstmc.ops import Constant, Filler, Uniform, Xavier

GOOD = """\
graph g {
  %x: f32[2,4] = input()
  %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))
  %y: f32[2,4] = scan(%x, length=2) {
    body s {
      %v: f32[4] = arg()
      %w: f32[4] = tanh(%v)
      return y=%w
    }
  }
  return y=%y, b=%b
}
"""
BAD: list[tuple[str, str, str]] = [
    ("graph g {", "graph g", "line 1: expected `graph NAME {`, found: graph g"),
    ("graph g {", "body g {", "line 1: expected `graph NAME {`, found: body g {"),
    (GOOD, "", "line 1: expected `graph NAME {`, found: the end of the text"),
    ("}\n", "}\nmore\n", "line 13: expected nothing after the graph's closing brace, found: more"),
    (
        "  return y=%y, b=%b\n}\n",
        "",
        "line 11: expected `%NAME: TYPE = OP(...)` or `return`, found: the end of the text",
    ),
    ("\n}\n", "\n", "line 12: expected `}`, found: the end of the text"),
    ("= input()", "input()", "line 2: expected `%NAME: TYPE = OP(...)` or `return`, found: %x: f32[2,4] input()"),
    ("= input()", "= input", "line 2: expected `%NAME: TYPE = OP(...)` or `return`, found: %x: f32[2,4] = input"),
    ("= input()", "= output()", "line 2: expected a known op, not output, found: %x: f32[2,4] = output()"),
    ("= input()", "= input(4)", "line 2: expected attributes as NAME=VALUE, found: %x: f32[2,4] = input(4)"),
    ("= input()", "= input(a b)", "line 2: expected attributes as NAME=VALUE, found: %x: f32[2,4] = input(a b)"),
    (
        "= input()",
        "= input(fill=f(1))",
        "line 2: expected attributes as NAME=VALUE, found: %x: f32[2,4] = input(fill=f(1))",
    ),
    ("= input()", "= input(**{})", "line 2: expected attributes as NAME=VALUE, found: %x: f32[2,4] = input(**{})"),
    (
        "= input()",
        "= input(fill=uniform(2, 1))",
        "line 2: expected attributes of input (uniform: expected min <= max, found min 2 and max 1),"
        " found: %x: f32[2,4] = input(fill=uniform(2, 1))",
    ),
    (
        "= input()",
        "= input(fill=constant(1, 2))",
        "line 2: expected attributes of input (constant takes 1 argument, found 2; it is constant(value=0.0)),"
        " found: %x: f32[2,4] = input(fill=constant(1, 2))",
    ),
    (
        "= input()",
        "= input(filler=1)",
        "line 2: expected attributes of input (it has shape, fill, values, not filler),"
        " found: %x: f32[2,4] = input(filler=1)",
    ),
    (
        "length=2",
        "size=2",
        "line 4: expected attributes of scan (it has body, length, reverse, first, kept, inside, not size),"
        " found: %y: f32[2,4] = scan(%x, size=2) {",
    ),
    (
        "split(%x",
        "split(%z",
        "line 3: expected a value defined above, not %z,"
        " found: %a, %b: f32[2,1], f32[2,3] = split(%z, axis=1, sizes=(1, 3))",
    ),
    (
        "axis=1, sizes",
        "axis=2, sizes",
        "line 3: expected a well-typed node (split: axis 2 does not exist: x is f32[2,4], with 2 axes),"
        " found: %a, %b: f32[2,1], f32[2,3] = split(%x, axis=2, sizes=(1, 3))",
    ),
    (
        "split(%x",
        "split(%x, %x",
        "line 3: expected a well-typed node (Split.infer() takes 2 positional arguments but 3 were given),"
        " found: %a, %b: f32[2,1], f32[2,3] = split(%x, %x, axis=1, sizes=(1, 3))",
    ),
    (
        "f32[2,1], f32[2,3]",
        "f32[2,1], f32[2,2]",
        "line 3: expected 2 new names and types f32[2,1], f32[2,3],"
        " found: %a, %b: f32[2,1], f32[2,2] = split(%x, axis=1, sizes=(1, 3))",
    ),
    (
        "%a, %b:",
        "%a:",
        "line 3: expected 2 new names and types f32[2,1], f32[2,3],"
        " found: %a: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))",
    ),
    (
        "%a, %b:",
        "%a, %a:",
        "line 3: expected 2 new names and types f32[2,1], f32[2,3],"
        " found: %a, %a: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))",
    ),
    (
        "%a, %b:",
        "%a, %x:",
        "line 3: expected 2 new names and types f32[2,1], f32[2,3],"
        " found: %a, %x: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))",
    ),
    (
        "f32[2,4] = input",
        "f64[2,4] = input",
        "line 2: expected 1 new names and types f32[2,4], found: %x: f64[2,4] = input()",
    ),
    ("return y=%w", "return y=%x", "line 8: expected a value defined above, not %x, found: return y=%x"),
    (
        "return y=%w",
        "return next y=%w",
        "line 8: expected `next NAME=%VALUE` for each state, after the step's outputs, found: return next y=%w",
    ),
    (
        "%a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))",
        "%a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))  @ lstm",
        "line 3: expected SCAN:STEP, for all or for each of 2, after @,"
        " found: %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))  @ lstm",
    ),
    (
        "%a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))",
        "%a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))  @ s:0, s:1, s:2",
        "line 3: expected SCAN:STEP, for all or for each of 2, after @,"
        " found: %a, %b: f32[2,1], f32[2,3] = split(%x, axis=1, sizes=(1, 3))  @ s:0, s:1, s:2",
    ),
    ("b=%b", "b=%b late -1", "line 11: expected a number of steps after `late`, found: return y=%y, b=%b late -1"),
    ("b=%b", "b", "line 11: expected each result as NAME=%VALUE, found: return y=%y, b"),
    ("    }\n  }\n", "    }\n", "line 10: expected `}`, found: return y=%y, b=%b"),
    ("    }\n  }\n", "    }\n    second s {\n", "line 10: expected `}`, found: second s {"),
    (
        ") {\n",
        ")\n",
        "line 4: expected attributes of scan (Scan.__init__() missing 1 required positional argument: 'body'),"
        " found: %y: f32[2,4] = scan(%x, length=2)",
    ),
    (
        "= input()\n",
        "= input() {\n    body b {\n      return\n    }\n  }\n",
        "line 2: expected attributes of input (it has shape, fill, values, not body), found: %x: f32[2,4] = input() {",
    ),
    (
        "scan(%x, length=2)",
        "scan(%x, length=3)",
        "line 4: expected a well-typed node (scan: argument v must be f32[3,4], found f32[2,4]),"
        " found: %y: f32[2,4] = scan(%x, length=3) {",
    ),
]


@pytest.mark.parametrize(("good", "bad", "text"), BAD, ids=range(len(BAD)))
def test_text_that_is_no_graph_is_refused(good: str, bad: str, text: str) -> None:
    parse_graph(GOOD)
    assert good in GOOD
    with pytest.raises(ParseError) as caught:
        parse_graph(GOOD.replace(good, bad, 1) if good != "}\n" else GOOD[:-2] + bad)
    assert caught.value.message == text


def test_a_dump_s_header_counts_as_lines() -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph("# simplify: ...\n# nodes: 1 -> 1\ngraph g {\n  %x = input()\n")
    assert caught.value.message == "line 4: expected `%NAME: TYPE = OP(...)` or `return`, found: %x = input()"


@pytest.mark.parametrize("op", ["lstm", "caffe.Inpt", "nowhere.relu"])
def test_an_op_of_no_dialect_is_refused(op: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(f"graph g {{\n  %x: f32[2] = {op}()\n  return\n}}\n")
    assert caught.value.message == f"line 2: expected a known op, not {op}, found: %x: f32[2] = {op}()"


def test_the_ops_of_an_installed_dialect_are_known() -> None:
    (node,) = parse_graph("graph g {\n  %x: f32[2] = caffe.Input()\n  return\n}\n")
    assert node.op.name == "caffe.Input"


@pytest.mark.parametrize("filler", [Constant(0.5), Uniform(-0.1, 0.1), Xavier("average")], ids=repr)
def test_a_filler_is_read_as_it_is_printed(filler: Filler) -> None:
    assert parse_filler(repr(filler)) == filler


@pytest.mark.parametrize("text", ["", "uniform", "uniform(1", "cauchy(1)", "integers(0, 1)", "0.5", "uniform(x, 1)"])
def test_text_that_is_no_filler_is_refused(text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_filler(text)
    assert caught.value.message == f"expected a filler, found: {text}"
