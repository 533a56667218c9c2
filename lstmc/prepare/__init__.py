"""Transformations of a model before it is compiled: for deployment, for training, to one step; and of a compiled model,
to evaluate it in training mode."""

from lstmc.prepare.one_step import *
from lstmc.prepare.phase import *
