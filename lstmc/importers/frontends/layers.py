"""What every frontend builds of: products, slices, pooling and arithmetic, on values, weights and known numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lstmc.importers.describe.images import Conv, Pool, Windows
from lstmc.importers.describe.net import NetBuilder
from lstmc.importers.describe.ops import (
    Apply,
    Binary,
    Concat,
    Embed,
    Linear,
    Normalize,
    Reduce,
    Reshape,
    Softmax,
    Split,
    Transpose,
)
from lstmc.importers.describe.pointwise import RELU, Activation
from lstmc.importers.describe.shapes import Shape, ShapeProblem, Size, axis_in, fixed, listed
from lstmc.importers.weight import Weight, number
from lstmc.ops import Array

Operand = str | Weight | Array  # a value by name, a parameter, or numbers that are known
Pair = tuple[int, int]


class Layers:
    """One node's worth of steps at a time: ``at`` says which node, for errors and names."""

    def __init__(self, builder: NetBuilder) -> None:
        self.builder = builder
        self.hint, self.origin = "value", ""

    def at(self, hint: str, origin: str) -> None:
        self.hint, self.origin = hint, origin

    def shape(self, x: Operand) -> Shape:
        return self.builder.shapes[x] if isinstance(x, str) else tuple(x.shape)

    def value(self, x: Operand, hint: str = "constant") -> str:
        """Anything as a value: weights and numbers become parameters of the model."""
        if isinstance(x, str):
            return x
        weight = x if isinstance(x, Weight) else number(x)
        if not weight.shape:
            weight = weight.reshaped(1)
        return self.builder.param(weight, weight.sources[0] if len(weight.sources) == 1 else hint)

    def _one(
        self,
        op: Apply | Binary | Concat | Conv | Embed | Linear | Normalize | Pool | Reduce | Reshape | Softmax | Transpose,
        *xs: Operand,
    ) -> str:
        return self.builder.one(op, *map(self.value, xs), hint=self.hint, origin=self.origin)

    def apply(self, function: str, x: Operand, a: float = 0.0, b: float = 0.0) -> str:
        return self._one(Apply(Activation(function, a, b)), x)

    def affine(self, x: Operand, scale: float, shift: float) -> str:
        if (scale, shift) == (1.0, 0.0):
            return self.value(x)
        return self.apply("affine", x, scale, shift)

    def binary(self, kind: str, x: Operand, y: Operand) -> str:
        """Arithmetic; with one number it is an affine function, a power or a bound."""
        if (found := _scalar(y)) is not None:
            return self._with_number(kind, x, found, swapped=False)
        if (found := _scalar(x)) is not None:
            return self._with_number(kind, y, found, swapped=True)
        return self._one(Binary(kind), x, y)

    def _with_number(self, kind: str, x: Operand, c: float, swapped: bool) -> str:
        if kind == "add":
            return self.affine(x, 1.0, c)
        if kind == "sub":
            return self.affine(x, -1.0, c) if swapped else self.affine(x, 1.0, -c)
        if kind == "mul":
            return self.affine(x, c, 0.0)
        if kind == "div":
            return self.affine(self.apply("power", x, -1.0), c, 0.0) if swapped else self.affine(x, 1 / c, 0.0)
        if kind == "max":
            return self.affine(self._one(Apply(RELU), self.affine(x, 1.0, -c)), 1.0, c)
        return self.affine(self._one(Apply(RELU), self.affine(x, -1.0, c)), -1.0, c)

    def linear(self, x: Operand, w: Weight, b: Weight | None = None) -> str:
        return self._one(Linear(), x, w, *(() if b is None else (b,)))

    def embed(self, x: Operand, w: Weight) -> str:
        return self._one(Embed(), x, w)

    def softmax(self, x: Operand, axis: int, log: bool = False) -> str:
        return self._one(Softmax(axis_in(axis, len(self.shape(x))), log), x)

    def concat(self, xs: Sequence[Operand], axis: int) -> str:
        if len(xs) == 1:
            return self.value(xs[0])
        return self._one(Concat(axis_in(axis, len(self.shape(xs[0])))), *xs)

    def reshape(self, x: Operand, shape: Sequence[Size]) -> str:
        step = self.builder.maker(x) if isinstance(x, str) else None
        if step is not None and isinstance(step.op, Reshape):
            x = step.inputs[0]
        return self.value(x) if tuple(shape) == self.shape(x) else self._one(Reshape(tuple(shape)), x)

    def transpose(self, x: Operand, axes: Sequence[int]) -> str:
        axes = tuple(axis_in(axis, len(self.shape(x))) for axis in axes)
        return self.value(x) if axes == tuple(range(len(axes))) else self._one(Transpose(axes), x)

    def split(self, x: Operand, sizes: Sequence[int], axis: int) -> list[str]:
        if len(sizes) == 1:
            return [self.value(x)]
        op = Split(axis_in(axis, len(self.shape(x))), tuple(sizes))
        return [*self.builder.add(op, self.value(x), hint=self.hint, origin=self.origin)]

    def cut(self, x: Operand, axis: int, start: int, stop: int) -> str:
        """The elements from ``start`` up to ``stop`` of an axis."""
        axis = axis_in(axis, len(self.shape(x)))
        size = fixed(self.shape(x)[axis], f"axis {axis} of {listed(self.shape(x))}")
        if (joined := self._of_joined(x, axis, start, stop)) is not None:
            return joined
        if not 0 <= start < stop <= size:
            raise ShapeProblem(f"the elements from {start} up to {stop} of an axis of {size}")
        sizes = [n for n in (start, stop - start, size - stop) if n]
        return self.split(x, sizes, axis)[1 if start else 0]

    def _of_joined(self, x: Operand, axis: int, start: int, stop: int) -> str | None:
        """One of the values that x was joined from, if the cut is exactly it."""
        step = self.builder.maker(x) if isinstance(x, str) else None
        if step is None or step.op != Concat(axis):
            return None
        at = 0
        for value in step.inputs:
            if (at, at + fixed(self.shape(value)[axis], "a size")) == (start, stop):
                return value
            at += fixed(self.shape(value)[axis], "a size")
        return None

    def select(self, x: Operand, axis: int, index: int) -> str:
        """One element of an axis, which is gone in the result."""
        axis = axis_in(axis, len(self.shape(x)))
        index += fixed(self.shape(x)[axis], f"axis {axis}") if index < 0 else 0
        shape = self.shape(x)
        return self.reshape(self.cut(x, axis, index, index + 1), (*shape[:axis], *shape[axis + 1 :]))

    def flip(self, x: Operand, axis: int) -> str:
        """The elements of an axis from the last to the first."""
        pieces = self.split(x, [1] * fixed(self.shape(x)[axis], f"axis {axis}"), axis)
        return self.concat(pieces[::-1], axis)

    def unsqueeze(self, x: Operand, axes: Sequence[int]) -> str:
        rank = len(self.shape(x)) + len(axes)
        places = {axis_in(axis, rank) for axis in axes}
        sizes = iter(self.shape(x))
        return self.reshape(x, [1 if place in places else next(sizes) for place in range(rank)])

    def squeeze(self, x: Operand, axes: Sequence[int] | None) -> str:
        shape = self.shape(x)
        gone = [i for i, s in enumerate(shape) if s == 1] if axes is None else [axis_in(a, len(shape)) for a in axes]
        if any(shape[axis] != 1 for axis in gone):
            raise ShapeProblem(f"axes {gone} of {listed(shape)} are not all of size 1")
        return self.reshape(x, [size for axis, size in enumerate(shape) if axis not in gone])

    def reduce(self, kind: Literal["sum", "mean", "max", "min"], x: Operand, axes: Sequence[int], keep: bool) -> str:
        shape = self.shape(x)
        places = sorted({axis_in(axis, len(shape)) for axis in axes}, reverse=True)
        y = self.value(x)
        for axis in places:
            match kind:
                case "sum" | "mean":
                    y = self._one(Reduce(kind, axis), y)
                case "max" | "min":
                    y = self.squeeze(self._bound(kind, y, axis), [axis])
        return self.reshape(y, [1 if a in places else s for a, s in enumerate(shape)]) if keep else y

    def _bound(self, kind: str, y: str, axis: int) -> str:
        """The largest or smallest element of an axis, which is kept: one half against the other, until one is left."""
        size = fixed(self.shape(y)[axis], f"axis {axis}")
        while size > 1:
            half = size // 2
            first, second, *rest = self.split(y, [half, half] + [1] * (size % 2), axis)
            y = self.concat([self._one(Binary(kind), first, second), *rest], axis)
            size -= half
        return y

    def layer_norm(self, x: Operand, eps: float, scale: Weight | None, shift: Weight | None) -> str:
        y = self._one(Normalize(eps), x)
        y = y if scale is None else self._one(Binary("mul"), y, scale)
        return y if shift is None else self._one(Binary("add"), y, shift)

    def batch_norm(self, x: Operand, told: Sequence[Weight | None], eps: float, axis: int = 1) -> str:
        """``told``: scale, shift, mean and variance [C] along ``axis``, folded into one scale and one shift."""
        gamma, beta, mean, var = told
        assert mean is not None
        assert var is not None
        sources = tuple(name for weight in told if weight is not None for name in weight.sources)

        def scale() -> Array:
            deviation = np.sqrt(var.make().astype(np.float64) + eps)
            return (1 if gamma is None else gamma.make().astype(np.float64)) / deviation

        def shift() -> Array:
            moved = -mean.make() * scale()
            return moved if beta is None else moved + beta.make()

        ones = (1,) * (len(self.shape(x)) - 1 - axis_in(axis, len(self.shape(x))))
        words = "{} of a batch normalization of " + ", ".join(sources)
        a = Weight(var.shape, sources, words.format("scale"), scale).reshaped(*var.shape, *ones)
        b = Weight(var.shape, sources, words.format("shift"), shift).reshaped(*var.shape, *ones)
        stem = self.hint
        y = self._one(Binary("mul"), x, self.builder.param(a, f"{stem}_scale"))
        return self._one(Binary("add"), y, self.builder.param(b, f"{stem}_shift"))

    def mirror(self, x: Operand, axis: int, before: int, after: int) -> str:
        """So many elements more on either side of an axis, as if a mirror stood on its first and on its last one."""
        size = fixed(self.shape(x)[axis], f"axis {axis}")
        if max(before, after) >= size:
            raise ShapeProblem(f"a mirrored padding of {max(before, after)} on an axis of {size}")
        parts = [self.flip(self.cut(x, axis, 1, before + 1), axis)] if before else []
        parts.append(self.value(x))
        parts += [self.flip(self.cut(x, axis, size - 1 - after, size - 1), axis)] if after else []
        return self.concat(parts, axis)

    def repeat_edges(self, x: Operand, axis: int, before: int, after: int) -> str:
        """The first and the last element of an axis so many times more."""
        size = fixed(self.shape(x)[axis], f"axis {axis}")
        first, last = ([self.cut(x, axis, at, at + 1)] * count for at, count in ((0, before), (size - 1, after)))
        return self.concat([*first, self.value(x), *last], axis)

    def pad(self, x: Operand, axis: int, before: int, after: int) -> str:
        """Zeros before and after the elements of an axis."""
        parts = [self.value(x)]
        for count, first in ((before, True), (after, False)):
            while count > 0:
                size = fixed(self.shape(x)[axis], f"axis {axis}")
                some = min(count, size)
                zeros = self.affine(self.cut(x, axis, 0, some), 0.0, 0.0)
                parts = [zeros, *parts] if first else [*parts, zeros]
                count -= some
        return self.concat(parts, axis)

    def conv(
        self, x: Operand, w: Weight, b: Weight | None, stride: Pair, pads: tuple[Pair, Pair], dilation: Pair, group: int
    ) -> str:
        """x [N, C, H, W]; ``pads`` are (before, after) of the rows and of the columns."""
        for axis, (before, after) in enumerate(pads):
            if before != after:
                x = self.pad(x, 2 + axis, before, after)
        pad = tuple(before if before == after else 0 for before, after in pads)
        operands = (x, w) if b is None else (x, w, b)
        return self._one(Conv(stride, (pad[0], pad[1]), dilation, group), *operands)

    def pool(
        self,
        kind: Literal["max", "mean"],
        x: Operand,
        size: Pair,
        stride: Pair,
        pads: tuple[Pair, Pair],
        ceil: bool = False,
        counted: bool = True,
    ) -> str:
        """x [N, C, H, W]; ``pads`` are (before, after) of the rows and of the columns, ``counted`` by a mean or not.

        Where the source rounds down and Caffe up, what is too much is cut off.
        """
        sides = zip(self.shape(x)[2:], size, stride, pads, strict=True)
        rows, columns = (Windows.of(n, k, s, p, ceil, counted) for n, k, s, p in sides)
        pad = (rows.pad, columns.pad)
        for axis, (windows, k, s) in enumerate(zip((rows, columns), size, stride, strict=True)):
            used = (windows.count - 1) * s + k
            if not any(pad) and used < fixed(self.shape(x)[2 + axis], "an image's size"):
                x = self.cut(x, 2 + axis, 0, used)
        y = self._one(Pool(kind, size, stride, pad, ceil=True), x)
        for axis, windows in enumerate((rows, columns)):
            if self.shape(y)[2 + axis] != windows.count:
                y = self.cut(y, 2 + axis, windows.skip, windows.skip + windows.count)
        scales = np.outer(rows.scales, columns.scales)
        if kind == "max" or np.all(scales == 1):
            return y
        told = "what a window's mean counts in Caffe by what it counts in the source"
        return self._one(Binary("mul"), y, self.builder.param(number(scales, told), f"{self.hint}_counts"))


def _scalar(x: Operand) -> float | None:
    """The number that all elements are, of what is known."""
    if isinstance(x, str | Weight) or x.size == 0 or x.dtype == object:
        return None
    first = float(x.reshape(-1)[0])
    return first if x.size == 1 else None
