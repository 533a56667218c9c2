"""A batch divided among ranks: the examples of each, and its share of the labels that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lstmc.backend.compiled import RankPart
from lstmc.ir import Graph, Ref
from lstmc.ops import Array, Input


def example_axis(whole: Sequence[int], part: Sequence[int]) -> int | None:
    """Return the axis in which shapes for two sizes of the batch differ."""
    return next((axis for axis, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b), None)


@dataclass(frozen=True)
class DividedBatch:
    """The parts of the ranks, and the axis of examples of each input by name; None where an array has none."""

    parts: tuple[RankPart, ...]
    axes: Mapping[str, int | None]

    @classmethod
    def of(cls, whole: Graph, parts: Sequence[RankPart]) -> DividedBatch:
        """Return the division of the inputs of a graph for whole batches."""
        part = smallest(parts)
        names = [node.name for node in whole if isinstance(node.op, Input) and node.name in part]
        shapes = {name: (whole.type(Ref(name)).shape, part.type(Ref(name)).shape) for name in names}
        return cls(tuple(parts), {name: example_axis(*both) for name, both in shapes.items()})

    def divide(self, arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Return the arrays of each rank: its examples, or the whole array where it has no axis of them."""
        return [
            {
                name: array if axis is None else array[(slice(None),) * axis + (slice(part.start, part.stop),)]
                for name, array in arrays.items()
                if name in self.axes
                for axis in (self.axes[name],)
            }
            for part in self.parts
        ]

    def join(self, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Return the whole arrays of which :meth:`divide` made ``parts``."""
        return {
            name: array if axis is None else np.concatenate([part[name] for part in parts], axis)
            for name, array in parts[0].items()
            for axis in (self.axes[name],)
        }

    def shares(self, batch: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Return what else each rank is fed: its shares of the labels that count, one number for each loss."""
        found: list[dict[str, Array]] = [{} for _ in self.parts]
        for name, counted in self.parts[0].counted.items():
            labels, axis = batch[counted.labels], self.axes[counted.labels]
            assert axis is not None
            is_counted = labels != counted.ignored
            total = max(1, int(is_counted.sum()))
            for part, share in zip(self.parts, found, strict=True):
                count = int(np.take(is_counted, np.arange(part.start, part.stop), axis).sum())
                share[name] = np.array(max(1, count) / total, np.float32)
        return found


def smallest(parts: Sequence[RankPart]) -> Graph:
    """Return the compiled graph of the part with the fewest examples."""
    return min(parts, key=lambda part: part.stop - part.start).compiled.expanded
