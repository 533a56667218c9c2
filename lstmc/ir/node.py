"""What a graph is made of: nodes, their values and results, and the steps that values are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lstmc.ops import Op, Types
from lstmc.source import SrcLoc


class Ref(NamedTuple):
    """One value: output ``out`` of the node called ``node``."""

    node: str
    out: int = 0


class Step(NamedTuple):
    """One step of a scan, of which a value of an expanded graph is: the scan's name, and where the step is in time."""

    scan: str
    t: int


Steps = tuple[Step | None, ...]


class Output(NamedTuple):
    """A result of a graph: the name a caller reads it by, and the value. In a scan's body the name is the user's name
    of the step's output ('' for the only one), or of the state whose next value it is.

    ``carried_to`` is the input of the model that takes this value in the next batch, if one does.
    """

    name: str
    ref: Ref
    carried_to: Ref | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One op in a graph. ``names`` names its results, one each; the first is the node's own name.

    ``steps`` are the steps of scans that the results are of, one each, where unrolling has made any; else it is empty.
    """

    names: tuple[str, ...]
    op: Op
    types: Types
    loc: SrcLoc | None = None
    steps: Steps = ()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def step(self) -> Step | None:
        """The step that all of its results are of; None for what is of no step, or of several, as a cut sequence."""
        first = self.steps[0] if self.steps else None
        return first if all(step == first for step in self.steps) else None

    def of_step(self, out: int) -> Step | None:
        """The step that one of its results is of."""
        return self.steps[out] if self.steps else None
