"""PyTorch, for programs of torch.export, and for state dicts of layers of torch.nn."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmc.importers.frontends.torch_names import Group
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.recur import Recur
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtimes.installed import not_installed
from lstmc.ops import Array, Relu


class TorchProgram:
    """Runs a ``torch.export.ExportedProgram``."""

    name = "PyTorch"

    def __init__(self, program: Any, net: Net) -> None:
        self.program, self.net = program, net

    def unavailable(self) -> str | None:
        """Return None: there is a live module."""
        return None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of the program's module."""
        torch = importlib.import_module("torch")
        arrays = {self.net.called[name]: array for name, array in inputs.items()}
        fed = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in self.program.graph_signature.user_inputs:
                like = node.meta["val"]
                array = arrays.get(node.name, np.zeros(tuple(like.shape)))  # one not given is not read
                fed.append(torch.from_numpy(np.array(array)).to(like.dtype))
        with torch.no_grad():
            results = _tensors(self.program.module()(*fed))
        return {name: result.numpy() for name, result in zip(self.net.outputs, results, strict=True)}


def _tensors(result: Any) -> list[Any]:
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [tensor for one in result for tensor in _tensors(one)]
    return [] if result is None else [result]


class TorchLayers:
    """Runs ``torch.nn.LSTM``, ``GRU`` and ``RNN`` with the tensors of a state dict."""

    name = "PyTorch's own layers"

    def __init__(self, groups: Sequence[Group], net: Net) -> None:
        self.groups, self.called = groups, net.called
        self.relu = any(isinstance(step.op, Recur) and step.op.cell.new == Relu() for step in net.steps)

    def unavailable(self) -> str | None:
        """Return the reason why it cannot run here, or None."""
        return not_installed("torch")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of each group of tensors, run as one layer."""
        torch = importlib.import_module("torch")
        outputs: dict[str, Array] = {}
        arrays = {self.called[name]: array for name, array in inputs.items()}
        many = len(self.groups) > 1
        for group in self.groups:
            layer = getattr(torch.nn, str(group.kind).upper())(**self._options(group))
            state = {
                f"{role}_l{number}{'_reverse' if back else ''}": torch.from_numpy(np.array(tensor.read(), np.float32))
                for (number, back), tensors in group.tensors.items()
                for role, tensor in tensors.items()
            }
            try:
                layer.load_state_dict(state)
            except RuntimeError as error:
                raise SourceError(f"PyTorch does not take these tensors: {str(error).splitlines()[0]}") from None
            prefix = f"{group.title}_" if many else ""
            x = torch.from_numpy(np.asarray(arrays[f"{prefix}X"], np.float32))
            with torch.no_grad():
                y, last = layer(x)
            outputs[f"{prefix}Y"] = y.numpy()
            for state_name, value in zip("hc", last if group.kind == "lstm" else (last,), strict=False):
                for number in range(len(value)):
                    suffix = f"_{number}" if len(value) > 1 else ""
                    outputs[f"{prefix}{state_name}_T{suffix}"] = value[number].numpy()
        return outputs

    def _options(self, group: Group) -> dict[str, Any]:
        """Return the constructor's arguments of a layer."""
        first = group.tensors[0, False]
        projected = first["weight_hr"].shape if "weight_hr" in first else None
        options: dict[str, Any] = {
            "input_size": first["weight_ih"].shape[1],
            "hidden_size": projected[1] if projected else first["weight_hh"].shape[1],
            "num_layers": 1 + max(number for number, _ in group.tensors),
            "bidirectional": any(back for _, back in group.tensors),
            "bias": "bias_ih" in first,
        }
        options |= {"proj_size": projected[0]} if projected else {}
        return options | ({"nonlinearity": "relu"} if group.kind == "rnn" and self.relu else {})
