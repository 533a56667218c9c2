"""What the names of an ONNX graph stand for while it is read, and a node's own attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstmc.importers.describe.shapes import Size
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight
from lstmc.ops import Array

PIN = "give the sizes of the inputs, as in shape input=1,576"


class Unsupported:
    """What is made of something that was refused."""


@dataclass
class Node:
    """A node's operands by place (None where one is left out), attributes, and version of the operators' set."""

    op: str
    label: str
    operands: list[Operand | None]
    attributes: Mapping[str, Any]
    opset: int
    results: int
    names: Sequence[str] = ()
    used: set[str] = field(default_factory=set)

    def operand(self, place: int) -> Operand | None:
        return self.operands[place] if place < len(self.operands) else None

    def needed(self, place: int) -> Operand:
        found = self.operand(place)
        if found is None:
            raise Refused(f"operand {place}", "left out", "it is required", "check the model with onnx.checker")
        return found

    def get(self, name: str, default: Any) -> Any:
        """An attribute of the default's own type."""
        found = self.attributes.get(name, default)
        if isinstance(found, bytes):
            found = found.decode("utf-8", "replace")
        return found


class Onnx:
    """The graph's names, and steps being built."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.values: dict[str, Operand | None] = {}


def known(x: Operand | None) -> Array | None:
    """The elements of what does not depend on the inputs."""
    return x.make() if isinstance(x, Weight) else x if isinstance(x, np.ndarray) else None


def fixed_numbers(x: Operand | None, what: str) -> list[int]:
    """Integers that must be known while the graph is read."""
    found = [size for size in sizes(x, what) if isinstance(size, int)]
    if x is None or len(found) != len(sizes(x, what)):
        raise Refused(what, "it has a size without a number", "it must be known here", PIN)
    return found


def sizes(x: Operand | None, what: str) -> list[Size]:
    """Integers, or names of sizes, that must be known while the graph is read."""
    array = known(x)
    if array is None:
        raise Refused(what, "computed from the inputs", "it must be known here", PIN)
    return [one if isinstance(one, str) else int(one) for one in array.reshape(-1).tolist()]


def weight(x: Operand | None, what: str) -> Weight:
    """What must be a parameter."""
    if isinstance(x, Weight):
        return x
    if isinstance(x, np.ndarray) and x.dtype != object:
        array = x
        return Weight(array.shape, (), "a constant of the graph", lambda: array)
    raise Refused(what, "computed from the inputs", "it must be a parameter", "give its values")


def weight_or_none(x: Operand | None, what: str) -> Weight | None:
    return None if x is None else weight(x, what)
