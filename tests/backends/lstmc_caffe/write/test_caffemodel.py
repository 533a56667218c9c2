"""Caffemodels: what ours hold, that Caffe loads them, and that parameters come back out of Caffe's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from numpy.testing import assert_array_equal

from lstmc import Input, Param, concat, linear, model, scan, tanh, uniform
from lstmc.backend import Artifact
from lstmc.cells import lstm, lstm_layernorm
from lstmc.dsl import CellModel
from lstmc.errors import BackendError, WeightsError
from lstmc.manifest import Stored, read_manifest
from lstmc.ops import Array
from lstmc.ops import Param as ParamOp
from lstmc.pipeline import compile_graph
from lstmc.weights import initial_weights
from lstmc_caffe import CaffeBackend
from lstmc_caffe.proto.net import NetParameter, RawNet
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.write import net as net_writer
from lstmc_caffe.write.net import read_blobs
from tests.backends.lstmc_caffe.in_worker import schema, set_params, sharers

BACKEND = CaffeBackend()
SAVE = Path(__file__).with_name("save_net.py")


@model
def net(
    X=Input(3, 2, 5),
    A=Param(2, 4, fill=uniform(-1, 1)),
    B=Param(3, 4, fill=uniform(-1, 1)),
    unused=Param(7, fill=uniform(-1, 1)),
):
    """An LSTM with shared weights, a blob packed of two parameters, and a parameter that the net does not use."""
    y, _ = scan(lstm(H=4, name="lstm"), X)
    return {"y": linear(tanh(y), concat(A, B, axis=0))}


def emitted() -> tuple[dict[str, Array], Artifact]:
    graph = net.graph()
    weights = initial_weights(graph) | {"lstm/b": np.linspace(-1, 1, 16, dtype=np.float32)}
    return weights, BACKEND.emit(compile_graph(graph, BACKEND), weights)


def written(folder: Path) -> dict[str, Array]:
    """The net's files in a folder; returns the weights in them."""
    weights, artifact = emitted()
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    return weights


def blobs_of(folder: Path) -> Mapping[str, Stored]:
    return read_manifest(folder / "net.manifest.json").blobs


def assert_parameters(read: tuple[dict[str, Array], list[str]], wanted: dict[str, Array]) -> None:
    found, left_out = read
    assert left_out == ["unused"]
    assert found.keys() == wanted.keys() - {"unused"}
    for name, array in found.items():
        assert_array_equal(array, wanted[name], err_msg=name)


def by_caffe_s_own_parser(caffe: Runner, content: bytes) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(schema(caffe)))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter")).FromString(content)


@pytest.mark.caffe
def test_a_caffemodel_holds_the_whole_net_and_all_blobs_of_each_layer(caffe: Runner) -> None:
    weights, artifact = emitted()
    read = by_caffe_s_own_parser(caffe, artifact.files["net.caffemodel"])
    blobs = weights | {"concat_A": np.concatenate([weights["A"], weights["B"]])}
    for layer in read.layer:
        for spec, blob in zip(layer.param, layer.blobs, strict=True):
            array = np.array(blob.data, np.float32).reshape(blob.shape.dim)
            assert_array_equal(array, blobs[spec.name], err_msg=f"{layer.name}: {spec.name}")
        layer.ClearField("blobs")
    text = text_format.Parse(artifact.files["net.prototxt"].decode(), type(read)())
    assert read == text  # in every other field
    assert sum(len(layer.param) for layer in read.layer) == 5  # W_h at the second step and the third


def test_more_bytes_than_a_message_holds_are_refused_with_the_copies_of_each_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled, weights = compile_graph(net.graph(), BACKEND, "flat"), initial_weights(net.graph())
    size = sum(4 * array.size for name, array in weights.items() if name != "unused")
    monkeypatch.setattr(net_writer, "MOST_BYTES", size)
    with pytest.raises(BackendError) as refused:
        BACKEND.emit(compiled, weights)
    assert str(refused.value) == (
        f"BackendError: net has 976 bytes of weights: expected at most {size}, as in a message of Caffe's\n"
        "  for this target each layer has a copy of the parameters that it shares: give step=True, or fewer steps"
    )


@pytest.mark.caffe
@pytest.mark.parametrize("limit", ["WHOLE_NET_LAYERS", "WHOLE_NET_COPIES"])
def test_a_caffemodel_of_a_large_net_holds_the_owning_layers_alone(
    caffe: Runner, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_writer, limit, 10)
    weights, artifact = emitted()
    read = by_caffe_s_own_parser(caffe, artifact.files["net.caffemodel"])
    owners = json.loads(artifact.files["net.manifest.json"])["blobs"]
    assert read.name == "net"
    assert {layer.name for layer in read.layer} == {owner["layer"] for owner in owners.values()}
    layers = {layer.name: layer for layer in read.layer}
    assert sum(len(layer.blobs) for layer in read.layer) == len(owners) == 4
    packed = np.concatenate([weights["A"], weights["B"]])
    for name, owner in owners.items():
        blob = layers[owner["layer"]].blobs[owner["index"]]
        array = np.array(blob.data, np.float32).reshape(blob.shape.dim)
        assert_array_equal(array, weights.get(name, packed), err_msg=name)
    assert {layer.type for layer in read.layer} == {"InnerProduct"}


@pytest.mark.caffe
@pytest.mark.parametrize(("most", "old"), [(2**29, False), (300, False), (300, True)])
def test_caffe_loads_a_caffemodel_into_the_shared_parameters(
    caffe: Runner, tmp_path: Path, most: int, old: bool
) -> None:
    """By one file, and in parts where it is larger than what every Caffe reads, also in the old form of layers."""
    weights = written(tmp_path)
    limit = tmp_path / "limit.py"
    limit.write_text("import __main__\ndef most(n, arrays):\n    __main__.MOST_READ = n\n    return n, {}\n")
    if old:
        caffe.call(SAVE, "save_old", {"weights": str(tmp_path / "net.caffemodel")})
    caffe.call(limit, "most", most)
    with caffe.load(tmp_path / "net.prototxt", weights=tmp_path / "net.caffemodel") as loaded:
        caffe.call(limit, "most", 2**29)
        params = set_params(caffe, loaded, {})
    assert len(sharers((tmp_path / "net.prototxt").read_text(), "lstm/W_h")) == 2  # the first step starts from zero
    packed = params.keys() - weights.keys()
    assert params.keys() - packed == {"lstm/W_x", "lstm/b", "lstm/W_h"}
    for name, array in params.items():
        wanted = np.concatenate([weights["A"], weights["B"]]) if name in packed else weights[name]
        assert_array_equal(array, wanted, err_msg=name)


def test_parameters_come_back_out_of_our_own_caffemodel(tmp_path: Path) -> None:
    weights = written(tmp_path)
    assert_parameters(BACKEND.read_weights(tmp_path / "net.caffemodel", tmp_path / "net.manifest.json"), weights)


def test_fixed_matrices_that_a_pass_made_are_no_parameters(tmp_path: Path) -> None:
    compiled = compile_graph(CellModel(lstm_layernorm).graph(T=2, N=2, D=3, H=4), BACKEND, "noslice")
    weights = initial_weights(compiled.model)
    for name, content in BACKEND.emit(compiled, weights).files.items():
        (tmp_path / name).write_bytes(content)
    made = {node.name for node in compiled.expanded if isinstance(node.op, ParamOp)} - weights.keys()
    assert made
    base = tmp_path / compiled.name
    found, left_out = BACKEND.read_weights(Path(f"{base}.caffemodel"), Path(f"{base}.manifest.json"))
    assert (found.keys(), left_out) == (weights.keys(), [])


@pytest.mark.caffe
def test_parameters_come_back_out_of_a_caffemodel_that_caffe_saved(caffe: Runner, tmp_path: Path) -> None:
    """Caffe stores a copy in every sharing layer; changed parameters stand for trained ones."""
    weights = written(tmp_path)
    trained = {name: array + np.float32(1) for name, array in weights.items()}
    blobs = {n: trained.get(n, np.concatenate([trained["A"], trained["B"]])) for n in blobs_of(tmp_path)}
    change = [[where.layer, where.index, name] for name, where in blobs_of(tmp_path).items()]
    paths = {"prototxt": "net.prototxt", "weights": "net.caffemodel", "to": "trained.caffemodel"}
    request = {key: str(tmp_path / name) for key, name in paths.items()}
    saved = caffe.call(SAVE, "save", {**request, "change": change}, blobs).value
    assert sorted(count for _, count in saved) == [1, 1, 1, 2]  # W_h twice, the packed one, W_x with b
    assert_parameters(BACKEND.read_weights(tmp_path / "trained.caffemodel", tmp_path / "net.manifest.json"), trained)


# files that are not this net's ---------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"{tmp_path / 'none.caffemodel'}: no such file")):
        read_blobs(tmp_path / "none.caffemodel", {})


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"{tmp_path}: cannot be read: Is a directory")):
        read_blobs(tmp_path, {})


def test_a_file_that_is_no_caffemodel(tmp_path: Path) -> None:
    path = tmp_path / "text.caffemodel"
    path.write_text("hello, this is no protobuf message")
    with pytest.raises(WeightsError, match=re.escape(f"{path}: expected a caffemodel, found something else")):
        read_blobs(path, {})


def test_every_blob_that_is_missing_or_has_another_shape_is_named_at_once(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "net.caffemodel"
    cut = RawNet.FromString(path.read_bytes())
    blobs = blobs_of(tmp_path)
    for layer in list(cut.layer):
        if layer.name == blobs["lstm/W_h"].layer:
            cut.layer.remove(layer)
        if layer.name == blobs["lstm/b"].layer:
            del layer.blobs[blobs["lstm/b"].index]
            del layer.blobs[0].shape.dim[1]
    path.write_bytes(cut.SerializeToString())
    with pytest.raises(WeightsError) as caught:
        read_blobs(path, blobs)
    W_h, b = blobs["lstm/W_h"].layer, blobs["lstm/b"].layer
    assert caught.value.message == f"{path} is not a caffemodel of this net"
    assert sorted(caught.value.notes) == [
        f"missing: blob 0 of layer {W_h}, which holds lstm/W_h",
        f"missing: blob 1 of layer {b}, which holds lstm/b",
        "wrong shape: lstm/W_x must be [16, 5], found [16]",
    ]


def test_a_blob_with_fewer_numbers_than_its_shape_says_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "net.caffemodel"
    short = NetParameter.FromString(path.read_bytes())
    blobs = blobs_of(tmp_path)
    (layer,) = (layer for layer in short.layer if layer.name == blobs["lstm/W_h"].layer)
    del layer.blobs[0].data[-1]
    path.write_bytes(short.SerializeToString())
    with pytest.raises(WeightsError) as caught:
        read_blobs(path, blobs)
    assert caught.value.notes == ("wrong size: lstm/W_h [16, 4] must have 256 bytes, found 252",)
