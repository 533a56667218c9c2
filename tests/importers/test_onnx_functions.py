"""ONNX's operators that gather, scatter, transform, normalize, or are functions: each against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstmc.importers import RefusedError, from_onnx
from lstmc.importers.frontends.onnx_layers import ROUNDED
from lstmc.ops import Array
from tests.importers.imported import assert_close, traced

RNG = np.random.default_rng(0)
FUSED = "com.microsoft"
Node = tuple[str, Sequence[str], Mapping[str, Any]]  # an operator, its operands, its attributes


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def places(*values: Any) -> Any:
    return np.array(values, np.int64)


def built(nodes: Sequence[Node], inputs: Mapping[str, Any], constants: Mapping[str, Any], opset: int) -> Any:
    """A model of nodes with one result each, ``y0``, ``y1`` and so on, of which the last is the output."""
    fused = {op for op, *_ in nodes if op in ONNX_RUNTIMES}
    made = [
        helper.make_node(op, names, [f"y{at}"], name=f"n{at}", domain=FUSED if op in fused else "", **attributes)
        for at, (op, names, attributes) in enumerate(nodes)
    ]
    kinds = {name: TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.INT64 for name, x in inputs.items()}
    declared = [helper.make_tensor_value_info(name, kinds[name], x.shape) for name, x in inputs.items()]
    result = helper.make_tensor_value_info(f"y{len(nodes) - 1}", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(x), name) for name, x in constants.items()]
    graph = helper.make_graph(made, "graph", declared, [result], stored)
    sets = [helper.make_opsetid("", opset), *[helper.make_opsetid(FUSED, 1)] * bool(fused)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8 if opset < 20 else 10)


def compared(model: Any, inputs: Mapping[str, Any], tolerance: float = 1e-5) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, dict(inputs))
    made = traced(from_onnx(model).described)
    arrays = {name: np.asarray(inputs[made.net.called[name]], float) for name in made.net.inputs}
    fed = {name: array.reshape(array.shape or (1,)) for name, array in arrays.items()}
    own = {made.net.called[name]: array for name, array in made.interpreted(fed).items()}
    assert_close(
        own, {entry.name: array for entry, array in zip(session.get_outputs(), wanted, strict=True)}, tolerance
    )
    return made


ONNX_RUNTIMES = ("FusedMatMul", "FusedConv", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "FastGelu",
                 "BiasGelu", "QuickGelu")  # fmt: skip
BLOCK = np.stack(np.meshgrid([0, 1], [1, 2], indexing="ij"), -1)
X, ROWS = numbers(4, 5), numbers(3, 5)
# An operator, its inputs x and u, constants i and so on, attributes; then the version of the operator set.
CASES: dict[str, tuple[Any, ...]] = {
    "block": ("ScatterND", [numbers(2, 4, 6), numbers(2, 2, 6)], [BLOCK], {}),
    "rows in any order": ("ScatterND", [X, ROWS], [places([3], [0], [-2])], {}),
    "points": ("ScatterND", [X, numbers(3)], [places([1, 2], [3, 0], [0, 4])], {}),
    "sums of rows": ("ScatterND", [X, ROWS], [places([1], [3], [1])], {"reduction": "add"}, 16),
    "largest of rows": ("ScatterND", [X, ROWS], [places([1], [3], [0])], {"reduction": "max"}, 18),
    "columns": ("ScatterElements", [X, numbers(4, 2)], [places(*[[3, 1]] * 4)], {"axis": 1}),
    "elements": ("ScatterElements", [X, numbers(2, 2)], [places([3, 1], [0, -1])], {"axis": 1}),
    "sums of elements": ("ScatterElements", [X, numbers(2, 2)], [places([0, 1], [0, 2])], {"reduction": "add"}, 16),
    "gathered blocks": ("GatherND", [numbers(3, 4, 2)], [places([0, 1], [2, 3])], {}),
    "gathered in batches": ("GatherND", [numbers(2, 4, 3)], [places([1], [3])], {"batch_dims": 1}),
    "gathered elements": ("GatherElements", [X], [places([0, 3, 3], [1, 0, 2], [-1, 0, 0], [1, 1, 1])], {"axis": 1}),
    "gathered elements of two rows": ("GatherElements", [numbers(2, 5)], [places([0, 3], [1, 0])], {"axis": 1}),
    "gathered rows": ("GatherElements", [X], [places([0] * 5, [2] * 5)], {"axis": 0}),
    "one hot": ("OneHot", [places([1, 2], [0, -1])], [np.array(4), np.array([0.5, 2], np.float32)], {"axis": 0}),
    "kept rows": ("Compress", [X], [np.array([True, False, True])], {"axis": 0}),
    "blocks as channels": ("SpaceToDepth", [numbers(1, 2, 4, 6)], [], {"blocksize": 2}),
    "spectrum": ("DFT", [numbers(2, 6, 1)], [], {"axis": 1, "onesided": 1}),
    "padded spectrum": ("DFT", [numbers(2, 6, 3, 2)], [np.array(8), np.array(1)], {}, 20),
    "inverse spectrum": ("DFT", [numbers(2, 6, 2)], [], {"axis": 1, "inverse": 1}),
    "frames": ("STFT", [numbers(2, 32, 1)], [np.array(4), np.hanning(8).astype(np.float32), np.array(8)], {}),
    "frames without a window": ("STFT", [numbers(2, 32, 1)], [np.array(4), None, np.array(8)], {}),
    "product": ("ReduceProd", [numbers(2, 3, 4)], [], {"axes": [1], "keepdims": 0}),
    "log of exponents": ("ReduceLogSumExp", [numbers(2, 3, 4)], [], {"axes": [-1]}),
    "log of a sum": ("ReduceLogSum", [abs(numbers(2, 3, 4))], [], {"axes": [1], "keepdims": 0}),
    **{
        f"{op} of each": (op, [X], [], {"noop_with_empty_axes": 1}, 18)
        for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare")
    },
    "log of exponents of each": ("ReduceLogSumExp", [X], [], {"noop_with_empty_axes": 1}, 18),
    "near channels": ("LRN", [numbers(2, 7, 3, 3)], [], {"size": 3, "alpha": 0.3, "beta": 0.6, "bias": 1.5}),
    "magnitudes": ("LpNormalization", [X], [], {"p": 1, "axis": 1}),
    "rms": ("RMSNormalization", [numbers(2, 3, 4)], [numbers(3, 4)], {"axis": 1, "epsilon": 1e-3}, 23),
    "remainder": ("Mod", [np.round(5 * X)], [np.array([3], np.float32)], {"fmod": 1}),
    "remainder of multiples": ("Mod", [49 * np.round(5 * X)], [np.float32(49)], {"fmod": 1}),
    "of large numbers": ("Asinh", [np.array([[-1e9, -1e5, 1e9]], np.float32)], [], {}),
    "elements of some rows": ("GatherElements", [X, places([-1, 0], [1, 2])], [], {"axis": 1}),
    "elements of all rows": ("GatherElements", [X, places([-1, 0], [1, 2], [4, 3], [0, 0])], [], {"axis": 1}),
    **{op: (op, [3 * numbers(3, 40)], [], {}) for op in ("Atan", "Sinh", "Cosh", "Asinh")},
    **{op: (op, [np.tanh(numbers(3, 40))], [], {}) for op in ("Tan", "Asin", "Acos", "Atanh")},
    "Acosh": ("Acosh", [1 + np.abs(numbers(3, 40))], [], {}),
    "cast": ("CastLike", [X], [np.array(1, np.float32)], {}),
    "fused product": ("FusedMatMul", [numbers(2, 4, 3)], [numbers(5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    "fused convolution": (
        "FusedConv",
        [numbers(1, 2, 5, 5)],
        [numbers(3, 2, 3, 3), numbers(3)],
        {"activation": "Relu"},
    ),
    "skipped norm": ("SkipLayerNormalization", [X, numbers(4, 5)], [numbers(5), numbers(5), numbers(5)], {}),
    "skipped rms": ("SkipSimplifiedLayerNormalization", [numbers(1, 4, 5), numbers(1, 4, 5)], [numbers(5)], {}),
    **{op: (op, [X], [numbers(5)], {}) for op in ("FastGelu", "BiasGelu")},
    "QuickGelu": ("QuickGelu", [X], [], {"alpha": 1.5}),
    # by the function that defines the operator
    "MeanVarianceNormalization": ("MeanVarianceNormalization", [numbers(2, 3, 4, 5)], [], {"axes": [0, 2, 3]}),
    "Shrink": ("Shrink", [X], [], {"lambd": 0.4, "bias": 0.1}),
    "Attention": ("Attention", [numbers(1, 2, 4, 3), numbers(1, 2, 4, 3)], [numbers(1, 2, 4, 3)], {}, 23),
    "RotaryEmbedding": ("RotaryEmbedding", [numbers(1, 2, 4, 6)], [numbers(1, 4, 3), numbers(1, 4, 3)], {}, 23),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_the_numbers_of_the_runtime(name: str) -> None:
    op, (x, *updates), stored, attributes, *opset = CASES[name]
    constants = {f"c{at}": array for at, array in enumerate(stored) if array is not None}
    inputs = {"x": x} | {f"u{at}": array for at, array in enumerate(updates)}
    given = [f"c{at}" if array is not None else "" for at, array in enumerate(stored)]
    names = ["x", *given, *[*inputs][1:]] if op.startswith("Scatter") else [*inputs, *given]
    compared(built([(op, names, attributes)], inputs, constants, *opset or (17,)), inputs)


# Operators of constants, each in a version whose operands are others than today's.
OLD: dict[str, tuple[int, Array, dict[str, Any]]] = {
    "Unsqueeze": (11, numbers(2, 3), {"axes": [1]}),
    "Squeeze": (11, numbers(2, 1, 1, 3), {"axes": [2]}),
    "ReduceSum": (11, numbers(2, 4, 3), {"axes": [1]}),
    "ReduceMean": (13, numbers(2, 4, 3), {"axes": [1]}),
    "Slice": (9, numbers(2, 4, 3), {"axes": [1], "starts": [1], "ends": [2]}),
    "Pad": (10, numbers(2, 1, 2), {"pads": [0, 0, 1, 0, 0, 0]}),
}


@pytest.mark.parametrize("op", OLD)
def test_a_constant_is_computed_by_the_operator_of_its_own_version(op: str) -> None:
    opset, array, attributes = OLD[op]
    nodes: list[Node] = [(op, ["c"], attributes), ("Add", ["x", "y0"], {})]
    compared(built(nodes, inputs := {"x": numbers(2, 1, 3)}, {"c": array}, opset), inputs)


INTEGERS = np.arange(-200, 200)[None]


@pytest.mark.parametrize(
    ("nodes", "inputs", "constants"),
    [
        ([("Div", ["x", "c"], {})], {"x": INTEGERS}, {"c": np.array(49)}),
        ([("Add", ["x", "x"], {}), ("Div", ["x", "y0"], {})], {"x": INTEGERS[:, :200]}, {}),
        ([("Mod", ["x", "c"], {})], {"x": INTEGERS}, {"c": np.array(-49)}),
        ([("Mod", ["x", "c"], {"fmod": 1})], {"x": INTEGERS}, {"c": np.array(-49)}),
        ([("Cast", ["x"], {"to": TensorProto.INT32})], {"x": 3 * X}, {}),
        ([("Cast", ["u"], {"to": TensorProto.INT64}), ("CastLike", ["x", "y0"], {})], {"x": 3 * X, "u": X}, {}),
        ([("Less", ["x", "u"], {}), ("CastLike", ["x", "y0"], {})], {"x": 3 * X, "u": X}, {}),
        ([("ArgMax", ["x"], {"axis": 1}), ("CastLike", ["x", "y0"], {})], {"x": 3 * X}, {}),
    ],
    ids=["quotient", "computed", "remainder", "of the first's sign", "cast", "of a cast", "truth", "of places"],
)
def test_integers_are_computed_as_integers(nodes: Any, inputs: Any, constants: Any) -> None:
    compared(
        built([*nodes, ("Cast", [f"y{len(nodes) - 1}"], {"to": TensorProto.FLOAT})], inputs, constants, 17), inputs
    )


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@pytest.mark.parametrize(
    ("op", "names", "attributes", "why"),
    [
        ("QuantizeLinear", ["x", "s"], {"output_dtype": 22}, "output_dtype = 22: integers of 8 bits or more"),
        (
            "Resize",
            ["x", "", "", "n"],
            {**NEAREST, "keep_aspect_ratio_policy": "not_larger"},
            "= not_larger: each axis",
        ),
        ("Resize", ["x", "", "", "n"], {**NEAREST, "axes": [1, 0]}, "keep_aspect_ratio_policy, axes = stretch"),
    ],
)
def test_settings_that_change_the_numbers_are_refused(op: str, names: Any, attributes: Any, why: str) -> None:
    model = built([(op, names, attributes)], {"x": X}, {"s": np.float32(0.1), "n": np.array([8, 15])}, 21)
    with pytest.raises(RefusedError, match=why):
        from_onnx(model)


def test_an_upsampling_of_version_7_has_its_scales_as_an_attribute() -> None:
    nodes: list[Node] = [("Upsample", ["x"], {"scales": [1.0, 1.0, 2.0, 3.0]})]
    compared(built(nodes, inputs := {"x": numbers(1, 2, 3, 4)}, {}, 7), inputs)


def test_computed_indices_choose_rows_and_elements() -> None:
    inputs = {"s": numbers(2, 3, 4), "x": numbers(2, 3, 4), "t": numbers(3, 4, 2)}
    nodes: list[Node] = [
        ("ArgMax", ["s"], {"axis": 2}),
        ("GatherElements", ["x", "y0"], {"axis": 2}),
        ("ArgMax", ["s"], {"axis": 2, "keepdims": 0}),
        ("Gather", ["t", "y2"], {"axis": 1}),
        ("ReduceSum", ["y3"], {}),
        ("Add", ["y1", "y4"], {}),
    ]
    compared(built(nodes, inputs, {}, 17), inputs)


def test_a_function_of_the_model_has_the_attributes_of_the_node() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("LeakyRelu", ["b"], ["l"]),
        helper.make_node("Mul", ["s", "l"], ["o"]),
    ]
    slope = nodes[1].attribute.add()
    slope.name, slope.ref_attr_name, slope.type = "alpha", "slope", onnx.AttributeProto.FLOAT
    gate = helper.make_function("my", "Gate", ["a", "b"], ["o"], nodes, [helper.make_opsetid("", 17)], ["slope"])
    calls = [
        helper.make_node("Gate", ["x", "u"], ["s"], domain="my", slope=0.3),  # s is another value in the function
        helper.make_node("Gate", ["s", "u"], ["y"], domain="my", slope=0.7),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 3)) for name in "xuy"]
    graph = helper.make_graph(calls, "graph", ends[:2], ends[2:])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    model = helper.make_model(graph, opset_imports=sets, functions=[gate], ir_version=8)
    compared(model, {"x": numbers(2, 3), "u": numbers(2, 3)})
    model.graph.node[0].op_type = "Other"
    with pytest.raises(RefusedError, match=r"operator = my\.Other: only ONNX's own operators are known"):
        from_onnx(model)


def test_names_of_any_form_and_an_input_without_axes() -> None:
    inputs = {"a.b/c:0": numbers(2, 3), "1x": numbers(2, 3), "s": np.array(0.5, np.float32)}
    nodes: list[Node] = [("Add", ["a.b/c:0", "1x"], {}), ("Mul", ["y0", "s"], {})]
    model = built(nodes, inputs, {}, 17)
    model.graph.node[1].output[0] = model.graph.output[0].name = "17"
    made = compared(model, inputs)
    assert {**made.net.called} == {"a_b_c_0": "a.b/c:0", "v1x": "1x", "s": "s", "Y_17": "17"}


def test_numbers_in_eight_bits_keep_their_bounds_and_are_not_rounded() -> None:
    """What is behind the bounds of 8 bits is at them: ONNX Runtime's tools leave out a Relu before a quantization."""
    rng = np.random.default_rng(1)  # of its own: the source's rounding is within the bound for some numbers alone
    stored = {
        "s": np.float32(0.01),
        "z": np.uint8(120),
        "ys": np.float32(0.02),
        "yz": np.uint8(0),
        "w": rng.integers(-20, 20, (3, 2, 3, 3)).astype(np.int8),
        "ws": np.array([0.01, 0.02, 0.01], np.float32),
        "wz": np.zeros(3, np.int8),
        "b": np.array([100, -50, 20], np.int32),
    }
    nodes: list[Node] = [
        ("QuantizeLinear", ["x", "s", "z"], {}),
        ("QLinearConv", ["y0", "s", "z", "w", "ws", "wz", "ys", "yz", "b"], {"pads": [1, 1, 1, 1]}),
        ("DequantizeLinear", ["y1", "ys", "yz"], {}),
    ]
    inputs = {"x": (0.4 * rng.normal(size=(1, 2, 5, 5))).astype(np.float32)}
    made = compared(built(nodes, inputs, stored, 17), inputs, 0.03)
    assert made.net.notes == (ROUNDED,)
