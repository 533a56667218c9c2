"""What is to be drawn of a graph, before anything has a place: boxes, groups of boxes, and arrows between boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from lstmc.source import SrcLoc


class Kind(Enum):
    """What a box stands for; it decides its shape and colour."""

    INPUT = "input"
    PARAMETER = "parameter"
    STATE = "state"
    PRODUCT = "product"
    ELEMENTWISE = "elementwise"
    SHAPE = "shape"
    LOSS = "loss"
    OTHER = "other"
    OUTPUT = "output"
    OMITTED = "omitted"


class Flow(Enum):
    """What an arrow carries: a value, a parameter, or a state to the next step."""

    DATA = "data"
    PARAMETER = "parameter"
    STATE = "state"


@dataclass(frozen=True)
class Box:
    """A node. ``key`` is its name in the graph, ``title`` and ``text`` stand in it, ``tip`` is all that is known."""

    key: str
    title: str
    text: str
    kind: Kind
    tip: str = ""
    result: bool = False  # one of the graph's outputs
    loc: SrcLoc | None = None  # where it was written


@dataclass(frozen=True)
class Arrow:
    """From one box to another, by their keys."""

    tail: str
    head: str
    flow: Flow = Flow.DATA


@dataclass
class Group:
    """Boxes and groups with a frame around them. Those of the same ``row`` stand in one row, in their order."""

    title: str = ""
    row: str = ""
    parts: list[Box | Group] = field(default_factory=list)

    def boxes(self) -> Iterator[Box]:
        for part in self.parts:
            if isinstance(part, Box):
                yield part
            else:
                yield from part.boxes()


@dataclass(frozen=True)
class Picture:
    """All that is drawn: ``whole`` is the group without a frame that holds everything, in topological order."""

    name: str
    whole: Group
    arrows: tuple[Arrow, ...]

    @property
    def boxes(self) -> tuple[Box, ...]:
        return tuple(self.whole.boxes())
