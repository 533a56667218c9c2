"""Many training runs of one model: the points of a space, each a run of its own, by Dask."""

from lstmc.sweeps.sweeping import Search, SweepRun, Swept, sweep, sweep_model
from lstmc.sweeps.trials import COSTS, Goal, OverSeeds, Range, Row, Space, over_seeds

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
