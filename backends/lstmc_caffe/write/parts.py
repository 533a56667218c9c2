"""The parts of a net's files by name: layers of a prototxt with settings, weights of a caffemodel with copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lstmc.backend import Part, Parts, Violation
from lstmc.errors import BackendError
from lstmc.files.reading import read_file
from lstmc.ops import Array
from lstmc_caffe.proto.net import net_from_text, net_text, stored_layers

Fields = dict[str, str | Array]


def parts(file: str, content: bytes) -> Parts | None:
    """Return the layers of a prototxt, or the weights of a caffemodel; None for another file."""
    if file.endswith(".prototxt"):
        return _net_parts(content)
    return _weight_parts(content) if file.endswith(".caffemodel") else None


def _net_parts(content: bytes) -> Parts:
    """Return the fields of each layer that are not as by default. An unknown field raises :class:`BackendError`."""
    net = net_from_text(net_text(content), others=False)
    layers = list(net.layer)
    found: dict[Part, Fields] = {("net", "order of layers"): {"": "".join(f"{layer.name}\n" for layer in layers)}}
    for number, layer in enumerate(layers):
        name = layer.name if ("layer", layer.name) not in found else f"{layer.name}, layer {number}"
        found["layer", name] = dict(_fields(layer))
    net.ClearField("layer")
    found["net", "settings"] = dict(_fields(net))
    return found


def _fields(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a message that differ from their defaults, by path, as ``param[0].lr_mult``."""
    for field, value in message.ListFields():
        repeated = not hasattr(value, "ListFields") and hasattr(value, "__len__") and not isinstance(value, str | bytes)
        for at, each in enumerate(value) if repeated else [("", value)]:
            name = f"{path}{field.name}{f'[{at}]' if repeated else ''}"
            if hasattr(each, "ListFields"):
                inside = list(_fields(each, f"{name}."))
                yield from inside or ([(name, "{}")] if repeated else [])
            elif repeated or each != field.default_value:
                yield name, field.enum_type.values_by_number[each].name if field.enum_type else str(each)


def _weight_parts(content: bytes) -> Parts:
    found: dict[Part, Fields] = {}
    for name, layer, array in stored_blobs(content):
        found.setdefault(("weight", name), {})[f"in layer {layer}"] = array
    return found


def stored_blobs(content: bytes, params: Mapping[str, Sequence[str]] | None = None) -> Iterator[tuple[str, str, Array]]:
    """Yield each blob of a caffemodel: its parameter's name, its layer, and its numbers.

    Without ``params``, the names by layer, they are those in the file itself; a blob without one is named by its place.
    Raises :class:`BackendError` for what is no caffemodel.
    """
    for layer in stored_layers(content):
        names = (params or {}).get(layer.name) or [spec.name for spec in layer.param]
        for index, blob in enumerate(layer.blobs):
            name = (names[index] if index < len(names) else "") or f"{index} of {layer.name}"
            yield name, layer.name, _array(blob)


def _array(blob: Any) -> Array:
    shape = tuple(blob.shape.dim)
    if len(blob.data) != 4 * prod(shape):
        return np.frombuffer(blob.data, np.uint8)
    return np.frombuffer(blob.data, "<f4").reshape(shape)


COPIES = "the layers of a shared parameter have different numbers, and programs differ in which of them they use"


def lint_copies(net: Path) -> Iterator[Violation]:
    """Yield a violation for each layer whose copy of a parameter differs, in the caffemodel beside a prototxt."""
    stored = net.with_suffix(".caffemodel")
    if not stored.is_file():
        return
    layers = {layer.name: layer for layer in net_from_text(net_text(read_file(net))).layer}
    names = {name: [spec.name for spec in layer.param] for name, layer in layers.items()}
    try:
        copies = list(differing_copies(read_file(stored), names))
    except (BackendError, OSError) as error:
        reason = error.message if isinstance(error, BackendError) else f"cannot be read: {error.strerror}"
        raise BackendError(f"{stored.name} beside it: {reason}") from None
    for name, owner, layer in copies:
        kind = layers[layer].type if layer in layers else ""
        yield Violation(
            layer, kind, f"other numbers of {name}", f"those of layer {owner}", COPIES, "net.cpp: CopyTrainedLayersFrom"
        )


def differing_copies(
    content: bytes, params: Mapping[str, Sequence[str]] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield each copy of a shared parameter that differs from the first one: its name, the first layer, and its own."""
    first: dict[str, tuple[str, Array]] = {}
    for name, layer, array in stored_blobs(content, params):
        owner, expected = first.setdefault(name, (layer, array))
        if expected.shape != array.shape or expected.tobytes() != array.tobytes():
            yield name, owner, layer
