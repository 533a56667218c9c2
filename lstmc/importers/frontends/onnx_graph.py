"""ONNX graphs as nets: constants folded, Loop unrolled, Scan as a loop, and all refusals collected."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lstmc.files.output import shortest
from lstmc.importers.frontends import onnx_functions, onnx_layers, onnx_shape_ops
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.onnx_values import (
    CHECK,
    DOMAINS,
    FUSED,
    GIVE,
    TYPES,
    Node,
    Onnx,
    Poison,
    attributes_of,
    called,
    definition,
    fold_constants,
)
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.values import Folding, OpenSize, Shape, ShapeProblem, Weight, axis_in, domain_of
from lstmc.importers.read.onnx_file import KINDS, stored_tensor
from lstmc.importers.refusal import PIN, Refusal, Refused, RefusedError, SourceError
from lstmc.ir import Scan
from lstmc.ops import Array

HANDLERS = {**onnx_layers.HANDLERS, **onnx_shape_ops.HANDLERS, **onnx_layers.RECURRENT, **onnx_functions.HANDLERS}
OF_RUNTIME = {**onnx_functions.fused(HANDLERS), "DynamicQuantizeLSTM": HANDLERS["DynamicQuantizeLSTM"]}
OLDEST = 7
UNREAD = ("it is not supported", "write the model without it")
MOST = 100_000  # nodes
_STEPS = 100_000
DEEPEST = 20  # graphs in graphs


# Operators whose operand of stored zeros may be the past of a sequence
_FREED = "Concat Conv GRU Gather Gemm Identity LSTM MatMul Mul RNN Reshape Slice Split Squeeze Sub Transpose Unsqueeze"
FREED = frozenset(_FREED.split())


def describe_onnx(
    model: Any, origin: str, folder: Path | None, shapes: Mapping[str, Sequence[int]], values: Mapping[str, Array],
    free: bool = False,
) -> Net:  # fmt: skip
    """Return the net of a ``ModelProto``. ``shapes`` fixes inputs, ``values`` makes them constants; with ``free``,
    stored zeros that may be the past of a sequence become inputs. Raises :class:`RefusedError` with all reasons."""
    opset = next((int(o.version) for o in model.opset_import if o.domain in DOMAINS), 1)
    if opset < OLDEST:
        raise SourceError(f"{origin}: its operators are those of version {opset}; {OLDEST} and newer are read")
    graph = model.graph
    builder = NetBuilder("net", origin)
    stored = {tensor.name: stored_tensor(tensor, origin, folder).weight() for tensor in graph.initializer}
    folding = Folding(sum(prod(weight.shape) for weight in stored.values()))
    functions = {(function.domain, function.name): function for function in model.functions}
    reader = _Reader(Onnx(builder, folding), opset, origin, folder, functions, free)
    reader.values |= stored
    for info in graph.input:
        if info.name in values:
            array = np.asarray(values[info.name])
            array = array.astype(KINDS.get(info.type.tensor_type.elem_type, array.dtype))
            reader.values[info.name] = Weight(array.shape, (info.name,), info.name, lambda array=array: array)  # type: ignore[misc]
        elif info.name not in reader.values:
            shape = tuple(shapes[info.name]) if info.name in shapes else _declared(info, origin)
            kind = TYPES.get(info.type.tensor_type.elem_type, "float")
            name = builder.input(info.name, shape or (1,), values=domain_of(kind))  # an input has an axis
            name = name if shape else reader.t.reshape(name, ())
            reader.values[info.name] = name
            reader.t.kinds[name] = kind
    unknown = [name for name in (*shapes, *values) if name not in {info.name for info in graph.input}]
    if unknown:
        inputs = ", ".join(info.name for info in graph.input if info.name not in [t.name for t in graph.initializer])
        raise SourceError(f"{origin}: it has no input {unknown[0]}: found {inputs}")
    reader.run(graph)
    if reader.refusals:
        raise RefusedError.of_graph(origin, reader.refusals, builder.finish(every_input=True).source_inputs())
    for info in graph.output:
        value = reader.values.get(info.name)
        if value is None:
            raise SourceError(f"{origin}: nothing computes its output {info.name}")
        builder.output(info.name, reader.t.result(value, info.name))
    unread = [tensor.name for tensor in graph.initializer if tensor.name not in reader.read]
    net = builder.finish(stored=unread, why="no output of the graph is computed from it")
    used = {name for weight in net.params.values() for name in weight.sources}
    shaping = [name for name in sorted(reader.read) if name not in used]
    net.ignored.update(dict.fromkeys(shaping, "a constant that shapes the graph, or is written in it as a number"))
    return net


def _declared(info: Any, origin: str) -> Shape:
    """Return an input's declared shape, with names for unknown sizes. Raises SourceError if the input is no tensor."""
    if not info.type.HasField("tensor_type"):
        raise SourceError(f"{origin}: input {info.name} is no tensor")
    shape: list[int] = []
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        name = re.sub(r"\W+", "_", dim.dim_param, flags=re.ASCII).strip("_") or f"{info.name}_{axis}"
        name = re.sub(r"\W+", "_", name, flags=re.ASCII)
        name = name if name[0].isalpha() else f"size_{name}"
        shape.append(int(dim.dim_value) if dim.dim_value > 0 else OpenSize(name))
    return tuple(shape)


class _Reader:
    """Translates the nodes of a graph in order, also of subgraphs that are known to run. ``values`` has the value of
    each name: a value of the net, a weight, an array, or Poison after a refusal."""

    def __init__(
        self, t: Onnx, opset: int, origin: str, folder: Path | None, functions: Mapping[tuple[str, str], Any],
        free: bool = False,
    ) -> None:  # fmt: skip
        """Start without values. ``functions`` are the model's, ``free`` is as in :func:`describe_onnx`."""
        self.t, self.opset, self.origin, self.folder, self.functions = t, opset, origin, folder, functions
        self.free, self.freed = free, dict[str, str]()  # freed: stored zeros -> the inputs in their place
        self.inside = ""  # the node of the function that is read
        self.values: dict[str, Any] = {}
        self.refusals: list[Refusal] = []
        self.read: set[str] = set()  # source tensors of the constants that nodes read
        self.count = 0  # nodes that were read
        self.folded: dict[tuple[Any, ...], int] = {}  # arrays that were computed from weights -> their numbers

    def run(self, graph: Any, depth: int = 0) -> None:
        """Put each node's results into ``values``: Poison for a refused node, and for nodes that read it."""
        for number, proto in enumerate(graph.node):
            self.count += 1
            if self.count > MOST or depth > DEEPEST:
                most = f"more than {MOST:,} nodes, or graphs nested deeper than {DEEPEST}"
                raise SourceError(f"{self.origin}: it has {most}")
            label = f"{self.inside}{proto.name or f'node {number}'} ({proto.op_type})"
            missing = [name for name in proto.input if name and self.values.get(name) is None]
            if missing:
                raise SourceError(f"{self.origin}: {label} reads {missing[0]}, which nothing before it makes")
            results: Sequence[Any] = [Poison] * len(proto.output)
            if any(name and self.values[name] is Poison for name in proto.input):  # an operand was refused already
                if proto.op_type not in HANDLERS | OF_RUNTIME and not self._is_defined(proto):
                    self.refusals.append(Refused("operator", proto.op_type, *UNREAD).at(label))
            else:
                try:
                    results = self._translate(proto, label, depth)
                except (Refused, ShapeProblem) as error:
                    self.refusals.append(Refused.of(error).at(label))
            self.values |= {name: value for name, value in zip_longest(proto.output, results) if name}

    def _is_defined(self, proto: Any) -> bool:
        """Return whether an operator without a handler is read: by ``WALKED``, or as ONNX's or the model's function."""
        schema = definition(proto.op_type, self.opset)
        body = schema is not None and (schema.has_function or schema.has_context_dependent_function)
        return body or proto.op_type in WALKED or (proto.domain, proto.op_type) in self.functions

    def _translate(self, proto: Any, label: str, depth: int) -> Sequence[Any]:
        """Return a node's results: its function's, folded constants, or its handler's. Raises :class:`Refused`."""
        own, body = proto.domain in DOMAINS, self.functions.get((proto.domain, proto.op_type))
        known: Mapping[str, Any] = HANDLERS if own else OF_RUNTIME if proto.domain == FUSED else {}
        if not own and body is None and proto.op_type not in known:
            why = "only ONNX's own operators are known, and some of ONNX Runtime's"
            mend = "export the model without it, or with it as a function of the model"
            raise Refused("operator", f"{proto.domain}.{proto.op_type}", why, mend)
        attributes = attributes_of(proto, self.opset, self._read)
        operands = [self._operand(proto.op_type, slot, name) for slot, name in enumerate(proto.input)]
        node = Node(proto.op_type, label, operands, attributes, self.opset, len(proto.output), proto)
        if body is not None:
            return self._function(node, body, depth)
        # a name that people know: PyTorch names nodes /rnn/LSTM, most exporters give no names
        self.t.at(proto.name or (proto.output[0] if proto.output else node.op), label)
        if node.op in WALKED:
            return WALKED[node.op](self, node, depth)
        if operands and not any(isinstance(one, str) for one in operands) and node.op not in onnx_layers.RECURRENT:
            results = fold_constants(node, [constant(one) for one in operands], self.t.folding)
            if results is not None:
                return [self._with_sources(node, place, result) for place, result in enumerate(results)]
        handler = known.get(node.op)
        if handler is None:
            body = definition_body(self.t, node, self.opset)
            if body is None:
                raise Refused("operator", node.op, *UNREAD)
            return self._function(node, body, depth)
        translated = called(handler, self.t, node)
        self.read |= {name for operand in operands if isinstance(operand, Weight) for name in operand.sources}
        results = translated if isinstance(translated, list) else [translated]
        if own:
            self.t.note_kinds(node, results)
        return results

    def _operand(self, op: str, slot: int, name: str) -> Any:
        """Return an operand. With ``free``, stored zeros that may be the past of a sequence become an input."""
        value = self.values[name] if name else None
        if self.free and op in FREED and isinstance(value, Weight) and prod(value.shape) > 1:
            first = 5 if op in ("GRU", "LSTM", "RNN") else 0
            state = slot == first if op in ("Conv", "Gemm") else slot >= first
            if state and (array := value.make()).dtype.kind == "f" and not array.any():
                if name not in self.freed:
                    # exporters write zeros once for each reader: ``h - n`` of a GRU reads those of its product
                    alike = [put for put in self.freed.values() if self.t.builder.shapes[put] == value.shape]
                    same = op == "Sub" and alike
                    self.freed[name] = same[-1] if same else self.t.builder.input(name, value.shape)
                return self.freed[name]
        return value

    def _with_sources(self, node: Node, place: int, result: Array) -> Operand:
        """Return a folded array: a parameter if it was computed from stored tensors, else a constant."""
        weights = [one for one in node.operands if isinstance(one, Weight)]
        sources = tuple(dict.fromkeys(name for weight in weights for name in weight.sources))
        self.read |= set(sources)
        if not sources or not np.issubdtype(result.dtype, np.floating):
            return result
        # recipes distinguish parameters: the number stands for the other arguments, and equal nodes share it
        others = [one if one is None or isinstance(one, Weight) else np.asarray(one).tobytes() for one in node.operands]
        recipes = ", ".join(weight.recipe for weight in weights)
        key = node.op, recipes, place, str(node.attributes), *others
        number = self.folded.setdefault(key, len(self.folded) + 1)
        recipe = f"{node.op} of {recipes} (folded, number {number})"
        return Weight(result.shape, sources, recipe, lambda: result)

    def _read(self, value: Any) -> Any:
        """Return an attribute as numbers and texts of Python, or arrays for tensors; other kinds unchanged."""
        if isinstance(value, list):
            return [*map(self._read, value)]
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, float):
            return shortest(value)
        return stored_tensor(value, self.origin, self.folder).read() if hasattr(value, "raw_data") else value

    def subgraph(self, graph: Any, inputs: Mapping[str, Any], depth: int) -> list[Any]:
        """Return the outputs of a node's subgraph for ``inputs``; it also reads values of the graph around it."""
        for tensor in graph.initializer:
            self.values[tensor.name] = stored_tensor(tensor, self.origin, self.folder).weight()
        self.values |= inputs
        self.run(graph, depth + 1)
        missing = next((output.name for output in graph.output if output.name not in self.values), None)
        if missing is not None:
            raise SourceError(f"{self.origin}: nothing computes {missing}, a result of a node's graph")
        return [self.values[output.name] for output in graph.output]

    def _function(self, node: Node, body: Any, depth: int) -> list[Any]:
        """Return a node's results by ``body``, a function of the model or ONNX's definition of the operator."""
        values, opset, inside = self.values, self.opset, self.inside
        operands = (*node.operands, *[None] * len(body.input))
        self.values = dict(zip(body.input, operands, strict=False))
        self.opset = next((int(o.version) for o in body.opset_import if o.domain in DOMAINS), opset)
        self.inside = f"{node.label}/"
        try:
            self.run(function_graph(body, node.proto, self.values), depth + 1)
            return [self.values.get(name) for name in body.output]
        finally:
            self.values, self.opset, self.inside = values, opset, inside


def _constant(reader: _Reader, node: Node, depth: int) -> Sequence[Any]:
    """Return the array of a Constant node; an array of several floats is a weight without a source."""
    if len(node.attributes) != 1:
        raise Refused("value", f"{len(node.attributes)} of them", "one is expected", CHECK)
    ((name, value),) = node.attributes.items()
    if name == "value":
        array = np.asarray(value)
        if np.issubdtype(array.dtype, np.floating) and array.size > 1:
            return [Weight(array.shape, (), f"constant {node.proto.output[0]}", lambda: array)]
        return [array]
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name not in kinds:
        raise Refused(name, "", "only numbers are known", "write the model without it")
    return [np.asarray(value, kinds[name])]


def _branch(reader: _Reader, node: Node, depth: int) -> Sequence[Any]:
    """Return the results of the branch that an If takes. Raises :class:`Refused` if the condition is computed."""
    condition = constant(node.operand(0))
    if condition is None or condition.dtype == object or condition.size != 1:
        raise Refused("cond", "computed from the inputs", "which branch is taken is not known", GIVE)
    branch = node.attributes["then_branch" if condition.all() else "else_branch"]
    return reader.subgraph(branch, {}, depth)


def _loop(reader: _Reader, node: Node, depth: int) -> Sequence[Any]:
    """Unroll a Loop: return carried values and scan outputs. Raises :class:`Refused` if data decide when it ends."""
    body = node.attributes["body"]
    most, goes_on = constant(node.operand(0)), constant(node.operand(1))
    if any(isinstance(one, str) for one in node.operands[:2]):
        raise _ends_on_data("M, cond")
    if not all(one is None or (one.size == 1 and one.dtype != object) for one in (most, goes_on)):
        raise Refused("M, cond", "a size without a number", "how often it runs must be known here", PIN)
    count = _STEPS if most is None else int(most.reshape(-1)[0])
    names = [info.name for info in body.input]
    carried: list[Any] = [*node.operands[2:]]
    if len(names) != 2 + len(carried) or len(body.output) < 1 + len(carried):
        raise Refused("body", f"{len(names)} inputs, {len(body.output)} outputs", "it has others than the node", CHECK)
    step_outputs: list[list[Any]] = []
    running = goes_on is None or bool(goes_on.all())
    while running and len(step_outputs) < min(count, _STEPS):
        inputs = [np.asarray(len(step_outputs)), np.asarray(True), *carried]
        flag, *results = reader.subgraph(body, dict(zip(names, inputs, strict=True)), depth)
        if any(result is Poison for result in (flag, *results)):
            return [Poison] * node.results
        condition = constant(flag)
        if condition is None or condition.size != 1:
            raise _ends_on_data("cond")
        step_outputs.append(results[len(carried) :])
        carried, running = results[: len(carried)], bool(condition.all())
    return [*carried, *(reader.t.stack(ys, 0) for ys in zip(*step_outputs, strict=True))]  # none if no step ran


def _ends_on_data(operand: str) -> Refused:
    why = "how often it runs depends on the data, and a net has the same steps for all"
    mend = "export it with a fixed number of iterations, and a mask for those behind the end"
    return Refused(operand, "computed from the inputs", why, mend)


def _axes_and_direction(reader: _Reader, node: Node) -> tuple[Sequence[int], Sequence[int], bool]:
    """Return the axes of time of a Scan's inputs and of its outputs, and whether it runs backwards."""
    body, count = node.attributes["body"], node.attributes["num_scan_inputs"]
    first_x = len(node.operands) - count
    ys = len(body.output) - first_x
    if count < 1 or min(first_x, ys) < 0 or len(body.input) != len(node.operands):
        actual = f"{len(body.input)} inputs, {len(body.output)} outputs"
        raise Refused("body", actual, "it has others than the node", CHECK)
    into, out = node.integers("scan_input_axes", count, 0), node.integers("scan_output_axes", ys, 0)
    directions = {*node.integers("scan_input_directions", count, 0), *node.integers("scan_output_directions", ys, 0)}
    if reader.opset < 9 or len(directions) != 1:
        setting = f"version {reader.opset}, {sorted(directions)}"
        raise Refused("directions", setting, "all must be the same, from version 9 on", "write them in one direction")
    return into, out, directions == {1}


def _scan(reader: _Reader, node: Node, depth: int) -> Sequence[Any]:
    """Return a Scan's last states, then its outputs. Outer values that the body reads become static inputs."""
    body, layers = node.attributes["body"], reader.t
    first_x = len(node.operands) - node.attributes["num_scan_inputs"]
    into, out, is_reverse = _axes_and_direction(reader, node)
    ys = len(out)
    operands: list[Operand] = [node.needed(place) for place in range(len(node.operands))]
    front = [layers.transpose(x, _to_front(a, layers.rank(x))) for a, x in zip(into, operands[first_x:], strict=True)]
    # an input of a step has an axis
    front = [x if layers.rank(x) > 1 else layers.reshape(x, (*layers.shape(x), 1)) for x in front]
    operands = [x if layers.shape(x) else layers.reshape(x, (1,)) for x in operands[:first_x]]
    inner = NetBuilder("step", reader.origin)
    names = [info.name for info in body.input]
    elements = {inner.input(n, layers.shape(x)[1:]): x for n, x in zip(names[first_x:], front, strict=True)}
    states = {inner.input(n, layers.shape(x)): x for n, x in zip(names, operands, strict=False)}
    inside: dict[str, Any] = dict(zip([*names[first_x:], *names[:first_x]], [*elements, *states], strict=True))
    static: dict[str, Operand] = {}
    for name in _free_names(body):
        outer = reader.values.get(name)
        if isinstance(outer, str) and not layers.shape(outer):
            outer = layers.reshape(outer, (1,))
        inside[name] = inner.input(name, layers.shape(outer)) if isinstance(outer, str) else outer
        if isinstance(outer, str):
            static[inside[name]] = outer
    below = _Reader(Onnx(inner, layers.folding), reader.opset, reader.origin, reader.folder, reader.functions)
    outputs = below.subgraph(body, {name: value for name, value in inside.items() if value is not None}, depth)
    reader.refusals += below.refusals
    reader.read |= below.read
    if below.refusals or any(value is Poison for value in outputs):
        return [Poison] * node.results
    inner.outputs |= {f"made_{number}": below.t.value(value) for number, value in enumerate(outputs)}
    if any(isinstance(step.op, Scan) for step in inner.steps):
        raise Refused("body", "a recurrent node", "a step has no time of its own", "write it without")
    zeros = [name for name, x in states.items() if (array := constant(x)) is not None and not array.any()]
    results = layers.builder.loop(
        layers.builder.scan_name(layers.hint), inner.finish(every_input=True), [*map(layers.value, elements.values())],
        {name: None if name in zeros else layers.value(x) for name, x in states.items()},  # zeros are the default
        [*map(layers.value, static.values())], layers.shape(front[0])[0], is_reverse,
    )  # fmt: skip
    single = [info.type.tensor_type.HasField("shape") and not info.type.tensor_type.shape.dim for info in body.output]
    results = tuple(
        layers.reshape(y, layers.shape(y)[:-1]) if one else y
        for y, one in zip(results, [*single[first_x:], *single[:first_x]], strict=True)
    )
    orders = [np.argsort(_to_front(axis, layers.rank(y))).tolist() for axis, y in zip(out, results, strict=False)]
    return [*results[ys:], *map(layers.transpose, results, orders)]


def _to_front(axis: int, rank: int) -> list[int]:
    axis = axis_in(axis, rank)
    return [axis, *(a for a in range(rank) if a != axis)]


def _free_names(graph: Any) -> list[str]:
    """Return the names that a subgraph reads but does not define."""
    defined = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    free: dict[str, None] = {}
    for node in graph.node:
        inner = [name for a in node.attribute if a.type == 5 for name in _free_names(a.g)]  # 5: a graph
        free |= dict.fromkeys(name for name in (*node.input, *inner) if name and name not in defined)
        defined |= set(node.output)
    free |= dict.fromkeys(info.name for info in graph.output if info.name not in defined)
    return [*free]


# Operators of constants and of graphs in a graph.
WALKED = {"Constant": _constant, "If": _branch, "Loop": _loop, "Scan": _scan}


def definition_body(layers: Layers, node: Node, opset: int) -> Any:
    """Return the function by which ONNX defines an operator; None if no function defines it."""
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
    """Return an operand's type and shape as a ``TypeProto``; a computed value counts as float32, as in the net."""
    onnx = importlib.import_module("onnx")
    if operand is None:
        return onnx.TypeProto()
    kind = operand.make().dtype if isinstance(operand, Weight) else getattr(operand, "dtype", np.dtype(np.float32))
    kind = np.dtype(np.int64) if kind.kind == "O" else kind
    sizes = [str(size) if isinstance(size, OpenSize) else size for size in layers.shape(operand)]
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(kind), sizes)


def function_graph(body: Any, call: Any, inputs: Mapping[str, Operand | None]) -> Any:
    """Return the nodes of a function for a call, with the call's attributes and without operands that it leaves out."""
    schema = definition(call.op_type, 10_000) if not call.domain else None
    defaults = [attribute.default_value for attribute in (schema.attributes.values() if schema else ())]
    known = (*body.attribute_proto, *(value for value in defaults if value.type), *call.attribute)
    return SimpleNamespace(node=[*_bound(body.node, {attribute.name: attribute for attribute in known}, inputs)])


def _bound(nodes: Any, given: Mapping[str, Any], inputs: Mapping[str, Operand | None]) -> Iterator[Any]:
    """Yield copies of a function's nodes, with the call's values in place of references to attributes."""
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
