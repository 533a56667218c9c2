"""Shape operations that all frontends share: reshapes, slices, concatenations and padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmc.importers.frontends.refused import Refused
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.ops import Expand, Permute, Select, function
from lstmc.importers.ir.sizes import OpenSize, Shape, ShapeProblem, Size, axis_in, broadcast, fixed, listed
from lstmc.importers.weight import Weight, number
from lstmc.ops import Affine, Array, Concat, Op, Reshape, Split

MOST_PADDING = 10_000  # elements on one side of an axis
Operand = str | Weight | Array  # a value by name, a parameter, or numbers that are known


class ShapeOps:
    """Builds the steps of one node at a time; ``at`` sets the node, for messages and names."""

    def __init__(self, builder: NetBuilder) -> None:
        self.builder = builder
        self.hint, self.origin = "value", ""

    def at(self, hint: str, origin: str) -> None:
        self.hint, self.origin = hint, origin

    def shape(self, x: Operand) -> Shape:
        return self.builder.shapes[x] if isinstance(x, str) else tuple(x.shape)

    def value(self, x: Operand, hint: str = "constant") -> str:
        """Return an operand as a value; weights and numbers become parameters of the model."""
        if isinstance(x, str):
            return x
        weight = x if isinstance(x, Weight) else number(x)
        if not weight.shape:
            weight = weight.reshaped(1)
        return self.builder.param(weight, weight.sources[0] if len(weight.sources) == 1 else hint)

    def result(self, x: Operand, hint: str) -> str:
        """Return an operand as an output in its own shape, which may have no axes."""
        return self.reshape(self.value(x, hint), self.shape(x))

    def one(self, op: Op, *xs: Operand) -> str:
        """Add an op with one result."""
        return self.builder.one(op, *map(self.value, xs), hint=self.hint, origin=self.origin)

    def apply(self, name: str, x: Operand, *numbers: float) -> str:
        """Add an elementwise function with its coefficients."""
        return self.one(function(name, *map(float, numbers)), x)

    def affine(self, x: Operand, scale: float, shift: float) -> str:
        if (scale, shift) == (1.0, 0.0):
            return self.value(x)
        return self.one(Affine(float(scale), float(shift)), x)

    def concat(self, xs: Sequence[Operand], axis: int) -> str:
        if len(xs) == 1:
            return self.value(xs[0])
        return self.one(Concat(axis_in(axis, len(self.shape(xs[0])))), *xs)

    def reshape(self, x: Operand, shape: Sequence[Size]) -> str:
        step = self.builder.producer(x) if isinstance(x, str) else None
        if step is not None and isinstance(step.op, Reshape):
            x = step.inputs[0]
        return self.value(x) if tuple(shape) == self.shape(x) else self.one(Reshape(tuple(shape)), x)

    def transpose(self, x: Operand, axes: Sequence[int]) -> str:
        axes = tuple(axis_in(axis, len(self.shape(x))) for axis in axes)
        return self.value(x) if axes == tuple(range(len(axes))) else self.one(Permute(axes), x)

    def split(self, x: Operand, sizes: Sequence[int], axis: int) -> list[str]:
        if len(sizes) == 1:
            return [self.value(x)]
        op = Split(axis_in(axis, len(self.shape(x))), tuple(sizes))
        return [*self.builder.add(op, self.value(x), hint=self.hint, origin=self.origin)]

    def cut(self, x: Operand, axis: int, start: int, stop: int) -> str:
        """Return the elements from ``start`` up to ``stop`` of an axis."""
        axis = axis_in(axis, len(self.shape(x)))
        size = fixed(self.shape(x)[axis], f"axis {axis} of {listed(self.shape(x))}")
        if (joined := self._of_joined(x, axis, start, stop)) is not None:
            return joined
        if not 0 <= start < stop <= size:
            raise ShapeProblem(f"the elements from {start} up to {stop} of an axis of {size}")
        sizes = [n for n in (start, stop - start, size - stop) if n]
        return self.split(x, sizes, axis)[1 if start else 0]

    def _of_joined(self, x: Operand, axis: int, start: int, stop: int) -> str | None:
        """Return the operand of a concatenation x that a slice selects exactly, else None."""
        step = self.builder.producer(x) if isinstance(x, str) else None
        if step is None or step.op != Concat(axis):
            return None
        at = 0
        for value in step.inputs:
            if (at, at + fixed(self.shape(value)[axis], "a size")) == (start, stop):
                return value
            at += fixed(self.shape(value)[axis], "a size")
        return None

    def select(self, x: Operand, axis: int, index: int) -> str:
        """Return one element of an axis, without the axis."""
        axis = axis_in(axis, len(self.shape(x)))
        shape = self.shape(x)
        size = shape[axis]
        if isinstance(size, OpenSize):
            return self.one(Select(axis, index), x)
        index += size if index < 0 else 0
        return self.reshape(self.cut(x, axis, index, index + 1), (*shape[:axis], *shape[axis + 1 :]))

    def expand(self, x: Operand, shape: Sequence[Size]) -> str:
        """Broadcast x to a shape."""
        own = self.shape(x)
        if broadcast(own, tuple(shape)) != tuple(shape):
            raise ShapeProblem(f"{listed(own)} repeated to {listed(shape)}")
        y = self.reshape(x, (1,) * (len(shape) - len(own)) + own)
        return y if tuple(shape) == self.shape(y) else self.one(Expand(tuple(shape)), y)

    def tile(self, x: Operand, repeats: Sequence[int]) -> str:
        """Repeat x along each axis; missing axes are added in front."""
        own = self.shape(x)
        if len(repeats) < len(own) or min(repeats, default=1) < 1:
            raise ShapeProblem(f"{listed(own)} repeated {list(repeats)} times")
        y = self.reshape(x, (1,) * (len(repeats) - len(own)) + own)
        own = self.shape(y)
        y = self.expand(y, [n if size == 1 else size for n, size in zip(repeats, own, strict=True)])
        for axis, (count, size) in enumerate(zip(repeats, own, strict=True)):
            if size != 1:
                y = self.concat([y] * count, axis)
        return y

    def pick(self, x: Operand, axis: int, places: Sequence[int]) -> str:
        """Return some elements of an axis, in this order."""
        size = fixed(self.shape(x)[axis_in(axis, len(self.shape(x)))], f"axis {axis}")
        if not places or not all(-size <= place < size for place in places):
            raise ShapeProblem(f"elements {list(places)} of an axis of {size}")
        return self.concat([self.cut(x, axis, place % size, place % size + 1) for place in places], axis)

    def flip(self, x: Operand, axis: int) -> str:
        """Reverse an axis."""
        pieces = self.split(x, [1] * fixed(self.shape(x)[axis], f"axis {axis}"), axis)
        return self.concat(pieces[::-1], axis)

    def unsqueeze(self, x: Operand, axes: Sequence[int]) -> str:
        rank = len(self.shape(x)) + len(axes)
        places = {axis_in(axis, rank) for axis in axes}
        if len(places) < len(axes):
            raise ShapeProblem(f"new axes {list(axes)}, of which one occurs twice")
        sizes = iter(self.shape(x))
        return self.reshape(x, [1 if place in places else next(sizes) for place in range(rank)])

    def squeeze(self, x: Operand, axes: Sequence[int] | None) -> str:
        shape = self.shape(x)
        gone = [i for i, s in enumerate(shape) if s == 1] if axes is None else [axis_in(a, len(shape)) for a in axes]
        if any(shape[axis] != 1 for axis in gone):
            raise ShapeProblem(f"axes {gone} of {listed(shape)} are not all of size 1")
        return self.reshape(x, [size for axis, size in enumerate(shape) if axis not in gone])

    def mirror(self, x: Operand, axis: int, before: int, after: int) -> str:
        """Pad an axis by reflection at its first and last element."""
        size = fixed(self.shape(x)[axis], f"axis {axis}")
        if max(before, after) >= size:
            raise ShapeProblem(f"a mirrored padding of {max(before, after)} on an axis of {size}")
        parts = [self.flip(self.cut(x, axis, 1, before + 1), axis)] if before else []
        parts.append(self.value(x))
        parts += [self.flip(self.cut(x, axis, size - 1 - after, size - 1), axis)] if after else []
        return self.concat(parts, axis)

    def repeat_edges(self, x: Operand, axis: int, before: int, after: int) -> str:
        """Pad an axis with copies of its first and last element."""
        _check_padding(before, after)
        size = fixed(self.shape(x)[axis], f"axis {axis}")
        first, last = ([self.cut(x, axis, at, at + 1)] * count for at, count in ((0, before), (size - 1, after)))
        return self.concat([*first, self.value(x), *last], axis)

    def padded(self, x: Operand, sides: Mapping[int, tuple[int, int]], mode: str, fill: float) -> str:
        """Pad axes before and after: with zeros (``constant``), mirrors (``reflect``) or edges (``edge``).

        Raises :class:`Refused` for other modes, and for negative paddings.
        """
        paddings = {"constant": self.pad, "reflect": self.mirror, "edge": self.repeat_edges}
        padding = paddings.get("edge" if mode == "replicate" else mode)
        if padding is None or (mode == "constant" and fill):
            raise Refused("mode", f"{mode} of {fill}", "only zeros, mirrors and edges are written", "pad with zeros")
        if any(min(pair) < 0 for pair in sides.values()):
            raise Refused("pads", str([*sides.values()]), "a negative padding cuts", "slice instead")
        y = self.value(x)
        for axis, (before, after) in sides.items():
            if before or after:
                y = padding(y, axis_in(axis, len(self.shape(x))), before, after)
        return y

    def pad(self, x: Operand, axis: int, before: int, after: int) -> str:
        """Pad an axis with zeros."""
        _check_padding(before, after)
        parts = [self.value(x)]
        for count, first in ((before, True), (after, False)):
            while count > 0:
                size = fixed(self.shape(x)[axis], f"axis {axis}")
                some = min(count, size)
                zeros = self.affine(self.cut(x, axis, 0, some), 0.0, 0.0)
                parts = [zeros, *parts] if first else [*parts, zeros]
                count -= some
        return self.concat(parts, axis)


def _check_padding(before: int, after: int) -> None:
    if max(before, after) > MOST_PADDING:
        raise ShapeProblem(f"a padding of {before:,} and {after:,} elements; {MOST_PADDING:,} are the most")
