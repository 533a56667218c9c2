"""Where values were cut from others: the elements of a sequence, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lstmc.importers.describe.net import Net
from lstmc.importers.describe.ops import Select, Split


@dataclass(frozen=True)
class Element:
    """``size`` elements of an axis of ``base``, from ``start`` on; ``dropped``: an axis of one that is gone."""

    base: str
    axis: int
    size: int
    dropped: bool
    start: int

    def of_one(self, other: Element) -> bool:
        """Whether they are cut from the same, in the same way."""
        return (self.base, self.axis, self.size, self.dropped) == (other.base, other.axis, other.size, other.dropped)


def element(net: Net, made: Mapping[str, int], value: str) -> Element | None:
    """Where a value was cut from; None for one that was not."""
    if value not in made:
        return None
    step = net.steps[made[value]]
    if isinstance(step.op, Select) and step.op.index >= 0:
        return Element(step.inputs[0], step.op.axis, 1, True, step.op.index)
    if isinstance(step.op, Split):
        at = step.outputs.index(value)
        return Element(step.inputs[0], step.op.axis, step.op.sizes[at], False, sum(step.op.sizes[:at]))
    return None


def in_a_row(net: Net, made: Mapping[str, int], values: Sequence[str]) -> Element | None:
    """The first one, if all are elements of one value, each beside the one before."""
    found = [element(net, made, value) for value in values]
    first = found[0]
    if first is None:
        return None
    for place, one in enumerate(found):
        if one is None or not one.of_one(first) or one.start != first.start + place * first.size:
            return None
    return first
