"""``legalize`` of what stands around recurrent cells: which layers, and what Caffe has no gradient or layer for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmc.errors import BackendError
from lstmc.ir import Graph, Stage, parse_graph, verify
from lstmc.passes import PassResult
from lstmc.testing import assert_same_meaning
from lstmc_caffe.ops import CAFFE_OPS, Bias, Scale
from tests.backends.lstmc_caffe.legalize.test_legalize import layers
from tests.backends.lstmc_caffe.nets import legalised
from tests.rewrites import numbered, rewrites

LEAVES = {
    "x": "f32[2,3,4] = input()",
    "i": "f32[2,3] = input(values=integers(0, 4))",
    "k": "f32[2,3] = input(values=integers(0, 3))",
    "j": "f32[2,4] = input(values=integers(0, 2))",
    "t": "f32[2,3,4] = input()",
    "p": "f32[2,3,5,6] = input()",
    "q": "f32[7,2,3,5,6] = input()",
    "r": "f32[1,2,1,2,2] = input()",
    "V": "f32[5,4] = param()",
    "F": "f32[4,3,2,1] = param()",
    "b": "f32[4] = param()",
}


def graph_of(lines: str, returned: str) -> Graph:
    used = {name for name in LEAVES if f"%{name}," in lines or f"%{name})" in lines}
    leaves = "".join(f"  %{name}: {LEAVES[name]}\n" for name in LEAVES if name in used)
    body = "".join(f"  {line.strip()}\n" for line in lines.strip().splitlines())
    return parse_graph(f"graph g {{\n{leaves}{body}  return {returned}\n}}\n")


CASES = rewrites(Path(__file__).with_name("legalize_layers.lir"))


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_core_ops_become_layers(before: str, after: str) -> None:
    graph = graph_of(before, "z=%z")
    outcome = legalised(graph)
    verify(outcome.graph, Stage.LEGAL, CAFFE_OPS)
    assert_same_meaning(graph, outcome.graph)
    assert legalised(outcome.graph) == PassResult(outcome.graph, False, {})
    assert numbered(layers(outcome.graph)) == numbered(after)


MATRIX = "W must be a Param: Caffe's {} has its weights as a blob of its own"
ENDS = "must not depend on a Param: Caffe has no gradient there, and aborts where one is asked for"
SCAN = """\
  %Y, %h_T: f32[3,2], f32[2] = scan(%X, %h0, %W, length=3) {
    body step {
      %x: f32[2] = arg()
      %h_prev: f32[2] = arg(role='state')
      %W: f32[4,5] = arg(role='weight')
      %e: f32[2,5] = embed(%h_prev, %W)
      %s: f32[2] = sum(%e, axis=1)
      %h: f32[2] = NEXT
      return h=%x, next h=%h
    }
  }
  return Y=%Y
"""


@pytest.mark.parametrize(
    ("text", "error", "found"),
    [
        (
            "%w: f32[5,4] = input()\n%z: f32[2,3,4] = embed(%i, %w)  # net.py:1:0-1:9\n",
            f"embed: {MATRIX.format('Embed')}",
            "w: f32[5,4], computed by caffe.Input",
        ),
        (
            "%f: f32[4,3,2,1] = tanh(%F)\n%z: f32[2,4,4,6] = conv(%p, %f)  # net.py:1:0-1:9\n",
            f"conv: {MATRIX.format('Convolution')}",
            "f: f32[4,3,2,1], computed by caffe.TanH",
        ),
        (
            "%f: f32[4] = tanh(%b)\n%z: f32[2,4,4,6] = conv(%p, %F, %f)  # net.py:1:0-1:9\n",
            f"conv: {MATRIX.format('Convolution').replace('W', 'b', 1)}",
            "f: f32[4], computed by caffe.TanH",
        ),
        (
            "%n: f32[5] = sum(%V, axis=1)\n%z: f32[5,4] = embed(%n, %V)  # net.py:1:0-1:9\n",
            f"embed: x {ENDS}",
            "n: f32[5]",
        ),
        (
            "%l: f32[2,3,5] = linear(%x, %V, axis=2)\n%n: f32[2,3] = sum(%l, axis=2)\n"
            "%z: f32[] = softmax_loss(%x, %n, axis=2)  # net.py:1:0-1:9\n",
            f"softmax_loss: label {ENDS}",
            "n: f32[2,3]",
        ),
        (
            "%u: f32[2,3,4] = add(%x, %b)\n%z: f32[] = sigmoid_cross_entropy_loss(%x, %u)  # net.py:1:0-1:9\n",
            f"sigmoid_cross_entropy_loss: target {ENDS}",
            "u: f32[2,3,4]",
        ),
    ],
)
def test_what_caffe_cannot_do_is_refused(text: str, error: str, found: str) -> None:
    graph = graph_of(text, "z=%z")
    with pytest.raises(BackendError) as caught:
        legalised(graph)
    assert str(caught.value) == f"BackendError: {error}\n  net.py:1:1\n  found {found}"


@pytest.mark.parametrize(("following", "refused"), [("affine(%s, scale=0.0)", True), ("affine(%x, scale=2.0)", False)])
def test_what_goes_into_a_state_is_followed_through_the_loop(following: str, refused: bool) -> None:
    leaves = "  %X: f32[3,2] = input()\n  %h0: f32[2] = full()\n  %W: f32[4,5] = param()\n"
    graph = parse_graph(f"graph g {{\n{leaves}{SCAN.replace('NEXT', following)}}}\n")
    if not refused:
        assert legalised(graph).modified
        return
    with pytest.raises(BackendError) as caught:
        legalised(graph)
    assert str(caught.value) == f"BackendError: embed: x {ENDS}\n  found h_prev: f32[2]"


def test_accuracy_may_look_at_trained_scores() -> None:
    graph = graph_of("%s: f32[2,3,4] = add(%x, %b)\n%z: f32[] = accuracy(%s, %j, axis=1)", "z=%z")
    assert legalised(graph).counts == {"input_to_layer": 2, "add_to_layers": 1, "accuracy_to_layer": 1}


@pytest.mark.parametrize("shape", ["1", "4", "1,1", "3,1", "1,4", "3,4", "2,1,1", "2,3,4"])
@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_a_parameter_that_is_not_trained_is_a_blob(op: str, shape: str) -> None:
    before = parse_graph(f"""graph g {{
        %x: f32[2,3,4] = input()
        %p: f32[{shape}] = param()
        %y: f32[2,3,4] = {op}(%x, %p)
        return y=%y
    }}""")
    after = legalised(before, trained=False).graph
    layer = after.node(after.outputs[0].ref.node).op
    assert isinstance(layer, Bias | Scale)
    assert layer.learned
    assert_same_meaning(before, after)
