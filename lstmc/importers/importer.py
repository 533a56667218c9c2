"""Import of trained models: the formats that lstmc reads, and from a file or an object to the checked model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lstmc.backend import Compiled
from lstmc.errors import Argument
from lstmc.importers.canonical import canonicalize, canonicalize_static, read_open
from lstmc.importers.frontends.keras_graph import describe_keras
from lstmc.importers.frontends.onnx_graph import describe_onnx
from lstmc.importers.frontends.torch_graph import describe_program, describe_state_dict, groups_of
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import OpenSize
from lstmc.importers.printer import files, traced
from lstmc.importers.read.keras_file import read_keras
from lstmc.importers.read.onnx_file import load_onnx, read_safetensors
from lstmc.importers.read.torch_file import PACKAGE, entries, hints, read_torch
from lstmc.importers.read.torch_program import is_program, read_program
from lstmc.importers.refusal import SourceError
from lstmc.importers.runtimes import KerasRuntime, OnnxRuntime, TorchLayers, TorchProgram, exported
from lstmc.importers.sources import (
    HostNet,
    ImportOptions,
    NetSource,
    Runtime,
    Source,
    SourceCheck,
    SourceNet,
    head_of,
    net_sources,
)
from lstmc.interp import Conversion, forward
from lstmc.ir import Graph
from lstmc.ops import Array, Input
from lstmc.plugins import need
from lstmc.process.status import gc_paused, report_activity
from lstmc.verification.arrays import inputs_of_domain
from lstmc.verification.conditioning import absolute_gap, relative_gap
from lstmc.verification.differential import within_rounding
from lstmc.verification.proof import Proof, as_symbolic, best_proof, claims, symbolic_leaves
from lstmc.verification.report import LEAST_TOLERANCE, Difference
from lstmc.verification.symbols import Algebra

ZIP, HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"
PICKLE = rb"\x80[\x02-\x05](?s:\x95.{8})?\x8a\n"  # a pickle of an integer of ten bytes, as PyTorch's first files begin
FIXED = "export the module again from an example of the shape wanted: torch.export.export(module, (example,))"


class TorchSource:
    """State dicts and programs of PyTorch."""

    summary = "a state dict or program of PyTorch (.pt, .pth, .pt2)"
    options = frozenset({"activation", "recurrent_only", "shapes", "values"})

    def knows(self, path: Path) -> bool:
        head = head_of(path)
        if head[:2] != ZIP:
            return re.match(PICKLE, head) is not None
        names = entries(path)
        return is_program(names) or any(name.rpartition("/")[2] in ("data.pkl", PACKAGE) for name in names)

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
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
        return _of_tensors(read_torch(path), options)


class SafetensorsSource:
    """Files of safetensors, with the tensors of a state dict of PyTorch."""

    summary = ".safetensors"
    options = frozenset({"activation", "recurrent_only"})

    def knows(self, path: Path) -> bool:
        return head_of(path)[8:9] == b"{"

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        return _of_tensors(read_safetensors(path), options)


class OnnxSource:
    """Graphs of ONNX."""

    summary = "ONNX"
    options = frozenset({"shapes", "values"})

    def knows(self, path: Path) -> bool:
        return re.match(rb"\x08[\x00-\x1f]", head_of(path)) is not None  # the first field is a small version

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        net = describe_onnx(load_onnx(path), path.name, path.parent, options.shapes, options.values)
        return SourceNet(net, "ONNX", runtime=OnnxRuntime(path, net, options.values))


class KerasSource:
    """Models of Keras, and weights of Keras with the JSON of the model."""

    summary = "Keras (.keras, .h5)"
    options = frozenset({"config", "shapes"})

    def knows(self, path: Path) -> bool:
        head = head_of(path)
        return head[:8] == HDF5 or (head[:2] == ZIP and entries(path).keys() >= {"config.json", "model.weights.h5"})

    def read(self, path: Path, options: ImportOptions) -> SourceNet:
        keras = read_keras(path, options.config)
        net = describe_keras(keras, options.shapes)
        return SourceNet(net, f"Keras {keras.facts['version']}".strip(), runtime=KerasRuntime(keras, net))


OWN: Sequence[NetSource] = (TorchSource(), SafetensorsSource(), OnnxSource(), KerasSource())


def _of_tensors(tensors: Source, options: ImportOptions) -> SourceNet:
    net = describe_state_dict(tensors, hints(tensors), options.activation, options.recurrent_only)
    return SourceNet(net, tensors.kind, runtime=TorchLayers(groups_of(tensors)[0], net))


def of_program(torch: Any, program: Any, name: str) -> SourceNet:
    """Return the net of a program of torch.export."""
    net = describe_program(torch, program, name)
    return SourceNet(net, "a program of torch.export", runtime=TorchProgram(program, net))


def source_of(path: Path) -> NetSource:
    """Return the source of a file: by its content, lstmc's own formats before those of packages.

    Raises :class:`SourceError` for a file that is not there, or that no source knows.
    """
    head = head_of(path)
    for source in chain(OWN, net_sources()):  # packages are loaded only for a file that none of OWN knows
        if source.knows(path):
            return source
    expected = ", ".join(source.summary for source in chain(OWN, net_sources()))
    raise SourceError(f"{path}: expected {expected}; found {_described(path, head)}")


def _described(path: Path, head: bytes) -> str:
    if head[:2] == ZIP:
        return f"a zip file of {', '.join([*entries(path)][:3]) or 'nothing'}"
    return f"a file that begins with {head.decode('ascii', 'replace')!r}" if head else "an empty file"


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
    def of_source(cls, source: SourceNet, step: bool) -> ImportedModel:
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


@gc_paused()
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
    model, for weights alone or in place of the file's own; ``weights`` is the caffemodel of a prototxt. ``shapes``
    fixes those of the inputs of a graph or of a prototxt, and ``values`` makes constants of them.
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

    def read(shapes: Mapping[str, Sequence[int]]) -> SourceNet:
        return source.read(path, replace(options, shapes=shapes))

    return ImportedModel.of_source(read_open(read, shapes, step), step)


# Why an option is of no use where its format does not read it.
_READ_BY_OTHERS = {
    "weights": "it has its weights itself; only those of a prototxt lie in another file",
    **dict.fromkeys(("shapes", "values"), "only a graph has inputs whose shapes and values can be given; this is {}"),
    "activation": "only a state dict leaves the function of plain RNNs open; this is {}",
    "config": "only models of Keras have a configuration; this is {}",
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
    """Raise :class:`SourceError` for a value that is no module or program, and for a module without example tensors."""
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

    def read(shapes: Mapping[str, Sequence[int]]) -> SourceNet:
        net = describe_onnx(model, name, None, shapes, values)
        return SourceNet(net, "ONNX", runtime=OnnxRuntime(model.SerializeToString(), net, values))

    return ImportedModel.of_source(read_open(read, shapes, step), step)


TOLERANCE = 1e-9  # two ways to compute the same thing in float64
LATE = "it gives the last step alone, which comes late: the net as it was read is compared, some steps before the last"


def check_net(
    model: ImportedModel, compiled: Compiled, weights: Mapping[str, Array], seed: int = 0
) -> tuple[Difference, ...]:
    """Return one difference an output between the written model and the imported net, on random inputs.

    Sizes that the source has as numbers must be these (``Net.sizes``).
    """
    report_activity("comparing the model with its source's description")
    inputs, _ = inputs_of_domain(compiled, weights, seed)
    pairs = _pairs(model, compiled.model, weights, inputs)
    compared = [difference(name, *pair, TOLERANCE) for name, pair in pairs.items()]
    return within_rounding(compared, compiled.model, inputs, weights, np.float64)


def prove_net(model: ImportedModel, graph: Graph, weights: Mapping[str, Array]) -> Proof:
    """Return which outputs of the written model are proved equal to those of the imported net, with these weights."""
    report_activity("proving that the model is equal to its source's description")
    return best_proof(partial(_prove_net, model, graph, weights))


def _prove_net(model: ImportedModel, graph: Graph, weights: Mapping[str, Array], algebra: Algebra) -> Proof:
    inputs, convert = symbolic_leaves(graph, Input, algebra), partial(as_symbolic, algebra=algebra)

    def outputs() -> tuple[dict[str, Array], dict[str, Array]]:
        pairs = _pairs(model, graph, weights, inputs, convert)
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}

    found = claims("output", [output.name for output in graph.outputs], outputs)
    return Proof(tuple(found), {name: array.shape for name, array in inputs.items()}, trained=True)


def _pairs(
    model: ImportedModel,
    graph: Graph,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    convert: Conversion | None = None,
) -> dict[str, tuple[Array, Array]]:
    """Return each output of the imported net and of its written model, in the source's order of axes, and in step."""
    fed = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    earlier = {} if model.net.earlier is None else evaluate(model.net.earlier, fed, convert)
    expected = {**evaluate(model.described, fed, convert), **earlier}
    return _in_source(model.net, expected, forward(graph, inputs, weights, convert=convert).outputs, earlier)


def evaluate(net: Net, inputs: Mapping[str, Array], convert: Conversion | None = None) -> dict[str, Array]:
    """Evaluate a net's model text by the interpreter, in float64, and return the outputs."""
    graph = traced(net, _sizes(net, inputs))
    weights = {name: weight.array() for name, weight in net.params.items()}
    return forward(graph, inputs, weights, convert=convert).outputs


def check_source(
    model: ImportedModel, compiled: Compiled, weights: Mapping[str, Array], seed: int = 0
) -> SourceCheck | None:
    """Compare the model with the source's runtime; None for a source without one."""
    if model.runtime is None:
        return None
    report_activity(f"comparing the model with its source, by {model.runtime.name}")
    reason = model.runtime.unavailable()
    if reason is not None:
        return SourceCheck(model.runtime.name, (), reason)
    inputs, _ = inputs_of_domain(compiled, weights, seed)
    fed = {name: to_source(model.net, name, array) for name, array in inputs.items()}
    try:
        expected = model.runtime.run(fed)
    except SourceError as error:
        return SourceCheck(model.runtime.name, (), error.message)
    pairs = _in_source(model.net, expected, forward(compiled.model, inputs, weights).outputs)
    compared = [difference(name, *pair, LEAST_TOLERANCE) for name, pair in pairs.items()]
    differences = within_rounding(compared, compiled.model, inputs, weights, np.float32)
    return SourceCheck(model.runtime.name, differences, None if differences else LATE)


def _in_source(
    net: Net, expected: Mapping[str, Array], actual: Mapping[str, Array], in_step: Collection[str] = ()
) -> dict[str, tuple[Array, Array]]:
    """Return the outputs to be compared, in the source's order of axes; those ``in_step`` are of the same steps."""
    pairs = {name: (expected[name], to_source(net, name, array)) for name, array in actual.items()}
    aligned = {name: pair if name in in_step else _in_step(net, name, *pair) for name, pair in pairs.items()}
    return {name: pair for name, pair in aligned.items() if pair is not None}


def _in_step(net: Net, name: str, expected: Array, actual: Array) -> tuple[Array, Array] | None:
    """Return an output of the source and of the model, aligned where the model's is delayed.

    None where it is late and has no axis of time: the model's is that of fewer steps than the source's own.
    """
    lag = net.delays.get(name)
    if lag is None:
        return expected, actual
    shape = net.shapes[net.outputs[name]]
    places = [axis for axis, size in enumerate(shape) if size in net.time]
    if len(places) != 1:
        return None
    axis = net.axes[name][places[0]] if name in net.axes else places[0]
    actual = actual[(slice(None),) * axis + (slice(lag, None),)]
    count = min(expected.shape[axis], actual.shape[axis])
    return expected.take(range(count), axis), actual.take(range(count), axis)


def to_source(net: Net, name: str, array: Array) -> Array:
    """Return an input or output of the written model with the source's order of axes."""
    return np.transpose(array, np.argsort(net.axes[name])) if name in net.axes else array


def _sizes(net: Net, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Return the numbers of the inputs' open sizes in these arrays."""
    return {
        size.name: array.shape[axis]
        for name, array in inputs.items()
        for axis, size in enumerate(net.inputs[name])
        if isinstance(size, OpenSize)
    }


def difference(name: str, expected: Array, actual: Array, tolerance: float) -> Difference:
    """Return how far an output is from the expected one, relative to the largest number of that."""
    gap = absolute_gap(actual, expected)
    return Difference("output", name, 1, gap, relative_gap(actual, expected), tolerance)
