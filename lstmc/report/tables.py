"""What the page of a net says, as plain rows: its passes, its layers with what they cost, its text by layers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

from lstmc.api.net import Net
from lstmc.backend import Layer
from lstmc.ir import Graph, Node, Scan, node_count, node_flops, print_graph
from lstmc.ops import Input, Param
from lstmc.passes import numbered
from lstmc.source import SrcLoc, resolve

MOST_LINES = 400  # of a pass's difference
BYTES = 4  # of a number in a blob


@dataclass(frozen=True)
class PassRow:
    """One pass: how many nodes before and after, the rules that it used, and what it changed as a unified diff."""

    name: str
    before: int
    after: int
    seconds: float
    rules: tuple[str, ...]
    difference: tuple[str, ...]


@dataclass(frozen=True)
class LayerRow:
    """One layer: what it costs forward, what its blobs take, which parameters it reads, and where it was written.

    ``parameters`` counts those of its blobs that no layer before it has: shared ones count once.
    """

    layer: Layer
    step: str
    flops: int
    memory: int
    parameters: int
    loc: SrcLoc | None


def pass_rows(net: Net) -> Iterator[PassRow]:
    """What each pass did."""
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
    """The layers of the written net, each with what the graph says of it."""
    graph = net.compiled.expanded
    made = {name: node for node in graph for name in node.names}
    made_of = _parameters(graph)
    counted: set[str] = set()
    rows = []
    types = {name: type_ for node in graph for name, type_ in zip(node.names, node.types, strict=True)}
    for layer in net.layers:
        node = made.get(layer.name) or next((made[top] for top in layer.tops if top in made), None)
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
        rows.append(LayerRow(layer, step, node_flops(graph, node), memory, parameters, _written(node)))
    return rows


def _parameters(graph: Graph) -> dict[str, frozenset[str]]:
    """For each node, the parameters that it is made of, where it is made of nothing else. Fixed arrays are none."""
    found: dict[str, frozenset[str]] = {}
    fixed: dict[str, bool] = {}
    for node in graph:
        read = [ref.node for ref in graph.args(node.name)]
        fixed[node.name] = not isinstance(node.op, Input) and all(fixed[name] for name in read)
        if isinstance(node.op, Param):
            own = set() if node.op.fixed else {node.name}
        else:
            own = {name for each in read for name in found[each]}
        found[node.name] = frozenset(own) if fixed[node.name] else frozenset()
    return found


def _written(node: Node) -> SrcLoc | None:
    """Where a node was written; of a layer for all steps without a line of its own, where its step was."""
    if node.loc is None and isinstance(node.op, Scan):
        return next((each.loc for each in node.op.body if each.loc is not None), None)
    return node.loc


def text_by_layer(prototxt: str) -> Iterator[tuple[str, str]]:
    """The text in pieces, each with the name of the layer that it is, or ""."""
    for piece in re.split(r"(?m)^(?=layer \{)|(?<=^}\n)", prototxt):
        name = re.search(r'^\s*name: "((?:[^"\\]|\\.)*)"', piece, re.MULTILINE) if piece.startswith("layer {") else None
        yield (name[1] if name else ""), piece


def source_lines(places: Iterable[SrcLoc | None]) -> dict[str, list[str]]:
    """The whole source of each file that something was written in."""
    files = dict.fromkeys(loc.file for loc in places if loc is not None)
    found = {}
    for file in files:
        try:
            with open(resolve(file), encoding="utf-8") as stream:
                found[file] = stream.read().splitlines()
        except OSError:
            continue
    return found
