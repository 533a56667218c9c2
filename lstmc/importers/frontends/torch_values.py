"""What the nodes of a torch.export graph stand for while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from lstmc.importers.describe.shapes import Shape, fixed
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight

Unsupported = object()  # what a node makes that was refused
Untold = object()  # a further result that has no counterpart, as where a maximum is: refused if something uses it


class Filled:
    """An array of which places along one axis were given values one after another, as a loop over time gives them."""

    def __init__(self, base: Operand, shape: Shape, axis: int, places: Mapping[int, Operand]) -> None:
        self.base, self.shape, self.axis, self.places = base, shape, axis, dict(places)
        self._joined: Operand | None = None

    def with_place(self, place: int, value: Operand) -> Filled:
        return Filled(self.base, self.shape, self.axis, {**self.places, place: value})

    def joined(self, layers: Layers) -> Operand:
        """All of it as one value: made once, when something reads it."""
        if self._joined is None:
            size = fixed(self.shape[self.axis], f"axis {self.axis}")
            parts: list[Operand] = []
            for filled, run in groupby(range(size), self.places.__contains__):
                places = list(run)
                if filled:
                    parts += [layers.unsqueeze(self.places[place], [self.axis]) for place in places]
                elif isinstance(self.base, np.ndarray):
                    parts.append(self.base.take(places, self.axis))
                else:
                    parts.append(layers.cut(self.base, self.axis, places[0], places[-1] + 1))
            self._joined = layers.concat(parts, self.axis)
        return self._joined


class Torch:
    """Nodes by what they are: operands, lists of them, numbers."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.values: dict[Any, Any] = {}

    def resolved(self, thing: Any) -> Any:
        """An argument with what its nodes stand for put in."""
        if isinstance(thing, dict):
            return {key: self.resolved(one) for key, one in thing.items()}
        if isinstance(thing, list | tuple):
            return [self.resolved(one) for one in thing]
        return self.values[thing] if thing.__hash__ is not None and thing in self.values else thing

    def joined(self, thing: Any) -> Any:
        """A resolved argument, in which arrays that were written into by places are values."""
        if isinstance(thing, dict):
            return {key: self.joined(one) for key, one in thing.items()}
        if isinstance(thing, list):
            return [self.joined(one) for one in thing]
        return thing.joined(self.layers) if isinstance(thing, Filled) else thing

    def weight(self, x: Operand, what: str) -> Weight:
        """An operand that must be a parameter."""
        if not isinstance(x, Weight):
            raise Refused(what, "computed by the model", "it must be a parameter", "keep it as a parameter")
        return x


def weight_or_none(t: Torch, x: Any, what: str) -> Weight | None:
    return None if x is None else t.weight(x, what)
