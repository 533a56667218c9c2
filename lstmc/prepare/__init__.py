"""What is made of a model before it is compiled: the part that is deployed, the part that is trained, one step."""

from lstmc.prepare.one_step import OneStep, StatePair, one_step
from lstmc.prepare.phase import LOSS, deploy_graph, has_loss, training_graph

__all__ = [
    "LOSS",
    "OneStep",
    "StatePair",
    "deploy_graph",
    "has_loss",
    "one_step",
    "training_graph",
]
