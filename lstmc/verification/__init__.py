"""Comparison of a compiled net with its model."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "native")
