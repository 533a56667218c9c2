"""What is done to a description before it is written."""

from __future__ import annotations

from lstmc.importers.describe.net import Net
from lstmc.importers.settle.biases import with_biases
from lstmc.importers.settle.layout import settle_layout
from lstmc.importers.settle.reroll import rolled_up

__all__ = ["settled"]


def settled(net: Net) -> Net:
    """The same model, as the language can say it."""
    return settle_layout(with_biases(rolled_up(net)))
