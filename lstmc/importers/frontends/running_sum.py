"""The cumulative sum along an axis of any length: a loop whose state is the sum so far."""

from __future__ import annotations

import numpy as np

from lstmc.importers.frontends.shape_ops import Operand, ShapeOps
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.values import axis_in
from lstmc.ops import Add, Affine


def running_sum(ops: ShapeOps, x: Operand, axis: int, own: bool, reverse: bool) -> str:
    """Add the sum of the elements up to each one, with its ``own`` or without; in ``reverse`` from each one on."""
    rank = len(ops.shape(x))
    axis = axis_in(axis, rank)
    order = [axis, *(a for a in range(rank) if a != axis)]
    front = ops.transpose(x, order)
    steps, *shape = ops.shape(front)
    if not shape:  # a step has an axis
        front = ops.reshape(front, (steps, 1))
    body = NetBuilder("step", ops.origin)
    element, total = body.input("x", tuple(shape or (1,))), body.input("s", tuple(shape or (1,)))
    following = body.one(Add(), total, element, hint="s_next", origin=ops.origin)
    given = following if own else body.one(Affine(), total, hint="before", origin=ops.origin)
    body.outputs |= {"s": following, "y": given}
    inner, title = body.finish(every_input=True), ops.builder.scan_name(ops.hint)
    y, _ = ops.builder.loop(title, inner, [front], {"s": None}, (), steps, ops.origin, reverse)
    return ops.transpose(y if shape else ops.reshape(y, (steps,)), np.argsort(order).tolist())
