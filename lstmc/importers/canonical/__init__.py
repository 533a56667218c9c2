"""What is done to a description before it is written."""

from __future__ import annotations

from lstmc.importers.canonical.layout import settle_layout, with_biases
from lstmc.importers.canonical.reroll import rolled_up
from lstmc.importers.canonical.streaming import with_open_time
from lstmc.importers.ir.net import Net

__all__ = ["settled", "settled_in_place"]


def settled(net: Net, step: bool = False) -> Net:
    """Return the same model, as the language can say it; with ``step`` one that can be streamed.

    Raises :class:`~lstmc.importers.refusal.RefusedError` where ``step`` is asked for and cannot be had.
    """
    return settle_layout(with_open_time(with_biases(rolled_up(net)), step))


def settled_in_place(net: Net) -> Net:
    """Return the same model, as the language can say it, of the same sizes."""
    return settle_layout(with_biases(rolled_up(net)))
