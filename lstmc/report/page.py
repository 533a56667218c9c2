"""The page of a net: one file, which loads nothing from anywhere."""

from __future__ import annotations

import inspect
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lstmc.api.net import Net
from lstmc.api.verification import Verification
from lstmc.drawing import Drawing
from lstmc.passes import Pass
from lstmc.report.facts import RunFacts
from lstmc.report.tables import LayerRow, layer_rows, pass_rows, source_lines, text_by_layer
from lstmc.types import shape_text
from lstmc.version import __version__

TEMPLATE = "page.html.j2"


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
    passes = {each.name: _told(each) for each in net.backend.passes(net.target)}
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    parts = {"pictures": "Pictures", "source": "Source", "passes": "Passes", "layers": "Layers", "prototxt": "Net"}
    parts |= {"verified": "Verified"} | ({"recipes": "Imported parameters"} if recipes else {})
    by_name = {row.layer.name: row for row in rows}
    return jinja.get_template(TEMPLATE).render(
        title=f"{net.name} for {net.target}",
        summary=str(net),
        version=__version__,
        made_from=net.compiled.source,
        parts=[*parts.items(), *([("run", "Run")] if run else [])],
        pictures=[
            {"key": "rolled", "title": "The model, each scan's body once", "svg": _svg(drawings["rolled"], "rolled")},
            {"key": "unrolled", "title": "The net, time going across", "svg": _svg(drawings["unrolled"], "unrolled")},
        ],
        files=_files(rows, keys),
        passes=[{**vars(row), **passes[row.name.partition(":")[0]]} for row in pass_rows(net)],
        steps=_steps(rows),
        layers=[_layer(row, keys) for row in rows],
        pieces=[
            {"key": keys.get(name, ""), "text": text, "box": boxes.get(name, ""), **_place(by_name.get(name))}
            for name, text in text_by_layer(net.prototxt)
        ],
        verified=str(verified).splitlines() if verified is not None else ["It was not verified for this page."],
        recipes=list((recipes or {}).items()),
        command=run.command if run else "",
        settings=list(run.settings.items()) if run else [],
        curve=b64encode(run.curve).decode() if run else "",
    )


def _told(each: Pass) -> dict[str, str]:
    """What a pass does, in a sentence; and its rules, each as before and after, with what they are for."""
    summary, _, rules = (inspect.getdoc(each) or "").partition("\n")
    return {"what": summary, "reasons": rules.strip().replace("``", "")}


def _svg(drawing: Drawing, prefix: str) -> Markup:
    """The picture to stand in a page: without its XML declaration, its ids its own."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    return Markup(re.sub(r'\bid="', f'id="{prefix}-', svg))


def _files(rows: Sequence[LayerRow], keys: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    made: dict[str, list[str]] = {}
    for row in rows:
        if row.loc is not None:
            made.setdefault(_line_key(row.loc.file, row.loc.line), []).append(keys[row.layer.name])
    for file, lines in source_lines(rows).items():
        numbered = [(number, _line_key(file, number), text) for number, text in enumerate(lines, 1)]
        yield {
            "name": file,
            "lines": [
                {"number": n, "key": key, "text": text, "layers": made.get(key, [])} for n, key, text in numbered
            ],
        }


def _line_key(file: str, line: int) -> str:
    return f"line-{re.sub(r'[^A-Za-z0-9]', '-', file)}-{line}"


def _place(row: LayerRow | None) -> dict[str, str]:
    if row is None or row.loc is None:
        return {"line": "", "place": ""}
    return {"line": _line_key(row.loc.file, row.loc.line), "place": f"{row.loc.file}:{row.loc.line}"}


def _layer(row: LayerRow, keys: Mapping[str, str]) -> dict[str, Any]:
    shapes = ", ".join("?" if shape is None else shape_text(shape) for shape in row.layer.shapes)
    figures = {"parameters": row.parameters, "flops": row.flops, "memory": row.memory}
    name = row.layer.name
    return {"key": keys[name], "name": name, "type": row.layer.type, "shapes": shapes, **figures, **_place(row)}


def _steps(rows: Sequence[LayerRow]) -> list[dict[str, Any]]:
    """What each step costs, what is of no step, and all."""
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(row.step or "of no step", []).append(row)
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
