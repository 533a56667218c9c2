"""A scan as one generated layer."""

from __future__ import annotations

from lstmc.errors import BackendError
from lstmc.ir import Builder, Node, Ref, Scan
from lstmc.loops.layer import in_layer_order, mask_name, own_draw, without_dropouts
from lstmc.ops import Dropout
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.fused import FusedScan
from lstmc_caffe.legalize.blobs import as_value


def scan_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    """Write a scan as a generated layer, bottoms before weights. A state that starts from one number has no bottom.

    Raises :class:`BackendError` for a scan that there is no code for, with the reason.
    """
    scan = node.op
    assert isinstance(scan, Scan)
    initial = tuple(_number(b, ref) for slot, ref in enumerate(args) if scan.role(slot) == "state")
    body, dropouts = without_dropouts(scan.body)
    operands = in_layer_order(scan, args, [_masks(b, dropout, scan.length) for dropout in dropouts])
    try:
        layer = FusedScan(body, scan.length, scan.reverse, initial=initial).typed()
    except BackendError as error:
        raise BackendError(
            f"the scan {scan.body.name} cannot be one generated layer: {error.message}",
            loc=error.loc or node.loc,
            notes=error.notes or ("target caffe writes it as layers of stock Caffe",),
        ) from None
    refs = [ref if layer.role(slot) == "weight" else as_value(b, ref) for slot, ref in enumerate(operands)]
    return b.add(layer, *refs, names=node.names, loc=node.loc)


def _masks(b: Builder, dropout: Node, length: int) -> Ref:
    """The masks of all steps of a dropout, from a Dropout layer that reads ones."""
    assert isinstance(dropout.op, Dropout)
    name = mask_name(dropout)
    ones = caffe.DummyData((length, *dropout.types[0].shape), 1.0)
    (read,) = b.add(ones, names=(f"{name}/ones",), loc=dropout.loc)
    return b.add(caffe.DropoutLayer(dropout.op.ratio, own_draw(read)), read, names=(name,), loc=dropout.loc)[0]


def _number(b: Builder, ref: Ref) -> float | None:
    op = b.node(ref.node).op
    return op.value if isinstance(op, caffe.DummyData) else None
