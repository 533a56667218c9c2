"""Training runs: what one measures, records and leaves, whichever backend trains."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "solver")
