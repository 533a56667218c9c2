"""Canonicalisation of imported nets: loops rolled up, a dynamic time axis, biases merged, transposes removed."""

from __future__ import annotations

from lstmc.importers.canonical.layout import choose_layout, with_biases
from lstmc.importers.canonical.rolling import roll_up
from lstmc.importers.canonical.streaming import with_dynamic_time
from lstmc.importers.ir.net import Net

__all__ = ["canonicalize", "canonicalize_static"]


def canonicalize(net: Net, step: bool = False) -> Net:
    """Return the canonical form of a net, which can be written as a model; with ``step`` one that can be streamed.

    Raises :class:`~lstmc.importers.refusal.RefusedError` for ``step`` of a net that cannot be streamed.
    """
    return choose_layout(with_dynamic_time(with_biases(roll_up(net)), step))


def canonicalize_static(net: Net) -> Net:
    """Return the canonical form of a net, with all sizes unchanged."""
    return choose_layout(with_biases(roll_up(net)))
