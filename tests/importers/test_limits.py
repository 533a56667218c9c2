"""Files of a kilobyte whose constants or shapes would take all memory: refused, in little time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import lstmc
from lstmc.importers.refusal import RefusedError
from lstmc.process.memory import limit_memory

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras and PyTorch, about each other


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    with limit_memory(3 << 30):
        yield


def graph(nodes: Sequence[Any], **constants: Any) -> Any:
    """A model of x [2, 3] with these nodes, the last of which gives y."""
    held = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(list(nodes), "g", [x], [y], held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(count: int, op: str, *more: str, **attributes: Any) -> list[Any]:
    """Nodes that each take the one before twice, or once with ``more``; then what adds the largest to x."""
    nodes = [helper.make_node(op, [f"c{i}", *(more or [f"c{i}"])], [f"c{i + 1}"], **attributes) for i in range(count)]
    return [*nodes, helper.make_node("ReduceMax", [f"c{count}"], ["m"]), helper.make_node("Add", ["x", "m"], ["y"])]


LONG = np.zeros(2_000_000, np.float32)
ONNX = {
    "doubled": graph(chain(40, "Concat", axis=0), c0=np.ones(4, np.float32)),
    "broadcast": graph(chain(1, "Add", "row"), c0=LONG[:, None], row=LONG[None]),
    "compared": graph(
        [helper.make_node("Equal", ["a", "b"], ["e"]), helper.make_node("Where", ["e", "a", "b"], ["y"])],
        a=LONG.astype(np.int64)[:, None],
        b=LONG.astype(np.int64)[None],
    ),
    "gathered": graph(
        chain(1, "Gather", "at", axis=0), c0=np.zeros((1000, 1000), np.float32), at=np.zeros(100_000, np.int64)
    ),
    "kept": graph(chain(2000, "Add", "one"), c0=LONG, one=np.float32(1)),
    "tiled": graph([helper.make_node("Tile", ["x", "by"], ["y"])], by=np.array([10**6, 10**6])),
    "tiled constants": graph(chain(1, "Tile", "by"), c0=LONG, by=np.array([10**5])),
    "expanded": graph(
        [helper.make_node("Unsqueeze", ["x", "last"], ["u"]), helper.make_node("Expand", ["u", "to"], ["y"])],
        last=np.array([2]),
        to=np.array([2, 3, 10**11]),
    ),
    "padded": graph([helper.make_node("Pad", ["x", "by"], ["y"], mode="edge")], by=np.array([0, 0, 0, 10**11])),
    "outer": graph(
        [
            helper.make_node("Expand", ["x", "a"], ["u"]),
            helper.make_node("Expand", ["x", "b"], ["v"]),
            helper.make_node("Add", ["u", "v"], ["y"]),
        ],
        a=np.array([10**5, 1, 2, 3]),
        b=np.array([10**5, 2, 3]),
    ),
}


@pytest.mark.parametrize("name", ONNX)
def test_onnx(name: str, tmp_path: Path) -> None:
    assert len(ONNX[name].SerializeToString()) < 40_000_000
    onnx.save(ONNX[name], tmp_path / "m.onnx")
    with pytest.raises(RefusedError, match=r"are the most|too many for this file"):
        lstmc.import_file(tmp_path / "m.onnx")


@pytest.mark.parametrize("results", [{}, {"num_outputs": 0}], ids=["no results", "no outputs"])
def test_a_split_into_nothing(results: dict[str, int], tmp_path: Path) -> None:
    names = ["y"] if results else []
    model = graph([helper.make_node("Split", ["x"], names, axis=0, **results), helper.make_node("Relu", ["x"], ["z"])])
    model.opset_import[0].version = 18
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(RefusedError, match="results = 0: one at least is expected"):
        lstmc.import_file(tmp_path / "m.onnx")


class Doubled(torch.nn.Module):
    """Constants that are joined with themselves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c = torch.ones(4)
        for _ in range(40):
            c = torch.cat([c, c])
        return x + c.max()


class Filled(torch.nn.Module):
    """A constant of a million by a million."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(1_000_000, 1_000_000).max()


class Repeated(torch.nn.Module):
    """An input that is repeated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(1_000_000, 1_000_000).max()


@pytest.mark.parametrize("module", [Doubled(), Filled(), Repeated()], ids=["doubled", "filled", "repeated"])
def test_programs_of_pytorch(module: torch.nn.Module) -> None:
    with pytest.raises(RefusedError, match=r"are the most|too many for this file"):
        lstmc.from_torch(module, torch.zeros(2, 3))


def test_keras(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.RepeatVector(2 * 10**9), keras.layers.GRU(2)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(RefusedError, match="are the most"):
        lstmc.import_file(tmp_path / "m.keras", shapes={})


def test_caffe(tmp_path: Path) -> None:
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
    text += 'layer { name: "t" type: "Tile" bottom: "x" top: "t" tile_param { tiles: 2000000000 } }\n'
    (tmp_path / "m.prototxt").write_text(text)
    (tmp_path / "m.caffemodel").write_bytes(b"\n\x01n")
    with pytest.raises(RefusedError, match="2,000,000,000 pieces of an axis: 1,000,000 are the most"):
        lstmc.import_file(tmp_path / "m.prototxt", weights=tmp_path / "m.caffemodel")
