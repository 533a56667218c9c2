"""``narrow``: the layers that each layer becomes for a target that has it not, in text; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmc import Input, Param, argmax, embed, linear, model, one_hot, step, tanh, xavier
from lstmc import compile as compile_net
from lstmc.interp import forward
from lstmc.ir import Graph, Stage, parse_graph, print_graph, verify
from lstmc.ops import Param as ParamOp
from lstmc.passes import Dead
from lstmc.testing import assert_same_meaning
from lstmc_caffe.ops import CAFFE_OPS, HOST_OPS
from lstmc_caffe.rows.narrow import Narrow, embed_products, half_steps
from lstmc_caffe.targets.target import Target, load_target
from tests.backends.lstmc_caffe.nets import legalised
from tests.backends.lstmc_caffe.rows.graphs import graph_of, lines_of

FLAT, NOSLICE = load_target("flat"), load_target("noslice")


def narrowed(before: Graph, target: Target, low: float = -2.0) -> Graph:
    """What a model of core ops becomes: it means the same, and a second run changes nothing."""
    legal = legalised(before, target.trained).graph
    outcome = Narrow(target).run(legal)
    verify(outcome.graph, Stage.LEGAL, CAFFE_OPS + HOST_OPS)
    assert_same_meaning(before, outcome.graph, low)
    again = Narrow(target).run(outcome.graph)
    assert not again.modified
    assert again.graph is outcome.graph
    return Dead().run(outcome.graph).graph


CASES: dict[str, tuple[str, str]] = {
    "a linear on the last axis": (
        "%z: f32[2,3,5] = linear(%x, %V, %b, axis=2)",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %z: f32[6,5] = caffe.InnerProduct(%x/rows, %V, %b, num_output=5, bias=True)
        %z_2: f32[2,3,5] = host.view(%z, shape=(2, 3, 5))
        return z=%z_2
        """,
    ),
    "a difference": (
        "%z: f32[2,3,4] = sub(%x, %u)",
        """
        %x/rows_2: f32[6,4] = host.view(%x, shape=(6, 4))
        %u/rows: f32[6,4] = host.view(%u, shape=(6, 4))
        %z/negated: f32[6,4] = caffe.Power(%u/rows, scale=-1.0)
        %z: f32[6,4] = caffe.Eltwise(%x/rows_2, %z/negated)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "a softplus": (
        "%z: f32[3,1] = softplus(%s)",
        """
        %z/abs: f32[3,1] = caffe.AbsVal(%s)
        %z/twice_positive: f32[3,1] = caffe.Eltwise(%s, %z/abs)
        %z/positive: f32[3,1] = caffe.Power(%z/twice_positive, scale=0.5)
        %z/negated: f32[3,1] = caffe.Power(%z/abs, scale=-1.0)
        %z/exp: f32[3,1] = caffe.Exp(%z/negated)
        %z/above_one: f32[3,1] = caffe.Power(%z/exp, shift=1.0)
        %z/log: f32[3,1] = caffe.Log(%z/above_one)
        %z: f32[3,1] = caffe.Eltwise(%z/positive, %z/log)
        return z=%z
        """,
    ),
    "x + p": (
        "%z: f32[2,3,4] = add(%x, %d)",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %z/d/ones: f32[6,4] = caffe.DummyData(value=1.0)
        %z/d: f32[6,4] = caffe.Scale(%z/d/ones, %d, learned=True)
        %z: f32[6,4] = caffe.Eltwise(%x/rows, %z/d)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "x - p": (
        "%z: f32[2,3,4] = sub(%x, %d)",
        """
        %d/negated: f32[4] = affine(%d, scale=-1.0)
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %z/negated/ones: f32[6,4] = caffe.DummyData(value=1.0)
        %z/negated: f32[6,4] = caffe.Scale(%z/negated/ones, %d/negated, learned=True)
        %z: f32[6,4] = caffe.Eltwise(%x/rows, %z/negated)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "p - x": (
        "%z: f32[2,3,4] = sub(%d, %x)",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %power: f32[6,4] = caffe.Power(%x/rows, scale=-1.0)
        %z/d/ones: f32[6,4] = caffe.DummyData(value=1.0)
        %z/d: f32[6,4] = caffe.Scale(%z/d/ones, %d, learned=True)
        %z: f32[6,4] = caffe.Eltwise(%power, %z/d)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "x * p": (
        "%z: f32[2,3,4] = mul(%x, %d)",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %z: f32[6,4] = caffe.Scale(%x/rows, %d, learned=True)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "x * p of two axes": (
        "%z: f32[2,3,4] = mul(%x, %Q)",
        """
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %Q/flat: f32[12] = reshape(%Q, shape=(12,))
        %z: f32[2,12] = caffe.Scale(%x/rows, %Q/flat, learned=True)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "x + p of two axes": (
        "%z: f32[2,3,4] = add(%x, %Q)",
        """
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %Q/flat: f32[12] = reshape(%Q, shape=(12,))
        %z/Q/ones: f32[2,12] = caffe.DummyData(value=1.0)
        %z/Q: f32[2,12] = caffe.Scale(%z/Q/ones, %Q/flat, learned=True)
        %z: f32[2,12] = caffe.Eltwise(%x/rows, %z/Q)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "x + p of x's shape": (
        "%z: f32[2,3,4] = add(%x, %P)",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %P/ones: f32[6,4] = caffe.DummyData(value=1.0)
        %P/rows: f32[6,4] = reshape(%P, shape=(6, 4))
        %P/value: f32[6,4] = caffe.Scale(%P/ones, %P/rows, axis=0, num_axes=2, learned=True)
        %z: f32[6,4] = caffe.Eltwise(%x/rows, %P/value)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "a vector of parameters as a value": (
        "%z: f32[5] = tanh(%b)",
        """
        %b/ones: f32[1,5] = caffe.DummyData(value=1.0)
        %b/value: f32[1,5] = caffe.Scale(%b/ones, %b, learned=True)
        %z: f32[1,5] = caffe.TanH(%b/value)
        %z_2: f32[5] = host.view(%z, shape=(5,))
        return z=%z_2
        """,
    ),
    "a matrix of parameters as a value": (
        "%z: f32[3,4] = tanh(%Q)",
        """
        %Q/ones: f32[3,4] = caffe.DummyData(value=1.0)
        %Q/value: f32[3,4] = caffe.Scale(%Q/ones, %Q, axis=0, num_axes=2, learned=True)
        %z: f32[3,4] = caffe.TanH(%Q/value)
        return z=%z
        """,
    ),
    "three axes of parameters as a value": (
        "%z: f32[2,3,4] = tanh(%P)",
        """
        %P/ones: f32[6,4] = caffe.DummyData(value=1.0)
        %P/rows: f32[6,4] = reshape(%P, shape=(6, 4))
        %P/value: f32[6,4] = caffe.Scale(%P/ones, %P/rows, axis=0, num_axes=2, learned=True)
        %z: f32[6,4] = caffe.TanH(%P/value)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "a column along inner axes": (
        "%z: f32[2,3,4] = mul(%x, %s)",
        """
        %s/spread: f32[3,4] = caffe.Concat(%s, %s, %s, %s, axis=1)
        %s/spread/rows: f32[1,12] = host.view(%s/spread, shape=(1, 12))
        %s/spread_2: f32[2,12] = caffe.Concat(%s/spread/rows, %s/spread/rows, axis=0)
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %z: f32[2,12] = caffe.Eltwise(%x/rows, %s/spread_2, operation='PROD')
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "one element": (
        "%z: f32[2,3,4] = mul(%x, %e)",
        """
        %reshape/rows: f32[1,1] = host.view(%e, shape=(1, 1))
        %e/spread: f32[1,4] = caffe.Concat(%reshape/rows, %reshape/rows, %reshape/rows, %reshape/rows, axis=1)
        %e/spread_2: f32[6,4] = caffe.Concat(%e/spread, %e/spread, %e/spread, %e/spread, %e/spread, %e/spread, axis=0)
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %z: f32[6,4] = caffe.Eltwise(%x/rows, %e/spread_2, operation='PROD')
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "two views of matrices, one along axes of the other": (
        """
        %t: f32[3,1] = tanh(%s)
        %y: f32[1,3,1] = reshape(%t, shape=(1, 3, 1))
        %z: f32[1,3,1] = add(%y, %s)
        """,
        """
        %t: f32[3,1] = caffe.TanH(%s)
        %z: f32[3,1] = caffe.Eltwise(%t, %s)
        %z_2: f32[1,3,1] = host.view(%z, shape=(1, 3, 1))
        return z=%z_2
        """,
    ),
    "a whole power": (
        "%z: f32[2,3,4] = power(%x, exponent=3.0)",
        """
        %x/rows_2: f32[6,4] = host.view(%x, shape=(6, 4))
        %x/rows_3: f32[6,4] = host.view(%x, shape=(6, 4))
        %x/rows_4: f32[6,4] = host.view(%x, shape=(6, 4))
        %z/2: f32[6,4] = caffe.Eltwise(%x/rows_2, %x/rows_3, operation='PROD')
        %z: f32[6,4] = caffe.Eltwise(%z/2, %x/rows_4, operation='PROD')
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "a split of the last axis": (
        "%y, %z: f32[2,3,1], f32[2,3,3] = split(%x, axis=2, sizes=(1, 3))",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %y, %z: f32[6,1], f32[6,3] = caffe.Slice(%x/rows, axis=1, sizes=(1, 3))
        %z_2: f32[2,3,3] = host.view(%z, shape=(2, 3, 3))
        return z=%z_2
        """,
    ),
    "a split of the first axis": (
        "%y, %z: f32[1,3,4], f32[1,3,4] = split(%x, axis=0, sizes=(1, 1))",
        """
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %y, %z: f32[1,12], f32[1,12] = caffe.Slice(%x/rows, axis=0, sizes=(1, 1))
        %z_2: f32[1,3,4] = host.view(%z, shape=(1, 3, 4))
        return z=%z_2
        """,
    ),
    "a concat of a middle axis": (
        "%z: f32[2,6,4] = concat(%x, %u, axis=1)",
        """
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %u/rows: f32[2,12] = host.view(%u, shape=(2, 12))
        %z: f32[2,24] = caffe.Concat(%x/rows, %u/rows, axis=1)
        %z_2: f32[2,6,4] = host.view(%z, shape=(2, 6, 4))
        return z=%z_2
        """,
    ),
    "softmax": (
        "%z: f32[2,3,4] = softmax(%x, axis=2)",
        """
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %z: f32[6,4] = caffe.Softmax(%x/rows, axis=1)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "dropout": (
        "%z: f32[2,3,4] = dropout(%x, ratio=0.25, draw=3)",
        "return z=%x",
    ),
    "reshape": (
        "%z: f32[6,4] = reshape(%x, shape=(6, 4))",
        """
        %z: f32[6,4] = host.view(%x, shape=(6, 4))
        return z=%z
        """,
    ),
    "a parameter of a middle axis": (
        "%z: f32[2,3,4] = mul(%x, %c)",
        """
        %c/flat: f32[3] = reshape(%c, shape=(3,))
        %c/flat/rows: f32[3,1] = reshape(%c/flat, shape=(3, 1))
        %c/flat/copies: f32[3,4] = concat(%c/flat/rows, %c/flat/rows, %c/flat/rows, %c/flat/rows, axis=1)
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %c/flat/copies/flat: f32[12] = reshape(%c/flat/copies, shape=(12,))
        %z: f32[2,12] = caffe.Scale(%x/rows, %c/flat/copies/flat, learned=True)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "a constant": (
        """
        %y: f32[3,4] = full(value=0.5)
        %z: f32[2,3,4] = mul(%x, %y)
        """,
        """
        %y: f32[3,4] = caffe.DummyData(value=0.5)
        %y/rows: f32[1,12] = host.view(%y, shape=(1, 12))
        %y/spread: f32[2,12] = caffe.Concat(%y/rows, %y/rows, axis=0)
        %x/rows: f32[2,12] = host.view(%x, shape=(2, 12))
        %z: f32[2,12] = caffe.Eltwise(%x/rows, %y/spread, operation='PROD')
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
    "pieces of a parameter, which is in two blobs": (
        """
        %p, %q: f32[1,4], f32[2,4] = split(%Q, axis=0, sizes=(1, 2))
        %r: f32[4] = reshape(%p, shape=(4,))
        %w: f32[2,3,4] = mul(%x, %r)
        %o: f32[2,3,4] = add(%w, %Q)
        %z: f32[2,3,4] = mul(%o, %r)
        """,
        """
        %p, %q: f32[1,4], f32[2,4] = split(%Q, axis=0, sizes=(1, 2))
        %r: f32[4] = reshape(%p, shape=(4,))
        %x/rows: f32[6,4] = host.view(%x, shape=(6, 4))
        %w: f32[6,4] = caffe.Scale(%x/rows, %r, learned=True)
        %w_2/rows: f32[2,12] = host.view(%w, shape=(2, 12))
        %Q/flat: f32[12] = reshape(%Q, shape=(12,))
        %o/Q/ones: f32[2,12] = caffe.DummyData(value=1.0)
        %o/Q: f32[2,12] = caffe.Scale(%o/Q/ones, %Q/flat, learned=True)
        %o: f32[2,12] = caffe.Eltwise(%w_2/rows, %o/Q)
        %r/rows: f32[1,4] = reshape(%r, shape=(1, 4))
        %r/copies: f32[3,4] = concat(%r/rows, %r/rows, %r/rows, axis=0)
        %r/copies/flat: f32[12] = reshape(%r/copies, shape=(12,))
        %z: f32[2,12] = caffe.Scale(%o, %r/copies/flat, learned=True)
        %z_2: f32[2,3,4] = host.view(%z, shape=(2, 3, 4))
        return z=%z_2
        """,
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_layers_become_layers_on_matrices(before: str, after: str) -> None:
    text = lines_of(narrowed(graph_of(before), FLAT))
    assert text == "\n".join(line.strip() for line in after.strip().splitlines())


def test_a_parameter_of_one_row_stays_as_it_was_written() -> None:
    graph = graph_of("%p: f32[1,4] = param()\n%y: f32[1,4] = input()\n%z: f32[1,4] = add(%y, %p)")
    assert "%p/value: f32[1,4] = caffe.Scale(%p/ones, %p, axis=0, num_axes=2" in lines_of(narrowed(graph, NOSLICE))


@pytest.mark.parametrize("target", ["tpu-mlir", "rknn"])
@pytest.mark.parametrize(("bias", "op"), [("", "num_output=5"), (", %b", "num_output=5, bias=True")])
def test_a_product_of_one_column_has_a_second_one_of_zeros_where_it_is_not_taken(
    bias: str, op: str, target: str
) -> None:
    leaves = {"s": "f32[3,1] = input()", "c": "f32[5,1] = param()", "b": "f32[5] = param()"}
    before = graph_of(f"%z: f32[3,5] = linear(%s, %c{bias}, axis=1)", leaves=leaves)
    assert lines_of(narrowed(before, load_target(target))) == (
        "%s/z/zeros: f32[3,1] = caffe.Power(%s, scale=0.0)\n"
        "%s/z/wide: f32[3,2] = caffe.Concat(%s, %s/z/zeros, axis=1)\n"
        "%c/double: f32[5,2] = concat(%c, %c, axis=1)\n"
        f"%z: f32[3,5] = caffe.InnerProduct(%s/z/wide, %c/double{bias}, {op})\n"
        "return z=%z"
    )


@model
def jumps(X: Any = Input(2, 3)) -> Any:
    return {"step": step(X), "largest": one_hot(argmax(X), 3), "tiny": step(X * 1e-3)}


def test_steps_in_float16_are_steps() -> None:
    """2^96 is no float16, and 0 times it not a number."""
    net = compile_net(jumps, target="rknn")
    assert "e+28" not in net.prototxt
    x = np.array([[0.5, -2.0, 0.0], [3e-4, 1e-4, 2.0]])
    found = forward(net.compiled.expanded, {"X": x}, net.weights, np.float16).outputs
    assert np.array_equal(found["step"], [[1, 0, 0], [1, 1, 1]])
    assert np.array_equal(found["tiny"], [[1, 0, 0], [1, 1, 1]])
    assert np.array_equal(found["largest"], [[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("target", ["tpu-mlir", "x2paddle"])
def test_argmax_of_three_axes_where_a_maximum_is_not_exact(target: str) -> None:
    @model
    def places(X: Any = Input(6, 2, 7)) -> Any:
        return {"last": argmax(X), "middle": argmax(X, 1)}

    net = compile_net(places, target=target)
    x = np.random.default_rng(0).standard_normal((6, 2, 7)).astype(np.float32)
    found = forward(net.compiled.expanded, {"X": x}, net.weights, np.float32).outputs
    assert np.array_equal(found["last"].reshape(6, 2), x.argmax(2))
    assert np.array_equal(found["middle"].reshape(6, 7), x.argmax(1))


def test_tanh_of_a_small_factor_is_as_it_is() -> None:
    before = parse_graph(
        "graph g {\n%x: f32[2] = input()\n%a: f32[2] = affine(%x, scale=64.0)\n%y: f32[2] = tanh(%a)\nreturn y=%y\n}"
    )
    assert not half_steps.run(before).modified
    far = parse_graph(print_graph(before).replace("64.0", str(2.0**27)))
    made = half_steps.run(far)
    assert made.counts == {"tanh_of_tanh": 1}
    assert not half_steps.run(made.graph).modified


@model
def tagger(words: Any = Input(3, 2), *, W: Any = Param(7, 4, fill=xavier())) -> Any:
    """Two embeddings of one matrix, which a product has too."""
    y = tanh(embed(words, W) + embed(6 - words, W))
    return {"y": y, "scores": linear(y, W)}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["opencv", "mnn", "noslice"])
def test_rows_that_integers_name_are_a_product_where_there_is_no_embed(target: str) -> None:
    net = compile_net(tagger, target=target)
    assert "Embed" not in {layer.type for layer in net.layers}
    verified = net.verify([target, "interpreter"] if target != "noslice" else ["interpreter", "caffe-cpu"])
    assert verified, str(verified)


@pytest.mark.parametrize(("rows", "counts"), [(2048, {"embed": 2}), (2049, {})])
def test_so_many_rows_that_float16_has_not_all_their_numbers_stay_an_embed(rows: int, counts: dict[str, int]) -> None:
    graph = parse_graph(f"""\
graph net {{
  %x: f32[3] = input()
  %W: f32[{rows},2] = param()
  %y: f32[3,2] = embed(%x, %W)
  %z: f32[3,2] = embed(%x, %W)
  return y=%y, z=%z
}}
""")
    outcome = embed_products.run(graph)
    assert outcome.counts == counts
    params = [node for node in outcome.graph if isinstance(node.op, ParamOp)]
    assert len(params) == (3 if counts else 1), "ones and places are there once"


@pytest.mark.parametrize(("factor", "counts"), [(2.0**27, {"mask": 1}), (2.0**26, {})])
def test_a_mask_in_float16_has_a_factor_that_is_one(factor: float, counts: dict[str, int]) -> None:
    text = "graph g {{\n  %x: f32[2] = input()\n  %a: f32[2] = affine(%x, scale={0}, shift=-{0})\n  return a=%a\n}}\n"
    outcome = half_steps.run(parse_graph(text.format(factor)))
    assert outcome.counts == counts
    assert print_graph(outcome.graph) == text.format(2.0**15 if counts else factor)
