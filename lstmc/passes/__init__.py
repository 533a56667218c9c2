"""The passes of the core, one subject a file: each graph that a pass returns means what its input means."""

from lstmc.passes.base import *
from lstmc.passes.expand import *
from lstmc.passes.fusion import *
from lstmc.passes.loop_motion import *
from lstmc.passes.low_precision import *
from lstmc.passes.lowering import *
from lstmc.passes.parallel_time import *
from lstmc.passes.precompute import *
from lstmc.passes.roll_up import *
from lstmc.passes.simplify import *
