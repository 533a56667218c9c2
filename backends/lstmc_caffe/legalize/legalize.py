"""Legalisation: rewrite core ops to Caffe layers by named rules. Two passes prepare a model that is trained: transposed
parameters get a node for each use, and packed parameters that no step has as a blob enter their scan as values. One
pass prepares other models: values of layers and blobs get separate nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from lstmc import ir
from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, Stage, is_weight, is_weight_op
from lstmc.ops import Arg, Conv, Embed, Linear, Op, Param, Precomputed, Transpose
from lstmc.passes import Pass, PassResult, Refs, graph_pass, in_bodies, result, rewrite, with_bodies, with_role
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import alone_in_a_blob, as_value, outputs_as_values, packing_nodes, weight_nodes
from lstmc_caffe.legalize.fused import FusedScan, scan_to_layer
from lstmc_caffe.legalize.rules import GROUP, rules, used


def _is_weight_leaf(node: Node) -> bool:
    return isinstance(node.op, Param) or (isinstance(node.op, Arg) and node.op.role == "weight")


def _check_gradients_end(graph: Graph, trained: set[Ref]) -> None:
    """Raise BackendError if indices, labels or targets are among ``trained``, the values that depend on a parameter."""
    for node in graph:
        args = graph.args(node.name)
        for slot in node.op.undifferentiated if ir.has_gradient(node) else ():
            if args[slot] in trained:
                why = "must not depend on a Param: Caffe has no gradient there, and aborts where one is asked for"
                found = f"found {graph.value_name(args[slot])}: {graph.type(args[slot])}"
                text = f"{node.op.name}: {node.op.operands[slot]} {why}"
                raise BackendError(text, loc=node.loc, notes=(found,))


def _reads(body: Graph, slot: int) -> list[tuple[Node, int]]:
    """Return the nodes that read the argument ``slot`` of a body, each with the operand's number."""
    argument = Ref(body.body_args()[slot].name)
    return [(node, at) for node in body for at, ref in enumerate(body.args(node.name)) if ref == argument]


def _has_as_blob(body: Graph, slot: int, biases: bool) -> bool:
    """Return whether a body's argument is a blob of a node in it (with ``biases``, a bias too) or part of a weight."""
    return any(_is_blob(node, at, biases) or is_weight(body, Ref(node.name)) for node, at in _reads(body, slot))


def _is_blob(node: Node, slot: int, biases: bool) -> bool:
    if isinstance(node.op, Scan):
        return node.op.role(slot) == "weight"
    return isinstance(node.op, Linear | Conv | Embed) and (slot == 1 or (slot == 2 and biases))


KEPT: frozenset[type[Op]] = frozenset((Param, Arg, Precomputed))  # ops that become no layer


@dataclass(frozen=True)
class Legalize(Pass):
    """Write every core op as layers of stock BVLC Caffe.

    1. input; input with a fill; full   => Input; DummyData; DummyData
    2. linear on parameters             => InnerProduct, with its bias where that is a parameter too; of a transposed
                                           parameter with ``transpose`` set, on the parameter's own blob
       linear on a computed matrix      => Tile, Scale, Reduction: the products of all elements, summed
    3. x + y, x - y, x * y of one shape => Eltwise SUM, SUM with coeff 1 and -1, PROD
       maximum(x, y)                    => Eltwise MAX; the smaller one plus zeros first, by Bias
    4. x + y, x * y broadcast => Bias, Scale: of the layer's own blob where y is a parameter (unless Scale would lose
                                           its gradient)
    5. a parameter read as a value      => DummyData of zeros, then Bias of its own blob
    6. affine; power                    => Power (a whole power from 3 to 8: Eltwise PROD)
    7. sigmoid tanh relu leaky_relu softplus elu abs exp log softmax split concat reshape => the layer of that name
       stop_gradient                    => Power with propagate_down false
       round                            => such a Power with a shift that rounds, Eltwise SUM with the shift back
       sin; cos                         => a polynomial of the rest of x after multiples of pi; 1 - 2 sin(x / 2)**2
    8. unstack; stack; tile             => Reshape and Slice; Concat and Reshape; Tile
       transpose                        => Slice, a Reshape of each piece, Concat
    9. embed conv max_pool ave_pool dropout, losses, accuracy => the layer of that name; images of more axes or fewer
                                           than 4 are reshaped
    10. sum over the last axes; others  => Reduction; Pooling AVE of images of one column, and Power
        max over an axis                => Pooling MAX of images of one column

    Nets that are not trained (``trained=False``) cannot lose gradients, and copies of a parameter stay equal: so every
    weight op on parameters makes a blob, x - p has a blob of -p, and Scale always has its own blob.

    With ``fused`` a scan => one generated layer (FusedScan), whose body stays as it is.

    Refused: an embed or conv whose matrix is computed; in nets that are trained, indices, labels and targets that
    depend on a parameter.
    """

    name = "legalize"
    after = Stage.LEGAL
    trained: bool = True
    fused: bool = False

    def requires(self, graph: Graph) -> None:
        if self.trained:
            ir.depending(graph, _is_weight_leaf, _check_gradients_end)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, legalized(graph, counts, self.trained, self.fused), counts)


@graph_pass()
def pass_packed_values(graph: Graph, counts: Counter[str]) -> Graph:
    """Pass packed parameters that no step has as a blob to their scan as values.

    As weights they would be separate blobs, and in training the same parameters could not be used elsewhere. A bias
    that is refused as a blob becomes a value too.
    """
    readers = graph.readers()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        values = set()
        for slot, ref in enumerate(graph.args(node.name)):
            if node.op.role(slot) == "weight" and is_weight_op(graph.node(ref.node).op):
                biases = alone_in_a_blob(graph, ref, readers)
                if not any(_has_as_blob(body, slot, biases) for body in node.op.bodies):
                    values.add(slot)
        counts["pass_value"] += len(values)
        if not values:
            return None
        scan = in_bodies(node.op, lambda body: with_role(body, values, "static"))
        return b.add(scan, *args, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


@graph_pass()
def separate_layers(graph: Graph, counts: Counter[str]) -> Graph:
    """Copy each function of parameters that both layers and weights read: layers then read the copy, ``NAME/layer``.

    Such functions are nodes that passes have merged because they were equal (``cse``, ``simplify``).
    """
    computed = ir.precomputed_nodes(graph)
    read = {ref for node in graph if node.name not in computed for ref in graph.args(node.name)}
    read |= {output.ref for output in graph.outputs}
    roots = [ref for ref in read if ref.node in computed and not is_weight(graph, ref)]
    if not roots:
        return graph
    copied = {name for name in graph.needed(roots) & computed if not is_weight(graph, Ref(name))}
    rebuild = Rebuild(graph)
    layers: dict[Ref, Ref] = {}
    for node in graph:
        operands = [layers.get(ref, rebuild.new[ref]) for ref in graph.args(node.name)]
        rebuild.copy(node, None if node.name in computed else operands)
        if node.name in copied:
            counts["layer_apart"] += 1
            names = tuple(f"{name}/layer" for name in node.names)
            outs = rebuild.builder.add(node.op, *operands, names=names, loc=node.loc)
            layers |= {Ref(node.name, out): ref for out, ref in enumerate(outs)}
    rebuild.new |= layers
    return rebuild.finish()


def legalization(trained: bool, fused: bool = False) -> tuple[Pass, ...]:
    """Return the passes from a model's graph to layers. See :class:`Legalize` for ``trained`` and ``fused``."""
    prepare: tuple[Pass, ...] = (untie_transposes, pass_packed_values)
    return (*(prepare if trained else (separate_layers,)), Legalize(trained, fused))


def legalized(graph: Graph, counts: Counter[str], trained: bool, fused: bool) -> Graph:
    """Return the graph in Caffe ops; ``counts`` gains a rule's name each time it is used."""
    packing = packing_nodes(graph) if trained else weight_nodes(graph)
    table = rules()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, FusedScan):
            return None
        if isinstance(node.op, Scan) and fused:
            counts["scan_to_layer"] += 1
            return scan_to_layer(b, node, args)
        if isinstance(node.op, Scan):
            scan = in_bodies(node.op, lambda body: legalized(body, counts, trained, fused))
            values = [ref if scan.role(i) == "weight" else as_value(b, ref) for i, ref in enumerate(args)]
            return b.add(scan, *values, names=node.names, loc=node.loc)
        if type(node.op) in KEPT or isinstance(node.op, caffe.CaffeOp) or node.name in packing:
            return None  # what is in packing makes a blob, not a layer
        rule = (table.trained if trained else table.untrained).get(type(node.op))
        if rule is None:
            raise BackendError(
                f"Caffe has no layer for {node.op.name}: a package can bring a rule by an entry point in {GROUP} (see"
                " docs/packages.md); lstmc doctor -v lists what packages add",
                loc=node.loc,
                notes=tuple(table.faults.values()),
            )
        counts[rule.__name__] += 1
        return used(rule, b, node, args)

    return outputs_as_values(rewrite(graph, visit), counts)


@graph_pass()
def untie_transposes(graph: Graph, counts: Counter[str]) -> Graph:
    """Give a transposed parameter a node for each use.

    1. matrix of a scan's products       => transposed in the scan's body
    2. matrix of a product and value too => transposed once for each

    A product uses the parameter's own blob; layers compute the value from that blob.
    """
    graph = with_transposes_in_bodies(graph, counts)
    graph = with_bodies(graph, lambda body: untie_transposes.change(body, counts))
    reads: dict[Ref, set[bool]] = {}  # a transposed parameter, and whether its readers have it as a matrix
    for node in graph:
        for slot, ref in enumerate(graph.args(node.name)):
            if _is_transposed(graph, ref):
                reads.setdefault(ref, set()).add(_is_matrix(node, slot))
    for output in graph.outputs:
        if output.ref in reads:
            reads[output.ref].add(False)
    mixed = {ref for ref, as_matrices in reads.items() if len(as_matrices) == 2}
    counts["transpose_apart"] += len(mixed)
    if not mixed:
        return graph
    copies = dict[Ref, Ref]()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Linear) or (ref := graph.args(node.name)[1]) not in mixed:
            return None
        if ref not in copies:
            transpose, operands = graph.node(ref.node), b.args(args[1].node)
            (copies[ref],) = b.add(transpose.op, *operands, names=(f"{ref.node}/matrix",), loc=transpose.loc)
        return b.copy(node, (args[0], copies[ref], *args[2:]))

    return rewrite(graph, visit)


def _is_matrix(node: Node, slot: int) -> bool:
    return isinstance(node.op, Linear) and slot == 1


def with_transposes_in_bodies(graph: Graph, counts: Counter[str]) -> Graph:
    """Move the transpose of a scan's parameter into its body, where a product can use the parameter's own blob."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        slots = [slot for slot, ref in enumerate(args) if node.op.role(slot) == "weight" and _is_transposed(b, ref)]
        reads = {slot: [read for body in node.op.bodies for read in _reads(body, slot)] for slot in slots}
        tied = {slot for slot in slots if any(_is_matrix(*read) for read in reads[slot])}
        counts["transpose_inside"] += len(tied)
        if not tied:
            return None
        scan = in_bodies(node.op, lambda body: _with_transposes(body, tied))
        operands = [b.args(ref.node)[0] if slot in tied else ref for slot, ref in enumerate(args)]
        return b.add(scan, *operands, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _is_transposed(b: Graph | Builder, ref: Ref) -> bool:
    return isinstance(b.node(ref.node).op, Transpose) and b.type(ref).rank == 2 and is_weight(b, ref)


def _with_transposes(body: Graph, slots: set[int]) -> Graph:
    """Return a body whose arguments ``slots`` are the untransposed parameters, each followed by a Transpose."""
    names = {body.body_args()[slot].name for slot in slots}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name not in names:
            return None
        assert isinstance(node.op, Arg)
        (argument,) = b.add(replace(node.op, shape=node.op.shape[::-1]), names=node.names, loc=node.loc)
        return b.add(Transpose(0), argument, names=(f"{node.name}/transposed",), loc=node.loc)

    return rewrite(body, visit)
