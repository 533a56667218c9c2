"""``legalize`` of what stands around recurrent cells: which layers, and what Caffe has no gradient or layer for."""

from __future__ import annotations

import pytest

from lstmc.errors import BackendError
from lstmc.ir import Graph, Stage, parse_graph, verify
from lstmc.passes import PassResult
from lstmc.testing.equivalence import assert_same_meaning
from lstmc_caffe.ops import CAFFE_OPS, Bias, Scale
from tests.backends.lstmc_caffe.legalize.test_legalize import layers
from tests.backends.lstmc_caffe.nets import legalised

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


CASES: dict[str, tuple[str, str]] = {
    "embed": (
        "%z: f32[2,3,4] = embed(%i, %V)",
        "%z: f32[2,3,4] = caffe.Embed(%i, %V, input_dim=5, num_output=4)",
    ),
    "embed from joined parameters, one of them read as a value too": (
        """
        %W: f32[10,4] = concat(%V, %V, axis=0)
        %e: f32[2,3,4] = embed(%i, %W)
        %z: f32[2,3,4] = add(%e, %b)
        """,
        """
        %W: f32[10,4] = concat(%V, %V, axis=0)
        %e: f32[2,3,4] = caffe.Embed(%i, %W, input_dim=10, num_output=4)
        %z: f32[2,3,4] = caffe.Bias(%e, %b, axis=2, learned=True)
        """,
    ),
    "a matrix that is embedded from and multiplied by": (
        """
        %e: f32[2,3,4] = embed(%i, %V)
        %z: f32[2,3,5] = linear(%e, %V, axis=2)
        """,
        """
        %e: f32[2,3,4] = caffe.Embed(%i, %V, input_dim=5, num_output=4)
        %z: f32[2,3,5] = caffe.InnerProduct(%e, %V, axis=2, num_output=5)
        """,
    ),
    "images of four axes": (
        """
        %c: f32[2,4,2,8] = conv(%p, %F, %b, stride=(2, 1), pad=(0, 1))
        %z: f32[2,4,1,7] = max_pool(%c, size=(2, 2), stride=(2, 1))
        """,
        """
        %c: f32[2,4,2,8] = caffe.Convolution(%p, %F, %b, stride=(2, 1), pad=(0, 1), num_output=4, kernel=(2, 1),"""
        """ bias=True)
        %z: f32[2,4,1,7] = caffe.MaxPooling(%c, size=(2, 2), stride=(2, 1))
        """,
    ),
    "images of more axes": (
        "%z: f32[7,2,4,4,6] = conv(%q, %F)",
        """
        %reshape: f32[14,3,5,6] = caffe.Reshape(%q, shape=(14, 3, 5, 6))
        %convolution: f32[14,4,4,6] = caffe.Convolution(%reshape, %F, num_output=4, kernel=(2, 1))
        %z: f32[7,2,4,4,6] = caffe.Reshape(%convolution, shape=(7, 2, 4, 4, 6))
        """,
    ),
    "one image": (
        "%z: f32[2,3,2] = ave_pool(%x, size=(1, 2), stride=(1, 2))",
        """
        %reshape: f32[1,2,3,4] = caffe.Reshape(%x, shape=(1, 2, 3, 4))
        %avepooling: f32[1,2,3,2] = caffe.AvePooling(%reshape, size=(1, 2), stride=(1, 2))
        %z: f32[2,3,2] = caffe.Reshape(%avepooling, shape=(2, 3, 2))
        """,
    ),
    "dropout": (
        "%z: f32[2,3,4] = dropout(%x, ratio=0.25, draw=3)",
        "%z: f32[2,3,4] = caffe.Dropout(%x, ratio=0.25, draw=3)",
    ),
    "sums over the last axes": (
        """
        %s: f32[2,3] = sum(%x, axis=2)
        %u: f32[2] = sum(%s, axis=1)
        %z: f32[] = sum(%u, axis=0)
        """,
        """
        %s: f32[2,3] = caffe.Reduction(%x, axis=2)
        %u: f32[2] = caffe.Reduction(%x, axis=1)
        %z: f32[] = caffe.Reduction(%x)
        """,
    ),
    "a sum over another axis": (
        "%z: f32[2,4] = sum(%x, axis=1)",
        """
        %reshape: f32[2,1,3,4] = caffe.Reshape(%x, shape=(2, 1, 3, 4))
        %avepooling: f32[2,1,1,4] = caffe.AvePooling(%reshape, size=(3, 1))
        %power: f32[2,1,1,4] = caffe.Power(%avepooling, scale=3.0)
        %z: f32[2,4] = caffe.Reshape(%power, shape=(2, 4))
        """,
    ),
    "a transpose, cut along the shorter axis": (
        "%z: f32[3,2,4] = transpose(%x, axis=0)",
        """
        %slice, %slice_2: f32[1,3,4], f32[1,3,4] = caffe.Slice(%x, axis=0, sizes=(1, 1))
        %reshape: f32[3,1,4] = caffe.Reshape(%slice, shape=(3, 1, 4))
        %reshape_2: f32[3,1,4] = caffe.Reshape(%slice_2, shape=(3, 1, 4))
        %z: f32[3,2,4] = caffe.Concat(%reshape, %reshape_2, axis=1)
        """,
    ),
    "a transpose, cut along the second of its axes": (
        """
        %y: f32[2,4,3] = reshape(%x, shape=(2, 4, 3))
        %z: f32[2,3,4] = transpose(%y, axis=1)
        """,
        """
        %y: f32[2,4,3] = caffe.Reshape(%x, shape=(2, 4, 3))
        %slice, %slice_2, %slice_3: f32[2,4,1], f32[2,4,1], f32[2,4,1] = caffe.Slice(%y, axis=2, sizes=(1, 1, 1))
        %reshape: f32[2,1,4] = caffe.Reshape(%slice, shape=(2, 1, 4))
        %reshape_2: f32[2,1,4] = caffe.Reshape(%slice_2, shape=(2, 1, 4))
        %reshape_3: f32[2,1,4] = caffe.Reshape(%slice_3, shape=(2, 1, 4))
        %z: f32[2,3,4] = caffe.Concat(%reshape, %reshape_2, %reshape_3, axis=1)
        """,
    ),
    "a transpose of a square": (
        """
        %y: f32[2,2,6] = reshape(%x, shape=(2, 2, 6))
        %z: f32[2,2,6] = transpose(%y, axis=0)
        """,
        """
        %y: f32[2,2,6] = caffe.Reshape(%x, shape=(2, 2, 6))
        %slice, %slice_2: f32[2,1,6], f32[2,1,6] = caffe.Slice(%y, axis=1, sizes=(1, 1))
        %reshape: f32[1,2,6] = caffe.Reshape(%slice, shape=(1, 2, 6))
        %reshape_2: f32[1,2,6] = caffe.Reshape(%slice_2, shape=(1, 2, 6))
        %z: f32[2,2,6] = caffe.Concat(%reshape, %reshape_2, axis=0)
        """,
    ),
    "a loss of classes": (
        "%z: f32[] = softmax_loss(%x, %j, axis=1, ignore_label=2, normalization='full')",
        "%z: f32[] = caffe.SoftmaxWithLoss(%x, %j, axis=1, ignore_label=2, normalization='full')",
    ),
    "classes along the first axis": (
        """
        %y: f32[4,2,3] = reshape(%x, shape=(4, 2, 3))
        %z: f32[] = softmax_loss(%y, %k, axis=0)
        """,
        """
        %y: f32[4,2,3] = caffe.Reshape(%x, shape=(4, 2, 3))
        %reshape: f32[1,4,2,3] = caffe.Reshape(%x, shape=(1, 4, 2, 3))
        %reshape_2: f32[1,2,3] = caffe.Reshape(%k, shape=(1, 2, 3))
        %z: f32[] = caffe.SoftmaxWithLoss(%reshape, %reshape_2, axis=1)
        """,
    ),
    "accuracy": (
        "%z: f32[] = accuracy(%x, %j, axis=1, top_k=2)",
        "%z: f32[] = caffe.Accuracy(%x, %j, axis=1, top_k=2)",
    ),
    "losses of arrays": (
        """
        %c: f32[] = sigmoid_cross_entropy_loss(%x, %t)
        %d: f32[] = sigmoid_cross_entropy_loss(%x, %t, normalization='batch_size')
        %e: f32[] = euclidean_loss(%x, %t)
        %s: f32[] = add(%c, %d)
        %z: f32[] = add(%s, %e)
        """,
        f"""
        %sigmoidcrossentropyloss: f32[] = caffe.SigmoidCrossEntropyLoss(%x, %t)
        %c: f32[] = caffe.Power(%sigmoidcrossentropyloss, scale={2 / 24!r})
        %d: f32[] = caffe.SigmoidCrossEntropyLoss(%x, %t)
        %e: f32[] = caffe.EuclideanLoss(%x, %t)
        %s: f32[] = caffe.Eltwise(%c, %d)
        %z: f32[] = caffe.Eltwise(%s, %e)
        """,
    ),
    "a loss of arrays of five axes": (
        "%z: f32[] = euclidean_loss(%r, %r)",
        """
        %reshape: f32[1,8] = caffe.Reshape(%r, shape=(1, 8))
        %reshape_2: f32[1,8] = caffe.Reshape(%r, shape=(1, 8))
        %z: f32[] = caffe.EuclideanLoss(%reshape, %reshape_2)
        """,
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_core_ops_become_layers(before: str, after: str) -> None:
    graph = graph_of(before, "z=%z")
    outcome = legalised(graph)
    verify(outcome.graph, Stage.LEGAL, CAFFE_OPS)
    assert_same_meaning(graph, outcome.graph)
    assert legalised(outcome.graph) == PassResult(outcome.graph, False, {})
    assert layers(outcome.graph) == "\n".join(line.strip() for line in after.strip().splitlines())


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
