"""Nodes of ONNX, one for each value of each setting and on both sides of each version that changed one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstmc.importers.checks import evaluate
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.ops import Array
from tests.importers.imported import assert_close
from tests.quick_sample import one_in

RNG = np.random.default_rng(3)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def nearest(rule: str, rounded: str) -> dict[str, str]:
    return {"mode": "nearest", "coordinate_transformation_mode": rule, "nearest_mode": rounded}


X2, X3, X4 = floats(3, 4), floats(2, 3, 6), floats(2, 4, 5, 6)
W, B, K = floats(6, 4), floats(6), floats(4, 2, 3, 2)
SCALES = np.float32([1, 1, 2, 3])
LEFT_OUT = np.zeros(0, np.float32)
# Operator, version, operands (the first is an input of the model, and so is each one that is a tuple), settings.
CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    *(("Gemm", 13, [X2, w, c], {"transB": t, "alpha": a, "beta": b}) for w, t in ((W, 1), (W.T.copy(), 0))
      for c in (B, B[None]) for a, b in ((1.0, 1.0), (0.5, 2.0))),
    *(("Gemm", 13, [X2, w, c], {"transB": t, "transA": s, "alpha": 0.5, "beta": 2.0})
      for w, t, s, c in (((W,), 1, 0, B), ((floats(4, 6),), 0, 0, (floats(3, 1),)), (floats(5, 3), 1, 1, floats(5)),
                         (W, 1, 0, (floats(6),)))),
    ("Gemm", 13, [X2, (W,)], {"transB": 1}),
    *(("Clip", v, [X3], {"min": -0.5, "max": 0.25}) for v in (7, 10)),
    *(("Clip", 10, [X3], {name: 0.25}) for name in ("min", "max")),
    *(("Clip", v, [X3, *bounds], {}) for v in (11, 13) for bounds in (
        [np.float32(-0.5), np.float32(0.25)], [None, np.float32(0.25)], [np.float32(-0.5)], [],
        [np.float32(-3.4e38), np.float32(0.25)])),
    *((f"Reduce{kind}", 13 if kind == "Sum" else 18, [np.abs(X3), *axes],
       {"keepdims": keep, "noop_with_empty_axes": noop})
      for kind in ("Sum", "Mean", "Max", "L1", "L2", "SumSquare", "LogSum", "LogSumExp", "Prod") for keep in (0, 1)
      for axes, noop in (([ints(1)], 0), ([ints(-1, 0)], 0), ([], 0), ([], 1)) if noop == 0 or keep),
    *((f"Reduce{kind}", 11, [np.abs(X3)], {"keepdims": keep, **axes})
      for kind in ("Sum", "Mean", "L2") for keep in (0, 1) for axes in ({"axes": [0, -1]}, {})),
    *((kind, version, [X3], {"axis": axis}) for kind in ("Softmax", "LogSoftmax") for version in (12, 13)
      for axis in (0, 1, 2, -1)),
    *((kind, version, [X3], {}) for kind in ("Softmax", "LogSoftmax") for version in (12, 13)),
    *(("Slice", version, [X3, ints(*starts), ints(*ends), *more], {})
      for version in (10, 13) for starts, ends, more in (
        ((1,), (3,), []), ((1, 0), (2, 4), [ints(1, 2)]), ((-4,), (-1,), [ints(-1), ints(2)]),
        ((5,), (-(2**31),), [ints(2), ints(-1)]), ((0,), (2**40,), [ints(2)]), ((4,), (1,), [ints(2), ints(-2)]))),
    ("Slice", 9, [X3], {"starts": [1, 2], "ends": [2, 2**31 - 1], "axes": [0, 2]}),
    ("Slice", 9, [X3], {"starts": [0, 1], "ends": [1, 3]}),
    *(("ArgMax", 13, [np.round(X3)], {"axis": axis, "keepdims": keep, "select_last_index": last})
      for axis in (0, -1) for keep in (0, 1) for last in (0, 1)),
    *(("ArgMin", 13, [np.round(X3)], {"axis": 1, "keepdims": keep, "select_last_index": last})
      for keep in (0, 1) for last in (0, 1)),
    *(("TopK", 11, [X3, ints(count)], {"axis": axis, "largest": largest, "sorted": 1})
      for axis in (1, -1) for count in (1, 3) for largest in (0, 1)),
    ("TopK", 9, [X3], {"axis": 1, "k": 1}),
    ("TopK", 10, [X3, ints(1)], {"axis": 1}),
    *(("CumSum", 14, [X3, np.int64(axis)], {"exclusive": own, "reverse": back})
      for axis in (1, -1) for own in (0, 1) for back in (0, 1)),
    *(("Trilu", 14, [X3, *k], {"upper": upper}) for upper in (0, 1) for k in ([], [np.int64(1)], [np.int64(-2)])),
    *(("DepthToSpace", version, [X4], {"blocksize": 2, **mode}) for version, mode in (
        (9, {}), (11, {"mode": "DCR"}), (11, {"mode": "CRD"}))),
    ("SpaceToDepth", 13, [floats(2, 2, 4, 6)], {"blocksize": 2}),
    *(("Flatten", 13, [X4], {"axis": axis}) for axis in (0, 1, 3, -1)),
    *(("Reshape", 14, [X3, ints(*shape)], more) for shape, more in (
        ((0, -1), {}), ((3, 2, 0), {}), ((-1, 6), {}), ((2, 3, 6), {"allowzero": 1}))),
    *(("Split", version, [X3, *sizes], {"axis": 2, **more}) for version, sizes, more in (
        (11, [], {"split": [1, 5]}), (13, [ints(4, 2)], {}), (13, [], {}), (18, [], {"num_outputs": 2}))),
    *(("Gather", 13, [X3, at], {"axis": axis}) for at, axis in (
        (np.int64(-1), 1), (ints(2, 0), 1), (ints(-1), -1), (np.array([[0, 1], [1, 0]]), 0))),
    *(("Pad", version, [X3, ints(0, 1, 2, 1, 0, 1), *more], mode) for version in (11, 18) for more, mode in (
        ([], {}), ([np.float32(2.5)], {}), ([], {"mode": "reflect"}), ([], {"mode": "edge"}))),
    ("Pad", 18, [X3, ints(1, 2), np.float32(1), ints(-1)], {}),
    ("Pad", 10, [X3], {"pads": [0, 1, 2, 1, 0, 1], "value": 0.5}),
    ("Pad", 10, [X3], {"pads": [0, 1, 2, 1, 0, 1]}),
    *(("GatherND", 13, [X3, np.array(at)], {"batch_dims": batch}) for at, batch in (
        ([[0, 1], [1, 2]], 0), ([[[1], [2]], [[0], [1]]], 1), ([[[1]], [[0]]], 0))),
    *(("ScatterND", 18, [X3, np.array([[0, 1], [1, 2]]), floats(2, 6)], {"reduction": how})
      for how in ("none", "add", "mul", "max", "min")),
    *(("ScatterElements", 18, [X3, np.array([[[0, 2, 1]]]), floats(1, 1, 3)], {"axis": axis, "reduction": how})
      for axis in (1, -1) for how in ("none", "add", "max")),
    *(("GatherElements", 13, [X3, np.array([[[0, 2, -1]], [[1, 1, 0]]])], {"axis": axis}) for axis in (1, -1)),
    *(("OneHot", 11, [np.float32([0, 2, 1]), ints(3), np.float32([-1, 2])], {"axis": axis}) for axis in (0, -1)),
    *(("Compress", 11, [X3, np.array([False, True, True])], axis) for axis in ({"axis": 1}, {"axis": -1}, {})),
    *(("Resize", 11, [X4, LEFT_OUT, SCALES], nearest(*rule)) for rule in (
        ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"))),
    ("Upsample", 9, [X4, SCALES], {"mode": "nearest"}),
    ("Resize", 10, [X4, SCALES], {"mode": "nearest"}),
    ("Resize", 13, [X4, None, None, ints(2, 4, 10, 6)], nearest("asymmetric", "floor")),
    *(("Conv", 11, [X4, floats(4, 4 // group, 3, 2), *bias], {"group": group, **more}) for group in (1, 2)
      for bias in ([], [floats(4)]) for more in (
          {}, {"pads": [1, 0, 0, 2], "strides": [2, 1]}, {"dilations": [1, 2]}, {"auto_pad": "SAME_UPPER"},
          {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}, {"auto_pad": "SAME_LOWER", "strides": [2, 3]})),
    *(("ConvTranspose", 11, [X4, floats(4, 2, 3, 2)], {"group": group, **more}) for group in (1, 2) for more in (
        {}, {"pads": [1, 0, 0, 1], "strides": [2, 3], "output_padding": [1, 2]}, {"dilations": [2, 1]})),
    *((kind, 11, [X4], {"kernel_shape": [3, 2], **more}) for kind in ("MaxPool", "AveragePool") for more in (
        {}, {"strides": [2, 1]}, {"strides": [2, 2], "ceil_mode": 1}, {"pads": [1, 0, 1, 1]},
        {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER", "strides": [1, 2]})),
    ("AveragePool", 11, [X4], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    *(("LayerNormalization", 17, [X3, floats(*X3.shape[axis:]), *bias(axis)], {"axis": axis, "epsilon": 0.1})
      for axis in (-1, 1, 2) for bias in (lambda axis: [], lambda axis: [floats(*X3.shape[axis:])])),
    *(("Dropout", version, [X3], {}) for version in (7, 13)),
    *(("Shape", 15, [X3], more) for more in ({}, {"start": 1}, {"end": -1}, {"start": -2, "end": 2})),
    *(("DFT", 17, [floats(2, 6, 1)], {"axis": 1, "onesided": one}) for one in (0, 1)),
    ("DFT", 17, [floats(2, 6, 2)], {"axis": 1, "inverse": 1}),
    ("DFT", 20, [floats(2, 6, 1), None, np.int64(1)], {}),
    *(("DFT", 17, [floats(2, 6, 1), np.int64(n)], {"axis": 1}) for n in (4, 9)),
    *(("STFT", 17, [floats(2, 12, 1), np.int64(3), *more], {"onesided": one}) for one in (0, 1)
      for more in ([np.float32([0.5, 1, 1, 0.5])], [None, np.int64(4)])),
    ("Mod", 13, [X3, floats(6)], {"fmod": 1}),
    *(("Unsqueeze", v, [X3, *axes], more) for v, axes, more in ((11, [], {"axes": [0, 2]}), (13, [ints(-1, 1)], {}))),
    *(("Squeeze", v, [X3[:1, :, :1], *axes], more) for v, axes, more in (
        (11, [], {"axes": [0]}), (11, [], {}), (13, [ints(-1)], {}), (13, [], {}))),
]  # fmt: skip


NAMED = {f"{at} {case[0]} {case[1]}": case for at, case in enumerate(CASES)}


@pytest.mark.parametrize("name", one_in(3, NAMED))
def test_a_setting(name: str) -> None:
    op, opset, operands, settings = NAMED[name]
    inputs, stored, names = dict[str, Array](), dict[str, Array](), list[str]()
    for place, operand in enumerate(operands):
        names.append("" if operand is None else f"x{place}")
        if operand is not None:
            of_input = isinstance(operand, tuple) or not place
            (inputs if of_input else stored)[f"x{place}"] = np.asarray(
                operand[0] if isinstance(operand, tuple) else operand
            )
    count = {"Split": len(settings.get("split", [0, 0])), "TopK": 2}.get(op, 1)
    outs = [f"y{i}" for i in range(count)]
    cast = [helper.make_node("Cast", ["x0"], ["i"], to=TensorProto.INT64)] * (op == "OneHot")
    graph = helper.make_graph(
        [*cast, helper.make_node(op, ["i", *names[1:]] if cast else names, outs, name="node", **settings)],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for value in model.graph.output:
        value.ClearField("type")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = dict(zip(outs, session.run(None, inputs), strict=True))
    net = describe_onnx(model, "a test", None, {}, {})
    assert_close(evaluate(net, {name: inputs[name].astype(float) for name in net.inputs}), wanted)
