"""The ops of a description that stand around recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from lstmc.importers.describe.op import Op
from lstmc.importers.describe.pointwise import Activation
from lstmc.importers.describe.shapes import Shape, ShapeProblem, Size, broadcast, fixed, listed, resolved, with_sizes
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
    """The rows of w [V, H] that x names."""

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
        known = [-1 if isinstance(size, str) else size for size in self.shape]
        if known.count(-1) > 1:  # two names: those that x has keep their places
            raise ShapeProblem(f"{listed(self.shape)} has more than one name: its sizes must be bound first")
        return (arrays[0].reshape(known),)


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
    """One of :data:`REDUCED` along an axis, which is gone in the result."""

    kind: Reduction
    axis: int

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        return ((*shapes[0][: self.axis], *shapes[0][self.axis + 1 :]),)

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        return (REDUCED[self.kind](arrays[0], axis=self.axis),)


@dataclass(frozen=True)
class Select(Op):
    """One element of an axis, which is gone in the result; -1 is the last one, however many there are."""

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
    """x; what it does in training is written, and has no place here."""

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
