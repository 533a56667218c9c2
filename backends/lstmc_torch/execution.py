"""Running compiled models in PyTorch, forward and backward, and the file of their weights."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.backend.compiled import OpenSizes
from lstmc.ir import Graph
from lstmc.ops import Array, Input
from lstmc.verification.differential import wanted_gradients
from lstmc.weights import parameters as parameters_of
from lstmc_torch.modules import Module, spec_of, values_of

FROZEN = "it is not trained"
LOCAL = "it is a variable of the program"


def saved(graph: Graph, weights: Mapping[str, Array]) -> bytes:
    """Return the weights of a graph as a file that ``torch.load`` reads: same weights, same bytes."""
    content = io.BytesIO()
    arrays = {name: values_of(name, op, weights) for name, op in parameters_of(graph).items()}
    torch.save({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()}, content)
    return content.getvalue()


def run(compiled: Compiled, artifact: Artifact, arrays: RunArrays, native: bool) -> Execution:
    """Run a compiled model: with native loops as a :class:`Module`, else the program of its artifact as it is."""
    graph = compiled.expanded
    net: Any
    if native:
        spec = spec_of(compiled.model, OpenSizes.from_graphs(graph, compiled.resized))
        net = Module(spec, arrays.weights).eval()
    else:
        names: dict[str, Any] = {}
        exec(artifact.files[f"{compiled.name}.py"].decode(), names)
        net = names["Net"]().eval()
        net.load_state_dict(torch.load(io.BytesIO(artifact.files[f"{compiled.name}.pt"])))
    inputs = {}
    for node in graph:
        if isinstance(node.op, Input):
            fed = arrays.inputs.get(node.name)
            value = node.op.fill.draw(np.random.default_rng(0), node.op.shape) if fed is None and node.op.fill else fed
            inputs[node.name] = torch.tensor(np.asarray(value, np.float32), requires_grad=True)
    results = net(*inputs.values()) if not native else net(**inputs)
    cotangents = {name: torch.tensor(np.asarray(ct, np.float32)) for name, ct in arrays.cotangents.items()}
    parameters = dict(net.named_parameters())
    leaves = {**inputs, **{name: value for name, value in parameters.items() if value.requires_grad}}
    roots = [(results[name], ct) for name, ct in cotangents.items() if results[name].requires_grad]
    found = (
        torch.autograd.grad(
            [root for root, _ in roots], list(leaves.values()), [ct for _, ct in roots], allow_unused=True
        )
        if roots
        else [None] * len(leaves)
    )
    gradients = {
        name: (torch.zeros_like(leaf) if gradient is None else gradient).numpy()
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
    values = {graph.value_name(output.ref): results[output.name].detach().numpy() for output in graph.outputs}
    return Execution(
        values={**{name: value.detach().numpy() for name, value in inputs.items()}, **values},
        input_gradients={
            name: gradients[name] for name in wanted_gradients(compiled, arrays.cotangents) if name in gradients
        },
        param_gradients={name: gradients[name] for name in parameters if name in gradients},
        absent={graph.value_name(ref): LOCAL for ref in graph.readers()},
        not_available={name: FROZEN for name, op in parameters_of(compiled.model).items() if op.lr_mult == 0},
    )
