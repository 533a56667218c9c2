"""Faults planted in the files of a net: each is found by its layer or weight, and no other file is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import lstmc
from lstmc import Input, Param, State, cell, dims, linear, model, scan, sigmoid, tanh, uniform
from lstmc.api.net import Net
from lstmc.errors import BackendError
from lstmc.manifest import parse_manifest
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc_c.backend import CBackend
from lstmc_caffe.proto.net import RawNet
from lstmc_caffe.runtime.executor import written_settings

N, D, H = dims("N D H")


@cell
def gated(
    x: Any = Input(N, D),
    h: Any = State(N, H),
    *,
    W: Any = Param(H, D, fill=uniform(-1, 1), lr_mult=2),
    U: Any = Param(H, H, fill=uniform(-1, 1)),
) -> Any:
    h = sigmoid(x.sum(axis=1, keepdims=True)) * tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}


@model
def net(X: Any = Input(3, 2, 4)):
    y, last = scan(gated(H=3), X)
    return {"y": y, "h_T": last["h"]}


KINDS: dict[str, dict[str, Any]] = {
    "caffe": {},
    "flat": {"target": "flat"},
    "fused": {"target": "caffe-fused"},
    "onnx": {"backend": "onnx"},
    "torch": {"backend": "torch"},
    "c": {"backend": "c"},
    "c-file": {"backend": CBackend(weights_in_file=True)},
}


def written(kind: str, folder: Path) -> tuple[Net, Path]:
    made = lstmc.compile(net, **KINDS[kind])
    made.save(folder)
    return made, folder / made.artifact.net


def text(file: str, old: str, new: str) -> Callable[[Path], None]:
    """A change of the first place in a file where a text stands."""

    def change(folder: Path) -> None:
        content = (folder / file).read_text()
        assert old in content
        (folder / file).write_text(content.replace(old, new, 1))

    return change


def blob(layer: str) -> Callable[[Path], None]:
    """Four bytes of a blob in a caffemodel."""

    def change(folder: Path) -> None:
        stored = RawNet.FromString((folder / "net.caffemodel").read_bytes())
        (found,) = (each for each in stored.layer if each.name == layer)
        found.blobs[0].data = np.float32(0.75).tobytes() + found.blobs[0].data[4:]
        (folder / "net.caffemodel").write_bytes(stored.SerializeToString())

    return change


def of_onnx(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        found = onnx.load(folder / "net.onnx")
        change(found.graph)
        onnx.save(found, folder / "net.onnx")

    return changed


def node(graph: Any, kind: str) -> Any:
    body = next(attribute.g for each in graph.node for attribute in each.attribute if attribute.name == "body")
    return next(each for each in (*graph.node, *body.node) if each.op_type == kind)


def other_number(graph: Any) -> None:
    tensor = next(each for each in graph.initializer if each.name == "gated/U")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + np.float32(0.25), tensor.name))


def other_direction(graph: Any) -> None:
    node(graph, "Scan").attribute.append(onnx.helper.make_attribute("scan_input_directions", [1]))


def other_operator(graph: Any) -> None:
    node(graph, "Tanh").op_type = "Sigmoid"


def other_tensor(folder: Path) -> None:
    state = torch.load(folder / "net_torch.pt")
    state["gated/U"][0, 0] += 0.5
    torch.save(state, folder / "net_torch.pt")


def other_bytes(folder: Path) -> None:
    content = bytearray((folder / "net.bin").read_bytes())
    content[-4:] = np.float32(3).tobytes()
    (folder / "net.bin").write_bytes(content)


PLANTED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a setting of a layer": (
        "flat",
        text("net.prototxt", "num_output: 3", "num_output: 2"),
        "net.prototxt: layer gated/linear_W, inner_product_param.num_output: expected 3, found 2",
    ),
    "a learning rate": (
        "caffe",
        text("net.prototxt", "lr_mult: 2", "lr_mult: 1"),
        "net.prototxt: layer gated/linear_W, param[0].lr_mult: expected 2.0, found nothing",
    ),
    "a bottom": ("caffe", text("net.prototxt", 'bottom: "X"', 'bottom: "y"'), "net.prototxt: layer "),
    "a weight": (
        "caffe",
        blob("gated/linear_W"),
        "net.caffemodel: weight gated/W, in layer gated/linear_W: 1 of 12 numbers differ, by ",
    ),
    "one copy of a shared weight": (
        "caffe",
        blob("gated/t002/linear_U"),
        "net.caffemodel: weight gated/U, in layer gated/t002/linear_U: 1 of 9 numbers differ, by ",
    ),
    "the body of a generated layer": (
        "fused",
        text("net.layers.cpp", "tanh(", "sin("),
        "net.layers.cpp: code net.layers.cpp: line ",
    ),
    "an initializer": ("onnx", of_onnx(other_number), "net.onnx: weight gated/U: 9 of 9 numbers differ, by 0.25"),
    "an attribute": (
        "onnx",
        of_onnx(other_direction),
        "net.onnx: node gated, scan_input_directions: expected nothing, found [1]",
    ),
    "an operator": ("onnx", of_onnx(other_operator), "net.onnx: node gated, body, "),
    "a line of a program": (
        "torch",
        text("net_torch.py", "torch.tanh", "torch.sin"),
        "net_torch.py: code net_torch.py: line ",
    ),
    "a loop of a program": (
        "torch",
        text("net_torch.layers.cpp", "tanh(", "sin("),
        "net_torch.layers.cpp: code net_torch.layers.cpp: line ",
    ),
    "a tensor": ("torch", other_tensor, "net_torch.pt: weight gated/U: 1 of 9 numbers differ, by 0.5"),
    "other outputs in the manifest": (
        "caffe",
        text("net.manifest.json", '"blob": "y"', '"blob": "X"'),
        "net.manifest.json: manifest outputs y, blob: expected y, found X",
    ),
    "other outputs of a torch net": (
        "torch",
        text("net_torch.manifest.json", '"h_T": {', '"h": {'),
        "net_torch.manifest.json: manifest outputs h_T is not in the file",
    ),
    "a line of C": ("c", text("net.c", "h_T", "y"), "net.c: code net.c: line "),
    "a header of C": ("c", text("net.h", "float", "double"), "net.h: code net.h: line "),
    "weights of C": ("c-file", other_bytes, "net.bin: bytes net.bin: "),
    "a file that is gone": (
        "fused",
        lambda folder: (folder / "net.layers.cpp").unlink(),
        "net.layers.cpp: no such file",
    ),
    "a damaged caffemodel": (
        "caffe",
        lambda folder: (folder / "net.caffemodel").write_bytes(b"x" * 99) and None,
        "net.caffemodel: expected a caffemodel, found something else",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_as_they_were_written_agree_and_are_run(kind: str, tmp_path: Path) -> None:
    made, path = written(kind, tmp_path)
    found = made.verify(on=["interpreter"], net=path)
    assert found, str(found)
    assert [report.executor for report in found.reports] == [path.name, "interpreter"]
    assert found.remarks == ()
    assert "manifest" in {d.kind for d in found.reports[0].differences}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_by_its_name_and_its_files_are_not_run(fault: str, tmp_path: Path) -> None:
    kind, change, expected = PLANTED[fault]
    made, path = written(kind, tmp_path)
    change(tmp_path)
    found = made.verify(on=["interpreter"], net=path)
    assert not found
    assert found.not_run == {"net": "files that differ are not run"}
    remarks = [each for each in found.remarks if not each.startswith(("the model's parameters", "inputs, outputs"))]
    assert remarks[0].startswith(expected), remarks
    file = expected.partition(":")[0]
    assert all(remark.startswith(f"{file}: ") for remark in remarks), "another file is named"


def test_code_that_was_added_to_a_file_is_not_run(tmp_path: Path) -> None:
    made, path = written("torch", tmp_path)
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{path.read_text()}")
    found = made.verify(net=path)
    assert found.remarks[0].startswith("net_torch.py: code net_torch.py: line 1: expected ")
    assert not (tmp_path / "ran").exists()
    path.write_bytes(made.files[path.name])
    assert made.verify(on=["torch-steps"], net=path).reports[1].files == ("net_torch.py", "net_torch.pt")


@pytest.mark.parametrize("place", ["native", pytest.param("caffe-cpu", marks=pytest.mark.caffe)])
def test_the_written_layers_are_what_runs(place: str, tmp_path: Path) -> None:
    made, _ = written("fused", tmp_path)
    (right,) = made.verify(on=place, fillers=True).reports
    assert right.passed
    assert "net.layers.cpp" in right.place
    planted = made.files["net.layers.cpp"].decode().replace("= tanh_(", "= 0.5f * tanh_(")
    assert planted != made.files["net.layers.cpp"].decode()
    wrong = replace(made, artifact=replace(made.artifact, files={**made.files, "net.layers.cpp": planted.encode()}))
    (report,) = wrong.verify(on=place, fillers=True).reports
    assert {d.name for d in report.differences if d.kind == "output" and not d.passed} == {"y", "h_T"}


def test_multipliers_are_read_from_the_text() -> None:
    made = lstmc.compile(net)
    manifest = parse_manifest(made.files["net.manifest.json"])
    settings = tuple(written_settings(made.files["net.prototxt"], manifest))
    assert {("lr_mult of gated/W", 2.0), ("decay_mult of gated/W", 1.0), ("lr_mult of gated/U", 1.0)} <= set(settings)
    wrong = made.files["net.prototxt"].replace(b"lr_mult: 2", b"lr_mult: 1", 1)

    class Told(InterpreterExecutor):
        def run(self, compiled: Any, artifact: Any, arrays: Any) -> Any:
            return replace(super().run(compiled, artifact, arrays), settings=self.settings)

    for text, failing in ((made.files["net.prototxt"], []), (wrong, ["lr_mult of gated/W"])):
        executor = Told()
        executor.settings = tuple(written_settings(text, manifest))
        report = check(made.compiled, made.artifact, made.weights, executor)
        assert [d.name for d in report.differences if not d.passed] == failing


def test_a_net_of_another_name_and_folder_is_compared_and_one_of_another_kind_is_refused(tmp_path: Path) -> None:
    made = lstmc.compile(net)
    made.save(tmp_path / "other.prototxt")
    assert made.verify(on=["interpreter"], net=tmp_path / "other.prototxt")
    with pytest.raises(BackendError, match=r"other\.caffemodel: expected the net's own file, NAME\.prototxt"):
        made.verify(net=tmp_path / "other.caffemodel")
    with pytest.raises(BackendError, match=r"none\.prototxt: cannot be read"):
        made.verify(net=tmp_path / "none.prototxt")


def test_other_weights_and_other_sizes_say_what_to_give(tmp_path: Path) -> None:
    made, path = written("caffe", tmp_path)
    found = lstmc.compile(net, seed=1).verify(net=path)
    assert found.remarks[-1].startswith("the model's parameters are drawn by seed 1: give the weights of the net")
    assert lstmc.compile(net, weights=made.weights).verify(on=["interpreter"], net=path)
    remarks = lstmc.compile(net, step=True).verify(net=path).remarks
    assert remarks[0].startswith("inputs, outputs or states differ: give the sizes, the outputs")
