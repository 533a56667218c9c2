"""The nets of several ranks that train together, and how a batch is divided among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmc.backend import RankPart
from lstmc.errors import TrainingError
from lstmc.ir import Graph, Ref
from lstmc.ops import Array, Constant, Input
from lstmc.passes import Refs, rewrite
from lstmc.prepare import LOSS, mask_name
from lstmc_caffe.ops import DropoutLayer, Eltwise, FilledInput, InputLayer

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Mask:
    """What a dropout multiplies by in place of its own draws: of elements of the whole batch, drawn in ``shape``."""

    name: str
    ratio: float
    shape: tuple[int, ...]
    axis: int | None


@dataclass(frozen=True)
class RankNets:
    """The text of each rank's net, ``parts`` of a batch by examples, the axis of examples of every array by name.

    ``test`` is the net of whole batches, by which one rank tests.
    """

    texts: tuple[str, ...]
    parts: tuple[RankPart, ...]
    axes: Mapping[str, int | None]
    masks: tuple[Mask, ...]
    test: str

    def start(self, args: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
        """What every rank is started with, in place of ``args`` and ``arrays`` for one."""
        carried = {target for _, target in args["carried"]}
        each = [
            {
                "net": text,
                "test": bool(args["test"]) and rank == 0,
                "ranks": {
                    "test_net": self.test,
                    "axes": {name: self.axes[name] for name in carried},
                    "masks": [(m.name, m.ratio, m.shape, m.axis, part.start, part.stop) for m in self.masks],
                },
            }
            for rank, (text, part) in enumerate(zip(self.texts, self.parts, strict=True))
        ]
        shared = {name: array for name, array in arrays.items() if not name.startswith("carried:")}
        states = {name: array for name, array in arrays.items() if name.startswith("carried:")}
        return {**args, "each": each}, {**shared, **self._divided(states, "carried:")}

    def divide(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays of a batch, those of each rank by its number, and what each of them counts."""
        found = self._divided(batch, "")
        for name, counted in self.parts[0].counted.items():
            labels, axis = batch[counted.labels], self.axes[counted.labels]
            assert axis is not None
            there = labels != counted.ignored
            total = max(1, int(there.sum()))
            for rank, part in enumerate(self.parts):
                own = int(np.take(there, np.arange(part.start, part.stop), axis).sum())
                found[f"{rank}|{name}"] = np.array(max(1, own) / total, np.float32)
        return found

    def _divided(self, arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, array in arrays.items():
            axis = self.axes[name.removeprefix(prefix)]
            if axis is None:
                found[name] = array
                continue
            for rank, part in enumerate(self.parts):
                found[f"{rank}|{name}"] = array[(slice(None),) * axis + (slice(part.start, part.stop),)]
        return found


def with_masks(graph: Graph) -> Graph:
    """An expanded graph whose dropouts multiply by inputs, called as ``mask_name`` says."""

    def visit(b: Any, node: Any, args: Refs) -> Refs | None:
        if not isinstance(node.op, DropoutLayer):
            return None
        mask = b.add(InputLayer(node.types[0].shape), names=(mask_name(node.name),), loc=node.loc)
        return b.add(Eltwise("PROD"), *args, *mask, names=node.names, loc=node.loc)  # type: ignore[no-any-return]

    return rewrite(graph, visit)


def masks(whole: Graph, part: Graph) -> tuple[Mask, ...]:
    """The dropouts of the whole batch's net that training runs, in the order of its layers.

    Raises :class:`TrainingError` where a rank's net has others, or draws numbers that are no dropout's.
    """
    objective = [output.ref for output in whole.outputs if output.name == LOSS or output.carried_to]
    needed = whole.needed(objective)
    for node in whole:
        if isinstance(node.op, FilledInput) and not isinstance(node.op.fill, Constant):
            raise TrainingError(
                f"{whole.name} cannot be trained by several ranks: the net draws {node.name} for a whole batch",
                loc=node.loc,
            )
    drawn = [node for node in whole if isinstance(node.op, DropoutLayer) and node.name in needed]
    if {node.name for node in drawn} != {node.name for node in part if isinstance(node.op, DropoutLayer)}:
        raise TrainingError(
            f"{whole.name} cannot be trained by several ranks: the net of a part of a batch has other dropouts"
        )
    return tuple(
        Mask(mask_name(node.name), node.op.ratio, shape, example_axis(shape, part.type(Ref(node.name)).shape))  # type: ignore[attr-defined]
        for node in drawn
        for shape in (whole.type(Ref(node.name)).shape,)
    )


def example_axis(whole: Sequence[int], part: Sequence[int]) -> int | None:
    """The axis in which shapes for two sizes of the batch differ."""
    return next((axis for axis, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b), None)


def example_axes(whole: Graph, part: Graph, names: Iterable[str]) -> dict[str, int | None]:
    """The axis of examples of inputs of the net."""
    return {
        name: example_axis(whole.type(Ref(name)).shape, part.type(Ref(name)).shape)
        for name in names
        if isinstance(whole.node(name).op, Input)
    }
