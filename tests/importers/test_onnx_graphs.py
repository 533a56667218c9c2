"""ONNX graphs: what exporters put around recurrent nodes, sizes that are open or pinned, and files that lie."""

from __future__ import annotations

import os
import random
import re
import resource
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lstmc import convert
from lstmc.cli.console import error_text
from lstmc.errors import LstmcError
from lstmc.importers import ImportedModel, RefusedError, SourceError, from_onnx, import_file
from lstmc.importers.frontends.onnx_graph import HANDLERS
from lstmc.importers.ir.values import named
from lstmc.ops import Array
from tests.cli.conftest import LSTMC, lstmc  # noqa: F401
from tests.importers.imported import assert_close, imported, traced
from tests.importers.torch_files import mutants
from tests.on_demand.fuzz.mutate import changed_nodes
from tests.quick_sample import one_in

RNG = np.random.default_rng(0)
Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def built(nodes: Sequence[Node], x: Sequence[Any], constants: dict[str, Array], opset: int = 17) -> Any:
    """A model of one input x and one output y."""
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, name=f"{op}_{i}", **more) for i, (op, ins, outs, more) in enumerate(nodes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def by_runtime(model: Any, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"x": x})[0]
    return found


X3, X4 = (2, 3, 6), (2, 2, 5, 7)
CHANGES, COMPARED = 25, 8  # of each graph
GRAPHS: dict[str, tuple[Sequence[Node], tuple[int, ...], dict[str, Array], int]] = {
    "matmul, add": ([("MatMul", "xw", "a", {}), ("Add", "ab", "y", {})], X3, {"w": floats(6, 4), "b": floats(4)}, 13),
    "gemm": ([("Gemm", "xwb", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})], (3, 6),
             {"w": floats(4, 6), "b": floats(4)}, 13),
    "gemm of two values": (
        [("Gemm", "xxc", "a", {"transB": 1, "alpha": 0.5, "beta": 2.0}), ("Gemm", "aw", "b", {}),
         ("Gemm", "bxe", "y", {"transA": 1})], (3, 6),
        {"c": floats(3, 3), "w": floats(3, 3), "e": floats(6)}, 13),
    "conv": ([("Conv", "xwb", "y", {"pads": [1, 0, 2, 1], "strides": [2, 1]})], X4,
             {"w": floats(3, 2, 3, 2), "b": floats(3)}, 11),
    "parts of one matrix": (
        [("Split", "w", ["a", "b"], {"axis": 1}), ("Slice", "wst", "c", {}), ("MatMul", "xa", "d", {}),
         ("MatMul", "xb", "e", {}), ("MatMul", "xc", "f", {}), ("Sub", "de", "g", {}), ("Sub", "gf", "y", {})],
        X3, {"w": floats(6, 8), "s": ints(0, 4), "t": ints(6, 8)}, 13),
    "elements": (
        [("Erf", "x", "a", {}), ("Gelu", "a", "b", {}), ("Mish", "b", "c", {}), ("PRelu", "cs", "d", {}),
         ("Sign", "d", "e", {}), ("Celu", "x", "f", {"alpha": 0.7}), ("Sum", "efc", "g", {}),
         ("ThresholdedRelu", "g", "y", {"alpha": 0.3})], X3, {"s": floats(3, 1)}, 20),
    "masks": (
        [("Greater", "xs", "a", {}), ("LessOrEqual", "xt", "b", {}), ("Or", "ab", "c", {}), ("Not", "c", "d", {}),
         ("Where", "dxs", "e", {}), ("Cast", "c", "f", {"to": 1}), ("Add", "ef", "y", {})], X3,
        {"s": floats(1), "t": floats(3, 1)}, 16),
    "computed products": (
        [("Transpose", "x", "a", {"perm": [0, 2, 1]}), ("MatMul", "xa", "b", {}), ("Softmax", "b", "c", {"axis": -1}),
         ("Einsum", "cx", "y", {"equation": "nij,njk->nk"})], X3, {}, 13),
    "triangles": (
        [("Trilu", "wk", "v", {"upper": 1}), ("Where", "vnz", "a", {}), ("Add", "xa", "b", {}),
         ("Softmax", "b", "c", {"axis": -1}), ("Trilu", "c", "d", {"upper": 0}),
         ("Trilu", "dk", "e", {}), ("Add", "de", "y", {})], (2, 3, 3),
        {"w": np.ones((3, 3), bool), "k": np.array(1, np.int64), "n": floats(1) - 1e9, "z": floats(3, 1)}, 16),
    "norms": (
        [("InstanceNormalization", "xst", "a", {}), ("ReduceL2", "a", "b", {"axes": [2]}),
         ("ReduceSumSquare", "x", "c", {"axes": [2]}),
         ("Div", "cb", "d", {}), ("Expand", "dn", "e", {}), ("CumSum", "ei", "y", {})], X3,
        {"s": floats(3), "t": floats(3), "n": ints(1, 3, 4), "i": ints(1)[0]}, 13),
    "images made larger": (
        [("ConvTranspose", "xwb", "a", {"strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}),
         ("Resize", "ars", "y", {"mode": "nearest"})], X4,
        {"w": floats(2, 3, 3, 2), "b": floats(3), "r": np.zeros(0, np.float32), "s": np.float32([1, 1, 2, 1])}, 13),
    "conv same": ([("Conv", "xw", "y", {"auto_pad": "SAME_LOWER", "strides": [2]})], X3, {"w": floats(4, 3, 3)}, 11),
    "pools": ([("MaxPool", "x", "a", {"kernel_shape": [2, 2], "strides": [2, 2]}),
               ("AveragePool", "a", "y", {"kernel_shape": [1, 2], "pads": [0, 1, 0, 1], "count_include_pad": 1})],
              X4, {}, 12),
    "max pool, more behind": ([("MaxPool", "x", "y", {"kernel_shape": [2, 3], "pads": [0, 0, 1, 2]})], X4, {}, 12),
    "max pool, same": ([("MaxPool", "x", "y", {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"})],
                       X4, {}, 12),
    "mean pool without its padding": ([("AveragePool", "x", "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
                                      X4, {}, 12),
    "mean pool, more before": ([("AveragePool", "x", "y", {"kernel_shape": [3], "pads": [2, 1], "strides": [2]})],
                               X3, {}, 12),
    "mean pool, more behind, counted": (
        [("AveragePool", "x", "y", {"kernel_shape": [3], "pads": [0, 2], "count_include_pad": 1})], X3, {}, 12),
    "global pools": ([("GlobalMaxPool", "x", "a", {}), ("GlobalAveragePool", "x", "b", {}), ("Add", "ab", "y", {})],
                     X4, {}, 13),
    "batch norm": ([("BatchNormalization", "xsbmv", "y", {"epsilon": 0.1})], X4,
                   {"s": floats(2), "b": floats(2), "m": floats(2), "v": np.abs(floats(2))}, 15),
    "layer norm": (
        [("LayerNormalization", "xsb", "a", {}), ("LayerNormalization", "at", "y", {"axis": 1, "epsilon": 0.1})], X3,
        {"s": floats(6), "b": floats(6), "t": floats(3, 6)}, 17),
    "group norm": ([("GroupNormalization", "xsb", "y", {"num_groups": 2, "epsilon": 0.1})], (2, 4, 3),
                   {"s": floats(4), "b": floats(4)}, 21),
    "group norm, a scale for each group": (
        [("GroupNormalization", "xsb", "y", {"num_groups": 2})], (2, 4, 3), {"s": floats(2), "b": floats(2)}, 18),
    "old softmax": ([("Softmax", "x", "y", {"axis": 1})], X3, {}, 11),
    "softmax": ([("Softmax", "x", "a", {"axis": 1}), ("LogSoftmax", "a", "y", {})], X3, {}, 13),
    "old shapes": ([("Squeeze", "x", "a", {"axes": [0]}), ("Unsqueeze", "a", "b", {"axes": [1]}),
                    ("Slice", "b", "y", {"starts": [1], "ends": [2**31 - 1], "axes": [2]})], (1, 3, 6), {}, 9),
    "shapes": ([("Squeeze", "xo", "a", {}), ("Unsqueeze", "ao", "b", {}), ("Slice", "bstot", "y", {})], (2, 1, 6),
               {"o": ints(1), "s": ints(0), "t": ints(2)}, 13),
    "split": ([("Split", "x", ["a", "b"], {"axis": 2}), ("Mul", "ab", "y", {})], X3, {}, 11),
    "gather": ([("Gather", "xi", "y", {"axis": 1})], X3, {"i": np.array(-1, np.int64)}, 13),
    "pad": ([("Pad", "xp", "y", {})], X3, {"p": ints(0, 1, 0, 0, 0, 2)}, 13),
    "mirror": ([("Pad", "xp", "y", {"mode": "reflect"})], X3, {"p": ints(0, 1, 3, 0, 2, 0)}, 13),
    "edges": ([("Pad", "xp", "y", {"mode": "edge"})], X3, {"p": ints(0, 1, 3, 0, 2, 2)}, 13),
    "integers with a scale": (
        [("DequantizeLinear", "wsz", "d", {"axis": 0}), ("Mul", "xd", "y", {})], X3,
        {"w": np.arange(-9, 9, dtype=np.int8).reshape(3, 6), "s": np.float32([0.5, 1, 0.1]), "z": np.int8([0, 1, -2])},
        13),
    "a row of integers with a scale": (
        [("DequantizeLinear", "wsz", "d", {}), ("MatMul", "xd", "a", {}), ("Cast", "a", "b", {"to": 3}),
         ("DequantizeLinear", "bst", "y", {})], (2, 3, 3),
        {"w": np.arange(-9, 9, dtype=np.int8).reshape(3, 6), "s": np.float32(0.5), "z": np.int8(3), "t": np.int8(2)},
        10),
    "reduce": ([("ReduceMean", "x", "a", {"axes": [1]}), ("ReduceSum", "ai", "y", {"keepdims": 0})],
               X3, {"i": ints(2)}, 13),
    "largest and smallest": ([("ReduceMax", "x", "a", {"axes": [-2]}),
                              ("ReduceMin", "x", "b", {"axes": [1, 0], "keepdims": 0}), ("Add", "ab", "y", {})],
                             (5, 3, 6), {}, 13),
    "smallest of all": ([("ReduceMin", "x", "y", {})], X3, {}, 13),
    "axes as an operand": ([("ReduceMax", "xi", "a", {}), ("ReduceMin", "ai", "b", {"noop_with_empty_axes": 1}),
                            ("ReduceMax", "be", "y", {"noop_with_empty_axes": 1})],
                           X3, {"i": ints(1), "e": ints()}, 18),
    "tile": ([("Tile", "xr", "a", {}), ("Tile", "wr", "b", {}), ("Add", "ab", "y", {})], X3,
             {"r": ints(1, 3, 2), "w": floats(2, 3, 6)}, 13),
    "number of elements": ([("Size", "x", "s", {}), ("Cast", "s", "f", {"to": 1}), ("Mul", "xf", "y", {})], X3, {}, 13),
    "shape arithmetic": ([("Shape", "x", "s", {}), ("Gather", "si", "n", {}), ("Unsqueeze", "no", "m", {}),
                          ("Concat", "mk", "t", {"axis": 0}), ("Reshape", "xt", "y", {})], X3,
                         {"i": np.array(1, np.int64), "o": ints(0), "k": ints(-1)}, 13),
    "bounds": ([("Clip", ["x", "l", ""], "a", {}), ("Clip", ["a", "", "h"], "b", {}), ("Max", "bl", "y", {})], X3,
               {"l": np.float32(-0.5), "h": np.float32(0.7)}, 13),
    "functions": ([("HardSigmoid", "x", "a", {}), ("Softplus", "a", "b", {}), ("Sqrt", "b", "c", {}),
                   ("Pow", "ce", "d", {}), ("Div", "od", "f", {}), ("Sin", "f", "g", {}), ("Cos", "g", "h", {}),
                   ("HardSwish", "h", "y", {})], X3,
                  {"e": np.float32(3), "o": np.float32(1)}, 14),
    "dropout": ([("Dropout", "x", "y", {})], X3, {}, 13),
    "places": (
        [("ArgMax", "x", "a", {"axis": 1}), ("ArgMin", "x", "b", {"axis": -2, "select_last_index": 1}),
         ("TopK", "xk", ["c", "d"], {"axis": 1}), ("Add", "ab", "e", {}), ("Mul", "ed", "f", {}),
         ("Cast", "f", "g", {"to": 1}), ("Add", "cg", "y", {})], X3, {"k": ints(1)}, 13),
    "places without an axis of their own": (
        [("ArgMax", "x", "a", {"axis": 2, "keepdims": 0}), ("Cast", "a", "y", {"to": 1})], X3, {}, 13),
    "integers": (
        [("Mul", "xs", "m", {}), ("Floor", "m", "a", {}), ("Ceil", "m", "b", {}), ("Cast", "m", "c", {"to": 7}),
         ("Cast", "c", "d", {"to": 1}), ("Cast", "a", "e", {"to": 9}), ("Cast", "e", "f", {"to": 1}),
         ("Sub", "ab", "g", {}), ("Mul", "dg", "h", {}), ("Add", "hf", "y", {})], X3, {"s": np.float32([3.3])}, 13),
    "a number without axes": (
        [("ReduceMax", "x", "a", {"keepdims": 0, "axes": [0, 1]}), ("ReduceSum", "a", "b", {}),
         ("Squeeze", "b", "y", {})], X3, {}, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", one_in(3, GRAPHS))
def test_what_stands_around_recurrent_nodes(name: str) -> None:
    nodes, shape, constants, opset = GRAPHS[name]
    named = [(op, list(ins), [outs] if isinstance(outs, str) else list(outs), more) for op, ins, outs, more in nodes]
    model = built(named, shape, constants, opset)
    x = floats(*shape)
    made = imported(from_onnx(model).described)
    assert_close(made.interpreted({"x": x.astype(float)}), {"y": by_runtime(model, x)})


def test_a_value_is_repeated_a_number_of_times_from_1_on() -> None:
    with pytest.raises(RefusedError) as caught:
        from_onnx(built([("Tile", ["x", "r"], ["y"], {})], X3, {"r": ints(1, 0, 2)}), name="tile.onnx")
    assert str(caught.value) == (
        "RefusedError: tile.onnx cannot be imported: 1 problem\n"
        "  Tile_0 (Tile): shapes = [2, 3, 6] repeated [1, 0, 2] times: they do not fit, or are not known; give shape,"
        " or check the model"
    )


@pytest.mark.parametrize(("pads", "size"), [([0, 0], "an image's size"), ([2, 0], "axis -1")])
def test_a_size_that_must_be_known_is_given_by_shape(pads: list[int], size: str, tmp_path: Path) -> None:
    model = built([("Conv", ["x", "W"], ["y"], {"pads": pads})], [1, 4, "time"], {"W": floats(6, 4, 5)})
    path = tmp_path / "conv.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RefusedError) as caught:
        import_file(path)
    assert error_text(caught.value) == (
        "RefusedError: conv.onnx cannot be imported: 1 problem\n"
        f"  Conv_0 (Conv): shapes = {size} must be known here, and is time: they do not fit, or are not known;"
        " fix the sizes by --shape x=1,4,TIME, with numbers for TIME"
    )
    assert import_file(path, shapes={"x": (1, 4, 20)}).net.inputs == {"x": (1, 4, 20)}


def test_the_largest_element_of_an_open_axis() -> None:
    model, x = built([("ReduceMax", ["x"], ["y"], {"axes": [1]})], [2, "n", 6], {}), floats(2, 5, 6)
    made = imported(from_onnx(model).described, {"n": 5})
    assert_close(made.interpreted({"x": x}), {"y": by_runtime(model, x)})


def exported(module: torch.nn.Module, path: Path, x: torch.Tensor) -> None:
    """As PyTorch's own exporter writes it, with T and N left open."""
    axes = {"x": {0: "N", 1: "T"}, "y": {0: "N", 1: "T"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x,), str(path), input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False,
        )  # fmt: skip


class Tagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)
        self.fc = torch.nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.softmax(self.fc(self.rnn(x)[0]), -1)
        return found


class PackedTagger(Tagger):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=5)
        found: torch.Tensor = self.fc(y)
        return found


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter
def test_packed_sequences_of_lengths_in_any_order_are_sorted_as_in_pytorch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x, path = PackedTagger().eval(), torch.randn(3, 5, 4), tmp_path / "tagger.onnx"
    names = ["x", "lengths"]
    torch.onnx.export(module, (x, torch.tensor([4, 5, 2])), str(path), input_names=names, dynamo=False)
    made, lengths = imported(import_file(path).described), torch.tensor([2, 5, 3])
    found = made.interpreted({"x": x.numpy().astype(float), "lengths": lengths.numpy().astype(float)})
    assert_close(found, {name: module(x, lengths).detach().numpy() for name in found})


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_computed_places_of_one_axis_are_written(reduction: str) -> None:
    nodes: list[Node] = [
        ("ArgMax", ["x"], ["at"], {"axis": 1, "keepdims": 1}), ("ReduceSum", ["x", "one"], ["s"], {"keepdims": 1}),
        ("Sub", ["at", "size"], ["behind"], {}),
        ("ScatterElements", ["x", "behind", "s"], ["y"], {"axis": 1, "reduction": reduction}),
    ]  # fmt: skip
    model, x = built(nodes, X3, {"one": ints(1), "size": ints(X3[1])}, opset=18), floats(*X3)
    made = imported(from_onnx(model).described)
    assert_close(made.interpreted({"x": x}), {"y": by_runtime(model, x)})


def test_a_graph_of_pytorchs_exporter_keeps_its_open_sizes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Tagger().eval()
    exported(module, tmp_path / "tagger.onnx", torch.zeros(2, 5, 4))
    found = import_file(tmp_path / "tagger.onnx")
    assert found.net.inputs == {"x": named(("T", "N", 4))}
    made = imported(found.described, {"T": 7, "N": 3})
    x = torch.randn(3, 7, 4)
    assert_close(made.interpreted({"x": x.numpy().astype(float)}), {"y": module(x).detach().numpy()})


class Frames(torch.nn.Module):
    """Layers that PyTorch's exporter writes with the length of the sequence, or with arithmetic of it, then a GRU."""

    def __init__(self, before: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor], padding: int = 0) -> None:
        super().__init__()
        self.before, self.conv = before, torch.nn.Conv1d(4, 4, 5, padding=padding)
        self.gru = torch.nn.GRU(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.gru(self.before(self, x.transpose(1, 2)).transpose(1, 2))[0]
        return y


# what is before the GRU, its padding, and the delay of the stream
DYNAMIC: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], int, int]] = {
    "padded in front": (lambda m, x: m.conv(torch.nn.functional.pad(x, (4, 0))), 0, 0),
    "cut behind": (lambda m, x: m.conv(x)[..., :-4], 4, 0),
    "padded on both sides": (lambda m, x: m.conv(x), 2, 2),
    "not padded": (lambda m, x: m.conv(x), 0, 4),
    "differences": (lambda m, x: x[..., 1:] - x[..., :-1], 0, 1),
    "all steps in rows": (
        lambda m, x: x.transpose(1, 2).reshape(-1, 4).tanh().reshape(x.shape[0], -1, 4).transpose(1, 2),
        0,
        0,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DYNAMIC)
def test_a_graph_with_dynamic_axes_is_streamed(name: str, tmp_path: Path) -> None:
    before, padding, delay = DYNAMIC[name]
    torch.manual_seed(0)
    module = Frames(before, padding).eval()
    exported(module, tmp_path / "frames.onnx", torch.zeros(2, 9, 4))
    model = import_file(tmp_path / "frames.onnx", step=True)
    assert model.net.delays == ({"y": delay} if delay else {})
    done = convert(
        model, tmp_path, step=True, on="interpreter", sizes={n: 1 for n in model.net.open_sizes() if n == "N"}
    )
    assert done.passed
    assert done.source is not None
    assert [difference.name for difference in done.source.differences] == ["y"]
    x = torch.randn(1, 12, 4)
    with done.net.stream(on="interpreter") as step:
        found = np.stack([step(frame[None, None].numpy())["y"].ravel() for frame in x[0]])
    wanted = module(x)[0].detach().numpy()
    np.testing.assert_allclose(found[delay:], wanted[: 12 - delay], atol=1e-5)


def test_a_graph_that_computes_with_its_length_is_not_read_at_another() -> None:
    """x / T: the number of steps, read at any length, would be one number for all."""
    weights = [floats(1, 6, 2), floats(1, 6, 2)]
    nodes: list[Node] = [
        ("Shape", ["x"], ["s"], {}),
        ("Gather", ["s", "zero"], ["t"], {}),
        ("Cast", ["t"], ["n"], {"to": 1}),
        ("Div", ["x", "n"], ["each"], {}),
        ("GRU", ["each", "w", "r"], ["all"], {"hidden_size": 2}),
        ("Squeeze", ["all", "one"], ["y"], {}),
    ]
    constants = {"zero": np.array(0, np.int64), "one": ints(1), "w": weights[0], "r": weights[1]}
    model = built(nodes, ["time", 1, 2], constants)
    for step in (False, True):
        with pytest.raises(RefusedError) as caught:
            from_onnx(model, name="mean.onnx", step=step)
        assert "fix the sizes by shapes=" in str(caught.value)
    assert from_onnx(model, shapes={"x": (7, 1, 2)}).net.sizes == {"T": 7}


def test_the_shape_to_give_has_the_inputs_own_name() -> None:
    model = built([("NonZero", ["input.1"], ["n"], {}), ("Relu", ["n"], ["y"], {})], ["time", 2], {})
    model.graph.input[0].name = "input.1"
    model.graph.node[0].op_type = "Flatten"
    model.graph.node[0].attribute.append(helper.make_attribute("axis", 0))
    with pytest.raises(RefusedError) as caught:
        from_onnx(model)
    assert 'shapes={"input.1": (TIME, 2)}' in str(caught.value)


# Arithmetic of the shape s of x [n, 3], whose result t is a shape again; what a named size can not be is refused.
SIZES: dict[str, tuple[list[Node], bool]] = {
    "times one": ([("Mul", ["s", "ones"], ["t"], {})], True),
    "one times": ([("Mul", ["ones", "s"], ["t"], {})], True),
    "times two": ([("Mul", ["s", "twos"], ["t"], {})], False),
    "squared": ([("Mul", ["s", "s"], ["t"], {})], False),
    "plus": ([("Add", ["s", "ones"], ["t"], {})], False),
    "cast": ([("Cast", ["s"], ["c"], {"to": 7}), ("Identity", ["c"], ["t"], {})], True),
    "sizes one by one": (
        [("Gather", ["s", "zero"], ["a"], {}), ("Gather", ["s", "one"], ["b"], {}),
         ("Unsqueeze", ["a", "axis"], ["c"], {}), ("Unsqueeze", ["b", "axis"], ["d"], {}),
         ("Concat", ["d", "c"], ["e"], {"axis": 0}), ("Slice", ["e", "first", "second"], ["f"], {}),
         ("Concat", ["f", "minus"], ["t"], {"axis": 0})], True),
    "equal to itself": ([("Equal", ["s", "s"], ["e"], {}), ("Where", ["e", "s", "ones"], ["t"], {})], True),
    "equal to minus one": ([("Equal", ["s", "minus"], ["e"], {}), ("Where", ["e", "ones", "s"], ["t"], {})], True),
    "equal to two": ([("Equal", ["s", "twos"], ["e"], {}), ("Where", ["e", "ones", "s"], ["t"], {})], False),
}  # fmt: skip
KNOWN = {
    "ones": ints(1, 1), "twos": ints(2, 2), "minus": ints(-1), "axis": ints(0), "first": ints(0), "second": ints(1),
    "zero": np.array(0, np.int64), "one": np.array(1, np.int64),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_shapes_are_computed_with_named_sizes(name: str) -> None:
    nodes, right = SIZES[name]
    model = built([("Shape", ["x"], ["s"], {}), *nodes, ("Reshape", ["x", "t"], ["y"], {})], ["n", 3], KNOWN)
    if not right:
        with pytest.raises(RefusedError, match=r"fix the sizes by shapes=\{\"x\": \(N, 3\)\}"):
            from_onnx(model)
    else:
        source = from_onnx(model).described
        for size in (2, 5):
            x = floats(size, 3)
            assert_close(traced(source, {"n": size}).interpreted({"x": x.astype(float)}), {"y": by_runtime(model, x)})


BRANCH = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["r"])], "then", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
)
OTHER = helper.make_graph(
    [helper.make_node("Det", ["x"], ["d"])], "else", [], [helper.make_tensor_value_info("d", TensorProto.FLOAT, None)]
)
CHOICE: list[Node] = [
    ("Shape", ["x"], ["s"], {}),
    ("Gather", ["s", "i"], ["n"], {}),
    ("Equal", ["n", "k"], ["c"], {}),
    ("If", ["c"], ["y"], {"then_branch": BRANCH, "else_branch": OTHER}),
]


def test_a_branch_on_sizes_is_chosen_once_they_are_pinned(lstmc: LSTMC) -> None:  # noqa: F811
    constants = {"i": np.array(0, np.int64), "k": np.array(2, np.int64)}
    model = built(CHOICE, ["n", 3], constants)
    with pytest.raises(RefusedError) as caught:
        from_onnx(model, name="choice.onnx")
    assert str(caught.value) == (
        "RefusedError: choice.onnx cannot be imported: 2 problems\n"
        "  Equal_2 (Equal): operands = the size n: it is compared, so it must be a number; fix the sizes by"
        ' shapes={"x": (N, 3)}, with numbers for N\n'  # and of the branch that a large n chooses:
        "  node 0 (Det): operator = Det: it is not supported; write the model without it"
    )
    assert from_onnx(model, shapes={"x": (2, 3)}).net.steps
    with pytest.raises(RefusedError, match="Det"):  # a size that has a name is never 0
        from_onnx(built(CHOICE, ["n", 3], constants | {"k": np.array(0, np.int64)}))
    Path("choice.onnx").write_bytes(model.SerializeToString())
    assert lstmc("convert", "--no-compile", "choice.onnx", "-o", "out", "--shape", "x=2,3").code == 0
    assert "relu(x)" in Path("out/model.py").read_text()
    done = lstmc("convert", "--no-compile", "choice.onnx", "-o", "out", "--shape", "z=2,3")
    assert (done.code, done.err) == (2, "SourceError: choice.onnx: it has no input z: found x\n")
    done = lstmc("convert", "--no-compile", "choice.onnx", "-o", "out", "--shape", "x=2,?")
    assert (done.code, done.err) == (2, "SourceError: --shape takes NAME=SIZES, as in --shape x=1,576, found 'x=2,?'\n")


def test_every_refusal_is_gathered_and_what_follows_them_is_not_one() -> None:
    nodes: list[Node] = [
        ("Det", "x", "a", {}),
        ("Relu", "a", "b", {}),
        ("NonZero", "x", "c", {}),
        ("Add", "bc", "y", {}),
    ]
    with pytest.raises(RefusedError) as caught:
        from_onnx(built([(op, list(i), list(o), m) for op, i, o, m in nodes], X3, {}))
    assert [(r.node, r.value) for r in caught.value.refusals] == [
        ("Det_0 (Det)", "Det"),
        ("NonZero_2 (NonZero)", "NonZero"),
    ]


def test_what_follows_a_node_that_needs_a_size_is_told_too() -> None:
    nodes: list[Node] = [
        ("Pad", ["x", "p"], ["a"], {}),
        ("Det", ["a"], ["y"], {}),
    ]
    with pytest.raises(RefusedError) as caught:
        from_onnx(built(nodes, (1, "T", 3), {"p": np.array([0, 1, 0, 0, 0, 0])}))
    assert [(r.node, r.attribute, r.mend) for r in caught.value.refusals] == [
        ("Pad_0 (Pad)", "shapes", 'fix the sizes by shapes={"x": (1, T, 3)}, with numbers for T'),
        ("Det_1 (Det)", "operator", "write the model without it"),
    ]


@pytest.mark.parametrize("setting", [{}, {"exclusive": 1}, {"reverse": 1}])
def test_a_cumulative_sum_along_an_open_axis_is_a_loop(setting: dict[str, int]) -> None:
    model, x = built([("CumSum", ["x", "a"], ["y"], setting)], ("N", "T", 3), {"a": np.array(1)}), floats(2, 5, 3)
    made = imported(from_onnx(model).described, {"N": 2, "T": 5})
    assert_close(made.interpreted({"x": x}), {"y": by_runtime(model, x)}, 1e-6)


def test_the_last_step_of_an_open_axis_is_taken() -> None:
    nodes: list[Node] = [("Relu", ["x"], ["a"], {}), ("Gather", ["a", "i"], ["y"], {"axis": 1})]
    model, x = built(nodes, ("N", "T", 3), {"i": np.array(-1, np.int64)}), floats(2, 5, 3)
    made = imported(from_onnx(model).described, {"N": 2, "T": 5})
    assert_close(made.interpreted({"x": x}), {"y": by_runtime(model, x)}, 1e-6)
    assert "Gather_1 = Relu_0[:, -1]\n" in made.text


def test_what_is_whole_is_not_rounded_again() -> None:
    nodes = [("Floor", ["x"], ["a"], {}), ("Add", ["a", "a"], ["b"], {}), ("Cast", ["b"], ["y"], {"to": 7})]
    assert imported(from_onnx(built(nodes, X3, {})).described).text.count("floor(") == 1


@pytest.mark.parametrize("pads", [[0, 1], [1, 0], [0, 2], [1, 2]])
def test_windows_that_are_padded_on_one_side_more(pads: list[int]) -> None:
    model = built([("MaxPool", ["x"], ["y"], {"kernel_shape": [3], "pads": pads})], [2, 3, 5], {})
    x = floats(2, 3, 5)
    assert_close(imported(from_onnx(model).described).interpreted({"x": x}), {"y": by_runtime(model, x)})


@pytest.mark.parametrize(("op", "attributes"), [("Identity", {}), ("Transpose", {"perm": [1, 0]})])
def test_a_weight_that_each_step_copies_is_one_weight(op: str, attributes: dict[str, Any]) -> None:
    nodes, h = [("Flatten", ["x"], ["h_0"], {})], "h_0"
    for step in range(5):
        nodes += [(op, ["w"], [f"w_{step}"], attributes), ("MatMul", [h, f"w_{step}"], [f"m_{step}"], {})]
        nodes += [("Tanh", [f"m_{step}"], [h := f"h_{step + 1}"], {})]
    nodes.append(("Identity", [h], ["y"], {}))
    model = built(nodes, X3, {"w": floats(prod(X3[1:]), prod(X3[1:]))})
    made, x = imported(from_onnx(model).described), floats(*X3)
    assert made.text.count("Param(") == 1
    assert_close(made.interpreted({"x": x}), {"y": by_runtime(model, x)})


def test_a_weight_of_float16_is_stored_by_its_bits() -> None:
    w = floats(4, 4).astype(np.float16)
    model = built([("MatMul", ["x", "w"], ["y"], {})], [2, 3, 4], {"w": w.astype(np.float32)})
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=w.shape, int32_data=w.view(np.uint16).ravel())
    (tensor,) = model.graph.initializer
    tensor.CopyFrom(stored)
    x = floats(2, 3, 4)
    assert_close(imported(from_onnx(model).described).interpreted({"x": x}), {"y": x @ w.astype(float)})


def test_a_constant_without_axes_is_an_output_without_axes() -> None:
    model = built([("Relu", ["x"], ["r"], {}), ("Identity", ["w"], ["y"], {})], X3, {"w": np.float32(0.5)})
    made, x = imported(from_onnx(model).described), floats(*X3)
    found = made.interpreted({"x": x})["y"]
    assert found.shape == by_runtime(model, x).shape == ()
    assert found == 0.5


def test_more_elements_than_an_axis_has_are_not_the_largest_of_it() -> None:
    with pytest.raises(RefusedError) as caught:
        from_onnx(built([("TopK", ["x", "k"], ["y", "z"], {})], X3, {"k": ints(X3[-1] + 1)}))
    most = X3[-1]
    assert [str(r) for r in caught.value.refusals] == [
        f"TopK_0 (TopK): k = {most + 1}: 1 to {most} elements of {most} are sorted; give back the scores"
    ]


def test_the_largest_elements_are_counted_by_one_number() -> None:
    with pytest.raises(RefusedError, match=r"k = \[None\]: it must be one number"):
        from_onnx(built([("TopK", ["x"], ["y", "z"], {})], X3, {}))
    with pytest.raises(RefusedError, match=r"k = \[1, 1\]: it must be one number"):
        from_onnx(built([("TopK", ["x", "k"], ["y", "z"], {})], X3, {"k": ints(1, 1)}))


def test_a_tensor_that_is_not_used_is_listed_with_the_reason() -> None:
    found = from_onnx(built([("Relu", ["x"], ["y"], {})], X3, {"w": floats(2)}))
    assert found.net.ignored == {"w": "no output of the graph is computed from it"}


def test_an_output_that_nothing_computes_is_said() -> None:
    with pytest.raises(SourceError) as caught:
        from_onnx(built([("Relu", ["x"], ["z"], {})], X3, {}), name="half.onnx")
    assert str(caught.value) == "SourceError: half.onnx: nothing computes its output y"


def external(path: Path, **told: str) -> None:
    """A model whose weights lie in another file."""
    model = built([("MatMul", ["x", "w"], ["y"], {})], X3, {"w": floats(6, 4)})
    tensor = model.graph.initializer[0]
    (path.parent / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in told.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def test_external_data_are_read_from_below_the_models_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    external(folder / "m.onnx", location="weights.bin")
    assert import_file(folder / "m.onnx").files()
    (tmp_path / "secret.bin").write_bytes(bytes(96))
    os.mkfifo(folder / "pipe")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ValueError, match="null") as nul:  # the words depend on Python's version
        os.lstat("a\0b")
    for told, said in (
        ({"location": "../secret.bin"}, "tensor w lies outside of the model's folder, at ../secret.bin: not read"),
        ({"location": "link.bin"}, "tensor w lies outside of the model's folder, at link.bin: not read"),
        ({"location": "none.bin"}, "tensor w lies in none.bin, which is not there"),
        ({"location": "a" * 5000}, f"tensor w lies in {'a' * 200}: File name too long"),
        ({"location": "a\0b"}, f"tensor w lies in a\\x00b: {nul.value}"),
        ({"location": "pipe"}, "tensor w lies in pipe: expected a file, found a device or a pipe"),
        ({"location": "weights.bin", "offset": "8"}, "tensor w ends behind the end of weights.bin"),
        (
            {"location": "weights.bin", "length": "8"},
            "tensor w should have 96 bytes in weights.bin, found a length of 8",
        ),
        (
            {"location": "weights.bin", "length": "²"},
            "tensor w should have 96 bytes in weights.bin, found a length of ²",
        ),
    ):
        external(folder / "m.onnx", **told)
        with pytest.raises(SourceError) as caught:
            import_file(folder / "m.onnx")
        assert str(caught.value) == f"SourceError: m.onnx: {said}"


@pytest.mark.slow
def test_a_thousand_mutants_are_read_or_refused_in_words(tmp_path: Path) -> None:
    exported(Tagger().eval(), tmp_path / "tagger.onnx", torch.zeros(2, 5, 4))
    content, path = (tmp_path / "tagger.onnx").read_bytes(), tmp_path / "mutant"
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for mutant in mutants(content, 1000):
        path.write_bytes(mutant)
        try:
            import_file(path).files()
        except LstmcError:
            refused += 1
    assert refused > 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes


def test_an_operand_that_must_be_there_and_is_not() -> None:
    nodes: list[Node] = [("Expand", ["w", ""], ["e"], {}), ("Add", ["x", "e"], ["y"], {})]
    with pytest.raises(RefusedError) as caught:
        from_onnx(built(nodes, X3, {"w": floats(1)}))
    (refusal,) = caught.value.refusals
    assert (refusal.attribute, refusal.value, refusal.why) == (
        "operands",
        "operand 2 is missing",
        "Expand requires it",
    )


BY_T: list[Node] = [("Shape", ["x"], ["s"], {}), ("Gather", ["s", "i"], ["n"], {}), ("Expand", ["n", "k"], ["e"], {})]


def test_a_size_without_a_number_is_repeated() -> None:
    tiled: list[Node] = [
        ("Tile", ["e", "k"], ["t"], {}),
        ("Gather", ["t", "last"], ["m"], {}),
        ("Concat", ["m", "rest"], ["z"], {"axis": 0}),
        ("Reshape", ["x", "z"], ["y"], {}),
    ]
    constants = {"i": ints(1), "k": ints(3), "last": ints(8), "rest": ints(-1, 1)}
    net = from_onnx(built([*BY_T, *tiled], [1, "T", 6], constants)).described
    assert list(map(str, net.shapes[net.outputs["y"]])) == ["T", "6", "1"]


def test_sizes_of_a_damaged_file_take_no_memory() -> None:
    chosen: list[Node] = [("Where", ["mask", "e", "i"], ["w"], {}), ("Reshape", ["x", "w"], ["y"], {})]
    constants = {"i": ints(1), "k": ints(6000), "mask": np.ones((6000, 1), bool)}
    tracemalloc.start()
    with pytest.raises(RefusedError, match="36000000 more elements of computed constants"):
        from_onnx(built([*BY_T, *chosen], [1, "T", 6], constants))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27


def test_windows_of_a_damaged_file_take_no_memory() -> None:
    pool: Node = ("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "pads": [0, 0, 2**31, 0]})
    with pytest.raises(RefusedError, match=r"2,147,483,65\d pieces of an axis: 1,000,000 are the most"):
        from_onnx(built([pool], X4, {}))


@pytest.mark.parametrize("op", ["MaxPool", "Conv", "ConvTranspose"])
@pytest.mark.parametrize("pads", [[-1, 0, 1, 0], [-1, 0, -1, 0]], ids=["uneven", "even"])
def test_windows_with_a_negative_padding_are_refused_as_by_onnx_runtime(op: str, pads: list[int]) -> None:
    kernel = {"w": floats(X4[1], 2, 2, 2)} if op != "MaxPool" else {}
    settings = {"pads": pads, **({"kernel_shape": [2, 2]} if op == "MaxPool" else {})}
    with pytest.raises(RefusedError, match=re.escape(f"pads = {pads}: numbers of 0 or more are expected")):
        from_onnx(built([(op, ["x", *kernel], ["y"], settings)], X4, kernel))


@pytest.mark.parametrize(
    ("node", "constants", "expected"),
    [
        (("Einsum", ["x", "x"], ["y"], {"equation": 3}), {}, "equation = 3: a text is expected"),
        (("Unsqueeze", ["x", "a"], ["y"], {}), {"a": ints(0, 0)}, "new axes [0, 0], of which one occurs twice"),
        (("Pad", ["x", "p"], ["y"], {}), {"p": ints(0, 1, 0)}, "pads = [0, 1, 0]: 4 numbers are expected"),
        (("MaxPool", ["x"], ["y"], {}), {}, "kernel_shape = left out: it is required"),
        (("Transpose", ["x"], ["y"], {"perm": [0.5, 1.5]}), {}, "perm = [0.5, 1.5]: a list of integers is expected"),
        (("Reshape", ["x", "s"], ["y"], {}), {"s": floats(2)}, "integers are expected"),
        (("Relu", ["x", "x"], ["y"], {}), {}, "operands = 2 of them: 1 are the most"),
        (("MatMul", ["x", "w"], ["y"], {}), {"w": floats(2, 4, 5)}, "a product of [2, 3] and [2, 4, 5]"),
        (("Pad", ["x", "p"], ["y"], {}), {"p": ints(0, 0, 2**40, 0)}, "a padding of 0 and 1,099,511,627,776 elements"),
        (("LayerNormalization", ["x", "s"], ["y"], {"axis": 5}), {"s": floats(2, 3)}, "there is no axis 5 among 2"),
        (
            ("LayerNormalization", ["x", "s"], ["y", "m"], {}),
            {"s": floats(3)},
            "outputs = 2: the mean cannot be an output here",
        ),
        (
            ("BatchNormalization", ["x", "s", "s", "m", "m"], ["y"], {}), {"s": floats(3), "m": floats(2)},
            "a batch normalization of 3 channels with weights [[3], [3], [2], [2]]",
        ),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_refused(node: Node, constants: dict[str, Array], expected: str) -> None:
    with pytest.raises(RefusedError) as caught:
        from_onnx(built([node], (2, 3), constants))
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", GRAPHS)
def test_changed_nodes_are_read_as_the_runtime_reads_them_or_refused_in_words(name: str) -> None:
    """Operands and attributes are checked before they are used: no handler ends by an error of its own."""
    nodes, shape, constants, opset = GRAPHS[name]
    content = built(nodes, shape, constants, opset).SerializeToString()
    for seed in range(CHANGES):
        model = onnx.load_model_from_string(changed_nodes(content, random.Random(f"{name} {seed}")))
        source = None
        with suppress(LstmcError):
            source = from_onnx(model)
        if source is not None and seed < COMPARED and source.net.inputs:
            compare(source, model, floats(*shape))


def compare(source: ImportedModel, model: Any, x: Array) -> None:
    """Compare with ONNX Runtime, where that takes the graph and has numbers."""
    try:
        expected = by_runtime(model, x)
    except Exception:  # of its own kinds, which differ from version to version
        return
    if np.all(np.isfinite(expected.astype(float))):
        assert_close(traced(source.described).interpreted({"x": x.astype(float)}), {"y": expected}, 1e-4)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    content = built([("Relu", ["x"], ["y"], {})], X3, {}).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content.replace(b"Relu_0", b"Relu\xff0"))
    with pytest.raises(SourceError, match=r"or a damaged one: .* is no UTF-8"):
        import_file(tmp_path / "m.onnx")


def test_a_bound_that_is_computed_limits() -> None:
    nodes: list[Node] = [("ReduceMean", ["x"], ["low"], {"axes": [2]}), ("Clip", ["x", "low"], ["y"], {})]
    text = from_onnx(built(nodes, X3, {}, 13)).files()["model.py"].decode()
    assert re.search(r"maximum\(\w+, \w+\)", text), text


def test_a_bug_of_a_handler_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setitem(HANDLERS, "Relu", handler)
    with pytest.raises(ValueError, match="a bug"):
        from_onnx(built([("Relu", ["x"], ["y"], {})], (2, 3), {}))


def test_an_input_of_truth_values_holds_0_and_1(tmp_path: Path) -> None:
    model = built([("Where", ["mask", "x", "zero"], ["y"], {})], [2, 3], {"zero": floats(1)})
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, [2, 1]))
    onnx.save(model, tmp_path / "masked.onnx")
    converted = convert(tmp_path / "masked.onnx", tmp_path / "net", on="interpreter")
    assert "mask=Input(2, 1, values=integers(0, 1))" in (tmp_path / "net" / "model.py").read_text(encoding="utf-8")
    assert converted.source is not None
    assert converted.passed


def of_branches(unsupported: bool) -> onnx.ModelProto:
    """A net that takes another branch for more than 50 steps."""
    draw = np.random.default_rng(0).normal
    numbers = {"W": draw(size=(1, 12, 3)), "R": draw(size=(1, 12, 3)), "two": 2.0, "three": 3.0}
    arrays = {name: np.asarray(array, np.float32) for name, array in numbers.items()}
    arrays |= {"most": np.array([50]), "zero": np.array([0])}
    value, node = helper.make_tensor_value_info, helper.make_node
    longer = node("Det", ["x"], ["a"]) if unsupported else node("Mul", ["x", "two"], ["a"])
    then = helper.make_graph([longer], "then", [], [value("a", 1, None)])
    other = helper.make_graph([node("Mul", ["x", "three"], ["b"])], "else", [], [value("b", 1, None)])
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["steps"]),
        node("Greater", ["steps", "most"], ["longer"]),
        node("If", ["longer"], ["z"], then_branch=then, else_branch=other),
        node("LSTM", ["z", "W", "R"], ["y"], hidden_size=3),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", [value("x", 1, ["T", 1, 3])], [value("y", 1, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("unsupported", [True, False])
def test_a_branch_that_depends_on_the_length_needs_it(unsupported: bool) -> None:
    """What stands in a branch that other lengths do not take is no reason; the sizes are, and with them it passes."""
    with pytest.raises(RefusedError) as raised:
        from_onnx(of_branches(unsupported))
    (refusal,) = raised.value.refusals
    assert refusal.node == "node 2 (Greater)"
    assert 'shapes={"x": (T, 1, 3)}' in refusal.mend
    x = np.random.default_rng(1).normal(size=(10, 1, 3)).astype(np.float32)
    found = from_onnx(of_branches(unsupported), shapes={"x": x.shape})
    assert "x * three" in found.files()["model.py"].decode()
