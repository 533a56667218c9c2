"""Many training runs of one model: one run for each point of a search space, by Dask."""

from lstmc.sweeps.sweeping import *
from lstmc.sweeps.trials import *
