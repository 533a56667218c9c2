"""Graphs as pictures, laid out by Graphviz."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "drawing")
