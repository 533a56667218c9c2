"""The passes of the core: each file holds one, each graph it returns means what its input means."""

from lstmc.passes.base import Pass, PassResult, Refs, compared, in_bodies, result, rewrite, with_role
from lstmc.passes.convolutions import ConvProducts, FoldConvs
from lstmc.passes.cse import Cse
from lstmc.passes.dead import Dead
from lstmc.passes.decompose import Decompose
from lstmc.passes.distribute import Distribute
from lstmc.passes.expand import CoreTimeAxis, Expand, TimeAxis, named_results, step_pattern
from lstmc.passes.fixed_products import FixedProducts
from lstmc.passes.fusion import FuseHorizontal, FuseLinears
from lstmc.passes.gradients import backward_body, gradient_graph
from lstmc.passes.installed import Insertion, installed_passes, load_insertion, with_installed
from lstmc.passes.keep_axis import KeepTimeAxis
from lstmc.passes.loop_motion import Hoist, RollIn, Sink
from lstmc.passes.low_precision import ConvexUpdates, with_convex_updates
from lstmc.passes.parallel_time import TIMES, ParallelTime, Time, with_time
from lstmc.passes.pass_list import PassList, numbered, place_of
from lstmc.passes.peel import Peel
from lstmc.passes.precompute import Precompute
from lstmc.passes.roll_up import RollUp
from lstmc.passes.run import PassObserver, Snapshot, run_passes, unrolled_scans
from lstmc.passes.simplify import Simplify
from lstmc.passes.split_products import SplitProducts

__all__ = [
    "TIMES",
    "ConvProducts",
    "ConvexUpdates",
    "CoreTimeAxis",
    "Cse",
    "Dead",
    "Decompose",
    "Distribute",
    "Expand",
    "FixedProducts",
    "FoldConvs",
    "FuseHorizontal",
    "FuseLinears",
    "Hoist",
    "Insertion",
    "KeepTimeAxis",
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
    "with_convex_updates",
    "with_installed",
    "with_role",
    "with_time",
]
