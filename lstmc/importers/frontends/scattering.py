"""Gathering, sorting and replacing elements, at known places or, along one axis, at computed places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import prod
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Operand, Pair, constant
from lstmc.importers.ir.ops import Expand
from lstmc.importers.ir.values import ShapeProblem, axis_in, fixed, resolved
from lstmc.importers.refusal import Refused
from lstmc.ops import Array

MOST_RUNS = 4096  # the most pieces that are joined to a result
MOST_SORTED = 64  # the most elements to sort: each step searches for the largest
FOUND = -1e35  # replaces an element that was found: it is below the number for minus infinity
Combined = Literal["none", "add", "mul", "max", "min"]


def gathered(layers: Layers, x: Operand, indices: Array) -> str:
    """Return x[i, j, ...] for each row i, j, ... of constant ``indices``: ``GatherND``."""
    count = indices.shape[-1]
    flat, shape = _flat(layers, x, count), layers.shape(x)
    picked = _joined(layers, [flat], [(0, place) for place in _places(indices, shape).tolist()])
    return layers.reshape(picked, (*indices.shape[:-1], *shape[count:]))


def scattered(layers: Layers, x: Operand, indices: Array, updates: Operand, how: Combined) -> str:
    """Return x with ``updates`` at x[i, j, ...] for each row i, j, ... of ``indices``, written or combined with the old
    elements. Of several updates that are written to one place, the last counts."""
    count, shape = indices.shape[-1], layers.shape(x)
    places = _places(indices, shape)
    rows = layers.reshape(updates, (places.size, *shape[count:]))
    if how == "none":
        if (box := _box(indices, shape)) is not None:
            block = [stop - start for start, stop in box]
            return placed(layers, x, layers.reshape(updates, (*block, *shape[count:])), dict(enumerate(box)))
        return _replaced(layers, x, count, places, rows)
    if len({*places.tolist()}) < places.size:
        if how != "add":
            why = "several updates of one element are combined by add alone"
            raise Refused("reduction", how, why, "combine them before")
        places, rows = _added_up(layers, places, rows)
    own = _joined(layers, [_flat(layers, x, count)], [(0, place) for place in places.tolist()])
    return _replaced(layers, x, count, places, layers.binary(how, own, rows))


def _added_up(layers: Layers, places: Array, rows: str) -> tuple[Array, str]:
    """Return each place once, and the sum of the updates of this place: one product with a matrix of 0 and 1."""
    once, of_row = np.unique(places, return_inverse=True)
    shape = layers.shape(rows)
    flat = layers.reshape(rows, resolved((places.size, -1), shape))
    weights = (of_row[None] == np.arange(once.size)[:, None]).astype(np.float32)
    sums = layers.product("pk", "kr", "pr", weights, flat)
    return once, layers.reshape(sums, (once.size, *shape[1:]))


def elements(layers: Layers, x: Operand, indices: Array, axis: int) -> str:
    """Return the element of x at each constant index along ``axis``: ``GatherElements``."""
    axis = axis_in(axis, indices.ndim)
    if (rows := _rows(indices, layers.shape(x), axis)) is not None:
        return layers.pick(x, axis, rows)
    return gathered(layers, x, _of_all_axes(indices, axis))


def scattered_elements(layers: Layers, x: Operand, indices: Array, updates: Operand, axis: int, how: Combined) -> str:
    """Return x with each update at its constant index along ``axis``: ``ScatterElements``."""
    axis = axis_in(axis, indices.ndim)
    rows = _rows(indices, layers.shape(x), axis)
    if rows is None:
        flat = layers.reshape(updates, (indices.size,))
        return scattered(layers, x, _of_all_axes(indices, axis).reshape(indices.size, indices.ndim), flat, how)
    return scattered_rows(layers, x, axis, np.asarray(rows), updates, how)


def scattered_rows(layers: Layers, x: Operand, axis: int, rows: Array, updates: Operand, how: Combined) -> str:
    """Return x with a row of updates at each index along ``axis``, written or combined with the old row."""
    order = [axis, *(a for a in range(layers.rank(x)) if a != axis)]
    y = scattered(layers, layers.transpose(x, order), rows[:, None], layers.transpose(updates, order), how)
    return layers.transpose(y, np.argsort(order).tolist())


def taken(layers: Layers, x: Operand, axis: int, places: Operand) -> str:
    """Return the rows that known or computed indices name along an axis: ``Gather``."""
    if isinstance(places, str):
        return chosen(layers, x, places, axis)
    shape, known = layers.shape(x), np.asarray(constant(places))
    picked = layers.pick(x, axis, [int(place) for place in known.reshape(-1)])
    return layers.reshape(picked, (*shape[:axis], *known.shape, *shape[axis + 1 :]))


def chosen(layers: Layers, x: Operand, indices: str, axis: int) -> str:
    """Return the rows that computed indices name along an axis, as a product with 0 and 1."""
    rank, own = layers.rank(x), layers.rank(indices)
    axis = axis_in(axis, rank)
    own_axes = "abcdefghijklm"[:rank]
    more = "nopqrstuvwxyz"[:own]
    hot = one_hot(layers, indices, layers.size(x, axis), own)
    result = own_axes[:axis] + more + own_axes[axis + 1 :]
    if not more:  # one index without an axis
        hot = layers.reshape(hot, (layers.size(x, axis),))
    return layers.product(more + own_axes[axis], own_axes, result, hot, x)


def chosen_elements(layers: Layers, x: Operand, indices: Operand, axis: int, wraps: bool = True) -> str:
    """Return the element of x at each computed index along an axis, by a product with 0 and 1: ``GatherElements``."""
    shape, wanted = layers.shape(x), layers.shape(indices)
    axis = axis_in(axis, len(shape))
    for place, size in enumerate(wanted):
        if place != axis and size != shape[place]:
            x = layers.cut(x, place, 0, layers.size(indices, place))
    step = layers.builder.producer(indices) if isinstance(indices, str) else None
    if step is not None and isinstance(step.op, Expand) and wanted[axis] == layers.shape(step.inputs[0])[axis]:
        indices = step.inputs[0]  # the same places for all elements of its axes of one
    own, other = letters(len(wanted), axis)
    hot = one_hot(layers, indices, layers.size(x, axis), -1, wraps)
    return layers.expand(layers.product(f"{own}z", other, own, hot, x), wanted)


def written(
    layers: Layers, x: Operand, axis: int, places: Operand, source: Any, *, add: bool = False, wraps: bool = True
) -> str:
    """Return x with ``source`` written or added at computed places along an axis, each as a row of 0 and 1."""
    axis, shape = axis_in(axis, layers.rank(x)), layers.shape(x)
    wanted = layers.shape(places)
    if any(a != b for i, (a, b) in enumerate(zip(shape, wanted, strict=True)) if i != axis):
        why = f"it must have all of {[*shape]} but along the axis"
        raise Refused("index", f"of {[*wanted]}", why, "write whole rows")
    hot, (own, other) = one_hot(layers, places, layers.size(x, axis), -1, wraps), letters(len(shape), axis)
    x = layers.finite("add", x)
    if isinstance(source, int | float):
        source = float(layers.finite("add", np.asarray(float(source))))  # type: ignore[arg-type]
    else:
        source = layers.finite("add", source)
        for place, size in enumerate(wanted):
            source = source if layers.shape(source)[place] == size else layers.cut(source, place, 0, size)
        put = layers.product(f"{own}z", own, other, hot, source)
    order = [*range(len(shape) - 1)]
    order.insert(axis, len(shape) - 1)
    hits = layers.transpose(layers.reduce("sum", hot, [axis], keep=False), order)
    if isinstance(source, int | float):
        put = layers.affine(hits if add else layers.apply("step", hits), source, 0.0)
    kept = x if add else layers.binary("mul", x, layers.negated(layers.apply("step", hits)))
    return layers.binary("add", kept, put)


def in_order(layers: Layers, x: Operand, count: int, axis: int, largest: bool) -> list[str]:
    """Return the ``count`` largest or smallest elements in order, and their places, found one after the other."""
    if not layers.shape(x):
        return [layers.value(x), layers.value(np.zeros(()))]
    axis = axis_in(axis, layers.rank(x))
    size = layers.size(x, axis)
    if not 0 < count <= min(size, MOST_SORTED):
        most = f"1 to {min(size, MOST_SORTED)} elements of {size} are sorted"
        raise Refused("k", str(count), most, "give back the scores")
    sign = 1.0 if largest else -1.0
    left, values, places = layers.affine(x, sign, 0.0), list[str](), list[str]()
    span = (1,) * (layers.rank(x) - axis - 1)
    for found in range(count):
        values.append(layers.reduce("max", left, [axis], keep=True))
        places.append(layers.argmax(left, axis, keep=True))
        if found < count - 1:
            hit = layers.compare("eq", places[-1], np.arange(float(size)).reshape(-1, *span))
            left = layers.where(hit, np.asarray(FOUND), left)
    return [layers.affine(layers.concat(values, axis), sign, 0.0), layers.concat(places, axis)]


def letters(rank: int, axis: int) -> tuple[str, str]:
    """Return a letter for each axis, and the same letters with z for ``axis``."""
    own = ascii_lowercase[:rank]
    return own, f"{own[:axis]}z{own[axis + 1 :]}"


def one_hot(layers: Layers, indices: Operand, size: int, axis: int, wraps: bool = True) -> Operand:
    """Return 1 where the place along a new axis is the index, else 0; a constant for constant indices. A negative index
    counts from the end if it is constant or ``wraps`` is set."""
    rank = layers.rank(indices) + 1
    axis = axis_in(axis, rank)
    places = np.arange(float(size)).reshape([size if a == axis else 1 for a in range(rank)])
    if (known := constant(indices)) is not None:
        return np.asarray(np.expand_dims(known, axis) % size == places, np.float64)
    if wraps:
        below = layers.apply("step", layers.affine(indices, -1.0, 0.0))
        indices = layers.binary("add", indices, layers.affine(below, float(size), 0.0))
    return layers.compare("eq", layers.unsqueeze(indices, [axis]), layers.value(places, "places"))


def _places(indices: Array, shape: Sequence[int]) -> Array:
    """Return indices along a shape's first axes as places along one axis. Raises :class:`ShapeProblem` out of range."""
    sizes = [fixed(size, "a size") for size in shape[: indices.shape[-1]]]
    own = indices.reshape(-1, len(sizes)).astype(int)
    if len(sizes) > len(shape) or np.any(own < np.negative(sizes)) or np.any(own >= sizes):
        raise ShapeProblem(f"indices up to {own.max(initial=0)} of sizes {sizes}")
    places: Any = np.ravel_multi_index((own % sizes).T, sizes) if sizes else np.zeros(len(own), int)
    return np.asarray(places)


def _flat(layers: Layers, x: Operand, count: int) -> str:
    shape = layers.shape(x)
    return layers.reshape(x, (prod(fixed(size, "a size") for size in shape[:count]), *shape[count:]))


def _replaced(layers: Layers, x: Operand, count: int, places: Array, rows: str) -> str:
    """Return x with new ``rows`` at ``places``, for which the first ``count`` axes of x are joined to one."""
    flat = _flat(layers, x, count)
    sources = [(0, place) for place in range(layers.size(flat, 0))]
    for number, place in enumerate(places.tolist()):
        sources[place] = (1, number)
    return layers.reshape(_joined(layers, [flat, rows], sources), layers.shape(x))


def _joined(layers: Layers, parts: Sequence[str], sources: Sequence[tuple[int, int]]) -> str:
    """Return rows of ``parts`` in the order of ``sources``, pairs of a part's and a row's number. Raises
    :class:`Refused` for too many runs of neighbouring rows, which are cut together."""
    # neighbours have one part, and one difference of row and number
    groups = groupby(enumerate(sources), lambda pair: (pair[1][0], pair[1][1] - pair[0]))
    runs = [[source for _, source in group] for _, group in groups]
    if not runs or len(runs) > MOST_RUNS:
        what = f"of {len(runs):,} pieces that do not follow each other"
        raise Refused("indices", what, f"{MOST_RUNS:,} are the most, and one is the least", "use fewer, or a product")
    return layers.concat([layers.cut(parts[run[0][0]], 0, run[0][1], run[-1][1] + 1) for run in runs], 0)


def _box(indices: Array, shape: Sequence[int]) -> list[Pair] | None:
    """Return start and stop of each axis of the block that has these indices in order; None if there is none."""
    sizes = [fixed(size, "a size") for size in shape[: indices.shape[-1]]]
    places = indices.reshape(-1, len(sizes)) % sizes
    first, last = places.min(0, initial=2**31), places.max(0, initial=-1) + 1
    block = tuple(int(size) for size in last - first)
    if not places.size or prod(block) != len(places):
        return None
    same = np.array_equal(places - first, np.indices(block).reshape(len(block), -1).T)
    return [(int(a), int(b)) for a, b in zip(first, last, strict=True)] if same else None


def placed(layers: Layers, x: Operand, part: Operand, box: Mapping[int, Pair]) -> str:
    """Return x with a block replaced by ``part``; ``box`` has start and stop of the block on each axis."""
    cuts = [axis for axis, pair in box.items() if pair != (0, layers.size(x, axis))]
    y = layers.value(part)
    for at, axis in reversed([*enumerate(cuts)]):
        around, (start, stop), size = layers.value(x), box[axis], layers.size(x, axis)
        for outer in cuts[:at]:
            around = layers.cut(around, outer, *box[outer])
        before = [layers.cut(around, axis, 0, start)] if start else []
        after = [layers.cut(around, axis, stop, size)] if stop < size else []
        y = layers.concat([*before, y, *after], axis)
    return y


def _rows(indices: Array, shape: Sequence[int], axis: int) -> list[int] | None:
    """Return the index at each place of ``axis`` if all other axes are complete, with equal indices; else None."""
    rows = indices[tuple(slice(None) if a == axis else slice(1) for a in range(indices.ndim))]
    whole = all(own == size for a, (own, size) in enumerate(zip(indices.shape, shape, strict=True)) if a != axis)
    return [int(row) for row in rows.reshape(-1)] if whole and np.all(indices == rows) else None


def _of_all_axes(indices: Array, axis: int) -> Array:
    grid: Any = np.indices(indices.shape)
    grid[axis] = indices
    return np.asarray(np.moveaxis(grid, 0, -1))
