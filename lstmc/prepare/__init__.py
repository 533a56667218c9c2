"""What is made of a model before it is compiled: the part for deployment or training, one step, no stopped
gradient; and of a compiled one, to be computed as training does."""

from lstmc.prepare.fixed_masks import fixed_masks, mask_name
from lstmc.prepare.one_step import OneStep, StatePair, one_step
from lstmc.prepare.phase import LOSS, deploy_graph, has_loss, training_graph
from lstmc.prepare.share import Counted, Share, share_of_loss
from lstmc.prepare.without import without

__all__ = [
    "LOSS",
    "Counted",
    "OneStep",
    "Share",
    "StatePair",
    "deploy_graph",
    "fixed_masks",
    "has_loss",
    "mask_name",
    "one_step",
    "share_of_loss",
    "training_graph",
    "without",
]
