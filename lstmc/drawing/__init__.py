"""Graphs as pictures, laid out by Graphviz."""

from typing import TYPE_CHECKING

from lstmc.plugins import ByName, words_of

if TYPE_CHECKING:
    from lstmc.drawing import drawing as drawing
    from lstmc.drawing.drawing import FORMATS, Drawing
    from lstmc.drawing.picture import STEPS, Arrow, Box, Flow, Group, Kind, Picture, picture_of
else:
    drawing = ByName("lstmc.drawing.drawing")
    _PICTURE = ("STEPS", "Arrow", "Box", "Flow", "Group", "Kind", "Picture", "picture_of")
    __getattr__, __dir__ = words_of(
        __name__, {"lstmc.drawing.drawing": ("FORMATS", "Drawing"), "lstmc.drawing.picture": _PICTURE}
    )

__all__ = ["FORMATS", "STEPS", "Arrow", "Box", "Drawing", "Flow", "Group", "Kind", "Picture", "picture_of"]
