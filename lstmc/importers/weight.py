"""A parameter of an imported model: what it is made of, in words and as code. Nothing is read until it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lstmc.ops import Array

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """``shape``, the names of the source tensors it is made of, the ``recipe`` in words, and ``make`` to do it."""

    shape: Sizes
    sources: tuple[str, ...]
    recipe: str
    make: Callable[[], Array] = field(repr=False, compare=False)

    def array(self) -> Array:
        """Its elements as float32."""
        with np.errstate(all="ignore"):  # what is not finite is found when it is written
            array = np.ascontiguousarray(self.make(), np.float32)
        assert array.shape == self.shape, f"{self.recipe}: expected {self.shape}, made {array.shape}"
        return array

    def rows(self, parts: int, order: Sequence[int], names: Sequence[str]) -> Weight:
        """The first axis cut into ``parts`` equal blocks, of which those in ``order`` are taken."""
        size = self.shape[0] // parts
        if list(order) == list(range(parts)):
            return self
        index = np.concatenate([np.arange(size) + size * place for place in order])
        shape = (size * len(order), *self.shape[1:])
        return self.derived(shape, f"rows {', '.join(names)} of {self.recipe}", lambda: self.make()[index])

    def plus(self, other: Weight) -> Weight:
        """The sum of two of one shape."""
        assert self.shape == other.shape
        return Weight(
            self.shape,
            (*self.sources, *other.sources),
            f"{self.recipe} + {other.recipe}",
            lambda: self.make() + other.make(),
        )

    def transposed(self, *axes: int) -> Weight:
        """Its axes in another order; the two last of a matrix if none is given."""
        axes = axes or tuple(reversed(range(len(self.shape))))
        if axes == tuple(range(len(self.shape))):
            return self
        recipe = f"{self.recipe} transposed" + ("" if len(axes) == 2 else f" by {list(axes)}")
        return self.derived(tuple(self.shape[a] for a in axes), recipe, lambda: self.make().transpose(axes))

    def reshaped(self, *shape: int) -> Weight:
        """The same elements as another shape."""
        if shape == self.shape:
            return self
        assert prod(shape) == prod(self.shape)
        return self.derived(shape, f"{self.recipe} as {list(shape)}", lambda: self.make().reshape(shape))

    def at(self, index: int) -> Weight:
        """One element of the first axis."""
        return self.derived(self.shape[1:], f"{self.recipe}[{index}]", lambda: self.make()[index])

    def cut(self, start: int, stop: int, axis: int = 0) -> Weight:
        """The elements from ``start`` up to ``stop`` of an axis."""
        if (start, stop) == (0, self.shape[axis]):
            return self
        place = (slice(None),) * axis + (slice(start, stop),)
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        recipe = f"{self.recipe}[{':, ' * axis}{start}:{stop}]"
        return self.derived(shape, recipe, lambda: self.make()[place])

    def derived(self, shape: Sizes, recipe: str, make: Callable[[], Array]) -> Weight:
        """Another one, made of the same source tensors."""
        return Weight(shape, self.sources, recipe, make)


def joined(weights: Sequence[Weight]) -> Weight:
    """Several along their first axis."""
    if len(weights) == 1:
        return weights[0]
    return Weight(
        (sum(weight.shape[0] for weight in weights), *weights[0].shape[1:]),
        tuple(dict.fromkeys(name for weight in weights for name in weight.sources)),
        f"[{', '.join(weight.recipe for weight in weights)}]",
        lambda: np.concatenate([weight.make() for weight in weights]),
    )


def number(value: Array, recipe: str = "a constant of the graph") -> Weight:
    """What no source tensor has: computed while the graph was read."""
    array = np.asarray(value, np.float32)
    return Weight(array.shape, (), recipe, lambda: array)
