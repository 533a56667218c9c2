"""Training by Caffe's own solvers: the training net with its phases, and the engine of a run. Snapshots are in Caffe's
formats.
"""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName

if TYPE_CHECKING:
    from lstmc_caffe.train import net
else:
    net = ByName("lstmc_caffe.train.net")

__all__ = ["net"]
