"""A picture as text in Graphviz's language, with or without places: https://graphviz.org/doc/info/lang.html."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

from lstmc.drawing.picture import Arrow, Box, Flow, Group, Kind, Picture
from lstmc.plain_text import plain

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
DEFAULTS = (
    f'node [fontname="{FONT}", fontsize=11, height=0.4, margin="0.1,0.05"];',
    "edge [arrowsize=0.6];",
)


@dataclass(frozen=True)
class Rectangle:
    """A place, in points: of its centre, and its size. ``y`` goes up, as Graphviz counts."""

    x: float
    y: float
    width: float
    height: float


def label(box: Box) -> str:
    """What stands in a box, in Graphviz's own HTML."""
    return f'<<b>{_line(box.title)}</b><br/><font point-size="9">{_line(box.text)}</font>>'


def box_line(name: str, box: Box, *more: str) -> str:
    """A box as a node called ``name``."""
    thick = "penwidth=2.5" if box.result else ""
    attributes = [f"label={label(box)}", LOOKS[box.kind], thick, *more]
    return f"{name} [{', '.join(filter(None, attributes))}];"


def placed_dot(picture: Picture, boxes: Mapping[str, Rectangle], frames: Mapping[int, Rectangle]) -> str:
    """The whole picture with a place for every box, by its key, and for every frame, by its group's ``id``.

    ``neato -n2`` keeps them and lays the arrows; ``dot`` finds places of its own.
    """
    names = {box.key: f"n{number}" for number, box in enumerate(picture.boxes)}
    lines = [*_parts(picture.whole.parts, names, boxes, frames)]
    lines += [_arrow(arrow, names) for arrow in picture.arrows]
    led = "true" if len(names) <= MOST_ROUTED else "line"
    head = (*DEFAULTS, f'splines={led}; sep="+4"; esep="+3"; bgcolor="white";', _legend(picture))
    body = "\n".join(f"  {line}" for line in (*head, *lines))
    return f"digraph {quoted(picture.name)} {{\n{body}\n}}\n"


def title_width(title: str) -> float:
    """The width of a frame's title with some room at both sides, in points, about; 0 for none."""
    return LETTER * len(_cut(title)) + 16 if title else 0.0


def quoted(text: str) -> str:
    """A text as Graphviz reads it."""
    return '"' + plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _parts(
    parts: Iterable[Box | Group],
    names: Mapping[str, str],
    boxes: Mapping[str, Rectangle],
    frames: Mapping[int, Rectangle],
) -> Iterator[str]:
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
                f"tooltip={quoted(part.tip or part.title)}, id={names[part.key]}, class={part.kind.value}",
            )


def _legend(picture: Picture) -> str:
    """What the arrows and frames of the picture mean, below it: a line for each."""
    flows = {arrow.flow for arrow in picture.arrows}
    lines = [MEANINGS[flow] for flow in MEANINGS if flow in flows]
    lines += ["thick frame: a result"] if any(box.result for box in picture.boxes) else []
    label = "".join(f'{escape(line)}<br align="left"/>' for line in lines)
    return f'label=<{label}>; labelloc=b; labeljust=l; fontname="{FONT}"; fontsize=9; fontcolor="#334155";'


def _arrow(arrow: Arrow, names: Mapping[str, str]) -> str:
    tip = f"{arrow.tail} to {arrow.head}"
    ends = f"{names[arrow.tail]} -> {names[arrow.head]}"
    return f"{ends} [{LINES[arrow.flow]}, tooltip={quoted(tip)}, class={arrow.flow.value}];"


def _line(text: str) -> str:
    return escape(_cut(text)) or " "


def _cut(text: str) -> str:
    text = plain(text)
    if len(text) > MOST_LETTERS:
        text = f"{text[: MOST_LETTERS // 2 - 2]} ... {text[-(MOST_LETTERS // 2 - 3) :]}"
    return text
