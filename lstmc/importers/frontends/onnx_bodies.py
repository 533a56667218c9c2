"""Functions of ONNX: functions of a model, and operators that ONNX defines by other operators."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.onnx_values import Node, definition
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.values import OpenSize, Weight


def definition_body(layers: Layers, node: Node, opset: int) -> Any:
    """Return the function by which ONNX defines an operator; None if it is defined by no other operators."""
    schema = definition(node.op, opset)
    if schema is None:
        return None
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = [_type_of(layers, operand).SerializeToString() for operand in node.operands]
    content = schema.get_context_dependent_function(node.proto.SerializeToString(), types)
    body = importlib.import_module("onnx").FunctionProto.FromString(content)
    return body if body.node else None


def _type_of(layers: Layers, operand: Operand | None) -> Any:
    """Return an operand as a ``TypeProto``; values have 32 bits, like all values of a net."""
    onnx = importlib.import_module("onnx")
    if operand is None:
        return onnx.TypeProto()
    kind = operand.make().dtype if isinstance(operand, Weight) else getattr(operand, "dtype", np.dtype(np.float32))
    kind = np.dtype(np.int64) if kind.kind == "O" else kind
    sizes = [str(size) if isinstance(size, OpenSize) else size for size in layers.shape(operand)]
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(kind), sizes)


def function_graph(body: Any, call: Any, inputs: Mapping[str, Operand | None]) -> Any:
    """Return the nodes of a function for the node that calls it: its attributes, without the inputs it leaves out."""
    given = {attribute.name: attribute for attribute in (*body.attribute_proto, *_defaults(call), *call.attribute)}
    return SimpleNamespace(node=[*_bound(body.node, given, inputs)])


def _defaults(call: Any) -> Iterator[Any]:
    schema = definition(call.op_type, 10_000) if not call.domain else None
    for attribute in schema.attributes.values() if schema else ():
        if attribute.default_value.type:
            yield attribute.default_value


def _bound(nodes: Any, given: Mapping[str, Any], inputs: Mapping[str, Operand | None]) -> Iterator[Any]:
    """Yield copies of nodes with the attributes that they refer to."""
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:] = ["" if name in inputs and inputs[name] is None else name for name in node.input]
        del copy.attribute[:]
        for attribute in node.attribute:
            source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if source is None:
                continue
            own = copy.attribute.add()
            own.CopyFrom(source)
            own.name = attribute.name
            if own.HasField("g"):
                inner = [*_bound(own.g.node, given, inputs)]
                del own.g.node[:]
                own.g.node.extend(inner)
        yield copy
