"""PyTorch's operators that write into a part of an array, as functions: the array with that part replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmc.importers.describe.shapes import axis_in, fixed
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.frontends.torch_values import Filled, Torch


def _select(t: Torch, x: Operand | Filled, axis: int, at: int) -> Operand:
    """A place that was written is what was written there."""
    if not isinstance(x, Filled):
        return t.layers.select(x, axis, at)
    place = at % fixed(x.shape[axis_in(axis, len(x.shape))], f"axis {axis}")
    if axis_in(axis, len(x.shape)) == x.axis and place in x.places:
        return x.places[place]
    return t.layers.select(x.joined(t.layers), axis, at)


def _copied(t: Torch, x: Operand | Filled, source: Operand, non_blocking: bool = False) -> Operand:
    """``source`` in the shape of x, all of which it overwrites."""
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
