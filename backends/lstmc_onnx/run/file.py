"""ONNX files: read a net with its weights or with those of another file, and list its operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.backend import Layer
from lstmc.errors import BackendError, WeightsError
from lstmc.manifest import Stored, read_manifest
from lstmc.ops import Array
from lstmc.weights import unpack_weights
from lstmc_onnx.packages import onnx

SUFFIX = ".onnx"


def read_model(path: Path, data: bool = True) -> Any:
    """The ``ModelProto`` of a file; without ``data`` those of its weights that lie beside it are left there.

    Raises :class:`BackendError` for what is none.
    """
    try:
        model = model_of(path.read_bytes())
        if data:
            onnx().load_external_data_for_model(model, str(path.parent))
    except OSError as error:
        raise BackendError(f"{path}: cannot be read: {error.strerror}") from None
    except BackendError as error:
        raise BackendError(f"{path}: {error.message}") from None
    except Exception as error:  # of onnx, for weights that are to lie beside the file
        raise BackendError(f"{path}: its weights cannot be read: {str(error)[:100]}") from None
    return model


def model_of(content: bytes) -> Any:
    """The ``ModelProto`` that bytes are. Raises :class:`BackendError` for what is none."""
    try:
        model = onnx().load_model_from_string(content)
    except Exception as error:  # of protobuf
        raise BackendError(f"expected an ONNX model, found something else: {str(error)[:100]}") from None
    if not model.graph.node and not model.graph.output:
        raise BackendError("expected an ONNX model, found a file without a graph")
    return model


def read_initializers(path: Path, blobs: Mapping[str, Stored]) -> dict[str, Array]:
    """Initialisers of a file by their names. ``blobs`` is a manifest's.

    Raises :class:`WeightsError` for a file that lacks one, or has it in another shape.
    """
    try:
        model = read_model(path)
    except BackendError as error:
        raise WeightsError(error.message) from None
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, Array] = {}
    problems = []
    for name, where in blobs.items():
        tensor = stored.get(where.layer)
        if tensor is None:
            problems.append(f"missing: initializer {where.layer}")
        elif tuple(tensor.dims) != where.shape:
            problems.append(f"wrong shape: {name} must be {list(where.shape)}, found {list(tensor.dims)}")
        else:
            found[name] = np.asarray(onnx().numpy_helper.to_array(tensor), np.float32)
    if problems:
        raise WeightsError(f"{path} is not this net", notes=problems)
    return found


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """The parameters by the model's names, and the names of those that no initialiser has.

    The file need not be the one that was written: its initialisers must be called as they were.
    """
    described = read_manifest(manifest)
    found = unpack_weights(described.weights, read_initializers(trained, described.blobs))
    return found, [name for name in described.parameters if name not in found]


def listed_layers(content: bytes) -> tuple[Layer, ...]:
    """Every operator of the main graph in order. Raises :class:`BackendError` for what is no model."""
    graph = onnx().shape_inference.infer_shapes(model_of(content)).graph
    shapes = {told.name: _shape(told) for told in (*graph.value_info, *graph.output)}
    return tuple(
        Layer(n.name, n.op_type, tuple(n.input), tuple(n.output), tuple(shapes.get(name) for name in n.output))
        for n in graph.node
    )


def _shape(told: Any) -> tuple[int, ...] | None:
    """The sizes, if all of them are numbers: one that is open is not."""
    dims = told.type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None
