"""Cutting a sequence into steps, and joining steps, by Caffe layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmc.ir import Builder, Ref
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe


@dataclass(frozen=True)
class CaffeTimeAxis:
    """A sequence [T, N, ...] is seen as [T*N, ...], so that a slice of it is a step [N, ...] without a time axis."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str]) -> Refs:
        """x [T, N, ...] as T values [N, ...]."""
        steps, size, *rest = b.type(x).shape
        name = b.node(x.node).names[x.out]
        if isinstance(b.node(x.node).op, caffe.ReshapeLayer):
            (x,) = b.args(x.node)  # two reshapes in a row are one
        if steps == 1:
            return b.add(caffe.ReshapeLayer((size, *rest)), x, names=names)
        (rows,) = b.add(caffe.ReshapeLayer((steps * size, *rest)), x, names=(f"{name}/rows",))
        return b.add(caffe.SliceLayer(0, (size,) * steps), rows, names=names)

    def stack(self, b: Builder, steps: Sequence[Ref], name: str) -> Ref:
        """T values [N, ...] as one [T, N, ...]."""
        shape = (len(steps), *b.type(steps[0]).shape)
        rows = steps[0]
        if len(steps) > 1:
            (rows,) = b.add(caffe.ConcatLayer(0), *steps, names=(f"{name}/rows",))
        return b.add(caffe.ReshapeLayer(shape), rows, names=(name,))[0]
