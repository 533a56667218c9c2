"""What is done with any cell: a cell made of a cell, or a way to run one. In the public language only."""

from lstmc.cells.wrappers.around import residual, variational_dropout, zoneout
from lstmc.cells.wrappers.over_time import bidirectional, time_distributed
from lstmc.cells.wrappers.stacked import stacked

__all__ = ["bidirectional", "residual", "stacked", "time_distributed", "variational_dropout", "zoneout"]
