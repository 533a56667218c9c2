"""Core ops to Caffe layers, by named rules. The result is still a graph, and still means the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Ref, Scan, Stage
from lstmc.ops import Arg, Op, Param, Precomputed
from lstmc.passes import Pass, PassResult, Refs, in_bodies, result, rewrite
from lstmc_caffe import ops as caffe
from lstmc_caffe.fused.op import FusedScan
from lstmc_caffe.legalize.blobs import as_value, outputs_as_values, packing_nodes, weight_nodes
from lstmc_caffe.legalize.checks import check_gradients_end
from lstmc_caffe.legalize.fused import scan_to_layer
from lstmc_caffe.legalize.packed_values import with_packed_values
from lstmc_caffe.legalize.precomputed import with_layers_apart
from lstmc_caffe.legalize.rules import rules, used
from lstmc_caffe.legalize.tied import with_transposes_apart, with_transposes_in_bodies

KEPT: frozenset[type[Op]] = frozenset((Param, Arg, Precomputed))


@dataclass(frozen=True)
class Legalize(Pass):
    """Write every core op as layers of stock BVLC Caffe.

    1. input; input with a fill; full   => Input; DummyData; DummyData
    2. linear on parameters             => InnerProduct, with its bias where that is a parameter too; of a transposed
                                           parameter with ``transpose`` set, on the parameter's own blob
    3. x + y, x - y, x * y of one shape => Eltwise SUM, SUM with coeff 1 and -1, PROD
       maximum(x, y)                    => Eltwise MAX; the smaller one plus zeros first, by Bias
    4. x + y, x * y broadcast           => Bias, Scale: of the layer's own blob where y is a parameter (unless Scale
                                           would lose its gradient)
    5. a parameter read as a value      => DummyData of zeros, then Bias of its own blob
    6. affine; power                    => Power (a whole power from 3 to 8: Eltwise PROD)
    7. sigmoid tanh relu leaky_relu softplus elu abs exp log softmax split concat reshape => the layer of that name
       stop_gradient                    => Power with propagate_down false
       round                            => such a Power with a shift that rounds, Eltwise SUM with the shift back
    8. unstack; stack; tile             => Reshape and Slice; Concat and Reshape; Tile
       transpose                        => Slice, a Reshape of each piece, Concat
    9. embed conv max_pool ave_pool dropout, losses, accuracy => the layer of that name; images of more axes or fewer
                                           than 4 are reshaped
    10. sum over the last axes; others  => Reduction; Pooling AVE of images of one column, and Power
        max over an axis                => Pooling MAX of images of one column

    Nets that are not trained (``trained=False``) have no gradients to lose, and no copies that come apart: there every
    weight op on parameters makes a blob, x - p has a blob of -p, and Scale its own blob always.

    With ``fused`` a scan => one generated layer (FusedScan), whose body stays as it is.

    Refused: a linear, embed or conv whose matrix is computed (Caffe has no product of two computed matrices); indices,
    labels and targets that depend on a parameter (if it is trained).
    """

    name = "legalize"
    after = Stage.LEGAL
    trained: bool = True
    fused: bool = False

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        if self.trained:
            check_gradients_end(graph)
        if self.trained:
            ready = with_packed_values(with_transposes_in_bodies(with_transposes_apart(graph)))
        else:
            ready = with_layers_apart(graph)
        legal = legalized(ready, counts, self.trained, self.fused)
        return result(graph, legal, counts)


def legalized(graph: Graph, counts: Counter[str], trained: bool = True, fused: bool = False) -> Graph:
    """The graph in Caffe ops; ``counts`` gains a rule's name each time it is used."""
    packing = packing_nodes(graph) if trained else weight_nodes(graph)
    table = rules()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, FusedScan):
            return None
        if isinstance(node.op, Scan) and fused:
            counts["scan_to_layer"] += 1
            return scan_to_layer(b, node, args)
        if isinstance(node.op, Scan):
            scan = in_bodies(node.op, lambda body: legalized(body, counts, trained))
            values = [_operand(b, scan, i, ref) for i, ref in enumerate(args)]
            return b.add(scan, *values, names=node.names, loc=node.loc)
        if type(node.op) in KEPT or isinstance(node.op, caffe.CaffeOp):
            return None
        if node.name in packing:
            return None  # it makes a blob, not a layer
        rule = (table.trained if trained else table.untrained).get(type(node.op))
        if rule is None:
            raise BackendError(
                f"Caffe has no layer for {node.op.name}", loc=node.loc, notes=tuple(table.faults.values())
            )
        counts[rule.__name__] += 1
        return used(rule, b, node, args)

    return outputs_as_values(rewrite(graph, visit), counts)


def _operand(b: Builder, scan: Scan, slot: int, ref: Ref) -> Ref:
    return ref if scan.role(slot) == "weight" else as_value(b, ref)
