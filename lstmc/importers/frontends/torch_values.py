"""Values of a torch.export graph, and PyTorch's in-place writes as functions that return the changed array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.sizes import Shape, axis_in, fixed
from lstmc.importers.refusal import Refused
from lstmc.importers.weight import Weight

Poison = object()  # what a node makes that was refused
NotAvailable = object()  # a further result that has no counterpart, as where a maximum is: refused if something uses it


class Filled:
    """An array of which slices along one axis were assigned one by one, as by a loop over time."""

    def __init__(self, base: Operand, shape: Shape, axis: int, places: Mapping[int, Operand]) -> None:
        self.base, self.shape, self.axis, self.places = base, shape, axis, dict(places)
        self._joined: Operand | None = None

    def with_place(self, place: int, value: Operand) -> Filled:
        return Filled(self.base, self.shape, self.axis, {**self.places, place: value})

    def joined(self, layers: Layers) -> Operand:
        """Return the whole array as one value, which is built once."""
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
    """The state of a translation: the steps being built, and the values by node."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.values: dict[Any, Any] = {}

    def resolved(self, thing: Any) -> Any:
        """Return an argument with nodes replaced by their values."""
        if isinstance(thing, dict):
            return {key: self.resolved(one) for key, one in thing.items()}
        if isinstance(thing, list | tuple):
            return [self.resolved(one) for one in thing]
        return self.values[thing] if thing.__hash__ is not None and thing in self.values else thing

    def joined(self, thing: Any) -> Any:
        """Return a resolved argument with assigned arrays as values."""
        if isinstance(thing, dict):
            return {key: self.joined(one) for key, one in thing.items()}
        if isinstance(thing, list):
            return [self.joined(one) for one in thing]
        return thing.joined(self.layers) if isinstance(thing, Filled) else thing

    def weight(self, x: Operand, what: str) -> Weight:
        """Return an operand as a parameter. Raises :class:`Refused` for a computed value."""
        if not isinstance(x, Weight):
            raise Refused(what, "computed by the model", "it must be a parameter", "keep it as a parameter")
        return x


def weight_or_none(t: Torch, x: Any, what: str) -> Weight | None:
    return None if x is None else t.weight(x, what)


def _select(t: Torch, x: Operand | Filled, axis: int, at: int) -> Operand:
    """Select an element; an assigned one is the assigned value."""
    if not isinstance(x, Filled):
        return t.layers.select(x, axis, at)
    place = at % fixed(x.shape[axis_in(axis, len(x.shape))], f"axis {axis}")
    if axis_in(axis, len(x.shape)) == x.axis and place in x.places:
        return x.places[place]
    return t.layers.select(x.joined(t.layers), axis, at)


def _copied(t: Torch, x: Operand | Filled, source: Operand, non_blocking: bool = False) -> Operand:
    """Return ``source`` in the shape of x, all of which it overwrites."""
    shape = x.shape if isinstance(x, Filled) else t.layers.shape(x)
    source = t.joined(source)
    if isinstance(source, np.ndarray):
        return np.broadcast_to(source, [fixed(size, "a size") for size in shape])
    return t.layers.expand(source, shape)


def _place_written(t: Torch, x: Operand | Filled, source: Operand, axis: int, at: int) -> Filled:
    shape = x.shape if isinstance(x, Filled) else t.layers.shape(x)
    axis = axis_in(axis, len(shape))
    place = at % fixed(shape[axis], f"axis {axis}")
    if isinstance(x, Filled) and x.axis == axis:
        return x.with_place(place, t.joined(source))
    return Filled(t.joined(x), shape, axis, {place: t.joined(source)})


def _slice_written(
    t: Torch, x: Operand | Filled, source: Operand, axis: int = 0, start: int | None = None, stop: int | None = None,
    step: int = 1,
) -> Operand:  # fmt: skip
    shape = x.shape if isinstance(x, Filled) else t.layers.shape(x)
    size = fixed(shape[axis_in(axis, len(shape))], f"axis {axis}")
    places = range(size)[slice(start, stop, step)]
    if step != 1:
        raise Refused("step", str(step), "only contiguous elements can be assigned", "write them one by one")
    parts: list[Operand] = [t.joined(source)]
    if places.start > 0:
        parts.insert(0, t.layers.cut(t.joined(x), axis, 0, places.start))
    if places.stop < size:
        parts.append(t.layers.cut(t.joined(x), axis, places.stop, size))
    return t.layers.concat(parts, axis) if len(parts) > 1 else parts[0]


HANDLERS: dict[str, Callable[..., Any]] = {
    "aten.select.int": _select,
    "aten.copy.default": _copied,
    "aten.select_scatter.default": _place_written,
    "aten.slice_scatter.default": _slice_written,
}
