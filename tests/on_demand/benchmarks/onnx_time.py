"""ONNX Runtime's time of a written net against one written by hand with the same operator, and of the other forms.

python -m tests.on_demand.benchmarks.onnx_time [--quick | --smallest]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import lstmc
from lstmc.ops import Array
from lstmc.patterns import LSTM_ORDERS, moved
from lstmc_onnx.runtime import least_seconds, load
from tests.on_demand.benchmarks import setting

SIZES = {"T": 50, "N": 16, "D": 64, "H": 128}
ALLOWED = 1.05
FORMS = ("lstm-op", "scan", "unrolled")


def by_hand(weights: dict[str, Array]) -> bytes:
    """An LSTM operator, and what takes the axis of directions from its results."""
    steps, batch, width, units = SIZES.values()

    def rows(name: str) -> Array:
        parts = np.split(weights[f"lstm/{name}"], 4)
        return np.concatenate([parts[at] for at in moved("ifog", LSTM_ORDERS["onnx"])])[None]

    bias = np.concatenate([rows("b"), np.zeros((1, 4 * units))], axis=1)
    arrays = {"W": rows("W_x"), "R": rows("W_h"), "B": bias}
    stored = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()]
    stored += [numpy_helper.from_array(np.array([axis], np.int64), f"axis_{axis}") for axis in (0, 1)]
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y", "Y_h", "Y_c"], hidden_size=units),
        helper.make_node("Squeeze", ["Y", "axis_1"], ["y"]),
        helper.make_node("Squeeze", ["Y_h", "axis_0"], ["h_T"]),
        helper.make_node("Squeeze", ["Y_c", "axis_0"], ["c_T"]),
    ]

    def told(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    results = [told("y", steps, batch, units), told("h_T", batch, units), told("c_T", batch, units)]
    graph = helper.make_graph(nodes, "by_hand", [told("x", steps, batch, width)], results, stored)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    return bytes(model.SerializeToString())


def main() -> None:
    nets = {form: lstmc.compile("lstm", backend="onnx", form=form, **SIZES) for form in FORMS}
    fed = {"x": np.random.default_rng(0).normal(size=(SIZES["T"], SIZES["N"], SIZES["D"])).astype(np.float32)}
    loaded = {form: (load(net.files[net.artifact.net], threads=1), fed) for form, net in nets.items()}
    loaded["by hand"] = load(by_hand(dict(nets["lstm-op"].weights)), threads=1), fed
    hand, ours = (loaded[name][0].forward(fed, ["y"])["y"] for name in ("by hand", "lstm-op"))
    assert np.max(np.abs(hand - ours)) < 1e-5
    measured = [least_seconds(loaded) for _ in range(setting.rounds(3, quick=1))]
    least = {name: min(one[name] for one in measured) for name in loaded}
    print(f"ONNX Runtime, one thread, LSTM of {SIZES}: by hand {least['by hand'] * 1e3:.2f} ms")
    for form in FORMS:
        ratio = least[form] / least["by hand"]
        limit = f"  (at most {ALLOWED}: {'ok' if ratio <= ALLOWED else 'MISSED'})" if form == "lstm-op" else ""
        print(f"  {form:10} {ratio:.2f} of that{limit}")


if __name__ == "__main__":
    main()
