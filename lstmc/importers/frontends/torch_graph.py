"""Nets of PyTorch: programs of torch.export."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np

from lstmc.importers.frontends import torch_complex, torch_elements, torch_layers, torch_shape_ops
from lstmc.importers.frontends.torch_complex import Complex
from lstmc.importers.frontends.torch_elements import NotAvailable, Packed, Poison, Torch
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.values import Folding, OpenSize, ShapeProblem, Weight, domain_of
from lstmc.importers.refusal import Refusal, Refused, RefusedError
from lstmc.ops import Array


def decomposed(torch: Any, program: Any, supported: Collection[str]) -> Any:
    """Return the program with operators that are not ``supported`` decomposed by PyTorch, and with new results for
    operators that overwrite a tensor. A program of supported operators stays unchanged."""
    calls = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    if all(call in supported or not call.startswith("aten.") for call in calls):
        return program
    table = torch.export.default_decompositions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as during the export
        return program.run_decompositions({op: rule for op, rule in table.items() if str(op) not in supported})


_UNDEFINED = ("aten.empty", "aten.new_empty")  # the elements of these are undefined: zeros, by separate rules


class Constants:
    """The results of nodes that read no input: sizes and numbers, and weights made from stored tensors."""

    def __init__(self, torch: Any, tensors: Mapping[str, Any], stored: Mapping[str, str]) -> None:
        """Take the program's tensors by placeholder, and for stored ones the source's names."""
        self.torch, self.placeholders, self.stored = torch, tensors, stored
        self.tensors: dict[Any, Any] = {}  # results by node
        self.sources: dict[Any, tuple[str, ...]] = {}  # the stored tensors from which a node's result is made
        self.recipes: dict[Any, str] = {}  # the computation of a node as text
        self.folding = Folding(sum(tensor.numel() for tensor in tensors.values()))

    def take(self, node: Any) -> Any:
        """Return the constant that a node computes: a weight for a stored tensor, numbers for what depends on no input.
        Return None if it depends on an input, has several results, or is floats of stored tensors (:meth:`weight`)."""
        tensor = self._tensor(node)
        if tensor is None:
            return None
        self.tensors[node] = tensor
        of = [self.stored[node.name]] if node.name in self.stored else []
        of += [name for one in node.all_input_nodes for name in self.sources.get(one, ())]
        self.sources[node] = sources = tuple(dict.fromkeys(of))
        if node.name in self.stored:
            self.recipes[node] = sources[0]
            return _weight(sources[0], sources, tensor)
        if isinstance(tensor, tuple) or (sources and (tensor.is_floating_point() or tensor.is_complex())):
            return None
        return _parts(tensor, _numbers)

    def weight(self, node: Any) -> Any:
        """Return a node's result as a weight if it is computed from stored tensors and numbers alone; else None."""
        tensor, sources = self.tensors.get(node), self.sources.get(node)
        if not sources or not isinstance(tensor, self.torch.Tensor):
            return None
        self.recipes[node] = recipe = self._recipe(node)
        return _parts(tensor, lambda part: _weight(recipe, sources, part))

    def _recipe(self, node: Any) -> str:
        """Return the computation of a weight as text; equal texts mean equal weights."""

        def word(one: Any) -> str:
            if isinstance(one, list | tuple):
                return f"[{', '.join(map(word, one))}]"
            if not isinstance(one, self.torch.fx.Node):
                return str(one)
            if one not in self.recipes:
                self.recipes[one] = self._recipe(one) if isinstance(self.tensors[one], tuple) else self._text(one)
            return self.recipes[one]

        options = {key: one for key, one in node.kwargs.items() if key not in ("device", "layout", "pin_memory")}
        named = [f"{key}={word(one)}" for key, one in options.items()]
        function = node.target.__name__.partition(".")[0]
        return f"{function}({', '.join([*map(word, node.args), *named])})"

    def _text(self, node: Any) -> str:
        """Return a constant as text, shortened to a hash if it is long."""
        if isinstance(size := self.tensors[node], int):
            return str(size)
        array = _numbers(self.torch.view_as_real(size) if size.is_complex() else size)
        digest = sha256(array.tobytes()).hexdigest()[:8]
        return str(array.tolist()) if array.size < 5 else f"numbers {list(array.shape)} #{digest}"

    def add(self, node: Any, value: Any) -> None:
        """Record a result that depends only on shapes, so that later nodes can be computed from it."""
        like = node.meta["val"]
        tensor = value if isinstance(value, int) else self.torch.as_tensor(np.array(value), dtype=like.dtype)
        self.tensors[node] = tensor

    def _tensor(self, node: Any) -> Any:
        """Return the tensor that PyTorch computes for a node; None if it depends on an input, is random, or fails."""
        if node.op == "placeholder":
            return self.placeholders.get(node.name)
        if node.target is operator.getitem and isinstance(whole := self.tensors.get(node.args[0]), tuple):
            return whole[node.args[1]]
        random = self.torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random or not str(node.target).startswith("aten.") or str(node.target).startswith(_UNDEFINED):
            return None
        if not all(one in self.tensors for one in node.all_input_nodes):
            return None
        arguments, options = self.torch.fx.map_arg((node.args, node.kwargs), self.tensors.__getitem__)
        self.folding.take(self._elements(node.target, arguments, options))
        try:
            with self.torch.no_grad():
                result = node.target(*arguments, **options)
        except (RuntimeError, TypeError, ValueError, IndexError):  # the file is damaged: refused as an operator
            return None
        if isinstance(result, list | tuple) and all(isinstance(one, self.torch.Tensor) for one in result):
            return tuple(result)
        return result if isinstance(result, self.torch.Tensor) else None

    def _elements(self, target: Any, arguments: Any, options: dict[str, Any]) -> int:
        """Return the number of elements of a result, from the shapes alone; 0 if it depends on values."""
        device = {"device": "meta"} if any(one.name == "device" for one in target._schema.arguments) else {}
        moved = self.torch.utils._pytree.tree_map_only(self.torch.Tensor, lambda t: t.to("meta"), (arguments, options))
        try:
            return int(target(*moved[0], **{**moved[1], **device}).numel())
        except (RuntimeError, AttributeError, TypeError, ValueError, IndexError):
            return 0


HANDLERS = torch_elements.HANDLERS | torch_shape_ops.HANDLERS | torch_complex.HANDLERS | torch_layers.HANDLERS
HANDLERS |= torch_elements.ASSIGNED
_NAMES = ("N", "T", "L", "M")  # numbers of open sizes


def describe_program(torch: Any, program: Any, name: str) -> Net:
    """Return the net of an ``ExportedProgram`` or a stored program. Open sizes stay open, unless a layer needs their
    numbers: then a note names the layer. Raises :class:`RefusedError` with all reasons."""
    own = _tensors(program)[0]
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name not in own]
    inputs = [(node, _open_axes(torch, node)) for node in nodes]
    symbols = dict.fromkeys(symbol for _, axes in inputs for symbol in axes.values())
    names = {} if "" in symbols else dict(zip(symbols, _NAMES, strict=False))
    choices = [[*names], *([symbol] for symbol in names if len(names) > 1), []]  # sizes that stay open
    program, refused = decomposed(torch, program, HANDLERS), None
    for opened in choices if names else [[]]:
        try:
            net, sizes = _described(torch, program, name, inputs, {symbol: names[symbol] for symbol in opened})
        except RefusedError as error:
            refused = refused or error
            if not opened:
                raise
            continue
        closed = [f"{names.get(symbol, 'size')}={size}" for symbol, size in sizes.items() if symbol not in opened]
        if closed:
            first = refused and refused.refusals[0]
            why = f"{first.node} needs a number ({first.value})" if first else "they are computed from each other"
            net = replace(net, notes=(*net.notes, f"The example's {', '.join(closed)} is fixed: {why}."))
        kept = {names[symbol]: sizes[symbol] for symbol in opened}
        return replace(net, sizes={size: n for size, n in kept.items() if size in net.open_sizes()})
    raise AssertionError


def _tensors(program: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a program's tensors by placeholder, and the source's names of those that are stored, not in the code."""
    signature, tensors = program.graph_signature, {**program.state_dict, **program.constants}
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = getattr(signature, "inputs_to_lifted_tensor_constants", {})
    return {put: tensors[of] for put, of in {**stored, **lifted}.items()}, stored


def _open_axes(torch: Any, node: Any) -> dict[int, str]:
    """Return the name of each open size of an input, by axis; '' for a size computed from other sizes."""
    if "open" in node.meta:
        known: dict[int, str] = node.meta["open"]
        return known
    shape = getattr(node.meta["val"], "shape", ())
    sizes = {axis: str(size) for axis, size in enumerate(shape) if isinstance(size, torch.SymInt)}
    return {axis: text if text.isidentifier() else "" for axis, text in sizes.items()}


def _described(
    torch: Any, program: Any, name: str, inputs: Sequence[tuple[Any, Mapping[int, str]]], opened: Mapping[str, str]
) -> tuple[Net, dict[str, int]]:
    """Return the net, in which only the ``opened`` sizes are open, and the example's number for every open size."""
    builder = NetBuilder("net", name)
    reader, refusals, sizes = Torch(builder), list[Refusal](), dict[str, int]()
    tensors, stored = _tensors(program)
    constants, own = Constants(torch, tensors, stored), iter(inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in tensors:
            reader.values[node] = constants.take(node)
        elif node.op == "placeholder":
            given, axes = next(own)
            sizes |= {symbol: int(given.meta["val"].shape[axis]) for axis, symbol in axes.items()}
            reader.values[node] = value = _input(builder, reader, given, {a: opened.get(s) for a, s in axes.items()})
            if isinstance(value, int | float):
                constants.tensors[node] = value
        elif node.op == "call_function":
            refusal = _call(reader, constants, node)
            refusals += [replace(refusal, line=_line(node))] if refusal else []
    if refusals:
        raise RefusedError(name, refusals)
    return _with_outputs(builder, reader, program, name, stored), sizes


def _input(builder: NetBuilder, reader: Torch, node: Any, opened: Mapping[int, str | None]) -> Any:
    """Add an input of the net and return its value. For an argument that is no tensor, return the example's value."""
    value = node.meta["val"]
    if value is None or isinstance(value, bool | int | float | str) or not hasattr(value, "shape"):
        return value
    shape = [opened.get(axis) or int(size) for axis, size in enumerate(value.shape)]
    domain = domain_of(str(value.dtype).removeprefix("torch."))
    name = builder.input(node.name, shape or (1,), values=domain)
    reader.at(node.name, node.name)
    return name if shape else reader.reshape(name, ())


def _with_outputs(builder: NetBuilder, reader: Torch, program: Any, name: str, stored: Mapping[str, str]) -> Net:
    """Return the net with the program's results. Raises :class:`RefusedError` for one that is no plain value."""
    signature = program.graph_signature
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    pairs = zip(output.args[0], signature.output_specs, strict=True)
    results = [one for one, spec in pairs if one is not None and spec.kind.name == "USER_OUTPUT"]
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        builder.notes.append(
            f"The module overwrites {', '.join(changed)}: what they hold afterwards is no output, and the next call"
            " begins with what they hold now."
        )
    values = [(result, reader.values.get(result, result)) for result in results]
    unavailable = [(one, _NOT_AVAILABLE) for one, value in values if value is NotAvailable]
    unavailable += [(one, _PACKED) for one, value in values if isinstance(value, Packed)]
    unavailable += [(one, _COMPLEX) for one, value in values if isinstance(value, Complex)]
    if unavailable:
        raise RefusedError(name, [refused.at(str(one), _line(one)) for one, refused in unavailable])
    for number, (_, value) in enumerate(values):
        joined = np.asarray(value, float) if isinstance(value, bool | int | float) else reader.joined(value)
        name = "Y" if len(results) == 1 else f"Y_{number}"
        builder.outputs[name] = reader.result(joined, "output")
    return builder.finish(stored=stored.values(), why="the program computes nothing from it")


_FRAME = re.compile(r'^ *File "(.{1,1000})", line (\d{1,9}), in ', re.MULTILINE)
_LAYERS = ("/torch/nn/", "/lstmc/importers/")  # files of PyTorch's layers, not of the model
_PACKED = Refused("data", "of a packed sequence", "it is only read row by row", "pad it before, by pad_packed_sequence")
_COMPLEX = Refused("output", "complex", "outputs are real numbers", "return torch.view_as_real of it")
_NOT_AVAILABLE = Refused(
    "result", "not the first", "only the first result is supported", "return the values, or leave it out"
)


def _weight(recipe: str, sources: tuple[str, ...], tensor: Any) -> Weight:
    return Weight(tuple(tensor.shape), sources, recipe, lambda: _numbers(tensor))


def _parts(tensor: Any, part: Callable[[Any], Any]) -> Any:
    """Apply ``part`` to a tensor, or to the real and the imaginary part of a complex tensor."""
    return Complex(part(tensor.real), part(tensor.imag)) if tensor.is_complex() else part(tensor)


def _numbers(tensor: Any) -> Array:
    """Return the elements of a tensor; bfloat16, which NumPy lacks, as float32."""
    own = tensor.detach().cpu()
    array: Array = np.array((own.float() if str(own.dtype) == "torch.bfloat16" else own).numpy())
    return array


def _call(reader: Torch, constants: Constants, node: Any) -> Refusal | None:
    """Translate a node and return None, or return its refusal. The result of a refused node is Poison."""
    target = str(node.target) if not callable(node.target) or hasattr(node.target, "_schema") else node.target.__name__
    label = f"{node.name} ({_module_path(node) or target})"
    if any(reader.values.get(one) is Poison for one in node.all_input_nodes):
        reader.values[node] = Poison  # an operand was refused already
        return None
    reader.values[node] = Poison
    try:
        known = constants.take(node)
    except ShapeProblem as problem:
        return Refusal(label, target, str(problem), "it is too large a constant", "make it smaller")
    if known is not None:
        reader.values[node] = known
        return None
    if hasattr(node.target, "_schema") and not node.target._schema.returns:
        return None  # an assertion
    reader.at(node.name, f"{node.name} ({_module_path(node) or _line(node) or target})")
    reader.node = node
    try:
        reader.values[node] = result = _result(reader, node, target)
    except (ShapeProblem, Refused) as problem:
        if (weight := constants.weight(node)) is not None:
            reader.values[node] = weight
            return None
        if isinstance(problem, Refused):
            return problem.at(label)
        return Refusal(label, target, str(problem), "shapes do not fit", "rewrite this part of the model")
    if isinstance(result, str) and node in constants.sources:  # a later node may need it as a weight
        reader.folded[result] = partial(constants.weight, node)
    elif isinstance(result, np.ndarray | int) and not isinstance(result, OpenSize):
        constants.add(node, result)
    return None


def _result(reader: Torch, node: Any, target: str) -> Any:
    """Return the value of a node by its handler. Raises :class:`Refused` or :class:`ShapeProblem`."""
    whole = target not in torch_elements.ASSIGNED
    arguments, options = (reader.resolved(given, whole) for given in _arguments(node))
    if target.startswith("aten.sym_size."):
        return reader.shape(arguments[0])[arguments[1]]
    if not hasattr(node.target, "_schema") and node.target is not operator.getitem:
        return node.target(*arguments)  # arithmetic of sizes
    handler = HANDLERS.get(target)
    if handler is None:
        raise Refused("operator", target, "it is not supported", "write the model without it")
    values = [reader.values.get(one) for one in node.all_input_nodes]
    if any(value is NotAvailable for value in values):
        raise _NOT_AVAILABLE
    if target != "getitem" and torch_complex.is_complex(arguments, options, values):
        return torch_complex.of_complex(reader, target, handler, arguments, options)
    packed = any(isinstance(value, Packed) for value in values)
    rows = packed and target in torch_elements.OF_ROWS
    if packed and not rows and target not in torch_layers.OF_PACKED:
        raise _PACKED
    result = handler(reader, *(one.x if rows and isinstance(one, Packed) else one for one in arguments), **options)
    return Packed(result) if rows else result


def _arguments(node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return a node's arguments by position and by keyword, a missing one as the operator's default."""
    if not hasattr(node.target, "_schema"):
        return [*node.args], {}
    by_place, by_name, defined = list[Any](), dict[str, Any](), node.target._schema.arguments
    given = {**dict(zip((one.name for one in defined), node.args, strict=False)), **node.kwargs}
    for one in defined:
        value = given.get(one.name, one.default_value)
        if isinstance(value, int) and "List[" in str(one.type):  # PyTorch accepts one number as a list
            value = [value]
        if one.kwarg_only:
            by_name[one.name] = value
        else:
            by_place.append(value)
    return by_place, by_name


def _module_path(node: Any) -> str:
    """Return the path of the module that a node belongs to; empty if it is not known."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((path for path, _ in reversed(list(stack.values())) if path), "")


def _line(node: Any) -> str:
    """Return the line of the model's own code that a node comes from, as ``FILE:LINE``; empty if it is not known."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(path, line) for path, line in frames if not any(one in path.replace("\\", "/") for one in _LAYERS)]
    return f"{own[-1][0].replace(chr(92), '/').rpartition('/')[2]}:{own[-1][1]}" if own else ""
