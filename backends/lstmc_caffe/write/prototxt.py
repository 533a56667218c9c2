"""A written net as a prototxt that a person can read."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.activity import counted
from lstmc.backend import Compiled
from lstmc.ir import Graph, Output, Ref
from lstmc.templates import text_templates
from lstmc.types import TensorType
from lstmc.version import __version__
from lstmc.weights import parameters
from lstmc_caffe.targets.load import load_target
from lstmc_caffe.write.feeds import Fed, fed_inputs, read_blobs
from lstmc_caffe.write.net import WrittenNet

NOT_IN_NET = "not in the net, as no output depends on it"
_TEMPLATES = text_templates("lstmc_caffe", "write")


def prototxt(compiled: Compiled, net: WrittenNet, data: Sequence[str] | None = None) -> str:
    """The net as text: a header for people, then its sections under banners. It parses back to ``net.message()``.

    ``data`` are lines that say where its inputs come from, if not from whoever runs it.
    """
    graph = compiled.expanded
    params = parameters(graph)
    return _TEMPLATES.get_template("prototxt.j2").render(
        name=net.name,
        version=__version__,
        source=compiled.source,
        target=load_target(compiled.target).name,
        layers=sum(1 for _ in net.layers()),
        numbers=f"{sum(graph.type(Ref(name)).size for name in params):,}",
        params=len(params),
        feed=[_feed_line(fed) for fed in fed_inputs(graph) if not fed.filled] if data is None else data,
        read=[_read_line(graph, o) for o in graph.outputs],
        sections=[
            {"title": section.title, "text": str(section.net)}
            for section in counted(net.sections, "writing the net as text")
        ],
    )


def _feed_line(fed: Fed) -> str:
    line = _line(fed.node.name, fed.node.types[0], fed.blobs)
    return f"feed {line}" if any(fed.blobs) else f"input {line}: {NOT_IN_NET}"


def _read_line(graph: Graph, output: Output) -> str:
    blobs = tuple((graph.value_name(ref), graph.type(ref)) for ref in read_blobs(graph, output.ref))
    return _line(output.name, graph.type(output.ref), blobs)


def _line(name: str, wanted: TensorType, blobs: tuple[tuple[str, TensorType] | None, ...]) -> str:
    """``y [3, 2, 4]``, and the blob where it is called otherwise, or has another shape, or there is one a step."""
    line = f"{name} {_shape(wanted)}"
    found = [blob for blob in blobs if blob is not None]
    if len(blobs) > 1:
        unread = [str(t) for t, blob in enumerate(blobs) if blob is None]
        but = f" except {', '.join(unread)}" if unread else ""
        return f"{line}: for each step{but} a blob {_shape(found[0][1])}, {found[0][0]} to {found[-1][0]}"
    for blob, type_ in found:
        shape = "" if type_ == wanted else f" {_shape(type_)}"
        line += f", blob {blob}{shape}" if blob != name or shape else ""
    return line


def _shape(type_: TensorType) -> str:
    return f"[{', '.join(map(str, type_.shape))}]"
