"""Constants: blobs of equal numbers for targets without fillers, and for readers that fold them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref
from lstmc.ops import Constant, Input, Op, Param, Values
from lstmc.passes import Pass, PassResult, Refs, result, rewrite
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.unroll import concat_tree
from lstmc_caffe.rows.functions import NO_SHIFT
from lstmc_caffe.rows.layout import LOST, Shape, last_axis, matrix_at, replaced_later
from lstmc_caffe.targets.lint import lint_op
from lstmc_caffe.targets.target import Target

EPSILON = 1e-10  # smaller terms are lost beside constants


@dataclass(frozen=True)
class Constants(Pass):
    """Make constant blobs without DummyData, where the target has none.

    1. DummyData of c => Power with scale 0 and shift c of another blob of that shape
    2. without a blob of that shape, from a piece of a larger one => Slice first
    3. without a larger blob, from a smaller one => Concat of the constant with itself, and with a Slice of itself; if
       there are only images, from their elements => Reshape first
    4. if the target lacks these layers, from a blob of as many rows => InnerProduct with zeros, and c as its bias

    The other blob comes before the constant's first reader; if none is suitable, a fed blob moves before the constant.
    A fed blob that nothing else reads is the last choice: RKNN folds the constant, removes that input, and ends with an
    error. A constant without a suitable blob is refused. (A blob that is not finite makes the constant NaN, and all
    that is computed from it.)

    c is the float32 number that DummyData fills its blob with (``filler.hpp``); rule 4 stores c in a blob.
    """

    name = "constants"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        if self.target.allows("DummyData"):
            return PassResult(graph, False)
        maker = _ConstantMaker(graph, self.target)
        return result(graph, maker.run(), maker.counts)


@dataclass
class _ConstantMaker:
    """Copies the graph, and replaces each constant by a layer on an anchor: an earlier blob of a suitable shape."""

    graph: Graph
    target: Target
    counts: Counter[str] = field(default_factory=Counter)
    anchors: dict[Shape, Ref] = field(default_factory=dict)  # a blob of each shape, the first one
    constants: dict[tuple[Shape, float], Ref] = field(default_factory=dict)

    def run(self) -> Graph:
        """Return the graph without DummyData: each constant is made when its first reader is copied."""
        self.rebuild = Rebuild(self.graph)
        self.b, self.new = self.rebuild.builder, self.rebuild.new
        self.read = {ref.node for node in self.graph for ref in self.graph.args(node.name)}  # old nodes that are read
        self.large = set() if self.target.allows("Power") else _of_large_numbers(self.graph)  # no anchors
        constants: dict[Ref, Node] = {}

        def value(ref: Ref) -> Ref:
            return self._constant(constants[ref]) if ref in constants else self.new[ref]

        for node in self.graph:
            if isinstance(node.op, caffe.DummyData):
                constants[Ref(node.name)] = node
            elif Ref(node.name) not in self.new:
                self._copy(node, [value(ref) for ref in self.graph.args(node.name)])
        self.new.update({output.ref: value(output.ref) for output in self.graph.outputs})
        return self.rebuild.finish()

    def _copy(self, node: Node, args: list[Ref]) -> None:
        """Copy a node. Its blobs become anchors, unless they have large numbers or are fed and never read."""
        refs = self.rebuild.copy(node, args)
        is_used = node.name in self.read or not self._is_fed(node)
        if isinstance(node.op, caffe.CaffeOp) and is_used and node.name not in self.large:
            for ref in refs:
                self.anchors.setdefault(self.b.type(ref).shape, ref)

    def _constant(self, node: Node) -> Ref:
        """Return the blob of a constant; constants of one shape and number share a blob."""
        assert isinstance(node.op, caffe.DummyData)
        key = (node.op.shape, float(np.float32(node.op.value)))
        if key not in self.constants:
            self.counts["constant_to_power"] += 1
            self.constants[key] = self._make(node, *key)
        return self.constants[key]

    def _make(self, node: Node, shape: Shape, number: float) -> Ref:
        """Return a new blob of equal numbers: a Power with scale 0 of an anchor. A longer anchor is cut first; the
        result from a shorter one is joined with itself."""
        power = caffe.PowerLayer(1.0, 0.0, number)
        like = self._like(shape) if self._allows(power) else None
        if like is None:
            return self._product(node, shape, number)
        anchor, anchor_shape = self.anchors[like], like
        if all(have >= want for have, want in zip(like, shape, strict=True)):
            for axis, size in enumerate(shape):
                anchor = self._cut(node, anchor, axis, size, "like")
            anchor_shape = shape
        names = node.names if anchor_shape == shape else (f"{node.name}/part",)
        (blob,) = self.b.add(power, anchor, names=names, loc=node.loc, steps=(node.step,))
        for axis in reversed(range(len(shape))):
            blob = self._of_size(node, blob, axis, shape[axis])
        return blob

    def _product(self, node: Node, target: Shape, number: float) -> Ref:
        """Return a constant as the bias of a product with zeros of a blob that has the constant's rows."""
        rows, columns = last_axis(target)
        op, fed = caffe.InnerProduct(1, columns, True), self._fed()
        shapes = [shape for shape in (*self.anchors, *fed) if shape[:1] == (rows,) and len(shape) == 2]
        if not shapes or not self._allows(op):
            raise self._refused(node)
        anchor_shape = shapes[0]
        if anchor_shape not in self.anchors:
            self._move_up(fed[anchor_shape])
        arrays = {"zeros": np.zeros((columns, anchor_shape[1])), "number": np.full(columns, number)}
        blobs = [
            self.b.add(Param(array.shape, Values.of(array), 0.0, 0.0), names=(f"{node.name}/{name}",))[0]
            for name, array in arrays.items()
        ]
        return self.b.add(op, self.anchors[anchor_shape], *blobs, names=node.names, loc=node.loc, steps=(node.step,))[0]

    def _like(self, shape: Shape) -> Shape | None:
        """Return the shape of an anchor for a constant: an earlier blob, a fed blob or elements of images; or None."""
        nearest = self._best(shape, list(self.anchors))
        if nearest is not None and all(have >= want for have, want in zip(nearest, shape, strict=True)):
            return nearest
        fed = self._fed()
        for shapes in ([each for each, node in fed.items() if node.name in self.read], fed):
            best = self._best(shape, [*self.anchors, *shapes])
            if best is not None:
                if best not in self.anchors:
                    self._move_up(fed[best])
                return best
        return self._of_images(shape)

    def _of_images(self, shape: Shape) -> Shape | None:
        """Reshape images to a matrix, and return the matrix's shape; None if no constant can be made from it."""
        images = next((ref for other, ref in self.anchors.items() if len(other) == 4), None)
        if images is None or len(shape) != 2:
            return None
        elements = matrix_at(self.b.type(images).shape, 1)
        reshape = caffe.ReshapeLayer(elements)
        if not self._allows(reshape) or not self._reaches(elements, shape):
            return None
        name = f"{self.b.node(images.node).names[images.out]}/elements"
        (self.anchors[elements],) = self.b.add(reshape, images, names=(name,))
        return elements

    def _fed(self) -> dict[Shape, Node]:
        """Return the first fed blob of each shape; blobs that layers read are preferred."""
        nodes = [node for node in reversed(list(self.graph)) if self._is_fed(node) and node.name not in self.large]
        return {node.types[0].shape: node for node in sorted(nodes, key=lambda node: node.name in self.read)}

    def _move_up(self, node: Node) -> None:
        """Copy a fed blob and its operands into the new graph before the current node."""
        for leaf in (*(ref.node for ref in self.graph.args(node.name)), node.name):
            if Ref(leaf) not in self.new:
                self._copy(self.graph.node(leaf), [self.new[ref] for ref in self.graph.args(leaf)])
            self.anchors.setdefault(self.b.type(self.new[Ref(leaf)]).shape, self.new[Ref(leaf)])

    def _is_fed(self, node: Node) -> bool:
        return isinstance(node.op, caffe.Feed | caffe.InputLayer | caffe.FilledInput)

    def _best(self, shape: Shape, shapes: list[Shape]) -> Shape | None:
        """Return the one of ``shapes`` that Slice and Concat turn into ``shape`` with least work; None without one."""
        usable = [other for other in shapes if len(other) == len(shape) and self._reaches(other, shape)]
        return min(usable, key=lambda other: _effort(other, shape), default=None)

    def _reaches(self, have: Shape, want: Shape) -> bool:
        """Return whether the target's Slice and Concat can turn a blob of shape ``have`` into one of shape ``want``."""
        return all(
            size == target
            or (size > target and self._allows(caffe.SliceLayer(axis, (target, size - target))))
            or (
                size < target
                and self._allows(caffe.ConcatLayer(axis))
                and (target % size == 0 or self._allows(caffe.SliceLayer(axis, (target % size, size))))
            )
            for axis, (size, target) in enumerate(zip(have, want, strict=True))
        )

    def _allows(self, op: caffe.CaffeOp) -> bool:
        """Return whether the target allows a layer or replaces it later; its restrictions on blobs are not checked."""
        return replaced_later(op, self.target) or not lint_op(op, [], [], self.target)

    def _cut(self, node: Node, blob: Ref, axis: int, size: int, name: str) -> Ref:
        """Return the first ``size`` elements of a blob along an axis, by a Slice if the blob is longer."""
        have = self.b.type(blob).shape[axis]
        if have <= size:
            return blob
        names = (f"{node.name}/{name}", f"{node.name}/rest")
        cut = caffe.SliceLayer(axis, (size, have - size))
        return self.b.add(cut, blob, names=names, loc=node.loc, steps=(node.step,) * 2)[0]

    def _of_size(self, node: Node, blob: Ref, axis: int, size: int) -> Ref:
        """Return ``size`` elements of a constant along an axis: part of a longer blob, or copies of a shorter one."""
        have = self.b.type(blob).shape[axis]
        if have >= size:
            return self._cut(node, blob, axis, size, "part")
        parts = [blob] * (size // have)
        if size % have:
            parts.append(self._cut(node, blob, axis, size % have, "part"))
        return concat_tree(self.b, parts, axis, node.name, node.step, self.target.bottoms_at_most or len(parts))

    def _refused(self, node: Node) -> BackendError:
        shapes, missing = dict.fromkeys((*self.anchors, *self._fed())), "DummyData"
        other = f"blob that it could be made of, found {', '.join(str(list(s)) for s in shapes) or 'none'}"
        if not self.target.allows("Power"):
            missing, other = "Power", "Power of another blob"
        why = f"nothing makes a constant {node.types[0]}: there is no DummyData, and no {other}"
        notes = self.target.reason_against(missing)
        return BackendError(f"target {self.target.name}: {why}", loc=node.loc, notes=notes)


def _of_large_numbers(graph: Graph) -> set[str]:
    """Return the nodes computed from a constant so large that ``LOST`` times it still exceeds ``EPSILON``."""
    large = set[str]()
    for node in graph:
        fill = node.op.fill if isinstance(node.op, Input) else None
        value = node.op.value if isinstance(node.op, caffe.DummyData) else 0.0
        value = fill.value if isinstance(fill, Constant) else value
        if abs(value) * LOST > EPSILON or any(ref.node in large for ref in graph.args(node.name)):
            large.add(node.name)
    return large


def _effort(have: Shape, want: Shape) -> tuple[bool, bool, int]:
    """Return a sort key of blobs for a constant: those large enough first, then of equal rows, then of nearest size."""
    smaller = any(size < target for size, target in zip(have, want, strict=True))
    return smaller, have[:1] != want[:1], -prod(have) if smaller else prod(have)


@dataclass(frozen=True)
class FoldedConstants(Pass):
    """Avoid errors of readers that fold constants while they build a net (``folds_constants``).

    1. an InnerProduct reads a product with a constant factor of several rows (perhaps scaled or reshaped since) => a
       Power that adds nearly nothing between them: the reader would merge the factor into the matrix

    Refused: an output that depends on no input, because the reader removes it; and in float16 rounding such a value,
    because the reader folds it with more digits, so that the sum that rounds keeps its fraction. A constant is a Power
    with scale 0 of another blob, and depends on no input; a product with a constant 0, and layers on zeros alone,
    depend on none either.
    """

    name = "folded_constants"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        varying, early = _varying(graph), "this reader computes constants while it builds the net"
        for output in graph.outputs:
            if output.ref.node not in varying:
                why = f"target {self.target.name}: output {output.name} depends on no input"
                note = f"{early}, and gives no output that is one"
                raise BackendError(why, loc=graph.node(output.ref.node).loc, notes=(note,))
        for node in graph:
            rounds = self.target.float16 and isinstance(node.op, caffe.RoundingPower)
            if rounds and graph.args(node.name)[0].node not in varying:
                why = "cannot round a value that depends on no input, as the number of a step"
                mend = "feed it as an input of the model, or take const(array) of what NumPy has rounded"
                note = f"{early}, not in float16, and then nothing is rounded: {mend}"
                raise BackendError(f"target {self.target.name} {why}", loc=node.loc, notes=(note,))
        copies: dict[Ref, Ref] = {}
        counts = Counter[str]()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            """Return an InnerProduct with a Power before it, if it reads a constant factor; None for other nodes."""
            if not isinstance(node.op, caffe.InnerProduct):
                return None
            old, new = graph.args(node.name)[0], args[0]
            if not _has_constant_factor(graph, old, graph.type(old).shape[0], varying):
                return None
            if new not in copies:
                counts["factor_apart"] += 1
                almost, name, step = caffe.PowerLayer(shift=NO_SHIFT), b.node(new.node).names[new.out], b.of_step(new)
                (copies[new],) = b.add(almost, new, names=(f"{name}/apart",), loc=node.loc, steps=(step,))
            return b.copy(node, (copies[new], *args[1:]))

        return result(graph, rewrite(graph, visit), counts)


def _varying(graph: Graph) -> set[str]:
    """Return the nodes whose values depend on an input: no constants, and no nodes that are zero for all inputs."""
    varying: set[str] = set()
    zeros: set[str] = set()
    for node in graph:
        args = graph.args(node.name)
        read = {ref.node for ref in args}
        fed = isinstance(node.op, Input | caffe.InputLayer | caffe.HostInput | caffe.Feed)
        constant = isinstance(node.op, caffe.PowerLayer) and node.op.scale == 0
        product = isinstance(node.op, caffe.Scale) or node.op == caffe.Eltwise("PROD")
        matrix = {args[1].node} if isinstance(node.op, caffe.InnerProduct) else set()
        of_zeros = bool(read) and _keeps_zero(node.op) and read - matrix <= zeros
        param = isinstance(node.op, Param) and node.op.fixed and node.op.fill == Values.of(np.zeros(node.op.shape))
        if node.op == caffe.PowerLayer(scale=0.0) or (product and read & zeros) or of_zeros or param:
            zeros.add(node.name)
        elif fed or (not constant and read & varying):
            varying.add(node.name)
    return varying


def _has_constant_factor(graph: Graph, ref: Ref, rows: int, varying: set[str]) -> bool:
    """Return whether a matrix of ``rows`` rows is a product by a constant of unequal rows, maybe scaled or reshaped."""
    op, args = graph.node(ref.node).op, graph.args(ref.node)
    if rows == 1:
        return False
    if op == caffe.Eltwise("PROD"):
        return any(arg.node not in varying for arg in args)
    if isinstance(op, caffe.Scale) and graph.type(ref).shape[0] != rows:
        return True
    scaled = isinstance(op, caffe.PowerLayer) and (op.shift, op.power) == (0, 1)
    passes = scaled or isinstance(op, caffe.ReshapeLayer | caffe.Scale)
    return passes and _has_constant_factor(graph, args[0], rows, varying)


def _keeps_zero(op: Op) -> bool:
    """Return whether a layer returns zeros if all its inputs, and its bias, are zeros."""
    if isinstance(op, caffe.PowerLayer):
        return op.shift == 0 and op.power > 0
    moving = caffe.SliceLayer | caffe.ConcatLayer | caffe.ReshapeLayer
    products = caffe.InnerProduct | caffe.Eltwise | caffe.AvePooling
    return isinstance(op, moving | products | caffe.MaxPooling | caffe.TanHLayer | caffe.ReLULayer)
