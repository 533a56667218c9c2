"""Training runs: what one measures, records and leaves, whichever backend trains."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc.runs import solver
else:
    solver = ByName("lstmc.runs.solver")

__all__ = ["solver"]
