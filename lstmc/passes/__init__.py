"""The passes of the core: each file holds one, each graph it returns means what its input means."""

from lstmc.passes.base import Pass, PassResult, Refs, in_bodies, rewrite
from lstmc.passes.cse import Cse
from lstmc.passes.dead import Dead
from lstmc.passes.expand import CoreTimeAxis, Expand, TimeAxis, step_prefix
from lstmc.passes.peel import Peel
from lstmc.passes.run import Observer, Snapshot, run_passes
from lstmc.passes.simplify import Simplify

__all__ = [
    "CoreTimeAxis",
    "Cse",
    "Dead",
    "Expand",
    "Observer",
    "Pass",
    "PassResult",
    "Peel",
    "Refs",
    "Simplify",
    "Snapshot",
    "TimeAxis",
    "in_bodies",
    "rewrite",
    "run_passes",
    "step_prefix",
]
