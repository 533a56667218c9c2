"""Parameters as blobs of layers, or as tops where a value is required. Operands of scans reshaped once for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight, is_weight_op, precomputed_nodes, reshaped
from lstmc.ops import Arg, Conv, Embed, Linear, Op, Param, Reshape
from lstmc.passes import Refs, node_pass
from lstmc_caffe import ops as caffe
from lstmc_caffe.ops import ReshapeLayer

LegalizeRule = Callable[[Builder, Node[Any], Refs], Refs]


def packing_nodes(graph: Graph) -> set[str]:
    """Return the weight ops whose results are blobs: a layer or scan reads the result as a weight, or nothing reads it.
    Other ops on parameters alone, and a bias that cannot be a blob, become layers on the parameters' values."""
    packing: set[str] = set()
    readers = graph.readers()
    for node in reversed(list(graph)):
        unread = not any(ref in readers for ref in node.refs)
        if unread and is_weight_op(node.op) and is_weight(graph, Ref(node.name)):
            packing.add(node.name)  # a transpose: its reader uses the untransposed blob
        for slot, ref in enumerate(graph.args(node.name)):
            as_weight = node.name in packing
            if isinstance(node.op, Embed):
                as_weight = slot == 1
            if isinstance(node.op, Linear | Conv):
                as_weight = slot == 1 or (slot == 2 and alone_in_a_blob(graph, ref, readers))
            if isinstance(node.op, Scan):
                as_weight = node.op.role(slot) == "weight"
            if as_weight and is_weight_op(graph.node(ref.node).op) and is_weight(graph, ref):
                packing.add(ref.node)
    return packing


def weight_nodes(graph: Graph) -> set[str]:
    """Return the weight ops on parameters, and the precomputed nodes: the blobs of a net that is not trained."""
    packed = {node.name for node in graph if is_weight_op(node.op) and is_weight(graph, Ref(node.name))}
    return packed | precomputed_nodes(graph)


def alone_in_a_blob(graph: Graph, blob: Ref, readers: Mapping[Ref, int]) -> bool:
    """Return whether the parameters that make up ``blob`` have no other readers, and equal lr_mult and decay_mult."""
    multipliers = set()
    stack = [blob]
    while stack:
        node = graph.node(stack.pop().node)
        if isinstance(node.op, Param):
            multipliers.add((node.op.lr_mult, node.op.decay_mult))
        elif isinstance(node.op, Arg):
            return False  # the model may use this argument's parameter elsewhere
        operands = graph.args(node.name)
        if any(readers[ref] > 1 for ref in operands):
            return False
        stack += operands
    return len(multipliers) == 1


def as_value(b: Builder, ref: Ref, name: str | None = None) -> Ref:
    """Return a value that can be a layer's bottom: a parameter is added to zeros, any other value is unchanged. Caffe's
    Parameter layer is not used: its diff is shared, so a parameter with another reader loses gradient."""
    if not is_weight(b, ref):
        return ref
    node = b.node(ref.node)
    shape = b.type(ref).shape
    if not shape:  # a blob needs an axis
        (one,) = b.add(Reshape((1,)), ref, names=(f"{node.name}/one",), loc=node.loc)
        return reshaped(b, as_value(b, one, name), caffe.ReshapeLayer(()), loc=node.loc)
    (zeros,) = b.add(caffe.DummyData(shape), names=(f"{node.name}/zeros",), loc=node.loc)
    bias = caffe.Bias(axis=0, num_axes=len(shape), learned=True)
    return b.add(bias, zeros, ref, names=(name or f"{node.name}/value",), loc=node.loc)[0]


def layer_of(b: Builder, node: Node, op: Op, *args: Ref, learned: Sequence[Ref] = ()) -> Refs:
    """Add the layer that replaces a node: it reads values, and has ``learned`` as its own blobs."""
    return b.add(op, *[as_value(b, ref) for ref in args], *learned, names=node.names, loc=node.loc)


def check_blob(b: Builder, node: Node, w: Ref, layer: str, name: str = "W") -> None:
    """Raise BackendError unless ``w``, the operand ``name`` of a node, can be a blob of the layer."""
    if not is_weight(b, w):
        why = f"{node.op.name}: {name} must be a Param: Caffe's {layer} has its weights as a blob of its own"
        found = f"found {b.node(w.node).names[w.out]}: {b.type(w)}, computed by {b.node(w.node).op.name}"
        raise BackendError(why, loc=node.loc, notes=(found,))


def shaped(b: Builder, ref: Ref, shape: tuple[int, ...]) -> Ref:
    return reshaped(b, as_value(b, ref), caffe.ReshapeLayer(shape))


def outputs_as_values(graph: Graph, counts: Counter[str]) -> Graph:
    """Return the graph with a value in place of each output that is a parameter or is computed from parameters."""
    leaked = {o.ref: o.name or "y" for o in graph.outputs if is_weight(graph, o.ref)}
    if not leaked:
        return graph
    counts["output_to_value"] += len(leaked)
    rebuild = Rebuild(graph)
    for node in graph:
        rebuild.copy(node)
    for ref, name in leaked.items():
        rebuild.new[ref] = as_value(rebuild.builder, rebuild.new[ref], name)
    return rebuild.finish()


Shape = tuple[int, ...]
Views = dict[str, dict[Shape, str]]  # for each argument: the shapes it is read in, each with a new argument's name


@node_pass(bodies=False)
def reshape_once(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Reshape sequences before a scan if its steps reshape their elements.

    1. reshape of an ``x`` argument => an ``x`` argument of the reshaped sequence; an argument that nothing reads is
       removed
    2. reshape(reshape(x)) outside  => one reshape; in x's own shape => x

    Legalisation reshapes the second bottom of a Scale or Bias to the axes that it covers, such as an indicator [N, 1]
    to [N]. Without this pass that is a layer at every step.
    """
    if not isinstance(node.op, Scan) or node.op.kept:
        return None
    scan, bodies = node.op, [_Reads(body) for body in node.op.bodies]
    # the arguments that the steps read without a Reshape
    read = {arg.name for reads in bodies for arg in reads.body.body_args() if arg.name in reads.otherwise}
    views = _views(bodies, read)
    counts["reshape_sequence"] += sum(map(len, views.values()))
    if not views:
        return None
    operands: list[Ref] = []
    for arg, ref in zip(scan.body.body_args(), args, strict=True):
        if arg.name in read or arg.name not in views:
            operands.append(ref)
        for shape, name in views.get(arg.name, {}).items():
            operands.append(reshaped(b, ref, ReshapeLayer((scan.length, *shape)), (f"{scan.body.name}/{name}",)))
    new_bodies = [_new_body(reads, views, read) for reads in bodies]
    op = replace(scan, body=new_bodies[0], first=new_bodies[1] if scan.first is not None else None)
    return b.add(op, *operands, names=node.names, loc=node.loc)


@dataclass(frozen=True)
class _Reads:
    """The reads of a body's sequence arguments: direct, or through Reshapes."""

    body: Graph

    @cached_property
    def reshapes(self) -> dict[str, str]:
        """Map each Reshape of an ``x`` argument to the argument. A chain of Reshapes counts too."""
        sources: dict[str, str] = {}
        for node in self.body:
            if isinstance(node.op, ReshapeLayer):
                source = self.body.node(self.body.args(node.name)[0].node)
                if source.name in sources:
                    sources[node.name] = sources[source.name]
                elif isinstance(source.op, Arg) and source.op.role == "x":
                    sources[node.name] = source.name
        return sources

    @cached_property
    def otherwise(self) -> set[str]:
        """The nodes with a reader other than a Reshape of an ``x`` argument."""
        reads = Counter(self.body.args(name)[0] for name in self.reshapes)
        return {ref.node for ref, count in self.body.readers().items() if count > reads[ref]}


def _views(bodies: Sequence[_Reads], read: Collection[str]) -> Views:
    """Return, for each sequence argument, the shapes in which the body reshapes it, each with a new argument's name."""
    views: Views = {}
    for reads in bodies:
        for view, arg in reads.reshapes.items():
            if view in reads.otherwise:
                shapes, shape = views.setdefault(arg, {}), reads.body.node(view).types[0].shape
                name = arg if not shapes and arg not in read else f"{arg}/{'x'.join(map(str, shape))}"
                shapes.setdefault(shape, name)
    return views


def _new_body(reads: _Reads, views: Views, read: Collection[str]) -> Graph:
    """Return a body without Reshapes of sequences: with an argument for each shape, and no argument without readers."""
    rebuild = Rebuild(reads.body)
    arguments: dict[tuple[str, Shape], Ref] = {}
    for node in reads.body:
        if node.name in reads.reshapes:
            if node.name in reads.otherwise:
                rebuild.put(node, (arguments[reads.reshapes[node.name], node.types[0].shape],))
        elif node.name not in views or node.name in read:
            rebuild.copy(node)
        for shape, name in views.get(node.name, {}).items():
            (arguments[node.name, shape],) = rebuild.builder.add(Arg(shape, "x"), names=(name,), loc=node.loc)
    return rebuild.finish()
