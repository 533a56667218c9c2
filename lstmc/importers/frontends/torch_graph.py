"""Programs of torch.export: exported, with constants folded by PyTorch, and translated into the import IR."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import replace
from traceback import walk_tb
from typing import Any

import numpy as np

from lstmc.importers.frontends import torch_elements, torch_layers, torch_shape_ops, torch_values
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.torch_values import NotAvailable, Poison, Torch
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.sizes import ShapeProblem
from lstmc.importers.refusal import Refusal, Refused, RefusedError, SourceError
from lstmc.importers.weight import Weight
from lstmc.ops import Array


def exported(torch: Any, module: Any, examples: Sequence[Any], name: str) -> Any:
    """Return the exported program of a module in evaluation mode, for example arguments.

    Raises :class:`RefusedError` for packed sequences, which PyTorch does not export, and :class:`SourceError` for
    whatever else stops it.
    """
    training = module.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch's own recurrent layers do while they are exported
            return torch.export.export(module.eval(), tuple(examples))
    except Exception as error:  # of any class: it is raised by the module's own code too
        local_values = [value for frame, _ in walk_tb(error.__traceback__) for value in frame.f_locals.values()]
        if any(isinstance(value, torch.nn.utils.rnn.PackedSequence) for value in local_values):
            mend = (
                "give the layer the padded sequences, and in the written model write scan(..., lengths=L), which keeps"
                " states and gives zeros past each sequence's end"
            )
            refusal = Refusal(
                "pack_padded_sequence", "", "a packed sequence", "PyTorch exports no module that makes one", mend
            )
            raise RefusedError(name, [refusal]) from error
        lines = str(error).strip().splitlines() or [""]
        raise SourceError(
            f"{name}: torch.export cannot take it on these arguments: {type(error).__name__}: {lines[0][:300]}",
            notes=["call the module on them first; replace branches on their values by one branch"],
        ) from error
    finally:
        module.train(training)


def decomposed(torch: Any, program: Any, supported: Collection[str]) -> Any:
    """Return the program with operators that are not in ``supported`` decomposed by PyTorch.

    What overwrites a tensor in place becomes what makes a new one. A program of known operators alone is left as it is.
    """
    calls = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    if all(call in supported or not call.startswith("aten.") for call in calls):
        return program
    table = torch.export.default_decompositions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as while it is exported
        return program.run_decompositions(
            {op: decomposition for op, decomposition in table.items() if str(op) not in supported}
        )


_UNDEFINED = ("aten.empty", "aten.new_empty")  # what these hold is not defined: zeros, by their own rules


class Constants:
    """The arrays of nodes that depend on no input and on no parameter."""

    def __init__(self, torch: Any, buffers: Mapping[str, Any], lifted: Mapping[str, Any]) -> None:
        """Buffers, and the tensors that the model's code has written, by the names of their nodes."""
        self.torch = torch
        self.buffers, self.placeholders = set(buffers), {**buffers, **lifted}
        self.tensors: dict[Any, Any] = {}

    def take(self, node: Any) -> Array | int | None:
        """Return a node's constant result; None if it depends on an input, or is a stored weight.

        Of buffers alone only what tells places or is a mask is numbers: the others stay weights with names. A size, of
        a program with open ones, is that of its example.
        """
        size = node.meta.get("val")
        if isinstance(size, int | self.torch.SymInt):
            self.tensors[node] = int(size)
            return int(size)
        tensor = self._tensor(node)
        if tensor is None:
            return None
        self.tensors[node] = tensor
        if node.name in self.buffers or (tensor.is_floating_point() and self._of_buffers(node)):
            return None
        array: Array = np.array(tensor.detach().cpu().numpy())
        return array

    def add(self, node: Any, array: Array) -> None:
        """Record the result of a node that depends only on the shapes of its operands."""
        self.tensors[node] = self.torch.as_tensor(np.array(array), dtype=node.meta["val"].dtype)

    def _tensor(self, node: Any) -> Any:
        if node.op == "placeholder":
            return self.placeholders.get(node.name)
        random = self.torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random or not str(node.target).startswith("aten.") or str(node.target).startswith(_UNDEFINED):
            return None
        if not all(one in self.tensors for one in node.all_input_nodes):
            return None
        arguments, options = self.torch.fx.map_arg((node.args, node.kwargs), self.tensors.__getitem__)
        try:
            with self.torch.no_grad():
                result = node.target(*arguments, **options)
        except (RuntimeError, TypeError, ValueError, IndexError):  # of a damaged file: refused as an operator
            return None
        return result if isinstance(result, self.torch.Tensor) else None

    def _of_buffers(self, node: Any) -> bool:
        return node.name in self.buffers or any(self._of_buffers(one) for one in node.all_input_nodes)


HANDLERS: Mapping[str, Callable[..., Any]] = {
    **torch_elements.HANDLERS,
    **torch_shape_ops.HANDLERS,
    **torch_layers.HANDLERS,
    **torch_values.HANDLERS,
}


def describe_program(torch: Any, program: Any, name: str) -> Net:
    """Return the net of an ``ExportedProgram``. Raises :class:`RefusedError` with all reasons."""
    program = decomposed(torch, program, HANDLERS)
    read = not isinstance(program, torch.export.ExportedProgram)  # from a file: PyTorch has not decomposed it
    decomposable = torch.export.default_decompositions() if read else ()
    builder = NetBuilder("net", name)
    reader = Torch(Layers(builder))
    refusals: list[Refusal] = []
    signature = program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = getattr(signature, "inputs_to_lifted_tensor_constants", {})  # by the model's code, not trained
    constants = Constants(
        torch,
        buffers={put: tensors[of] for put, of in signature.inputs_to_buffers.items()},
        lifted={put: tensors[of] for put, of in lifted.items()},
    )
    for node in program.graph.nodes:
        if node.op == "placeholder":
            reader.values[node] = _placeholder(builder, constants, node, stored, tensors)
        elif node.op == "call_function":
            refusal = _call(reader, constants, node, decomposable)
            refusals += [replace(refusal, line=_line(node))] if refusal else []
    if refusals:
        raise RefusedError(name, refusals)
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    pairs = zip(output.args[0], signature.output_specs, strict=True)
    results = [one for one, spec in pairs if one is not None and spec.kind.name == "USER_OUTPUT"]
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        builder.notes.append(
            f"The module overwrites {', '.join(changed)}: what they hold afterwards is no output, and the next call"
            " begins with what they hold now."
        )
    unavailable = [result for result in results if reader.values[result] is NotAvailable]
    if unavailable:
        raise RefusedError(name, [_NOT_AVAILABLE.at(str(one), _line(one)) for one in unavailable])
    for number, result in enumerate(results):
        value = reader.layers.result(reader.joined(reader.values[result]), "output")
        builder.outputs["Y" if len(results) == 1 else f"Y_{number}"] = value
    net = builder.finish()
    used = {source for weight in net.params.values() for source in weight.sources}
    unused = {name: "the program computes nothing from it" for name in stored.values() if name not in used}
    net.ignored.update(unused)
    return net


_FRAME = re.compile(r'^ *File "(.{1,1000})", line (\d{1,9}), in ', re.MULTILINE)
_MODULES = "/torch/nn/modules/"
_LOAD = (
    "PyTorch may be able to write it in known operators: save torch.export.export(...).run_decompositions(), or, if you"
    " trust the file, give torch.export.load(PATH) to lstmc.from_torch, which keeps recurrent layers"
)
_NOT_AVAILABLE = Refused(
    "result", "not the first", "only the first result is supported", "return the values, or leave it out"
)


def _placeholder(
    builder: NetBuilder, constants: Constants, node: Any, stored: Mapping[str, str], tensors: Mapping[str, Any]
) -> Any:
    """Return the value of a placeholder: a constant, a parameter or buffer, or an input."""
    if (numbers := constants.take(node)) is not None:
        return numbers
    if node.name in stored:
        return _weight(stored[node.name], tensors[stored[node.name]])
    return builder.input(node.name, tuple(int(size) for size in node.meta["val"].shape))


def _weight(name: str, tensor: Any) -> Weight:
    return Weight(tuple(tensor.shape), (name,), name, lambda: tensor.detach().cpu().numpy())


def _call(reader: Torch, constants: Constants, node: Any, decomposable: Container[Any]) -> Refusal | None:
    """Translate a node, or return its refusal."""
    target = str(node.target) if not callable(node.target) or hasattr(node.target, "_schema") else node.target.__name__
    label = f"{node.name} ({_place(node) or target})"
    handler = HANDLERS.get(target)
    if any(reader.values.get(one) is Poison for one in node.all_input_nodes):
        reader.values[node] = Poison  # what it is made of was refused already
        return None
    if (numbers := constants.take(node)) is not None:
        reader.values[node] = numbers
        return None
    reader.values[node] = Poison
    if hasattr(node.target, "_schema") and not node.target._schema.returns:
        return None  # an assertion
    if handler is None:
        mend = _LOAD if node.target in decomposable else "write the model without it"
        return Refusal(label, "operator", target, "it is not supported", mend)
    reader.layers.at(node.name, f"{node.name} ({_place(node) or _line(node) or target})")
    arguments, options = reader.resolved(node.args), reader.resolved(node.kwargs)
    if target not in torch_values.HANDLERS:
        arguments, options = reader.joined(arguments), reader.joined(options)
    try:
        if any(reader.values.get(one) is NotAvailable for one in node.all_input_nodes):
            raise _NOT_AVAILABLE
        reader.values[node] = result = handler(reader, *arguments, **options)
        if isinstance(result, np.ndarray):
            constants.add(node, result)
    except ShapeProblem as problem:
        return Refusal(label, target, str(problem), "shapes do not fit", "rewrite this part of the model")
    except Refused as refused:
        return refused.at(label)
    return None


def _place(node: Any) -> str:
    """Return the path of the module that a node belongs to."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((path for path, _ in reversed(list(stack.values())) if path), "")


def _line(node: Any) -> str:
    """Return the line of the model's own code that a node comes from, as ``FILE:LINE``."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(path, line) for path, line in frames if _MODULES not in path.replace("\\", "/")]
    return f"{own[-1][0].replace(chr(92), '/').rpartition('/')[2]}:{own[-1][1]}" if own else ""
