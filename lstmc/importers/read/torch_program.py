"""Files of ``torch.export.save`` (.pt2), read without ``torch.export.load``, which unpickles and evaluates their text.

The graph is JSON, and the weights are raw bytes. Only operators of ``aten``, of which those that read files are
refused, and arithmetic on sizes become nodes. Described by torch/_export/serde/schema.py.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.importers.read.torch_file import Storage, Tensor, entries, read_entry, stored
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, StoredTensor

JSON_LIMIT = 256 * 2**20  # bytes of one JSON text
_NUMPY_TYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?", 13: "bf16"}
_TORCH_NAMES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool", "bfloat16")
_TORCH_TYPES = {
    **dict(zip(_NUMPY_TYPES, _TORCH_NAMES, strict=True)),
    9: "complex32",
    10: "complex64",
    11: "complex128",  # of values that no known operator has
}
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name) for name in ("getitem", "add", "sub", "mul", "floordiv", "neg")
}
_NO_READING = ("from_file",)  # of aten: they open files
_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string", "as_strings")


def is_program(names: Mapping[str, int]) -> bool:
    """Return whether a zip file with these entries is one of ``torch.export.save``."""
    return any(name.count("/") == 1 and name.endswith("/archive_format") for name in names)


@dataclass(frozen=True)
class StoredProgram:
    """A program of a file, with the attributes of a ``torch.export.ExportedProgram`` that are used."""

    torch: Any
    graph: Any
    graph_signature: Any
    state_dict: dict[str, Any]
    constants: dict[str, Any]

    def run_decompositions(self, table: Any) -> StoredProgram:
        """Return the program unchanged: PyTorch decomposes its own programs alone."""
        return self

    def module(self) -> Callable[..., Any]:
        """Return a function of the user's inputs that runs the graph, node by node."""
        signature, tensors = self.graph_signature, {**self.state_dict, **self.constants}
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        graph_module = self.torch.fx.GraphModule(self.torch.nn.Module(), self.graph)

        def run(*inputs: Any) -> Any:
            arguments = iter(inputs)
            fed = [
                tensors[named[node.name]] if node.name in named else next(arguments)
                for node in self.graph.nodes
                if node.op == "placeholder"
            ]
            return self.torch.fx.Interpreter(graph_module).run(*fed)

        return run


def read_program(torch: Any, path: Path) -> StoredProgram:
    """Return the program of a file. Raises :class:`SourceError` for a damaged one, or one that has to be unpickled."""
    try:
        return _Reader(torch, path).program()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{path.name}: a damaged file of torch.export.save: {type(error).__name__}: {str(error)[:200]}"
        ) from None


class _Reader:
    def __init__(self, torch: Any, path: Path) -> None:
        self.torch, self.path, self.origin = torch, path, path.name
        self.sizes = entries(path)
        (archive_format,) = [name for name in self.sizes if name.count("/") == 1 and name.endswith("/archive_format")]
        self.folder = archive_format.removesuffix("archive_format")
        models = [n for n in self.sizes if n.startswith(f"{self.folder}models/") and n.endswith(".json")]
        if len(models) != 1:
            raise SourceError(f"{self.origin}: expected one program of torch.export.save, found {len(models)}")
        self.model = models[0].removeprefix(f"{self.folder}models/").removesuffix(".json")
        order = f"{self.folder}byteorder"
        if order in self.sizes and read_entry(path, order, 16).strip() != b"little":
            raise SourceError(f"{self.origin}: its tensors are big-endian; save it again on a little-endian machine")
        self.nodes: dict[str, Any] = {}
        self.graph = torch.fx.Graph()

    def program(self) -> StoredProgram:
        module = self._json(f"models/{self.model}.json")["graph_module"]
        weights = self._tensors("weights", f"{self.model}_weights_config.json")
        constants = self._tensors("constants", f"{self.model}_constants_config.json")
        graph = module["graph"]
        self.values, self.open_sizes = graph["tensor_values"], graph.get("sym_int_values", {})
        for entry in graph["inputs"]:
            node = self.graph.placeholder(entry["as_tensor"]["name"])
            self._put(entry["as_tensor"]["name"], node)
        for call in graph["nodes"]:
            self._node(call)
        self.graph.output([self._argument(one) for one in graph["outputs"]])
        return StoredProgram(self.torch, self.graph, self._signature(module["signature"]), weights, constants)

    def _json(self, name: str) -> Any:
        return json.loads(read_entry(self.path, self.folder + name, JSON_LIMIT))

    def _tensors(self, kind: str, config: str) -> dict[str, Any]:
        """Return the tensors of weights or constants, by name."""
        configs = self._json(f"data/{kind}/{config}")["config"]
        if len(configs) > MANY:
            raise SourceError(f"{self.origin}: more than {MANY:,} tensors")
        return {name: self._tensor(kind, name, entry) for name, entry in configs.items()}

    def _tensor(self, kind: str, name: str, entry: Mapping[str, Any]) -> Any:
        meta, file = entry["tensor_meta"], f"{self.folder}data/{kind}/{entry['path_name']}"
        if entry["use_pickle"] or meta is None or meta["dtype"] not in _NUMPY_TYPES:
            raise SourceError(
                f"{self.origin}: {name} is stored as a pickle, which is not loaded",
                notes=["if you trust the file: lstmc.from_torch(torch.export.load(PATH))"],
            )
        if file not in self.sizes:
            raise SourceError(f"{self.origin}: it has no {file}, where the elements of {name} should be")
        dtype = _NUMPY_TYPES[meta["dtype"]]
        count = self.sizes[file] // Storage("", dtype, 1).bytes
        shape, strides = self._sizes(meta["sizes"]), self._sizes(meta["strides"])
        view = Tensor(Storage(file, dtype, count), int(meta["storage_offset"]["as_int"]), shape, strides)
        tensor: StoredTensor = stored(self.origin, name, view, lambda key, size: read_entry(self.path, key)[:size])
        return self.torch.from_numpy(np.array(tensor.read()))

    def _sizes(self, sizes: Any) -> tuple[int, ...]:
        """Return sizes; for a dynamic one the number in the example."""
        return tuple(int(s["as_int"] if "as_int" in s else s["as_expr"]["hint"]["as_int"]) for s in sizes)

    def _put(self, name: str, node: Any) -> None:
        """Record a node under its name in the file, with its type."""
        self.nodes[name] = node
        if name in self.values:
            meta = self.values[name]
            dtype = getattr(self.torch, _TORCH_TYPES[meta["dtype"]])
            node.meta["val"] = self.torch.empty(self._sizes(meta["sizes"]), dtype=dtype, device="meta")
        elif name in self.open_sizes:
            (node.meta["val"],) = self._sizes([self.open_sizes[name]])

    def _node(self, call: Mapping[str, Any]) -> None:
        target, outputs = self._target(call["target"]), call["outputs"]
        args = tuple(self._argument(one["arg"]) for one in call["inputs"] if one.get("kind", 1) == 1)
        kwargs = {str(one["name"]): self._argument(one["arg"]) for one in call["inputs"] if one.get("kind", 1) == 2}
        names = [str(name) for one in outputs for name in _result_names(one)]
        single = len(outputs) == 1 and len(names) == 1 and "as_tensors" not in outputs[0]
        called = names[0] if single else str(call.get("name") or "call")
        node = self.graph.create_node("call_function", target, args, kwargs, called)
        stack = str(call["metadata"].get("nn_module_stack", "")).split(";")
        parts = [entry.split(",") for entry in stack if entry.count(",") >= 2]
        places = {part[0]: (part[1], part[2]) for part in parts}
        node.meta |= {"nn_module_stack": places, "stack_trace": str(call["metadata"].get("stack_trace", ""))}
        if single:
            self._put(names[0], node)
            return
        for number, name in enumerate(names):
            result = self.graph.create_node("call_function", operator.getitem, (node, number), {}, name)
            result.meta["nn_module_stack"] = places
            self._put(name, result)

    def _target(self, name: str) -> Any:
        if name in _ARITHMETIC:
            return _ARITHMETIC[name]
        parts = str(name).split(".")
        if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5 or parts[3] in _NO_READING:
            raise SourceError(f"{self.origin}: operator {str(name)[:100]} is not supported in a file")
        return getattr(getattr(self.torch.ops.aten, parts[3]), parts[4])

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in _PLAIN:
            return value
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self.nodes[value["name"]]
        if kind == "as_tensors":
            return [self.nodes[one["name"]] for one in value]
        if kind == "as_optional_tensors":
            return [self._argument(one) for one in value]
        if kind == "as_sym_int":
            return self._size(value)
        if kind == "as_sym_ints":
            return [self._size(one) for one in value]
        if kind == "as_scalar_type":
            return getattr(self.torch, _TORCH_TYPES[value])
        if kind == "as_device":
            return self.torch.device("cpu")
        if kind == "as_layout":
            return self.torch.strided
        if kind == "as_memory_format":
            return self.torch.preserve_format
        raise SourceError(f"{self.origin}: an argument of an unknown kind: {str(kind)[:40]}")

    def _size(self, size: Mapping[str, Any]) -> Any:
        return int(size["as_int"]) if "as_int" in size else self.nodes[size["as_name"]]

    def _signature(self, signature: Mapping[str, Any]) -> Any:
        """Return the tensors that the graph's inputs and outputs correspond to."""
        graphs = self.torch.export.graph_signature
        specs = []
        for spec in signature["input_specs"]:
            ((kind, value),) = spec.items()
            if kind == "user_input":
                name, what, target = value["arg"]["as_tensor"]["name"], graphs.InputKind.USER_INPUT, None
            elif kind == "parameter":
                name, what, target = value["arg"]["name"], graphs.InputKind.PARAMETER, value["parameter_name"]
            elif kind == "buffer":
                name, what, target = value["arg"]["name"], graphs.InputKind.BUFFER, value["buffer_name"]
            elif kind == "tensor_constant":
                name, what = value["arg"]["name"], graphs.InputKind.CONSTANT_TENSOR
                target = value["tensor_constant_name"]
            else:
                raise SourceError(f"{self.origin}: an input of kind {str(kind)[:40]} is not supported in a file")
            persistent = bool(value.get("persistent", True)) if kind == "buffer" else None
            argument = graphs.TensorArgument(name=self.nodes[name].name)
            specs.append(graphs.InputSpec(what, argument, target, persistent))
        outputs = []
        for spec in signature["output_specs"]:
            ((kind, value),) = spec.items()
            what = graphs.OutputKind.USER_OUTPUT
            if kind == "buffer_mutation":
                what, target = graphs.OutputKind.BUFFER_MUTATION, value["buffer_name"]
            elif kind == "user_output" and "as_tensor" in value["arg"]:
                value, target = value["arg"]["as_tensor"], None
            else:
                raise SourceError(f"{self.origin}: an output of kind {str(kind)[:40]} is not supported in a file")
            name = value["name"] if kind == "user_output" else value["arg"]["name"]
            outputs.append(graphs.OutputSpec(what, graphs.TensorArgument(name=self.nodes[name].name), target))
        return graphs.ExportGraphSignature(specs, outputs)


def _result_names(result: Mapping[str, Any]) -> list[str]:
    ((kind, value),) = result.items()
    if kind == "as_tensors":
        return [one["name"] for one in value]
    return [value["as_name"] if kind == "as_sym_int" else value["name"]]
