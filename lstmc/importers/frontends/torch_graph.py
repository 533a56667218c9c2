"""Programs of torch.export: a graph of PyTorch's own operators, with every parameter's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lstmc.importers.describe.net import Net, NetBuilder
from lstmc.importers.describe.shapes import ShapeProblem
from lstmc.importers.frontends import torch_elements, torch_layers, torch_moves
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.frontends.torch_values import Torch, Unsupported, Untold
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.importers.weight import Weight

HANDLERS: Mapping[str, Callable[..., Any]] = {
    **torch_elements.HANDLERS,
    **torch_moves.HANDLERS,
    **torch_layers.HANDLERS,
}


def describe_program(program: Any, name: str) -> Net:
    """A ``torch.export.ExportedProgram`` as a description. Raises :class:`RefusedError` with all that is not known."""
    builder = NetBuilder("net", name)
    reader = Torch(Layers(builder))
    refusals: list[Refusal] = []
    signature = program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    written = getattr(signature, "inputs_to_lifted_tensor_constants", {})  # by the model's code, not trained
    held = {**stored, **written}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            reader.values[node] = (
                _weight(held[node.name], tensors[held[node.name]])
                if node.name in held
                else builder.input(node.name, tuple(int(size) for size in node.meta["val"].shape))
            )
        elif node.op == "call_function":
            _call(reader, node, refusals)
    if refusals:
        raise RefusedError(name, refusals)
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    results = [one for one in output.args[0] if one is not None]
    untold = [str(result) for result in results if reader.values[result] is Untold]
    if untold:
        refused = [Refusal(one, _UNTOLD.attribute, _UNTOLD.value, _UNTOLD.why, _UNTOLD.mend) for one in untold]
        raise RefusedError(name, refused)
    for number, result in enumerate(results):
        value = reader.layers.value(reader.values[result], "output")
        builder.outputs["Y" if len(results) == 1 else f"Y_{number}"] = value
    net = builder.finish()
    used = {source for weight in net.params.values() for source in weight.sources}
    unused = {name: "the program computes nothing from it" for name in stored.values() if name not in used}
    net.ignored.update(unused)
    return net


_UNTOLD = Refused(
    "result", "another than the first", "it tells places, or is for training", "give back the scores, or leave it out"
)


def _weight(name: str, tensor: Any) -> Weight:
    return Weight(tuple(tensor.shape), (name,), name, lambda: tensor.detach().cpu().numpy())


def _call(reader: Torch, node: Any, refusals: list[Refusal]) -> None:
    target = str(node.target) if not callable(node.target) or hasattr(node.target, "_schema") else node.target.__name__
    label = f"{node.name} ({_place(node) or target})"
    handler = HANDLERS.get(target)
    if any(reader.values.get(one) is Unsupported for one in node.all_input_nodes):
        reader.values[node] = Unsupported  # what it is made of was refused already
        return
    reader.values[node] = Unsupported
    if handler is None:
        refusals.append(Refusal(label, "operator", target, "it has no counterpart here", "write the model without it"))
        return
    reader.layers.at(node.name, label)
    arguments, options = reader.resolved(node.args), reader.resolved(node.kwargs)
    try:
        if any(reader.values.get(one) is Untold for one in node.all_input_nodes):
            raise _UNTOLD
        reader.values[node] = handler(reader, *arguments, **options)
    except ShapeProblem as problem:
        refusals.append(Refusal(label, target, str(problem), "shapes do not fit", "write the model otherwise there"))
    except Refused as refused:
        refusals.append(Refusal(label, refused.attribute, refused.value, refused.why, refused.mend))


def _place(node: Any) -> str:
    """The module that a node is in, as a person wrote it."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((path for path, _ in reversed(list(stack.values())) if path), "")
