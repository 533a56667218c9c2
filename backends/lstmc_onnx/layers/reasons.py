"""Which form each scan of a model got, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lstmc.ir import Graph, Scan
from lstmc.passes import Snapshot
from lstmc_onnx.layers.find import FindLayers, layers_in, pairs


def reasons(history: Sequence[Snapshot]) -> Iterator[str]:
    """A line for each layer and for each other scan, where the target chose: of a form there is no choice."""
    names = [snapshot.pass_name for snapshot in history]
    if FindLayers.name not in names:
        return
    place = names.index(FindLayers.name)
    before, after = history[place - 1].graph, history[place].graph
    lanes, differences = layers_in(before)
    for first, both in pairs(before, lanes).items():
        kind, titles = lanes[first].kind.__name__, [_title(before, name) for name in both]
        yield f"{' and '.join(titles)}: {kind}{' of both directions' if len(both) > 1 else ''}"
    loops = {node.op.body.name for node in history[-1].graph if isinstance(node.op, Scan)}
    for node in after:
        if isinstance(node.op, Scan):
            what = "Scan" if node.op.body.name in loops else "unrolled, as it has one step"
            yield f"{node.op.body.name}: {what}; it is no LSTM, GRU or RNN: {differences[node.name]}"


def _title(graph: Graph, name: str) -> str:
    scan = graph.node(name).op
    assert isinstance(scan, Scan)
    return scan.body.name
