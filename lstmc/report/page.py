"""The page of a net: one file, which loads nothing from anywhere."""

from __future__ import annotations

import inspect
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lstmc.api.net import Net
from lstmc.api.verification import Verification
from lstmc.backend import Tunes
from lstmc.drawing import Drawing, Picture
from lstmc.passes import Pass
from lstmc.pipeline import all_passes
from lstmc.report.facts import RunFacts
from lstmc.report.tables import LayerRow, layer_rows, pass_rows, source_lines, text_by_layer
from lstmc.source import SrcLoc
from lstmc.types import shape_text
from lstmc.version import __version__

TEMPLATE = "page.html.j2"
UNTOLD = {"what": "", "reasons": ""}  # of a pass that was put in by whoever compiled the net


def net_page(
    net: Net,
    verified: Verification | None = None,
    run: RunFacts | None = None,
    recipes: Mapping[str, str] | None = None,
) -> str:
    """The page of a net as HTML: pictures, source, passes, layers and text, with links from each to the others.

    ``verified`` is what :meth:`lstmc.Net.verify` found, ``recipes`` what an imported model's parameters are made of.
    Raises :class:`~lstmc.errors.DrawingError` without Graphviz.
    """
    rows = layer_rows(net)
    keys = {row.layer.name: f"layer-{i}" for i, row in enumerate(rows)}
    drawings = {"rolled": net.draw(rolled=True), "unrolled": net.draw()}
    boxes = {box.key: f"unrolled-n{i}" for i, box in enumerate(drawings["unrolled"].picture.boxes)}
    passes = {each.name: _told(each) for each in _known_passes(net)}
    pieces = text_by_layer(net.prototxt) if f"{net.name}.prototxt" in net.files else ()
    drawn = {name: drawing.picture for name, drawing in drawings.items()}
    places = [*(row.loc for row in rows), *(box.loc for picture in drawn.values() for box in picture.boxes)]
    sources = source_lines(places)
    files = _short_names(places)
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    across = ", time going across" if any(node.step for node in net.compiled.expanded) else ""
    parts = {"run": "Run"} if run else {}
    parts |= {"pictures": "Pictures", "source": "Source", "passes": "Passes", "layers": "Layers", "prototxt": "Net"}
    parts |= {"verified": "Verified"} | ({"recipes": "Imported parameters"} if recipes else {})
    by_name = {row.layer.name: row for row in rows}
    return jinja.get_template(TEMPLATE).render(
        title=f"{net.name} for {net.target}",
        summary=str(net),
        version=__version__,
        made_from=net.compiled.source,
        parts=list(parts.items()),
        pictures=[
            {"key": "rolled", "title": "The model, each scan's body once", "svg": _svg(drawings["rolled"], "rolled")},
            {"key": "unrolled", "title": f"The net{across}", "svg": _svg(drawings["unrolled"], "unrolled")},
        ],
        files=_files(rows, keys, sources),
        passes=[{**vars(row), **passes.get(row.name.partition(":")[0], UNTOLD)} for row in pass_rows(net)],
        steps=_steps(rows),
        layers=[_layer(row, keys, files, boxes) for row in rows],
        pieces=[{"text": text, **_links(by_name.get(name), keys, files, boxes)} for name, text in pieces],
        net_file=net.artifact.net,
        leads=_leads(rows, keys, drawn, boxes, sources),
        verified=str(verified).splitlines() if verified is not None else ["It was not verified for this page."],
        recipes=list((recipes or {}).items()),
        command=run.command if run else "",
        settings=[(name, value) for name, value in run.settings.items() if value is not None] if run else [],
        curve=b64encode(run.curve).decode() if run else "",
    )


def _known_passes(net: Net) -> Iterable[Pass]:
    """The passes of the net's target, in every form that it has, and those of packages."""
    yield from all_passes(net.backend, net.target)
    if isinstance(net.backend, Tunes):
        for passes in net.backend.forms(net.target).values():
            yield from passes


def _told(each: Pass) -> dict[str, str]:
    """What a pass does, in a sentence; and its rules, each as before and after, with what they are for."""
    summary, _, rules = (inspect.getdoc(each) or "").partition("\n")
    return {"what": summary, "reasons": rules.strip().replace("``", "")}


def _svg(drawing: Drawing, prefix: str) -> Markup:
    """The picture to stand in a page: without its XML declaration, its ids its own."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    return Markup(re.sub(r'\bid="', f'id="{prefix}-', svg))


def _files(
    rows: Sequence[LayerRow], keys: Mapping[str, str], sources: Mapping[str, Sequence[str]]
) -> Iterable[dict[str, Any]]:
    made: dict[str, list[str]] = {}
    for row in rows:
        if row.loc is not None:
            made.setdefault(_line_key(row.loc.file, row.loc.line), []).append(keys[row.layer.name])
    for file, lines in sources.items():
        numbered = [(number, _line_key(file, number), text) for number, text in enumerate(lines, 1)]
        yield {
            "name": file,
            "lines": [
                {"number": n, "key": key, "text": text, "layers": made.get(key, [])} for n, key, text in numbered
            ],
        }


def _line_key(file: str, line: int) -> str:
    return f"line-{re.sub(r'[^A-Za-z0-9]', '-', file)}-{line}"


def _short_names(places: Iterable[SrcLoc | None]) -> dict[str, str]:
    """What each file is called beside a layer: its last part, where no other file ends so."""
    files = list(dict.fromkeys(loc.file for loc in places if loc is not None))
    ends = Counter(Path(file).name for file in files)
    return {file: Path(file).name if ends[Path(file).name] == 1 else file for file in files}


def _box(row: LayerRow, boxes: Mapping[str, str]) -> str:
    """The box of a layer in the picture of the net: its own, or that of the node which writes its first top."""
    return next((boxes[name] for name in (row.layer.name, *row.layer.tops) if name in boxes), "")


def _links(
    row: LayerRow | None, keys: Mapping[str, str], files: Mapping[str, str], boxes: Mapping[str, str]
) -> dict[str, str]:
    """The key of a layer, and where its links lead: to the line that made it, and to its box."""
    if row is None:
        return {"key": "", "line": "", "place": "", "box": ""}
    found = {"key": keys[row.layer.name], "line": "", "place": "", "box": _box(row, boxes)}
    if row.loc is not None:
        found |= {"line": _line_key(row.loc.file, row.loc.line), "place": f"{files[row.loc.file]}:{row.loc.line}"}
    return found


def _layer(
    row: LayerRow, keys: Mapping[str, str], files: Mapping[str, str], boxes: Mapping[str, str]
) -> dict[str, Any]:
    layer = row.layer
    shapes = ", ".join("?" if shape is None else shape_text(shape) for shape in layer.shapes)
    figures = {"parameters": row.parameters, "flops": row.flops, "memory": row.memory}
    names = {"name": layer.name, "type": layer.type, "reads": ", ".join(layer.bottoms), "writes": ", ".join(layer.tops)}
    return {**names, "shapes": shapes, **figures, **_links(row, keys, files, boxes)}


def _leads(
    rows: Sequence[LayerRow],
    keys: Mapping[str, str],
    drawn: Mapping[str, Picture],
    boxes: Mapping[str, str],
    sources: Container[str],
) -> dict[str, dict[str, Any]]:
    """Of each box, by its id: its name, and where it leads: to its layers, else to its line, if that is in the page."""
    layers: dict[str, list[str]] = {}
    for row in rows:
        layers.setdefault(_box(row, boxes), []).append(keys[row.layer.name])
    found = {}
    for name, picture in drawn.items():
        for i, box in enumerate(picture.boxes):
            line = [_line_key(box.loc.file, box.loc.line)] if box.loc is not None and box.loc.file in sources else []
            found[f"{name}-n{i}"] = {"name": box.key, "to": layers.get(f"{name}-n{i}", line)}
    return found


def _steps(rows: Sequence[LayerRow]) -> list[dict[str, Any]]:
    """What each step costs, what is outside of steps, and all."""
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(row.step or "outside of steps", []).append(row)
    groups["in all"] = list(rows)
    return [
        {
            "name": name,
            "layers": len(group),
            "parameters": sum(row.parameters for row in group),
            "flops": sum(row.flops for row in group),
            "memory": sum(row.memory for row in group),
        }
        for name, group in groups.items()
    ]
