"""The passes of the core, one subject a file: each graph that a pass returns means what its input means."""

from lstmc.passes.base import (
    CheckOps,
    NodePass,
    Pass,
    PassList,
    PassObserver,
    PassResult,
    Refs,
    Snapshot,
    compared,
    in_bodies,
    numbered,
    place_of,
    result,
    rewrite,
    run_passes,
    unrolled_scans,
    with_bodies,
    with_role,
)
from lstmc.passes.expand import CoreTimeAxis, Expand, KeepTimeAxis, TimeAxis, named_results, step_pattern
from lstmc.passes.fusion import BiasApart, FuseHorizontal, FuseLinears
from lstmc.passes.gradients import backward_body, gradient_graph
from lstmc.passes.installed import Insertion, installed_passes, load_insertion, with_installed
from lstmc.passes.loop_motion import Hoist, RollIn, Sink
from lstmc.passes.loop_splitting import Distribute, Peel
from lstmc.passes.low_precision import ConvexUpdates, with_convex_updates
from lstmc.passes.lowering import Decompose, FixedArrays, FixedProducts, SplitProducts
from lstmc.passes.parallel_time import TIMES, ParallelTime, Time, with_time
from lstmc.passes.precompute import ConvProducts, FoldConvs, Precompute, SpreadKernels
from lstmc.passes.roll_up import RollUp
from lstmc.passes.simplify import Cse, Dead, Simplify

__all__ = [
    "TIMES",
    "BiasApart",
    "CheckOps",
    "ConvProducts",
    "ConvexUpdates",
    "CoreTimeAxis",
    "Cse",
    "Dead",
    "Decompose",
    "Distribute",
    "Expand",
    "FixedArrays",
    "FixedProducts",
    "FoldConvs",
    "FuseHorizontal",
    "FuseLinears",
    "Hoist",
    "Insertion",
    "KeepTimeAxis",
    "NodePass",
    "ParallelTime",
    "Pass",
    "PassList",
    "PassObserver",
    "PassResult",
    "Peel",
    "Precompute",
    "Refs",
    "RollIn",
    "RollUp",
    "Simplify",
    "Sink",
    "Snapshot",
    "SplitProducts",
    "SpreadKernels",
    "Time",
    "TimeAxis",
    "backward_body",
    "compared",
    "gradient_graph",
    "in_bodies",
    "installed_passes",
    "load_insertion",
    "named_results",
    "numbered",
    "place_of",
    "result",
    "rewrite",
    "run_passes",
    "step_pattern",
    "unrolled_scans",
    "with_bodies",
    "with_convex_updates",
    "with_installed",
    "with_role",
    "with_time",
]
