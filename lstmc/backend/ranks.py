"""What one of several processes trains on: its part of every batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lstmc.backend.compiled import Compiled
from lstmc.prepare import Counted


@dataclass(frozen=True)
class RankPart:
    """What one rank trains: the examples from ``start`` up to ``stop`` of each batch, in the order of the batch axis.

    The losses of all parts add up to the loss of the whole batch. ``counted`` are inputs to feed: one number each, the
    part's share of the labels that are counted.
    """

    compiled: Compiled
    start: int
    stop: int
    counted: Mapping[str, Counted]
