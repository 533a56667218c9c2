"""How the arrays of a file are cut into the batches that a net takes, and the outputs put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstmc.errors import DataError
from lstmc.ops import Array
from lstmc.similar_names import did_you_mean

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """Along which axis of each array examples are counted: ``inputs``, ``outputs``; None for one that is taken whole.

    ``count`` examples make batches of ``per_batch``, the last of which may have fewer. Where ``stacked`` is set a row
    is a whole batch, along a first axis that the net does not have, and ``per_batch`` is 1. Outputs have None where
    all arrays are as the net takes them: there is one batch.
    """

    inputs: Mapping[str, int | None]
    outputs: Mapping[str, int | None]
    count: int
    per_batch: int
    stacked: bool

    @property
    def batches(self) -> int:
        return -(-self.count // self.per_batch)

    def rows(self, batch: int) -> tuple[int, int]:
        """The examples of a batch: the first, and the one after the last."""
        return batch * self.per_batch, min((batch + 1) * self.per_batch, self.count)

    def fed(self, name: str, part: Array) -> Array:
        """A part of an input in the net's shape: of a batch that is not full the last example is repeated."""
        axis = self.inputs[name]
        if axis is None:
            return part
        if self.stacked:
            return np.asarray(part[0])
        missing = self.per_batch - part.shape[axis]
        width = [(0, missing if at == axis else 0) for at in range(part.ndim)]
        return np.pad(part, width, mode="edge") if missing else part

    def kept(self, name: str, found: Array, count: int) -> Array:
        """Of an output the first ``count`` examples."""
        axis = self.outputs[name]
        if self.stacked:
            return found[None]
        return found if axis is None else np.take(found, np.arange(count), axis)


def layout_of(source: str, wanted: Shapes, outputs: Shapes, given: Shapes) -> Layout:
    """How the arrays ``given`` fit a net's inputs, which are ``wanted``; ``source`` names them in errors.

    Each has the input's own shape but for the axis that counts examples, or one more axis in front; one that has
    exactly the input's shape is taken whole by every batch. Raises :class:`DataError` that names everything that does
    not fit, and outputs of which it cannot be told along which axis their examples are.
    """
    problems = [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in given]
    problems += [
        f"extra: {name} {list(shape)}{did_you_mean(name, [n for n in wanted if n not in given])}"
        for name, shape in given.items()
        if name not in wanted
    ]
    both = {name: (wanted[name], given[name]) for name in wanted if name in given}
    stacked = any(len(found) == len(shape) + 1 for shape, found in both.values())
    axes: dict[str, int | None] = {}
    counts: dict[str, tuple[int, int]] = {}
    for name, (shape, found) in both.items():
        axes[name] = _axis(shape, found, stacked)
        axis = axes[name]
        if axis is not None:
            counts[name] = (found[axis], 1 if stacked else shape[axis])
        elif found != shape:
            forms = f"{list(shape)} with any number of examples on one axis, or any number of such"
            problems.append(f"wrong shape: {name} must be {forms}, found {list(found)}")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, (count, _) in counts.items())
        problems.append(f"expected the same number of examples in all arrays: {listed}")
    count, size = next(iter(counts.values()), (1, 1))
    if count == 0:
        problems.append("there are no examples")
    places = {name: _output_axis(shape, size, stacked) if counts else None for name, shape in outputs.items()}
    problems += [
        f"output {name} {list(outputs[name])} has not one axis of size {size}: the axis of the examples is ambiguous;"
        " give whole batches, with a leading axis for them"
        for name, place in places.items()
        if counts and place is None
    ]
    if problems:
        raise DataError(f"{source} does not fit the net", notes=problems)
    return Layout(axes, places, count, size, stacked and bool(counts))


def _axis(shape: tuple[int, ...], found: tuple[int, ...], stacked: bool) -> int | None:
    if stacked:
        return 0 if found[1:] == shape and len(found) == len(shape) + 1 else None
    if len(shape) != len(found):
        return None
    others = [axis for axis, (size, there) in enumerate(zip(shape, found, strict=True)) if size != there]
    return others[0] if len(others) == 1 else None


def _output_axis(shape: tuple[int, ...], size: int, stacked: bool) -> int | None:
    if stacked:
        return 0
    places = [axis for axis, found in enumerate(shape) if found == size]
    return places[0] if len(places) == 1 else None
