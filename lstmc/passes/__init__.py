"""The passes of the core: each file holds one, each graph it returns means what its input means."""

from lstmc.passes.base import Pass, PassResult, Refs, in_bodies, rewrite
from lstmc.passes.collector import collector_paused
from lstmc.passes.cse import Cse
from lstmc.passes.dead import Dead
from lstmc.passes.expand import CoreTimeAxis, Expand, TimeAxis, step_prefix
from lstmc.passes.fixed_masks import fixed_masks
from lstmc.passes.fuse_linears import FuseLinears
from lstmc.passes.hoist import Hoist
from lstmc.passes.in_loop import InLoop
from lstmc.passes.keep_axis import KeepTimeAxis
from lstmc.passes.one_step import OneStep, StatePair, one_step
from lstmc.passes.peel import Peel
from lstmc.passes.per_piece import PerPiece
from lstmc.passes.phase import LOSS, deploy_graph, has_loss, training_graph
from lstmc.passes.run import Observer, Snapshot, run_passes
from lstmc.passes.simplify import Simplify
from lstmc.passes.sink import Sink
from lstmc.passes.widen import Widen

__all__ = [
    "LOSS",
    "CoreTimeAxis",
    "Cse",
    "Dead",
    "Expand",
    "FuseLinears",
    "Hoist",
    "InLoop",
    "KeepTimeAxis",
    "Observer",
    "OneStep",
    "Pass",
    "PassResult",
    "Peel",
    "PerPiece",
    "Refs",
    "Simplify",
    "Sink",
    "Snapshot",
    "StatePair",
    "TimeAxis",
    "Widen",
    "collector_paused",
    "deploy_graph",
    "fixed_masks",
    "has_loss",
    "in_bodies",
    "one_step",
    "rewrite",
    "run_passes",
    "step_prefix",
    "training_graph",
]
