"""Graphs as pictures, laid out by Graphviz."""

from lstmc.drawing.drawing import FORMATS, Drawing
from lstmc.drawing.from_graph import STEPS, picture_of
from lstmc.drawing.picture import Arrow, Box, Flow, Group, Kind, Picture

__all__ = ["FORMATS", "STEPS", "Arrow", "Box", "Drawing", "Flow", "Group", "Kind", "Picture", "picture_of"]
