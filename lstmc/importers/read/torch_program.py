"""Files of ``torch.export.save`` (.pt2), read without ``torch.export.load``, which unpickles and evaluates their text.
The graph is JSON, and the weights are raw bytes. Only operators of ``aten``, except operators that read files, and
arithmetic on sizes become nodes. Described by torch/_export/serde/schema.py."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lstmc.importers.read.torch_file import Storage, Tensor, entries, read_entry, stored
from lstmc.importers.refusal import SourceError
from lstmc.importers.sources import MANY, StoredTensor, checked_shape
from lstmc.text import brief

T = TypeVar("T")
JSON_LIMIT = 256 * 2**20  # bytes of one JSON text
_NUMPY_TYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?", 13: "bf16"}
_TORCH_NAMES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool", "bfloat16")
_COMPLEX = {9: "complex32", 10: "complex64", 11: "complex128"}  # computed, not stored
_TORCH_TYPES = {**dict(zip(_NUMPY_TYPES, _TORCH_NAMES, strict=True)), **_COMPLEX}
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name) for name in ("getitem", "add", "sub", "mul", "floordiv", "neg")
}
_NO_READING = ("from_file",)  # operators of aten that open files
_PLAIN = ("as_int", "as_ints", "as_bool", "as_bools", "as_string", "as_strings")
_NUMBERS = {
    "Tensor": int | float | complex, "int": int, "SymInt": int, "float": int | float,
    "number": int | float | complex, "bool": bool, "str": str,
}  # fmt: skip


def is_program(names: Mapping[str, int]) -> bool:
    """Return whether a zip file with these entries comes from ``torch.export.save``."""
    return any(name.count("/") == 1 and name.endswith("/archive_format") for name in names)


@dataclass(frozen=True)
class StoredProgram:
    """A program of a file, with those attributes of a ``torch.export.ExportedProgram`` that the importer uses."""

    torch: Any
    origin: str
    graph: Any
    graph_signature: Any
    state_dict: dict[str, Any]
    constants: dict[str, Any]

    def module(self) -> Any:
        """Return a module of PyTorch that runs the graph, node by node. No text of the file becomes code."""
        torch, tensors = self.torch, {**self.state_dict, **self.constants}
        places = {name: f"tensor_{number}" for number, name in enumerate(tensors)}
        stored = {name: places[of] for name, of in _stored(self.graph_signature).items()}
        in_place = any("_." in str(node.target) for node in self.graph.nodes)

        class Stored(torch.nn.Module):  # type: ignore[misc, name-defined]
            """A module that holds the program's tensors as buffers and interprets its graph."""

            def __init__(own) -> None:
                super().__init__()
                for name, place in places.items():  # a copy where the graph may overwrite it
                    own.register_buffer(place, tensors[name].clone() if in_place else tensors[name])

            def forward(own, *inputs: Any) -> Any:
                arguments, nodes = iter(inputs), [node for node in self.graph.nodes if node.op == "placeholder"]
                fed = [getattr(own, stored[n.name]) if n.name in stored else next(arguments) for n in nodes]
                with torch.fx.traceback.preserve_node_meta():
                    return torch.fx.Interpreter(own, graph=self.graph).run(*fed, enable_io_processing=False)

        return Stored()

    def run_decompositions(self, table: Any) -> StoredProgram:
        """Return the program as PyTorch decomposes it: without operators in place, and without those of ``table``.
        Raises :class:`SourceError` if PyTorch cannot run the graph."""
        torch, stored = self.torch, _stored(self.graph_signature)
        inputs = [node for node in self.graph.nodes if node.op == "placeholder" and node.name not in stored]
        open_axes = tuple(dict.fromkeys(node.meta["open"], torch.export.Dim.AUTO) for node in inputs)
        try:
            fed = tuple(torch.empty(node.meta["val"].shape, dtype=node.meta["val"].dtype) for node in inputs)
            program = torch.export.export(self.module(), fed, dynamic_shapes=(open_axes,))
            program = program.run_decompositions(table)
        except Exception as error:  # an operator may raise any class
            reason = f"PyTorch does not run its graph: {type(error).__name__}: {brief(error)}"
            raise SourceError(f"{self.origin}: {reason}") from None
        return replace(self, graph=program.graph, graph_signature=self._signature(program.graph_signature, inputs))

    def _signature(self, new: Any, inputs: Sequence[Any]) -> Any:
        """Return the decomposed program's signature ``new`` by this program's names; ``inputs`` are the user's."""
        tensors, own = [*self.state_dict, *self.constants], iter(self.graph_signature.output_specs)
        kinds = {spec.target: spec for spec in self.graph_signature.input_specs if spec.target is not None}
        called = dict(zip(new.user_inputs, (node.name for node in inputs), strict=True))

        def name(target: str | None) -> Any:
            number = (target or "").removeprefix("tensor_")
            return tensors[int(number)] if number.isdigit() else called.get(target, target)

        found = [kinds.get(name(spec.target)) for spec in new.input_specs]
        pairs = zip(new.input_specs, found, strict=True)
        put = [spec if of is None else replace(of, arg=spec.arg) for spec, of in pairs]
        results = []
        for spec in new.output_specs:
            user = spec.kind.name == "USER_OUTPUT"
            results.append(replace(next(own), arg=spec.arg) if user else replace(spec, target=name(spec.target)))
        return self.torch.export.graph_signature.ExportGraphSignature(put, results)


def _stored(signature: Any) -> dict[str, str]:
    """Return the name of the tensor that each placeholder stands for, without the user's inputs."""
    lifted = signature.inputs_to_lifted_tensor_constants
    return {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **lifted}


def read_program(torch: Any, path: Path) -> StoredProgram:
    """Return the program of a file. Raises :class:`SourceError` if it is damaged, or has parts to unpickle."""
    try:
        return _Reader(torch, path).program()
    except _Damaged as error:
        mend = "save it again, by PyTorch 2.9 or newer: files of older releases have other parts"
        raise SourceError(f"{path.name}: a damaged file of torch.export.save: {error}", notes=[mend]) from None


class _Damaged(Exception):
    """Raised for JSON that is not as ``torch.export.save`` writes it."""


def _at(thing: Any, kind: type[T], *path: str) -> T:
    """Return the value at a path of keys. Raises :class:`_Damaged` unless it is of this kind."""
    for key in path:
        if not isinstance(thing, dict) or key not in thing:
            raise _Damaged(f"expected an object with {key}, found {brief(thing)}")
        thing = thing[key]
    if not isinstance(thing, kind):
        raise _Damaged(f"expected {'.'.join(path)} to be of type {kind.__name__}, found {brief(thing)}")
    return thing


def _list(thing: Any, kind: type[T], *path: str) -> list[T]:
    """Return the list at a path of keys. Raises :class:`_Damaged` unless its elements are of this kind."""
    return [_at(one, kind) for one in _at(thing, list, *path)]


def _only(thing: Any) -> tuple[str, Any]:
    """Return the key and the value of an object. Raises :class:`_Damaged` unless it has a single key."""
    if not isinstance(thing, dict) or len(thing) != 1:
        raise _Damaged(f"expected an object with one key, found {brief(thing)}")
    return next(iter(thing.items()))


def _check_arguments(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise :class:`_Damaged` for arguments that are unknown, missing or of another type than in the definition."""
    defined = {argument.name: argument for argument in target._schema.arguments}
    by_place = [name for name, argument in defined.items() if not argument.kwarg_only]
    given = {**dict(zip(by_place, args, strict=False)), **kwargs}
    required = {name for name, argument in defined.items() if not argument.has_default_value()}
    whole = len(args) <= len(by_place) and given.keys() <= defined.keys() and required <= given.keys()
    wrong = [name for name, value in given.items() if name in defined and not _is_of(str(defined[name].type), value)]
    if not whole or wrong:
        what = f"{wrong[0]} is {brief(given[wrong[0]])}" if wrong else f"it has {len(args)} and {sorted(kwargs)}"
        raise _Damaged(f"the arguments of {target} are not those of its definition: {what}")


def _is_of(kind: str, value: Any) -> bool:
    """Return whether a value is of a type of PyTorch's definitions; a node of the graph counts as any type."""
    inner = kind.partition("[")[2].removesuffix("]")
    if kind.startswith("Optional["):
        return value is None or _is_of(inner, value)
    if kind.startswith("List[") and isinstance(value, list):
        return all(_is_of(inner, one) for one in value)
    of_torch = type(value).__module__ == "torch"  # such as a dtype, which the definitions call an int
    return of_torch or hasattr(value, "all_input_nodes") or isinstance(value, _NUMBERS.get(inner or kind, object))


class _Reader:
    """Reads the program of a file: it rebuilds the graph from the JSON, node by node."""

    def __init__(self, torch: Any, path: Path) -> None:
        """Find the program in the zip file. Raises :class:`SourceError` for several or none, or big-endian tensors."""
        self.torch, self.path, self.origin = torch, path, path.name
        self.sizes = entries(path)  # bytes of each entry
        formats = [name for name in self.sizes if name.count("/") == 1 and name.endswith("/archive_format")]
        self.folder = formats[0].removesuffix("archive_format")
        models = [n for n in self.sizes if n.startswith(f"{self.folder}models/") and n.endswith(".json")]
        if len(models) != 1:
            raise SourceError(f"{self.origin}: expected one program of torch.export.save, found {len(models)}")
        self.model = models[0].removeprefix(f"{self.folder}models/").removesuffix(".json")
        order = f"{self.folder}byteorder"
        if order in self.sizes and read_entry(path, order, 16).strip() != b"little":
            raise SourceError(f"{self.origin}: its tensors are big-endian; save it again on a little-endian machine")
        self.nodes: dict[str, Any] = {}  # by their names in the file
        self.graph = torch.fx.Graph()

    def program(self) -> StoredProgram:
        """Return the program: the graph, its signature, and the tensors."""
        module = _at(self._json(f"models/{self.model}.json"), dict, "graph_module")
        weights = self._tensors("weights", f"{self.model}_weights_config.json")
        constants = self._tensors("constants", f"{self.model}_constants_config.json")
        graph = _at(module, dict, "graph")
        self.values, self.open_sizes = _at(graph, dict, "tensor_values"), _at(graph.get("sym_int_values", {}), dict)
        for entry in _list(graph, dict, "inputs"):
            name = _at(entry, str, "as_tensor", "name")
            self._put(name, self.graph.placeholder(name))
        for call in _list(graph, dict, "nodes"):
            self._node(call)
        self.graph.output([self._argument(one) for one in _list(graph, dict, "outputs")])
        signature = self._signature(_at(module, dict, "signature"), {*weights, *constants})
        return StoredProgram(self.torch, self.origin, self.graph, signature, weights, constants)

    def _json(self, name: str) -> Any:
        """Return the content of a JSON entry of the file. Raises :class:`_Damaged` if it is missing or no JSON."""
        if self.folder + name not in self.sizes:
            raise _Damaged(f"it has no {name}")
        try:
            return json.loads(read_entry(self.path, self.folder + name, JSON_LIMIT))
        except (ValueError, RecursionError) as error:
            raise _Damaged(f"{name} is no JSON: {brief(error)}") from None

    def _value(self, name: str) -> Any:
        if name not in self.nodes:
            raise _Damaged(f"it reads {brief(name)}, which nothing computes")
        return self.nodes[name]

    def _type(self, number: int) -> Any:
        if number not in _TORCH_TYPES:
            raise _Damaged(f"elements of the unknown type {number}")
        return getattr(self.torch, _TORCH_TYPES[number])

    def _tensors(self, kind: str, config: str) -> dict[str, Any]:
        """Return the tensors of the weights or the constants (``kind``) that the file ``config`` lists, by name."""
        configs = _at(self._json(f"data/{kind}/{config}"), dict, "config")
        if len(configs) > MANY:
            raise SourceError(f"{self.origin}: more than {MANY:,} tensors")
        return {name: self._tensor(kind, name, entry) for name, entry in configs.items()}

    def _tensor(self, kind: str, name: str, entry: Any) -> Any:
        """Return a tensor of the file. Raises :class:`SourceError` if it is stored as a pickle or is missing."""
        meta, file = _at(entry, object, "tensor_meta"), f"{self.folder}data/{kind}/{_at(entry, str, 'path_name')}"
        if _at(entry, bool, "use_pickle") or meta is None or _at(meta, int, "dtype") not in _NUMPY_TYPES:
            raise SourceError(
                f"{self.origin}: {name} is stored as a pickle, which is not loaded",
                notes=["if you trust the file: lstmc.from_torch(torch.export.load(PATH))"],
            )
        if file not in self.sizes:
            raise SourceError(f"{self.origin}: it has no {file}, where the elements of {name} should be")
        dtype = _NUMPY_TYPES[_at(meta, int, "dtype")]
        count = self.sizes[file] // Storage("", dtype, 1).bytes
        shape, strides = (self._sizes(_list(meta, dict, key)) for key in ("sizes", "strides"))
        view = Tensor(Storage(file, dtype, count), _at(meta, int, "storage_offset", "as_int"), shape, strides)
        tensor: StoredTensor = stored(self.origin, name, view, lambda key, size: read_entry(self.path, key)[:size])
        return self.torch.from_numpy(np.array(tensor.read())).to(self._type(_at(meta, int, "dtype")))

    def _sizes(self, sizes: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """Return sizes as numbers; a dynamic size has the number of the example."""
        path = ("as_expr", "hint", "as_int")
        return checked_shape(self.origin, "of its graph", [_at(s, int, *path[2 * ("as_int" in s) :]) for s in sizes])

    def _put(self, name: str, node: Any) -> None:
        """Record a node under its name in the file, with an empty tensor of its type and shape, and its open sizes."""
        self.nodes[name] = node
        if name in self.values:
            meta = self.values[name]
            dtype, sizes = self._type(_at(meta, int, "dtype")), _list(meta, dict, "sizes")
            node.meta["val"] = self.torch.empty(self._sizes(sizes), dtype=dtype, device="meta")
            node.meta["open"] = {axis: _symbol(size) for axis, size in enumerate(sizes) if "as_int" not in size}
        elif name in self.open_sizes:
            (node.meta["val"],) = self._sizes([_at(self.open_sizes, dict, name)])

    def _node(self, call: Mapping[str, Any]) -> None:
        """Add the node of a call to the graph, and a node for each of several results."""
        target = self._target(_at(call, str, "target"))
        outputs, inputs = _list(call, dict, "outputs"), _list(call, dict, "inputs")
        args = tuple(self._argument(_at(one, dict, "arg")) for one in inputs if one.get("kind", 1) == 1)
        named = [one for one in inputs if one.get("kind", 1) == 2]
        kwargs = {_at(one, str, "name"): self._argument(_at(one, dict, "arg")) for one in named}
        if hasattr(target, "_schema"):
            _check_arguments(target, args, kwargs)
        names = [name for one in outputs for name in _result_names(one)]
        single = len(outputs) == 1 and len(names) == 1 and "as_tensors" not in outputs[0]
        called, metadata = names[0] if single else str(call.get("name") or "call"), _at(call, dict, "metadata")
        node = self.graph.create_node("call_function", target, args, kwargs, called)
        stack = str(metadata.get("nn_module_stack", "")).split(";")
        parts = [entry.split(",") for entry in stack if entry.count(",") >= 2]
        places = {part[0]: (part[1], part[2]) for part in parts}
        node.meta |= {"nn_module_stack": places, "stack_trace": str(metadata.get("stack_trace", ""))}
        if single:
            self._put(names[0], node)
            return
        for number, name in enumerate(names):
            result = self.graph.create_node("call_function", operator.getitem, (node, number), {}, name)
            result.meta["nn_module_stack"] = places
            self._put(name, result)

    def _target(self, name: str) -> Any:
        """Return the operator or the arithmetic function of this name. Raises :class:`SourceError` for any other."""
        if name in _ARITHMETIC:
            return _ARITHMETIC[name]
        parts = name.split(".")
        known = parts[:3] == ["torch", "ops", "aten"] and len(parts) == 5 and parts[3] not in _NO_READING
        packet = getattr(self.torch.ops.aten, parts[3], None) if known else None
        if packet is None or parts[4] not in packet.overloads():
            raise SourceError(f"{self.origin}: operator {brief(name)} is not supported in a file")
        return getattr(packet, parts[4])

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        """Return an argument's value by its kind in the file: a number, text, node, type, or a list of these."""
        kind, value = _only(argument)
        if kind in _PLAIN:
            return value
        readers: dict[str, Callable[[], Any]] = {
            # a number may be a word, because JSON has no infinity
            "as_float": lambda: float(value),
            "as_floats": lambda: [*map(float, value)],
            "as_complex": lambda: complex(*(float(str(_at(value, object, part))) for part in ("real", "imag"))),
            "as_none": lambda: None,
            "as_tensor": lambda: self._value(_at(value, str, "name")),
            "as_tensors": lambda: [self._value(_at(one, str, "name")) for one in _list(value, dict)],
            "as_optional_tensors": lambda: [self._argument(one) for one in _list(value, dict)],
            "as_sym_int": lambda: self._size(value),
            "as_sym_ints": lambda: [self._size(one) for one in _list(value, dict)],
            "as_scalar_type": lambda: self._type(_at(value, int)),
            "as_device": lambda: self.torch.device("cpu"),
            "as_layout": lambda: self.torch.strided,
            "as_memory_format": lambda: self.torch.preserve_format,
        }
        if kind not in readers:
            raise SourceError(f"{self.origin}: an argument of an unknown kind: {brief(kind)}")
        return readers[kind]()

    def _size(self, size: Mapping[str, Any]) -> Any:
        return self._value(_at(size, str, "as_name")) if "as_name" in size else _at(size, int, "as_int")

    def _signature(self, signature: Any, tensors: Container[str]) -> Any:
        """Return the signature: which tensor or user's value each input and output of the graph is."""
        graphs = self.torch.export.graph_signature
        inputs = {"parameter": "PARAMETER", "buffer": "BUFFER", "tensor_constant": "CONSTANT_TENSOR"}
        specs, outputs = [], []
        for spec in _list(signature, dict, "input_specs"):
            kind, value = _only(spec)
            if kind not in ("user_input", *inputs):
                raise SourceError(f"{self.origin}: an input of kind {brief(kind)} is not supported in a file")
            target = None if kind == "user_input" else _at(value, str, f"{kind}_name")
            if target is not None and target not in tensors:
                raise _Damaged(f"it has no tensor {brief(target)}, which its graph reads")
            what = getattr(graphs.InputKind, inputs.get(kind, "USER_INPUT"))
            persistent = bool(value.get("persistent", True)) if kind == "buffer" else None
            specs.append(graphs.InputSpec(what, self._tensor_of(graphs, kind, value), target, persistent))
        for spec in _list(signature, dict, "output_specs"):
            kind, value = _only(spec)
            if kind not in ("user_output", "buffer_mutation"):
                raise SourceError(f"{self.origin}: an output of kind {brief(kind)} is not supported in a file")
            target = None if kind == "user_output" else _at(value, str, "buffer_name")
            what = getattr(graphs.OutputKind, kind.upper())
            outputs.append(graphs.OutputSpec(what, self._tensor_of(graphs, kind, value), target))
        return graphs.ExportGraphSignature(specs, outputs)

    def _tensor_of(self, graphs: Any, kind: str, value: Any) -> Any:
        path = ("arg", "as_tensor", "name") if kind.startswith("user") else ("arg", "name")
        return graphs.TensorArgument(name=self._value(_at(value, str, *path)).name)


def _symbol(size: Mapping[str, Any]) -> str:
    """Return the name of an open size; '' for a size that is computed from open sizes."""
    named = re.fullmatch(r"(?:Symbol\(')?(\w{1,40})(?:'[\w=, ]*\))?", _at(size, str, "as_expr", "expr_str"), re.ASCII)
    return "" if named is None else named[1]


def _result_names(result: Mapping[str, Any]) -> list[str]:
    kind, value = _only(result)
    if kind == "as_tensors":
        return [_at(one, str, "name") for one in _list(value, dict)]
    return [_at(value, str, "as_name" if kind == "as_sym_int" else "name")]
