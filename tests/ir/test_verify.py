"""Verification finds each way in which a graph can be broken, and what no stage allows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lstmc.ir import Builder, Graph, Node, Output, Ref, Stage, parse_graph, verify
from lstmc.ops import Add, Arg, Full, Input, Linear, Op, Param, Precomputed, Sigmoid, Split, Tanh
from lstmc.source import SrcLoc
from lstmc.types import TensorType
from lstmc_caffe.ops import CAFFE_OPS
from tests.ir.refusal import refused

LEGAL = """\
graph net {
  %x: f32[2,3] = caffe.Input()
  %W: f32[4,3] = param()
  %z: f32[2,4] = caffe.InnerProduct(%x, %W, num_output=4)
  return z=%z
}
"""
LOC = SrcLoc("a.py", 7, 4, 7, 9)


def started() -> tuple[Builder, Ref]:
    builder = Builder("g")
    (x,) = builder.add(Input((2, 4)), names=("x",))
    return builder, x


def tampered(change: Callable[[Builder], object]) -> Graph:
    """x, y = tanh(x), returned as y, after a change that no Builder method makes."""
    builder, x = started()
    (y,) = builder.add(Tanh(), x, names=("y",))
    change(builder)
    return builder.finish([("y", y)])


def test_a_well_formed_graph_passes_at_its_stage() -> None:
    verify(parse_graph(LEGAL, CAFFE_OPS), Stage.LEGAL, CAFFE_OPS)
    verify(parse_graph(LEGAL, CAFFE_OPS), Stage.EXPANDED, CAFFE_OPS)


def test_a_type_that_is_not_the_inferred_one() -> None:
    builder, x = started()
    (y,) = builder.add(Tanh(), x, names=("y",), types=(TensorType((2, 5)),), loc=LOC)
    assert refused(builder.finish([("y", y)])) == (
        "graph g: has the wrong type: expected f32[2,4]\n  a.py:7:5\n  %y: f32[2,5] = tanh(%x)"
    )


def test_operands_that_do_not_fit() -> None:
    builder, x = started()
    (w,) = builder.add(Input((3, 3)), names=("w",))
    (y,) = builder.add(Linear(), x, w, names=("y",), types=(TensorType((2, 3)),))
    assert refused(builder.finish([("y", y)])) == (
        "graph g: is not well typed: linear: last axes differ: x is f32[2,4], w is f32[3,3]\n"
        "  %y: f32[2,3] = linear(%x, %w)"
    )


def test_one_bad_node_among_many_of_the_same_op_object() -> None:
    builder, x = started()
    op, types = Tanh(), (TensorType((2, 4)),)
    for _ in range(3):
        builder.add(op, x, types=types)
    builder.add(op, x, names=("bad",), types=(TensorType((4, 2)),))
    assert refused(builder.finish([])) == (
        "graph g: has the wrong type: expected f32[2,4]\n  %bad: f32[4,2] = tanh(%x)"
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_operands(count: int) -> None:
    builder, x = started()
    builder.add(Add(), *[x] * count, names=("y",), types=(TensorType((2, 4)),))
    text = refused(builder.finish([]))
    assert text.startswith("graph g: is not well typed: Binary.infer() ")
    assert text.endswith(f"\n  %y: f32[2,4] = add({', '.join(['%x'] * count)})")


def test_a_shape_that_is_none() -> None:
    builder = Builder("g")
    builder.add(Input((2, 0)), names=("x",), types=(TensorType((2, 0)),))
    assert refused(builder.finish([])) == (
        "graph g: is not well typed: input: sizes must be positive integers, found (2, 0)\n  %x: f32[2,0] = input()"
    )


def test_a_node_that_stands_before_its_operand() -> None:
    builder, x = started()
    builder.add(Tanh(), Ref("late"), names=("y",), types=(TensorType((2, 4)),))
    builder.add(Tanh(), x, names=("late",))
    assert refused(builder.finish([])) == "%y stands before its operand %late"


def test_an_operand_that_is_no_node() -> None:
    builder, _ = started()
    builder.add(Tanh(), Ref("nowhere"), names=("y",), types=(TensorType((2, 4)),))
    assert refused(builder.finish([])) == "%y stands before its operand %nowhere"


def test_a_node_that_reads_itself() -> None:
    graph = tampered(lambda b: b._digraph.add_edge("y", "y", key=1, out=0))
    assert refused(graph) == "%y stands before its operand %y"


@pytest.mark.parametrize("out", [1, -1])
def test_an_operand_that_is_no_output_of_its_producer(out: int) -> None:
    builder, _ = started()
    builder.add(Tanh(), Ref("x", out), names=("y",), types=(TensorType((2, 4)),))
    assert refused(builder.finish([])) == f"%y reads output {out} of %x, which has no such output"


def test_operand_slots_with_a_gap() -> None:
    def shift(builder: Builder) -> None:
        builder._digraph.remove_edge("x", "y", key=0)
        builder._digraph.add_edge("x", "y", key=1, out=0)

    assert refused(tampered(shift)) == "%y has operand slots [1], expected 0 to 0"


def test_an_operand_slot_taken_twice() -> None:
    builder, x = started()
    (w,) = builder.add(Input((2, 4)), names=("w",))
    builder.add(Add(), x, w, names=("y",))
    builder._digraph.add_edge("w", "y", key=0, out=0)
    assert refused(builder.finish([])) == "%y has operand slots [0, 0, 1], expected 0 to 2"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("y", "x"), "graph g: a value's name is taken twice\n  %y, %x: f32[2,1], f32[2,3] = split("),
        (("y", "y"), "graph g: a value's name is taken twice\n  %y, %y: f32[2,1], f32[2,3] = split("),
        (("y",), "graph g: has 1 names for 2 values\n  %y: f32[2,1], f32[2,3] = split("),
    ],
)
def test_names_that_do_not_tell_values_apart(names: tuple[str, ...], text: str) -> None:
    builder, x = started()
    builder.add(Split(1, (1, 3)), x, names=("y", "z"))
    node = builder.node("y")
    builder._digraph.nodes["y"]["node"] = Node(names, node.op, node.types)
    assert refused(builder.finish([])).startswith(text)


@pytest.mark.parametrize("ref", [Ref("nowhere"), Ref("x", 1), Ref("x", -1)])
def test_an_output_that_is_no_value(ref: Ref) -> None:
    builder, _ = started()
    assert refused(builder.finish([("y", ref)])) == "output y of graph g is no value of it"


def test_two_outputs_of_one_name() -> None:
    builder, x = started()
    assert refused(builder.finish([("y", x), ("z", x), ("y", x)])) == "graph g has two outputs of one name: y, z, y"


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ([Output("y", Ref("y"), Ref("nowhere"))], "output y is carried to %nowhere, which is no input"),
        ([Output("y", Ref("y"), Ref("y"))], "output y is carried to %y, which is no input"),
        ([Output("z", Ref("z"), Ref("x"))], "output z is carried to %x, which is f32[2,4], from f32[2,2]"),
        (
            [Output("y", Ref("y"), Ref("x")), Output("again", Ref("y"), Ref("x"))],
            "output again is carried to %x, as another output is",
        ),
    ],
)
def test_an_output_that_no_input_can_take(outputs: list[Output], problem: str) -> None:
    builder, x = started()
    (y,) = builder.add(Tanh(), x, names=("y",))
    builder.add(Split(1, (2, 2)), y, names=("z", "rest"))
    assert refused(builder.finish(outputs)) == f"graph g: {problem}"


def test_an_argument_outside_of_a_body() -> None:
    builder = Builder("g")
    builder.add(Arg((2,)), names=("a",))
    assert refused(builder.finish([])) == "graph g: op arg is not legal at stage model\n  %a: f32[2] = arg()"


def test_model_stage_has_core_ops_only() -> None:
    text = refused(parse_graph(LEGAL, CAFFE_OPS))
    assert text == "graph net: op caffe.Input is not legal at stage model\n  %x: f32[2,3] = caffe.Input()"


@pytest.mark.parametrize("stage", [Stage.LEGAL, Stage.EXPANDED])
@pytest.mark.parametrize("op", [Sigmoid(), Full((2, 4))])
def test_later_stages_have_the_backend_s_ops_only(stage: Stage, op: Op) -> None:
    builder = Builder("g")
    (x,) = builder.add(CAFFE_OPS[0]((2, 4)), names=("x",))  # type: ignore[call-arg]
    builder.add(op, *([x] if op.operands else []), names=("y",))
    assert refused(builder.finish([]), stage, CAFFE_OPS).startswith(
        f"graph g: op {op.name} is not legal at stage {stage.value}\n"
    )


def test_a_subclass_of_a_legal_op_is_not_legal_itself() -> None:
    class Louder(Tanh):
        """y = tanh(x), and more."""

    builder, x = started()
    builder.add(Louder(), x, names=("y",))
    assert refused(builder.finish([])).startswith("graph g: op tanh is not legal at stage model")


@pytest.mark.parametrize("stage", [Stage.LEGAL, Stage.EXPANDED])
def test_parameters_are_legal_everywhere_outside_of_bodies(stage: Stage) -> None:
    builder = Builder("g")
    (w,) = builder.add(Param((2,)), names=("w",))
    verify(builder.finish([("w", w)]), stage, CAFFE_OPS)


def test_what_is_precomputed_is_made_of_parameters() -> None:
    builder, x = started()
    (p,) = builder.add(Param((4,)), names=("p",))
    (s,) = builder.add(Add(), x, p, names=("s",))
    builder.add(Precomputed(), s, names=("s/precomputed",))
    assert refused(builder.finish([])) == (
        "graph g: a precomputed value must depend on parameters and constants alone\n"
        "  %s/precomputed: f32[2,4] = precomputed(%s)"
    )


@pytest.mark.parametrize("reader", ["layer", "output"])
def test_a_part_of_a_weight_is_no_value(reader: str) -> None:
    text = LEGAL.replace("return z=%z", "return o=%e") if reader == "output" else LEGAL
    text = text.replace(
        "  %z: f32[2,4] = caffe.Inner",
        "  %e: f32[2,4] = full()\n  %p: f32[4] = param()\n  %s: f32[2,4] = add(%e, %p)\n"
        "  %s/precomputed: f32[2,4] = precomputed(%s)\n  %z: f32[2,4] = caffe.Inner",
    )
    text = text.replace("return z", "%t: f32[2,4] = caffe.TanH(%e)\n  return z")
    assert (
        refused(parse_graph(text, CAFFE_OPS), Stage.LEGAL, CAFFE_OPS)
        == {
            "layer": "graph net: %e is a part of a weight, which no layer computes\n  %t: f32[2,4] = caffe.TanH(%e)",
            "output": "output o of graph net is a part of a weight, which no layer computes",
        }[reader]
    )
