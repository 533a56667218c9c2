"""Written modules of PyTorch: write and read their files of weights, and run models by them, forward and backward."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lstmc.backend import Artifact, Compiled, Execution, Parts, RunArrays
from lstmc.errors import BackendError
from lstmc.files.output import write_files
from lstmc.files.reading import read_file, reading, regular
from lstmc.ir import Graph
from lstmc.manifest import read_manifest
from lstmc.nets.session import NetFiles
from lstmc.ops import Array
from lstmc.verification.differential import wanted_gradients
from lstmc.weights import parameters
from lstmc_torch.backend import LAYERS, SUFFIX, Form, build_path
from lstmc_torch.loop import load_or_warn, run
from lstmc_torch.modules import Module, spec_of, values_of

FROZEN = "it is not trained"
NO_LOOPS = "step by step, as it has no loops"
LOCAL = "it is a variable of the program"


def saved(graph: Graph, weights: Mapping[str, Array]) -> bytes:
    """Return the weights of a graph as a file that ``torch.load`` reads: same weights, same bytes."""
    content = io.BytesIO()
    arrays = {name: values_of(name, op, weights) for name, op in parameters(graph).items()}
    torch.save({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()}, content)
    return content.getvalue()


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the parameters in a state dict, in float32, and the names of parameters that it lacks."""
    shapes = {name: parameter.shape for name, parameter in read_manifest(manifest).parameters.items()}
    weights = {name: _floats(value) for name, value in _read_state(trained).items() if name in shapes}
    for name, array in weights.items():
        if array.shape != shapes[name]:
            raise BackendError(f"{trained}: expected {name} of shape {list(shapes[name])}, found {list(array.shape)}")
    return weights, [name for name in shapes if name not in weights]


def _floats(value: torch.Tensor) -> Array:
    array: Array = value.detach().to(torch.float32).numpy()
    return array


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file. Raises :class:`BackendError` for a file that is no state dict."""
    with reading(path, BackendError):
        return _state(regular(path), str(path))


def _state(content: bytes | Path, path: str) -> dict[str, torch.Tensor]:
    try:
        file = content if isinstance(content, Path) else io.BytesIO(content)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # errors of the zip, of unpickling, of storages
        reason = str(error).partition("\n")[0]
        raise BackendError(f"{path}: expected a state dict that torch.save wrote: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BackendError(f"{path}: expected a state dict, of tensors by name, found {type(state).__name__}")
    return state


def weight_parts(content: bytes) -> Parts:
    """Return the tensors of a file's content. Raises :class:`BackendError` for content that is no state dict."""
    state = _state(content, "its weights")
    return {("weight", name): {"": _floats(value), "type": str(value.dtype)} for name, value in state.items()}


class LoadedModule:
    """A written module, from its files. See :class:`lstmc.nets.session.LoadedNet`."""

    def __init__(self, files: NetFiles, gpu: bool) -> None:
        if gpu:
            raise BackendError(f"{files.net}: lstmc runs modules of PyTorch on the CPU alone")
        functions: dict[str, Any] = {"__file__": str(files.net), "__name__": files.net.stem}
        layers = files.net.with_name(f"{files.net.stem}{LAYERS}")
        try:
            exec(compile(read_file(files.net), files.net, "exec"), functions)
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
            results = self._forward(self._weights, *arrays, False, self._native, run)
        by_name = dict(zip(self._outputs, results, strict=True))
        return {name: by_name[name].numpy() for name in names}


def execute(compiled: Compiled, artifact: Artifact, arrays: RunArrays, form: Form) -> Execution:
    """Run a compiled model: as a :class:`Module` with native loops, or by its written files."""
    graph, said = compiled.expanded, ""
    net: Any
    if form == "module":
        _, spec = compiled.written(lambda opened: spec_of(compiled.model, opened))
        net = Module(spec, arrays.weights).eval()
        if not net._loaded.get("cpu"):
            said = "step by step, as its native code could not be made" if spec.program.cpp else NO_LOOPS
    else:
        with TemporaryDirectory(prefix="lstmc-torch-") as folder:
            net = _written(artifact, Path(folder), form == "built")
        said = NO_LOOPS if form == "built" and not hasattr(net, "build") else ""
    inputs = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.fed(graph).items()}
    results = net.forward(**inputs) if form == "module" else net(*inputs.values())
    cotangents = {name: torch.tensor(np.asarray(ct, np.float32)) for name, ct in arrays.cotangents.items()}
    trained = dict(net.named_parameters())
    leaves = {**inputs, **{name: value for name, value in trained.items() if value.requires_grad}}
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
        param_gradients={name: gradients[name] for name in trained if name in gradients},
        absent={graph.value_name(ref): LOCAL for ref in graph.readers()},
        not_available={name: FROZEN for name, op in parameters(compiled.model).items() if op.lr_mult == 0},
        device=said,
        files={"module": (), "built": artifact.run_files, "steps": artifact.run_files[:2]}[form],
    )


def _written(artifact: Artifact, folder: Path, build: bool) -> Any:
    """Return the module of written files as a user gets it, with ``build`` after its build()."""
    write_files(folder, artifact.files)
    path = folder / artifact.net
    names: dict[str, Any] = {"__file__": str(path), "__name__": path.stem}
    exec(compile(path.read_bytes(), path, "exec"), names)
    net = names["Net"]().eval()
    net.load_state_dict(torch.load(path.with_suffix(SUFFIX)))
    if build and hasattr(net, "build"):
        before = os.environ.get("PATH", "")
        os.environ["PATH"] = build_path()  # as in an active environment, which has ninja
        try:
            net.build()
        except (OSError, RuntimeError) as error:
            notes = [line for line in str(error).splitlines() if line.strip()][:8]
            raise BackendError(f"build() of {artifact.net} failed", notes=notes) from None
        finally:
            os.environ["PATH"] = before
    return net
