"""Graphs that ONNX Runtime's own tool has quantized to 8 bits: what is imported is what they approximate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from lstmc.importers import RefusedError, import_file
from lstmc.importers.frontends.onnx_layers import ROUNDED
from lstmc.ops import Array
from tests.importers.imported import imported

DRAW = np.random.default_rng(0)


def graph(nodes: list[Any], weights: dict[str, tuple[int, ...]], shape: tuple[int, ...]) -> Any:
    held = [numpy_helper.from_array(DRAW.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "g", [x], [y], held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MODELS = {
    "a recurrent layer and a product": graph(
        [
            helper.make_node("LSTM", ["x", "W", "R", "B"], ["a"], hidden_size=8, direction="bidirectional"),
            helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["b", "s"], ["c"]),
            helper.make_node("MatMul", ["c", "M"], ["y"]),
        ],
        {"W": (2, 32, 6), "R": (2, 32, 8), "B": (2, 64), "M": (16, 5)},
        (4, 2, 6),
    ),
    "a convolution": graph([helper.make_node("Conv", ["x", "K"], ["y"])], {"K": (4, 3, 2, 2)}, (1, 3, 5, 6)),
}
MODELS["a recurrent layer and a product"].graph.initializer.append(numpy_helper.from_array(np.array([4, 2, 16]), "s"))


def by_runtime(path: Path, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    found: Array = onnxruntime.InferenceSession(str(path), options).run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_quantized_graph(tmp_path: Path, name: str, per_channel: bool) -> None:
    onnx.save(MODELS[name], tmp_path / "m.onnx")
    kind = QuantType.QUInt8 if "conv" in name else QuantType.QInt8
    quantize_dynamic(tmp_path / "m.onnx", tmp_path / "q.onnx", per_channel=per_channel, weight_type=kind)
    model = import_file(tmp_path / "q.onnx")
    assert ROUNDED in model.net.notes
    assert model.runtime is not None
    assert model.runtime.unavailable() == "the source rounds to 8 bits while it runs, which the imported model does not"
    shape = tuple(d.dim_value for d in MODELS[name].graph.input[0].type.tensor_type.shape.dim)
    x = DRAW.normal(size=shape).astype(np.float32)
    (found,) = imported(model.described).interpreted({"x": x.astype(float)}).values()
    exact, rounded = by_runtime(tmp_path / "m.onnx", x), by_runtime(tmp_path / "q.onnx", x)
    scale = np.max(np.abs(exact))
    # its weights are those of 8 bits, so it is nearer to the net that was quantized than the quantized one is
    assert 0 < np.max(np.abs(found - exact)) < 0.03 * scale
    assert np.mean(np.abs(found - exact)) < np.mean(np.abs(rounded - exact))


def test_weights_without_a_zero_point(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["y"]),
    ]
    made, w = graph(nodes, {}, (2, 3)), np.array([[1, -2], [3, 0], [-5, 7]], np.int8)
    made.graph.initializer.append(numpy_helper.from_array(w, "w"))
    onnx.save(made, tmp_path / "m.onnx")
    x = DRAW.normal(size=(2, 3))
    (found,) = imported(import_file(tmp_path / "m.onnx").described).interpreted({"x": x}).values()
    np.testing.assert_allclose(found, x @ w, rtol=1e-6)


def test_whole_numbers_that_were_there_before(tmp_path: Path) -> None:
    made = graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], {}, (2, 3))
    made.graph.initializer.append(numpy_helper.from_array(np.ones((3, 2), np.int8), "w"))
    made.graph.node[0].input.extend(["z"])
    made.graph.initializer.append(numpy_helper.from_array(np.array(3, np.uint8), "z"))
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(RefusedError, match="integers that DynamicQuantizeLinear did not make"):
        import_file(tmp_path / "m.onnx")
