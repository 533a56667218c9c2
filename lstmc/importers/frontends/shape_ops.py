"""Operations that all frontends share: moving elements, and windows over one axis or two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np

from lstmc.importers.ir import values
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.ops import Expand, Permute, Select, function
from lstmc.importers.ir.values import OpenSize, Shape, ShapeProblem, Size, Weight, axis_in, fixed, in_pieces, listed
from lstmc.importers.refusal import Refused
from lstmc.ops import Affine, Array, AvePool, Concat, Conv, Linear, MaxPool, Mul, Op, Reshape, Split
from lstmc.types import MOST_ELEMENTS

LARGE = 1e9  # stands for infinity
MOST_PADDING = 10_000  # the most elements on one side of an axis
Operand = str | Weight | Array  # a value by name, a parameter, or known numbers
Sizes = Sequence[int]
Pair = tuple[int, int]
Pooled = Literal["max", "mean"]
_NONE: Pair = (0, 0)


def constant(x: Operand | None) -> Array | None:
    """Return the elements of a parameter or constant; None for a computed value."""
    return x.make() if isinstance(x, Weight) else x if isinstance(x, np.ndarray) else None


def window_count(size: int, kernel: int, stride: int, pads: Pair, ceil: bool) -> int:
    """Return how many windows fit, rounded up with ``ceil``. Raises :class:`ShapeProblem` if none does."""
    room = size + sum(pads) - kernel
    if room < 0:
        raise ShapeProblem(f"a window of {kernel} is larger than the padded image of {size}")
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + pads[0] else count


def same_padding(size: Size, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the padding (before, after) for ceil(size / stride) windows. If it is odd, one more zero comes after."""
    total = dilation * (kernel - 1)
    if stride != 1:
        n = fixed(size, "an image's size")
        total = max((-(-n // stride) - 1) * stride + total + 1 - n, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Windows:
    """Caffe's pooling along an axis, padded equally on both sides and rounded up, for windows of another framework.
    ``pad`` is the padding; only ``count`` windows after the first ``skip`` are used. ``scales`` multiply the means of
    windows, where the other framework divides by another number of elements than Caffe."""

    pad: int
    skip: int
    count: int
    scales: tuple[float, ...]

    @classmethod
    def of(cls, size: Size, kernel: int, stride: int, pads: Pair, ceil: bool, counted: bool) -> Windows:
        """Return Caffe's windows for those of another framework; if ``counted``, a mean counts padding."""
        n, (before, after) = fixed(size, "an image's size"), pads
        count = in_pieces(window_count(n, kernel, stride, pads, ceil))
        for pad, skip in ((before, 0), (after, (after - before) // stride)):
            fits = skip * stride == pad - before and pad < kernel
            if fits and window_count(n, kernel, stride, (pad, pad), True) >= skip + count:
                starts = [i * stride - before for i in range(count)]
                by_caffe = [min(at + kernel, n + pad) - at for at in starts]
                edge = n + after if counted else n
                by_source = [min(at + kernel, edge) - (at if counted else max(at, 0)) for at in starts]
                if min(by_source) < 1:
                    break
                return cls(pad, skip, count, tuple(c / w for c, w in zip(by_caffe, by_source, strict=True)))
        raise ShapeProblem(
            f"windows of {kernel} with padding {list(pads)} and stride {stride} over {n}, as Caffe has none"
        )


class Reversal(NamedTuple):
    """A reversal of ``axis``; with ``lengths``, of the first lengths[n] elements in element n of axis ``batch``."""

    x: str
    axis: int
    lengths: Operand | None
    batch: int


class ShapeOps:
    """Builds the steps of one node of a source after another; ``at`` sets the node, for messages and names. A method
    adds steps to the net and returns the name of the result."""

    def __init__(self, builder: NetBuilder) -> None:
        self.builder = builder
        self.hint = "value"  # names the results
        self.reversals: dict[str, Reversal] = {}  # reversed values, and of what they are reversals

    def at(self, hint: str, origin: str) -> None:
        self.hint, self.builder.where = hint, origin

    def shape(self, x: Operand) -> Shape:
        return self.builder.shapes[x] if isinstance(x, str) else tuple(x.shape)

    def rank(self, x: Operand) -> int:
        return len(self.shape(x))

    def size(self, x: Operand, axis: int, name: str | None = None) -> int:
        """Return the size of an axis. Raises :class:`ShapeProblem` for a missing axis, or an open size."""
        shape = self.shape(x)
        return fixed(shape[axis_in(axis, len(shape))], name or f"axis {axis}")

    def value(self, x: Operand, hint: str = "constant") -> str:
        """Return an operand as the name of a value. A weight or a constant becomes a parameter of the model."""
        if isinstance(x, str):
            return x
        if isinstance(x, np.ndarray) and x.dtype == object:
            raise ShapeProblem(f"{x.reshape(-1).tolist()} must be known here")
        weight = x if isinstance(x, Weight) else values.number(x)
        if not weight.shape:
            weight = weight.reshaped(1)
        return self.builder.param(weight, weight.sources[0] if len(weight.sources) == 1 else hint)

    def result(self, x: Operand, hint: str) -> str:
        """Return an operand as an output in its own shape, which may have no axes."""
        return self.reshape(self.value(x, hint), self.shape(x))

    def one(self, op: Op, *xs: Operand) -> str:
        return self.builder.one(op, *map(self.value, xs), hint=self.hint)

    def apply(self, name: str, x: Operand, *numbers: float) -> str:
        return self.one(function(name, *map(float, numbers)), x)

    def affine(self, x: Operand, scale: float, shift: float) -> str:
        if (scale, shift) == (1.0, 0.0):
            return self.value(x)
        return self.one(Affine(float(scale), float(shift)), x)

    def linear(self, x: Operand, w: Weight, b: Weight | None = None) -> str:
        return self.one(Linear(self.rank(x) - 1), x, w, *(() if b is None else (b,)))

    def concat(self, xs: Sequence[Operand], axis: int) -> str:
        return self.value(xs[0]) if len(xs) == 1 else self.one(Concat(axis_in(axis, self.rank(xs[0]))), *xs)

    def reshape(self, x: Operand, shape: Sequence[Size]) -> str:
        """Return x in another shape; two reshapes in a row become one."""
        step = self.builder.producer(x) if isinstance(x, str) else None
        if step is not None and isinstance(step.op, Reshape):
            x = step.inputs[0]
        return self.value(x) if tuple(shape) == self.shape(x) else self.one(Reshape(tuple(shape)), x)

    def transpose(self, x: Operand, axes: Sequence[int]) -> str:
        axes = tuple(axis_in(axis, self.rank(x)) for axis in axes)
        return self.value(x) if axes == tuple(range(len(axes))) else self.one(Permute(axes), x)

    def along_last(self, x: Operand, axis: int, make: Callable[[str], str]) -> str:
        """Apply ``make``, which works along the last axis, to another axis, and return the result."""
        rank = self.rank(x)
        order = [*(a for a in range(rank) if a != axis_in(axis, rank)), axis_in(axis, rank)]
        return self.transpose(make(self.transpose(x, order)), np.argsort(order).tolist())

    def split(self, x: Operand, sizes: Sequence[int], axis: int) -> list[str]:
        """Return the pieces of x along an axis."""
        if len(sizes) == 1:
            return [self.value(x)]
        op = Split(axis_in(axis, self.rank(x)), tuple(sizes))
        return [*self.builder.add(op, self.value(x), hint=self.hint)]

    def cut(self, x: Operand, axis: int, start: int, stop: int) -> str:
        """Return the elements from ``start`` up to ``stop``. Raises :class:`ShapeProblem` if they are out of range."""
        axis = axis_in(axis, self.rank(x))
        size = self.size(x, axis, f"axis {axis} of {listed(self.shape(x))}")
        if (joined := self._of_joined(x, axis, start, stop)) is not None:
            return joined
        if not 0 <= start < stop <= size:
            raise ShapeProblem(f"the elements from {start} up to {stop} of an axis of {size}")
        sizes = [n for n in (start, stop - start, size - stop) if n]
        return self.split(x, sizes, axis)[1 if start else 0]

    def _of_joined(self, x: Operand, axis: int, start: int, stop: int) -> str | None:
        """Return the operand that makes up the Concat x from ``start`` to ``stop``; None if no single one does."""
        step = self.builder.producer(x) if isinstance(x, str) else None
        if step is None or step.op != Concat(axis):
            return None
        at = 0
        for value in step.inputs:
            if (at, at + self.size(value, axis)) == (start, stop):
                return value
            at += self.size(value, axis)
        return None

    def select(self, x: Operand, axis: int, index: int) -> str:
        """Return one element of an axis, without the axis."""
        shape, axis = self.shape(x), axis_in(axis, self.rank(x))
        size = shape[axis]
        if isinstance(size, OpenSize):
            return self.one(Select(axis, index), x)
        index += size if index < 0 else 0
        return self.reshape(self.cut(x, axis, index, index + 1), (*shape[:axis], *shape[axis + 1 :]))

    def expand(self, x: Operand, shape: Sequence[Size]) -> str:
        """Return x broadcast to a shape. Raises :class:`ShapeProblem` if x does not fit."""
        own = self.shape(x)
        if values.broadcast(own, tuple(shape)) != tuple(shape):
            raise ShapeProblem(f"{listed(own)} repeated to {listed(shape)}")
        y = self.reshape(x, (1,) * (len(shape) - len(own)) + own)
        return y if tuple(shape) == self.shape(y) else self.one(Expand(tuple(shape)), y)

    def tile(self, x: Operand, repeats: Sequence[int]) -> str:
        """Return x repeated along each axis; missing axes are added in front, and axes of one element are broadcast."""
        own = self.shape(x)
        if len(repeats) < len(own) or min(repeats, default=1) < 1:
            raise ShapeProblem(f"{listed(own)} repeated {list(repeats)} times")
        y = self.reshape(x, (1,) * (len(repeats) - len(own)) + own)
        own = self.shape(y)
        sizes = (n * (1 if isinstance(size, OpenSize) else size) for n, size in zip(repeats, own, strict=True))
        values.bounded(sizes, MOST_ELEMENTS)
        y = self.expand(y, [n if size == 1 else size for n, size in zip(repeats, own, strict=True)])
        for axis, (count, size) in enumerate(zip(repeats, own, strict=True)):
            if size != 1:
                y = self.concat([y] * in_pieces(count), axis)
        return y

    def pick(self, x: Operand, axis: int, places: Sequence[int]) -> str:
        """Return the elements of an axis at these places, in this order. Neighbouring elements are cut together."""
        size, _ = self.size(x, axis), in_pieces(len(places))
        if not places or not all(-size <= place < size for place in places):
            raise ShapeProblem(f"elements {list(places)} of an axis of {size}")
        # neighbours have one difference of place and number
        groups = groupby(enumerate(place % size for place in places), lambda pair: pair[1] - pair[0])
        runs = [[place for _, place in group] for _, group in groups]
        return self.concat([self.cut(x, axis, run[0], run[-1] + 1) for run in runs], axis)

    def flip(self, x: Operand, axis: int) -> str:
        """Reverse an axis; the reversal of a reversed value is the original value."""
        axis = axis_in(axis, self.rank(x))
        if (original := self.unreversed(x, axis)) is not None:
            return original
        y = self.concat(self.split(x, [1] * in_pieces(self.size(x, axis)), axis)[::-1], axis)
        self.reversals[y] = Reversal(self.value(x), axis, None, 0)
        return y

    def unreversed(self, x: Operand, axis: int, lengths: Operand | None = None, batch: int = 0) -> str | None:
        """Return the value of which x is this reversal, perhaps with its axes permuted; None if there is none."""
        known = self.reversals.get(x) if isinstance(x, str) else None
        if known is not None and known.axis == axis and known.x != x:
            own, given = (np.asarray(y.make() if isinstance(y, Weight) else y) for y in (known.lengths, lengths))
            return known.x if np.array_equal(own, given) and (lengths is None or known.batch == batch) else None
        step = self.builder.producer(x) if isinstance(x, str) else None
        if step is None or not isinstance(step.op, Permute):
            return None
        inner = self.unreversed(step.inputs[0], step.op.axes[axis], lengths, step.op.axes[batch])
        return None if inner is None else self.transpose(inner, step.op.axes)

    def stack(self, xs: Sequence[Operand], axis: int) -> str:
        place = axis_in(axis, self.rank(xs[0]) + 1)
        return self.concat([self.unsqueeze(x, [place]) for x in xs], place)

    def slice(self, x: Operand, axis: int, part: slice) -> str:
        places = range(self.size(x, axis))[part]
        return self.cut(x, axis, places.start, places.stop) if places.step == 1 else self.pick(x, axis, places)

    def depth_to_space(self, x: Operand, by: int, depth_first: bool) -> str:
        """Return channels, (by, by, C) if ``depth_first``, else (C, by, by), as blocks of an image of C channels."""
        n, c, h, w = self.shape(x)
        inner = fixed(c, "channels") // by**2
        split = (n, by, by, inner, h, w) if depth_first else (n, inner, by, by, h, w)
        order = (0, 3, 4, 1, 5, 2) if depth_first else (0, 1, 4, 2, 5, 3)
        y = self.transpose(self.reshape(x, split), order)
        return self.reshape(y, (n, inner, fixed(h, "a size") * by, fixed(w, "a size") * by))

    def resized(self, x: Operand, scales: Mapping[int, float]) -> str:
        """Repeat the elements of axes by integer factors. Raises :class:`Refused` for other factors."""
        y = self.value(x)
        for axis, scale in scales.items():
            if int(scale) != scale or scale < 1:
                raise Refused("scales", str(scale), "only integer factors are supported", "use such a scale")
            y = self.enlarged(y, axis, int(scale))
        return y

    def unsqueeze(self, x: Operand, axes: Sequence[int]) -> str:
        """Return x with new axes of one element at these places of the result."""
        rank = self.rank(x) + len(axes)
        places = {axis_in(axis, rank) for axis in axes}
        if len(places) < len(axes):
            raise ShapeProblem(f"new axes {list(axes)}, of which one occurs twice")
        sizes = iter(self.shape(x))
        return self.reshape(x, [1 if place in places else next(sizes) for place in range(rank)])

    def squeeze(self, x: Operand, axes: Sequence[int] | None) -> str:
        """Return x without these axes of one element; None stands for all axes of one element."""
        shape = self.shape(x)
        gone = [i for i, s in enumerate(shape) if s == 1] if axes is None else [axis_in(a, len(shape)) for a in axes]
        if any(shape[axis] != 1 for axis in gone):
            raise ShapeProblem(f"axes {gone} of {listed(shape)} are not all of size 1")
        return self.reshape(x, [size for axis, size in enumerate(shape) if axis not in gone])

    def mirror(self, x: Operand, axis: int, before: int, after: int) -> str:
        """Pad by reflection. Raises :class:`ShapeProblem` if the padding is as long as the axis."""
        size = self.size(x, axis)
        if max(before, after) >= size:
            raise ShapeProblem(f"a mirrored padding of {max(before, after)} on an axis of {size}")
        first = [self.flip(self.cut(x, axis, 1, before + 1), axis)] if before else []
        last = [self.flip(self.cut(x, axis, size - 1 - after, size - 1), axis)] if after else []
        return self.concat([*first, x, *last], axis)

    def repeat_edges(self, x: Operand, axis: int, before: int, after: int) -> str:
        _check_padding(before, after)
        ends = (0, before), (self.size(x, axis) - 1, after)
        first, last = ([self.cut(x, axis, at, at + 1)] * in_pieces(count) for at, count in ends)
        return self.concat([*first, x, *last], axis)

    def padded(self, x: Operand, sides: Mapping[int, Pair], mode: str, fill: float) -> str:
        """Pad axes by ``fill`` ("constant"), by reflection ("reflect") or with the ends ("edge", "replicate"). A
        negative padding cuts. Raises :class:`Refused` for other modes."""
        paddings: dict[str, Callable[..., str]] = {"reflect": self.mirror, "constant": partial(self.pad, fill=fill)}
        padding = self.repeat_edges if mode in ("edge", "replicate") else paddings.get(mode)
        if padding is None:
            raise Refused("mode", mode, "only constants, mirrors and edges are written", "pad with zeros")
        y = self.value(x)
        for axis, (before, after) in sides.items():
            if min(before, after) < 0:
                y = self.cut(y, axis, max(-before, 0), self.size(y, axis) - max(-after, 0))
            if max(before, after) > 0:
                y = padding(y, axis_in(axis, self.rank(x)), max(before, 0), max(after, 0))
        return y

    def pad(self, x: Operand, axis: int, before: int, after: int, fill: float = 0.0) -> str:
        """Pad an axis with a number: copies of x's own elements, times zero, plus the number."""
        fill = float(np.clip(fill, -LARGE, LARGE))
        _check_padding(before, after)
        parts = [self.value(x)]
        for count, first in ((before, True), (after, False)):
            while count > 0:
                size = self.size(x, axis)
                some = min(count, size)
                zeros = self.affine(self.cut(x, axis, 0, some), 0.0, fill)
                parts = [zeros, *parts] if first else [*parts, zeros]
                count -= some
        return self.concat(parts, axis)

    def conv(
        self, x: Operand, w: Weight, b: Weight | None, stride: Sizes, pads: Sequence[Pair], dilation: Sizes, group: int
    ) -> str:
        """Add a convolution of x [..., C, H, W] or [..., C, W] by w [O, C / group, ...]. ``pads`` are (before, after)
        of each axis. If kernel and image have one pixel, it is a linear layer."""
        shape, rank = self.shape(x), len(stride)
        if {*shape[-rank:], *w.shape[2:]} == {1} and group == 1 and not any(map(any, pads)):
            y = self.linear(self.reshape(x, shape[:-rank]), w.reshaped(*w.shape[:2]), b)
            return self.reshape(y, (*self.shape(y), *shape[-rank:]))
        if len(stride) == 1:
            wide = self.unsqueeze(x, [-2]), w.reshaped(*w.shape[:2], 1, w.shape[2])
            return self.squeeze(self.conv(*wide, b, (1, *stride), (_NONE, *pads), (1, *dilation), group), [-2])
        for axis, (before, after) in zip((-2, -1), pads, strict=True):
            x = self.pad(x, axis, before, after) if before != after else x
        pad = tuple(before if before == after else 0 for before, after in pads)
        operands = (x, w) if b is None else (x, w, b)
        return self.one(Conv((stride[0], stride[1]), (pad[0], pad[1]), (dilation[0], dilation[1]), group), *operands)

    def conv_transpose(
        self, x: Operand, w: Weight, b: Weight | None, stride: Sizes, pads: Sequence[Pair], dilation: Sizes, group: int
    ) -> str:
        """Add a transposed convolution of x [..., C, H, W] or [..., C, W] by w [C, out / group, ...]: a convolution of
        x, with zeros between its elements, by the reversed kernel. ``pads`` cut the result, or pad it if negative."""
        if len(stride) == 1:
            wide = self.unsqueeze(x, [-2]), w.reshaped(*w.shape[:2], 1, w.shape[2])
            y = self.conv_transpose(*wide, b, (1, *stride), (_NONE, *pads), (1, *dilation), group)
            return self.squeeze(y, [-2])
        rank = self.rank(x)
        for axis, apart in enumerate(stride, rank - 2):
            x = self._spaced(x, axis, apart) if apart > 1 else x
        inner, out = w.shape[0] // group, w.shape[1]

        def make() -> Array:
            parts = w.make()[:, :, ::-1, ::-1].reshape(group, inner, out, *w.shape[2:])
            return parts.swapaxes(1, 2).reshape(group * out, inner, *w.shape[2:])

        turned = w.derived((group * out, inner, *w.shape[2:]), f"{w.recipe} turned round", make)
        reaches = [d * (size - 1) for size, d in zip(w.shape[2:], dilation, strict=True)]
        sides = [(reach - before, reach - after) for reach, (before, after) in zip(reaches, pads, strict=True)]
        x = self.padded(x, dict(enumerate(sides, rank - 2)), "constant", 0.0)
        return self.conv(x, turned, b, (1, 1), (_NONE, _NONE), dilation, group)

    def _spaced(self, x: Operand, axis: int, apart: int) -> str:
        """Return x with ``apart`` - 1 zeros between neighbouring elements of an axis."""
        shape, size = self.shape(x), self.size(x, axis)
        wide = self.pad(self.unsqueeze(x, [axis + 1]), axis + 1, 0, apart - 1)
        joined = self.reshape(wide, (*shape[:axis], size * apart, *shape[axis + 1 :]))
        return self.cut(joined, axis, 0, (size - 1) * apart + 1)

    def enlarged(self, x: Operand, axis: int, times: int) -> str:
        """Repeat each element of an axis ``times`` times."""
        if times == 1:
            return self.value(x)
        shape, size = self.shape(x), self.size(x, axis)
        wide = self.expand(self.unsqueeze(x, [axis + 1]), (*shape[: axis + 1], times, *shape[axis + 1 :]))
        return self.reshape(wide, (*shape[:axis], size * times, *shape[axis + 1 :]))

    def pool(
        self, kind: Pooled, x: Operand, size: Sizes, stride: Sizes, pads: Sequence[Pair], ceil: bool = False,
        counted: bool = True,
    ) -> str:  # fmt: skip
        """Add a pooling of x [..., H, W] or [..., W], with ``pads`` (before, after); if ``counted``, a mean counts
        them. If the source rounds the number of windows down and Caffe up, the surplus is cut off."""
        if len(size) == 1:
            y = self.pool(kind, self.unsqueeze(x, [-2]), (1, *size), (1, *stride), (_NONE, *pads), ceil, counted)
            return self.squeeze(y, [-2])
        sides = zip(self.shape(x)[-2:], size, stride, pads, strict=True)
        rows, columns = (Windows.of(n, k, s, p, ceil, counted) for n, k, s, p in sides)
        pad = (rows.pad, columns.pad)
        for axis, windows, k, s in zip((-2, -1), (rows, columns), size, stride, strict=True):
            used = (windows.count - 1) * s + k
            if not any(pad) and used < self.size(x, axis, "an image's size"):
                x = self.cut(x, axis, 0, used)
        windows_of = MaxPool if kind == "max" else AvePool
        y = self.one(windows_of((size[0], size[1]), (stride[0], stride[1]), pad), x)
        for axis, windows in zip((-2, -1), (rows, columns), strict=True):
            if self.shape(y)[axis] != windows.count:
                y = self.cut(y, axis, windows.skip, windows.skip + windows.count)
        scales = np.outer(rows.scales, columns.scales)
        if kind == "max" or np.all(scales == 1):
            return y
        recipe = "the number of elements of a window's mean in Caffe by that in the source"
        return self.one(Mul(), y, self.builder.param(values.number(scales, recipe), f"{self.hint}_counts"))


def _check_padding(before: int, after: int) -> None:
    if max(before, after) > MOST_PADDING:
        raise ShapeProblem(f"a padding of {before:,} and {after:,} elements; {MOST_PADDING:,} are the most")
