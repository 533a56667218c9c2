"""ONNX's Scan and Loop, against ONNX Runtime and in real Caffe: a step over time, and a loop that is written out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstmc.importers import RefusedError, SourceError, from_onnx
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc_caffe.runtime.runner import Runner
from tests.importers.imported import assert_close, imported
from tests.importers.test_onnx_graphs import by_runtime, floats


def told(name: str, shape: Sequence[Any] | None = None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


STEP = [
    helper.make_node("MatMul", ["x_t", "W"], ["a"]),
    helper.make_node("MatMul", ["h", "R"], ["b"]),
    helper.make_node("Sum", ["a", "b", "seen"], ["c"], name="c"),
    helper.make_node("Tanh", ["c"], ["h_next"]),
    helper.make_node("Sigmoid", ["h_next"], ["y_t"]),
]
WEIGHTS = {"W": floats(4, 3), "R": floats(3, 3), "h_0": floats(2, 3)}


def model(nodes: Sequence[Any], shape: Sequence[Any], constants: dict[str, Any]) -> Any:
    seen = helper.make_node("ReduceMean", ["x"], ["m"], axes=[0, 1, 2], keepdims=0)
    graph = helper.make_graph(
        [seen, helper.make_node("Relu", ["m"], ["seen"]), *nodes], "graph", [told("x", shape)], [told("y")],
        [numpy_helper.from_array(array, name) for name, array in {**WEIGHTS, **constants}.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def scan(shape: Sequence[Any], axis: int, way: int, body: Sequence[Any] = STEP) -> Any:
    inner = helper.make_graph(body, "step", [told("h"), told("x_t")], [told("h_next"), told("y_t")])
    node = helper.make_node(
        "Scan", ["h_0", "x"], ["h_T", "y"], name="scan", body=inner, num_scan_inputs=1, scan_input_axes=[axis],
        scan_output_axes=[axis], scan_input_directions=[way], scan_output_directions=[way],
    )  # fmt: skip
    return model([node], shape, {})


def loop(steps: int | None) -> Any:
    """Five steps at most, or while i + 1 < 3."""
    nodes = [helper.make_node("Gather", ["x", "i"], ["x_t"]), *STEP]
    nodes += [
        helper.make_node("Add", ["i", "one"], ["next"]),
        helper.make_node("Less", ["next", "three"], ["less"]),
        helper.make_node("Identity", ["on" if steps else "less"], ["on_next"]),
    ]
    inputs = [told("i", [], TensorProto.INT64), told("on", [], TensorProto.BOOL), told("h")]
    inner = helper.make_graph(
        nodes, "step", inputs, [told("on_next", [], TensorProto.BOOL), told("h_next"), told("y_t")]
    )
    node = helper.make_node("Loop", ["M" if steps else "", "true", "h_0"], ["h_T", "y"], name="loop", body=inner)
    constants = {"M": np.array(steps or 0), "true": np.array(True), "one": np.array(1), "three": np.array(3)}
    return model([node], [5, 2, 4], constants)


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (scan(["T", 2, 4], 0, 0), (5, 2, 4)), (scan([2, 5, 4], 1, 1), (2, 5, 4)),
        (loop(5), (5, 2, 4)), (loop(None), (5, 2, 4)),
    ],
    ids=["scan", "backwards, batch first", "loop", "loop while"],
)  # fmt: skip
def test_a_step_over_time(caffe: Runner, made: Any, shape: tuple[int, ...]) -> None:
    x = floats(*shape)
    found, wanted = imported(from_onnx(made).described, {"T": 5}), {"y": by_runtime(made, x)}
    inputs = {"x": x.astype(float)}
    assert_close(found.interpreted(inputs), wanted, 1e-6)
    assert_close(found.in_caffe(caffe, inputs)[0], wanted)


def test_a_loop_of_unknown_length_and_what_its_body_cannot_have_are_refused() -> None:
    endless = loop(5)
    endless.graph.node[-1].input[0] = "seen"
    odd = [*STEP[:3], helper.make_node("Det", ["c"], ["h_next"], name="odd"), STEP[4]]
    for made, said in (
        (
            endless,
            "loop (Loop): M, cond = computed from the inputs: how often it runs depends on the data, and a net has the"
            " same steps for all; export it with a fixed number of iterations, and a mask for those behind the end",
        ),
        (
            scan([5, 2, 4], 0, 0, odd),
            "odd (Det): operator = Det: it is not supported; write the model without it",
        ),
    ):
        with pytest.raises(RefusedError) as caught:
            from_onnx(made)
        assert [str(refusal) for refusal in caught.value.refusals] == [said]


def test_the_steps_of_a_loop_that_has_none_are_not_read() -> None:
    """What it returns of each step does not exist; a node that reads it has no operand."""
    none = loop(5)
    none.graph.initializer[[one.name for one in none.graph.initializer].index("M")].CopyFrom(
        numpy_helper.from_array(np.array(0), "M")
    )
    none.graph.node[2].output[1] = "steps"
    none.graph.node.append(helper.make_node("Identity", ["steps"], ["y"], name="read"))
    with pytest.raises(SourceError, match=re.escape("read (Identity) reads steps, which nothing before it makes")):
        from_onnx(none)


def test_zeros_that_a_step_computes_with_are_no_past() -> None:
    """A step's constants are the same in every step: only those of the graph around it may be a past."""
    body = [
        helper.make_node("Mul", ["x_t", "none"], ["zeros"]),
        helper.make_node("Add", ["zeros", "x_t"], ["same"]),
        helper.make_node("MatMul", ["same", "W"], ["a"]),
        *STEP[1:],
    ]
    made = scan([5, 2, 4], 0, 0, body)
    zeros = {"none": np.zeros((2, 4), np.float32), "h_0": np.zeros((2, 3), np.float32)}
    made.graph.initializer.pop([one.name for one in made.graph.initializer].index("h_0"))
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in zeros.items())
    made.graph.node.insert(0, helper.make_node("Identity", ["h_0"], ["first"]))
    made.graph.node[-1].input[0] = "first"
    assert [*describe_onnx(made, "net", None, {}, {}, free=True).inputs] == ["x", "h_0"]


def test_a_scan_of_the_first_version_without_a_batch_is_read() -> None:
    made, x = scan([5, 2, 4], 0, 0), floats(5, 2, 4)
    made.opset_import[0].version = 9
    assert_close(imported(from_onnx(made).described).interpreted({"x": x}), {"y": by_runtime(made, x)}, 1e-6)


def test_a_step_that_reads_nothing_of_its_sequence() -> None:
    body = [helper.make_node("Tanh", ["h"], ["h_next"]), helper.make_node("Identity", ["h"], ["y_t"])]
    made, x = scan([5, 2, 4], 0, 0, body), floats(5, 2, 4)
    found = imported(from_onnx(made).described)
    inputs = {"x": x} if found.net.inputs else {}
    assert_close(found.interpreted(inputs), {"y": by_runtime(made, x)}, 1e-6)


def test_a_scan_of_numbers() -> None:
    """Each step of a sequence without other axes is a number."""
    body = [helper.make_node("Add", ["h", "x_t"], ["h_next"]), helper.make_node("Tanh", ["h_next"], ["y_t"])]
    made, x = scan([5], 0, 0, body), floats(5)
    del made.graph.node[:2]  # a mean over three axes
    assert_close(imported(from_onnx(made).described).interpreted({"x": x}), {"y": by_runtime(made, x)}, 1e-6)
