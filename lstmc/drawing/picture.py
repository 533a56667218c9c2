"""The picture of a graph before layout: boxes, frames (groups of boxes) and arrows between boxes. A scan is its body in
a frame; an unrolled scan is a row of frames, one for each step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import zip_longest

from lstmc.ir import Graph, Node, Output, Ref, Scan, Step, print_node
from lstmc.ops import Arg, Conv, Embed, Input, Leaf, Linear, Param
from lstmc.source import SrcLoc
from lstmc.types import shape_text


class Kind(Enum):
    """The meaning of a box; it decides the shape and colour."""

    INPUT = "input"
    PARAMETER = "parameter"
    STATE = "state"
    PRODUCT = "product"
    ELEMENTWISE = "elementwise"
    SHAPE = "shape"
    LOSS = "loss"
    OTHER = "other"
    OUTPUT = "output"
    OMITTED = "omitted"


class Flow(Enum):
    """The content of an arrow: a value, a parameter, or a state for the next step."""

    DATA = "data"
    PARAMETER = "parameter"
    STATE = "state"


@dataclass(frozen=True)
class Box:
    """A node. ``key`` is its name in the graph, ``title`` and ``text`` are drawn, ``tip`` is the full description."""

    key: str
    title: str
    text: str
    kind: Kind
    tip: str = ""
    result: bool = False  # one of the graph's outputs
    loc: SrcLoc | None = None  # where it was written


@dataclass(frozen=True)
class Arrow:
    """From one box to another, by their keys."""

    tail: str
    head: str
    flow: Flow = Flow.DATA


@dataclass
class Group:
    """Boxes and groups with a frame around them. Groups with the same ``row`` are in one row, in their order."""

    title: str = ""
    row: str = ""
    parts: list[Box | Group] = field(default_factory=list)


def boxes_of(part: Box | Group) -> Iterator[Box]:
    if isinstance(part, Box):
        yield part
    else:
        for each in part.parts:
            yield from boxes_of(each)


@dataclass(frozen=True)
class Picture:
    """The whole picture: ``whole`` is the group without a frame that contains everything, in topological order."""

    name: str
    whole: Group
    arrows: tuple[Arrow, ...]

    @property
    def boxes(self) -> tuple[Box, ...]:
        return tuple(boxes_of(self.whole))


STEPS = 4  # of a scan that are drawn, if it has more than STEPS + 1
_PRODUCTS = (Linear, Conv, Embed)
Keys = tuple[str, ...]  # of the boxes that a value comes from


def picture_of(graph: Graph, steps: int = STEPS) -> Picture:
    """Return the picture of a graph at any stage. An unrolled scan with more than ``steps + 1`` steps is drawn as
    ``steps`` steps, half of them from each end, and one box for the remaining steps."""
    return _Drawn(steps).picture(graph)


def kind_of(graph: Graph, node: Node) -> Kind:
    """Return the kind of a node, by the meaning of its op."""
    op = node.op
    if isinstance(op, Arg):
        return Kind.STATE if op.role == "state" else Kind.INPUT
    if isinstance(op, Input):
        return Kind.INPUT
    if isinstance(op, Param):
        return Kind.PARAMETER
    if op.for_training:
        return Kind.LOSS
    if isinstance(op, _PRODUCTS):
        return Kind.PRODUCT
    if isinstance(op, Leaf) or op.moves:
        return Kind.SHAPE
    read = [graph.type(ref) for ref in graph.args(node.name)]
    return Kind.ELEMENTWISE if set(read) == set(node.types) else Kind.OTHER


def _short(name: str, step: Step | None) -> str:
    return name if step is None else re.sub(rf"^{re.escape(step.scan)}/t[0-9]+/", "", name)


def _left_out_key(scan: str) -> str:
    return f"{scan} ..."  # no name has a space


def _next_states(body: Graph, scan: Scan) -> tuple[Output, ...]:
    return body.outputs[len(body.outputs) - scan.states :]


class _Drawn:
    """The boxes and arrows that have been drawn so far, with at most ``steps + 1`` steps of a scan. A key is the name
    of a box; ``values`` map each value of a graph to the boxes that it comes from."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.arrows: dict[Arrow, None] = {}  # a set in order
        self.kinds: dict[str, Kind] = {}  # of boxes, by key
        self.step_of: dict[str, Step] = {}  # of boxes of unrolled scans, by key
        self.left_out: dict[str, list[int]] = {}  # of each scan that was unrolled: the steps that are not drawn

    def picture(self, graph: Graph) -> Picture:
        """Return the picture of a graph: decide which steps to draw, then draw each node, and the results."""
        times: dict[str, list[int]] = {}
        for scan, t in sorted({step for node in graph if (step := node.step)}):
            times.setdefault(scan, []).append(t)
        first, last = (self.steps + 1) // 2, self.steps // 2
        self.left_out = {
            scan: all_[first : len(all_) - last] if len(all_) > self.steps + 1 else [] for scan, all_ in times.items()
        }
        whole, values = Group(), dict[Ref, Keys]()
        groups: dict[Step, Group] = {}
        for scan, hidden in self.left_out.items():
            if hidden:
                groups[Step(scan, hidden[0])] = self._left_out_group(scan, hidden)
        for node in graph:
            key = self._left_out_by(graph, node, values)
            if key is not None:
                self._connect(graph, node, values, key)
                values |= dict.fromkeys(node.refs, (key,))
            else:
                group = whole if node.step is None else self._step_group(groups, node.step)
                self._node(graph, node, group, values, "")
        whole.parts += [groups[place] for place in sorted(groups)]
        self._results(graph, whole, values)
        return Picture(graph.name, whole, tuple(self.arrows))

    def _left_out_by(self, graph: Graph, node: Node, values: Mapping[Ref, Keys]) -> str | None:
        """Return the key of the box for hidden steps if a node belongs to them, or only joins their values; or None."""
        steps = [step for step in node.steps if step is not None]
        if steps:
            scans = {step.scan for step in steps}
            hidden = len(scans) == 1 and all(step.t in self.left_out[step.scan] for step in steps)
            return _left_out_key(steps[0].scan) if hidden else None
        read = {key for ref in graph.args(node.name) for key in values[ref]}
        joined = len(read) == 1 and self.kinds.get(next(iter(read))) is Kind.OMITTED
        result = any(output.ref.node == node.name for output in graph.outputs)
        return read.pop() if joined and node.op.moves and not result else None

    def _step_group(self, groups: dict[Step, Group], step: Step) -> Group:
        if step not in groups:
            title = f"t = {step.t}" if len(self.left_out) == 1 else f"{step.scan}, t = {step.t}"
            groups[step] = Group(title, row=step.scan)
        return groups[step]

    def _left_out_group(self, scan: str, times: list[int]) -> Group:
        """Return the group with the box for the steps that are not drawn, at the place of the first of these."""
        group = Group(row=scan)
        span = f"t = {times[0]} to {times[-1]}"
        tip = f"{span} of {scan} are like those beside them"
        box = Box(_left_out_key(scan), f"{len(times)} more steps", f"{span}, not drawn", Kind.OMITTED, tip)
        self._add(group, box, Step(scan, times[0]))
        return group

    def _add(self, group: Group, box: Box, step: Step | None = None) -> None:
        group.parts.append(box)
        self.kinds[box.key] = box.kind
        if step is not None:
            self.step_of[box.key] = step

    def _node(self, graph: Graph, node: Node, group: Group, values: dict[Ref, Keys], prefix: str) -> None:
        """Draw a node in ``group``, a scan as frames, with an arrow from each operand, and enter its ``values``."""
        if isinstance(node.op, Scan):
            self._scan(graph, node, node.op, group, values)
            return
        key = prefix + node.name
        self._add(group, self._box(graph, node, key, prefix), node.step)
        self._connect(graph, node, values, key)
        values |= dict.fromkeys(node.refs, (key,))

    def _box(self, graph: Graph, node: Node, key: str, prefix: str) -> Box:
        """Return the box of a node; ``prefix``, with which ``key`` begins, is empty outside of scans' bodies."""
        title = ", ".join(dict.fromkeys(_short(name, step) for name, step in zip_longest(node.names, node.steps)))
        cut = len(set(node.steps))
        title += f" of {cut} steps" if cut > 1 else ""
        op = node.op.name.rpartition(".")[2]
        shapes = dict.fromkeys(shape_text(kind.shape) for kind in node.types)
        result = not prefix and node.step is None and any(output.ref.node == key for output in graph.outputs)
        word = f"{node.op.role} " if isinstance(node.op, Arg) else "" if isinstance(node.op, Param) else f"{op} "
        tip = print_node(graph, node) + (f"\n{node.loc}" if node.loc else "")
        return Box(key, title, word + ", ".join(shapes), kind_of(graph, node), tip, result, node.loc)

    def _connect(self, graph: Graph, node: Node, values: Mapping[Ref, Keys], head: str) -> None:
        for ref in graph.args(node.name):
            for tail in values[ref]:
                self._arrow(tail, head)

    def _arrow(self, tail: str, head: str, flow: Flow | None = None) -> None:
        """Draw an arrow between two boxes. By default an arrow from a step to another step is that of a state."""
        if tail == head:
            return
        before, after = self.step_of.get(tail), self.step_of.get(head)
        if flow is None:
            crosses = before is not None and after is not None and before.scan == after.scan and before.t != after.t
            flow = Flow.STATE if crosses else Flow.DATA
        self.arrows[Arrow(tail, head, Flow.PARAMETER if self.kinds[tail] is Kind.PARAMETER else flow)] = None

    def _scan(self, graph: Graph, node: Node, scan: Scan, group: Group, values: dict[Ref, Keys]) -> None:
        """Draw a frame for the body of a scan, and another for a peeled first step. Values that are the same at every
        step enter from outside; each sequence and state has a box inside."""
        operands = [values[ref] for ref in graph.args(node.name)]
        order = "steps, the last first" if scan.reverse else "steps"
        tails: list[Keys] = [() for _ in node.types]
        starts = operands  # of the next body to draw
        for body in reversed(scan.bodies):  # a peeled first step comes first: its states enter the other body
            which = f"{scan.length} {order}" if scan.first is None else f"the other {scan.length - 1} {order}"
            title = f"{scan.body.name}, {'the first step' if body is scan.first else which}"
            prefix = f"{node.name} {'first ' if body is scan.first else ''}"
            frame = Group(title, row=node.name)
            group.parts.append(frame)
            within = self._body(body, scan, frame, starts, prefix)
            states = iter([within[output.ref] for output in _next_states(body, scan)])
            starts = [next(states) if scan.role(i) == "state" else keys for i, keys in enumerate(operands)]
            results = [within[output.ref] for output in body.outputs]
            stacked = len(scan.step_outputs)
            tails = [
                tuple(dict.fromkeys(before + now)) if out < stacked else now
                for out, (before, now) in enumerate(zip(tails, results, strict=True))
            ]
        values |= {Ref(node.name, out): keys for out, keys in enumerate(tails)}

    def _body(self, body: Graph, scan: Scan, group: Group, operands: list[Keys], prefix: str) -> dict[Ref, Keys]:
        """Draw the nodes of a scan's body, with an arrow from each next state to the state. ``operands`` has the boxes
        of each operand; keys of boxes begin with ``prefix``. Return the boxes of each value of the body."""
        values = dict[Ref, Keys]()
        for i, arg in enumerate(body.body_args()):
            if scan.role(i) in ("weight", "static"):
                values[Ref(arg.name)] = operands[i]
                continue
            key = prefix + arg.name
            self._add(group, self._box(body, arg, key, prefix))
            values[Ref(arg.name)] = (key,)
            stepped = scan.first is not None and body is scan.body and scan.role(i) == "state"
            for tail in operands[i]:
                self._arrow(tail, key, Flow.STATE if stepped else Flow.DATA)
        for node in body:
            if not isinstance(node.op, Arg):
                self._node(body, node, group, values, prefix)
        states = [arg for i, arg in enumerate(body.body_args()) if scan.role(i) == "state"]
        if body is not scan.first:
            for arg, output in zip(states, _next_states(body, scan), strict=True):
                for tail in values[output.ref]:
                    self._arrow(tail, prefix + arg.name, Flow.STATE)
        return values

    def _results(self, graph: Graph, whole: Group, values: Mapping[Ref, Keys]) -> None:
        """Add a box for each result, except those already drawn: a box of the same name outside of all frames."""
        outside = {part.key for part in whole.parts if isinstance(part, Box)}
        for output in graph.outputs:
            if output.name in outside and values[output.ref] == (output.name,):
                continue
            key = f"result {output.name}"
            kind = graph.type(output.ref)
            self._add(whole, Box(key, output.name, shape_text(kind.shape), Kind.OUTPUT, f"{output.name}: {kind}", True))
            for tail in values[output.ref]:
                self._arrow(tail, key)
