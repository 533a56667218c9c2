"""A scan as one generated layer."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.loops.code import layer_type
from lstmc.loops.plan import plan_of
from lstmc.ops import Arg, Dropout, Mul
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.fused import FusedScan
from lstmc_caffe.legalize.blobs import as_value


def scan_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    """The layer, its bottoms before its weights. A state that starts from one number has no bottom.

    Raises :class:`BackendError` for a scan that there is no code for, with the reason.
    """
    scan = node.op
    assert isinstance(scan, Scan)
    weights = [scan.role(slot) == "weight" for slot in range(len(args))]
    order = sorted(range(len(args)), key=lambda slot: weights[slot])
    operands = [args[slot] for slot in order]
    body, masks = _with_masks(_in_order(scan.body, order), b, scan.length)
    scan = replace(scan, body=body)
    values = len(order) - sum(weights)
    operands[values:values] = masks
    initial = tuple(_number(b, ref) for slot, ref in enumerate(operands) if scan.role(slot) == "state")
    try:
        type_ = layer_type(plan_of(scan, initial))
    except BackendError as error:
        raise BackendError(
            f"the scan {scan.body.name} cannot be one generated layer: {error.message}",
            loc=error.loc or node.loc,
            notes=error.notes or ("target caffe writes it as layers of stock Caffe",),
        ) from None
    layer = FusedScan(scan.body, scan.length, scan.reverse, initial=initial, type_name=type_)
    refs = [ref if layer.role(slot) == "weight" else as_value(b, ref) for slot, ref in enumerate(operands)]
    return b.add(layer, *refs, names=node.names, loc=node.loc)


def _with_masks(body: Graph, b: Builder, length: int) -> tuple[Graph, list[Ref]]:
    """dropout(x) in a loop => x * mask. The masks of all steps come from a Dropout layer that reads ones.

    In training those are what it draws, else they are one: as if each step had a Dropout layer of its own. The masks
    are sequences, and arguments of the body before its weights.
    """
    dropouts = [(node, node.op) for node in body if isinstance(node.op, Dropout)]
    rebuild, masks = Rebuild(body), dict[str, Ref]()
    drawn: list[Ref] = []
    weights = [arg for arg in body.body_args() if isinstance(arg.op, Arg) and arg.op.role == "weight"]
    for arg in body.body_args():
        if arg not in weights:
            rebuild.copy(arg)
    for node, op in dropouts:
        shape, name = node.types[0].shape, f"{node.name}/mask"
        (ones,) = b.add(caffe.DummyData((length, *shape), 1.0), names=(f"{name}/ones",), loc=node.loc)
        own_draw = crc32(ones.node.encode())  # op.draw tells it from others of this body alone
        drawn += b.add(caffe.DropoutLayer(op.ratio, own_draw), ones, names=(name,), loc=node.loc)
        (masks[node.name],) = rebuild.builder.add(Arg(shape, "x"), names=(name,), loc=node.loc)
    for arg in weights:
        rebuild.copy(arg)
    for node in body:
        if isinstance(node.op, Dropout):
            product = rebuild.builder.add(Mul(), *rebuild.args(node), masks[node.name], names=node.names, loc=node.loc)
            rebuild.put(node, product)
        elif not isinstance(node.op, Arg):
            rebuild.copy(node)
    return rebuild.finish(), drawn


def _number(b: Builder, ref: Ref) -> float | None:
    op = b.node(ref.node).op
    return op.value if isinstance(op, caffe.DummyData) else None


def _in_order(body: Graph, order: list[int]) -> Graph:
    """The body with its arguments in another order."""
    rebuild = Rebuild(body)
    args = body.body_args()
    for slot in order:
        rebuild.copy(args[slot])
    for node in body:
        if not isinstance(node.op, Arg):
            rebuild.copy(node)
    return rebuild.finish()
