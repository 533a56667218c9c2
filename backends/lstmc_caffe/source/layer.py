"""A layer of a trained net: its message and place, the shapes of its bottoms, and its blobs from a caffemodel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from lstmc.importers.refusal import Refusal, RefusedError, SourceError
from lstmc.importers.weight import Weight
from lstmc.ops import Array
from lstmc_caffe.targets.shapes import Shape

TYPES = ("LSTM", "RNN")  # the recurrent layers of Caffe's own


@dataclass(frozen=True)
class Told:
    """What a person says of a net's blobs: shapes that its layers do not say, and inputs that are to be constants."""

    shapes: Mapping[str, Shape]
    values: Mapping[str, Array]


@dataclass(frozen=True)
class Layer:
    """A layer: its place among all layers, its message, its bottoms' shapes, and its blobs.

    ``fixed`` has those of its bottoms that are constants, by their names.
    """

    place: int
    message: Any
    bottoms: Sequence[Shape]
    blobs: Sequence[Weight]
    fixed: Mapping[str, Array] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How people are told of it."""
        return label(self.message)


def label(message: Any) -> str:
    """A layer's name with its type."""
    return f"{message.name} ({message.type})"


def unknown_bottoms(message: Any, names: Collection[str]) -> Refusal:
    """A layer that reads blobs of which nothing says the shape."""
    why = "its layer is none whose shapes are known here"
    return Refusal(label(message), "bottoms", f"{', '.join(names)} of unknown shape", why, "give its shape")


def constant_of(values: Mapping[str, Array], blob: str, shape: Shape) -> Array:
    """The array that an input is to be: as it is given, or one number for all elements.

    Raises :class:`SourceError` for one of another shape.
    """
    given = np.asarray(values[blob], np.float32)
    if given.shape not in ((), shape):
        raise SourceError(
            f"{blob} cannot be the constant: expected one number or {list(shape)}, found {list(given.shape)}"
        )
    return np.broadcast_to(given, shape)


def blobs_of(net: Any, trained: Any, types: Collection[str] | None = None) -> Mapping[int, Sequence[Weight]]:
    """The blobs of a net's layers, of these types or of all, by their places. ``trained`` is a caffemodel.

    Raises :class:`RefusedError` for blobs that are not float32.
    """
    stored = {(layer.name, layer.type): layer for layer in trained.layer}
    shared: dict[str, Weight] = {}
    found = {}
    for place, message in enumerate(net.layer):
        if types is not None and message.type not in types:
            continue
        layer = stored.get((message.name, message.type))
        sharing = {index: spec.name for index, spec in enumerate(message.param) if spec.name}
        own = [] if layer is None else [
            _weight(sharing.get(index), layer.name, index, blob) for index, blob in enumerate(layer.blobs)
        ]  # fmt: skip
        own = [shared.setdefault(sharing[i], blob) if i in sharing else blob for i, blob in enumerate(own)]
        if not own:  # a layer that only shares need not be in the file
            own = [shared[name] for name in sharing.values() if name in shared]
        found[place] = own
    return found


def _weight(param: str | None, layer: str, index: int, blob: Any) -> Weight:
    """A blob by the name under which layers share it, or else by its layer and its number there."""
    shape, name = tuple(blob.shape.dim), param or f"{layer}/{index}"
    if min(shape, default=1) < 0 or 4 * prod(shape) != len(blob.data):
        value = f"{list(shape)} in {len(blob.data):,} bytes"
        refusal = Refusal(f"blob {name}", "shape", value, "expected four bytes an element", "save it anew")
        raise RefusedError(layer, [refusal])

    def read() -> Array:
        return np.frombuffer(blob.data, "<f4").reshape(shape)

    return Weight(shape, (name,), name, read)
