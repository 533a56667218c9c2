"""The core ops, and the class of all ops. Each module lists its own; ``CORE`` has all of them."""

from lstmc.ops.base import *
from lstmc.ops.base import ops_in
from lstmc.ops.layers import *
from lstmc.ops.leaf import *
from lstmc.ops.loss import *
from lstmc.ops.pointwise import *
from lstmc.ops.shape import *

CORE = ops_in(__name__)
