"""Many training runs of one model: the points of a space, each a run of its own, by Dask."""

from lstmc.sweeps.results import Goal, Row
from lstmc.sweeps.space import Range, Space
from lstmc.sweeps.sweeping import Swept, sweep

__all__ = ["Goal", "Range", "Row", "Space", "Swept", "sweep"]
