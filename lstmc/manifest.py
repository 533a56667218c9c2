"""The manifest: the data that a program needs to feed, read and train a written net, as JSON beside it.
Every backend writes it with :func:`describe`; a program that runs nets needs only this file, whose values are
checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema, PlainValidator, with_config
from pydantic_core import core_schema

from lstmc.backend import Compiled
from lstmc.backend.compiled import open_names
from lstmc.errors import ParseError, WeightsError
from lstmc.files.json_file import Count, NotExpected, Number, Shape, parse_json, read_bounded
from lstmc.files.output import shortest
from lstmc.ir import Graph, Ref, Step, parse_filler, parse_graph, print_graph
from lstmc.ops import Array, Domain, Filler, Input, IntegerRange, RealRange
from lstmc.passes import step_pattern
from lstmc.types import OpenSize, TensorType
from lstmc.version import __version__
from lstmc.weights import parameters

FORMAT = 1


def _initial(value: object) -> object:
    """Return a state's first value: a finite number, words, or an array of numbers. Raise ValueError for others."""
    if isinstance(value, str) or (type(value) in (int, float) and isfinite(value)):  # type: ignore[arg-type]
        return value
    if isinstance(value, list) and all(not isinstance(_initial(part), str) for part in value):
        return value
    raise ValueError("a number, words, or an array of numbers")


Open = tuple[str | None, ...]
Initial = Annotated[float | list[Any] | str, PlainValidator(_initial)]


@dataclass(frozen=True)
class Place:
    """The place of a value of the model in the net: ``shape`` is the model's.
    ``blobs`` are the net's blobs: () for an input that nothing reads, a single blob, or a blob for each step, with None
    for a step that nothing reads. A single blob may have another shape, ``blob_shape``: the same elements in the same
    order (``[T, N, D]`` as the rows ``[T*N, D]``). ``open``, if the net accepts other sizes too, has the dimension of
    each axis: None for a fixed size, "" for one that the net computes. Then there is one blob with the value's shape.
    ``delay`` is the number of steps by which an output is late: step t belongs to the inputs of step t - ``delay``."""

    shape: Shape
    blobs: tuple[str | None, ...]
    blob_shape: Shape | None = None
    open: Open = ()
    delay: int = 0

    @classmethod
    def from_types(
        cls, value_type: TensorType, blobs: tuple[tuple[str, TensorType] | None, ...], open: Open = ()
    ) -> Place:
        """Return the place of a value from the value's type and the names and types of its blobs."""
        types = [blob[1] for blob in blobs if blob is not None]
        other = types[0].shape if types and types[0] != value_type else None
        return cls(value_type.shape, tuple(None if blob is None else blob[0] for blob in blobs), other, open)

    def at(self, sizes: Mapping[str, int]) -> Shape:
        """Return the value's shape at these sizes of dimensions."""
        dims = self.open or (None,) * len(self.shape)
        return tuple(size if dim is None else sizes.get(dim, size) for size, dim in zip(self.shape, dims, strict=True))

    @property
    def names(self) -> list[str]:
        return [blob for blob in self.blobs if blob is not None]

    @property
    def label(self) -> str:
        """The blob, or the first and the last of several, as text."""
        return " ... ".join(dict.fromkeys((self.names[0], self.names[-1]))) if self.names else "none"

    @property
    def part_shape(self) -> Shape:
        return self.shape if self.blob_shape is None else self.blob_shape

    def fed(self, array: Array) -> Iterator[tuple[str, Array]]:
        """Yield each blob to fill, with its part of an array of the model's shape."""
        shape = np.shape(array) if self.open else self.part_shape
        steps = array if len(self.blobs) > 1 else [array]
        for blob, step in zip(self.blobs, steps, strict=False):
            if blob is not None:
                yield blob, step.reshape(shape)

    def read(self, blobs: Mapping[str, Array]) -> Array:
        """Return the array of the model's shape from the arrays of its blobs. A step without a blob is zero."""
        if self.open:
            return blobs[self.names[0]]
        zeros = np.zeros(prod(self.shape) // len(self.blobs), np.float32)
        parts = [zeros if blob is None else blobs[blob].ravel() for blob in self.blobs]
        return np.concatenate(parts).reshape(self.shape)


@dataclass(frozen=True)
class InputPlace:
    """An input of the model. ``filled``: the net fills it itself. ``fill`` is the filler of an input that is not fed,
    ``values`` the valid range of its elements; ``most`` the dynamic dimension whose size is the largest valid element,
    as the number of steps is for ``lengths``."""

    place: Place
    filled: bool = False
    fill: Filler | None = None
    values: Domain | None = None
    most: str | None = None

    @property
    def in_net(self) -> bool:
        return bool(self.place.names)

    def values_at(self, sizes: Mapping[str, int]) -> Domain | None:
        """Return the valid range of the input's elements at these sizes of dimensions, or None."""
        most = None if self.most is None else sizes.get(self.most)
        if most is not None and isinstance(self.values, IntegerRange):
            return replace(self.values, high=most)
        return self.values


@dataclass(frozen=True)
class State:
    """A state of a one-step net: the input, the output that is its next value, and its first value: a number, an array,
    or words if it is neither. The first value of a ``learned`` state belongs to the weights."""

    input: str
    output: str
    initial: Initial
    learned: bool = False

    @property
    def first_value(self) -> str:
        """The first value as text for people: a number, words, a reference to the manifest; empty for zero."""
        if isinstance(self.initial, str):
            return self.initial
        if isinstance(self.initial, list):
            return "the numbers that the manifest has"
        return f"{self.initial:g}" if self.initial else ""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the model, with its multipliers of the learning rate and weight decay."""

    shape: Shape
    lr_mult: Number
    decay_mult: Number


@dataclass(frozen=True)
class Stored:
    """The location of a blob of weights: the layer, and the blob's index in it."""

    layer: str
    index: Count
    shape: Shape


@dataclass(frozen=True)
class ScanBlobs:
    """A scan: its steps, and the pattern (``lstm/t%03d/h``) of each value with a blob for each step."""

    steps: Annotated[int, Field(ge=1)]
    reverse: bool
    blobs: Mapping[str, str]


def _known_format(number: int) -> int:
    if number != FORMAT:
        raise ValueError(str(FORMAT))
    return number


def _filler(value: Any) -> Filler:
    try:
        return parse_filler(value)
    except (ParseError, TypeError, RecursionError, MemoryError):  # the last two of Python's own parser
        raise ValueError("a filler") from None


def _domain(value: Any) -> Domain:
    """Return the range of integers or of reals that an object describes. Raise ValueError for anything else."""
    entry = value if isinstance(value, dict) else {}
    low, high, also = entry.get("low"), entry.get("high"), entry.get("also")
    if type(low) is type(high) is int and type(also) in (int, type(None)):
        return IntegerRange(low, high, also)
    if type(low) is type(high) is float:
        return RealRange(low, high)
    raise ValueError("an object with low and high, two numbers of one kind")


def _graph(value: Any) -> Graph:
    if isinstance(value, str):
        try:
            return parse_graph(value)
        except ParseError:
            pass
    raise ValueError("a graph of weights")


@dataclass(frozen=True, kw_only=True)
class PlaceEntry:
    """A :class:`Place` as a manifest has it: ``blobs`` only if there are several, ``open`` only if a size is open."""

    blob: str | None
    shape: Shape
    blobs: tuple[str | None, ...] | None = None
    blob_shape: Shape | None = None
    open: Open = ()

    def place(self) -> Place:
        """Return the place. Raise ValueError if its blobs do not fit its shape."""
        one = () if self.blob is None else (self.blob,)
        place = Place(self.shape, one if self.blobs is None else self.blobs, self.blob_shape, self.open)
        if place.blobs and prod(place.shape) != len(place.blobs) * prod(place.part_shape):
            raise ValueError("blobs that hold as many elements as its shape")
        if place.open and (len(place.open), len(place.names), place.blob_shape) != (len(place.shape), 1, None):
            raise ValueError("one blob of its shape, where sizes are open, with a name or null for each axis")
        return place


@dataclass(frozen=True, kw_only=True)
class OutputEntry(PlaceEntry):
    """The :class:`Place` of an output as a manifest has it: ``delay`` only if it is late."""

    delay: Count = 0

    def output(self) -> Place:
        """Return the output's place. Raise ValueError if a step has no blob."""
        place = self.place()
        if None in place.blobs:  # the steps of an output are concatenated: none may be missing
            raise ValueError("a blob for each step")
        return replace(place, delay=self.delay)


@with_config(ConfigDict(arbitrary_types_allowed=True))
@dataclass(frozen=True, kw_only=True)
class InputEntry(PlaceEntry):
    """An :class:`InputPlace` as a manifest has it."""

    filled: bool
    fill: Annotated[Filler, PlainValidator(_filler)] | None = None
    values: Annotated[Domain, PlainValidator(_domain)] | None = None
    most: str | None = None

    def input(self) -> InputPlace:
        """Return the input's place. Raise ValueError if it has several blobs, but not one, or null, for each step."""
        place = self.place()
        if len(place.blobs) > 1 and place.shape[:1] != (len(place.blobs),):
            raise ValueError("a blob, or null, for each step")
        return InputPlace(place, self.filled, self.fill, self.values, self.most)


def _made_by(kind: type[PlaceEntry], make: Callable[[Any], object]) -> Any:
    """Return the annotation of a field that ``make`` converts from a ``kind``, the type in the file."""
    return GetPydanticSchema(lambda _, schema_of: core_schema.no_info_after_validator_function(make, schema_of(kind)))


@with_config(ConfigDict(arbitrary_types_allowed=True))
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of a manifest. ``weights`` computes the ``blobs`` of weights from the ``parameters``; a parameter
    that no step uses is in no blob. ``states`` is None for a net that is not of one step. ``training_inputs`` are
    inputs that only losses and scores read. Of several errors of a file, the first is reported."""

    format: Annotated[int, AfterValidator(_known_format)]
    lstmc: str
    name: str
    source: str
    backend: str
    target: str
    inputs: Mapping[str, Annotated[InputPlace, _made_by(InputEntry, InputEntry.input)]]
    outputs: Mapping[str, Annotated[Place, _made_by(OutputEntry, OutputEntry.output)]]
    states: Mapping[str, State] | None
    parameters: Mapping[str, Parameter]
    blobs: Mapping[str, Stored]
    weights: Annotated[Graph, PlainValidator(_graph)]
    scans: Mapping[str, ScanBlobs]
    training_inputs: tuple[str, ...] = ()

    @property
    def input_blobs(self) -> list[str]:
        return [blob for entry in self.inputs.values() for blob in entry.place.names]

    @property
    def output_blobs(self) -> list[str]:
        """The blobs of all outputs, each once: an output may have several blobs, or share one."""
        return list(dict.fromkeys(blob for place in self.outputs.values() for blob in place.names))

    def fed(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Return the blobs to feed for inputs by the model's names, without those that the net fills itself."""
        fed = ((entry, arrays[name]) for name, entry in self.inputs.items() if name in arrays and not entry.filled)
        return {blob: part for entry, array in fed for blob, part in entry.place.fed(array)}

    def first_values(self) -> tuple[str, ...]:
        """Return a line for each state whose first value is not zero: the value to feed at the first step."""
        not_zero = [state for state in (self.states or {}).values() if state.first_value]
        return tuple(f"input {state.input}: at the first step feed {state.first_value}" for state in not_zero)

    def text(self) -> str:
        """Return the manifest as JSON."""
        content = {field.name: _written(getattr(self, field.name)) for field in fields(self)}
        if not self.training_inputs:
            del content["training_inputs"]
        return json.dumps(content, indent=2) + "\n"


def _written(value: Any) -> Any:
    """Return a value of a manifest in the form that JSON stores."""
    match value:
        case Mapping():
            return {name: _written(each) for name, each in value.items()}
        case Graph():
            return print_graph(value)
        case Place():
            return _place_entry(value)
        case InputPlace():
            return _input_entry(value)
        case State(learned=False):
            return {name: getattr(value, name) for name in ("input", "output", "initial")}
        case Parameter() | State() | Stored() | ScanBlobs():
            return asdict(value)
    return value


def _place_entry(place: Place) -> dict[str, Any]:
    blobs = {"blobs": place.blobs if len(place.blobs) > 1 else None, "shape": place.shape}
    more = {"blob_shape": place.blob_shape, "open": place.open or None, "delay": place.delay or None}
    return {"blob": place.blobs[0] if len(place.blobs) == 1 else None, **_without_none(blobs | more)}


def _input_entry(entry: InputPlace) -> dict[str, Any]:
    fill = None if entry.fill is None else repr(entry.fill)
    values = None if entry.values is None else asdict(entry.values)
    more = {"filled": entry.filled, "fill": fill, "values": values, "most": entry.most}
    return {**_place_entry(entry.place), **_without_none(more)}


def _without_none(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


def manifest_path(net: Path) -> Path:
    """Return the path of a net's manifest: beside the net, or beside the file of its weights."""
    return net.parent / f"{net.stem}.manifest.json"  # the path of a folder, as "." and "/", may have no name


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file. Raise WeightsError for another file, or an invalid value, which it names."""
    try:
        return parse_manifest(read_bounded(path))
    except FileNotFoundError:
        note = "copy it here: lstmc writes one beside each net"
        raise WeightsError(f"{path}: no such manifest", notes=[note]) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except NotExpected as wrong:
        raise WeightsError(f"{path} is not a manifest of format {FORMAT}: {wrong}") from None


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest from its content. Raises :class:`~lstmc.files.json_file.NotExpected`."""
    manifest = parse_json(content, Manifest)
    _check_names(manifest)
    return manifest


def _check_names(manifest: Manifest) -> None:
    """Raise NotExpected if the parts of a manifest disagree in the names or shapes of states, blobs or parameters."""
    for name, state in (manifest.states or {}).items():
        if state.input not in manifest.inputs or state.output not in manifest.outputs:
            raise NotExpected.at(("states", name), "the names of an input and of an output", asdict(state))
        shape = manifest.inputs[state.input].place.shape
        if isinstance(state.initial, list) and _shape(state.initial) != shape:
            raise NotExpected.at(("states", name, "initial"), f"an array of shape {list(shape)}", state.initial)
    computed = {output.name: manifest.weights.type(output.ref).shape for output in manifest.weights.outputs}
    inputs = {name: op.shape for name, op in parameters(manifest.weights).items() if not op.fixed}
    if computed != {name: stored.shape for name, stored in manifest.blobs.items()}:
        raise NotExpected.at(("weights",), "a graph that computes the blobs", _listed(computed))
    if not inputs.items() <= {name: parameter.shape for name, parameter in manifest.parameters.items()}.items():
        raise NotExpected.at(("weights",), "a graph of the parameters", _listed(inputs))


def _shape(parts: object) -> Shape:
    """Return the shape of nested lists, as far as their lengths agree."""
    if not isinstance(parts, list):
        return ()
    inner = {_shape(part) for part in parts}
    return (len(parts), *(inner.pop() if len(inner) == 1 else ()))


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"


def describe(
    compiled: Compiled, params: Mapping[str, Array], inputs: Mapping[str, tuple[Place, bool]],
    outputs: Mapping[str, Place], weights: Graph, blobs: Mapping[str, Stored] | None = None,
    opened: Graph | None = None,
) -> Manifest:  # fmt: skip
    """Return the manifest of a net that was written from ``compiled`` with these values of its parameters.
    ``inputs`` has each input's place, and whether the net fills it itself. ``weights`` is the graph that computes the
    ``blobs`` of weights (:mod:`~lstmc.ir.rebuild`), by default each parameter under its own name. ``opened`` is the
    graph that was written, of :meth:`Compiled.written`."""
    if blobs is None:
        blobs = {output.name: Stored(output.name, 0, weights.type(output.ref).shape) for output in weights.outputs}
    return Manifest(
        format=FORMAT,
        lstmc=__version__,
        name=compiled.name,
        source=compiled.source,
        backend=compiled.backend,
        target=compiled.target,
        inputs={name: _input(compiled, opened, name, *entry) for name, entry in inputs.items()},
        outputs={name: replace(place, delay=compiled.delays.get(name, 0)) for name, place in outputs.items()},
        states=manifest_states(compiled, params),
        parameters={n: Parameter(op.shape, op.lr_mult, op.decay_mult) for n, op in parameters(compiled.model).items()},
        blobs=blobs,
        weights=weights,
        scans=scan_blobs(compiled),
        training_inputs=compiled.training_inputs,
    )


def describe_tensors(
    compiled: Compiled, params: Mapping[str, Array], inputs: Mapping[str, str], outputs: Mapping[str, str],
    weights: Graph, opened: Graph,
) -> Manifest:  # fmt: skip
    """Return the manifest of a net in which each input and output is one tensor of the model's shape. ``inputs`` and
    ``outputs`` map names of the model to names of tensors; other arguments are those of :func:`describe`."""
    graph = compiled.expanded

    def place(ref: Ref, name: str) -> Place:
        return Place.from_types(graph.type(ref), ((name, graph.type(ref)),), open_names(opened.type(ref)))

    fed = {own: (place(Ref(own), name), False) for own, name in inputs.items()}
    read = {output.name: place(output.ref, outputs[output.name]) for output in graph.outputs}
    return describe(compiled, params, fed, read, weights, opened=opened)


def manifest_states(compiled: Compiled, params: Mapping[str, Array]) -> dict[str, State] | None:
    """Return the states of a net of one step by name, with their first values; None for another net."""
    if compiled.states is None:
        return None
    firsts = [(pair, _first_value(pair.first(params))) for pair in compiled.states]
    return {pair.name: State(pair.before, pair.after, first, pair.learned) for pair, first in firsts}


def _first_value(first: float | Array | str) -> Initial:
    if not isinstance(first, np.ndarray):
        return first
    return shortest(float(first.flat[0])) if (first == first.flat[0]).all() else np.vectorize(shortest)(first).tolist()


def _input(compiled: Compiled, opened: Graph | None, name: str, place: Place, filled: bool) -> InputPlace:
    """Return an input's place, with its fill, its valid range, and the dynamic dimension that may end the range."""
    op = compiled.model.node(name).op
    if not isinstance(op, Input):
        return InputPlace(place, filled)
    wide = opened.node(name).op if opened is not None and name in opened else None
    most = wide.values.high if isinstance(wide, Input) and isinstance(wide.values, IntegerRange) else None
    dim = most.name if isinstance(most, OpenSize) else None
    return InputPlace(place, filled, None if filled else op.fill, op.values, dim)


def step_blobs(compiled: Compiled) -> set[str]:
    """Return the blobs of all steps that the patterns in the manifest stand for (:func:`scan_blobs`)."""
    scans = scan_blobs(compiled).values()
    return {pattern % t for scan in scans for pattern in scan.blobs.values() for t in range(scan.steps)}


def scan_blobs(compiled: Compiled) -> dict[str, ScanBlobs]:
    """Return each scan's steps and direction, and a pattern for each value that has a blob for every step."""
    values = {pair for node in compiled.expanded if node.steps for pair in zip(node.names, node.steps, strict=True)}
    blobs_by_scan = {}
    for title, scan in compiled.scans.items():
        names = dict.fromkeys(output.name for output in (*scan.next_states, *scan.step_outputs))
        pattern = step_pattern(scan)
        blobs = {
            name: pattern + name
            for name in names
            if name and all((pattern % t + name, Step(title, t)) in values for t in range(scan.length))
        }
        blobs_by_scan[title] = ScanBlobs(scan.length, scan.reverse, blobs)
    return blobs_by_scan
