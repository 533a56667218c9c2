"""What the nodes of a torch.export graph stand for while it is read."""

from __future__ import annotations

from typing import Any

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight

Unsupported = object()  # what a node makes that was refused
Untold = object()  # a further result that has no counterpart, as where a maximum is: refused if something uses it


class Torch:
    """Nodes by what they are: operands, lists of them, numbers."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.values: dict[Any, Any] = {}

    def resolved(self, thing: Any) -> Any:
        """An argument with what its nodes stand for put in."""
        if isinstance(thing, dict):
            return {key: self.resolved(one) for key, one in thing.items()}
        if isinstance(thing, list | tuple):
            return [self.resolved(one) for one in thing]
        return self.values[thing] if thing.__hash__ is not None and thing in self.values else thing

    def weight(self, x: Operand, what: str) -> Weight:
        """An operand that must be a parameter."""
        if not isinstance(x, Weight):
            raise Refused(what, "computed by the model", "it must be a parameter", "keep it as a parameter")
        return x


def weight_or_none(t: Torch, x: Any, what: str) -> Weight | None:
    return None if x is None else t.weight(x, what)
