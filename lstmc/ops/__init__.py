"""The core ops, and the class of all ops. Each module lists its own; ``CORE`` has all of them."""

from lstmc.ops.base import *
from lstmc.ops.binary import *
from lstmc.ops.dialects import ops_in
from lstmc.ops.domain import *
from lstmc.ops.dropout import *
from lstmc.ops.embed import *
from lstmc.ops.fillers import *
from lstmc.ops.images import *
from lstmc.ops.leaf import *
from lstmc.ops.linear import *
from lstmc.ops.loss import *
from lstmc.ops.pointwise import *
from lstmc.ops.reduce import *
from lstmc.ops.shape import *

CORE = ops_in(__name__)
