"""Reading a manifest: all of it is checked, so that whoever uses it need not."""

from __future__ import annotations

from math import prod
from pathlib import Path

from lstmc.errors import Mend, ParseError, WeightsError
from lstmc.ir import Graph, parse_filler, parse_graph
from lstmc.json_file import Item, NotExpected, parsed, read_json
from lstmc.manifest.structure import (
    FORMAT,
    InputPlace,
    Manifest,
    Parameter,
    Place,
    ScanBlobs,
    State,
    Stored,
)
from lstmc.ops import Filler, IntegerRange
from lstmc.weights import parameters


def read_manifest(path: Path) -> Manifest:
    """A manifest from its file. Raises :class:`WeightsError` for a file that is none, that is of another format, or
    in which something is not as it should be, and says what."""
    try:
        return read_json(path, _manifest)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such manifest", mends=[Mend.NAME_MANIFEST]) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except NotExpected as wrong:
        raise WeightsError(f"{path} is no manifest of format {FORMAT}: {wrong}") from None


def parse_manifest(content: bytes) -> Manifest:
    """A manifest from its content. Raises :class:`~lstmc.json_file.NotExpected`."""
    return _manifest(parsed(content))


def _manifest(item: Item) -> Manifest:
    if item["format"].value != FORMAT:
        raise item["format"].wrong(str(FORMAT))
    found = Manifest(
        name=item["name"].text(),
        source=item["source"].text(),
        target=item["target"].text(),
        inputs={name: _read_input(entry) for name, entry in item["inputs"].mapping().items()},
        outputs={name: _read_output(entry) for name, entry in item["outputs"].mapping().items()},
        states={name: _read_state(entry) for name, entry in item["states"].mapping().items()},
        parameters={
            name: Parameter(entry["shape"].shape(), entry["lr_mult"].number(), entry["decay_mult"].number())
            for name, entry in item["parameters"].mapping().items()
        },
        blobs={
            name: Stored(entry["layer"].text(), entry["index"].whole(), entry["shape"].shape())
            for name, entry in item["blobs"].mapping().items()
        },
        weights=_read_weights(item["weights"]),
        scans={
            name: ScanBlobs(
                entry["steps"].whole(1),
                entry["reverse"].flag(),
                {key: pattern.text() for key, pattern in entry["blobs"].mapping().items()},
            )
            for name, entry in item["scans"].mapping().items()
        },
        lstmc=item["lstmc"].text(),
    )
    _agree(found, item)
    return found


def _read_place(item: Item) -> Place:
    several, one, other = item.get("blobs"), item["blob"], item.get("blob_shape")
    names = [] if one.value is None else [one.text()]
    place = Place(
        item["shape"].shape(),
        tuple(names if several is None else [None if n.value is None else n.text() for n in several.items()]),
        None if other is None else other.shape(),
    )
    shape = place.shape if place.blob_shape is None else place.blob_shape
    if place.blobs and prod(place.shape) != len(place.blobs) * prod(shape):
        raise item.wrong("blobs that hold as many elements as its shape")
    return place


def _read_output(item: Item) -> Place:
    """Blobs of several steps are one array after the other, whatever axes the model gives the whole."""
    place = _read_place(item)
    if None in place.blobs:
        raise item.wrong("a blob for each step")
    return place


def _read_input(item: Item) -> InputPlace:
    fill, values, place = item.get("fill"), item.get("values"), _read_place(item)
    if len(place.blobs) > 1 and place.shape[:1] != (len(place.blobs),):
        raise item.wrong("a blob, or null, for each step")
    return InputPlace(
        place,
        item["filled"].flag(),
        None if fill is None else _read_filler(fill),
        None if values is None else _read_range(values),
    )


def _read_filler(item: Item) -> Filler:
    try:
        return parse_filler(item.text())
    except (ParseError, RecursionError, MemoryError):  # the last two of Python's own parser
        raise item.wrong("a filler") from None


def _read_range(item: Item) -> IntegerRange:
    also = item["also"]
    return IntegerRange(
        item["low"].whole(None), item["high"].whole(None), None if also.value is None else also.whole(None)
    )


def _read_state(item: Item) -> State:
    initial = item["initial"]
    first = initial.text() if isinstance(initial.value, str) else initial.number()
    return State(item["input"].text(), item["output"].text(), first)


def _read_weights(item: Item) -> Graph:
    try:
        return parse_graph(item.text())
    except ParseError:
        raise item.wrong("a graph of weights") from None


def _agree(manifest: Manifest, item: Item) -> None:
    """Whether its parts speak of the same names."""
    for name, state in manifest.states.items():
        if state.input not in manifest.inputs or state.output not in manifest.outputs:
            raise item["states"][name].wrong("the names of an input and of an output")
    computed = {output.name: manifest.weights.type(output.ref).shape for output in manifest.weights.outputs}
    given = {name: op.shape for name, op in parameters(manifest.weights).items()}
    if computed != {name: stored.shape for name, stored in manifest.blobs.items()}:
        raise item["weights"].wrong("a graph that computes the blobs")
    if not given.items() <= {name: parameter.shape for name, parameter in manifest.parameters.items()}.items():
        raise item["weights"].wrong("a graph of the parameters")
