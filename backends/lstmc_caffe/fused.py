"""The layer of a scan: one for all its steps, of generated code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lstmc.loops.code import layer_type
from lstmc.loops.layer import GeneratedScan
from lstmc.loops.low_precision import ProductNumbers
from lstmc.loops.rows import batch_of
from lstmc_caffe.ops import CaffeOp


@dataclass(frozen=True)
class FusedScan(CaffeOp, GeneratedScan):
    """A generated layer that computes all steps of a scan; its body has core ops.

    Operands that are weights are blobs of the layer; those come last.
    """

    name = "caffe.FusedScan"
    operands = ("*args",)
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
        """Return the layer with the type that its code decides."""
        return replace(self, type_name=layer_type(self.plan()))

    def in_numbers(self, products: ProductNumbers) -> FusedScan:
        return replace(self, products=products).typed()

    def write(self, layer: Any) -> None:
        layer.dummy_data_param.shape.add().dim.extend((self.length, batch_of(self)))

    def fillers(self, layer: Any) -> list[Any]:
        count = len(self.blobs(len(self.body.body_args())))
        return [layer.dummy_data_param.data_filler.add() for _ in range(count)]
