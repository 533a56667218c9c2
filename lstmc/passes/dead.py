"""Dead code elimination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from lstmc.ir import Graph, Output, Rebuild, Ref, Scan
from lstmc.ops import Arg, Input
from lstmc.passes.base import Pass, PassResult, result


@dataclass(frozen=True)
class Dead(Pass):
    """Remove nodes that no output depends on, in the model and in every scan.

    1. a node that no output depends on              => nothing (inputs stay: they are the model's signature)
    2. a scan result that nothing reads              => the body no longer returns it
    3. a state that no read result depends on        => no such state
    4. a scan argument that the bodies do not use    => no such operand
    """

    name = "dead"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, without_dead(graph, counts), counts)


def without_dead(graph: Graph, counts: Counter[str]) -> Graph:
    """The live part of a model graph; ``counts`` gains a rule's name each time it is used."""
    while True:
        needed = graph.needed()
        dead = [n for n in graph if n.name not in needed and not isinstance(n.op, Input)]
        shrunk = _shrunk_scans(graph, needed, counts)
        if not dead and not shrunk:
            return graph
        counts["drop_node"] += len(dead)
        graph = _rebuilt(graph, {n.name for n in dead}, shrunk)


@dataclass(frozen=True)
class _Shrunk:
    scan: Scan
    operands: tuple[int, ...]  # those kept
    results: tuple[int, ...]


def _shrunk_scans(graph: Graph, needed: Collection[str], counts: Counter[str]) -> dict[str, _Shrunk]:
    shrunk = {}
    readers: dict[Ref, int] | None = None
    for node in graph:
        if not isinstance(node.op, Scan) or node.name not in needed:
            continue
        readers = graph.readers() if readers is None else readers
        read = {out for out in range(len(node.types)) if Ref(node.name, out) in readers}
        smaller = _shrink(node.op, read, counts)
        if smaller is not None:
            shrunk[node.name] = smaller
    return shrunk


def _shrink(scan: Scan, read: set[int], counts: Counter[str]) -> _Shrunk | None:
    steps = len(scan.step_outputs)
    args = scan.body.body_args()
    state_args = [i for i in range(len(args)) if scan.role(i) == "state"]
    live = {s for s in range(len(state_args)) if steps + s in read}
    while True:
        results = tuple(i for i in range(len(scan.body.outputs)) if (i in read if i < steps else i - steps in live))
        used = {name for body in scan.bodies for name in body.needed([body.outputs[i].ref for i in results])}
        more = {s for s, i in enumerate(state_args) if args[i].name in used} - live
        if not more:
            break
        live |= more
    operands = tuple(i for i, arg in enumerate(args) if arg.name in used or i in {state_args[s] for s in live})
    kept = {args[i].name for i in operands}
    bodies = [pruned(body, [body.outputs[i] for i in results], kept) for body in scan.bodies]
    removed = sum(map(len, scan.bodies)) - sum(map(len, bodies))
    if len(operands) == len(args) and len(results) == len(scan.body.outputs) and not removed:
        return None
    counts["drop_state"] += len(state_args) - len(live)
    counts["drop_argument"] += len(args) - len(operands) - (len(state_args) - len(live))
    counts["drop_result"] += len(scan.body.outputs) - len(results) - (len(state_args) - len(live))
    counts["drop_body_node"] += removed
    first = bodies[1] if scan.first is not None else None
    return _Shrunk(replace(scan, body=bodies[0], first=first), operands, results)


def pruned(body: Graph, outputs: Sequence[Output], keep: Collection[str] = ()) -> Graph:
    """A body with these outputs only, what they depend on, and the arguments in ``keep``."""
    needed = body.needed([output.ref for output in outputs])
    dropped = {n.name for n in body if n.name not in needed and not (isinstance(n.op, Arg) and n.name in keep)}
    return _rebuilt(body, dropped, {}, outputs)


def _rebuilt(
    graph: Graph, dropped: Collection[str], shrunk: dict[str, _Shrunk], outputs: Iterable[Output] | None = None
) -> Graph:
    rebuild = Rebuild(graph)
    for node in graph:
        if node.name in dropped:
            continue
        small = shrunk.get(node.name)
        if small is None:
            rebuild.copy(node)
            continue
        args = rebuild.args(node)
        operands, names = [args[i] for i in small.operands], [node.names[i] for i in small.results]
        results = rebuild.builder.add(small.scan, *operands, names=names, loc=node.loc)
        rebuild.put(node, dict(zip(small.results, results, strict=True)))
    return rebuild.finish(outputs)
