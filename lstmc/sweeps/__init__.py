"""Many training runs of one model: the points of a space, each a run of its own, by Dask."""

from lstmc.sweeps.results import COSTS, Goal, OverSeeds, Row, over_seeds
from lstmc.sweeps.space import Range, Space
from lstmc.sweeps.sweeping import Search, SweepRun, Swept, sweep, sweep_model

__all__ = [
    "COSTS",
    "Goal",
    "OverSeeds",
    "Range",
    "Row",
    "Search",
    "Space",
    "SweepRun",
    "Swept",
    "over_seeds",
    "sweep",
    "sweep_model",
]
