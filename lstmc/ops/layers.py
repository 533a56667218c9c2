"""Layers of neural networks: the matrix product as Caffe stores it, dropout, embedding, images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import Along, AlongAxis, Array, Arrays, Draw, IntegerRange, Op, Sample, Types, applied, sample_type
from lstmc.ops.shape import Reshape, Sum, Transpose
from lstmc.types import TensorType

__all__ = ["AvePool", "Conv", "Dropout", "Embed", "Linear", "MaxPool"]


@dataclass(frozen=True)
class Linear(AlongAxis):
    """y = x @ w.T (+ b): x is [lead..., trailing...], w is [out, in]; ``in`` is the number of trailing elements.
    The axes of x from ``axis`` on are flattened, as Caffe's InnerProduct does; y is [lead..., out]; b is [out]."""

    name = "linear"
    operands = ("x", "w", "b")
    multiplies = True
    axis: int = 1

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        if w.rank != 2:
            raise ShapeError(f"{self.name}: w must have 2 axes, [out, in]: w is {w}")
        if not 0 <= self.axis < x.rank or prod(x.shape[self.axis :]) != w.shape[1]:
            turned = "; w is [out, in]: w.T would fit" if x.rank and x.shape[-1] == w.shape[0] else ""
            raise ShapeError(f"{self.name}: last axes differ: x is {x}, w is {w}{turned}")
        if b is not None and b.shape != w.shape[:1]:
            raise ShapeError(f"{self.name}: b must be [out]: b is {b}, w is {w}")
        return (TensorType((*x.shape[: self.axis], w.shape[0]), x.dtype),)

    def eval(self, x: Array, w: Array, b: Array | None = None) -> Arrays:
        y = x.reshape(-1, w.shape[1]) @ w.T
        if b is not None:
            y = y + b
        return (y.reshape(*x.shape[: self.axis], w.shape[0]),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, w: Array, b: Array | None = None) -> tuple[Array | None, ...]:
        """Return the gradients: with rows as x is flattened, dx = ct w, dw = ct' x, and db is the sum of ct's rows."""
        out, width = w.shape
        rows = prod(x.shape[: self.axis])
        (ct,), (flat,) = applied(Reshape((rows, out)), cts[0]), applied(Reshape((rows, width)), x)
        (dx,) = applied(Linear(), ct, *applied(Transpose(0), w))
        (dx,) = applied(Reshape(x.shape), dx)
        (dw,) = applied(Linear(), *applied(Transpose(0), ct), *applied(Transpose(0), flat))
        return (dx, dw) if b is None else (dx, dw, *applied(Sum(0), ct))

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        """Return the places of an axis: leading axes of x are y's, axis 0 of w and b is y's last axis. Flattened axes
        are summed over; if x has only one of them, this is axis 1 of w."""
        rest: tuple[int | None, ...] = (None,) * (len(types) - 2)
        if slot == 0 and axis < self.axis:
            return Along(self.beside(axis), (axis, None, *rest), (axis,))
        if slot > 0 and axis == 0:  # one row of w, and its element of b
            return Along(None, (None, 0, 0)[: len(types)], (self.axis,))
        last = self.axis if types[0].rank == self.axis + 1 else None  # the flattened axis of x: axis 1 of w
        return Along(None, (last if slot else axis, None if last is None and not slot else 1, *rest), (None,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        w = TensorType((draw.integer(1, 4), prod(x.shape[axis:])))
        bias = draw.choice(((), (TensorType(w.shape[:1]),)))
        return Sample(cls(axis), (x, w, *bias))


def flatten_axis(x: TensorType, width: int) -> int | None:
    """Return the last axis of x from which on the axes have ``width`` elements, for a Linear; None if there is none."""
    matches = (axis for axis in reversed(range(x.rank)) if prod(x.shape[axis:]) == width)
    return next(matches, None)


@dataclass(frozen=True)
class Dropout(Op):
    """y = x. In training an element is zero with probability ``ratio``, and x / (1 - ratio) otherwise.

    Srivastava et al. 2014, scaled in training (``dropout_layer.cpp``). The op's meaning is that of phase TEST. ``draw``
    is the number of the dropout in its model: two dropouts draw independently, even on the same value.
    """

    name = "dropout"
    operands = ("x",)
    ratio: float
    draw: int = 0

    def infer(self, x: TensorType) -> Types:
        if not 0 <= self.ratio < 1:
            raise ShapeError(f"{self.name}: ratio must be from 0 up to, not including, 1, found {self.ratio!r}")
        return (x,)

    def eval(self, x: Array) -> Arrays:
        return (x,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return applied(self, cts[0])  # the same draw

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,), (axis,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.choice((0.5, 0.25, 0.0)), draw.integer(0, 3)), (sample_type(draw),))


@dataclass(frozen=True)
class Embed(Op):
    """y[..., :] = w[x[...]]: x holds integers from 0 to V - 1, w is [V, H], y is [*x.shape, H].
    w is stored as Caffe's Embed stores it (``embed_layer.cpp``). No gradient flows to x."""

    name = "embed"
    operands = ("x", "w")
    undifferentiated = (0,)

    def infer(self, x: TensorType, w: TensorType) -> Types:
        if w.rank != 2:
            raise ShapeError(f"{self.name}: w must have 2 axes, [rows, size]: w is {w}")
        return (TensorType((*x.shape, w.shape[1]), w.dtype),)

    def eval(self, x: Array, w: Array) -> Arrays:
        return (w[x.astype(int)],)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, w: Array) -> tuple[Array | None, ...]:
        gradient = np.zeros_like(w)
        np.add.at(gradient, x.astype(int), cts[0])
        return None, gradient

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        if slot == 0:
            return Along(self, (axis, None), (axis,))
        return Along(None, (None, axis), (types[0].rank if axis == 1 else None,))

    def domains(self, x: TensorType, w: TensorType) -> tuple[IntegerRange | None, ...]:
        return IntegerRange(0, w.shape[0] - 1), None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw), TensorType((draw.integer(1, 4), draw.integer(1, 4)))))


Pair = tuple[int, int]  # (height, width)


def _check_image(op: str, x: TensorType) -> None:
    if x.rank < 3:
        raise ShapeError(f"{op}: x must have 3 axes or more, [..., C, H, W]: x is {x}")


def _check_pairs(op: str, least: int, **pairs: Pair) -> None:
    """Raise ShapeError unless each pair is two integers of at least ``least``."""
    for name, pair in pairs.items():
        if len(pair) != 2 or not all(isinstance(n, int) and n >= least for n in pair):
            raise ShapeError(f"{op}: {name} must be two integers of {least} or more, found {pair}")


def _padded(x: Array, pad: Pair, value: float, more: Pair = (0, 0)) -> Array:
    """Return x with ``pad`` elements of ``value`` around each image, and ``more`` at the bottom and right."""
    around = [(0, 0)] * (x.ndim - 2) + [(p, p + m) for p, m in zip(pad, more, strict=True)]
    return np.pad(x, around, constant_values=value)


def _ends(place: int, count: int, stride: int) -> slice:
    """Return the slice that takes, from each of ``count`` windows, the element at ``place``."""
    return slice(place, place + (count - 1) * stride + 1, stride)


@dataclass(frozen=True)
class Conv(Op):
    """y[..., o, i, j] = b[o] + the sum over c, u, v of w[o, c, u, v] x[..., c, i s + u d - p, j s + v d - p].
    x is [..., C, H, W], w is [out, C / group, kh, kw], b is [out]; s, p and d are stride, pad and dilation, each
    (height, width); x is zero outside. With groups, the outputs of a group read only the channels of that group. y has
    Caffe's size: (H + 2 p - d (kh - 1) - 1) // s + 1 (``conv_layer.cpp``)."""

    name = "conv"
    operands = ("x", "w", "b")
    multiplies = True
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    group: int = 1

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        _check_image(self.name, x)
        _check_pairs(self.name, 1, stride=self.stride, dilation=self.dilation)
        _check_pairs(self.name, 0, pad=self.pad)
        if w.rank != 4:
            raise ShapeError(f"{self.name}: w must have 4 axes, [out, C / group, kh, kw]: w is {w}")
        channels, out = x.shape[-3], w.shape[0]
        if self.group < 1 or channels != w.shape[1] * self.group or out % self.group:
            problem = f"channels do not fit: x is {x}, w is {w}, [out, C / group, kh, kw], group is {self.group}"
            raise ShapeError(f"{self.name}: {problem}")
        if b is not None and b.shape != (out,):
            raise ShapeError(f"{self.name}: b must be [out]: b is {b}, w is {w}")
        size = tuple(self._sizes(x.shape[-2:], w.shape[2:]))
        if min(size) < 1:
            raise ShapeError(f"{self.name}: the window is larger than the padded image: x is {x}, w is {w}")
        return (TensorType((*x.shape[:-3], out, *size), x.dtype),)

    def _sizes(self, image: Sequence[int], window: Sequence[int]) -> Iterator[int]:
        """Yield the height and the width of the result for an image and a window."""
        for n, k, s, p, d in zip(image, window, self.stride, self.pad, self.dilation, strict=True):
            yield (n + 2 * p - d * (k - 1) - 1) // s + 1

    def eval(self, x: Array, w: Array, b: Array | None = None) -> Arrays:
        """Return y: for each place of the window, add the products of the image there with the kernel's column."""
        size = tuple(self._sizes(x.shape[-2:], w.shape[2:]))
        padded = self._grouped(_padded(x, self.pad, 0.0))
        kernel = w.reshape(self.group, -1, *w.shape[1:])
        y = np.zeros((len(padded), self.group, kernel.shape[1], *size), x.dtype)
        for u, v, at in self._places(w.shape[2:], size):
            y += np.einsum("ngchw,goc->ngohw", padded[at], kernel[..., u, v])
        y = y.reshape(*x.shape[:-3], w.shape[0], *size)
        return (y if b is None else y + b[:, None, None],)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, w: Array, b: Array | None = None) -> tuple[Array | None, ...]:
        """Return the gradients of x, w and b, summed over the places of the window."""
        size = cts[0].shape[-2:]
        ct, padded = self._grouped(cts[0]), self._grouped(_padded(x, self.pad, 0.0))
        kernel = w.reshape(self.group, -1, *w.shape[1:])
        dx, dw = np.zeros_like(padded), np.zeros_like(kernel)
        for u, v, at in self._places(w.shape[2:], size):
            dx[at] += np.einsum("ngohw,goc->ngchw", ct, kernel[..., u, v])
            dw[..., u, v] = np.einsum("ngohw,ngchw->goc", ct, padded[at])
        (top, left), (height, width) = self.pad, x.shape[-2:]
        inside = dx[..., top : top + height, left : left + width].reshape(x.shape)
        grads = (inside, dw.reshape(w.shape))
        return grads if b is None else (*grads, ct.sum(axis=(0, 3, 4)).reshape(b.shape))

    def _grouped(self, x: Array) -> Array:
        return x.reshape(-1, self.group, x.shape[-3] // self.group, *x.shape[-2:])

    def _places(self, window: Sequence[int], size: Sequence[int]) -> Iterator[tuple[int, int, Any]]:
        """Yield each place (u, v) of the window, and the slices of the padded image that take it from all windows."""
        for u, v in np.ndindex(*window):
            rows = _ends(u * self.dilation[0], size[0], self.stride[0])
            yield u, v, (..., rows, _ends(v * self.dilation[1], size[1], self.stride[1]))

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        """Return the places of an axis. A leading axis of x is y's; rows and columns keep their places but mix
        elements; channels of x are summed over. Axis 0 of w and b is y's axis of channels."""
        channels = types[0].rank - 3
        if slot > 0:
            places = (None, axis, axis if axis == 0 else None)[: len(types)]
            return Along(None, places, (channels if axis == 0 else None,))
        none = (None,) * (len(types) - 1)
        return Along(self if axis < channels else None, (axis, *none), (None if axis == channels else axis,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        group, (kh, kw) = draw.choice((1, 2)), (draw.integer(1, 3), draw.integer(1, 2))
        stride, pad, dilation = ((draw.integer(least, 2), draw.integer(least, 2)) for least in (1, 0, 1))
        op = cls(stride, pad, dilation, group)
        lead = draw.choice(((2,), (), (2, 1)))
        channels = group * draw.integer(1, 2)
        height, width = op.dilation[0] * (kh - 1) + draw.integer(1, 3), op.dilation[1] * (kw - 1) + draw.integer(1, 3)
        w = TensorType((group * draw.integer(1, 2), channels // group, kh, kw))
        bias = draw.choice(((), (TensorType(w.shape[:1]),)))
        return Sample(op, (TensorType((*lead, channels, height, width)), w, *bias))


@dataclass(frozen=True)
class Pool(Op):
    """Windows of ``size`` over the images of x [..., C, H, W]; ``size``, ``stride`` and ``pad`` are (height, width).
    There are ceil((H + 2 pad - size) / stride) + 1 windows along an axis, minus a last window that would start beyond
    the image (``pooling_layer.cpp``)."""

    operands = ("x",)
    size: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)

    def infer(self, x: TensorType) -> Types:
        _check_image(self.name, x)
        _check_pairs(self.name, 1, size=self.size, stride=self.stride)
        _check_pairs(self.name, 0, pad=self.pad)
        if any(p >= k for p, k in zip(self.pad, self.size, strict=True)):
            raise ShapeError(f"{self.name}: pad must be less than size, found pad {self.pad} and size {self.size}")
        image = x.shape[-2:]
        if any(k > n + 2 * p for k, n, p in zip(self.size, image, self.pad, strict=True)):
            raise ShapeError(f"{self.name}: the window {self.size} is larger than the padded image: x is {x}")
        counts = self._counts(image)
        # without padding Caffe keeps a last window that starts beyond the image, and reads memory outside of the image
        if any((c - 1) * s - p >= n for c, s, p, n in zip(counts, self.stride, self.pad, image, strict=True)):
            problem = f"the last window would be empty, with size {self.size} and stride {self.stride}: x is {x}"
            raise ShapeError(f"{self.name}: {problem}")
        return (TensorType((*x.shape[:-2], *counts), x.dtype),)

    def _counts(self, image: Sequence[int]) -> Pair:
        """Return the numbers of windows along both axes, as Caffe counts them."""
        counts = []
        for n, k, s, p in zip(image, self.size, self.stride, self.pad, strict=True):
            count = -((k - n - 2 * p) // s) + 1
            counts.append(count - 1 if any(self.pad) and (count - 1) * s >= n + p else count)
        return counts[0], counts[1]

    def ends(self, image: Sequence[int]) -> Pair:
        """Return how much padding below and right of the image completes the last windows."""
        windows = zip(self._counts(image), self.stride, self.size, image, self.pad, strict=True)
        rows, columns = (max(0, (count - 1) * s + k - n - p) for count, s, k, n, p in windows)
        return rows, columns

    def _room(self, x: Array, value: float) -> Array:
        """Return x padded with ``value`` so that every window is complete."""
        (below, right), (top, left) = self.ends(x.shape[-2:]), self.pad
        return _padded(x, self.pad, value, (max(0, below - top), max(0, right - left)))

    def _places(self, x: Array) -> list[tuple[slice, slice]]:
        """Return, for each place of a window, the slices of the padded image that take it from all windows."""
        rows, columns = self._counts(x.shape[-2:])
        return [(_ends(u, rows, self.stride[0]), _ends(v, columns, self.stride[1])) for u, v in np.ndindex(*self.size)]

    @abstractmethod
    def _shares(self, x: Array, y: Array) -> Iterator[tuple[tuple[slice, slice], Array]]:
        """Yield, for each place of a window, its slices, and the derivative of each window's value by its element."""

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        """Return the gradient of x: each element gets its share of the gradients of all windows that contain it."""
        gradient = np.zeros_like(self._room(x, 0.0))
        for (rows, columns), share in self._shares(x, outs[0]):
            gradient[..., rows, columns] += cts[0] * share
        (top, left), (height, width) = self.pad, x.shape[-2:]
        return (gradient[..., top : top + height, left : left + width],)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self if axis < types[0].rank - 2 else None, (axis,), (axis,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        size, stride = (draw.integer(1, 3), draw.integer(1, 3)), (draw.integer(1, 2), draw.integer(1, 2))
        pad = (draw.integer(0, size[0] - 1), draw.integer(0, size[1] - 1))
        image = [max(k, s) + draw.integer(0, 2) for k, s in zip(size, stride, strict=True)]
        stride = tuple(min(s, k) for s, k in zip(stride, size, strict=True))  # type: ignore[assignment]
        x = TensorType((*draw.choice(((2,), (), (2, 1))), draw.integer(1, 2), *image))
        return Sample(cls(size, stride, pad), (x,), 0.3, 2.0)


@dataclass(frozen=True)
class MaxPool(Pool):
    """y is the largest element of each window, inside the image; the gradient goes to the first of equal elements.

    Windows of ``size``, every ``stride``, with ``pad`` around the image, move over the last two axes of x [..., C, H,
    W]: ceil((H + 2 pad - size) / stride) + 1 windows along an axis, minus a last window that would start behind the
    image (``pooling_layer.cpp``, MAX).
    """

    name = "max_pool"

    def eval(self, x: Array) -> Arrays:
        padded = self._room(x, -np.inf)
        return (np.stack([padded[..., rows, columns] for rows, columns in self._places(x)]).max(axis=0),)

    def _shares(self, x: Array, y: Array) -> Iterator[tuple[tuple[slice, slice], Array]]:
        """Yield the slices, and 1 where the element is the first of its window's largest elements, else 0."""
        padded, taken = self._room(x, -np.inf), np.zeros(y.shape, bool)
        for rows, columns in self._places(x):
            first = (padded[..., rows, columns] == y) & ~taken
            taken = taken | first
            yield (rows, columns), first.astype(x.dtype)


@dataclass(frozen=True)
class AvePool(Pool):
    """y is the sum of each window's elements, divided by the number of the window's places in the padded image.
    The windows are those of ``max_pool``, with zeros around the image (``pooling_layer.cpp``)."""

    name = "ave_pool"

    def covered(self, image: Sequence[int]) -> Array:
        """Return the number of elements that each window covers in the padded image: [rows, columns]."""
        counts = []
        for n, k, s, p, c in zip(image, self.size, self.stride, self.pad, self._counts(image), strict=True):
            starts = np.arange(c) * s - p
            counts.append(np.minimum(starts + k, n + p) - starts)
        return np.asarray(np.multiply.outer(*counts))

    def eval(self, x: Array) -> Arrays:
        padded = self._room(x, 0.0)
        total = np.sum([padded[..., rows, columns] for rows, columns in self._places(x)], axis=0)
        return (total / self.covered(x.shape[-2:]).astype(x.dtype),)

    def _shares(self, x: Array, y: Array) -> Iterator[tuple[tuple[slice, slice], Array]]:
        share = 1 / self.covered(x.shape[-2:]).astype(x.dtype)
        for place in self._places(x):
            yield place, share
