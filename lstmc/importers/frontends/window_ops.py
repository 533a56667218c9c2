"""Convolution and pooling, shared by all frontends: windows over one axis or two, padded as each framework does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lstmc.importers.frontends.shape_ops import Operand, ShapeOps
from lstmc.importers.ir.sizes import ShapeProblem, Size, fixed
from lstmc.importers.weight import Weight, number
from lstmc.ops import Array, AvePool, Conv, MaxPool, Mul

Pair = tuple[int, int]
_NONE: Pair = (0, 0)


def window_count(size: Size, kernel: int, stride: int, pads: tuple[int, int], ceil: bool, dilation: int = 1) -> int:
    """Return the number of windows along an axis."""
    room = fixed(size, "an image's size") + sum(pads) - dilation * (kernel - 1) - 1
    if room < 0:
        raise ShapeProblem(f"a window of {kernel} is larger than the padded image of {size}")
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= fixed(size, "an image's size") + pads[0] else count


@dataclass(frozen=True)
class Windows:
    """Pooling along an axis in Caffe, which pads both sides equally and rounds up, for another framework's windows.

    ``pad`` on either side; only ``count`` windows after the first ``skip`` are kept. ``scales`` multiply the means of
    the windows, where the other framework divides by another number of elements than Caffe.
    """

    pad: int
    skip: int
    count: int
    scales: tuple[float, ...]

    @classmethod
    def of(cls, size: Size, kernel: int, stride: int, pads: tuple[int, int], ceil: bool, counted: bool) -> Windows:
        """Return the windows of another framework; ``pads`` are (before, after); ``counted``: a mean counts padding."""
        n, (before, after) = fixed(size, "an image's size"), pads
        count = window_count(n, kernel, stride, pads, ceil)
        for pad, skip in ((before, 0), (after, (after - before) // stride)):
            fits = skip * stride == pad - before and pad < kernel
            if fits and window_count(n, kernel, stride, (pad, pad), True) >= skip + count:
                starts = [i * stride - before for i in range(count)]
                by_caffe = [min(at + kernel, n + pad) - at for at in starts]
                edge = n + after if counted else n
                by_source = [min(at + kernel, edge) - (at if counted else max(at, 0)) for at in starts]
                return cls(pad, skip, count, tuple(c / w for c, w in zip(by_caffe, by_source, strict=True)))
        raise ShapeProblem(
            f"windows of {kernel} with padding {list(pads)} and stride {stride} over {n}, as Caffe has none"
        )


class WindowOps(ShapeOps):
    """Builds the steps of one node at a time; ``at`` sets the node, for messages and names."""

    def conv(
        self,
        x: Operand,
        w: Weight,
        b: Weight | None,
        stride: Sequence[int],
        pads: Sequence[Pair],
        dilation: Sequence[int],
        group: int,
    ) -> str:
        """Add a convolution of x [..., C, H, W], or [..., C, W]; ``pads`` are (before, after) of each axis."""
        if len(stride) == 1:
            wide = self.unsqueeze(x, [-2]), w.reshaped(*w.shape[:2], 1, w.shape[2])
            return self.squeeze(self.conv(*wide, b, (1, *stride), (_NONE, *pads), (1, *dilation), group), [-2])
        for axis, (before, after) in zip((-2, -1), pads, strict=True):
            if before != after:
                x = self.pad(x, axis, before, after)
        pad = tuple(before if before == after else 0 for before, after in pads)
        operands = (x, w) if b is None else (x, w, b)
        return self.one(Conv((stride[0], stride[1]), (pad[0], pad[1]), (dilation[0], dilation[1]), group), *operands)

    def conv_transpose(
        self,
        x: Operand,
        w: Weight,
        b: Weight | None,
        stride: Sequence[int],
        pads: Sequence[Pair],
        dilation: Sequence[int],
        group: int,
    ) -> str:
        """Add a transposed convolution: one of x with zeros between its elements, with w turned round.

        x is [..., C, H, W] or [..., C, W], w is [C, out / group, kh, kw] or [C, out / group, k]; ``pads`` are cut off
        what there is, or added where negative.
        """
        if len(stride) == 1:
            wide = self.unsqueeze(x, [-2]), w.reshaped(*w.shape[:2], 1, w.shape[2])
            y = self.conv_transpose(*wide, b, (1, *stride), (_NONE, *pads), (1, *dilation), group)
            return self.squeeze(y, [-2])
        rank = len(self.shape(x))
        for axis, apart in enumerate(stride, rank - 2):
            x = self._spaced(x, axis, apart)
        inner, out = w.shape[0] // group, w.shape[1]

        def make() -> Array:
            parts = w.make()[:, :, ::-1, ::-1].reshape(group, inner, out, *w.shape[2:])
            return parts.swapaxes(1, 2).reshape(group * out, inner, *w.shape[2:])

        turned = w.derived((group * out, inner, *w.shape[2:]), f"{w.recipe} turned round", make)
        for axis, (size, d, (before, after)) in enumerate(zip(w.shape[2:], dilation, pads, strict=True), rank - 2):
            reach = d * (size - 1)
            first, last = reach - before, reach - after
            if min(first, last) < 0:
                x = self.cut(x, axis, max(-first, 0), fixed(self.shape(x)[axis], "a size") - max(-last, 0))
            x = self.pad(x, axis, max(first, 0), max(last, 0))
        return self.conv(x, turned, b, (1, 1), ((0, 0), (0, 0)), dilation, group)

    def _spaced(self, x: Operand, axis: int, apart: int) -> str:
        """Insert zeros between the elements of an axis."""
        if apart == 1:
            return self.value(x)
        shape = self.shape(x)
        size = fixed(shape[axis], f"axis {axis}")
        wide = self.pad(self.unsqueeze(x, [axis + 1]), axis + 1, 0, apart - 1)
        joined = self.reshape(wide, (*shape[:axis], size * apart, *shape[axis + 1 :]))
        return self.cut(joined, axis, 0, (size - 1) * apart + 1)

    def enlarged(self, x: Operand, axis: int, times: int) -> str:
        """Repeat each element of an axis ``times`` times."""
        if times == 1:
            return self.value(x)
        shape = self.shape(x)
        size = fixed(shape[axis], f"axis {axis}")
        wide = self.expand(self.unsqueeze(x, [axis + 1]), (*shape[: axis + 1], times, *shape[axis + 1 :]))
        return self.reshape(wide, (*shape[:axis], size * times, *shape[axis + 1 :]))

    def pool(
        self,
        kind: Literal["max", "mean"],
        x: Operand,
        size: Sequence[int],
        stride: Sequence[int],
        pads: Sequence[Pair],
        ceil: bool = False,
        counted: bool = True,
    ) -> str:
        """Add a pooling of x [..., H, W] or [..., W] with ``pads`` (before, after) of each axis, ``counted`` by a mean.

        Where the source rounds down and Caffe up, what is too much is cut off.
        """
        if len(size) == 1:
            y = self.pool(kind, self.unsqueeze(x, [-2]), (1, *size), (1, *stride), (_NONE, *pads), ceil, counted)
            return self.squeeze(y, [-2])
        sides = zip(self.shape(x)[-2:], size, stride, pads, strict=True)
        rows, columns = (Windows.of(n, k, s, p, ceil, counted) for n, k, s, p in sides)
        pad = (rows.pad, columns.pad)
        for axis, windows, k, s in zip((-2, -1), (rows, columns), size, stride, strict=True):
            used = (windows.count - 1) * s + k
            if not any(pad) and used < fixed(self.shape(x)[axis], "an image's size"):
                x = self.cut(x, axis, 0, used)
        windows_of = MaxPool if kind == "max" else AvePool
        y = self.one(windows_of((size[0], size[1]), (stride[0], stride[1]), pad), x)
        for axis, windows in zip((-2, -1), (rows, columns), strict=True):
            if self.shape(y)[axis] != windows.count:
                y = self.cut(y, axis, windows.skip, windows.skip + windows.count)
        scales = np.outer(rows.scales, columns.scales)
        if kind == "max" or np.all(scales == 1):
            return y
        recipe = "what a window's mean counts in Caffe by what it counts in the source"
        return self.one(Mul(), y, self.builder.param(number(scales, recipe), f"{self.hint}_counts"))
