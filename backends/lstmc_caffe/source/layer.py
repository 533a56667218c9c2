"""A layer of a trained net: its message and place, the shapes of its bottoms, and its blobs from a caffemodel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from lstmc.errors import Argument
from lstmc.importers.refusal import Refusal, RefusedError, SourceError
from lstmc.importers.weight import Weight
from lstmc.ops import Array
from lstmc_caffe.targets.shapes import Shape, Shapes

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


def unknown_bottoms(message: Any, names: Collection[str], first: Collection[str]) -> tuple[Refusal, list[Argument]]:
    """Return the refusal of a layer that reads blobs of unknown shape, and the arguments that it names.

    ``first`` are the blobs whose shapes have to be given: those that no layer of a known type computes.
    """
    arguments = [Argument("shapes", f"{name}=SIZES") for name in first]
    why = f"no known layer computes {', '.join(first)}"
    mend = f"give {', '.join(map(str, arguments))}"
    return Refusal(label(message), "bottoms", f"{', '.join(names)} of unknown shape", why, mend), arguments


def first_unknown(layers: Sequence[Any], shapes: Shapes, place: int, names: Collection[str]) -> list[str]:
    """Return the blobs without a known shape that those of ``names``, read by the layer at a place, go back to."""
    waiting, found = set(names), list[str]()
    for layer, (bottoms, _) in reversed([*zip(layers, shapes.seen, strict=True)][:place]):
        tops = [top for top in layer.top if top in waiting]
        before = {name for name, shape in zip(layer.bottom, bottoms, strict=True) if shape is None}
        if tops:
            waiting -= {*tops}
            waiting |= before
            found += [] if before else tops
    return [*found, *sorted(waiting)]


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
        refusal = Refusal(f"blob {name}", "shape", value, "expected four bytes an element", "save it again")
        raise RefusedError(layer, [refusal])

    def read() -> Array:
        return np.frombuffer(blob.data, "<f4").reshape(shape)

    return Weight(shape, (name,), name, read)
