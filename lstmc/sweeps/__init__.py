"""Many training runs of one model: the points of a space, each a run of its own, by Dask."""

from lstmc.sweeps.sweeping import *
from lstmc.sweeps.trials import *
