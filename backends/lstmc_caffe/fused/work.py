"""What a generated layer does at each step: products of all rows, and loops over elements."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lstmc.ir import Ref
from lstmc_caffe.fused.memory import Array, Place


def plain(text: str) -> str:
    """What may stand in a comment of C++: nothing that ends or continues it."""
    return re.sub(r"[^ -~]|\\", "?", text)


@dataclass(frozen=True)
class Sink:
    """Where a value goes: written over what is there, or added to it."""

    ref: Ref
    place: Place
    add: bool = False


@dataclass
class Product:
    """y [rows, outs] = x [rows, ins] times w [outs, ins] transposed, or times w [ins, outs]; plus b."""

    x: Place
    w: Place
    y: Place
    outs: int
    ins: int
    lead: int
    transposed: bool
    b: Place | None
    panels: Array  # where w is packed
    when: Literal["before", "step", "after"]  # the loop over steps: one product for all, or one each
    comment: str

    @property
    def enough(self) -> int:
        """The rows, of all steps, from which on packing w pays: measured, see docs/decisions/0024."""
        if not self.transposed:
            return 48
        return 32 if self.outs * self.ins <= 2**18 else 96

    @property
    def of_bottom(self) -> bool:
        """Whether it is the gradient of a bottom, which a net may not want."""
        return self.when == "after" and self.y.array.kind == "bottom_diff"

    def arrays(self) -> set[str]:
        """The names of what it reads and writes."""
        return {place.array.name for place in (self.x, self.w, self.y, self.b) if place} | {self.panels.name}


@dataclass(frozen=True)
class Store:
    """A line of a loop that writes one element, over what is there or added to it.

    ``shared``: the array has no rows of its own, so every row of the batch adds to the same element.
    """

    element: str
    value: str
    add: bool
    shared: bool

    def __str__(self) -> str:
        return f"{self.element} {'+=' if self.add else '='} {self.value};"


@dataclass
class Loop:
    """Lines of C++ for each of ``size`` elements ``j``, of one row after the other; ``pointers`` are what they use.

    ``independent``: no element needs another one, so that many can be done at once.
    """

    size: int
    pointers: dict[str, tuple[Place, bool]] = field(default_factory=dict)  # name -> place, whether it is written
    lines: list[str | Store] = field(default_factory=list)  # each with what it is, as a comment
    comments: list[str] = field(default_factory=list)
    independent: bool = True

    def arrays(self) -> set[str]:
        """The names of what it reads and writes."""
        return {place.array.name for place, _ in self.pointers.values()}


Work = Product | Loop
