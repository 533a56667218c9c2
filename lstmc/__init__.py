"""lstmc: a step function in Python becomes a small graph, is optimised, unrolled, and written as a net.

This is the whole public language; ``lstmc.pipeline.compile_graph`` and the ``lstmc`` command compile what is
written in it. Each module lists the words that it adds.
"""

from typing import TYPE_CHECKING

from lstmc.dsl.cell import *
from lstmc.dsl.declare import *
from lstmc.dsl.dims import *
from lstmc.dsl.fillers import *
from lstmc.dsl.functions import *
from lstmc.dsl.layers import *
from lstmc.dsl.losses import *
from lstmc.dsl.model import *
from lstmc.dsl.op import *
from lstmc.dsl.pointwise import *
from lstmc.dsl.scan import *
from lstmc.dsl.valid import *
from lstmc.dsl.value import *
from lstmc.version import __version__ as __version__

if not TYPE_CHECKING:  # it reads the imports themselves; `from lstmc import *` must not take the submodules too
    __all__ = sorted(  # noqa: PLE0605
        word for word, thing in globals().items() if getattr(thing, "__module__", "").startswith("lstmc.")
    )
