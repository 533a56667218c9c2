"""Transformations of a model before it is compiled, for deployment, training, one step, or without stopped gradients;
and of a compiled one, to be evaluated in training mode.
"""

from lstmc.prepare.one_step import OneStep, StatePair, one_step
from lstmc.prepare.phase import (
    LOSS,
    Counted,
    Share,
    deploy_graph,
    fixed_masks,
    has_loss,
    mask_name,
    needed_by_training,
    share_of_loss,
    trained_loss,
    training_graph,
    training_inputs,
    without,
    without_losses,
)

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
    "needed_by_training",
    "one_step",
    "share_of_loss",
    "trained_loss",
    "training_graph",
    "training_inputs",
    "without",
    "without_losses",
]
