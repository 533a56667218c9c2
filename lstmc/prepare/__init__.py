"""Transformations of a model before it is compiled, for deployment, training, one step, or without stopped gradients;
and of a compiled one, to be evaluated in training mode.
"""

from lstmc.prepare.one_step import *
from lstmc.prepare.phase import *
