"""Reading a manifest: all of it is checked, so that whoever uses it need not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, PlainValidator, with_config

from lstmc.errors import Mend, ParseError, WeightsError
from lstmc.ir import Graph, parse_filler, parse_graph
from lstmc.files.json_file import NotExpected, Shape, parsed, read_bounded
from lstmc.manifest.manifest import (
    FORMAT,
    InputPlace,
    Manifest,
    Open,
    Parameter,
    Place,
    ScanBlobs,
    State,
    Stored,
)
from lstmc.ops import Domain, Filler, IntegerRange, RealRange
from lstmc.weights import parameters


def manifest_path(net: Path) -> Path:
    """Where the manifest of a net is: beside it, or beside the file of its weights."""
    return net.with_name(f"{net.stem}.manifest.json")


def read_manifest(path: Path) -> Manifest:
    """A manifest from its file. Raises :class:`WeightsError` for a file that is none, that is of another format, or
    in which something is not as it should be, and says what."""
    try:
        return parse_manifest(read_bounded(path))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such manifest", mends=[Mend.NAME_MANIFEST]) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except NotExpected as wrong:
        raise WeightsError(f"{path} is not a manifest of format {FORMAT}: {wrong}") from None


def parse_manifest(content: bytes) -> Manifest:
    """A manifest from its content. Raises :class:`~lstmc.files.json_file.NotExpected`."""
    file = parsed(content, ManifestFile)
    found = Manifest(
        name=file.name,
        source=file.source,
        backend=file.backend,
        target=file.target,
        inputs={name: entry.input() for name, entry in file.inputs.items()},
        outputs={name: entry.place() for name, entry in file.outputs.items()},
        states=file.states,
        parameters=file.parameters,
        blobs=file.blobs,
        weights=file.weights,
        scans=file.scans,
        lstmc=file.lstmc,
    )
    _agree(found)
    return found


def _known(number: int) -> int:
    if number != FORMAT:
        raise ValueError(str(FORMAT))
    return number


def _filler(value: Any) -> Filler:
    try:
        return parse_filler(value)
    except (ParseError, TypeError, RecursionError, MemoryError):  # the last two of Python's own parser
        raise ValueError("a filler") from None


def _domain(value: Any) -> Domain:
    found = value if isinstance(value, dict) else {}
    low, high, also = found.get("low"), found.get("high"), found.get("also")
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


def _holds_its_shape(entry: WrittenPlace) -> WrittenPlace:
    place = entry.place()
    shape = place.shape if place.blob_shape is None else place.blob_shape
    if place.blobs and prod(place.shape) != len(place.blobs) * prod(shape):
        raise ValueError("blobs that hold as many elements as its shape")
    if place.open and (len(place.open), len(place.names), place.blob_shape) != (len(place.shape), 1, None):
        raise ValueError("one blob of its shape, where sizes are open, with a name or null for each axis")
    return entry


def _has_every_step(entry: WrittenPlace) -> WrittenPlace:
    """Blobs of several steps are one array after the other, whatever axes the model gives the whole."""
    if None in entry.place().blobs:
        raise ValueError("a blob for each step")
    return entry


def _is_cut_by_step(entry: WrittenInput) -> WrittenInput:
    if entry.blobs is not None and len(entry.blobs) > 1 and entry.shape[:1] != (len(entry.blobs),):
        raise ValueError("a blob, or null, for each step")
    return entry


@dataclass(frozen=True, kw_only=True)
class WrittenPlace:
    """A :class:`Place` as a manifest has it: ``blobs`` only where there are several, ``open`` where a size is."""

    blob: str | None
    shape: Shape
    blobs: tuple[str | None, ...] | None = None
    blob_shape: Shape | None = None
    open: Open = ()

    def place(self) -> Place:
        one = () if self.blob is None else (self.blob,)
        return Place(self.shape, one if self.blobs is None else self.blobs, self.blob_shape, self.open)


@with_config(ConfigDict(arbitrary_types_allowed=True))
@dataclass(frozen=True, kw_only=True)
class WrittenInput(WrittenPlace):
    """An :class:`InputPlace` as a manifest has it."""

    filled: bool
    fill: Annotated[Filler, PlainValidator(_filler)] | None = None
    values: Annotated[Domain, PlainValidator(_domain)] | None = None
    most: str | None = None

    def input(self) -> InputPlace:
        return InputPlace(self.place(), self.filled, self.fill, self.values, self.most)


@with_config(ConfigDict(arbitrary_types_allowed=True))
@dataclass(frozen=True)
class ManifestFile:
    """A manifest as it is written. Of several things that are wrong the first is told."""

    format: Annotated[int, AfterValidator(_known)]
    lstmc: str
    name: str
    source: str
    backend: str
    target: str
    inputs: dict[str, Annotated[WrittenInput, AfterValidator(_holds_its_shape), AfterValidator(_is_cut_by_step)]]
    outputs: dict[str, Annotated[WrittenPlace, AfterValidator(_holds_its_shape), AfterValidator(_has_every_step)]]
    states: dict[str, State] | None
    parameters: dict[str, Parameter]
    blobs: dict[str, Stored]
    weights: Annotated[Graph, PlainValidator(_graph)]
    scans: dict[str, ScanBlobs]


def _agree(manifest: Manifest) -> None:
    """Whether its parts speak of the same names."""
    for name, state in (manifest.states or {}).items():
        if state.input not in manifest.inputs or state.output not in manifest.outputs:
            raise NotExpected.at(("states", name), "the names of an input and of an output", asdict(state))
    computed = {output.name: manifest.weights.type(output.ref).shape for output in manifest.weights.outputs}
    given = {name: op.shape for name, op in parameters(manifest.weights).items() if not op.fixed}
    if computed != {name: stored.shape for name, stored in manifest.blobs.items()}:
        raise NotExpected.at(("weights",), "a graph that computes the blobs", _written(computed))
    if not given.items() <= {name: parameter.shape for name, parameter in manifest.parameters.items()}.items():
        raise NotExpected.at(("weights",), "a graph of the parameters", _written(given))


def _written(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
