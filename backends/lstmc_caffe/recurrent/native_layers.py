"""Scans as Caffe's own recurrent layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight
from lstmc.passes import Pass, PassResult, Refs, result
from lstmc.passes.dead import without_dead
from lstmc.patterns import Mismatch, moved
from lstmc_caffe import ops as caffe
from lstmc_caffe.recurrent.formulas import CAFFE_ORDER, in_order
from lstmc_caffe.recurrent.native import MATCHES, NativeLayer, ScanInModel


@dataclass(frozen=True)
class FindNativeLayers(Pass):
    """Use Caffe's LSTM and RNN layers for the scans that are what those layers compute.

    1. scan of z = W_x x + b + W_h h, c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), from zero
       => LSTM(x, cont, W_x, b, W_h), the rows re-ordered to i, f, o, g where they are not
    2. tanh(W_ho h + b_o) of the h of a scan of h = tanh(W_xh x + b_h + W_hh h), from zero
       => RNN(x, cont, W_xh, b_h, W_hh, W_ho, b_o)
    3. the last h => the last step of the layer's top
    4. in 1 and 2, every state multiplied by an input [T, N] of 0 and 1 => the layer's cont is that input, but 0 at the
       first step
    5. in 1 and 2, first states that are the last ones of the batch before, not zero => the layer keeps them itself:
       these inputs go, and the outputs that they take; its cont is 1, or rule 4's input as it is

    Matched on the graph, not on names. Without 4 and 5 ``cont`` is 0 at the first step and 1 after it, so that no
    forward pass goes on where the one before ended. Refused, with the first difference: every other scan; and a layer
    whose blobs another layer uses too: its steps share them inside, and in phase TRAIN Caffe ties only the first step
    to the other layer (in TEST, ``recurrent_layer.cpp`` shares them anew at each forward pass).
    """

    name = "find_native_layers"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        matched = {node.name: _matched(graph, node, node.op) for node in graph if isinstance(node.op, Scan)}
        if not matched:
            return PassResult(graph, False)
        made_at = {layer.replaced or name: name for name, layer in matched.items()}
        rebuild = Rebuild(graph)
        b, new = rebuild.builder, rebuild.new
        for node in graph:
            if node.name in made_at:
                scan = graph.node(made_at[node.name])
                found = matched[scan.name]
                counts[f"find_{found.layer.layer_type.lower()}"] += 1
                counts["keep_cont"] += found.cont is not None
                counts["carry_states"] += bool(found.carried)
                layer = _layer(b, node, found.layer(scan.types[0].shape[-1]), new, found)
                rebuild.put(node, _results(b, scan, layer) if node is scan else (layer,))
            elif node.name in matched:  # what reads h goes with it: until then zeros stand in
                rebuild.put(node, [b.add(caffe.DummyData(type_.shape))[0] for type_ in node.types])
            else:
                rebuild.copy(node)
        carried = {name for layer in matched.values() for name in layer.carried}
        after = without_dead(_without_carried(rebuild.finish(), carried), Counter())
        return result(graph, after, counts)

    def ensures(self, graph: Graph) -> None:
        readers = graph.readers()
        for node in graph:
            if isinstance(node.op, caffe.LSTM | caffe.RNN):
                shared = [r for r in graph.args(node.name) if is_weight(graph, r) and readers[r] > 1]
                if shared:
                    names = ", ".join(graph.value_name(ref) for ref in shared)
                    raise BackendError(
                        f"{names} would be in two layers, one of them the {node.op.layer_type} layer {node.name}:"
                        " its steps share their blobs inside, and in training only the first step would be"
                        " tied to the other",
                        loc=node.loc,
                    )


def _matched(graph: Graph, node: Node, scan: Scan) -> NativeLayer:
    where = ScanInModel(graph, node, scan)
    differences = []
    for name, match in MATCHES.items():
        try:
            return replace(match(where), carried=where.carried())
        except Mismatch as difference:
            differences.append(f"{name}: {difference}")
    raise BackendError(
        f"the scan {scan.body.name} is neither Caffe's LSTM layer nor its RNN layer", loc=node.loc, notes=differences
    )


def _layer(b: Builder, node: Node, op: caffe.LSTM | caffe.RNN, new: dict[Ref, Ref], found: NativeLayer) -> Ref:
    blobs = [new[ref] for ref in found.blobs]
    if isinstance(op, caffe.LSTM) and found.order != CAFFE_ORDER:
        blobs = [in_order(b, ref, moved(found.order, CAFFE_ORDER)) for ref in blobs]
    steps, batch = b.type(new[found.x]).shape[:2]
    cont = _cont(b, node.name, (steps, batch), new[found.cont] if found.cont else None, bool(found.carried))
    return b.add(op, new[found.x], cont, *blobs, names=(node.names[0],), loc=node.loc)[0]


def _cont(b: Builder, name: str, shape: tuple[int, int], given: Ref | None, carried: bool) -> Ref:
    """``given``, or ones; but 0 for the first step where the states of the pass before are not to be ``carried``."""
    steps, batch = shape
    if carried:
        return given or b.add(caffe.DummyData(shape, 1.0), names=(f"{name}/cont",))[0]
    (first,) = b.add(caffe.DummyData((1, batch), 0.0), names=(f"{name}/cont_first",))
    if steps == 1:
        return first
    (others,) = b.add(caffe.DummyData((steps - 1, batch), 1.0), names=(f"{name}/cont_others",))
    if given is None:
        return b.add(caffe.ConcatLayer(0), first, others, names=(f"{name}/cont",))[0]
    (mask,) = b.add(caffe.ConcatLayer(0), first, others, names=(f"{name}/cont_mask",))
    return b.add(caffe.Eltwise("PROD"), given, mask, names=(f"{name}/cont",))[0]


def _without_carried(graph: Graph, carried: Collection[str]) -> Graph:
    """The graph without these inputs, which nothing reads any more, and without the outputs that they take."""
    taken = [output for name, output in graph.carried().items() if name in carried]
    rebuild = Rebuild(graph)
    for node in graph:
        if node.name not in carried:
            rebuild.copy(node)
    return rebuild.finish(output for output in graph.outputs if output not in taken)


def _results(b: Builder, node: Node, h: Ref) -> Refs:
    """The scan's results from the layer's top: all steps, and the last one for each last state.

    For the last c, which nothing reads, the last h stands in.
    """
    scan = node.op
    assert isinstance(scan, Scan)
    outputs = len(scan.step_outputs)
    last = h
    if scan.length > 1:
        names = (f"{node.name}/before_last", f"{node.name}/last")
        _, last = b.add(caffe.SliceLayer(0, (scan.length - 1, 1)), h, names=names)
    shapes = [t.shape for t in node.types[outputs:]]
    states = [
        b.add(caffe.ReshapeLayer(shape), last, names=(name,))[0]
        for shape, name in zip(shapes, node.names[outputs:], strict=True)
    ]
    return (*(h,) * outputs, *states)
