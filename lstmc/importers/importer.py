"""Import of trained models: from a file or an object to the canonical net and the written model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lstmc.errors import Argument
from lstmc.importers.canonical import canonicalize, canonicalize_static
from lstmc.importers.formats import of_program, source_of
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.importers.frontends.torch_graph import exported
from lstmc.importers.ir.net import Net
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtimes import OnnxRuntime
from lstmc.importers.sources import HostNet, ImportOptions, Runtime, SourceNet
from lstmc.importers.write.files import files
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.process.status import report_activity


@dataclass(frozen=True)
class ImportedModel:
    """A trained model: the net of the source (``described``), and its canonical form as written (``net``).

    ``surroundings`` are the layers of the source that are not imported and go around what is; ``runtime`` runs the
    source as it is, where something can; ``step`` is that of :func:`import_file`.
    """

    described: Net
    net: Net
    kind: str
    surroundings: HostNet | None = None
    runtime: Runtime | None = None
    step: bool = False

    def __repr__(self) -> str:
        return f"<lstmc.ImportedModel {self.net.name}, from {self.kind}>"

    @classmethod
    def of_source(cls, source: SourceNet, step: bool = False) -> ImportedModel:
        """Return the model of a net as it was read; ``step`` is that of :func:`import_file`.

        Raises :class:`~lstmc.importers.refusal.RefusedError` for ``step`` of a net that cannot be streamed.
        """
        if step and source.surroundings is not None:  # the layers around it are of all steps
            source = source.surroundings.whole()
        described, around = source.described, source.surroundings
        # in a net around it the lengths are those of that net
        net = canonicalize(described, step) if around is None else canonicalize_static(described)
        return cls(described, net, source.kind, around, source.runtime, step)

    def streamed(self) -> ImportedModel:
        """Return the model as one that can be streamed, as with ``step``. Raises
        :class:`~lstmc.importers.refusal.RefusedError` with the layers that need more of a sequence than its past."""
        return self if self.step else replace(self, net=canonicalize(self.described, True), step=True)

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
    source = source_of(path)
    options = ImportOptions(
        activation,
        None if config is None else Path(config),
        None if weights is None else Path(weights),
        shapes,
        values,
        recurrent_only,
    )
    for name, why in _READ_BY_OTHERS.items():
        if getattr(options, name) and name not in source.options:
            raise SourceError(f"{path.name}: {why.format(source.summary)}", arguments=(Argument(name),))
    return ImportedModel.of_source(source.read(path, options), step)


# Why an option is of no use where its format does not read it.
_READ_BY_OTHERS = {
    "weights": "it has its weights itself; only those of a prototxt lie in another file",
    "shapes": "only a graph has inputs whose shapes and values can be given; this is {}",
    "values": "only a graph has inputs whose shapes and values can be given; this is {}",
    "activation": "only a state dict leaves the function of plain RNNs open; this is {}",
    "config": "only weights of Keras lie apart from the configuration of their model; this is {}",
    "recurrent_only": "only of files of PyTorch the recurrent layers alone are imported; this is {}",
}


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
    return ImportedModel.of_source(of_program(torch, program, name), step)


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
    runtime = OnnxRuntime(model.SerializeToString(), net, values)
    return ImportedModel.of_source(SourceNet(net, "ONNX", runtime=runtime), step)
