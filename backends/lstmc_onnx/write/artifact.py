"""The files of a compiled model: the net with its weights, and its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lstmc.backend import Artifact, Compiled
from lstmc.ir import Ref
from lstmc.manifest import Manifest, Place, Stored, describe
from lstmc.ops import Array, Input
from lstmc_onnx.layers.find import reasons
from lstmc_onnx.packages import onnx
from lstmc_onnx.write.graph import WrittenModel, write_model

MOST_BYTES = 2**31 - 1 - 2**20  # of initialisers in one message of protobuf's; more are written beside it


def artifact(compiled: Compiled, weights: Mapping[str, Array], opset: int) -> Artifact:
    """``NAME.onnx`` and ``NAME.manifest.json``; with many weights also ``NAME.onnx.data``. Same input, same bytes."""
    written = write_model(compiled.expanded, weights, opset, compiled.resized)
    files = {}
    if sum(len(tensor.raw_data) for tensor in written.proto.graph.initializer) > MOST_BYTES:
        files[f"{compiled.name}.onnx.data"] = external_data(written.proto, f"{compiled.name}.onnx.data")
    described = _manifest(compiled, written)
    return Artifact(
        files={
            f"{compiled.name}.onnx": written.proto.SerializeToString(deterministic=True),
            **files,
            f"{compiled.name}.manifest.json": described.text().encode(),
        },
        layers=len(written.proto.graph.node),
        inputs={name: entry.place.label for name, entry in described.inputs.items()},
        outputs={name: place.label for name, place in described.outputs.items()},
        notes=(*reasons(compiled.history), *_open(written)),
    )


def _open(written: WrittenModel) -> Iterator[str]:
    if written.open:
        yield f"dynamic axes: {', '.join(written.open)}"


def external_data(proto: Any, file: str) -> bytes:
    """The bytes of all weights, which are then told to lie in ``file``; shapes and axes stay in the net."""
    parts, start = [], 0
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx().TensorProto.FLOAT:
            continue
        data = tensor.raw_data
        parts.append(data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx().TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", start), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
        start += len(data)
    return b"".join(parts)


def _manifest(compiled: Compiled, written: WrittenModel) -> Manifest:
    graph = compiled.expanded
    names = zip(written.outputs, graph.outputs, strict=True)

    def place(ref: Ref, name: str) -> Place:
        return Place.from_types(graph.type(ref), ((name, graph.type(ref)),), written.sizes.open(ref))

    return describe(
        compiled,
        inputs={
            node.name: (place(Ref(node.name), written.names[Ref(node.name)]), False)
            for node in graph
            if isinstance(node.op, Input)
        },
        outputs={o.name: place(o.ref, name) for name, o in names},
        weights=written.weights,
        blobs={o.name: Stored(o.name, 0, written.weights.type(o.ref).shape) for o in written.weights.outputs},
    )
