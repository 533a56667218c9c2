"""Convolution and pooling over images [..., C, H, W]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lstmc.importers.describe.op import Op
from lstmc.importers.describe.shapes import Shape, ShapeProblem, Size, fixed, listed
from lstmc.ops import Array


def window_count(size: Size, kernel: int, stride: int, pads: tuple[int, int], ceil: bool, dilation: int = 1) -> int:
    """How many windows there are along an axis."""
    room = fixed(size, "an image's size") + sum(pads) - dilation * (kernel - 1) - 1
    if room < 0:
        raise ShapeProblem(f"a window of {kernel} is larger than the padded image of {size}")
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= fixed(size, "an image's size") + pads[0] else count


@dataclass(frozen=True)
class Windows:
    """How Caffe, which pads both sides alike and rounds up, is to pool along an axis to make another's windows.

    ``pad`` on either side; the first ``skip`` windows and those after the next ``count`` are cut off. ``scales`` are
    what the means of the windows are multiplied by: they count other places than Caffe does.
    """

    pad: int
    skip: int
    count: int
    scales: tuple[float, ...]

    @classmethod
    def of(cls, size: Size, kernel: int, stride: int, pads: tuple[int, int], ceil: bool, counted: bool) -> Windows:
        """``pads`` are (before, after); ``counted``: a mean counts the padding."""
        n, (before, after) = fixed(size, "an image's size"), pads
        count = window_count(n, kernel, stride, pads, ceil)
        for pad, skip in ((before, 0), (after, (after - before) // stride)):
            fits = skip * stride == pad - before and pad < kernel
            if fits and window_count(n, kernel, stride, (pad, pad), True) >= skip + count:
                starts = [i * stride - before for i in range(count)]
                by_caffe = [min(at + kernel, n + pad) - at for at in starts]
                edge = n + after if counted else n
                wanted = [min(at + kernel, edge) - (at if counted else max(at, 0)) for at in starts]
                return cls(pad, skip, count, tuple(c / w for c, w in zip(by_caffe, wanted, strict=True)))
        raise ShapeProblem(
            f"windows of {kernel} with padding {list(pads)} and stride {stride} over {n}, as Caffe has none"
        )


@dataclass(frozen=True)
class Conv(Op):
    """x [..., C, H, W] with w [out, C / group, kh, kw] and maybe b [out]; zeros around it, as many on either side."""

    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    group: int = 1

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        x, w = shapes[0], shapes[1]
        if len(x) < 4 or len(w) != 4 or x[-3] != fixed(w[1], "channels") * self.group:
            raise ShapeProblem(f"a convolution of {listed(x)} with {listed(w)} in {self.group} groups")
        sizes = [
            window_count(
                x[a - 2], fixed(w[2 + a], "kernel"), self.stride[a], (self.pad[a],) * 2, False, self.dilation[a]
            )
            for a in (0, 1)
        ]
        return ((*x[:-3], w[0], *sizes),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        lead, w = arrays[0].shape[:-3], arrays[1]
        x = arrays[0].reshape(-1, *arrays[0].shape[-3:])
        around = [(0, 0), (0, 0), *((p, p) for p in self.pad)]
        padded = np.pad(x, around)
        rows, columns = (fixed(size, "an image's size") for size in self.infer(x.shape, w.shape)[0][2:])
        y = np.zeros((x.shape[0], w.shape[0], rows, columns), x.dtype)
        out, inner = w.shape[0] // self.group, w.shape[1]
        for g in range(self.group):
            for u, v in np.ndindex(*w.shape[2:]):
                top, left = u * self.dilation[0], v * self.dilation[1]
                seen = padded[
                    :,
                    g * inner : (g + 1) * inner,
                    top : top + rows * self.stride[0] : self.stride[0],
                    left : left + columns * self.stride[1] : self.stride[1],
                ][:, :, :rows, :columns]
                part = w[g * out : (g + 1) * out, :, u, v]
                y[:, g * out : (g + 1) * out] += np.einsum("nchw,oc->nohw", seen, part)
        y = y + arrays[2][:, None, None] if len(arrays) > 2 else y
        return (y.reshape(*lead, *y.shape[1:]),)


@dataclass(frozen=True)
class Pool(Op):
    """The maximum or the mean of windows of x [..., C, H, W]; ``ceil``: a last window may reach over the edge.

    A mean counts the places of the padded image. Maxima see what lies in the image alone.
    """

    kind: Literal["max", "mean"]
    size: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int] = (0, 0)
    ceil: bool = False

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        x = shapes[0]
        if len(x) < 4:
            raise ShapeProblem(f"pooling takes [..., C, H, W], found {listed(x)}")
        pairs = zip(x[-2:], self.size, self.stride, self.pad, strict=True)
        return ((*x[:-2], *(window_count(n, k, s, (p, p), self.ceil) for n, k, s, p in pairs)),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        x = arrays[0]
        rows, columns = (fixed(s, "") for s in self.infer(x.shape)[0][-2:])
        y = np.empty((*x.shape[:-2], rows, columns), x.dtype)
        for i, j in np.ndindex(rows, columns):
            top, left = i * self.stride[0] - self.pad[0], j * self.stride[1] - self.pad[1]
            seen = x[..., max(top, 0) : top + self.size[0], max(left, 0) : left + self.size[1]]
            if self.kind == "max":
                y[..., i, j] = seen.max((-2, -1))
            else:
                ends = zip((top, left), self.size, x.shape[-2:], self.pad, strict=True)
                y[..., i, j] = seen.sum((-2, -1)) / np.prod([min(at + k, n + p) - at for at, k, n, p in ends])
        return (y,)
