"""Scans as one layer each, whose C++ and CUDA are generated from the graph of a step."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "code", "plan")
