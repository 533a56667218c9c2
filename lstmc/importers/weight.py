"""Parameters of an imported model, as recipes from source tensors that are computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lstmc.importers.ir.sizes import ShapeProblem
from lstmc.ops import Array

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """A parameter: ``shape``, the names of its source tensors, the ``recipe`` in words, and ``make`` to compute it."""

    shape: Sizes
    sources: tuple[str, ...]
    recipe: str
    make: Callable[[], Array] = field(repr=False, compare=False)

    def array(self) -> Array:
        """Return the elements as float32."""
        with np.errstate(all="ignore"):  # what is not finite is found when it is written
            array = np.ascontiguousarray(self.make(), np.float32)
        assert array.shape == self.shape, f"{self.recipe}: expected {self.shape}, made {array.shape}"
        return array

    def rows(self, parts: int, order: Sequence[int], names: Sequence[str]) -> Weight:
        """Return the blocks ``order`` of the first axis, which is cut into ``parts`` equal blocks."""
        size = self.shape[0] // parts
        if list(order) == list(range(parts)):
            return self
        index = np.concatenate([np.arange(size) + size * place for place in order])
        shape = (size * len(order), *self.shape[1:])
        return self.derived(shape, f"rows {', '.join(names)} of {self.recipe}", lambda: self.make()[index])

    def plus(self, other: Weight) -> Weight:
        """Return the sum of two weights of one shape."""
        if self.shape != other.shape:
            raise ShapeProblem(f"{self.recipe} of {list(self.shape)} plus {other.recipe} of {list(other.shape)}")
        return Weight(
            self.shape,
            (*self.sources, *other.sources),
            f"{self.recipe} + {other.recipe}",
            lambda: self.make() + other.make(),
        )

    def transposed(self, *axes: int) -> Weight:
        """Return the weight with its axes permuted; the default reverses them."""
        axes = axes or tuple(reversed(range(len(self.shape))))
        if axes == tuple(range(len(self.shape))):
            return self
        recipe = f"{self.recipe} transposed" + ("" if len(axes) == 2 else f" by {list(axes)}")
        return self.derived(tuple(self.shape[a] for a in axes), recipe, lambda: self.make().transpose(axes))

    def reshaped(self, *shape: int) -> Weight:
        """Return the elements in another shape."""
        if shape == self.shape:
            return self
        if prod(shape) != prod(self.shape):
            raise ShapeProblem(f"{self.recipe} of {list(self.shape)} cannot be reshaped to {list(shape)}")
        return self.derived(shape, f"{self.recipe} as {list(shape)}", lambda: self.make().reshape(shape))

    def at(self, index: int) -> Weight:
        """Return one element of the first axis."""
        return self.derived(self.shape[1:], f"{self.recipe}[{index}]", lambda: self.make()[index])

    def cut(self, start: int, stop: int, axis: int = 0) -> Weight:
        """Return the elements from ``start`` up to ``stop`` of an axis."""
        if (start, stop) == (0, self.shape[axis]):
            return self
        place = (slice(None),) * axis + (slice(start, stop),)
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        recipe = f"{self.recipe}[{':, ' * axis}{start}:{stop}]"
        return self.derived(shape, recipe, lambda: self.make()[place])

    def derived(self, shape: Sizes, recipe: str, make: Callable[[], Array]) -> Weight:
        """Return another weight computed from the same source tensors."""
        return Weight(shape, self.sources, recipe, make)


def joined(weights: Sequence[Weight]) -> Weight:
    """Concatenate weights along their first axis."""
    if len(weights) == 1:
        return weights[0]
    return Weight(
        (sum(weight.shape[0] for weight in weights), *weights[0].shape[1:]),
        tuple(dict.fromkeys(name for weight in weights for name in weight.sources)),
        f"[{', '.join(weight.recipe for weight in weights)}]",
        lambda: np.concatenate([weight.make() for weight in weights]),
    )


def number(value: Array, recipe: str = "a constant of the graph") -> Weight:
    """Return a constant without source tensors as a weight."""
    array = np.asarray(value, np.float32)
    return Weight(array.shape, (), recipe, lambda: array)
