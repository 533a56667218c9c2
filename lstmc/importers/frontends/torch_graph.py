"""Nets of PyTorch: programs of torch.export, and the recurrent layers of a state dict."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from lstmc.errors import Argument
from lstmc.importers.frontends import torch_elements, torch_layers, torch_shape_ops
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.torch_elements import NotAvailable, Packed, Poison, Torch
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.recur import Cell, Kind
from lstmc.importers.ir.values import Folding, ShapeProblem, Weight
from lstmc.importers.read.torch_file import TORCHSCRIPT
from lstmc.importers.refusal import Refusal, Refused, RefusedError
from lstmc.importers.sources import Source, StoredTensor
from lstmc.ops import Array, Concat, Op, Relu, Tanh

Nonlinearity = Literal["tanh", "relu"]
_NAME = re.compile(
    r"(?:(?P<owner>.*)\.)?(?P<role>weight|bias)_(?P<part>ih|hh|hr)(?:_l(?P<layer>\d+)(?P<back>_reverse)?)?"
)
_KINDS: dict[int, Kind] = {4: "lstm", 3: "gru", 1: "rnn"}
_IGNORED = "only the recurrent layers are imported"
SAVE_PROGRAM = (
    'save the program instead, torch.export.save(torch.export.export(module.eval(), (example,)), "model.pt2"), or give'
    " the module to lstmc.from_torch"
)
ALONE = Argument("recurrent_only", "True")  # what a person says for the recurrent layers alone


@dataclass
class Group:
    """The tensors of one torch.nn.LSTM, GRU, RNN, or of one cell: by (layer, backwards), then by what they are.

    ``title`` is the last part of its ``owner``, or all of that where several groups would be called so.
    """

    owner: str
    title: str = ""
    tensors: dict[tuple[int, bool], dict[str, StoredTensor]] = field(default_factory=dict)

    @property
    def kind(self) -> Kind | None:
        """The kind of the cell, by the first layer's sizes; None for sizes of no cell."""
        shapes = {name: tensor.shape for name, tensor in self.tensors[0, False].items()}
        rows, size = shapes["weight_hh"]
        units = shapes["weight_hr"][1] if len(shapes.get("weight_hr", ())) == 2 else size
        return _KINDS.get(rows // units if units and rows % units == 0 else 0)


def describe_state_dict(
    source: Source,
    hints: Mapping[str, Mapping[str, Any]],
    rnn: Nonlinearity | None = None,
    recurrent_only: bool = False,
) -> Net:
    """Return a model with an input and outputs for each recurrent layer that the tensors' names imply, time first.

    ``rnn`` is the function of plain RNNs that nothing else tells; ``recurrent_only`` leaves out all other tensors, and
    what a module or program computes around the recurrent layers. Raises :class:`RefusedError`.
    """
    groups, rest = groups_of(source)
    if not recurrent_only:
        _check_whole(source, hints, groups, rest)
    if not groups:
        names = [*source.tensors]
        raise RefusedError(
            source.origin,
            [
                Refusal(
                    source.origin, "", f"tensors {', '.join(names[:3])}{', ...' * (len(names) > 3)}",
                    "no name is one that torch.nn.LSTM, GRU, RNN or their cells give, as weight_ih_l0 and weight_hh_l0",
                    "give the module itself to lstmc.from_torch",
                )
            ],
        )  # fmt: skip
    builder, refusals = NetBuilder("net", source.origin), []
    for group in groups:
        try:
            _layer(builder, group, hints.get(group.owner, {}), rnn, many=len(groups) > 1)
        except Refused as refused:
            refusals.append(refused.at(group.owner or "the recurrent layer"))
    if refusals:
        raise RefusedError(source.origin, refusals)
    builder.ignored = dict.fromkeys(rest, _IGNORED)
    if len(groups) > 1:
        builder.notes.append("A state dict does not record how its layers are connected: each has an input of its own.")
    if rest:
        builder.notes.append(f"Not used, as only the recurrent layers are imported: {', '.join(rest)}.")
    return builder.finish()


def _check_whole(
    source: Source, hints: Mapping[str, Mapping[str, Any]], groups: Sequence[Group], rest: Sequence[str]
) -> None:
    """Raise :class:`RefusedError` if the file has more than the recurrent layers that its tensors' names imply."""
    mend = f"{SAVE_PROGRAM}; {ALONE} imports the recurrent layers alone"
    refusals = []
    root = str(hints.get("", {}).get("class", ""))
    if source.kind == TORCHSCRIPT:
        value, why = "a TorchScript program", "its computation is known only by running its code"
        refusals = [Refusal(source.origin, "", value, why, mend)]
    elif groups and root and not root.startswith("torch.nn.modules.rnn."):
        value, why = f"a module of class {root}", "its computation is known only by running its code"
        refusals = [Refusal(source.origin, "", value, why, mend)]
    elif groups and rest:
        some = ", ".join(rest[:6]) + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")
        why = "a state dict does not record what these tensors are for, nor in which order they are used"
        refusals = [Refusal(source.origin, "", some, why, mend)]
    if refusals:
        raise RefusedError(source.origin, refusals, [ALONE])


def groups_of(source: Source) -> tuple[list[Group], list[str]]:
    """Return the groups of recurrent layers' tensors, and the names of all other tensors."""
    groups: dict[str, Group] = {}
    rest = []
    for name, tensor in source.tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            rest.append(name)
            continue
        group = groups.setdefault(match["owner"] or "", Group(match["owner"] or ""))
        place = (int(match["layer"] or 0), match["back"] is not None)
        group.tensors.setdefault(place, {})[f"{match['role']}_{match['part']}"] = tensor
    whole = [g for g in groups.values() if any({"weight_ih", "weight_hh"} <= set(t) for t in g.tensors.values())]
    for group in groups.values():
        if group not in whole:
            rest += [tensor.name for tensors in group.tensors.values() for tensor in tensors.values()]
    last = [group.owner.rpartition(".")[2] or "layer" for group in whole]
    for group, title in zip(whole, last, strict=True):
        group.title = title if last.count(title) == 1 else group.owner.replace(".", "_") or title
    return whole, rest


def _layer(builder: NetBuilder, group: Group, hint: Mapping[str, Any], rnn: Nonlinearity | None, many: bool) -> None:
    title, layers = group.title, Layers(builder)
    layers.at(title, group.owner or "the recurrent layer")
    numbers = sorted({layer for layer, _ in group.tensors})
    both = any(back for _, back in group.tensors)
    expected = [(layer, back) for layer in range(len(numbers)) for back in ((False, True) if both else (False,))]
    if sorted(group.tensors) != expected:
        raise Refused("layers", str(sorted(group.tensors)), "some are missing", "save the whole module")
    first = group.tensors[0, False]["weight_ih"]
    y = builder.input(f"{title}_X" if many else "X", ("T", "N", first.shape[1] if len(first.shape) == 2 else 1))
    last: dict[str, list[str]] = {}
    for layer in numbers:
        outputs = []
        for back in (False, True) if both else (False,):
            tensors = group.tensors[layer, back]
            cell = _cell(group, tensors, hint, rnn)
            weights = {name: tensor.weight() for name, tensor in tensors.items()}
            more = {"W_p": weights["weight_hr"]} if cell.projection else {}
            parts = [weights.get(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            name = f"{title}_l{layer}{'_reverse' if back else ''}" if len(expected) > 1 else title
            output, *states = layers.recur("torch", cell, y, parts, {}, name, more, reverse=back)
            outputs.append(output)
            for state, value in zip(cell.states, states, strict=True):
                last.setdefault(state, []).append(value)
        y = outputs[0]
        if both:
            y = builder.one(Concat(2), *outputs, hint=f"{title}_y{layer}", origin=group.owner)
    prefix = f"{title}_" if many else ""
    builder.outputs[f"{prefix}Y"] = y
    for state, values in last.items():
        for number, value in enumerate(values):
            suffix = f"_{number}" if len(values) > 1 else ""
            builder.outputs[f"{prefix}{state}_T{suffix}"] = value


def _cell(group: Group, tensors: Mapping[str, StoredTensor], hint: Mapping[str, Any], rnn: Nonlinearity | None) -> Cell:
    """Return the cell of one layer and direction, after checking every shape."""
    bias = "bias_ih" in tensors
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if len(shapes.get("weight_hh", ())) != 2 or len(shapes.get("weight_ih", ())) != 2:
        raise Refused("shapes", str(shapes), "weight_ih and weight_hh must be matrices", "save the whole module")
    rows, size = shapes["weight_hh"]
    units = shapes["weight_hr"][1] if len(shapes.get("weight_hr", ())) == 2 else size
    kind = _KINDS.get(rows // units if units and rows % units == 0 else 0)
    expected = {
        "weight_ih": (rows, shapes["weight_ih"][1]),
        "weight_hh": (rows, size),
        **({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}),
        **({"weight_hr": (size, units)} if "weight_hr" in shapes else {}),
    }
    if kind is None or shapes != expected or ("weight_hr" in shapes and kind != "lstm"):
        raise Refused(
            "shapes", ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()),
            "these are not the sizes of 4 gates (LSTM), 3 (GRU) or 1 (RNN)", "save the whole module's state dict",
        )  # fmt: skip
    new: Op = Tanh()
    if kind == "rnn":
        mode = str(hint.get("mode", hint.get("nonlinearity", "")))
        function = "relu" if "relu" in mode.lower() else "tanh" if "tanh" in mode.lower() else rnn
        if function is None:
            raise Refused(
                "nonlinearity", "unknown",
                "a state dict does not record whether a plain RNN uses tanh or relu",
                "give it by activation: tanh or relu",
            )  # fmt: skip
        new = Relu() if function == "relu" else Tanh()
    return Cell(kind, new=new, bias=bias, reset_after=kind == "gru", projection="weight_hr" in shapes)


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
        self.folding = Folding(sum(tensor.numel() for tensor in self.placeholders.values()))

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
        self.folding.take(self._elements(node.target, arguments, options))
        try:
            with self.torch.no_grad():
                result = node.target(*arguments, **options)
        except (RuntimeError, TypeError, ValueError, IndexError):  # of a damaged file: refused as an operator
            return None
        return result if isinstance(result, self.torch.Tensor) else None

    def _elements(self, target: Any, arguments: Any, options: dict[str, Any]) -> int:
        """Return the number of elements of a result, from the shapes alone; 0 where it depends on values."""
        device = {"device": "meta"} if any(one.name == "device" for one in target._schema.arguments) else {}
        moved = self.torch.utils._pytree.tree_map_only(
            self.torch.Tensor, lambda tensor: tensor.to("meta"), (arguments, options)
        )
        try:
            return int(target(*moved[0], **{**moved[1], **device}).numel())
        except (RuntimeError, AttributeError, TypeError, ValueError, IndexError):
            return 0

    def _of_buffers(self, node: Any) -> bool:
        return node.name in self.buffers or any(self._of_buffers(one) for one in node.all_input_nodes)


HANDLERS: Mapping[str, Callable[..., Any]] = {
    **torch_elements.HANDLERS,
    **torch_shape_ops.HANDLERS,
    **torch_layers.HANDLERS,
    **torch_elements.ASSIGNED,
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
    values = [(result, reader.values[result]) for result in results]
    unavailable = [(one, _NOT_AVAILABLE) for one, value in values if value is NotAvailable]
    unavailable += [(one, _PACKED) for one, value in values if isinstance(value, Packed)]
    if unavailable:
        raise RefusedError(name, [refused.at(str(one), _line(one)) for one, refused in unavailable])
    for number, result in enumerate(results):
        value = reader.layers.result(reader.joined(reader.values[result]), "output")
        builder.outputs["Y" if len(results) == 1 else f"Y_{number}"] = value
    net = builder.finish()
    used = {source for weight in net.params.values() for source in weight.sources}
    unused = {name: "the program computes nothing from it" for name in stored.values() if name not in used}
    net.ignored.update(unused)
    return net


_FRAME = re.compile(r'^ *File "(.{1,1000})", line (\d{1,9}), in ', re.MULTILINE)
_LAYERS = ("/torch/nn/", "/lstmc/importers/")  # files of layers, not of the model
_LOAD = (
    "PyTorch may be able to write it in known operators: save torch.export.export(...).run_decompositions(), or, if you"
    " trust the file, give torch.export.load(PATH) to lstmc.from_torch, which keeps recurrent layers"
)
_PACKED = Refused("data", "of a packed sequence", "it is only read row by row", "pad it before, by pad_packed_sequence")
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
    reader.values[node] = Poison
    try:
        numbers = constants.take(node)
    except ShapeProblem as problem:
        return Refusal(label, target, str(problem), "it is too large a constant", "make it smaller")
    if numbers is not None:
        reader.values[node] = numbers
        return None
    if hasattr(node.target, "_schema") and not node.target._schema.returns:
        return None  # an assertion
    if handler is None:
        mend = _LOAD if node.target in decomposable else "write the model without it"
        return Refusal(label, "operator", target, "it is not supported", mend)
    reader.layers.at(node.name, f"{node.name} ({_place(node) or _line(node) or target})")
    arguments, options = map(reader.resolved, _arguments(node))
    if target not in torch_elements.ASSIGNED:
        arguments, options = reader.joined(arguments), reader.joined(options)
    try:
        if any(reader.values.get(one) is NotAvailable for one in node.all_input_nodes):
            raise _NOT_AVAILABLE
        packed = any(isinstance(reader.values.get(one), Packed) for one in node.all_input_nodes)
        rows = packed and target in torch_elements.OF_ROWS
        if packed and not rows and target not in torch_layers.OF_PACKED:
            raise _PACKED
        arguments = [one.x if rows and isinstance(one, Packed) else one for one in arguments]
        result = handler(reader, *arguments, **options)
        reader.values[node] = result = Packed(result) if rows else result
        if isinstance(result, np.ndarray):
            constants.add(node, result)
    except ShapeProblem as problem:
        return Refusal(label, target, str(problem), "shapes do not fit", "rewrite this part of the model")
    except Refused as refused:
        return refused.at(label)
    return None


def _arguments(node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a node by position, and those by name alone; left out ones are as its operator says."""
    if not hasattr(node.target, "_schema"):
        return [*node.args], {}
    by_place, by_name, defined = list[Any](), dict[str, Any](), node.target._schema.arguments
    given = {**dict(zip((one.name for one in defined), node.args, strict=False)), **node.kwargs}
    for one in defined:
        value = given.get(one.name, one.default_value)
        if isinstance(value, int) and "List[" in str(one.type):  # to PyTorch one number is a list too
            value = [value]
        if one.kwarg_only:
            by_name[one.name] = value
        else:
            by_place.append(value)
    return by_place, by_name


def _place(node: Any) -> str:
    """Return the path of the module that a node belongs to."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((path for path, _ in reversed(list(stack.values())) if path), "")


def _line(node: Any) -> str:
    """Return the line of the model's own code that a node comes from, as ``FILE:LINE``."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [(path, line) for path, line in frames if not any(one in path.replace("\\", "/") for one in _LAYERS)]
    return f"{own[-1][0].replace(chr(92), '/').rpartition('/')[2]}:{own[-1][1]}" if own else ""
