"""Graphs as pictures, laid out by Graphviz."""

from lstmc.drawing.drawing import FORMATS, Drawing
from lstmc.drawing.picture import STEPS, Arrow, Box, Flow, Group, Kind, Picture, picture_of

__all__ = ["FORMATS", "STEPS", "Arrow", "Box", "Drawing", "Flow", "Group", "Kind", "Picture", "picture_of"]
