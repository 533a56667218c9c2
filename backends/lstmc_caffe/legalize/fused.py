"""A scan as one generated layer: the layer as an op, and the rule that makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lstmc.errors import BackendError
from lstmc.ir import Builder, Node, Ref, Scan
from lstmc.loops import code
from lstmc.loops.layer import GeneratedScan, in_layer_order, mask_name, own_draw, without_dropouts
from lstmc.loops.low_precision import ProductNumbers
from lstmc.loops.rows import batch_of
from lstmc.ops import Dropout
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import as_value
from lstmc_caffe.ops import CaffeOp


@dataclass(frozen=True)
class FusedScan(CaffeOp, GeneratedScan):
    """A generated layer that computes all steps of a scan; its body has core ops. Weights, its blobs, come last."""

    name = "caffe.FusedScan"
    type_name: str = ""
    inlined = GeneratedScan.inlined

    @property
    def layer_type(self) -> str:  # type: ignore[override]
        """The type of the generated layer, which names its code."""
        return self.type_name

    def blobs(self, operands: int) -> range:
        first = next((slot for slot in range(operands) if self.role(slot) == "weight"), operands)
        return range(first, operands)

    def typed(self) -> FusedScan:
        return replace(self, type_name=code.layer_code(self.plan()).type)

    def in_numbers(self, products: ProductNumbers) -> FusedScan:
        return replace(self, products=products).typed()

    def write(self, layer: Any) -> None:
        layer.dummy_data_param.shape.add().dim.extend((self.length, batch_of(self)))

    def fillers(self, layer: Any) -> list[Any]:
        count = len(self.blobs(len(self.body.body_args())))
        return [layer.dummy_data_param.data_filler.add() for _ in range(count)]


def scan_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    """Write a scan as a generated layer. A state that starts from one number needs no operand. Raises
    :class:`BackendError`, with the reason, for a scan for which no code can be generated."""
    scan = node.op
    assert isinstance(scan, Scan)
    first = [b.node(ref.node).op for slot, ref in enumerate(args) if scan.role(slot) == "state"]
    initial = tuple(op.value if isinstance(op, caffe.DummyData) else None for op in first)
    body, dropouts = without_dropouts(scan.body)
    operands = in_layer_order(scan, args, [_masks(b, dropout, scan.length) for dropout in dropouts])
    try:
        layer = FusedScan(body, scan.length, scan.reverse, initial=initial).typed()
    except BackendError as error:
        raise BackendError(
            f"the scan {scan.body.name} cannot be one generated layer: {error.marked}",
            loc=error.loc or node.loc,
            notes=error.marked_notes or ("target caffe writes it as layers of stock Caffe",),
        ) from None
    refs = [ref if layer.role(slot) == "weight" else as_value(b, ref) for slot, ref in enumerate(operands)]
    return b.add(layer, *refs, names=node.names, loc=node.loc)


def _masks(b: Builder, dropout: Node, length: int) -> Ref:
    """Return the masks of all steps of a dropout: the output of a Dropout layer that reads ones."""
    assert isinstance(dropout.op, Dropout)
    name = mask_name(dropout)
    ones = caffe.DummyData((length, *dropout.types[0].shape), 1.0)
    (read,) = b.add(ones, names=(f"{name}/ones",), loc=dropout.loc)
    return b.add(caffe.DropoutLayer(dropout.op.ratio, own_draw(read)), read, names=(name,), loc=dropout.loc)[0]
