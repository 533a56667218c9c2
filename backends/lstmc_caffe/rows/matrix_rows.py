"""Rows of matrices: the steps of a sequence, and every matrix as one row, for readers without a first axis."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Step
from lstmc.ops import Pointwise, Reshape, Split
from lstmc.passes import Pass, PassResult, Refs, TimeAxis, result
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.unroll import concat_tree, slice_tree
from lstmc_caffe.rows.layout import Form, Matrix, matrix_at, unviewed, viewed
from lstmc_caffe.targets.target import Target


def _step_matrix(shape: tuple[int, ...]) -> Matrix:
    """Return the shape of one step in a sequence's matrix: N rows for [N, ...], one row for [N] or a number."""
    return matrix_at(shape, int(len(shape) > 1))


def _blob_of_value(b: Builder, x: Ref) -> Ref | None:
    """Return the parameter that ``parameter_value`` turned into x. Return None for any other value."""
    value = b.node(unviewed(b, x).node)
    if not isinstance(value.op, caffe.Scale) or not value.op.learned:
        return None
    ones, blob = b.args(value.name)
    constant = b.node(ones.node).op
    alone = isinstance(constant, caffe.DummyData) and constant.value == 1
    return blob if alone and b.type(blob).size == value.types[0].size else None


@dataclass(frozen=True)
class RowsTimeAxis(TimeAxis):
    """Time axis of matrices: a sequence [T, N, ...] is the matrix [T*N, ...], cut and joined by trees of layers.
    Without Slice each step is a separate blob: inputs are fed and outputs read step by step, and a parameter's steps
    are pieces of its blob, each with a layer that returns its value."""

    target: Target

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        """Return the T steps [N, ...] of x [T, N, ...]; raise BackendError for steps that nothing can cut."""
        length, *rest = b.type(x).shape
        matrix = _step_matrix(tuple(rest))
        if self.target.time == "steps" and (blob := _blob_of_value(b, x)) is not None:
            cut: Refs = self._pieces(b, x, blob, matrix, names)
        elif length == 1:
            return (viewed(b, x, tuple(rest), names, tuple(steps)),)
        elif self.target.time == "steps":
            cut = self._steps(b, x, matrix, names, steps or (None,) * length)
        else:
            rows = viewed(b, x, (length * matrix[0], matrix[1]))
            cut = slice_tree(b, rows, 0, (matrix[0],) * length, names, steps)
        return tuple(
            viewed(b, step, tuple(rest), (f"{b.node(step.node).names[step.out]}/step",), (b.of_step(step),))
            for step in cut
        )

    def _steps(self, b: Builder, x: Ref, matrix: Matrix, names: Sequence[str], steps: Sequence[Step | None]) -> Refs:
        """Return a sequence's steps as blobs: the operands of a HostStack, or a Feed for each step of an input."""
        source = b.node(unviewed(b, x).node)
        whole = source.types[0].shape[:1] == (len(names),)  # else x views the source as another number of steps
        if whole and isinstance(source.op, caffe.HostStack):
            return b.args(source.name)
        if not whole or not isinstance(source.op, caffe.HostInput):
            why = "a sequence that a scan reads must be an Input, a Param or a scan's own output"
            found = f"found {source.name}: {source.types[0]}, computed by {source.op.name}, for {len(names)} steps"
            mend = "there is no Slice to cut it into steps; compute it inside the cell"
            notes = (found, mend, *self.target.reason_against("Slice"))
            raise BackendError(f"target {self.target.name}: {why}", loc=source.loc, notes=notes)
        return tuple(
            b.add(caffe.Feed(matrix, t), Ref(source.name), names=(name,), loc=source.loc, steps=(step,))[0]
            for t, (name, step) in enumerate(zip(names, steps, strict=True))
        )

    def _pieces(self, b: Builder, x: Ref, blob: Ref, matrix: Matrix, names: Sequence[str]) -> Refs:
        """Split the blob of a parameter that is read as a sequence; return each step's value, by a layer."""
        form, called = Form(self.target, b, b.node(unviewed(b, x).node)), b.node(blob.node).names[blob.out]
        (rows,) = b.add(Reshape((len(names), *matrix)), blob, names=(f"{called}/steps",))
        pieces = b.add(Split(0, (1,) * len(names)), rows, names=[f"{called}/{t}" for t in range(len(names))])
        steps = [
            b.add(Reshape(matrix), piece, names=(f"{b.node(piece.node).names[piece.out]}/rows",)) for piece in pieces
        ]
        return tuple(form.parameter_value(step, name) for (step,), name in zip(steps, names, strict=True))

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        """Return T values [N, ...] as one [T, N, ...]: a Concat, or a HostStack if time is a list of steps."""
        shape = (len(steps), *b.type(steps[0]).shape)
        if self.target.time == "steps":
            if len(steps) == 1:
                return viewed(b, steps[0], shape, (name,))
            return b.add(caffe.HostStack(), *steps, names=(name,))[0]
        matrix = _step_matrix(b.type(steps[0]).shape)
        rows = [viewed(b, step, matrix) for step in steps]
        joined = concat_tree(b, rows, 0, f"{name}/rows")
        return viewed(b, joined, shape, (name,))


@dataclass(frozen=True)
class OneRow(Pass):
    """Write matrices as one row, row after row, for targets with ``rows_at_most = 1`` for all blobs.

    1. an elementwise layer, or a fed blob => the same on all elements; an Input of rows => an input of the host,
       and the blob that is fed from it
    2. Reshape                                  => nothing
    3. Slice, Concat of rows (axis 0)           => of columns; rows that are separate blobs are used directly
    4. InnerProduct, Softmax, Scale, Slice, Concat of each row (axis 1) => one for each row
    5. Convolution, Pooling, Scale, Bias of images   => one for each image, between Reshapes from a row and to one

    Refused: any other layer of several rows.
    """

    name = "one_row"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        if all(map(_is_row, graph)):
            return PassResult(graph, False)
        writer = _Writer(graph, self.target)
        return result(graph, writer.run(), writer.counts)


def _is_row(node: Node) -> bool:
    """Return whether each blob of a layer is one row. Nodes that are no layers count as rows."""
    return not isinstance(node.op, caffe.CaffeOp) or all(type_.shape[:1] == (1,) for type_ in node.types)


def _of_each_row(op: caffe.CaffeOp, types: Sequence[TensorType]) -> bool:
    """Return whether each row of a layer's outputs depends only on the same row of its inputs, and on learned blobs."""
    along, learned = op.along(0, 0, *types), op.blobs(len(types))
    if along is None or along.op is None:
        return False
    return all(place == (None if slot in learned else 0) for slot, place in enumerate(along.operands))


@dataclass
class _Writer:
    """Makes the new graph, with each old blob in the forms that are needed: ``wholes``, one blob; ``rows``, a blob for
    each row; ``joined``, a list of old blobs that follow one another."""

    graph: Graph
    target: Target
    counts: Counter[str] = field(default_factory=Counter)
    wholes: dict[Ref, Ref] = field(default_factory=dict)
    rows: dict[Ref, Refs] = field(default_factory=dict)
    joined: dict[Ref, Refs] = field(default_factory=dict)
    images: dict[Ref, Ref] = field(default_factory=dict)  # new rows that are images in another shape

    def run(self) -> Graph:
        """Return the graph in which each blob is one row, with the outputs in their old shapes."""
        self.rebuild = Rebuild(self.graph)
        self.b, self.most = self.rebuild.builder, self.target.bottoms_at_most or sys.maxsize
        self.carried: dict[Ref, Ref] = {}  # old input -> the host's input, to which values are carried
        for node in self.graph:
            self._node(node, self.graph.args(node.name))
        outputs = []
        for output in self.graph.outputs:
            carried = output.carried_to
            blob = self._in_its_shape(output.ref)
            to = carried and self.carried.get(carried, self._whole(carried))
            outputs.append(output._replace(ref=blob, carried_to=to))
        return self.b.finish(outputs)

    def _node(self, node: Node, args: Refs) -> None:
        """Write a node by the rules of :class:`OneRow`, and enter its new blobs; raise BackendError if no rule fits."""
        op, by_element = node.op, Pointwise | caffe.Eltwise
        if isinstance(op, caffe.HostStack):
            self._keep(node, self.b.copy(node, [self._in_its_shape(ref) for ref in args]))
        elif isinstance(op, caffe.InputLayer) and op.shape[0] > 1:
            self.counts["input"] += 1
            (source,) = self.b.copy(node, (), caffe.HostInput(op.shape, op.fill, op.values))
            self.carried[Ref(node.name)] = source
            names = (f"{node.name}/row",)
            self._keep(node, self.b.add(caffe.Feed((1, prod(op.shape))), source, names=names, loc=node.loc))
        elif isinstance(op, caffe.Feed):
            self.counts["feed"] += op.shape[0] > 1
            row = replace(op, shape=(1, prod(op.shape)))
            self._keep(node, self.b.copy(node, [self._whole(ref) for ref in args], row))
        elif isinstance(op, caffe.ReshapeLayer):
            self.counts["reshape"] += 1
            self.wholes[Ref(node.name)] = self._whole(args[0])
        elif isinstance(op, caffe.ConcatLayer) and op.axis == 0:
            self.counts["rows"] += 1
            self.joined[Ref(node.name)] = args
        elif isinstance(op, caffe.SliceLayer) and op.axis == 0:
            self.counts["rows"] += 1
            self._slice_rows(node, op, args[0])
        elif not args or isinstance(op, by_element) or not isinstance(op, caffe.CaffeOp) or self._is_row(args[0]):
            self.counts["elements"] += not _is_row(node)
            self._keep(node, self.b.copy(node, [self._whole(ref) for ref in args]))
        elif _of_each_row(op, [self.graph.type(ref) for ref in args]):
            self.counts["each_row"] += 1
            self._each_row(node, op, args)
        else:
            (rule,) = [rule for rule in self.target.rule if rule.rows_at_most == 1]
            why = f"a {op.layer_type} that reads rows together is not written a row at a time"
            found = f"target {self.target.name}: {node.name} is {node.types[0]}, expected one row"
            raise BackendError(found, loc=node.loc, notes=(why, rule.reason, f"documented in: {rule.source}"))

    def _keep(self, node: Node, refs: Refs) -> None:
        self.wholes.update((Ref(node.name, out), ref) for out, ref in enumerate(refs))

    def _is_row(self, ref: Ref) -> bool:
        return self.graph.type(ref).rank == 2 and self.graph.type(ref).shape[0] == 1

    def _whole(self, ref: Ref) -> Ref:
        """Return an old value as one blob, by a Concat of its rows. Values that are not blobs are unchanged."""
        if ref not in self.wholes:
            node = self.graph.node(ref.node)
            parts = [self._whole(part) for part in self.joined[ref]] if ref in self.joined else self.rows[ref]
            name = node.names[ref.out]
            self.wholes[ref] = concat_tree(self.b, parts, 1, name, node.of_step(ref.out), self.most)
        return self.wholes[ref]

    def _rows(self, ref: Ref) -> Refs:
        """Return the rows of an old blob, each as a new blob: rows of the blobs that it joins, or pieces of a Slice."""
        if ref not in self.rows:
            if ref in self.joined:
                self.rows[ref] = tuple(row for part in self.joined[ref] for row in self._rows(part))
                return self.rows[ref]
            height, width = matrix_at(self.graph.type(ref).shape, 1)
            whole = self._whole(ref)
            name = self.b.node(whole.node).names[whole.out]
            names = [f"{name}/{i}" for i in range(height)]
            self.rows[ref] = slice_tree(self.b, whole, 1, (width,) * height, names, (), self.most)
        return self.rows[ref]

    def _slice_rows(self, node: Node, op: caffe.SliceLayer, source: Ref) -> None:
        """Write a Slice of rows. Rows that are separate blobs are divided among the outputs without a layer."""
        if source in self.joined or source in self.rows:
            rows = iter(self._rows(source))
            for out, size in enumerate(op.sizes):
                self.rows[Ref(node.name, out)] = tuple(next(rows) for _ in range(size))
            return
        width = prod(self.graph.type(source).shape[1:])
        sizes = tuple(size * width for size in op.sizes)
        self._keep(node, self.b.copy(node, (self._whole(source),), caffe.SliceLayer(1, sizes)))

    def _each_row(self, node: Node, op: caffe.CaffeOp, args: Refs) -> None:
        """Write a layer once for each row of its inputs. All these layers share the node's learned blobs."""
        learned = op.blobs(len(args))
        height, rows = self.graph.type(args[0]).shape[0], []
        operands = [
            (self._whole(ref),) * height if slot in learned else self._images(node, ref)
            for slot, ref in enumerate(args)
        ]
        for row in range(height):
            names = [f"{name}/{row}" for name in node.names]
            outs = self.b.add(op, *[refs[row] for refs in operands], names=names, loc=node.loc, steps=node.steps)
            rows.append(outs if node.types[0].rank == 2 else (self._flat(node, outs[0]),))
        for out in range(len(node.names)):
            self.rows[Ref(node.name, out)] = tuple(refs[out] for refs in rows)

    def _images(self, node: Node, ref: Ref) -> Refs:
        """Return a blob's rows in the shape in which a layer reads them: as images, if the blob is images."""
        rows, shape = self._rows(ref), (1, *self.graph.type(ref).shape[1:])
        return rows if len(shape) == 2 else tuple(self._image(node, row, shape) for row in rows)

    def _image(self, node: Node, row: Ref, shape: tuple[int, ...]) -> Ref:
        """Return a row as an image of ``shape``, by a Reshape unless the row was made from such an image."""
        if row not in self.images or self.b.type(self.images[row]).shape != shape:
            name = f"{self.b.node(row.node).names[row.out]}/{node.name}/image"
            self.images[row] = self._reshaped(node, row, shape, name)
        return self.images[row]

    def _flat(self, node: Node, image: Ref) -> Ref:
        """Return an image as one row, by a Reshape, and remember the image of this row."""
        shape = (1, prod(self.b.type(image).shape))
        row = self._reshaped(node, image, shape, f"{self.b.node(image.node).names[image.out]}/row")
        self.images[row] = image
        return row

    def _reshaped(self, node: Node, ref: Ref, shape: tuple[int, ...], name: str) -> Ref:
        return self.b.add(caffe.ReshapeLayer(shape), ref, names=(name,), loc=node.loc, steps=node.steps[:1])[0]

    def _in_its_shape(self, ref: Ref) -> Ref:
        """Return an output in its old shape, in which the host reads it: as a View if the blob's shape has changed."""
        node, shape = self.graph.node(ref.node), self.graph.type(ref).shape
        return viewed(self.b, self._whole(ref), shape, (node.names[ref.out],), (node.of_step(ref.out),))
