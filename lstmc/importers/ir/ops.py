"""The import IR's ops other than recurrent layers; convolution and pooling of images [..., C, H, W]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from lstmc.importers.ir.op import (
    Activation,
    Op,
    Shape,
    ShapeProblem,
    Size,
    broadcast,
    fixed,
    listed,
    resolved,
    with_sizes,
)
from lstmc.ops import Array


@dataclass(frozen=True)
class Linear(Op):
    """x [..., in] with w [out, in] and maybe b [out]: x @ w.T + b."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        x, w = shapes[0], shapes[1]
        if not x or len(w) != 2 or x[-1] != w[1] or any(b != (w[0],) for b in shapes[2:]):
            raise ShapeProblem(f"a product of {listed(x)} with weights {', '.join(map(listed, shapes[1:]))}")
        return ((*x[:-1], w[0]),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        y = arrays[0] @ arrays[1].T
        return (y + arrays[2] if len(arrays) > 2 else y,)


@dataclass(frozen=True)
class Embed(Op):
    """The rows of w [V, H] at the indices x."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((*shapes[0], shapes[1][1]),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[1][arrays[0].astype(np.int64)],)


@dataclass(frozen=True)
class Apply(Op):
    """A function of each element."""

    function: Activation

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (shapes[0],)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (self.function(arrays[0]),)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "max": lambda x, y: np.maximum(x, y),
    "min": lambda x, y: np.minimum(x, y),
}


@dataclass(frozen=True)
class Binary(Op):
    """One of :data:`BINARY` on the elements of two arrays, broadcast as in NumPy."""

    kind: str

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (broadcast(*shapes),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (BINARY[self.kind](*arrays),)


@dataclass(frozen=True)
class Concat(Op):
    axis: int

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        rest = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in shapes}
        if len(rest) > 1:
            raise ShapeProblem(f"joined along axis {self.axis}: {', '.join(map(listed, shapes))}")
        size = sum(fixed(shape[self.axis], f"axis {self.axis}") for shape in shapes)
        return ((*shapes[0][: self.axis], size, *shapes[0][self.axis + 1 :]),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.concatenate(arrays, self.axis),)


@dataclass(frozen=True)
class Split(Op):
    axis: int
    sizes: tuple[int, ...]

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        x = shapes[0]
        if sum(self.sizes) != x[self.axis] or min(self.sizes) < 1:
            raise ShapeProblem(f"axis {self.axis} of {listed(x)} cut into {list(self.sizes)}")
        return tuple((*x[: self.axis], size, *x[self.axis + 1 :]) for size in self.sizes)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return tuple(np.split(arrays[0], np.cumsum(self.sizes)[:-1], self.axis))


@dataclass(frozen=True)
class Reshape(Op):
    shape: Shape

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (resolved(self.shape, shapes[0]),)

    def bound(self, sizes: Mapping[str, int]) -> Self:
        return replace(self, shape=with_sizes(self.shape, sizes))

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        sizes = [-1 if isinstance(size, str) else size for size in self.shape]
        if sizes.count(-1) > 1:  # two names: those that x has keep their places
            raise ShapeProblem(f"{listed(self.shape)} has more than one name: its sizes must be bound first")
        return (arrays[0].reshape(sizes),)


@dataclass(frozen=True)
class Transpose(Op):
    """Axis j of the result is axis ``axes[j]`` of x."""

    axes: tuple[int, ...]

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        if sorted(self.axes) != list(range(len(shapes[0]))):
            raise ShapeProblem(f"the axes of {listed(shapes[0])} cannot be put into the order {list(self.axes)}")
        return (tuple(shapes[0][axis] for axis in self.axes),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[0].transpose(self.axes),)


@dataclass(frozen=True)
class Softmax(Op):
    axis: int
    log: bool = False

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (shapes[0],)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        x = arrays[0] - arrays[0].max(self.axis, keepdims=True)
        log = x - np.log(np.exp(x).sum(self.axis, keepdims=True))
        return (log if self.log else np.exp(log),)


REDUCED: dict[str, Callable[..., Array]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "argmax": lambda x, axis: np.argmax(x, axis).astype(x.dtype),
}
Reduction = Literal["sum", "mean", "max", "min", "argmax"]


@dataclass(frozen=True)
class Reduce(Op):
    """A reduction of :data:`REDUCED` along one axis, which the result lacks."""

    kind: Reduction
    axis: int

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((*shapes[0][: self.axis], *shapes[0][self.axis + 1 :]),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (REDUCED[self.kind](arrays[0], axis=self.axis),)


@dataclass(frozen=True)
class Select(Op):
    """One element of an axis, which the result lacks; -1 is the last element of an axis of any length."""

    axis: int
    index: int

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        size = shapes[0][self.axis]
        if isinstance(size, int) and not -size <= self.index < size:
            raise ShapeProblem(f"element {self.index} of an axis of {size}")
        return ((*shapes[0][: self.axis], *shapes[0][self.axis + 1 :]),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.take(arrays[0], [self.index], self.axis).squeeze(self.axis),)


@dataclass(frozen=True)
class Expand(Op):
    """x, its axes of one element repeated until it has ``shape``, of as many axes."""

    shape: Shape

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        if len(shapes[0]) != len(self.shape) or broadcast(shapes[0], self.shape) != self.shape:
            raise ShapeProblem(f"{listed(shapes[0])} repeated to {listed(self.shape)}")
        return (self.shape,)

    def bound(self, sizes: Mapping[str, int]) -> Self:
        return replace(self, shape=with_sizes(self.shape, sizes))

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.broadcast_to(arrays[0], [-1 if isinstance(s, str) else s for s in self.shape]),)


@dataclass(frozen=True)
class Einsum(Op):
    """Products of two computed values, summed over one axis at most; each axis has a letter."""

    of_x: str
    of_y: str
    of_result: str

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        sizes: dict[str, Size] = {}
        for letters, shape in zip((self.of_x, self.of_y), shapes, strict=True):
            for letter, size in zip(letters, shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    raise ShapeProblem(f"a product of {listed(shapes[0])} and {listed(shapes[1])}")
        return (tuple(sizes[letter] for letter in self.of_result),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.einsum(f"{self.of_x},{self.of_y}->{self.of_result}", *arrays),)


@dataclass(frozen=True)
class Dropout(Op):
    """The identity; in training, x with elements set to zero at random."""

    ratio: float

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (shapes[0],)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[0],)


@dataclass(frozen=True)
class Normalize(Op):
    """(x - mean) / sqrt(variance + eps) over the last axis."""

    eps: float

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (shapes[0],)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        x = arrays[0] - arrays[0].mean(-1, keepdims=True)
        return (x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps),)


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
