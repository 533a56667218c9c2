"""A scan as one generated layer."""

from __future__ import annotations

from dataclasses import replace

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import Arg
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.fused.code import layer_code
from lstmc_caffe.fused.op import FusedScan
from lstmc_caffe.fused.plan import plan_of
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
    scan = replace(scan, body=_in_order(scan.body, order))
    initial = tuple(_number(b, ref) for slot, ref in enumerate(operands) if scan.role(slot) == "state")
    try:
        type_, _ = layer_code(plan_of(scan, initial))
    except BackendError as error:
        raise BackendError(
            f"the scan {scan.body.name} cannot be one generated layer: {error.message}",
            loc=error.loc or node.loc,
            notes=("target caffe writes it as layers of stock Caffe",),
        ) from None
    layer = FusedScan(scan.body, scan.length, scan.reverse, initial=initial, type_name=type_)
    values = [ref if layer.role(slot) == "weight" else as_value(b, ref) for slot, ref in enumerate(operands)]
    return b.add(layer, *values, names=node.names, loc=node.loc)


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
