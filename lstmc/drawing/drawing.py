"""The layout of a picture: Graphviz's ``dot`` lays out each frame separately, then the frames and the boxes around
them.

Frames with the same content are laid out once, so all steps of a scan look alike: time runs across, and the layers of a
step run down. In the enclosing layout a frame is one large box. The program is ``graphviz-pure`` (``pip install
'lstmc[draw]'``) or the system's ``dot``. Both read the language of https://graphviz.org/doc/info/lang.html.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any
from xml.sax.saxutils import unescape

from lstmc.drawing.picture import STEPS, Arrow, Box, Flow, Group, Kind, Picture, boxes_of, picture_of
from lstmc.errors import DrawingError
from lstmc.files.output import write_files
from lstmc.ir import Graph
from lstmc.plugins import need
from lstmc.process.status import report_activity
from lstmc.text import plain, quoted

FONT = "Helvetica"  # one that every reader of PDF has; other programs take what is as wide
LETTER = 6.0  # the width of one in a title, about
MOST_ROUTED = 150  # boxes that arrows are led around; that takes a second for 100, and grows with their cube
MOST_LETTERS = 40  # of a line in a box; what is longer has its middle left out
LOOKS: Mapping[Kind, str] = {  # dark text on every fill has a contrast of 7 to 1 and more
    Kind.INPUT: 'shape=box, style="filled", fillcolor="#dbeafe", color="#1d4ed8"',
    Kind.STATE: 'shape=box, style="filled", fillcolor="#e0e7ff", color="#4338ca"',
    Kind.PARAMETER: 'shape=cylinder, style="filled", fillcolor="#fef3c7", color="#b45309"',
    Kind.PRODUCT: 'shape=box, style="filled,rounded", fillcolor="#dcfce7", color="#15803d"',
    Kind.ELEMENTWISE: 'shape=box, style="filled,rounded", fillcolor="#ffffff", color="#475569"',
    Kind.SHAPE: 'shape=box, style="filled,rounded", fillcolor="#f1f5f9", color="#94a3b8"',
    Kind.LOSS: 'shape=box, style="filled,rounded", fillcolor="#fee2e2", color="#b91c1c"',
    Kind.OTHER: 'shape=box, style="filled,rounded", fillcolor="#f3e8ff", color="#7e22ce"',
    Kind.OUTPUT: 'shape=box, style="filled", fillcolor="#ccfbf1", color="#0f766e"',
    Kind.OMITTED: 'shape=box, style="dashed", color="#475569"',
}
LINES: Mapping[Flow, str] = {
    Flow.DATA: 'color="#475569"',
    Flow.PARAMETER: 'color="#b45309", style=dashed',
    Flow.STATE: 'color="#4338ca", penwidth=1.6',
}
MEANINGS: Mapping[Flow, str] = {
    Flow.DATA: "grey arrow: a value",
    Flow.PARAMETER: "dashed orange arrow: a parameter, drawn once for all that share it",
    Flow.STATE: "thick blue arrow: a state, to the next step",
}
DEFAULTS = (f'node [fontname="{FONT}", fontsize=11, height=0.4, margin="0.1,0.05"];', "edge [arrowsize=0.6];")


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in points, by its centre and size. ``y`` goes up, as in Graphviz."""

    x: float
    y: float
    width: float
    height: float


def label(box: Box) -> str:
    """Return the text of a box, in Graphviz's own HTML."""
    return f'<<b>{_line(box.title)}</b><br/><font point-size="9">{_line(box.text)}</font>>'


def box_line(name: str, box: Box, *more: str) -> str:
    thick = "penwidth=2.5" if box.result else ""
    attributes = [f"label={label(box)}", LOOKS[box.kind], thick, *more]
    return f"{name} [{', '.join(filter(None, attributes))}];"


def placed_dot(picture: Picture, boxes: Mapping[str, Rectangle], frames: Mapping[int, Rectangle]) -> str:
    """Return the picture in Graphviz's language, with a position for each box, by its key, and each frame, by its
    group's ``id``. ``neato -n2`` keeps these positions and draws the arrows; ``dot`` would choose new positions."""
    names = {box.key: f"n{number}" for number, box in enumerate(picture.boxes)}
    lines = [*_parts(picture.whole.parts, names, boxes, frames)]
    lines += [_arrow(arrow, names) for arrow in picture.arrows]
    led = "true" if len(names) <= MOST_ROUTED else "line"
    head = (*DEFAULTS, f'splines={led}; sep="+4"; esep="+3"; bgcolor="white";', _legend(picture))
    body = "\n".join(f"  {line}" for line in (*head, *lines))
    return f"digraph {quoted(picture.name, 'dot')} {{\n{body}\n}}\n"


def title_width(title: str) -> float:
    """Return the approximate width of a frame's title with its margins, in points; 0 without a title."""
    return LETTER * len(_cut(title)) + 16 if title else 0.0


def _parts(
    parts: Iterable[Box | Group],
    names: Mapping[str, str],
    boxes: Mapping[str, Rectangle],
    frames: Mapping[int, Rectangle],
) -> Iterator[str]:
    """Yield the lines of Graphviz for boxes and frames at their places; the arrows are routed later."""
    for part in parts:
        if isinstance(part, Group):
            inside = _parts(part.parts, names, boxes, frames)
            if not part.title:
                yield from inside
                continue
            place = frames[id(part)]
            left, bottom = place.x - place.width / 2, place.y - place.height / 2
            right, top = place.x + place.width / 2, place.y + place.height / 2
            yield f"subgraph cluster_{len(names)}_{left:.0f}_{top:.0f} {{".replace("-", "m")
            yield f'  label=<<b>{_line(part.title)}</b>>; fontname="{FONT}"; fontsize=11; fontcolor="#334155";'
            yield '  style="rounded,filled"; fillcolor="#f8fafc"; color="#cbd5e1";'
            middle = left + title_width(part.title) / 2
            yield f'  bb="{left:.1f},{bottom:.1f},{right:.1f},{top:.1f}"; lp="{middle:.1f},{top - 11:.1f}";'
            yield from (f"  {line}" for line in inside)
            yield "}"
        else:
            place = boxes[part.key]
            yield box_line(
                names[part.key],
                part,
                f'pos="{place.x:.1f},{place.y:.1f}"',
                f"width={place.width / 72:.3f}, height={place.height / 72:.3f}",
                f"tooltip={quoted(part.tip or part.title, 'dot')}, id={names[part.key]}, class={part.kind.value}",
            )


def _legend(picture: Picture) -> str:
    """Return the legend below the picture: a line for each kind of arrow in the picture, and for frames of results."""
    flows = {arrow.flow for arrow in picture.arrows}
    lines = [MEANINGS[flow] for flow in MEANINGS if flow in flows]
    lines += ["thick frame: a result"] if any(box.result for box in picture.boxes) else []
    label = "".join(f'{escape(line)}<br align="left"/>' for line in lines)
    return f'label=<{label}>; labelloc=b; labeljust=l; fontname="{FONT}"; fontsize=9; fontcolor="#334155";'


def _arrow(arrow: Arrow, names: Mapping[str, str]) -> str:
    tip = f"{arrow.tail} to {arrow.head}"
    ends = f"{names[arrow.tail]} -> {names[arrow.head]}"
    return f"{ends} [{LINES[arrow.flow]}, tooltip={quoted(tip, 'dot')}, class={arrow.flow.value}];"


def _line(text: str) -> str:
    return escape(_cut(text)) or " "


def _cut(text: str) -> str:
    text = plain(text)
    if len(text) > MOST_LETTERS:
        text = f"{text[: MOST_LETTERS // 2 - 2]} ... {text[-(MOST_LETTERS // 2 - 3) :]}"
    return text


PROGRAMS = ("graphviz-pure", "dot")
INSTALL = "pip install 'lstmc[draw]', or the Graphviz of your system"


def graphviz(text: str, layout: str, form: str, *options: str) -> bytes:
    """Run Graphviz on a text, and return its output. ``layout`` is ``dot`` or ``neato``, ``form`` is ``plain``,
    ``svg``, ``png``, ... Raises :class:`DrawingError` if Graphviz is missing or fails."""
    command = [program(), f"-K{layout}", f"-T{form}", *options]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise DrawingError(f"{command[0]} could not draw: {lines[-1]}")
    return done.stdout


def program() -> str:
    """Return the path of Graphviz: the first of :data:`PROGRAMS` that is in this Python's environment or on ``PATH``.
    Raises :class:`DrawingError` if none is installed."""
    for name in PROGRAMS:
        path = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
        if path is not None:
            return path
    raise DrawingError(f"drawing needs Graphviz: expected {' or '.join(PROGRAMS)}, found neither", notes=[INSTALL])


POINTS = 72  # an inch
MARGIN = 10.0  # between a frame and what is in it
TITLE = 16.0  # the height of a frame's title
Places = dict[str, Rectangle]


def layout_text(picture: Picture) -> str:
    """Return the picture in Graphviz's language, with all positions. Raises :class:`DrawingError`."""
    return placed_dot(picture, *places_of(picture))


def places_of(picture: Picture) -> tuple[Places, dict[int, Rectangle]]:
    """Return the places of the boxes, by their keys, and of the frames, by the ``id`` of their groups."""
    boxes, frames, _ = _Layout(picture.arrows).group(picture.whole)
    return boxes, frames


class _Layout:
    """The layout of a picture's groups, from the inside out, by Graphviz."""

    def __init__(self, arrows: Iterable[Arrow]) -> None:
        self.arrows = tuple(arrows)
        self.places_by_text: dict[str, Places] = {}  # text -> dot's positions

    def group(self, group: Group) -> tuple[Places, dict[int, Rectangle], Rectangle]:
        """Return the places of a group's boxes and frames relative to its middle, and the size of its own frame."""
        inner = {i: self.group(part) for i, part in enumerate(group.parts) if isinstance(part, Group)}
        owner = {box.key: i for i, part in enumerate(group.parts) for box in boxes_of(part)}
        places = self.dot("\n".join(self._lines(group, inner, owner)))
        boxes, frames = Places(), dict[int, Rectangle]()
        for i, part in enumerate(group.parts):
            place = places[f"n{i}"]
            if isinstance(part, Box):
                boxes[part.key] = place
            else:
                within, framed, own = inner[i]
                if part.title:  # the frames of a row have their tops in line
                    place = replace(place, y=place.y + (place.height - own.height) / 2)
                frames[id(part)] = replace(own, x=place.x, y=place.y)
                boxes |= {key: _move(each, place) for key, each in within.items()}
                frames |= {key: _move(each, place) for key, each in framed.items()}
        margin, title = (MARGIN, TITLE) if group.title else (0.0, 0.0)
        whole = places[""]
        down = Rectangle(0, -title / 2, 0, 0)
        wide = max(whole.width + 2 * margin, title_width(group.title))
        size = Rectangle(0, 0, wide, whole.height + 2 * margin + title)
        return (
            {key: _move(each, down) for key, each in boxes.items()},
            {key: _move(each, down) for key, each in frames.items()},
            size,
        )

    def _lines(
        self,
        group: Group,
        inner: Mapping[int, tuple[Places, dict[int, Rectangle], Rectangle]],  # of the groups in it, by number
        owner: Mapping[str, int],  # the number of the part that a box is in, by the box's key
    ) -> Iterator[str]:
        """Yield the lines of Graphviz that lay out a group: boxes, frames as large boxes, rows, arrows."""
        yield "digraph {"
        yield from DEFAULTS
        yield "nodesep=0.3; ranksep=0.35;"
        rows: dict[str, list[int]] = {}
        for i, part in enumerate(group.parts):
            if isinstance(part, Group) and part.row:
                rows.setdefault(part.row, []).append(i)
        heights = {i: max(inner[k][2].height for k in row) for row in rows.values() for i in row}
        for i, part in enumerate(group.parts):
            if isinstance(part, Box):
                yield box_line(f"n{i}", part)
                continue
            size = inner[i][2]
            inches = f"width={size.width / POINTS:.3f}, height={heights.get(i, size.height) / POINTS:.3f}"
            yield f'n{i} [shape=box, label="", fixedsize=true, {inches}];'
        for row in rows.values():
            yield f"{{rank=same; {'; '.join(f'n{i}' for i in row)};}}"
            if len(row) > 1:
                yield f"{' -> '.join(f'n{i}' for i in row)} [style=invis, weight=100];"
        beside = {(a, b) for row in rows.values() for a in row for b in row}
        seen: set[tuple[int, int]] = set()
        for arrow in self.arrows:
            ends = owner.get(arrow.tail), owner.get(arrow.head)
            if ends[0] is None or ends[1] is None or ends[0] == ends[1] or ends in seen or ends in beside:
                continue
            seen.add((ends[0], ends[1]))
            turned = ", constraint=false" if arrow.flow is Flow.STATE else ""
            yield f"n{ends[0]} -> n{ends[1]} [weight=1{turned}];"
        yield "}"

    def dot(self, text: str) -> Places:
        """Lay out a text by ``dot``, once, and return its nodes' positions (:func:`_read_plain`)."""
        if text not in self.places_by_text:
            self.places_by_text[text] = _read_plain(graphviz(text, "dot", "plain").decode())
        return self.places_by_text[text]


def _read_plain(text: str) -> Places:
    """Return the positions and sizes of nodes in Graphviz's plain output (https://graphviz.org/docs/outputs/plain/), in
    points from the centre. The key "" has the whole size."""
    places = Places()
    words = [line.split() for line in text.splitlines()]
    _, _, width, height, *_ = words[0]
    across, up = float(width) / 2, float(height) / 2
    places[""] = Rectangle(0, 0, float(width) * POINTS, float(height) * POINTS)
    for word in words:
        if word[0] == "node":
            x, y, wide, high = map(float, word[2:6])
            places[word[1]] = Rectangle((x - across) * POINTS, (y - up) * POINTS, wide * POINTS, high * POINTS)
    return places


def _move(place: Rectangle, by: Rectangle) -> Rectangle:
    return replace(place, x=place.x + by.x, y=place.y + by.y)


FORMATS = ("svg", "png", "pdf", "dot")
DOTS_PER_INCH = 144


_TEXT = re.compile(r'(<text [^>]*font-size="([\d.]+)"[^>]*)>([^<]*)</text>')
ENTITIES = {"&quot;": '"', "&#39;": "'", "&apos;": "'", "&#45;": "-", "&#160;": "\N{NO-BREAK SPACE}"}


def _text_widths(drawn: Any) -> Iterator[tuple[tuple[str, float], float]]:
    """Yield each text with its size, and the width in points that Graphviz reserved, from its picture as JSON."""
    for thing in (drawn, *drawn.get("objects", ()), *drawn.get("edges", ())):
        size = 0.0
        for step in thing.get("_ldraw_", ()):
            size = step.get("size", size)
            if step["op"] == "T":
                yield (step["text"], size), step["width"]


@dataclass(frozen=True)
class Drawing:
    """A picture of a graph with a position for each box and frame. A notebook shows it. Raises
    :class:`~lstmc.errors.DrawingError`, at its creation and in its properties, if Graphviz is missing or fails."""

    picture: Picture
    dot: str

    @classmethod
    def from_graph(cls, graph: Graph, steps: int = STEPS) -> Drawing:
        """Return the drawing of a graph at any stage; at most ``steps + 1`` steps of an unrolled scan are drawn."""
        report_activity(f"drawing {graph.name}")
        picture = picture_of(graph, steps)
        return cls(picture, layout_text(picture))

    def __repr__(self) -> str:
        return f"<lstmc.Drawing: {len(self.picture.boxes)} boxes, {len(self.picture.arrows)} arrows>"

    @cached_property
    def svg(self) -> str:
        """The picture as SVG. Box number i has the id ``n<i>`` and, as a tooltip, its line of the graph's text. Each
        text has the width that Graphviz reserved for it, so that it stays in its box in every font."""
        widths = dict(_text_widths(json.loads(graphviz(self.dot, "neato", "json", "-n2"))))

        def fitted(match: re.Match[str]) -> str:
            width = widths.get((unescape(match[3], ENTITIES), float(match[2])))
            length = "" if width is None else f' textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs"'
            return f"{match[1]}{length}>{match[3]}</text>"

        return _TEXT.sub(fitted, graphviz(self.dot, "neato", "svg", "-n2").decode())

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
        """Write the drawing in the format of the path's suffix. Raises :class:`DrawingError` for other suffixes."""
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
