"""The operators of a model, each with the shapes of what it writes."""

from __future__ import annotations

from typing import Any

from lstmc.backend import Layer
from lstmc_onnx.packages import onnx
from lstmc_onnx.run.file import model_of


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
