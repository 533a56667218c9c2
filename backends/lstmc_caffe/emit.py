"""An expanded graph of Caffe ops to NetParameter messages, and those to a prototxt that a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lstmc import __version__
from lstmc.backend import Compiled
from lstmc.ir import Graph, Node, Ref
from lstmc.ops import Param
from lstmc.weights import parameters
from lstmc_caffe.ops import CaffeOp, Input, write_filler
from lstmc_caffe.schema import LayerParameter, NetParameter

_STEP = re.compile(r"(.+)/t(\d+)/[^/]+")


@dataclass(frozen=True)
class Section:
    """Neighbouring layers that belong together: one step of a scan, or what stands between scans."""

    title: str
    net: Any = field(default_factory=NetParameter)


@dataclass(frozen=True)
class Owner:
    """The layer that owns a parameter, and which of its blobs it is."""

    layer: str
    blob: int


@dataclass(frozen=True)
class WrittenNet:
    """A written net: its layers in sections, and the owner of each parameter that it has."""

    name: str
    sections: tuple[Section, ...]
    owners: dict[str, Owner]

    def layers(self) -> Iterator[Any]:
        """Every layer, in order."""
        for section in self.sections:
            yield from section.net.layer

    def message(self) -> Any:
        """The whole net as one NetParameter."""
        whole = NetParameter(name=self.name)
        for section in self.sections:
            whole.layer.extend(section.net.layer)
        return whole


def write_net(graph: Graph) -> WrittenNet:
    """A net of an expanded graph: one layer a node, blobs named as values, parameters shared by their names.

    The first layer that uses a parameter owns it: only there the filler is written. Values that nothing reads
    go to one Silence layer at the end, so that the net's outputs are the model's.
    """
    sections: list[Section] = []
    owners: dict[str, Owner] = {}
    for node in graph:
        if isinstance(node.op, Param):
            continue
        title = _section_title(node)
        if not sections or sections[-1].title != title:
            sections.append(Section(title))
        _write_layer(sections[-1].net.layer.add(), graph, node, owners)
    unread = _unread(graph)
    if unread:
        sections.append(Section("values that nothing reads"))
        sections[-1].net.layer.append(LayerParameter(name="silence", type="Silence", bottom=unread))
    return WrittenNet(graph.name, tuple(sections), owners)


def _section_title(node: Node) -> str:
    steps = {match.groups() if (match := _STEP.fullmatch(name)) else None for name in node.names}
    step = steps.pop()
    if step is None or steps:
        return "the model"
    return f"{step[0]}, step {int(step[1])}"


def _write_layer(layer: Any, graph: Graph, node: Node, owners: dict[str, Owner]) -> None:
    op = node.op
    assert isinstance(op, CaffeOp), op
    layer.name = node.name
    layer.type = op.layer_type
    args = graph.args(node.name)
    blobs = op.blobs(len(args))
    layer.bottom.extend(graph.value_name(ref) for slot, ref in enumerate(args) if slot not in blobs)
    layer.top.extend(node.names)
    op.write(layer)
    for index, slot in enumerate(blobs):
        param = graph.node(args[slot].node)
        assert isinstance(param.op, Param), param
        _write_param(layer.param.add(), param.name, param.op)
        if param.name not in owners:
            owners[param.name] = Owner(node.name, index)
            write_filler(op.fillers(layer)[index], param.op.fill)


def _write_param(spec: Any, name: str, param: Param) -> None:
    spec.name = name
    if param.lr_mult != 1:
        spec.lr_mult = param.lr_mult
    if param.decay_mult != 1:
        spec.decay_mult = param.decay_mult


def _unread(graph: Graph) -> list[str]:
    readers = graph.readers()
    return [
        name
        for node in graph
        if not isinstance(node.op, Param)
        for out, name in enumerate(node.names)
        if Ref(node.name, out) not in readers
    ]


_TEMPLATES = Environment(
    loader=PackageLoader("lstmc_caffe", "."),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


def prototxt(compiled: Compiled, net: WrittenNet) -> str:
    """The net as text: a header for people, then its sections under banners. It parses back to ``net.message()``."""
    graph = compiled.expanded
    params = parameters(graph)
    return _TEMPLATES.get_template("prototxt.j2").render(
        name=net.name,
        version=__version__,
        source=compiled.source,
        target=compiled.target,
        layers=sum(1 for _ in net.layers()),
        numbers=f"{sum(graph.type(Ref(name)).size for name in params):,}",
        params=len(params),
        feed=[f"{node.name} {_shape(graph, Ref(node.name))}" for node in graph if isinstance(node.op, Input)],
        read=[f"{o.name} {_shape(graph, o.ref)}{_blob_note(graph, o.name, o.ref)}" for o in graph.outputs],
        sections=[{"title": section.title, "text": str(section.net)} for section in net.sections],
    )


def _shape(graph: Graph, ref: Ref) -> str:
    return f"[{', '.join(map(str, graph.type(ref).shape))}]"


def _blob_note(graph: Graph, name: str, ref: Ref) -> str:
    blob = graph.value_name(ref)
    return "" if blob == name else f", blob {blob}"
