"""A small picture of a net's step: its inputs, states and recurrent layers, and one box for products in a row."""

from __future__ import annotations

from collections.abc import Iterator

from lstmc.drawing.drawing import Drawing, layout_text
from lstmc.drawing.picture import Arrow, Box, Flow, Group, Kind, Picture, kind_of
from lstmc.ir import Graph, Node, Scan
from lstmc.ops import Conv
from lstmc.types import shape_text

Before = frozenset[str]  # the boxes that a value comes from, without other boxes between


class _Summary:
    """The boxes of a graph, and the arrows between them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.boxes: dict[str, Box] = {}
        self.arrows: dict[tuple[str, str], Arrow] = {}
        self.ancestors: dict[str, Before] = {}
        self.members: dict[str, list[Node]] = {}  # of a box of products
        self.groups: dict[Before, str] = {}  # the boxes of products, by what they come from
        self.before: dict[str, Before] = {}
        self.carried = {each.carried_to.node: each for each in graph.outputs if each.carried_to is not None}
        for node in graph:
            self.before[node.name] = self._node(node)

    def picture(self) -> Picture:
        for key, nodes in self.members.items():
            self.boxes[key] = _of_products(key, nodes)
        for output in self.graph.outputs:
            sources = self._reduced(self.before[output.ref.node])
            if output.carried_to is None:
                key = f"output {output.name}"
                shape = shape_text(self.graph.type(output.ref).shape)
                self.boxes[key] = Box(key, output.name, f"output {shape}", Kind.OUTPUT)
                self._connect(sources, key)
            else:
                for source in sorted(sources):
                    state = output.carried_to.node
                    if source != state:
                        self.arrows[source, state] = Arrow(source, state, Flow.STATE)
        whole = Group(parts=[*self.boxes.values()])
        return Picture(self.graph.name, whole, tuple(self.arrows.values()))

    def _node(self, node: Node) -> Before:
        kind = kind_of(self.graph, node)
        if kind is Kind.PARAMETER:
            return frozenset()
        sources = self._reduced(frozenset().union(*(self.before[ref.node] for ref in self.graph.args(node.name))))
        if kind is Kind.INPUT:
            what, looks = ("state", Kind.STATE) if node.name in self.carried else ("input", Kind.INPUT)
            return self._add(Box(node.name, node.name, f"{what} {shape_text(node.types[0].shape)}", looks), sources)
        if isinstance(node.op, Scan):
            return self._add(_of_scan(node, node.op), sources)
        if kind is Kind.PRODUCT and sources:
            return self._product(node, sources)
        return sources

    def _product(self, node: Node, sources: Before) -> Before:
        """Return the box of a product: that which it follows alone, or one that comes from the same boxes."""
        key = next(iter(sources)) if len(sources) == 1 else ""
        if key not in self.members:
            key = self.groups.setdefault(sources, f"products {len(self.groups)}")
        if key not in self.members:
            self._add(Box(key, key, "", Kind.PRODUCT), sources)
        self.members.setdefault(key, []).append(node)
        return frozenset({key})

    def _add(self, box: Box, sources: Before) -> Before:
        self.boxes[box.key] = box
        self._connect(sources, box.key)
        self.ancestors[box.key] = sources.union(*(self.ancestors[each] for each in sources))
        return frozenset({box.key})

    def _connect(self, sources: Before, key: str) -> None:
        for source in sorted(sources):
            self.arrows[source, key] = Arrow(source, key, Flow.DATA)

    def _reduced(self, sources: Before) -> Before:
        """Return the boxes without those that another one comes from."""
        return sources.difference(*(self.ancestors[each] for each in sources))


def _of_scan(node: Node, scan: Scan) -> Box:
    states = ", ".join(dict.fromkeys(shape_text(each.shape) for each in node.types[1:]))
    steps = f", {scan.length} steps{' back' if scan.reverse else ''}" if scan.length > 1 else ""
    return Box(node.name, node.name.removesuffix("/y"), f"states {states}{steps}", Kind.ELEMENTWISE)


def _of_products(key: str, nodes: list[Node]) -> Box:
    def told(count: int, what: str) -> Iterator[str]:
        if count:
            yield f"{count} {what}{'s' * (count > 1)}"

    convolutions = sum(isinstance(node.op, Conv) for node in nodes)
    title = ", ".join([*told(convolutions, "convolution"), *told(len(nodes) - convolutions, "product")])
    return Box(key, title, f"to {shape_text(nodes[-1].types[0].shape)}", Kind.PRODUCT)


def drawn(graph: Graph) -> Drawing:
    """Return the picture of a net of one step."""
    picture = _Summary(graph).picture()
    return Drawing(picture, layout_text(picture))
