"""The recurrence of a group of states: its kind, and the graph that computes its factors and offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from lstmc.ir import Graph, Ref
from lstmc.ops import Arg, Concat, Reshape, Split, Stack, Tile, Transpose, Unstack
from lstmc.source import SrcLoc

LEAST = -1e30  # below all other numbers, and so that float32 can add it a few times
MOVES = (Reshape, Transpose, Split, Concat, Tile, Stack, Unstack)  # ops that put elements in other places


def state_arguments(body: Graph) -> list[str]:
    """Return the names of the arguments of a scan's body that are states, in order."""
    return [arg.name for arg in body.body_args() if isinstance(arg.op, Arg) and arg.op.role == "state"]


def states_read(body: Graph) -> list[set[int]]:
    """Return for each state of a body the numbers of the states that its value after any number of steps depends on."""
    states = state_arguments(body)
    numbers = {name: number for number, name in enumerate(states)}
    following = body.outputs[len(body.outputs) - len(states) :]
    reads = [{numbers[name] for name in body.needed([output.ref]) & numbers.keys()} for output in following]
    for middle in range(len(states)):  # transitive closure
        for reached in reads:
            reached |= reads[middle] if middle in reached else set()
    return reads


class Kind(Enum):
    """The kind of linear map by which the next values of a group of states depend on these states."""

    DELAY = "values of a number of steps before"
    ELEMENTWISE = "times a factor, element by element"
    MAXIMUM = "plus a number, or a larger one"
    MATRIX = "times a matrix"


@dataclass(frozen=True)
class Recurrence:
    """The recurrence of a group of states, by their numbers among the scan's states.

    ``kind`` is None where it is not linear, for the ``reasons``, one for each state, the first of them at ``loc``.
    ``varies``: a factor differs from step to step. ``reads`` are states of other groups that must be solved before. For
    the kinds ``DELAY``, ``ELEMENTWISE`` and ``MAXIMUM`` the graph ``step`` is the body with factors (of the state of
    the second number in the next value of the first) and offsets among its values, each in the state's shape, or None
    for the neutral one; ``following`` are the next values of the states that it ``reads`` there. ``later`` says which
    of two equal values of a maximum gets the gradient: the later one in time. After ``delay`` steps of the kind
    ``DELAY`` nothing is left of a state; for more than one step there are no factors and offsets.
    """

    states: tuple[int, ...]
    names: tuple[str, ...]
    reads: frozenset[int]
    kind: Kind | None
    varies: bool = False
    reasons: tuple[str, ...] = ()
    loc: SrcLoc | None = None
    step: Graph | None = None
    factors: Mapping[tuple[int, int], Ref | None] = field(default_factory=dict)
    offsets: Mapping[int, Ref | None] = field(default_factory=dict)
    following: Mapping[int, Ref] = field(default_factory=dict)
    later: bool = True
    delay: int = 0

    def description(self, state: int) -> str:
        """Return in words how the next value of a state, by its number, reads the group."""
        if self.kind is None:
            return f"in order: {self.reasons[self.states.index(state)]}"
        if self.kind is Kind.DELAY:
            return f"parallel: a delay of {self.delay} step{'s' if self.delay > 1 else ''}"
        factor = {Kind.ELEMENTWISE: "elementwise", Kind.MAXIMUM: "max-plus", Kind.MATRIX: "matrix"}[self.kind]
        group = f", a group of {len(self.states)}" if len(self.states) > 1 else ""
        return f"linear: {factor}{group}, factors {'of each step' if self.varies else 'the same at every step'}"
