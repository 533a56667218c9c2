"""The page of a net: facts from files beside its model and in a run's folder, and its contents as plain rows."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import isfinite, prod
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lstmc.api.models import ModelSource, model_in
from lstmc.api.net import Net
from lstmc.api.running import Verification
from lstmc.backend import Layer
from lstmc.drawing.drawing import Drawing
from lstmc.drawing.picture import Picture
from lstmc.errors import Argument, DataError, DrawingError
from lstmc.files.json_file import Count, NotExpected, read_json
from lstmc.ir import Graph, Node, Scan, node_count, node_work, print_graph
from lstmc.numerics.ranges import Ranges, ValueRange
from lstmc.numerics.sequences import constants
from lstmc.ops import Param
from lstmc.passes import Pass, numbered
from lstmc.patterns import scan_lines
from lstmc.pipeline import all_passes
from lstmc.plugins import need
from lstmc.runs.events import RECORD
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.source import SrcLoc, resolve
from lstmc.types import shape_text
from lstmc.version import __version__

IMPORTED = "import.json"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Facts of a training run in its record: its command, and the settings of its solver, by name if they have names.
    ``model`` is the trained model, as FILE:MODEL or ``cell NAME``, with its ``options``, ``sizes``, ``target`` and
    ``backend``."""

    command: str
    settings: dict[str, Any] | str
    model: str
    sizes: dict[str, Count]
    target: str
    backend: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunFacts(Recorded):
    """Facts of a training run for the page: its record, and its curve as PNG."""

    settings: dict[str, Any]
    curve: bytes
    folder: Path

    @property
    def weights(self) -> Path | None:
        """The file of the trained weights; None if the run has not written it."""
        path = self.folder / "weights.npz"
        return path if os.path.isfile(path) else None


@dataclass(frozen=True)
class _Recipe:
    """The entry of a parameter in the record of an import."""

    recipe: str


@dataclass(frozen=True)
class _Imported:
    """The part of ``import.json`` that the page uses."""

    parameters: dict[str, _Recipe]


def run_facts(folder: Path) -> RunFacts:
    """Return the facts in a run's folder. Raises :class:`DataError`, and :class:`DrawingError` without matplotlib."""
    path = folder / RECORD
    try:
        recorded = read_json(path, Recorded)
    except OSError:
        raise DataError(f"expected the folder of a run, with {RECORD} in it, found {folder}") from None
    except NotExpected as wrong:
        raise DataError(f"{path} does not say what run it is: {wrong}") from None
    records = read_metrics(folder / METRICS)
    if not records:
        raise DataError(f"the run in {folder} has measured nothing: no line in {METRICS}")
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    settings = recorded.settings if isinstance(recorded.settings, dict) else {"solver": recorded.settings}
    curve = curves.figure_files({folder.resolve().name: records}, ["png"])["png"]
    own = {**vars(recorded), "settings": settings, "backend": recorded.backend.partition(":")[0]}
    return RunFacts(curve=curve, folder=folder, **own)


def trained_model(facts: RunFacts) -> ModelSource:
    """Return the model that a run trained, from its file, which is executed. Raises :class:`DataError` without it."""
    file = Path(facts.model.rpartition(":")[0])
    if not os.path.isfile(file):
        argument = Argument("run", str(facts.folder))
        raise DataError(
            f"the run in {facts.folder} trained {facts.model}, and there is no such file here",
            notes=[f"make the page where that file is, or name the model too, with {argument}"],
        )
    return model_in(facts.model).with_options(facts.options)


def recipes_beside(model: ModelSource) -> dict[str, str]:
    """Return the recipe of each parameter of an imported model, from the record beside its file; {} without one."""
    if model.model.loc is None:
        return {}
    path = Path(resolve(model.model.loc.file)).parent / IMPORTED
    if not os.path.isfile(path):
        return {}
    try:
        return {name: parameter.recipe for name, parameter in read_json(path, _Imported).parameters.items()}
    except (OSError, NotExpected) as wrong:
        raise DataError(f"{path} is no record of an import: {wrong}") from None


MOST_LINES = 400  # of a pass's difference
BYTES = 4  # of a number in a blob


@dataclass(frozen=True)
class PassRow:
    """One pass: the nodes before and after, the rules used, and the change as a unified diff."""

    name: str
    before: int
    after: int
    seconds: float
    rules: tuple[str, ...]
    difference: tuple[str, ...]


@dataclass(frozen=True)
class LayerRow:
    """One layer: its cost, the memory of its blobs, its parameters, and its location in the source. ``parameters``
    counts blobs that no earlier layer has: shared blobs count once."""

    layer: Layer
    step: str
    flops: int
    memory: int
    parameters: int
    loc: SrcLoc | None


def pass_rows(net: Net) -> Iterator[PassRow]:
    """Yield the row of each pass. The change is a diff of the graph's text, at most ``MOST_LINES`` lines of it."""
    history = net.compiled.history
    names = numbered([snapshot.pass_name for snapshot in history[1:]])
    text = print_graph(history[0].graph)
    for before, after, name in zip(history, history[1:], names, strict=False):
        new = text if after.graph is before.graph else print_graph(after.graph)
        lines = (
            [] if new is text else list(difflib.unified_diff(text.splitlines(), new.splitlines(), n=1, lineterm=""))[2:]
        )
        left_out = [f"... {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
        rules = tuple(rule if count == 1 else f"{rule} x {count}" for rule, count in after.counts.items())
        shown = (*lines[:MOST_LINES], *left_out)
        yield PassRow(name, node_count(before.graph), node_count(after.graph), after.seconds, rules, shown)
        text = new


def layer_rows(net: Net) -> list[LayerRow]:
    """Return the layers of the written net, each with the cost, parameters and location of its node in the graph."""
    graph = net.compiled.expanded
    nodes = {name: node for node in graph for name in node.names}
    made_of = _parameters(graph)
    counted: set[str] = set()
    rows = []
    types = {name: type_ for node in graph for name, type_ in zip(node.names, node.types, strict=True)}
    for layer in net.layers:
        node = nodes.get(layer.name) or next((nodes[top] for top in layer.tops if top in nodes), None)
        shapes = tuple(
            types[top].shape if shape is None and top in types else shape
            for top, shape in zip(layer.tops, layer.shapes, strict=True)
        )
        layer = replace(layer, shapes=shapes)
        memory = BYTES * sum(prod(shape) for shape in shapes if shape is not None)
        if node is None:
            rows.append(LayerRow(layer, "", 0, memory, 0, None))
            continue
        own = {name for ref in graph.args(node.name) for name in made_of[ref.node]} - counted
        counted |= own
        parameters = sum(graph.node(name).types[0].size for name in own)
        step = f"{node.step.scan} {node.step.t}" if node.step else ""
        rows.append(LayerRow(layer, step, node_work(graph, node).flops, memory, parameters, _location(node)))
    return rows


def _parameters(graph: Graph) -> dict[str, frozenset[str]]:
    """Return the trained parameters of each node that depends on parameters alone, and no name for any other node."""
    parameters: dict[str, frozenset[str]] = {}
    fixed = constants(graph)
    for node in graph:
        own = {node.name} if isinstance(node.op, Param) and not node.op.fixed else set()
        read = own.union(*(parameters[ref.node] for ref in graph.args(node.name)))
        parameters[node.name] = frozenset(read if node.name in fixed else ())
    return parameters


def _location(node: Node) -> SrcLoc | None:
    """Return the location of a node. For a scan without one, return the location of a node of its body."""
    if node.loc is None and isinstance(node.op, Scan):
        return next((each.loc for each in node.op.body if each.loc is not None), None)
    return node.loc


def text_by_layer(prototxt: str) -> Iterator[tuple[str, str]]:
    """Yield the net's text in pieces: each layer's name with its text, and "" with the text between layers."""
    for piece in re.split(r"(?m)^(?=layer \{)|(?<=^}\n)", prototxt):
        name = re.search(r'^\s*name: "((?:[^"\\]|\\.)*)"', piece, re.MULTILINE) if piece.startswith("layer {") else None
        yield (name[1] if name else ""), piece


def source_lines(places: Iterable[SrcLoc | None]) -> dict[str, list[str]]:
    """Return the lines of the source files that the locations name, except of those that cannot be read."""
    files = dict.fromkeys(loc.file for loc in places if loc is not None)
    lines_by_file = {}
    for file in files:
        try:
            with open(resolve(file), encoding="utf-8") as stream:
                lines_by_file[file] = stream.read().splitlines()
        except OSError:
            continue
    return lines_by_file


TEMPLATE = "page.html.j2"
NO_TEXT = {"what": "", "reasons": ""}  # of a pass that was put in by whoever compiled the net


PARTS = {
    "run": "Run",
    "pictures": "Pictures",
    "source": "Source",
    "states": "States",
    "passes": "Passes",
    "layers": "Layers",
    "prototxt": "Net",
    "ranges": "Ranges",
    "verified": "Verified",
    "recipes": "Imported parameters",
}


def net_page(
    net: Net,
    verified: Verification | None = None,
    run: RunFacts | None = None,
    recipes: Mapping[str, str] | None = None,
    ranges: Ranges | None = None,
) -> str:
    """Return the page of a net as HTML: pictures, source, passes, layers and text, with links from each to the others.
    ``verified`` is the result of :meth:`lstmc.Net.verify`, ``recipes`` the computation of an imported model's
    parameters, ``ranges`` the result of :meth:`lstmc.Net.ranges`. Raises :class:`~lstmc.errors.DrawingError` without
    Graphviz."""
    rows = layer_rows(net)
    keys = {row.layer.name: f"layer-{i}" for i, row in enumerate(rows)}  # the HTML id of each layer
    drawings = {"rolled": net.draw(rolled=True), "unrolled": net.draw()}
    boxes = {box.key: f"unrolled-n{i}" for i, box in enumerate(drawings["unrolled"].picture.boxes)}  # of each box
    pieces = text_by_layer(net.prototxt) if f"{net.name}.prototxt" in net.files else ()
    drawn = {name: drawing.picture for name, drawing in drawings.items()}
    places = [*(row.loc for row in rows), *(box.loc for picture in drawn.values() for box in picture.boxes)]
    sources = source_lines(places)
    files = _short_names(places)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    jinja = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    across = ", time going across" if any(node.step for node in net.compiled.expanded) else ""
    absent = {name for name, part in {"run": run, "ranges": ranges, "recipes": recipes}.items() if not part}
    by_name = {row.layer.name: row for row in rows}
    return jinja.get_template(TEMPLATE).render(
        title=f"{net.name} for {net.target}",
        summary=str(net),
        version=__version__,
        made_from=net.compiled.source,
        parts=[(name, title) for name, title in PARTS.items() if name not in absent],
        pictures=[
            {"key": key, "title": title, "svg": _svg(drawings[key], key)}
            for key, title in (("rolled", "The model, each scan's body once"), ("unrolled", f"The net{across}"))
        ],
        files=_files(rows, keys, sources),
        passes=_passes(net),
        states=scan_lines(net.compiled.model),
        steps=_steps(rows),
        layers=[_layer(row, keys, files, boxes) for row in rows],
        pieces=[{"text": text, **_links(by_name.get(name), keys, files, boxes)} for name, text in pieces],
        net_file=net.artifact.net,
        leads=_leads(rows, keys, drawn, boxes, sources),
        verified=str(verified).splitlines() if verified is not None else ["It was not verified for this page."],
        recipes=list((recipes or {}).items()),
        ranges=[{**vars(each), "strip": range_strip(each)} for each in ranges] if ranges else [],
        measured=f"{ranges.sequences} sequences of {ranges.steps} steps" if ranges else "",
        **_run_values(run),
    )


def _run_values(run: RunFacts | None) -> dict[str, Any]:
    if run is None:
        return {"command": "", "settings": [], "curve": ""}
    settings = [(name, value) for name, value in run.settings.items() if value is not None]
    return {"command": run.command, "settings": settings, "curve": b64encode(run.curve).decode()}


STRIP = (180, 36)  # the width and the height of a value over time


def range_strip(value: ValueRange) -> dict[str, str]:
    """Return a value's range over time as SVG paths: ``outline``, ``mean``, ``zero``; {} without finite numbers."""
    span = max(value.greatest, 0) - min(value.least, 0)
    points = [row for row in value.over_time if all(map(isfinite, row))]
    if not points or not isfinite(span):
        return {}

    def point(i: int, number: float) -> str:
        across = STRIP[0] * i / max(len(points) - 1, 1)
        return f"{across:.1f} {STRIP[1] * (max(value.greatest, 0) - number) / (span or 1):.1f}"

    least, mean, greatest = ([point(i, row[k]) for i, row in enumerate(points)] for k in range(3))
    zero = [point(0, 0), point(len(points) - 1, 0)]
    outline = f"M{' L'.join([*greatest, *reversed(least)])}Z"
    return {"outline": outline, "zero": f"M{' L'.join(zero)}", "mean": f"M{' L'.join(mean)}"}


def _passes(net: Net) -> list[dict[str, Any]]:
    known = [*all_passes(net.backend, net.target), *chain(*net.backend.forms(net.target).values())]
    texts = {each.name: _pass_text(each) for each in known}
    return [{**vars(row), **texts.get(row.name.partition(":")[0], NO_TEXT)} for row in pass_rows(net)]


def _pass_text(each: Pass) -> dict[str, str]:
    """Return the description of a pass in a sentence, and its rules, each as before and after, with its purpose."""
    summary, _, rules = (inspect.getdoc(each) or "").partition("\n")
    return {"what": summary, "reasons": rules.strip().replace("``", "")}


def _svg(drawing: Drawing, prefix: str) -> Markup:
    """Return the SVG of a picture for use inside a page: without an XML declaration, its ids with a prefix."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    return Markup(re.sub(r'\bid="', f'id="{prefix}-', svg))


def _files(
    rows: Sequence[LayerRow], keys: Mapping[str, str], sources: Mapping[str, Sequence[str]]
) -> Iterable[dict[str, Any]]:
    """Yield the source files for the page: each line with the keys of the layers that it made."""
    layers_by_line: dict[str, list[str]] = {}
    for row in rows:
        if row.loc is not None:
            layers_by_line.setdefault(_line_key(row.loc.file, row.loc.line), []).append(keys[row.layer.name])
    for file, lines in sources.items():
        keyed = [(number, _line_key(file, number), text) for number, text in enumerate(lines, 1)]
        listed = [{"number": n, "key": key, "text": t, "layers": layers_by_line.get(key, [])} for n, key, t in keyed]
        yield {"name": file, "lines": listed}


def _line_key(file: str, line: int) -> str:
    return f"line-{re.sub(r'[^A-Za-z0-9]', '-', file)}-{line}"


def _short_names(places: Iterable[SrcLoc | None]) -> dict[str, str]:
    """Return the name to show for each file: its last part, or the whole path if another file has the same."""
    files = list(dict.fromkeys(loc.file for loc in places if loc is not None))
    ends = Counter(Path(file).name for file in files)
    return {file: Path(file).name if ends[Path(file).name] == 1 else file for file in files}


def _box(row: LayerRow, boxes: Mapping[str, str]) -> str:
    """Return the box of a layer in the picture: its own, or that of a node that writes a top; "" if none."""
    return next((boxes[name] for name in (row.layer.name, *row.layer.tops) if name in boxes), "")


def _links(
    row: LayerRow | None, keys: Mapping[str, str], files: Mapping[str, str], boxes: Mapping[str, str]
) -> dict[str, str]:
    """Return a layer's key, and its links to its line in the source and to its box in the picture; "" if missing."""
    if row is None:
        return {"key": "", "line": "", "place": "", "box": ""}
    links = {"key": keys[row.layer.name], "line": "", "place": "", "box": _box(row, boxes)}
    if row.loc is not None:
        links |= {"line": _line_key(row.loc.file, row.loc.line), "place": f"{files[row.loc.file]}:{row.loc.line}"}
    return links


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
    """Return, for each box by its id, its name and its links: to its layers or, without layers, to its source line."""
    layers: dict[str, list[str]] = {}
    for row in rows:
        layers.setdefault(_box(row, boxes), []).append(keys[row.layer.name])
    leads = {}
    for name, picture in drawn.items():
        for i, box in enumerate(picture.boxes):
            line = [_line_key(box.loc.file, box.loc.line)] if box.loc is not None and box.loc.file in sources else []
            leads[f"{name}-n{i}"] = {"name": box.key, "to": layers.get(f"{name}-n{i}", line)}
    return leads


def _steps(rows: Sequence[LayerRow]) -> list[dict[str, Any]]:
    """Return the summed costs of the layers of each step, of those outside of steps, and of all."""
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(row.step or "outside of steps", []).append(row)
    groups["in all"] = list(rows)
    costs = ("parameters", "flops", "memory")
    return [
        {"name": name, "layers": len(group), **{cost: sum(getattr(row, cost) for row in group) for cost in costs}}
        for name, group in groups.items()
    ]
