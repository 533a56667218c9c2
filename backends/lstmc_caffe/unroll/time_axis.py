"""Cutting a sequence into steps, joining steps, and giving every step what all of them share, by Caffe layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmc.ir import Builder, Ref, Step, reshaped
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.unroll.fan import concat_tree, slice_tree, split_tree


@dataclass(frozen=True)
class CaffeTimeAxis:
    """A sequence [T, N, ...] is seen as [T*N, ...], so that a slice of it is a step [N, ...] without a time axis.

    Steps that keep their axis, [1, N, ...], need no such view. No layer gets a top or bottom for every step: long
    sequences are cut and joined, and values shared, by trees of layers.
    """

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        """x [T, N, ...] as T values [N, ...], or [1, N, ...] where the axis is ``kept``."""
        length, *step = b.type(x).shape
        if kept:
            return slice_tree(b, x, 0, (1,) * length, names, steps)
        if length > 1 and not step:
            return self._numbers(b, x, names, steps)
        name = b.node(x.node).names[x.out]
        if length == 1:
            return (reshaped(b, x, caffe.ReshapeLayer(tuple(step)), names, steps=tuple(steps)),)
        size, *rest = step
        together = reshaped(b, x, caffe.ReshapeLayer((length * size, *rest)), (f"{name}/rows",))
        return slice_tree(b, together, 0, (size,) * length, names, steps)

    @staticmethod
    def _numbers(b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        """x [T] as T values without axes: a slice of it has one still."""
        cut = slice_tree(b, x, 0, (1,) * len(names), [f"{name}/row" for name in names], steps)
        return tuple(
            b.add(caffe.ReshapeLayer(()), row, names=(name,), steps=(b.of_step(row),))[0]
            for row, name in zip(cut, names, strict=True)
        )

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        """T values [N, ...], or [1, N, ...] where the axis is ``kept``, as one [T, N, ...]."""
        if kept:
            return concat_tree(b, steps, 0, name)
        shape = (len(steps), *b.type(steps[0]).shape)
        if len(steps) > 1 and len(shape) == 1:  # numbers, which have no axis to be joined along
            numbers = [b.add(caffe.ReshapeLayer((1,)), number, names=(f"{name}/row",))[0] for number in steps]
            return concat_tree(b, numbers, 0, name)
        rows = concat_tree(b, steps, 0, f"{name}/rows")
        return b.add(caffe.ReshapeLayer(shape), rows, names=(name,))[0]

    def share(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        """x for each of the steps, which call it ``names``."""
        return split_tree(b, x, names, steps)
