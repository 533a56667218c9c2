"""Constant blobs where nothing fills a blob by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Ref
from lstmc.passes import Pass, PassResult
from lstmc_caffe import ops as caffe
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class Constants(Pass):
    """Make constant blobs without DummyData.

    1. DummyData of c => Power with scale 0 and shift c of an earlier blob of that shape
    2. where there is none that large, of a piece of a larger one => Slice first

    Refused: a constant that is larger than every blob before its first reader. (An input that is not finite makes
    the constant NaN, as it makes everything after it.)
    """

    name = "constants"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        maker = _ConstantMaker(graph, self.target)
        made = maker.run()
        return PassResult(made if maker.count else graph, maker.count > 0, {"constant_to_power": maker.count})


@dataclass
class _ConstantMaker:
    graph: Graph
    target: Target
    count: int = 0
    anchors: dict[tuple[int, ...], Ref] = field(default_factory=dict)  # a blob of each shape, the first one
    made: dict[tuple[tuple[int, ...], float], Ref] = field(default_factory=dict)

    def run(self) -> Graph:
        self.b = Builder(self.graph.name, self.graph)
        new: dict[Ref, Ref] = {}
        constants: dict[Ref, Node] = {}

        def value(ref: Ref) -> Ref:
            return self._constant(constants[ref]) if ref in constants else new[ref]

        for node in self.graph:
            if isinstance(node.op, caffe.DummyData):
                constants[Ref(node.name)] = node
                continue
            made = self.b.copy(node, [value(ref) for ref in self.graph.args(node.name)])
            new.update((Ref(node.name, i), ref) for i, ref in enumerate(made))
            if isinstance(node.op, caffe.CaffeOp):
                for ref in made:
                    self.anchors.setdefault(self.b.type(ref).shape, ref)
        return self.b.finish([(o.name, value(o.ref)) for o in self.graph.outputs])

    def _constant(self, node: Node) -> Ref:
        assert isinstance(node.op, caffe.DummyData)
        key = (node.op.shape, node.op.value)
        if key not in self.made:
            self.count += 1
            layer = caffe.PowerLayer(1.0, 0.0, node.op.value)
            self.made[key] = self.b.copy(node, (self._anchor(node),), layer)[0]
        return self.made[key]

    def _anchor(self, node: Node) -> Ref:
        assert isinstance(node.op, caffe.DummyData)
        rows, columns = node.op.shape
        if node.op.shape in self.anchors:
            return self.anchors[node.op.shape]
        larger = [s for s in self.anchors if s[0] >= rows and s[1] >= columns]
        if not larger or not self.target.allows("Slice"):
            raise BackendError(
                f"target {self.target.name}: nothing makes a constant {node.types[0]}: there is no DummyData,"
                f" and no blob before it is as large",
                loc=node.loc,
                notes=(f"found {', '.join(str(list(s)) for s in self.anchors) or 'none'}",),
            )
        shape = min(larger, key=lambda s: (s[0] != rows, s[0] * s[1]))
        piece = self.anchors[shape]
        for axis, size in enumerate((rows, columns)):
            if shape[axis] > size:
                cut = caffe.SliceLayer(axis, (size, shape[axis] - size))
                names = (f"{node.name}/like", f"{node.name}/rest")
                piece = self.b.add(cut, piece, names=names, loc=node.loc, steps=(node.step,) * 2)[0]
        return piece
