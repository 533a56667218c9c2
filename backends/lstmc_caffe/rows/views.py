"""Views as blobs in other shapes, also without Reshape; inputs and outputs in forms that readers accept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lstmc.errors import BackendError, PassError
from lstmc.ir import Builder, Graph, Node, Output, Ref, Step, renewed, reshaped
from lstmc.ops import Concat, Pointwise
from lstmc.passes import Pass, PassResult, Refs, compared, graph_pass, rewrite
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.functions import NO_SHIFT
from lstmc_caffe.rows.layout import Shape, last_axis, matrix_at, replaced_later, unviewed, viewed
from lstmc_caffe.targets.lint import lint_op
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class SettleViews(Pass):
    """Replace views: by inputs fed in another shape, by Reshape, or by outputs that the host reads in another shape.

    1. view(view(x)) => one view of x; a view in x's own shape => x
    2. an input of the host that is fed as it is, with two axes => Input
       an Input that no layer and no output reads => an input of the host, from which nothing is fed, because readers
       refuse unread Inputs (for targets without Silence; the ``first`` run keeps it, as constants may be made from it)
    3. a layer reads a view of an input of the host => Feed: the blob is fed in that shape
    4. a layer reads another view   => Reshape
    5. only outputs read a view => the host reads the blob in that shape
    6. an output is read by a layer, is fed, or is one of several tops => a Power that changes nothing (or a Concat of
       one blob; of images a Reshape), under the output's name (for targets whose outputs must be unread). With
       ``outputs_alone`` one of several tops => a Power that adds nearly nothing
    7. a layer reads a layer of a type that it may not follow => a Power between them (for targets whose rules say
       ``not_after``)

    Afterwards every blob has two axes, or the number of axes that the target's rules set for its layer.
    """

    name = "settle_views"
    target: Target
    first: bool = False  # another run follows; if blobs have one row, the pass between them undoes each Reshape

    def run(self, graph: Graph) -> PassResult:
        settler = _Settler(graph, self.target, self.first)
        return compared(graph, settler.run(), settler.counts)

    def ensures(self, graph: Graph) -> None:
        """Raise PassError if a blob has a number of axes that the target does not allow for its layer."""
        for node in graph:
            if not isinstance(node.op, caffe.CaffeOp):
                continue
            axes = self.target.axes_of(node.op.layer_type)
            if any(type_.rank not in axes for type_ in node.types):
                raise PassError(f"settle_views left %{node.name} with blobs of other axes than {axes}", loc=node.loc)


@dataclass
class _Settler:
    """Copies the graph without its views."""

    graph: Graph
    target: Target
    first: bool
    counts: Counter[str] = field(default_factory=Counter)
    sources: dict[Ref, Ref] = field(default_factory=dict)  # old value -> new value; view -> the value that it shows
    blobs: dict[tuple[Ref, Shape], Ref] = field(default_factory=dict)  # new values in other shapes
    copies: dict[Ref, Ref] = field(default_factory=dict)  # blobs to their unchanged copies

    def run(self) -> Graph:
        """Return the graph without views between layers: an output may be a view, which the host reads."""
        self.b = Builder(self.graph.name, self.graph)
        self.read: set[Ref] = set()  # by layers
        self.readers = self.graph.readers()  # of old values
        feeds = [(node.op, self.graph.args(node.name)[0]) for node in self.graph if isinstance(node.op, caffe.Feed)]
        self.stepwise = {source.node for op, source in feeds if op.step is not None}  # inputs by step
        self.reshaped = {source.node for op, source in feeds if op.step is None}  # inputs as a whole
        for node in self.graph:
            self._node(node)
        # all blobs before all views: a second run finds this order, and changes nothing
        blobs = [self._output_blob(output) for output in self.graph.outputs]
        views = [self._output_view(*pair) for pair in zip(self.graph.outputs, blobs, strict=True)]
        outputs = renewed(self.graph.outputs, self.sources)
        return self.b.finish(output._replace(ref=view) for output, view in zip(outputs, views, strict=True))

    def _node(self, node: Node) -> None:
        """Copy a node, or enter a view's source in ``sources``; an input may become a layer, or leave the net."""
        args = self.graph.args(node.name)
        if isinstance(node.op, caffe.View):
            self.sources[Ref(node.name)] = self.sources[args[0]]
            return
        op, is_fed = node.op, node.name in self.stepwise | self.reshaped
        left_out = not self.first and Ref(node.name) not in self.readers and not self.target.allows("Silence")
        if isinstance(op, caffe.HostInput) and len(op.shape) == 2 and not is_fed and not left_out:
            blobs = self.b.copy(node, (), caffe.InputLayer(op.shape, op.fill, op.values))
        elif isinstance(op, caffe.InputLayer) and left_out:
            self.counts["leave_out"] += 1
            blobs = self.b.copy(node, (), caffe.HostInput(op.shape, op.fill, op.values))
        else:
            operands = [self._source(node, slot, ref) for slot, ref in enumerate(args)]
            if isinstance(node.op, caffe.HostStack) and len({self.b.type(ref).shape for ref in operands}) > 1:
                notes = self.target.reason_against("Reshape")
                raise self._refused(node, operands[0], "its steps are blobs of several shapes", *notes)
            blobs = self.b.copy(node, operands)
            if isinstance(node.op, caffe.Feed) and node.op.step is None:
                self.blobs[operands[0], ()] = blobs[0]
            self.read.update(operands if isinstance(node.op, caffe.CaffeOp) else ())
            if node.op == caffe.PowerLayer():
                self.copies.setdefault(operands[0], blobs[0])
        self.sources.update((Ref(node.name, i), ref) for i, ref in enumerate(blobs))

    def _source(self, node: Node, slot: int, ref: Ref) -> Ref:
        """Return the new value of operand ``slot``: for a layer, in the shape that it needs; a weight as it is."""
        if isinstance(node.op, caffe.HostStack):
            shape = self.graph.type(ref).shape
            return self._fed(self.sources[ref], last_axis(shape))
        learned = node.op.blobs(len(self.graph.args(node.name))) if isinstance(node.op, caffe.CaffeOp) else None
        if isinstance(node.op, caffe.Feed) or learned is None or slot in learned:
            return self.sources[ref]
        return self._apart(node, self._operand(node, ref))

    def _apart(self, reader: Node, ref: Ref) -> Ref:
        """Return the blob, or a copy of it if the target forbids that ``reader`` follows the layer that wrote it."""
        writer, op = self.b.node(ref.node), reader.op
        assert isinstance(op, caffe.CaffeOp)
        assert isinstance(writer.op, caffe.CaffeOp)
        if self.target.may_read(op.layer_type, writer.op.layer_type):
            return ref
        if ref not in self.copies:
            self.counts["apart"] += 1
            self._copy(ref, f"{writer.names[ref.out]}/copy", writer.of_step(ref.out))
        return self.copies[ref]

    def _operand(self, reader: Node, ref: Ref) -> Ref:
        """Return the blob that a layer reads, by a Reshape if its shape has changed; raise BackendError without one."""
        source, old = self.sources[ref], self.graph.node(ref.node)
        shape = self.graph.type(ref).shape
        source = self._fed(source, shape)
        if not isinstance(self.b.node(source.node).op, caffe.CaffeOp):
            why = "a layer cannot read a sequence whose steps are blobs of their own"
            raise self._refused(reader, source, why, *self.target.reason_against("Slice"))
        if self.b.type(source).shape == shape:
            return source
        if (source, shape) not in self.blobs:
            if not (self.first and self.target.one_row) and not self.target.allows("Reshape"):
                mend = f"expected {self.graph.type(ref)}: give this reader an input of its own to compute it from"
                notes = self.target.reason_against("Reshape")
                raise self._refused(reader, source, "there is no Reshape", mend, *notes)
            self.counts["view_to_reshape"] += 1
            self.read.add(source)
            self.blobs[source, shape] = self.b.copy(old, (source,), caffe.ReshapeLayer(shape))[0]
        return self.blobs[source, shape]

    def _fed(self, source: Ref, shape: Shape) -> Ref:
        """Return the blob to which the host feeds an input; a value that is no input is unchanged."""
        node = self.b.node(source.node)
        if not isinstance(node.op, caffe.HostInput):
            return source
        if (source, ()) not in self.blobs:
            if node.name in self.stepwise:
                why = f"target {self.target.name}: input {node.name} is read step by step and as a whole"
                mend = "there is no Slice to cut it into steps: make it two inputs"
                raise BackendError(why, loc=node.loc, notes=(mend, *self.target.reason_against("Slice")))
            self.counts["feed"] += 1
            (fed,) = self.b.add(caffe.Feed(shape), source, names=(f"{node.name}/rows",), loc=node.loc)
            self.blobs[source, ()] = fed
        return self.blobs[source, ()]

    def _output_blob(self, output: Output) -> Ref:
        """Return an output's value: a blob, or a HostStack of one for each step; unread, if the target requires it."""
        source = self._fed(self.sources[output.ref], last_axis(self.graph.type(output.ref).shape))
        if not isinstance(self.b.node(source.node).op, caffe.HostStack):
            return self._unread(source, output.name)
        steps = self.b.args(source.node)
        copies = [self._unread(step, f"{output.name}/{t}") for t, step in enumerate(steps)]
        return source if copies == list(steps) else self.b.add(caffe.HostStack(), *copies, names=(output.name,))[0]

    def _output_view(self, output: Output, source: Ref) -> Ref:
        ref, old = output.ref, self.graph.node(output.ref.node)
        view, steps = caffe.View(self.graph.type(ref).shape), (old.of_step(ref.out),)
        return reshaped(self.b, source, view, (old.names[ref.out],), old.loc, steps)

    def _unread(self, blob: Ref, name: str) -> Ref:
        """Return a blob, or a copy of it if a layer reads it and the target forbids that of outputs. Outputs of one
        value share a copy, because MNN merges copies."""
        while self.target.outputs_unread and not self._is_own(blob):
            if blob not in self.copies:
                self.counts["copy_output"] += 1
                self._copy(blob, name)
            blob = self.copies[blob]
        if self.target.outputs_alone and len(self.b.node(blob.node).names) > 1:
            self.counts["copy_output"] += 1
            almost = caffe.PowerLayer(shift=NO_SHIFT)  # readers remove a layer that changes nothing, and its name
            (blob,) = self.b.add(almost, blob, names=(name,))
        return blob

    def _is_own(self, blob: Ref) -> bool:
        """Return whether a blob is its layer's only top, unread and not fed: readers refuse an unread Input."""
        writer = self.b.node(blob.node)
        fed = isinstance(writer.op, caffe.Feed | caffe.InputLayer)
        return blob not in self.read and len(writer.names) == 1 and not fed

    def _copy(self, blob: Ref, name: str, step: Step | None = None) -> None:
        """Copy a blob by a layer that changes no element: a Reshape of images, a Power, or a Concat of one blob."""
        type_ = self.b.type(blob)
        power = caffe.PowerLayer()
        op: caffe.CaffeOp
        if type_.rank not in self.target.axes_of(power.layer_type):
            op = caffe.ReshapeLayer(matrix_at(type_.shape, 1))
        elif replaced_later(power, self.target) or not lint_op(power, [type_], [type_], self.target):
            op = power
        else:
            op = caffe.ConcatLayer(1)
        self.read.add(blob)
        self.copies[blob] = self.b.add(op, blob, names=(name,), steps=(step,))[0]

    def _refused(self, reader: Node, source: Ref, why: str, *notes: str) -> BackendError:
        text = f"target {self.target.name}: {reader.name} cannot read {source.node} in another shape: {why}"
        return BackendError(text, loc=reader.loc, notes=(f"found {self.b.type(source)}", *notes))


@graph_pass()
def fit_readers(graph: Graph, counts: Counter[str]) -> Graph:
    """Give elementwise layers and constants the shape in which their neighbours write and read them.

    1. elementwise layers that read each other, and whose neighbours all use one matrix shape => that shape; a row of
       factors between them is repeated; a constant that all layers read in one matrix shape => that shape
    2. a step of an input that all layers read in one matrix shape => fed in that shape
    3. an input of two axes that all layers read in one matrix shape => a blob fed in that shape

    A step [N], such as an indicator or a mask, is one row, until a broadcast along the other axes needs it as a column.
    """
    shapes = _shapes(graph)
    rules = {caffe.Feed: "fit_step", caffe.HostInput: "fit_input"}
    counts.update(rules.get(type(graph.node(name).op), "fit_layer") for name in shapes)
    feeds: dict[Ref, Ref] = {}  # input -> the blob that layers read; values are still carried to the input

    def visit(b: Builder, node: Node, args: Refs) -> Refs:
        """Copy a node in its new shape, with its operands viewed in the shapes in which the copy reads them."""
        args = tuple(feeds.get(ref, ref) for ref in args)
        if isinstance(node.op, caffe.View):
            return (viewed(b, args[0], node.op.shape, node.names, node.steps),)
        shape = shapes.get(node.name)
        if shape is not None and isinstance(node.op, caffe.HostInput):
            (fed,) = b.copy(node, args)
            (feeds[fed],) = b.add(caffe.Feed(shape), fed, names=(f"{node.name}/rows",), loc=node.loc)
            return (fed,)
        if isinstance(node.op, caffe.Feed | caffe.DummyData):
            return b.copy(node, args, node.op if shape is None else replace(node.op, shape=shape))
        old = graph.args(node.name)
        if shape is not None and _is_row_of_factors(node):
            x, row = viewed(b, args[0], shape), args[1]
            count = shape[1] // graph.type(old[1]).size
            (row,) = b.add(Concat(0), *(row,) * count, names=(f"{b.node(row.node).names[row.out]}/repeated",))
            return b.copy(node, (x, row))
        read = [shape or graph.type(ref).shape for ref in old]
        return b.copy(node, [viewed(b, ref, seen) for ref, seen in zip(args, read, strict=True)])

    return rewrite(graph, visit) if shapes else graph


def _shapes(graph: Graph) -> dict[str, Shape]:
    """Return the new shapes of nodes: for elementwise layers that read each other, the shape in which their neighbours
    write and read them; for an input of the host, or a constant, the shape in which all its readers read it."""
    kinds = Pointwise | caffe.Eltwise | caffe.HostStack
    layers = {n.name: n.name for n in graph if isinstance(n.op, kinds) or _is_row_of_factors(n)}

    def joined(name: str) -> str:
        """Return the representative of a layer's group; any other node stands for itself."""
        while layers.get(name, name) != name:
            layers[name] = name = layers[layers[name]]
        return name

    edges = [*_edges(graph)]
    stacked = {node.name for node in graph if isinstance(node.op, caffe.HostStack)}  # no layer may read these
    # group the elementwise layers that read each other
    for node, _, _, source in edges:
        if node.name in layers and source.node in layers and source.node not in stacked:
            layers[joined(source.node)] = joined(node.name)
    # collect the shapes in which the neighbours of each group write and read its values
    shapes: dict[str, set[Shape]] = {joined(node.name): set() for node in graph}
    for node, slot, arg, source in edges:
        if source.node in stacked:
            continue  # the host reads its steps in any shape
        if node.name not in layers or isinstance(node.op, caffe.HostStack):
            shapes[joined(source.node)].update(_read_shapes(graph, node, slot, arg))
        if node.name in layers and source.node not in layers and not _is_fed(graph.node(source.node)):
            shapes[joined(node.name)].add(graph.type(source).shape)
    for output in graph.outputs:
        if not isinstance(graph.node(output.ref.node).op, caffe.HostStack):
            shapes[joined(output.ref.node)].update(_host_shapes(graph, output.ref))
    for node in filter(_is_row_of_factors, graph):  # a row of factors fits a wider matrix if it can be repeated
        wanted, own = shapes[joined(node.name)], node.types[0].shape
        if not wanted or any(shape[1] % own[1] for shape in wanted):
            wanted.add(own)
    # a group takes its neighbours' shape if they agree
    found: dict[str, Shape] = {}
    for name in layers:
        stack = isinstance(graph.node(joined(name)).op, caffe.HostStack)
        shape, *others = shapes[joined(name)] or {last_axis(graph.node(joined(name)).types[0].shape[stack:])}
        found |= {} if others else {name: shape}
    # inputs and constants take the shape in which all readers, with their new shapes, read them
    for node, _, arg, source in edges:
        if node.name in layers and source.node not in layers:
            shapes[source.node].add(found.get(node.name, graph.type(arg).shape))
    stepwise = {graph.args(node.name)[0].node for node in graph if isinstance(node.op, caffe.Feed)}
    for node in graph:
        if _is_fed(node) and node.types[0].rank == 2 and node.name not in stepwise and len(shapes[node.name]) == 1:
            (found[node.name],) = shapes[node.name]
    nodes = [node for node in graph if node.name in found and not isinstance(node.op, caffe.HostStack)]
    return {node.name: found[node.name] for node in nodes if node.types[0].shape != found[node.name]}


def _edges(graph: Graph) -> Iterator[tuple[Node, int, Ref, Ref]]:
    """Yield each operand of each node: the node, the slot, the operand, and the value behind the operand's views."""
    for node in graph:
        for slot, arg in enumerate(graph.args(node.name)[: 1 if _is_row_of_factors(node) else None]):
            yield node, slot, arg, unviewed(graph, arg)


def _is_row_of_factors(node: Node) -> bool:
    scale = isinstance(node.op, caffe.Scale) and (node.op.learned, node.op.axis, node.op.num_axes) == (True, 1, 1)
    return scale and node.types[0].rank == 2


def _is_fed(node: Node) -> bool:
    return isinstance(node.op, caffe.HostInput | caffe.Feed | caffe.DummyData)


def _read_shapes(graph: Graph, node: Node, slot: int, arg: Ref) -> Iterator[Shape]:
    """Yield the shape in which a node reads an operand; nothing if that is a weight, or the node a view or a Feed."""
    if isinstance(node.op, caffe.HostStack):
        yield from _host_shapes(graph, arg)
    elif isinstance(node.op, caffe.View | caffe.Feed) or not isinstance(node.op, caffe.CaffeOp):
        return
    elif slot not in node.op.blobs(len(graph.args(node.name))):
        yield graph.type(arg).shape


def _host_shapes(graph: Graph, ref: Ref) -> Iterator[Shape]:
    """Yield the shape of a value that the host reads; nothing for a view, which the host reads in any shape."""
    if not isinstance(graph.node(ref.node).op, caffe.View):
        yield graph.type(ref).shape
