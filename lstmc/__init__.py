"""lstmc: a step function in Python becomes a small graph, is optimised, unrolled, and written as a net.

This is all that most people need: the language that cells and models are written in, each module of it listing the
words that it adds, and :func:`compile`, :func:`train` and :func:`load`, which the ``lstmc`` command calls too.
"""

from typing import TYPE_CHECKING

from lstmc.api import Conversion as Conversion
from lstmc.api import Net as Net
from lstmc.api import Run as Run
from lstmc.api import SavedNet as SavedNet
from lstmc.api import Stream as Stream
from lstmc.api import Verification as Verification
from lstmc.api import compile as compile
from lstmc.api import convert as convert
from lstmc.api import export_training as export_training
from lstmc.api import load as load
from lstmc.api import train as train
from lstmc.api import training as training
from lstmc.dsl.activations import *
from lstmc.dsl.arrange import *
from lstmc.dsl.cell import *
from lstmc.dsl.counting import *
from lstmc.dsl.declare import *
from lstmc.dsl.dims import *
from lstmc.dsl.domains import *
from lstmc.dsl.fillers import *
from lstmc.dsl.fixed import *
from lstmc.dsl.functions import *
from lstmc.dsl.layers import *
from lstmc.dsl.losses import *
from lstmc.dsl.model import *
from lstmc.dsl.op import *
from lstmc.dsl.pointwise import *
from lstmc.dsl.product import *
from lstmc.dsl.reduce import *
from lstmc.dsl.scan import *
from lstmc.dsl.selection import *
from lstmc.dsl.valid import *
from lstmc.dsl.value import *
from lstmc.dsl.whole_numbers import *
from lstmc.importers import from_onnx as from_onnx
from lstmc.importers import from_torch as from_torch
from lstmc.importers import import_file as import_file
from lstmc.sweeps import Goal as Goal
from lstmc.sweeps import Range as Range
from lstmc.sweeps import Space as Space
from lstmc.sweeps import Swept as Swept
from lstmc.sweeps import sweep as sweep
from lstmc.version import __version__ as __version__

if not TYPE_CHECKING:  # it reads the imports themselves; `from lstmc import *` must not take the submodules too
    __all__ = sorted(  # noqa: PLE0605
        word for word, thing in globals().items() if getattr(thing, "__module__", "").startswith("lstmc.")
    )
