"""Import of trained models: from a file or an object to the canonical net and the written model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstmc.importers.canonical import canonicalize, canonicalize_static
from lstmc.importers.frontends.keras_graph import describe_keras
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.importers.frontends.torch_export import exported
from lstmc.importers.frontends.torch_graph import describe_program
from lstmc.importers.frontends.torch_names import describe_state_dict, groups_of
from lstmc.importers.ir.net import Net
from lstmc.importers.read.keras_file import read_keras
from lstmc.importers.read.onnx_file import load_onnx, read_safetensors
from lstmc.importers.read.torch_file import hints, read_torch
from lstmc.importers.read.torch_program import read_program
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtime import Runtime
from lstmc.importers.runtimes.keras_runtime import KerasRuntime
from lstmc.importers.runtimes.onnx_runtime import OnnxRuntime
from lstmc.importers.runtimes.torch_runtime import TorchLayers, TorchProgram
from lstmc.importers.sniff import sniff
from lstmc.importers.sources import HostNet, SourceNet
from lstmc.importers.write.files import files
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.process.status import report_activity

FIXED = "export the module again from an example of the shape wanted: torch.export.export(module, (example,))"


@dataclass(frozen=True)
class ImportedModel:
    """A trained model: the net of the source (``described``), and its canonical form as written (``net``).

    ``surroundings`` are the layers of the source that are not imported and go around what is; ``runtime`` runs the
    source as it is, where something can.
    """

    described: Net
    net: Net
    kind: str
    surroundings: HostNet | None = None
    runtime: Runtime | None = None

    def __repr__(self) -> str:
        return f"<lstmc.ImportedModel {self.net.name}, from {self.kind}>"

    @classmethod
    def of(
        cls,
        described: Net,
        kind: str,
        surroundings: HostNet | None = None,
        runtime: Runtime | None = None,
        step: bool = False,
    ) -> ImportedModel:
        # in a net around it the lengths are those of that net
        net = canonicalize(described, step) if surroundings is None else canonicalize_static(described)
        return cls(described, net, kind, surroundings, runtime)

    @classmethod
    def of_source(cls, source: SourceNet, step: bool = False) -> ImportedModel:
        if step and source.surroundings is not None:  # the layers around it are of all steps
            source = source.surroundings.whole()
        return cls.of(source.described, source.kind, source.surroundings, source.runtime, step)

    def whole(self, step: bool = False) -> ImportedModel:
        """Return the model with the layers around it in its source; itself if there are none. ``step`` is that of
        :func:`import_file`.

        Raises :class:`~lstmc.importers.refusal.RefusedError` with all that cannot be expressed.
        """
        return self if self.surroundings is None else ImportedModel.of_source(self.surroundings.whole(), step)

    def files(self) -> dict[str, bytes]:
        """Return ``model.py``, ``weights.npz`` and ``import.json``, contents by name."""
        return files(self.net, self.kind)


def import_file(
    path: Path | str,
    *,
    activation: Literal["tanh", "relu"] | None = None,
    config: Path | str | None = None,
    weights: Path | str | None = None,
    shapes: Mapping[str, Sequence[int]] = {},
    values: Mapping[str, Array] = {},
    recurrent_only: bool = False,
    step: bool = False,
) -> ImportedModel:
    """Import a trained model from a file, without running any of its code.

    With ``step`` the model can be streamed step by step: a convolution over time that sees future frames becomes one
    of past frames, and outputs come that many steps later (``ImportedModel.net.delays``).

    ``recurrent_only`` imports the recurrent layers of PyTorch's files by their tensors' names, and nothing else of the
    file. ``activation`` says what a state dict does not: the function of plain RNNs; ``config`` is the JSON of a Keras
    model of which the file has the weights alone; ``weights`` is the caffemodel of a prototxt. ``shapes`` fixes those
    of the inputs of a graph or of a prototxt, and ``values`` makes constants of them.
    Raises :class:`~lstmc.importers.refusal.SourceError` for a file that cannot be read, and
    :class:`~lstmc.importers.refusal.RefusedError` with all that cannot be expressed.
    """
    path = Path(path)
    report_activity(f"reading {path.name}")
    file_format = sniff(path)
    if not isinstance(file_format, str):
        source = file_format.read(path, None if weights is None else Path(weights), shapes, values)
        return ImportedModel.of_source(source, step)
    if weights is not None:
        raise SourceError(f"{path.name}: it has its weights itself; only those of a prototxt lie in another file")
    if file_format == "onnx":
        net = describe_onnx(load_onnx(path), path.name, path.parent, shapes, values)
        return ImportedModel.of(net, "ONNX", runtime=OnnxRuntime(path, net, values), step=step)
    if file_format == "keras" and not values:
        keras = read_keras(path, None if config is None else Path(config))
        net = describe_keras(keras, shapes)
        kind = f"Keras {keras.facts['version']}".strip()
        return ImportedModel.of(net, kind, runtime=KerasRuntime(keras, net), step=step)
    if shapes or values:
        raise SourceError(
            f"{path.name}: only a graph has inputs whose shapes and values can be given; this is {file_format}",
            notes=[FIXED] if file_format == "torch program" else [],
        )
    if file_format == "torch program":
        torch = need("torch", "PyTorch", "torch", SourceError)
        return _of_program(torch, read_program(torch, path), path.name, step)
    tensors = {"torch": read_torch, "safetensors": read_safetensors}[file_format](path)
    net = describe_state_dict(tensors, hints(tensors), activation, recurrent_only)
    return ImportedModel.of(net, tensors.kind, runtime=TorchLayers(groups_of(tensors)[0], net), step=step)


def from_torch(module: Any, *examples: Any, name: str = "the module", step: bool = False) -> ImportedModel:
    """Import a live ``torch.nn.Module`` for arguments of the ``examples``' shapes, or a torch.export program.

    The length of the sequences stays open where the model holds for all lengths; ``step`` is that of
    :func:`import_file`. A module is put through ``torch.export.export``, in the mode for use (``eval``). ``name`` is
    how it is called in the written model. Raises :class:`~lstmc.importers.refusal.SourceError` for what PyTorch does
    not export, and :class:`~lstmc.importers.refusal.RefusedError` with all that cannot be expressed.
    """
    torch = need("torch", "PyTorch", "torch", SourceError)
    _check_module(torch, module, examples)
    program = module if isinstance(module, torch.export.ExportedProgram) else exported(torch, module, examples, name)
    return _of_program(torch, program, name, step)


def _check_module(torch: Any, module: Any, examples: Sequence[Any]) -> None:
    """Raise :class:`SourceError` for what is no module or program, and for a module without example tensors."""
    if isinstance(module, torch.export.ExportedProgram):
        return
    if isinstance(module, str | Path):
        raise SourceError(
            f"from_torch takes a module of PyTorch, found {module!r}",
            notes=["a file: lstmc.import_file(FILE), or lstmc.convert(FILE, FOLDER)"],
        )
    if not isinstance(module, torch.nn.Module):
        raise SourceError(
            f"from_torch takes a module of PyTorch or a program of torch.export, found {type(module).__name__}"
        )
    example = "give an example tensor: from_torch(module, torch.zeros(1, 30, 20)), of your input's shape"
    if not examples:
        raise SourceError("from_torch needs an example of each argument of the module, found none", notes=[example])
    for number, value in enumerate(examples, 1):
        if isinstance(value, tuple | list) and all(isinstance(one, int) for one in value):
            raise SourceError(f"argument {number}: expected a tensor, found the sizes {value}", notes=[example])


def _of_program(torch: Any, program: Any, name: str, step: bool) -> ImportedModel:
    net = describe_program(torch, program, name)
    return ImportedModel.of(net, "a program of torch.export", runtime=TorchProgram(program, net), step=step)


def from_onnx(
    model: Any,
    *,
    name: str = "the model",
    shapes: Mapping[str, Sequence[int]] = {},
    values: Mapping[str, Array] = {},
    step: bool = False,
) -> ImportedModel:
    """Import an ``onnx.ModelProto`` in memory, as :func:`import_file` does a file."""
    net = describe_onnx(model, name, None, shapes, values)
    return ImportedModel.of(net, "ONNX", runtime=OnnxRuntime(model.SerializeToString(), net, values), step=step)
