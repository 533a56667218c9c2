"""Import of trained models: the formats that lstmc reads, and the way from a file or an object to the checked model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from lstmc.dsl.vocabulary import KEYWORDS
from lstmc.errors import Argument
from lstmc.importers.canonical import canonicalize, canonicalize_static, canonicalize_step
from lstmc.importers.canonical.time import has_several_times, time_places
from lstmc.importers.frames import Read, Reading, read_frame, read_time
from lstmc.importers.frontends.keras_graph import describe_keras
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.importers.frontends.onnx_layers import ROUNDED
from lstmc.importers.frontends.tflite_graph import Graph
from lstmc.importers.frontends.torch_graph import describe_program
from lstmc.importers.frontends.torch_state_dict import describe_state_dict, groups_of
from lstmc.importers.ir.net import CELL, Net
from lstmc.importers.printer import files
from lstmc.importers.read.keras_file import read_keras
from lstmc.importers.read.onnx_file import load_onnx, read_safetensors
from lstmc.importers.read.tflite_file import MAGIC, TfliteFile
from lstmc.importers.read.torch_file import PACKAGE, entries, read_torch
from lstmc.importers.read.torch_program import is_program, read_program
from lstmc.importers.refusal import RefusedError, SourceError
from lstmc.importers.runtimes import KerasRuntime, LiteRtRuntime, OnnxRuntime, TorchLayers, TorchProgram
from lstmc.importers.sources import HostNet, ImportOptions, NetSource, Runtime, Source, SourceNet, head_of, net_sources
from lstmc.importers.torch_export import exported
from lstmc.importers.zoo import recipe_of
from lstmc.ops import Array
from lstmc.plugins import need
from lstmc.process.status import gc_paused, report_activity

__all__ = ["ImportedModel", "from_onnx", "from_torch", "import_file"]

ZIP, HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"
SMALL_VERSION = rb"\x08[\x00-\x1f]"  # the first field of an ONNX file
PICKLE = rb"\x80[\x02-\x05](?s:\x95.{8})?\x8a\n"  # a pickle of an integer of ten bytes, as PyTorch's first files begin
FIXED = "export the module again from an example of the shape wanted: torch.export.export(module, (example,))"
# option -> the error for a format that does not read it
_READ_BY_OTHERS = {
    "weights": "it has its weights itself; only those of a prototxt lie in another file",
    **dict.fromkeys(("shapes", "values"), "only a graph has inputs whose shapes and values can be given; this is {}"),
    "activation": "only a state dict leaves the function of plain RNNs open; this is {}",
    "config": "only models of Keras have a configuration; this is {}",
    "recurrent_only": "only of files of PyTorch the recurrent layers alone are imported; this is {}",
}


@dataclass(frozen=True)
class OwnSource:
    """A format that this package reads, as a :class:`~lstmc.importers.sources.NetSource`."""

    summary: str
    options: frozenset[str]
    knows: Callable[[Path], bool]
    read: Callable[[Path, ImportOptions], SourceNet]


def _is_torch(path: Path) -> bool:
    """Return whether a file is one of PyTorch's: a zip file with a program or a pickle, or an old pickle."""
    if (head := head_of(path))[:2] != ZIP:
        return re.match(PICKLE, head) is not None
    names = entries(path)
    return is_program(names) or any(name.rpartition("/")[2] in ("data.pkl", PACKAGE) for name in names)


def _read_torch(path: Path, options: ImportOptions) -> SourceNet:
    """Return the net of a file of PyTorch: a program, or the recurrent layers of a state dict."""
    program = head_of(path)[:2] == ZIP and is_program(entries(path))
    if options.shapes or options.values:
        kind = "torch program" if program else "torch"
        raise SourceError(
            f"{path.name}: only a graph has inputs whose shapes and values can be given; this is {kind}",
            notes=[FIXED] if program else [],
        )
    if program:
        torch = need("torch", "PyTorch", "torch", SourceError)
        return of_program(torch, read_program(torch, path), path.name)
    return _of_tensors(read_torch, path, options)


def _of_tensors(read: Callable[[Path], Source], path: Path, options: ImportOptions) -> SourceNet:
    tensors = read(path)
    modules = tensors.facts.get("modules", {})  # the plain attributes of pickled modules, by path
    net = describe_state_dict(tensors, modules, options.activation, options.recurrent_only)
    return SourceNet(net, tensors.kind, runtime=TorchLayers(groups_of(tensors)[0], net))


def _read_onnx(path: Path, options: ImportOptions) -> SourceNet:
    net = describe_onnx(load_onnx(path), path.name, path.parent, options.shapes, options.values)
    return SourceNet(net, "ONNX", runtime=OnnxRuntime(path, net, options.values))


def _read_tflite(path: Path, options: ImportOptions) -> SourceNet:
    """Read a TFLite file as a graph of ONNX, with a note if the source rounds to 8 bits while it runs."""
    file = TfliteFile(path)
    graph = Graph(file)
    net = describe_onnx(graph.model(), path.name, None, options.shapes, options.values)
    net = replace(net, notes=(*net.notes, ROUNDED)) if graph.rounded else net
    return SourceNet(net, "TFLite", runtime=LiteRtRuntime(file, net, options.values))


def _is_keras(path: Path) -> bool:
    head = head_of(path)
    return head[:8] == HDF5 or (head[:2] == ZIP and entries(path).keys() >= {"config.json", "model.weights.h5"})


def _read_keras(path: Path, options: ImportOptions) -> SourceNet:
    keras = read_keras(path, options.config)
    net = describe_keras(keras, options.shapes)
    return SourceNet(net, f"Keras {keras.facts['version']}".strip(), runtime=KerasRuntime(keras, net))


OF_TENSORS, OF_GRAPH = frozenset({"activation", "recurrent_only"}), frozenset({"shapes", "values"})
ONNX = OwnSource("ONNX", OF_GRAPH, lambda path: re.match(SMALL_VERSION, head_of(path)) is not None, _read_onnx)
TFLITE = OwnSource("TFLite", OF_GRAPH, lambda path: head_of(path)[4:8] == MAGIC, _read_tflite)
OWN: Sequence[NetSource] = (
    OwnSource("a state dict or program of PyTorch (.pt, .pth, .pt2)", OF_TENSORS | OF_GRAPH, _is_torch, _read_torch),
    OwnSource(
        ".safetensors", OF_TENSORS, lambda path: head_of(path)[8:9] == b"{", partial(_of_tensors, read_safetensors)
    ),
    ONNX,
    TFLITE,
    OwnSource("Keras (.keras, .h5)", frozenset({"config", "shapes"}), _is_keras, _read_keras),
)


def of_program(torch: Any, program: Any, name: str) -> SourceNet:
    net = describe_program(torch, program, name)
    return SourceNet(net, "a program of torch.export", runtime=TorchProgram(program, net))


def source_of(path: Path) -> NetSource:
    """Return the source that knows a file's content, lstmc's own first. Raises :class:`SourceError` if none does."""
    head = head_of(path)
    for source in chain(OWN, net_sources()):  # packages are loaded only for a file that no source of OWN knows
        if source.knows(path):
            return source
    expected = ", ".join(source.summary for source in chain(OWN, net_sources()))
    found = f"a file that begins with {head.decode('ascii', 'replace')!r}" if head else "an empty file"
    found = f"a zip file of {', '.join([*entries(path)][:3]) or 'nothing'}" if head[:2] == ZIP else found
    raise SourceError(f"{path}: expected {expected}; found {found}")


@dataclass(frozen=True)
class ImportedModel:
    """A trained model: the net of the source (``described``), and its canonical form as written (``net``).

    ``surroundings`` are the source's layers around the imported part; ``runtime`` runs the source, if a program can;
    ``step`` is the argument of :func:`import_file`. For one frame of a sequence, ``frames`` has the axis of time of the
    source's inputs and outputs. ``reading`` is how the source was read.
    """

    described: Net
    net: Net
    kind: str
    surroundings: HostNet | None = None
    runtime: Runtime | None = None
    step: bool = False
    frames: Mapping[str, int] = field(default_factory=dict)
    reading: Reading | None = None

    def __repr__(self) -> str:
        return f"<lstmc.ImportedModel {self.net.name}, from {self.kind}>"

    @classmethod
    def of_source(cls, source: SourceNet, step: bool) -> ImportedModel:
        """Return a source's model. Raises :class:`RefusedError` with ``step`` for a net that cannot be streamed."""
        if step and source.surroundings is not None:  # the layers around it compute all steps
            source = source.surroundings.whole()
        described, around = source.described, source.surroundings
        # a part of another net has the lengths of that net
        net = canonicalize(described, step) if around is None else canonicalize_static(described)
        return cls(described, net, source.kind, around, source.runtime, step)

    def _runs_along(self, time: Mapping[str, int]) -> bool:
        """Return whether the axes that ``time`` names (input: axis, as in the source) are the model's axis of time."""
        for name, shape in self.net.inputs.items():
            axis = time.get(self.net.called.get(name, name))
            order = self.net.axes.get(name, range(len(shape)))
            if axis is not None and shape[[*order].index(axis % len(shape))] not in self.net.time:
                return False
        return True

    @property
    def timeless(self) -> bool:
        """Whether no layer of the model runs along time."""
        return not time_places(self.described)

    @classmethod
    def of_reading(cls, reading: Reading) -> ImportedModel:
        """Return the model of a source in the first way that fits: as one frame, as a sequence, or as one frame of a
        sequence. If no way fits, raise the error of the way that the options ask for."""
        if reading.time:
            try:
                return cls.of_time(reading)
            except RefusedError:
                with suppress(SourceError, RefusedError):
                    if (model := cls.of_reading(replace(reading, time={}, step=True)))._runs_along(reading.time):
                        return model
                raise
        try:
            source, found = read_frame(reading)
        except RefusedError as refused:
            try:
                frame = cls.of_time(reading)
            except (SourceError, RefusedError):
                raise refused from None
            if reading.step:
                return frame
            note = f"one frame of it can be imported, with its states, by {Argument('step', 'True')}"
            raise refused.located(notes=[note]) from None
        if not found and reading.step and source.surroundings is None and has_several_times(source.described):
            return cls.of_time(reading)
        if not found:
            try:
                return replace(cls.of_source(source, reading.step), reading=reading)
            except RefusedError as refused:
                if reading.step and source.surroundings is None:
                    with suppress(SourceError, RefusedError):
                        return cls.of_time(reading)
                # only graphs have shapes that can be given
                inputs = source.described.source_inputs() if source.kind == "ONNX" and reading.step else {}
                raise refused.of_stream(inputs) from None
        net = canonicalize_step(source.described, found)
        return cls(source.described, net, source.kind, None, source.runtime, True)

    @classmethod
    def of_time(cls, reading: Reading) -> ImportedModel:
        source, net, frames = read_time(reading)
        return cls(source.described, net, source.kind, None, source.runtime, True, frames)

    def streamed(self) -> ImportedModel:
        """Return the model in a form that can be streamed, as with ``step``. Raises
        :class:`~lstmc.importers.refusal.RefusedError` with the layers that need more of a sequence than its past."""
        if not self.step and self.reading is not None and has_several_times(self.described):
            return ImportedModel.of_time(self.reading)
        return self if self.step else replace(self, net=canonicalize(self.described, True), step=True)

    def whole(self, step: bool = False) -> ImportedModel:
        """Return the model with the source's layers around it, if there are any; ``step`` is as in :func:`import_file`.
        Raises :class:`~lstmc.importers.refusal.RefusedError` with everything that cannot be expressed."""
        return self if self.surroundings is None else ImportedModel.of_source(self.surroundings.whole(), step)

    def named(self, name: str | None) -> ImportedModel:
        """Return the model under another name, in C too. Raises :class:`SourceError` for a name that model.py uses."""
        if name is None:
            return self
        if not name.isidentifier() or not name.isascii() or name in KEYWORDS or CELL.fullmatch(name):
            raise SourceError(f"{Argument('name', name)}: expected a Python name that is no word of lstmc")
        return replace(self, net=replace(self.net, graph=self.net.graph.renamed(name)))

    def files(self) -> dict[str, bytes]:
        """Return ``model.py``, ``weights.npz`` and ``import.json``, contents by name."""
        return files(self.net, self.kind)


@gc_paused()
def import_file(
    path: Path | str, *, activation: Literal["tanh", "relu"] | None = None, config: Path | str | None = None,
    weights: Path | str | None = None, shapes: Mapping[str, Sequence[int]] = {}, values: Mapping[str, Array] = {},
    recurrent_only: bool = False, step: bool = False, states: Mapping[str, str] = {}, time: Mapping[str, int] = {},
) -> ImportedModel:  # fmt: skip
    """Import a trained model from a file, without running any of its code; ``"zoo:NAME"`` is a published net's file.

    With ``step`` the model can be streamed step by step: a convolution over time that sees future frames becomes a
    convolution of past frames, and outputs come later by the number of these frames (``ImportedModel.net.delays``).

    A file of one frame is one step: ``states`` maps its inputs that are states to the outputs that are their next
    values, by the source's names, as in ``{"h_in": "h_out"}``; ``{"h_in": ""}`` says that an input is no state. Other
    states are found by proof (``ImportedModel.net.states``), and notes name them. ``time`` names the axis of an input
    that is time, as in ``{"x": 2}``: the model is then one frame of the sequence. Without it time is known if layers
    run along one axis only.

    ``recurrent_only`` imports the recurrent layers of PyTorch's files by their tensors' names, and nothing else of the
    file. ``activation`` is the function of plain RNNs, which a state dict lacks; ``config`` is the JSON of a Keras
    model, for a file of weights or instead of the file's configuration; ``weights`` is the caffemodel of a prototxt.
    ``shapes`` fixes the shapes of inputs of a graph or prototxt, and ``values`` makes inputs constants. Raises
    :class:`~lstmc.importers.refusal.SourceError` for a file that cannot be read, and
    :class:`~lstmc.importers.refusal.RefusedError` with all that cannot be expressed.
    """
    given = {name: value for name, value in locals().items() if name != "path"}
    if recipe := recipe_of(path):
        return import_file(recipe.path(), **recipe.arguments(given))
    chosen = {"activation": activation, "config": config, "weights": weights, "shapes": shapes, "values": values}
    read = reader_of(Path(path), recurrent_only=recurrent_only, **chosen)
    return ImportedModel.of_reading(Reading(read, shapes, step, states, time))


def reader_of(path: Path, **chosen: Any) -> Read:
    """Return the function that reads a file for shapes of its inputs; ``chosen`` are fields of :class:`ImportOptions`.
    Raises :class:`SourceError` for an option that the file's format does not read."""
    report_activity(f"reading {path.name}")
    source = source_of(path)
    paths = {name: None if chosen.get(name) is None else Path(chosen[name]) for name in ("config", "weights")}
    options = ImportOptions(**{**chosen, **paths})
    for name, why in _READ_BY_OTHERS.items():
        if getattr(options, name) and name not in source.options:
            raise SourceError(f"{path.name}: {why.format(source.summary)}")
    return lambda shapes: source.read(path, replace(options, shapes=shapes))


def from_torch(
    module: Any, *examples: Any, name: str = "the module", step: bool = False, states: Mapping[str, str] = {},
    time: Mapping[str, int] = {},
) -> ImportedModel:  # fmt: skip
    """Import a live ``torch.nn.Module`` for arguments of the ``examples``' shapes, or a torch.export program.

    The length of sequences stays open if the model holds for all lengths; ``step`` is the argument of
    :func:`import_file`. A module goes through ``torch.export.export``, in evaluation mode (``eval``). ``name`` is its
    name in the written model. Raises :class:`~lstmc.importers.refusal.SourceError` if PyTorch cannot export the module,
    and :class:`~lstmc.importers.refusal.RefusedError` with everything that cannot be expressed.
    """
    torch = need("torch", "PyTorch", "torch", SourceError)
    _check_module(torch, module, examples)
    program = module if isinstance(module, torch.export.ExportedProgram) else exported(torch, module, examples, name)
    return ImportedModel.of_reading(Reading(lambda _: of_program(torch, program, name), {}, step, states, time))


def _check_module(torch: Any, module: Any, examples: Sequence[Any]) -> None:
    """Raise :class:`SourceError` unless ``module`` is a program, or a module with example tensors."""
    if isinstance(module, torch.export.ExportedProgram):
        return
    if isinstance(module, str | Path):
        raise SourceError(
            f"from_torch takes a module of PyTorch, found {module!r}",
            notes=["a file: lstmc.import_file(FILE), or lstmc.convert(FILE, FOLDER)"],
        )
    if not isinstance(module, torch.nn.Module):
        kind = type(module).__name__
        raise SourceError(f"from_torch takes a module of PyTorch or a program of torch.export, found {kind}")
    example = "give an example tensor: from_torch(module, torch.zeros(1, 30, 20)), of your input's shape"
    if not examples:
        raise SourceError("from_torch needs an example of each argument of the module, found none", notes=[example])
    for number, value in enumerate(examples, 1):
        if isinstance(value, tuple | list) and all(isinstance(one, int) for one in value):
            raise SourceError(f"argument {number}: expected a tensor, found the sizes {value}", notes=[example])


def from_onnx(
    model: Any, *, name: str = "the model", shapes: Mapping[str, Sequence[int]] = {}, values: Mapping[str, Array] = {},
    step: bool = False, states: Mapping[str, str] = {}, time: Mapping[str, int] = {},
) -> ImportedModel:  # fmt: skip
    """Import an ``onnx.ModelProto`` in memory; the options are those of :func:`import_file`."""

    def read(shapes: Mapping[str, Sequence[int]]) -> SourceNet:
        net = describe_onnx(model, name, None, shapes, values)
        return SourceNet(net, "ONNX", runtime=OnnxRuntime(model.SerializeToString(), net, values))

    return ImportedModel.of_reading(Reading(read, shapes, step, states, time))
