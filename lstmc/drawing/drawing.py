"""A drawn graph: as text for Graphviz, SVG, PNG or PDF."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lstmc.drawing.layout import graphviz, laid_out
from lstmc.drawing.picture import STEPS, Picture, picture_of
from lstmc.errors import DrawingError
from lstmc.files.output import write_files
from lstmc.ir import Graph
from lstmc.plugins import need
from lstmc.process.status import doing

FORMATS = ("svg", "png", "pdf", "dot")
DOTS_PER_INCH = 144


@dataclass(frozen=True)
class Drawing:
    """A picture of a graph with a place for everything. A notebook shows it.

    Raises :class:`~lstmc.errors.DrawingError`, when it is made and when its forms are asked for, where Graphviz is
    missing or fails.
    """

    picture: Picture
    dot: str

    @classmethod
    def of(cls, graph: Graph, steps: int = STEPS) -> Drawing:
        """Of a graph at any stage; of a scan that was unrolled, at most ``steps + 1`` steps are drawn."""
        doing(f"drawing {graph.name}")
        picture = picture_of(graph, steps)
        return cls(picture, laid_out(picture))

    def __repr__(self) -> str:
        return f"<lstmc.Drawing: {len(self.picture.boxes)} boxes, {len(self.picture.arrows)} arrows>"

    @cached_property
    def svg(self) -> str:
        """The picture as SVG; box number i of the picture has the id ``n<i>`` and, as a tip, its line
        of the graph's text."""
        return graphviz(self.dot, "neato", "svg", "-n2").decode()

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG."""
        return graphviz(self.dot, "neato", "png", "-n2", f"-Gdpi={DOTS_PER_INCH}")

    @cached_property
    def pdf(self) -> bytes:
        """The picture as PDF, with text that can be searched."""
        svglib = need("svglib.svglib", "svglib", "draw", DrawingError)
        render = need("reportlab.graphics.renderPDF", "reportlab", "draw", DrawingError)
        drawn: bytes = render.drawToString(svglib.svg2rlg(io.BytesIO(self.svg.encode())))
        return drawn

    def save(self, path: str | Path) -> Path:
        """Write it as the path's suffix says. Raises :class:`DrawingError` for any other than :data:`FORMATS`."""
        path = Path(path)
        form = path.suffix.lower().removeprefix(".")
        if form not in FORMATS:
            expected = ", ".join(f".{each}" for each in FORMATS)
            raise DrawingError(f"{path}: expected a file that ends in one of {expected}, found {path.suffix or 'none'}")
        content: str | bytes = getattr(self, form)
        write_files(path.parent, {path.name: content if isinstance(content, bytes) else content.encode()})
        return path

    def _repr_svg_(self) -> str:
        return self.svg
