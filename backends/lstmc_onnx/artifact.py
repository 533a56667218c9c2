"""The files of a compiled model: the graph as a ModelProto with its weights, and the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmc.backend import Artifact, Compiled, OpenShape
from lstmc.backend.compiled import open_inputs, open_shape
from lstmc.errors import LstmcError
from lstmc.interp import forward
from lstmc.ir import Graph, Node, Ref, Scan, is_weight_op, weight_graph
from lstmc.manifest import describe_tensors
from lstmc.ops import Arg, Array, Full, Input, Param
from lstmc.passes import named_results
from lstmc.version import __version__
from lstmc_onnx.layers import reasons
from lstmc_onnx.lowerings import Call, Shared, Writer, check_opset, lowerings, onnx


@dataclass(frozen=True)
class WrittenModel:
    """A ``ModelProto``; the names of the graph's values in the model; the names of its outputs in order; and the graph
    of its weights, whose outputs have the names of initialisers."""

    proto: Any
    names: Mapping[Ref, str]
    outputs: tuple[str, ...]
    weights: Graph


def write_model(graph: Graph, weights: Mapping[str, Array], opset: int) -> WrittenModel:
    """Return the model of a graph. Values keep their names; outputs have the names that the graph gives them. Raises
    :class:`BackendError` for an opset that is too old or unknown, and UNKNOWN for an open size that must be known."""
    check_opset(opset)
    shared = Shared(opset, dims=open_inputs(graph))
    w = shared.main
    names = value_names(graph, w)
    initialisers = weight_graph(graph, (ref for ref in names if is_stored(graph, ref)))
    for name, array in forward(initialisers, params=weights, dtype=np.float32).outputs.items():
        shared.tensors.append(onnx().numpy_helper.from_array(np.asarray(array, np.float32, order="C"), name))
    for node in graph:
        if Ref(node.name) in names and not isinstance(node.op, Input) and not is_stored(graph, Ref(node.name)):
            write_node(w, graph, node, names)
    outputs: list[str] = []
    unavailable = {node.name for node in graph if isinstance(node.op, Input)} | {o.name for o in initialisers.outputs}
    for output in graph.outputs:
        name = names[output.ref]
        needs_copy = name in unavailable or name in outputs
        outputs.append(w.add("Identity", (name,), output.name)[0] if needs_copy else name)
    helper = onnx().helper
    fed = [_value_info(node.name, open_shape(node.types[0])) for node in graph if isinstance(node.op, Input)]
    pairs = zip(outputs, graph.outputs, strict=True)
    read = [_value_info(name, open_shape(graph.type(output.ref))) for name, output in pairs]
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        helper.make_graph(w.nodes, graph.name, fed, read, shared.tensors), opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets), producer_name="lstmc", producer_version=__version__,
    )  # fmt: skip
    return WrittenModel(model, names, tuple(outputs), initialisers)


def is_stored(graph: Graph, ref: Ref) -> bool:
    """Return whether a value is an initialiser: a parameter, or computed from parameters and numbers by weight ops."""
    op, args = graph.node(ref.node).op, graph.args(ref.node)
    if isinstance(op, Param) or not is_weight_op(op):
        return isinstance(op, Param)
    parts = [arg for arg in args if not isinstance(graph.node(arg.node).op, Full)]
    return bool(parts) and all(is_stored(graph, arg) for arg in parts)


def write_node(w: Writer, graph: Graph, node: Node, names: Mapping[Ref, str]) -> None:
    """Write the operators of one node. An error gets the node's line of the source."""
    if isinstance(node.op, Scan):
        write_scan(w, graph, node, node.op, names)
        return
    args, results = graph.args(node.name), tuple(names[ref] for ref in node.refs)
    types = tuple(graph.type(ref) for ref in args)
    call = Call(node.op, tuple(names[ref] for ref in args), types, results, node.types)
    try:
        lowerings.of(node.op)(w, call)
    except LstmcError as error:
        raise error.located(node.loc) from None


def write_scan(w: Writer, graph: Graph, node: Node, scan: Scan, names: Mapping[Ref, str]) -> None:
    """Write a Scan, states before sequences. Its body reads values that are equal at every step from the outer graph. A
    scan without sequences gets one of zeros, because ONNX requires one."""
    body, title = named_results(scan, scan.body), scan.body.name
    inner, inside = Writer(w.shared), dict[Ref, str]()
    outer: dict[str, list[str]] = {"state": [], "x": []}
    infos: dict[str, list[Any]] = {"state": [], "x": []}
    for i, (arg, ref) in enumerate(zip(body.body_args(), graph.args(node.name), strict=True)):
        role = scan.role(i)
        inside[Ref(arg.name)] = names[ref] if role not in infos else w.name(f"{title}/{arg.name}")
        if role in infos:
            outer[role].append(names[ref])
            infos[role].append(_value_info(inside[Ref(arg.name)], open_shape(arg.types[0])))
    if not outer["x"]:  # there must be one
        outer["x"].append(w.tensor(np.zeros(scan.length, np.float32), f"{title}/steps"))
        infos["x"].append(_value_info(w.name(f"{title}/step"), ()))
    operands = set(inside.values())
    for member in body:
        if not isinstance(member.op, Arg):
            inside |= {Ref(member.name, out): w.name(f"{title}/{name}") for out, name in enumerate(member.names)}
            write_node(inner, body, member, inside)
    count, results = len(scan.step_outputs), dict[str, Any]()
    for output in (*body.outputs[count:], *body.outputs[:count]):
        name = inside[output.ref]
        if name in operands or name in results:  # each result must be computed, and only once
            (name,) = inner.add("Identity", (name,), f"{name}/result")
        results[name] = _value_info(name, open_shape(body.type(output.ref)))
    results_out = [names[Ref(node.name, out)] for out in (*range(count, len(node.types)), *range(count))]
    inner_graph = onnx().helper.make_graph(inner.nodes, title, infos["state"] + infos["x"], [*results.values()])
    attributes: dict[str, Any] = {"body": inner_graph, "num_scan_inputs": len(outer["x"])}
    attributes |= {"scan_input_directions": [1] * len(outer["x"])} if scan.reverse else {}
    attributes |= {"scan_output_directions": [1] * count} if scan.reverse and count else {}
    w.add("Scan", (*outer["state"], *outer["x"]), results_out, title, **attributes)


def value_names(graph: Graph, w: Writer) -> dict[Ref, str]:
    """Return the names of all values that the model has: inputs, initialisers, outputs and intermediate values."""
    inputs = [Ref(node.name) for node in graph if isinstance(node.op, Input)]
    used = {ref for node in graph if not is_stored(graph, Ref(node.name)) for ref in graph.args(node.name)}
    used |= {output.ref for output in graph.outputs}
    stored = [ref for ref in graph.refs() if ref in used and is_stored(graph, ref)]
    names = {ref: w.name(graph.value_name(ref)) for ref in (*inputs, *stored)}
    for output in graph.outputs:
        if output.ref not in names:
            names[output.ref] = w.name(output.name)
    for ref in graph.refs():
        constant = isinstance(graph.node(ref.node).op, Full)
        if ref not in names and (ref in used if constant else not is_stored(graph, ref)):
            names[ref] = w.name(graph.value_name(ref))
    return names


def _value_info(name: str, shape: OpenShape) -> Any:
    sizes = [size or None for size in shape]
    return onnx().helper.make_tensor_value_info(name, onnx().TensorProto.FLOAT, sizes)


MOST_BYTES = 2**31 - 1 - 2**20  # the most bytes of initialisers in a protobuf message; more go to a file beside it


def artifact(compiled: Compiled, weights: Mapping[str, Array], opset: int) -> Artifact:
    """Return ``NAME.onnx``, its manifest, and for many weights ``NAME.onnx.data``: same input, same bytes."""
    graph, model = compiled.written(lambda graph: write_model(graph, weights, opset))
    data = {}
    if sum(len(tensor.raw_data) for tensor in model.proto.graph.initializer) > MOST_BYTES:
        data[f"{compiled.name}.onnx.data"] = external_data(model.proto, f"{compiled.name}.onnx.data")
    inputs = {node.name: model.names[Ref(node.name)] for node in graph if isinstance(node.op, Input)}
    outputs = {output.name: name for output, name in zip(graph.outputs, model.outputs, strict=True)}
    manifest = describe_tensors(compiled, weights, inputs, outputs, model.weights, graph)
    opened = open_inputs(graph)
    axes = [f"dynamic axes: {', '.join(name for name in compiled.sizes if name in opened)}"] if opened else []
    content = {f"{compiled.name}.onnx": model.proto.SerializeToString(deterministic=True), **data}
    files = {**content, f"{compiled.name}.manifest.json": manifest.text().encode()}
    labels = {name: entry.place.label for name, entry in manifest.inputs.items()}
    read = {name: place.label for name, place in manifest.outputs.items()}
    notes = (*manifest.first_values(), *reasons(compiled.history), *axes)
    return Artifact(files, len(model.proto.graph.node), labels, read, notes)


def external_data(proto: Any, file: str) -> bytes:
    """Move the data of all weights, but not their shapes, out of a net; return them as the content of ``file``."""
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
