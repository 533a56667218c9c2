"""Where everything stands: Graphviz's ``dot`` for each frame on its own, and for the frames among what is around them.

A frame is laid out once for all that look alike, so the steps of a scan are the same picture, time across and a step's
layers down; then it is one large box to what surrounds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from lstmc.drawing.dot import DEFAULTS, Rectangle, box_line, placed_dot, title_width
from lstmc.drawing.graphviz import graphviz
from lstmc.drawing.picture import Arrow, Box, Flow, Group, Picture

POINTS = 72  # an inch
MARGIN = 10.0  # between a frame and what is in it
TITLE = 16.0  # the height of a frame's title
Places = dict[str, Rectangle]


def laid_out(picture: Picture) -> str:
    """The picture in Graphviz's language, with a place for everything but the arrows. Raises :class:`DrawingError`."""
    return placed_dot(picture, *places_of(picture))


def places_of(picture: Picture) -> tuple[Places, dict[int, Rectangle]]:
    """The places of the boxes, by their keys, and of the frames, by the ``id`` of their groups."""
    boxes, frames, _ = _Layout(picture.arrows).group(picture.whole)
    return boxes, frames


class _Layout:
    def __init__(self, arrows: Iterable[Arrow]) -> None:
        self.arrows = tuple(arrows)
        self.known: dict[str, Places] = {}  # what dot said of a text

    def group(self, group: Group) -> tuple[Places, dict[int, Rectangle], Rectangle]:
        """The places of a group's boxes, of the frames in it, and its own: centres from its own middle."""
        inner = {i: self.group(part) for i, part in enumerate(group.parts) if isinstance(part, Group)}
        owner = {box.key: i for i, part in enumerate(group.parts) for box in _boxes(part)}
        places = self.dot("\n".join(self._lines(group, inner, owner)))
        boxes, frames = Places(), dict[int, Rectangle]()
        for i, part in enumerate(group.parts):
            place = places[f"n{i}"]
            if isinstance(part, Box):
                boxes[part.key] = place
            else:
                within, framed, own = inner[i]
                if part.title:  # its top is the row's
                    place = replace(place, y=place.y + (place.height - own.height) / 2)
                frames[id(part)] = replace(own, x=place.x, y=place.y)
                boxes |= {key: _moved(each, place) for key, each in within.items()}
                frames |= {key: _moved(each, place) for key, each in framed.items()}
        margin, title = (MARGIN, TITLE) if group.title else (0.0, 0.0)
        whole = places[""]
        down = Rectangle(0, -title / 2, 0, 0)
        wide = max(whole.width + 2 * margin, title_width(group.title))
        size = Rectangle(0, 0, wide, whole.height + 2 * margin + title)
        return (
            {key: _moved(each, down) for key, each in boxes.items()},
            {key: _moved(each, down) for key, each in frames.items()},
            size,
        )

    def _lines(
        self,
        group: Group,
        inner: Mapping[int, tuple[Places, dict[int, Rectangle], Rectangle]],
        owner: Mapping[str, int],
    ) -> Iterator[str]:
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
        """What dot says of the nodes of a text, in points from the middle of all; "" is the whole."""
        if text not in self.known:
            self.known[text] = _read_plain(graphviz(text, "dot", "plain").decode())
        return self.known[text]


def _read_plain(text: str) -> Places:
    """https://graphviz.org/docs/outputs/plain/"""
    found = Places()
    words = [line.split() for line in text.splitlines()]
    _, _, width, height, *_ = words[0]
    across, up = float(width) / 2, float(height) / 2
    found[""] = Rectangle(0, 0, float(width) * POINTS, float(height) * POINTS)
    for word in words:
        if word[0] == "node":
            x, y, wide, high = map(float, word[2:6])
            found[word[1]] = Rectangle((x - across) * POINTS, (y - up) * POINTS, wide * POINTS, high * POINTS)
    return found


def _moved(place: Rectangle, by: Rectangle) -> Rectangle:
    return replace(place, x=place.x + by.x, y=place.y + by.y)


def _boxes(part: Box | Group) -> Iterator[Box]:
    if isinstance(part, Box):
        yield part
    else:
        yield from part.boxes()
