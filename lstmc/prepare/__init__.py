"""Transformations of a model: for deployment, for training, to one step; and of an expanded graph: fixed masks."""

from lstmc.prepare.one_step import *
from lstmc.prepare.phase import *
