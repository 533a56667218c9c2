"""The layout in two dimensions: values as matrices, blobs of fixed numbers, and the layers that a target accepts. A
view, ``caffe.View``, is a value in another shape and no layer; the pass ``settle_views`` removes all views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from lstmc.backend import Violation
from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Ref, Steps, reshape_source, reshaped
from lstmc.ops import Array, Op, Reshape
from lstmc.passes import FixedArrays, Pass, PassResult, Refs, result, rewrite
from lstmc.passes.precompute import LARGEST
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.unroll import concat_tree
from lstmc_caffe.targets.lint import lint_op
from lstmc_caffe.targets.target import Target

Shape = tuple[int, ...]
Matrix = tuple[int, int]


def matrix_at(shape: tuple[int, ...], axis: int) -> Matrix:
    """Return the shape of the matrix whose columns are the axes from ``axis`` on."""
    return prod(shape[:axis]), prod(shape[axis:])


def last_axis(shape: tuple[int, ...]) -> Matrix:
    """Return the shape of the matrix whose columns are the last axis: one row of a vector, one element of a number."""
    return matrix_at(shape, max(len(shape) - 1, 0))


def as_matrix(b: Builder, ref: Ref) -> Ref:
    """Return a value as a matrix: the matrix that it is a view of, or else a view whose columns are its last axis."""
    source = unviewed(b, ref)
    return source if b.type(source).rank == 2 else viewed(b, ref, matrix_shape(b, ref))


def matrix_shape(b: Builder, ref: Ref) -> Matrix:
    """Return the shape that a value has :func:`as_matrix`."""
    source = b.type(unviewed(b, ref)).shape
    return (source[0], source[1]) if len(source) == 2 else last_axis(b.type(ref).shape)


def viewed(b: Builder, ref: Ref, shape: tuple[int, ...], names: Sequence[str] = (), steps: Steps = ()) -> Ref:
    """Return a value in another shape, by at most one view; without ``names``, with name and step of the value."""
    if not names:
        names, steps = (f"{b.node(ref.node).names[ref.out]}/rows",), (b.of_step(ref),)
    return reshaped(b, ref, caffe.View(shape), names, steps=steps)


def unviewed(b: Graph | Builder, ref: Ref) -> Ref:
    """Return the value that a chain of views starts from; a value that is no view is returned unchanged."""
    return reshape_source(b, ref, caffe.View)


def replaced_later(op: Op, target: Target, blobs: Sequence[TensorType] = ()) -> bool:
    """Return whether ``fixed_blobs`` will replace a layer on ``blobs``; without them, as far as its op alone shows."""
    match op:
        case caffe.AvePooling() if blobs:
            (x,), (y,) = blobs, op.infer(*blobs)
            channels = x.shape[1] if target.one_row else 1
            refused = lint_op(op, [x], [y], target) and target.allows("Reshape") and target.allows("InnerProduct")
            return bool(refused) and channels**2 * prod(x.shape[2:]) * prod(y.shape[2:]) <= LARGEST
        case caffe.RoundingPower():
            return not target.allows("Power") and target.allows("Scale") and target.allows("ReLU")
        case caffe.PowerLayer():
            roots = target.allows("LRN") and target.allows("Reshape")
            if target.allows("Power"):  # but not every power
                return roots and not _fits(op, target) and _fits(replace(op, power=1.0), target)
            return target.allows("Scale") and (_is_whole(op.power) or roots)
        case caffe.InnerProduct(bias=False):
            return not _fits(op, target) and not lint_op(replace(op, bias=True), blobs, [], target)
        case caffe.Scale(learned=True, axis=1, num_axes=1) if all(type_.rank == 2 for type_ in blobs):
            return not target.allows("Scale") and target.allows("InnerProduct") and target.allows("Eltwise")
        case caffe.Bias(learned=True, axis=1, num_axes=1):
            return not target.allows("Bias") and target.allows("Scale")
    return False


def _fits(op: caffe.CaffeOp, target: Target) -> bool:
    return not lint_op(op, [], [], target)


def _is_whole(power: float) -> bool:
    return power >= 1 and power == int(power)


# The smallest float32, added to a square before its root is taken: 0 gives 0, and other squares do not change.
LEAST = 2.0**-126
LOST = 1e-30  # a factor in place of 0: its products are too small to change a sum


@dataclass(frozen=True)
class FixedBlobs(Pass):
    """Replace layers that a target lacks by layers with blobs of fixed numbers, on matrices.

    1. Power: scale x + shift    => Scale whose blob is filled with scale, and a bias filled with shift, if any
       with a shift that rounds  => the same Scale, and ReLU
       raised to an integer      => Eltwise PROD of it
       raised to another power   => LRN, as x ** p is x / (x * x) ** ((1 - p) / 2), on images of one channel and row;
       if Power is allowed without a power, scale x + shift stays a Power
    2. InnerProduct without bias => InnerProduct with a bias of zeros
    3. Scale by a blob           => Eltwise PROD of x and InnerProduct of zeros whose bias is that blob
    4. Bias on images            => Scale with that bias, whose blob is all ones
    5. Pooling AVE on small images => Reshape, InnerProduct with the matrix of the mean, and Reshape
    6. Concat of a blob with itself => InnerProduct with zeros and ones; along axis 0, of all rows as one, and Reshape
       (for targets whose Concat has ``bottoms_differ``)
    7. another layer that reads a blob twice => a Power between them, which adds nearly nothing (for targets whose rules
       on it have ``bottoms_differ``)
    8. a layer that is not the only reader of a blob => such a Power between them (for targets whose rules on it have
       ``unshared``)

    (In rule 3 a blob that is not finite makes the whole result NaN, and all that is computed from it.)
    """

    name = "fixed_blobs"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        writer = _Writer(graph, self.target, _readers(graph))
        return result(graph, rewrite(graph, writer.visit), writer.counts)


def _is_alone(reader: Op, writer: Op, target: Target) -> bool:
    """Return whether the target requires that ``reader`` is the only reader of a blob that ``writer`` writes."""
    if not (isinstance(reader, caffe.CaffeOp) and isinstance(writer, caffe.CaffeOp)):
        return False
    return any(writer.layer_type in rule.unshared for rule in target.restrictions_on(reader.layer_type))


def _readers(graph: Graph) -> Counter[Ref]:
    """Return how many layers read each value; but constants, Powers with scale 0, will be folded and do not count."""
    constants = [node.name for node in graph if isinstance(node.op, caffe.PowerLayer) and node.op.scale == 0]
    return Counter(graph.readers()) - Counter(ref for name in constants for ref in graph.args(name))


@dataclass
class _Writer:
    """Replaces the layers of a graph that ``FixedBlobs`` must rewrite."""

    graph: Graph
    target: Target
    readers: Mapping[Ref, int]  # of the old graph
    counts: Counter[str] = field(default_factory=Counter)
    fixed: FixedArrays = field(default_factory=FixedArrays)

    def visit(self, b: Builder, node: Node, args: Refs) -> Refs | None:
        self.b = b
        return self._written(node, args) if self._is_written(node) else None

    def _is_written(self, node: Node) -> bool:
        """Return whether a layer needs fixed blobs, or breaks a rule on blobs that are read twice or shared."""
        if not isinstance(node.op, caffe.CaffeOp):
            return False
        args = self.graph.args(node.name)
        learned = node.op.blobs(len(args))
        types = [self.graph.type(ref) for ref in args]
        if replaced_later(node.op, self.target, [type_ for i, type_ in enumerate(types) if i not in learned]):
            return True
        large = [ref for ref, type_ in zip(args, types, strict=True) if type_.size > 1]
        rules = self.target.restrictions_on(node.op.layer_type)
        if len(large) > len(set(large)) and any(rule.bottoms_differ for rule in rules):
            return True
        shared = [ref for ref in args if self.readers[ref] > args.count(ref)]
        return any(_is_alone(node.op, self.graph.node(ref.node).op, self.target) for ref in shared)

    def _written(self, node: Node, args: Refs) -> Refs:
        """Return the values of a node from the layers that replace it by a rule of :class:`FixedBlobs`."""
        op = node.op
        columns = self.b.type(args[0]).shape[1:]
        if isinstance(op, caffe.RoundingPower):
            self.counts["power_to_scale"] += 1
            numbers = (self._numbers(node, "scale", columns, 1.0), self._numbers(node, "shift", columns, op.shift))
            rounded = self._layer(node, f"{node.name}/shifted", caffe.RoundingScale(), args[0], *numbers)
            # ReLU leaves the positive sum; without it readers would merge the shift with its subtraction, and not round
            return self.b.copy(node, (rounded,), caffe.ReLULayer())
        if isinstance(op, caffe.PowerLayer):
            return self._power(node, op, args[0])
        if isinstance(op, caffe.InnerProduct):
            self.counts["bias"] += 1
            return (self._product(node, node.name, *args),)
        if isinstance(op, caffe.AvePooling):
            self.counts["mean_to_product"] += 1
            return self._means(node, op, args[0])
        if isinstance(op, caffe.ConcatLayer) and len(set(args)) == 1:
            self.counts["join_to_product"] += 1
            return self._repeated(node, args[0], op.axis, len(args))
        if isinstance(op, caffe.ConcatLayer | caffe.Eltwise):
            read: list[Ref] = []  # a blob that the layer reads a second time is copied
            for old, ref in zip(self.graph.args(node.name), args, strict=True):
                read.append(self._own(node, read, old, ref))
            return self.b.copy(node, read)
        if isinstance(op, caffe.Bias):
            self.counts["bias_to_scale"] += 1
            ones = self._numbers(node, "ones", columns[:1], 1.0)
            return self.b.copy(node, (args[0], ones, args[1]), caffe.ScaleBias())
        assert isinstance(op, caffe.Scale)
        # a product with zeros whose bias is the factor returns the factor as a value
        self.counts["scale_to_product"] += 1
        x, factor = args
        product, zeros = caffe.InnerProduct(1, columns[0], True), self._numbers(node, "zeros", columns * 2, 0.0)
        value = self._layer(node, f"{node.name}/value", product, x, zeros, factor)
        return self.b.copy(node, (x, value), caffe.Eltwise("PROD"))

    def _own(self, node: Node, before: Sequence[Ref], old: Ref, x: Ref) -> Ref:
        """Return the blob x (``old`` in the old graph), or a copy if the layer already reads x (``before``) or may not
        share it. The copy adds nearly 0, because readers remove a Power that adds 0."""
        if x not in before and not (self.readers[old] > 1 and _is_alone(node.op, self.b.node(x.node).op, self.target)):
            return x
        self.counts["copy"] += 1
        return self._layer(node, f"{node.name}/copy_{len(before)}", caffe.PowerLayer(shift=LEAST), x)

    def _power(self, node: Node, op: caffe.PowerLayer, x: Ref) -> Refs:
        """Write scale x + shift by a Power or Scale, unless it is x itself; then raise it to the op's power."""
        columns, inner = self.b.type(x).shape[1:], x
        if self.target.allows("Power"):
            if (op.scale, op.shift) != (1, 0):
                inner = self._layer(node, f"{node.name}/inner", replace(op, power=1.0), x)
        elif op.power == 1 or (op.scale, op.shift) != (1, 0):
            self.counts["power_to_scale"] += 1
            name = node.name if op.power == 1 else f"{node.name}/inner"
            # TPU-MLIR computes a Scale by 0 wrongly in int8: its shift would be infinite
            factor = LOST if op.scale == 0 and op.shift else op.scale
            scale = self._numbers(node, "scale", columns, factor)
            shift = (self._numbers(node, "shift", columns, op.shift),) if op.shift else ()
            inner = self._layer(node, name, caffe.ScaleBias() if shift else caffe.Scale(1, 1, True), x, scale, *shift)
        return (self._raised(node, inner, op.power, node.name),)

    def _raised(self, node: Node, x: Ref, power: float, name: str) -> Ref:
        """Return x ** power: by products above 1, else by an LRN, which divides x by a power of x * x."""
        if power == 1:
            return x
        if power > 1:
            below = power - 1 if _is_whole(power) and power % 2 else power / 2 if _is_whole(power) else power % 1
            part = self._raised(node, x, below, f"{name}/{below:g}")
            rest = part if 2 * below == power else self._raised(node, x, power - below, f"{name}/{power - below:g}")
            self.counts["power_to_product"] += 1
            return self._layer(node, name, caffe.Eltwise("PROD"), part, rest)
        if power < 0 and power % 2 == 0:  # the result of LRN has the sign of x: take the power of x * x
            return self._raised(node, self._raised(node, x, 2.0, f"{name}/2"), power / 2, name)
        self.counts["power_to_lrn"] += 1
        rows, columns = self.b.type(x).shape
        image = self._layer(node, f"{name}/image", caffe.ReshapeLayer((rows, 1, 1, columns)), x)
        lrn = caffe.LRNLayer(beta=(1 - power) / 2, k=LEAST if power > 0 else 0.0)
        root = self._layer(node, f"{name}/lrn", lrn, image)
        return self._layer(node, name, caffe.ReshapeLayer((rows, columns)), root)

    def _means(self, node: Node, op: caffe.AvePooling, x: Ref) -> Refs:
        """Write a Pooling AVE as a product with a matrix, which has each element's share in each mean of an image."""
        images, channels, *size = self.b.type(x).shape
        (means,) = op.eval(np.eye(prod(size)).reshape(-1, 1, *size))
        matrix = means.reshape(prod(size), -1).T
        if self.target.one_row:
            images, channels, matrix = 1, 1, np.kron(np.eye(channels), matrix)
        rows, columns = images * channels, matrix.shape[1]
        flat = self._layer(node, f"{node.name}/elements", caffe.ReshapeLayer((rows, columns)), x)
        if not self.target.may_read("InnerProduct", "Reshape"):
            flat = self._layer(node, f"{node.name}/copy", caffe.PowerLayer(), flat)
        mean = self._product(node, f"{node.name}/means", flat, self._fixed(node, "windows", matrix))
        return self.b.copy(node, (mean,), caffe.ReshapeLayer(node.types[0].shape))

    def _product(self, node: Node, name: str, x: Ref, matrix: Ref) -> Ref:
        """Return the product of x with a matrix, with a bias of zeros if the target requires a bias."""
        op = caffe.InnerProduct(1, self.b.type(matrix).shape[0], False)
        if _fits(op, self.target):
            return self._layer(node, name, op, x, matrix)
        zeros = self._numbers(node, "zeros", (op.num_output,), 0.0)
        return self._layer(node, name, replace(op, bias=True), x, matrix, zeros)

    def _layer(self, node: Node, name: str, op: caffe.CaffeOp, *args: Ref) -> Ref:
        if name == node.name:
            return self.b.copy(node, args, op)[0]
        return self.b.add(op, *args, names=(name,), loc=node.loc, steps=(node.step,))[0]

    def _numbers(self, node: Node, name: str, shape: tuple[int, ...], number: float) -> Ref:
        """Return a fixed blob filled with one number; layers that need equal blobs share it."""
        return self._fixed(node, name, np.full(shape, number, np.float32).astype(np.float64))

    def _fixed(self, node: Node, name: str, array: Array) -> Ref:
        return self.fixed.add(self.b, array, f"{node.name}/{name}")

    def _repeated(self, node: Node, x: Ref, axis: int, count: int) -> Refs:
        """Return a blob joined ``count`` times with itself, as a product with a matrix of zeros and ones."""
        rows, columns = self.b.type(x).shape
        size = columns if axis == 1 else rows * columns
        if size == 1 and lint_op(caffe.InnerProduct(1, count, True), [self.b.type(x)], [], self.target):
            old = self.graph.args(node.name)[0]
            x = x if self.readers[old] == count else self._own(node, (), old, x)
            zeros = self._layer(node, f"{node.name}/zeros", caffe.PowerLayer(scale=0.0), x)
            x = self._layer(node, f"{node.name}/wide", caffe.ConcatLayer(1), x, zeros)
            matrix = self._fixed(node, "both", np.ones((count, 2)))  # RKNN misreads a matrix with a column of zeros
        else:
            matrix = self._fixed(node, "ones", np.tile(np.eye(size), (count, 1)))
        if axis == 1:
            return (self._product(node, node.name, x, matrix),)
        row = x if rows == 1 else self._layer(node, f"{node.name}/row", caffe.ReshapeLayer((1, size)), x)
        repeated = self._product(node, f"{node.name}/repeated", row, matrix)
        return self.b.copy(node, (repeated,), caffe.ReshapeLayer((count * rows, columns)))


@dataclass(frozen=True)
class Form:
    """Builds the replacement layers of one node of a graph."""

    target: Target
    b: Builder
    node: Node

    @property
    def rows(self) -> bool:
        """Whether every blob must be a matrix, except blobs of layers on images."""
        return self.target.layout == "rows"

    def shape(self, ref: Ref) -> Shape:
        return self.b.type(ref).shape

    def fits(self, op: caffe.CaffeOp, *types: TensorType) -> bool:
        return not self._against(op, types)

    def _against(self, op: caffe.CaffeOp, types: Sequence[TensorType]) -> list[Violation]:
        """Return a layer's violations of the target, on operands of these types; none if it is replaced later."""
        learned = op.blobs(len(types))
        blobs = [type_ for slot, type_ in enumerate(types) if slot not in learned]
        tops = op.infer(*types)
        axes = self.target.axes_of(op.layer_type)
        if self.rows and (wrong := [str(type_) for type_ in (*blobs, *tops) if type_.rank not in axes]):
            found, expected = f"a blob is {wrong[0]}", f"{' or '.join(map(str, axes))} axes"
            why = "every blob is a matrix", f"layout of {self.target.name}"
            return [Violation(self.node.name, op.layer_type, found, expected, *why)]
        # the pass `constants` will replace DummyData, the pass `fixed_blobs` other layers
        stands = isinstance(op, caffe.DummyData) or (self.rows and replaced_later(op, self.target, blobs))
        return [] if stands else lint_op(op, blobs, tops, self.target)

    def layers(self, op: caffe.CaffeOp, *args: Ref, names: Sequence[str] = ()) -> Refs:
        """Add a layer and return its tops, by default under the node's names; raise BackendError if it does not fit."""
        self._check(op, *map(self.b.type, args))
        if not names:
            return self.b.copy(self.node, args, op)
        return self.b.add(op, *args, names=names, loc=self.node.loc, steps=(self.node.step,) * len(names))

    def layer(self, op: caffe.CaffeOp, *args: Ref, name: str = "") -> Ref:
        return self.layers(op, *args, names=(name,) if name else ())[0]

    def joined(self, axis: int, parts: Sequence[Ref], name: str = "") -> Ref:
        """Join parts by a Concat. A single part needs no layer: MNN would remove a Concat of one part, and its name."""
        return parts[0] if len(parts) == 1 else self.layer(caffe.ConcatLayer(axis), *parts, name=name)

    def _check(self, op: caffe.CaffeOp, *types: TensorType) -> None:
        """Raise BackendError, with reason and source, unless a layer on operands of these types may be written."""
        violations = self._against(op, types)
        if not violations:
            return
        missing, notes, first = f"{op.layer_type} layer", self.target.reason_against(op.layer_type), violations[0]
        if self.target.allows(op.layer_type):
            missing = f"such {op.layer_type} layer: {first.found}, expected {first.expected}"
            notes = first.reason, f"documented in: {first.source}"
        why = f"target {self.target.name} has no {missing}, which %{self.node.name} needs"
        raise BackendError(why, loc=self.node.loc, notes=notes)

    def view(self, ref: Ref, shape: Shape, names: Sequence[str] = ()) -> Ref:
        """Return a value in another shape: by a view if blobs are matrices, otherwise by a Reshape."""
        if self.rows or self.shape(ref) == shape:
            return viewed(self.b, ref, shape, names, (self.node.step,) * len(names))
        return self.layers(caffe.ReshapeLayer(shape), ref, names=names or (f"{self.named(ref)}/reshaped",))[0]

    def result(self, ref: Ref, out: int = 0) -> Ref:
        """Return ``ref`` as the node's result ``out``: a view with the result's shape and name."""
        return self.view(ref, self.node.types[out].shape, (self.node.names[out],))

    def blob(self, ref: Ref) -> Ref:
        """Return a value as elementwise layers read it: a matrix if every blob is a matrix."""
        return as_matrix(self.b, ref) if self.rows else ref

    def named(self, ref: Ref) -> str:
        return self.b.node(ref.node).names[ref.out]

    def constant(self, shape: Shape, value: float, name: str) -> Ref:
        return self.layer(caffe.DummyData(shape, value), name=name)

    def repeated(self, ref: Ref, axis: int, count: int, name: str) -> Ref:
        """Return a matrix joined with itself along an axis, by Concats of as many bottoms as the target allows."""
        if count > 1:
            self._check(caffe.ConcatLayer(axis), *[self.b.type(ref)] * 2)
        return concat_tree(self.b, [ref] * count, axis, name, self.node.step, self.target.bottoms_at_most or count)

    def reshaped_blob(self, blob: Ref, shape: Shape | None = None) -> Ref:
        """Return a learned blob in another shape, by default with one axis. No layer is written."""
        shape = (prod(self.shape(blob)),) if shape is None else shape
        if self.shape(blob) == shape:
            return blob
        name = f"{self.named(blob)}/{'flat' if len(shape) == 1 else 'rows'}"
        return self.b.add(Reshape(shape), blob, names=(name,))[0]

    def parameter_value(self, p: Ref, name: str, shape: Shape | None = None) -> Ref:
        """Return a parameter as a value, in ``shape`` or its own: a Scale layer of ones whose learned blob it is."""
        shape, ones = self.shape(p) if shape is None else shape, f"{self.b.node(p.node).name}/ones"
        own = last_axis(shape) if self.rows and len(shape) > 2 else shape
        scale, type_ = caffe.Scale(0, len(own), True), TensorType(own)
        if own and self.fits(scale, type_, type_):
            value = self.layer(scale, self.constant(own, 1.0, ones), self.reshaped_blob(p, own), name=name)
        else:
            row = self.constant((1, prod(shape)), 1.0, ones)
            value = self.layer(caffe.Scale(1, 1, True), row, self.reshaped_blob(p), name=name)
        return self.view(value, shape, (name,))
