"""Graphs near those that become Caffe's recurrent layers: what is rewritten means the same, whatever it reads."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc.errors import LstmcError
from lstmc.interp import forward, named_rng
from lstmc.ir import Graph, Stage, parse_graph, verify
from lstmc.ops import Input, IntegerRange, Param
from lstmc.passes import Pass
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.lstm_unit import find_lstm_unit
from lstmc_caffe.legalize.native import FindNativeLayers
from tests.backends.lstmc_caffe.legalize.test_lstm_unit import BEFORE as PACKED
from tests.backends.lstmc_caffe.legalize.test_lstm_unit_cont import GATES
from tests.backends.lstmc_caffe.legalize.test_native_cont import BEFORE as NATIVE
from tests.backends.lstmc_caffe.legalize.test_native_cont import ONLY_Y, ZERO, changed

DEFINITION = re.compile(r" *(%[^=]*): (f32[^=]*) = (.*)")
SWAPS = (
    *(
        ("Sigmoid", "TanH"),
        ("TanH", "Sigmoid"),
        (", operation='PROD'", ""),
        ("Eltwise", "Eltwise"),
        ("()", "(value=1.0)"),
    ),
    *(("values=integers(0, 1)", ""), ("fill=constant(0)", "fill=constant(1)"), ("axis=0, num_axes=2", "axis=1")),
    *(
        ("num_output=8", "num_output=8, transpose=True"),
        ("%r, %z)", "%r, %z, coeff=(1.0, 2.0))"),
        ("next h=%h", "next h=%tc"),
    ),
)


# the recurrent matrix is read once more
TWICE = PACKED.replace("      return %h,", """\
      %again: f32[1,3,8] = caffe.InnerProduct(%h_prev, %W, axis=2, num_output=8)
      %q, %rest: f32[1,3,2], f32[1,3,6] = caffe.Slice(%again, axis=2, sizes=(2, 6))
      return %q,""")  # fmt: skip


UNIT, OWN = find_lstm_unit, FindNativeLayers()
RNN = """\
graph net {
  %x: f32[2,3,4] = caffe.Input()
  %h_0: f32[3,2] = caffe.DummyData()
  %W: f32[2,4] = param()
  %b: f32[2] = param()
  %V: f32[2,2] = param()
  %U: f32[2,2] = param()
  %a: f32[2] = param()
  %z: f32[2,3,2] = caffe.InnerProduct(%x, %W, %b, axis=2, num_output=2, bias=True)
  %s, %h_T: f32[2,3,2], f32[3,2] = scan(%z, %h_0, %V, length=2) {
    body rnn {
      %z: f32[3,2] = arg()
      %h_prev: f32[3,2] = arg(role='state')
      %V: f32[2,2] = arg(role='weight')
      %r: f32[3,2] = caffe.InnerProduct(%h_prev, %V, num_output=2)
      %sum: f32[3,2] = caffe.Eltwise(%r, %z)
      %h: f32[3,2] = caffe.TanH(%sum)
      return %h, next h=%h
    }
  }
  %o: f32[2,3,2] = caffe.InnerProduct(%s, %U, %a, axis=2, num_output=2, bias=True)
  %y: f32[2,3,2] = caffe.TanH(%o)
  return y=%y
}
"""


def near(text: str) -> Iterator[str]:
    """Yield the text with one difference: an operand of the same type, two results that change places, a function, or
    one more output."""
    lines, known = text.splitlines(), defaultdict[str, list[str]](list)
    outside: list[str] = []
    for number, line in enumerate(lines):
        if " body " in line:
            known.clear()
        definition = DEFINITION.match(line)
        if definition is None:
            continue
        names, types = definition[1].split(", "), re.findall(r"f32\[[\d,]*\]", definition[2])
        type_of = {name: type_ for type_, held in known.items() for name in held}
        edits = [line.replace(old, new) for old, new in SWAPS]
        for one, other in combinations(names, 2):
            edits.append(line.replace(one, "%?", 1).replace(other, one, 1).replace("%?", other, 1))
        for operand in re.finditer(r"%[\w/]+", line):
            if operand.start() > definition.start(3):
                others = known[type_of.get(operand[0], "")]
                edits += [line[: operand.start()] + other + line[operand.end() :] for other in others]
        for edit in edits:
            yield "\n".join([*lines[:number], edit, *lines[number + 1 :]])
        for name, type_ in zip(names, types, strict=True):
            known[type_].append(name)
            outside += [name] if line.startswith("  %") else []
    for name in outside:
        yield "\n".join([*lines[:-2], f"{lines[-2]}, more={name}", lines[-1]])


def outputs(graph: Graph) -> dict[str, np.ndarray]:
    leaves: dict[type, dict[str, np.ndarray]] = {Input: {}, Param: {}}
    for node in graph:
        rng, shape = named_rng(0, node.name), node.types[0].shape
        if isinstance(node.op, Input):
            leaves[Input][node.name] = rng.uniform(-1, 1, shape)
            if isinstance(node.op.values, IntegerRange):
                leaves[Input][node.name] = rng.integers(0, 2, shape).astype(float)
            elif node.op.fill is not None:
                leaves[Input][node.name] = np.zeros(shape)
        elif isinstance(node.op, Param):
            leaves[Param][node.name] = rng.uniform(-1, 1, shape)
    return forward(graph, leaves[Input], leaves[Param]).outputs


@pytest.mark.parametrize(
    ("pass_", "text", "least"),
    [
        (UNIT, PACKED, 20),
        (UNIT, TWICE, 0),
        (UNIT, GATES, 20),
        (OWN, NATIVE, 5),
        (OWN, changed(*ZERO, ONLY_Y), 5),
        (OWN, RNN, 5),
    ],
    ids=["packed", "twice", "gates", "native", "from zero", "rnn"],
)
def test_what_is_rewritten_means_the_same(pass_: Pass, text: str, least: int) -> None:
    rewritten = 0
    for other in dict.fromkeys(near(text)):
        try:
            before = parse_graph(other, caffe.CAFFE_OPS)
            verify(before, Stage.LEGAL, caffe.CAFFE_OPS)
            outcome = pass_.run(before)
        except LstmcError:
            continue
        verify(outcome.graph, Stage.LEGAL, caffe.CAFFE_OPS)
        if outcome.modified:
            rewritten += 1
            expected, found = outputs(before), outputs(outcome.graph)
            for name, value in found.items():
                assert_allclose(value, expected[name], atol=1e-12, err_msg=other)
    assert rewritten >= least
