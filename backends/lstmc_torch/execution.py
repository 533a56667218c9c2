"""Running compiled models in PyTorch, forward and backward, and the file of their weights."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmc.backend import Artifact, Compiled, Execution, RunArrays
from lstmc.backend.compiled import OpenSizes
from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc.manifest import read_manifest
from lstmc.nets.session import NetFiles
from lstmc.ops import Array
from lstmc.verification.differential import wanted_gradients
from lstmc.weights import parameters as parameters_of
from lstmc_torch.backend import LAYERS, SUFFIX
from lstmc_torch.loop import load_or_warn
from lstmc_torch.loop import run as loop
from lstmc_torch.modules import Module, spec_of, values_of

FROZEN = "it is not trained"
LOCAL = "it is a variable of the program"


def saved(graph: Graph, weights: Mapping[str, Array]) -> bytes:
    """Return the weights of a graph as a file that ``torch.load`` reads: same weights, same bytes."""
    content = io.BytesIO()
    arrays = {name: values_of(name, op, weights) for name, op in parameters_of(graph).items()}
    torch.save({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()}, content)
    return content.getvalue()


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the parameters in a state dict, in float32, and the names of those that it does not have."""
    shapes = {name: parameter.shape for name, parameter in read_manifest(manifest).parameters.items()}
    weights = {name: value.to(torch.float32).numpy() for name, value in _read_state(trained).items() if name in shapes}
    for name, array in weights.items():
        if array.shape != shapes[name]:
            raise BackendError(f"{trained}: expected {name} of shape {list(shapes[name])}, found {list(array.shape)}")
    return weights, [name for name in shapes if name not in weights]


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file. Raises :class:`BackendError` for a file that is no state dict."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackendError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # of the zip, of unpickling, of storages
        reason = str(error).partition("\n")[0]
        raise BackendError(f"{path}: expected a state dict that torch.save wrote: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BackendError(f"{path}: expected a state dict, of tensors by name, found {type(state).__name__}")
    return state


class LoadedModule:
    """A written module, from its files. See :class:`lstmc.nets.session.LoadedNet`."""

    def __init__(self, files: NetFiles, gpu: bool) -> None:
        if gpu:
            raise BackendError(f"{files.net}: lstmc runs modules of PyTorch on the CPU alone")
        functions: dict[str, Any] = {"__file__": str(files.net), "__name__": files.net.stem}
        layers = files.net.with_name(f"{files.net.stem}{LAYERS}")
        try:
            exec(compile(files.net.read_bytes(), files.net, "exec"), functions)
            cpp = layers.read_text(encoding="utf-8") if layers.is_file() else ""
            self._forward, net = functions["forward"], functions["Net"]()
        except OSError as error:
            raise BackendError(f"{error.filename}: cannot be read: {error.strerror}") from None
        except (SyntaxError, ValueError, KeyError):
            raise BackendError(f"{files.net}: expected a module that lstmc wrote for PyTorch") from None
        self._inputs, self._outputs = list(files.manifest.inputs), list(files.manifest.outputs)
        self._weights = {**net.state_dict(), **_read_state(files.weights)}
        self._native = bool(cpp) and load_or_warn(cpp, files.net.stem)

    def forward(self, blobs: Mapping[str, Array], names: Iterable[str]) -> Mapping[str, Array]:
        """Run one forward pass."""
        arrays = [torch.from_numpy(np.asarray(blobs[name], np.float32)) for name in self._inputs]
        with torch.no_grad():
            results = self._forward(self._weights, *arrays, False, self._native, loop)
        by_name = dict(zip(self._outputs, results, strict=True))
        return {name: by_name[name].numpy() for name in names}


def run(compiled: Compiled, artifact: Artifact, arrays: RunArrays, native: bool) -> Execution:
    """Run a compiled model: with native loops as a :class:`Module`, else the program of its artifact as it is."""
    graph = compiled.expanded
    net: Any
    if native:
        spec = spec_of(compiled.model, OpenSizes.from_graphs(graph, compiled.resized, any_length=True))
        net = Module(spec, arrays.weights).eval()
    else:
        names: dict[str, Any] = {}
        exec(artifact.files[artifact.net].decode(), names)
        net = names["Net"]().eval()
        net.load_state_dict(torch.load(io.BytesIO(artifact.files[artifact.net.removesuffix(".py") + SUFFIX])))
    inputs = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.fed(graph).items()}
    results = net(*inputs.values()) if not native else net(**inputs)
    cotangents = {name: torch.tensor(np.asarray(ct, np.float32)) for name, ct in arrays.cotangents.items()}
    parameters = dict(net.named_parameters())
    leaves = {**inputs, **{name: value for name, value in parameters.items() if value.requires_grad}}
    roots = [(results[name], ct) for name, ct in cotangents.items() if results[name].requires_grad]
    derivatives = (
        torch.autograd.grad(
            [root for root, _ in roots], list(leaves.values()), [ct for _, ct in roots], allow_unused=True
        )
        if roots
        else [None] * len(leaves)
    )
    gradients = {
        name: (torch.zeros_like(leaf) if gradient is None else gradient).numpy()
        for (name, leaf), gradient in zip(leaves.items(), derivatives, strict=True)
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
